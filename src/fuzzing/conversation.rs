//! Conversations: agents that call, give up and log out, and a service that answers anything at any time.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::Request;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::number;
use super::service::{self, Answer, is_login};
use crate::{Agent, Client, Credentials, Error, OAuthClient, PublishScript, RetryPolicy, Script, ScriptId};

/// Whatever is asked and answered in whatever order: no call is sent more often than its policy says, none outlasts its
/// deadline, no more are in flight than may be, of each agent one login at a time; each gets its own agent's answer to what it
/// asked. When all is over nothing is held any more, and the next call is served.
///
/// Lines: what the service answers next, and then next, to calls and to logins: `api 503`, `api 429 SECONDS` (of
/// `Retry-After`), `api 200 SECONDS MILLISECONDS` (so much later), `api broken`, `api silence`, `quota ALLOWED COUNT SECONDS`
/// (200 with that), `login …` likewise, `token SECONDS` (a login's, of that lifetime). And what happens: `a get`, `a publish`,
/// `a log out`, `a cancel` (the oldest of its calls), of the agents `a`, `b` and `c`, and `pass MILLISECONDS`.
pub fn conversation(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let service = Arc::new(Mutex::new(Service::default()));
    service::run(converse(&text, &service));
    // Nor is a task left that holds the client.
    assert_eq!(Arc::strong_count(&service), 1, "something lives on");
}

const AGENTS: [&str; 3] = ["a", "b", "c"];
const ATTEMPTS: u32 = 3;
const CALL: Duration = Duration::from_secs(30);
const IN_FLIGHT: usize = 4;
const LONG_AFTER: Duration = Duration::from_secs(3_600);

async fn converse(text: &str, service: &Arc<Mutex<Service>>) {
    let client = client(service);
    let agents = AGENTS.map(|name| (name, client.agent(credentials(name))));
    let mut users = Users::default();
    for line in text.lines().take(150) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), agents.iter().find(|(name, _)| words.first() == Some(name))) {
            (["pass", time, ..], _) => {
                sleep(Duration::from_millis(u64::try_from(number(time).clamp(0, 600_000)).unwrap_or(0))).await;
            }
            ([_, what, ..], Some((name, agent))) => users.does(name, agent, what),
            (words, _) => lock(service).will_answer(words),
        }
        // Everything that can be done now is.
        sleep(Duration::ZERO).await;
    }
    sleep(LONG_AFTER).await;
    users.are_served(service).await;
    let stats = client.stats();
    for host in [&stats.api, &stats.login] {
        assert_eq!((host.in_flight, host.waiting), (0, 0), "{stats:?}");
    }
    for standing in agents.iter().flat_map(|(_, agent)| agent.quota()) {
        assert_eq!(standing.waiting, 0, "{standing:?}");
        assert_eq!((standing.remaining, standing.available_in), (standing.allowed, None), "{standing:?}");
    }
    {
        let mut service = lock(service);
        assert!(service.in_flight == 0 && service.logins.values().all(|logins| *logins == 0));
        (service.api, service.login) = Default::default();
    }
    // `c` may have lost its session.
    for (name, agent) in agents.iter().take(2) {
        let last = ask(agent, &format!("{name}-last"), "get").await;
        assert_eq!(last.unwrap_or_else(|error| panic!("{error}")).name.as_deref(), Some(*name));
    }
}

fn client(service: &Arc<Mutex<Service>>) -> Client {
    let service = Arc::clone(service);
    let answers = move |request: &Request| {
        let mut answering = lock(&service);
        let (answer, of) = answering.answer(request);
        drop(answering);
        let under_way = UnderWay { service: Arc::clone(&service), of };
        Answer { held: Some(Box::new(under_way)), ..answer }
    };
    let policy = RetryPolicy { attempts: ATTEMPTS, ..RetryPolicy::default() };
    let client = service::client(answers).retry(policy).call_timeout(CALL).attempt_timeout(Duration::from_secs(5));
    let client = client.login_timeout(Duration::from_secs(10)).login_throttle_timeout(Duration::from_secs(60));
    client.max_in_flight(IN_FLIGHT).build().expect("a client")
}

