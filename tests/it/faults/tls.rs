//! TLS that is not as it should be, and what each is told of it: nothing was sent, so a publish is as good as a read.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use genesys_scripts::ErrorKind;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::server::{Server, Serving, converse};
use super::{Row, all};

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
    let (good, shown) = (GOOD.acceptor(), if let Hello::Shows(shows) = hello { Some(shows.acceptor()) } else { None });
    let serving: Serving = Arc::new(move |mut stream: TcpStream, shared| {
        let (good, shown) = (good.clone(), shown.clone());
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
                Ok(mut stream) => converse(&mut stream, &shared, &|request| request.right_answer()).await.map(drop),
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

#[tokio::test]
async fn a_handshake_that_fails_says_why_and_is_tried_again_where_it_may_pass() {
    let shows = |what, words, shows| (row(what, ErrorKind::Connection).says(words), Hello::Shows(shows));
    let (old, unborn) = ((2020, 2021), (4000, 4001));
    let mutual = Shows { wants_identity: true, ..GOOD };
    let rows = [
        shows("another name", &["elsewhere.example", "check the URL"], Shows { name: "elsewhere.example", ..GOOD }),
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
