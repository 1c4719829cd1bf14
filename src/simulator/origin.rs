//! Pages in a browser: what they may ask of another origin than their own (CORS, <https://fetch.spec.whatwg.org/#cors-protocol>).

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

const READABLE: HeaderValue = HeaderValue::from_static(
    "inin-correlation-id, inin-ratelimit-count, inin-ratelimit-allowed, inin-ratelimit-reset, retry-after",
);

/// Where the page comes from that asks.
pub(super) struct Page(HeaderValue);

/// The page's that asks, if one does. What is the simulator's own is nothing for pages.
pub(super) fn of(request: &Parts) -> Option<Page> {
    let is_own = request.uri.path().starts_with("/_simulator/");
    request.headers.get(ORIGIN).filter(|_| !is_own).cloned().map(Page)
}

impl Page {
    /// That it may ask, where that is what the browser asks first.
    pub(super) fn preflight(&self, request: &Parts) -> Option<Response> {
        let headers = &request.headers;
        let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| request.method == Method::OPTIONS)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone());
        Some(response)
    }

    /// That it may read the answer.
    pub(super) fn may_read(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READABLE);
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}
