//! The last requests, as tests want to see them.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// The most requests, and the most of each body, that are kept.
const REQUESTS: usize = 1_000;
const BODY: usize = 64 * 1024;

/// A request as it arrived: what [`requests`](super::Simulator::requests) gives.
///
/// Its `Debug` hides what may be secret: the `Authorization` header, the query and the body.
#[derive(Clone)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// The method.
    pub method: Method,
    /// Path and query, as they were encoded.
    pub uri: Uri,
    /// All headers, `Authorization` among them.
    pub headers: HeaderMap,
    /// The body, up to 64 KiB of it.
    pub body: Bytes,
}

impl fmt::Debug for RecordedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.keys().map(http::HeaderName::as_str).collect();
        f.debug_struct("RecordedRequest")
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
pub(super) struct Log(VecDeque<RecordedRequest>);

impl Log {
    pub(super) fn push(&mut self, mut request: RecordedRequest) {
        if request.body.len() > BODY {
            // A copy, so that the rest is not kept alive.
            request.body = Bytes::copy_from_slice(request.body.get(..BODY).unwrap_or_default());
        }
        if self.0.len() == REQUESTS {
            self.0.pop_front();
        }
        self.0.push_back(request);
    }

    pub(super) fn all(&self) -> Vec<RecordedRequest> {
        self.0.iter().cloned().collect()
    }
}
