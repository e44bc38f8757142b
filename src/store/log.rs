//! Reading the log for peers who lack a part of it.
//!
//! The log is in local commit order, which is causal: whoever applies it in this order never has to wait.

use std::{ops::ControlFlow, sync::Arc};

use gossip::{Dot, Tip, Vector, quic::LogChunk};

use super::{
    disk::{DiskRead, Family},
    layout::{self, meta},
    records::{self, ReadError},
};

/// Gives what lies beyond a peer's vector, from `position` on (`None`: from where the first of it lies).
pub(crate) fn read(
    disk: &dyn DiskRead,
    beyond: &Vector,
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
        if beyond.covers(&dot) {
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
        let number = beyond.get(&writer).map_or(0, |tip| tip.number).saturating_add(1);
        if number <= last
            && let Some(place) = disk.get(Family::Dots, &layout::dot_key(&Dot { writer, number }))?
        {
            let place = layout::unseal(&place).and_then(layout::number)?;
            first = Some(first.map_or(place, |first| first.min(place)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(first.map_or(Start::Nothing, Start::At))
}
