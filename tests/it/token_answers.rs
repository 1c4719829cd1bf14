//! An answer of the login cannot be had twice: what is needed of it is a token, and whatever stands beside that may be odd.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use genesys_scripts::simulator::{OddToken, Simulator};
use genesys_scripts::{Agent, Credentials, Error, ErrorKind, OAuthClient, SecretString, Session};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::TestRunner;
use secrecy::ExposeSecret;
use tokio::time::advance;

use crate::common::herd::{World, virtually};
use crate::common::wire::{Say, Wire, say};
use crate::common::{self, Reply, Scripted, id, once, reply, script};

const ACCESS: &str = "acc3ss-0001";
const REFRESH: &str = "r3fresh-0001";

fn oauth_client() -> OAuthClient {
    OAuthClient::new("client-id", common::SECRET)
}

/// Every grant that the token endpoint is asked for.
fn grants() -> Vec<Credentials> {
    let code = |client, verifier: Option<&str>| Credentials::AuthorizationCode {
        client,
        code: "the-code".into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: verifier.map(Into::into),
    };
    vec![
        Credentials::Client(oauth_client()),
        code(oauth_client(), None),
        code(OAuthClient::public("client-id"), Some("the-verifier-of-43-characters-or-more-it-is")),
        Credentials::Saml2Bearer { client: oauth_client(), org_name: "acme".into(), assertion: "PHNhbWw+".into() },
        Credentials::refresh_token(oauth_client(), "r3fresh-0000"),
    ]
}

/// What `on_session` was told.
type Told = Arc<Mutex<Vec<Session>>>;

fn listening(agent: Agent) -> (Agent, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let agent = agent.on_session(move |session| {
        tell.lock().unwrap().push(session);
        std::future::ready(())
    });
    (agent, told)
}

/// The tokens of a session, as far as they are these.
fn texts(session: &Session) -> (Option<&'static str>, Option<&'static str>) {
    let known = |secret: &SecretString| {
        let known = [ACCESS, REFRESH, "r3fresh-0000"].into_iter().find(|known| *known == secret.expose_secret());
        known.unwrap_or("another")
    };
    (session.access_token.as_ref().map(known), session.refresh_token.as_ref().map(known))
}

/// The login answers with this, the API with a script for whoever has the token.
fn service(login: impl Fn() -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::by(move |seen| match seen.header("authorization") {
        _ if seen.is_login() => login(),
        "Bearer acc3ss-0001" => script(),
        _ => reply(401, "{}"),
    })
}

