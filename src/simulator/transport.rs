//! The simulator without a socket, as the last of a client's middlewares.

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use reqwest::{Request, Response, ResponseBuilderExt};
use reqwest_middleware::{Error, Middleware, Next, Result};

use super::fault::ResetInstead;
use super::routes;
use super::service::Service;

/// Answers requests from the simulator in this process: what [`transport`](super::Simulator::transport) gives.
///
/// The middleware is terminal. Nothing after it runs and no socket is opened, so a test whose tokio clock is paused
/// sees neither real time nor real I/O. A reset connection is an [`Error::Middleware`] that holds an
/// [`io::Error`] of the kind `ConnectionReset`, and an answer that breaks off is a [`Response`] whose body fails.
#[derive(Clone)]
pub struct Transport {
    pub(super) service: Arc<Service>,
    pub(super) router: Router,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Middleware for Transport {
    async fn handle(&self, request: Request, _: &mut http::Extensions, _: Next<'_>) -> Result<Response> {
        let url = request.url().clone();
        let mut request = http::Request::try_from(request)?.map(Body::new);
        arrive(&mut request);
        let response = routes::serve(&self.service, self.router.clone(), request).await;
        if response.extensions().get::<ResetInstead>().is_some() {
            return Err(Error::middleware(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        let (parts, body) = response.into_parts();
        let mut answer = http::Response::builder().status(parts.status).url(url);
        if let Some(headers) = answer.headers_mut() {
            *headers = parts.headers;
        }
        let answer = answer.body(received(body).await).map_err(Error::middleware)?;
        Ok(Response::from(answer))
    }
}

/// What a socket would have made of the request: the path alone in the request line, and `Host`.
fn arrive(request: &mut http::Request<Body>) {
    let uri = request.uri().clone();
    if let Some(host) = uri.authority().and_then(|authority| http::HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().entry(http::header::HOST).or_insert(host);
    }
    if let Some(path) = uri.path_and_query() {
        *request.uri_mut() = http::Uri::from(path.clone());
    }
}

/// The whole body; where it breaks off, one that fails after what there was.
async fn received(mut body: Body) -> reqwest::Body {
    let mut chunks: Vec<io::Result<Frame<Bytes>>> = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = frame.is_err();
        chunks.push(frame.map_err(|_| io::ErrorKind::UnexpectedEof.into()));
        if broken {
            return reqwest::Body::wrap(StreamBody::new(futures_util::stream::iter(chunks)));
        }
    }
    let whole: Vec<u8> = chunks.into_iter().filter_map(|chunk| chunk.ok()?.into_data().ok()).flatten().collect();
    reqwest::Body::from(whole)
}
