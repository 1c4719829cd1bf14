//! Runs that were put behind others in one file, whose last row or element nobody finished.

use crate::made::{HEADER, Row, csv, lines, run};
use crate::results::{report, requests, sure};
use chrono::DateTime;
use genesys_doctor::cause::Level;

fn later() -> Vec<Row> {
    run(40, |i, mut row, _| {
        row.at += 7_200_000;
        if i % 4 == 0 { row.failed("429", "Too Many Requests") } else { row }
    })
}

/// The same with its times written out.
fn dated(text: &str) -> String {
    let line = |line: &str| {
        let (at, rest) = line.split_once(',').expect("a time");
        let at = at.parse().ok().and_then(DateTime::from_timestamp_millis);
        let at = at.map_or("timeStamp".to_owned(), |at| at.format("%Y/%m/%d %H:%M:%S").to_string());
        format!("{at},{rest}\n")
    };
    text.lines().map(line).collect()
}

#[test]
fn a_header_behind_a_row_that_is_cut_begins_another_run() {
    let first = run(60, |_, mut row, _| {
        row.label = "GET timeStamp".into();
        row
    });
    let (first, second) = (csv(&first), csv(&later()));
    for (first, second) in [(dated(&first), dated(&second)), (first, second)] {
        let last = first.trim_end().rfind('\n').expect("a last row") + 1;
        for cut in last + 1..=first.len() {
            let text = format!("{}{second}", first.get(..cut).expect("a part"));
            let (report, what) = (report(&text), text.lines().nth(60).unwrap_or_default());
            let whole = cut == first.len();
            assert_eq!(requests(&report), 99 + u64::from(whole), "{what}: {:#?}", report.findings);
            assert_eq!(sure(&report), ["mixed_runs", "quota"], "{what}: {:#?}", report.causes);
            let told = report.findings.iter().filter(|f| f.line == 61 && f.level == Level::Warning).count();
            assert_eq!(told, usize::from(!whole), "{what}: {:#?}", report.findings);
        }
    }
}

#[test]
fn a_value_that_ends_like_a_header_begins_no_run() {
    let rows = run(60, |_, mut row, _| {
        row.label = "GET timeStamp".into();
        row.failure = "expected timeStamp, elapsed, success, label, Connect".into();
        row
    });
    for text in [csv(&rows), format!("{HEADER}\n{}", lines(&rows).replace('"', ""))] {
        let report = report(text);
        assert_eq!((requests(&report), sure(&report)), (60, vec!["own_assertion"]), "{:#?}", report.findings);
    }
}
