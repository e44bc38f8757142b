//! What this build can read that not every version can.
//!
//! A member says what it can (in the cluster record, and in its hello). A new format is written only once every
//! member can read it *and* an operator has finalised it (`persona cluster finalise`): until then going back to the
//! version before is safe, and after that it is not.

use std::collections::BTreeSet;

use crdt::{ClusterView, MemberState};

/// Receipts that a cancelled account's data is gone from a site: a kind of cell that earlier versions do not know.
pub const ERASURE_RECEIPTS: &str = "erasure-receipts";

/// All that this build can read. Names are for good: one that was finalised somewhere is never given another meaning.
pub const KNOWN: [&str; 1] = [ERASURE_RECEIPTS];

/// The same, as it is advertised.
pub fn known() -> BTreeSet<String> {
    KNOWN.iter().map(|name| (*name).to_owned()).collect()
}

/// Why a feature cannot be finalised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFinalisable {
    /// Nobody here has heard of it.
    #[error("this build knows no feature `{0}`; `persona cluster features` lists those that it knows")]
    Unknown(String),
    /// A member could not read it.
    #[error("these members cannot read it yet: {}; update them first", .0.join(", "))]
    NotEverywhere(Vec<String>),
}

/// Sees whether every member that counts can read what a feature writes.
pub fn finalisable(cluster: &ClusterView, feature: &str) -> Result<(), NotFinalisable> {
    if !KNOWN.contains(&feature) {
        return Err(NotFinalisable::Unknown(feature.to_owned()));
    }
    let lacking: Vec<String> = cluster
        .members
        .values()
        .filter(|member| !member.is_out() && !member.features.contains(feature))
        .map(|member| member.name.clone())
        .collect();
    if lacking.is_empty() {
        Ok(())
    } else {
        Err(NotFinalisable::NotEverywhere(lacking))
    }
}

/// Who counts can read it, by name.
pub fn advertised_by<'v>(cluster: &'v ClusterView, feature: &str) -> Vec<&'v str> {
    cluster
        .members
        .values()
        .filter(|member| matches!(member.state, MemberState::Active | MemberState::Leaving))
        .filter(|member| member.features.contains(feature))
        .map(|member| member.name.as_str())
        .collect()
}
