//! The example of a backend that keeps its agents does what it says.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

#[tokio::test]
async fn its_story_runs_from_login_to_logout() {
    let output = Command::new(env!("CARGO_BIN_EXE_genesys-agent-desktop")).stdin(Stdio::null()).output().await.unwrap();
    let (told, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}{log}");
    let statuses: Vec<&str> =
        told.lines().filter_map(|line| line.split_once(" -> ")?.1.split_whitespace().next()).collect();
    assert_eq!(statuses, ["401", "200", "200", "400", "503", "429", "200", "200", "204", "401"], "{told}");
    assert_eq!(told.matches("Retry-After").count(), 2, "{told}");
    assert!(log.contains("correlation_id="), "{log}");
}

#[tokio::test]
async fn it_serves_where_it_is_told_to() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-agent-desktop"));
    command.args(["--serve", "127.0.0.1:0"]).env_remove("GENESYSCLOUD_REGION").stdin(Stdio::null());
    let mut serving = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Some(url) = line.split_whitespace().find_map(|word| word.strip_suffix("/login,")) {
            break url.to_owned();
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    // Neither without a cookie, nor with one that was never given, nor back from a login that nobody began.
    for (path, cookie) in [("/", ""), ("/scripts/x", "session=guessed"), ("/back?code=x&state=y", "login=guessed")] {
        let answer = http.get(format!("{url}{path}")).header("cookie", cookie).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
    }
    let answer = http.get(format!("{url}/login")).send().await.unwrap();
    assert_eq!(answer.status(), 303);
    assert!(answer.headers()["location"].to_str().unwrap().contains("code_challenge="));
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let forged = http.get(format!("{url}/back?code=x&state=forged")).header("cookie", cookie).send().await.unwrap();
    assert_eq!(forged.status(), 401);
}
