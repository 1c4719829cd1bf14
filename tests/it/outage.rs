//! The service goes down for a minute in the middle of steady traffic. On a paused clock, without sockets.

use std::time::Duration;

use genesys_scripts::ErrorKind;
use genesys_scripts::simulator::Simulator;
use tokio::time::{Instant, sleep_until};

use crate::common::herd::{World, seeds, steadily, virtually};

/// Between two calls.
const EVERY: Duration = Duration::from_millis(10);
const BEFORE: Duration = Duration::from_secs(5);
const DOWN: Duration = Duration::from_secs(60);
const AFTER: Duration = Duration::from_secs(10);
/// Until it is known that the service is down: ten failures, over a second.
const FINDING_OUT: Duration = Duration::from_secs(2);

#[test]
fn a_minute_without_the_service_costs_few_attempts_and_fast_failures() {
    for seed in 0..seeds(2) {
        virtually(async {
            let world = World::new(Simulator::builder(), seed);
            let scripts = world.scripts();
            let agents = world.agents(150).await;
            let down = Instant::now() + BEFORE;
            let up = down + DOWN;
            let outage = async {
                sleep_until(down).await;
                world.simulator.set_down(true);
                sleep_until(up).await;
                world.simulator.set_down(false);
            };
            let traffic =
                steadily(&agents, EVERY, BEFORE + DOWN + AFTER, |count| scripts[count % scripts.len()].clone());
            let (done, ()) = tokio::join!(traffic, outage);

            let extra = world.client.stats().retries;
            let back = done.iter().filter(|call| call.result.is_err()).map(|call| call.begun).max().unwrap();
            println!(
                "seed {seed}: {} calls, {extra} extra attempts, in {:?} at most {} in 1 s and {} in 200 ms; \
                 all served {:?} after its return",
                done.len(),
                world.attempts(),
                world.meter.burst(Duration::from_secs(1)),
                world.meter.burst(Duration::from_millis(200)),
                back.saturating_duration_since(up),
            );
            assert!(extra as f64 <= 0.1 * done.len() as f64 + 30.0, "{extra} extra attempts");
            for call in done.iter().filter(|call| call.begun >= down + FINDING_OUT && call.begun < up) {
                match &call.result {
                    Ok(_) => assert!(call.ended >= up),
                    Err(error) => {
                        // At once, but for the one probe at a time.
                        assert!(error.attempts() > 0 || call.took().is_zero(), "{error:?}");
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                        assert!(error.retry_after().unwrap() <= Duration::from_secs(4), "{error:?}");
                    }
                }
            }
            assert!(back <= up + Duration::from_secs(5));
            // The steady rate is 100 a second.
            assert!(world.meter.burst(Duration::from_secs(1)) <= 150);
            assert!(world.meter.burst(Duration::from_millis(200)) <= 30);
        });
    }
}
