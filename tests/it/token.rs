//! Tokens: one login for all who wait, replaced once after a 401, never lost to a caller who leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use genesys_scripts::{Credentials, ErrorKind};

use crate::common::{self, Scripted, id, reply, script, token};

#[tokio::test(start_paused = true)]
async fn a_thousand_concurrent_calls_make_one_login() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { script() });
    // Four windows of the 300 a minute that are assumed where no header tells.
    let (agent, id) = (transport.agent().with_timeout(Duration::from_secs(300)), id());
    let results = join_all((0..1000).map(|_| agent.script(&id))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1000);
    assert_eq!(transport.logins(), 1);
    assert!(transport.calls().iter().all(|call| call.header("authorization") == "Bearer t0ken"));
}

/// Tokens t1, t2, …; all but the last one issued are refused.
fn refusing_the_first() -> Scripted {
    let issued = AtomicUsize::new(0);
    Scripted::by(move |seen| {
        if seen.is_login() {
            return token(&format!("token-{}", issued.fetch_add(1, Ordering::SeqCst) + 1));
        }
        if seen.header("authorization") == "Bearer token-1" { reply(401, "{}") } else { script() }
    })
}

#[tokio::test(start_paused = true)]
async fn fifty_concurrent_401s_make_one_replacement() {
    let transport = refusing_the_first();
    let agent = transport.agent();
    let id = id();
    let results = join_all((0..50).map(|_| agent.script(&id))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_401_does_not_throw_away_the_new_token() {
    let (issued, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let transport = Scripted::by(move |seen| match seen.header("authorization") {
        _ if seen.is_login() => token(&format!("token-{}", issued.fetch_add(1, Ordering::SeqCst) + 1)),
        // Two are sent with the first token; the second is told so long after it was replaced.
        "Bearer token-1" if refused.fetch_add(1, Ordering::SeqCst) == 0 => reply(401, "{}"),
        "Bearer token-1" => common::Reply::Later(Duration::from_secs(5), Box::new(reply(401, "{}"))),
        _ => script().with("inin-ratelimit-allowed", "300"),
    });
    let client = transport.client();
    let (agent, id) = (client.agent(common::credentials()), id());
    let both = join_all([agent.script(&id), agent.script(&id)]).await;
    assert!(both.iter().all(Result::is_ok));
    agent.script(&id).await.unwrap();
    assert_eq!(transport.logins(), 2, "the replacement is still good");
}

#[tokio::test(start_paused = true)]
async fn a_token_refused_twice_ends_the_call() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { reply(401, "{}") });
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unauthorized, 2));
    assert_eq!(transport.logins(), 2);

    // Also one that is not new any more when it is refused.
    let calls = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => token("t0ken"),
        false if calls.fetch_add(1, Ordering::SeqCst) == 1 => reply(503, "{}").with("retry-after", "65"),
        false => reply(401, "{}"),
    });
    let agent = transport.agent().with_timeout(Duration::from_secs(300));
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unauthorized, 3), "{error}");
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_shared_and_remembered() {
    let transport = Scripted::by(|_| {
        reply(
            401,
            r#"{"error":"invalid_client","description":"client not found","error_description":"client not found"}"#,
        )
    });
    let agent = transport.agent();
    let id = id();
    let results = join_all((0..50).map(|_| agent.script(&id))).await;
    assert_eq!(transport.logins(), 1);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::LoginRefused, Some("invalid_client")));
        assert!(error.is_login() && !error.may_have_been_sent() && error.attempts() == 0);
        assert!(error.to_string().contains("client not found"), "{error}");
        assert!(error.to_string().contains("could not log in (1 login attempt): "), "{error}");
        assert!(
            error.to_string().contains("(OAuth client \"") && error.to_string().contains("\" at 127.0.0.1:9)"),
            "{error}"
        );
        assert!(!error.to_string().contains("0 attempts"), "{error}");
    }
    tokio::time::advance(Duration::from_secs(12)).await;
    let error = agent.script(&id).await.unwrap_err();
    assert_eq!(transport.logins(), 1, "a definitive refusal is not asked for again");
    assert_eq!((error.kind(), error.status()), (ErrorKind::LoginRefused, Some(401)), "{error}");
    assert!(error.to_string().contains("could not log in: not asked for again for 18 s, as it was refused"), "{error}");
    tokio::time::advance(Duration::from_secs(19)).await;
    let error = agent.script(&id).await.unwrap_err();
    assert_eq!(transport.logins(), 2, "for 30 s");
    assert!(error.to_string().contains("could not log in (1 login attempt): the login was refused"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_says_whether_it_and_the_call_were_ever_sent() {
    let logins = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true if logins.fetch_add(1, Ordering::SeqCst) == 0 => token("t0ken"),
        true => reply(400, r#"{"error":"invalid_client"}"#),
        false => reply(401, "{}"),
    });
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_login(), error.attempts()), (ErrorKind::LoginRefused, true, 1), "{error}");
    assert!(error.may_have_been_sent(), "the call, with the token that was refused");

    let unsent = transport.client().agent(Credentials::client("", "")).script(&id()).await.unwrap_err();
    assert!(unsent.to_string().contains("could not log in: ") && !unsent.may_have_been_sent(), "{unsent}");
}