/// Of an OAuth client of its own, or, for `c`, a session with that of `a`.
fn credentials(name: &str) -> Credentials {
    match name {
        "c" => Credentials::refresh_token(OAuthClient::new("a", "secret"), "c-refresh-0"),
        name => Credentials::client(name, "secret"),
    }
}

fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().expect("a lock")
}

async fn ask(agent: &Agent, id: &str, what: &str) -> Result<Script, Error> {
    let id: ScriptId = id.parse().expect("an id");
    match what {
        "publish" => agent.publish(&id, &PublishScript::default()).await,
        _ => agent.script(&id).await,
    }
}

/// What became of a call, and how long it took.
type Ended = (Result<Script, Error>, Duration);

/// Who asks for what.
#[derive(Default)]
struct Users {
    calls: Vec<(&'static str, String, JoinHandle<Ended>)>,
    logouts: Vec<JoinHandle<Duration>>,
}

impl Users {
    fn does(&mut self, name: &'static str, agent: &Agent, what: &str) {
        let agent = agent.clone();
        match what {
            "cancel" => {
                if let Some((.., call)) = self.calls.iter().find(|(of, _, call)| *of == name && !call.is_finished()) {
                    call.abort();
                }
            }
            "log" => self.logouts.push(tokio::spawn(async move {
                let started = Instant::now();
                let _ = agent.log_out().await;
                started.elapsed()
            })),
            "get" | "publish" => {
                let id = format!("{name}-{}", self.calls.len());
                let (what, of) = (what.to_owned(), id.clone());
                let call = tokio::spawn(async move {
                    let started = Instant::now();
                    (ask(&agent, &of, &what).await, started.elapsed())
                });
                self.calls.push((name, id, call));
            }
            _ => {}
        }
    }

    async fn are_served(self, service: &Mutex<Service>) {
        for (name, id, call) in self.calls {
            assert!(call.is_finished(), "{id} outlasts its deadline by far");
            let seen = lock(service).calls.get(&id).copied().unwrap_or_default();
            assert!(seen.failed <= ATTEMPTS && seen.unauthorized <= 2, "{id} was sent too often: {seen:?}");
            let Ok((result, took)) = call.await else { continue };
            assert!(took <= CALL + Duration::from_millis(5), "{id} took {took:?}: {result:?}");
            match result {
                Ok(script) => {
                    assert_eq!((script.id.as_str(), script.name.as_deref()), (id.as_str(), Some(name)), "another's");
                }
                Err(error) => assert_eq!(error.attempts(), seen.sent, "{id}: {error}"),
            }
        }
        for logout in self.logouts {
            assert!(logout.is_finished(), "a logout does not end");
            let took = logout.await.expect("a logout");
            assert!(took <= CALL + Duration::from_millis(5), "a logout took {took:?}");
        }
    }
}

/// The service, and what it saw.
#[derive(Default)]
struct Service {
    api: VecDeque<Answer>,
    login: VecDeque<Answer>,
    tokens: u32,
    /// Calls and logins under way.
    in_flight: usize,
    logins: HashMap<String, u32>,
    calls: HashMap<String, Seen>,
}

/// How often a call was sent, and how that was answered.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent: u32,
    failed: u32,
    unauthorized: u32,
}

/// A request under way; whose login, if it is one.
struct UnderWay {
    service: Arc<Mutex<Service>>,
    of: Option<String>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut service = lock(&self.service);
        match self.of.as_ref().and_then(|of| service.logins.get_mut(of)) {
            Some(logins) => *logins -= 1,
            None => service.in_flight -= 1,
        }
    }
}