#[tokio::test(start_paused = true)]
async fn whatever_stands_beside_a_token_costs_no_session_in_any_grant() {
    let tokens = format!(r#""access_token":"{ACCESS}","refresh_token":"{REFRESH}""#);
    let beside = [
        "",
        r#","token_type":null"#,
        r#","token_type":17"#,
        r#","token_type":"MAC""#,
        r#","token_type":["bearer"]"#,
        r#","expires_in":"3600""#,
        r#","expires_in":"soon""#,
        r#","expires_in":-1"#,
        r#","expires_in":null"#,
        r#","expires_in":{"seconds":3600}"#,
        r#","expires_in":1e400"#,
        r#","expires_in":"NaN""#,
        r#","expires_in":true"#,
        r#","expires_in":99999999999999999999999999"#,
        r#","scope":["a","b"]"#,
        r#","scope":null"#,
        r#","scope":7"#,
        r#","error":null"#,
        r#","error":"none","error_description":"ok""#,
        r#","access_token":null"#,
        r#","access_token":"","refresh_token":"""#,
        r#","refresh_token":[]"#,
        r#","half":"\ud800""#,
        r#","cut":"#,
        r#","deep":[[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]"#,
    ];
    let mut answers: Vec<String> = beside.iter().map(|beside| format!("{{{tokens}{beside}}}")).collect();
    let whole = format!("{{{tokens}}}");
    answers.extend([
        format!("\u{FEFF}{whole}"),
        format!("\r\n\t {whole}\r\n\0"),
        format!("{whole} trailing"),
        format!("{whole}{whole}"),
        whole.trim_end_matches('}').to_owned(),
        whole.replace(ACCESS, " acc3ss-0001\\n").replace(REFRESH, "\\tr3fresh-0001 "),
    ]);
    let answer = Arc::new(Mutex::new(String::new()));
    let given = Arc::clone(&answer);
    let transport = service(move || reply(200, given.lock().unwrap().clone()));
    let client = transport.client();
    for body in answers {
        answer.lock().unwrap().clone_from(&body);
        for credentials in grants() {
            let what = format!("{credentials:?}: {body}");
            let before = transport.logins();
            let (agent, told) = listening(client.agent(credentials));
            agent.script(&id()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            agent.script(&id()).await.unwrap();
            assert_eq!(transport.logins(), before + 1, "{what}");
            let told = told.lock().unwrap();
            assert_eq!(told.iter().map(texts).collect::<Vec<_>>(), [(Some(ACCESS), Some(REFRESH))], "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_one_whatever_the_success_and_its_headers() {
    let body = format!(r#"{{"access_token":"{ACCESS}","refresh_token":"{REFRESH}"}}"#);
    for status in [200, 201, 202, 203] {
        for (name, value) in [
            ("content-type", "text/html; charset=utf-16"),
            ("content-type", ""),
            ("content-encoding", "br"),
            ("content-encoding", "utf-8"),
            ("content-encoding", "gzip"),
            ("content-encoding", "aws-chunked, GZIP"),
        ] {
            let body = body.clone();
            let transport = service(move || reply(status, body.clone()).with(name, value));
            let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r3fresh-0000"));
            agent.script(&id()).await.unwrap_or_else(|error| panic!("{status} {name}: {value}: {error}"));
            assert_eq!(texts(&agent.session().unwrap()), (Some(ACCESS), Some(REFRESH)));
        }
    }
}

/// Whatever a user would mean by it, the service has issued it.
#[tokio::test(start_paused = true)]
async fn a_token_is_one_whatever_it_spells() {
    for token in ["null", "None", "undefined", "<token>", "%TOKEN%"] {
        let body = format!(r#"{{"access_token":"{token}","refresh_token":"{REFRESH}"}}"#);
        let transport = Scripted::by(move |_| reply(200, body.clone()));
        let agent = transport.client().agent(common::credentials());
        agent.log_in().await.unwrap();
        assert_eq!(agent.session().unwrap().access_token.unwrap().expose_secret(), token);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_is_read_like_any_number_or_is_not_known() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    for (expires_in, lifetime) in [
        ("3600", Some(3600)),
        (r#""3600""#, Some(3600)),
        ("3600.0", Some(3600)),
        (r#"" 3600 ""#, Some(3600)),
        (r#""3600.5""#, Some(3600)),
        ("3.6e3", Some(3600)),
        ("0", None),
        ("0.001", None),
        ("-3600", None),
        ("null", None),
        (r#""""#, None),
        (r#""1h""#, None),
        ("[]", None),
        ("1e400", None),
        (r#""inf""#, None),
        (r#"null,"expires_in":3600"#, Some(3600)),
    ] {
        let body = format!(r#"{{"access_token":"{ACCESS}","expires_in":{expires_in}}}"#);
        let transport = service(move || reply(200, body.clone()));
        let client = transport.builder().wall_clock(move || at).build().unwrap();
        let agent = client.agent(common::credentials());
        agent.script(&id()).await.unwrap();
        let expires = agent.session().unwrap().expires_at;
        assert_eq!(
            expires.map(|expires| expires.duration_since(at).unwrap().as_secs_f64().round() as u64 / 10),
            lifetime.map(|s| s / 10),
            "{expires_in}"
        );
        advance(Duration::from_secs(3601)).await;
        agent.script(&id()).await.unwrap();
        assert_eq!(transport.logins(), if lifetime.is_some() { 2 } else { 1 }, "{expires_in}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_outlives_an_access_token_that_is_no_good() {
    for bad in [r#""""#, r#""  ""#, "null", "17", r#"["x"]"#, r#"{"x":1}"#, r#""two\nlines""#, r#""zwölf""#, r#""a b""#]
    {
        for credentials in grants() {
            let what = format!("{credentials:?}: {bad}");
            let answers = Mutex::new(vec![
                format!(r#"{{"access_token":"{ACCESS}"}}"#),
                format!(r#"{{"access_token":{bad},"refresh_token":"{REFRESH}"}}"#),
            ]);
            let transport = service(move || reply(200, answers.lock().unwrap().pop().unwrap()));
            let (agent, told) = listening(transport.client().agent(credentials));
            let error = agent.script(&id()).await.unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{what}: {error}");
            assert!(error.to_string().contains("`access_token`") && !error.to_string().contains(REFRESH), "{error}");
            assert_eq!(told.lock().unwrap().iter().map(texts).collect::<Vec<_>>(), [(None, Some(REFRESH))], "{what}");
            agent.script(&id()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            let last = transport.seen().into_iter().rfind(common::Seen::is_login).unwrap();
            assert!(String::from_utf8(last.body).unwrap().contains(REFRESH), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_that_is_not_replaced_stays() {
    for beside in
        ["", r#","refresh_token":"""#, r#","refresh_token":null"#, r#","refresh_token":7"#, r#","refresh_token":" ""#]
    {
        let body = format!(r#"{{"access_token":"{ACCESS}","expires_in":60{beside}}}"#);
        let transport = service(move || reply(200, body.clone()));
        let (agent, told) =
            listening(transport.client().agent(Credentials::refresh_token(oauth_client(), "r3fresh-0000")));
        for _ in 0..2 {
            agent.script(&id()).await.unwrap();
            advance(Duration::from_secs(61)).await;
        }
        let told = told.lock().unwrap();
        assert!(told.iter().all(|session| texts(session) == (Some(ACCESS), Some("r3fresh-0000"))), "{beside}");
        assert_eq!(told.len(), 2);
    }
}

async fn refused(answer: Reply) -> Error {
    let answer = Mutex::new(Some(answer));
    let transport = Scripted::by(move |_| answer.lock().unwrap().take().expect("one login"));
    transport.builder().retry(once()).build().unwrap().agent(common::credentials()).script(&id()).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn without_a_token_the_error_says_what_came_instead() {
    let secret = format!("issued-{ACCESS}");
    for (body, said) in [
        (String::new(), vec!["is empty"]),
        ("null".into(), vec!["is null"]),
        (format!("[\"{secret}\"]"), vec!["JSON array"]),
        (format!("\"{secret}\""), vec!["a JSON string"]),
        ("{}".into(), vec!["JSON object"]),
        (format!("access_token={secret}&expires_in=3600"), vec!["is no JSON"]),
        (
            format!("<!doctype html><HTML><TITLE lang=en>\n Sign in </TITLE><p>{secret}"),
            vec!["HTML page", "\"Sign in\""],
        ),
        (format!("<html>{secret}"), vec!["HTML"]),
        (
            format!(r#"{{"accessToken":"{secret}","tokenType":"bearer"}}"#),
            vec!["no `access_token`", "`accessToken`", "`tokenType`"],
        ),
        (format!(r#"{{"access_token":["{secret}"],"x":"{secret}"}}"#), vec!["`access_token` is an array", "`x`"]),
        (format!(r#"{{"access_token":{{"{secret}":1}}}}"#), vec!["`access_token` is an object"]),
        (r#"{"access_token":false}"#.into(), vec!["`access_token` is a boolean"]),
        (
            format!(r#"{{"access_token":"{secret}\n2","message":"{secret}\n2"}}"#),
            vec!["has a line end in it", "`message`"],
        ),
        (
            format!(r#"{{"error":"invalid_client","error_description":"client not found","id_token":"{secret}"}}"#),
            vec!["`error`", "invalid_client", "client not found"],
        ),
        (
            format!(r#"{{"error":"invalid_client","authorization":"Bearer {secret}"}}"#),
            vec!["`error`", "invalid_client", "`authorization`"],
        ),
        (format!(r#"{{"{}":1}}"#, common::SECRET), vec!["[REDACTED]"]),
        (
            format!("{{{}}}", (0..200).map(|n| format!("\"k{n}\u{202E}\":0")).collect::<Vec<_>>().join(",")),
            vec!["`k7", "no `access_token`"],
        ),
    ] {
        let error = refused(reply(200, body.clone()).with("inin-correlation-id", "c-0a1b")).await;
        let text = error.to_string();
        assert_eq!(
            (error.kind(), error.status(), error.correlation_id()),
            (ErrorKind::UnexpectedAnswer, Some(200), Some("c-0a1b")),
            "{body}"
        );
        assert!(
            error.is_login() && text.contains("access") && said.iter().all(|said| text.contains(said)),
            "{body}: {text}"
        );
        let all = format!("{text} {error:?} {:?} {:?}", error.body(), std::error::Error::source(&error));
        assert!(
            !all.contains(ACCESS) && !all.contains(common::SECRET) && !all.contains("k8") && text.len() < 1_000,
            "{all}"
        );
    }
}

#[tokio::test]
async fn a_token_in_utf_16_is_a_token() {
    let json = format!(r#"{{"access_token":"{ACCESS}","refresh_token":"r-1"}}"#);
    let wide = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
        [mark, &json.encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat()
    };
    for body in [
        wide(&[0xff, 0xfe], u16::to_le_bytes),
        wide(&[], u16::to_le_bytes),
        wide(&[0xfe, 0xff], u16::to_be_bytes),
        wide(&[], u16::to_be_bytes),
    ] {
        let wire = Wire::listen(move |_, _| say("200 OK", "", &body)).await;
        let agent = wire.builder().build().unwrap().agent(common::credentials());
        agent.log_in().await.unwrap();
        let session = agent.session().unwrap();
        assert_eq!(session.access_token.unwrap().expose_secret(), ACCESS);
        assert_eq!(session.refresh_token.unwrap().expose_secret(), "r-1");
    }
}

#[tokio::test]
async fn a_token_in_an_answer_that_is_no_json_is_in_nothing_that_is_printed() {
    let (access, refresh) = ("tok-1", "r-1");
    let json = format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}"}}"#);
    for body in [
        format!("access_token={access}&refresh_token={refresh}").into_bytes(),
        format!("refresh_token: {refresh}\naccess_token: {access}\n").into_bytes(),
        format!("<token><access_token>{access}</access_token><refresh_token>{refresh}</refresh_token></token>")
            .into_bytes(),
        format!("callback({json})").into_bytes(),
        format!("[{json}]").into_bytes(),
        format!("\"{access} {refresh}\"").into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let wire = Wire::listen(move |_, _| say("200 OK", "", &body)).await;
        let error = wire.builder().build().unwrap().agent(common::credentials()).script(&id()).await.unwrap_err();
        let all = format!("{error} {error:?} {:?}", error.body()).replace("\\u{0}", "").replace('\0', "");
        assert_eq!((error.kind(), wire.heads().len()), (ErrorKind::UnexpectedAnswer, 1), "{error}");
        assert!(!all.contains(access) && !all.contains(refresh), "{shown}: {all}");
    }
}

/// `{"access_token":"acc3ss-0001","refresh_token":"r3fresh-0001"}`
#[rustfmt::skip]
const ZIPPED: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 76, 78, 78, 45, 46, 142, 47, 201, 207, 78, 205,
    83, 178, 2, 113, 141, 139, 139, 117, 13, 12, 12, 12, 149, 116, 148, 138, 82, 211, 138, 82, 139, 51, 224, 178,
    69, 198, 96, 62, 68, 186, 22, 0, 112, 156, 36, 53, 61, 0, 0, 0,
];

#[tokio::test]
async fn a_token_in_gzip_is_read_however_that_is_spelled_and_however_little_it_is_whole() {
    let mut wrong_sum = ZIPPED.to_vec();
    let sum = wrong_sum.len() - 8;
    wrong_sum[sum] ^= 0xff;
    for coding in ["gzip", "GZIP", "x-gzip", "X-GZip", "identity, gzip", "gzip, identity", "", "br"] {
        for body in [ZIPPED.to_vec(), wrong_sum.clone(), [ZIPPED, b"\r\n"].concat()] {
            let wire = Wire::listen(move |_, head| match head.starts_with("POST") {
                true => say("200 OK", &format!("content-encoding: {coding}\r\n"), &body),
                false => say("200 OK", "", format!(r#"{{"id":"{}"}}"#, common::ID)),
            })
            .await;
            let agent =
                wire.builder().build().unwrap().agent(Credentials::refresh_token(oauth_client(), "r3fresh-0000"));
            agent.script(&id()).await.unwrap_or_else(|error| panic!("{coding}: {error}"));
            assert_eq!(texts(&agent.session().unwrap()), (Some(ACCESS), Some(REFRESH)));
        }
    }
    for coding in ["br", "zstd", "deflate", "aws-chunked"] {
        let wire = Wire::listen(move |_, _| {
            say("200 OK", &format!("content-encoding: {coding}\r\n"), [0x8b, 0x0e, 0xff, 0x80])
        })
        .await;
        let error = wire.builder().build().unwrap().agent(common::credentials()).script(&id()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("Content-Encoding is \"{coding}\"")), "{error}");
        assert_eq!((error.kind(), wire.heads().len()), (ErrorKind::UnexpectedAnswer, 1));
    }
    let cut = Wire::listen(|nth, head| match (nth, head.starts_with("POST")) {
        (0, _) => Say::Bytes([b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n", &ZIPPED[..40]].concat()),
        (_, true) => say("200 OK", "content-encoding: gzip\r\n", ZIPPED),
        _ => say("200 OK", "", format!(r#"{{"id":"{}"}}"#, common::ID)),
    })
    .await;
    let agent = cut.builder().build().unwrap().agent(common::credentials());
    agent.script(&id()).await.unwrap();
    assert_eq!(cut.heads().len(), 3, "what broke off is asked for again");
}

/// The login says this, once; the API a script.
async fn refreshed_by(login: impl Fn() -> Say + Send + Sync + 'static) -> (Wire, Result<Agent, Error>) {
    let wire = Wire::listen(move |nth, head| match (head.starts_with("POST"), nth) {
        (true, 0) => login(),
        (true, _) => say("400 Bad Request", "", r#"{"error":"invalid_grant"}"#),
        (false, _) => say("200 OK", "", format!(r#"{{"id":"{}"}}"#, common::ID)),
    })
    .await;
    let builder = wire.builder().attempt_timeout(Duration::from_millis(500)).max_body_bytes(64 * 1024);
    let agent = builder.build().unwrap().agent(Credentials::refresh_token(oauth_client(), "r3fresh-0000"));
    let read = agent.script(&id()).await.map(|_| agent);
    (wire, read)
}

#[tokio::test]
async fn tokens_that_came_whole_are_taken_however_the_answer_ends() {
    let json = format!(r#"{{"access_token":"{ACCESS}","refresh_token":"{REFRESH}"}}"#);
    let head = "HTTP/1.1 200 OK\r\n";
    let long = [format!("{head}content-length: 500\r\n\r\n{json}\n").into_bytes()];
    let zipped = [format!("{head}content-encoding: gzip\r\ncontent-length: 500\r\n\r\n").as_bytes(), ZIPPED].concat();
    let without_its_sum = zipped[..zipped.len() - 8].to_vec();
    let chunk = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{json}\r\n", json.len()).into_bytes();
    for bytes in long.into_iter().chain([zipped, without_its_sum, chunk]) {
        let ends: [fn(Vec<u8>) -> Say; 4] =
            [Say::Bytes, Say::Reset, Say::Only, |bytes| Say::Endlessly(bytes, b"1\r\n \r\n".to_vec())];
        for end in ends {
            let said = bytes.clone();
            let (wire, read) = refreshed_by(move || end(said.clone())).await;
            let what = String::from_utf8_lossy(&bytes);
            let agent = read.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(texts(&agent.session().unwrap()), (Some(ACCESS), Some(REFRESH)), "{what}");
            assert_eq!(wire.heads().len(), 2, "{what}");
        }
    }
}

#[tokio::test]
async fn of_an_answer_that_broke_off_no_half_of_a_token_is_taken() {
    let json = format!(r#"{{"access_token":"{ACCESS}","refresh_token":"{REFRESH}"}}"#);
    for part in [&json[..20], &json[..json.len() - 2], r#"{"access_token":"","refresh_token":null}"#, "[]", "{}"] {
        let said = format!("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{part}").into_bytes();
        let (wire, read) = refreshed_by(move || Say::Bytes(said.clone())).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::LoginRefused, "{part}");
        assert_eq!(wire.heads().len(), 2, "{part}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulator_answers_logins_oddly_when_told_to() {
    let world = World::new(Simulator::builder(), 1);
    let script = world.scripts().swap_remove(0);
    let simulator_client = || OAuthClient::new("desk", "simulator");
    for &odd in OddToken::ALL {
        world.simulator.set_odd_token(None);
        let code = world.simulator.authorization_code("desk", "http://localhost/back", None);
        let (agent, told) = listening(world.client.agent(Credentials::AuthorizationCode {
            client: simulator_client(),
            code: code.into(),
            redirect_uri: "http://localhost/back".into(),
            verifier: None,
        }));
        agent.log_in().await.unwrap();
        let first = agent.session().unwrap().refresh_token.unwrap();
        world.simulator.set_odd_token(Some(odd));
        let issued = world.simulator.stats().tokens_issued;
        world.simulator.expire_tokens();
        let without = matches!(odd, OddToken::BlankToken | OddToken::NoToken);
        let fetched = agent.script(&script).await;
        assert_eq!(fetched.is_err(), without, "{odd:?}: {fetched:?}");
        // Rotated, and kept whatever the answer: the next refresh is granted too.
        let second = agent.session().unwrap().refresh_token.unwrap();
        assert_ne!(first.expose_secret(), second.expose_secret(), "{odd:?}");
        assert_eq!(told.lock().unwrap().len(), 2, "{odd:?}");
        world.simulator.set_odd_token(None);
        // A token that replaced a refused one is not doubted sooner.
        advance(Duration::from_secs(61)).await;
        world.simulator.expire_tokens();
        agent.script(&script).await.unwrap_or_else(|error| panic!("{odd:?}: {error}"));
        assert_eq!(world.simulator.stats().tokens_issued, issued + 2, "{odd:?}");
    }
}

/// A JSON value of any kind, as text.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("a number", |n| n.is_finite()).prop_map(|n| n.to_string()),
        Just("1e999".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\udfff""#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                let members =
                    members.iter().map(|(name, value)| format!("{}:{value}", serde_json::to_string(name).unwrap()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// An object with the tokens that are asked for, anything beside them in any order, twice perhaps, and anything around it.
fn any_answer() -> impl Strategy<Value = (bool, bool, String, Credentials)> {
    let name = select(vec![
        "expires_in",
        "token_type",
        "scope",
        "error",
        "id_token",
        "é",
        "",
        "access_token",
        "refresh_token",
        "message",
    ]);
    // What is no text is no token, of whatever name.
    let beside = proptest::collection::vec((name, any_value()), 0..6).prop_map(|members| {
        let odd = |(name, value): &(&str, String)| {
            !(name.ends_with("s_token") || *name == "refresh_token") || !value.starts_with('"')
        };
        members.into_iter().filter(odd).map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>()
    });
    let tokens = subsequence(vec!["access", "refresh"], 0..=2);
    let around = (
        select(vec!["", "\u{FEFF}", " \r\n", "\u{FEFF}\n"]),
        select(vec!["", "\n", "}", " trailing", "\0", "{\"access_token\":\"x\"}"]),
    );
    (tokens, beside, around).prop_flat_map(|(tokens, mut members, (before, after))| {
        let (access, refresh) = (tokens.contains(&"access"), tokens.contains(&"refresh"));
        members.extend(access.then(|| format!(r#""access_token":"{ACCESS}""#)));
        members.extend(refresh.then(|| format!(r#""refresh_token":"{REFRESH}""#)));
        let grant = select(vec![common::credentials(), Credentials::refresh_token(oauth_client(), "r3fresh-0000")]);
        (
            Just(access),
            Just(refresh),
            Just(members).prop_shuffle().prop_map(move |members| format!("{before}{{{}}}{after}", members.join(","))),
            grant,
        )
    })
}

#[test]
fn any_answer_with_an_access_token_is_taken_and_its_refresh_token_kept() {
    let answer = Arc::new(Mutex::new(String::new()));
    let given = Arc::clone(&answer);
    let transport = service(move || reply(200, given.lock().unwrap().clone()));
    let client = transport.client();
    let check = |(access, refresh, body, credentials): (bool, bool, String, Credentials)| {
        let before = transport.logins();
        let had = matches!(credentials, Credentials::Session { .. }).then_some("r3fresh-0000");
        let kept = refresh.then_some(REFRESH).or(had);
        answer.lock().unwrap().clone_from(&body);
        virtually(async {
            let (agent, told) = listening(client.agent(credentials));
            let logged_in = agent.log_in().await;
            assert_eq!(agent.session().and_then(|session| texts(&session).1), kept, "{body}");
            let told: Vec<_> = told.lock().unwrap().iter().map(texts).collect();
            match logged_in {
                Ok(()) => {
                    assert!(access, "{body}");
                    assert_eq!(told, [(Some(ACCESS), kept)], "{body}");
                    agent.script(&id()).await.unwrap();
                }
                Err(error) => {
                    assert!(!access, "{body}: {error}");
                    let status = (error.kind(), error.status());
                    assert_eq!(status, (ErrorKind::UnexpectedAnswer, Some(200)), "{body}: {error}");
                    assert!(error.to_string().contains("access"), "{body}: {error}");
                    assert_eq!(told, Vec::from_iter(refresh.then_some((None, kept))), "{body}");
                }
            }
            assert_eq!(transport.logins(), before + 1, "{body}");
        });
        Ok(())
    };
    let cases = if cfg!(debug_assertions) { 500 } else { 20_000 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&any_answer(), check).unwrap();
}
