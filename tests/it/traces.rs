//! What a subscriber is told: one span a call, an attempt each under it, logins linked, with the fields that the documentation
//! promises. On a paused clock, without sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use genesys_scripts::Credentials;
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Instrument, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::common::{Reply, Scripted, credentials, id, reply, script, token};

/// A value as it was recorded.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
    /// By `Debug`: an exporter makes a text of it.
    Debug(String),
}

impl Value {
    fn text(text: &str) -> Option<Self> {
        Some(Self::Text(text.to_owned()))
    }
}

#[derive(Clone, Debug, Default)]
struct Span {
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, Value>,
    links: Vec<u64>,
    /// All it may have.
    declared: BTreeSet<&'static str>,
}

/// Keeps all spans of this crate and of the test.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Span>>>);

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), Value::Debug(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), Value::Text(value.to_owned()));
    }

    // Not `record_u64`: the exporters of OpenTelemetry, whose integers have a sign, do not know it and make a text of such a value.
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.insert(field.name(), Value::Number(value as f64));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.insert(field.name(), Value::Number(value));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        let mut span = Span {
            name: metadata.name(),
            parent: context.span(id).and_then(|span| Some(span.parent()?.id().into_u64())),
            declared: metadata.fields().iter().map(|field| field.name()).collect(),
            ..Span::default()
        };
        attributes.record(&mut span);
        self.0.lock().unwrap().insert(id.into_u64(), span);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        record.record(self.0.lock().unwrap().get_mut(&id.into_u64()).unwrap());
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.0.lock().unwrap().get_mut(&id.into_u64()).unwrap().links.push(follows.into_u64());
    }
}

impl Spans {
    fn listen(level: Level) -> (Self, tracing::subscriber::DefaultGuard, tracing::Span) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry()
            .with(spans.clone())
            .with(tracing_subscriber::filter::LevelFilter::from_level(level));
        let guard = crate::common::listen_here(subscriber);
        let own = tracing::info_span!("test");
        (spans, guard, own)
    }

    fn named(&self, name: &str, otel_name: &str) -> Vec<(u64, Span)> {
        let spans = self.0.lock().unwrap();
        let is = |span: &Span| span.name == name && span.fields.get("otel.name").is_some_and(|is| is.is(otel_name));
        spans.iter().filter(|(_, span)| is(span)).map(|(id, span)| (*id, span.clone())).collect()
    }

    fn one(&self, name: &str, otel_name: &str) -> (u64, Span) {
        let named = self.named(name, otel_name);
        assert_eq!(named.len(), 1, "{name} {otel_name}: {:#?}", self.0.lock().unwrap());
        named[0].clone()
    }
}

impl Value {
    fn is(&self, text: &str) -> bool {
        matches!(self, Self::Text(is) | Self::Debug(is) if is == text)
    }
}

impl Span {
    fn field(&self, name: &str) -> Option<Value> {
        assert!(self.declared.contains(name), "{} has no {name}", self.name);
        self.fields.get(name).cloned()
    }

    fn number(&self, name: &str) -> Option<f64> {
        match self.field(name)? {
            Value::Number(number) => Some(number),
            other => panic!("{name} is {other:?}"),
        }
    }
}

/// The fields of a `get script` that was served by its third attempt.
fn is_told_as_documented(call: &Span) {
    for (field, text) in [
        ("otel.kind", "client"),
        ("http.request.method", "GET"),
        ("url.template", "/api/v2/scripts/{scriptId}"),
        ("server.address", "127.0.0.1"),
        ("genesys_scripts.correlation_id", "last"),
    ] {
        assert_eq!(call.field(field), Value::text(text), "{field}");
    }
    for (field, number) in
        [("server.port", 9.0), ("http.response.status_code", 200.0), ("http.request.resend_count", 2.0)]
    {
        assert_eq!(call.number(field), Some(number), "{field}");
    }
}

