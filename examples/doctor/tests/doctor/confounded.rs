//! What goes with the failing only since it goes with what makes requests fail is not called the cause.

use crate::made::{Row, csv, run, script};
use crate::results::{report, shows, sure};

/// Of these causes none is likely.
fn never(what: &str, rows: &[Row], names: &[&str]) {
    let report = report(csv(rows));
    assert!(!sure(&report).iter().any(|name| names.contains(name)), "{what}: {:#?}", report.causes);
}

/// So many threads, one begun each so many milliseconds, each with so many requests: in the order of their starts. A request
/// waits for the one before it, and is changed by what is the matter.
fn threads(n: u64, every: u64, requests: u64, mut matter: impl FnMut(u64, Row, &mut fastrand::Rng) -> Row) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut next: Vec<(u64, u64)> = (0..n).map(|thread| (thread * every, 0)).collect();
    let mut rows = Vec::new();
    while let Some((thread, (at, nth))) =
        (0..n).zip(next.iter().copied()).filter(|(_, (_, nth))| *nth < requests).min_by_key(|(_, (at, _))| *at)
    {
        let mut row = Row::well(at, thread + 1, script(rng.u64(1..=30)));
        row.elapsed = rng.u64(60..160);
        row.threads = (0..n).zip(&next).filter(|(i, (_, nth))| i * every <= at && *nth < requests).count() as u64;
        row.connect = if nth == 0 { 20 } else { 0 };
        let row = matter(nth, row, &mut rng);
        if let Some(next) = next.get_mut(thread as usize) {
            *next = (at + row.elapsed + rng.u64(5..60), nth + 1);
        }
        rows.push(row);
    }
    rows
}

#[test]
fn threads_that_always_fail_are_no_matter_of_time_or_load() {
    for code in ["400", "403", "500"] {
        let late = threads(20, 300, 40, |_, row, _| if row.thread > 15 { row.failed(code, "no") } else { row });
        never(
            "the late ones",
            &late,
            &["overload", "time_window", "service_down", "address_limit", "connection_reuse"],
        );
        let some = threads(20, 300, 40, |_, row, _| if row.thread % 4 == 1 { row.failed(code, "no") } else { row });
        never("one of four", &some, &["overload", "time_window", "service_down", "cold_start", "transient"]);
    }
}

#[test]
fn what_fails_from_some_request_of_each_thread_on_is_no_matter_of_its_connection() {
    let rows = threads(20, 200, 30, |nth, row, _| if nth >= 6 { row.failed("500", "no") } else { row });
    never("from the seventh on", &rows, &["connection_reuse", "time_window", "service_down", "overload"]);
}

#[test]
fn a_connection_that_is_new_since_the_last_was_lost_is_no_cause() {
    let reset = "Non HTTP response code: java.net.SocketException";
    let mut lost = [false; 30];
    let rows = threads(20, 50, 60, |_, mut row, rng| {
        if std::mem::take(&mut lost[row.thread as usize]) {
            row.connect = 20;
        }
        if !(3_000..5_000).contains(&row.at) || rng.f64() > 0.7 {
            return row;
        }
        lost[row.thread as usize] = true;
        row.failed(reset, "Connection reset")
    });
    shows("reset in a span of time", &rows, &["time_window"]);
    // As threads begin each has its first connection.
    let begun = threads(
        20,
        50,
        60,
        |_, row, rng| {
            if row.at < 1_100 && rng.f64() < 0.8 { row.failed("503", "no") } else { row }
        },
    );
    shows("at the start", &begun, &["cold_start"]);
}

#[test]
fn new_connections_and_how_much_is_under_way_are_told_apart() {
    // Kept connections are used up where more than 8 are under way.
    let of = |by_connection: bool| {
        threads(20, 400, 60, move |nth, mut row, rng| {
            let many = row.threads > 8;
            let new = nth == 0 || (many && rng.f64() < 0.7) || rng.f64() < 0.02;
            row.connect = if new { 20 } else { 0 };
            let hit = if by_connection { new } else { many };
            if hit && rng.f64() < 0.6 { row.failed("503", "no") } else { row }
        })
    };
    shows("the connection", &of(true), &["connection_churn"]);
    shows("the load", &of(false), &["overload"]);
}

