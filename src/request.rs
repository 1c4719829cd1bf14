//! Requests, built by pure functions: an operation and its parameters in, a [`Request`] out.
//!
//! No I/O, no clock, no token (the bearer is put on for each attempt, in `call.rs`). Fuzzed: whatever the
//! ids and the base URL, the request stays on the configured host, below its prefix, on its own route.

use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use reqwest::{Method, Request, Url};

use crate::id::{ScriptId, encode_segment};

/// An operation of the API: what it is called, how it is sent, and whether it may be sent again.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In errors and traces.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// The path as a template, for traces.
    pub(crate) route: &'static str,
    pub(crate) repeat: Repeat,
}

impl Operation {
    /// Whether it is about one script, by its id.
    pub(crate) fn is_of_script(&self) -> bool {
        self.route.contains("{scriptId}")
    }
}

/// When a request may be sent again after a failure. A 429 may always be: the service did not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is idempotent (RFC 9110 §9.2.2).
    Always,
    /// Only where it never left: a second one could act twice, or spend a one-time secret.
    IfNeverSent,
    /// Where it never left, and once more where its answer was lost.
    OnceIfLost,
}

pub(crate) const GET_SCRIPT: Operation =
    Operation { name: "get script", method: Method::GET, route: "/api/v2/scripts/{scriptId}", repeat: Repeat::Always };

pub(crate) const GET_TOKEN: Operation =
    Operation { name: "check token", method: Method::GET, route: "/api/v2/tokens/me", repeat: Repeat::Always };

pub(crate) const DELETE_TOKEN: Operation =
    Operation { name: "revoke token", method: Method::DELETE, route: "/api/v2/tokens/me", repeat: Repeat::Always };

/// Where requests go, and as whom: one host's base URL and the `User-Agent`.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    base: Url,
    user_agent: HeaderValue,
}

impl Site {
    /// The base is checked by [`crate::region::base_url`].
    pub(crate) fn new(base: Url, user_agent: HeaderValue) -> Self {
        Self { base, user_agent }
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The base with a path below its prefix. Each segment becomes exactly one segment of the URL.
    fn url(&self, segments: &[&str]) -> Url {
        let mut path = self.base.path().trim_end_matches('/').to_owned();
        for segment in segments {
            path.push('/');
            path.push_str(&encode_segment(segment));
        }
        let mut url = self.base.clone();
        url.set_path(&path);
        url
    }

    fn request(&self, operation: &Operation, url: Url) -> Request {
        let mut request = Request::new(operation.method.clone(), url);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, self.user_agent.clone());
        request
    }
}

/// `GET /api/v2/scripts/{scriptId}`
pub(crate) fn script(site: &Site, id: &ScriptId) -> Request {
    site.request(&GET_SCRIPT, site.url(&["api", "v2", "scripts", id.as_str()]))
}

/// `GET` or `DELETE /api/v2/tokens/me`: the token the request carries.
pub(crate) fn own_token(site: &Site, operation: &Operation) -> Request {
    site.request(operation, site.url(&["api", "v2", "tokens", "me"]))
}

/// The token endpoint's exchange, as oauth2 made it, below the configured login host.
pub(crate) fn login(site: &Site, exchange: &http::Request<Vec<u8>>) -> Request {
    let mut request = Request::new(exchange.method().clone(), site.url(&["oauth", "token"]));
    for (name, value) in exchange.headers() {
        let mut value = value.clone();
        value.set_sensitive(name == http::header::AUTHORIZATION);
        request.headers_mut().insert(name, value);
    }
    request.headers_mut().insert(USER_AGENT, site.user_agent.clone());
    *request.body_mut() = Some(exchange.body().clone().into());
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_below_the_base_whatever_its_prefix() {
        for (base, path) in [
            ("https://api.mypurecloud.com", "/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys", "/genesys/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys/", "/genesys/api/v2/scripts/a%2Fb"),
        ] {
            let site = Site::new(base.parse().unwrap(), HeaderValue::from_static("test"));
            let request = script(&site, &"a/b".parse().unwrap());
            assert_eq!(request.url().path(), path);
            assert_eq!(request.method(), Method::GET);
            assert_eq!(request.headers()[ACCEPT], "application/json");
            assert_eq!(request.headers()[USER_AGENT], "test");
        }
    }
}
