//! Long files: the more there is of a failure the surer it is told, and what is told is the file's and not the sample's.

use crate::made::{Row, csv, run};
use crate::results::{report, sure};

/// Threads double; of those beyond eight 90 % are refused, and whatever there are some fail in other ways too.
fn overloaded(others: &'static [&'static str]) -> Vec<Row> {
    let mut at = 0;
    run(60_000, move |i, mut row, rng| {
        let threads = 1 << (i / 6_000).min(6);
        at += 400 / threads;
        (row.at, row.threads, row.thread, row.elapsed) = (at, threads, i % threads + 1, 380);
        if threads > 8 && rng.f64() < 0.9 {
            return row.failed("400", "Bad Request");
        }
        match others.get(rng.usize(..50)) {
            Some(code) => row.failed(code, "no"),
            None => row,
        }
    })
}

#[test]
fn many_failures_of_several_kinds_hide_no_overload() {
    let report = report(csv(&overloaded(&["401", "403", "500", "503"])));
    assert!(sure(&report).contains(&"overload"), "{:#?}", report.causes);
    let overload = report.causes.iter().find(|cause| cause.name.name() == "overload").and_then(|cause| cause.share);
    assert!(overload > Some(0.7), "{:#?}", report.causes);
}
