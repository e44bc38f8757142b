//! An email address's record: who claims it, who let it go, and who has it.
//!
//! One field, `claim`, holds a claim or a release; writing it replaces every value that its writer saw. So
//! each value carries on the releases that it replaces: a concurrent claim that was released must not come
//! back because a later value took the release's place. A release replaces like any other value: it ends every
//! claim that its writer saw, those of others too, also unverified ones that come before the released account's.
//! So only the owner lets go; a loser that goes away leaves its claim, which then counts for nothing.
//!
//! Promise: an address has at most one owner in any view, and the same one wherever the heads are the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::{AccountId, VaultId};

/// An account says that an address is its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who.
    pub account: AccountId,
    /// The address as typed, in the vault.
    pub vault: VaultId,
    /// When control of the address was proven: the staging's HLC, for only a proof of control raises it.
    pub proof: Hlc,
    /// When the claim was completed.
    pub done: Hlc,
    /// The account's resets then. The claim is verified only while they are still the account's.
    pub resets: u32,
    /// Who vouched for it.
    pub by: ClaimedBy,
    /// The releases that this value carries on. [`Document::write`](crate::Document::write) fills it in; in a
    /// view it is empty, since [`EmailView::released`] has them all.
    pub released: Vec<Released>,
}

/// Who vouched for a claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ClaimedBy {
    /// A mail was answered.
    Mail,
    /// The address's own domain certified it.
    Idp,
    /// An operator did it by hand.
    Operator,
    /// Written by a newer version.
    Other(u8),
}

/// An account let an address go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Released {
    /// Who.
    pub account: AccountId,
    /// Voids that account's claims with proof up to here, concurrent or not.
    pub at: Hlc,
    /// The greatest proof among the claims that it ended; zero if it saw none.
    pub proof: Hlc,
}

/// One field of an email's record, written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EmailWrite {
    /// An account claims the address, in place of all that is known of.
    Claim(Claim),
    /// The account that owns the address lets it go. Nobody else may: every claim that is known of ends with it.
    Release {
        /// Who.
        account: AccountId,
        /// When: greater than [`EmailView::latest`], but in a [collapse](EmailView::collapse).
        at: Hlc,
    },
    /// What the owner uses it as.
    UsedAs(UsedAs, Hlc),
}

/// What an owner uses an address as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum UsedAs {
    /// Its domain's own identity provider vouched for it.
    Primary,
    /// The fallback did, by mail.
    Secondary,
}

/// The most releases that a value carries on; beyond it the earliest are dropped.
pub const RELEASED_MAX: usize = 64;

/// What an email's record says. Who owns the address also depends on the accounts: [`EmailView::owner`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EmailView {
    /// Surviving and not void, in the record's own order: greatest proof, smaller account, earliest done,
    /// smaller vault id.
    pub claims: Vec<Claim>,
    /// Every release that a surviving value is or carries, by account.
    pub released: Vec<Released>,
    /// The latest.
    pub used_as: Option<(UsedAs, Hlc)>,
    /// How many changes the record has had.
    pub changes: u32,
    /// Surviving values that could not be read. While there are any, nothing this record may name should be
    /// erased, and what it says should not be relied on.
    pub unreadable: u32,
}

/// What its own record says of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// For good.
    pub cancelled: bool,
    /// [`AccountView::resets`](crate::AccountView::resets).
    pub resets: u32,
}

/// Who has an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership<'a> {
    /// Nobody: whoever proves it may have it.
    Free,
    /// One account.
    Held {
        /// Its claim in force.
        claim: &'a Claim,
        /// The claim is of the account's present resets. One that is not can neither reset the account nor be
        /// certified.
        verified: bool,
    },
}

