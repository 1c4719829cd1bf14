//! What a worker of a Locust master promises where there is none, or none to be joined. With a real one: `tests/peers/locust`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Against a simulator of its own, unless told otherwise.
async fn worker(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(args).stdin(Stdio::null()).env("HTTP_PROXY", "http://127.0.0.1:9");
    let Output { status, stderr, stdout } =
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    assert!(stdout.is_empty(), "{stdout:?}");
    (status.code(), said)
}

#[tokio::test]
async fn a_master_that_cannot_be_joined_is_told_with_the_reason_and_nothing_is_sent() {
    let closes = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = closes.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = closes.accept().await {
            // What it says is read first, so that it is not reset.
            let _ = stream.read(&mut [0; 64]).await;
        }
    });
    for (master, says) in [("127.0.0.1:1", "refused"), (closing.as_str(), "ZeroMQ")] {
        let (code, said) = worker(&["worker", "--locust", master, "--master-timeout", "1s"]).await;
        assert_eq!(code, Some(1), "{said}");
        for part in ["no word from the master at", master, "for 1s", says, "nothing was sent"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}

/// A master that takes one worker in, and sends it home.
async fn takes_in(mut stream: TcpStream) {
    let mut greeting = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL".to_vec();
    greeting.resize(64, 0);
    stream.write_all(&greeting).await.unwrap();
    stream.read_exact(&mut [0; 64]).await.unwrap();
    stream.write_all(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER").await.unwrap();
    let mut said = Vec::new();
    while !said.windows(12).any(|said| said == b"client_ready") {
        assert_ne!(stream.read_buf(&mut said).await.unwrap(), 0);
    }
    // Its number, and that it may go.
    for message in [&b"\x93\xa3ack\x81\xa5index\0\xa1m"[..], b"\x93\xa4quit\xc0\xa1m"] {
        stream.write_all(&[&[0, message.len() as u8], message].concat()).await.unwrap();
    }
    let _ = stream.read_to_end(&mut said).await;
}

#[tokio::test]
async fn a_worker_that_has_joined_says_where_its_load_goes() {
    let feeder = std::env::temp_dir().join(format!("worker-joins-{}.csv", std::process::id()));
    std::fs::write(&feeder, "agent,script_id,access_token\nanna,1f2e3d4c-0000-4000-8000-000000000001,abc\n").unwrap();
    let feeder = feeder.to_str().unwrap();
    let there: &[&str] = &["--api-url", "http://127.0.0.1:1", "--feeder", feeder];
    for (args, says) in [(&[][..], "goes to a simulator of its own"), (there, "goes to http://127.0.0.1:1")] {
        let master = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = master.local_addr().unwrap().to_string();
        tokio::spawn(async move { takes_in(master.accept().await.unwrap().0).await });
        let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
        command.args(["worker", "--locust", &address, "--id", "anna"]).args(args).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("anna has joined") && said.contains(says), "{says} in {said}");
    }
    std::fs::remove_file(feeder).unwrap();
}

/// Of which it has a share only.
#[tokio::test]
async fn a_feeder_may_have_more_rows_than_a_worker_has_agents() {
    let feeder = std::env::temp_dir().join(format!("worker-many-{}.csv", std::process::id()));
    let row = |number: u32| format!("agent{number},1f2e3d4c-0000-4000-8000-000000000001,abc\n");
    let rows: String = (0..100_001).map(row).collect();
    std::fs::write(&feeder, format!("agent,script_id,access_token\n{rows}")).unwrap();
    let there = ["--api-url", "http://127.0.0.1:1", "--feeder", feeder.to_str().unwrap()];
    let joins = ["worker", "--locust", "127.0.0.1:1", "--master-timeout", "1s"];
    let (code, said) = worker(&[&joins[..], &there].concat()).await;
    std::fs::remove_file(&feeder).unwrap();
    assert!(code == Some(1) && said.contains("no word from the master"), "{code:?} {said}");
}

#[tokio::test]
async fn bad_usage_is_told_before_a_master_is_asked() {
    let feeder = std::env::temp_dir().join(format!("worker-{}.csv", std::process::id()));
    std::fs::write(&feeder, "agent,script_id\nanna,<EOF>\n").unwrap();
    let feeder = feeder.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["worker"], "--locust"),
        (&["worker", "--locust", "master"], "master:5557"),
        (&["worker", "--locust", "master:99999"], "master:5557"),
        (&["worker", "--locust", ":5557"], "master:5557"),
        (&["worker", "--locust", "m:1", "--id", ""], "1 to 200"),
        (&["worker", "--locust", "m:1", "--id", "two words"], "1 to 200"),
        // How many users there are and when is the master's.
        (&["worker", "--locust", "m:1", "--agents", "5"], "--agents"),
        (&["worker", "--locust", "m:1", "--rate", "5/s"], "--rate"),
        (&["--rate", "5/s", "--duration", "3s", "worker", "--locust", "m:1"], "cannot be used with"),
        (&["worker", "--locust", "m:1", "--feeder", feeder], "line 2: script_id is a placeholder"),
        (&["worker", "--locust", "m:1", "--recycle"], "--feeder"),
        (&["worker", "--locust", "m:1", "--region", "us-east-1"], "--yes-load-a-real-org"),
        (&["worker", "--locust", "m:1", "--master-timeout", "0s"], "no time"),
    ];
    for (args, says) in cases {
        let (code, said) = worker(args).await;
        assert!(code == Some(2) && said.contains(says), "{args:?}: {code:?} {said}");
    }
    std::fs::remove_file(feeder).unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_behind_stdout_is_no_failure_of_a_worker_that_is_sent_home() {
    let master = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = master.local_addr().unwrap().to_string();
    tokio::spawn(async move { takes_in(master.accept().await.unwrap().0).await });
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-load"));
    command.args(["worker", "--locust", &address]).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(0) && said.contains("cannot write to stdout"), "{:?} {said}", output.status);
}
