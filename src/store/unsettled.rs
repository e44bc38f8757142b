//! What waits until nothing concurrent is on its way any more: records with losers, accounts that were cancelled.
//!
//! A commit tells what of it there is in the records that it changes. What was told before a start is found again by
//! a scan, a stretch at a time. What becomes of it is [`settlement`](crate::settlement)'s business.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use crdt::{AccountId, AccountView, CellKind, Document, RecordKey, RecordKind, Staging};

use super::{
    damage,
    disk::{DiskError, DiskRead, Family},
    group::Group,
    layout::{self, meta},
    records::{self, ReadError, Records, Snapshot},
};

/// A receipt is kept this long after it was written, in milliseconds: 400 days.
pub const RECEIPT_MS: u64 = 400 * 24 * 60 * 60 * 1000;

/// A record that names more than counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contested {
    /// Which.
    pub key: RecordKey,
    /// How many changes it had had then. They only grow, so while there are as many it is as it was.
    pub changes: u32,
}

/// What a commit, or a stretch of a scan, leaves to be settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// Records with losers, each once.
    pub contested: Vec<Contested>,
    /// Accounts whose data is to be forgotten: a commit names those that it cancels, and cancelled ones of which it brings
    /// something; a scan those without a receipt of this replica.
    pub cancelled: Vec<AccountId>,
}

impl Unsettled {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.contested.is_empty() && self.cancelled.is_empty()
    }
}

/// A stretch of a scan over all records.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// What it found.
    pub unsettled: Unsettled,
    /// Where the next one begins; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// Whether a record names more than counts. One that cannot be read here is left to whoever heals it.
pub fn contested(records: &impl Records, key: RecordKey) -> Result<Option<Contested>, ReadError> {
    readable(try_contested(records, key)).map(Option::flatten)
}

fn try_contested(records: &impl Records, key: RecordKey) -> Result<Option<Contested>, ReadError> {
    let changes = if let Some(id) = key.account() {
        let view = records.account(id)?;
        view.filter(|view| view.collapse().is_some())
            .map(|view| view.changes)
    } else if let Some(id) = key.email() {
        match records.email(id)? {
            Some(view) if view.collapse(|id| records.standing(id))?.is_some() => Some(view.changes),
            _ => None,
        }
    } else {
        None
    };
    Ok(changes.map(|changes| Contested { key, changes }))
}

/// What a group leaves to be settled, of the records that it changes.
pub(super) fn after(group: &Group<'_>) -> Result<Unsettled, ReadError> {
    let mut looked_at = BTreeSet::new();
    let mut cancelled = group.recalled.clone();
    for key in group.changed() {
        looked_at.insert(key);
        let Some(id) = key.account() else { continue };
        let is_cancelled = |view: Option<AccountView>| view.is_some_and(|view| view.cancelled);
        if !is_cancelled(readable(group.account(id))?.flatten()) || is_cancelled(group.account_before(id)?) {
            continue;
        }
        cancelled.insert(id);
        // Whom the account had beaten has lost for good.
        let emails = readable(group.emails_of(id))?.unwrap_or_default();
        looked_at.extend(emails.into_iter().map(RecordKey::from));
    }
    let mut found = Unsettled {
        contested: Vec::new(),
        cancelled: cancelled.into_iter().collect(),
    };
    for key in looked_at {
        found.contested.extend(contested(group, key)?);
    }
    Ok(found)
}

