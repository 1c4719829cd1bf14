//! TLS as the features have it: what it is done with, whom it trusts, and who we are to it.
//!
//! reqwest is given a configuration of our own, so that no crypto provider need be installed for the whole process,
//! and none that somebody else has installed is in the way. With several of the features the first of `rustls-ring`,
//! `rustls-aws-lc` and `native-tls` is used.

use crate::error::Error;
use crate::text::shown;

/// Whether `https` can be spoken at all.
pub(crate) const AVAILABLE: bool =
    cfg!(any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls"));

/// Whether it can be spoken over a connection that is not reqwest's.
pub(crate) const WITHOUT_REQWEST: bool = cfg!(any(feature = "rustls-ring", feature = "rustls-aws-lc"));

/// What a failed handshake's words say of a fault that lasts until somebody mends it; nothing of any other failure.
pub(crate) fn fault(words: &str) -> Option<String> {
    let shown = shown(words);
    let says = |any: &[&str]| any.iter().any(|one| words.contains(one));
    if says(&["invalid peer certificate", "certificate verify failed", "UnknownIssuer"]) {
        let (what, mend) = of_certificate(words);
        return Some(format!("its certificate {what} ({shown}): {mend}"));
    }
    if refuses_identity(words) {
        return Some(format!("it does not accept who we are ({shown}): give a client certificate to identity_pem"));
    }
    if says(&["UnrecognizedName", "unrecognized name"]) {
        return Some(format!("it serves nobody under this name ({shown}): check the host"));
    }
    if says(&["received corrupt message", "InvalidContentType", "wrong version number", "packet length too long"]) {
        return Some(format!("what listens there speaks no TLS ({shown}): check scheme and port"));
    }
    // Other alerts, as that of an error inside the server, may pass.
    let incompatible = [
        "peer is incompatible",
        "HandshakeFailure",
        "ProtocolVersion",
        "InsufficientSecurity",
        "NoApplicationProtocol",
        "unsupported protocol",
        "alert handshake failure",
        "alert protocol version",
    ];
    // A server of TLS 1.2 that wants a client certificate says the same as one that knows none of our ciphers.
    let or = match says(&["HandshakeFailure", "alert handshake failure"]) {
        true => ", or it wants a client certificate: give one to identity_pem",
        false => "",
    };
    says(&incompatible).then(|| {
        format!("the two ends have no TLS in common ({shown}): it must offer TLS 1.2 or 1.3 with current ciphers{or}")
    })
}

/// Whether the other end broke the connection off by an alert that another connection may not meet.
pub(crate) fn is_passing_alert(words: &str) -> bool {
    words.contains("received fatal alert") && fault(words).is_none()
}

/// What is the matter with a server's certificate, in rustls's words or OpenSSL's, and who can mend it how.
fn of_certificate(words: &str) -> (&'static str, &'static str) {
    const FAULTS: [(&[&str], &str, &str); 9] = [
        (
            &["CaUsedAsEndEntity"],
            "is that of a CA, which no server may present",
            "give it one of its own, not marked CA:TRUE (`openssl req -x509` marks it so without `-addext basicConstraints=CA:FALSE`)",
        ),
        (
            &["not valid for name", "NotValidForName", "ostname mismatch", "address mismatch"],
            "is not for this name",
            "reach it by a name that stands in the certificate, or give it one with this name (or address) as a subjectAltName",
        ),
        (&["xpired"], "has expired", "have it renewed; if it is valid, this machine's clock is wrong"),
        (
            &["not valid yet", "NotValidYet", "not yet valid"],
            "is not valid yet",
            "this machine's clock is wrong, or the certificate was made too early",
        ),
        (
            &["UnsupportedCertVersion"],
            "is one of X.509 version 1",
            "have it made as version 3, with its name as a subjectAltName",
        ),
        (&["Revoked", "revoked"], "was revoked", "it must be replaced"),
        (
            &["extended key usage", "InvalidPurpose", "EkuError", "certificate purpose"],
            "is not made for a server",
            "give it one with the extended key usage serverAuth",
        ),
        (
            &["UnsupportedSignatureAlgorithm", "digest algorithm too weak", "ca md too weak"],
            "is signed in a way that is not accepted any more",
            "have it made anew, with SHA-256 or better",
        ),
        (
            &["BadSignature", "certificate signature failure"],
            "was not signed by the CA that is trusted under this name",
            "give that CA's present certificate to root_certificate_pem; an RSA key of fewer than 2048 bits counts for none",
        ),
    ];
    for (any, what, mend) in FAULTS {
        if any.iter().any(|one| words.contains(one)) {
            return (what, mend);
        }
    }
    (
        "is not trusted",
        "give the certificate of the CA that issued it to root_certificate_pem, or to the system by SSL_CERT_FILE",
    )
}

/// Whether the server does not accept who we are. In TLS 1.3 it says so only when the handshake is over for us and the
/// request has been written.
pub(crate) fn refuses_identity(words: &str) -> bool {
    let says = |any: &[&str]| any.iter().any(|one| words.contains(one));
    // As rustls has it, and as OpenSSL does.
    says(&["received fatal alert", " alert "])
        && says(&["ertificate", "UnknownCA", "unknown ca", "AccessDenied", "access denied"])
}

/// PEM as people have it.
#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls"))]
struct Pem {
    what: &'static str,
    text: String,
}

#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls"))]
impl Pem {
    fn root(pem: &[u8]) -> Result<Self, Error> {
        Self::with_certificate("the root certificate", pem)
    }

    /// With a private key beside the certificate.
    fn identity(pem: &[u8]) -> Result<Self, Error> {
        let pem = Self::with_certificate("the client certificate", pem)?;
        if pem.labels().any(|label| label == "ENCRYPTED PRIVATE KEY") || pem.text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(pem.unusable("has an encrypted private key: decrypt it with `openssl pkey -in KEY -out PLAIN`"));
        }
        if !pem.labels().any(|label| label.ends_with("PRIVATE KEY")) {
            return Err(pem.unusable("comes without its private key: give both in one PEM"));
        }
        Ok(pem)
    }

    fn with_certificate(what: &'static str, pem: &[u8]) -> Result<Self, Error> {
        // A byte order mark, an indentation and line ends in two characters (from an environment variable) hide the line
        // that a certificate begins with, and the readers pass over it without a word.
        let text = String::from_utf8_lossy(pem).replace("\\r", "").replace("\\n", "\n");
        let lines =
            text.split(['\n', '\r']).map(|line| line.trim_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}'));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let read = Self { what, text: lines.join("\n") + "\n" };
        if read.labels().any(|label| label == "CERTIFICATE") {
            return Ok(read);
        }
        let others: Vec<_> = read.labels().collect();
        Err(match (pem, others.as_slice()) {
            ([0x30, 0x80..=0x84, ..], _) => read.unusable(
                "is DER or PKCS #12, not PEM: convert it with `openssl x509 -inform der` or `openssl pkcs12 -nodes`",
            ),
            ([0xFF, 0xFE, ..] | [0xFE, 0xFF, ..], _) => read.unusable("is UTF-16: save it as UTF-8"),
            (_, []) => read.unusable(
                "holds no line -----BEGIN CERTIFICATE----- (the content of the file is wanted, with its line ends, not its path)",
            ),
            (_, others) => read.unusable(&format!("holds no CERTIFICATE, but only {}", shown(&others.join(", ")))),
        })
    }

    fn labels(&self) -> impl Iterator<Item = &str> {
        let labels = self.text.lines().filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
        // Where the lines have run together, what follows is a key, which is not shown.
        labels.filter(|label| label.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ')))
    }

    fn unusable(&self, why: &str) -> Error {
        Error::invalid_input(format!("{} {why}", self.what))
    }
}

#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
mod backend {
    use std::sync::Arc;

    use hyper_util::client::legacy::connect::HttpConnector;
    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};
    use rustls_platform_verifier::Verifier;

    use super::{Error, Pem};
    use crate::text::quoted;

    #[derive(Clone)]
    pub(crate) struct Tls(ClientConfig);

    type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

    fn provider() -> CryptoProvider {
        #[cfg(feature = "rustls-ring")]
        return rustls::crypto::ring::default_provider();
        #[cfg(not(feature = "rustls-ring"))]
        return rustls::crypto::aws_lc_rs::default_provider();
    }

    impl Tls {
        /// `roots` are PEM bundles, trusted beside the platform's; `identity` is PEM, with chain and key. Only where a
        /// host `is_https` is it an error that the platform has no roots.
        pub(crate) fn new(roots: &[Vec<u8>], identity: Option<&[u8]>, is_https: bool) -> Result<Self, Error> {
            let (roots, own) = read_roots(roots)?;
            let provider = Arc::new(provider());
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| Error::invalid_input("TLS cannot be set up").with_source(error))?;
            let builder = match Verifier::new_with_extra_roots(roots, provider) {
                Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
                Err(error) if is_https => return Err(Error::invalid_input(no_roots()).with_source(error)),
                Err(_) => builder.with_root_certificates(own),
            };
            let mut config = match identity {
                Some(pem) => {
                    let (chain, key) = read_identity(pem)?;
                    builder.with_client_auth_cert(chain, key).map_err(unusable_identity)?
                }
                None => builder.with_no_client_auth(),
            };
            // As reqwest has it in a configuration of its own.
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Ok(Self(config))
        }

        pub(crate) fn configure(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
            builder.tls_backend_preconfigured(self.0.clone())
        }

        pub(crate) fn connector(&self, mut tcp: HttpConnector) -> Connector {
            tcp.enforce_http(false);
            let mut config = self.0.clone();
            config.alpn_protocols.clear();
            let builder = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config);
            builder.https_or_http().enable_http1().wrap_connector(tcp)
        }
    }

    /// The certificates, and again as all that is trusted where the platform has none.
    fn read_roots(bundles: &[Vec<u8>]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), Error> {
        let (mut certificates, mut store) = (Vec::new(), RootCertStore::empty());
        for bundle in bundles {
            let pem = Pem::root(bundle)?;
            for (n, certificate) in CertificateDer::pem_slice_iter(pem.text.as_bytes()).enumerate() {
                let unreadable = || pem.unusable(&format!("number {} of its PEM cannot be read", n + 1));
                let certificate = certificate.map_err(|_| unreadable())?;
                store.add(certificate.clone()).map_err(|error| unreadable().with_source(error))?;
                certificates.push(certificate);
            }
        }
        Ok((certificates, store))
    }

    type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    fn read_identity(pem: &[u8]) -> Result<Identity, Error> {
        let pem = Pem::identity(pem)?;
        // Without a source: the reader's errors quote lines of what may be a key.
        let unreadable = || pem.unusable("is no PEM with a certificate and its private key that can be read");
        let chain: Result<_, _> = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(pem.text.as_bytes()).map_err(|_| unreadable())?;
        Ok((chain.map_err(|_| unreadable())?, key))
    }

    fn unusable_identity(error: rustls::Error) -> Error {
        let what = match &error {
            rustls::Error::InconsistentKeys(_) => {
                "the client certificate and its private key do not belong together: the client's own certificate goes first, \
                 those of its issuers after it"
                    .to_owned()
            }
            error if error.to_string().contains("UnsupportedCertVersion") => {
                "the client certificate is one of X.509 version 1: have it made as version 3, as with `openssl x509 -extfile`".to_owned()
            }
            error => format!("the client certificate or its private key cannot be used: {error}"),
        };
        Error::invalid_input(what).with_source(error)
    }

    /// Why there are none, and the ways out.
    fn no_roots() -> String {
        let set = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(|name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
            Some(format!("where {name} says ({}) there are none that can be read", quoted(&value.to_string_lossy())))
        });
        let why = set.reduce(|one, other| format!("{one}, {other}"));
        let why = why.unwrap_or_else(|| "none are installed, as in a slim container".to_owned());
        format!(
            "No CA certificates to trust an https host by: {why}; install the package ca-certificates, let SSL_CERT_FILE name a \
             PEM bundle, or give one to root_certificate_pem"
        )
    }
}

