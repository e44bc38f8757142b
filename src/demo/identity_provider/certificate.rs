//! The TLS certificate of the domain's host, by an authority that exists for it alone.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

use crate::demo::DemoError;

/// What a host proves its name with.
pub(super) struct HostCertificate {
    pub(super) authority_pem: String,
    pub(super) server: Arc<ServerConfig>,
}

impl HostCertificate {
    /// Makes an authority and, by it, a certificate. The authority's key goes at once: whoever trusts it trusts this one
    /// certificate and no other that anybody could make.
    pub(super) fn make(host: &str) -> Result<HostCertificate, DemoError> {
        make(host).map_err(|error| DemoError::Certificate(error.to_string()))
    }
}

fn make(host: &str) -> Result<HostCertificate, Box<dyn std::error::Error>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, format!("Authority for {host} alone"));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![host.to_owned()])?.signed_by(&key, &authority)?;
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    Ok(HostCertificate {
        authority_pem: authority.pem(),
        server: Arc::new(server),
    })
}
