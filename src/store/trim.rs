//! What the log lets go: what every member has, and what exceeds its size; and the older starts whose entries went.

use std::{collections::BTreeMap, ops::ControlFlow};

use gossip::{Dot, Floor, ReplicaId, Tip, Vector, Writer};

use super::{
    damage,
    disk::{Batch, DiskRead, Family},
    holes::LogPass,
    layout::{self, meta},
    ledger::Ledger,
    records::ReadError,
    repair,
    scrub::{ScrubReport, Step},
    work::Committed,
};

/// Log entries trimmed in one batch.
const TRIM_ENTRIES_MAX: usize = 4096;

/// Bytes of a torn log that are read in one batch.
const READ_BYTES: u64 = 1 << 20;

/// A log in which something cannot be read is read through from its front, and that is let go.
#[derive(Default)]
pub(super) struct TornLog {
    reading: Option<LogPass>,
    /// Blocks that cannot be read, and for which the log was read through, or is. They stay; nothing in them is needed.
    gaps: usize,
}

impl TornLog {
    /// Whether the log is to be read through before any more of it goes: afterwards nobody could tell what it was that
    /// cannot be read.
    fn begins(&mut self, spoiled: bool, gaps: usize) -> bool {
        let begins = self.reading.is_none() && (spoiled || gaps > self.gaps);
        if begins {
            self.reading = Some(LogPass::default());
        }
        self.gaps = gaps;
        begins
    }
}

impl Ledger {
    /// Removes from the front of the log what everyone has, as far as it goes, and folds what `stable` has folded.
    ///
    /// Not while a record waits for a state whose cut the log reaches back to: a cut is as old as its way here is
    /// long, and what came before it must not be gone by then.
    pub(super) fn trim(
        &mut self,
        disk: &dyn DiskRead,
        stable: &Vector,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        self.trim_held = repair::some_lack_unnamed(disk)?.then(|| stable.clone());
        if self.trim_held.is_some() {
            return Ok(());
        }
        self.read_torn_log(disk, batch, committed)?;
        let seen = if self.torn.reading.is_some() {
            0
        } else {
            self.trim_while(disk, batch, committed, |dot, _| stable.covers(dot))?
        };
        let more = seen == TRIM_ENTRIES_MAX || self.torn.reading.is_some();
        committed.trim_on = more.then(|| stable.clone());
        for (replica, floor) in stable.floors() {
            self.fold(replica, floor, batch);
        }
        committed.trimmed = Some(self.trimmed.clone());
        Ok(())
    }

    /// Goes on reading a log in which something cannot be read, until all of that is let go.
    fn read_torn_log(
        &mut self,
        disk: &dyn DiskRead,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        // What was trimmed in this group is still seen.
        if !committed.log_from.is_empty() {
            return Ok(());
        }
        let Some(mut pass) = self.torn.reading.take() else {
            return Ok(());
        };
        let mut report = ScrubReport::default();
        let mut step = Step {
            report: &mut report,
            bytes_left: READ_BYTES,
        };
        if !self.log_again(disk, &mut pass, &mut step, batch, committed)? {
            self.torn.reading = Some(pass);
        }
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
        let mut spoiled = false;
        let mut gone = Vec::new();
        let scanned = damage::scan_around(disk, Family::Log, &from, &mut |key, value| {
            // What cannot be read stops nothing: what is behind it and may go says of its writer that all before may.
            let entry = layout::unseal(value).and_then(layout::log_entry);
            let Ok((dot, _)) = entry else {
                spoiled = true;
                return ControlFlow::Continue(());
            };
            if seen == TRIM_ENTRIES_MAX || !goes(&dot, value.len() as u64) {
                return ControlFlow::Break(());
            }
            seen += 1;
            bytes += value.len() as u64;
            next.clear();
            next.extend_from_slice(key);
            next.push(0);
            gone.push((key.to_vec(), layout::dot_key(&dot)));
            trimmed.insert(dot.writer, dot.number);
            ControlFlow::Continue(())
        });
        match scanned {
            Err(error) if !error.is_local() => return Err(error.into()),
            scanned => {
                if self.torn.begins(spoiled, scanned.unwrap_or_default()) {
                    return Ok(0);
                }
            }
        }
        for (place, dot) in gone {
            batch.delete(Family::Log, place);
            batch.delete(Family::Dots, dot);
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
    ///
    /// What our next transaction follows stays noted: who joins counts for no floor, may lack what everyone else has, and
    /// takes our pushes in the order that they say. There is at most the last entry of each replica's starts: a start's
    /// first transaction follows, and so replaces, the last of the one before.
    pub(super) fn adopt_floor(&mut self, replica: ReplicaId, floor: Floor, batch: &mut Batch) {
        if self.vector.floor(&replica).is_some_and(|ours| ours >= floor) {
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
