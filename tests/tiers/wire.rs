//! A request to a tier's listener, with any certificate or none.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use persona::tiers::{Tier, certificates::name_of};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// However slow the machine: what takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    /// Whether a session came with it.
    pub(crate) fn signs_in(&self) -> bool {
        self.head.lines().any(|line| {
            line.to_ascii_lowercase()
                .starts_with("set-cookie: persona_session=e")
        })
    }
}

/// Who asks: somebody who believes the authority in this file, with the certificate and key in that one, or with none.
pub(crate) fn client(authority: &Path, identity: Option<&Path>) -> Arc<ClientConfig> {
    let pem = std::fs::read(authority).expect("an authority");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.expect("a certificate")).expect("added");
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let Some(identity) = identity else {
        return Arc::new(builder.with_no_client_auth());
    };
    let pem = std::fs::read(identity).expect("a certificate");
    let chain = CertificateDer::pem_slice_iter(&pem).map(|certificate| certificate.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_slice(&pem).expect("a key");
    let config = builder.with_client_auth_cert(chain.collect(), key);
    Arc::new(config.expect("a certificate that fits its key"))
}

/// Asks a tier of `site-0`. `None`: no HTTP was spoken, because one side would not have the other.
pub(crate) async fn ask(
    client: &Arc<ClientConfig>,
    to: (Tier, SocketAddr),
    head: &str,
    body: &[u8],
) -> Option<Heard> {
    let name = ServerName::try_from(name_of("site-0", to.0)).expect("a name");
    let exchange = async {
        let stream = TcpStream::connect(to.1).await.expect("it listens");
        let mut stream = TlsConnector::from(client.clone())
            .connect(name, stream)
            .await
            .ok()?;
        let head = format!(
            "{head}\r\nHost: tier\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body).await.ok()?;
        stream.flush().await.ok()?;
        // In TLS 1.3 a client hears only now that the server does not have it.
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|at| at == b"\r\n\r\n");
        let Some(end) = end else {
            assert!(read.is_err(), "it ended well and said nothing");
            return None;
        };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Heard {
            status,
            head,
            body: answer[end + 4..].to_vec(),
        })
    };
    timeout(PATIENCE, exchange).await.expect("in time")
}
