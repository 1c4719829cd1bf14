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

/// What a failed handshake's words say of a fault that lasts until somebody mends it; nothing of any other failure.
pub(crate) fn fault(words: &str) -> Option<String> {
    let shown = shown(words);
    let says = |any: &[&str]| any.iter().any(|one| words.contains(one));
    if says(&["CaUsedAsEndEntity"]) {
        return Some(format!(
            "its certificate is that of a CA, which no server may present ({shown}): give it one of its own, not marked CA:TRUE"
        ));
    }
    if says(&["invalid peer certificate", "certificate verify failed", "UnknownIssuer"]) {
        if says(&["not valid for name", "Hostname mismatch", "hostname mismatch"]) {
            return Some(format!("its certificate is for another name ({shown}): check the URL"));
        }
        if says(&["certificate expired", "has expired"]) {
            return Some(format!(
                "its certificate has expired ({shown}): it must be renewed, or this machine's clock is wrong"
            ));
        }
        if says(&["not valid yet", "not yet valid"]) {
            return Some(format!("its certificate is not valid yet ({shown}): this machine's clock may be wrong"));
        }
        return Some(format!(
            "its certificate is not trusted ({shown}): give the CA's certificate to root_certificate_pem, or to the system by \
             SSL_CERT_FILE"
        ));
    }
    if refuses_identity(words) {
        return Some(format!("it does not accept who we are ({shown}): give a client certificate to identity_pem"));
    }
    if says(&["received corrupt message", "InvalidContentType", "wrong version number"]) {
        return Some(format!("what listens there speaks no TLS ({shown}): check scheme and port"));
    }
    // Other alerts, as that of an error inside the server, may pass.
    let incompatible =
        ["peer is incompatible", "HandshakeFailure", "ProtocolVersion", "InsufficientSecurity", "unsupported protocol"];
    says(&incompatible).then(|| format!("the two ends have no TLS in common ({shown})"))
}

/// Whether the server does not accept who we are. In TLS 1.3 it says so only when the handshake is over for us and the
/// request has been written.
pub(crate) fn refuses_identity(words: &str) -> bool {
    words.contains("received fatal alert")
        && ["ertificate", "UnknownCA", "AccessDenied"].iter().any(|alert| words.contains(alert))
}

#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
mod backend {
    use std::sync::Arc;

    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};
    use rustls_platform_verifier::Verifier;

    use super::Error;

    pub(crate) struct Tls(ClientConfig);

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
                Err(error) if is_https => {
                    let what = format!("there are no root certificates to trust an https host by: {error}");
                    return Err(Error::invalid_input(what).with_source(error));
                }
                Err(_) => builder.with_root_certificates(own),
            };
            let mut config = match identity {
                Some(pem) => {
                    // Without a source: the reader's errors quote lines of what may be a key.
                    let unreadable = || {
                        Error::invalid_input("the client certificate is no PEM with a certificate and its private key")
                    };
                    let chain: Vec<_> =
                        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| unreadable())?;
                    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| unreadable())?;
                    if chain.is_empty() {
                        return Err(unreadable());
                    }
                    builder.with_client_auth_cert(chain, key).map_err(|error| unreadable().with_source(error))?
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
    }

    /// The certificates, and again as all that is trusted where the platform has none.
    fn read_roots(bundles: &[Vec<u8>]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), Error> {
        let unreadable = || Error::invalid_input("a root certificate is no PEM that can be read");
        let (mut certificates, mut store) = (Vec::new(), RootCertStore::empty());
        for pem in bundles {
            let before = certificates.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| unreadable())?;
                store.add(certificate.clone()).map_err(|error| unreadable().with_source(error))?;
                certificates.push(certificate);
            }
            if certificates.len() == before {
                return Err(Error::invalid_input("a root certificate's PEM holds no certificate"));
            }
        }
        Ok((certificates, store))
    }
}

#[cfg(all(feature = "native-tls", not(any(feature = "rustls-ring", feature = "rustls-aws-lc"))))]
mod backend {
    use super::Error;

    pub(crate) struct Tls {
        roots: Vec<reqwest::Certificate>,
        identity: Option<reqwest::Identity>,
    }

    impl Tls {
        /// `roots` are PEM bundles, trusted beside the platform's; `identity` is PEM, with chain and key.
        pub(crate) fn new(roots: &[Vec<u8>], identity: Option<&[u8]>, _is_https: bool) -> Result<Self, Error> {
            let mut all = Vec::new();
            for pem in roots {
                let bundle = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| {
                    Error::invalid_input("a root certificate is no PEM that can be read").with_source(error)
                })?;
                if bundle.is_empty() {
                    return Err(Error::invalid_input("a root certificate's PEM holds no certificate"));
                }
                all.extend(bundle);
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
    }

    fn read_identity(pem: &[u8]) -> Result<reqwest::Identity, Error> {
        let pem = String::from_utf8_lossy(pem);
        let (chain, key) = (sections(&pem, "CERTIFICATE"), sections(&pem, "PRIVATE KEY"));
        reqwest::Identity::from_pkcs8_pem(chain.as_bytes(), key.as_bytes()).map_err(|error| {
            let what = "the client certificate is no PEM with a certificate and its private key, in PKCS #8";
            Error::invalid_input(what).with_source(error)
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
    use super::Error;

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
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::{Arc, Mutex};

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::LazyConfigAcceptor;
    use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::rustls::server::{Acceptor, WebPkiClientVerifier};
    use tokio_rustls::rustls::{RootCertStore, ServerConfig};

    use super::*;
    use crate::error::ErrorKind;
    use crate::{Client, Region};

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
        let cases = [
            (builder().root_certificate_pem(""), "root certificate"),
            (builder().root_certificate_pem(key), "root certificate"),
            (builder().root_certificate_pem(root.replace("-----END", "END")), "root certificate"),
            (
                builder().root_certificate_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
                "root certificate",
            ),
            (builder().identity_pem(""), "client certificate"),
            (builder().identity_pem(key), "client certificate"),
            (builder().identity_pem(certificate), "client certificate"),
            // Native TLS sees no sooner that they do not belong together than when it is set up.
            (builder().identity_pem([foreign_key, certificate].concat()), ""),
        ];
        for (n, (builder, what)) in cases.into_iter().enumerate() {
            let error = builder.build().expect_err(&format!("case {n}"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "case {n}: {error}");
            assert!(error.to_string().contains(what), "case {n}: {error}");
        }
        builder().root_certificate_pem(root).identity_pem(identity).build().unwrap();
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
            assert!(error.to_string().contains("No CA certificates"), "{error}");
            let here = "http://127.0.0.1:1";
            Client::builder(Region::custom(here, here, here).unwrap()).build().unwrap();
            // One's own are enough.
            let server = Server::start(false).await;
            assert_eq!(get(&server, &[&server.root], None).await.unwrap(), 204);
        }
    }
}
