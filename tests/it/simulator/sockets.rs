//! What only a real socket shows: resets, answers cut off, headers as they are spelled, the program itself.

use std::io;
use std::time::Duration;

use genesys_scripts::simulator::{Fault, Simulator, SimulatorBuilder};
use genesys_scripts::{Client, Credentials, ErrorKind, Region, ScriptFile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::peer::{builder, plain_http};

async fn with(builder: SimulatorBuilder) -> (Simulator, String) {
    let simulator = builder.start().await.expect("starts");
    let url = format!("{}/oauth/token", simulator.url());
    let login = plain_http()
        .post(url)
        .basic_auth("client", Some("simulator"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials");
    let body = login.send().await.expect("login").bytes().await.expect("body");
    let body: serde_json::Value = serde_json::from_slice(&body).expect("json");
    let token = body["access_token"].as_str().expect("token").to_owned();
    (simulator, token)
}

/// Sends one request on a connection of its own; all that comes back, and how it ended.
async fn exchange(simulator: &Simulator, token: &str) -> (String, io::Result<()>) {
    let mut stream = ask(simulator, token).await;
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).await.map(drop);
    (String::from_utf8_lossy(&received).into_owned(), ended)
}

async fn ask(simulator: &Simulator, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(simulator.address().expect("an address")).await.expect("connects");
    let id = simulator.script_ids().swap_remove(0);
    let request = format!(
        "GET /api/v2/scripts/{id} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sends");
    stream
}

#[tokio::test]
async fn headers_are_spelled_as_clients_look_them_up() {
    let (simulator, token) = with(builder().rate_limit(1)).await;
    let (answer, ended) = exchange(&simulator, &token).await;
    assert!(ended.is_ok() && answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (answer, _) = exchange(&simulator, &token).await;
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 60\r\n") && answer.contains("\r\nContent-Type: application/json\r\n"));
}

#[tokio::test]
async fn a_reset_is_a_reset_before_the_first_byte() {
    let (simulator, token) = with(builder().fault(Fault::Reset, 1.0)).await;
    let (answer, ended) = exchange(&simulator, &token).await;
    assert_eq!(answer, "");
    assert_eq!(ended.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_truncated_answer_promises_more_than_it_sends() {
    let (simulator, token) = with(builder().fault(Fault::Truncate, 1.0)).await;
    let (answer, _) = exchange(&simulator, &token).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let length: usize = length.parse().expect("a number");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(!body.is_empty() && body.len() == length / 2, "{} of {length}", body.len());

    let url = format!("{}/api/v2/scripts/{}", simulator.url(), simulator.script_ids().swap_remove(0));
    let answer = plain_http().get(url).bearer_auth(&token).send().await.expect("a head");
    assert!(answer.bytes().await.is_err());
}

#[tokio::test]
async fn a_stalled_request_ends_when_its_client_leaves() {
    let (simulator, token) = with(builder().fault(Fault::Stall, 1.0)).await;
    let mut stream = ask(&simulator, &token).await;
    let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
    assert!(nothing.is_err(), "silence");
    drop(stream);
    for _ in 0..50 {
        if simulator.stats().script_requests.get("dropped") == Some(&1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{:?}", simulator.stats());
}

#[tokio::test]
async fn other_faults_arrive_over_the_wire_as_they_are() {
    for (fault, status_line, part) in [
        (Fault::BadGatewayHtml, "HTTP/1.1 502 Bad Gateway\r\n", "<center><h1>502 Bad Gateway</h1></center>"),
        (Fault::NotJson, "HTTP/1.1 200 OK\r\n", "<!DOCTYPE html>"),
        (Fault::Empty, "HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n"),
        (Fault::ServiceUnavailable, "HTTP/1.1 503 Service Unavailable\r\n", "\"code\":\"service.unavailable\""),
    ] {
        let (simulator, token) = with(builder().fault(fault, 1.0)).await;
        let (answer, ended) = exchange(&simulator, &token).await;
        assert!(ended.is_ok() && answer.starts_with(status_line) && answer.contains(part), "{answer}");
    }
}

#[tokio::test]
async fn a_simulator_that_is_dropped_is_gone_with_its_connections() {
    let (simulator, token) = with(builder().fault(Fault::Stall, 1.0)).await;
    let address = simulator.address().expect("an address");
    let mut stream = ask(&simulator, &token).await;
    drop(simulator);
    let end = tokio::time::timeout(Duration::from_secs(5), stream.read_u8()).await;
    assert!(end.expect("ends").is_err());
    assert!(TcpStream::connect(address).await.is_err());
    let again = builder().listen(address).start().await.expect("the port is free again");
    assert_eq!(again.address(), Some(address));
    assert!(builder().listen(address).start().await.is_err(), "and now it is not");
}

#[tokio::test]
async fn garbage_does_no_harm() {
    let (simulator, token) = with(builder()).await;
    for garbage in [&b"\x00\xff\x00\xff\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"POST /oauth/token HTTP/1.1\r\n", b""]
    {
        let mut stream = TcpStream::connect(simulator.address().expect("an address")).await.expect("connects");
        stream.write_all(garbage).await.expect("sends");
        drop(stream);
    }
    assert!(exchange(&simulator, &token).await.0.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_body_that_is_none_is_malformed_and_not_too_large() {
    let (simulator, token) = with(builder()).await;
    let mut stream = TcpStream::connect(simulator.address().expect("an address")).await.expect("connects");
    let head = "POST /api/v2/scripts/published HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n";
    let request = format!("{head}authorization: Bearer {token}\r\ncontent-type: application/json\r\n\r\nzz\r\n");
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400");
}

#[tokio::test]
async fn an_upload_of_16_mib_is_taken_and_a_larger_one_is_told_so() {
    let simulator = builder().start().await.expect("starts");
    let here = simulator.url();
    let client = Client::builder(Region::custom(here, here, here).expect("loopback")).build().expect("a client");
    let agent = client.agent(Credentials::client("uploads", "simulator"));
    let sized = |bytes: usize| {
        let file = format!(r#"{{"name":"Large","pages":[],"padding":"{}"}}"#, "x".repeat(bytes));
        file.parse::<ScriptFile>().expect("an object")
    };
    for bytes in [1_900_000, 2_110_000, 16 * 1024 * 1024 - 10_000] {
        let taken = agent.upload(&sized(bytes), "Large", None).await;
        assert!(taken.is_ok(), "{bytes}: {taken:?}");
    }
    for bytes in [16 * 1024 * 1024 + 1, 48 * 1024 * 1024] {
        let error = agent.upload(&sized(bytes), "Large", None).await.expect_err("too large");
        assert_eq!((error.kind(), error.code()), (ErrorKind::TooLarge, Some("request.entity.too.large")), "{error}");
        assert!(error.to_string().contains("Maximum bytes: 16777216"), "{error}");
    }
}
