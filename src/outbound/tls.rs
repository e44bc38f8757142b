//! TLS, and whose certificates are trusted. They are checked here, also behind a forward proxy.

use std::{fmt, io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{OutboundError, OutboundSetupError};

/// What a connection is secured with.
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Trusts the certificates in this PEM, or the system's.
    pub(crate) fn new(roots: Option<&[u8]>) -> Result<Tls, OutboundSetupError> {
        Ok(Tls(TlsConnector::from(Arc::new(config(roots)?))))
    }

    /// Makes sure that the other side is this host.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, OutboundError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| OutboundError::NotAName)?;
        let stream = self.0.connect(name, stream).await;
        stream.map_err(|error| of_handshake(&error))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn config(roots: Option<&[u8]>) -> Result<ClientConfig, OutboundSetupError> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| OutboundSetupError::Roots)?;
                store.add(certificate).map_err(|_| OutboundSetupError::Roots)?;
            }
            if store.is_empty() {
                return Err(OutboundSetupError::Roots);
            }
        }
        None => {
            // Systems have a few certificates that nothing can read; the others count.
            let system = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(system.certs);
            if store.is_empty() {
                return Err(OutboundSetupError::NoRoots);
            }
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn of_handshake(error: &io::Error) -> OutboundError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => OutboundError::Certificate,
        Some(_) => OutboundError::Tls,
        None => OutboundError::Unreachable,
    }
}
