//! Connections that fall silent, that belong to a runtime which stands still, or that will never be made: nobody waits for
//! them, and the last are told at once.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use genesys_scripts::middleware::{Extensions, Middleware, Next, Request, Response, Result as Answered};
use genesys_scripts::{Agent, Client, ClientBuilder, Credentials, ErrorKind, PublishScript, Region};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::common::{ID, id};

const ATTEMPT: Duration = Duration::from_millis(500);

/// A server of kept connections, of which it can forget those that it has.
#[derive(Clone, Default)]
struct Node {
    connections: Arc<AtomicUsize>,
    /// The connections before this one are silent.
    silent: Arc<AtomicUsize>,
    /// When which connection got a request.
    requests: Arc<Mutex<Vec<(Instant, usize)>>>,
}

impl Node {
    /// Listens, and serves each connection as told; gives its port.
    async fn listen<F: Future<Output = ()> + Send + 'static>(
        &self,
        serve: impl Fn(Node, usize, TcpStream) -> F + Send + 'static,
    ) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = node.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(node.clone(), number, stream));
            }
        });
        port
    }

    fn die(&self) {
        self.silent.store(self.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// A request came; whether it is answered.
    fn got_request(&self, connection: usize) -> bool {
        self.requests.lock().unwrap().push((Instant::now(), connection));
        connection >= self.silent.load(Ordering::SeqCst)
    }
}

fn body() -> String {
    format!(r#"{{"id":"{ID}","name":"Inbound","access_token":"t0ken","token_type":"bearer"}}"#)
}

fn is_whole(request: &[u8]) -> bool {
    match request.starts_with(b"POST") {
        true => request.ends_with(b"}") || request.ends_with(b"grant_type=client_credentials"),
        false => request.ends_with(b"\r\n\r\n"),
    }
}

/// Answers every request on the connection, a moment later, so that calls at once are not one after another.
async fn http1(node: Node, number: usize, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    loop {
        while !is_whole(&bytes) {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        bytes.clear();
        if node.got_request(number) {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", body().len(), body());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

fn builder(url: &str) -> ClientBuilder {
    Client::builder(Region::custom(url, url, url).unwrap()).attempt_timeout(ATTEMPT)
}

async fn fetch_at_once(agents: &[Agent]) {
    let id = id();
    for fetched in join_all(agents.iter().map(|agent| agent.script(&id))).await {
        fetched.unwrap();
    }
}

/// Twelve calls meet a node that died since their connections were made.
async fn all_are_served_after_one_time_out(node: &Node, client: Client, calls_before: usize) {
    let agents: Vec<_> = (0..24).map(|_| client.agent(Credentials::access_token("t0ken"))).collect();
    fetch_at_once(&agents[..calls_before]).await;
    node.die();
    let (old, died) = (node.connections.load(Ordering::SeqCst), Instant::now());
    fetch_at_once(&agents[..12]).await;
    assert!(died.elapsed() < ATTEMPT * 2, "{:?}", died.elapsed());
    for (at, connection) in node.requests.lock().unwrap().iter() {
        assert!(*at < died + ATTEMPT || *connection >= old, "on connection {connection} of {old}");
    }
    assert_eq!(client.stats().retries, 12);
    assert!(client.stats().api.down.is_empty());
}

#[tokio::test]
async fn silent_connections_cost_one_time_out_and_are_not_used_again() {
    let node = Node::default();
    let port = node.listen(http1).await;
    let client = builder(&format!("http://127.0.0.1:{port}")).build().unwrap();
    // Twice as many connections as calls that time out: the others lie in wait for who tries again.
    all_are_served_after_one_time_out(&node, client, 24).await;
}

/// Of all who call with less time than an attempt has, one alone meets the dead.
#[tokio::test]
async fn silent_connections_cost_one_call_that_has_less_time_than_an_attempt() {
    let node = Node::default();
    let url = format!("http://127.0.0.1:{}", node.listen(http1).await);
    let client = builder(&url).attempt_timeout(Duration::from_secs(15)).build().unwrap();
    let agents: Vec<_> = (0..8).map(|_| client.agent(Credentials::access_token("t0ken"))).collect();
    fetch_at_once(&agents).await;
    node.die();
    let hurried = agents[0].with_timeout(Duration::from_millis(1_200));
    assert_eq!(hurried.script(&id()).await.unwrap_err().kind(), ErrorKind::Timeout);
    for _ in 0..8 {
        hurried.script(&id()).await.unwrap();
    }
    assert!(client.stats().api.down.is_empty());
}

#[tokio::test]
async fn hosts_of_one_origin_share_their_connections() {
    let node = Node::default();
    let url = format!("http://127.0.0.1:{}", node.listen(http1).await);
    builder(&url).build().unwrap().agent(Credentials::client("client-id", "s3cret")).script(&id()).await.unwrap();
    assert_eq!(node.connections.load(Ordering::SeqCst), 1, "for the login and the script");
}

#[tokio::test]
async fn a_login_host_that_falls_silent_costs_the_api_no_connection() {
    let (api, login) = (Node::default(), Node::default());
    let [api_url, login_url] =
        [api.listen(http1).await, login.listen(http1).await].map(|port| format!("http://127.0.0.1:{port}"));
    let region = Region::custom(&api_url, &login_url, &api_url).unwrap();
    let client = Client::builder(region).attempt_timeout(ATTEMPT).build().unwrap();
    for (number, login_connections) in [(1, 1), (2, 2)] {
        let agent = client.agent(Credentials::client(format!("client-{number}"), "s3cret"));
        agent.script(&id()).await.unwrap();
        let made = [&api, &login].map(|node| node.connections.load(Ordering::SeqCst));
        assert_eq!(made, [1, login_connections]);
        login.die();
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_runtime_that_stands_still_keeps_its_connections_to_itself() {
    let (node, serving) =
        (Node::default(), Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    let port = serving.block_on(node.listen(http1));
    let client = builder(&format!("http://127.0.0.1:{port}")).build().unwrap();
    let agent = client.agent(Credentials::access_token("t0ken"));
    let (still, driven) = (runtime(), runtime());
    still.block_on(agent.script(&id())).unwrap();
    driven.block_on(async {
        let began = Instant::now();
        agent.script(&id()).await.unwrap();
        agent.publish(&id(), &PublishScript::default()).await.unwrap();
        assert!(began.elapsed() < ATTEMPT, "{:?}", began.elapsed());
    });
    assert_eq!(client.stats().retries, 0);
    // And once more where it was first: its own connection is still good. The publication has one to itself.
    still.block_on(agent.script(&id())).unwrap();
    assert_eq!(node.connections.load(Ordering::SeqCst), 3);
}

#[test]
fn each_of_many_runtimes_keeps_its_connection() {
    let (node, serving) =
        (Node::default(), Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    let port = serving.block_on(node.listen(http1));
    let client = builder(&format!("http://127.0.0.1:{port}")).build().unwrap();
    let agent = client.agent(Credentials::access_token("t0ken"));
    let runtimes: Vec<_> = (0..40).map(|_| runtime()).collect();
    for runtime in runtimes.iter().cycle().take(3 * 40) {
        runtime.block_on(agent.script(&id())).unwrap();
    }
    assert_eq!(node.connections.load(Ordering::SeqCst), 40);
}

/// Over TLS, as a production host is.
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
mod tls {
    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    use rcgen::{SanType, date_time_ymd};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::server::WebPkiClientVerifier;
    use tokio_rustls::rustls::version::{TLS12, TLS13};
    use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

    use super::*;
    use crate::common::credentials;
    use crate::common::wire::two_seconds_pass;

    fn is_ca(params: &mut CertificateParams) {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }

    /// An authority's certificate, and a leaf of its for localhost.
    fn certified() -> (Certificate, Certificate, KeyPair) {
        let (mut authority, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        is_ca(&mut authority);
        let root = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (root, leaf, key)
    }

    /// The certificate that a server makes for itself with `openssl req -x509`: an authority's.
    fn ca_as_a_leaf() -> (Certificate, KeyPair) {
        let (mut params, key) =
            (CertificateParams::new(["localhost".to_owned()]).unwrap(), KeyPair::generate().unwrap());
        is_ca(&mut params);
        (params.self_signed(&key).unwrap(), key)
    }

    /// A server that presents this, in these versions of TLS; with `clients`, to those alone whom that authority knows.
    fn acceptor(
        leaf: &Certificate,
        key: &KeyPair,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Certificate>,
    ) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(versions).unwrap();
        let builder = match clients {
            Some(root) => {
                let mut trusted = RootCertStore::empty();
                trusted.add(root.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    async fn http2(node: Node, number: usize, stream: TcpStream, acceptor: TlsAcceptor) {
        let mut stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => h2::server::handshake(stream).await.unwrap(),
            Err((_, mut stream)) => {
                // Its alert is read before the connection ends.
                while stream.read(&mut [0; 1_024]).await.is_ok_and(|read| read > 0) {}
                return;
            }
        };
        let mut unanswered = Vec::new();
        while let Some(Ok((_, mut answer))) = stream.accept().await {
            if node.got_request(number) {
                let mut sending = answer.send_response(http::Response::new(()), false).unwrap();
                sending.send_data(body().into(), true).unwrap();
            } else {
                unanswered.push(answer);
            }
        }
    }

    /// Whoever asks, and however often, is told the same, after one attempt, and nothing is taken for an outage.
    async fn is_told_at_once(builder: ClientBuilder, words: &[&str]) {
        let client = builder.build().unwrap();
        let agents: Vec<_> = (0..20).map(|_| client.agent(Credentials::access_token("t0ken"))).collect();
        let id = id();
        for _ in 0..3 {
            for told in join_all(agents.iter().map(|agent| agent.script(&id))).await {
                let error = told.unwrap_err();
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1), "{error}");
                assert!(!error.is_retryable() && !error.may_have_been_sent(), "{error}");
                assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
            }
            two_seconds_pass().await;
        }
        for _ in 0..3 {
            let agents: Vec<_> = (0..20).map(|_| client.agent(credentials())).collect();
            for told in join_all(agents.iter().map(|agent| agent.script(&id))).await {
                let error = told.unwrap_err();
                assert!(error.is_login() && error.kind() == ErrorKind::Connection && !error.is_retryable(), "{error}");
                assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
            }
            two_seconds_pass().await;
        }
        let stats = client.stats();
        assert_eq!((stats.attempts, stats.login_attempts), (60, 60));
        assert!(stats.api.down.is_empty() && stats.login.down.is_empty(), "{stats:?}");
    }

    fn patient(url: &str) -> ClientBuilder {
        builder(url).attempt_timeout(Duration::from_secs(15))
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_is_told_at_once() {
        let (_, leaf, key) = certified();
        let acceptor = acceptor(&leaf, &key, &[&TLS12, &TLS13], None);
        let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
        let untrusted = patient(&format!("https://localhost:{port}"));
        is_told_at_once(untrusted, &["root_certificate_pem", "SSL_CERT_FILE", &format!("localhost:{port}")]).await;
    }

    #[tokio::test]
    async fn the_certificate_of_a_ca_in_a_servers_hands_is_told_at_once() {
        let (leaf, key) = ca_as_a_leaf();
        let acceptor = acceptor(&leaf, &key, &[&TLS13], None);
        let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
        let trusted = patient(&format!("https://localhost:{port}")).root_certificate_pem(leaf.pem());
        is_told_at_once(trusted, &["that of a CA", "CA:TRUE"]).await;
    }

    /// Made by itself and given as root, as a file is that `openssl req -x509 -addext basicConstraints=CA:FALSE` makes.
    #[tokio::test]
    async fn a_certificate_that_a_server_made_for_itself_is_trusted_where_it_is_given() {
        let key = KeyPair::generate().unwrap();
        for params in [CertificateParams::new(["localhost".to_owned()]).unwrap(), {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.is_ca = IsCa::ExplicitNoCa;
            params
        }] {
            let leaf = params.self_signed(&key).unwrap();
            let acceptor = acceptor(&leaf, &key, &[&TLS13], None);
            let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
            let trusted =
                patient(&format!("https://localhost:{port}")).root_certificate_pem(leaf.pem()).build().unwrap();
            trusted.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap();
        }
    }

    /// A leaf of an authority that is trusted, and the address it is reached at.
    async fn presented(change: impl Fn(&mut CertificateParams), host: &str) -> ClientBuilder {
        let (mut authority, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        is_ca(&mut authority);
        let root = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let acceptor = acceptor(&leaf, &key, &[&TLS12, &TLS13], None);
        let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
        patient(&format!("https://{host}:{port}")).root_certificate_pem(root.pem())
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_is_told_at_once() {
        let other = |params: &mut CertificateParams| {
            params.subject_alt_names = vec![SanType::DnsName("api.example.com".try_into().unwrap())];
        };
        is_told_at_once(
            presented(other, "localhost").await,
            &["is not for this name", "api.example.com", "subjectAltName"],
        )
        .await;
        // An address is none of its names, though it leads there.
        is_told_at_once(presented(|_| {}, "127.0.0.1").await, &["is not for this name", "subjectAltName"]).await;
        // With a common name alone, as they were made twenty years ago.
        let common = |params: &mut CertificateParams| {
            params.subject_alt_names.clear();
            params.distinguished_name.push(DnType::CommonName, "localhost");
        };
        is_told_at_once(presented(common, "localhost").await, &["is not for this name", "subjectAltName"]).await;
    }

    #[tokio::test]
    async fn a_certificate_out_of_its_time_or_of_no_server_is_told_at_once() {
        let old = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 2, 2);
        is_told_at_once(presented(old, "localhost").await, &["has expired", "renewed", "clock"]).await;
        let young = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
        is_told_at_once(presented(young, "localhost").await, &["is not valid yet", "clock"]).await;
        let clients = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        };
        is_told_at_once(presented(clients, "localhost").await, &["is not made for a server", "serverAuth"]).await;
    }

    #[tokio::test]
    async fn ends_that_have_no_tls_in_common_are_told_at_once() {
        // protocol_version, handshake_failure, insufficient_security: what a server says that knows only older or other ones.
        // The second is also what OpenSSL says in TLS 1.2 of a client without a certificate.
        for (alert, or) in [(70, ""), (40, "identity_pem"), (71, "")] {
            let refuse = move |_, _, mut stream: TcpStream| async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(&[21, 3, 1, 0, 2, 2, alert]).await;
                let _ = stream.read(&mut [0; 4_096]).await;
            };
            let port = Node::default().listen(refuse).await;
            is_told_at_once(patient(&format!("https://localhost:{port}")), &["no TLS in common", "TLS 1.2", or]).await;
        }
    }

    #[tokio::test]
    async fn a_tls_port_that_is_asked_in_plain_http_is_guessed_at() {
        let (_, leaf, key) = certified();
        let acceptor = acceptor(&leaf, &key, &[&TLS13], None);
        let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
        let client = patient(&format!("http://localhost:{port}")).build().unwrap();
        let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
        assert_eq!((error.attempts(), error.is_retryable()), (1, false), "{error}");
        assert!(error.to_string().contains("is no HTTP that can be read (does it want https?)"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_speaks_no_tls_is_told_at_once() {
        let port = Node::default()
            .listen(|_, _, mut stream: TcpStream| async move {
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            })
            .await;
        is_told_at_once(patient(&format!("https://localhost:{port}")), &["no TLS", "scheme and port"]).await;
    }

    #[tokio::test]
    async fn a_server_that_wants_to_know_its_clients_is_told_at_once() {
        // The older says so in the handshake, the newer after it.
        for version in [&TLS12, &TLS13] {
            let (root, leaf, key) = certified();
            let acceptor = acceptor(&leaf, &key, &[version], Some(&root));
            let port = Node::default().listen(move |node, n, stream| http2(node, n, stream, acceptor.clone())).await;
            let unknown = patient(&format!("https://localhost:{port}")).root_certificate_pem(root.pem());
            is_told_at_once(unknown, &["identity_pem"]).await;
        }
    }

    /// What HTTP/2 lets a server say of a connection that it ends.
    #[tokio::test]
    async fn a_connection_that_is_ended_with_what_was_sent_does_not_repeat_it() {
        const TOKEN: &str = "t0ken-that-nobody-may-see";
        let (root, leaf, key) = certified();
        let acceptor = acceptor(&leaf, &key, &[&TLS13], None);
        let end = move |node: Node, number, stream, acceptor: TlsAcceptor| async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            // Its settings, none; and, once it has heard the request, that it has seen no stream, PROTOCOL_ERROR, and why.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.got_request(number);
            let said = format!("Bearer {TOKEN}");
            let goes_away =
                [&[0, 0, 8 + said.len() as u8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], said.as_bytes()];
            let _ = stream.write_all(&goes_away.concat()).await;
            while stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {}
        };
        let port = Node::default().listen(move |node, n, stream| end(node, n, stream, acceptor.clone())).await;
        let trusting = patient(&format!("https://localhost:{port}")).root_certificate_pem(root.pem());
        let client = trusting.retry(crate::common::once()).build().unwrap();
        let error = client.agent(Credentials::access_token(TOKEN)).script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1), "{error}");
        let told = format!("{error} {error:?} {:?}", client.stats());
        assert!(!told.contains(TOKEN), "{told}");
        assert!(told.contains("PROTOCOL_ERROR") || told.contains("protocol error"), "{told}");
    }
}

/// Sends everything to another address, in clear.
struct Elsewhere;

#[async_trait]
impl Middleware for Elsewhere {
    async fn handle(&self, mut request: Request, extensions: &mut Extensions, next: Next<'_>) -> Answered<Response> {
        *request.url_mut() = "http://api.example/".parse().unwrap();
        next.run(request, extensions).await
    }
}

#[tokio::test]
async fn a_request_that_there_cannot_be_is_no_fault_of_the_connection_and_not_sent_again() {
    let client = Client::builder(Region::EU_WEST_1).with_middleware(Elsewhere).build().unwrap();
    let error = client.agent(Credentials::access_token("t")).script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidInput, 1), "{error}");
    assert!(!error.is_retryable() && error.to_string().contains("cannot be sent"), "{error}");
}
