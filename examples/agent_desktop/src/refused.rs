//! What goes wrong, as a browser is told and as the log has it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use genesys_scripts::{Error, ErrorKind};
use http::StatusCode;
use http::header::RETRY_AFTER;

/// What a browser is refused with.
pub(super) enum Refused {
    LoggedOut,
    Genesys(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Genesys(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self::Genesys(error) = self else {
            return (StatusCode::UNAUTHORIZED, "log in: GET /login").into_response();
        };
        let (status, text) = match error.kind() {
            _ if must_log_in(&error) => (StatusCode::UNAUTHORIZED, "log in again: GET /login"),
            ErrorKind::InvalidInput => (StatusCode::BAD_REQUEST, "this id cannot be right"),
            ErrorKind::Forbidden => (StatusCode::FORBIDDEN, "you may not see this"),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, "there is no such script"),
            ErrorKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "too much at once, try again later"),
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "Genesys Cloud took too long"),
            _ if error.is_retryable() => (StatusCode::SERVICE_UNAVAILABLE, "Genesys Cloud is busy, try again later"),
            _ => (StatusCode::BAD_GATEWAY, "Genesys Cloud gave no usable answer"),
        };
        // The whole story is for the log, with the id that Genesys support asks for; it holds no secrets.
        tracing::warn!(status = status.as_u16(), correlation_id = error.correlation_id(), "{error}");
        let mut response = (status, text).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let wait = error.retry_after().unwrap_or(Duration::from_secs(5));
            response.headers_mut().insert(RETRY_AFTER, (wait.as_secs_f64().ceil() as u64).into());
        }
        response
    }
}

/// The session is over, whatever is tried.
pub(super) fn must_log_in(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::LoginRefused | ErrorKind::Unauthorized)
}
