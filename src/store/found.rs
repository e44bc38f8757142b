//! What a directory says of its own replica, when it is opened.

use std::{collections::BTreeMap, ops::ControlFlow};

use crdt::Hlc;
use gossip::{ReplicaId, Tip, Vector, Writer};

use super::{
    damage,
    disk::{DiskRead, Family},
    layout::{self, meta},
    ledger::LedgerError,
    records::{self, ReadError},
};

/// What a disk holds of the replica itself.
pub(super) struct Found {
    pub(super) replica: Option<ReplicaId>,
    pub(super) own_starts: Vec<Writer>,
    pub(super) vector: Vector,
    pub(super) trimmed: Vector,
    pub(super) follows: BTreeMap<Writer, Tip>,
    pub(super) clock: Hlc,
    pub(super) next_place: u64,
    pub(super) log_bytes: u64,
}

impl Found {
    /// The last transaction of the latest start that wrote any.
    pub(super) fn last_own(&self) -> Option<(Writer, Tip)> {
        self.own_starts
            .iter()
            .rev()
            .find_map(|start| Some((*start, self.vector.get(start)?)))
    }

    pub(super) fn read(disk: &dyn DiskRead) -> Result<Found, LedgerError> {
        let mut found = Found {
            replica: None,
            own_starts: Vec::new(),
            vector: Vector::new(),
            trimmed: Vector::new(),
            follows: BTreeMap::new(),
            clock: Hlc::ZERO,
            // Place 0 is never used: it stands for "before the log".
            next_place: 1,
            log_bytes: 0,
        };
        let shape = |_| ReadError::from(layout::Unsealed::Shape);
        if let Some(bytes) = disk.get(Family::Meta, meta::REPLICA)? {
            let bytes = layout::unseal(&bytes).map_err(ReadError::from)?;
            found.replica = Some(ReplicaId(bytes.try_into().map_err(shape)?));
        }
        if let Some(bytes) = disk.get(Family::Meta, meta::CLOCK)? {
            let number = layout::unseal(&bytes)
                .and_then(layout::number)
                .map_err(ReadError::from)?;
            found.clock = Hlc::from_u64(number);
        }
        let follows = disk.get(Family::Meta, meta::FOLLOWS)?;
        let follows_known = follows.is_some();
        if let Some(bytes) = follows {
            let entries = layout::unseal(&bytes)
                .and_then(layout::entries)
                .map_err(ReadError::from)?;
            found.follows = entries.into_iter().collect();
        }
        records::try_scan(disk, Family::Meta, meta::START, |_, value| {
            found.own_starts.push(layout::writer(layout::unseal(value)?)?);
            Ok(ControlFlow::Continue(()))
        })?;
        found.vector = records::read_vector(disk, meta::VECTOR)?;
        found.trimmed = records::read_vector(disk, meta::TRIMMED)?;
        if let Some(bytes) = disk.get(Family::Meta, meta::PLACE)? {
            found.next_place = layout::unseal(&bytes)
                .and_then(layout::number)
                .map_err(ReadError::from)?;
        }
        found.log_bytes = match disk.get(Family::Meta, meta::LOG_BYTES)? {
            Some(bytes) => layout::unseal(&bytes)
                .and_then(layout::number)
                .map_err(ReadError::from)?,
            // An older directory does not say.
            None => {
                let mut bytes = 0;
                damage::scan_around(disk, Family::Log, &[], &mut |_, entry| {
                    bytes += entry.len() as u64;
                    ControlFlow::Continue(())
                })?;
                bytes
            }
        };
        if !follows_known {
            found.follows = found.vector.iter().collect();
        }
        Ok(found)
    }
}
