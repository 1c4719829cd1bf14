//! What a browser is told: a script with its state, or what went wrong; the log has the whole of that.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use genesys_scripts::{Cached, Error, ErrorKind, Script, ScriptId};
use serde::Serialize;
use serde_json::json;

/// A script to choose.
#[derive(Serialize)]
pub(super) struct Known {
    id: ScriptId,
    name: Option<String>,
}

impl Known {
    pub(super) fn of(script: Script) -> Self {
        Self { id: script.id, name: script.name }
    }
}

/// A script, and how fresh it is.
#[derive(Serialize)]
pub(super) struct Shown {
    state: &'static str,
    age_s: u64,
    script: Arc<Script>,
}

impl Shown {
    pub(super) fn of(cached: Cached<Arc<Script>>) -> Self {
        let state = if cached.stale { "stale" } else { "fresh" };
        Self { state, age_s: cached.age.as_secs(), script: cached.value }
    }
}

/// What a browser is refused with.
#[derive(Clone)]
pub(super) enum Refused {
    LoggedOut,
    Genesys(Error),
    /// The store, told in the log.
    Here,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Genesys(error)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!("{error:#}");
        Self::Here
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let error = match self {
            Self::LoggedOut => return refused(StatusCode::UNAUTHORIZED, "log in: GET /login", None),
            Self::Here => return refused(StatusCode::INTERNAL_SERVER_ERROR, "the desktop's store failed", None),
            Self::Genesys(error) => error,
        };
        let (status, why) = match error.kind() {
            _ if must_log_in(&error) => (StatusCode::UNAUTHORIZED, "log in again: GET /login"),
            ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "this id cannot be right"),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, "you may not see this"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "there is no such script"),
            ErrorKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "too much at once, try again later"),
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Genesys Cloud took too long"),
            ErrorKind::ShutDown => (StatusCode::SERVICE_UNAVAILABLE, "the desktop restarts, try again"),
            _ if error.is_retryable() => (StatusCode::SERVICE_UNAVAILABLE, "Genesys Cloud is busy, try again later"),
            _ => (StatusCode::BAD_GATEWAY, "Genesys Cloud gave no usable answer"),
        };
        // The whole story is for the log, with the id that Genesys support asks for; it holds no secrets.
        tracing::warn!(status = status.as_u16(), correlation_id = error.correlation_id(), "{error}");
        refused(status, why, Some(&error))
    }
}

fn refused(status: StatusCode, why: &str, error: Option<&Error>) -> Response {
    let wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE).then(|| {
        let wait = error.and_then(Error::retry_after).unwrap_or(Duration::from_secs(5));
        wait.as_secs_f64().ceil() as u64
    });
    let told = json!({
        "state": "failed", "why": why, "retry_after_s": wait,
        "correlation_id": error.and_then(Error::correlation_id),
    });
    let mut response = (status, Json(told)).into_response();
    if let Some(wait) = wait {
        response.headers_mut().insert(RETRY_AFTER, wait.into());
    }
    response
}

/// Nothing is served before a login. That the session is over it does not say: whatever refuses all logins answers so too.
pub(super) fn must_log_in(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LoginRefused | ErrorKind::Unauthorized)
}
