//! What results show: each cause by its mechanism, requests counted once, and nothing where there is nothing.

use crate::made::{HEADER, Row, Scratch, csv, lines, run, script};
use genesys_doctor::cause::{Certainty, Report, Verdict};
use genesys_doctor::examine;

pub(crate) fn report(text: impl AsRef<[u8]>) -> Report {
    let file = Scratch::new("results", text);
    examine(std::slice::from_ref(&file.0)).unwrap_or_else(|failed| panic!("{failed:?}"))
}

pub(crate) fn sure(report: &Report) -> Vec<&'static str> {
    let sure = report.causes.iter().filter(|cause| cause.certainty > Certainty::Possible);
    let mut sure: Vec<_> = sure.map(|cause| cause.name.name()).collect();
    sure.sort_unstable();
    sure
}

pub(crate) fn requests(report: &Report) -> u64 {
    report.read.iter().map(|read| read.requests).sum()
}

/// Asserts that these causes are found and no others.
pub(crate) fn shows(what: &str, rows: &[Row], expected: &[&str]) {
    let report = report(csv(rows));
    assert_eq!(sure(&report), expected, "{what}: {:#?}", report.causes);
}

#[test]
fn a_script_that_always_fails_is_broken_and_one_that_is_not_there_is_unknown() {
    let of = |code: &'static str, broken: &'static [u64]| {
        run(600, move |_, row, _| {
            let hit = broken.iter().any(|id| row.url == script(*id));
            if hit { row.failed(code, "no") } else { row }
        })
    };
    shows("one of 40, 400", &of("400", &[7]), &["broken_script"]);
    shows("two of 40, 500", &of("500", &[3, 9]), &["broken_script"]);
    shows("two of 40, 404", &of("404", &[3, 9]), &["feed_unknown_id"]);
}

#[test]
fn what_one_thread_asks_alone_may_be_that_thread_in_labels_too() {
    let own = run(1_000, |i, mut row, _| {
        row.thread = i % 20 + 1;
        row.url = script(row.thread);
        if row.thread % 5 == 1 { row.failed("403", "no") } else { row }
    });
    let in_labels = csv(&own).replace("GET script", "GET x").replace(",URL,", ",x,");
    let mut lines: Vec<String> = Vec::new();
    for (line, row) in in_labels.lines().skip(1).zip(&own) {
        lines.push(line.replace("GET x", &format!("GET /scripts/{}", row.url.rsplit('/').next().unwrap())));
    }
    let in_labels = format!("{}\n{}\n", in_labels.lines().next().unwrap(), lines.join("\n"));
    for text in [csv(&own), in_labels] {
        let report = report(text);
        let sure = sure(&report);
        assert!(!sure.contains(&"feed_unknown_id") && !sure.contains(&"broken_script"), "{:#?}", report.causes);
        let told = report.causes.iter().find(|cause| cause.name.name() == "feed_unknown_id").unwrap();
        assert!(told.evidence.iter().any(|words| words.contains("one thread alone")), "{:#?}", report.causes);
    }
}

#[test]
fn a_broken_script_is_broken_at_whichever_of_two_hosts_a_thread_asks() {
    let rows = run(1_000, |i, mut row, _| {
        row.thread = i % 20 + 1;
        let id = row.thread % 10;
        row.url = script(id).replace("api.", &format!("api-{}.", row.thread / 11));
        if id == 3 { row.failed("400", "no") } else { row }
    });
    shows("two threads, a host each", &rows, &["broken_script"]);
}

#[test]
fn what_fails_when_more_is_asked_at_once_is_overload() {
    // Threads double every 100 requests; of those under way beyond a knee so many fail.
    for (knee, share) in [(4, 0.3), (8, 0.6), (12, 0.9)] {
        let mut at = 0;
        let rows = run(700, |i, mut row, rng| {
            let threads = 1 << (i / 100).min(5);
            at += 400 / threads;
            row.at = at;
            row.threads = threads;
            row.thread = i % threads + 1;
            row.elapsed = 380;
            if threads > knee && rng.f64() < share { row.failed("400", "Bad Request") } else { row }
        });
        shows(&format!("knee {knee}"), &rows, &["overload"]);
    }
}

