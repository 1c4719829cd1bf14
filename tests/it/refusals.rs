//! Whoever refuses is heard: in the error's one line, whatever the status and the form, and never in clear what is secret.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use genesys_scripts::{
    Cause, Certainty, Client, Credentials, Envelope, Error, ErrorKind, ExportScript, ListScripts, PublishScript,
    ReadScript, ScriptFile,
};
use serde_json::json;

use crate::common::wire::{Wire, say};
use crate::common::{self, SECRET, Scripted, id, once, reply, script, token};

const TOKEN: &str = "t0ken-that-nobody-may-see";
const STATUSES: [u16; 9] = [400, 401, 403, 404, 409, 413, 429, 500, 503];

/// The forms in which a refusal can say something.
fn forms(words: &str) -> Vec<(&'static str, String)> {
    let html = words.replace('&', "&amp;").replace('<', "&lt;");
    let json = |value: serde_json::Value| value.to_string();
    vec![
        ("message", json(json!({ "message": words }))),
        ("Message", json(json!({ "Message": words }))),
        ("error.message", json(json!({ "error": { "code": 400, "message": words } }))),
        ("error", json(json!({ "error": words }))),
        ("error_description", json(json!({ "error": "invalid_request", "error_description": words }))),
        ("detail", json(json!({ "detail": words }))),
        ("detail beside a title", json(json!({ "type": "about:blank", "title": "Bad Request", "detail": words }))),
        ("title", json(json!({ "title": words }))),
        ("fault.faultstring", json(json!({ "fault": { "faultstring": words, "detail": { "errorcode": "a.b" } } }))),
        ("errorSummary", json(json!({ "errorCode": "E1", "errorSummary": words }))),
        ("error_message", json(json!({ "error_message": words }))),
        ("msg", json(json!({ "code": 40, "msg": words }))),
        ("errors of strings", json(json!({ "errors": [words] }))),
        ("errors of objects", json(json!({ "errors": [{ "code": "x", "message": words }] }))),
        ("errors by field", json(json!({ "errors": { "pageSize": [words] } }))),
        ("a list of strings", json(json!([words]))),
        ("a string", json(json!(words))),
        ("no key that is known", json(json!({ "wording": words }))),
        ("no known key beside a code", json(json!({ "code": 403, "data": words }))),
        ("no known key beside an error", json(json!({ "error": "access_denied", "denied_by": words }))),
        ("no known key beside an error's code", json(json!({ "errorCode": "E17", "explanation": words }))),
        ("no known key in an object", json(json!({ "code": "E17", "policy": { "id": 7, "says": words } }))),
        ("text", words.to_owned()),
        ("a page's title", format!("<html><head><title>{html}</title></head><body></body></html>")),
        ("a page's heading", format!("<html><head><style>h1 {{}}</style></head><body><h1>{html}</h1></body></html>")),
        ("a page's text", format!("<html><title>No</title><body><p>Sorry.</p><p><b>{html}</b></p></body></html>")),
        ("XML", format!("<?xml version=\"1.0\"?><Error><Code>X</Code><Message>{html}</Message></Error>")),
    ]
}

fn assert_fit_for_a_terminal(text: &str) {
    let obeyed = |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2028}' | '\u{2029}');
    assert!(!text.chars().any(obeyed), "{text:?}");
    assert!(text.len() < 3_500, "{} bytes: {text}", text.len());
}

/// A client whose API refuses, with a login that is well; or whose login does.
struct Refusing {
    client: Client,
    told: Arc<Mutex<(bool, u16, String)>>,
    agents: AtomicUsize,
}

impl Refusing {
    fn new() -> Self {
        let told = Arc::new(Mutex::new((false, 400, String::new())));
        let answered = Arc::clone(&told);
        let transport = Scripted::by(move |seen| {
            let (at_login, status, body) = answered.lock().unwrap().clone();
            match seen.is_login() == at_login {
                true => reply(status, body).with(if status == 429 { "retry-after" } else { "x" }, "3600"),
                false => token(TOKEN),
            }
        });
        let client = transport.builder().retry(once()).build().unwrap();
        Self { client, told, agents: AtomicUsize::new(0) }
    }

