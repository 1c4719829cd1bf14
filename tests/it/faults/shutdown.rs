//! The client and its agents are dropped while something is under way: all of it ends, tasks, timers and connections.

use std::time::Duration;

use genesys_scripts::{Agent, ClientBuilder, Credentials, OAuthClient, PublishScript, RetryPolicy, Session};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::server::{Do, Server, answer};
use super::{ATTEMPT, Trial};
use crate::common::{credentials, id};

fn silent() -> Server {
    Server::http(|_| vec![Do::Nothing])
}

/// No timeout of the client's is near: what is left would stay.
fn patient(builder: ClientBuilder) -> ClientBuilder {
    let hour = Duration::from_secs(3_600);
    let builder = builder.max_in_flight(2).attempt_timeout(hour).call_timeout(hour).login_timeout(hour);
    builder.login_throttle_timeout(hour)
}

async fn until(what: &str, so: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(ATTEMPT, wait).await.is_ok(), "{what}");
}

/// Calls of these agents, some of which wait for a place, are dropped with all else.
async fn dropped_amid(
    what: &str,
    trial: Trial,
    agents: impl IntoIterator<Item = Agent>,
    under_way: fn(&Trial) -> bool,
) {
    let mut calls = JoinSet::new();
    for agent in agents {
        let publishing = agent.clone();
        calls.spawn(async move { agent.script(&id()).await.map(drop) });
        calls.spawn(async move { publishing.publish(&id(), &PublishScript::default()).await.map(drop) });
    }
    until(what, || under_way(&trial)).await;
    calls.shutdown().await;
    trial.ends(what).await;
}

#[tokio::test]
async fn with_calls_in_flight_and_others_that_wait_for_their_place() {
    let trial = Trial::new(silent(), Server::well(), patient);
    let agents: Vec<_> = (0..5).map(|_| trial.client.agent(Credentials::access_token("t0ken"))).collect();
    dropped_amid("in flight", trial, agents, |trial| trial.api.requests() == 2).await;
}

#[tokio::test]
async fn with_logins_in_flight_and_others_that_wait_for_their_place() {
    let trial = Trial::new(Server::well(), silent(), patient);
    let agents: Vec<_> = (0..5).map(|_| trial.client.agent(credentials())).collect();
    dropped_amid("logins in flight", trial, agents, |trial| trial.login.requests() == 2).await;
}

#[tokio::test]
async fn with_logins_that_wait_for_a_limit_or_a_backoff() {
    for fault in [
        answer("429 Too Many Requests", "retry-after: 170\r\n", ""),
        answer("503 Service Unavailable", "retry-after: 170\r\n", ""),
        answer("503 Service Unavailable", "", ""),
    ] {
        let mut retry = RetryPolicy::default();
        (retry.initial_backoff, retry.max_backoff) = (Duration::from_secs(3_000), Duration::from_secs(3_000));
        let trial = Trial::new(Server::well(), Server::http(move |_| vec![fault.clone()]), |builder| {
            patient(builder).retry(retry)
        });
        let agents: Vec<_> = (0..5).map(|_| trial.client.agent(credentials())).collect();
        dropped_amid("logins that wait", trial, agents, |trial| trial.login.requests() >= 2).await;
    }
}

#[tokio::test]
async fn with_calls_that_wait_for_a_quota_or_a_backoff() {
    for fault in ["429 Too Many Requests", "503 Service Unavailable"] {
        let fault = answer(fault, "retry-after: 170\r\n", "");
        let trial = Trial::new(Server::http(move |_| vec![fault.clone()]), Server::well(), patient);
        let agents: Vec<_> = (0..2).map(|_| trial.client.agent(credentials())).collect();
        dropped_amid("calls that wait", trial, agents, |trial| trial.api.requests() >= 3).await;
    }
}

#[tokio::test]
async fn with_a_token_that_is_replaced_early() {
    let login = Server::http(|request| match request.nth {
        0 => vec![answer("200 OK", "", r#"{"access_token":"t0ken","token_type":"bearer","expires_in":1000}"#)],
        _ => vec![Do::Nothing],
    });
    let trial = Trial::new(Server::well(), login, patient);
    let agent = trial.client.agent(credentials());
    agent.script(&id()).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(990)).await;
    tokio::time::resume();
    // The call itself is served with the token that is still good.
    agent.script(&id()).await.unwrap();
    until("replaced", || trial.login.requests() == 2).await;
    drop(agent);
    trial.ends("replaced early").await;
}

#[tokio::test]
async fn a_session_that_the_user_is_to_be_told_of_is_told_before_all_ends() {
    let body = r#"{"access_token":"new","refresh_token":"next","token_type":"bearer","expires_in":1000}"#;
    let late = move |_: &super::server::Request<'_>| {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        // Some 200 ms, in which everyone leaves.
        vec![Do::Slowly(b"HTTP/1.1".to_vec()), Do::Say([&head.as_bytes()[8..], body.as_bytes()].concat())]
    };
    let trial = Trial::new(Server::well(), Server::http(late), patient);
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let session = Session::from_refresh_token("last");
    let agent = trial.client.agent(Credentials::Session { client: OAuthClient::new("client-id", "hunter2"), session });
    let agent = agent.on_session(move |session| {
        let told = told.clone();
        async move { told.send(session).unwrap() }
    });
    let call = tokio::spawn(async move { agent.script(&id()).await.map(drop) });
    until("refreshes", || trial.login.requests() == 1).await;
    call.abort();
    let session = timeout(ATTEMPT, hears.recv()).await.unwrap().unwrap();
    assert!(session.refresh_token.is_some(), "the one before is void");
    trial.ends("a session to tell of").await;
}

#[tokio::test]
async fn with_connections_that_fell_silent() {
    let trial = Trial::new(silent(), Server::well(), |builder| {
        patient(builder).attempt_timeout(Duration::from_millis(100)).call_timeout(Duration::from_millis(450))
    });
    let agent = trial.client.agent(Credentials::access_token("t0ken"));
    assert!(agent.script(&id()).await.unwrap_err().is_timeout());
    assert!(trial.api.requests() > 1);
    drop(agent);
    trial.ends("silent").await;
}
