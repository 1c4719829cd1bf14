//! Long files: the more there is of a failure the surer it is told, and what is told is the file's and not the sample's.

use crate::made::{Row, csv, run, script};
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

#[test]
fn a_quota_of_a_long_file_is_told_as_what_passed_and_not_as_what_was_looked_at() {
    // Ten a second, of which 300 a minute pass.
    let rows = run(100_000, |i, mut row, _| {
        (row.at, row.elapsed) = (i * 100, 60);
        if row.at % 60_000 / 100 >= 300 { row.failed("400", "Bad Request") } else { row }
    });
    let report = report(csv(&rows));
    let quota = report.causes.iter().find(|cause| cause.name.name() == "quota").expect("a quota");
    assert!(quota.evidence.iter().any(|evidence| evidence.contains("about 300 passed")), "{:#?}", quota.evidence);
}

#[test]
fn of_a_cause_that_may_be_the_whole_share_is_told() {
    // Of 401 without a pattern there are some causes that may be.
    let rows = run(60_000, |_, row, rng| if rng.f64() < 0.4 { row.failed("401", "Unauthorized") } else { row });
    let report = report(csv(&rows));
    assert_eq!(report.causes.first().and_then(|cause| cause.share), Some(1.0), "{:#?}", report.causes);
}

#[test]
fn what_went_well_once_is_not_what_never_does_however_long_the_file() {
    // Of one script every third request fails, and those are the rows that are looked at.
    let rows = run(60_000, |i, mut row, _| {
        row.url = script(i / 3 % 40);
        if row.url == script(7) && i % 3 == 0 { row.failed("400", "Bad Request") } else { row }
    });
    let report = report(csv(&rows));
    assert!(!sure(&report).contains(&"broken_script"), "{:#?}", report.causes);
}
