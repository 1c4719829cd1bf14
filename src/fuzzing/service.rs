//! A service without a socket: a middleware that answers itself. The clock stands still but for its waits.

use std::any::Any;
use std::future::Future;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Request, Response};
use reqwest_middleware::{Middleware, Next};
use tokio::time::sleep;

use crate::{Client, ClientBuilder, Region, RetryPolicy};

/// What a request is answered with.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) after: Duration,
    /// None: the connection breaks.
    pub(super) status: Option<u16>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Kept until the request has ended, in whatever way.
    pub(super) held: Option<Box<dyn Any + Send + Sync>>,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status: Some(status), body: body.into(), ..Self::default() }
    }

    /// The same once more, holding nothing.
    pub(super) fn again(&self) -> Self {
        let Self { after, status, headers, body, held: _ } = self;
        Self { after: *after, status: *status, headers: headers.clone(), body: body.clone(), held: None }
    }

    /// What a login is answered with.
    pub(super) fn token(token: &str) -> Self {
        Self::new(200, format!(r#"{{"access_token":"{token}","token_type":"bearer","expires_in":86400}}"#))
    }

    /// An answer as it is on the wire, after a first line of ours: headers, an empty line, the body.
    pub(super) fn read(status: u16, rest: &[u8]) -> Self {
        let mut answer = Self::new(status, "");
        let mut rest = rest;
        while !rest.is_empty() {
            let (line, after) = line(rest);
            rest = after;
            if line.is_empty() {
                break;
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) {
                answer.headers.append(name, value);
            }
        }
        answer.body = rest.to_vec();
        answer
    }
}

/// The first line, and what is behind it.
pub(super) fn line(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let line = data.get(..end).unwrap_or_default();
    (line.strip_suffix(b"\r").unwrap_or(line), data.get(end + 1..).unwrap_or_default())
}

struct Service<F>(F);

#[async_trait]
impl<F: Fn(&Request) -> Answer + Send + Sync + 'static> Middleware for Service<F> {
    async fn handle(
        &self,
        request: Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let Answer { after, status, headers, body, held: _held } = (self.0)(&request);
        sleep(after).await;
        let Some(status) = status else {
            return Err(reqwest_middleware::Error::Middleware(io::Error::from(io::ErrorKind::ConnectionReset).into()));
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
        *response.headers_mut() = headers;
        Ok(response.into())
    }
}

pub(super) fn is_login(request: &Request) -> bool {
    request.url().path() == "/oauth/token"
}

/// A builder of clients of a service that answers so.
pub(super) fn client(answers: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> ClientBuilder {
    const HERE: &str = "http://127.0.0.1:9";
    let region = Region::custom(HERE, HERE, HERE).expect("a region");
    Client::builder(region).seed(1).with_middleware(Service(answers))
}

/// A single attempt a call.
pub(super) fn once() -> RetryPolicy {
    RetryPolicy { attempts: 1, ..RetryPolicy::default() }
}

/// Runs it to its end, on a clock that stands still while anything can be done.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}