impl EmailView {
    /// Who has the address. `standing` tells what the record of an account says, and is asked only of accounts
    /// that matter here.
    ///
    /// Verified claims come first, then the greatest proof. If the winner is cancelled the address is free: a
    /// claim that lost does not return, nor does one that comes after what a cancelled account let go (the
    /// release may not have seen it). A cancelled account that had not won takes nothing from who has: its claim
    /// keeps out only what it would beat itself, were the account still there.
    pub fn owner<E>(
        &self,
        mut standing: impl FnMut(AccountId) -> Result<Standing, E>,
    ) -> Result<Ownership<'_>, E> {
        let Some(last) = self.claims.last().map(|claim| place(claim.proof, claim.account)) else {
            return Ok(Ownership::Free);
        };
        // The first place that a cancelled account let go; only a claim before it counts.
        let mut gone = None;
        for released in &self.released {
            let place = place(released.proof, released.account);
            if place <= gone.unwrap_or(last) && standing(released.account)?.cancelled {
                gone = Some(place);
            }
        }
        let counts = |claim: &&Claim| gone.is_none_or(|gone| place(claim.proof, claim.account) < gone);
        // `claims` is in order already, so the first verified one wins, else the first.
        let mut first: Option<Ownership<'_>> = None;
        let mut asked: Option<(AccountId, Standing)> = None;
        for claim in self.claims.iter().filter(counts) {
            let its = match asked {
                Some((account, its)) if account == claim.account => its,
                _ => standing(claim.account)?,
            };
            asked = Some((claim.account, its));
            let verified = claim.resets == its.resets;
            match (its.cancelled, verified) {
                (false, true) => return Ok(Ownership::Held { claim, verified }),
                (false, false) => first = first.or(Some(Ownership::Held { claim, verified })),
                // It beats all that come after it, but not an unverified one before it: that one's greater proof
                // had won, and a reset does not hand its address to the cancelled.
                (true, true) => break,
                // It beats the unverified ones after it.
                (true, false) => first = first.or(Some(Ownership::Free)),
            }
        }
        Ok(first.unwrap_or(Ownership::Free))
    }

    /// What of the vault this record keeps alive: what the claims name whose accounts are not cancelled,
    /// losers included. Sorted.
    pub fn names<E>(
        &self,
        mut cancelled: impl FnMut(AccountId) -> Result<bool, E>,
    ) -> Result<Vec<VaultId>, E> {
        let mut ids = Vec::with_capacity(self.claims.len());
        let mut last: Option<(AccountId, bool)> = None;
        for claim in &self.claims {
            let gone = match last {
                Some((account, gone)) if account == claim.account => gone,
                _ => cancelled(claim.account)?,
            };
            last = Some((claim.account, gone));
            if !gone {
                ids.push(claim.vault);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// What to write so that nothing but the address in force is named any more; `None` if nothing else is.
    ///
    /// Losers go by this *collapse*: the winner's claim is written once more, as it is, and supersedes them. Its
    /// vault id is still the old one; whoever writes it puts the address under a new one. Proof, `done` and resets
    /// stay, so nothing is decided anew: what is still on its way meets what it would have met.
    ///
    /// Where a cancelled account made the address free, the claims that lost to it are still named, and no claim
    /// may be written in their place. Then it is that account's release, which its cancellation would have written
    /// had it seen them.
    ///
    /// Both follow from the record and the accounts alone: sites that do it at once write the same.
    pub fn collapse<E>(
        &self,
        mut standing: impl FnMut(AccountId) -> Result<Standing, E>,
    ) -> Result<Option<EmailWrite>, E> {
        // A single claim that nobody ever let go is in force, or its account is cancelled.
        let alone = self.claims.len() == 1 && self.released.is_empty();
        if self.unreadable > 0 || self.claims.is_empty() || alone {
            return Ok(None);
        }
        let named = self.names(|account| Ok(standing(account)?.cancelled))?;
        let winner = match self.owner(&mut standing)? {
            Ownership::Held { claim, .. } => Some(claim),
            Ownership::Free => None,
        };
        if named
            .iter()
            .all(|id| winner.is_some_and(|claim| claim.vault == *id))
        {
            return Ok(None);
        }
        if let Some(claim) = winner {
            return Ok(Some(EmailWrite::Claim(claim.clone())));
        }
        // The first cancelled account: all that are named come after it, or one of them would have the address.
        let claimed = self.claims.iter().map(|claim| (claim.proof, claim.account));
        let let_go = self
            .released
            .iter()
            .map(|released| (released.proof, released.account));
        let mut first: Option<(Hlc, AccountId)> = None;
        for (proof, account) in claimed.chain(let_go) {
            let earlier = first.is_none_or(|(of, by)| place(proof, account) < place(of, by));
            if earlier && standing(account)?.cancelled {
                first = Some((proof, account));
            }
        }
        let release = |(proof, account): (Hlc, AccountId)| {
            let before = self.released.iter().find(|released| released.account == account);
            // A tick past its last word: Automerge would take a value that is there already for a deletion of the
            // others, and no replica takes a deletion.
            let at = before.map_or(proof, |released| released.at.max(proof)).succ();
            EmailWrite::Release { account, at }
        };
        Ok(first.map(release))
    }

    /// Whose claims there are, losers included, each once: what the index of an account's emails is made of.
    pub fn accounts(&self) -> impl Iterator<Item = AccountId> {
        let mut accounts: Vec<AccountId> = self.claims.iter().map(|claim| claim.account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts.into_iter()
    }

    /// The greatest HLC in it: what a value that replaces one here must beat.
    pub fn latest(&self) -> Hlc {
        let claims = self.claims.iter().map(|claim| claim.proof.max(claim.done));
        let released = self
            .released
            .iter()
            .map(|released| released.at.max(released.proof));
        let used_as = self.used_as.iter().map(|(_, at)| *at);
        claims.chain(released).chain(used_as).max().unwrap_or_default()
    }
}

/// Where a claim comes in the record's own order: greatest proof, then smaller account.
fn place(proof: Hlc, account: AccountId) -> (Reverse<Hlc>, AccountId) {
    (Reverse(proof), account)
}

pub(crate) const CLAIM: &str = "claim";
pub(crate) const USED_AS: &str = "used_as";

/// A value of the field `claim`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ClaimValue {
    Claim(Claim),
    Release { own: Released, carried: Vec<Released> },
}

impl ClaimValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let carried = match self {
            ClaimValue::Claim(claim) => {
                bytes.push(CLAIM_TAG);
                claim.put(&mut bytes);
                &claim.released
            }
            ClaimValue::Release { own, carried } => {
                bytes.push(RELEASE_TAG);
                own.put(&mut bytes);
                carried
            }
        };
        bytes.push(u8::try_from(carried.len()).unwrap_or(u8::MAX));
        carried
            .iter()
            .take(usize::from(u8::MAX))
            .for_each(|released| released.put(&mut bytes));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ClaimValue, DecodeError> {
        let mut reader = Reader::with_format(WHAT, FORMAT, bytes)?;
        let value = match reader.u8()? {
            CLAIM_TAG => {
                let mut claim = Claim::read(&mut reader)?;
                claim.released = Released::read_list(&mut reader)?;
                ClaimValue::Claim(claim)
            }
            RELEASE_TAG => {
                let own = Released::read(&mut reader)?;
                ClaimValue::Release {
                    own,
                    carried: Released::read_list(&mut reader)?,
                }
            }
            tag => {
                return Err(DecodeError::malformed(
                    WHAT,
                    &format_args!("tag {tag} is not known here"),
                ));
            }
        };
        reader.end()?;
        Ok(value)
    }

    fn claims(&self) -> &[Claim] {
        match self {
            ClaimValue::Claim(claim) => std::slice::from_ref(claim),
            ClaimValue::Release { .. } => &[],
        }
    }

    fn released(&self) -> impl Iterator<Item = Released> {
        let (own, carried) = match self {
            ClaimValue::Claim(claim) => (None, &claim.released),
            ClaimValue::Release { own, carried, .. } => (Some(*own), carried),
        };
        own.into_iter().chain(carried.iter().copied())
    }
}

impl Claim {
    /// All but `released`.
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.account.as_bytes());
        bytes.extend_from_slice(self.vault.as_bytes());
        bytes.put_hlc(self.proof);
        bytes.put_hlc(self.done);
        bytes.put_u32(self.resets);
        bytes.push(self.by.number());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Claim, DecodeError> {
        Ok(Claim {
            account: AccountId::from_bytes(reader.array()?),
            vault: VaultId::from_bytes(reader.array()?),
            proof: reader.hlc()?,
            done: reader.hlc()?,
            resets: reader.u32()?,
            by: ClaimedBy::from_number(reader.u8()?),
            released: Vec::new(),
        })
    }

    /// The record's own order: smaller comes first. What follows the vault id only makes it total.
    fn rank(&self) -> (Reverse<Hlc>, AccountId, Hlc, VaultId, u32, ClaimedBy) {
        (
            Reverse(self.proof),
            self.account,
            self.done,
            self.vault,
            self.resets,
            self.by,
        )
    }
}

