//! Laboratory only: what is otherwise here than where the service runs in earnest: `[lab]`.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::OutboundConfigError;
use crate::{browserid::Domain, outbound::Lab, public_url::PublicUrl};

/// What is otherwise in a laboratory.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabConfig {
    /// How often each peer is compared with, in milliseconds, where that is not to be as in earnest.
    pub look_interval_ms: Option<u64>,
    /// Domains that certify their own users, and where each answers over TLS: `"idp.localhost" = "127.0.0.1:9443"`. With
    /// any of them there are no others: whatever else is asked for has no address, and that is known at once. A machine
    /// without a name server would wait for that.
    pub idps: BTreeMap<String, SocketAddr>,
    /// Where browsers reach the pages of those domains: `"idp.localhost" = "http://idp.localhost:9442"`. No browser trusts a
    /// laboratory's certificate, and it must not have to listen on port 443.
    pub idp_pages: BTreeMap<String, PublicUrl>,
    /// Links that are not as the machine's own network is.
    pub links: Vec<LinkConfig>,
}

/// The shape of one link, seen from here.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// The peer's UDP address.
    pub address: SocketAddr,
    /// How long a datagram to it takes, in microseconds.
    #[serde(default)]
    pub delay_us: u64,
    /// How much longer it may take, in microseconds.
    #[serde(default)]
    pub jitter_us: u64,
    /// Share of datagrams to it that are lost.
    #[serde(default)]
    pub loss: f64,
    /// Nothing reaches it.
    #[serde(default)]
    pub cut_out: bool,
    /// Nothing comes from it.
    #[serde(default)]
    pub cut_in: bool,
}

impl From<&LinkConfig> for gossip::quic::Link {
    fn from(link: &LinkConfig) -> Self {
        gossip::quic::Link {
            delay: Duration::from_micros(link.delay_us),
            jitter: Duration::from_micros(link.jitter_us),
            loss: link.loss,
            cut_out: link.cut_out,
            cut_in: link.cut_in,
        }
    }
}

impl LabConfig {
    pub(super) fn check(&self) -> Result<(), OutboundConfigError> {
        let wrong = |field, expected| Err(OutboundConfigError::Field { field, expected });
        if self.idps.keys().any(|name| Domain::parse(name).is_none()) {
            return wrong("lab.idps", "each should be a domain and the address of its host");
        }
        if self.idps.len() > IDPS_MAX || self.idps.values().any(|address| !address.ip().is_loopback()) {
            return wrong("lab.idps", "should be at most 100 hosts, on this machine");
        }
        if self.idp_pages.keys().any(|name| !self.idps.contains_key(name)) {
            return wrong("lab.idp_pages", "should be of domains that `lab.idps` has");
        }
        Ok(())
    }

    /// The hosts that there are; `None`: those of the internet.
    pub(super) fn hosts(&self) -> Option<Lab> {
        let hosts = self.idps.iter();
        let hosts = hosts.filter_map(|(name, address)| Some((Domain::parse(name)?, *address)));
        (!self.idps.is_empty()).then(|| Lab::of_hosts(hosts))
    }

    /// Where pages are, by domain.
    pub(super) fn pages(&self) -> BTreeMap<Domain, PublicUrl> {
        let pages = self.idp_pages.iter();
        pages
            .filter_map(|(name, at)| Some((Domain::parse(name)?, at.clone())))
            .collect()
    }
}

/// Each has an address of its own.
const IDPS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let config: LabConfig = toml::from_str(text).expect("a section");
        let refused = config.check().err().map(|error| error.to_string());
        match expected {
            None => assert_eq!(refused, None, "{text}"),
            Some(field) => assert!(refused.is_some_and(|words| words.contains(field)), "{text}"),
        }
    }

    #[test]
    fn idps_are_domains_on_this_machine() {
        check("", None);
        check("idps = { \"idp.localhost\" = \"127.0.0.1:9443\" }", None);
        check("idps = { \"a:b\" = \"127.0.0.1:9443\" }", Some("`lab.idps`"));
        check(
            "idps = { \"idp.localhost\" = \"192.0.2.1:443\" }",
            Some("`lab.idps`"),
        );
        check(
            "idp_pages = { \"idp.localhost\" = \"http://idp.localhost:1\" }",
            Some("`lab.idp_pages`"),
        );
    }
}
