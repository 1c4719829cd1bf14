//! No row of the results is thrown away for its looks, and where one is not counted no one is told that all is well.

use crate::made::{BEGIN, HEADER, Row, Scratch, csv, lines, run};
use crate::results::{elements, http, report, requests, shows, sure};
use genesys_doctor::cause::{Certainty, Verdict};
use genesys_doctor::examine;
use genesys_doctor::page::{Style, page};

/// Of the second half two of five are refused.
fn half_refused(n: u64) -> Vec<Row> {
    run(n, move |i, row, _| if i >= n / 2 && i % 5 < 2 { row.failed("400", "Bad Request") } else { row })
}

fn codes(text: &str) -> Vec<(String, u64)> {
    report(text).read.into_iter().flat_map(|read| read.codes).collect()
}

#[test]
fn rows_that_look_alike_are_requests_of_their_own_where_times_are_seconds() {
    let mut rows = half_refused(200);
    // The same second, thread, script and time taken as the first.
    let (first, _) = rows.split_at(1);
    let again = first[0].clone();
    rows.insert(3, again);
    let seconds = |row: &Row| {
        let line = lines(std::slice::from_ref(row));
        let (at, rest) = line.split_once(',').expect("a time");
        format!("{},{rest}", at.parse::<u64>().expect("a number") / 1_000)
    };
    let body: String = rows.iter().map(seconds).collect();
    let report = report(format!("{HEADER}\n{body}"));
    assert_eq!((requests(&report), report.read[0].codes["400"]), (201, 40), "{:#?}", report.causes);
    assert!(!sure(&report).contains(&"mixed_runs"), "{:#?}", report.causes);
    // Whole seconds written as milliseconds are no more exact.
    let body: String = body.lines().map(|line| line.replacen(',', "000,", 1) + "\n").collect();
    assert_eq!(codes(&format!("{HEADER}\n{body}")), [("200".to_owned(), 161), ("400".to_owned(), 40)]);
}

#[test]
fn rows_that_look_alike_are_requests_of_their_own_where_no_thread_is_named() {
    let header = "timeStamp,elapsed,label,responseCode,responseMessage,success\n";
    let body: String = (0..200)
        .map(|i| {
            let (at, code) = (BEGIN + i / 4 * 150, if i >= 100 && i % 5 < 2 { 400 } else { 200 });
            format!("{at},40,GET script,{code},x,{}\n", code == 200)
        })
        .collect();
    let report = report(format!("{header}{body}"));
    assert_eq!((requests(&report), report.read[0].codes["400"]), (200, 40), "{:#?}", report.causes);
    assert!(!sure(&report).contains(&"mixed_runs"), "{:#?}", report.causes);
}

#[test]
fn rows_that_do_not_fit_leave_it_open_whether_all_is_well() {
    let mut rows: Vec<String> = csv(&run(60, |_, row, _| row)).lines().map(str::to_owned).collect();
    rows[20] = rows[20].replace("GET script", "GET, script");
    let one = report(rows.join("\n"));
    assert_eq!((requests(&one), one.verdict), (59, Verdict::NotEnoughEvidence), "{:#?}", one.findings);

    let file = Scratch::new("results", rows.join("\n").replace(",200,OK", ",201,Created"));
    let people = page(&examine(std::slice::from_ref(&file.0)).expect("it is read"), Style { colour: false });
    assert!(people.contains("not all rows could be read") && !people.contains("Requests failed"), "{people}");

    // A last row that is cut is no row, and all others were read.
    let whole = csv(&run(60, |_, row, _| row));
    assert_eq!(report(&whole[..whole.len() - 70]).verdict, Verdict::NothingFound);

    // A row may be cut within a message of many lines.
    let mut rows = run(60, |_, row, _| row);
    rows[59].failure = "a line of what was expected\n".repeat(40);
    let whole = csv(&rows);
    let end = whole.rfind("expected").unwrap();
    let cut = report(&whole[..end]);
    assert_eq!((requests(&cut), cut.verdict), (59, Verdict::NothingFound), "{:#?}", cut.findings);
}

#[test]
fn what_a_quote_that_is_never_closed_takes_in_is_no_row_that_is_cut() {
    let whole = csv(&run(100, |_, row, _| row));
    for row in [21, 84] {
        let open = whole.replacen("GET script", "\"GET script", row).replacen("\"GET script", "GET script", row - 1);
        let open = report(open);
        assert_eq!(
            (requests(&open), open.verdict),
            (row as u64 - 1, Verdict::NotEnoughEvidence),
            "{:#?}",
            open.findings
        );
        let line = row as u64 + 1;
        assert!(open.findings.iter().any(|f| f.line == line && f.message.contains("quote")), "{:#?}", open.findings);
    }
}

#[test]
fn a_failure_message_with_a_comma_and_no_quotes_is_read_as_one() {
    let told = "expected 200, got 400";
    let rows = run(200, |i, mut row, _| {
        if i % 5 < 2 {
            row.failure = told.into();
        }
        row
    });
    let text = csv(&rows).replace(&format!("\"{told}\""), told);
    let report = report(text);
    assert_eq!((requests(&report), sure(&report)), (200, vec!["own_assertion"]), "{:#?}", report.findings);
}

