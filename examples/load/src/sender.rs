//! What the naive mode and the experiment send with: hyper's own pool of connections, one for all agents, with nothing between it and them.
//! HTTP/1.1, as the reported plan of JMeter: a connection for each request under way. Over HTTP/2 one connection would carry
//! all of them, and how many streams a server lets it have would bound the load. No retry, no redirect, no bound.
//!
//! reqwest around this same pool takes three fifths of a generator's time: it makes three addresses of each one.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use genesys_scripts::Region;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{HttpConnector, HttpInfo};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::target::Target;

/// A connection that answered nothing for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

pub(crate) struct Sender(Client<HttpsConnector<Way>, Full<Bytes>>);

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How long the status took.
    pub(crate) first_byte: Duration,
    /// This end of its connection.
    pub(crate) local: Option<SocketAddr>,
}

/// What all senders to one target have in common.
pub(crate) struct Means {
    tls: ClientConfig,
    proxies: Arc<Matcher>,
}

impl Means {
    /// Trusts the system's certificates, and those of the PEM. Never goes through a proxy to this machine, which would see the
    /// secret in clear.
    pub(crate) fn new(region: &Region, ca: Option<&[u8]>) -> anyhow::Result<Self> {
        let hosts = [region.api_url(), region.login_url()];
        // A region is https, or on loopback.
        let proxies = if hosts.iter().any(|url| Target::is_loopback(url)) {
            Matcher::builder().build()
        } else {
            Matcher::from_system()
        };
        let tls = tls(ca, hosts.iter().any(|url| url.starts_with("https:")))?;
        Ok(Self { tls, proxies: Arc::new(proxies) })
    }

    /// One that sends from this address, and keeps so many connections that are not in use.
    pub(crate) fn sender(&self, address: Option<IpAddr>, most_idle: usize) -> Sender {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_local_address(address);
        let https = || HttpsConnectorBuilder::new().with_tls_config(self.tls.clone()).https_or_http().enable_http1();
        let to_proxy = https().wrap_connector(tcp.clone());
        let way = Way { tcp, to_proxy, proxies: Arc::clone(&self.proxies) };
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_max_idle_per_host(most_idle);
        Sender(client.build(https().wrap_connector(way)))
    }
}

impl Sender {
    /// The whole answer, or why there is none.
    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>, within: Duration) -> anyhow::Result<Answer> {
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let started = Instant::now();
        let answer = async {
            let (head, body) = self.0.request(request).await?.into_parts();
            let first_byte = started.elapsed();
            let local = head.extensions.get::<HttpInfo>().map(HttpInfo::local_addr);
            let body = body.collect().await?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body, first_byte, local })
        };
        let over = || io::Error::new(io::ErrorKind::TimedOut, "the time was over before there was a whole answer");
        timeout(within, answer).await.unwrap_or_else(|_| Err(over().into()))
    }
}

/// To ask for something, as whoever bears a token.
pub(crate) fn get(uri: &Uri, bearer: Option<&HeaderValue>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    request.uri_mut().clone_from(uri);
    if let Some(bearer) = bearer {
        request.headers_mut().insert(AUTHORIZATION, bearer.clone());
    }
    request
}

/// To read the system's certificates takes long, where none is `needed`.
fn tls(ca: Option<&[u8]>, needed: bool) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    if !needed {
        return Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let own = CertificateDer::pem_slice_iter(ca.unwrap_or_default()).collect::<Result<Vec<_>, _>>()?;
    let verifier = Verifier::new_with_extra_roots(own, provider)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Straight to a host, or through the proxy that the system names for it.
#[derive(Clone)]
struct Way {
    tcp: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Arc<Matcher>,
}

impl Service<Uri> for Way {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxies.intercept(&to) else {
            return Box::pin(self.tcp.call(to).map_ok(MaybeHttpsStream::from).map_err(Into::into));
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        Box::pin(tunnel.call(to).map_err(Into::into))
    }
}