#[cfg(all(feature = "native-tls", not(any(feature = "rustls-ring", feature = "rustls-aws-lc"))))]
mod backend {
    use hyper_util::client::legacy::connect::HttpConnector;

    use super::{Error, Pem};

    #[derive(Clone)]
    pub(crate) struct Tls {
        roots: Vec<reqwest::Certificate>,
        identity: Option<reqwest::Identity>,
    }

    impl Tls {
        /// `roots` are PEM bundles, trusted beside the platform's; `identity` is PEM, with chain and key.
        pub(crate) fn new(roots: &[Vec<u8>], identity: Option<&[u8]>, _is_https: bool) -> Result<Self, Error> {
            let mut all = Vec::new();
            for bundle in roots {
                let pem = Pem::root(bundle)?;
                let certificates = reqwest::Certificate::from_pem_bundle(pem.text.as_bytes())
                    .map_err(|error| pem.unusable("is no PEM that can be read").with_source(error))?;
                all.extend(certificates);
            }
            Ok(Self { roots: all, identity: identity.map(read_identity).transpose()? })
        }

        pub(crate) fn configure(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
            // Named, as another crate's features can make rustls reqwest's default.
            let builder = builder.tls_backend_native().tls_certs_merge(self.roots.iter().cloned());
            match &self.identity {
                Some(identity) => builder.identity(identity.clone()),
                None => builder,
            }
        }

