//! Who may speak: mutual TLS with pinned public keys.
//!
//! A member is known by its public key, listed in the cluster record; its certificate is a self-signed
//! envelope for that key. So a verifier compares the key alone: names and dates say nothing here, and there is
//! no authority whose loss or expiry could stop the world. What makes it safe is left whole: the handshake's
//! signature is verified, so a peer must hold the private half of a listed key.
//!
//! Promise: no connection reaches the driver but one whose peer proved a key that is listed at that moment. A stranger
//! gets as far as [`super::enrol`], by a protocol name of its own, and only if it asks for nothing else.
//! Sessions are never resumed, since a resumed one would not be verified again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};

use crate::MemberId;

/// The protocol's name in the TLS handshake; a change of framing takes a new one.
pub const ALPN: &[u8] = b"persona-gossip/1";
/// The name by which somebody who is no member asks to become one.
pub const ENROL_ALPN: &[u8] = b"persona-enrol/1";

/// A name for TLS, which wants one; nothing checks it.
pub(super) const SERVER_NAME: &str = "persona-gossip";

/// This member's own key, and the self-signed certificate that carries it.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    public_key: Vec<u8>,
    reset_key: ResetKey,
}

/// Why a certificate and a key are no identity. Retrying will not help: mend the files.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing in it, or damaged.
    #[error("the certificate is not PEM with a CERTIFICATE section")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// Nothing in it, or damaged.
    #[error("the key is not PEM with a PRIVATE KEY section")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// Most often files of two members were mixed up.
    #[error("the certificate cannot be used, or the key is not the one in it")]
    Mismatch(#[source] rustls::Error),
}

impl Identity {
    /// Reads an identity from the PEM text of its certificate and of its private key.
    ///
    /// # Errors
    /// When either cannot be read, or when the key is not the certificate's.
    pub fn from_pem(
        certificate_pem: impl AsRef<[u8]>,
        key_pem: impl AsRef<[u8]>,
    ) -> Result<Self, IdentityError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate_pem.as_ref()).map_err(IdentityError::Certificate)?;
        let private_key = PrivateKeyDer::from_pem_slice(key_pem.as_ref()).map_err(IdentityError::Key)?;
        let public_key = public_key_of(&certificate).map_err(IdentityError::Mismatch)?;
        let reset_key = ResetKey(blake3::derive_key(
            "persona gossip stateless reset 1",
            private_key.secret_der(),
        ));
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(vec![certificate], private_key, &provider)
            .map_err(IdentityError::Mismatch)?;
        Ok(Self {
            certified: Arc::new(certified),
            public_key,
            reset_key,
        })
    }

    /// The public key as it is listed and pinned: SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// A secret only this identity has, by which a restarted process can disown the connections of the one
    /// before it (a QUIC stateless reset), so that peers dial anew at once and not after the idle timeout.
    pub(super) fn reset_key(&self) -> ResetKey {
        self.reset_key.clone()
    }
}

/// The private key stays out of every log.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &fingerprint(&self.public_key))
            .finish_non_exhaustive()
    }
}

/// The first 16 bytes of BLAKE3 of a public key (SPKI DER), in hex: what logs and operators compare.
#[must_use]
pub fn fingerprint(public_key: &[u8]) -> String {
    blake3::hash(public_key)
        .to_hex()
        .as_str()
        .chars()
        .take(32)
        .collect()
}

/// The peer may be a stranger, or a member whose new key is not known here yet.
#[derive(Debug, thiserror::Error)]
#[error("its key, fingerprint {fingerprint}, is listed for no member here")]
struct UnlistedKey {
    fingerprint: String,
}

/// The keys listed at this moment, and whose each is. Shared by both verifiers and the driver.
#[derive(Debug, Default)]
pub(super) struct PinnedKeys(RwLock<BTreeMap<Vec<u8>, MemberId>>);

impl PinnedKeys {
    pub(super) fn replace(&self, keys: BTreeMap<Vec<u8>, MemberId>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(super) fn member(&self, public_key: &[u8]) -> Option<MemberId> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(public_key)
            .copied()
    }

    /// Whose key the certificate of an established connection carries.
    pub(super) fn member_of(&self, connection: &quinn::Connection) -> Option<(MemberId, Vec<u8>)> {
        let key = proven_key(connection)?;
        Some((self.member(&key)?, key))
    }
}

/// The fingerprint of the key that a verifier refused, if it did.
#[derive(Debug, Default)]
pub(super) struct Refusal(OnceLock<String>);

