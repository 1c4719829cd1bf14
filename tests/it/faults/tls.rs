//! TLS that is not as it should be, and what each is told of it: nothing was sent, so a publish is as good as a read.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use genesys_scripts::{ClientBuilder, Credentials, ErrorKind, SignedUrl};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::server::{Do, Ended, Request, Server, Serving, answer, converse, http, read_request, say};
use super::{ATTEMPTS, Row, Trial, all};
use crate::common::{credentials, id};
use crate::proxy::PROXIES;

/// The one that clients trust, and one that they do not.
pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);
static STRANGER: LazyLock<Authority> = LazyLock::new(Authority::new);

pub(super) struct Authority {
    pub(super) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        Self { pem: root.pem(), der: root.der().clone(), issuer: Issuer::new(params, key) }
    }
}

/// What a server shows, and asks.
#[derive(Clone, Copy)]
pub(super) struct Shows {
    authority: &'static LazyLock<Authority>,
    name: &'static str,
    /// From the beginning of a year to that of another.
    valid: (i32, i32),
    self_signed: bool,
    version: &'static SupportedProtocolVersion,
    wants_identity: bool,
    alpn: &'static [&'static str],
}

pub(super) const GOOD: Shows = Shows {
    authority: &AUTHORITY,
    name: "localhost",
    valid: (2020, 4096),
    self_signed: false,
    version: &TLS13,
    wants_identity: false,
    alpn: &["http/1.1"],
};

pub(super) const GOOD_HTTP2: Shows = Shows { alpn: &["h2", "http/1.1"], ..GOOD };

