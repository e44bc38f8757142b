//! What is written of signing keys into the cluster record, and what that means.
//!
//! Functions over a transaction and over what the record says, without a store of their own: whoever holds the private
//! halves may be another process. Every write here is urgent, as all of trust is.

use std::collections::BTreeMap;

use crdt::{ClusterView, ClusterWrite, Hlc, KeyField, KeyState, MemberId, MemberState};

use crate::{
    browserid::{P256Key, PublicKey, Usage, certificate},
    members::record::{RecordError, has_a_word, refused},
    session::device,
    store::{Records, TransactError, Txn},
};

/// What a process holds of one use. It names no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// What for.
    pub usage: Usage,
    /// The public halves of its keys, the oldest first.
    pub held: Vec<P256Key>,
    /// The key that it signs with at this moment.
    pub signs_with: Option<String>,
}

/// What a key that was offered is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Custody {
    /// It may not sign yet.
    Published,
    /// It may sign.
    Active,
    /// It signs no more.
    Retired,
    /// It verifies no more.
    Revoked,
    /// Another member's, or for another use: never to be used here.
    Foreign,
}

/// The answer to an [`Offer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// By `kid`, every key that was offered and the record knows.
    pub keys: BTreeMap<String, Custody>,
    /// A key should be made: there is none that signs or will, or an operator asked for the next one.
    pub wants_key: bool,
}

impl Settled {
    /// What a key is; `None` if it was not offered, or the record does not know it yet.
    pub fn custody(&self, kid: &str) -> Option<Custody> {
        self.keys.get(kid).copied()
    }
}

/// What a key is to whoever verifies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Where it is in its life.
    pub state: KeyState,
    /// Since when.
    pub since: Hlc,
}

/// Where a key stands. Its member's eviction counts also where the key was not known to whoever evicted: "wherever it
/// reaches" must not depend on which of the two was heard first.
pub fn standing(key: &crdt::SigningKey, cluster: &ClusterView) -> Standing {
    let own = Standing {
        state: key.state,
        since: key.since,
    };
    let member = key.member.and_then(|id| cluster.members.get(&id));
    let Some(eviction) = member.and_then(|member| member.evicted.as_ref()) else {
        return own;
    };
    let state = if eviction.compromised {
        KeyState::Revoked
    } else {
        KeyState::Retired
    };
    if state <= own.state {
        return own;
    }
    Standing {
        state,
        since: eviction.at.max(own.since),
    }
}

/// Until when anything that a key of this use signed may still be good once it signs no more, in milliseconds: nobody
/// asks for it after that. A session key also signs the device cookie, which outlives all sessions.
pub fn signed_lasts_ms(usage: Usage) -> u64 {
    let longest_ms = match usage {
        Usage::Session => device::REMEMBERED_MS,
        Usage::Certificate | Usage::Assertion => certificate::LIFETIME_MS,
    };
    longest_ms + LAST_SIGNATURE_MS
}

/// A key is said to be retired and may sign for a moment more, by a clock that may be off: an hour covers both.
const LAST_SIGNATURE_MS: u64 = 3_600_000;

/// Until when a key verifies, in milliseconds since 1970; `None` without an end.
pub fn verifies_until_ms(standing: Standing, usage: Usage) -> Option<u64> {
    match standing.state {
        KeyState::Published | KeyState::Active => None,
        KeyState::Retired => Some(standing.since.ms().saturating_add(signed_lasts_ms(usage))),
        KeyState::Revoked => Some(0),
    }
}

/// What the record should say of an offer's keys and does not. `everywhere` is the key that every member which was
/// heard has on disk, if any.
fn amendments(
    own: MemberId,
    offer: &Offer,
    everywhere: Option<&str>,
    cluster: &ClusterView,
) -> Vec<(String, KeyField)> {
    if !is_active(own, cluster) {
        return Vec::new();
    }
    let state = |kid: &str, state| (kid.to_owned(), KeyField::State(state));
    let held: Vec<(String, &P256Key)> = offer.held.iter().map(|key| (kid(key), key)).collect();
    let is_own = |key: &crdt::SigningKey| key.member == Some(own) && key.usage == offer.usage.name();
    let known = |kid: &str| cluster.keys.get(kid).filter(|key| is_own(key));
    let mut fields = Vec::new();
    for (kid, key) in &held {
        if !cluster.keys.contains_key(kid) {
            fields.push((kid.clone(), KeyField::Public(key.to_sec1().to_vec())));
            fields.push((kid.clone(), KeyField::Use(offer.usage.name().to_owned())));
            fields.push((kid.clone(), KeyField::Member(own)));
            fields.push(state(kid, KeyState::Published));
        }
    }
    let lost_all = !fields.is_empty() && held.iter().all(|(kid, _)| known(kid).is_none());
    if lost_all {
        let listed = cluster
            .keys
            .iter()
            .filter(|(_, key)| is_own(key) && key.state < KeyState::Retired);
        fields.extend(listed.map(|(kid, _)| state(kid, KeyState::Retired)));
        return fields;
    }
    let newest = held.iter().rposition(|(kid, _)| known(kid).is_some());
    if let Some((kid, _)) = newest.and_then(|newest| held.get(newest))
        && known(kid).is_some_and(|key| key.state == KeyState::Published)
        && everywhere == Some(kid)
    {
        fields.push(state(kid, KeyState::Active));
    }
    let signs_with = offer.signs_with.as_ref();
    let signer = held.iter().position(|(kid, _)| Some(kid) == signs_with);
    for (kid, _) in held.iter().take(signer.unwrap_or(0)) {
        if known(kid).is_some_and(|key| key.state < KeyState::Retired) {
            fields.push(state(kid, KeyState::Retired));
        }
    }
    fields
}

