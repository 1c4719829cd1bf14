//! HTTP/1.1: what a host does with a request, and how a call of it ends, a login's included.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join;
use genesys_scripts::{Credentials, ErrorKind, OAuthClient, PublishScript, RetryPolicy};

use super::server::{Do, Server, answer, http, right_body, say};
use super::{CALL, MOST_BYTES, Row, Trial, all, code};
use crate::common::{ID, credentials, id};

type Fault = Vec<Do>;

/// The connection fails: worth another attempt.
fn broken(what: &'static str, fault: impl Into<Fault>) -> (Row, Fault) {
    (Row::new(what, ErrorKind::Connection).passing(), fault.into())
}

fn silent(what: &'static str, fault: impl Into<Fault>) -> (Row, Fault) {
    (Row::new(what, ErrorKind::Timeout).silent(), fault.into())
}

/// An answer that is none of the service's.
fn odd(what: &'static str, fault: impl Into<Fault>) -> (Row, Fault) {
    (Row::new(what, ErrorKind::UnexpectedAnswer), fault.into())
}

async fn each(rows: Vec<(Row, Fault)>) {
    let server = |fault: Fault| {
        move || {
            Server::http({
                let fault = fault.clone();
                move |_| fault.clone()
            })
        }
    };
    all(rows.into_iter().map(|(row, fault)| (row, server(fault)))).await;
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

/// The head of the answer came, and its status is told.
fn headed((row, fault): (Row, Fault)) -> (Row, Fault) {
    (row.status(200), fault)
}

#[tokio::test]
async fn a_connection_that_breaks_is_another_attempt() {
    let whole_head = format!("{HEAD}content-length: 1000\r\n\r\n");
    let cut = format!("{whole_head}{{\"id\":\"{ID}\"");
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    each(vec![
        broken("reset before the headers", [Do::Reset]),
        broken("reset in the headers", [say(HEAD), Do::Reset]),
        headed(broken("reset after the headers", [say(&whole_head), Do::Reset])),
        headed(broken("reset in the body", [say(&cut), Do::Reset])),
        broken("closed before the headers", [Do::Close]),
        broken("closed in the status line", [say("HTTP/1."), Do::Close]),
        broken("closed in the headers", [say(HEAD), Do::Close]),
        headed(broken("closed after the headers", [say(&whole_head), Do::Close])),
        headed(broken("truncated", [say(&cut), Do::Close])),
        headed(broken("truncated in a chunk", [say(format!("{chunked}ff\r\n{{")), Do::Close])),
        headed(broken("truncated between chunks", [say(format!("{chunked}1\r\n{{\r\n")), Do::Close])),
    ])
    .await;
}

#[tokio::test]
async fn a_host_that_is_silent_or_slow_costs_its_attempts_time() {
    let whole_head = format!("{HEAD}content-length: 1000\r\n\r\n");
    each(vec![
        silent("accepts and never answers", [Do::Nothing]),
        silent("slow headers", [Do::Slowly(format!("{HEAD}x-slow: {}", "slow ".repeat(100)).into_bytes())]),
        silent("stops in the headers", [say(HEAD), Do::Nothing]),
        headed(silent("slow body", [say(&whole_head), Do::Slowly(vec![b' '; 1_000])])),
        headed(silent("stops in the body", [say(format!("{whole_head}{{")), Do::Nothing])),
        (
            Row::new("stops in the words of a refusal", ErrorKind::Server).silent().status(503),
            vec![say(format!("{}{{", whole_head.replace("200 OK", "503 Service Unavailable"))), Do::Nothing],
        ),
    ])
    .await;
}

#[tokio::test]
async fn where_nothing_listens_nothing_was_sent() {
    let deaf = || Server::deaf("http://127.0.0.1", http(|request| request.right_answer()));
    let row = Row::new("refused", ErrorKind::Connection).passing().never_sent().says(&["nothing listens"]);
    all([(row, deaf)]).await;
}

#[tokio::test]
async fn what_is_no_http_is_told_at_once() {
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let long = format!("x-long: {}\r\n", "y".repeat(1 << 20));
    let no_http = |what, says: &str, then| {
        let (row, fault) = odd(what, [say(says), then]);
        (row.says(&["is no HTTP"]), fault)
    };
    each(vec![
        no_http("garbage for a status line", "garbage\r\n\r\n", Do::Close),
        no_http("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", Do::Close),
        no_http("a status that is no number", "HTTP/1.1 two OK\r\n\r\n", Do::Close),
        no_http("another protocol", "SSH-2.0-OpenSSH_9.2\r\n", Do::Close),
        no_http("a header without a colon", &format!("{HEAD}broken\r\n\r\n"), Do::Close),
        no_http("a length of letters", &format!("{HEAD}content-length: ten\r\n\r\n{{}}"), Do::Close),
        no_http("a length below zero", &format!("{HEAD}content-length: -1\r\n\r\n{{}}"), Do::Close),
        no_http("two lengths", &format!("{HEAD}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), Do::Close),
        no_http("200 headers", &format!("{HEAD}{many}content-length: 2\r\n\r\n{{}}"), Do::Close),
        no_http("a header of a megabyte", &format!("{HEAD}{long}content-length: 2\r\n\r\n{{}}"), Do::Close),
        no_http("headers without end", HEAD, Do::Endlessly(b"x-more: of them\r\n".repeat(1_000))),
    ])
    .await;
}

#[tokio::test]
async fn what_is_too_large_or_not_as_it_says_is_told_at_once() {
    let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    let too_large = |(row, fault): (Row, Fault)| headed((row.says(&["larger than the 65536 bytes"]), fault));
    let (lying, short) =
        odd("a length too small", [say(format!("{HEAD}content-length: 9\r\n\r\n{{\"id\":\"{ID}\"}}"))]);
    each(vec![
        too_large(odd("as announced", [answer("200 OK", "", vec![b' '; MOST_BYTES + 1])])),
        too_large(odd("a body without end", [say(&chunked), Do::Endlessly(chunk)])),
        too_large(odd("a gzip bomb", [answer("200 OK", "content-encoding: gzip\r\n", gzip_bomb(4_000))])),
        headed(odd("garbage for a chunk", [say(format!("{chunked}none\r\n{{}}\r\n0\r\n\r\n"))])),
        // What came beyond it is no answer to the next request.
        (lying.status(200), short),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_is_none_of_the_services_keeps_its_status() {
    let html = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
    let envelope = r#"{"message":"Not today","code":"internal.error","status":500,"contextId":"c-1"}"#;
    let fails = |what, status, fault: Fault| (Row::new(what, ErrorKind::Server).passing().status(status), fault);
    let told = |what, words, fault: Fault| {
        (Row { attempts: 1, ..Row::new(what, ErrorKind::Server).passing().status(503).says(words) }, fault)
    };
    let success = |what, body: &str| {
        let (row, fault) = odd(what, [answer("200 OK", "", body)]);
        (row.status(200), fault)
    };
    let moved = |what, status: u16, to: &str| {
        let (row, fault) = odd(what, [answer(&format!("{status} Moved"), &format!("location: {to}\r\n"), "")]);
        (row.status(status), fault)
    };
    each(vec![
        fails("an HTML 502", 502, vec![answer("502 Bad Gateway", "content-type: text/html\r\n", html)]),
        fails("a 500 that says so", 500, vec![answer("500 Oops", "", envelope)]),
        fails("a 504 cut short", 504, vec![say("HTTP/1.1 504 Late\r\ncontent-length: 99\r\n\r\n<"), Do::Close]),
        fails("a 503 with a date gone by", 503, vec![unavailable(GONE_BY)]),
        told(
            "a 503 with a date an hour later",
            &["try again in 3600 s", "beyond the cap"],
            vec![unavailable(IN_AN_HOUR)],
        ),
        told("a 503 with a date after the deadline", &["try again in 30 s"], vec![unavailable(AFTER_THE_CALL)]),
        success("an empty 200", ""),
        success("a 200 with an error", envelope),
        success("a 200 of HTML", html),
        success("JSON cut short", r#"{"id":"x","access_token":"x"#),
        success("JSON of another shape", r#"["access_token","id"]"#),
        success("JSON with another type", r#"{"access_token":1,"token_type":[],"id":{}}"#),
        success("null", "null"),
        moved("a redirect to another host", 302, "http://127.0.0.1:1/api/v2/scripts/x"),
        moved("a redirect to http", 308, "http://example.com/api/v2/scripts/x"),
        moved("a redirect to nowhere", 301, ""),
        moved("a redirect to itself", 307, "/"),
    ])
    .await;
}

/// By a clock decades behind ours.
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const GONE_BY: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
const AFTER_THE_CALL: &str = "Sun, 06 Nov 1994 08:50:07 GMT";
const IN_AN_HOUR: &str = "Sun, 06 Nov 1994 09:49:37 GMT";

fn unavailable(until: &str) -> Do {
    answer("503 Service Unavailable", &format!("date: {NOW}\r\nretry-after: {until}\r\n"), "")
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_as_a_request_is_sent_costs_a_read_nothing_and_a_publish_takes_none() {
    for end in [Do::Close, Do::Reset] {
        let served_once = || {
            let end = end.clone();
            Server::http(move |request| match request.nth_of_connection {
                0 => request.right_answer(),
                _ => vec![end.clone()],
            })
        };
        let trial = Trial::new(served_once(), served_once(), |builder| builder);
        let agent = trial.client.agent(credentials());
        agent.script(&id()).await.unwrap();
        agent.script(&id()).await.unwrap();
        assert_eq!((trial.api.requests(), trial.api.connections()), (3, 2));
        agent.publish(&id(), &PublishScript::default()).await.unwrap();
        assert_eq!((trial.api.requests(), trial.api.connections(), trial.client.stats().retries), (4, 3, 1));
        assert_eq!(trial.client.stats().login_attempts, 1);

        // Of logins, that of a client is like a read, that of a code like a publish.
        let other = trial.client.agent(credentials());
        other.log_in().await.unwrap();
        assert_eq!(trial.client.stats().login_attempts, 3);
        let code = trial.client.agent(code());
        code.log_in().await.unwrap();
        assert_eq!((trial.client.stats().login_attempts, trial.login.connections()), (4, 3));
        trial.is_at_rest("kept");
        drop((agent, other, code));
        trial.ends("kept").await;
    }
}

#[tokio::test]
async fn a_refresh_that_a_kept_connection_lost_is_sent_again_over_none_that_is_kept() {
    for end in [Do::Close, Do::Reset] {
        // Slow enough for two to be under way at once.
        let slowly = |answer: Vec<Do>| [vec![Do::Slowly(b"HTTP/1.1".to_vec())], answer].concat();
        let (body, end) = (right_body(true), end.clone());
        let rest = format!(" 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let login = Server::http(move |request| match request.nth_of_connection {
            0 => slowly(vec![say(&rest)]),
            _ => vec![end.clone()],
        });
        let trial = Trial::new(Server::well(), login, |builder| builder.max_in_flight(2));
        let (one, other) = (trial.client.agent(credentials()), trial.client.agent(credentials()));
        let (one_in, other_in) = join(one.log_in(), other.log_in()).await;
        one_in.and(other_in).unwrap();
        assert_eq!(trial.login.connections(), 2);
        let refreshed = trial.client.agent(Credentials::refresh_token(OAuthClient::new("client-id", "s3cret"), "r-1"));
        refreshed.log_in().await.unwrap();
        assert_eq!((trial.client.stats().login_attempts, trial.login.connections()), (4, 3));
        drop((one, other, refreshed));
        trial.ends("two kept").await;
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_before_costs_nobody_anything() {
    for end in [Do::Close, Do::Reset] {
        let trial = Trial::new(
            Server::http(move |request| [request.right_answer(), vec![end.clone()]].concat()),
            Server::well(),
            |builder| builder,
        );
        let agent = trial.client.agent(Credentials::access_token("t0ken"));
        for _ in 0..10 {
            agent.publish(&id(), &PublishScript::default()).await.unwrap();
            trial.api.open_no_more_than(0).await;
        }
        assert_eq!((trial.api.requests(), trial.client.stats().retries), (10, 0));
        drop(agent);
        trial.ends("closed").await;
    }
}

#[tokio::test]
async fn a_401_for_ever_costs_one_more_login_and_is_remembered() {
    let refused = |what: &'static str| Server::http(move |_| vec![answer("401 Unauthorized", "", what)]);
    let mut trial = Trial::new(refused("{}"), Server::well(), |builder| builder);
    let agent = trial.client.agent(credentials());
    for (attempts, requests) in [(2, 2), (0, 2)] {
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unauthorized, attempts), "{error}");
        assert_eq!((trial.api.requests(), trial.login.requests()), (requests, 2), "{error}");
    }
    let ready_made = trial.client.agent(Credentials::access_token("t0ken"));
    for attempts in [1, 0] {
        let error = ready_made.publish(&id(), &PublishScript::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unauthorized, attempts), "{error}");
    }
    assert_eq!((trial.api.requests(), trial.login.requests()), (3, 2));
    trial.is_at_rest("401");
    trial.get_well();
    trial.client.agent(credentials()).script(&id()).await.unwrap();
    drop((agent, ready_made));
    trial.ends("401").await;

    let mut trial = Trial::new(Server::well(), refused(r#"{"error":"invalid_client"}"#), |builder| builder);
    let agent = trial.client.agent(credentials());
    for _ in 0..2 {
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::LoginRefused, Some(401)), "{error}");
        assert_eq!((trial.login.requests(), trial.api.requests()), (1, 0), "{error}");
    }
    trial.get_well();
    trial.client.agent(credentials()).script(&id()).await.unwrap();
    drop(agent);
    trial.ends("a login's 401").await;
}

#[tokio::test]
async fn a_limit_for_ever_is_told_as_one_without_asking_again_and_again() {
    let limited = |headers: &str, body: &str| answer("429 Too Many Requests", headers, body);
    let hint = r#"{"message":"Rate limit exceeded the maximum. Retry the request in [42] seconds"}"#;
    for (fault, most) in [
        (limited("retry-after: 3600\r\n", ""), 1),
        (limited("retry-after: 30\r\n", ""), 1),
        (limited(&format!("date: {NOW}\r\nretry-after: {IN_AN_HOUR}\r\n"), ""), 1),
        (limited("", hint), 1),
        // Without a word: no more often than the backoffs of the policy let it.
        (limited("", ""), 8),
        (limited("retry-after: 0\r\n", ""), 8),
    ] {
        let mut retry = RetryPolicy::default();
        retry.initial_backoff = Duration::from_millis(200);
        let mut trial =
            Trial::new(Server::http(move |_| vec![fault.clone()]), Server::well(), |builder| builder.retry(retry));
        let agent = trial.client.agent(credentials()).with_timeout(Duration::from_secs(2));
        for is_post in [false, true] {
            let error = match is_post {
                true => agent.publish(&id(), &PublishScript::default()).await.unwrap_err(),
                false => agent.script(&id()).await.unwrap_err(),
            };
            assert!(error.is_throttled() && error.status() == Some(429) && error.is_retryable(), "{error}");
            assert!((1..=most).contains(&error.attempts()) && error.retry_after().is_some(), "{error}");
        }
        trial.is_at_rest("429");
        trial.get_well();
        trial.client.agent(credentials()).script(&id()).await.unwrap();
        drop(agent);
        trial.ends("429").await;
    }
}

#[tokio::test]
async fn a_login_limit_for_ever_is_told_as_one_and_asked_once() {
    let known =
        r#"{"error":"invalid_request","description":"rate limit exceeded","error_description":"rate limit exceeded"}"#;
    for fault in [
        answer("429 Too Many Requests", "retry-after: 3600\r\n", ""),
        answer("429 Too Many Requests", "retry-after: 30\r\n", ""),
        answer("400 Bad Request", "retry-after: 30\r\n", known),
    ] {
        let mut trial = Trial::new(Server::well(), Server::http(move |_| vec![fault.clone()]), |builder| {
            builder.login_throttle_timeout(CALL)
        });
        let (agent, code) = (trial.client.agent(credentials()), trial.client.agent(code()));
        for agent in [&agent, &code] {
            let error = agent.script(&id()).await.unwrap_err();
            assert!(error.is_throttled() && error.is_login() && error.retry_after().is_some(), "{error}");
            assert_eq!((trial.login.requests(), trial.api.requests()), (1, 0), "{error}");
        }
        trial.is_at_rest("a login limit");
        trial.get_well();
        let other = trial.client.agent(Credentials::client("another client", "hunter2"));
        other.script(&id()).await.unwrap();
        drop((agent, code, other));
        trial.ends("a login limit").await;
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumps_costs_neither_a_login_nor_a_call() {
    const DAY: i64 = 24 * 60 * 60;
    // A second from now, by our clock as it was: a jump ahead makes that long ago, one back a day and a second.
    let (off, now) = (Arc::new(AtomicI64::new(0)), SystemTime::now());
    let until = httpdate::fmt_http_date(now + Duration::from_secs(1));
    let unavailable = answer("503 Service Unavailable", &format!("retry-after: {until}\r\n"), "");
    let api = Server::http(move |request| match request.nth {
        3 | 5 => vec![unavailable.clone()],
        _ => request.right_answer(),
    });
    let clock = Arc::clone(&off);
    let trial = Trial::new(api, Server::well(), |builder| {
        builder.wall_clock(move || {
            let off = clock.load(Ordering::SeqCst);
            let by = Duration::from_secs(off.unsigned_abs());
            if off < 0 { now - by } else { now + by }
        })
    });
    let agent = trial.client.agent(credentials());
    for jump in [0, DAY, -DAY] {
        off.store(jump, Ordering::SeqCst);
        agent.script(&id()).await.unwrap();
    }
    off.store(DAY, Ordering::SeqCst);
    agent.script(&id()).await.unwrap();
    assert_eq!(trial.api.requests(), 5);
    off.store(-DAY, Ordering::SeqCst);
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(503), 1), "{error}");
    assert!(error.retry_after().unwrap() > Duration::from_secs(24 * 60 * 60 - 2), "{error}");
    assert_eq!(trial.login.requests(), 1);
    trial.is_at_rest("jumps");
    drop(agent);
    trial.ends("jumps").await;
}

#[tokio::test]
async fn hours_that_pass_at_once_cost_one_login() {
    let trial = Trial::new(Server::well(), Server::well(), |builder| builder);
    let agent = trial.client.agent(credentials());
    agent.script(&id()).await.unwrap();
    for nights in 1..=3 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(30 * 60 * 60)).await;
        tokio::time::resume();
        agent.script(&id()).await.unwrap();
        agent.publish(&id(), &PublishScript::default()).await.unwrap();
        assert_eq!((trial.login.requests(), trial.client.stats().retries), (1 + nights, 0));
    }
    trial.is_at_rest("suspended");
    drop(agent);
    trial.ends("suspended").await;
}

/// That many bytes of gzip which become some 160 times as many zeros.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // One block of fixed Huffman codes (RFC 1951 §3.2.6): a zero, then copies of it, 258 at a time.
    let bits = "11000110000".chars().chain("1100010100000".chars().cycle());
    let bits: Vec<u8> = bits.take(size * 8).map(|bit| u8::from(bit == '1')).collect();
    bytes.extend(bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)));
    bytes
}