#[test]
fn what_is_no_status_is_no_answer_and_a_status_is_one_however_it_is_written() {
    let of =
        |code: &'static str| run(600, move |_, row, rng| if rng.f64() < 0.1 { row.failed(code, "no") } else { row });
    for code in ["0", "000", "-1"] {
        shows(code, &of(code), &["transient"]);
        // Without a column that tells what counted as a success.
        let without = csv(&of(code)).replace("success", "x").replace(",true,", ",,").replace(",false,", ",,");
        assert_eq!(sure(&report(without)), ["transient"], "{code}");
    }
    shows("429.0", &of("429.0"), &["quota"]);
    shows("502.0", &of("502.0"), &["gateway_failure"]);
    shows("400.0", &of("400.0"), &["transient"]);
    let well = run(60, |_, row, _| row.failed("200.0", "OK"));
    assert_eq!(report(csv(&well)).verdict, Verdict::NothingFound);
}

#[test]
fn numbers_that_were_saved_with_a_point_are_the_same_numbers() {
    let mut at = 0;
    let rows = run(700, |i, mut row, rng| {
        let threads = 1 << (i / 100).min(5);
        at += 400 / threads;
        (row.at, row.threads, row.thread, row.elapsed) = (at, threads, i % threads + 1, 380);
        if threads > 8 && rng.f64() < 0.6 { row.failed("400", "Bad Request") } else { row }
    });
    let pointed = csv(&rows).replace(",380,", ",380.0,").replace(",400,", ",400.0,").replace(",200,", ",200.0,");
    assert_eq!(sure(&report(pointed)), ["overload"]);
}

#[test]
fn a_file_of_errors_only_does_not_tell_that_nothing_went_well() {
    let errors = |of: fn(u64) -> (&'static str, &'static str)| {
        run(50, move |i, mut row, _| {
            row.at = i * 731;
            row.thread = i % 40 + 1;
            row.threads = 100;
            let (code, message) = of(i);
            row.failed(code, message)
        })
    };
    let several = errors(|i| match i {
        0..30 => ("400", "Bad Request"),
        30..42 => ("503", "Service Unavailable"),
        _ => ("Non HTTP response code: java.net.SocketTimeoutException", "Read timed out"),
    });
    let one = errors(|_| ("400", "Bad Request"));
    for rows in [several, one] {
        let report = report(csv(&rows));
        let sure: Vec<_> = report.causes.iter().filter(|cause| cause.certainty > Certainty::Possible).collect();
        assert!(sure.is_empty(), "{sure:#?}");
        assert_eq!(report.verdict, Verdict::NotEnoughEvidence);
    }
    // Each thread that there was is in it, and all say the same.
    let all = run(60, |_, row, _| row.failed("400", "Bad Request"));
    shows("all refused", &all, &["all_refused"]);
    // So do all but those that were cut off as the plan was stopped.
    let stopped = run(600, |i, row, _| match i {
        598.. => row.failed("Non HTTP response code: java.net.SocketException", "Socket closed"),
        _ => row.failed("400", "Bad Request"),
    });
    let report = report(csv(&stopped));
    assert!(sure(&report).contains(&"all_refused"), "{:#?}", report.causes);
}

#[test]
fn an_element_that_holds_no_other_is_a_request_whatever_its_code() {
    let failed = |i: u64| {
        format!("<sample t=\"3\" ts=\"{}\" s=\"false\" lb=\"JSR223\" rc=\"\" rm=\"\" tn=\"x\"/>", BEGIN + i * 100)
    };
    let report = report(elements(80, |i, _| if i % 2 == 0 { http(i, "200", "") } else { failed(i) }));
    assert_eq!((requests(&report), report.verdict), (80, Verdict::NotEnoughEvidence), "{:#?}", report.causes);
    // One that holds others is not, and neither are the sums of transactions.
    let held = elements(50, |i, _| format!("<sample t=\"3\" rc=\"\" lb=\"Agent\">{}</sample>", http(i, "200", "")));
    let sums = elements(50, |i, _| {
        format!("{}<sample rc=\"\" rm=\"Number of samples in transaction : 0\"/>", http(i, "200", ""))
    });
    assert_eq!((codes(&held), codes(&sums)), (vec![("200".to_owned(), 50)], vec![("200".to_owned(), 50)]));
}

#[test]
fn where_there_are_no_rows_none_of_them_failed() {
    let file = Scratch::new("results", format!("{HEADER}\n"));
    let people = page(&examine(std::slice::from_ref(&file.0)).expect("it is read"), Style { colour: false });
    assert!(people.contains("or there are none") && !people.contains("Requests failed"), "{people}");
}

#[test]
fn the_most_frequent_of_many_codes_are_told_and_how_many_others_there_are() {
    let rows = run(600, |i, row, _| match i {
        ..500 => row,
        // Of the last code there are as many as of all before it.
        500..550 => row.failed(&format!("{}", 400 + i % 10), "no"),
        _ => row.failed("599", "no"),
    });
    let file = Scratch::new("results", csv(&rows));
    let report = examine(std::slice::from_ref(&file.0)).expect("it is read");
    let people = page(&report, Style { colour: false });
    assert!(people.contains(", 50 × 599, and 4 other codes)"), "{people}");
}
