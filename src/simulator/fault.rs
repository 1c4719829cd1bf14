//! What can go wrong on purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::refusal::{ContextId, Refusal};

/// A failure the simulator answers with instead of the real answer.
///
/// As text (`Display`, `FromStr`) each has the name its documentation gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// `500`: the service's envelope, `internal.server.error`.
    InternalServerError,
    /// `400`: refused as a script that is broken, "Invalid script definition".
    InvalidScriptDefinition,
    /// `403`: the service's envelope, `not.authorized`.
    Forbidden,
    /// `502-html`: a gateway's HTML page.
    BadGatewayHtml,
    /// `503`: the service's envelope, `service.unavailable`.
    ServiceUnavailable,
    /// `504`: the service's envelope, `request.timeout`.
    GatewayTimeout,
    /// `reset`: the connection is reset before the first byte of an answer.
    Reset,
    /// `stall`: no answer, for ten minutes or until the client leaves.
    Stall,
    /// `truncate`: the real answer, of which the second half is never sent.
    Truncate,
    /// `not-json`: status 200 and an HTML page.
    NotJson,
    /// `empty`: status 200 and nothing else.
    Empty,
    /// `slow`: the real answer, five seconds late.
    Slow,
    /// `401`: the service's envelope, `bad.credentials`, although the token is good.
    Unauthorized,
    /// `408`: the service's envelope, `client.timeout`.
    RequestTimeout,
    /// `429`: refused for one second, although no quota is spent.
    TooManyRequests,
}

const NAMES: [(Fault, &str); 15] = [
    (Fault::InternalServerError, "500"),
    (Fault::InvalidScriptDefinition, "400"),
    (Fault::Forbidden, "403"),
    (Fault::BadGatewayHtml, "502-html"),
    (Fault::ServiceUnavailable, "503"),
    (Fault::GatewayTimeout, "504"),
    (Fault::Reset, "reset"),
    (Fault::Stall, "stall"),
    (Fault::Truncate, "truncate"),
    (Fault::NotJson, "not-json"),
    (Fault::Empty, "empty"),
    (Fault::Slow, "slow"),
    (Fault::Unauthorized, "401"),
    (Fault::RequestTimeout, "408"),
    (Fault::TooManyRequests, "429"),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(fault, _)| fault == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known.map(|(fault, _)| *fault).ok_or(UnknownFault)
    }
}

/// A text that names no [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownFault;

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such fault; there are")?;
        NAMES.iter().try_for_each(|(_, name)| write!(f, " {name}"))
    }
}

impl std::error::Error for UnknownFault {}

/// How long a stalled request is held when its client does not leave.
const STALL: Duration = Duration::from_secs(600);
const SLOW: Duration = Duration::from_secs(5);

/// Marks a response that must not be sent: the connection is to be reset instead.
#[derive(Clone, Copy)]
pub(super) struct ResetInstead;

/// The answer under `fault`; `real` gives the one there would be without.
pub(super) async fn answer(fault: Fault, context: &ContextId, real: impl Future<Output = Response>) -> Response {
    let refusal = match fault {
        Fault::InternalServerError => Refusal::internal_server_error(),
        Fault::InvalidScriptDefinition => Refusal::invalid_script_definition(),
        Fault::Forbidden => Refusal::not_authorized(),
        Fault::ServiceUnavailable => Refusal::service_unavailable(),
        Fault::GatewayTimeout => Refusal::request_timeout(),
        Fault::Unauthorized => Refusal::bad_credentials(),
        Fault::RequestTimeout => Refusal::client_timeout(),
        Fault::TooManyRequests => Refusal::too_many_requests(1),
        Fault::BadGatewayHtml => return page(StatusCode::BAD_GATEWAY, BAD_GATEWAY_PAGE),
        Fault::NotJson => return page(StatusCode::OK, SIGN_IN_PAGE),
        Fault::Empty => return StatusCode::OK.into_response(),
        Fault::Reset => return reset(),
        Fault::Stall => {
            tokio::time::sleep(STALL).await;
            return reset();
        }
        Fault::Slow => {
            tokio::time::sleep(SLOW).await;
            return real.await;
        }
        Fault::Truncate => return truncated(real.await).await,
    };
    refusal.response(context)
}

fn reset() -> Response {
    let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
    response.extensions_mut().insert(ResetInstead);
    response
}

fn page(status: StatusCode, html: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

/// Promises the whole length, sends half, and ends.
async fn truncated(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let whole = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let promised = whole.len().max(1);
    let half = whole.slice(..whole.len() / 2);
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(promised));
    let cut = futures_util::stream::once(async {
        // Lets the server flush what it has before the body breaks.
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    });
    let chunks = futures_util::stream::iter([Ok::<Bytes, std::io::Error>(half)]).chain(cut);
    Response::from_parts(parts, Body::from_stream(chunks))
}

const BAD_GATEWAY_PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

const SIGN_IN_PAGE: &str = "<!DOCTYPE html>\n<html>\n<head><title>Sign in</title></head>\n<body>\n\
<p>Please sign in to continue.</p>\n</body>\n</html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for (fault, name) in NAMES {
            assert_eq!(fault.to_string(), name);
            assert_eq!(name.parse(), Ok(fault));
        }
        assert_eq!("502".parse::<Fault>(), Err(UnknownFault));
    }
}
