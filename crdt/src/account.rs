//! An account: its fields, and what counts when several values of one survive.
//!
//! Each field is a scalar at the root of the document. Values that survive concurrently are settled here by
//! one pure total order per field, whose ties end in bytes: these functions *are* the policy.

use serde::{Deserialize, Serialize};

use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::VaultId;
use crate::planted::{self, Bug};

/// A password in force or not: everything but the hash itself, which is in the vault.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Password {
    /// How many resets had made it: a proof by mail adds one, and beats a change made with a known password.
    pub resets: u32,
    /// When it was changed; for a reset, its staging's HLC. A rehash keeps it.
    pub changed: Hlc,
    /// When that was completed. It differs from `changed` for a reset only: of two completions of one link,
    /// at two sites cut off from one another, the earlier stands.
    pub done: Hlc,
    /// How often this same password was hashed anew, with other costs.
    pub rehashes: u32,
    /// The hash, in the vault.
    pub vault: VaultId,
}

/// Sessions that have not seen an account's epoch are over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Epoch {
    /// The account's resets: versions of trust, which no clock decides.
    pub resets: u32,
    /// When; takes a greater HLC than the value it replaces.
    pub at: Hlc,
}

/// One field of an account, written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccountWrite {
    /// The account exists.
    Created(Hlc),
    /// A password: first, changed, reset or rehashed.
    Password(Password),
    /// Sessions older than this end: a reset, a change of the password, a sign-out everywhere.
    SessionEpoch(Epoch),
    /// An epoch that a session has seen, and this replica has not: nothing happened here, so it replaces no
    /// [`SessionEpoch`](Self::SessionEpoch).
    SeenEpoch(Epoch),
    /// For good.
    Cancelled(Hlc),
}

/// What an account's record says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AccountView {
    /// The earliest.
    pub created: Option<Hlc>,
    /// The one that counts, whether it may still be used or not.
    pub password: Option<Password>,
    /// Vault ids of *all* surviving passwords, winner and losers, sorted; empty once cancelled.
    pub named: Vec<VaultId>,
    /// The epoch that sessions must have seen.
    pub epoch: Epoch,
    /// Sticky.
    pub cancelled: bool,
    /// How many changes the record has had.
    pub changes: u32,
    /// Surviving values that could not be read. While there are any, nothing this record may name should be
    /// erased, and what it says should not be relied on.
    pub unreadable: u32,
}

impl AccountView {
    /// The account's resets: what a claim must equal to be verified, and a password must not be behind.
    pub fn resets(&self) -> u32 {
        self.epoch.resets
    }

    /// The password, unless it is one of fewer resets than the account has had, or the account is cancelled.
    pub fn usable_password(&self) -> Option<&Password> {
        self.password
            .as_ref()
            .filter(|password| !self.cancelled && password.resets >= self.epoch.resets)
    }

    /// The password to write once more, under a new vault id, so that those that lost are superseded and erased;
    /// `None` if there are none. All but its vault id stays, so nothing that is still on its way fares differently.
    pub fn collapse(&self) -> Option<Password> {
        self.password
            .filter(|_| self.named.len() > 1 && self.unreadable == 0)
    }

    /// What of the vault this record keeps alive.
    pub fn names(&self) -> &[VaultId] {
        &self.named
    }

    /// The greatest HLC in it: what a value that replaces one here must beat.
    pub fn latest(&self) -> Hlc {
        let password = self
            .password
            .map_or(Hlc::ZERO, |password| password.changed.max(password.done));
        self.created.unwrap_or_default().max(password).max(self.epoch.at)
    }
}

pub(crate) const CREATED: &str = "created";
pub(crate) const PASSWORD: &str = "password";
pub(crate) const SESSION_EPOCH: &str = "session_epoch";
pub(crate) const SEEN_EPOCH: &str = "seen_epoch";
pub(crate) const CANCELLED: &str = "cancelled";

impl AccountWrite {
    pub(crate) fn field(&self) -> &'static str {
        match self {
            AccountWrite::Created(_) => CREATED,
            AccountWrite::Password(_) => PASSWORD,
            AccountWrite::SessionEpoch(_) => SESSION_EPOCH,
            AccountWrite::SeenEpoch(_) => SEEN_EPOCH,
            AccountWrite::Cancelled(_) => CANCELLED,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        match self {
            AccountWrite::Created(at) | AccountWrite::Cancelled(at) => bytes.put_hlc(*at),
            AccountWrite::Password(password) => password.put(&mut bytes),
            AccountWrite::SessionEpoch(epoch) | AccountWrite::SeenEpoch(epoch) => epoch.put(&mut bytes),
        }
        bytes
    }
}