#[test]
fn resets_now_and_then_are_on_kept_connections_as_most_requests_are() {
    let reset = "Non HTTP response code: java.net.SocketException";
    let rows = run(900, |i, mut row, rng| {
        row.connect = if i < 20 { 20 } else { 0 };
        if i > 40 && rng.f64() < 0.03 { row.failed(reset, "Connection reset") } else { row }
    });
    never("reset", &rows, &["connection_reuse"]);
}

#[test]
fn a_limit_of_each_second_begins_at_any_time_of_it() {
    for begin in [0, 130, 450, 870] {
        let (mut second, mut passed) = (0, 0);
        let rows = threads(20, 100, 80, |_, row, _| {
            if (row.at + begin) / 1_000 != second {
                (second, passed) = ((row.at + begin) / 1_000, 0);
            }
            passed += 1;
            if passed > 90 { row.failed("403", "no") } else { row }
        });
        shows(&format!("{begin} ms"), &rows, &["quota"]);
    }
}

#[test]
fn failures_that_take_long_are_under_way_for_long_and_that_is_no_overload() {
    let out = "Non HTTP response code: java.net.SocketTimeoutException";
    let rows = run(1_500, |i, mut row, rng| {
        if i < 1_200 || rng.f64() > 0.5 {
            return row;
        }
        row.elapsed = 4_000;
        row.failed(out, "Read timed out")
    });
    never("timeouts at the end of the run", &rows, &["overload"]);
}

#[test]
fn a_login_among_other_requests_that_fail_alike_makes_them_no_logins() {
    let rows = threads(20, 300, 40, |nth, mut row, rng| {
        if nth == 0 {
            row.label = "Login".into();
            row.url = "https://api.example.test/oauth/token".into();
        }
        if row.threads > 8 && (nth == 0 || rng.f64() < 0.6) { row.failed("503", "no") } else { row }
    });
    shows("beyond a knee", &rows, &["overload"]);
}

#[test]
fn what_lasts_most_of_the_run_is_no_span_of_it() {
    let rows = run(900, |i, row, rng| if i > 250 && rng.f64() < 0.4 { row.failed("400", "no") } else { row });
    never("from a quarter on", &rows, &["time_window", "service_down", "overload"]);
}

#[test]
fn a_refused_token_is_no_matter_of_load() {
    let rows =
        threads(
            20,
            400,
            60,
            |_, row, rng| {
                if row.threads > 8 && rng.f64() < 0.4 { row.failed("401", "Unauthorized") } else { row }
            },
        );
    never("401", &rows, &["overload"]);
}

#[test]
fn threads_that_come_one_after_the_other_may_be_it_as_well_as_the_time() {
    let rows = threads(60, 400, 5, |_, row, _| if row.thread > 45 { row.failed("403", "no") } else { row });
    never("the last threads", &rows, &["address_limit", "time_window", "service_down", "overload"]);
}

#[test]
fn what_fails_now_and_then_for_some_seconds_is_no_limit() {
    let rows = run(9_000, |i, row, _| if i % 2_600 > 2_350 { row.failed("503", "no") } else { row });
    never("every hundred seconds", &rows, &["quota", "overload"]);
}

#[test]
fn what_each_thread_asks_alone_is_no_broken_script_for_that() {
    for code in ["401", "403", "500"] {
        let rows = threads(20, 100, 30, |_, mut row, _| {
            row.url = script(row.thread);
            if row.thread % 4 == 1 { row.failed(code, "no") } else { row }
        });
        never(code, &rows, &["broken_script", "feed_unknown_id"]);
        let shared = threads(20, 100, 30, |_, mut row, _| {
            row.url = script(row.thread % 5);
            if row.thread % 5 == 1 { row.failed("500", "no") } else { row }
        });
        shows("of several threads", &shared, &["broken_script"]);
    }
}

