//! Who belongs to the cluster, and the key by which each member is known.
//!
//! The cluster record says it; `crdt::cluster` settles what it says. Here it is read for the gossip, and written.
//!
//! - [`own`]: which member this process is. [`identity`]: its key, and how that is replaced.
//! - [`token`]: an invitation. [`enrol`]: how whoever holds one becomes a member, from both sides.
//! - [`record`]: what this member and its operator write into the cluster record.
//! - [`keeper`]: the task that keeps this member's part of it right, and carries out what takes long: becoming
//!   active, leaving, replacing the key.
//! - [`features`]: what this build can read that not every version can.

pub mod enrol;
pub mod features;
pub mod found;
pub mod identity;
pub(crate) mod keeper;
pub mod own;
pub mod record;
pub mod token;

use std::collections::BTreeSet;

use crdt::{ClusterView, Member, MemberId, MemberState};

use self::own::Own;
pub use self::{
    identity::{IdentityError, MadeIdentity, make_identity},
    keeper::Standing,
};
use crate::{
    config::{MemberConfig, SiteConfig},
    store::{ReadError, Records, Store, TransactError},
};

/// Why the cluster record could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// The store could not read.
    #[error("the cluster record cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The store could not write.
    #[error("the cluster record cannot be written: {0}")]
    Write(#[from] TransactError),
}

/// What the cluster record says here.
pub fn cluster(store: &Store) -> Result<ClusterView, MembersError> {
    Ok(store.read(|records| records.cluster())??)
}

/// The same, to start with. One shared cause must not keep every site from starting: while the cluster record cannot
/// be read, the configured members stand in for it.
pub fn cluster_at_start(store: &Store) -> Result<ClusterView, MembersError> {
    match cluster(store) {
        Err(MembersError::Read(error @ (ReadError::Quarantined { .. } | ReadError::Corrupt(_)))) => {
            tracing::error!(%error, "the cluster record cannot be read here; the configured members stand in for it");
            Ok(ClusterView::default())
        }
        other => other,
    }
}

/// The members as this site sees them: those of the cluster record, and those that only its configuration or the
/// member that let it in has named, so that a start with an empty record can begin.
pub fn effective(config: &SiteConfig, own: &Own, keys: &[Vec<u8>], mut cluster: ClusterView) -> Vec<Member> {
    // Of a configuration that lists another life of this member, that life is no stand-in.
    let former = config.member.map(|member| member.0).filter(|id| *id != own.id);
    for listed in config.members.iter().filter(|listed| Some(listed.id.0) != former) {
        let entry = cluster
            .members
            .entry(listed.id.0)
            .or_insert_with(|| stand_in(listed));
        // An address may have moved since the record was written here; both are tried.
        for address in &listed.addresses {
            if !entry.addresses.contains(address) {
                entry.addresses.push(address.clone());
            }
        }
    }
    cluster.members.entry(own.id).or_insert_with(|| Member {
        name: own.name.clone(),
        site: own.site.clone(),
        addresses: own.addresses.clone(),
        keys: keys.to_vec(),
        state: own.begins,
        ..nobody(own.id)
    });
    cluster.members.into_values().collect()
}

fn stand_in(listed: &MemberConfig) -> Member {
    Member {
        name: listed.name.clone(),
        site: listed.site.clone(),
        keys: vec![listed.public_key.clone()],
        state: MemberState::Active,
        ..nobody(listed.id.0)
    }
}

fn nobody(id: MemberId) -> Member {
    Member {
        id,
        name: String::new(),
        site: String::new(),
        addresses: Vec::new(),
        keys: Vec::new(),
        state: MemberState::Joining,
        version: String::new(),
        features: BTreeSet::new(),
        admission: None,
        evicted: None,
    }
}

/// The members as the gossip takes them. A key that a member which is in shares with one that is out (it came back
/// with its old key) is that of the one that is in; that of a compromised one is nobody's, in none of its lives.
pub fn for_gossip(members: Vec<Member>) -> Vec<gossip::quic::MemberConfig> {
    let keys_of = |of: fn(&&Member) -> bool| -> BTreeSet<Vec<u8>> {
        let members = members.iter().filter(of);
        members.flat_map(|member| member.keys.iter().cloned()).collect()
    };
    let in_use = keys_of(|member| !member.is_out());
    let banned = keys_of(|member| member.is_compromised());
    let member = |mut member: Member| {
        if member.is_compromised() {
            member.addresses.clear();
        }
        let is_out = member.is_out();
        member
            .keys
            .retain(|key| !banned.contains(key) && (!is_out || !in_use.contains(key)));
        gossip::quic::MemberConfig {
            peer: gossip::Peer {
                id: gossip::MemberId(*member.id.as_bytes()),
                state: peer_state(&member),
                name: member.name,
                site: member.site,
            },
            addresses: member.addresses,
            keys: member.keys,
        }
    };
    members.into_iter().map(member).collect()
}

fn peer_state(member: &Member) -> gossip::PeerState {
    match member.state {
        _ if member.is_compromised() => gossip::PeerState::Banned,
        MemberState::Joining => gossip::PeerState::Joining,
        MemberState::Active => gossip::PeerState::Active,
        MemberState::Leaving => gossip::PeerState::Leaving,
        MemberState::Left => gossip::PeerState::Left,
        MemberState::Evicted => gossip::PeerState::Evicted,
    }
}

/// What a state is called in reports.
pub fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "joining",
        MemberState::Active => "active",
        MemberState::Leaving => "leaving",
        MemberState::Left => "left",
        MemberState::Evicted => "evicted",
    }
}

/// Why a member is out, in words; `None` if it is not.
pub fn why_out(member: &Member, cluster: &ClusterView) -> Option<String> {
    let name = |id: &MemberId| {
        let by = cluster.members.get(id).filter(|by| !by.name.is_empty());
        by.map_or_else(|| id.to_string(), |by| by.name.clone())
    };
    match (&member.evicted, member.state) {
        (_, MemberState::Left) => Some("it has left the cluster".to_owned()),
        (Some(eviction), MemberState::Evicted) => {
            let compromised = if eviction.compromised {
                " as compromised"
            } else {
                ""
            };
            let words = if eviction.words.is_empty() {
                String::new()
            } else {
                format!(" ({})", eviction.words)
            };
            Some(format!(
                "an operator of {} evicted it{compromised}{words}",
                name(&eviction.by)
            ))
        }
        (None, MemberState::Evicted) => {
            let twin = member.admission.and_then(|by| {
                let mut others = cluster.members.values();
                others.find(|other| {
                    other.id != member.id && other.admission.is_some_and(|other| other.token == by.token)
                })
            });
            Some(match twin {
                Some(twin) => format!("{} had used the same invitation before", name(&twin.id)),
                None => "an operator evicted it".to_owned(),
            })
        }
        _ => None,
    }
}
