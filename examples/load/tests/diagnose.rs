//! `--diagnose` over real sockets: each cause that the simulator can have, and none where it has none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt as _;
use genesys_scripts::simulator::{Fault, Simulator, SimulatorBuilder, When};
use serde_json::Value;
use tokio::process::Command;

const BUDGET: u64 = 1_600;

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn diagnosis(&self) -> Value {
        let json: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}{}", self.stdout, self.stderr));
        json["diagnosis"].clone()
    }

    fn causes(&self) -> Vec<String> {
        let diagnosis = self.diagnosis();
        let causes = diagnosis["causes"].as_array().unwrap();
        let mut sure: Vec<String> = causes
            .iter()
            .filter(|cause| cause["certainty"] != "possible" && cause.get("follows").is_none())
            .map(|cause| cause["name"].as_str().unwrap().to_owned())
            .collect();
        sure.sort();
        sure
    }
}

async fn load(args: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(args);
    ended(command.stdout(Stdio::piped())).await
}

async fn ended(command: &mut Command) -> Ended {
    command.env("GENESYSCLOUD_OAUTHCLIENT_ID", "load-test").env("GENESYSCLOUD_OAUTHCLIENT_SECRET", "simulator");
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ended = Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) };
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

fn simulator() -> SimulatorBuilder {
    Simulator::builder().client_secret("simulator").latency(Duration::from_millis(25))
}

async fn diagnose(simulator: &Simulator, more: &[&str]) -> Ended {
    let budget = BUDGET.to_string();
    let args = ["--diagnose", "--diagnose-requests", &budget, "--agents", "40", "--json", "-", "--api-url"];
    let ended = load(&[&args, [simulator.url()].as_slice(), more].concat()).await;
    let stats = simulator.stats();
    let sent = stats.script_requests.values().sum::<u64>() + stats.logins.values().sum::<u64>();
    assert!(sent <= BUDGET, "{sent} requests");
    ended
}

/// What is expected of a simulator so made.
type Case = (&'static [&'static str], SimulatorBuilder);

#[tokio::test]
async fn each_cause_is_told_over_sockets() {
    let bad = Fault::InvalidScriptDefinition;
    let cases: Vec<Case> = vec![
        (&["overload"], simulator().knee(15, 0.6).latency(Duration::from_millis(60))),
        (&["broken_script"], simulator().fault_when(When::Script(3), bad, 1.0)),
        (&["connection_churn"], simulator().fault_when(When::NewConnection, bad, 0.7)),
        (&["connection_reuse"], simulator().fault_when(When::KeptConnection, bad, 0.5)),
        (&["cold_start"], simulator().fault_when(When::FirstOfScript, Fault::ServiceUnavailable, 1.0)),
        (&["contention"], simulator().fault_when(When::SameScript, bad, 0.9)),
        (&["node_fault"], simulator().fault_when(When::Node(1, 3), bad, 1.0)),
        (&["address_limit"], simulator().rate_limit(0).fault_when(When::PerAddress(300), Fault::Forbidden, 1.0)),
        (&["quota"], simulator().rate_limit(12)),
        (&["session_conflict"], simulator().one_session()),
        (&["login_throttled"], simulator().login_rate_limit(9)),
        (&["transient"], simulator().fault(Fault::InternalServerError, 0.06)),
        (&["gateway_failure"], simulator().fault(Fault::BadGatewayHtml, 0.06)),
        (&["all_refused"], simulator().fault(bad, 1.0)),
        (&["service_down"], simulator().fault(Fault::ServiceUnavailable, 1.0)),
        (
            &["broken_script", "overload"],
            simulator().knee(15, 0.6).latency(Duration::from_millis(60)).fault_when(When::Script(2), bad, 1.0),
        ),
    ];
    let told = futures_util::stream::iter(cases).map(|(expected, builder)| async move {
        let simulator = builder.start().await.unwrap();
        (expected, diagnose(&simulator, &[]).await)
    });
    let told: Vec<(&[&str], Ended)> = told.buffer_unordered(6).collect().await;
    for (expected, ended) in &told {
        assert_eq!(ended.causes(), *expected, "{:#}", ended.diagnosis());
        assert_eq!(ended.code, Some(1));
        let diagnosis = ended.diagnosis();
        assert_eq!(diagnosis["verdict"], "causes");
        for cause in diagnosis["causes"].as_array().unwrap() {
            let counted = cause["evidence"][0].as_str().unwrap();
            assert!(counted.bytes().any(|byte| byte.is_ascii_digit()), "{cause}");
            assert!(!cause["advice"].as_str().unwrap().is_empty());
        }
        if expected.contains(&"overload") {
            let causes = diagnosis["causes"].as_array().unwrap();
            let overload = causes.iter().find(|cause| cause["name"] == "overload").unwrap();
            assert_eq!(overload["setting"]["name"], "max_in_flight");
            let number = overload["setting"]["value"].as_u64().unwrap();
            assert!((11..=21).contains(&number), "{overload:#}");
        }
    }
}