/// Whether the record says something else of these keys than it should.
pub fn is_settled(own: MemberId, offer: &Offer, everywhere: Option<&str>, cluster: &ClusterView) -> bool {
    amendments(own, offer, everywhere, cluster).is_empty()
}

/// Writes what the record should say of an offer's keys and does not.
pub fn settle(
    own: MemberId,
    offer: &Offer,
    everywhere: Option<&str>,
    txn: &mut Txn<'_>,
) -> Result<(), TransactError> {
    let cluster = txn.cluster()?;
    write(amendments(own, offer, everywhere, &cluster), &cluster, txn);
    Ok(())
}

fn write(fields: Vec<(String, KeyField)>, cluster: &ClusterView, txn: &mut Txn<'_>) {
    if fields.is_empty() {
        return;
    }
    let at = txn.stamp_past(cluster.latest);
    txn.urgent();
    for (kid, field) in fields {
        txn.write_cluster(ClusterWrite::Key { kid, at, field });
    }
}

/// What each key of an offer is by now. A member that is not active makes no keys.
pub fn answer(own: MemberId, offer: &Offer, rotate: bool, cluster: &ClusterView) -> Settled {
    let custody = |kid: &String| {
        let key = cluster.keys.get(kid)?;
        let is_own = key.member == Some(own) && key.usage == offer.usage.name();
        Some(match standing(key, cluster).state {
            // Also one of this member's earlier life, which is over: that is no reason for an alarm.
            KeyState::Retired => Custody::Retired,
            KeyState::Revoked => Custody::Revoked,
            _ if !is_own => Custody::Foreign,
            KeyState::Published => Custody::Published,
            KeyState::Active => Custody::Active,
        })
    };
    let held: Vec<String> = offer.held.iter().map(kid).collect();
    let mut keys = BTreeMap::new();
    for kid in &held {
        if let Some(custody) = custody(kid) {
            keys.insert(kid.clone(), custody);
        }
    }
    let lives = |kid: &String| {
        // One that the record does not know yet is about to be published.
        matches!(keys.get(kid), None | Some(Custody::Published | Custody::Active))
    };
    Settled {
        wants_key: is_active(own, cluster) && (rotate || !held.iter().any(lives)),
        keys,
    }
}

/// Retires all keys of a member that is on its way out, with the write that says so.
pub(crate) fn retire_all(member: MemberId, cluster: &ClusterView, txn: &mut Txn<'_>) {
    let listed = cluster
        .keys
        .iter()
        .filter(|(_, key)| key.member == Some(member) && key.state < KeyState::Retired);
    let fields = listed.map(|(kid, _)| (kid.clone(), KeyField::State(KeyState::Retired)));
    write(fields.collect(), cluster, txn);
}

/// Revokes a key, whosever it is: for good. Only an active member has a word in whom to trust. True if it was not
/// revoked before.
pub fn revoke(own: MemberId, kid: &str, txn: &mut Txn<'_>) -> Result<bool, RecordError> {
    let cluster = txn.cluster()?;
    has_a_word(own, &cluster)?;
    let Some(key) = cluster.keys.get(kid) else {
        return refused(format!("no key is called `{kid}`; `persona key list` lists them"));
    };
    if key.state == KeyState::Revoked {
        return Ok(false);
    }
    write(
        vec![(kid.to_owned(), KeyField::State(KeyState::Revoked))],
        &cluster,
        txn,
    );
    Ok(true)
}

/// Finds a key by its name, or by the beginning of its name.
pub fn named<'c>(
    cluster: &'c ClusterView,
    beginning: &str,
) -> Result<(&'c str, &'c crdt::SigningKey), RecordError> {
    if let Some((kid, key)) = cluster.keys.get_key_value(beginning) {
        return Ok((kid, key));
    }
    let mut found = cluster
        .keys
        .iter()
        .filter(|(kid, _)| beginning.len() >= BEGINNING_BYTES_MIN && kid.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some((kid, key)), None) => Ok((kid, key)),
        (None, _) => refused(format!(
            "no key is called `{beginning}`, nor begins with that; `persona key list` lists them"
        )),
        (Some(_), Some(_)) => refused(format!(
            "several keys begin with `{beginning}`: give more of its name"
        )),
    }
}

/// Shorter beginnings name nothing.
const BEGINNING_BYTES_MIN: usize = 6;

fn is_active(own: MemberId, cluster: &ClusterView) -> bool {
    let known = cluster.members.get(&own);
    known.is_some_and(|known| known.state == MemberState::Active)
}

fn kid(key: &P256Key) -> String {
    PublicKey::P256(key.clone()).thumbprint()
}