impl ClaimedBy {
    fn number(self) -> u8 {
        match self {
            ClaimedBy::Mail => 1,
            ClaimedBy::Idp => 2,
            ClaimedBy::Operator => 3,
            ClaimedBy::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> ClaimedBy {
        match number {
            1 => ClaimedBy::Mail,
            2 => ClaimedBy::Idp,
            3 => ClaimedBy::Operator,
            other => ClaimedBy::Other(other),
        }
    }
}

impl Released {
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.account.as_bytes());
        bytes.put_hlc(self.at);
        bytes.put_hlc(self.proof);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Released, DecodeError> {
        Ok(Released {
            account: AccountId::from_bytes(reader.array()?),
            at: reader.hlc()?,
            proof: reader.hlc()?,
        })
    }

    fn read_list(reader: &mut Reader<'_>) -> Result<Vec<Released>, DecodeError> {
        let count = usize::from(reader.u8()?);
        DecodeError::limit("releases carried on", count, RELEASED_MAX)?;
        (0..count).map(|_| Released::read(reader)).collect()
    }
}

impl UsedAs {
    pub(crate) fn number(self) -> u8 {
        match self {
            UsedAs::Primary => 1,
            UsedAs::Secondary => 2,
        }
    }

    pub(crate) fn from_number(number: u8) -> Result<UsedAs, DecodeError> {
        match number {
            1 => Ok(UsedAs::Primary),
            2 => Ok(UsedAs::Secondary),
            format => Err(DecodeError::UnknownFormat {
                what: USED_AS,
                format,
            }),
        }
    }
}

/// The vault value that a value of the field `claim` names.
pub(crate) fn claim_named(value: &[u8]) -> Option<VaultId> {
    match ClaimValue::decode(value) {
        Ok(ClaimValue::Claim(claim)) => Some(claim.vault),
        _ => None,
    }
}

pub(crate) fn encode_used_as(used_as: UsedAs, at: Hlc) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.put_hlc(at);
    bytes.push(used_as.number());
    bytes
}