impl Refusal {
    pub(super) fn fingerprint(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, rustls::Error> {
    Ok(ParsedCertificate::try_from(certificate)?
        .subject_public_key_info()
        .as_ref()
        .to_vec())
}

#[derive(Debug)]
struct PinnedVerifier {
    keys: Arc<PinnedKeys>,
    refusal: Arc<Refusal>,
    /// Any key will do: nobody is to be known yet.
    stranger: Arc<AtomicBool>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !intermediates.is_empty() {
            return Err(rustls::Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let key = public_key_of(certificate)?;
        if self.stranger.load(Ordering::Acquire) || self.keys.member(&key).is_some() {
            return Ok(());
        }
        let fingerprint = fingerprint(&key);
        let _ = self.refusal.0.set(fingerprint.clone());
        let unlisted = UnlistedKey { fingerprint };
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            OtherError(Arc::new(unlisted)),
        )))
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PinnedVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Both halves of TLS for one endpoint: it dials and it listens, with one identity at a time and one list of keys.
///
/// Each connection has a configuration of its own. So a new identity is used from the next connection on, a dialer
/// learns which key it refused, and a listener lets a stranger in for one purpose only: to ask to become a member.
pub(super) struct Tls {
    pub(super) keys: Arc<PinnedKeys>,
    provider: Arc<CryptoProvider>,
    presented: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    pub(super) fn new(identity: &Identity) -> Self {
        Self {
            keys: Arc::default(),
            provider: Arc::new(aws_lc_rs::default_provider()),
            presented: RwLock::new(Arc::clone(&identity.certified)),
        }
    }

    /// From the next connection on, in both directions.
    pub(super) fn present(&self, identity: Identity) {
        *self.presented.write().unwrap_or_else(PoisonError::into_inner) = identity.certified;
    }

    fn presented(&self) -> SingleCertAndKey {
        let presented = self.presented.read().unwrap_or_else(PoisonError::into_inner);
        SingleCertAndKey::from(Arc::clone(&presented))
    }

    /// To dial a member: any listed key will do here, and whose it is is looked at after.
    pub(super) fn dialing(&self) -> Result<(Arc<QuicClientConfig>, Arc<Refusal>), rustls::Error> {
        let refusal = Arc::new(Refusal::default());
        let verifier = PinnedVerifier {
            keys: Arc::clone(&self.keys),
            refusal: Arc::clone(&refusal),
            stranger: Arc::default(),
            algorithms: self.provider.signature_verification_algorithms,
        };
        Ok((self.client(Arc::new(verifier), ALPN)?, refusal))
    }

    fn client(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
        protocol: &[u8],
    ) -> Result<Arc<QuicClientConfig>, rustls::Error> {
        let mut client = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(self.presented()));
        client.alpn_protocols = vec![protocol.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        client.enable_early_data = false;
        QuicClientConfig::try_from(client)
            .map(Arc::new)
            .map_err(|error| unusable(&error))
    }

    /// To take one connection.
    pub(super) fn admitting(&self) -> Result<Arc<QuicServerConfig>, rustls::Error> {
        let stranger = Arc::new(AtomicBool::new(false));
        let verifier = PinnedVerifier {
            keys: Arc::clone(&self.keys),
            refusal: Arc::default(),
            stranger: Arc::clone(&stranger),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let resolver = Doorkeeper {
            presented: self.presented(),
            stranger,
        };
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = vec![ALPN.to_vec(), ENROL_ALPN.to_vec()];
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        QuicServerConfig::try_from(server)
            .map(Arc::new)
            .map_err(|error| unusable(&error))
    }
}

fn unusable(error: &quinn::crypto::rustls::NoInitialCipherSuite) -> rustls::Error {
    rustls::Error::General(error.to_string())
}

/// Shows our certificate, and notes what the far end has come for.
#[derive(Debug)]
struct Doorkeeper {
    presented: SingleCertAndKey,
    /// Asked for nothing but to be enrolled.
    stranger: Arc<AtomicBool>,
}

impl ResolvesServerCert for Doorkeeper {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let only_enrols = hello.alpn().is_some_and(|mut offered| {
            let first = offered.next();
            first == Some(ENROL_ALPN) && offered.next().is_none()
        });
        self.stranger.store(only_enrols, Ordering::Release);
        self.presented.resolve(hello)
    }
}

/// The connection's own secret, of which nobody between the two ends can have the like (RFC 9266 says how such a value
/// binds what is proven over a connection to it).
pub(super) fn binding(connection: &quinn::Connection) -> Option<[u8; 32]> {
    let mut binding = [0; 32];
    connection
        .export_keying_material(&mut binding, b"EXPORTER-persona-enrol", b"")
        .ok()?;
    Some(binding)
}

/// What was agreed to speak on a connection.
pub(super) fn protocol(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let handshake = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    handshake.protocol.clone()
}

/// The key that the far end proved (SPKI DER).
pub(super) fn proven_key(connection: &quinn::Connection) -> Option<Vec<u8>> {
    let certificates = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    public_key_of(certificates.first()?).ok()
}

/// A newcomer's TLS: it knows nobody's key yet. What it is told is proven over the channel's binding.
pub(super) fn newcomer(identity: &Identity) -> Result<Arc<QuicClientConfig>, rustls::Error> {
    let tls = Tls::new(identity);
    let verifier = PinnedVerifier {
        keys: Arc::clone(&tls.keys),
        refusal: Arc::default(),
        stranger: Arc::new(AtomicBool::new(true)),
        algorithms: tls.provider.signature_verification_algorithms,
    };
    tls.client(Arc::new(verifier), ENROL_ALPN)
}

/// Signs stateless resets; keyed BLAKE3 in place of HMAC (a keyed hash needs no nesting).
#[derive(Clone)]
pub(super) struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let Ok(given) = <[u8; 32]>::try_from(signature) else {
            return Err(quinn::crypto::CryptoError);
        };
        // `blake3::Hash` compares in constant time.
        if blake3::keyed_hash(&self.0, data) == given {
            Ok(())
        } else {
            Err(quinn::crypto::CryptoError)
        }
    }
}
