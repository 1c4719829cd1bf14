//! The program as it is started.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn simulator(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-simulator"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The first line it prints. It is ended then.
fn first_line(arguments: &[&str]) -> String {
    let mut child = simulator(arguments).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _ = child.kill();
    child.wait().unwrap();
    line
}

#[test]
fn where_others_can_reach_it_it_listens_only_if_told_to() {
    for address in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        let refused = first_line(&["--listen", address]);
        assert_eq!(refused, "", "{address}");
        let output = simulator(&["--listen", address]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("--expose") && told.contains(address), "{told}");
    }
    assert!(first_line(&["--listen", "0.0.0.0:0", "--expose"]).starts_with("listening on http://0.0.0.0:"));
    assert!(first_line(&["--listen", "127.0.0.1:0"]).starts_with("listening on http://127.0.0.1:"));
}
