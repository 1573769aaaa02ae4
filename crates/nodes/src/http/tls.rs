//! Whom to believe that a server is the one that its URL names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Whose signatures count on `https` connections.
#[derive(Clone)]
pub(crate) struct Trust(TlsConnector);

/// Why certificates of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file that the user named.
    #[error("cannot read certificates from {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// It holds none.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Trust {
    /// Trusts the authorities in `file` (PEM), or else those that this machine trusts (or `SSL_CERT_FILE`,
    /// `SSL_CERT_DIR` name).
    ///
    /// # Errors
    /// When the file cannot be read. A machine without authorities is no error here: `http` URLs need none.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let certificates = match file {
            Some(path) => read(path)?,
            None => {
                let found = rustls_native_certs::load_native_certs();
                found.errors.iter().for_each(|error| tracing::debug!(%error, "a certificate of this machine"));
                found.certs
            }
        };
        let (sound, unsound) = roots.add_parsable_certificates(certificates);
        tracing::debug!(sound, unsound, "certificates of authorities");
        if let Some(path) = file.filter(|_| sound == 0) {
            return Err(TrustError::Empty { path: path.to_owned() });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows the versions that rustls calls safe")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(TlsConnector::from(Arc::new(config))))
    }

    /// Makes sure that `stream` leads to `host`.
    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let unreadable = |source| TrustError::Unreadable { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)
}

/// Whether a connection failed because the server could not prove who it is, or speaks no TLS; in words.
pub(crate) fn distrust(error: &io::Error) -> Option<String> {
    let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match cause {
        rustls::Error::InvalidCertificate(why) => {
            let (why, words) = (format!("{why:?}"), why.to_string());
            // Some of the crate's texts are meant for programmers.
            format!("its certificate is not valid: {}", if words.contains('(') { why } else { words })
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => format!("TLS: {other}"),
    })
}
