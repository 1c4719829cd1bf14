//! Answers that are no success: from status, headers and body to an [`Error`], losing nothing.

use http::StatusCode;

use super::bad_request::{self, Endpoint, Evidence, RequestFacts};
use super::{Error, ErrorBody, ErrorKind};
use crate::answer::Answer;
use crate::text::redact;

/// How much of an error's body is read; what is kept of it is less.
const READ_BYTES: usize = 64 * 1024;

/// The error that a refusal is, before it is known whether the call goes on.
pub(crate) fn error(answer: &Answer, endpoint: Endpoint, request: RequestFacts<'_>, secrets: &[&str]) -> Error {
    let text = String::from_utf8_lossy(answer.body.get(..answer.body.len().min(READ_BYTES)).unwrap_or_default());
    let text = redact(&text, secrets);
    let body = ErrorBody::parse(&text);
    let correlation_id = answer.correlation_id().map(|id| redact(id, secrets).into());
    let classified = (answer.status == StatusCode::BAD_REQUEST)
        .then(|| bad_request::classify(&Evidence::of_answer(endpoint, &body, request)));
    let (kind, what) = match endpoint {
        Endpoint::Login => of_login(answer.status, &body),
        Endpoint::SignedUrl => of_signed_url(answer.status),
        _ => of_api(answer.status),
    };
    let error = Error::new(kind, what).with_answer(answer.status, correlation_id).with_body(body);
    match classified {
        Some(classified) => error.with_bad_request(classified),
        None => error,
    }
}

fn of_api(status: StatusCode) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        400 => (ErrorKind::BadRequest, "the service refused the request"),
        401 => (ErrorKind::Unauthorized, "the access token was refused"),
        403 => (ErrorKind::Forbidden, "the agent may not do this"),
        404 => (ErrorKind::NotFound, "the service knows no such resource"),
        408 => (ErrorKind::Timeout, "the service gave up waiting for the request"),
        409 | 412 => (ErrorKind::Conflict, "the resource is in use or was changed meanwhile"),
        413 => (ErrorKind::TooLarge, "the request is over the service's size limit"),
        429 => (ErrorKind::Throttled, "the quota of the agent's token is spent"),
        500..=599 => (ErrorKind::Server, "the service failed"),
        300..=399 => (ErrorKind::UnexpectedAnswer, "the service answered with a redirect, which is not followed"),
        _ => (ErrorKind::UnexpectedAnswer, "the service answered with an unexpected status"),
    }
}

fn of_login(status: StatusCode, body: &ErrorBody) -> (ErrorKind, &'static str) {
    if bad_request::is_login_throttle(status, body) || status == StatusCode::TOO_MANY_REQUESTS {
        return (ErrorKind::Throttled, "logins of this OAuth client are throttled");
    }
    match status.as_u16() {
        400 | 401 | 403 => (ErrorKind::LoginRefused, "the login was refused: check the credentials"),
        404 => (ErrorKind::LoginRefused, "there is no login service at this address: check the region or URL"),
        _ => of_api(status),
    }
}

/// Not this API's answers, but those of whatever stores the files.
fn of_signed_url(status: StatusCode) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        400 | 401 | 403 => (ErrorKind::Forbidden, "the URL was refused, as when it has expired: make a new one"),
        404 | 410 => (ErrorKind::NotFound, "there is nothing at the URL, as when it has expired: make a new one"),
        429 => (ErrorKind::Throttled, "the file's host allows no more requests for now"),
        _ => of_api(status),
    }
}
