//! The socket side: accepts, serves HTTP/1.1, and can reset a connection instead of answering.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderName, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::fault::ResetInstead;
use super::routes;
use super::service::Service;
use super::when::Peer;

/// Enough for a herd of thousands to connect at once.
const BACKLOG: u32 = 8_192;

/// Which of the nodes answered, where there are some.
const NODE: HeaderName = HeaderName::from_static("x-node");

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // So that a simulator can be started again where another just ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until dropped; its connections end with it.
pub(super) async fn accept(listener: TcpListener, service: Arc<Service>, router: Router) {
    let mut connections = JoinSet::new();
    let mut accepted_before = 0_u32;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let peer = Peer { address: from.ip().to_canonical(), connection: accepted_before, before: 0 };
                    accepted_before = accepted_before.wrapping_add(1);
                    connections.spawn(converse(stream, peer, Arc::clone(&service), router.clone()));
                }
                // Out of file descriptors, most likely: the next try is as good as any.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, peer: Peer, service: Arc<Service>, router: Router) {
    // Fails only on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let requests = AtomicU32::new(0);
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let peer = Peer { before: requests.fetch_add(1, Ordering::Relaxed), ..peer };
        let (service, router) = (Arc::clone(&service), router.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let mut response = routes::serve(&service, router, request).await;
            if let Some(node) = service.nodes().map(|of| HeaderValue::from(peer.node(of))) {
                response.headers_mut().insert(NODE, node);
            }
            match response.extensions().get::<ResetInstead>() {
                // Hyper then ends the connection without a byte.
                Some(_) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                None => Ok(response),
            }
        }
    });
    // Some SDKs look headers up by their exact spelling, and the service writes `Retry-After`.
    let mut server = http1::Builder::new().title_case_headers(true).serve_connection(TokioIo::new(stream), answer);
    // A client that left, or a reset of our own; of an answer that breaks off the cause is another.
    let is_reset = |error: hyper::Error| error.source().is_some_and(|cause| cause.is::<io::Error>());
    if (&mut server).await.is_err_and(is_reset) {
        // Without lingering, closing the socket sends RST and no FIN.
        let _ = SockRef::from(server.into_parts().io.inner()).set_linger(Some(Duration::ZERO));
    }
}
