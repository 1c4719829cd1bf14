//! What the load test promises to scripts that run it: exit codes, numbers and clear errors.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Client, Credentials, Region};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::process::Command;

const UNKNOWN_ID: &str = "00000000-0000-4000-8000-000000000000";

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn load(args: &[&str], credentials: Option<&str>) -> Ended {
    let output = command(args, credentials).output().await.unwrap();
    ended(output)
}

fn command(args: &[&str], credentials: Option<&str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    // A proxy that does not exist: what is on loopback is reached without it.
    command.args(args).stdin(Stdio::null()).env("HTTP_PROXY", "http://127.0.0.1:9");
    command.env_remove("GENESYSCLOUD_OAUTHCLIENT_ID").env_remove("GENESYSCLOUD_OAUTHCLIENT_SECRET");
    if let Some(secret) = credentials {
        command.env("GENESYSCLOUD_OAUTHCLIENT_ID", "load-test").env("GENESYSCLOUD_OAUTHCLIENT_SECRET", secret);
    }
    command.kill_on_drop(true);
    command
}

fn ended(output: std::process::Output) -> Ended {
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

/// Those that scripts rely on.
fn assert_keys(run: &Value) {
    let keys = "mode agents planned started served failed unfinished attempts retries throttled login_attempts login_throttled \
                bad_requests causes failures began elapsed_ms latency_ms service_ms late_ms generator histogram timeline";
    for key in keys.split_whitespace() {
        assert!(run.get(key).is_some(), "{key} in {run}");
    }
    for times in ["latency_ms", "service_ms"] {
        assert!(["mean", "p50", "p90", "p95", "p99", "p999", "max"].iter().all(|p| run[times][p].is_number()), "{run}");
    }
    assert_eq!(number(run, "served") + number(run, "failed") + number(run, "unfinished"), number(run, "started"));
    let failures = run["failures"].as_array().unwrap();
    assert_eq!(failures.iter().map(|failure| number(failure, "count")).sum::<u64>(), number(run, "failed"));
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
        (&["--region", "us-east-1", "--yes-load-a-real-org"], Some("simulator"), "say --script-id"),
        (&["--region", "us-east-1", "--script-id", UNKNOWN_ID], Some("simulator"), "--yes-load-a-real-org"),
        (
            &["--api-url", "https://api.mypurecloud.de", "--script-id", UNKNOWN_ID],
            Some("simulator"),
            "--yes-load-a-real-org",
        ),
        (
            &["--api-url", "https://LOGIN.usw2.pure.cloud/", "--script-id", UNKNOWN_ID],
            Some("simulator"),
            "--yes-load-a-real-org",
        ),
        (&["--agents", "10k"], None, "write it in digits alone: 10000"),
        (&["--agents", "-5"], None, "cannot be negative"),
        (&["--ramp-up", "-5s"], None, "time cannot be negative"),
        (&["--think-time", "5"], None, "say 5s"),
        (&["--ramp-up", "--json"], None, "the value is missing"),
        (&["--rate", "200/s"], None, "--duration"),
        (&["--rate", "200/s", "--duration", "1s", "--iterations", "3"], None, "cannot be used with"),
        (&["--stage", "200/s"], None, "30s:200/s"),
        (&["--stage", "30s:600/m..1200"], None, "unit at the end"),
        (&["--stage", "30s:0/s", "--stage", "30s:0..0/s"], None, "nothing is ever sent"),
        (&["--ramp-up", "60s", "--duration", "30s"], None, "--ramp-up 1m is longer than --duration 30s"),
        (&["--poisson"], None, "--rate"),
        (&["--recycle"], None, "--feeder"),
        (&["--fail-if", "p99 > 500"], None, "500ms"),
        (&["--feeder", "/nowhere/agents.csv"], None, "/nowhere/agents.csv"),
        (&["--ca", "/nowhere/ca.pem", "--api-url", "https://localhost:1"], Some("simulator"), "/nowhere/ca.pem"),
        (&["--api-url", &elsewhere], Some("simulator"), "say --script-id"),
    ];
    for (args, credentials, says) in cases {
        let ended = load(args, *credentials).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {says} in {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
    }
}

/// A file of this test's own, which is not there yet.
fn file(name: &str) -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

fn beside(path: &Path) -> Vec<String> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let files =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    files.filter(|file| file.contains(&name) && *file != name).collect()
}

