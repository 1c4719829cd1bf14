//! Faults without a socket, and the builder's refusals.

use std::time::Duration;

use genesys_scripts::simulator::{Fault, Simulator};
use tokio::time::Instant;

use super::peer::{CLIENT, Peer, builder, send};

async fn with(fault: Fault) -> (Peer, String, String) {
    let peer = Peer::of(builder().fault(fault, 1.0));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    (peer, token, path)
}

#[tokio::test(start_paused = true)]
async fn envelopes() {
    let cases = [
        (Fault::InternalServerError, 500, "internal.server.error"),
        (Fault::InvalidScriptDefinition, 400, "bad_request"),
        (Fault::Forbidden, 403, "not.authorized"),
        (Fault::ServiceUnavailable, 503, "service.unavailable"),
        (Fault::GatewayTimeout, 504, "request.timeout"),
        (Fault::Unauthorized, 401, "bad.credentials"),
        (Fault::RequestTimeout, 408, "client.timeout"),
        (Fault::TooManyRequests, 429, "too.many.requests.retry.after"),
    ];
    for (fault, status, code) in cases {
        let (peer, token, path) = with(fault).await;
        let reply = peer.get(&token, &path).await;
        let message = reply.json()["message"].as_str().expect("message").to_owned();
        reply.refused(status, code, &message);
        assert_eq!(reply.header("inin-ratelimit-count"), Some("1"));
        assert_eq!(peer.simulator.stats().script_requests[&status.to_string()], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_and_nothing() {
    for (fault, status) in [(Fault::BadGatewayHtml, 502), (Fault::NotJson, 200), (Fault::Empty, 200)] {
        let (peer, token, path) = with(fault).await;
        let reply = peer.get(&token, &path).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.bytes.is_empty(), fault == Fault::Empty);
        assert_eq!(reply.bytes.starts_with(b"<"), fault != Fault::Empty);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_and_stalled() {
    let (peer, token, path) = with(Fault::Slow).await;
    let start = Instant::now();
    assert_eq!(peer.get(&token, &path).await.status, 200);
    assert_eq!(start.elapsed(), Duration::from_secs(5));

    let (peer, token, path) = with(Fault::Stall).await;
    let request = peer.request(reqwest::Method::GET, &path).bearer_auth(&token).send();
    assert!(tokio::time::timeout(Duration::from_secs(599), request).await.is_err());
    let error = peer.request(reqwest::Method::GET, &path).bearer_auth(&token).send().await;
    assert!(error.is_err(), "the simulator gives up in the end");
}

#[tokio::test(start_paused = true)]
async fn a_reset_and_a_truncated_answer_are_errors_of_the_connection() {
    let (peer, token, path) = with(Fault::Reset).await;
    let error = peer.request(reqwest::Method::GET, &path).bearer_auth(&token).send().await.expect_err("reset");
    let reqwest_middleware::Error::Middleware(error) = error else { panic!("{error}") };
    let error = error.downcast_ref::<std::io::Error>().expect("io");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(peer.simulator.stats().script_requests["reset"], 1);

    let (peer, token, path) = with(Fault::Truncate).await;
    let answer = peer.request(reqwest::Method::GET, &path).bearer_auth(&token).send().await.expect("headers");
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn login_faults_leave_the_api_alone_and_the_other_way_round() {
    let peer = Peer::of(builder().login_fault(Fault::ServiceUnavailable, 1.0));
    let form = [("grant_type", "client_credentials")];
    assert_eq!(peer.token(Some((CLIENT, "simulator")), &form).await.status, 503);
    peer.simulator.set_login_fault(Fault::ServiceUnavailable, 0.0);
    let token = peer.login().await;
    peer.simulator.set_fault(Fault::InternalServerError, 1.0);
    assert_eq!(peer.get(&token, "/api/v2/scripts").await.status, 500);
    peer.simulator.set_fault(Fault::InternalServerError, 0.0);
    assert_eq!(peer.get(&token, "/api/v2/scripts").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_often_as_told() {
    let peer =
        Peer::of(builder().rate_limit(0).fault(Fault::ServiceUnavailable, 0.3).fault(Fault::InternalServerError, 0.2));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    for _ in 0..1_000 {
        peer.get(&token, &path).await;
    }
    let counts = peer.simulator.stats().script_requests;
    assert!((250..350).contains(&counts["503"]) && (150..250).contains(&counts["500"]), "{counts:?}");
}

#[test]
fn settings_without_sense_are_refused() {
    for p in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(Simulator::builder().knee(1, p).in_process().is_err());
        assert!(Simulator::builder().fault(Fault::Reset, p).in_process().is_err());
        assert!(Simulator::builder().login_fault(Fault::Reset, p).in_process().is_err());
    }
    let both = Simulator::builder().fault(Fault::Reset, 0.6).fault(Fault::Stall, 0.6);
    assert!(both.in_process().is_err());
    assert!(Simulator::builder().scripts(u32::MAX).in_process().is_err());
    assert!(Simulator::builder().token_ttl(Duration::MAX).in_process().is_err());
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let peer = Peer::of(builder().client_secret("very-secret"));
    let form = [("grant_type", "client_credentials")];
    let token = peer.token(Some((CLIENT, "very-secret")), &form).await.json();
    let token = token["access_token"].as_str().expect("token").to_owned();
    peer.get(&token, &format!("/api/v2/scripts?name={token}")).await;
    send(peer.request(reqwest::Method::POST, "/oauth/token").body("client_secret=very-secret")).await;
    let printed = format!(
        "{:?} {:?} {:?} {:?}",
        peer.simulator,
        peer.simulator.requests(),
        peer.simulator.transport(),
        builder().client_secret("very-secret")
    );
    assert!(!printed.contains("very-secret") && !printed.contains(&token), "{printed}");
    let header = peer.simulator.requests()[1].headers["authorization"].clone();
    assert_eq!(header.to_str().ok(), Some(format!("Bearer {token}").as_str()), "tests can look");
}
