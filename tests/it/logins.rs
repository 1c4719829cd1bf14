//! Every grant an agent logs in with, and what becomes of its session.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use futures_util::future::{join, join_all};
use genesys_scripts::{
    Agent, Authorization, Client, Credentials, ErrorKind, OAuthClient, Region, SecretString, Session,
};
use secrecy::ExposeSecret;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::common::herd::{seeds, virtually};
use crate::common::{self, Reply, Scripted, Seen, id, reply, script, token};

fn oauth_client() -> OAuthClient {
    OAuthClient::new("client-id", common::SECRET)
}

fn form(seen: &Seen) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://x/?{}", String::from_utf8(seen.body.clone()).unwrap())).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn session_of(access: &str, refresh: &str) -> Reply {
    reply(
        200,
        format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","token_type":"bearer","expires_in":600}}"#),
    )
}

fn secret(secret: Option<&SecretString>) -> &str {
    secret.map(|secret| secret.expose_secret()).unwrap_or_default()
}

const BASIC: &str = "Basic Y2xpZW50LWlkOmh1bnRlcjItdGhlLXNlY3JldA==";

#[tokio::test(start_paused = true)]
async fn a_code_is_exchanged_once_and_then_the_session_is_refreshed() {
    let logins = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => {
            let n = logins.fetch_add(1, Ordering::SeqCst) + 1;
            session_of(&format!("access-{n}"), &format!("refresh-{n}"))
        }
        false => script(),
    });
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let tell = Arc::clone(&told);
    let agent = transport
        .client()
        .agent(Credentials::AuthorizationCode {
            client: oauth_client(),
            code: "the-code".into(),
            redirect_uri: "https://desk.example/back".into(),
            verifier: None,
        })
        .on_session(move |session| {
            let tell = Arc::clone(&tell);
            async move { tell.lock().unwrap().push(secret(session.refresh_token.as_ref()).to_owned()) }
        });
    agent.script(&id()).await.unwrap();
    advance(Duration::from_secs(601)).await;
    agent.script(&id()).await.unwrap();
    let logins: Vec<Seen> = transport.seen().into_iter().filter(Seen::is_login).collect();
    assert_eq!(
        form(&logins[0]),
        pairs(&[
            ("grant_type", "authorization_code"),
            ("code", "the-code"),
            ("redirect_uri", "https://desk.example/back")
        ])
    );
    assert_eq!(form(&logins[1]), pairs(&[("grant_type", "refresh_token"), ("refresh_token", "refresh-1")]));
    assert!(logins.iter().all(|login| login.header("authorization") == BASIC));
    assert_eq!(*told.lock().unwrap(), ["refresh-1", "refresh-2"]);
    assert_eq!(secret(agent.session().unwrap().refresh_token.as_ref()), "refresh-2");
}

