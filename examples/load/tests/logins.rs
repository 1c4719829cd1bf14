//! What a run comes to where logins are refused, slow or silent, and where nothing is asked at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

const ID: &str = "1f2e3d4c-0000-4000-8000-000000000001";
const SILENT: Duration = Duration::from_secs(600);

/// How long a login takes and how it ends, by its number, which counts from 1.
type Logins = fn(u64) -> (Duration, StatusCode);

/// Gives scripts after 5 ms, and tokens as it is told.
async fn service(logins: Logins) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            let answers = service_fn(move |request| answer(request, Arc::clone(&count), logins));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answers));
        }
    });
    url
}

async fn answer(
    request: Request<Incoming>,
    count: Arc<AtomicU64>,
    logins: Logins,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (wait, status) = match request.uri().path() {
        "/oauth/token" => logins(count.fetch_add(1, Ordering::Relaxed) + 1),
        _ => (Duration::from_millis(5), StatusCode::OK),
    };
    request.into_body().collect().await.unwrap();
    sleep(wait).await;
    let mut answer = Response::new(Full::from(r#"{"access_token":"a-token","id":"of a script"}"#));
    *answer.status_mut() = status;
    Ok(answer)
}

/// As soon as it is there.
const GOOD: (Duration, StatusCode) = (Duration::ZERO, StatusCode::OK);

fn begin(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(args).args(["--json", "-"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("GENESYSCLOUD_OAUTHCLIENT_ID", "load-test").env("GENESYSCLOUD_OAUTHCLIENT_SECRET", "s3cret");
    command.kill_on_drop(true).spawn().unwrap()
}

/// Its numbers, all that was said, and how it ended, which is soon.
async fn end(child: Child) -> (Value, String, Option<i32>) {
    let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.expect("it does not end").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (report, said, output.status.code())
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
}

#[tokio::test]
async fn a_login_for_all_that_failed_is_tried_again_by_the_next_iteration() {
    let first_fails: Logins =
        |number| if number == 1 { (Duration::from_millis(500), StatusCode::SERVICE_UNAVAILABLE) } else { GOOD };
    // Those that waited for it do not each try in their turn.
    for (agents, served, failed) in [("1", 2, 1), ("20", 40, 20)] {
        let url = service(first_fails).await;
        let args = ["--api-url", &url, "--script-id", ID, "--mode", "naive", "--shared-token", "--iterations", "3"];
        let (report, said, code) = end(begin(&[&args[..], &["--agents", agents]].concat())).await;
        let run = &report["runs"][0];
        assert_eq!((&run["served"], &run["failed"]), (&served.into(), &failed.into()), "{said}");
        assert_eq!((&run["login_attempts"], code), (&2.into(), Some(1)), "{said}");
    }
}

#[tokio::test]
async fn a_run_has_all_its_time_once_the_last_agent_is_logged_in() {
    let url = service(|number| if number == 1 { (Duration::from_secs(2), StatusCode::OK) } else { GOOD }).await;
    let args = ["--api-url", &url, "--script-id", ID, "--mode", "naive", "--agents", "3", "--duration", "1s"];
    let (report, said, code) = end(begin(&args)).await;
    let run = &report["runs"][0];
    assert!(run["started"].as_u64().unwrap() > 30 && run["failed"] == 0, "{run}");
    assert!((2_900..10_000).contains(&run["elapsed_ms"].as_u64().unwrap()), "{run}");
    assert!(said.contains("the last login ended after 2.") && code == Some(0), "{said}");
}

/// Against a quota that is soon spent, with a login that is refused, and where nobody is.
async fn in_vain() -> (Simulator, [Vec<String>; 3]) {
    let simulator = Simulator::builder().client_secret("s3cret").rate_limit(20).start().await.unwrap();
    let refusing: String = service(|_| (Duration::ZERO, StatusCode::BAD_REQUEST)).await;
    let (quota, nobody) = (simulator.url().to_owned(), "http://127.0.0.1:1".to_owned());
    let args = [(quota, "resilient"), (refusing, "resilient"), (nobody, "naive")].map(|(url, mode)| {
        let id = simulator.script_ids()[0].clone();
        let args = ["--api-url", &url, "--script-id", &id, "--mode", mode, "--agents", "8", "--call-timeout", "5s"];
        args.map(str::to_owned).to_vec()
    });
    (simulator, args)
}

fn with<'a>(args: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    args.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[tokio::test]
async fn agents_that_fail_at_once_do_not_begin_again_without_end() {
    let (_simulator, cases) = in_vain().await;
    for args in &cases {
        let (report, said, _) = end(begin(&with(args, &["--duration", "3s"]))).await;
        let run = &report["runs"][0];
        let started = run["started"].as_u64().unwrap();
        assert!((8..10_000).contains(&started) && run["failed"] != 0, "{args:?}: {started} {said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn agents_that_fail_at_once_can_be_told_to_end() {
    let (_simulator, cases) = in_vain().await;
    for args in &cases {
        let child = begin(&with(args, &["--duration", "60s"]));
        sleep(Duration::from_secs(1)).await;
        interrupt(&child);
        let (report, said, code) = end(child).await;
        assert!(code == Some(130) && report["interrupted"] == true, "{args:?}: {said}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_experiment_whose_logins_are_not_answered_can_be_told_to_end() {
    let url = service(|number| if number <= 5 { GOOD } else { (SILENT, StatusCode::OK) }).await;
    for at_once in ["0s", "1s"] {
        let args = ["--diagnose", "--api-url", &url, "--script-id", ID, "--agents", "40", "--ramp-up", at_once];
        let child = begin(&args);
        sleep(Duration::from_secs(2)).await;
        interrupt(&child);
        let told = Instant::now();
        let (report, said, code) = end(child).await;
        assert!(told.elapsed() < Duration::from_secs(5) && code == Some(130), "{said}");
        let not_tested = report["diagnosis"]["not_tested"].to_string();
        assert!(not_tested.contains("more logins"), "{not_tested}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_experiment_that_is_cut_short_says_so_and_not_that_nothing_was_found() {
    let url = service(|_| GOOD).await;
    let child = begin(&["--diagnose", "--api-url", &url, "--script-id", ID, "--agents", "40"]);
    sleep(Duration::from_millis(1_200)).await;
    interrupt(&child);
    let (report, said, code) = end(child).await;
    let diagnosis = &report["diagnosis"];
    assert_eq!((code, diagnosis["verdict"].as_str()), (Some(130), Some("not_enough_evidence")), "{said}");
    assert!(diagnosis["not_tested"].to_string().contains("what was left to try"), "{diagnosis:#}");
    assert!(said.contains("not all that is asked for was tried"), "{said}");
}