fn decode_used_as(bytes: &[u8]) -> Result<(Hlc, UsedAs), DecodeError> {
    let mut reader = Reader::with_format(USED_AS, FORMAT, bytes)?;
    let value = (reader.hlc()?, UsedAs::from_number(reader.u8()?)?);
    reader.end().map(|()| value)
}

/// The claim as it is to be written over `seen`: with the releases that it replaces.
pub(crate) fn claim_over(claim: &Claim, seen: &[ClaimValue]) -> ClaimValue {
    let all = seen
        .iter()
        .flat_map(ClaimValue::released)
        .chain(claim.released.iter().copied());
    ClaimValue::Claim(Claim {
        released: carried(merge_released(all)),
        ..claim.clone()
    })
}

/// The release as it is to be written over `seen`: with the proof that it ends, and the releases that it
/// replaces. It ends every claim that it saw. Those of others do not return, because only the owner lets go: they
/// had lost, also an unverified one that comes before the owner's. (A release that carried others' claims on would
/// name again what a later claim, made elsewhere, has taken the name off: a value that is named and erased.)
pub(crate) fn release_over(account: AccountId, at: Hlc, seen: &[ClaimValue]) -> ClaimValue {
    let (claims, mut released) = settle(seen);
    let ended = claims
        .iter()
        .filter(|claim| claim.account == account && claim.proof <= at);
    let mut own = Released {
        account,
        at,
        proof: ended.map(|claim| claim.proof).max().unwrap_or_default(),
    };
    if let Some(earlier) = released.remove(&account) {
        own = Released {
            account,
            at: at.max(earlier.at),
            proof: own.proof.max(earlier.proof),
        };
    }
    ClaimValue::Release {
        own,
        carried: carried(released),
    }
}

