//! What a recorder is told: the names, labels and values that the documentation promises, and that labels stay few. On a paused
//! clock, without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use genesys_scripts::{CachePolicy, Credentials, OAuthClient, ReadScript, Resilience, ScriptId, Session};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use tokio::time::sleep;

use crate::common::{Reply, Scripted, credentials, id, once, reply, script, token};

/// Keeps all it is told, by name and labels.
#[derive(Clone, Default)]
struct Recorder {
    told: Arc<Mutex<BTreeMap<String, Vec<f64>>>>,
    described: Arc<Mutex<BTreeSet<String>>>,
}

struct Series(Recorder, String);

impl Recorder {
    fn series(&self, key: &Key) -> Arc<Series> {
        let mut labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        Arc::new(Series(self.clone(), format!("{} {}", key.name(), labels.join(" ")).trim().to_owned()))
    }

    fn values(&self, series: &str) -> Vec<f64> {
        self.told.lock().unwrap().get(series).cloned().unwrap_or_default()
    }

    /// What a counter or a gauge has come to.
    fn sum(&self, series: &str) -> f64 {
        self.values(series).iter().sum()
    }

    fn all(&self) -> Vec<String> {
        self.told.lock().unwrap().keys().cloned().collect()
    }
}

impl Series {
    fn tell(&self, value: f64) {
        self.0.told.lock().unwrap().entry(self.1.clone()).or_default().push(value);
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.tell(value as f64);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters only grow");
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.tell(value);
    }

    fn decrement(&self, value: f64) {
        self.tell(-value);
    }

