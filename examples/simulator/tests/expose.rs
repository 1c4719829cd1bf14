//! The program as it is started.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, and says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use futures_util::StreamExt as _;
use genesys_scripts::{Client, Credentials, ListScripts, Region};

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

#[test]
fn on_a_taken_port_it_says_which_and_why_and_what_to_do() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(taken) = std::net::TcpListener::bind(address) else { continue };
        let taken = taken.local_addr().unwrap().to_string();
        let holder = std::net::TcpListener::bind(address).unwrap();
        let address = holder.local_addr().unwrap().to_string();
        assert_ne!(taken, address);
        let certificate = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("taken.pem");
        for tls in [&[][..], &["--tls", certificate.to_str().unwrap()]] {
            let output = simulator(&[&["--listen", &address], tls].concat()).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && told.contains(&address), "{told}");
            assert!(told.contains("something else does already") && told.contains(":0 takes a free one"), "{told}");
        }
    }
}

/// Its certificate is the only thing that is trusted.
#[tokio::test]
async fn with_tls_it_is_reached_by_whoever_trusts_its_certificate() {
    let certificate = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}.pem", std::process::id()));
    let mut child =
        simulator(&["--listen", "127.0.0.1:0", "--gzip", "--tls", certificate.to_str().unwrap()]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let pem = std::fs::read(&certificate).unwrap();
    assert!(!String::from_utf8_lossy(&pem).contains("PRIVATE KEY"));
    std::fs::remove_file(&certificate).unwrap();

    for url in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        let region = Region::custom(&url, &url, &url).unwrap();
        let client = |trusting: bool| {
            let builder = Client::builder(region.clone());
            let builder = if trusting { builder.root_certificate_pem(pem.clone()) } else { builder };
            builder.build().unwrap().agent(Credentials::client("desktop", "simulator"))
        };
        let mut scripts = client(true).scripts(ListScripts::default());
        let script = scripts.next().await.unwrap().unwrap();
        assert!(!client(true).script(&script.id).await.unwrap().pages.is_empty());
        let refused = client(false).script(&script.id).await.unwrap_err();
        assert!(!refused.is_retryable() && refused.to_string().contains("certificate"), "{refused}");
    }
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn with_gzip_it_compresses_for_those_that_accept_it() {
    for (arguments, accepts, compressed) in [
        (&["--gzip"][..], Some("gzip"), true),
        (&["--gzip"], Some("deflate, gzip"), true),
        (&["--gzip"], None, false),
        (&["--gzip"], Some("identity"), false),
        (&[], Some("gzip"), false),
    ] {
        let mut child = simulator(&[&["--listen", "127.0.0.1:0"], arguments].concat()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut stream = TcpStream::connect(line.trim().strip_prefix("listening on http://").unwrap()).unwrap();
        let accept = accepts.map(|codings| format!("Accept-Encoding: {codings}\r\n")).unwrap_or_default();
        write!(stream, "GET /_simulator/scripts HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{accept}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let (head, body) = (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), &answer[end + 4..]);
        assert_eq!(head.contains("content-encoding: gzip"), compressed, "{arguments:?} {accepts:?}: {head}");
        assert_eq!(body.starts_with(&[0x1f, 0x8b]), compressed, "{arguments:?} {accepts:?}");
        assert!(
            head.contains(&format!("content-length: {}", body.len())) && (compressed || body.starts_with(b"[")),
            "{head}"
        );
        let _ = child.kill();
        child.wait().unwrap();
    }
}

/// A connection of its own for each, whose answer is read to its end.
#[cfg(unix)]
fn ask(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nHost: here\r\nConnection: close\r\nContent-Length: {length}\r\n").unwrap();
    write!(stream, "Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[cfg(unix)]
#[test]
fn told_to_end_it_tells_what_it_was_asked_and_how_it_answered() {
    let certificate = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("counts.pem");
    let certificate = certificate.to_str().unwrap();
    for (signal, logins, scripts, tls) in [("-INT", 0, 0, true), ("-TERM", 2, 3, false), ("-INT", 1, 7, false)] {
        let tls: &[&str] = if tls { &["--tls", certificate] } else { &[] };
        let mut child = simulator(&[&["--listen", "127.0.0.1:0"], tls].concat()).spawn().unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap();
        for n in 0..logins {
            // The second comes without a secret.
            let basic = if n == 0 { "\r\nAuthorization: Basic ZGVza3RvcDpzaW11bGF0b3I=" } else { "" };
            ask(address, &format!("POST /oauth/token HTTP/1.1{basic}"), "grant_type=client_credentials");
        }
        for _ in 0..scripts {
            ask(address, "GET /api/v2/scripts/1f2e3d4c-0000-4000-8000-000000000001 HTTP/1.1", "");
        }
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let mut counts = String::new();
        told.read_to_string(&mut counts).unwrap();
        assert!(killed.success() && child.wait().unwrap().success());
        let expected = match (logins, scripts) {
            (0, 0) => ["script requests: 0", "logins: 0", "requests by operation, logins apart: 0"],
            (2, 3) => [
                "script requests: 3 (401: 3)",
                "logins: 2 (200: 1, 400: 1)",
                "requests by operation, logins apart: 3 (getScript: 3)",
            ],
            _ => [
                "script requests: 7 (401: 7)",
                "logins: 1 (200: 1)",
                "requests by operation, logins apart: 7 (getScript: 7)",
            ],
        };
        assert_eq!(counts.lines().collect::<Vec<_>>(), expected);
    }
}