#[tokio::test]
async fn on_a_healthy_target_nothing_is_found_and_what_was_tried_is_told() {
    let simulator = simulator().start().await.unwrap();
    let ended = diagnose(&simulator, &[]).await;
    let diagnosis = ended.diagnosis();
    assert_eq!((ended.code, diagnosis["verdict"].as_str()), (Some(0), Some("nothing_found")), "{diagnosis:#}");
    assert_eq!(diagnosis["causes"].as_array().unwrap().len(), 0);
    let ruled_out: Vec<&str> =
        diagnosis["ruled_out"].as_array().unwrap().iter().filter_map(|out| out["name"].as_str()).collect();
    for name in ["overload", "connection_churn", "connection_reuse", "cold_start", "broken_script", "session_conflict"]
    {
        assert!(ruled_out.contains(&name), "{name} in {ruled_out:?}");
    }
}

#[tokio::test]
async fn a_limit_that_the_users_run_does_not_meet_is_ruled_out() {
    // One token for all would meet this quota, and no agent of ten requests does.
    let simulator = simulator().rate_limit(60).start().await.unwrap();
    let ended = diagnose(&simulator, &["--iterations", "10"]).await;
    assert_eq!((ended.code, ended.causes()), (Some(0), vec![]), "{:#}", ended.diagnosis());
    let out = ended.diagnosis()["ruled_out"].to_string();
    assert!(out.contains("token_shared") || out.contains("quota"), "{out}");

    // With one token for all it is the cause, though the few tokens beside it send some 60 requests each.
    let simulator = self::simulator().rate_limit(60).start().await.unwrap();
    let ended = diagnose(&simulator, &["--iterations", "10", "--shared-token"]).await;
    assert_eq!((ended.code, ended.causes()), (Some(1), vec!["token_shared".to_owned()]), "{:#}", ended.diagnosis());
}

#[tokio::test]
async fn for_people_it_says_what_it_was_how_sure_and_what_to_do() {
    let simulator = simulator().fault(Fault::InvalidScriptDefinition, 1.0).start().await.unwrap();
    let ended = load(&["--diagnose", "--agents", "10", "--api-url", simulator.url()]).await;
    assert_eq!(ended.code, Some(1));
    for words in [
        "an experiment of",
        "all_refused (certain, 100.0 % of the failures)",
        "Invalid script definition",
        "What to do:",
    ] {
        assert!(ended.stdout.contains(words), "{words} in {}", ended.stdout);
    }
    let sent: u64 = simulator.stats().script_requests.values().sum();
    assert!(sent < 60, "it does not go on where nothing goes well: {sent}");
    assert!(!ended.stdout.contains('\u{1b}'), "no colour but on a terminal");
}

#[tokio::test]
async fn errors_are_exit_code_2_and_a_real_organisation_needs_a_yes() {
    let nowhere = load(&["--diagnose", "--api-url", "http://127.0.0.1:9"]).await;
    assert_eq!(nowhere.code, Some(2), "{}", nowhere.stderr);
    assert!(nowhere.stderr.contains("error:"), "{}", nowhere.stderr);
    let real =
        load(&["--diagnose", "--region", "mypurecloud.com", "--script-id", "00000000-0000-4000-8000-000000000000"])
            .await;
    assert_eq!(real.code, Some(2));
    assert!(real.stderr.contains("--yes-load-a-real-org"), "{}", real.stderr);
    for other in [["--mode", "naive"], ["--fail-if", "failed > 0"], ["--hdr", "x"]] {
        let both = load(&[["--diagnose"].as_slice(), &other].concat()).await;
        assert_eq!(both.code, Some(2), "{other:?}");
    }
}

