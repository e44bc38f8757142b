//! Who is in, when a cut world's halves had different opinions.
//!
//! Both are settled by one order over all that was said, the same at every replica that has heard the same:
//!
//! - *Invitations* admit one. Of several members that used the same one, the one that used it first is in, by (HLC,
//!   id); the others are out from the beginning, and have no word.
//! - *Evictions* are taken in the order of (HLC, evicted, evictor). One counts only if its evictor is not itself
//!   counted out by then: of two halves that evict each other, the first to say so stays, and the others' later words
//!   are void. One that would leave nobody active does not count either (its evictor may have left since).
//!
//! Promise: if anyone is active before evictions, somebody is after them. An eviction that comes to be known late
//! can void others that counted before: then who was out is in again. A member that heard so and has joined anew by
//! then is *left* in its old life, which no order takes back.

use std::collections::{BTreeMap, BTreeSet};

use super::{Eviction, Member, MemberState, TokenHash};
use crate::hlc::Hlc;
use crate::id::MemberId;
use crate::planted::{self, Bug};

/// Settles who is in. What members were found with is what each said of itself; `said` is who was evicted, and how.
pub(super) fn settle(members: &mut BTreeMap<MemberId, Member>, mut said: Vec<(MemberId, Eviction)>) {
    let turned_away = turned_away(members);
    for id in &turned_away {
        if let Some(member) = members.get_mut(id) {
            member.state = MemberState::Evicted;
        }
    }
    let mut active = members
        .values()
        .filter(|member| member.state == MemberState::Active)
        .count();
    said.sort_unstable_by(|(id, eviction), (other, later)| {
        (eviction.at, id, eviction).cmp(&(later.at, other, later))
    });
    let all_count = planted::is(Bug::BothHalvesOut);
    for (id, eviction) in said {
        let has_word = members
            .get(&eviction.by)
            .is_some_and(|by| by.id != id && (by.state != MemberState::Evicted || all_count));
        let Some(member) = members.get_mut(&id).filter(|_| has_word) else {
            continue;
        };
        match &mut member.evicted {
            // The first stands; whoever has a word may add that the key is not to be trusted.
            Some(first) => first.compromised |= eviction.compromised,
            None if member.state == MemberState::Active && active == 1 => {}
            None => {
                active -= usize::from(member.state == MemberState::Active);
                member.state = MemberState::Evicted;
                member.evicted = Some(eviction);
            }
        }
    }
}

/// Those whose invitation somebody else had used before them.
fn turned_away(members: &BTreeMap<MemberId, Member>) -> BTreeSet<MemberId> {
    let mut first: BTreeMap<TokenHash, (Hlc, MemberId)> = BTreeMap::new();
    let used = |member: &Member| member.admission.map(|by| (by.token, (by.at, member.id)));
    for (token, by) in members.values().filter_map(used) {
        let first = first.entry(token).or_insert(by);
        *first = by.min(*first);
    }
    members
        .values()
        .filter_map(used)
        .filter(|(token, by)| first.get(token) != Some(by))
        .map(|(_, (_, id))| id)
        .collect()
}