#[tokio::test(start_paused = true)]
async fn a_login_outlives_the_caller_who_began_it() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { script() })
        .with_latency(Duration::from_secs(5));
    let agent = transport.agent();
    let error = agent.with_timeout(Duration::from_secs(1)).script(&id()).await.unwrap_err();
    assert!(error.is_timeout() && error.attempts() == 0 && !error.may_have_been_sent(), "{error}");
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_before_it_expires_while_calls_go_on() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { script() });
    let agent = transport.agent();
    agent.script(&id()).await.unwrap();
    tokio::time::advance(Duration::from_secs(86_400 - 10)).await;
    agent.script(&id()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(transport.logins(), 2);
    tokio::time::advance(Duration::from_secs(60)).await;
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_replacement_keeps_the_token() {
    let logins = AtomicUsize::new(0);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true if logins.fetch_add(1, Ordering::SeqCst) == 0 => token("t0ken"),
        true => reply(400, r#"{"error":"invalid_client"}"#),
        false => script(),
    });
    let agent = transport.agent();
    agent.script(&id()).await.unwrap();
    tokio::time::advance(Duration::from_secs(86_400 - 10)).await;
    for _ in 0..5 {
        agent.script(&id()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(transport.logins(), 2, "the failed replacement is not hammered");
}

#[tokio::test(start_paused = true)]
async fn a_ready_made_token_is_used_as_it_is_and_cannot_be_replaced() {
    let transport = Scripted::replies([script(), reply(401, "{}")]);
    let agent = transport.client().agent(Credentials::access_token("ready-made"));
    agent.script(&id()).await.unwrap();
    assert_eq!(transport.calls()[0].header("authorization"), "Bearer ready-made");
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(transport.logins(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ready_made_token_that_was_refused_once_is_tried_again_later_and_what_was_said_is_kept() {
    let refusal = reply(401, r#"{"code":"bad.credentials","status":401,"message":"no"}"#);
    let transport = Scripted::replies([script(), refusal.with("inin-correlation-id", "c-1"), script()]);
    let agent = transport.client().agent(Credentials::access_token("ready-made"));
    agent.script(&id()).await.unwrap();
    for sent in [2, 2] {
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Unauthorized, Some(401)), "{error}");
        assert_eq!((error.code(), error.correlation_id()), (Some("bad.credentials"), Some("c-1")), "{error}");
        assert_eq!(transport.calls().len(), sent, "{error}");
    }
    let error = agent.script(&id()).await.unwrap_err();
    assert!(error.to_string().contains("refused a moment ago, and there is no other"), "{error}");
    tokio::time::sleep(error.retry_after().unwrap()).await;
    agent.script(&id()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_no_header_can_carry_is_refused_before_anything_is_sent() {
    let transport = Scripted::replies([]);
    let agent = transport.client().agent(Credentials::access_token("two\r\nlines"));
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(transport.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_login_is_a_client_credentials_grant_with_basic() {
    let transport = Scripted::replies([script()]);
    transport.agent().script(&id()).await.unwrap();
    let login = &transport.seen()[0];
    assert_eq!((login.method.as_str(), login.url.as_str()), ("POST", "http://127.0.0.1:9/oauth/token"));
    assert_eq!(login.header("authorization"), "Basic Y2xpZW50LWlkOmh1bnRlcjItdGhlLXNlY3JldA==");
    assert_eq!(login.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(login.body, b"grant_type=client_credentials");
    assert!(login.headers["authorization"].is_sensitive());
    assert!(transport.calls()[0].headers["authorization"].is_sensitive());
}

#[tokio::test(start_paused = true)]
async fn odd_token_answers_are_typed_errors_or_a_fresh_login_and_never_a_loop() {
    for lifetime in ["0", "1", "18446744073709551615"] {
        let body = format!(r#"{{"access_token":"t0ken","token_type":"bearer","expires_in":{lifetime}}}"#);
        let transport = Scripted::by(move |seen| if seen.is_login() { reply(200, body.clone()) } else { script() });
        let agent = transport.agent();
        for _ in 0..3 {
            agent.script(&id()).await.unwrap();
        }
        assert!(transport.logins() <= 3, "{lifetime}: {}", transport.logins());
    }
    for body in [
        r#"{"access_token":"","token_type":"bearer"}"#,
        r#""s3cr3t-t0ken""#,
        "<html>s3cr3t-t0ken</html>",
        "",
        r#"{"error":"invalid_client"}"#,
    ] {
        let transport = Scripted::by(move |_| reply(200, body));
        let error = transport.agent().script(&id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{body}: {error}");
        assert_eq!(transport.logins(), 1, "{body}");
        assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_wait_for_a_failing_login_is_told_what_it_met() {
    let transport = Scripted::by(|_| common::Reply::Broken(std::io::ErrorKind::ConnectionRefused));
    let error = transport.agent().with_timeout(Duration::from_millis(60)).script(&id()).await.unwrap_err();
    assert!(error.is_timeout() && error.is_login(), "{error:?}");
    assert!(error.to_string().contains("broke before it answered"), "{error}");
}
