//! HTTP/1.1: what a host does with a request, and how a call of it ends, a login's included.

use genesys_scripts::ErrorKind;

use super::server::{Do, Server, answer, http, say};
use super::{MOST_BYTES, Row, all};
use crate::common::ID;

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

#[tokio::test]
async fn a_connection_that_breaks_is_another_attempt() {
    let whole_head = format!("{HEAD}content-length: 1000\r\n\r\n");
    let cut = format!("{whole_head}{{\"id\":\"{ID}\"");
    let chunked = format!("{HEAD}transfer-encoding: chunked\r\n\r\n");
    each(vec![
        broken("reset before the headers", [Do::Reset]),
        broken("reset in the headers", [say(HEAD), Do::Reset]),
        broken("reset after the headers", [say(&whole_head), Do::Reset]),
        broken("reset in the body", [say(&cut), Do::Reset]),
        broken("closed before the headers", [Do::Close]),
        broken("closed in the status line", [say("HTTP/1."), Do::Close]),
        broken("closed in the headers", [say(HEAD), Do::Close]),
        broken("closed after the headers", [say(&whole_head), Do::Close]),
        broken("truncated", [say(&cut), Do::Close]),
        broken("truncated in a chunk", [say(format!("{chunked}ff\r\n{{")), Do::Close]),
        broken("truncated between chunks", [say(format!("{chunked}1\r\n{{\r\n")), Do::Close]),
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
        silent("slow body", [say(&whole_head), Do::Slowly(vec![b' '; 1_000])]),
        silent("stops in the body", [say(format!("{whole_head}{{")), Do::Nothing]),
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
    let gzip = format!("{HEAD}content-encoding: gzip\r\n");
    let too_large = |(row, fault): (Row, Fault)| (row.says(&["larger than the 65536 bytes"]), fault);
    let (lying, short) =
        odd("a length too small", [say(format!("{HEAD}content-length: 9\r\n\r\n{{\"id\":\"{ID}\"}}"))]);
    each(vec![
        too_large(odd("as announced", [answer("200 OK", "", vec![b' '; MOST_BYTES + 1])])),
        too_large(odd("a body without end", [say(&chunked), Do::Endlessly(chunk)])),
        too_large(odd("a gzip bomb", [answer("200 OK", "content-encoding: gzip\r\n", gzip_bomb(4_000))])),
        odd("garbage for a chunk", [say(format!("{chunked}none\r\n{{}}\r\n0\r\n\r\n"))]),
        odd("gzip that is none", [say(format!("{gzip}content-length: 48\r\n\r\n{}", "<html>".repeat(8)))]),
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
        success("an empty 200", ""),
        success("a 200 with an error", envelope),
        success("a 200 of HTML", html),
        success("JSON cut short", r#"{"access_token":"x","id":"#),
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

/// That many bytes of gzip which become some 160 times as many zeros.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // One block of fixed Huffman codes (RFC 1951 §3.2.6): a zero, then copies of it, 258 at a time.
    let bits = "11000110000".chars().chain("1100010100000".chars().cycle());
    let bits: Vec<u8> = bits.take(size * 8).map(|bit| u8::from(bit == '1')).collect();
    bytes.extend(bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)));
    bytes
}