const CALL: &str = "genesys_scripts.call";
const ATTEMPT: &str = "genesys_scripts.attempt";
const ROUTE: &str = "GET /api/v2/scripts/{scriptId}";

#[tokio::test(start_paused = true)]
async fn a_call_is_a_client_span_under_the_callers_own_with_an_attempt_each_and_its_login_linked() {
    let (spans, _guard, own) = Spans::listen(Level::DEBUG);
    let own_id = own.id().unwrap().into_u64();
    let transport = Scripted::replies([
        reply(500, "").with("inin-correlation-id", "first"),
        Reply::Silence,
        script().with("inin-correlation-id", "last"),
    ]);
    let agent = transport.agent();
    agent.script(&id()).instrument(own.clone()).await.unwrap();

    let (call_id, call) = spans.one(CALL, "get script");
    assert_eq!(call.parent, Some(own_id), "under the caller's own");
    is_told_as_documented(&call);
    for field in ["otel.status_code", "error.type", "genesys_scripts.wait.quota", "genesys_scripts.wait.outage"] {
        assert_eq!(call.field(field), None, "{field}");
    }
    assert_eq!(call.number("genesys_scripts.wait.login"), Some(0.02));
    assert!(call.number("genesys_scripts.wait.backoff").unwrap() > 0.0);

    let attempts = spans.named(ATTEMPT, ROUTE);
    assert!(attempts.iter().all(|(_, attempt)| attempt.parent == Some(call_id)));
    let told: Vec<_> = attempts
        .iter()
        .map(|(_, attempt)| {
            assert_eq!(attempt.field("otel.kind"), Value::text("client"));
            assert_eq!(
                (attempt.field("server.address"), attempt.number("server.port")),
                (Value::text("127.0.0.1"), Some(9.0))
            );
            (
                attempt.number("http.request.resend_count").unwrap(),
                attempt.number("http.response.status_code"),
                attempt.field("error.type"),
                attempt.field("otel.status_code").is_some(),
                attempt.field("genesys_scripts.correlation_id"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (0.0, Some(500.0), Value::text("500"), true, Value::text("first")),
            (1.0, None, Value::text("timeout"), true, None),
            (2.0, Some(200.0), None, false, Value::text("last")),
        ]
    );

    let (login_id, login) = spans.one("genesys_scripts.login", "login");
    assert_eq!((login.parent, login.field("genesys_scripts.grant")), (None, Value::text("client_credentials")));
    assert_eq!(call.links, [login_id]);
    assert_eq!(spans.one(CALL, "log in").1.parent, Some(login_id));
}

#[tokio::test(start_paused = true)]
async fn all_calls_that_wait_for_a_login_are_linked_to_the_one_and_share_its_failure() {
    for (status, works) in [(200, true), (401, false), (400, false)] {
        let (spans, _guard, own) = Spans::listen(Level::INFO);
        let transport = Scripted::by(move |seen| match (seen.is_login(), status) {
            (true, 200) => token("t0ken"),
            (true, status) => reply(status, r#"{"error":"invalid_client"}"#),
            _ => script(),
        });
        let (agent, id) = (transport.agent(), id());
        join_all((0..20).map(|_| agent.script(&id))).instrument(own.clone()).await;
        // This one has its token, or is refused at once.
        let _ = agent.script(&id).instrument(own.clone()).await;
        let (login_id, login) = spans.one("genesys_scripts.login", "login");
        let calls = spans.named(CALL, "get script");
        assert_eq!(calls.len(), 21);
        let linked = calls.iter().filter(|(_, call)| call.links == [login_id]).count();
        assert_eq!((linked, calls.iter().filter(|(_, call)| call.links.is_empty()).count()), (20, 1), "{status}");
        let failed = |span: &Span| span.field("otel.status_code") == Value::text("ERROR");
        assert_eq!(failed(&login), !works, "{status}");
        assert!(calls.iter().all(|(_, call)| failed(call) != works), "{status}");
        assert!(works || calls.iter().all(|(_, call)| call.field("error.type") == Value::text("login_refused")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_an_error_that_says_what_and_why() {
    let refused = reply(404, r#"{"message":"no such script","code":"not.found"}"#).with("inin-correlation-id", "4711");
    let replies: [(Reply, Option<f64>, &str, Option<Value>); 3] = [
        (refused, Some(404.0), "not_found", Value::text("4711")),
        (reply(403, ""), Some(403.0), "forbidden", None),
        (reply(200, "{").with("inin-correlation-id", "4712"), Some(200.0), "", Value::text("4712")),
    ];
    for (answer, status, kind, correlation_id) in replies {
        let (spans, _guard, own) = Spans::listen(Level::INFO);
        let transport = Scripted::replies([answer]);
        let agent = transport.client().agent(Credentials::access_token("t0ken"));
        let error = agent.script(&id()).instrument(own.clone()).await.unwrap_err();
        let (_, call) = spans.one(CALL, "get script");
        assert_eq!(call.number("http.response.status_code"), status);
        assert_eq!(call.field("genesys_scripts.correlation_id"), correlation_id);
        // What cannot be decoded is found out after the exchange.
        let failed = !kind.is_empty();
        assert_eq!(call.field("otel.status_code"), Value::text("ERROR").filter(|_| failed));
        assert_eq!(call.field("error.type"), Value::text(kind).filter(|_| failed));
        assert_eq!(call.field("otel.status_description"), Value::text(&error.to_string()).filter(|_| failed));
        assert!(spans.named(ATTEMPT, ROUTE).is_empty(), "attempts are for debug");
    }
}

/// Sends which span it runs in, as one that sends `traceparent` would.
struct Traceparent;

#[async_trait]
impl Middleware for Traceparent {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let span = tracing::Span::current().id().map_or(0, |id| id.into_u64());
        request.headers_mut().insert("traceparent", span.into());
        next.run(request, extensions).await
    }
}

#[tokio::test(start_paused = true)]
async fn traceparent_is_sent_only_by_a_middleware_which_runs_in_the_span_of_its_attempt() {
    for level in [Level::DEBUG, Level::INFO] {
        let (spans, _guard, own) = Spans::listen(level);
        let transport = Scripted::replies([reply(500, ""), script(), script()]);
        let region =
            genesys_scripts::Region::custom(crate::common::HERE, crate::common::HERE, crate::common::HERE).unwrap();
        let builder = genesys_scripts::Client::builder(region).with_middleware(Traceparent);
        let client = builder.with_middleware(transport.clone()).build().unwrap();
        client.agent(credentials()).script(&id()).instrument(own.clone()).await.unwrap();
        let sent: Vec<u64> = transport.calls().iter().map(|call| call.header("traceparent").parse().unwrap()).collect();
        let expected: Vec<u64> = match level {
            Level::DEBUG => spans.named(ATTEMPT, ROUTE).into_iter().map(|(id, _)| id).collect(),
            _ => vec![spans.one(CALL, "get script").0; 2],
        };
        assert_eq!(sent, expected, "{level}");

        let plain = transport.client().agent(Credentials::access_token("t0ken"));
        plain.script(&id()).instrument(own.clone()).await.unwrap();
        assert_eq!(transport.calls()[2].header("traceparent"), "", "without one nothing is sent");
    }
}

#[tokio::test(start_paused = true)]
async fn every_span_and_field_is_documented() {
    let (spans, _guard, own) = Spans::listen(Level::DEBUG);
    let transport = Scripted::replies([script()]);
    transport.agent().script(&id()).instrument(own.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let documented = include_str!("../../src/observability.md");
    let spans = spans.0.lock().unwrap();
    let own = spans.values().filter(|span| span.name != "test");
    let names: BTreeSet<_> = own.flat_map(|span| span.declared.iter().copied().chain([span.name])).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(documented.contains(&format!("`{name}`")), "{name}");
    }
}
