//! Runs that were put behind others in one file, whose last row or element nobody finished.

use crate::made::{HEADER, Row, Scratch, csv, lines, run};
use crate::results::{elements, http, report, requests, sure};
use chrono::DateTime;
use genesys_doctor::cause::Level;
use genesys_doctor::examine;

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

#[test]
fn a_document_behind_one_that_is_cut_is_read_as_another_run() {
    let whole = elements(50, |i, _| http(i, "200", ""));
    let second = elements(40, |i, code| http(100_000 + i, code, "<responseData>x</responseData>"));
    let last = whole.rfind("<httpSample").expect("a last element");
    for cut in last..=whole.len() {
        let first = whole.get(..cut).expect("a part");
        let what = first.get(last..).expect("what is cut");
        let file = Scratch::new("results", format!("{first}{second}"));
        let read = examine(std::slice::from_ref(&file.0));
        // Within a tag nobody can tell where it ends: then the line is told.
        if what.rfind('<') > what.rfind('>') {
            let failed = read.expect_err(what);
            assert_eq!(failed[0].why.line, first.lines().count() as u64, "{what}");
            continue;
        }
        let report = read.unwrap_or_else(|failed| panic!("{what}: {failed:?}"));
        let ended = what.contains("</httpSample>");
        assert_eq!(requests(&report), 89 + u64::from(ended), "{what}: {:#?}", report.findings);
        assert_eq!(sure(&report), ["broken_script", "mixed_runs"], "{what}: {:#?}", report.causes);
        let line = first.lines().count() as u64;
        let told = report.findings.iter().filter(|f| f.rule == "cut" && f.line - line < 3).count();
        assert_eq!(told, report.findings.len(), "{what}: {:#?}", report.findings);
        assert_eq!(told, usize::from(!what.contains("</testResults>")), "{what}: {:#?}", report.findings);
    }
}
