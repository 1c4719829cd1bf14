//! The agents as the reported test plan has them: a login, a request, no retry, no bound; any refusal is a failure.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use genesys_scripts::{Region, ScriptId};
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, InvalidHeaderValue};
use hyper::{Request, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{Barrier, OnceCell};
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::args::{Args, Workload};
use crate::failure::Failure;
use crate::feeder::Login;
use crate::output;
use crate::plan::{Closed, Plan};
use crate::run::{Outcome, Sent};
use crate::sender::{Answer, Means, Sender, get};
use crate::target::{Identity, Target};

/// What all agents share.
pub(crate) struct Shared {
    sender: Sender,
    login: Uri,
    client: Option<(String, SecretString)>,
    timeout: Duration,
    token: Option<Token>,
    /// When all start at once, all are logged in before the first asks for its script: the burst that the report
    /// tells of is then one of script requests, and not smeared by logins that end one after the other.
    logged_in: Option<Barrier>,
    /// How long that took.
    held_up: OnceLock<Duration>,
    decode: bool,
    sent: Counters,
}

impl Shared {
    pub(crate) fn new(args: &Args, target: &Target, plan: &Plan) -> anyhow::Result<Arc<Self>> {
        let at_once = matches!(plan, Plan::Closed(Closed { ramp_up: Duration::ZERO, .. }));
        Ok(Arc::new(Self {
            sender: Means::new(&target.region, target.ca.as_deref())?.sender(None, usize::MAX),
            login: format!("{}/oauth/token", target.region.login_url()).parse()?,
            client: target.client.clone(),
            timeout: args.call_timeout,
            token: args.shared_token.then(Token::default),
            logged_in: at_once.then(|| Barrier::new(target.agents.len())),
            held_up: OnceLock::new(),
            decode: !args.without_decoding,
            sent: Counters::default(),
        }))
    }

    pub(crate) fn sent(&self) -> Sent {
        self.sent.read()
    }

    /// The whole answer, in the time that is left of an iteration.
    async fn exchange(&self, what: &str, request: Request<Full<Bytes>>, spent: Duration) -> Result<Answer, Failure> {
        let answer = self.sender.send(request, self.timeout.saturating_sub(spent)).await;
        answer.map_err(|error| Failure {
            machine: error.chain().find_map(Failure::of_machine),
            timed_out: error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut),
            ..Failure::other(format!("{what}: {error:#}"))
        })
    }
}

pub(crate) struct Agent {
    shared: Arc<Shared>,
    /// What it asks for, one after the other.
    uris: Vec<(&'static str, Uri)>,
    login: Login,
    token: Token,
    /// Whether it has waited for the others to be logged in.
    met: AtomicBool,
}

/// As a header, ready to be sent, once there is one.
#[derive(Default)]
struct Token {
    got: OnceCell<HeaderValue>,
    /// When the last login failed, and how.
    failed: Mutex<Option<(Instant, Failure)>>,
}

impl Token {
    /// A login that failed is tried again by the next iteration. Those that waited for it have failed with it: if each tried in
    /// its turn, the last would wait for all the others.
    async fn get(
        &self,
        began: Instant,
        log_in: impl Future<Output = Result<HeaderValue, Failure>>,
    ) -> Result<&HeaderValue, Failure> {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let once = async {
            if let Some((_, failure)) = failed().as_ref().filter(|(at, _)| *at > began) {
                return Err(failure.clone());
            }
            let token = log_in.await;
            *failed() = token.as_ref().err().map(|failure| (Instant::now(), failure.clone()));
            token
        };
        self.got.get_or_try_init(|| once).await
    }
}

#[derive(Deserialize)]
struct Issued {
    access_token: SecretString,
}

/// What a script, and a page of one, is known by; nothing else is looked at.
#[derive(Deserialize)]
pub(crate) struct Known {
    #[serde(rename = "id")]
    _id: IgnoredAny,
}

/// What asks for a script, one after the other.
pub(crate) fn urls(region: &Region, script: &ScriptId, workload: Workload) -> anyhow::Result<Vec<(&'static str, Uri)>> {
    let paths: &[(&str, &[&str], &[&str])] = match workload {
        Workload::Script => &[("get script", &[], &[])],
        Workload::Published => &[("get published script", &["published"], &[])],
        Workload::FirstScreen => &[("get script", &[], &[]), ("get script pages", &[], &["pages"])],
    };
    let mut urls = Vec::new();
    for (what, before, after) in paths {
        let mut url = Url::parse(&region.api_url())?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v2", "scripts"]).extend(*before);
            path.push(script.as_str()).extend(*after);
        }
        urls.push((*what, url.as_str().parse()?));
    }
    Ok(urls)
}