/// Looks at up to `records_max` records from a key on. `slot` is that of this replica's cells.
pub fn stretch(
    disk: &dyn DiskRead,
    slot: [u8; 8],
    now_ms: u64,
    from: &[u8],
    records_max: usize,
) -> Result<Stretch, ReadError> {
    let snapshot = Snapshot::new(disk);
    let mut keys = BTreeSet::new();
    let mut next = None;
    let gaps = damage::scan_around(disk, Family::Views, from, &mut |key, _| {
        if keys.len() == records_max {
            next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        keys.extend(<[u8; 16]>::try_from(key).map(RecordKey::from_bytes));
        ControlFlow::Continue(())
    })?;
    if gaps > 0 {
        // The block stays unreadable when what was in it has been written again; the documents name those records too.
        damage::scan_around(disk, Family::Documents, from, &mut |key, _| {
            if next.as_deref().is_some_and(|next| key >= next) {
                return ControlFlow::Break(());
            }
            keys.extend(<[u8; 16]>::try_from(key).map(RecordKey::from_bytes));
            ControlFlow::Continue(())
        })?;
    }
    let mut unsettled = Unsettled::default();
    for key in keys {
        unsettled.contested.extend(contested(&snapshot, key)?);
        if let Some(id) = key.account()
            && readable(to_forget(&snapshot, id, slot, now_ms))?.unwrap_or(false)
        {
            unsettled.cancelled.push(id);
        }
    }
    Ok(Stretch { unsettled, next })
}

/// Whether an account was cancelled, not so long ago that its receipts have ended, and this replica has given none.
fn to_forget(snapshot: &Snapshot<'_>, id: AccountId, slot: [u8; 8], now_ms: u64) -> Result<bool, ReadError> {
    if !snapshot.account(id)?.is_some_and(|view| view.cancelled) {
        return Ok(false);
    }
    let receipts = snapshot.cells(CellKind::ERASED, id.as_bytes())?;
    if receipts.iter().any(|cell| cell.slot == slot) {
        return Ok(false);
    }
    let key = RecordKey::from(id);
    let Some(bytes) = snapshot.disk().get(Family::Documents, key.as_bytes())? else {
        return Ok(false);
    };
    let cancelled = Document::load(RecordKind::Account, layout::unseal(&bytes)?)
        .ok()
        .and_then(|document| document.cancelled_at());
    // When it cannot be told, it is forgotten once more.
    Ok(cancelled.is_none_or(|at| at.ms().saturating_add(RECEIPT_MS) > now_ms))
}

/// Where this disk still holds bytes of transactions, beside what the records name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// The next place in the log: all that is here now has a smaller one.
    pub next_place: u64,
    /// The first place that the log still holds.
    log_from: Option<u64>,
    /// The first place in quarantine of a part of an account or an email, or of what cannot be told. A part without a value may
    /// be what cancels an account, or names another one's address.
    quarantined_from: Option<u64>,
    /// States that a catch-up brought, not yet merged.
    catching_up: bool,
    /// When the first staging was begun, in milliseconds since 1970: for each account that one is for, and for none.
    stagings: BTreeMap<Option<AccountId>, u64>,
}

/// What still holds bytes of an account that was forgotten by all records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The log.
    Log,
    /// A part of a transaction in quarantine, which may have brought its data along.
    Quarantine,
    /// States that a catch-up brought.
    CatchUp,
    /// A staging that may be the account's; it ends within a day.
    Staging,
}

/// Stagings stamped by a clock that is ahead count as begun before a moment.
const STAGED_AHEAD_MS: u64 = crdt::CLOCK_AHEAD_MAX_MS;

