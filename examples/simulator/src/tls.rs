//! TLS in front of the simulator, with a certificate of its own making.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rcgen::generate_simple_self_signed;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) struct Front {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    address: SocketAddr,
}

/// Longer takes no client that means it.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Front {
    /// The certificate is for `localhost`, the address and these names; it is written to the file. Its key never is.
    pub(crate) async fn listen(listen: SocketAddr, certificate: &Path, names: &[String]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let mut known = vec!["localhost".to_owned(), listen.ip().to_string()];
        known.extend_from_slice(names);
        let made = generate_simple_self_signed(known)
            .context("cannot make a certificate: is each --tls-name a name or an address?")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
        std::fs::write(certificate, made.cert.pem())
            .with_context(|| format!("cannot write {}", certificate.display()))?;
        Ok(Self { address: listener.local_addr()?, listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// By the address, or by the first name if that is none that can be asked for.
    pub(crate) fn url(&self) -> String {
        if self.address.ip().is_unspecified() {
            format!("https://localhost:{}", self.address.port())
        } else {
            format!("https://{}", self.address)
        }
    }

    /// Passes on what it is told to where the simulator listens. A reset from there comes as an end of TLS.
    pub(crate) async fn serve(self, behind: SocketAddr) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of files, most likely.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let acceptor = self.acceptor.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let Ok(Ok(mut client)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
                let Ok(mut simulator) = TcpStream::connect(behind).await else { return };
                let _ = simulator.set_nodelay(true);
                let _ = copy_bidirectional(&mut client, &mut simulator).await;
            });
        }
    }
}