#[test]
fn what_passes_so_many_times_a_window_is_a_quota() {
    for (gap, window, cap) in [(25, 1_000, 25), (40, 1_000, 10), (100, 60_000, 300)] {
        let rows = run(2_400, |i, mut row, _| {
            row.at = i * gap;
            row.elapsed = gap.min(60);
            let place = row.at % window / gap;
            if place >= cap { row.failed("400", "Bad Request") } else { row }
        });
        shows(&format!("{cap} in {window} ms"), &rows, &["quota"]);
    }
}

#[test]
fn a_span_of_time_is_told_by_where_it_is_and_what_it_says() {
    let of = |from: u64, to: u64, share: f64, code: &'static str| {
        run(800, move |i, row, rng| {
            let hit = (from..to).contains(&i) && rng.f64() < share;
            if hit { row.failed(code, "no") } else { row }
        })
    };
    shows("some, in the middle", &of(300, 400, 0.7, "400"), &["time_window"]);
    shows("all, in the middle", &of(300, 400, 1.0, "503"), &["service_down"]);
    shows("at the start", &of(0, 60, 1.0, "500"), &["cold_start"]);
    shows("401 to the end", &of(500, 800, 1.0, "401"), &["token_expired"]);
    shows("403 to the end", &of(500, 800, 1.0, "403"), &["address_limit"]);
}

#[test]
fn connections_nodes_and_threads_are_told_apart() {
    let reset = "Non HTTP response code: org.apache.http.NoHttpResponseException";
    shows(
        "kept connections",
        &run(600, |_, mut row, rng| {
            row.connect = if rng.f64() < 0.3 { 20 } else { 0 };
            let hit = row.connect == 0 && rng.f64() < 0.1;
            if hit { row.failed(reset, "Non HTTP response message: failed to respond") } else { row }
        }),
        &["connection_reuse"],
    );
    shows(
        "new connections",
        &run(600, |_, mut row, rng| {
            row.connect = if rng.f64() < 0.3 { 20 } else { 0 };
            let hit = row.connect > 0 && rng.f64() < 0.8;
            if hit { row.failed("400", "Bad Request") } else { row }
        }),
        &["connection_churn"],
    );
    shows(
        "one of three hosts",
        &run(600, |i, mut row, _| {
            let host = i * 7 % 3;
            row.url = row.url.replace("//api.", &format!("//api-{host}."));
            if host == 1 { row.failed("400", "Bad Request") } else { row }
        }),
        &["node_fault"],
    );
    shows(
        "threads without a token",
        &run(600, |_, row, _| if [3, 8].contains(&row.thread) { row.failed("401", "Unauthorized") } else { row }),
        &["token_missing"],
    );
}

#[test]
fn one_object_for_all_writers_is_contention() {
    let mut busy_until = 0;
    let rows = run(500, |i, mut row, rng| {
        row.label = "POST state".into();
        row.at = i * 12;
        row.url = format!("https://api.example.test/servers/{}/state", if rng.f64() < 0.3 { 1 } else { i % 90 + 2 });
        if row.url.ends_with("/1/state") {
            if row.at < busy_until {
                row.elapsed = 8;
                return row.failed("400", "Bad Request");
            }
            busy_until = row.at + row.elapsed;
        }
        row
    });
    shows("a lock", &rows, &["contention"]);
}

#[test]
fn what_the_tool_itself_says_needs_no_statistics() {
    for (code, message, name) in [
        (
            "Non HTTP response code: java.net.URISyntaxException",
            "Illegal character in path: https://a.test/<EOF>",
            "feed_exhausted",
        ),
        (
            "Non HTTP response code: java.net.URISyntaxException",
            "Illegal character in path: https://a.test/${id}",
            "feed_placeholder",
        ),
        ("Non HTTP response code: java.net.BindException", "Address already in use: connect", "generator_limited"),
        ("Non HTTP response code: java.net.SocketTimeoutException", "Read timed out", "timeout"),
        ("429", "Too Many Requests", "quota"),
        ("400", "Rate limit exceeded the maximum", "quota"),
        ("409", "Conflict", "contention"),
        ("415", "Unsupported Media Type", "header_wrong"),
        ("502", "Bad Gateway", "gateway_failure"),
    ] {
        let rows = run(200, |_, row, rng| if rng.f64() < 0.2 { row.failed(code, message) } else { row });
        shows(message, &rows, &[name]);
    }
}