#[tokio::test]
async fn at_a_rate_as_many_are_at_once_as_come_while_one_is_answered() {
    // 100 at once, by 20 agents: they take turns, whoever is not answered yet.
    let simulator = simulator().knee(60, 1.0).latency(Duration::from_millis(100)).start().await.unwrap();
    let at = ["--diagnose", "--agents", "20", "--duration", "10s", "--json", "-", "--api-url", simulator.url()];
    let ended = load(&[&at[..], &["--rate", "1000/s"]].concat()).await;
    let told = format!("{:#}", ended.diagnosis());
    assert_eq!((ended.code, ended.causes()), (Some(1), vec!["overload".to_owned()]), "{told}");

    // More than the budget allows for is told, and not ruled out.
    let ended = load(&[&at[..], &["--rate", "1000/s", "--diagnose-requests", "400"]].concat()).await;
    let diagnosis = ended.diagnosis();
    let out = diagnosis["ruled_out"].to_string();
    assert!(!out.contains("overload") && !out.contains("burst"), "{diagnosis:#}");
    let not_tested = diagnosis["not_tested"].to_string();
    assert!(not_tested.contains("at once") && !not_tested.contains("20 agents"), "{diagnosis:#}");
}

#[tokio::test]
async fn what_of_a_first_screen_is_not_asked_for_is_told() {
    let simulator = simulator().start().await.unwrap();
    let ended = diagnose(&simulator, &["--workload", "first-screen"]).await;
    let diagnosis = ended.diagnosis();
    assert_eq!((ended.code, diagnosis["verdict"].as_str()), (Some(1), Some("not_enough_evidence")), "{diagnosis:#}");
    assert!(diagnosis["not_tested"].to_string().contains("pages"), "{diagnosis:#}");
    assert!(!ended.stderr.contains("Requests failed"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_refresh_token_that_a_login_echoes_is_not_told() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await;
            let body = r#"{"error":"invalid_grant","error_description":"s3cr3t-token is no good for simulator"}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let feeder = std::env::temp_dir().join(format!("diagnose-refresh-{}.csv", std::process::id()));
    let id = "1f2e3d4c-0000-4000-8000-000000000001";
    std::fs::write(&feeder, format!("agent,script_id,refresh_token\nanna,{id},s3cr3t-token\n")).unwrap();
    let ended = load(&["--diagnose", "--json", "-", "--api-url", &here, "--feeder", feeder.to_str().unwrap()]).await;
    std::fs::remove_file(&feeder).unwrap();
    assert_eq!((ended.code, ended.causes()), (Some(1), vec!["login_refused".to_owned()]), "{}", ended.stderr);
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert!(told.contains("[REDACTED] is no good for [REDACTED]") && !told.contains("s3cr3t"), "{told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_behind_stdout_changes_neither_the_verdict_nor_the_file() {
    let simulator = simulator().fault(Fault::InvalidScriptDefinition, 1.0).start().await.unwrap();
    let json = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("full-{}.json", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(["--diagnose", "--agents", "10", "--api-url", simulator.url(), "--json"]).arg(&json);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = ended(command.stdout(full)).await;
    assert!(
        ended.code == Some(1) && ended.stderr.contains("cannot write to stdout"),
        "{:?} {}",
        ended.code,
        ended.stderr
    );
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    std::fs::remove_file(&json).unwrap();
    assert_eq!(report["diagnosis"]["verdict"], "causes", "{report:#}");
}

/// Of a machine that has too few files for the run.
#[cfg(unix)]
#[tokio::test]
async fn what_this_machine_lacks_is_told_to_people_too() {
    let simulator = simulator().start().await.unwrap();
    let script = format!("ulimit -n 100; exec {} \"$@\"", env!("CARGO_BIN_EXE_genesys-load"));
    let options = ["--diagnose", "--diagnose-requests", "50", "--agents", "100", "--json", "-", "--api-url"];
    let elsewhere = simulator.url().replace("127.0.0.1", "localhost");
    for (more, needs) in [(&[][..], "100 open files"), (&["--login-url", &elsewhere], "200 open files")] {
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(options).arg(simulator.url()).args(more);
        let ended = ended(command.stdout(Stdio::piped())).await;
        let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
        let warning = report["warnings"][0].as_str().unwrap_or_else(|| panic!("{report:#}"));
        assert!(warning.contains(needs), "{warning}");
        assert!(ended.stderr.contains(&format!("warning: {warning}")), "{warning} in {}", ended.stderr);
    }
}
