//! What the log lets go: what every member has, and what exceeds its size; and the older starts whose entries went.

use std::{collections::BTreeMap, ops::ControlFlow};

use gossip::{Dot, Floor, ReplicaId, Tip, Vector, Writer};

use super::{
    disk::{Batch, DiskRead, Family},
    layout::{self, meta},
    ledger::{Committed, Ledger},
    records::ReadError,
};

/// Log entries trimmed in one batch.
const TRIM_ENTRIES_MAX: usize = 4096;

impl Ledger {
    /// Removes from the front of the log what everyone has, as far as it goes, and folds what `stable` has folded.
    pub(super) fn trim(
        &mut self,
        disk: &dyn DiskRead,
        stable: &Vector,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        let seen = self.trim_while(disk, batch, committed, |dot, _| stable.covers(dot))?;
        committed.trim_on = (seen == TRIM_ENTRIES_MAX).then(|| stable.clone());
        for (replica, floor) in stable.floors() {
            self.fold(replica, floor, batch);
        }
        committed.trimmed = Some(self.trimmed.clone());
        Ok(())
    }

    /// Removes the oldest entries of a log that has grown too long, also what some member lacks: that one takes
    /// states in place of transactions when it comes back.
    pub(super) fn trim_to_size(
        &mut self,
        disk: &dyn DiskRead,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        let Some(bytes_max) = self.log_bytes_max else {
            return Ok(());
        };
        if self.log_bytes <= bytes_max {
            return Ok(());
        }
        // A little more than must be, so that not every commit trims.
        let excess = self.log_bytes - (bytes_max - bytes_max / 16);
        let mut gone = 0;
        let seen = self.trim_while(disk, batch, committed, |_, bytes| {
            let goes = gone < excess;
            gone += bytes;
            goes
        })?;
        if seen > 0 {
            committed.trimmed = Some(self.trimmed.clone());
        }
        Ok(())
    }

    fn trim_while(
        &mut self,
        disk: &dyn DiskRead,
        batch: &mut Batch,
        committed: &mut Committed,
        mut goes: impl FnMut(&Dot, u64) -> bool,
    ) -> Result<usize, ReadError> {
        let mut trimmed: BTreeMap<Writer, u64> = BTreeMap::new();
        let (mut seen, mut bytes) = (0, 0);
        let from = std::mem::take(&mut committed.log_from);
        let mut next = from.clone();
        let scanned = disk.scan(Family::Log, &from, &mut |key, value| {
            // A damaged entry stays, and what is behind it: trimming can wait, a group cannot.
            let entry = layout::unseal(value).and_then(layout::log_entry);
            let Ok((dot, _)) = entry else {
                return ControlFlow::Break(());
            };
            if seen == TRIM_ENTRIES_MAX || !goes(&dot, value.len() as u64) {
                return ControlFlow::Break(());
            }
            seen += 1;
            bytes += value.len() as u64;
            next.clear();
            next.extend_from_slice(key);
            next.push(0);
            batch.delete(Family::Log, key);
            batch.delete(Family::Dots, layout::dot_key(&dot));
            trimmed.insert(dot.writer, dot.number);
            ControlFlow::Continue(())
        });
        match scanned {
            Err(error) if !error.is_local() => return Err(error.into()),
            _ => {}
        }
        committed.log_from = next;
        self.log_bytes = self.log_bytes.saturating_sub(bytes);
        for (writer, number) in trimmed {
            // Where states took the place of transactions, more than the log ever held is trimmed already.
            let tip = Tip { number, hash: [0; 8] };
            if self.trimmed.advance(writer, tip) {
                put_trimmed(batch, writer, tip);
            }
        }
        Ok(seen)
    }

    /// Folds the older writers of a replica into one floor, once the log holds nothing of them.
    fn fold(&mut self, replica: ReplicaId, floor: Floor, batch: &mut Batch) {
        let gone = |(writer, tip): (Writer, Tip)| {
            let last = Dot {
                writer,
                number: tip.number,
            };
            writer != self.start && self.trimmed.covers(&last)
        };
        let all_gone = self
            .vector
            .of_replica(replica)
            .take_while(|(writer, _)| writer.epoch <= floor.epoch)
            .all(gone);
        if all_gone {
            self.adopt_floor(replica, floor, batch);
        }
    }

    /// Replaces a replica's writers up to an epoch by their floor, unless there is one as high.
    pub(super) fn adopt_floor(&mut self, replica: ReplicaId, floor: Floor, batch: &mut Batch) {
        if self
            .vector
            .floor(&replica)
            .is_some_and(|ours| ours.epoch >= floor.epoch)
        {
            return;
        }
        let ended: Vec<Writer> = self
            .vector
            .of_replica(replica)
            .map(|(writer, _)| writer)
            .take_while(|writer| writer.epoch <= floor.epoch)
            .collect();
        for writer in ended {
            batch.delete(Family::Meta, layout::join(meta::VECTOR, &writer.to_bytes()));
            batch.delete(Family::Meta, layout::join(meta::TRIMMED, &writer.to_bytes()));
            self.follows.remove(&writer);
        }
        self.vector.adopt_floor(replica, floor);
        self.trimmed.adopt_floor(replica, floor);
        let key = layout::join(meta::FLOOR, &replica.0);
        batch.put(Family::Meta, key, layout::seal(&layout::floor_payload(floor)));
    }
}

/// Notes what the log no longer holds of a writer.
pub(super) fn put_trimmed(batch: &mut Batch, writer: Writer, tip: Tip) {
    let key = layout::join(meta::TRIMMED, &writer.to_bytes());
    batch.put(Family::Meta, key, layout::seal(&layout::tip_payload(tip)));
}
