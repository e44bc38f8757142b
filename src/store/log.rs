//! Reading the log for peers who lack a part of it.
//!
//! The log is in local commit order, which is causal: whoever applies it in this order never has to wait.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use crdt::{RecordKey, Transaction};
use gossip::{Dot, Envelope, Tip, Vector, quic::LogChunk};

use super::{
    damage,
    disk::{DiskRead, Family},
    group,
    layout::{self, meta},
    records::{self, ReadError},
};

/// Gives what lies beyond a peer's vector, from `position` on (`None`: from where the first of it lies). `synced`: what a
/// batch left whose outcome is unknown is told to nobody, before the store was opened again.
pub(crate) fn read(
    disk: &dyn DiskRead,
    beyond: &Vector,
    synced: &Vector,
    position: Option<u64>,
    bytes_max: usize,
) -> Result<LogChunk, ReadError> {
    let from = match position {
        Some(place) => place,
        None => match first_missing(disk, beyond)? {
            Start::At(place) => place,
            Start::Nothing => {
                return Ok(LogChunk::Transactions {
                    transactions: Vec::new(),
                    next: None,
                });
            }
            Start::Trimmed => return Ok(LogChunk::Trimmed),
        },
    };
    let mut transactions: Vec<Arc<[u8]>> = Vec::new();
    let mut bytes = 0;
    let mut next = None;
    // Of a block that cannot be read they lack nothing, once what was in it is let go.
    damage::scan_around(disk, Family::Log, &layout::number_key(from), &mut |key, value| {
        let entry = layout::unseal(value).and_then(layout::log_entry);
        let Ok((dot, transaction)) = entry else {
            return ControlFlow::Continue(());
        };
        if beyond.covers(&dot) || !synced.covers(&dot) {
            return ControlFlow::Continue(());
        }
        if !transactions.is_empty() && bytes + transaction.len() > bytes_max {
            next = layout::number(key).ok();
            return ControlFlow::Break(());
        }
        bytes += transaction.len();
        transactions.push(transaction.into());
        ControlFlow::Continue(())
    })?;
    Ok(LogChunk::Transactions { transactions, next })
}

/// The records of which the log holds parts beyond a vector. `None`: the log does not reach so far back, or a part of
/// it cannot be read, so nobody can tell.
pub(super) fn records_beyond(
    disk: &dyn DiskRead,
    beyond: &Vector,
) -> Result<Option<BTreeSet<RecordKey>>, ReadError> {
    let mut records = BTreeSet::new();
    let reached = match first_missing(disk, beyond)? {
        Start::Trimmed => false,
        start => visit_beyond(disk, beyond, &start, |_, key| {
            records.insert(key);
            ControlFlow::Continue(())
        })?,
    };
    Ok(reached.then_some(records))
}

/// Calls `visit` with the place and the record of each part that the log holds beyond a vector, also where it does not
/// reach so far back. False: these may not be all, for that reason, or since a part of the log cannot be read, or
/// because `visit` has had enough.
pub(super) fn parts_beyond(
    disk: &dyn DiskRead,
    beyond: &Vector,
    visit: impl FnMut(u64, RecordKey) -> ControlFlow<()>,
) -> Result<bool, ReadError> {
    let start = first_missing(disk, beyond)?;
    visit_beyond(disk, beyond, &start, visit)
}

fn visit_beyond(
    disk: &dyn DiskRead,
    beyond: &Vector,
    start: &Start,
    mut visit: impl FnMut(u64, RecordKey) -> ControlFlow<()>,
) -> Result<bool, ReadError> {
    let (from, reaches) = match *start {
        Start::At(place) => (place, true),
        Start::Nothing => return Ok(true),
        Start::Trimmed => (0, false),
    };
    let mut missing: u64 = 0;
    for (writer, Tip { number, .. }) in records::read_vector(disk, meta::VECTOR)?.iter() {
        if !beyond.covers(&Dot { writer, number }) {
            missing += number - beyond.get(&writer).map_or(0, |tip| tip.number).min(number);
        }
    }
    let mut enough = false;
    let scanned = damage::scan_around(disk, Family::Log, &layout::number_key(from), &mut |key, value| {
        let entry = layout::unseal(value).and_then(layout::log_entry);
        let (Ok((dot, transaction)), Ok(place)) = (entry, layout::number(key)) else {
            return ControlFlow::Continue(());
        };
        if beyond.covers(&dot) {
            return ControlFlow::Continue(());
        }
        missing = missing.saturating_sub(1);
        // A body that cannot be read changed nothing here.
        for part in body(transaction).into_iter().flat_map(|body| body.records) {
            if visit(place, part.key).is_break() {
                enough = true;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    match scanned {
        Err(error) if !error.is_local() => Err(error.into()),
        scanned => Ok(reaches && scanned.is_ok() && missing == 0 && !enough),
    }
}

/// The body of the transaction at a place in the log; `None` if there is none, or none that can be read.
pub(super) fn body_at(disk: &dyn DiskRead, place: u64) -> Result<Option<Transaction>, ReadError> {
    let bytes = match disk.get(Family::Log, &layout::number_key(place)) {
        Err(error) if error.is_local() => None,
        other => other?,
    };
    let entry = bytes
        .as_deref()
        .map(|bytes| layout::unseal(bytes).and_then(layout::log_entry));
    Ok(match entry {
        Some(Ok((_, transaction))) => body(transaction),
        _ => None,
    })
}

fn body(transaction: &[u8]) -> Option<Transaction> {
    let envelope = Envelope::decode(transaction).ok()?;
    Transaction::decode(&envelope.body).ok()
}

enum Start {
    At(u64),
    Nothing,
    Trimmed,
}

fn first_missing(disk: &dyn DiskRead, beyond: &Vector) -> Result<Start, ReadError> {
    let mut folded = Vector::new();
    for (replica, floor) in records::read_floors(disk)? {
        folded.adopt_floor(replica, floor);
    }
    let mut trimmed = !beyond.covers_floors(&folded);
    records::try_scan(disk, Family::Meta, meta::TRIMMED, |key, value| {
        let writer = layout::writer(&key[meta::TRIMMED.len()..])?;
        let Tip { number, .. } = layout::tip(layout::unseal(value)?)?;
        trimmed |= !beyond.covers(&Dot { writer, number });
        Ok(ControlFlow::Continue(()))
    })?;
    if trimmed {
        return Ok(Start::Trimmed);
    }
    let mut first: Option<u64> = None;
    records::try_scan(disk, Family::Meta, meta::VECTOR, |key, value| {
        let writer = layout::writer(&key[meta::VECTOR.len()..])?;
        let last = layout::tip(layout::unseal(value)?)?.number;
        let covered = beyond.covers(&Dot { writer, number: last });
        let number = beyond.get(&writer).map_or(0, |tip| tip.number).saturating_add(1);
        // A writer that they have folded and we have not has no entry there, and is covered whole.
        if !covered {
            let place = group::get(disk, Family::Dots, &layout::dot_key(&Dot { writer, number }))?;
            let place = place.and_then(|bytes| layout::unseal(&bytes).and_then(layout::number).ok());
            let Some(place) = place else {
                // It should be there, and is not: no more can be given from here than if it were trimmed.
                trimmed = true;
                return Ok(ControlFlow::Break(()));
            };
            first = Some(first.map_or(place, |first| first.min(place)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if trimmed {
        return Ok(Start::Trimmed);
    }
    Ok(first.map_or(Start::Nothing, Start::At))
}