#[test]
fn a_row_that_does_not_fit_is_named_by_its_line_whatever_ends_lines() {
    let good = "1764147600000,40,GET,200,true,A 1-1,https://a.test/s/1";
    let over_lines = "1764147600000,40,GET,200,true,A 1-1,\"https://a.test/\ns/1\"";
    let header = "timeStamp,elapsed,label,responseCode,success,threadName,URL";
    for (before, line) in
        [(vec![header, good, good], 4), (vec![header], 2), (vec![header, over_lines, good], 5), (vec![good; 7], 8)]
    {
        for end in ["\n", "\r\n"] {
            let text = [&before[..], &["1764147600000,40,GET,200", good, good, good, ""]].concat().join(end);
            let report = report(&text);
            let named: Vec<_> = report.findings.iter().map(|finding| (finding.rule, finding.line)).collect();
            assert_eq!(named, [("row", line)], "{text:?}");
        }
    }
}

#[test]
fn an_assertion_of_the_plan_is_no_failure_of_the_service() {
    let rows = run(60, |i, mut row, _| {
        if i % 5 == 0 {
            row.failure = "Test failed: text expected to contain /pages/".into();
        }
        row
    });
    shows("own assertion", &rows, &["own_assertion"]);
}

#[test]
fn failures_that_go_with_nothing_are_transient_or_too_few() {
    let scattered =
        |n: u64, share: f64| run(n, move |_, row, rng| if rng.f64() < share { row.failed("500", "no") } else { row });
    shows("many", &scattered(600, 0.1), &["transient"]);
    let few = report(csv(&scattered(40, 0.1)));
    assert_eq!((few.verdict, sure(&few)), (Verdict::NotEnoughEvidence, vec![]));
}

#[test]
fn two_causes_at_once_have_a_share_each() {
    let rows = run(600, |i, mut row, _| {
        if i >= 400 {
            row.url = "https://api.example.test/api/v2/scripts/%3CEOF%3E".into();
            return row.failed("400", "Bad Request");
        }
        if row.url == script(7) { row.failed("400", "Bad Request") } else { row }
    });
    let broken = rows.iter().filter(|row| row.url == script(7)).count() as f64;
    let report = report(csv(&rows));
    assert_eq!(sure(&report), ["broken_script", "feed_exhausted"]);
    for cause in &report.causes {
        let expected = if cause.name.name() == "broken_script" { broken } else { 200.0 } / (200.0 + broken);
        assert!((cause.share.unwrap_or_default() - expected).abs() < 0.03, "{cause:?}");
    }
}

#[test]
fn the_same_results_read_the_same_in_every_dress() {
    let rows = run(120, |_, row, _| row);
    let plain = csv(&rows);
    let body = lines(&rows);
    let without_url: String = body
        .lines()
        .map(|line| {
            line.split(',').enumerate().filter(|(i, _)| *i != 13).map(|(_, v)| v).collect::<Vec<_>>().join(",") + "\n"
        })
        .collect();
    for (what, text) in [
        ("as it is", plain.clone()),
        ("without a header", body.clone()),
        ("with a byte order mark", format!("\u{feff}{plain}")),
        ("with CRLF", plain.replace('\n', "\r\n")),
        ("with tabs", plain.replace(',', "\t")),
        ("with semicolons and no header", body.replace(',', ";")),
        ("with bars", plain.replace(',', "|")),
        ("16 columns and no header", without_url),
    ] {
        let report = report(text);
        assert_eq!((report.verdict, requests(&report)), (Verdict::NothingFound, 120), "{what}: {report:#?}");
        assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    }
}

#[test]
fn each_request_is_counted_once() {
    let rows = run(100, |_, row, _| row);
    let twice: String = lines(&rows).lines().flat_map(|line| [line, "\n", line, "\n"]).collect();
    let two_listeners = report(format!("{HEADER}\n{twice}"));
    assert_eq!((requests(&two_listeners), sure(&two_listeners)), (100, vec!["mixed_runs"]));

    let with_parts: Vec<Row> = rows
        .iter()
        .flat_map(|row| {
            let part = |i: u64| Row {
                label: format!("GET script-{i}"),
                at: row.at + i,
                elapsed: row.elapsed - 2,
                ..row.clone()
            };
            [row.clone(), part(0), part(1)]
        })
        .collect();
    let redirected = report(csv(&with_parts));
    assert_eq!((requests(&redirected), redirected.verdict), (100, Verdict::NothingFound));

    let with_sums: Vec<Row> = rows
        .iter()
        .flat_map(|row| {
            let message = "Number of samples in transaction : 1, number of failing samples : 0".to_owned();
            [row.clone(), Row { label: "Agent opens".into(), message, ..row.clone() }]
        })
        .collect();
    assert_eq!(requests(&report(csv(&with_sums))), 100);

    let steps: Vec<Row> = run(60, |i, mut row, _| {
        row.label = ["GET", "GET-1", "GET-2"][usize::try_from(i % 3).unwrap()].into();
        row
    });
    assert_eq!(requests(&report(csv(&steps))), 60, "steps of their own that are called so");
}