impl Service {
    fn will_answer(&mut self, words: &[&str]) {
        let argument = |at: usize| words.get(at).map_or(0, |word| number(word));
        let seconds = |at: usize| u32::try_from(argument(at)).unwrap_or(0);
        let mut answer = match words.get(1) {
            Some(&"silence") => Answer { after: 10 * LONG_AFTER, ..Answer::default() },
            Some(&"broken") | None => Answer::default(),
            Some(_) => Answer::new(u16::try_from(argument(1).clamp(200, 599)).unwrap_or(599), ""),
        };
        if let Some(after) = words.get(2).filter(|_| answer.status != Some(200)) {
            answer.headers.extend(HeaderValue::try_from(*after).ok().map(|after| (RETRY_AFTER, after)));
        }
        answer.after += Duration::from_millis(20 + u64::from(seconds(3)));
        match words.first() {
            Some(&"api") => self.api.push_back(answer),
            Some(&"login") => {
                if answer.status == Some(400) {
                    answer.body = br#"{"error":"invalid_request","description":"rate limit exceeded"}"#.to_vec();
                }
                self.login.push_back(answer);
            }
            Some(&"token") => {
                // The lifetime, where the body will be.
                self.login.push_back(Answer::new(200, seconds(1).to_string()));
            }
            Some(&"quota") => {
                let names = ["inin-ratelimit-allowed", "inin-ratelimit-count", "inin-ratelimit-reset"];
                let mut answer = Answer::new(200, "");
                let values = [seconds(1), seconds(2), seconds(3)].map(HeaderValue::from);
                answer.headers.extend(names.map(HeaderName::from_static).into_iter().zip(values));
                self.api.push_back(answer);
            }
            _ => {}
        }
    }

    /// What it answers, and whose login it is.
    fn answer(&mut self, request: &Request) -> (Answer, Option<String>) {
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
        if is_login(request) {
            let (answer, of) = self.login(request, authorization);
            let logins = self.logins.entry(of.clone()).or_default();
            *logins += 1;
            assert_eq!(*logins, 1, "two logins of {of} at a time");
            return (answer, Some(of));
        }
        self.in_flight += 1;
        assert!(self.in_flight <= IN_FLIGHT, "{} in flight", self.in_flight);
        let of = authorization.strip_prefix("Bearer ").and_then(|token| token.split_once('-')).map(|(of, _)| of);
        let of = of.unwrap_or_else(|| panic!("no token in {authorization:?}")).to_owned();
        let id = match request.body().and_then(reqwest::Body::as_bytes) {
            Some(body) => serde_json::from_slice::<serde_json::Value>(body)
                .ok()
                .and_then(|body| Some(body.get("scriptId")?.as_str()?.to_owned())),
            None => request.url().path().rsplit('/').next().map(str::to_owned),
        };
        let id = id.expect("an id");
        let mut answer = self.api.pop_front().unwrap_or_else(|| Answer::new(200, ""));
        if id == "me" {
            return (answer, None); // A logout.
        }
        assert!(id.starts_with(&format!("{of}-")), "{id} with a token of {of}");
        let seen = self.calls.entry(id.clone()).or_default();
        seen.sent += 1;
        match answer.status {
            Some(200) => answer.body = format!(r#"{{"id":"{id}","name":"{of}"}}"#).into_bytes(),
            Some(401) => seen.unauthorized += 1,
            Some(429) => {}
            _ => seen.failed += 1,
        }
        (answer, None)
    }

    fn login(&mut self, request: &Request, authorization: &str) -> (Answer, String) {
        let form = request.body().and_then(reqwest::Body::as_bytes).map(String::from_utf8_lossy).unwrap_or_default();
        let basic = authorization.strip_prefix("Basic ").and_then(|basic| BASE64_STANDARD.decode(basic).ok());
        let client = basic.and_then(|basic| Some(String::from_utf8(basic).ok()?.split_once(':')?.0.to_owned()));
        let of = if form.contains("refresh_token=c-") { "c".to_owned() } else { client.expect("a client") };
        let mut answer = self.login.pop_front().unwrap_or_else(|| Answer::new(200, "86400"));
        if answer.status == Some(200) {
            let lifetime = String::from_utf8_lossy(&answer.body).parse().unwrap_or(86_400_u32);
            self.tokens += 1;
            let number = self.tokens;
            let refresh = if of == "c" { format!(r#","refresh_token":"c-refresh-{number}""#) } else { String::new() };
            let body = format!(r#"{{"access_token":"{of}-{number}","expires_in":{lifetime}{refresh}}}"#);
            answer.body = body.into_bytes();
        }
        (answer, of)
    }
}
