//! How a site asks strangers' hosts, and whose word it takes for how long: `[outbound]` and `[idp]`.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{SiteConfig, TierConfig, notation::millis};
use crate::{
    browserid::Domain,
    idp::{Discovery, DiscoverySettings, GracePeriod},
    outbound::{Outbound, OutboundSettings, OutboundSetupError, Proxy},
    public_url::PublicUrl,
};

/// How requests go out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// Through this forward proxy: `http://squid.example:3128`. It resolves; its rules are `deploy/squid/squid.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// PEM file with the certificates to trust in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Domains that certify their own users.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdpConfig {
    /// For so many days after a domain was last seen as an IdP we certify nobody of it. The same at every site.
    pub grace_days: u64,
    /// For the whole chain of delegation.
    #[serde(with = "millis", rename = "timeout_ms")]
    pub timeout: Duration,
    /// Domains that are remembered.
    pub remembered_max: usize,
}

/// Why a section cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboundConfigError {
    /// A field is not as it should be.
    #[error("field `{field}`: {expected}")]
    Field {
        /// Its name, dotted.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The file of certificates cannot be read.
    #[error("field `outbound.ca_file`: {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Requests cannot go out so.
    #[error(transparent)]
    Setup(#[from] OutboundSetupError),
}

impl SiteConfig {
    /// Who finds out which domains certify their own users; reads the file that `[outbound]` names. In a laboratory it
    /// finds those that `[lab]` has.
    pub fn discovery(&self) -> Result<Discovery, OutboundConfigError> {
        let settings = self.idp.settings(self.public_url.as_ref());
        #[cfg(feature = "lab")]
        return discovery(&self.outbound, settings, &self.lab);
        #[cfg(not(feature = "lab"))]
        discovery(&self.outbound, settings)
    }
}

impl TierConfig {
    /// The same for a secure webhead that is a process of its own.
    pub fn discovery(&self) -> Result<Discovery, OutboundConfigError> {
        let settings = self.idp.settings(Some(&self.public_url));
        #[cfg(feature = "lab")]
        return discovery(&self.outbound, settings, &self.lab);
        #[cfg(not(feature = "lab"))]
        discovery(&self.outbound, settings)
    }
}

fn discovery(
    outbound: &OutboundConfig,
    settings: DiscoverySettings,
    #[cfg(feature = "lab")] lab: &super::LabConfig,
) -> Result<Discovery, OutboundConfigError> {
    let way_out = outbound.settings()?;
    #[cfg(feature = "lab")]
    let settings = DiscoverySettings {
        pages: lab.pages(),
        ..settings
    };
    #[cfg(feature = "lab")]
    if let Some(hosts) = lab.hosts() {
        let outbound = Outbound::in_lab(&way_out, hosts)?;
        return Ok(Discovery::new(Arc::new(outbound), settings));
    }
    Ok(Discovery::new(Arc::new(Outbound::new(&way_out)?), settings))
}

impl OutboundConfig {
    /// What the client needs; reads the file that is named.
    pub fn settings(&self) -> Result<OutboundSettings, OutboundConfigError> {
        let roots = match &self.ca_file {
            None => None,
            Some(path) => Some(fs::read(path).map_err(|source| OutboundConfigError::File {
                path: path.clone(),
                source,
            })?),
        };
        Ok(OutboundSettings {
            proxy: self.proxy.clone(),
            roots,
        })
    }
}

impl IdpConfig {
    /// Checks what needs nothing else.
    pub fn check(&self) -> Result<(), OutboundConfigError> {
        let wrong = |field, expected| Err(OutboundConfigError::Field { field, expected });
        if !(1..=SIGHTING_KEPT_DAYS).contains(&self.grace_days) {
            return wrong("idp.grace_days", "should be 1 to 30: no longer is it known");
        }
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&self.timeout) {
            return wrong("idp.timeout_ms", "should be 100 to 30000");
        }
        if self.remembered_max == 0 || self.remembered_max > REMEMBERED_MAX {
            return wrong("idp.remembered_max", "should be 1 to 100000");
        }
        Ok(())
    }

    /// How long a domain that is gone stays an IdP.
    pub fn grace(&self) -> GracePeriod {
        GracePeriod(Duration::from_secs(self.grace_days.saturating_mul(86_400)))
    }

    /// What discovery needs. A delegation to the host of our own address ends with us.
    pub fn settings(&self, public_url: Option<&PublicUrl>) -> DiscoverySettings {
        DiscoverySettings {
            own: public_url.and_then(|url| Domain::parse(url.host())),
            time_limit: self.timeout,
            entries_max: self.remembered_max,
            #[cfg(feature = "lab")]
            pages: std::collections::BTreeMap::new(),
        }
    }
}

impl Default for IdpConfig {
    fn default() -> Self {
        let settings = DiscoverySettings::default();
        IdpConfig {
            grace_days: GracePeriod::default().0.as_secs() / 86_400,
            timeout: settings.time_limit,
            remembered_max: settings.entries_max,
        }
    }
}

/// So long a cell says when a domain was last seen.
const SIGHTING_KEPT_DAYS: u64 = 30;
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// A document has 10 KB.
const REMEMBERED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sections {
        #[serde(default)]
        outbound: OutboundConfig,
        #[serde(default)]
        idp: IdpConfig,
    }

    fn parse(text: &str) -> Result<Sections, String> {
        let sections: Sections = toml::from_str(text).map_err(|error| error.to_string())?;
        sections.idp.check().map_err(|error| error.to_string())?;
        Ok(sections)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let message = parse(text).err().unwrap_or_else(|| "no error".to_owned());
        assert!(message.contains(expected), "`{expected}` is not in: {message}");
    }

    #[test]
    fn mistakes_name_the_field_and_what_it_should_be() {
        check("[outbound]\nproxy = \"squid\"", "expected a forward proxy like");
        check("[outbound]\nport = 80", "unknown field");
        check("[idp]\ngrace_days = 0", "`idp.grace_days`");
        check("[idp]\ngrace_days = 31", "`idp.grace_days`");
        check("[idp]\ntimeout_ms = 1", "`idp.timeout_ms`");
        check("[idp]\ntimeout_ms = 60000", "`idp.timeout_ms`");
        check("[idp]\nremembered_max = 0", "`idp.remembered_max`");
        let missing = parse("[outbound]\nca_file = \"/nowhere/ca.pem\"").expect("read");
        let message = missing.outbound.settings().expect_err("no file").to_string();
        assert!(
            message.contains("`outbound.ca_file`: /nowhere/ca.pem"),
            "{message}"
        );
    }

    #[test]
    fn what_is_not_said_is_as_the_original_had_it() {
        let sections = parse("").expect("good");
        assert_eq!(sections.idp.grace(), GracePeriod::default());
        let url = "https://Persona.example".parse().expect("a URL");
        let settings = sections.idp.settings(Some(&url));
        assert_eq!(settings.own, Domain::parse("persona.example"));
        assert_eq!(settings.time_limit, Duration::from_secs(8));
        assert_eq!(sections.outbound.settings().expect("good").proxy, None);
        let proxied = parse("[outbound]\nproxy = \"http://squid:3128\"").expect("good");
        let written = toml::to_string(&proxied.outbound).expect("written");
        assert_eq!(written.trim(), "proxy = \"http://squid:3128\"");
    }
}
