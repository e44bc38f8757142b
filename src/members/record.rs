//! What a member and its operator write into the cluster record.
//!
//! Every write here is urgent: what says who is trusted must be writable on a full disk, and however often the record
//! was changed.

use std::collections::BTreeSet;

use crdt::{
    ClusterView, ClusterWrite, Hlc, Invite, KeyField, KeyState, Member, MemberField, MemberId, MemberState,
    TokenHash,
};
use gossip::Dot;

use super::{MembersError, cluster, features, features::NotFinalisable, own::Own, state_name};
use crate::{
    keyring,
    store::{Records, Store, TransactError, Txn},
};

/// An invitation may stand this long at most, in milliseconds: a week.
pub const INVITE_VALID_MAX_MS: u64 = 7 * 24 * 3_600_000;
/// Invitations open at once.
pub const INVITES_OPEN_MAX: usize = 64;
/// Of the words that say why a member was evicted, in bytes.
pub const WORDS_BYTES_MAX: usize = 256;

/// Why something was not written into the cluster record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The rules of membership.
    #[error("{0}")]
    Refused(String),
    /// Of features.
    #[error(transparent)]
    Feature(#[from] NotFinalisable),
}

impl From<TransactError> for RecordError {
    fn from(error: TransactError) -> RecordError {
        RecordError::Members(error.into())
    }
}

impl From<crate::store::ReadError> for RecordError {
    fn from(error: crate::store::ReadError) -> RecordError {
        RecordError::Members(error.into())
    }
}

pub(crate) fn refused<T>(words: impl Into<String>) -> Result<T, RecordError> {
    Err(RecordError::Refused(words.into()))
}

/// Stages the fields of a member, past everything in the record.
pub(super) fn write_member(txn: &mut Txn<'_>, id: MemberId, at: Hlc, fields: Vec<MemberField>) {
    txn.urgent();
    for field in fields {
        txn.write_cluster(ClusterWrite::Member { id, at, field });
    }
}

/// What this member's own entry should say and does not. Who goes back to an older build says that it can less; what was
/// finalised it can, or it would not have started.
fn amendments(own: &Own, keys: &[Vec<u8>], known: Option<&Member>) -> Vec<MemberField> {
    let differs = |differs: fn(&Member, &Own) -> bool| known.is_none_or(|known| differs(known, own));
    let mut fields = Vec::new();
    if differs(|known, own| known.name != own.name) {
        fields.push(MemberField::Name(own.name.clone()));
    }
    if differs(|known, own| known.site != own.site) {
        fields.push(MemberField::Site(own.site.clone()));
    }
    if differs(|known, own| known.addresses != own.addresses) {
        fields.push(MemberField::Addresses(own.addresses.clone()));
    }
    if known.is_none_or(|known| known.keys != keys) {
        let key = |place: usize| keys.get(place).cloned().unwrap_or_default();
        fields.push(MemberField::Key(key(0)));
        fields.push(MemberField::NextKey(key(1)));
    }
    if known.is_none_or(|known| known.version != VERSION) {
        fields.push(MemberField::Version(VERSION.to_owned()));
    }
    if known.is_none_or(|known| known.features != features::known()) {
        fields.push(MemberField::Features(features::known()));
    }
    if known.is_none() {
        fields.push(MemberField::State(own.begins));
    }
    fields
}

/// Of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes this member's own entry say what is so, if it says otherwise. True if it wrote.
pub async fn register(own: &Own, keys: &[Vec<u8>], store: &Store) -> Result<bool, MembersError> {
    if amendments(own, keys, cluster(store)?.members.get(&own.id)).is_empty() {
        return Ok(false);
    }
    let (own, keys) = (own.clone(), keys.to_vec());
    let written = store
        .transact(move |txn| -> Result<(), TransactError> {
            let cluster = txn.cluster()?;
            let at = txn.stamp_past(cluster.latest);
            let fields = amendments(&own, &keys, cluster.members.get(&own.id));
            write_member(txn, own.id, at, fields);
            Ok(())
        })
        .await?;
    Ok(written.dot.is_some())
}

/// Moves this member's own state forward.
pub async fn advance(own: MemberId, state: MemberState, store: &Store) -> Result<(), RecordError> {
    store
        .transact(move |txn| {
            let cluster = txn.cluster()?;
            let known = cluster.members.get(&own).map(|member| member.state);
            if known == Some(state) {
                return Ok(());
            }
            if known.is_none_or(|known| known > state) {
                let known = known.map_or("unknown", state_name);
                return refused(format!(
                    "this member is {known}, and cannot become {}",
                    state_name(state)
                ));
            }
            let at = txn.stamp_past(cluster.latest);
            write_member(txn, own, at, vec![MemberField::State(state)]);
            if state >= MemberState::Leaving {
                keyring::record::retire_all(own, &cluster, txn);
            }
            Ok(())
        })
        .await?;
    Ok(())
}

/// Begins to leave. The last active member cannot: nobody would be there to take what it has.
pub async fn begin_to_leave(own: MemberId, store: &Store) -> Result<(), RecordError> {
    let cluster = cluster(store)?;
    let others = cluster
        .members
        .values()
        .any(|member| member.id != own && member.state == MemberState::Active);
    if !others {
        return refused("no other member is active: what is here would be nowhere");
    }
    advance(own, MemberState::Leaving, store).await
}