#[test]
fn runs_in_one_file_are_told_apart() {
    let first = run(60, |_, row, _| row);
    let later = |by: i64| {
        run(40, move |_, mut row, _| {
            row.at = row.at.wrapping_add_signed(by);
            row
        })
    };
    for (what, text) in [
        ("a second header", format!("{}{}", csv(&first), csv(&later(7_200_000)))),
        ("two hours later", format!("{}{}", csv(&first), lines(&later(7_200_000)))),
        (
            "an older run behind",
            format!(
                "{}{}",
                csv(&run(60, |_, mut row, _| {
                    row.at += 9_000_000;
                    row
                })),
                lines(&later(0))
            ),
        ),
    ] {
        let report = report(text);
        assert_eq!((sure(&report), requests(&report)), (vec!["mixed_runs"], 100), "{what}");
        let never = ["time_window", "service_down", "cold_start"];
        assert!(!report.causes.iter().any(|cause| never.contains(&cause.name.name())), "{what}");
    }
}

#[test]
fn rows_that_do_not_fit_are_named_by_line_and_never_misread() {
    let rows = run(60, |_, row, _| row);
    let mut text: Vec<String> = csv(&rows).lines().map(str::to_owned).collect();
    text[20] = text[20].replace("GET script", "GET, script");
    let long = report(text.join("\n"));
    assert_eq!(requests(&long), 59);
    assert!(long.findings.iter().any(|finding| finding.line == 21), "{:?}", long.findings);

    let whole = csv(&rows);
    let cut = report(&whole[..whole.len() - 70]);
    assert_eq!(requests(&cut), 59);
    assert!(cut.findings.iter().any(|f| f.line == 61 && f.message.contains("cut")), "{:?}", cut.findings);
}

#[test]
fn what_there_is_no_column_for_is_not_ruled_out() {
    let header = "timeStamp,elapsed,label,responseCode,success\n";
    let body: String = (0..200)
        .map(|i| {
            format!(
                "{},40,GET,{},{}\n",
                crate::made::BEGIN + i * 37,
                if i * 7 % 11 < 3 { 400 } else { 200 },
                i * 7 % 11 >= 3
            )
        })
        .collect();
    let report = report(format!("{header}{body}"));
    let out: Vec<_> = report.ruled_out.iter().map(|ruled| ruled.name.name()).collect();
    for name in ["broken_script", "feed_unknown_id", "token_shared", "session_conflict", "token_expired"] {
        assert!(!out.contains(&name), "{name}: {out:?}");
    }
    assert!(report.not_tested.len() >= 3, "{:?}", report.not_tested);
}

/// Elements as JMeter writes them.
pub(crate) fn elements(n: u64, of: impl Fn(u64, &str) -> String) -> String {
    let body: String = (0..n)
        .map(|i| {
            let code = if i % 10 == 3 { "400" } else { "200" };
            of(i, code)
        })
        .collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testResults version=\"1.2\">\n{body}</testResults>\n")
}

pub(crate) fn http(i: u64, code: &str, inner: &str) -> String {
    let (at, url) = (crate::made::BEGIN + i * 100, script(i % 10));
    format!(
        "<httpSample t=\"40\" ts=\"{at}\" s=\"{}\" lb=\"GET script\" rc=\"{code}\" rm=\"x\" tn=\"Agents 1-{}\" ng=\"5\" na=\"5\">{inner}<java.net.URL>{url}</java.net.URL></httpSample>\n",
        code == "200",
        i / 3 + 1
    )
}