/// Settles every field from the values that survive, as bytes. What cannot be read is left out and counted.
pub(crate) fn resolve(claim: &[Vec<u8>], used_as: &[Vec<u8>], changes: u32) -> EmailView {
    let values: Vec<ClaimValue> = claim
        .iter()
        .filter_map(|bytes| ClaimValue::decode(bytes).ok())
        .collect();
    let uses: Vec<(Hlc, UsedAs)> = used_as
        .iter()
        .filter_map(|bytes| decode_used_as(bytes).ok())
        .collect();
    let unreadable = claim.len() - values.len() + used_as.len() - uses.len();
    let (claims, released) = settle(&values);
    EmailView {
        claims,
        released: released.into_values().collect(),
        used_as: uses.into_iter().max().map(|(at, used_as)| (used_as, at)),
        changes,
        unreadable: u32::try_from(unreadable).unwrap_or(u32::MAX),
    }
}

/// The claims that are not void, in the record's own order and without what they carried; and every release.
fn settle(values: &[ClaimValue]) -> (Vec<Claim>, BTreeMap<AccountId, Released>) {
    let released = merge_released(values.iter().flat_map(ClaimValue::released));
    let void = |claim: &Claim| {
        released
            .get(&claim.account)
            .is_some_and(|entry| entry.at >= claim.proof)
    };
    let mut claims: Vec<Claim> = values
        .iter()
        .flat_map(ClaimValue::claims)
        .filter(|claim| !void(claim))
        .map(|claim| Claim {
            released: Vec::new(),
            ..claim.clone()
        })
        .collect();
    claims.sort_unstable_by_key(Claim::rank);
    claims.dedup();
    (claims, released)
}

/// Per account the greatest `at`, with the greatest `proof` of any.
fn merge_released(all: impl Iterator<Item = Released>) -> BTreeMap<AccountId, Released> {
    let mut merged: BTreeMap<AccountId, Released> = BTreeMap::new();
    for released in all {
        let entry = merged.entry(released.account).or_insert(released);
        entry.at = entry.at.max(released.at);
        entry.proof = entry.proof.max(released.proof);
    }
    merged
}

/// As many as a value may carry, the latest first to stay; by account, so that equal sets are equal bytes.
fn carried(merged: BTreeMap<AccountId, Released>) -> Vec<Released> {
    let mut list: Vec<Released> = merged.into_values().collect();
    if list.len() > RELEASED_MAX {
        list.sort_unstable_by_key(|released| Reverse((released.at, released.account)));
        list.truncate(RELEASED_MAX);
        list.sort_unstable();
    }
    list
}

const WHAT: &str = "claim";
/// The first byte of every value of a field.
const FORMAT: u8 = 1;
const CLAIM_TAG: u8 = 1;
const RELEASE_TAG: u8 = 2;