/// Opens an invitation. Only an active member has a word in who joins.
pub async fn invite(
    own: MemberId,
    token: TokenHash,
    valid_ms: u64,
    store: &Store,
) -> Result<Invite, RecordError> {
    if valid_ms == 0 || valid_ms > INVITE_VALID_MAX_MS {
        return refused("an invitation stands for a week at most");
    }
    let invited = store
        .transact(move |txn| {
            let cluster = txn.cluster()?;
            has_a_word(own, &cluster)?;
            let used: BTreeSet<TokenHash> = used(&cluster);
            let open = cluster
                .invites
                .iter()
                .filter(|(token, invite)| invite.expires_ms > txn.now_ms() && !used.contains(*token));
            if open.count() >= INVITES_OPEN_MAX {
                return refused(format!("{INVITES_OPEN_MAX} invitations are open already"));
            }
            let at = txn.stamp_past(cluster.latest);
            let invite = Invite {
                by: own,
                expires_ms: txn.now_ms().saturating_add(valid_ms),
            };
            txn.urgent();
            txn.write_cluster(ClusterWrite::Invite { token, at, invite });
            Ok(invite)
        })
        .await?;
    Ok(invited.value)
}

/// Invitations by which somebody has come.
pub fn used(cluster: &ClusterView) -> BTreeSet<TokenHash> {
    let admissions = cluster.members.values().filter_map(|member| member.admission);
    admissions.map(|admission| admission.token).collect()
}

/// Only an active member has a word in who belongs to the cluster and in whom to trust.
pub(crate) fn has_a_word(own: MemberId, cluster: &ClusterView) -> Result<(), RecordError> {
    match cluster.members.get(&own).map(|member| member.state) {
        Some(MemberState::Active) => Ok(()),
        state => refused(format!(
            "this member is {}; only an active one has a word in who is a member",
            state.map_or("not in the cluster record yet", state_name)
        )),
    }
}

/// Finds a member that is not out by its name or id.
pub fn named<'m>(
    members: impl IntoIterator<Item = &'m Member>,
    name: &str,
) -> Result<&'m Member, RecordError> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for member in members {
        if member.id.to_string() == name {
            return Ok(member);
        }
        if member.name == name {
            if member.is_out() {
                &mut outside
            } else {
                &mut inside
            }
            .push(member);
        }
    }
    match (inside.as_slice(), outside.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one),
        ([], []) => refused(format!(
            "no member is called `{name}`; `persona cluster members` lists them"
        )),
        _ => refused(format!(
            "several members are called `{name}`: name the one you mean by its id"
        )),
    }
}

/// Puts a member out, and takes its signing keys out of use. `target` is the member as this site sees it: one that
/// only configurations list is written down first, so that there is something to be evicted.
pub async fn evict(
    own: MemberId,
    target: Member,
    compromised: bool,
    words: String,
    store: &Store,
) -> Result<Option<Dot>, RecordError> {
    if target.id == own {
        return refused("a member does not evict itself: `persona cluster leave` is for that");
    }
    if words.len() > WORDS_BYTES_MAX {
        return refused(format!("the reason may have {WORDS_BYTES_MAX} bytes"));
    }
    let evicted = store
        .transact(move |txn| {
            let cluster = txn.cluster()?;
            has_a_word(own, &cluster)?;
            let known = cluster.members.get(&target.id);
            let done = known
                .is_some_and(|known| known.evicted.is_some() && (known.is_compromised() || !compromised));
            if done {
                return Ok(());
            }
            if known.is_some_and(|known| known.state == MemberState::Left && !compromised) {
                return refused(format!("{} has left already", target.name));
            }
            // This member's own word keeps the time when it was first said, however it may turn worse.
            let said = known
                .and_then(|known| known.evicted.as_ref())
                .filter(|said| said.by == own);
            let at = match said {
                Some(said) => said.at,
                None => txn.stamp_past(cluster.latest),
            };
            let mut fields = Vec::new();
            if known.is_none() {
                fields.push(MemberField::Name(target.name.clone()));
                fields.push(MemberField::Site(target.site.clone()));
                fields.extend(target.keys.first().cloned().map(MemberField::Key));
            }
            fields.push(MemberField::Evicted {
                by: own,
                compromised,
                words,
            });
            write_member(txn, target.id, at, fields);
            let state = if compromised {
                KeyState::Revoked
            } else {
                KeyState::Retired
            };
            for (kid, key) in &cluster.keys {
                if key.member == Some(target.id) && key.state < state {
                    let (kid, field) = (kid.clone(), KeyField::State(state));
                    txn.write_cluster(ClusterWrite::Key { kid, at, field });
                }
            }
            Ok(())
        })
        .await?;
    Ok(evicted.dot)
}

/// Finalises a feature. True if it was not before.
pub async fn finalise(own: MemberId, feature: String, store: &Store) -> Result<bool, RecordError> {
    let finalised = store
        .transact(move |txn| -> Result<(), RecordError> {
            let cluster = txn.cluster()?;
            if cluster.finalised(&feature) {
                return Ok(());
            }
            has_a_word(own, &cluster)?;
            features::finalisable(&cluster, &feature)?;
            let at = txn.stamp_past(cluster.latest);
            txn.urgent();
            txn.write_cluster(ClusterWrite::Setting {
                name: crdt::cluster::feature_setting(&feature),
                at,
                value: vec![1],
            });
            Ok(())
        })
        .await?;
    Ok(finalised.dot.is_some())
}