#[tokio::test]
async fn the_last_lines_say_what_the_naive_way_cost() {
    let simulator = Simulator::builder().client_secret("simulator").knee(10, 0.9).start().await.unwrap();
    let ended = load(&["--api-url", simulator.url(), "--agents", "60"], Some("simulator")).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let last: Vec<_> = ended.stdout.lines().rev().take(2).collect();
    let [resilient, naive] = last.as_slice() else { panic!("{}", ended.stdout) };
    assert!(naive.starts_with("The naive way cost ") && naive.contains(" of 60 agents their script ("), "{naive}");
    assert!(naive.ends_with("each by a 400."), "{naive}");
    assert!(resilient.starts_with("With the crate all 60 were served") && resilient.contains("retries"), "{resilient}");
}

/// Nobody answers, so all of them wait at once.
#[tokio::test]
async fn more_agents_than_a_client_lets_wait_by_default_are_no_error_of_the_client() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let args = [
        "--api-url",
        &url,
        "--script-id",
        UNKNOWN_ID,
        "--agents",
        "23000",
        "--mode",
        "resilient",
        "--call-timeout",
        "1s",
    ];
    let (ended, runs) = numbers("queue", &args, Some("simulator")).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!(number(&runs[0], "failed"), 23_000);
    for failure in runs[0]["failures"].as_array().unwrap() {
        let example = failure["example"].as_str().unwrap();
        assert!(!example.contains("max_waiting") && !example.contains("wait already"), "{example}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn told_to_end_it_reports_what_was_done_and_an_old_file_stays_until_then() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (json, jtl) = (file(&format!("signal{signal}.json")), file(&format!("signal{signal}.jtl")));
        std::fs::write(&json, "the last one").unwrap();
        let args = ["--agents", "5", "--duration", "60s", "--think-time", "10ms", "--json", json.to_str().unwrap()];
        let mut command = command(&[&args[..], &["--jtl", jtl.to_str().unwrap()]].concat(), None);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while beside(&jtl).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(90)).await;
        assert_eq!(std::fs::read_to_string(&json).unwrap(), "the last one");
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let ended = ended(child.wait_with_output().await.unwrap());
        assert_eq!(ended.code, Some(code), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("It was told to end before it was done."), "{}", ended.stdout);
        let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!(report["interrupted"], true);
        let runs = report["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "the second mode is not begun");
        assert_keys(&runs[0]);
        assert!(std::fs::read_to_string(&jtl).unwrap().starts_with("timeStamp,elapsed,label,"));
        assert!(beside(&json).is_empty() && beside(&jtl).is_empty(), "no half files are left");
        let _ = (std::fs::remove_file(&json), std::fs::remove_file(&jtl));
    }
}

/// Whoever says it twice does not wait for files to be put in their places.
#[cfg(unix)]
#[tokio::test]
async fn told_to_end_twice_no_file_is_left_that_is_not_named() {
    let jtl = file("twice.jtl");
    let args = ["--agents", "50", "--duration", "60s", "--mode", "naive", "--jtl", jtl.to_str().unwrap()];
    let child = command(&args, None).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Until lines are written, and not only kept.
    let written = |name: &String| std::fs::metadata(jtl.with_file_name(name)).is_ok_and(|file| file.len() > 0);
    while !beside(&jtl).iter().any(written) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pid = child.id().unwrap();
    let both = format!("kill -INT {pid}; kill -TERM {pid}");
    assert!(std::process::Command::new("sh").args(["-c", &both]).status().unwrap().success());
    let ended = ended(child.wait_with_output().await.unwrap());
    assert!([Some(130), Some(143)].contains(&ended.code), "{}", ended.stderr);
    for left in beside(&jtl) {
        assert!(ended.stderr.contains(&left), "{left} is not in {}", ended.stderr);
        std::fs::remove_file(jtl.with_file_name(left)).unwrap();
    }
    let _ = std::fs::remove_file(&jtl);
}