impl Password {
    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u32(self.resets);
        bytes.put_hlc(self.changed);
        bytes.put_hlc(self.done);
        bytes.put_u32(self.rehashes);
        bytes.extend_from_slice(self.vault.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Password, DecodeError> {
        Ok(Password {
            resets: reader.u32()?,
            changed: reader.hlc()?,
            done: reader.hlc()?,
            rehashes: reader.u32()?,
            vault: VaultId::from_bytes(reader.array()?),
        })
    }

    /// Greater counts. The earliest `done` wins, so it is turned round.
    fn rank(&self) -> (u32, Hlc, std::cmp::Reverse<Hlc>, u32, VaultId) {
        (
            self.resets,
            self.changed,
            std::cmp::Reverse(self.done),
            self.rehashes,
            self.vault,
        )
    }
}

impl Epoch {
    pub(crate) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_u32(self.resets);
        bytes.put_hlc(self.at);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Epoch, DecodeError> {
        Ok(Epoch {
            resets: reader.u32()?,
            at: reader.hlc()?,
        })
    }
}

/// The values of an account's fields that survive, as bytes.
#[derive(Default)]
pub(crate) struct Surviving {
    pub(crate) created: Vec<Vec<u8>>,
    pub(crate) password: Vec<Vec<u8>>,
    pub(crate) session_epoch: Vec<Vec<u8>>,
    pub(crate) seen_epoch: Vec<Vec<u8>>,
    pub(crate) cancelled: Vec<Vec<u8>>,
}

/// Settles every field. What cannot be read is left out and counted.
pub(crate) fn resolve(surviving: &Surviving, changes: u32) -> AccountView {
    let mut unreadable = 0;
    let created: Vec<Hlc> = readable(&surviving.created, read_hlc, &mut unreadable);
    let passwords: Vec<Password> = readable(&surviving.password, Password::read, &mut unreadable);
    let ends: Vec<Epoch> = readable(&surviving.session_epoch, Epoch::read, &mut unreadable);
    let seen: Vec<Epoch> = readable(&surviving.seen_epoch, Epoch::read, &mut unreadable);
    // Whether a value can be read or not: an account that anyone cancelled is cancelled.
    let cancelled = !surviving.cancelled.is_empty();
    AccountView {
        created: created.into_iter().min(),
        password: resolve_password(&passwords),
        named: if cancelled { Vec::new() } else { named(&passwords) },
        epoch: resolve_epoch(&ends, &seen),
        cancelled,
        changes,
        unreadable,
    }
}

/// The greatest (resets, time of the change, earliest done, rehashes, vault id).
fn resolve_password(values: &[Password]) -> Option<Password> {
    if planted::is(Bug::WrongTieBreak) {
        return values
            .iter()
            .copied()
            .max_by_key(|value| (value.resets, value.changed, value.done));
    }
    values.iter().copied().max_by_key(Password::rank)
}

/// The greatest end of sessions; where several survive, the moment just after it, so that sessions made under either
/// of two concurrent resets or changes end, and one made after the two have met is good. Ends are counted, not told apart
/// by their values: two sites may draw one and the same HLC. Then the greatest that any session has seen, if that is later:
/// it may be of ends that are not here yet.
///
/// What this says never goes back: only who has seen all surviving ends leaves a single one, and his is greater.
fn resolve_epoch(ends: &[Epoch], seen: &[Epoch]) -> Epoch {
    let mut epoch = ends.iter().copied().max().unwrap_or_default();
    if ends.len() > 1 {
        epoch.at = epoch.at.succ();
    }
    seen.iter().copied().fold(epoch, Epoch::max)
}

/// When, from a value of [`CANCELLED`]; `None` if it cannot be read.
pub(crate) fn cancelled_at(value: &[u8]) -> Option<Hlc> {
    let mut reader = Reader::with_format("account field", FORMAT, value).ok()?;
    reader.hlc().ok()
}

/// The vault value that a value of [`PASSWORD`] names.
pub(crate) fn password_named(value: &[u8]) -> Option<VaultId> {
    let mut reader = Reader::with_format("account field", FORMAT, value).ok()?;
    let password = Password::read(&mut reader).ok()?;
    reader.end().ok().map(|()| password.vault)
}

fn read_hlc(reader: &mut Reader<'_>) -> Result<Hlc, DecodeError> {
    reader.hlc()
}

fn named(values: &[Password]) -> Vec<VaultId> {
    let mut ids: Vec<VaultId> = values.iter().map(|password| password.vault).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn readable<T>(
    values: &[Vec<u8>],
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    unreadable: &mut u32,
) -> Vec<T> {
    let decode = |bytes: &[u8]| {
        let mut reader = Reader::with_format("account field", FORMAT, bytes)?;
        let value = read(&mut reader)?;
        reader.end().map(|()| value)
    };
    let known: Vec<T> = values.iter().filter_map(|bytes| decode(bytes).ok()).collect();
    *unreadable += u32::try_from(values.len() - known.len()).unwrap_or(u32::MAX);
    known
}

/// The first byte of every value of a field.
const FORMAT: u8 = 1;
