//! What a seed chooses before anything happens.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{rng::Rng, trouble::Kind};

/// A world to be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Options {
    /// Decides everything else, here and as it happens.
    pub seed: u64,
    /// Places; several replicas may be in one.
    pub sites: usize,
    /// Processes with a disk each, members of the cluster.
    pub replicas: usize,
    /// What people do until the troubles end.
    pub deeds: usize,
    /// Addresses that they do it with: few, so that they get in each other's way.
    pub addresses: usize,
    /// How long the troubles last, in virtual time.
    pub storm: Duration,
    /// Whether replicas forget what every member has.
    pub trims: bool,
    /// A log that forgets lets the oldest go above this, also what some member lacks.
    pub log_bytes_max: u64,
    /// A replica with nothing copies a peer's data if that is of more transactions than this.
    pub log_catch_up_max: u64,
    /// Which troubles, and how bad: 1 to 3.
    pub troubles: BTreeMap<Kind, u32>,
    /// Bits flip in documents only.
    #[serde(default)]
    pub documents_only: bool,
    /// States of records to be repaired are those of the moment in which they arrive, not of the cut that was looked at: as
    /// of a sender that reads again before it sends. They may hold more than their receiver covers.
    #[serde(default)]
    pub late_states: bool,
}

/// Fault kinds in every world at least.
const TROUBLES_MIN: usize = 3;

impl Options {
    /// Everything, from a seed. Most worlds are small: what goes wrong in thirty replicas nearly always does in four.
    pub fn of(seed: u64) -> Options {
        let mut rng = Rng::stream(seed, 1);
        let replicas = match rng.below(100) {
            0..40 => 3,
            40..65 => 4,
            65..85 => 5,
            85..94 => rng.between(6, 8),
            94..99 => rng.between(9, 12),
            _ => rng.between(13, 30),
        };
        let large = replicas > 8;
        let sites = if rng.chance(25) {
            rng.between(2, replicas.min(10))
        } else {
            replicas.min(10)
        };
        let mut troubles = BTreeMap::new();
        let mut kinds: Vec<Kind> = Kind::ALL.to_vec();
        let count = TROUBLES_MIN + rng.below(4);
        while troubles.len() < count && !kinds.is_empty() {
            let kind = kinds.swap_remove(rng.below(kinds.len()));
            troubles.insert(kind, rng.between(1, 3) as u32);
        }
        let trims = rng.chance(60);
        Options {
            seed,
            sites,
            replicas,
            deeds: if large {
                rng.between(15, 40)
            } else {
                rng.between(40, 140)
            },
            addresses: rng.between(2, 10),
            storm: Duration::from_secs(if large {
                rng.between(8, 15)
            } else {
                rng.between(15, 50)
            } as u64),
            trims,
            log_bytes_max: if rng.chance(40) {
                rng.between(2000, 30_000) as u64
            } else {
                u64::MAX
            },
            log_catch_up_max: if rng.chance(60) {
                rng.between(0, 30) as u64
            } else {
                20_000
            },
            troubles,
            documents_only: false,
            late_states: rng.chance(30),
        }
    }

    /// A world without troubles, for stories that make their own.
    pub fn calm(seed: u64, replicas: usize) -> Options {
        Options {
            seed,
            sites: replicas.min(10),
            replicas,
            deeds: 0,
            addresses: 4,
            storm: Duration::ZERO,
            trims: true,
            log_bytes_max: u64::MAX,
            log_catch_up_max: 20_000,
            troubles: BTreeMap::new(),
            documents_only: false,
            late_states: false,
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} replicas in {} sites, {} deeds with {} addresses in {} s, log {}; troubles:",
            self.seed,
            self.replicas,
            self.sites,
            self.deeds,
            self.addresses,
            self.storm.as_secs(),
            if self.trims { "trimmed" } else { "kept" },
        )?;
        for (kind, intensity) in &self.troubles {
            write!(f, " {}:{intensity}", kind.name())?;
        }
        Ok(())
    }
}
