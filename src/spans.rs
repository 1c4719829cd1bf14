//! The spans, with OpenTelemetry's names (HTTP client spans) where it has them. Numbers are recorded as numbers, whole ones as
//! `i64`: of unsigned ones exporters make texts, as OpenTelemetry has none. The URL is none of them: it holds ids.

use http::StatusCode;
use reqwest::Url;
use tracing::Span;
use tracing::field::Empty;

use crate::answer::Answer;
use crate::client::Host;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::metrics::request_error;
use crate::request::Spec;
use crate::text::redact;
use crate::waits::{Wait, Waits};

const FAILED: &str = "ERROR";

/// One call, under the caller's own span.
pub(crate) fn of_call(host: &Host, spec: &Spec<'_>) -> Span {
    let operation = spec.operation;
    tracing::info_span!(
        "genesys_scripts.call",
        otel.name = operation.name,
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        http.request.method = operation.method.as_str(),
        url.template = operation.route,
        server.address = address(host, spec),
        server.port = port(host, spec),
        http.response.status_code = Empty,
        http.request.resend_count = Empty,
        error.type = Empty,
        genesys_scripts.correlation_id = Empty,
        genesys_scripts.wait.login = Empty,
        genesys_scripts.wait.quota = Empty,
        genesys_scripts.wait.outage = Empty,
        genesys_scripts.wait.in_flight = Empty,
        genesys_scripts.wait.backoff = Empty,
    )
}

/// One request of a call, under the call's. A user's middlewares run in it.
pub(crate) fn of_attempt(host: &Host, spec: &Spec<'_>, resent: u32) -> Span {
    let operation = spec.operation;
    tracing::debug_span!(
        "genesys_scripts.attempt",
        otel.name = format_args!("{} {}", operation.method, operation.route),
        otel.kind = "client",
        otel.status_code = Empty,
        otel.status_description = Empty,
        http.request.method = operation.method.as_str(),
        url.template = operation.route,
        server.address = address(host, spec),
        server.port = port(host, spec),
        http.response.status_code = Empty,
        http.request.resend_count = i64::from(resent),
        error.type = Empty,
        genesys_scripts.correlation_id = Empty,
    )
}

/// One login, which all calls share that wait for it: no caller's child, but linked to from each of them.
pub(crate) fn of_login(grant: &'static str) -> Span {
    tracing::info_span!(
        parent: None,
        "genesys_scripts.login",
        otel.name = "login",
        otel.kind = "internal",
        otel.status_code = Empty,
        otel.status_description = Empty,
        error.type = Empty,
        genesys_scripts.grant = grant,
    )
}

/// The call that this span is of waits for the login of that one.
pub(crate) fn wait_for(login: Option<tracing::Id>) {
    Span::current().follows_from(login);
}

pub(crate) fn end_call(span: &Span, result: &Result<Answer, Error>, attempts: u32, waits: &Waits, secrets: &[&str]) {
    span.record("http.request.resend_count", i64::from(attempts.saturating_sub(1)));
    for (wait, took) in waits.each() {
        span.record(field(wait), took.as_secs_f64());
    }
    match result {
        Ok(answer) => answered(span, answer, secrets),
        Err(error) => {
            error.status().map(|status| span.record("http.response.status_code", i64::from(status)));
            error.correlation_id().map(|id| span.record("genesys_scripts.correlation_id", id));
            failed(span, Some(error));
        }
    }
}

pub(crate) fn end_attempt(span: &Span, outcome: &Result<Answer, Failure>, secrets: &[&str]) {
    match outcome {
        Ok(answer) => answered(span, answer, secrets),
        Err(failure) => {
            span.record("otel.status_description", failure.what.as_str());
        }
    }
    if let Some(error) = request_error(status_of(outcome)) {
        span.record("otel.status_code", FAILED);
        span.record("error.type", error.as_str());
    }
}

/// A login or a call has ended, with this error if it failed.
pub(crate) fn failed(span: &Span, error: Option<&Error>) {
    if let (Some(error), false) = (error, span.is_disabled()) {
        span.record("otel.status_code", FAILED);
        span.record("otel.status_description", error.to_string().as_str());
        span.record("error.type", error.kind().name());
    }
}

/// The status that came, or what kept it from coming.
pub(crate) fn status_of(outcome: &Result<Answer, Failure>) -> Result<StatusCode, ErrorKind> {
    outcome.as_ref().map(|answer| answer.status).map_err(|failure| failure.kind)
}

fn answered(span: &Span, answer: &Answer, secrets: &[&str]) {
    span.record("http.response.status_code", i64::from(answer.status.as_u16()));
    answer.correlation_id().map(|id| span.record("genesys_scripts.correlation_id", redact(id, secrets).as_str()));
}

fn field(wait: Wait) -> &'static str {
    match wait {
        Wait::Login => "genesys_scripts.wait.login",
        Wait::Quota => "genesys_scripts.wait.quota",
        Wait::Outage => "genesys_scripts.wait.outage",
        Wait::InFlight => "genesys_scripts.wait.in_flight",
        Wait::Backoff => "genesys_scripts.wait.backoff",
    }
}

fn address<'a>(host: &'a Host, spec: &Spec<'a>) -> &'a str {
    spec.address.and_then(Url::host_str).unwrap_or(&host.server.address)
}

fn port(host: &Host, spec: &Spec<'_>) -> Option<i64> {
    spec.address.map_or(host.server.port, Url::port_or_known_default).map(i64::from)
}
