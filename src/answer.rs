//! An answer of the service, whole: what of it is read, by whoever reads it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::text::head;

/// An answer of any status. It goes from hand to hand in a box.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The `Authorization` of the agent's token that it answers, which it must not be let echo.
    pub(crate) bearer: Option<HeaderValue>,
    /// What the call took; told once it has ended.
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Box<Self> {
        Box::new(Self { status, headers, body, bearer: None, attempts: 0, elapsed: Duration::ZERO })
    }

    /// `ININ-Correlation-Id`, as it came.
    pub(crate) fn correlation_id(&self) -> Option<&str> {
        correlation_id(&self.headers)
    }

    /// The token it answers.
    pub(crate) fn token(&self) -> Option<&str> {
        self.bearer.as_ref()?.to_str().ok()?.strip_prefix("Bearer ")
    }
}

pub(crate) fn correlation_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("inin-correlation-id")?.to_str().ok()?;
    Some(head(id, 256).0)
}
