//! Reading the log for peers who lack a part of it.
//!
//! The log is in local commit order, which is causal: whoever applies it in this order never has to wait.

use std::{ops::ControlFlow, sync::Arc};

use crdt::{RecordKey, Transaction};
use gossip::{Dot, Envelope, Tip, Vector, quic::LogChunk};

use super::{
    disk::{DiskRead, Family},
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
    records::try_scan_from(disk, Family::Log, &layout::number_key(from), |key, value| {
        let (dot, transaction) = layout::log_entry(layout::unseal(value)?)?;
        if beyond.covers(&dot) || !synced.covers(&dot) {
            return Ok(ControlFlow::Continue(()));
        }
        if !transactions.is_empty() && bytes + transaction.len() > bytes_max {
            next = Some(layout::number(key)?);
            return Ok(ControlFlow::Break(()));
        }
        bytes += transaction.len();
        transactions.push(transaction.into());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(LogChunk::Transactions { transactions, next })
}

/// Calls `visit` with the place and the record of each part that the log holds beyond a vector. False: the log does
/// not reach so far back, or a part of it cannot be read, so nobody can tell, or `visit` has had enough.
pub(super) fn records_beyond(
    disk: &dyn DiskRead,
    beyond: &Vector,
    mut visit: impl FnMut(u64, RecordKey) -> ControlFlow<()>,
) -> Result<bool, ReadError> {
    let mut scan = || {
        let mut all = true;
        let from = match first_missing(disk, beyond)? {
            Start::At(place) => place,
            Start::Nothing => return Ok(true),
            Start::Trimmed => return Ok(false),
        };
        records::try_scan_from(disk, Family::Log, &layout::number_key(from), |key, value| {
            let (dot, transaction) = layout::log_entry(layout::unseal(value)?)?;
            if !beyond.covers(&dot) {
                let place = layout::number(key)?;
                // A body that cannot be read changed nothing here.
                for part in body(transaction).into_iter().flat_map(|body| body.records) {
                    if visit(place, part.key).is_break() {
                        all = false;
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    };
    match scan() {
        Err(ReadError::Corrupt(_)) => Ok(false),
        Err(ReadError::Disk(error)) if error.is_local() => Ok(false),
        told => told,
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
            let Some(place) = disk.get(Family::Dots, &layout::dot_key(&Dot { writer, number }))? else {
                // It should be there, and is not: no more can be given from here than if it were trimmed.
                trimmed = true;
                return Ok(ControlFlow::Break(()));
            };
            let place = layout::unseal(&place).and_then(layout::number)?;
            first = Some(first.map_or(place, |first| first.min(place)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if trimmed {
        return Ok(Start::Trimmed);
    }
    Ok(first.map_or(Start::Nothing, Start::At))
}
