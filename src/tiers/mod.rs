//! The parts that a data center is made of, as processes of their own or all in one.
//!
//! | tier | does | asks |
//! | --- | --- | --- |
//! | [`webhead`](crate::webhead) | what strangers reach: pages, the read calls, the verifier | replica (reads only), secure webhead, keysigner |
//! | [`secure webhead`](crate::secure_webhead) | hashes passwords, signs sessions, writes, sends mail | replica |
//! | [`keysigner`](crate::keysigner) | certificates, after checking everything itself | replica (reads only) |
//! | replica | the database | its peers, by gossip |
//!
//! A tier asks another through an [`Upstream`], or a [`Replica`](crate::identity::Replica): in the same process that is a
//! function call, else HTTP with mutual TLS. There a certificate names site and tier ([`certificates`]), and each listener
//! lists the tiers that it takes ([`internal`]). So who has taken over a webhead has what a webhead may: no session, no
//! certificate and no write comes out of its files.

pub mod apart;
pub mod certificates;
pub mod construction;
pub mod discovery_api;
pub mod internal;
pub mod keys;
pub mod replica_api;
pub mod together;
pub mod upstream;
mod wellbeing;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::upstream::Upstream;

/// A role that a process plays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// What strangers reach.
    Webhead,
    /// Signs sessions and writes.
    SecureWebhead,
    /// Signs certificates.
    Keysigner,
    /// The database.
    Replica,
}

impl Tier {
    /// Every one.
    pub const ALL: [Tier; 4] = [Tier::Webhead, Tier::SecureWebhead, Tier::Keysigner, Tier::Replica];

    /// As the command line and certificates have it.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Webhead => "webhead",
            Tier::SecureWebhead => "secure-webhead",
            Tier::Keysigner => "keysigner",
            Tier::Replica => "replica",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected webhead, secure-webhead, keysigner or replica")]
pub struct NoTier;

impl FromStr for Tier {
    type Err = NoTier;

    fn from_str(text: &str) -> Result<Tier, NoTier> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == text)
            .ok_or(NoTier)
    }
}
