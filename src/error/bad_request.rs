//! Stub.
use super::ErrorBody;
use http::StatusCode;
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Endpoint {
    Api,
    Login,
    SignedUrl,
}
/// Why a 400.
#[derive(Clone, Debug)]
pub struct BadRequest {}
impl BadRequest {
    pub(crate) fn is_retryable(&self) -> bool {
        false
    }
}
impl std::fmt::Display for BadRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown cause")
    }
}
pub(crate) struct Evidence {}
impl Evidence {
    pub(crate) fn of_answer(_: Endpoint, _: &crate::request::Operation, _: &ErrorBody) -> Self {
        Self {}
    }
}
pub(crate) fn classify(_: &Evidence) -> BadRequest {
    BadRequest {}
}
pub(crate) fn is_login_throttle(status: StatusCode, body: &ErrorBody) -> bool {
    status == 400
        && body.code() == Some("invalid_request")
        && body.message().is_some_and(|m| m.starts_with("rate limit exceeded"))
}