impl Shows {
    pub(super) fn acceptor(self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([self.name.to_owned()]).unwrap();
        let (from, until) = self.valid;
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let leaf = match self.self_signed {
            true => params.self_signed(&key).unwrap(),
            false => params.signed_by(&key, &self.authority.issuer).unwrap(),
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(&[self.version]).unwrap();
        let builder = match self.wants_identity {
            true => {
                let mut trusted = RootCertStore::empty();
                trusted.add(self.authority.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What becomes of a handshake.
#[derive(Clone, Copy)]
enum Hello {
    Shows(Shows),
    Closes,
    Resets,
    Nothing,
    SpeaksNoTls,
}

/// HTTP/1.1 over TLS, once it is well.
fn https(hello: Hello) -> Server {
    https_of(hello, |request| request.right_answer())
}

fn https_of(hello: Hello, act: impl Fn(&Request<'_>) -> Vec<Do> + Send + Sync + 'static) -> Server {
    let act = Arc::new(act);
    let (good, shown) = (GOOD.acceptor(), if let Hello::Shows(shows) = hello { Some(shows.acceptor()) } else { None });
    let serving: Serving = Arc::new(move |mut stream: TcpStream, shared| {
        let (good, shown, act) = (good.clone(), shown.clone(), Arc::clone(&act));
        Box::pin(async move {
            let acceptor = match (hello, shown) {
                _ if shared.is_well() => good,
                (Hello::Shows(_), Some(shown)) => shown,
                (Hello::Resets, _) => return stream.set_zero_linger(),
                (Hello::SpeaksNoTls, _) => {
                    let _ = stream.read(&mut [0; 4_096]).await?;
                    return stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
                }
                (Hello::Nothing, _) => {
                    while stream.read(&mut [0; 4_096]).await? > 0 {}
                    return Ok(());
                }
                (Hello::Closes | Hello::Shows(_), _) => {
                    let _ = stream.read(&mut [0; 4_096]).await?;
                    return Ok(());
                }
            };
            match acceptor.accept(stream).into_fallible().await {
                Ok(mut stream) => converse(&mut stream, &shared, &*act).await.map(drop),
                Err((_, mut stream)) => {
                    // Its alert is read before the connection ends.
                    while stream.read(&mut [0; 1_024]).await? > 0 {}
                    Ok(())
                }
            }
        })
    });
    Server::new("https://localhost", serving)
}

fn row(what: &'static str, kind: ErrorKind) -> Row {
    Row {
        configure: |builder| {
            builder.root_certificate_pem(AUTHORITY.pem.clone()).connect_timeout(Duration::from_millis(500))
        },
        ..Row::new(what, kind).never_sent()
    }
}

/// reqwest would send another address, so these go out without it.
#[tokio::test]
async fn a_signed_url_that_reqwest_would_change_is_fetched_over_tls_all_the_same() {
    let serving = || {
        https_of(Hello::Shows(GOOD), |request| match request.head.starts_with("GET /a/./b?it's HTTP/1.1\r\n") {
            true => vec![answer("200 OK", "", r#"{"name":"x"}"#)],
            false => vec![answer("403 Forbidden", "", "")],
        })
    };
    let trusting = |builder: ClientBuilder| builder.root_certificate_pem(AUTHORITY.pem.clone());
    let trial = Trial::new(serving(), Server::well(), trusting);
    let agent = trial.client.agent(Credentials::access_token("t0ken"));
    let url = |server: &Server| SignedUrl::new(format!("{}/a/./b?it's", server.url));
    assert_eq!(agent.download_export(&url(&trial.api)).await.unwrap().name(), Some("x"));
    // What lasts is told as ever, and what passes is tried again.
    let stranger = https_of(Hello::Shows(Shows { authority: &STRANGER, ..GOOD }), |request| request.right_answer());
    let error = agent.download_export(&url(&stranger)).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts(), error.is_retryable()), (ErrorKind::Connection, 1, false), "{error}");
    assert!(error.to_string().contains("root_certificate_pem") && !error.to_string().contains("it's"), "{error}");
    let closing = https_of(Hello::Closes, |request| request.right_answer());
    let error = agent.download_export(&url(&closing)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts(), error.is_retryable()),
        (ErrorKind::Connection, ATTEMPTS, true),
        "{error}"
    );
    trial.is_at_rest("a signed URL");
}

#[tokio::test]
async fn a_handshake_that_fails_says_why_and_is_tried_again_where_it_may_pass() {
    let shows = |what, words, shows| (row(what, ErrorKind::Connection).says(words), Hello::Shows(shows));
    let (old, unborn) = ((2020, 2021), (4000, 4001));
    let mutual = Shows { wants_identity: true, ..GOOD };
    let rows = [
        shows("another name", &["elsewhere.example", "subjectAltName"], Shows { name: "elsewhere.example", ..GOOD }),
        shows("expired", &["has expired", "clock"], Shows { valid: old, ..GOOD }),
        shows("not valid yet", &["not valid yet", "clock"], Shows { valid: unborn, ..GOOD }),
        shows("unknown issuer", &["root_certificate_pem"], Shows { authority: &STRANGER, ..GOOD }),
        shows("self-signed", &["root_certificate_pem"], Shows { self_signed: true, ..GOOD }),
        shows("who are you, in TLS 1.3", &["identity_pem"], mutual),
        shows("who are you, in TLS 1.2", &["identity_pem"], Shows { version: &TLS12, ..mutual }),
        (row("no TLS", ErrorKind::Connection).says(&["speaks no TLS"]), Hello::SpeaksNoTls),
        (row("closed in the handshake", ErrorKind::Connection).passing(), Hello::Closes),
        (row("reset in the handshake", ErrorKind::Connection).passing(), Hello::Resets),
        (row("no end to the handshake", ErrorKind::Timeout).passing().says(&["no connection to"]), Hello::Nothing),
    ];
    all(rows.map(|(row, hello)| (row, move || https(hello)))).await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_asked_for_again() {
    // With a proxy the name is that one's to resolve.
    if PROXIES.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    // No label of a name is that long: no resolver need be asked.
    let host = format!("https://{}.invalid", "a".repeat(64));
    let nowhere = move || Server::deaf(&host, http(|request| request.right_answer()));
    let lost = row("no such name", ErrorKind::Connection).passing().says(&["no connection to aaaa"]);
    all([(Row { heals: false, ..lost }, nowhere)]).await;
}

#[tokio::test]
async fn no_redirect_takes_a_bearer_or_a_secret_elsewhere_or_out_of_tls() {
    let (clear, other) = (Server::well(), https(Hello::Shows(GOOD)));
    for (to, status) in [(&clear.url, 301), (&clear.url, 302), (&clear.url, 307), (&other.url, 303), (&other.url, 308)]
    {
        let moved = answer(&format!("{status} Moved"), &format!("location: {to}/api/v2/scripts/x\r\n"), "");
        let here = || {
            let moved = moved.clone();
            https_of(Hello::Shows(GOOD), move |_| vec![moved.clone()])
        };
        let trial = Trial::new(here(), here(), |builder| builder.root_certificate_pem(AUTHORITY.pem.clone()));
        let agent = trial.client.agent(Credentials::access_token("t0ken"));
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::UnexpectedAnswer, Some(status), 1));
        let error = trial.client.agent(credentials()).script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.is_login()), (ErrorKind::UnexpectedAnswer, Some(status), true));
        trial.is_at_rest("moved");
        drop(agent);
        trial.ends("moved").await;
    }
    assert_eq!((clear.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn a_host_that_never_answers_in_tls_is_no_connection_whatever_a_signed_url_holds() {
    let silent = Server::new("https://localhost", http(|_| vec![Do::Nothing]));
    let trial = Trial::new(Server::well(), Server::well(), |builder| {
        builder.root_certificate_pem(AUTHORITY.pem.clone()).connect_timeout(Duration::from_millis(150))
    });
    let agent = trial.client.agent(Credentials::access_token("t0ken"));
    for target in ["/x?n=Callers", "/x?n=Caller's"] {
        let error = agent.download_export(&SignedUrl::new(format!("{}{target}", silent.url))).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, ATTEMPTS), "{error}");
        assert!(error.elapsed() < Duration::from_secs(5) && !error.may_have_been_sent(), "{error}");
        assert!(error.to_string().contains("no connection to"), "{error}");
    }
    silent.open_no_more_than(0).await;
    trial.is_at_rest("silent in TLS");
    drop(agent);
    trial.ends("silent in TLS").await;
}

const FAR: &str = "api.example.invalid";

/// A host behind a proxy that does this with each request to open the way, until it is well.
fn behind_a_proxy(fault: Vec<Do>) -> Server {
    let far = Shows { name: FAR, ..GOOD }.acceptor();
    let serving: Serving = Arc::new(move |mut stream, shared| {
        let (fault, far) = (fault.clone(), far.clone());
        Box::pin(async move {
            if !shared.is_well() {
                return match converse(&mut stream, &shared, &|_| fault.clone()).await? {
                    Ended::Closed => Ok(()),
                    Ended::ToBeReset => stream.set_zero_linger(),
                };
            }
            let head = read_request(&mut stream).await?.unwrap_or_default();
            assert!(head.starts_with("CONNECT ") && !head.contains("Bearer") && !head.contains("t0ken"), "{head}");
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
            let mut stream = far.accept(stream).await?;
            converse(&mut stream, &shared, &|request| request.right_answer()).await.map(drop)
        })
    });
    let mut server = Server::new("http://127.0.0.1", serving);
    let url = std::mem::replace(&mut server.url, format!("https://{FAR}"));
    server.proxy = Some(url.replace("http://", "http://corp:hunter2@"));
    server
}

#[tokio::test]
async fn a_proxy_that_does_not_open_the_way_is_named_and_what_was_to_be_sent_never_was() {
    let told = |what, words, fault: Vec<Do>| (row(what, ErrorKind::Connection).says(words), fault);
    let passing = |what, words, fault: Vec<Do>| (row(what, ErrorKind::Connection).passing().says(words), fault);
    let refused =
        |what, words, fault: Vec<Do>| (row(what, ErrorKind::Connection).asked_why().passing().says(words), fault);
    let refused_for_good =
        |what, words, fault: Vec<Do>| (row(what, ErrorKind::Connection).asked_why().says(words), fault);
    let status = |status: &str| vec![answer(status, "proxy-authenticate: Basic realm=\"corp\"\r\n", ""), Do::Close];
    let no_way: &[&str] = &["the proxy 127.0.0.1:", "did not open the way to api.example.invalid"];
    let rows = [
        told("407", &["the proxy 127.0.0.1:", "wants credentials (407)"], status("407 Proxy Authentication Required")),
        refused_for_good(
            "403",
            &["the proxy 127.0.0.1:", "did not open the way", "(403 Forbidden)"],
            status("403 Forbidden"),
        ),
        refused("429", no_way, status("429 Too Many Requests")),
        refused("502", no_way, status("502 Bad Gateway")),
        refused("504", no_way, status("504 Gateway Timeout")),
        refused("garbage", no_way, vec![say("garbage\r\n\r\n"), Do::Close]),
        passing("closes", &["closed the connection when asked for the way"], vec![Do::Close]),
        passing("resets", &[], vec![Do::Reset]),
        passing("opens the way and closes", &[], vec![say("HTTP/1.1 200 OK\r\n\r\n"), Do::Close]),
        (row("never answers", ErrorKind::Timeout).passing().says(&["no connection to"]), vec![Do::Nothing]),
        (
            row("opens the way and never answers", ErrorKind::Timeout).passing().says(&["no connection to"]),
            vec![say("HTTP/1.1 200 OK\r\n\r\n"), Do::Nothing],
        ),
    ];
    all(rows.map(|(row, fault)| (row, move || behind_a_proxy(fault.clone())))).await;
}
