//! Secrets are in nothing that is printed: no `Debug`, no `Display`, no error, no URL, no trace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod common;

use std::fmt::{Debug, Display};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use common::wire::{Say, Wire, say};
use common::{Reply, SECRET, Scripted, id, once, reply, script};
use genesys_scripts::{
    Agent, Authorization, CallMeta, Client, Credentials, Error, ExposeSecret as _, Lease, MemoryStore, OAuthClient,
    RedisStore, Region, RetryPolicy, ScriptId, Session, SharedSessions, SignedUrl, StoredSession,
};
use tracing_subscriber::fmt::format::FmtSpan;

const TOKEN: &str = "t0ken-that-nobody-may-see";
/// `client-id:hunter2-the-secret`, as `Authorization: Basic` carries it.
const BASIC: &str = "Y2xpZW50LWlkOmh1bnRlcjItdGhlLXNlY3JldA";
const PROXY_PASSWORD: &str = "pr0xy-password";

fn assert_clean(what: &str, text: &str) {
    for secret in [SECRET, TOKEN, BASIC, PROXY_PASSWORD] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{what} shows {secret}");
    }
}

fn assert_error_clean(what: &str, error: &Error) {
    assert_clean(what, &format!("{error}\n{error:?}\n{error:#?}"));
    assert_clean(what, &format!("{:?} {:?}", error.code(), error.message()));
    assert_clean(what, &format!("{:?} {:?}", error.body(), error.correlation_id()));
    if let Some(why) = error.bad_request() {
        assert_clean(what, &format!("{why} {why:?}"));
    }
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        assert_clean(what, &format!("{source}\n{source:?}"));
        cause = source.source();
    }
}

fn token() -> Reply {
    common::token(TOKEN)
}

/// All the ways in which a service could echo what it was sent.
fn echoes(sent: &str) -> Vec<String> {
    vec![
        serde_json::json!({ "message": sent, "code": sent, "status": sent, "contextId": sent, "messageParams": { sent: sent },
            "details": [{ "errorCode": sent, "fieldName": sent }], "errors": [{ "message": sent }] })
        .to_string(),
        serde_json::json!({ "error": sent, "description": sent, "error_description": sent, "error_uri": sent }).to_string(),
        serde_json::json!({ "error": "invalid_request", "error_description": format!("rate limit exceeded; {sent}") }).to_string(),
        serde_json::json!({ "code": "bad_request", "message": format!("Invalid script definition {sent}") }).to_string(),
        serde_json::json!({ "id": [sent], sent: sent }).to_string(),
        serde_json::to_string(sent).unwrap(),
        format!("<html>{sent}</html>"),
        format!("{}{sent}", " ".repeat(4096 - 20)),
        format!("{{\"message\":\"{}{sent}", " ".repeat(4096 - 30)),
        sent.to_owned(),
    ]
}

/// What the API is sent, and what the login is.
fn told_the_api() -> String {
    format!("Bearer {TOKEN}; {TOKEN}")
}

fn told_the_login() -> String {
    format!("Basic {BASIC}=; {BASIC}; {SECRET}")
}

const STATUSES: [u16; 16] = [200, 201, 204, 302, 400, 401, 403, 404, 408, 409, 413, 415, 418, 429, 500, 503];

/// A client that tries once.
fn client_of(transport: &Scripted) -> Client {
    transport.builder().retry(once()).build().unwrap()
}

fn echoing(status: u16, body: &str, sent: &str) -> Reply {
    reply(status, body)
        .with("inin-correlation-id", sent)
        .with("location", format!("https://example.com/?token={sent}"))
        .with("retry-after", "3600")
}

