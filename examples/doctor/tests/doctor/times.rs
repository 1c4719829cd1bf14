//! Times as people have them written: a run is one run, whatever hour it passes.

use crate::results::report;
use chrono::{Duration, NaiveDate};
use genesys_doctor::cause::{Report, Verdict};

/// A row a second from some seconds before this hour, the times written so.
fn around(hour: u32, written: &str) -> Report {
    around_of((11, 14), hour, written)
}

fn around_of((month, day): (u32, u32), hour: u32, written: &str) -> Report {
    let day = NaiveDate::from_ymd_opt(2026, month, day);
    let hour = day.and_then(|day| day.and_hms_opt(hour, 0, 0)).expect("an hour");
    let rows: String = (-20..20)
        .map(|second| {
            let at = (hour + Duration::seconds(second)).format(written);
            format!("{at},40,GET script,200,Agents 1-{},true\n", second + 21)
        })
        .collect();
    report(format!("timeStamp,elapsed,label,responseCode,threadName,success\n{rows}"))
}

fn is_one_run(hour: u32, written: &str) {
    is_one(&around(hour, written), &format!("{hour} h in {written}"));
}

fn is_one(report: &Report, what: &str) {
    assert_eq!(report.verdict, Verdict::NothingFound, "{what}: {:#?}", report.causes);
    assert_eq!(report.read.first().and_then(|read| read.seconds), Some(39.04), "{what}");
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

#[test]
fn a_midnight_is_passed_whether_the_day_or_the_month_comes_first() {
    for written in ["%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d.%m.%y %H:%M:%S", "%d-%m-%Y %H:%M:%S"] {
        for day in [(11, 2), (11, 5), (11, 12), (11, 13), (11, 14), (12, 1), (1, 1), (5, 1), (5, 5), (5, 6), (2, 2)] {
            is_one(&around_of(day, 0, written), &format!("{day:?} in {written}"));
        }
    }
}