        pub(crate) fn connector(&self, tcp: HttpConnector) -> HttpConnector {
            tcp
        }
    }

    fn read_identity(pem: &[u8]) -> Result<reqwest::Identity, Error> {
        let pem = Pem::identity(pem)?;
        let (chain, key) = (sections(&pem.text, "CERTIFICATE"), sections(&pem.text, "PRIVATE KEY"));
        reqwest::Identity::from_pkcs8_pem(chain.as_bytes(), key.as_bytes()).map_err(|error| {
            pem.unusable("is no PEM with a certificate and its private key that can be read (PKCS #8: `openssl pkcs8 -topk8 -nodes`)").with_source(error)
        })
    }

    /// Windows wants the chain and the key apart.
    fn sections(pem: &str, label: &str) -> String {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        pem.split(&begin)
            .skip(1)
            .filter_map(|rest| Some(format!("{begin}{}{end}\n", rest.split_once(&end)?.0)))
            .collect()
    }
}

#[cfg(not(any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls")))]
mod backend {
    use hyper_util::client::legacy::connect::HttpConnector;

    use super::Error;

    #[derive(Clone)]
    pub(crate) struct Tls;

    impl Tls {
        /// Only for hosts that need none.
        pub(crate) fn new(roots: &[Vec<u8>], identity: Option<&[u8]>, is_https: bool) -> Result<Self, Error> {
            let what = match (is_https, roots.is_empty() && identity.is_none()) {
                (false, true) => return Ok(Self),
                (false, false) => "a certificate is of no use without TLS",
                (true, _) => "an https host cannot be reached without TLS",
            };
            Err(Error::invalid_input(format!(
                "{what}: build genesys-scripts with one of its features `rustls-ring`, `rustls-aws-lc` and `native-tls`"
            )))
        }

