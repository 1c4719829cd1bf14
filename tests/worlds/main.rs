//! Do no harm: in worlds drawn at random, on a paused clock, nobody who uses this crate may fare worse than with the simplest
//! client they would write instead. `just worlds 2000` prints a table, and the worst worlds with their parameters.
//!
//! `WORLDS=seed,count` chooses the worlds; `WORLDS_OF=plain` puts the plain client in the crate's place, which shows what
//! the judge makes of no difference at all.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

mod clients;
mod judge;
mod replicas;
mod service;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clients::Who;
use judge::{Judged, Run};
use world::BANDS;

/// So many in `cargo test`: enough to see harm that is common.
const COUNT: u64 = 60;

#[test]
fn nobody_fares_worse_than_with_a_plain_retrying_client() {
    let (seed, count) = chosen();
    let who = if std::env::var("WORLDS_OF").is_ok_and(|who| who == "plain") { Who::Plain } else { Who::Crate };
    println!("WORLDS={seed},{count}");
    let judged = judge(seed, count, who);
    print_table(&judged);
    print_worst(&judged);
    let by_chance = judged.iter().filter(|one| one.chance_harms()).count();
    assert!(by_chance <= judged.len() / 50 + 1, "the judge takes chance for harm: {by_chance} of {count}");
    let harmed = judged.iter().filter(|one| one.is_harmed()).count();
    // One in twenty, and what a small draw may add by chance.
    assert!(harmed <= by_chance + judged.len() / 20 + 3, "harmed in {harmed} of {count} worlds");
}

fn chosen() -> (u64, u64) {
    let chosen = std::env::var("WORLDS").ok();
    let chosen = chosen.as_deref().map(|chosen| chosen.split_once(',').expect("WORLDS is seed,count"));
    match chosen {
        Some((seed, count)) => (seed.parse().expect("a seed"), count.parse().expect("a count")),
        None => (fastrand::u64(..1_000_000), COUNT),
    }
}

/// Judges worlds on all cores; the order of the result is that of the seeds.
fn judge(seed: u64, count: u64, who: Who) -> Vec<Judged> {
    let (next, judged) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let one = Judged::new(seed.wrapping_add(number), who);
                    judged.lock().unwrap().push(one);
                }
            });
        }
    });
    let mut judged = judged.into_inner().unwrap();
    judged.sort_by_key(|one| one.world.seed);
    judged
}

fn print_table(judged: &[Judged]) {
    println!("band      worlds  harmed  (control)  served more  failed requests");
    for band in BANDS.map(Some).into_iter().chain([None]) {
        let of: Vec<&Judged> = judged.iter().filter(|one| band.is_none_or(|band| one.world.band == band)).collect();
        let share = |holds: fn(&Judged) -> bool| {
            1e2 * of.iter().filter(|one| holds(one)).count() as f64 / of.len().max(1) as f64
        };
        let failed = |runs: fn(&Judged) -> &[Run; 2]| {
            of.iter().flat_map(|one| runs(one)).map(|run| run.failed).sum::<u64>().max(1) as f64
        };
        println!(
            "{:9} {:6} {:6.1} % {:7.1} % {:10.1} % {:12.2} x",
            band.map_or("all".to_owned(), |band| format!("{band:?}")),
            of.len(),
            share(Judged::is_harmed),
            share(Judged::chance_harms),
            share(Judged::serves_more),
            failed(|one| &one.subject) / failed(|one| &one.plain),
        );
    }
}

fn print_worst(judged: &[Judged]) {
    let mut harmed: Vec<&Judged> = judged.iter().filter(|one| one.is_harmed()).collect();
    harmed.sort_by(|one, other| other.badness().total_cmp(&one.badness()));
    let mut kinds = std::collections::BTreeMap::<_, u32>::new();
    harmed.iter().for_each(|one| *kinds.entry(one.harm()).or_default() += 1);
    println!("of the harmed: {kinds:?}");
    for one in harmed.iter().take(10) {
        println!("\nWORLDS={},1  {}: {}", one.world.seed, one.harm(), one.world);
        for (who, runs) in [("here ", &one.subject), ("plain", &one.plain)] {
            for run in runs {
                println!(
                    "  {who} {:5.1} % served, p50 {:.2?}, p99 {:.2?}, no by {:.1?}; {} requests, {} failed",
                    1e2 * run.served,
                    run.p50,
                    run.p99,
                    run.late_no,
                    run.requests,
                    run.failed
                );
            }
        }
    }
}