impl Agent {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        identity: &Identity,
        workload: Workload,
        region: &Region,
    ) -> anyhow::Result<Self> {
        let token = match &identity.login {
            Login::AccessToken(token) => Some(header("Bearer", token.expose_secret())?),
            _ => None,
        };
        Ok(Self {
            shared: Arc::clone(shared),
            uris: urls(region, &identity.script, workload)?,
            login: identity.login.clone(),
            token: Token { got: OnceCell::new_with(token), ..Token::default() },
            met: AtomicBool::new(false),
        })
    }

    /// The login and the fetch; the wait for the others between them is told apart.
    pub(crate) async fn iterate(&self) -> Outcome {
        let started = Instant::now();
        let token = self.shared.token.as_ref().unwrap_or(&self.token).get(started, self.log_in()).await;
        let mut outcome = Outcome::of(Ok(()));
        if let (Some(others), false) = (&self.shared.logged_in, self.met.swap(true, Ordering::Relaxed)) {
            let logged_in = Instant::now();
            others.wait().await;
            outcome.apart = logged_in.elapsed();
            self.shared.held_up.get_or_init(|| told(started.elapsed()));
        }
        outcome.result = match token {
            Ok(token) => self.fetch_all(token, started, &mut outcome).await,
            Err(failure) => Err(failure),
        };
        outcome
    }

    async fn fetch_all(&self, token: &HeaderValue, started: Instant, outcome: &mut Outcome) -> Result<(), Failure> {
        for (what, uri) in &self.uris {
            let spent = started.elapsed().saturating_sub(outcome.apart);
            self.shared.sent.attempts.fetch_add(1, Ordering::Relaxed);
            let answer = self.shared.exchange(what, get(uri, Some(token)), spent).await?;
            if outcome.bytes == 0 {
                outcome.first_byte = spent + answer.first_byte;
            }
            outcome.bytes += answer.body.len() as u64;
            self.judge(what, &answer, token)?;
        }
        Ok(())
    }

    fn judge(&self, what: &str, answer: &Answer, token: &HeaderValue) -> Result<(), Failure> {
        if answer.status != StatusCode::OK {
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                self.shared.sent.throttled.fetch_add(1, Ordering::Relaxed);
            }
            return Err(refused(what, answer.status, &answer.body, &[&token_of(token)]));
        }
        let good = match what {
            _ if !self.shared.decode => true,
            "get script pages" => serde_json::from_slice::<Vec<Known>>(&answer.body).is_ok(),
            _ => serde_json::from_slice::<Known>(&answer.body).is_ok(),
        };
        let no_script = || Failure {
            status: Some(200),
            ..Failure::other(format!("{what}: HTTP 200, but the answer is no script"))
        };
        if good { Ok(()) } else { Err(no_script()) }
    }

    /// How long all waited until all were logged in; the plan's time begins then.
    pub(crate) fn held_up(&self) -> Duration {
        self.shared.held_up.get().copied().unwrap_or_default()
    }

    async fn log_in(&self) -> Result<HeaderValue, Failure> {
        let Some(client) = &self.shared.client else {
            return Err(Failure::other("log in: no client credentials"));
        };
        let (request, secrets) = login(&self.shared.login, client, &self.login)
            .map_err(|error| Failure::other(format!("log in: {error}")))?;
        let sent = &self.shared.sent;
        sent.login_attempts.fetch_add(1, Ordering::Relaxed);
        let answer = self.shared.exchange("log in", request, Duration::ZERO).await?;
        if answer.status != StatusCode::OK {
            let failure = refused("log in", answer.status, &answer.body, &secrets);
            if answer.status == StatusCode::TOO_MANY_REQUESTS
                || failure.bad_request.as_deref() == Some("login_throttled")
            {
                sent.login_throttled.fetch_add(1, Ordering::Relaxed);
            }
            return Err(failure);
        }
        bearer(&answer.body).ok_or_else(|| Failure::other("log in: the answer holds no token that can be sent"))
    }
}