impl Remains {
    /// Looks for them.
    pub fn of(disk: &dyn DiskRead) -> Result<Remains, ReadError> {
        let mut remains = Remains {
            next_place: match disk.get(Family::Meta, meta::PLACE)? {
                Some(bytes) => layout::unseal(&bytes).and_then(layout::number)?,
                None => 1,
            },
            ..Remains::default()
        };
        // What a block that cannot be read hides is as old as it may be.
        let gaps = damage::scan_around(disk, Family::Log, &[], &mut |key, _| {
            remains.log_from = Some(layout::number(key).unwrap_or(0));
            ControlFlow::Break(())
        })?;
        if gaps > 0 {
            remains.log_from = Some(0);
        }
        let gaps = damage::scan_around(disk, Family::Quarantine, &[], &mut |key, _| {
            if !key.starts_with(RecordKey::CLUSTER.as_bytes()) {
                let place = key.get(16..).and_then(|place| layout::number(place).ok());
                let first = remains.quarantined_from.unwrap_or(u64::MAX);
                remains.quarantined_from = Some(first.min(place.unwrap_or(0)));
            }
            ControlFlow::Continue(())
        })?;
        if gaps > 0 {
            remains.quarantined_from = Some(0);
        }
        for family in Family::ALL.into_iter().filter(|family| family.name() == SIDE) {
            let gaps = damage::scan_around(disk, family, &[], &mut |_, _| {
                remains.catching_up = true;
                ControlFlow::Break(())
            })?;
            remains.catching_up |= gaps > 0;
        }
        let staging = [CellKind::STAGING.0];
        let gaps = damage::scan_around(disk, Family::Cells, &staging, &mut |key, value| {
            if !key.starts_with(&staging) {
                return ControlFlow::Break(());
            }
            let (begun_ms, account) = match records::decode_cell(value) {
                Ok(cell) => {
                    let staging = Staging::decode(&cell.value).ok();
                    // Of one that has ended a site keeps nothing of anybody.
                    if staging.as_ref().is_some_and(|staging| staging.address.is_empty()) {
                        return ControlFlow::Continue(());
                    }
                    let account = staging.and_then(|staging| staging.account).map(|(id, _)| id);
                    (cell.stamp.ms(), account)
                }
                Err(_) => (0, None),
            };
            let first = remains.stagings.entry(account).or_insert(begun_ms);
            *first = begun_ms.min(*first);
            ControlFlow::Continue(())
        })?;
        if gaps > 0 {
            remains.stagings.insert(None, 0);
        }
        Ok(remains)
    }

    /// What still holds bytes of an account all of which came before a place in the log, and before a moment in
    /// milliseconds since 1970. A sign-up's staging does not say which account it made, so any may be its.
    pub fn obstacle(&self, account: AccountId, place: u64, at_ms: u64) -> Option<Obstacle> {
        let before = |found: Option<u64>| found.is_some_and(|found| found < place);
        let staged = |account: Option<AccountId>| {
            let begun = self.stagings.get(&account);
            begun.is_some_and(|begun_ms| *begun_ms <= at_ms.saturating_add(STAGED_AHEAD_MS))
        };
        if self.catching_up {
            Some(Obstacle::CatchUp)
        } else if before(self.log_from) {
            Some(Obstacle::Log)
        } else if before(self.quarantined_from) {
            Some(Obstacle::Quarantine)
        } else if staged(Some(account)) || staged(None) {
            Some(Obstacle::Staging)
        } else {
            None
        }
    }
}

/// The name of the family of a catch-up's states.
const SIDE: &str = "side";

/// What was read of something that may be damaged, or in quarantine: that one is nobody's business here.
fn readable<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Quarantined { .. } | ReadError::Corrupt(_)) => Ok(None),
        Err(ReadError::Disk(error)) if error.is_local() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Stored bytes of a family in which one of some byte strings was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where.
    pub family: Family,
    /// Under which key.
    pub key: Vec<u8>,
    /// Which of the byte strings.
    pub needle: usize,
}

/// Searches every key and value of a disk for byte strings: after an account was cancelled and its receipts are in,
/// nobody should find its addresses and its password's hash.
pub fn traces(disk: &dyn DiskRead, needles: &[&[u8]]) -> Result<Vec<Trace>, DiskError> {
    let holds = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len().max(1)).any(|part| part == needle);
    let mut traces = Vec::new();
    for family in Family::ALL {
        disk.scan(family, &[], &mut |key, value| {
            for (number, needle) in needles.iter().enumerate() {
                if holds(key, needle) || holds(value, needle) {
                    traces.push(Trace {
                        family,
                        key: key.to_vec(),
                        needle: number,
                    });
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(traces)
}
