//! Nothing the service sends is trusted: whatever it answers, a call ends in a script or in a typed error.

use std::time::Duration;

use futures_util::TryStreamExt;
use genesys_scripts::{Credentials, Error, ErrorKind, ListScripts, ReadScript, ReadUploadStatus, Script};

use crate::common::wire::{Say, Wire, say};
use crate::common::{self, ID, Scripted, id, once, reply, token};

fn script_json() -> String {
    format!(r#"{{"id":"{ID}","name":"Inbound"}}"#)
}

/// Fetches the script from that server with a ready-made token.
async fn fetch(wire: &Wire) -> Result<Script, Error> {
    wire.builder().build().unwrap().agent(Credentials::access_token("t0ken")).script(&id()).await
}

async fn fetch_once(wire: &Wire) -> Result<Script, Error> {
    wire.builder().retry(once()).build().unwrap().agent(Credentials::access_token("t0ken")).script(&id()).await
}

fn assert_fit_for_a_terminal(text: &str) {
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2028}' | '\u{2029}' | '\u{FEFF}');
    assert!(!text.chars().any(obeyed), "{text:?}");
    assert!(text.len() < 3_000, "{} bytes", text.len());
}

#[tokio::test(start_paused = true)]
async fn a_success_that_is_no_script_is_a_typed_error() {
    let deep = "[".repeat(100_000);
    let answers = [
        "",
        "   ",
        "null",
        "true",
        "42",
        r#""a text""#,
        "<!DOCTYPE html><html><body>Please log in</body></html>",
        "[]",
        // The values of an object, in the order of its fields.
        r#"["476c2b71-7429-11e4-9a5b-3f91746bffa3"]"#,
        r#"["476c2b71-7429-11e4-9a5b-3f91746bffa3","a name",null,"a version"]"#,
        r#"[{"id":"476c2b71-7429-11e4-9a5b-3f91746bffa3","name":"in an array"}]"#,
        r#"{"entities":[{"id":"476c2b71-7429-11e4-9a5b-3f91746bffa3"}],"pageSize":25,"pageNumber":1,"total":1}"#,
        r#"{"message":"Invalid script definition","code":"bad_request","status":400,"contextId":"c-1","details":[],"errors":[]}"#,
        "{}",
        r#"{"name":"without an id"}"#,
        r#"{"id":"","name":"x"}"#,
        r#"{"id":"..","name":"x"}"#,
        r#"{"id":42,"name":"x"}"#,
        r#"{"id":null,"name":"x"}"#,
        r#"{"id":"476c2b71-7429-11e4-9a5b-3f91746bffa3","name":"cut"#,
        r#"{"id":"476c2b71-7429-11e4-9a5b-3f91746bffa3"} trailing"#,
        &deep,
    ];
    for answer in answers {
        let transport = Scripted::replies([reply(200, answer)]);
        let error = transport.agent().script(&id()).await.unwrap_err();
        let shown = &answer[..answer.len().min(80)];
        assert_eq!(
            (error.kind(), error.status(), error.attempts()),
            (ErrorKind::UnexpectedAnswer, Some(200), 1),
            "{shown}"
        );
        assert!(error.may_have_been_sent() && !error.is_retryable(), "{shown}");
        assert_fit_for_a_terminal(&error.to_string());
    }
    let transport = Scripted::replies([reply(204, "")]);
    assert_eq!(transport.agent().script(&id()).await.unwrap_err().kind(), ErrorKind::UnexpectedAnswer);
}

