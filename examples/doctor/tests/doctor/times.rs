//! Times as people have them written: a run is one run, whatever hour it passes.

use crate::results::report;
use chrono::{Duration, NaiveDate};
use genesys_doctor::cause::{Report, Verdict};

/// A row a second from some seconds before this hour, the times written so.
fn around(hour: u32, written: &str) -> Report {
    let hour = NaiveDate::from_ymd_opt(2026, 11, 14).and_then(|day| day.and_hms_opt(hour, 0, 0)).expect("an hour");
    let rows: String = (-20..20)
        .map(|second| {
            let at = (hour + Duration::seconds(second)).format(written);
            format!("{at},40,GET script,200,Agents 1-{},true\n", second + 21)
        })
        .collect();
    report(format!("timeStamp,elapsed,label,responseCode,threadName,success\n{rows}"))
}

fn is_one_run(hour: u32, written: &str) {
    let report = around(hour, written);
    assert_eq!(report.verdict, Verdict::NothingFound, "{hour} h in {written}: {:#?}", report.causes);
    let seconds = report.read.first().and_then(|read| read.seconds);
    assert_eq!(seconds, Some(39.04), "{hour} h in {written}");
}

#[test]
fn morning_and_afternoon_are_told_by_their_word() {
    for written in
        ["%-I:%M:%S %p", "%Y/%m/%d %I:%M:%S %p", "%I:%M:%S%P", "%-I:%M:%S\u{202f}%p", "%Y/%m/%d %I:%M:%S %p CET"]
    {
        for hour in [0, 1, 11, 12, 13, 23] {
            is_one_run(hour, written);
        }
    }
    // A word that only begins so is none.
    for zone in ["America/Lima", "AMT", "PMST"] {
        for hour in [0, 1, 12, 13] {
            is_one_run(hour, &format!("%Y/%m/%d %H:%M:%S {zone}"));
        }
    }
}

#[test]
fn twelve_hours_without_a_word_go_on_after_one() {
    for hour in [0, 1, 11, 12, 13, 23] {
        is_one_run(hour, "%I:%M:%S");
        is_one_run(hour, "%H:%M:%S");
    }
}
