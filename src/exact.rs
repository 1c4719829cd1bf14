//! Addresses that go out byte for byte as they were given: some signatures are made over the very bytes.
//!
//! reqwest takes no address but `Url`'s, which encodes some characters and resolves dot segments. What that would change is sent
//! by hyper itself, over a connection of its own.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::Uri;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use reqwest::{Body, Request, Response, Url};
use tokio::time::timeout;

use crate::tls::Tls;

/// An address as it was given.
#[derive(Debug)]
pub(crate) struct Address {
    url: Url,
    /// `Url` would send something else.
    is_altered: bool,
    /// What it is then, if a request can hold it.
    exact: Option<Uri>,
}

impl Address {
    /// None where it is no address at all.
    pub(crate) fn new(given: &str) -> Option<Self> {
        Some(Self::read(given, Url::parse(given).ok()?))
    }

    /// Where a `Location` leads from here.
    pub(crate) fn redirected(&self, location: &str) -> Option<Self> {
        Some(Self::read(location, self.url.join(location).ok()?))
    }

    fn read(given: &str, url: Url) -> Self {
        let target = target(given);
        let sent = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        // A host alone is asked for its root; of what is relative the path is resolved, and the query as it stands there.
        let target: Option<Cow<'_, str>> = match target {
            Some(target) => Some(target.into()),
            None => query(given).map(|query| format!("{}?{query}", url.path()).into()),
        };
        let is_altered = match &target {
            Some(target) if target.starts_with('/') => **target != sent,
            Some(target) => sent.strip_prefix('/') != Some(&**target),
            None => false,
        };
        // The host is `Url`'s, whatever else the text might be taken for.
        let authority = url.authority();
        let exact =
            target.filter(|target| is_altered && target.starts_with('/') && target.is_ascii()).and_then(|target| {
                Uri::builder().scheme(url.scheme()).authority(authority).path_and_query(&*target).build().ok()
            });
        Self { url, is_altered, exact }
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn exact(&self) -> Option<&Uri> {
        self.exact.as_ref()
    }

    /// Whether `url` is not quite what was given.
    pub(crate) fn is_altered(&self) -> bool {
        self.is_altered
    }
}

/// Path and query, as they stand there; none where the path is relative.
fn target(given: &str) -> Option<&str> {
    let given = given.split('#').next().unwrap_or_default();
    let behind_host = |rest: &'_ str| rest.find(['/', '?', '\\']).unwrap_or(rest.len());
    match (given.split_once("://"), given.strip_prefix("//")) {
        (Some((scheme, rest)), _) if !scheme.contains(['/', '?']) => rest.get(behind_host(rest)..),
        (_, Some(rest)) => rest.get(behind_host(rest)..),
        _ => Some(given).filter(|path| path.starts_with('/')),
    }
}

/// The query, as it stands there.
fn query(given: &str) -> Option<&str> {
    given.split('#').next()?.split_once('?').map(|(_, query)| query)
}

/// Sends a request without a body to this address, over a connection of its own; nothing comes of one that is not made in time.
pub(crate) fn send(
    request: Request,
    to: &Uri,
    tls: &Tls,
    connect_timeout: Duration,
) -> impl Future<Output = Option<Result<Response, Error>>> + Send + use<> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(connect_timeout));
    let client = Client::builder(TokioExecutor::new()).build(tls.connector(tcp));
    let mut exact = http::Request::new(Body::default());
    *exact.method_mut() = request.method().clone();
    *exact.headers_mut() = request.headers().clone();
    *exact.uri_mut() = to.clone();
    async move {
        let mut connection = capture_connection(&mut exact);
        // The connector's own limit ends where TLS begins.
        let connected = timeout(connect_timeout, async {
            connection.wait_for_connection_metadata().await;
        });
        let sent = match select(pin!(client.request(exact)), pin!(connected)).await {
            Either::Left((sent, _)) => sent,
            Either::Right((Ok(()), sent)) => sent.await,
            Either::Right((Err(_), _)) => return None,
        };
        Some(sent.map(|answer| answer.map(Body::wrap).into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_url_would_change_is_kept_as_it_was_given() {
        for (given, goes_out) in [
            ("https://files.example/a?n=Caller's", "https://files.example/a?n=Caller's"),
            ("https://files.example/a/./b/../c?x", "https://files.example/a/./b/../c?x"),
            ("https://files.example/%2e%2E/c", "https://files.example/%2e%2E/c"),
            ("https://Files.example:443/a'/b?'#here", "https://files.example/a'/b?'"),
        ] {
            let address = Address::new(given).unwrap();
            let sent = address.exact().map_or_else(|| address.url().to_string(), ToString::to_string);
            assert_eq!(sent.split('#').next(), Some(goes_out), "{given}");
            assert!(address.is_altered(), "{given}");
        }
        // Where a redirect leads, too.
        let from = Address::new("https://files.example/a/b?c").unwrap();
        for (location, goes_out) in [
            ("//cdn.example/f?n=Caller's&sig=x", "https://cdn.example/f?n=Caller's&sig=x"),
            ("/f?n=Caller's", "https://files.example/f?n=Caller's"),
            ("?n=Caller's", "https://files.example/a/b?n=Caller's"),
            ("f?n=Caller's", "https://files.example/a/f?n=Caller's"),
        ] {
            let address = from.redirected(location).unwrap();
            assert_eq!(address.exact().map(ToString::to_string).as_deref(), Some(goes_out), "{location}");
            assert!(address.is_altered(), "{location}");
        }
        let same = from.redirected("f?n=1").unwrap();
        assert!(same.exact().is_none() && !same.is_altered());
        let plain = Address::new("https://files.example/a%20b?c=d%2Be").unwrap();
        assert!(plain.exact().is_none() && !plain.is_altered());
    }

    #[test]
    fn what_no_request_can_hold_is_said_to_be_altered() {
        for given in [
            "https://files.example/a b",
            "https://files.example/a?ü=1",
            "https://files.example\\a",
            "https://f.example?a'",
        ] {
            let address = Address::new(given).unwrap();
            assert!(address.exact().is_none() && address.is_altered(), "{given}: {address:?}");
        }
        for given in ["https://files.example", "https://files.example?a=b"] {
            assert!(!Address::new(given).unwrap().is_altered(), "{given}");
        }
    }

    #[test]
    fn the_host_is_the_one_that_was_looked_at() {
        for given in [
            "https://good.example\\@evil.example/'?'",
            "https://good.example/'@evil.example?'",
            "https:good.example/'?'",
        ] {
            let address = Address::new(given).unwrap();
            let exact = address.exact().map(|uri| uri.host().unwrap().to_owned());
            assert!(exact.is_none_or(|host| Some(&*host) == address.url().host_str()), "{given}");
        }
    }

    #[test]
    fn a_redirect_is_followed_as_it_was_given() {
        let from = Address::new("https://files.example/a/b").unwrap();
        for (location, goes_out) in [
            ("/c?n=Caller's", Some("https://files.example/c?n=Caller's")),
            ("https://other.example/./c?'", Some("https://other.example/./c?'")),
            ("/c?to=https://other.example/'", Some("https://files.example/c?to=https://other.example/'")),
            ("/https://other.example/?'", Some("https://files.example/https://other.example/?'")),
            ("c?d", None),
            ("//other.example/c", None),
        ] {
            let to = from.redirected(location).unwrap();
            assert_eq!(to.exact().map(ToString::to_string).as_deref(), goes_out, "{location}");
        }
    }
}
