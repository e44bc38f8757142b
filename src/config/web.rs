//! Where people and other tiers reach a process: `[web]` and `[tiers]`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde::{Deserialize, Serialize};

use super::{
    ConfigError, Hex, IdpConfig, MailConfig, OutboundConfig, PasswordConfig, PublicUrl, ten_seconds,
};
use crate::limits::{LimitSettings, TrustedProxies};
use crate::tiers::{
    Tier,
    certificates::{CertificatesError, TierIdentity},
    upstream::HostPort,
};

/// Where people reach the webhead.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebConfig {
    /// TCP address. In the laboratory, of this machine only.
    pub listen: SocketAddr,
    /// PEM file with the certificate chain and its private key; without it, a proxy in front speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PathBuf>,
    /// Whose word on where a request comes from counts, and in which header they say it.
    #[serde(default)]
    pub trusted_proxies: TrustedProxies,
}

/// How a process that is not all of a site reaches the other parts, and they reach it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TiersConfig {
    /// PEM file with this tier's certificate and key, as `persona tiers certify` wrote it.
    pub identity: PathBuf,
    /// PEM file with the certificate of the authority that made it.
    pub authority: PathBuf,
    /// TCP address of the internal API of this process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// `host:port` of the replica's internal API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<HostPort>,
    /// `host:port` of the secure webhead's internal API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_webhead: Option<HostPort>,
    /// `host:port` of the keysigner's internal API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keysigner: Option<HostPort>,
}

/// A process without a replica: webhead, secure webhead, keysigner, or several of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// Name of the site.
    pub site: String,
    /// Under which people reach the service, the same at every site.
    pub public_url: PublicUrl,
    /// Keys the hash that turns an address into its record's id: the cluster's, the same at every site.
    pub index_key: Hex<32>,
    /// Where this process keeps what is its own: signing keys, outbox. A webhead needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where people reach it; for a webhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebConfig>,
    /// How it reaches the others.
    pub tiers: TiersConfig,
    /// TCP address for Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// How passwords are hashed; for a secure webhead.
    #[serde(default)]
    pub passwords: PasswordConfig,
    /// How mail is sent; for a secure webhead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailConfig>,
    /// How strangers' hosts are asked; for a secure webhead.
    #[serde(default)]
    pub outbound: OutboundConfig,
    /// Domains that certify their own users.
    #[serde(default)]
    pub idp: IdpConfig,
    /// What requests pay.
    #[serde(default)]
    pub limits: LimitSettings,
    /// How long requests under way may still take when it drains.
    #[serde(
        default = "ten_seconds",
        with = "super::notation::millis",
        rename = "drain_timeout_ms"
    )]
    pub drain_timeout: std::time::Duration,
    /// Laboratory only.
    #[cfg(feature = "lab")]
    #[serde(default)]
    pub lab: super::LabConfig,
}

/// Why a section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// A field is not as it should be.
    #[error("field `{field}`: {expected}")]
    Field {
        /// Its name, dotted.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A file that a field names.
    #[error("field `web.tls`: {}: {message}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The tier's certificate or authority.
    #[error("section `[tiers]`: {0}")]
    Certificates(#[from] CertificatesError),
}

impl WebConfig {
    /// Checks what needs no file.
    pub fn check(&self) -> Result<(), WebConfigError> {
        if cfg!(feature = "lab") && !self.listen.ip().is_loopback() {
            return Err(WebConfigError::Field {
                field: "web.listen",
                expected: "a laboratory listens on this machine alone: 127.0.0.1 or ::1",
            });
        }
        Ok(())
    }

    /// What TLS to speak; reads the file.
    pub fn server(&self) -> Result<Option<Arc<ServerConfig>>, WebConfigError> {
        let Some(path) = &self.tls else {
            return Ok(None);
        };
        server(path).map(Some).map_err(|error| WebConfigError::Tls {
            path: path.clone(),
            message: error.to_string(),
        })
    }
}

fn server(path: &Path) -> io::Result<Arc<ServerConfig>> {
    let pem = fs::read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

impl TiersConfig {
    /// Reads who this tier is.
    pub fn identity(&self, site: &str) -> Result<TierIdentity, WebConfigError> {
        Ok(TierIdentity::read(site, &self.identity, &self.authority)?)
    }
}

impl TierConfig {
    /// Reads a file, for these tiers.
    pub fn load(path: &Path, tiers: &[Tier]) -> Result<TierConfig, ConfigError> {
        let config: TierConfig = super::read(path)?;
        config.check(tiers).map_err(|source| ConfigError::Web {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(config)
    }

    /// Whether all is said that these tiers need.
    pub fn check(&self, tiers: &[Tier]) -> Result<(), WebConfigError> {
        let needs = |field, is_there: bool, expected| {
            if is_there {
                Ok(())
            } else {
                Err(WebConfigError::Field { field, expected })
            }
        };
        let runs = |tier| tiers.contains(&tier);
        needs(
            "tiers.replica",
            self.tiers.replica.is_some(),
            "should be `host:port` of the replica: this process has none",
        )?;
        if runs(Tier::Webhead) {
            needs("web", self.web.is_some(), "a webhead needs `[web]` with `listen`")?;
            needs(
                "tiers.secure_webhead",
                runs(Tier::SecureWebhead) || self.tiers.secure_webhead.is_some(),
                "should be `host:port` of the secure webhead",
            )?;
            needs(
                "tiers.keysigner",
                runs(Tier::Keysigner) || self.tiers.keysigner.is_some(),
                "should be `host:port` of the keysigner",
            )?;
        }
        let is_asked = (runs(Tier::SecureWebhead) || runs(Tier::Keysigner)) && !runs(Tier::Webhead);
        needs(
            "tiers.listen",
            !is_asked || self.tiers.listen.is_some(),
            "should be where the webheads reach this process",
        )?;
        needs(
            "data",
            !(runs(Tier::SecureWebhead) || runs(Tier::Keysigner)) || self.data.is_some(),
            "should be a directory of this process alone, for its signing key and its outbox",
        )?;
        needs(
            "mail",
            !runs(Tier::SecureWebhead) || self.mail.is_some(),
            "a secure webhead sends mail: it needs `[mail]`",
        )?;
        if let Some(web) = &self.web {
            web.check()?;
        }
        Ok(())
    }
}