#[test]
fn a_host_that_serves_no_script_breaks_none() {
    let rows = threads(20, 100, 60, |nth, mut row, _| {
        let host = (nth + row.thread) % 3;
        row.url = row.url.replace("//api.", &format!("//api-{host}."));
        if host == 1 { row.failed("500", "no") } else { row }
    });
    shows("one of three", &rows, &["node_fault"]);
}

#[test]
fn what_fails_after_a_pause_is_not_said_to_go_with_nothing() {
    let gone = "Non HTTP response code: org.apache.http.ConnectionClosedException";
    let of = |code: &'static str, message: &'static str| {
        let mut ended = [0_u64; 20];
        threads(20, 100, 60, move |nth, row, _| {
            let before = std::mem::replace(&mut ended[row.thread as usize - 1], row.at + row.elapsed);
            if nth > 0 && row.at - before > 52 { row.failed(code, message) } else { row }
        })
    };
    shows("closed while it was idle", &of(gone, "Premature end of the body"), &["connection_reuse"]);
    shows("a session that was forgotten", &of("400", "Bad Request"), &[]);
}

const RESET: &str = "Non HTTP response code: java.net.SocketException";

/// 20 threads that send 120 requests each, with pauses of so many milliseconds after so many that the last one took. A
/// request is changed by what is the matter, of which the pause may be.
fn pausing(
    mut pause: impl FnMut(u64, u64, &mut fastrand::Rng) -> u64,
    mut matter: impl FnMut(u64, Row, &mut fastrand::Rng) -> Row,
) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut rows = Vec::new();
    for thread in 1..=20 {
        let (mut at, mut paused) = (thread * 40, 0);
        for nth in 0..120 {
            let mut row = Row::well(at, thread, script(rng.u64(1..=30)));
            row.elapsed = rng.u64(60..160);
            row.connect = if nth == 0 { 20 } else { 0 };
            let row = matter(paused, row, &mut rng);
            paused = pause(thread, row.elapsed, &mut rng);
            at += row.elapsed + paused;
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| row.at);
    rows
}

#[test]
fn pauses_that_are_long_for_another_reason_close_no_connection() {
    // Of a paced plan the pause is the longer the sooner a request fails.
    let paced = pausing(
        |_, elapsed, _| 1_000 - elapsed,
        |_, mut row, rng| {
            row.elapsed = rng.u64(300..800);
            if !(50_000..62_000).contains(&row.at) {
                return row;
            }
            row.elapsed = rng.u64(1..4);
            row.failed(RESET, "Connection reset")
        },
    );
    shows("the service was down", &paced, &["service_down"]);
    let new = pausing(
        |_, _, rng| [50, 100, 2_000, 4_000][rng.usize(..4)],
        |paused, mut row, rng| {
            row.connect = 20;
            if paused >= 2_000 && rng.f64() < 0.3 { row.failed(RESET, "Connection reset") } else { row }
        },
    );
    never("none was kept", &new, &["connection_reuse"]);
    let some = pausing(
        |thread, _, rng| if thread > 15 { rng.u64(800..1_200) } else { rng.u64(50..300) },
        |_, row, rng| {
            if row.thread > 15 && rng.f64() < 0.5 { row.failed(RESET, "Connection reset") } else { row }
        },
    );
    never("some threads fail, and think longer", &some, &["connection_reuse"]);
    let idle = pausing(
        |_, _, rng| rng.u64(0..10_000),
        |paused, row, rng| {
            if paused > 5_000 && rng.f64() < 0.5 { row.failed(RESET, "Connection reset") } else { row }
        },
    );
    shows("closed after 5 s", &idle, &["connection_reuse"]);
}