        pub(crate) fn configure(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
            builder
        }

        pub(crate) fn connector(&self, tcp: HttpConnector) -> HttpConnector {
            tcp
        }
    }
}

pub(crate) use backend::Tls;

#[cfg(all(test, not(any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls"))))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Client, ErrorKind, Region};

    #[test]
    fn without_a_feature_only_loopback_is_reached_and_anything_else_says_what_to_do() {
        let here = "http://127.0.0.1:1";
        let local = || Client::builder(Region::custom(here, here, here).unwrap());
        local().build().unwrap();
        let refused = [
            Client::builder(Region::US_EAST_1).build(),
            Client::builder(Region::custom(here, "https://login.example.com", here).unwrap()).build(),
            local().root_certificate_pem("PEM").build(),
            local().identity_pem("PEM").build(),
        ];
        for error in refused.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            for feature in ["rustls-ring", "rustls-aws-lc", "native-tls"] {
                assert!(error.to_string().contains(feature), "{error}");
            }
        }
    }
}

#[cfg(all(test, any(feature = "rustls-ring", feature = "rustls-aws-lc", feature = "native-tls")))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::{Arc, Mutex};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::LazyConfigAcceptor;
    use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::server::{Acceptor, WebPkiClientVerifier};
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;
    use crate::error::ErrorKind;
    use crate::{Client, Region};

    /// As `openssl x509 -req` makes one without extensions.
    #[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
    const V1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBEzCBuwIUMybmrdC7yvQXGv/ORlgPTrVTsFowCgYIKoZIzj0EAwIwDTELMAkG\n\
