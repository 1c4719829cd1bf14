//! What the load test promises to scripts that run it: exit codes, numbers and clear errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::process::Stdio;

use genesys_scripts::simulator::Simulator;
use serde_json::Value;
use tokio::process::Command;

const UNKNOWN_ID: &str = "00000000-0000-4000-8000-000000000000";

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn load(args: &[&str], credentials: Option<&str>) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    // A proxy that does not exist: what is on loopback is reached without it.
    command.args(args).stdin(Stdio::null()).env("HTTP_PROXY", "http://127.0.0.1:9");
    command.env_remove("GENESYSCLOUD_OAUTHCLIENT_ID").env_remove("GENESYSCLOUD_OAUTHCLIENT_SECRET");
    if let Some(secret) = credentials {
        command.env("GENESYSCLOUD_OAUTHCLIENT_ID", "load-test").env("GENESYSCLOUD_OAUTHCLIENT_SECRET", secret);
    }
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

/// Runs it and reads its numbers too.
async fn numbers(name: &str, args: &[&str], credentials: Option<&str>) -> (Ended, Vec<Value>) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{name}-{}.json", std::process::id()));
    let ended = load(&[args, &["--json", file.to_str().unwrap()]].concat(), credentials).await;
    let json = std::fs::read(&file).unwrap_or_else(|_| panic!("no numbers: {}", ended.stderr));
    std::fs::remove_file(&file).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let Value::Array(runs) = json["runs"].take() else { panic!("{json}") };
    for run in &runs {
        assert_keys(run);
    }
    (ended, runs)
}

fn assert_keys(run: &Value) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let mut expected = [
        "mode",
        "agents",
        "served",
        "failed",
        "attempts",
        "retries",
        "throttled",
        "login_attempts",
        "login_throttled",
        "bad_requests",
        "causes",
        "elapsed_ms",
        "latency_ms",
    ];
    expected.sort_unstable();
    let mut found: Vec<_> = run.as_object().unwrap().keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(["p50", "p90", "p99", "max"].iter().all(|p| run["latency_ms"][p].is_number()), "{}", keys(run));
    assert_eq!(number(run, "served") + number(run, "failed"), number(run, "agents"));
}

fn number(run: &Value, key: &str) -> u64 {
    run[key].as_u64().unwrap_or_else(|| panic!("{key} in {run}"))
}