/// The disk is full once there is one part of the lines.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn lines_of_results_that_were_written_are_kept_where_others_cannot_be() {
    let jtl = file("full.jtl");
    let program = env!("CARGO_BIN_EXE_genesys-load");
    // A file is no larger than 200 blocks of 512 bytes.
    let script = format!("trap '' XFSZ; ulimit -f 200; exec {program} \"$@\"");
    let args =
        ["-c", &script, "sh", "--agents", "100", "--iterations", "20", "--mode", "naive", "--fail-if", "served < 1"];
    let mut command = Command::new("sh");
    command.args(args).arg("--jtl").arg(&jtl).stdin(Stdio::null());
    let ended = ended(command.output().await.unwrap());
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stderr.matches("no line from here on").count(), 1, "{}", ended.stderr);
    let [left] = beside(&jtl).try_into().unwrap_or_else(|left| panic!("{left:?} {}", ended.stderr));
    assert!(ended.stderr.contains(&left) && !jtl.exists(), "{left} is not in {}", ended.stderr);
    let text = std::fs::read_to_string(jtl.with_file_name(&left)).unwrap();
    std::fs::remove_file(jtl.with_file_name(&left)).unwrap();
    assert!(text.lines().count() > 100 && text.ends_with('\n'), "{} bytes", text.len());
    assert!(text.lines().all(|line| line.matches(',').count() == 16));
}