A1UEAwwCY2EwHhcNMjYxMTI2MTMxNzQyWhcNMjYxMTI5MTMxNzQyWjANMQswCQYD\n\
VQQDDAJtZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAo4LMHW/j3RBd4yr1Sl\n\
3HTqMfV9vq/botTr7JzlGmQNVHPnE9tWVXQYiS6nlUaI9IAfvxthhfqVpJ35wPCQ\n\
kuMwCgYIKoZIzj0EAwIDRwAwRAIgIisfkQZr7dwFgpZ9JXZnfU67A/pJTLQloPAB\n\
x1xILrMCIBUt+tF6rQgt33452clovgS7Z23pVEDX3Z07YkYngo2x\n\
-----END CERTIFICATE-----\n\
";

    /// A server that answers with 204 whom it lets in, and the certificates of its authority.
    struct Server {
        url: String,
        root: Vec<u8>,
        identity: Vec<u8>,
        offered: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    impl Server {
        async fn start(wants_identity: bool) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
            let (mut authority, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
            authority.distinguished_name.push(DnType::CommonName, format!("authority of {url}"));
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let root = authority.self_signed(&key).unwrap();
            let issuer = Issuer::new(authority, key);
            let signed = |name: &str| {
                let key = KeyPair::generate().unwrap();
                let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
                (certificate, key)
            };

            let provider = Arc::new(ring::default_provider());
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_safe_default_protocol_versions().unwrap();
            let builder = if wants_identity {
                let mut trusted = RootCertStore::empty();
                trusted.add(root.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            } else {
                builder.with_no_client_auth()
            };
            let (certificate, key) = signed("localhost");
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            let mut config = builder.with_single_cert(vec![certificate.into()], key).unwrap();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];

            let offered = Arc::new(Mutex::default());
            tokio::spawn(serve(listener, config.into(), Arc::clone(&offered)));
            let (certificate, key) = signed("client");
            let identity = format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes();
            Self { url, root: root.pem().into_bytes(), identity, offered }
        }
    }

    async fn serve(listener: TcpListener, config: Arc<ServerConfig>, offered: Arc<Mutex<Vec<Vec<u8>>>>) {
        async fn answer(
            stream: TcpStream,
            config: Arc<ServerConfig>,
            offered: &Mutex<Vec<Vec<u8>>>,
        ) -> std::io::Result<()> {
            let greeted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let protocols = greeted.client_hello().alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
            *offered.lock().unwrap() = protocols;
            let mut stream = greeted.into_stream(config).await?;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await? > 0 {}
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
            stream.shutdown().await
        }
        while let Ok((stream, _)) = listener.accept().await {
            // A client that is refused, or refuses, is what the tests ask for.
            let _ = answer(stream, Arc::clone(&config), &offered).await;
        }
    }

    async fn get(server: &Server, roots: &[&[u8]], identity: Option<&[u8]>) -> reqwest::Result<u16> {
        let roots: Vec<_> = roots.iter().map(|pem| pem.to_vec()).collect();
        let tls = Tls::new(&roots, identity, true).unwrap();
        let http = tls.configure(reqwest::Client::builder().no_proxy()).build().unwrap();
        Ok(http.get(&server.url).send().await?.status().as_u16())
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_a_root_of_ones_own_and_not_without() {
        let server = Server::start(false).await;
        assert!(get(&server, &[], None).await.unwrap_err().is_connect());
        let other = Server::start(false).await;
        assert!(get(&server, &[&other.root], None).await.unwrap_err().is_connect());
        assert_eq!(get(&server, &[&[&*other.root, &*server.root].concat()], None).await.unwrap(), 204);
        assert_eq!(get(&server, &[&other.root, &server.root], None).await.unwrap(), 204);
        assert_eq!(*server.offered.lock().unwrap(), [&b"h2"[..], b"http/1.1"]);
        assert!(CryptoProvider::get_default().is_none(), "a provider was installed for the whole process");
    }

    #[tokio::test]
    async fn a_server_that_wants_to_know_its_clients_is_shown_the_identity() {
        let server = Server::start(true).await;
        assert!(get(&server, &[&server.root], None).await.is_err());
        assert_eq!(get(&server, &[&server.root], Some(&server.identity)).await.unwrap(), 204);
        let stranger = Server::start(true).await.identity;
        assert!(get(&server, &[&server.root], Some(&stranger)).await.is_err());
    }

    #[tokio::test]
    async fn a_pem_that_cannot_be_used_is_refused_by_name_also_where_all_is_loopback() {
        let server = Server::start(false).await;
        let text = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap();
        let (root, identity) = (text(&server.root), text(&server.identity));
        let (key, certificate) = identity.split_at(identity.find("-----BEGIN CERTIFICATE").unwrap());
        let here = "http://127.0.0.1:1";
        let builder = || Client::builder(Region::custom(here, here, here).unwrap());
        let stranger = text(&Server::start(false).await.identity);
        let foreign_key = stranger.split_at(stranger.find("-----BEGIN CERTIFICATE").unwrap()).0;
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let legacy = key.replace("KEY-----\nM", "KEY-----\nProc-Type: 4,ENCRYPTED\nM");
        let der = CertificateDer::from_pem_slice(&server.root).unwrap();
        let utf16: Vec<u8> = root.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let roots: [(Vec<u8>, &str); 12] = [
            ("".into(), "content of the file"),
            ("/etc/ssl/certs/corp.pem".into(), "content of the file"),
            (root.replace('\n', " ").into(), "content of the file"),
            (key.into(), "holds no CERTIFICATE, but only PRIVATE KEY"),
            (root.replace("CERTIFICATE", "TRUSTED CERTIFICATE").into(), "only TRUSTED CERTIFICATE"),
            (root.replace("CERTIFICATE", "PKCS7").into(), "only PKCS7"),
            (der.to_vec(), "openssl x509 -inform der"),
            ([&[0xFF, 0xFE][..], &utf16].concat(), "UTF-16"),
            (root.replace("-----END", "END").into(), "be read"),
            (root.replace("\nM", "\n*").into(), "be read"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(), ""),
            (format!("{root}{}", root.replace("\nMII", "\nMIIA")).into(), ""),
        ];
        let identities = [
            (String::new(), "content of the file"),
            (identity.replace('\n', " "), "content of the file"),
            (key.to_owned(), "only PRIVATE KEY"),
            (certificate.to_owned(), "without its private key"),
            ([certificate, &encrypted].concat(), "openssl pkey"),
            ([certificate, &legacy].concat(), "openssl pkey"),
            ([certificate, &key.replace("\nM", "\n*")].concat(), "that can be read"),
            // Native TLS sees no sooner that they do not belong together than when it is set up.
            ([foreign_key, certificate].concat(), ""),
            ([key, &root, certificate].concat(), ""),
        ];
        let roots = roots.map(|(pem, why)| (builder().root_certificate_pem(pem), "root certificate", why));
        let identities = identities.map(|(pem, why)| (builder().identity_pem(pem), "client certificate", why));
        for (n, (builder, what, why)) in roots.into_iter().chain(identities).enumerate() {
            let error = builder.build().expect_err(&format!("case {n}"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "case {n}: {error}");
            let told = error.to_string();
            assert!(told.contains(why) && (why.is_empty() || told.contains(what)), "case {n}: {error}");
            let secret = key.lines().nth(1).unwrap();
            assert!(!format!("{error:?}").contains(secret), "case {n}: {error:?}");
        }
        builder().root_certificate_pem(root).identity_pem(identity).build().unwrap();
    }

    #[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
    #[test]
    fn a_client_certificate_of_version_1_is_told_from_one_of_another_key() {
        let pem = [V1, &KeyPair::generate().unwrap().serialize_pem()].concat();
        let error = Client::builder(Region::US_EAST_1).identity_pem(pem).build().unwrap_err();
        assert!(error.to_string().contains("version 3") && error.kind() == ErrorKind::InvalidInput, "{error}");
    }

    #[test]
    fn that_a_server_wants_another_client_certificate_is_heard_from_either_library() {
        let words = |cause| format!("error:0A00045C:SSL routines:ssl3_read_bytes:{cause}");
        for alert in ["tlsv13 alert certificate required", "sslv3 alert bad certificate", "tlsv1 alert unknown ca"] {
            assert!(refuses_identity(&words(alert)), "{alert}");
        }
        assert!(refuses_identity("received fatal alert: CertificateRequired"));
        assert!(!refuses_identity(&words("tlsv1 alert internal error")));
        assert!(!refuses_identity("certificate verify failed: unknown ca"));
    }

    #[tokio::test]
    async fn a_pem_is_read_as_it_lies_in_files_and_variables() {
        let server = Server::start(true).await;
        let text = |pem: &[u8]| String::from_utf8(pem.to_vec()).unwrap();
        let (root, identity) = (text(&server.root), text(&server.identity));
        let (key, certificate) = identity.split_at(identity.find("-----BEGIN CERTIFICATE").unwrap());
        let other = text(&Server::start(false).await.root);
        let as_it_lies: [fn(&str) -> String; 7] = [
            |pem| pem.replace('\n', "\r\n"),
            |pem| pem.replace('\n', "\r"),
            |pem| format!("\u{FEFF}{pem}"),
            |pem| format!("Certificate:\n    Data: Version: 3 (0x2)\n{pem}\nand text after it"),
            |pem| pem.lines().map(|line| format!("    {line}  \n")).collect(),
            |pem| pem.replace('\n', "\\n"),
            |pem| pem.trim_end().to_owned(),
        ];
        for (n, lies) in as_it_lies.iter().enumerate() {
            // Also where another is before it: the first of several is not lost.
            for bundle in [root.clone(), [&*other, &root].concat(), [&*root, &other].concat()] {
                let (bundle, identity) = (lies(&bundle).into_bytes(), lies(&[certificate, key].concat()));
                let answered = get(&server, &[&bundle], Some(identity.as_bytes())).await;
                assert_eq!(answered.unwrap_or_else(|error| panic!("case {n}: {error:?}")), 204);
            }
        }
    }

    #[cfg(target_os = "linux")]
    mod platform {
        use std::path::PathBuf;
        use std::process::Command;

        use super::*;

        /// Runs the test again in a process whose platform roots are in a file that does not exist yet, and gives that
        /// process the file: an environment is of a whole process.
        fn roots_of_another_process(test: &str) -> Option<PathBuf> {
            if let Some(file) = std::env::var_os("TLS_TEST_ROOTS") {
                return Some(file.into());
            }
            let file = std::env::temp_dir().join(format!("genesys-scripts-{}-{test}.pem", std::process::id()));
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &format!("tls::tests::platform::{test}")])
                .envs([("TLS_TEST_ROOTS", &file), ("SSL_CERT_FILE", &file)])
                .env_remove("SSL_CERT_DIR")
                .output()
                .unwrap();
            let _ = std::fs::remove_file(&file);
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.contains("1 passed"), "{told}");
            None
        }

        #[tokio::test]
        async fn the_platforms_roots_are_trusted_beside_ones_own() {
            let Some(file) = roots_of_another_process("the_platforms_roots_are_trusted_beside_ones_own") else {
                return;
            };
            let (platforms, own) = (Server::start(false).await, Server::start(false).await);
            std::fs::write(file, &platforms.root).unwrap();
            for server in [&platforms, &own] {
                assert_eq!(get(server, &[&own.root], None).await.unwrap(), 204);
            }
            assert_eq!(get(&platforms, &[], None).await.unwrap(), 204);
            assert!(get(&own, &[], None).await.is_err());
        }

        #[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
        #[tokio::test]
        async fn a_machine_without_roots_serves_loopback_alone() {
            let Some(_) = roots_of_another_process("a_machine_without_roots_serves_loopback_alone") else { return };
            let error = Client::builder(Region::US_EAST_1).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let told = error.to_string();
            assert!(told.contains("No CA certificates"), "{told}");
            for way in ["ca-certificates", "SSL_CERT_FILE", "root_certificate_pem"] {
                assert!(told.contains(way), "{told}");
            }
            let here = "http://127.0.0.1:1";
            Client::builder(Region::custom(here, here, here).unwrap()).build().unwrap();
            // One host is enough that is https, and one's own certificates are.
            let mixed = || Client::builder(Region::custom(here, "https://login.example.com", here).unwrap());
            assert!(mixed().build().unwrap_err().to_string().contains("No CA certificates"));
            let server = Server::start(false).await;
            mixed().root_certificate_pem(server.root.clone()).build().unwrap();
            assert_eq!(get(&server, &[&server.root], None).await.unwrap(), 204);
        }

        #[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
        #[tokio::test]
        async fn a_bundle_that_holds_none_is_named_with_the_variable_that_names_it() {
            let test = "a_bundle_that_holds_none_is_named_with_the_variable_that_names_it";
            let Some(file) = roots_of_another_process(test) else { return };
            for unusable in
                ["", "not a certificate\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
            {
                std::fs::write(&file, unusable).unwrap();
                let told = Client::builder(Region::US_EAST_1).build().unwrap_err().to_string();
                assert!(told.contains("SSL_CERT_FILE") && told.contains(&*file.to_string_lossy()), "{told}");
            }
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
            let told = Client::builder(Region::US_EAST_1).build().unwrap_err().to_string();
            std::fs::remove_dir(&file).unwrap();
            assert!(told.contains("SSL_CERT_FILE") && told.contains(&*file.to_string_lossy()), "{told}");
        }
    }
}
