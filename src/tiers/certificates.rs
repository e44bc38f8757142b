//! By what the tiers of one site know each other: certificates of an authority that exists for a moment.
//!
//! `persona tiers certify` makes a key, signs one certificate for each tier of one site with it, and forgets it. So there
//! is no authority to be stolen: to replace a tier's certificate means to make all of the site anew, which takes a second
//! and a rolling restart. A certificate is good for one name, `TIER.SITE.tiers.persona.internal`; its dates mean nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::Tier;
use crate::members::identity::write_private;

/// Under which no host is ever found (the TLD is reserved for private use).
const DOMAIN: &str = "tiers.persona.internal";
/// Files beside each other in the directory that is written.
const AUTHORITY_FILE: &str = "authority.pem";

/// Why there are no certificates, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// They could not be made.
    #[error("could not make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file.
    #[error("{}: {message}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

/// The name that a tier's certificate is good for. Sites are named with letters, digits and hyphens.
pub fn name_of(site: &str, tier: Tier) -> String {
    format!("{}.{site}.{DOMAIN}", tier.name())
}

/// Writes a certificate and key for each tier of a site, and the authority's certificate, into a directory. Gives the
/// paths. A file that exists is not replaced.
pub fn certify(site: &str, directory: &Path) -> Result<Vec<PathBuf>, CertificatesError> {
    fs::create_dir_all(directory).map_err(|error| wrong(directory, &error))?;
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("tiers of {site}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);
    let mut written = Vec::new();
    for tier in Tier::ALL {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![name_of(site, tier)])?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{tier} of {site}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params.signed_by(&key, &issuer)?;
        let path = directory.join(format!("{tier}.pem"));
        write_private(&path, &format!("{}{}", certificate.pem(), key.serialize_pem()))
            .map_err(|error| wrong(&path, &error))?;
        written.push(path);
    }
    let path = directory.join(AUTHORITY_FILE);
    write_private(&path, &authority.pem()).map_err(|error| wrong(&path, &error))?;
    written.push(path);
    Ok(written)
}

/// By what one tier shows who it is, and whom it believes.
pub struct TierIdentity {
    site: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl TierIdentity {
    /// Reads a tier's certificate and key, and its authority's certificate.
    pub fn read(site: &str, identity: &Path, authority: &Path) -> Result<TierIdentity, CertificatesError> {
        let pem = fs::read(identity).map_err(|error| wrong(identity, &error))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(identity, &error))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(identity, &error))?;
        let pem = fs::read(authority).map_err(|error| wrong(authority, &error))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| wrong(authority, &error))?;
            roots.add(certificate).map_err(|error| wrong(authority, &error))?;
        }
        let identity = TierIdentity {
            site: site.to_owned(),
            chain,
            key,
            roots: Arc::new(roots),
        };
        // What is wrong with them is known now, not at the first request.
        identity.client().map_err(|error| wrong(authority, &error))?;
        identity.server().map_err(|error| wrong(authority, &error))?;
        Ok(identity)
    }

    /// To ask other tiers with.
    pub fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    /// To be asked by other tiers with.
    pub fn server(&self) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider.clone())
            .build()
            .map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    /// The site whose tiers these are.
    pub fn site(&self) -> &str {
        &self.site
    }
}

/// Which tier of a site a certificate names; the handshake has shown that it is the authority's, and its key there.
pub fn tier_of(certificate: &CertificateDer<'_>, site: &str) -> Option<Tier> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Tier::ALL.into_iter().find(|tier| {
        ServerName::try_from(name_of(site, *tier))
            .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    })
}

fn wrong(path: &Path, error: &impl ToString) -> CertificatesError {
    CertificatesError::File {
        path: path.to_owned(),
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_has_a_certificate_for_itself_and_its_site_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let written = certify("oslo", directory.path()).expect("certificates");
        assert_eq!(written.len(), Tier::ALL.len() + 1);
        for tier in Tier::ALL {
            let pem = fs::read(directory.path().join(format!("{tier}.pem"))).expect("a file");
            let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
            assert_eq!(tier_of(&certificate, "oslo"), Some(tier));
            assert_eq!(tier_of(&certificate, "lima"), None);
            let identity = TierIdentity::read(
                "oslo",
                &directory.path().join(format!("{tier}.pem")),
                &directory.path().join(AUTHORITY_FILE),
            );
            assert!(identity.is_ok());
        }
        let again = certify("oslo", directory.path()).expect_err("they exist");
        assert!(again.to_string().contains("webhead.pem"), "{again}");
    }
}
