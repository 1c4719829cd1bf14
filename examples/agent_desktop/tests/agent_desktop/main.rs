//! The example of a backend that keeps its agents does what it says.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(unix)]
#[path = "../../../../tests/common/browser.rs"]
mod browser;
#[cfg(unix)]
mod page;
#[cfg(unix)]
mod replicas;
mod serving;

use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use genesys_scripts::simulator::{Fault, Simulator};
use reqwest::{Client, Response};
use serde_json::Value;
use serving::{PROGRAM, Serving};
use tokio::process::Command;

#[tokio::test]
async fn its_story_runs_from_login_to_logout() {
    let output = Command::new(PROGRAM).stdin(Stdio::null()).output().await.unwrap();
    let (told, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{told}{log}");
    let statuses: Vec<&str> =
        told.lines().filter_map(|line| line.split_once(" -> ")?.1.split_whitespace().next()).collect();
    let expected = ["401", "200", "200", "200", "400", "200", "503", "200", "429", "200", "200", "204", "401"];
    assert_eq!(statuses, expected, "{told}");
    assert_eq!(told.matches("Retry-After").count(), 2, "{told}");
    assert!(told.contains(r#"{"state":"stale""#), "{told}");
    assert!(log.contains("correlation_id="), "{log}");
}

fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

async fn get(http: &Client, url: &str, cookie: &str) -> Response {
    http.get(url).header("cookie", cookie).send().await.unwrap()
}

async fn json(answer: Response) -> Value {
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// The value of a cookie that is set, as it is sent back.
fn cookie(answer: &Response, name: &str) -> String {
    let set = answer.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let pair = set.map(|set| set.split(';').next().unwrap()).find(|pair| pair.starts_with(name));
    pair.unwrap().to_owned()
}

fn location(answer: &Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

/// From the login to the session's cookie.
async fn log_in(http: &Client, desktop: &str) -> String {
    let sent = get(http, &format!("{desktop}/login"), "").await;
    let agreed = get(http, &location(&sent), "").await;
    let back = get(http, &location(&agreed), &cookie(&sent, "login")).await;
    assert_eq!((back.status().as_u16(), location(&back).as_str()), (303, "/"));
    cookie(&back, "session")
}

#[tokio::test]
async fn it_serves_where_it_is_told_to() {
    let serving = Serving::start("127.0.0.1:0", None, &[]).await;
    let (http, url) = (http(), &serving.url);
    let page = get(&http, url, "").await;
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert!(page.text().await.unwrap().contains("<title>Agent desktop</title>"));
    // Neither without a cookie, nor with one that was never given, nor back from a login that nobody began.
    for (path, cookie) in
        [("/scripts", ""), ("/scripts/x", "session=guessed"), ("/back?code=x&state=y", "login=guessed")]
    {
        assert_eq!(get(&http, &format!("{url}{path}"), cookie).await.status(), 401, "{path}");
    }
    let answer = get(&http, &format!("{url}/login"), "").await;
    assert_eq!(answer.status(), 303);
    assert!(location(&answer).contains("code_challenge="));
    let set = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
    let forged = get(&http, &format!("{url}/back?code=x&state=forged"), &cookie(&answer, "login")).await;
    assert_eq!(forged.status(), 401);
}

#[tokio::test]
async fn an_agent_sees_its_script_and_its_state() {
    let simulator = Simulator::builder().start().await.unwrap();
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &[]).await;
    let (http, url) = (http(), &serving.url);
    let session = log_in(&http, url).await;
    let scripts = json(get(&http, &format!("{url}/scripts"), &session).await).await;
    let ids: Vec<&str> = scripts.as_array().unwrap().iter().map(|script| script["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 20);
    let shown = async |id: &str| json(get(&http, &format!("{url}/scripts/{id}"), &session).await).await;
    let fresh = shown(ids[0]).await;
    assert_eq!((&fresh["state"], &fresh["script"]["id"]), (&"fresh".into(), &ids[0].into()));
    simulator.set_down(true);
    let stale = shown(ids[0]).await;
    assert_eq!((&stale["state"], &stale["script"]), (&"stale".into(), &fresh["script"]));
    let failed = shown(ids[1]).await;
    assert_eq!((&failed["state"], failed["why"].is_string()), (&"failed".into(), true), "{failed}");
    let health = get(&http, &format!("{url}/health"), "").await;
    assert_eq!(health.status(), 200);
    let health = json(health).await;
    assert_eq!((&health["is_ready"], &health["sessions_unstored"]), (&true.into(), &0.into()), "{health}");
}

/// The value of the one line that begins with this name and has these labels.
fn measured(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &&str| {
        let mut labels = labels.iter().map(|(key, value)| format!("{key}=\"{value}\""));
        line.starts_with(&format!("{name}{{")) && labels.all(|label| line.contains(&label))
    };
    let lines: Vec<&str> = text.lines().filter(has).collect();
    assert_eq!(lines.len(), 1, "{name} {labels:?}: {lines:#?} in\n{text}");
    lines[0].rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn prometheus_reads_what_was_counted_and_nobodys_secrets() {
    let simulator = Simulator::builder().start().await.unwrap();
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &[]).await;
    let (http, url) = (http(), &serving.url);
    let session = log_in(&http, url).await;
    let script = &simulator.script_ids()[0];
    let shown = async || get(&http, &format!("{url}/scripts/{script}"), &session).await.status();
    assert_eq!([shown().await, shown().await], [200, 200]);
    simulator.set_down(true);
    assert_eq!(shown().await, 200, "stale");
    let answer = get(&http, &format!("{url}/metrics"), "").await;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();

    // Histograms with bounds, not quantiles, which cannot be added up over processes.
    let get_script = ("genesys_scripts_operation", "get script");
    let took = "genesys_scripts_call_duration_seconds";
    assert!(text.contains(&format!("# TYPE {took} histogram")) && text.contains(&format!("# HELP {took} ")), "{text}");
    let served = format!("{took}_bucket{{genesys_scripts_operation=\"get script\",le=\"100\"}} 2\n");
    assert!(text.contains(&served), "no {served} in\n{text}");
    assert_eq!(measured(&text, &format!("{took}_count"), &[get_script, ("error_type", "server")]), 1.0);
    let asked = [("url_template", "/api/v2/scripts/{scriptId}"), ("http_request_method", "GET")];
    let asked = |status| [asked[0], asked[1], ("http_response_status_code", status)];
    let requests = "http_client_request_duration_seconds_count";
    assert_eq!([measured(&text, requests, &asked("200")), measured(&text, requests, &asked("503"))], [2.0, 4.0]);
    let retries = [get_script, ("error_type", "server")];
    assert_eq!(measured(&text, "genesys_scripts_retries_total", &retries), 3.0);
    assert_eq!(
        measured(&text, "genesys_scripts_cache_requests_total", &[("genesys_scripts_cache_result", "stale")]),
        1.0
    );
    let login = [("genesys_scripts_grant", "authorization_code")];
    assert_eq!(measured(&text, "genesys_scripts_login_duration_seconds_count", &login), 1.0);
    assert_eq!(measured(&text, "genesys_scripts_quota_remaining_bucket", &[get_script, ("le", "+Inf")]), 6.0);
    assert!(!text.contains(script) && !text.contains(session.split_once('=').unwrap().1), "{text}");
}

/// A database that goes away with the test.
struct Database(std::path::PathBuf);

impl Database {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("agent-desktop-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn path(&self) -> String {
        self.0.join("sessions.sqlite").to_str().unwrap().to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_refresh_that_is_refused_for_all_costs_nobody_the_session() {
    let simulator = Simulator::builder().start().await.unwrap();
    let database = Database::new("refused");
    let store = ["--database", &database.path()];
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &store).await;
    let (http, url) = (http(), serving.url.clone());
    let at = url.strip_prefix("http://").unwrap();
    let session = log_in(&http, &url).await;
    let script = format!("{url}/scripts/{}", simulator.script_ids()[0]);
    simulator.expire_tokens();
    serving.stop().await;

    let rotated = [("GENESYSCLOUD_OAUTHCLIENT_SECRET", "another")];
    let serving = Serving::start_with(at, Some(&simulator), &store, &rotated).await;
    assert_eq!(get(&http, &script, &session).await.status(), 401, "invalid_client");
    serving.stop().await;
    for fault in [Fault::Forbidden, Fault::Unauthorized] {
        simulator.set_login_fault(fault, 1.0);
        let serving = Serving::start(at, Some(&simulator), &store).await;
        assert_ne!(get(&http, &script, &session).await.status(), 200, "{fault:?}");
        serving.stop().await;
        simulator.set_login_fault(fault, 0.0);
    }
    let serving = Serving::start(at, Some(&simulator), &store).await;
    let answer = get(&http, &script, &session).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    serving.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_set_to_nothing_is_none() {
    let simulator = Simulator::builder().start().await.unwrap();
    let empty = [("GENESYSCLOUD_OAUTHCLIENT_SECRET", "")];
    let serving = Serving::start_with("127.0.0.1:0", Some(&simulator), &[], &empty).await;
    let http = http();
    let session = log_in(&http, &serving.url).await;
    let script = format!("{}/scripts/{}", serving.url, simulator.script_ids()[0]);
    assert_eq!(get(&http, &script, &session).await.status(), 200);
}

#[cfg(unix)]
#[tokio::test]
async fn a_session_that_cannot_be_read_any_more_is_none_and_a_logout_always_ends_one() {
    let simulator = Simulator::builder().start().await.unwrap();
    let database = Database::new("unread");
    let store = ["--database", &database.path()];
    let serving = Serving::start("127.0.0.1:0", Some(&simulator), &store).await;
    let (http, url) = (http(), serving.url.clone());
    let at = url.strip_prefix("http://").unwrap();
    let session = log_in(&http, &url).await;
    let scripts = format!("{url}/scripts");
    let log_out = async || {
        let answer = http.post(format!("{url}/logout")).header("cookie", &session).send().await.unwrap();
        (answer.status().as_u16(), cookie(&answer, "session"))
    };
    serving.stop().await;

    let other = [("DESKTOP_KEY", &*"5b".repeat(32))];
    let serving = Serving::start_with(at, Some(&simulator), &store, &other).await;
    assert_eq!(get(&http, &scripts, &session).await.status(), 401);
    assert_eq!(log_out().await, (204, "session=".to_owned()));
    serving.stop().await;
    let serving = Serving::start(at, Some(&simulator), &store).await;
    assert_eq!(get(&http, &scripts, &session).await.status(), 401, "what was stored is gone");
    serving.stop().await;
}

/// So many in `cargo test`; for more: `AGENTS=500 RESTARTS=20 cargo test -p genesys-agent-desktop --test agent_desktop restarts`,
/// `AGENTS=500 AWAY=30 cargo test -p genesys-agent-desktop --test agent_desktop replicas`.
#[cfg(unix)]
fn chosen(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[cfg(unix)]
#[tokio::test]
async fn restarts_with_calls_and_refreshes_under_way_lose_no_session() {
    let (agents, restarts) = (chosen("AGENTS", 12), chosen("RESTARTS", 3));
    let simulator = Simulator::builder().rate_limit(0).start().await.unwrap();
    let database = Database::new("restarts");
    let store = ["--database", &database.path()];
    let mut serving = Serving::start("127.0.0.1:0", Some(&simulator), &store).await;
    let (http, url) = (http(), serving.url.clone());
    let sessions: Vec<_> = stream::iter(0..agents).map(|_| log_in(&http, &url)).buffered(40).collect().await;
    let script = format!("{url}/scripts/{}", simulator.script_ids()[0]);
    simulator.set_latency(Duration::from_millis(100));
    for restart in 0..restarts {
        simulator.expire_tokens();
        let refreshed = simulator.stats().tokens_issued + (agents * (restart % 3 + 1) / 3) as u64;
        let calls: Vec<_> = sessions
            .iter()
            .map(|session| {
                let (http, script, session) = (http.clone(), script.clone(), session.clone());
                tokio::spawn(async move { get(&http, &script, &session).await.status().as_u16() })
            })
            .collect();
        // Each is under way: a third of them with a token that is new, then two thirds, then all.
        while simulator.stats().tokens_issued < refreshed {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let left = serving.stop().await;
        assert!(left.contains("all sessions are stored"), "{left}");
        for call in calls {
            assert_eq!(call.await.unwrap(), 200);
        }
        let at = url.strip_prefix("http://").unwrap();
        serving = Serving::start(at, Some(&simulator), &store).await;
    }
    for session in &sessions {
        assert_eq!(get(&http, &script, session).await.status(), 200);
    }
    assert_eq!(
        simulator.stats().tokens_issued,
        (agents * (1 + restarts)) as u64,
        "one login each, and a refresh each a restart"
    );
    // Neither tokens nor cookies can be read in the database.
    let mut bytes = std::fs::read(database.path()).unwrap();
    bytes.extend(std::fs::read(format!("{}-wal", database.path())).unwrap_or_default());
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("refresh_token") && !text.contains("access_token"));
    assert!(sessions.iter().all(|session| !text.contains(session.split_once('=').unwrap().1)));
    drop(serving);
}