async fn to(args: &[&str], stdout: Stdio, stderr: Stdio) -> std::process::Output {
    command(args, None).stdout(stdout).stderr(stderr).spawn().unwrap().wait_with_output().await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_closed_pipe_or_a_full_disk_does_not_change_the_verdict() {
    let good: &[&str] = &["--agents", "3"];
    let bad: &[&str] = &["--agents", "3", "--script-id", UNKNOWN_ID];
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (args, code) in [(good, 0), (bad, 1), (&[bad, &["--fail-if", "failed > 0"]].concat(), 99)] {
        let output = to(args, full().into(), Stdio::piped()).await;
        assert_eq!(output.status.code(), Some(code), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
        let output = to(args, full().into(), full().into()).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}, and nowhere to tell it");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = to(args, writer.into(), Stdio::piped()).await;
        assert_eq!(output.status.code(), Some(code), "{args:?} {}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("stdout"));
    }
    for option in ["--json", "--jtl", "--hdr", "--html"] {
        let ended = load(&[good, &[option, "/dev/full"]].concat(), None).await;
        assert_eq!(ended.code, Some(1), "what was asked for is not there: {option}");
        assert!(ended.stderr.contains("cannot write") && ended.stdout.contains("agents served"), "{}", ended.stderr);
        let ended = load(&[good, &[option, "/nowhere/at/all"]].concat(), None).await;
        assert!(ended.code == Some(1) && ended.stdout.is_empty(), "before anything is sent: {}", ended.stderr);
        assert!(ended.stderr.contains("cannot write /nowhere/at/all"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn at_a_rate_iterations_start_by_the_clock_and_every_file_tells_of_all_of_them() {
    let files: Vec<_> =
        ["json", "jtl", "hdr", "html"].iter().map(|kind| (kind, file(&format!("rate.{kind}")))).collect();
    for args in [
        &["--rate", "100/s", "--duration", "1s"][..],
        &["--stage", "500ms:100/s", "--stage", "500ms:0..200/s"],
        &["--stage", "1s:100/s", "--poisson", "--seed", "3"],
    ] {
        let mut all = vec!["--agents".to_owned(), "10".to_owned()];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        all.extend(files.iter().flat_map(|(kind, file)| [format!("--{kind}"), file.to_str().unwrap().to_owned()]));
        let ended = load(&all.iter().map(String::as_str).collect::<Vec<_>>(), None).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(
            ended.stdout.contains("iterations served") && ended.stdout.contains("started late p99"),
            "{}",
            ended.stdout
        );
        let read = |kind: &str| std::fs::read_to_string(&files.iter().find(|file| *file.0 == kind).unwrap().1).unwrap();
        let report: Value = serde_json::from_str(&read("json")).unwrap();
        assert!(report["arguments"].as_array().unwrap().len() >= 10 && report["versions"]["genesys_load"].is_string());
        let mut started = 0;
        for run in report["runs"].as_array().unwrap() {
            assert_keys(run);
            started += number(run, "started");
            if args.contains(&"--poisson") {
                assert!(run["planned"].is_null() && (60..140).contains(&number(run, "started")), "{run}");
            } else {
                assert_eq!((number(run, "planned"), number(run, "started")), (100, 100));
            }
            let served = run["timeline"]["served"].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
            assert_eq!(served, number(run, "served"));
        }
        assert_eq!(read("jtl").lines().count() as u64, 1 + started);
        assert!(read("jtl").lines().skip(1).all(|line| line.matches(',').count() == 16), "{}", read("jtl"));
        let hdr = read("hdr");
        assert!(hdr.contains("#[StartTime: ") && hdr.contains("Tag=naive,") && hdr.contains("Tag=resilient,"), "{hdr}");
        let html = read("html");
        assert!(
            !html.contains("{{") && html.contains("prefers-color-scheme: dark") && html.contains("iterations served")
        );
        let links = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!links.contains("http://") && !links.contains("https://"), "it needs no network");
    }
    files.iter().for_each(|(_, file)| std::fs::remove_file(file).unwrap());
}

#[tokio::test]
async fn the_report_on_stdout_is_nothing_but_json() {
    let ended = load(&["--agents", "2", "--iterations", "3", "--think-time", "5ms", "--json", "-"], None).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    for run in report["runs"].as_array().unwrap() {
        assert_eq!((number(run, "started"), number(run, "login_attempts"), number(run, "attempts")), (6, 2, 6));
    }
    assert!(ended.stderr.contains("iterations served"), "{}", ended.stderr);
}

/// Nothing is between the end of an iteration and the start of the next: what there was, a timer of whole milliseconds, made
/// each of them late.
#[tokio::test]
async fn an_agent_that_does_not_pause_begins_again_at_once() {
    let simulator = Simulator::builder().client_secret("simulator").rate_limit(0).start().await.unwrap();
    let args = ["--api-url", simulator.url(), "--agents", "1", "--iterations", "101"];
    let (ended, runs) = numbers("at-once", &args, Some("simulator")).await;
    for run in &runs {
        assert_eq!(number(run, "served"), 101, "{}", ended.stderr);
        assert!(run["late_ms"]["p50"].as_f64().unwrap() < 0.1, "{}", run["late_ms"]);
    }
}

#[tokio::test]
async fn a_condition_that_holds_ends_with_99_and_nothing_else_does() {
    let cases: &[(&[&str], &[&str], i32)] = &[
        (&[], &["p99 > 1h", "failed > 0"], 0),
        (&[], &["p99 > 1ms"], 99),
        (&[], &["failed > 0", "served < 4"], 99),
        (&["--script-id", UNKNOWN_ID], &["failed > 0"], 99),
        (&["--script-id", UNKNOWN_ID], &["p50 > 1h"], 99),
        (&["--script-id", UNKNOWN_ID], &["failed > 50"], 1),
    ];
    for (args, conditions, code) in cases {
        let conditions: Vec<_> = conditions.iter().flat_map(|condition| ["--fail-if", condition]).collect();
        let ended = load(&[*args, &["--agents", "3"], &conditions[..]].concat(), None).await;
        assert_eq!(ended.code, Some(*code), "{conditions:?} {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout.contains("FAILED "), *code == 99, "{}", ended.stdout);
    }
}

#[tokio::test]
async fn each_workload_asks_for_what_its_name_says() {
    for (workload, each, path) in
        [("script", 1, "/scripts/"), ("published", 1, "/scripts/published/"), ("first-screen", 2, "/pages")]
    {
        let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
        let args = ["--api-url", simulator.url(), "--agents", "4", "--workload", workload];
        let (ended, runs) = numbers(workload, &args, Some("simulator")).await;
        assert_eq!(ended.code, Some(0), "{workload}: {}", ended.stderr);
        for run in &runs {
            assert_eq!((number(run, "served"), number(run, "attempts")), (4, 4 * each), "{workload}: {run}");
        }
        let asked = simulator.requests();
        assert_eq!(asked.iter().filter(|request| request.uri.path().contains(path)).count(), 8, "{workload}");
    }
}

#[tokio::test]
async fn a_feeder_gives_each_agent_its_script_and_its_token() {
    let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
    let here = simulator.url();
    let client = Client::builder(Region::custom(here, here, here).unwrap()).build().unwrap();
    let mut csv = "agent,script_id,access_token\n".to_owned();
    for (number, script) in simulator.script_ids().iter().take(3).enumerate() {
        let agent = client.agent(Credentials::client("desktop", "simulator"));
        agent.log_in().await.unwrap();
        let session = agent.session().unwrap();
        let token = session.access_token.as_ref().unwrap();
        csv += &format!("agent{number},{script},{}\n", token.expose_secret());
    }
    let (feeder, jtl) = (file("agents.csv"), file("feeder.jtl"));
    std::fs::write(&feeder, &csv).unwrap();
    let feeder_name = feeder.to_str().unwrap();
    let args = ["--api-url", here, "--feeder", feeder_name, "--jtl", jtl.to_str().unwrap()];
    let (ended, runs) = numbers("feeder", &args, None).await;
    assert_eq!(ended.code, Some(0), "no credentials are needed: {}", ended.stderr);
    for run in &runs {
        assert_eq!((number(run, "agents"), number(run, "served"), number(run, "login_attempts")), (3, 3, 0));
    }
    let lines = std::fs::read_to_string(&jtl).unwrap();
    for (number, script) in simulator.script_ids().iter().take(3).enumerate() {
        let of_agent =
            |line: &&str| line.contains(&format!("agent{number} 1-{}", number + 1)) && line.contains(script.as_str());
        assert_eq!(lines.lines().filter(of_agent).count(), 2, "{lines}");
    }
    let requests = simulator.stats().tokens_issued;
    for (change, args, says) in [
        ("", &["--agents", "5"][..], "3 rows for 5 agents"),
        ("\n", &[], "line 5: is blank"),
        ("dave,<EOF>,abc\n", &[], "line 5"),
        ("", &["--shared-token"], "a token for each agent"),
    ] {
        std::fs::write(&feeder, format!("{csv}{change}")).unwrap();
        let ended = load(&[&["--api-url", here, "--feeder", feeder_name], args].concat(), Some("simulator")).await;
        assert_eq!(ended.code, Some(2), "{says}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    assert_eq!(simulator.stats().tokens_issued, requests, "nothing was sent");
    std::fs::write(&feeder, &csv).unwrap();
    let args = ["--api-url", here, "--feeder", feeder_name, "--recycle", "--agents", "7"];
    let (ended, runs) = numbers("recycle", &args, None).await;
    assert_eq!((ended.code, number(&runs[0], "served")), (Some(0), 7), "{}", ended.stderr);
    let _ = (std::fs::remove_file(&feeder), std::fs::remove_file(&jtl));
}

#[tokio::test]
async fn a_run_in_which_nothing_is_begun_is_a_failure() {
    let ended = load(&["--stage", "1ms:1/s", "--poisson", "--mode", "naive"], None).await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("nothing was begun"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_run_that_ends_before_all_have_begun_still_ends() {
    let (ended, runs) = numbers("short", &["--agents", "300", "--duration", "1ms"], None).await;
    assert!(ended.code.is_some(), "{}", ended.stderr);
    for run in &runs {
        assert_eq!((number(run, "started"), number(run, "unfinished")), (300, 0), "{run}");
    }
}

/// The last of two starts half way up.
#[tokio::test]
async fn a_ramp_up_may_be_longer_than_the_run_where_the_last_agent_still_begins() {
    let args = ["--agents", "2", "--ramp-up", "1s", "--duration", "700ms", "--think-time", "5s"];
    let (ended, runs) = numbers("long-ramp", &args, None).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for run in &runs {
        assert_eq!(number(run, "started"), 2, "{run}");
    }
    let never = load(&["--agents", "4", "--ramp-up", "1s", "--duration", "700ms"], None).await;
    assert!(never.code == Some(2) && never.stderr.contains("last agents would never begin"), "{}", never.stderr);
}

#[tokio::test]
async fn a_feeder_of_refresh_tokens_spends_each_once() {
    let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
    let here = simulator.url();
    let feeder = file("refresh.csv");
    for mode in ["naive", "resilient"] {
        let mut csv = "agent,script_id,refresh_token\n".to_owned();
        for (number, script) in simulator.script_ids().iter().take(3).enumerate() {
            let code = simulator.authorization_code("load-test", "https://desktop.example", None);
            let form = format!("grant_type=authorization_code&code={code}&redirect_uri=https%3A%2F%2Fdesktop.example");
            csv += &format!("agent{number},{script},{}\n", refresh_token(here, &form).await);
        }
        std::fs::write(&feeder, &csv).unwrap();
        let args = ["--api-url", here, "--feeder", feeder.to_str().unwrap()];
        let ended = load(&args, Some("simulator")).await;
        assert!(ended.code == Some(2) && ended.stderr.contains("good once"), "not in both modes: {}", ended.stderr);
        let (ended, runs) = numbers("refresh", &[&args[..], &["--mode", mode]].concat(), Some("simulator")).await;
        assert_eq!(ended.code, Some(0), "{mode}: {}", ended.stderr);
        assert_eq!((number(&runs[0], "served"), number(&runs[0], "login_attempts")), (3, 3), "{mode}");
    }
    std::fs::remove_file(&feeder).unwrap();
}

async fn refresh_token(here: &str, form: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let host = here.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let request = format!(
        "POST /oauth/token HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAuthorization: Basic bG9hZC10ZXN0OnNpbXVsYXRvcg==\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    body["refresh_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[tokio::test]
async fn a_time_that_is_over_is_told_as_one_in_the_lines_of_results() {
    let simulator =
        Simulator::builder().client_secret("simulator").latency(Duration::from_secs(5)).start().await.unwrap();
    let (jtl, script) = (file("timeout.jtl"), simulator.script_ids()[0].to_string());
    let args = ["--agents", "2", "--call-timeout", "300ms", "--script-id", &script, "--api-url", simulator.url()];
    let ended = load(&[&args[..], &["--jtl", jtl.to_str().unwrap()]].concat(), Some("simulator")).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let text = std::fs::read_to_string(&jtl).unwrap();
    std::fs::remove_file(&jtl).unwrap();
    assert_eq!(text.matches("Non HTTP response code: timeout").count(), 4, "{text}");
}

/// Names of files are bytes on Unix, and whatever they are the numbers are told.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_files_name_need_not_be_utf_8() {
    use std::os::unix::ffi::OsStringExt as _;
    let name = [std::process::id().to_string().as_bytes(), b"-\xff.json"].concat();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::ffi::OsString::from_vec(name));
    let simulator = Simulator::builder().client_secret("simulator").start().await.unwrap();
    let mut command = command(&["--agents", "3", "--api-url", simulator.url(), "--json"], Some("simulator"));
    let ended = ended(command.arg(&path).output().await.unwrap());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(json["arguments"].to_string().contains('\u{fffd}'), "{json}");
}