#[tokio::test(start_paused = true)]
async fn the_user_is_told_of_a_session_before_its_token_is_used() {
    let told = Arc::new(AtomicUsize::new(0));
    let before = Arc::clone(&told);
    let transport = Scripted::by(move |seen| {
        if seen.is_login() {
            return session_of("access", "refresh");
        }
        assert_eq!(before.load(Ordering::SeqCst), 1, "the token was used before the user was told");
        script()
    });
    let agent = transport.client().agent(common::credentials()).on_session(move |_| {
        let told = Arc::clone(&told);
        async move {
            sleep(Duration::from_secs(2)).await;
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    agent.script(&id()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_hangs_costs_no_agent_its_token() {
    for hangs in [false, true] {
        let transport = Scripted::replies([script()]);
        let agent = transport.agent().on_session(move |_| async move {
            match hangs {
                true => std::future::pending::<()>().await,
                false => panic!("the user's"),
            }
        });
        agent.script(&id()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pkce_sends_the_verifier_and_no_secret() {
    let transport = Scripted::replies([script()]);
    let region = Region::custom(common::HERE, common::HERE, common::HERE).unwrap();
    let begun = Authorization::begin(&region, OAuthClient::public("client-id"), "https://desk.example/back").unwrap();
    let url = reqwest::Url::parse(begun.url()).unwrap();
    assert_eq!(url.path(), "/oauth/authorize");
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!((query["response_type"].as_str(), query["code_challenge_method"].as_str()), ("code", "S256"));
    let credentials =
        begun.credentials(&format!("https://desk.example/back?code=the-code&state={}", query["state"])).unwrap();
    transport.client().agent(credentials).script(&id()).await.unwrap();
    let login = &transport.seen()[0];
    assert_eq!(login.header("authorization"), "");
    let form: std::collections::HashMap<_, _> = form(login).into_iter().collect();
    assert_eq!((form["client_id"].as_str(), form["code"].as_str()), ("client-id", "the-code"));
    assert!(form["code_verifier"].len() >= 43);
    assert!(!form.contains_key("client_secret"));
}

#[test]
fn a_return_with_another_state_or_an_error_gives_no_credentials() {
    for returned in ["?code=x&state=forged", "?code=x", "", "https://desk.example/back", "?state=&code=x"] {
        let begun = Authorization::begin(&Region::US_EAST_1, oauth_client(), "https://desk.example/back").unwrap();
        let error = begun.credentials(returned).unwrap_err();
        let why = if returned.contains("forged") { "another `state`" } else { "without `state`" };
        assert!(error.kind() == ErrorKind::LoginRefused && error.to_string().contains(why), "{returned}: {error}");
    }
    let begun = Authorization::begin(&Region::US_EAST_1, oauth_client(), "https://desk.example/back").unwrap();
    let url = reqwest::Url::parse(begun.url()).unwrap();
    let state = url.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    let returned = format!("?error=access_denied&error_description=no+way&state={state}");
    let error = begun.credentials(&returned).unwrap_err();
    assert!(error.to_string().contains(r#""access_denied", "no way""#), "{error}");
}

#[tokio::test(start_paused = true)]
async fn saml2_bearer_sends_the_organisation_and_the_assertion() {
    let transport = Scripted::replies([script()]);
    let credentials = Credentials::Saml2Bearer {
        client: oauth_client(),
        org_name: "acme & sons".into(),
        assertion: "PHNhbWw+/=".into(),
    };
    transport.client().agent(credentials).script(&id()).await.unwrap();
    let login = &transport.seen()[0];
    assert_eq!(login.header("authorization"), BASIC);
    assert_eq!(login.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(
        form(login),
        pairs(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"),
            ("orgName", "acme & sons"),
            ("assertion", "PHNhbWw+/="),
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_refresh_is_told_once_and_never_repeated() {
    let transport =
        Scripted::by(|_| reply(400, r#"{"error":"invalid_grant","error_description":"refresh token expired"}"#));
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "old-refresh"));
    for _ in 0..3 {
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::LoginRefused, Some("invalid_grant")));
        assert!(error.to_string().contains("log in again") && !error.to_string().contains("old-refresh"), "{error}");
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(transport.logins(), 1);
    assert!(agent.session().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_answer_was_lost_is_repeated_once_with_the_same_token() {
    for (second, kind) in
        [(session_of("a", "b"), None), (reply(400, r#"{"error":"invalid_grant"}"#), Some(ErrorKind::LoginRefused))]
    {
        let replies = Mutex::new(vec![second, Reply::Broken(std::io::ErrorKind::ConnectionReset)]);
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => replies.lock().unwrap().pop().unwrap(),
            false => script(),
        });
        let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "once"));
        match (agent.script(&id()).await, kind) {
            (Ok(_), None) => {}
            (Err(error), Some(kind)) => {
                assert_eq!(error.kind(), kind);
                assert!(error.to_string().contains("may have spent it"), "{error}");
            }
            (result, _) => panic!("{result:?}"),
        }
        assert!(transport.seen().iter().filter(|seen| seen.is_login()).all(|seen| form(seen)[1].1 == "once"));
    }
    let transport = Scripted::by(|_| Reply::Broken(std::io::ErrorKind::ConnectionReset));
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "once"));
    agent.script(&id()).await.unwrap_err();
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_code_is_sent_again_only_where_it_never_left() {
    let code = || Credentials::AuthorizationCode {
        client: oauth_client(),
        code: "the-code".into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    };
    let transport = Scripted::by(|_| Reply::Broken(std::io::ErrorKind::ConnectionReset));
    let agent = transport.client().agent(code());
    for _ in 0..2 {
        assert_eq!(agent.script(&id()).await.unwrap_err().kind(), ErrorKind::LoginRefused);
        advance(Duration::from_secs(60)).await;
    }
    assert_eq!(transport.logins(), 1);

    let refused = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true if refused.fetch_add(1, Ordering::SeqCst) < 2 => Reply::Broken(std::io::ErrorKind::ConnectionRefused),
        true => session_of("a", "b"),
        false => script(),
    });
    transport.client().agent(code()).script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_stored_session_goes_on_after_a_restart() {
    let transport = Scripted::replies([script(), script()]);
    let mut session = Session::from_access_token("stored-access");
    session.refresh_token = Some("stored-refresh".into());
    session.expires_at = Some(SystemTime::now() + Duration::from_secs(600));
    let agent = transport.client().agent(Credentials::Session { client: oauth_client(), session });
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 0);
    assert_eq!(transport.calls()[0].header("authorization"), "Bearer stored-access");
    advance(Duration::from_secs(601)).await;
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_off_costs_at_most_one_login() {
    for offset in [-600i64, 600] {
        let transport = Scripted::by(|seen| match seen.header("authorization") {
            "Bearer stored-access" => reply(401, "{}"),
            _ if seen.is_login() => session_of("new", "r2"),
            _ => script(),
        });
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let clock = if offset < 0 { at - Duration::from_secs(600) } else { at + Duration::from_secs(600) };
        let client = transport.builder().wall_clock(move || clock).build().unwrap();
        let mut session = Session::from_refresh_token("r1");
        session.access_token = Some("stored-access".into());
        session.expires_at = Some(at);
        let agent = client.agent(Credentials::Session { client: oauth_client(), session });
        agent.script(&id()).await.unwrap();
        assert_eq!(transport.logins(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_of_the_users_is_asked_once_for_all_who_wait() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let transport =
        Scripted::by(|seen| if seen.header("authorization") == "Bearer t1" { reply(401, "{}") } else { script() });
    let agent = transport.client().agent(Credentials::source(move || {
        let n = count.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(Session::from_access_token(format!("t{n}"))) }
    }));
    let id = id();
    let results = futures_util::future::join_all((0..50).map(|_| agent.script(&id))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let failing = transport.client().agent(Credentials::source(|| async { Err("the vault is sealed".into()) }));
    let error = failing.script(&id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenSource);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("sealed"));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_could_not_be_revoked_is_said_to_be_and_forgotten_and_one_that_is_void_needs_not_be() {
    for (status, kind) in [(401, None), (403, Some(ErrorKind::Forbidden)), (500, Some(ErrorKind::Server))] {
        let transport = Scripted::by(move |seen| match seen.method.as_str() {
            "DELETE" => reply(status, ""),
            _ => script(),
        });
        let agent = transport.client().agent(Credentials::access_token("t0ken"));
        agent.script(&id()).await.unwrap();
        assert_eq!(agent.log_out().await.err().map(|error| error.kind()), kind, "{status}");
        assert!(agent.session().is_none(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn logging_out_revokes_this_token_once_and_forgets_it() {
    let transport = Scripted::by(|seen| match (seen.method.as_str(), seen.is_login()) {
        ("DELETE", _) => reply(204, ""),
        (_, true) => session_of("access-1", "refresh-1"),
        _ => script(),
    });
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r0"));
    agent.log_out().await.unwrap();
    assert!(transport.seen().is_empty(), "nothing to revoke, nothing sent");

    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r0"));
    agent.script(&id()).await.unwrap();
    agent.log_out().await.unwrap();
    let revoke = transport.seen().pop().unwrap();
    assert_eq!((revoke.method.as_str(), revoke.url.as_str()), ("DELETE", "http://127.0.0.1:9/api/v2/tokens/me"));
    assert_eq!(revoke.header("authorization"), "Bearer access-1");
    assert!(agent.session().is_none());
    assert_eq!(agent.script(&id()).await.unwrap_err().kind(), ErrorKind::LoginRefused);
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn logging_out_during_a_refresh_revokes_what_the_refresh_brings() {
    let transport = Scripted::by(|seen| match (seen.method.as_str(), seen.is_login()) {
        ("DELETE", _) => reply(204, ""),
        (_, true) => session_of("access-1", "refresh-1"),
        _ => script(),
    });
    // The login lasts as long as the user takes to store what it brings.
    let agent = transport
        .client()
        .agent(Credentials::refresh_token(oauth_client(), "r0"))
        .on_session(|_| sleep(Duration::from_secs(2)));
    let id = id();
    let (fetched, ended) = tokio::join!(agent.script(&id), async {
        sleep(Duration::from_secs(1)).await;
        agent.log_out().await
    });
    ended.unwrap();
    drop(fetched);
    let revoke = transport.seen().into_iter().find(|seen| seen.method == "DELETE").unwrap();
    assert_eq!(revoke.header("authorization"), "Bearer access-1");
    assert!(agent.session().is_none());
    assert_eq!(agent.script(&id).await.unwrap_err().kind(), ErrorKind::LoginRefused);
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn logging_out_with_a_void_token_logs_nobody_in() {
    let transport = Scripted::by(|seen| if seen.is_login() { common::token("t") } else { reply(401, "{}") });
    let agent = transport.client().agent(Credentials::access_token("void"));
    agent.log_out().await.unwrap();
    assert_eq!((transport.logins(), transport.calls().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_can_be_checked() {
    let transport = Scripted::replies([reply(200, r#"{"organization":{"id":"o","name":"Acme"}}"#)]);
    let info = transport.agent().check_token().await.unwrap();
    assert!(info.as_str().contains("Acme"));
    assert_eq!(transport.calls()[0].url, "http://127.0.0.1:9/api/v2/tokens/me");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_ends_after_a_logout_is_revoked_and_not_kept() {
    let transport = Scripted::by(|seen| match (seen.method.as_str(), seen.is_login()) {
        ("DELETE", _) => reply(204, ""),
        (_, true) => session_of("late", "late-refresh"),
        _ => script(),
    })
    .with_latency(Duration::from_secs(10));
    let agent =
        transport.client().agent(Credentials::refresh_token(oauth_client(), "r0")).with_timeout(Duration::from_secs(1));
    agent.script(&id()).await.unwrap_err();
    agent.log_out().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(agent.session().is_none());
    let last = transport.seen().pop().unwrap();
    assert_eq!((last.method.as_str(), last.header("authorization")), ("DELETE", "Bearer late"));
}

#[tokio::test(start_paused = true)]
async fn what_the_service_says_of_a_token_that_cannot_be_replaced_is_kept() {
    let body = r#"{"message":"Invalid login credentials.","code":"bad.credentials","status":401}"#;
    let transport = Scripted::replies([reply(401, body).with("inin-correlation-id", "c-7")]);
    let error = transport.client().agent(Credentials::access_token("t")).script(&id()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), error.code()),
        (ErrorKind::Unauthorized, Some(401), Some("bad.credentials"))
    );
    assert_eq!((error.correlation_id(), error.attempts()), (Some("c-7"), 1));
}

/// A client with no more than so many requests in flight to each of its hosts.
fn client_with_places(transport: &Scripted, places: usize) -> Client {
    transport.builder().max_in_flight(places).build().unwrap()
}

/// What a limit of 100 logins a minute makes of 150 agents who log in at once: how long, and with how many requests.
/// A refusal comes after 20 ms, a token up to so much later.
fn herd_of_logins(places: usize, spread: Duration, seed: u64) -> (Duration, usize) {
    let window: Mutex<(Option<Instant>, u32)> = Mutex::default();
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    virtually(async {
        let transport = Scripted::by(move |_| {
            let mut window = window.lock().unwrap();
            if window.0.is_none_or(|began| began.elapsed() >= Duration::from_secs(60)) {
                *window = (Some(Instant::now()), 0);
            }
            if window.1 == 100 {
                return reply(400, THROTTLED);
            }
            window.1 += 1;
            Reply::Later(spread.mul_f64(random.lock().unwrap().f64()), Box::new(token("t0ken")))
        });
        let client = client_with_places(&transport, places);
        let agents: Vec<_> = (0..150).map(|_| client.agent(common::credentials())).collect();
        let began = Instant::now();
        for login in join_all(agents.iter().map(|agent| agent.log_in())).await {
            login.unwrap();
        }
        (began.elapsed(), transport.logins())
    })
}

const THROTTLED: &str = r#"{"error":"invalid_request","error_description":"rate limit exceeded; try again later"}"#;

#[test]
fn a_login_that_was_refused_waits_for_the_window_and_is_sent_once_more() {
    for seed in 0..seeds(4) {
        for spread in [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(200)] {
            let (took, requests) = herd_of_logins(1_000, spread, seed);
            assert!(took <= Duration::from_secs(62), "seed {seed}: {took:?}");
            // 150 that are served, 50 that were refused before anybody could know, and the probes of a minute.
            assert!(requests <= 210, "seed {seed}: {requests}");
        }
    }
}

/// An agent that goes through a login with a code, of the same OAuth client as others.
fn with_a_code(client: &Client) -> genesys_scripts::Agent {
    client.agent(Credentials::AuthorizationCode {
        client: oauth_client(),
        code: "the-code".into(),
        redirect_uri: "https://app.example/".into(),
        verifier: None,
    })
}

#[tokio::test(start_paused = true)]
async fn a_login_refused_for_its_own_reasons_lets_those_through_who_wait_for_the_limit() {
    const REFUSED: &str = r#"{"error":"invalid_grant","error_description":"no such code"}"#;
    for (status, lets_through) in [(400, true), (401, true), (403, true), (404, true), (500, false), (503, false)] {
        let refusals = AtomicUsize::new(0);
        let transport = Scripted::by(move |seen| match String::from_utf8_lossy(&seen.body).contains("the-code") {
            true => reply(status, REFUSED),
            false if refusals.fetch_add(1, Ordering::SeqCst) < 2 => reply(400, THROTTLED),
            false => token("t0ken"),
        });
        let client = transport.builder().retry(common::once()).build().unwrap();
        let agents = [client.agent(common::credentials()), with_a_code(&client), client.agent(common::credentials())];
        let logins = join_all(agents.iter().enumerate().map(|(n, agent)| async move {
            // The first meets the limit, and the others wait for it, in this order.
            sleep(Duration::from_millis(100 * n as u64)).await;
            agent.log_in().await
        }));
        let ended: Vec<_> = logins.await.into_iter().map(|login| login.is_ok()).collect();
        assert_eq!(ended, [true, false, true], "{status}");
        let seen = transport.seen();
        let probe = seen.iter().position(|seen| String::from_utf8_lossy(&seen.body).contains("the-code")).unwrap();
        let next = seen[probe + 1].at - seen[probe].at;
        assert_eq!(next < Duration::from_millis(500), lets_through, "{status}: {next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_logins_are_throttled_a_call_waits_where_its_time_suffices_and_else_fails_at_once() {
    let began = Instant::now();
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true if began.elapsed() < Duration::from_secs(20) => reply(400, THROTTLED),
        true => token("t0ken"),
        false => script(),
    });
    let client = transport.client();
    let (first, id) = (client.agent(common::credentials()), id());
    let waits = tokio::spawn(async move { first.log_in().await });
    sleep(Duration::from_secs(10)).await;
    let logins = transport.logins();
    let hurried = client.agent(common::credentials()).with_timeout(Duration::from_millis(100));
    let asked = Instant::now();
    let error = hurried.script(&id).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.is_login(), asked.elapsed()),
        (ErrorKind::Throttled, true, Duration::ZERO),
        "{error}"
    );
    assert!(error.retry_after().is_some_and(|wait| wait > Duration::from_millis(100)), "{error}");
    assert_eq!(transport.logins(), logins, "none was sent for it");
    client.agent(common::credentials()).with_timeout(Duration::from_secs(90)).script(&id).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_own_login_was_throttled_to_its_end_has_what_the_login_answered() {
    for (status, body) in [(400, THROTTLED), (429, r#"{"error":"too_many","error_description":"rate limit exceeded"}"#)]
    {
        let transport = Scripted::by(move |_| reply(status, body).with("inin-correlation-id", "c-7"));
        let client = transport.client();
        let agent = client.agent(common::credentials()).with_timeout(Duration::from_secs(20));
        let error = agent.script(&id()).await.unwrap_err();
        let line = error.to_string();
        assert_eq!(
            (error.kind(), error.status(), error.is_login()),
            (ErrorKind::Throttled, Some(status), true),
            "{line}"
        );
        assert_eq!(error.correlation_id(), Some("c-7"), "{line}");
        assert!(error.message().is_some_and(|message| message.starts_with("rate limit exceeded")), "{line}");
        assert!(error.retry_after().is_some() && line.contains("before the login's turn"), "{line}");
        // Of a login that was not sent there is none.
        let other = client.agent(common::credentials()).with_timeout(Duration::from_millis(10));
        assert_eq!(other.script(&id()).await.unwrap_err().status(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_middleware_that_panics_in_a_login_fails_those_who_wait_for_it_and_nobody_after() {
    let logins = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| {
        assert!(!seen.is_login() || logins.fetch_add(1, Ordering::SeqCst) > 0, "the middleware's");
        if seen.is_login() { token("t0ken") } else { script() }
    });
    let (agent, id) = (transport.agent(), id());
    for call in join_all([agent.script(&id), agent.script(&id)]).await {
        let error = call.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_login(), error.is_retryable()),
            (ErrorKind::Connection, true, true),
            "{error}"
        );
        assert!(error.to_string().contains("the login was stopped"), "{error}");
    }
    assert_eq!(transport.logins(), 0, "what panicked got no further");
    agent.script(&id).await.unwrap();
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn five_thousand_agents_whose_login_host_bears_twenty_at_a_time_are_all_served() {
    let transport = Scripted::by(|_| token("t0ken")).with_latency(Duration::from_millis(300));
    let client = client_with_places(&transport, 20);
    let agents: Vec<_> = (0..5_000).map(|_| client.agent(common::credentials())).collect();
    let began = Instant::now();
    let logins = join_all(agents.iter().map(|agent| agent.log_in())).await;
    // 250 rounds of 300 ms.
    assert!(began.elapsed() <= Duration::from_secs(76), "{:?}", began.elapsed());
    for login in logins {
        login.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_for_a_place_at_the_login_host_is_told_so() {
    let transport = Scripted::by(|_| token("t0ken")).with_latency(Duration::from_millis(300));
    let client = client_with_places(&transport, 1);
    let agents: Vec<_> = (0..20).map(|_| client.agent(common::credentials())).collect();
    let hurried: Vec<_> = agents.iter().map(|agent| agent.with_timeout(Duration::from_secs(2))).collect();
    let logins = join_all(hurried.iter().map(|agent| agent.log_in())).await;
    let late: Vec<_> = logins.into_iter().filter_map(Result::err).collect();
    // One of them was sent, and too late.
    assert_eq!(
        (late.len(), late.iter().filter(|error| error.to_string().contains("waited its turn")).count()),
        (14, 13)
    );
    assert!(late.iter().all(|error| error.is_timeout() && error.is_login()));
}

#[tokio::test(start_paused = true)]
async fn where_every_token_is_refused_two_logins_find_out() {
    let body = r#"{"message":"The IP address is not authorized.","code":"ip.not.authorized","status":401}"#;
    let transport = Scripted::by(move |seen| if seen.is_login() { token("t0ken") } else { reply(401, body) });
    let client = transport.client();
    let agents: Vec<_> = (0..50).map(|_| client.agent(common::credentials())).collect();
    let id = id();
    join_all(agents.iter().map(|agent| async {
        for _ in 0..20 {
            let error = agent.script(&id).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Unauthorized, Some("ip.not.authorized")));
            assert!(!error.is_login(), "{error}");
        }
    }))
    .await;
    assert_eq!((transport.logins(), transport.calls().len()), (100, 100));

    let error = agents[0].script(&id).await.unwrap_err();
    assert!(error.retry_after().is_some_and(|wait| wait <= Duration::from_secs(30)), "{error}");
    assert_eq!((error.attempts(), error.may_have_been_sent()), (0, false));
    advance(Duration::from_secs(31)).await;
    agents[0].script(&id).await.unwrap_err();
    assert_eq!((transport.logins(), transport.calls().len()), (100, 101), "asked again, with the token it holds");
    advance(Duration::from_secs(31)).await;
    agents[0].script(&id).await.unwrap_err();
    assert_eq!((transport.logins(), transport.calls().len()), (101, 103), "and with a new one after a minute");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_one_operation_refuses_serves_the_others() {
    let transport = Scripted::by(|seen| match seen.url.ends_with("/tokens/me") {
        _ if seen.is_login() => token("t0ken"),
        true => reply(401, "{}"),
        false => script(),
    });
    let agent = transport.agent();
    for _ in 0..10 {
        assert_eq!(agent.check_token().await.unwrap_err().kind(), ErrorKind::Unauthorized);
        agent.script(&id()).await.unwrap();
    }
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn operations_that_refuse_a_token_are_remembered_each() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { reply(401, "{}") });
    let agent = transport.agent();
    for _ in 0..5 {
        assert_eq!(agent.check_token().await.unwrap_err().kind(), ErrorKind::Unauthorized);
        assert_eq!(agent.script(&id()).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    }
    // Two for the first, which replaced the token, and one for the other, with the new one.
    assert_eq!((transport.logins(), transport.calls().len()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_however_long_the_answer_asks_to_wait() {
    let refused = AtomicBool::new(false);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => token("t0ken"),
        false if refused.swap(true, Ordering::SeqCst) => script(),
        false => reply(401, "{}").with("retry-after", "3600"),
    });
    transport.agent().script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_before_it_gives_a_future_costs_no_agent_its_token() {
    let transport = Scripted::replies([script(), script()]);
    let agent = transport.agent().on_session(|_| -> std::future::Ready<()> { panic!("the user's") });
    agent.script(&id()).await.unwrap();
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_source_that_panics_costs_the_login_it_was_asked_for() {
    for at_once in [true, false] {
        let asked = AtomicUsize::new(0);
        let transport = Scripted::by(|_| script());
        let agent = transport.client().agent(Credentials::source(move || {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            assert!(!(first && at_once), "the vault's");
            async move {
                assert!(!first, "the vault's");
                Ok(Session::from_access_token("t"))
            }
        }));
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenSource, "{error}");
        assert!(error.to_string().contains("the token source panicked"), "{error}");
        agent.script(&id()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_at_a_logout_logs_nobody_in_again() {
    for refusal in [401, 503] {
        let transport = Scripted::by(move |seen| match (seen.method.as_str(), seen.is_login()) {
            ("DELETE", _) => reply(204, ""),
            (_, true) => token("t0ken"),
            _ => reply(refusal, "{}"),
        })
        .with_latency(Duration::from_secs(1));
        let agent = transport.agent();
        agent.log_in().await.unwrap();
        let id = id();
        let (fetched, ended) = tokio::join!(agent.script(&id), async {
            sleep(Duration::from_millis(500)).await;
            agent.log_out().await
        });
        ended.unwrap();
        let error = fetched.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
        assert!(error.to_string().contains("the agent has logged out"), "{error}");
        assert_eq!(transport.logins(), 1);
        assert!(agent.session().is_none());

        agent.log_in().await.unwrap();
        assert_eq!(transport.logins(), 2, "what begins after the logout may log in anew");
    }
}

#[tokio::test(start_paused = true)]
async fn client_credentials_whose_refresh_token_is_refused_log_in_themselves() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true if seen.body.starts_with(b"grant_type=client_credentials") => session_of("access", "refresh"),
        true => reply(400, r#"{"error":"invalid_grant","error_description":"refresh token expired"}"#),
        false => script(),
    });
    let agent = transport.agent();
    agent.script(&id()).await.unwrap();
    advance(Duration::from_secs(601)).await;
    agent.script(&id()).await.unwrap();
    let grants: Vec<_> =
        transport.seen().iter().filter(|seen| seen.is_login()).map(|seen| form(seen)[0].1.clone()).collect();
    assert_eq!(grants, ["client_credentials", "refresh_token", "client_credentials"]);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_login_whose_runtime_stands_still_holds_nobody_up_in_another() {
    let transport = Scripted::by(|seen| if seen.is_login() { session_of("access", "r1") } else { script() })
        .with_latency(Duration::from_millis(500));
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r0"));
    let (still, driven) = (runtime(), runtime());
    let left = still.block_on(async { timeout(Duration::from_millis(100), agent.log_in()).await });
    assert!(left.is_err() && transport.logins() == 1);
    let began = Instant::now();
    driven.block_on(agent.script(&id())).unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(transport.logins(), 2);
    // Driven again, the login that was given up sends nothing more.
    still.block_on(async {
        sleep(Duration::from_secs(1)).await;
        agent.script(&id()).await.unwrap();
    });
    assert_eq!(transport.logins(), 2);
    assert_eq!(secret(agent.session().unwrap().refresh_token.as_ref()), "r1");
}

#[test]
fn all_who_wait_for_a_login_whose_runtime_stands_still_share_the_one_that_takes_its_place() {
    let issued = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => token(&format!("token-{}", issued.fetch_add(1, Ordering::SeqCst))),
        false => script(),
    })
    .with_latency(Duration::from_secs(1));
    let agent = transport.agent();
    let (still, id) = (runtime(), id());
    let left = still.block_on(async { timeout(Duration::from_millis(100), agent.log_in()).await });
    assert!(left.is_err() && transport.logins() == 1);
    // They find it out one after the other, while the new login is under way.
    virtually(async {
        let calls = (0..4).map(|n| {
            let (agent, id) = (&agent, &id);
            async move {
                sleep(Duration::from_millis(300 * n)).await;
                agent.script(id).await
            }
        });
        for served in join_all(calls).await {
            served.unwrap();
        }
    });
    assert_eq!(transport.logins(), 2);
    assert!(transport.calls().iter().all(|call| call.header("authorization") == "Bearer token-1"));
}

#[test]
fn a_login_that_was_given_up_and_ends_all_the_same_does_not_end_the_one_in_its_place() {
    let transport = Scripted::by(|_| script());
    let begun = Arc::new(AtomicUsize::new(0));
    let ((blocked, is_blocked), (release, released)) = (mpsc::channel(), mpsc::channel());
    let (count, released) = (Arc::clone(&begun), Mutex::new(released));
    let agent = transport.client().agent(Credentials::source(move || {
        let n = count.fetch_add(1, Ordering::SeqCst);
        if n == 0 {
            // It holds its whole runtime up, and then ends without having waited for anything.
            blocked.send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
        async move {
            if n > 0 {
                sleep(Duration::from_secs(1)).await;
            }
            Ok(Session::from_access_token(format!("token-{n}")))
        }
    }));
    let first = agent.clone();
    let first = std::thread::spawn(move || runtime().block_on(first.script(&id())).map(drop));
    is_blocked.recv().unwrap();
    runtime().block_on(async {
        let asks = async {
            while begun.load(Ordering::SeqCst) < 2 {
                sleep(Duration::from_millis(10)).await;
            }
            release.send(()).unwrap();
            sleep(Duration::from_millis(300)).await;
            agent.script(&id()).await.map(drop)
        };
        let id = id();
        let (one, other) = join(agent.script(&id), asks).await;
        one.unwrap();
        other.unwrap();
    });
    first.join().unwrap().unwrap();
    assert_eq!(begun.load(Ordering::SeqCst), 2);
    let calls = transport.calls();
    let reads: Vec<_> =
        calls.iter().filter(|call| call.method == "GET").map(|call| call.header("authorization")).collect();
    assert_eq!(reads, ["Bearer token-1"; 3], "what came late is revoked at most");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_a_logout_did_not_wait_for_serves_nobody() {
    let issued = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match (seen.method.as_str(), seen.is_login()) {
        ("DELETE", _) => reply(204, ""),
        (_, true) => {
            let n = issued.fetch_add(1, Ordering::SeqCst);
            Reply::Later(Duration::from_secs(if n == 0 { 8 } else { 5 }), Box::new(token(&format!("token-{n}"))))
        }
        _ => script(),
    });
    let agent = transport.agent().with_timeout(Duration::from_secs(60));
    let (one, id) = (agent.clone(), id());
    let waits = tokio::spawn(async move { one.script(&id).await });
    sleep(Duration::from_secs(1)).await;
    agent.with_timeout(Duration::from_secs(1)).log_out().await.unwrap();
    // Whoever logs in anew is served by the new login alone, although the other ends while it is under way.
    sleep(Duration::from_secs(4)).await;
    agent.script(&common::id()).await.unwrap();
    assert_eq!(agent.session().unwrap().access_token.unwrap().expose_secret(), "token-1");
    let error = waits.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
    assert!(error.to_string().contains("the agent has logged out"), "{error}");
    let revoked: Vec<_> = transport.seen().into_iter().filter(|seen| seen.method == "DELETE").collect();
    assert_eq!(revoked.iter().map(|seen| seen.header("authorization")).collect::<Vec<_>>(), ["Bearer token-0"]);
}

#[test]
fn a_slow_login_in_a_runtime_that_is_driven_is_waited_for_in_another() {
    let transport = Scripted::by(|seen| if seen.is_login() { session_of("access", "r1") } else { script() })
        .with_latency(Duration::from_millis(2_500));
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r0"));
    let elsewhere = agent.clone();
    let other = std::thread::spawn(move || runtime().block_on(elsewhere.log_in()));
    let waited = runtime().block_on(async {
        sleep(Duration::from_millis(50)).await;
        agent.log_in().await
    });
    waited.unwrap();
    other.join().unwrap().unwrap();
    assert_eq!(transport.logins(), 1);
}

/// Redeems each refresh token once, and the code once; it takes half a second to say so.
fn redeems_once() -> Scripted {
    let redeemed = Mutex::new(Vec::new());
    Scripted::by(move |seen| {
        if !seen.is_login() {
            return script();
        }
        let mut redeemed = redeemed.lock().unwrap();
        if redeemed.contains(&seen.body) {
            return reply(400, r#"{"error":"invalid_grant","error_description":"it was redeemed"}"#);
        }
        redeemed.push(seen.body.clone());
        session_of("access", &format!("r{}", redeemed.len()))
    })
    .with_latency(Duration::from_millis(500))
}

/// Logs in, and holds its runtime up as soon as the login was sent.
async fn logs_in_and_is_held_up(agent: Agent) {
    let left = timeout(Duration::from_millis(100), agent.log_in()).await;
    assert!(left.is_err());
    let (_sender, nothing) = mpsc::channel::<()>();
    nothing.recv_timeout(Duration::from_millis(2_100)).unwrap_err();
    agent.log_in().await.unwrap();
}

#[test]
fn a_login_that_was_sent_is_waited_for_while_its_runtime_is_held_up() {
    let one_thread = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let calls_meanwhile = |held_up: tokio::runtime::Runtime, code: bool| {
        let transport = redeems_once();
        let agent = match code {
            true => with_a_code(&transport.client()),
            false => transport.client().agent(Credentials::refresh_token(oauth_client(), "r0")),
        };
        let held = held_up.spawn(logs_in_and_is_held_up(agent.clone()));
        let held = std::thread::spawn(move || held_up.block_on(held).unwrap());
        runtime().block_on(async {
            while transport.logins() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
            agent.script(&id()).await.unwrap();
        });
        held.join().unwrap();
        assert_eq!(transport.logins(), 1);
        assert_eq!(secret(agent.session().unwrap().refresh_token.as_ref()), "r1");
    };
    let meanwhile = &calls_meanwhile;
    std::thread::scope(|scope| {
        for code in [false, true] {
            scope.spawn(move || meanwhile(runtime(), code));
            scope.spawn(move || meanwhile(one_thread(), code));
        }
    });
}

/// The runtime that it logs in in, as it is left in the middle of the login.
fn left_in_a_login(agent: &Agent) -> tokio::runtime::Runtime {
    let left = runtime();
    assert!(left.block_on(async { timeout(Duration::from_millis(100), agent.log_in()).await }).is_err());
    left
}

#[test]
fn who_waits_for_a_login_whose_runtime_ends_begins_another() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { script() })
        .with_latency(Duration::from_millis(500));
    let agent = transport.agent();
    let ends = left_in_a_login(&agent);
    runtime().block_on(async {
        let ends = async {
            sleep(Duration::from_millis(100)).await;
            ends.shutdown_background();
        };
        join(agent.script(&id()), ends).await.0.unwrap();
    });
    assert_eq!(transport.logins(), 2);
}

#[test]
fn a_code_whose_login_was_stopped_is_sent_again_only_where_it_was_not_redeemed() {
    let transport = redeems_once();
    let agent = with_a_code(&transport.client());
    drop(left_in_a_login(&agent));
    let error = virtually(agent.script(&id())).unwrap_err();
    assert_eq!((error.kind(), transport.logins()), (ErrorKind::LoginRefused, 1), "{error}");
    assert!(error.to_string().contains("must log in again"), "{error}");

    let logins = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match (seen.is_login(), logins.fetch_add(1, Ordering::SeqCst)) {
        (true, 0) => reply(400, THROTTLED),
        (true, _) => session_of("access", "r1"),
        (false, _) => script(),
    });
    let agent = with_a_code(&transport.client());
    drop(left_in_a_login(&agent));
    assert_eq!(transport.logins(), 1);
    virtually(agent.script(&id())).unwrap();
}

/// Each credential there is, made of this text, and what an error calls it.
fn made_of(text: &str) -> Vec<(&'static str, Credentials)> {
    let code = |code: &str, redirect_uri: &str, verifier: &str| Credentials::AuthorizationCode {
        client: oauth_client(),
        code: code.into(),
        redirect_uri: redirect_uri.to_owned(),
        verifier: Some(verifier.into()),
    };
    let saml = |org: &str, assertion: &str| Credentials::Saml2Bearer {
        client: oauth_client(),
        org_name: org.to_owned(),
        assertion: assertion.into(),
    };
    let mut stored = Session::from_access_token(text);
    stored.refresh_token = Some("refresh".into());
    let back = "https://desk.example/back";
    vec![
        ("the client id", Credentials::client(text, "secret")),
        ("the client secret", Credentials::client("client-id", text)),
        ("the client secret", Credentials::refresh_token(OAuthClient::new("client-id", text), "refresh")),
        ("the authorization code", code(text, back, "verifier")),
        ("the redirect URI", code("code", text, "verifier")),
        ("the PKCE verifier", code("code", back, text)),
        ("the organisation's name", saml(text, "PHNhbWw+")),
        ("the SAML assertion", saml("acme", text)),
        ("the refresh token", Credentials::refresh_token(oauth_client(), text)),
        ("the session's access token", Credentials::Session { client: oauth_client(), session: stored }),
        ("the access token", Credentials::access_token(text)),
    ]
}

/// Refused before anything is sent, each time.
async fn refused(client: &Client, transport: &Scripted, credentials: Credentials) -> String {
    let agent = client.agent(credentials);
    let error = agent.log_in().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(!error.may_have_been_sent() && !error.is_retryable(), "{error}");
    for _ in 0..2 {
        assert_eq!(agent.script(&id()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        advance(Duration::from_secs(31)).await;
    }
    assert!(transport.seen().is_empty() && agent.session().is_none());
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn credentials_as_files_and_forms_have_them_are_refused_with_the_reason() {
    let transport = Scripted::by(|_| script());
    let client = transport.client();
    for (text, flaw) in [
        ("", "is empty"),
        (" \t\n", "is blank"),
        ("\u{FEFF}", "is blank"),
        ("s3cr3t\n", "ends with a line end"),
        ("s3cr3t\r\n", "ends with a line end"),
        ("\ns3cr3t", "begins with a line end"),
        (" s3cr3t", "begins with a blank"),
        ("s3cr3t ", "ends with a blank"),
        ("s3cr3t\u{A0}", "ends with a blank"),
        ("\u{200B}s3cr3t", "begins with a blank"),
        ("\u{FEFF}s3cr3t", "byte order mark"),
        ("\"s3cr3t\"", "stands in quotes"),
        ("'s3cr3t'", "stands in quotes"),
        ("\u{201C}s3cr3t\u{201D}", "stands in quotes"),
        ("${s3cr3t}", "placeholder that was never filled in"),
        ("${env.s3cr3t}", "placeholder that was never filled in"),
        ("{{ s3cr3t }}", "placeholder that was never filled in"),
    ] {
        for (what, credentials) in made_of(text) {
            let error = refused(&client, &transport, credentials).await;
            assert!(error.contains(&format!("{what} ")) && error.contains(flaw), "{what} {text:?}: {error}");
            assert!(!error.contains("s3cr3t") && error.contains("nothing was sent"), "{error}");
        }
    }
    // Where only what a machine issued is allowed; names and URLs may hold more.
    for (text, flaw) in [("s3\ncr3t", "line end in it"), ("s3\u{0}cr3t", "nobody sees"), ("s3–cr3t", "not ASCII")] {
        for (what, credentials) in made_of(text) {
            if !["the redirect URI", "the organisation's name", "the SAML assertion"].contains(&what) {
                let error = refused(&client, &transport, credentials).await;
                assert!(error.contains(what) && error.contains(flaw), "{what} {text:?}: {error}");
            }
        }
    }
    for token in ["Bearer s3cr3t", "bearer s3cr3t", "BEARER  s3cr3t", "Bearer"] {
        let error = refused(&client, &transport, Credentials::access_token(token)).await;
        assert!(error.contains("`Bearer` before it") && !error.contains("s3cr3t"), "{error}");
    }
    let error = refused(&client, &transport, Credentials::access_token("s3 cr3t")).await;
    assert!(error.contains("has a blank in it"), "{error}");
    let error = refused(&client, &transport, Credentials::client("client:id", "s3cr3t")).await;
    assert!(error.contains("the client id has a colon in it"), "{error}");
    let error = refused(&client, &transport, Credentials::client("client-id", "")).await;
    assert!(error.contains("`OAuthClient::public`"), "{error}");
    let error = refused(&client, &transport, Credentials::Client(OAuthClient::public("client-id"))).await;
    assert!(error.contains("need a client secret"), "{error}");
    let mut nothing = Session::from_access_token("");
    nothing.access_token = None;
    let credentials = Credentials::Session { client: oauth_client(), session: nothing };
    assert!(refused(&client, &transport, credentials).await.contains("neither an access token nor a refresh token"));

    for client in [OAuthClient::public("id\n"), OAuthClient::new("id", "secret\n"), OAuthClient::public("")] {
        let begun = Authorization::begin(&Region::US_EAST_1, client, "https://desk.example/back");
        assert_eq!(begun.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_for_a_credential_is_not_sent_as_one() {
    let transport = Scripted::by(|_| script());
    let client = transport.client();
    let is_free = |what: &str| ["the redirect URI", "the organisation's name", "the SAML assertion"].contains(&what);
    for text in [
        "<client-secret>",
        "<ACCESS_TOKEN>",
        "$(cat /run/s3cr3t)",
        "$(ClientSecret)",
        "#{secret}",
        "#(secret)",
        "@{secret}",
        "%CLIENT_SECRET%",
        "null",
        "NULL",
        "(null)",
        "undefined",
        "None",
        "[object Object]",
    ] {
        for (what, credentials) in made_of(text).into_iter().filter(|(what, _)| !is_free(what)) {
            let error = refused(&client, &transport, credentials).await;
            let is_told = error.contains("placeholder that was never filled in");
            assert!(is_told || text.contains(' ') && error.contains("has a blank in it"), "{what} {text:?}: {error}");
            assert!(error.contains(what) && !error.contains("s3cr3t"), "{error}");
        }
    }
    let uris =
        ["https://desk.example/back\n", " https://desk.example/back", "\"https://desk.example/back\"", "${BACK}", ""];
    for uri in uris {
        let begun = Authorization::begin(&Region::US_EAST_1, OAuthClient::public("id"), uri);
        let error = begun.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("the redirect URI"), "{uri:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_users_own_source_is_looked_at_like_any_other_and_asked_for_again() {
    for (bad, flaw) in [("Bearer t", "`Bearer` before it"), ("t\n", "line end"), ("", "is empty"), ("'t'", "quotes")] {
        let asked = AtomicUsize::new(0);
        let transport = Scripted::by(|_| script());
        let agent = transport.client().agent(Credentials::source(move || {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            async move { Ok(Session::from_access_token(if first { bad } else { "good" })) }
        }));
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenSource, "{error}");
        assert!(error.to_string().contains(flaw) && transport.seen().is_empty(), "{error}");
        agent.script(&id()).await.unwrap();
        assert_eq!(transport.seen()[0].header("authorization"), "Bearer good");
    }
}

#[tokio::test(start_paused = true)]
async fn id_and_secret_go_out_as_they_are_and_alike_in_every_grant() {
    for (secret, basic) in [
        ("s+ecr/t %=&~", "Basic Y2xpZW50LWlkOnMrZWNyL3QgJT0mfg=="),
        ("a:b", "Basic Y2xpZW50LWlkOmE6Yg=="),
        ("%2B", "Basic Y2xpZW50LWlkOiUyQg=="),
        // What only looks like a placeholder, or like quotes, at one end.
        ("${x", "Basic Y2xpZW50LWlkOiR7eA=="),
        ("x}}", "Basic Y2xpZW50LWlkOnh9fQ=="),
        ("\"x", "Basic Y2xpZW50LWlkOiJ4"),
        ("<x", "Basic Y2xpZW50LWlkOjx4"),
        ("<x+y/z=>", "Basic Y2xpZW50LWlkOjx4K3kvej0+"),
        ("%x", "Basic Y2xpZW50LWlkOiV4"),
        ("%2Bx%2F%", "Basic Y2xpZW50LWlkOiUyQnglMkYl"),
        ("nullx", "Basic Y2xpZW50LWlkOm51bGx4"),
    ] {
        let transport = Scripted::by(|seen| if seen.is_login() { session_of("access", "refresh") } else { script() });
        let oauth = || OAuthClient::new("client-id", secret);
        for credentials in [
            Credentials::Client(oauth()),
            Credentials::refresh_token(oauth(), "r0"),
            Credentials::Saml2Bearer { client: oauth(), org_name: "acme".into(), assertion: "PHNhbWw+".into() },
            Credentials::AuthorizationCode {
                client: oauth(),
                code: "c+/d%e".into(),
                redirect_uri: "https://desk.example/back".into(),
                verifier: None,
            },
        ] {
            transport.client().agent(credentials).log_in().await.unwrap();
        }
        let seen = transport.seen();
        assert_eq!(seen.iter().map(|login| login.header("authorization")).collect::<Vec<_>>(), [basic; 4]);
        assert_eq!(form(&seen[3])[1], ("code".to_owned(), "c+/d%e".to_owned()));
        assert!(seen.iter().all(|login| form(login).iter().all(|(name, _)| !name.starts_with("client_"))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_that_was_only_throttled_is_good_for_another_try() {
    let sent = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match (seen.is_login(), sent.fetch_add(1, Ordering::SeqCst)) {
        (true, 0) => reply(400, THROTTLED),
        (true, 1..=8) => Reply::Broken(std::io::ErrorKind::ConnectionRefused),
        (true, _) => session_of("a", "b"),
        (false, _) => script(),
    });
    let agent = with_a_code(&transport.client());
    let mut refused = 0;
    while let Err(error) = agent.log_in().await {
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
        refused += 1;
        assert!(refused < 9, "{error}");
    }
    assert!(refused > 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_spent_is_not_to_be_tried_again_at_any_time() {
    let transport = Scripted::by(|_| reply(503, "{}").with("retry-after", "5"));
    let error = with_a_code(&transport.client()).log_in().await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::LoginRefused, Some(503)), "{error}");
    assert_eq!(error.retry_after(), None, "{error}");
    assert!(!error.to_string().contains("try again") && !error.to_string().contains("tried again"), "{error}");
    const REFUSED: &str = r#"{"error":"invalid_grant","error_description":"refresh token expired"}"#;
    let transport = Scripted::by(|_| reply(400, REFUSED).with("retry-after", "500"));
    let agent = transport.client().agent(Credentials::refresh_token(oauth_client(), "r0"));
    let error = agent.log_in().await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::LoginRefused, None), "{error}");
    assert!(!error.to_string().contains("beyond the cap"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn client_credentials_that_log_out_keep_no_refresh_token() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => session_of("access", "refresh"),
        false => script(),
    });
    let agent = transport.agent();
    agent.script(&id()).await.unwrap();
    agent.log_out().await.unwrap();
    assert!(agent.session().is_none());
    agent.script(&id()).await.unwrap();
    let logins = transport.seen().into_iter().filter(|seen| seen.is_login() && !seen.body.is_empty());
    let grants: Vec<_> = logins.map(|seen| form(&seen)[0].1.clone()).collect();
    assert_eq!(grants, ["client_credentials", "client_credentials"]);
}
