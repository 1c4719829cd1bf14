//! Nine o'clock: everyone fetches at once from a service that bears only so much, and nobody configured anything.
//!
//! The agents have logged in before: the time is that of the scripts alone, and starts with the limit a client starts with.
//! Of 20 seeds, median (and worst), where the oracle is told the knee:
//!
//! | agents | knee | oracle | time | wasted |
//! |---|---|---|---|---|
//! | 150 | 10 | 300 ms | 280 ms (300) | 3.2 % (5.7) |
//! | 150 | 40 | 80 ms | 151 ms (180) | 4.5 % (6.2) |
//! | 150 | 80 | 40 ms | 80 ms (80) | none |
//! | 150 | 300 | 20 ms | 80 ms (80) | none |
//! | 1,500 | 10 | 3.00 s | 2.68 s (2.72) | 1.7 % (2.0) |
//! | 1,500 | 40 | 760 ms | 780 ms (780) | 0.7 % (1.0) |
//! | 1,500 | 80 | 380 ms | 420 ms (440) | 1.1 % (1.4) |
//! | 1,500 | 300 | 100 ms | 220 ms (220) | none |
//!
//! Above the knee the service still serves 60 %, so a client can be faster than the oracle.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::common::herd::{SERVICE_TIME, World, all_served, at_once, median, oracle, seeds, virtually, worst};

/// The share refused above the knee, as the field reports it.
const REFUSED: f64 = 0.4;

#[derive(Debug)]
struct Herds {
    elapsed: Vec<Duration>,
    wasted: Vec<f64>,
}

/// So many agents, who have logged in, fetch the same script at once, once a seed; all must be served.
fn herds(agents: usize, knee: usize, seeds: u64) -> Herds {
    let herds = (0..seeds).map(|seed| {
        virtually(async {
            let world = World::new(Simulator::builder().knee(knee, REFUSED), seed);
            let id = world.scripts().swap_remove(0);
            let callers = world.agents(agents).await;
            let start = Instant::now();
            all_served(&at_once(callers.into_iter().map(|agent| (agent, id.clone()))).await);
            (start.elapsed(), world.wasted())
        })
    });
    let (elapsed, wasted) = herds.unzip();
    let herds = Herds { elapsed, wasted };
    println!(
        "{agents} agents, knee {knee}, {seeds} seeds: {:?}, at most {:?} ({:.2} of the oracle's); \
         wasted {:.1} %, at most {:.1} %",
        median(&herds.elapsed),
        worst(&herds.elapsed),
        worst(&herds.elapsed).as_secs_f64() / oracle(agents, knee).as_secs_f64(),
        median(&herds.wasted) * 1e2,
        worst(&herds.wasted) * 1e2,
    );
    herds
}

/// At a knee of 300 nobody throws dice, so one seed is as good as twenty.
fn seeds_at(knee: usize, in_debug: u64) -> u64 {
    if knee == 300 { 1 } else { seeds(in_debug) }
}

#[test]
fn the_morning_of_150_agents_wastes_little_and_ends_nearly_as_soon_as_if_the_knee_were_known() {
    for knee in [10, 40, 80, 300] {
        let herds = herds(150, knee, seeds_at(knee, 20));
        assert!(worst(&herds.wasted) <= 0.20, "{herds:?}");
        assert!(median(&herds.wasted) <= 0.10, "{herds:?}");
        if knee == 80 {
            assert!(median(&herds.elapsed) <= oracle(150, 80) + 4 * SERVICE_TIME, "{herds:?}");
        }
    }
}

#[test]
fn a_herd_of_1500_agents_is_served_in_good_time() {
    for knee in [10, 40, 80, 300] {
        let herds = herds(1_500, knee, seeds_at(knee, 1));
        assert!(worst(&herds.wasted) <= if knee == 80 { 0.03 } else { 0.10 }, "{herds:?}");
        if [40, 80].contains(&knee) {
            assert!(worst(&herds.elapsed) <= oracle(1_500, knee).mul_f64(1.25), "{herds:?}");
        }
    }
}

/// 150 agents who fetch again and again, while the service bears less for a while.
#[test]
fn the_limit_follows_a_knee_that_moves() {
    const FIRST: Duration = Duration::from_millis(300);
    const PHASE: Duration = Duration::from_millis(700);
    for seed in 0..seeds(1) {
        virtually(async {
            let world = World::new(Simulator::builder().knee(80, REFUSED), seed);
            let id = world.scripts().swap_remove(0);
            let mut calls = JoinSet::new();
            let (agents, start) = (world.agents(150).await, Instant::now());
            let end = start + FIRST + 2 * PHASE;
            for agent in agents {
                let id = id.clone();
                calls.spawn(async move {
                    while Instant::now() < end {
                        agent.script(&id).await.unwrap();
                    }
                });
            }
            for (knee, lasts) in [(80, FIRST), (30, PHASE), (80, PHASE)] {
                world.simulator.set_knee(Some((knee, REFUSED)));
                let moved = Instant::now();
                let mut near = Vec::new();
                while moved.elapsed() < lasts {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    // As everyone waits for the limit, it is what is in flight.
                    if (world.meter.in_flight() as f64 / knee as f64 - 1.0).abs() <= 0.1 {
                        near.push(moved.elapsed());
                    }
                }
                let reached = near.first().expect("the limit never came near");
                println!("seed {seed}: near the knee of {knee} after {reached:?}, and near at {} looks", near.len());
                assert!(*reached <= Duration::from_secs(5));
            }
            calls.join_all().await;
            println!("seed {seed}: wasted {:.1} %", world.wasted() * 1e2);
            assert!(world.wasted() <= 0.10, "{}", world.wasted());
        });
    }
}
