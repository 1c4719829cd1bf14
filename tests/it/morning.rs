//! Nine o'clock: everyone fetches at once from a service that bears only so much, and nobody configured anything.
//!
//! The agents have logged in before: the time is that of the scripts alone. Above the knee the service still serves 60 %.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use tokio::time::Instant;

use crate::common::herd::{SERVICE_TIME, World, all_served, at_once, oracle, seeds, virtually};

/// The share refused above the knee, as the field reports it.
const REFUSED: f64 = 0.4;

/// So many agents, who have logged in, fetch the same script at once; all must be served. Gives the time, and the requests.
fn herd(agents: usize, knee: usize, seed: u64) -> (Duration, u64) {
    virtually(async {
        let world = World::new(Simulator::builder().knee(knee, REFUSED), seed);
        let id = world.scripts().swap_remove(0);
        let callers = world.agents(agents).await;
        let start = Instant::now();
        all_served(&at_once(callers.into_iter().map(|agent| (agent, id.clone()))).await);
        (start.elapsed(), world.attempts().0)
    })
}

#[test]
fn every_agent_gets_its_script_whatever_the_service_bears() {
    for agents in [150, 1_500] {
        for knee in [10, 40, 80, 300] {
            for seed in 0..seeds(if agents == 150 { 2 } else { 1 }) {
                let (took, requests) = herd(agents, knee, seed);
                println!("{agents} at {knee}, seed {seed}: {took:?}, {requests} requests");
                // Where 40 % are refused again and again, a client that only tries again sends 1.67 requests a call.
                assert!(requests <= agents as u64 * 7 / 4, "{requests} requests");
            }
        }
    }
}

#[test]
fn the_morning_of_the_report_is_uneventful() {
    for seed in 0..20 {
        let (took, _) = herd(150, 80, seed);
        assert!(took <= 10 * oracle(150, 80), "{took:?}");
    }
}

#[test]
fn below_the_knee_nothing_is_added() {
    let (took, requests) = herd(150, 300, 0);
    assert_eq!((took, requests), (SERVICE_TIME, 150));
}
