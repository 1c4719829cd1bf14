//! Nine o'clock: everyone fetches at once from a service that bears only so much, and nobody configured anything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_precision_loss)]

#[path = "common/herd.rs"]
mod herd;

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use herd::{World, all_served, at_once, median, oracle, virtually, worst};
use tokio::time::Instant;

/// The share refused above the knee, as the field reports it.
const REFUSED: f64 = 0.4;

#[derive(Debug)]
struct Herds {
    elapsed: Vec<Duration>,
    wasted: Vec<f64>,
}

/// So many agents with tokens fetch at once, once a seed; all must be served.
fn herds(agents: usize, knee: usize, ids: usize, seeds: u64) -> Herds {
    let herds: Vec<_> = (0..seeds)
        .map(|seed| {
            virtually(async {
                let world = World::new(Simulator::builder().knee(knee, REFUSED), seed);
                let scripts = world.scripts();
                let callers = world.agents(agents).await;
                let start = Instant::now();
                let ids = scripts.iter().take(ids).cycle().cloned();
                all_served(&at_once(callers.into_iter().zip(ids)).await);
                (start.elapsed(), world.wasted())
            })
        })
        .collect();
    let (elapsed, wasted) = herds.into_iter().unzip();
    let herds = Herds { elapsed, wasted };
    println!(
        "{agents} agents, {ids} ids, knee {knee}, {seeds} seeds: {:?}, at most {:?} ({:.2} of the oracle's); \
         wasted {:.1} %, at most {:.1} %",
        median(&herds.elapsed),
        worst(&herds.elapsed),
        worst(&herds.elapsed).as_secs_f64() / oracle(agents, knee).as_secs_f64(),
        median(&herds.wasted) * 1e2,
        worst(&herds.wasted) * 1e2,
    );
    herds
}

#[test]
fn the_morning_of_150_agents_is_nearly_as_short_as_if_the_knee_were_known() {
    for ids in [1, 20] {
        let herds = herds(150, 80, ids, 20);
        assert!(median(&herds.elapsed) <= oracle(150, 80) + 4 * herd::SERVICE_TIME, "{herds:?}");
    }
}

#[test]
fn few_attempts_of_150_agents_are_wasted_wherever_the_knee_is() {
    for knee in [10, 40, 80, 300] {
        let herds = herds(150, knee, 1, 20);
        assert!(worst(&herds.wasted) <= 0.20, "{herds:?}");
        assert!(median(&herds.wasted) <= 0.10, "{herds:?}");
    }
}

#[test]
fn a_herd_of_1500_agents_is_served_in_good_time() {
    for knee in [10, 40, 80, 300] {
        let herds = herds(1_500, knee, 1, 3);
        assert!(worst(&herds.wasted) <= if knee == 80 { 0.03 } else { 0.10 }, "{herds:?}");
        if [40, 80].contains(&knee) {
            assert!(worst(&herds.elapsed) <= oracle(1_500, knee).mul_f64(1.25), "{herds:?}");
        }
    }
}
