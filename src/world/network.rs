//! The network as it is meant to be between the sites: distances, and what is cut.
//!
//! The sites themselves delay and drop datagrams (no root is needed for that); this is where it is decided.
//! A cut of a pair and a site's being apart are kept separately, so that healing the site does not heal a pair
//! that was cut for itself.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::plan::{Plan, PlannedSite};

/// How a site treats datagrams to and from one address: an entry of `[lab]` `links`, and of `PUT /lab/links`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Link {
    address: SocketAddr,
    delay_us: u64,
    jitter_us: u64,
    loss: f64,
    cut_out: bool,
    cut_in: bool,
}

/// How much of a pair is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PairCut {
    /// Nothing.
    None,
    /// What the first sends does not reach the second.
    OneWay,
    /// Neither hears the other.
    Both,
}

/// Distances and cuts of all the sites.
pub(crate) struct Network {
    addresses: Vec<SocketAddr>,
    loss: f64,
    jitter: f64,
    /// Sites that nobody hears, and that hear nobody.
    apart: BTreeSet<usize>,
    /// (from, to): what is sent that way is lost.
    cut: BTreeSet<(usize, usize)>,
    /// A second process of a site, at its own address, as far away as the first.
    twin: Option<(usize, SocketAddr)>,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Network {
        Network {
            addresses: plan.sites.iter().map(|site| site.gossip).collect(),
            loss: plan.settings.loss,
            jitter: plan.settings.jitter,
            apart: BTreeSet::new(),
            cut: BTreeSet::new(),
            twin: None,
        }
    }

    /// From now on there is a second process of this site.
    pub(crate) fn set_twin(&mut self, twin: Option<&PlannedSite>) {
        self.twin = twin.map(|site| (site.index, site.gossip));
    }

    /// From now on this place is reached at another address.
    pub(crate) fn set_address(&mut self, site: usize, address: SocketAddr) {
        if let Some(known) = self.addresses.get_mut(site) {
            *known = address;
        }
    }

    /// Parts a site from all others, or joins it again.
    pub(crate) fn set_apart(&mut self, site: usize, apart: bool) {
        if apart {
            self.apart.insert(site);
        } else {
            self.apart.remove(&site);
        }
    }

    /// Says what is cut between two sites.
    pub(crate) fn set_pair(&mut self, from: usize, to: usize, cut: PairCut) {
        self.cut.remove(&(from, to));
        self.cut.remove(&(to, from));
        if cut != PairCut::None {
            self.cut.insert((from, to));
        }
        if cut == PairCut::Both {
            self.cut.insert((to, from));
        }
    }

    /// Removes every cut.
    pub(crate) fn heal(&mut self) {
        self.apart.clear();
        self.cut.clear();
    }

    /// Whether this site was parted from all others.
    pub(crate) fn is_apart(&self, site: usize) -> bool {
        self.apart.contains(&site)
    }

    /// Whether what is sent this way is lost.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to)) || self.apart.contains(&from) || self.apart.contains(&to)
    }

    /// All the links of one site: the whole list that it should obey from now on.
    pub(crate) fn links_of(&self, site: usize) -> Vec<Link> {
        let others = self
            .addresses
            .iter()
            .copied()
            .enumerate()
            .filter(|(other, _)| *other != site);
        let twin = self.twin.filter(|(of, _)| *of != site);
        others
            .chain(twin)
            .map(|(other, address)| self.link(site, other, address))
            .collect()
    }

    fn link(&self, site: usize, other: usize, address: SocketAddr) -> Link {
        let delay = one_way(site, other);
        Link {
            address,
            delay_us: micros(delay),
            jitter_us: micros(delay.mul_f64(self.jitter)),
            loss: self.loss,
            cut_out: self.is_cut(site, other),
            cut_in: self.is_cut(other, site),
        }
    }
}

/// What a datagram takes from one site to another.
pub(crate) fn one_way(from: usize, to: usize) -> Duration {
    gossip::regions::round_trip(from, to) / 2
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Jitter, as a share of the one-way delay: inter-region backbones vary by a few percent.
pub(crate) const JITTER_SHARE: f64 = 0.02;
