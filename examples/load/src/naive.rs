//! The agents as the reported test plan has them: a login, a request, no retry, no bound; any refusal is a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use genesys_scripts::{Region, Script};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::{Barrier, OnceCell};
use tokio::time::Instant;

use crate::args::{Args, Mode};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::run::{Run, Sent};
use crate::target::Target;

pub(crate) async fn run(args: &Args, fleet: &Fleet, target: &Target) -> anyhow::Result<Run> {
    let mut script = Url::parse(&target.region.api_url())?;
    if let Ok(mut path) = script.path_segments_mut() {
        path.pop_if_empty().extend(["api", "v2", "scripts", target.script.as_str()]);
    }
    let plan = Arc::new(Plan {
        http: http(&target.region)?,
        login: format!("{}/oauth/token", target.region.login_url()),
        script,
        client_id: target.client_id.clone(),
        client_secret: target.client_secret.clone(),
        timeout: args.call_timeout,
        shared: args.shared_token.then(OnceCell::new),
        // When all start at once, all are logged in before the first asks for its script: the burst that the report
        // tells of is then one of script requests, and not smeared by logins that end one after the other.
        logged_in: fleet.at_once().then(|| Barrier::new(args.agents as usize)),
        sent: Counters::default(),
    });
    let mut run = fleet.send(Mode::Naive.name(), || Arc::clone(&plan).agent()).await?;
    run.sent = plan.sent.read();
    Ok(run)
}

/// One client for all agents; never through a proxy to this machine, which would see the secret in clear.
pub(crate) fn http(region: &Region) -> anyhow::Result<reqwest::Client> {
    // reqwest alone wants a crypto provider of the process, even where all is http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    // A region is https, or on loopback.
    let clear = [region.api_url(), region.login_url()].iter().any(|url| url.starts_with("http://"));
    Ok(if clear { builder.no_proxy() } else { builder }.build()?)
}

struct Plan {
    http: reqwest::Client,
    login: String,
    script: Url,
    client_id: String,
    client_secret: SecretString,
    timeout: Duration,
    shared: Option<OnceCell<Result<SecretString, Failure>>>,
    logged_in: Option<Barrier>,
    sent: Counters,
}

#[derive(Deserialize)]
struct Issued {
    access_token: SecretString,
}

impl Plan {
    /// What one agent does, and how long it took: the login and the fetch, not the wait for the others between them.
    async fn agent(self: Arc<Self>) -> Result<Duration, Failure> {
        let started = Instant::now();
        let token = match &self.shared {
            Some(shared) => shared.get_or_init(|| self.log_in()).await.clone(),
            None => self.log_in().await,
        };
        let login = started.elapsed();
        if let Some(others) = &self.logged_in {
            others.wait().await;
        }
        let token = token?;
        let started = Instant::now();
        self.fetch(&token, self.timeout.saturating_sub(login)).await?;
        Ok(login + started.elapsed())
    }

    async fn log_in(&self) -> Result<SecretString, Failure> {
        let secret = self.client_secret.expose_secret();
        let request = self
            .http
            .post(&self.login)
            .basic_auth(&self.client_id, Some(secret))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("grant_type=client_credentials");
        self.sent.login_attempts.fetch_add(1, Ordering::Relaxed);
        let (status, body) = exchange(request, self.timeout).await.map_err(|error| unanswered("log in", error))?;
        if status != StatusCode::OK {
            let failure = refused("log in", status, &body, &[secret]);
            if status == StatusCode::TOO_MANY_REQUESTS || failure.bad_request.as_deref() == Some("login_throttled") {
                self.sent.login_throttled.fetch_add(1, Ordering::Relaxed);
            }
            return Err(failure);
        }
        let issued = serde_json::from_slice::<Issued>(&body);
        issued.map(|issued| issued.access_token).map_err(|_| Failure::other("log in: the answer holds no token"))
    }

    async fn fetch(&self, token: &SecretString, timeout: Duration) -> Result<(), Failure> {
        let request = self.http.get(self.script.clone()).bearer_auth(token.expose_secret());
        self.sent.attempts.fetch_add(1, Ordering::Relaxed);
        let (status, body) = exchange(request, timeout).await.map_err(|error| unanswered("get script", error))?;
        match status {
            StatusCode::OK => match serde_json::from_slice::<Script>(&body) {
                Ok(_script) => Ok(()),
                Err(_) => Err(Failure::other("get script: HTTP 200, but the answer is no script")),
            },
            _ => {
                if status == StatusCode::TOO_MANY_REQUESTS {
                    self.sent.throttled.fetch_add(1, Ordering::Relaxed);
                }
                Err(refused("get script", status, &body, &[token.expose_secret()]))
            }
        }
    }
}

async fn exchange(request: RequestBuilder, timeout: Duration) -> reqwest::Result<(StatusCode, Vec<u8>)> {
    let response = request.header(ACCEPT, "application/json").timeout(timeout).send().await?;
    Ok((response.status(), response.bytes().await?.into()))
}

/// No whole answer came.
fn unanswered(what: &str, error: reqwest::Error) -> Failure {
    Failure::other(format!("{what}: {:#}", anyhow::Error::from(error)))
}

/// What the service, or its login, says with a refusal.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(alias = "error")]
    code: Option<String>,
    #[serde(alias = "error_description")]
    message: Option<String>,
}

fn refused(what: &str, status: StatusCode, body: &[u8], secrets: &[&str]) -> Failure {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let kind = format!("{what}: HTTP {} {:?}", status.as_u16(), refusal.code);
    let mut text = format!("{what}: HTTP {}", status.as_u16());
    for part in [&refusal.code, &refusal.message].into_iter().flatten() {
        // The service's words go to a terminal: without a secret it may echo, escaped, and cut.
        let clean = secrets.iter().fold(part.clone(), |part, secret| part.replace(secret, "[REDACTED]"));
        text.push_str(&format!(" {:?}", clean.chars().take(200).collect::<String>()));
    }
    let class = || class_of_400(refusal.code.as_deref(), refusal.message.as_deref());
    Failure { kind, text, bad_request: (status == StatusCode::BAD_REQUEST).then(class), cause: None }
}

/// The class of a 400, by what the service said: all that a plain client has.
fn class_of_400(code: Option<&str>, message: Option<&str>) -> String {
    let message = message.unwrap_or_default().to_ascii_lowercase();
    if message.contains("invalid script definition") {
        return "invalid_script_definition".to_owned();
    }
    if code == Some("invalid_request") && message.starts_with("rate limit exceeded") {
        return "login_throttled".to_owned();
    }
    // It came from the wire and goes to a terminal.
    let code: String = code.unwrap_or_default().chars().take(60).map(plain).collect();
    if code.is_empty() { "unknown".to_owned() } else { code }
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }
}

#[derive(Default)]
struct Counters {
    attempts: AtomicU64,
    throttled: AtomicU64,
    login_attempts: AtomicU64,
    login_throttled: AtomicU64,
}

impl Counters {
    fn read(&self) -> Sent {
        Sent {
            attempts: self.attempts.load(Ordering::Relaxed),
            retries: 0,
            throttled: self.throttled.load(Ordering::Relaxed),
            login_attempts: self.login_attempts.load(Ordering::Relaxed),
            login_throttled: self.login_throttled.load(Ordering::Relaxed),
        }
    }
}