    fn set(&self, _: f64) {
        unreachable!("of several clients in a process the last would win");
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.tell(value);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.described.lock().unwrap().insert(name.as_str().to_owned());
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, what: SharedString) {
        self.describe_counter(name, unit, what);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, what: SharedString) {
        self.describe_counter(name, unit, what);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

const REQUEST: &str =
    "http.request.method=GET server.address=127.0.0.1 server.port=9 url.template=/api/v2/scripts/{scriptId}";
const GET: &str = "genesys_scripts.operation=get script";

/// A request of `get script`, with what ended it.
fn request(status: &str, error: &str) -> String {
    let error = if error.is_empty() { String::new() } else { format!("error.type={error} ") };
    let status = if status.is_empty() { String::new() } else { format!("http.response.status_code={status} ") };
    // As they are sorted.
    let rest = REQUEST.strip_prefix("http.request.method=GET ").unwrap();
    format!("http.client.request.duration {error}http.request.method=GET {status}{rest}")
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_served_is_told_with_its_requests_its_login_and_its_quota() {
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let quota = |reply: Reply| {
        reply
            .with("inin-ratelimit-allowed", "300")
            .with("inin-ratelimit-count", "12")
            .with("inin-ratelimit-reset", "30")
    };
    let transport = Scripted::replies([quota(script())]);
    transport.agent().script(&id()).await.unwrap();
    let latency = [0.02];
    assert_eq!(recorder.values(&request("200", "")), latency);
    assert_eq!(recorder.values(&format!("genesys_scripts.call.duration {GET}")), [0.04], "with its login");
    assert_eq!(recorder.values("genesys_scripts.call.duration genesys_scripts.operation=log in"), latency);
    let login = "http.client.request.duration http.request.method=POST http.response.status_code=200 \
                 server.address=127.0.0.1 server.port=9 url.template=/oauth/token";
    assert_eq!(recorder.values(login), latency);
    assert_eq!(recorder.values("genesys_scripts.login.duration genesys_scripts.grant=client_credentials"), latency);
    assert_eq!(recorder.values(&format!("genesys_scripts.quota.remaining {GET}")), [288.0]);
    assert_eq!(recorder.values(&format!("genesys_scripts.wait.duration {GET} genesys_scripts.wait=login")), latency);
    assert_eq!(recorder.values(&format!("http.client.active_requests {REQUEST}")), [1.0, -1.0]);
    let named: BTreeSet<_> =
        recorder.all().iter().filter_map(|series| Some(series.split_once(' ')?.0.to_owned())).collect();
    let described = recorder.described.lock().unwrap().clone();
    assert!(named.is_subset(&described), "{:?} is not described", named.difference(&described));
}

#[tokio::test(start_paused = true)]
async fn each_failure_is_told_by_what_it_was() {
    const DEFINITION: &str = r#"{"code":"bad_request","message":"Invalid script definition"}"#;
    const LIMIT: &str = r#"{"message":"Rate limit exceeded","code":"too.many.requests","limit":{"key":"token.rate.per.minute","namespace":"platform.api","value":300}}"#;
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let transport = Scripted::replies([
        reply(503, ""),
        Reply::Broken(std::io::ErrorKind::ConnectionReset),
        reply(429, LIMIT).with("retry-after", "2"),
        reply(429, "").with("retry-after", "1"),
        reply(401, ""),
        reply(400, DEFINITION),
        Reply::Silence,
        script(),
        reply(404, ""),
    ]);
    let agent = transport.agent();
    agent.script(&id()).await.unwrap();
    agent.script(&id()).await.unwrap_err();
    for (status, error, times) in [
        ("503", "503", 1),
        ("", "connection", 1),
        ("429", "429", 2),
        ("401", "401", 1),
        ("400", "400", 1),
        ("", "timeout", 1),
        ("200", "", 1),
        ("404", "404", 1),
    ] {
        assert_eq!(recorder.values(&request(status, error)).len(), times, "{status} {error}: {:#?}", recorder.all());
    }
    assert_eq!(recorder.values(&request("", "timeout")), [15.0]);
    for (error, times) in [
        ("server", 1.0),
        ("connection", 1.0),
        ("throttled", 2.0),
        ("unauthorized", 1.0),
        ("bad_request", 1.0),
        ("timeout", 1.0),
    ] {
        assert_eq!(recorder.sum(&format!("genesys_scripts.retries error.type={error} {GET}")), times, "{error}");
    }
    for limit in ["token.rate.per.minute", "unnamed"] {
        assert_eq!(recorder.sum(&format!("genesys_scripts.throttled genesys_scripts.limit={limit} {GET}")), 1.0);
    }
    let bad_requests: Vec<_> = recorder.all().into_iter().filter(|series| series.contains(".bad_requests ")).collect();
    let [bad_request] = &bad_requests[..] else { panic!("{bad_requests:?}") };
    assert!(bad_request.contains("genesys_scripts.cause=") && bad_request.ends_with(GET), "{bad_request}");
    assert_eq!(recorder.values(&format!("genesys_scripts.call.duration error.type=not_found {GET}")).len(), 1);
    assert_eq!(recorder.values(&format!("genesys_scripts.call.duration {GET}")).len(), 1);
    for (wait, least) in [("quota", 3.0), ("backoff", 0.001)] {
        assert!(recorder.sum(&format!("genesys_scripts.wait.duration {GET} genesys_scripts.wait={wait}")) >= least);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_and_what_is_down_is_told_while_it_does() {
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { Reply::Silence });
    let client = transport.builder().max_in_flight(2).build().unwrap();
    let agent = client.agent(Credentials::access_token("t0ken"));
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let agent = agent.clone();
            tokio::spawn(async move { agent.script(&id()).await.map(drop) })
        })
        .collect();
    sleep(Duration::from_millis(1)).await;
    let in_flight = format!("http.client.active_requests {REQUEST}");
    let waiting = format!("genesys_scripts.waiting {GET} genesys_scripts.wait=in_flight");
    assert_eq!((recorder.sum(&in_flight), recorder.sum(&waiting)), (2.0, 3.0));
    // Whoever is dropped is let go of.
    calls.iter().for_each(|call| call.abort());
    join_all(calls).await;
    assert_eq!((recorder.sum(&in_flight), recorder.sum(&waiting)), (0.0, 0.0));

    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { reply(503, "") });
    let client = transport.builder().retry(once()).build().unwrap();
    let agent = client.agent(credentials());
    for _ in 0..20 {
        sleep(Duration::from_millis(200)).await;
        agent.script(&id()).await.unwrap_err();
    }
    let (down, outages) = (format!("genesys_scripts.down {GET}"), format!("genesys_scripts.outages {GET}"));
    assert_eq!((recorder.sum(&down), recorder.sum(&outages)), (1.0, 1.0));
    client.set_resilience(Resilience::off());
    assert_eq!((recorder.sum(&down), recorder.sum(&outages)), (0.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn the_cache_tells_what_it_gave() {
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let transport = Scripted::replies([script(), reply(500, ""), reply(404, "")]);
    let client = transport.builder().cache(CachePolicy::default()).retry(once()).build().unwrap();
    let agent = client.agent(credentials());
    agent.cached_script(&id()).await.unwrap();
    agent.cached_script(&id()).await.unwrap();
    sleep(Duration::from_secs(61)).await;
    assert!(agent.cached_script(&id()).await.unwrap().stale);
    agent.cached_script(&id()).await.unwrap_err();
    for (result, times) in [("fresh", 1.0), ("stale", 1.0), ("missed", 2.0)] {
        let series = format!("genesys_scripts.cache.requests genesys_scripts.cache.result={result}");
        assert_eq!(recorder.sum(&series), times, "{result}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_are_few_whatever_ids_agents_and_answers_there_are() {
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let count = Mutex::new(0);
    let transport = Scripted::by(move |seen| {
        let mut count = count.lock().unwrap();
        *count += 1;
        match *count % 4 {
            _ if seen.is_login() => token(&format!("t0ken-{count}")),
            0 => reply(429, format!(r#"{{"message":"limit","limit":{{"key":"limit.{count}"}}}}"#))
                .with("retry-after", "1"),
            1 => reply(400, format!(r#"{{"message":"what {count}","code":"code.{count}"}}"#)),
            _ => script(),
        }
    });
    let client = transport.client();
    for number in 0..400 {
        let agent = client.agent(Credentials::client(format!("client-{number}"), "secret"));
        let id: ScriptId = format!("00000000-0000-4000-8000-{number:012}").parse().unwrap();
        let _ = agent.script(&id).await;
        let _ = agent.published_script(&id, &ReadScript::default()).await;
    }
    let series = recorder.all();
    assert!(series.len() < 150, "{} series", series.len());
    for label in ["t0ken", "client-", "00000000-", "code."] {
        assert!(!series.iter().any(|series| series.contains(label)), "{label} is in a label");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ready_made_token_is_not_replaced_before_it_expires_as_nothing_can_replace_it() {
    let recorder = Recorder::default();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let transport = Scripted::by(|_| script());
    let expires_at = Some(SystemTime::now() + Duration::from_secs(600));
    let mut session = Session::from_access_token("ready-made");
    session.expires_at = expires_at;
    for credentials in [
        Credentials::AccessToken { token: "ready-made".into(), expires_at },
        Credentials::Session { client: OAuthClient::new("client", "secret"), session },
    ] {
        let agent = transport.client().agent(credentials);
        for _ in 0..59 {
            agent.script(&id()).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        }
    }
    assert!(!recorder.all().iter().any(|series| series.contains("login.duration")), "{:?}", recorder.all());
}