#[test]
fn elements_are_counted_once_and_read_at_any_depth() {
    let sum = |i: u64, code: &str| {
        format!(
            "<sample t=\"41\" ts=\"0\" rc=\"\" lb=\"Agent\" rm=\"Number of samples in transaction : 1\">{}</sample>",
            http(i, code, "")
        )
    };
    let redirected = |i: u64, code: &str| {
        let part = format!(
            "<httpSample t=\"20\" ts=\"0\" lb=\"GET script-0\" rc=\"302\"/><httpSample t=\"20\" ts=\"0\" lb=\"GET script-1\" rc=\"{code}\"/>"
        );
        http(i, code, &part)
    };
    let old = |i: u64, code: &str| {
        http(i, code, "")
            .replace("httpSample", "sampleResult")
            .replace("t=\"40\"", "time=\"40\"")
            .replace("rc=", "responseCode=")
            .replace("ts=", "timeStamp=")
    };
    for (what, text) in [
        ("plain", elements(50, |i, code| http(i, code, ""))),
        ("in transactions", elements(50, sum)),
        ("redirected", elements(50, redirected)),
        ("of JMeter 2.0", elements(50, old)),
    ] {
        let report = report(text);
        assert_eq!((requests(&report), sure(&report)), (50, vec!["broken_script"]), "{what}: {:?}", report.findings);
    }
}

#[test]
fn elements_that_are_cut_unknown_or_doubled_are_told() {
    let whole = elements(50, |i, _| http(i, "200", ""));
    let cut = report(&whole[..whole.len() - 100]);
    assert_eq!(requests(&cut), 49);
    assert!(cut.findings.iter().any(|f| f.message.contains("cut")), "{:?}", cut.findings);

    let plugin = whole.replacen("<httpSample", "<com.example.Own><label>x</label></com.example.Own>\n<httpSample", 1);
    let plugin = report(plugin);
    assert_eq!((requests(&plugin), plugin.verdict), (50, Verdict::NothingFound));
    assert!(plugin.findings.iter().any(|f| f.line == 3 && f.message.contains("com.example.Own")));

    let two = report(format!("{whole}{whole}"));
    assert_eq!(sure(&two), ["mixed_runs"]);
}

#[test]
fn a_header_of_the_answer_tells_a_node() {
    let text = elements(90, |i, _| {
        let node = i * 7 % 3;
        let header =
            format!("<responseHeader class=\"java.lang.String\">HTTP/1.1 x\nX-Served-By: node-{node}</responseHeader>");
        http(i * 7, if node == 1 { "500" } else { "200" }, &header)
    });
    assert_eq!(sure(&report(text)), ["node_fault"]);
}

#[test]
fn what_fails_the_first_time_only_is_a_cold_start() {
    let mut asked = std::collections::HashSet::new();
    let ids = run(600, |_, row, _| if asked.insert(row.url.clone()) { row.failed("500", "no") } else { row });
    shows("each script's first request", &ids, &["cold_start"]);
    let mut threads: Vec<Row> = (1..=40)
        .flat_map(|thread| (0..12).map(move |k| (thread, k)))
        .map(|(thread, k)| {
            let row = Row::well(thread * 900 + k * 120, thread, script(thread * k % 30));
            if k == 0 { row.failed("400", "no") } else { row }
        })
        .collect();
    threads.sort_by_key(|row| row.at);
    shows("each thread's first request", &threads, &["cold_start"]);
}

#[test]
fn of_many_files_with_nothing_but_chance_hardly_any_names_a_cause() {
    let wrong = (0..40)
        .filter(|seed| {
            let mut rng = fastrand::Rng::with_seed(*seed);
            let rows = run(150 + seed * 5, |_, row, _| if rng.f64() < 0.15 { row.failed("400", "no") } else { row });
            sure(&report(csv(&rows))).iter().any(|name| *name != "transient")
        })
        .count();
    assert!(wrong <= 2, "{wrong} of 40");
}

#[test]
fn a_failure_of_which_no_code_was_saved_is_no_assertions() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut text = "timeStamp,elapsed,label,threadName,success\n".to_owned();
    for i in 0..100 {
        text.push_str(&format!(
            "{},40,GET script,A 1-{},{}\n",
            1_764_147_600_000_u64 + i * 90,
            i % 10,
            rng.f64() > 0.3
        ));
    }
    let without = report(&text);
    assert_eq!((sure(&without), without.verdict), (vec![], Verdict::NotEnoughEvidence), "{:#?}", without.causes);
    for code in ["", "null"] {
        let all = run(60, |_, row, _| row.failed(code, ""));
        let some = run(600, |_, row, rng| if rng.f64() < 0.1 { row.failed(code, "") } else { row });
        for rows in [all, some] {
            let empty = report(csv(&rows));
            assert_eq!((sure(&empty), empty.verdict), (vec![], Verdict::NotEnoughEvidence), "{:#?}", empty.causes);
        }
    }
}