#[tokio::test]
async fn by_default_150_agents_are_sent_both_ways_and_the_crate_serves_everyone() {
    let (ended, runs) = numbers("default", &[], None).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let [naive, resilient] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((naive["mode"].as_str(), resilient["mode"].as_str()), (Some("naive"), Some("resilient")));

    let refused = naive["bad_requests"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(refused, number(naive, "failed"), "{naive}");
    assert_eq!((number(naive, "attempts"), number(naive, "retries")), (150, 0));
    assert_eq!(number(resilient, "served"), 150);
    assert_eq!(number(resilient, "attempts"), 150 + number(resilient, "retries"));
    for run in &runs {
        assert_eq!(number(run, "login_attempts"), 150);
        let latency = |p: &str| run["latency_ms"][p].as_f64().unwrap();
        assert!(latency("p50") >= 40.0, "a login and a script, 20 ms each: {run}");
        assert!(
            latency("p50") <= latency("p90") && latency("p90") <= latency("p99") && latency("p99") <= latency("max")
        );
        assert!(latency("max") < 100.0 + number(run, "elapsed_ms") as f64);
    }
    for line in ["naive     resilient", "agents served", "agents failed by a 400", "time to the last agent"] {
        assert!(ended.stdout.contains(line), "{line} in {}", ended.stdout);
    }
}

/// Against a knee that is crossed even where a debug build on a busy machine is slow to send: the release build's
/// own default is for CI, which runs it as the README says.
#[tokio::test]
async fn the_naive_way_shows_the_reported_failure() {
    let simulator = Simulator::builder().client_secret("simulator").knee(10, 0.4).start().await.unwrap();
    let args = ["--api-url", simulator.url(), "--agents", "100", "--mode", "naive"];
    let (ended, runs) = numbers("naive", &args, Some("simulator")).await;
    assert_eq!(ended.code, Some(1));
    let [naive] = runs.as_slice() else { panic!("{runs:?}") };
    let refused = number(&naive["bad_requests"], "invalid_script_definition");
    assert!(refused > 10 && refused == number(naive, "failed"), "{naive}");
    assert!(ended.stderr.contains("\"Invalid script definition\""), "{}", ended.stderr);
}

#[tokio::test]
async fn a_shared_token_is_one_login_and_a_ramp_up_spreads_the_starts() {
    let args = ["--agents", "6", "--shared-token", "--ramp-up", "60ms"];
    let (ended, runs) = numbers("shared", &args, None).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for run in &runs {
        assert_eq!((number(run, "served"), number(run, "attempts"), number(run, "login_attempts")), (6, 6, 1), "{run}");
        assert!(number(run, "elapsed_ms") >= 50 + 20, "the last starts after 50 ms: {run}");
    }
}

#[tokio::test]
async fn a_failure_is_told_with_its_cause_and_its_numbers() {
    let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
    let url = simulator.url();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let few = ["--agents", "3", "--call-timeout", "10s"];
    let cases: [(&str, &[&str], &str, &[&str]); 4] = [
        ("secret", &["--api-url", url], "mistyped", &["log in", "invalid_client"]),
        ("id", &["--api-url", url, "--script-id", UNKNOWN_ID], "simulator", &["404", "not.found"]),
        // The crate would try again for longer than a test should wait.
        (
            "nobody",
            &["--api-url", &nobody, "--script-id", UNKNOWN_ID, "--mode", "naive"],
            "simulator",
            &["onnection refused"],
        ),
        ("nobody-lists", &["--api-url", &nobody], "simulator", &["_simulator/scripts", "onnection refused"]),
    ];
    for (name, args, secret, causes) in cases {
        let (ended, runs) = numbers(name, &[args, &few[..]].concat(), Some(secret)).await;
        assert_eq!(ended.code, Some(1), "{name}: {}", ended.stderr);
        for cause in causes {
            assert!(ended.stderr.contains(cause), "{name}: {cause} in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("mistyped") && !ended.stdout.contains("mistyped"), "the secret is told");
        assert_eq!(runs.len(), if args.contains(&"naive") { 1 } else { 2 }, "{name}");
        for run in &runs {
            assert_eq!((number(run, "served"), number(run, "failed")), (0, 3), "{name}: {run}");
            let causes = run["causes"].as_array().unwrap();
            for cause in causes {
                assert!(["name", "certainty", "advice"].iter().all(|key| cause[*key].is_string()), "{cause}");
                assert!(cause["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty()), "{cause}");
            }
            let counted: u64 = causes.iter().map(|cause| number(cause, "count")).sum();
            let refused = run["bad_requests"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
            assert!(run["mode"] == "naive" || counted == refused, "{name}: {run}");
        }
    }
}

#[tokio::test]
async fn bad_usage_says_what_to_do() {
    let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
    let elsewhere = format!("{}/elsewhere", simulator.url());
    let cases: &[(&[&str], Option<&str>, &str)] = &[
        (&["--script-id", "<EOF>"], None, "placeholder"),
        (&["--script-id", ""], None, "is empty"),
        (&["--agents", "0"], None, "--agents"),
        (&["--call-timeout", "soon"], None, "say 30s, 1500ms or 5m"),
        (&["--call-timeout", "0s"], None, "no time"),
        (&["--mode", "hasty"], None, "resilient"),
        (&["--region", "mars-north-1"], None, "no Genesys Cloud region"),
        (&["--region", "us-east-1", "--api-url", &elsewhere], None, "cannot be used with"),
        (&["--login-url", &elsewhere], None, "--api-url"),
        (&["--api-url", "http://api.example.com"], Some("simulator"), "https"),
        (&["--api-url", &elsewhere], None, "GENESYSCLOUD_OAUTHCLIENT_SECRET"),
        (&["--region", "us-east-1"], Some("simulator"), "say --script-id"),
        (&["--api-url", &elsewhere], Some("simulator"), "say --script-id"),
    ];
    for (args, credentials, says) in cases {
        let ended = load(args, *credentials).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {says} in {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
    }
}