    /// How a call of a new agent, of an OAuth client of its own, ends.
    async fn with(&self, at_login: bool, status: u16, body: &str) -> Error {
        *self.told.lock().unwrap() = (at_login, status, body.to_owned());
        let number = self.agents.fetch_add(1, Ordering::Relaxed);
        let agent = self.client.agent(Credentials::client(format!("client-{number}"), SECRET));
        agent.with_timeout(Duration::from_secs(20)).script(&id()).await.unwrap_err()
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_are_in_the_line_whatever_their_form_and_the_status() {
    let words = "denied by policy 7 of the gate";
    let refusing = Refusing::new();
    for (form, body) in forms(words) {
        for status in STATUSES {
            for at_login in [false, true] {
                let error = refusing.with(at_login, status, &body).await;
                let line = error.to_string();
                assert!(line.contains(words), "{status}, {form}, at the login: {at_login}: {line}");
                assert_eq!((error.status(), error.is_login()), (Some(status), at_login), "{line}");
                assert!(at_login || !line.contains("login"), "{line}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_words_are_escaped_and_cut() {
    let hostile = format!("\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202E}<b>\r\n{}", "far too long ".repeat(400));
    let refusing = Refusing::new();
    for (_, body) in forms(&hostile) {
        for status in STATUSES {
            for at_login in [false, true] {
                let error = refusing.with(at_login, status, &body).await;
                assert_fit_for_a_terminal(&error.to_string());
                error.bad_request().iter().for_each(|why| assert_fit_for_a_terminal(&why.to_string()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_the_words_is_in_nothing_that_is_printed() {
    let escaped = |secret: &str| secret.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect::<String>();
    let entities = |secret: &str| secret.chars().map(|c| format!("&#{};", u32::from(c))).collect::<String>();
    let refusing = Refusing::new();
    for (at_login, secret) in [(false, TOKEN), (true, SECRET)] {
        let plain = forms(&format!("no to {secret} and {secret}")).into_iter().map(|(_, body)| body);
        let others =
            [format!("{{\"message\":\"no to {}\"}}", escaped(secret)), format!("<p>no to {}</p>", entities(secret))];
        for body in plain.chain(others) {
            for status in STATUSES {
                let error = refusing.with(at_login, status, &body).await;
                let all = format!("{error} {error:?} {:?} {:?}", error.body(), error.bad_request());
                assert!(!all.contains(secret), "{status}: {all}");
                assert!(all.contains("[REDACTED]"), "{status} {body}: {all}");
            }
        }
    }
}

#[tokio::test]
async fn words_in_utf_16_and_behind_a_mark_are_read() {
    let words = "denied by policy 7 of the gate";
    let utf_16 = |text: &str, big: bool, mark: bool| -> Vec<u8> {
        let mark = if mark { "\u{FEFF}" } else { "" };
        let units = format!("{mark}{text}").encode_utf16().collect::<Vec<_>>();
        units.iter().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let json = json!({ "message": words }).to_string();
    let page = format!("<html><title>{words}</title></html>");
    let mut bodies = vec![format!("\u{FEFF}{json}").into_bytes(), format!("\u{FEFF}{page}").into_bytes()];
    for text in [json.as_str(), page.as_str(), words] {
        for (big, mark) in [(true, true), (false, true), (true, false), (false, false)] {
            bodies.push(utf_16(text, big, mark));
        }
    }
    for status in ["400 Bad Request", "403 Forbidden"] {
        for body in bodies.clone() {
            let wire = Wire::listen(move |_, _| say(status, "", &body)).await;
            let agent = wire.builder().build().unwrap().agent(Credentials::access_token(TOKEN));
            let line = agent.script(&id()).await.unwrap_err().to_string();
            assert!(line.contains(words), "{status}: {line}");
        }
    }
}

#[tokio::test]
async fn words_in_latin_1_are_read_where_that_is_said() {
    for (kind, said) in [
        ("text/plain; charset=iso-8859-1", "verweigert f\u{fc}r 7"),
        ("text/html; charset=ISO-8859-1", "<h1>acc\u{e8}s refus\u{e9}</h1>"),
        ("application/json;charset=windows-1252", r#"{"message":"prohibici\u{f3}n"}"#),
    ] {
        let said = said.replace("\\u{f3}", "\u{f3}");
        let body: Vec<u8> = said.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        // Some servers call the charset a coding, too.
        let headers =
            [format!("content-type: {kind}\r\n"), format!("content-type: {kind}\r\ncontent-encoding: iso-8859-1\r\n")];
        for (body, headers) in
            [(body.clone(), &headers[0]), (said.clone().into_bytes(), &headers[0]), (body, &headers[1])]
        {
            let headers = headers.clone();
            let wire = Wire::listen(move |_, _| say("403 Forbidden", &headers, &body)).await;
            let agent = wire.builder().build().unwrap().agent(Credentials::access_token(TOKEN));
            let line = agent.script(&id()).await.unwrap_err().to_string();
            assert!(["f\u{fc}r 7", "refus\u{e9}", "prohibici\u{f3}n"].iter().any(|word| line.contains(word)), "{line}");
        }
    }
}

#[tokio::test]
async fn credentials_of_others_that_a_refusal_echoes_are_not_shown() {
    for body in [
        r#"{"error":"invalid_client","authorization":"Bearer s3cr3t of another"}"#,
        r#"{"code":"E17","headers":{"cookie":"sid=s3cr3t; Path=/"}}"#,
        r#"{"code":"E17","set-cookie":"sid=s3cr3t; Path=/"}"#,
    ] {
        let wire = Wire::listen(move |_, _| say("403 Forbidden", "", body.as_bytes())).await;
        let agent = wire.builder().build().unwrap().agent(Credentials::access_token(TOKEN));
        let line = agent.script(&id()).await.unwrap_err().to_string();
        assert!(!line.contains("s3cr3t"), "{line}");
    }
}

#[tokio::test]
async fn words_in_a_coding_that_nobody_asked_for_are_told_as_that() {
    // `{"message":"denied by policy 7"}`, as brotli, zlib and zstd have it.
    const CODED: [(&str, &[u8]); 3] = [
        ("br", b"\x0f\x10\x80{\"message\":\"denied by policy 7\"}\x03\xff"),
        ("deflate", b"\x78\x9c\xab\x56\xca\x4d\x2d\x2e\x4e\x4c\x4f\x55\xb2\x52\x4a\x49\xcd\xcb\x4c\x4d\x51\x48\xaa\x54\x28\xc8\xcf"),
        ("identity, zstd", b"\x28\xb5\x2f\xfd\x20\x20\x01\x01\x00{\"message\":\"denied by policy 7\"}"),
    ];
    for (coding, body) in CODED {
        for status in ["400 Bad Request", "403 Forbidden"] {
            for at_login in [false, true] {
                let wire = Wire::listen(move |_, head| match head.starts_with("POST") == at_login {
                    true => say(status, &format!("content-encoding: {coding}\r\nserver: edge/2.1\r\n"), body),
                    false => say("200 OK", "", r#"{"access_token":"a-t0ken"}"#),
                })
                .await;
                let error =
                    wire.builder().build().unwrap().agent(common::credentials()).script(&id()).await.unwrap_err();
                let (line, all) = (error.to_string(), format!("{error:?} {:?}", error.body()));
                let name = coding.trim_start_matches("identity, ");
                assert!(line.contains(&format!("in the coding {name}, which was not asked for")), "{line}");
                assert!(line.contains("edge/2.1"), "{line}");
                assert!(!all.contains('\u{FFFD}') && !line.contains("an empty answer"), "{all}");
                let why = error.bad_request().map(|why| why.certainty);
                assert!(why.is_none_or(|certainty| certainty == Certainty::Possible), "{line}");
            }
        }
    }
    // What is no such thing is read, whatever it is said to be in.
    for (coding, body) in
        [("br", "denied by policy 7"), ("utf-8", "verweigert f\u{fc}r 7"), ("identity", "\u{fffd} no")]
    {
        let wire =
            Wire::listen(move |_, _| say("403 Forbidden", &format!("content-encoding: {coding}\r\n"), body)).await;
        let agent = wire.builder().build().unwrap().agent(Credentials::access_token(TOKEN));
        let line = agent.script(&id()).await.unwrap_err().to_string();
        assert!(line.contains(body), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_services_own_is_kept_and_who_said_it_is_named() {
    let page = "<html><head><title>403 Forbidden</title></head><body>Blocked by rule 12</body></html>";
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => token(TOKEN),
        false => reply(403, page).with("server", "edge/2.1"),
    });
    let error = transport.agent().script(&id()).await.unwrap_err();
    let body = error.body().unwrap();
    assert_eq!((error.kind(), body.envelope), (ErrorKind::Forbidden, Envelope::Page));
    assert_eq!((body.text.as_deref(), body.speaker.as_deref()), (Some(page), Some("edge/2.1")));
    let line = error.to_string();
    assert!(line.contains("HTTP 403 of edge/2.1") && line.contains("Blocked by rule 12"), "{line}");
    assert!(!line.contains("the agent may not do this"), "that is the service's to say: {line}");

    let own = r#"{"message":"No.","code":"not.allowed","status":403,"contextId":"c-1"}"#;
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => token(TOKEN),
        false => reply(403, own).with("server", "edge/2.1"),
    });
    let line = transport.agent().script(&id()).await.unwrap_err().to_string();
    assert!(line.contains("HTTP 403 not.allowed") && !line.contains("edge"), "the service said it: {line}");

    let refusing = Refusing::new();
    for (body, kept) in [
        (json!({ "Message": "denied" }).to_string(), true),
        (json!({ "error": { "x": 1 } }).to_string(), true),
        ("licence expired".to_owned(), true),
        (r#"{"message":"No.","code":"not.found","status":404,"contextId":"c-1"}"#.to_owned(), false),
    ] {
        let error = refusing.with(false, 404, &body).await;
        assert_eq!(error.body().unwrap().text.as_deref(), kept.then_some(body.as_str()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_generic_code_is_told_with_its_telling_detail() {
    let refusing = Refusing::new();
    for status in STATUSES {
        let body = json!({ "message": "It cannot be done", "code": "bad.request", "status": status, "contextId": "c-1",
            "details": [{ "errorCode": "SCRIPT.PAGES.MISSING" }], "errors": [{ "code": "x.y", "message": "page 3 is empty" }] });
        let line = refusing.with(false, status, &body.to_string()).await.to_string();
        for told in ["It cannot be done", "SCRIPT.PAGES.MISSING", "page 3 is empty"] {
            assert!(line.contains(told), "{status}: {told}: {line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_is_put_down_to_the_limit_that_is_named_and_to_none_where_none_is() {
    let refusing = Refusing::new();
    let limit = json!({ "message": "Rate limit exceeded the maximum. Retry the request in [3600] seconds",
        "code": "too.many.requests.retry.after", "status": 429, "contextId": "c-1", "details": [], "errors": [],
        "limit": { "key": "org.app.user.rate.per.minute", "namespace": "platform.api", "value": 300 } });
    let line = refusing.with(false, 429, &limit.to_string()).await.to_string();
    assert!(line.contains("org.app.user.rate.per.minute") && line.contains("300"), "{line}");
    for value in [json!("300"), json!(" 300 ")] {
        let mut limit = limit.clone();
        limit["limit"]["value"] = value;
        let line = refusing.with(false, 429, &limit.to_string()).await.to_string();
        assert!(line.contains("org.app.user.rate.per.minute (300)"), "{line}");
    }
    for body in ["<html><title>Slow down</title></html>", "busy", r#"{"message":"come back"}"#] {
        let line = refusing.with(false, 429, body).await.to_string();
        assert!(!line.contains("token") && !line.contains("quota"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_something_before_the_service_answers_is_not_told_as_the_services() {
    let refusing = Refusing::new();
    let page = "<html><head><title>No</title></head></html>";
    for status in [301, 302, 400, 401, 403, 404, 405, 406, 410, 413, 414, 429, 431, 451] {
        for body in [page, "no"] {
            let line = refusing.with(false, status, body).await.to_string();
            assert!(!line.contains(": the service "), "{line}");
            assert!(status == 400 || line.contains("before the service"), "{line}");
        }
    }
    let service = json!({ "message": "No", "code": "method.not.allowed", "status": 405, "contextId": "c-1" });
    let line = refusing.with(false, 405, &service.to_string()).await.to_string();
    assert!(line.contains("the service answered with an unexpected status"), "{line}");
    for (at_login, body) in [(false, page), (true, page), (false, "{}"), (true, "")] {
        let line = refusing.with(at_login, 407, body).await.to_string();
        assert!(line.contains("a proxy on the way wants credentials"), "{line}");
    }
}

const THROTTLED: [&str; 4] = [
    r#"{"error":"invalid_request","error_description":"rate limit exceeded; try again later"}"#,
    r#"{"error":"invalid_request","error_description":"Too many login attempts"}"#,
    r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
    r#"{"message":"Rate limit exceeded the maximum","code":"too.many.requests","status":400,"contextId":"c-1"}"#,
];

#[tokio::test(start_paused = true)]
async fn a_login_that_ends_while_throttled_says_so_whoever_was_refused() {
    for (status, body) in THROTTLED.into_iter().map(|body| (400, body)).chain([(429, "{}"), (429, "busy")]) {
        let client = Scripted::by(move |_| reply(status, body)).client();
        let agents = [(), ()].map(|()| client.agent(common::credentials()).with_timeout(Duration::from_secs(5)));
        let script_id = id();
        for error in futures_util::future::join_all(agents.iter().map(|agent| agent.script(&script_id))).await {
            let error = error.unwrap_err();
            assert_eq!((error.kind(), error.is_login()), (ErrorKind::Throttled, true), "{error}");
            let why = error.bad_request().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(why.cause, Cause::LoginThrottled, "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_throttled_in_any_words_is_waited_for() {
    for body in THROTTLED {
        let refused_until = tokio::time::Instant::now() + Duration::from_millis(500);
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true if tokio::time::Instant::now() < refused_until => reply(400, body),
            true => token(TOKEN),
            false => script(),
        });
        transport.agent().script(&id()).await.unwrap();
        assert_eq!(transport.logins(), 2, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_another_would_harm_or_not_help_is_not_sent_again() {
    for (error, description) in [
        ("access_denied", "Too many failed attempts. The account is locked."),
        ("invalid_request", "Account locked due to too many failed attempts"),
        ("invalid_request", "License quota exceeded for the organization"),
        ("server_error", "Data store quota exceeded"),
        ("invalid_request", "Login limit reached: the user has 3 concurrent sessions"),
        ("invalid_request", "Login limit reached: no licenses left"),
    ] {
        let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
        let transport = Scripted::by(move |_| reply(400, &body));
        let error = transport.agent().script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), transport.logins()), (ErrorKind::LoginRefused, 1), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_has_a_cause_whatever_its_status_and_is_as_final_as_ever() {
    let unknown = r#"{"error":"invalid_client","error_description":"client not found"}"#;
    let limit = r#"{"error":"invalid_request","error_description":"rate limit exceeded; x"}"#;
    for (status, body, cause) in [
        (401, unknown, Cause::BadClient),
        (403, unknown, Cause::BadClient),
        (401, limit, Cause::LoginThrottled),
        (403, r#"{"message":"Forbidden"}"#, Cause::Unknown),
        (403, "<html><title>403 Forbidden</title></html>", Cause::Gateway),
    ] {
        let transport = Scripted::by(move |_| reply(status, body));
        let error = transport.agent().script(&id()).await.unwrap_err();
        assert_eq!(error.bad_request().map(|why| &why.cause), Some(&cause), "{error}");
        assert_eq!((error.kind(), transport.logins()), (ErrorKind::LoginRefused, 1), "{error}");
        assert!(!error.is_retryable(), "{error}");
        let is_of_login = body.contains("\"error\"");
        let line = error.to_string();
        assert_eq!(line.contains("check the credentials"), is_of_login, "{line}");
        assert_eq!(line.contains("the login says"), is_of_login, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_no_dead_session() {
    let body = r#"{"message":"Unable to perform the requested action. You are missing the following permission(s): oauth:token:view",
        "code":"missing.permissions","status":400,"contextId":"c-1"}"#;
    for body in [body, r#"{"message":"You are missing the permission conversation:session:view"}"#] {
        let error = refused_with_nothing_else(body).await;
        let why = error.bad_request().unwrap();
        assert_eq!(why.cause, Cause::Unknown, "{error}");
        assert!(why.evidence.iter().any(|evidence| evidence == "a permission is missing"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_shape_of_an_answer_is_no_cause() {
    for body in
        ["<html><head><title>400 Bad Request</title></head></html>", "Bad Request", "[]", "[\"no\"]", "\"no\"", ""]
    {
        let error = refused_with_nothing_else(body).await;
        let why = error.bad_request().unwrap();
        assert_eq!(why.cause, Cause::Gateway, "{error}");
        assert!(why.certainty < Certainty::Certain && !error.is_retryable(), "{error}");
    }
    for body in ["{}", r#"{"message":"Bad Request"}"#, r#"{"title":"Bad Request","status":400}"#] {
        let error = refused_with_nothing_else(body).await;
        assert_eq!(error.bad_request().unwrap().cause, Cause::Unknown, "{error}");
    }
}

/// A name in it may say anything, and an answer may repeat it.
#[tokio::test(start_paused = true)]
async fn what_a_call_was_made_with_is_none_of_the_answers_words() {
    let file = ScriptFile::from_slice(b"{}").unwrap();
    for name in ["Rate limit exceeded", "the session has expired", "throttled"] {
        let body =
            json!({ "message": format!("It is {name} that cannot be had"), "code": "bad.request", "status": 400 });
        let agent = Scripted::by(move |seen| match seen.is_login() {
            true => token(TOKEN),
            false => reply(400, body.to_string()),
        });
        let agent = agent.agent();
        let script_id = id();
        let named = || Some(name.to_owned());
        let path = format!("/api/v2/scripts?pageSize=25&name={}", name.replace(' ', "%20"));
        let export = ExportScript { file_name: named(), ..ExportScript::default() };
        for error in [
            agent.upload(&file, name, None).await.unwrap_err(),
            agent.scripts(ListScripts { name: named(), ..ListScripts::default() }).try_next().await.unwrap_err(),
            agent.get(&path).await.unwrap_err(),
            agent.export(&script_id, &export).await.unwrap_err(),
        ] {
            assert_eq!(error.bad_request().unwrap().cause, Cause::Unknown, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
        // Of another call it is no name.
        let cause = agent.script(&script_id).await.unwrap_err().bad_request().unwrap().cause.clone();
        assert!(matches!(cause, Cause::Quota | Cause::Session), "{name}: {cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whichever_id_is_no_uuid_is_the_one_named() {
    let words = "The request could not be understood by the server due to malformed syntax.";
    let body = json!({ "message": words, "code": "bad.request", "status": 400 }).to_string();
    let transport = Scripted::by(move |seen| if seen.is_login() { token(TOKEN) } else { reply(400, &body) });
    let agent = transport.agent();
    let (script_id, odd) = (id(), "start");
    let (page, division, other) = (odd.parse().unwrap(), odd.parse().unwrap(), odd.parse().unwrap());
    for (error, cause) in [
        (agent.script_page(&script_id, &page, &ReadScript::default()).await.unwrap_err(), Cause::InvalidId),
        (agent.published_script_page(&script_id, &page, &ReadScript::default()).await.unwrap_err(), Cause::InvalidId),
        (agent.move_to_division(&script_id, &division).await.unwrap_err(), Cause::InvalidId),
        (agent.publish(&other, &PublishScript::default()).await.unwrap_err(), Cause::InvalidId),
        (agent.publish(&script_id, &PublishScript::default()).await.unwrap_err(), Cause::Body),
        (agent.move_to_division(&script_id, &script_id.as_str().parse().unwrap()).await.unwrap_err(), Cause::Body),
    ] {
        let why = error.bad_request().unwrap();
        assert_eq!((&why.cause, why.certainty), (&cause, Certainty::Possible), "{error}");
        assert_eq!(error.to_string().contains("the id \"start\" is no UUID"), cause == Cause::InvalidId, "{error}");
    }
}

async fn refused_with_nothing_else(body: &str) -> Error {
    Scripted::replies([reply(400, body)]).agent().script(&id()).await.unwrap_err()
}