/// A wait for logins that is no matter of course is told.
fn told(wait: Duration) -> Duration {
    if wait > Duration::from_secs(1) {
        let seconds = wait.as_secs_f64();
        output::tell(&format!(
            "warning: naive: the last login ended after {seconds:.1} s, which all waited for; a --duration counts from then"
        ));
    }
    wait
}

/// A login as a plain client sends it, and what of it must not be told.
pub(crate) fn login<'a>(
    to: &Uri,
    (id, secret): &'a (String, SecretString),
    login: &'a Login,
) -> anyhow::Result<(Request<Full<Bytes>>, Vec<&'a str>)> {
    let mut secrets = vec![secret.expose_secret()];
    if let Login::RefreshToken(token) = login {
        secrets.push(token.expose_secret());
    }
    let basic = header("Basic", &BASE64_STANDARD.encode(format!("{id}:{}", secret.expose_secret())))?;
    let request = Request::post(to).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    Ok((request.header(AUTHORIZATION, basic).body(form(login).into())?, secrets))
}

/// The token of a login's answer, ready to be sent.
pub(crate) fn bearer(body: &[u8]) -> Option<HeaderValue> {
    let issued = serde_json::from_slice::<Issued>(body).ok()?;
    header("Bearer", issued.access_token.expose_secret()).ok()
}

/// What a login sends.
fn form(login: &Login) -> String {
    match login {
        Login::RefreshToken(token) => {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose_secret()).finish()
        }
        _ => "grant_type=client_credentials".to_owned(),
    }
}

/// What must not be told, as a header.
pub(crate) fn header(scheme: &str, secret: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut header = HeaderValue::try_from(format!("{scheme} {secret}"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// As it was given: a header may hold more than ASCII.
pub(crate) fn token_of(bearer: &HeaderValue) -> String {
    let bearer = String::from_utf8_lossy(bearer.as_bytes());
    bearer.strip_prefix("Bearer ").unwrap_or(&bearer).to_owned()
}

/// What the service, or its login, says with a refusal.
#[derive(Default, Deserialize)]
pub(crate) struct Refusal {
    #[serde(alias = "error")]
    code: Option<String>,
    #[serde(alias = "error_description")]
    message: Option<String>,
}

impl Refusal {
    pub(crate) fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// For a terminal: without a secret that the service may echo, escaped, and cut.
    pub(crate) fn words(&self, secrets: &[&str]) -> String {
        let secrets = || secrets.iter().filter(|secret| !secret.is_empty());
        let clean = |part: &String| {
            let part = secrets().fold(part.clone(), |part, secret| part.replace(secret, "[REDACTED]"));
            format!("{:?}", part.chars().take(200).collect::<String>())
        };
        [&self.code, &self.message].into_iter().flatten().map(clean).collect::<Vec<_>>().join(" ")
    }
}

fn refused(what: &str, status: StatusCode, body: &[u8], secrets: &[&str]) -> Failure {
    let refusal = Refusal::of(body);
    let kind = format!("{what}: HTTP {} {:?}", status.as_u16(), refusal.code);
    let text = format!("{what}: HTTP {} {}", status.as_u16(), refusal.words(secrets)).trim_end().to_owned();
    let class = || class_of_400(refusal.code.as_deref(), refusal.message.as_deref());
    let bad_request = (status == StatusCode::BAD_REQUEST).then(class);
    Failure { kind, text, bad_request, cause: None, status: Some(status.as_u16()), machine: None, timed_out: false }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_echoed_is_not_told_whatever_its_letters() {
        for (token, told) in [("plain-token", "no [REDACTED]!"), ("tök-geheim", "no [REDACTED]!"), ("", "no !")] {
            let body = serde_json::json!({ "message": format!("no {token}!") }).to_string();
            let token = header("Bearer", token).unwrap();
            let failure = refused("get script", StatusCode::FORBIDDEN, body.as_bytes(), &[&token_of(&token)]);
            assert_eq!(failure.text, format!("get script: HTTP 403 {told:?}"));
        }
    }
}