/// 3,000 users that ask once each, now more of them at once and now fewer: so many are under way with a request.
fn once_each(mut matter: impl FnMut(usize, Row, &mut fastrand::Rng) -> Row) -> Vec<Row> {
    let mut rng = fastrand::Rng::with_seed(3);
    let (mut at, mut ends) = (0.0, Vec::new());
    (1..=3_000)
        .map(|user| {
            let rate = 0.08 + 0.06 * (f64::from(user as u32) / 3_000.0 * 12.0 * std::f64::consts::PI).sin();
            at -= (1.0 - rng.f64()).ln() / rate;
            let mut row = Row::well(at as u64, user, script(user));
            row.elapsed = rng.u64(200..400);
            row.connect = 20;
            ends.retain(|end| *end > row.at);
            let row = matter(ends.len(), row, &mut rng);
            ends.push(row.at + row.elapsed);
            row
        })
        .collect()
}

#[test]
fn users_and_scripts_that_come_once_each_explain_nothing() {
    let knee = once_each(|under_way, row, rng| {
        if rng.f64() < if under_way > 25 { 0.7 } else { 0.15 } { row.failed("400", "Bad Request") } else { row }
    });
    shows("a user once", &knee, &["overload"]);
    let mut nth = 0;
    let new = once_each(|_, mut row, rng| {
        nth += 1;
        (row.thread, row.connect) = (nth % 20 + 1, if rng.bool() { 20 } else { 0 });
        if rng.f64() < if row.connect > 0 { 0.6 } else { 0.2 } { row.failed("503", "no") } else { row }
    });
    shows("a script once", &new, &["connection_churn"]);
}

#[test]
fn failures_that_take_long_leave_the_number_of_threads_to_ask() {
    let rows = threads(60, 200, 100, |_, mut row, rng| {
        if row.threads <= 40 || rng.f64() > 0.4 {
            return row;
        }
        row.elapsed = 800;
        row.failed("503", "no")
    });
    shows("beyond 40 threads", &rows, &["overload"]);
    // Of threads that ask so many times and end, more are there while they wait; and they are counted as a request ends.
    let waiting = threads(80, 125, 30, |_, mut row, _| {
        if !(8_700..10_000).contains(&row.at) {
            return row;
        }
        row.elapsed = 3_000;
        row.threads += 6;
        row.failed("503", "no")
    });
    never("while the service was down", &waiting, &["overload"]);
}

#[test]
fn what_comes_once_a_minute_for_some_seconds_is_not_told_from_a_limit_of_each_minute() {
    let of = |limit: Option<u64>, hit: fn(u64, &mut fastrand::Rng) -> bool| {
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut at, mut minute, mut passed) = (0.0, 0, 0);
        let rows = (0..6_000).map(|i| {
            at -= (1.0 - rng.f64()).ln() * 100.0;
            let row = Row::well(at as u64, i % 20 + 1, script(rng.u64(1..=30)));
            let in_minute = row.at + 20_000;
            if in_minute / 60_000 != minute {
                (minute, passed) = (in_minute / 60_000, 0);
            }
            passed += 1;
            let fails = limit.map_or_else(|| hit(in_minute % 60_000, &mut rng), |limit| passed > limit);
            if fails { row.failed("503", "no") } else { row }
        });
        rows.collect::<Vec<_>>()
    };
    never("5 s", &of(None, |at, _| at < 5_000), &["quota"]);
    never("2 s", &of(None, |at, _| at < 2_000), &["quota"]);
    never("four of five", &of(None, |at, rng| at < 5_000 && rng.f64() < 0.8), &["quota"]);
    shows("a limit", &of(Some(560), |_, _| false), &["quota"]);
}

#[test]
fn what_surely_goes_with_the_load_is_not_said_to_be_too_few() {
    let rows = run(1_500, |i, mut row, rng| {
        if i % 500 < 420 || rng.f64() > 0.6 {
            return row;
        }
        row.elapsed = 4_000;
        row.failed("503", "no")
    });
    let report = report(csv(&rows));
    let said = report.causes.iter().flat_map(|cause| &cause.evidence).fold(String::new(), |all, one| all + one + "\n");
    assert!(said.contains("which of them it is cannot be told") && !said.contains("too few"), "{said}");
}
