//! The spans, with OpenTelemetry's names (HTTP client spans) where it has them. Numbers are recorded as numbers, whole ones as
//! `i64`: of unsigned ones exporters make texts, as OpenTelemetry has none. The URL is none of them: it holds ids.

use http::StatusCode;
use reqwest::Url;
use tracing::Span;
use tracing::field::Empty;

use crate::answer::Answer;
use crate::client::Host;
use crate::error::{Error, ErrorKind};
use crate::failure::Outcome;
use crate::metrics::request_error;
use crate::request::Spec;
use crate::text::redact;
use crate::waits::Waits;

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
        server.address = goes_to(host, spec).host_str(),
        server.port = goes_to(host, spec).port_or_known_default().map(i64::from),
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
        server.address = goes_to(host, spec).host_str(),
        server.port = goes_to(host, spec).port_or_known_default().map(i64::from),
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

pub(crate) fn end_call(span: &Span, end: &Result<Box<Answer>, Error>, attempts: u32, waits: &Waits, secrets: &[&str]) {
    span.record("http.request.resend_count", i64::from(attempts.saturating_sub(1)));
    for (wait, took) in waits.each() {
        span.record(wait.field(), took.as_secs_f64());
    }
    match end {
        Ok(answer) => answered(span, answer, secrets),
        Err(error) => {
            error.status().map(|status| span.record("http.response.status_code", i64::from(status)));
            error.correlation_id().map(|id| span.record("genesys_scripts.correlation_id", id));
            failed(span, Some(error));
        }
    }
}

pub(crate) fn end_attempt(span: &Span, outcome: &Outcome, secrets: &[&str]) {
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
pub(crate) fn status_of(outcome: &Outcome) -> Result<StatusCode, ErrorKind> {
    outcome.as_ref().map(|answer| answer.status).map_err(|failure| failure.kind)
}

fn answered(span: &Span, answer: &Answer, secrets: &[&str]) {
    span.record("http.response.status_code", i64::from(answer.status.as_u16()));
    answer.correlation_id().map(|id| span.record("genesys_scripts.correlation_id", redact(id, secrets).as_str()));
}

fn goes_to<'a>(host: &'a Host, spec: &Spec<'a>) -> &'a Url {
    spec.address.unwrap_or(host.site.base())
}