#[test]
fn an_exception_that_nobody_knows_is_not_the_tools_own_failure() {
    let none = "Non HTTP response code: no answer";
    let premature = "Non HTTP response code: org.apache.http.ConnectionClosedException";
    for (code, failure, expected) in [
        (none, "get script: the time was over before there was a whole answer", &["timeout"][..]),
        (none, "get script: connection closed before message completed", &["transient"]),
        (premature, "Premature end of Content-Length delimited message body", &["transient"]),
        ("Non HTTP response code: a.b.SomethingElse", "who knows", &["transient"]),
    ] {
        let fails = |mut row: Row| {
            row.failure = failure.into();
            row.failed(code, "Non HTTP response message")
        };
        let some = report(csv(&run(600, |_, row, rng| if rng.f64() < 0.05 { fails(row) } else { row })));
        assert_eq!(sure(&some), expected, "{failure}: {:#?}", some.causes);
        let all = report(csv(&run(60, |_, row, _| fails(row))));
        assert!(!sure(&all).contains(&"client_made"), "{failure}: {:#?}", all.causes);
        assert_eq!(sure(&all).contains(&"timeout"), expected == ["timeout"], "{failure}: {:#?}", all.causes);
    }
}

#[test]
fn where_no_connection_could_be_bound_no_server_was_asked() {
    let code = "Non HTTP response code: java.net.BindException";
    let message = "Non HTTP response message: Cannot assign requested address (Bind failed)";
    shows("from the first on", &run(60, |_, row, _| row.failed(code, message)), &["client_made"]);
}

#[test]
fn what_fails_at_once_and_without_a_connection_each_time_was_never_sent() {
    let all = |code: &'static str, message: &'static str, elapsed: u64, connect: u64| {
        run(60, move |i, mut row, _| {
            (row.elapsed, row.connect) = (if i == 40 { elapsed } else { i % 2 }, if i == 1 { connect } else { 0 });
            row.failed(&format!("Non HTTP response code: {code}"), &format!("Non HTTP response message: {message}"))
        })
    };
    for (code, message) in [
        ("java.lang.NullPointerException", "Cannot invoke \"String.length()\""),
        ("java.net.SocketException", "Network is unreachable (connect failed)"),
        ("java.lang.NoClassDefFoundError", "org/brotli/dec/BrotliInputStream"),
    ] {
        shows(code, &all(code, message, 5, 0), &["client_made"]);
        shows(&format!("{code}, and one waited"), &all(code, message, 300, 0), &[]);
        shows(&format!("{code}, and one connected"), &all(code, message, 1, 2), &[]);
        let without = csv(&all(code, message, 1, 0)).replacen("Connect", "x", 1);
        assert_eq!(sure(&report(without)), Vec::<&str>::new(), "{code}, and nobody knows what connected");
    }
    // What answers so is a server, however near it is.
    for (code, message) in [
        ("org.apache.http.client.ClientProtocolException", "The server failed to respond with a valid HTTP response"),
        ("org.apache.http.MalformedChunkCodingException", "Bad chunk header"),
        ("java.net.SocketException", "Connection reset"),
    ] {
        let near = report(csv(&all(code, message, 1, 0)));
        assert!(!sure(&near).contains(&"client_made"), "{message}: {:#?}", near.causes);
    }
}

#[test]
fn a_refused_login_is_too_many_at_once_only_where_something_speaks_for_it() {
    let logins = |message: &str, hit: fn(&Row, u64) -> bool| {
        report(csv(&run(200, |i, mut row, _| {
            row.label = "log in".into();
            row.url = "https://login.example.test/oauth/token".into();
            if hit(&row, i) { row.failed("400", message) } else { row }
        })))
    };
    for message in ["invalid_grant", "invalid_client: authentication failed", "unauthorized_client", "Bad Request"] {
        let two = logins(message, |row, _| [3, 8].contains(&row.thread));
        assert_eq!(sure(&two), Vec::<&str>::new(), "{message}: {:#?}", two.causes);
    }
    let scattered = logins("Bad Request", |_, i| i * i % 7 == 4);
    assert!(!sure(&scattered).contains(&"login_throttled"), "{:#?}", scattered.causes);
    let limited = logins("rate limit exceeded", |_, i| i % 3 == 0);
    assert_eq!(sure(&limited), ["login_throttled"], "{:#?}", limited.causes);
}