#[tokio::test]
async fn an_answer_in_utf_16_is_quoted_as_what_it_says() {
    let json = format!(r#"{{"id":"{ID}","message":"never mind"}}"#);
    for big in [true, false] {
        let body: Vec<u8> = format!("\u{FEFF}{json}")
            .encode_utf16()
            .flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() })
            .collect();
        let wire = Wire::listen(move |_, _| say("200 OK", "", &body)).await;
        let error = fetch(&wire).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("UTF-16") && text.contains("never mind") && !text.contains("\\u{0}"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_array_is_none_of_the_answers_that_are_objects() {
    let array = r#"["476c2b71-7429-11e4-9a5b-3f91746bffa3","a name","https://x.example/y"]"#;
    let agent = Scripted::by(move |seen| if seen.is_login() { token("t0ken") } else { reply(200, array) }).agent();
    let (upload, page) = ("an-upload".parse().unwrap(), "a-page".parse().unwrap());
    let answers = [
        agent.published_script(&id(), &Default::default()).await.map(drop),
        agent.script_page(&id(), &page, &Default::default()).await.map(drop),
        agent.scripts(Default::default()).try_next().await.map(drop),
        agent.upload_status(&upload, &Default::default()).await.map(drop),
        agent.export(&id(), &Default::default()).await.map(drop),
    ];
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{error}");
        assert!(error.to_string().contains("is a JSON array"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_envelope_with_a_success_status_still_tells_its_code() {
    let body = r#"{"message":"No such thing","code":"not.found","status":404,"contextId":"c-1"}"#;
    let error = Scripted::replies([reply(200, body)]).agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::UnexpectedAnswer, Some("not.found")));
    assert!(error.to_string().contains("No such thing"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn unknown_and_missing_fields_are_no_error() {
    let body = format!(r#"{{"id":"{ID}","later":{{"a":[1]}},"pages":null,"name":null,"version":1e400}}"#);
    let script = Scripted::replies([reply(200, body.replace("1e400", "1"))]).agent().script(&id()).await.unwrap();
    assert_eq!((script.id.as_str(), script.name), (ID, None));
}

#[tokio::test(start_paused = true)]
async fn an_html_502_stays_a_502() {
    let page = "<html><head><title>502 Bad Gateway</title></head><body><center>nginx</center></body></html>";
    let transport = Scripted::by(move |seen| if seen.is_login() { token("t0ken") } else { reply(502, page) });
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Server, Some(502), 8));
    assert!(error.to_string().contains("502"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn text_from_the_wire_reaches_a_terminal_only_escaped_and_cut() {
    let hostile = format!("\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202E}gpj.exe\r\n{}", "\u{1b}[31m".repeat(10_000));
    let envelope = serde_json::json!({
        "message": hostile, "code": hostile, "status": hostile, "contextId": hostile,
        "details": [{ "errorCode": hostile }], "errors": [hostile],
        "error": hostile, "error_description": hostile,
    })
    .to_string();
    let short =
        serde_json::json!({ "message": &hostile[..300], "code": &hostile[..40], "id": &hostile[..300] }).to_string();
    for status in [200, 302, 400, 401, 403, 404, 409, 413, 418, 429, 500, 503] {
        for body in [&envelope, &short, &hostile] {
            let body = body.clone();
            let transport = Scripted::by(move |seen| match seen.is_login() {
                true => token("t0ken"),
                false => reply(status, body.clone()).with("retry-after", "3600"),
            });
            let error = transport.agent().script(&id()).await.unwrap_err();
            assert_fit_for_a_terminal(&error.to_string());
            if let Some(why) = error.bad_request() {
                assert_fit_for_a_terminal(&why.to_string());
            }
        }
    }
    let transport = Scripted::by(move |_| reply(400, envelope.clone()));
    assert_fit_for_a_terminal(&transport.agent().script(&id()).await.unwrap_err().to_string());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Wire::listen(|_, _| say("200 OK", "", script_json())).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("location: {}/api/v2/scripts/{ID}\r\n", elsewhere.url);
        let wire = Wire::listen(move |_, _| say(status, &location, "")).await;
        let error = fetch(&wire).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{status}");
        assert_eq!(error.status(), Some(status[..3].parse().unwrap()));

        // Nor is a login's, which would take the secret along.
        let agent = wire.builder().build().unwrap().agent(common::credentials());
        assert!(agent.script(&id()).await.unwrap_err().is_login());
    }
    assert_eq!(elsewhere.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_truncated_body_is_tried_again() {
    let wire = Wire::listen(|nth, _| match nth {
        0 => Say::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{}", script_json()).into_bytes()),
        1 => Say::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n".to_vec()),
        2 => Say::Reset(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{".to_vec()),
        _ => say("200 OK", "", script_json()),
    })
    .await;
    assert_eq!(fetch(&wire).await.unwrap().name.as_deref(), Some("Inbound"));
    assert_eq!(wire.heads().len(), 4);

    let wire = Wire::listen(|_, _| Say::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"id".to_vec())).await;
    let error = fetch(&wire).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 8));
    assert!(error.may_have_been_sent() && error.is_retryable());
}

#[tokio::test]
async fn a_connection_that_is_reset_or_closed_without_an_answer_is_tried_again() {
    let wire = Wire::listen(|nth, _| match nth {
        0 => Say::Reset(Vec::new()),
        1 => Say::Bytes(Vec::new()),
        2 => Say::Reset(b"HTTP/1.1 200".to_vec()),
        _ => say("200 OK", "", script_json()),
    })
    .await;
    fetch(&wire).await.unwrap();
    assert_eq!(wire.heads().len(), 4);
}

#[tokio::test]
async fn what_is_no_http_is_an_error_that_names_the_host() {
    for garbage in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/9.9 999 ?\r\n\r\n", "\u{1b}[31m\r\n\r\n", "HTTP/1.1 200 OK\r\nbroken\r\n\r\n"]
    {
        let wire = Wire::listen(move |_, _| Say::Bytes(garbage.as_bytes().to_vec())).await;
        let error = fetch_once(&wire).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
        assert_fit_for_a_terminal(&error.to_string());
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout() {
    let wire = Wire::listen(|_, _| Say::Nothing).await;
    let client = wire.builder().retry(once()).attempt_timeout(Duration::from_millis(30)).build().unwrap();
    let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
    assert!(error.is_timeout() && error.may_have_been_sent(), "{error}");
}

#[tokio::test]
async fn where_nothing_listens_nothing_was_sent() {
    let wire = Wire::listen(|_, _| Say::Nothing).await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let region = genesys_scripts::Region::custom(&format!("http://{closed}"), &wire.url, &wire.url).unwrap();
    let client = genesys_scripts::Client::builder(region).retry(once()).build().unwrap();
    let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(!error.may_have_been_sent() && error.to_string().contains("nothing listens"), "{error}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read_to_its_end() {
    let announced = Wire::listen(|_, _| say("200 OK", "", vec![b' '; 70_000])).await;
    let endless = Wire::listen(|_, _| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        Say::Endlessly(head, [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat())
    })
    .await;
    for wire in [announced, endless] {
        let client = wire.builder().max_body_bytes(65_536).build().unwrap();
        let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::UnexpectedAnswer, 1));
        assert!(error.to_string().contains("65536"), "{error}");
    }
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_read() {
    let mut body = script_json();
    body.push_str(&" ".repeat(65_536 - body.len()));
    let whole = Wire::listen({
        let body = body.clone();
        move |_, _| say("200 OK", "", &body)
    })
    .await;
    let in_pieces = Wire::listen(move |_, _| {
        let (one, two) = body.split_at(65_000);
        let chunks = format!("fde8\r\n{one}\r\n218\r\n{two}\r\n0\r\n\r\n");
        Say::Bytes([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunks.as_bytes()].concat())
    })
    .await;
    for wire in [whole, in_pieces] {
        let agent = |most| {
            let client = wire.builder().max_body_bytes(most).build().unwrap();
            client.agent(Credentials::access_token("t0ken"))
        };
        agent(65_536).script(&id()).await.unwrap();
        assert!(agent(65_535).script(&id()).await.unwrap_err().to_string().contains("65535"));
    }
}

#[tokio::test]
async fn an_error_page_over_the_limit_keeps_its_status() {
    let wire = Wire::listen(|_, _| say("403 Forbidden", "", vec![b' '; 70_000])).await;
    let client = wire.builder().max_body_bytes(65_536).build().unwrap();
    let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Forbidden, Some(403)));
}

#[tokio::test]
async fn gzip_is_asked_for_and_a_gzip_bomb_is_stopped_at_the_limit() {
    let wire = Wire::listen(|nth, _| {
        let body = if nth == 0 { ZIPPED.to_vec() } else { gzip_bomb(200_000) };
        say("200 OK", "content-encoding: gzip\r\n", body)
    })
    .await;
    let client = wire.builder().max_body_bytes(1 << 20).build().unwrap();
    let agent = client.agent(Credentials::access_token("t0ken"));
    assert_eq!(agent.script(&id()).await.unwrap().name.as_deref(), Some("zipped"));
    assert!(wire.heads()[0].contains("accept-encoding: gzip"), "{}", wire.heads()[0]);

    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer);
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[tokio::test]
async fn what_says_gzip_and_is_not_is_told_at_once_and_what_breaks_off_is_tried_again() {
    let mut garbled = ZIPPED.to_vec();
    garbled[20..40].fill(0xff);
    for body in [script_json().into_bytes(), b"<html>An error page of some gateway</html>".to_vec(), garbled] {
        let wire = Wire::listen(move |_, _| say("200 OK", "content-encoding: gzip\r\n", &body)).await;
        let error = fetch(&wire).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::UnexpectedAnswer, 1), "{error}");
        assert!(!error.is_retryable() && error.to_string().contains("Content-Encoding"), "{error}");
    }

    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
    let cut = &ZIPPED[..ZIPPED.len() / 2];
    let wire = Wire::listen(move |nth, _| match nth {
        // By the server, and on its way.
        0 => Say::Bytes([head(cut.len()).as_bytes(), cut].concat()),
        1 => Say::Bytes([head(ZIPPED.len()).as_bytes(), cut].concat()),
        2 => Say::Reset([head(ZIPPED.len()).as_bytes(), cut].concat()),
        3 => Say::Bytes([head(ZIPPED.len()).as_bytes(), &ZIPPED[..4]].concat()),
        _ => say("200 OK", "content-encoding: gzip\r\n", ZIPPED),
    })
    .await;
    assert_eq!(fetch(&wire).await.unwrap().name.as_deref(), Some("zipped"));
    assert_eq!(wire.heads().len(), 5);
}

#[tokio::test]
async fn gzip_is_gzip_however_it_is_spelled_and_whether_or_not_it_is_said() {
    for coding in ["GZIP", "Gzip", "x-gzip", "X-GZIP", "gzip, identity", "identity,gzip", " gzip ,", "", "utf-8", "br"]
    {
        for (status, body) in [("200 OK", [ZIPPED, b"\n"].concat()), ("201 Created", ZIPPED.to_vec())] {
            let wire = Wire::listen(move |_, _| say(status, &format!("content-encoding: {coding}\r\n"), &body)).await;
            let script = fetch(&wire).await.unwrap_or_else(|error| panic!("{coding}: {error}"));
            assert_eq!(script.name.as_deref(), Some("zipped"), "{coding}");
        }
    }
    let two = "content-encoding: identity\r\ncontent-encoding: GZip\r\n";
    let wire = Wire::listen(move |_, _| say("200 OK", two, ZIPPED)).await;
    assert_eq!(fetch(&wire).await.unwrap().name.as_deref(), Some("zipped"));
    // A refusal's words are in it too.
    let wire = Wire::listen(move |_, _| say("404 Not Found", "content-encoding: X-GZIP\r\n", REFUSAL_ZIPPED)).await;
    let error = fetch(&wire).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(404), Some("not.found")), "{error}");
    // Told to be in it though they are not, words are words.
    let words = r#"{"message":"plain words","code":"not.found","status":404}"#;
    let wire = Wire::listen(move |_, _| say("404 Not Found", "content-encoding: gzip\r\n", words)).await;
    assert!(fetch(&wire).await.unwrap_err().to_string().contains("plain words"));
}

#[tokio::test]
async fn a_coding_that_nobody_asked_for_is_named_and_not_asked_for_again() {
    for (coding, body) in [
        ("br", vec![0x8b, 0x0e, 0x80, 0xff]),
        ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd]),
        ("deflate", vec![0x78, 0x9c, 0xab, 0x56]),
        ("aws-chunked", b"3d;chunk-signature=0a1b\r\n".to_vec()),
        ("compress, Gzip", b"\x1f\x9d\x90".to_vec()),
        ("\u{202E}x", b"<html>".to_vec()),
    ] {
        let wire = Wire::listen(move |_, _| say("200 OK", &format!("content-encoding: {coding}\r\n"), &body)).await;
        let error = fetch(&wire).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::UnexpectedAnswer, 1), "{coding}: {error}");
        let named = coding.split(',').next().unwrap().trim_start_matches('\u{202E}');
        let text = error.to_string();
        assert!(!error.is_retryable() && text.contains("Content-Encoding"), "{text}");
        assert!(text.contains(named) || coding.contains(['G', '\u{202E}']), "{text}");
        assert_fit_for_a_terminal(&text);
    }
    // Where it can be read all the same, it is.
    for coding in ["utf-8", "br", "identity", "none", "aws-chunked"] {
        let wire =
            Wire::listen(move |_, _| say("200 OK", &format!("content-encoding: {coding}\r\n"), script_json())).await;
        assert_eq!(fetch(&wire).await.unwrap().name.as_deref(), Some("Inbound"), "{coding}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_order_mark_is_passed_over_wherever_it_stands() {
    const MARK: &str = "\u{FEFF}";
    let listing = format!(r#"{MARK}{{"entities":[{}],"pageNumber":1,"total":1}}"#, script_json());
    let refusal = format!(r#"{MARK}{{"message":"No such thing","code":"not.found","status":404}}"#);
    let token = format!(r#"{MARK}{{"access_token":"t0ken"}}"#);
    let transport = Scripted::by(move |seen| match seen.url.as_str() {
        _ if seen.is_login() => reply(200, token.clone()),
        url if url.contains("/pages") => reply(404, refusal.clone()),
        url if url.contains(ID) => reply(200, format!("{MARK}{}", script_json())),
        _ => reply(200, listing.clone()),
    });
    let agent = transport.agent();
    assert_eq!(agent.script(&id()).await.unwrap().name.as_deref(), Some("Inbound"));
    assert_eq!(agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    let error = agent.script_pages(&id(), &ReadScript::default()).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Some("not.found"), Some("No such thing")));
    let refused = Scripted::by(|_| reply(400, format!(r#"{MARK}{{"error":"invalid_client"}}"#)));
    assert_eq!(refused.agent().script(&id()).await.unwrap_err().code(), Some("invalid_client"));
}

#[tokio::test]
async fn utf_16_is_named() {
    for mark in ["\u{FEFF}", ""] {
        let text = format!("{mark}{}", script_json());
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for body in [little, big] {
            let wire = Wire::listen(move |_, _| say("200 OK", "", &body)).await;
            let error = fetch(&wire).await.unwrap_err();
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::UnexpectedAnswer, 1));
            assert!(error.to_string().contains("UTF-16"), "{error}");
        }
    }
}

/// `{"message":"zipped","code":"not.found","status":404}`
#[rustfmt::skip]
const REFUSAL_ZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 77, 45, 46, 78, 76, 79, 85, 178, 82, 170, 202, 44, 40, 72, 77,
    81, 210, 81, 74, 206, 79, 1, 241, 243, 242, 75, 244, 210, 242, 75, 243, 64, 66, 197, 37, 137, 37, 165, 197, 74, 86, 38, 6,
    38, 181, 0, 123, 246, 129, 182, 52, 0, 0, 0,
];

/// `{"id":"476c2b71-…","name":"zipped"}`
#[rustfmt::skip]
const ZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 202, 76, 81, 178, 82, 50, 49, 55, 75, 54, 74, 50, 55,
    212, 53, 55, 49, 178, 212, 53, 52, 76, 53, 209, 181, 76, 52, 77, 210, 53, 78, 179, 52, 52, 55, 49, 75, 74,
    75, 75, 52, 86, 210, 81, 202, 75, 204, 77, 5, 170, 174, 202, 44, 40, 72, 77, 81, 170, 5, 0, 6, 233, 203,
    187, 61, 0, 0, 0,
];

/// That many bytes of gzip which become some 160 times as many zeros.
fn gzip_bomb(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // One block of fixed Huffman codes (RFC 1951 §3.2.6): a zero, then copies of it, 258 at a time.
    let head = "110" /* last block, fixed codes, low bit first */.to_owned() + "00110000" /* literal 0 */;
    let copy = "11000101" /* length 258 */.to_owned() + "00000" /* distance 1 */;
    let bits = head.chars().chain(copy.chars().cycle());
    let bits: Vec<u8> = bits.take(size * 8).map(|bit| u8::from(bit == '1')).collect();
    bytes.extend(bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)));
    bytes
}

#[tokio::test]
async fn a_refusal_that_breaks_off_keeps_its_status_and_is_not_repeated() {
    let head = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"message\":";
    let wire = Wire::listen(move |_, _| Say::Bytes(head.as_bytes().to_vec())).await;
    let client = wire.builder().build().unwrap();
    let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(403), 1), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_has_nothing_of_a_list_or_of_a_page_is_none_in_whatever_words() {
    let entities = |count: u32| (0..count).map(|n| format!(r#"{{"id":"s{n}"}}"#)).collect::<Vec<_>>().join(",");
    for body in [
        r#"{"Message":"try later"}"#,
        r#"{"title":"Service Unavailable","status":503,"detail":"maintenance"}"#,
        r#"{"errorSummary":"try later"}"#,
        r#"{"status":"maintenance"}"#,
    ] {
        let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("pageNumber=1")) {
            (true, _) => token("t"),
            (_, true) => reply(200, format!(r#"{{"entities":[{}]}}"#, entities(100))),
            _ => reply(200, body),
        });
        let agent = transport.builder().build().unwrap().agent(common::credentials());
        let error =
            agent.scripts(ListScripts { page_size: 100, ..ListScripts::default() }).try_collect::<Vec<_>>().await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::UnexpectedAnswer, "{body}");
        let page = agent.script_page(&id(), &"p1".parse().unwrap(), &ReadScript::default()).await;
        assert_eq!(page.unwrap_err().kind(), ErrorKind::UnexpectedAnswer, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_as_a_success_is_no_empty_list_nor_page_and_nothing_done() {
    let service = r#"{"message":"boom","code":"internal.server.error","status":500,"contextId":"c"}"#;
    let (maintenance, fault) = (r#"{"error":"maintenance"}"#, r#"{"fault":{"faultstring":"Quota violation"}}"#);
    let gateway = r#"{"message":"Service Unavailable"}"#;
    for body in [service, maintenance, fault, gateway] {
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => token("t"),
            false => reply(200, body).with("inin-correlation-id", "c-1"),
        });
        let agent = transport.builder().build().unwrap().agent(common::credentials());
        let read = ReadScript::default();
        let (page, upload) = ("p1".parse().unwrap(), "u1".parse().unwrap());
        let listed = agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await;
        let mut errors = vec![
            listed.map(drop).unwrap_err(),
            agent.scripts_named("Inbound").await.map(drop).unwrap_err(),
            agent.script_page(&id(), &page, &read).await.map(drop).unwrap_err(),
            agent.published_script_page(&id(), &page, &read).await.map(drop).unwrap_err(),
        ];
        assert!(errors[2].to_string().starts_with(&format!("get script page \"{ID}/p1\": ")), "{}", errors[2]);
        let status = agent.upload_status(&upload, &ReadUploadStatus::default()).await;
        let done = [agent.delete(&id()).await, agent.move_to_division(&id(), &"d1".parse().unwrap()).await];
        if body == gateway {
            assert!(status.is_ok() && done.iter().all(Result::is_ok), "a word may be of what was done");
        } else {
            errors.push(status.map(drop).unwrap_err());
            errors.extend(done.map(Result::unwrap_err));
        }
        for error in errors {
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{error}");
            assert_eq!(error.correlation_id(), Some("c-1"), "{error}");
            let said = [(service, "internal.server.error"), (maintenance, "maintenance"), (fault, "Quota violation")];
            let said = said.into_iter().find(|(of, _)| *of == body).map_or("Service Unavailable", |(_, said)| said);
            assert!(error.to_string().contains(said), "{error}");
            assert!(error.to_string().contains("but is an error ("), "{error}");
        }
    }
    // An empty list may have a word beside it.
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => token("t"),
        false => reply(200, r#"{"entities":[],"errors":[],"message":null}"#),
    });
    let agent = transport.builder().build().unwrap().agent(common::credentials());
    assert!(agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await.unwrap().is_empty());
    // On a later page, where it is doubtful whether there is one: no half of a list.
    for (body, said) in [(service, "internal.server.error"), (gateway, "Service Unavailable"), (fault, "Quota")] {
        // What the first page says of the whole can be wrong.
        let first = format!(r#"{{"entities":[{}],"total":1}}"#, script_json());
        let transport =
            Scripted::by(move |seen| match seen.url.contains("pageNumber=1&") || seen.url.ends_with("pageNumber=1") {
                _ if seen.is_login() => token("t"),
                true => reply(200, &first),
                false => reply(200, body),
            });
        let agent = transport.builder().build().unwrap().agent(common::credentials());
        let list = ListScripts { page_size: 1, ..ListScripts::default() };
        let error = agent.scripts(list).try_collect::<Vec<_>>().await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_success_holds_is_not_told_as_an_errors_code_and_words() {
    for body in [r#"{"name":"Sales","description":"IBAN DE02","pages":[]}"#, r#"{"id":"x","name":"IBAN DE02"#] {
        let transport = Scripted::by(move |seen| if seen.is_login() { token("t") } else { reply(200, body) });
        let agent = transport.builder().build().unwrap().agent(common::credentials());
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (None, None), "{error}");
        assert!(!format!("{error} {error:?}").contains("IBAN"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_whose_body_is_not_all_there_keeps_its_status_and_correlation_id() {
    let head = "inin-correlation-id: c-9-t0ken\r\n";
    let cut = format!("HTTP/1.1 200 OK\r\n{head}content-length: 9\r\n\r\n{{\"id");
    let gzip = say("200 OK", &format!("{head}content-encoding: gzip\r\n"), "no gzip");
    let large = say("200 OK", head, vec![b' '; 70_000]);
    for (of, answer) in [("broke off", Say::Bytes(cut.into())), ("Content-Encoding", gzip), ("`max_body_bytes`", large)]
    {
        let answer = std::sync::Mutex::new(Some(answer));
        let wire = Wire::listen(move |_, _| answer.lock().unwrap().take().unwrap_or(Say::Nothing)).await;
        let client = wire.builder().retry(once()).max_body_bytes(65_536).build().unwrap();
        let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
        assert!(error.to_string().contains(of), "{error}");
        assert_eq!(error.status(), Some(200), "{error}");
        assert!(error.correlation_id().is_some_and(|id| id.starts_with("c-9-") && !id.contains("t0ken")), "{error}");
    }
}