/// Every status with every echo.
fn each_echo(sent: &str) -> impl Iterator<Item = (u16, String)> {
    STATUSES.into_iter().flat_map({
        let echoes = echoes(sent);
        move |status| echoes.clone().into_iter().map(move |body| (status, body))
    })
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_api_that_echoes_credentials_is_not_repeated() {
    let current = Arc::new(Mutex::new((0, String::new())));
    let answer = Arc::clone(&current);
    let transport = Scripted::by(move |seen| {
        let (status, body) = &*answer.lock().unwrap();
        if seen.is_login() { token() } else { echoing(*status, body, &told_the_api()) }
    });
    let client = client_of(&transport);
    for (status, body) in each_echo(&told_the_api()) {
        *current.lock().unwrap() = (status, body.clone());
        for credentials in [common::credentials(), Credentials::access_token(TOKEN)] {
            let error = client.agent(credentials).script(&id()).await.unwrap_err();
            assert_error_clean(&format!("HTTP {status} {body}"), &error);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_login_that_echoes_credentials_is_not_repeated() {
    let current = Arc::new(Mutex::new((0, String::new())));
    let answer = Arc::clone(&current);
    let transport = Scripted::by(move |_| {
        let (status, body) = &*answer.lock().unwrap();
        echoing(*status, body, &told_the_login())
    });
    let client = client_of(&transport);
    for (status, body) in each_echo(&told_the_login()) {
        *current.lock().unwrap() = (status, body.clone());
        let agent = client.agent(common::credentials()).with_timeout(Duration::from_secs(1));
        let error = agent.script(&id()).await.unwrap_err();
        assert_error_clean(&format!("login, HTTP {status} {body}"), &error);
    }
}

/// All that can be logged in with besides a client's secret alone, each secret of it being one of those looked for.
fn grants() -> Vec<Credentials> {
    let client = || OAuthClient::new("client-id", SECRET);
    let mut session = Session::from_refresh_token(TOKEN);
    session.access_token = Some(SECRET.into());
    session.expires_at = Some(SystemTime::UNIX_EPOCH);
    vec![
        Credentials::AuthorizationCode {
            client: client(),
            code: TOKEN.into(),
            redirect_uri: "https://desk.example/back".into(),
            verifier: Some(format!("{TOKEN}-verifier").into()),
        },
        Credentials::Saml2Bearer { client: client(), org_name: "org".into(), assertion: TOKEN.into() },
        Credentials::Session { client: client(), session },
        Credentials::refresh_token(client(), TOKEN),
        Credentials::source(|| async { Err(format!("the vault says {TOKEN}").into()) }),
    ]
}

#[tokio::test(start_paused = true)]
async fn no_grant_is_repeated_when_it_is_echoed() {
    let current = Arc::new(Mutex::new((0, String::new())));
    let answer = Arc::clone(&current);
    let sent = format!("{}; {TOKEN}-verifier; {TOKEN}", told_the_login());
    let echoed = sent.clone();
    let transport = Scripted::by(move |_| {
        let (status, body) = &*answer.lock().unwrap();
        echoing(*status, body, &echoed)
    });
    let client = client_of(&transport);
    for (status, body) in each_echo(&sent) {
        *current.lock().unwrap() = (status, body);
        for credentials in grants() {
            let what = format!("{credentials:?}, HTTP {status}");
            assert_clean("Credentials", &what);
            let own_source = matches!(credentials, Credentials::Source(_));
            let agent = client.agent(credentials).with_timeout(Duration::from_secs(1));
            assert_clean("Agent", &format!("{agent:?}"));
            let error = agent.script(&id()).await.unwrap_err();
            assert_clean(&what, &error.to_string());
            // The words of a user's own token source are the user's; they are kept as the error's source.
            if !own_source {
                assert_error_clean(&what, &error);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_signed_url_is_not_repeated() {
    let url = SignedUrl::new(format!("{}/file.script?X-Amz-Signature={TOKEN}", common::HERE));
    assert_clean("SignedUrl", &format!("{url:?}"));
    for answer in [
        || reply(403, format!("<Error>{TOKEN}</Error>")),
        || reply(200, format!("<html>{TOKEN}</html>")),
        || reply(200, format!("{{\"id\": \"{TOKEN}")),
        || reply(302, "").with("location", format!("https://example.com/?{TOKEN}")),
        || Reply::Broken(io::ErrorKind::ConnectionReset),
    ] {
        let transport = Scripted::by(move |seen| if seen.is_login() { common::token("another") } else { answer() });
        let agent = client_of(&transport).agent(common::credentials());
        let error = agent.download_export(&url).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("X-Amz-Signature"), "{text}");
    }
}

/// One of each character that some spelling has an escape for.
const ODD: &str = "0dd+t0ken/that=nobody&may\"see<or>%41spell";

/// As a URL, a form, a page or a header would have it, and one inside the other.
fn spellings(secret: &str) -> Vec<String> {
    let percent = |text: &str| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        let each =
            text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        each.collect::<String>()
    };
    let page = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let each = |escape: &dyn Fn(u32) -> String| secret.chars().map(|c| escape(c.into())).collect::<String>();
    vec![
        secret.to_owned(),
        percent(secret),
        percent(secret).to_lowercase(),
        percent(&percent(secret)),
        each(&|c| format!("%{c:02x}")),
        page(secret),
        page(&percent(secret)),
        percent(&page(secret)),
        each(&|c| format!("&#{c};")),
        each(&|c| format!("&#x{c:X};")),
        BASE64_STANDARD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(format!("id:{secret}")),
        percent(&BASE64_STANDARD.encode(format!("x{secret}"))),
    ]
}

/// A text as the inside of a string of JSON, in each way JSON has.
fn in_json(text: &str) -> Vec<String> {
    let plain = serde_json::to_string(text).unwrap();
    let plain = plain[1..plain.len() - 1].to_owned();
    let each = |escape: &dyn Fn(u32) -> String| text.chars().map(|c| escape(c.into())).collect::<String>();
    let again = serde_json::to_string(&plain).unwrap();
    vec![
        plain.replace('/', "\\/"),
        plain.replace('+', "\\u002B").replace('=', "\\u003d").replace('/', "\\u002F").replace('&', "\\u0026"),
        each(&|c| format!("\\u{c:04x}")),
        each(&|c| format!("\\u{c:04X}")),
        again[1..again.len() - 1].to_owned(),
        plain,
    ]
}

/// Where in an answer it may stand.
fn places(spelled: &str) -> Vec<String> {
    let mut places = vec![
        spelled.to_owned(),
        format!("<html><head><title>No {spelled}</title></head><body>{spelled}</body></html>"),
        format!("<?xml version='1.0'?><Error><StringToSign>{spelled}</StringToSign></Error>"),
    ];
    // Cut where a string that is kept ends, where a text does, and where reading does.
    let read = (spelled == ODD).then_some((64 * 1024, 2));
    for (kept, before) in [(1024, 3), (4096, 3), (4096, 2), (4096, 1)].into_iter().chain(read) {
        places.push(format!("{}{spelled}", " x".repeat((kept - spelled.len() / before) / 2)));
    }
    for json in in_json(spelled) {
        places.push(format!(
            r#"{{"message":"it was {json}!","code":"{json}","status":400,"contextId":"{json}","entityId":"{json}","messageParams":{{"{json}":"{json}"}},"details":[{{"errorCode":"{json}","fieldName":"{json}"}}],"errors":[{{"message":"{json}"}}]}}"#
        ));
        places.push(format!(r#"{{"error":"{json}","description":"{json}","error_description":"{json}"}}"#));
        places.push(format!(r#"{{"error":"invalid_request","{json}":0,"message":"{}{json}"}}"#, "y".repeat(1020)));
        places.push(format!(r#"{{"id":["{json}"],"message":{{"{json}":1}}"#));
        places.push(format!(r#""{json}""#));
        places.push(format!(r#"["{json}"]"#));
    }
    places
}

/// All that an error says, to whomever.
fn all_of(error: &Error) -> String {
    let mut all =
        format!("{error}\n{error:?}\n{:?}\n{:?}\n{:?}", error.body(), error.correlation_id(), error.bad_request());
    all.extend(error.body().and_then(|body| body.text.clone()));
    all.extend(error.message().map(str::to_owned));
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        all.push_str(&format!("\n{source}\n{source:?}"));
        cause = source.source();
    }
    all
}

/// No stretch of it that would be of use is in the text, as it was spelled or as it is.
fn assert_no_stretch(what: &str, text: &str, spelled: &str) {
    for written in [ODD, spelled] {
        let letters: Vec<char> = written.chars().collect();
        for stretch in letters.windows(letters.len().min(12)).step_by(3) {
            let stretch: String = stretch.iter().collect();
            for text in [text, &text.replace("\\\\", "\\").replace("\\\"", "\"")] {
                assert!(!text.contains(&stretch), "{what}: {stretch} of {spelled} is in {text}");
            }
        }
    }
}

/// Each spelling in each place of each answer: of the API to a token, of the login to every grant, and of a signed URL's
/// host.
#[tokio::test(start_paused = true)]
async fn no_secret_is_repeated_in_any_spelling_from_any_place() {
    let current = Arc::new(Mutex::new((0, String::new(), String::new())));
    let answer = Arc::clone(&current);
    let transport = Scripted::by(move |_| {
        let (status, body, spelled) = &*answer.lock().unwrap();
        let reply = reply(*status, body).with("content-encoding", "x").with("retry-after", "3600");
        match spelled.parse::<http::HeaderValue>() {
            Ok(_) => reply.with("inin-correlation-id", spelled).with("content-encoding", spelled),
            Err(_) => reply,
        }
    });
    let client = client_of(&transport);
    let oauth = |secret: &str| OAuthClient::new("client-id", secret);
    let code = |code: &str, verifier: &str| Credentials::AuthorizationCode {
        client: oauth("an0ther"),
        code: code.into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: Some(verifier.into()),
    };
    let credentials = [
        Credentials::access_token(ODD),
        Credentials::Client(oauth(ODD)),
        Credentials::refresh_token(oauth("an0ther"), ODD),
        code(ODD, "the-verifier"),
        code("the-code", ODD),
        Credentials::Saml2Bearer { client: oauth("an0ther"), org_name: "acme".into(), assertion: ODD.into() },
    ];
    let url = format!("{}/exports/0a1b?X-Sig={}&Expires=60", common::HERE, spellings(ODD)[1]);
    for (nth, spelled) in spellings(ODD).into_iter().enumerate() {
        for (place, body) in places(&spelled).into_iter().enumerate() {
            for status in [200, 400] {
                let what = format!("HTTP {status}, {body:.2000}");
                *current.lock().unwrap() = (status, body.clone(), spelled.clone());
                let which = (nth + place) % credentials.len();
                for credentials in [&credentials[0], &credentials[which]] {
                    let agent = client.agent(credentials.clone()).with_timeout(Duration::from_secs(1));
                    if let Err(error) = agent.script(&id()).await {
                        assert_no_stretch(&what, &all_of(&error), &spelled);
                    }
                }
                let agent = client.agent(Credentials::access_token("an0ther-token"));
                // What is an object and no error is a file, whatever it holds.
                if let Err(error) = agent.download_export(&SignedUrl::new(&url)).await {
                    assert_no_stretch(&what, &all_of(&error), &spelled);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_used_is_not_shown() {
    for body in [
        serde_json::json!({ "access_token": TOKEN }),
        serde_json::json!({ "access_token": [TOKEN], "token_type": "bearer" }),
        serde_json::json!({ "access_token": { TOKEN: TOKEN }, "token_type": "bearer" }),
        serde_json::json!({ "access_token": format!("{TOKEN}\n"), "token_type": "bearer" }),
        serde_json::json!({ "access_token": TOKEN, "token_type": "bearer", "expires_in": TOKEN }),
        serde_json::json!({ "access_token": TOKEN, "token_type": "bearer", "scope": [TOKEN] }),
        serde_json::json!({ "access_token": TOKEN, "token_type": "bearer", "refresh_token": [TOKEN] }),
        serde_json::json!({ "access_token": "", "token_type": TOKEN }),
        serde_json::json!([TOKEN]),
        serde_json::json!(TOKEN),
    ] {
        let transport = Scripted::by(move |_| reply(200, body.to_string()));
        assert_error_clean(
            "an unusable token",
            &client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err(),
        );
    }
    let ready_made = Credentials::access_token(format!("{TOKEN}\n"));
    let error = Scripted::replies([]).client().agent(ready_made).script(&id()).await.unwrap_err();
    assert_error_clean("a ready-made one with a line end", &error);
}

#[tokio::test(start_paused = true)]
async fn no_url_carries_a_secret_and_every_credential_is_marked_sensitive() {
    let transport = Scripted::by(|seen| if seen.is_login() { token() } else { script() });
    transport.agent().script(&id()).await.unwrap();
    assert_eq!(transport.seen().len(), 2);
    for seen in transport.seen() {
        assert_clean("a URL", &seen.url);
        assert!(seen.headers["authorization"].is_sensitive(), "{}", seen.url);
        assert_clean("headers", &format!("{:?}", seen.headers));
    }
    assert!(transport.seen()[0].header("authorization").contains(BASIC), "this test looks for the right thing");
}

fn debug(what: &str, value: &impl Debug) {
    let text = format!("{value:?}\n{value:#?}");
    assert_clean(what, &text);
    // It says what it is, and what is said of it here.
    assert!(what.split(", ").all(|word| text.contains(word)), "{what}: {text}");
}

#[tokio::test(start_paused = true)]
async fn no_credentials_and_no_agent_print_a_secret() {
    let transport = Scripted::by(|seen| if seen.is_login() { token() } else { script() });
    let client = transport.client();
    for credentials in [common::credentials(), Credentials::access_token(TOKEN)] {
        debug(
            if matches!(credentials, Credentials::Client(_)) { "Client, client-id" } else { "AccessToken" },
            &credentials,
        );
        let agent = client.agent(credentials);
        debug("Agent", &agent);
        let script = agent.script(&id()).await.unwrap();
        debug("Agent", &agent);
        debug("Script", &script);
    }
    for credentials in grants() {
        debug(if matches!(credentials, Credentials::Source(_)) { "Source" } else { "client-id" }, &credentials);
    }
    let source = || async { Ok(Session::from_access_token(TOKEN)) };
    debug("Source", &Credentials::source(source));
    if let Credentials::Source(source) = Credentials::source(source) {
        debug("TokenSource", &source);
    }
}

#[tokio::test(start_paused = true)]
async fn no_public_type_prints_a_secret() {
    fn display(what: &str, value: &impl Display) {
        assert_clean(what, &value.to_string());
    }
    let region = Region::custom(common::HERE, common::HERE, common::HERE).unwrap();
    let builder = Client::builder(region.clone())
        .proxy(format!("http://user:{PROXY_PASSWORD}@127.0.0.1:3128"))
        .identity_pem(format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"));
    debug("ClientBuilder", &builder);
    assert_error_clean("an identity that cannot be read", &builder.build().unwrap_err());
    for proxy in
        [format!("http://user:{PROXY_PASSWORD}@[:1"), format!("{PROXY_PASSWORD}://x"), format!(":{PROXY_PASSWORD}@")]
    {
        if let Err(error) = Client::builder(Region::US_EAST_1).proxy(proxy).build() {
            assert_error_clean("a proxy that cannot be used", &error);
        }
    }
    for base in
        ["https://user:hunter2-the-secret@example.com", "https://example.com/?hunter2-the-secret", "hunter2-the-secret"]
    {
        assert_error_clean("a base URL", &Region::custom(base, base, base).unwrap_err());
    }

    let oauth_client = OAuthClient::new("client-id", SECRET);
    debug("OAuthClient, client-id", &oauth_client);
    debug("Session, has_access_token: false, has_refresh_token: true", &Session::from_refresh_token(TOKEN));
    debug("Session, has_access_token: true, has_refresh_token: false", &Session::from_access_token(TOKEN));
    let begun = Authorization::begin(&Region::EU_WEST_1, oauth_client, "https://desk.example/back").unwrap();
    assert_clean("Authorization's URL", begun.url());
    debug("Authorization, client-id", &begun);
    debug("AuthorizationParts, https://desk.example/back", &begun.clone().into_parts());
    let forged = begun.credentials(&format!("https://desk.example/back?code={TOKEN}&state={SECRET}")).unwrap_err();
    assert_error_clean("a forged return", &forged);
    debug("Error", &forged);
    let client = Scripted::by(|_| script()).client();
    debug("Client", &client);
    debug("Stats", &client.stats());
    debug("Region", &region);
    display("Region", &region);
    debug("RetryPolicy", &RetryPolicy::default());
    debug("ScriptId", &id());
    debug("InvalidId", &"".parse::<ScriptId>().unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_that_shares_sessions_prints_a_secret() {
    let clean = |what: &str, value: &dyn Debug| {
        let text = format!("{value:?}\n{value:#?}");
        assert_clean(what, &text);
        assert!(text.contains(what), "{what}: {text}");
    };
    let transport = Scripted::by(|seen| if seen.is_login() { token() } else { script() });
    let stored = StoredSession::new(1, TOKEN.into());
    clean("StoredSession", &stored);
    clean("Newer", &Lease::Newer(stored));
    let store = MemoryStore::default();
    let sharing = transport.builder().share_sessions(SharedSessions::new(store.clone())).build().unwrap();
    let agent = sharing.agent(common::credentials()).shared_as(TOKEN);
    agent.log_in().await.unwrap();
    clean("Agent", &agent);
    clean("RedisStore", &RedisStore::open(&format!("redis://user:{SECRET}@127.0.0.1/")).unwrap());
    clean("MemoryStore", &store);
    clean("SharedSessions", &SharedSessions::new(store));
}

#[tokio::test(start_paused = true)]
async fn no_parts_health_or_meta_print_a_secret() {
    let oauth_client = || OAuthClient::new("client-id", SECRET);
    let begun = Authorization::begin(&Region::EU_WEST_1, oauth_client(), "https://desk.example/back").unwrap();
    let state = begun.url().split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let parts = begun.into_parts();
    let text = format!("{parts:?} {:?}", Authorization::from_parts(oauth_client(), parts.clone()));
    assert!(!text.contains(&state), "{text}");
    assert_clean("AuthorizationParts", &text);
    assert!(text.contains("AuthorizationParts") && text.contains(&parts.redirect_uri), "{text}");
    let echo = Scripted::by(|seen| if seen.is_login() { token() } else { script().with("inin-correlation-id", TOKEN) });
    let (client, meta) = (echo.client(), CallMeta::default());
    client.agent(common::credentials()).with_meta(&meta).script(&id()).await.unwrap();
    assert_clean("CallMeta", &format!("{meta:?} {:?}", meta.correlation_id()));
    assert_clean("Health", &format!("{:?} {}", client.health(), serde_json::to_string(&client.health()).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn no_failure_of_the_transport_prints_a_secret() {
    for kind in [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::TimedOut,
        io::ErrorKind::Other,
        io::ErrorKind::InvalidData,
    ] {
        let transport = Scripted::by(move |_| Reply::Broken(kind));
        assert_error_clean(
            "login",
            &client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err(),
        );
        let transport = Scripted::by(move |seen| if seen.is_login() { token() } else { Reply::Broken(kind) });
        assert_error_clean(
            "call",
            &client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err(),
        );
    }
    let transport = Scripted::by(|_| Reply::Silence);
    assert_error_clean(
        "silent login",
        &client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err(),
    );
    let transport = Scripted::by(|seen| if seen.is_login() { token() } else { Reply::Silence });
    assert_error_clean("silence", &client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err());
}

/// Keeps all that is traced.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Of this crate, of reqwest, of hyper and of all else in the process, over real sockets and scripted ones.
/// So that nobody takes a capture that does not work for a clean one.
const TRACED: [&str; 7] = [
    "cannot insert [REDACTED]",
    "genesys_scripts.call",
    "genesys_scripts.attempt",
    "TRACE",
    "get script",
    "log in",
    "hyper",
];

/// It fails, and what it says repeats what it was to store.
fn with_a_store_that_echoes(agent: Agent) -> Agent {
    agent.on_session(async |session: Session| {
        Err::<(), _>(format!("cannot insert {}", session.access_token.unwrap().expose_secret()))
    })
}

#[tokio::test]
async fn no_trace_of_a_whole_run_holds_a_secret() {
    let captured = Captured::default();
    let writer = captured.clone();
    // Also takes what libraries say through the `log` crate.
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let [mut calls, mut logins] = [0, 0];
    let wire = {
        let count = Mutex::new((0, 0));
        Wire::listen(move |_, head| {
            let mut count = count.lock().unwrap();
            let sent = if head.starts_with("POST") { told_the_login() } else { told_the_api() };
            let echo = echoes(&sent).swap_remove(0);
            if head.starts_with("POST") {
                count.0 += 1;
                return match count.0 {
                    1 => Say::Reset(Vec::new()),
                    2 => say("503 Busy", "", &echo),
                    _ => say("200 OK", "content-type: application/json\r\n", login_json()),
                };
            }
            count.1 += 1;
            match count.1 {
                1 => say("401 Unauthorized", "", &echo),
                2 => say("429 Too Many", "retry-after: 0\r\n", &echo),
                3 => say("500 Oops", "", &echo),
                4 => Say::Reset(Vec::new()),
                5 => Say::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
                6 => say("200 OK", "", format!(r#"{{"id":"{}"}}"#, common::ID)),
                7 => say("400 Bad", "", &echo),
                8 => say("302 Found", &format!("location: http://127.0.0.1:9/?{TOKEN}\r\n"), ""),
                _ => say("200 OK", "", &echo),
            }
        })
        .await
    };
    let agent = with_a_store_that_echoes(wire.builder().build().unwrap().agent(common::credentials()));
    agent.script(&id()).await.unwrap();
    for _ in 0..3 {
        agent.script(&id()).await.unwrap_err();
    }
    let refused = Wire::listen(|_, _| say("401 Unauthorized", "", echoes(&told_the_login()).swap_remove(1))).await;
    refused.builder().build().unwrap().agent(common::credentials()).script(&id()).await.unwrap_err();

    for head in wire.heads() {
        if head.starts_with("POST") { logins += 1 } else { calls += 1 }
    }
    assert_eq!((logins, calls), (4, 9));
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    for expected in TRACED {
        assert!(text.contains(expected), "{expected} is not in what was traced: the capture does not work");
    }
    assert_clean("the trace", &text);
}

fn login_json() -> String {
    format!(r#"{{"access_token":"{TOKEN}","token_type":"bearer","expires_in":86400}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_header_of_a_limit_that_echoes_credentials_is_not_repeated() {
    for (name, value) in [("x-ratelimit-remaining", "0"), ("ratelimit", "limit=10, remaining=0, reset=5")] {
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => token(),
            false => reply(400, "{}").with(name, format!("{value}; {}", told_the_api())),
        });
        let error = client_of(&transport).agent(common::credentials()).script(&id()).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_error_clean(name, &error);
        let transport = Scripted::by(move |_| reply(400, "{}").with(name, format!("{value}; {}", told_the_login())));
        let patient = client_of(&transport).agent(common::credentials()).with_timeout(Duration::from_secs(3600));
        let error = patient.log_in().await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_error_clean(name, &error);
    }
}
