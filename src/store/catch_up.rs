//! Coming to all that another replica's cut covers, where no log reaches back any more.
//!
//! What comes lies aside, in a family of its own, and is not served. When everything is there it is merged, a bounded
//! batch after the other, and nothing local is written meanwhile; the last batch raises the vector to what we and the
//! cut covered. Until then vector and acks are the old ones. A crash while it comes throws it away; a crash while it
//! is merged: the merging goes on.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use crdt::{Cell, RecordKey};
use gossip::{Dot, Tip, Vector, Writer, reconcile::Part};

use super::{
    cut::RecordState,
    damage,
    disk::{Batch, DiskError, DiskRead, Family},
    group::Group,
    layout::{self, Unsealed, meta},
    ledger::Ledger,
    records::ReadError,
    repair::{Beyond, RepairOutcome},
    trim,
    work::Committed,
};
use crate::planted::{self, Bug};

/// Bytes merged in one batch, one entry more or less.
const MERGE_BYTES_MAX: usize = 2 << 20;
/// Entries of an earlier catch-up, given up, that one sweep removes.
const REMOVE_ENTRIES_MAX: usize = 16_384;

/// Why a part of a catch-up was not kept. The conversation has to begin again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// The replica began a new start, and what had come before is gone.
    #[error("what came before is gone: the replica began a new start")]
    Restarted,
    /// What lies aside is of another cut.
    #[error("what lies aside is of another cut")]
    AnotherCut,
    /// An earlier catch-up is being merged.
    #[error("an earlier catch-up is being merged")]
    Merging,
    /// The disk.
    #[error("the disk failed")]
    Disk,
}

/// What lies aside.
pub(super) struct Aside {
    phase: Phase,
    /// Some of one was merged, and the rest could not be read: records hold more than the vector covers, so nothing
    /// local may follow from them, until another one has been merged.
    broken: bool,
    /// Tells this catch-up's entries from those of one that was given up.
    number: u64,
    /// `None` until the first state has come.
    cut: Option<Arc<Vector>>,
    /// What our log has beyond the cut: it does not change while the merging goes on.
    beyond: Option<Beyond>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle = 0,
    Coming = 1,
    Merging = 2,
}

/// Added to the phase on the disk: see [`Aside::broken`].
const BROKEN: u8 = 0x80;

impl Aside {
    /// What an earlier start left: what had not come whole is given up.
    pub(super) fn open(disk: &dyn DiskRead, random: u64) -> Result<Aside, ReadError> {
        let mut aside = Aside {
            phase: Phase::Idle,
            broken: false,
            // Not one that something lying here may have.
            number: random,
            cut: None,
            beyond: None,
        };
        if let Some(mark) = Mark::read(disk)? {
            aside.number = mark.number;
            aside.broken = mark.broken;
            if mark.phase == Phase::Merging {
                aside.phase = Phase::Merging;
                aside.cut = Some(Arc::new(mark.cut));
            }
        }
        Ok(aside)
    }

    fn mark(&self, batch: &mut Batch) {
        let mut payload = vec![self.phase as u8 | if self.broken { BROKEN } else { 0 }];
        payload.extend_from_slice(&self.number.to_be_bytes());
        let none = Vector::new();
        payload.extend(layout::vector_payload(self.cut.as_deref().unwrap_or(&none)));
        batch.put(Family::Meta, meta::ASIDE, layout::seal(&payload));
    }

    fn begin(&mut self, cut: Option<Arc<Vector>>, batch: &mut Batch) {
        self.phase = Phase::Coming;
        self.number = self.number.wrapping_add(1);
        self.cut = cut;
        self.beyond = None;
        self.mark(batch);
    }

    fn key(&self, family: &[u8], key: &[u8]) -> Vec<u8> {
        [&self.number.to_be_bytes()[..], family, key].concat()
    }
}

/// Whether records may hold more than the vector covers.
pub(super) fn under_way(disk: &dyn DiskRead) -> Result<bool, ReadError> {
    let mark = Mark::read(disk)?;
    Ok(mark.is_some_and(|mark| mark.broken || mark.phase == Phase::Merging))
}

/// Whether what has come is being merged: nothing else may come before that is over.
pub(super) fn merging(disk: &dyn DiskRead) -> Result<bool, ReadError> {
    Ok(Mark::read(disk)?.is_some_and(|mark| mark.phase == Phase::Merging))
}

/// What the disk says of a catch-up.
struct Mark {
    phase: Phase,
    broken: bool,
    number: u64,
    cut: Vector,
}

impl Mark {
    fn read(disk: &dyn DiskRead) -> Result<Option<Mark>, ReadError> {
        let Some(bytes) = disk.get(Family::Meta, meta::ASIDE)? else {
            return Ok(None);
        };
        let payload = layout::unseal(&bytes)?;
        let (phase, rest) = payload.split_first().ok_or(Unsealed::Shape)?;
        let (number, cut) = rest.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
        let known = [Phase::Idle, Phase::Coming, Phase::Merging];
        Ok(Some(Mark {
            phase: known
                .into_iter()
                .find(|known| *known as u8 == phase & !BROKEN)
                .ok_or(Unsealed::Shape)?,
            broken: phase & BROKEN != 0,
            number: u64::from_be_bytes(*number),
            cut: layout::vector(cut)?,
        }))
    }
}

impl Ledger {
    /// A catch-up has come whole and is to be merged before anything else is committed.
    pub fn is_merging(&self) -> bool {
        self.aside.phase == Phase::Merging
    }

    /// Why nothing local may be written now, if so.
    pub(super) fn holds_back(&self) -> Option<&'static str> {
        if self.is_merging() {
            Some("it is taking in what it missed")
        } else if self.aside.broken {
            Some("it could take in only a part of what it missed, and waits for the whole of it")
        } else {
            None
        }
    }

    /// Lays a part of a catch-up aside. `start`: the writer under which its conversation began. The outer error ends the
    /// group.
    pub(super) fn set_aside(
        &mut self,
        group: &mut Group<'_>,
        start: Writer,
        part: Part,
        batch: &mut Batch,
    ) -> Result<Result<(), NotKept>, ReadError> {
        if start != self.start {
            return Ok(Err(NotKept::Restarted));
        }
        let aside = &mut self.aside;
        if aside.phase == Phase::Merging {
            return Ok(Err(NotKept::Merging));
        }
        match part {
            Part::States { cut, states } => {
                let known = aside.cut.as_deref().is_none_or(|known| *known == cut);
                if aside.phase != Phase::Coming || !known {
                    aside.begin(Some(Arc::new(cut)), batch);
                } else if aside.cut.is_none() {
                    aside.cut = Some(Arc::new(cut));
                }
                for (key, state) in states {
                    group.recall_aside(RecordKey::from_bytes(key), &state)?;
                    batch.put(
                        Family::Side,
                        aside.key(layout::SIDE_STATES, &key),
                        layout::seal(&state),
                    );
                }
            }
            Part::Cells(cells) => {
                let cells = if planted::is(Bug::ForgetsCells) {
                    Vec::new()
                } else {
                    cells
                };
                if aside.phase != Phase::Coming {
                    aside.begin(None, batch);
                }
                // One that is no cell is worth no more than none.
                for cell in cells.iter().filter_map(|bytes| Cell::decode(bytes).ok()) {
                    let key = layout::cell_key(cell.kind, &cell.key, cell.slot);
                    let key = aside.key(layout::SIDE_CELLS, &key);
                    batch.put(Family::Side, key, layout::seal(&cell.encode()));
                }
            }
            Part::Complete { cut } => {
                if aside.phase != Phase::Coming {
                    aside.begin(None, batch);
                }
                if aside.cut.as_deref().is_some_and(|known| *known != cut) {
                    aside.phase = Phase::Idle;
                    aside.cut = None;
                    aside.mark(batch);
                    return Ok(Err(NotKept::AnotherCut));
                }
                aside.cut = Some(Arc::new(cut));
                aside.phase = Phase::Merging;
                aside.mark(batch);
            }
        }
        Ok(Ok(()))
    }

    /// The conversation of a catch-up is over. What has not come whole by then never will: it goes with the next sweep, so
    /// that nothing of anybody lies there until one begins anew, which may be never.
    pub(super) fn end_aside(&mut self, batch: &mut Batch) {
        if self.aside.phase == Phase::Coming {
            self.aside.phase = Phase::Idle;
            self.aside.cut = None;
            self.aside.mark(batch);
        }
    }

    /// Merges a bounded part of what lies aside; with the last of it, the vector is raised.
    pub(super) fn merge_aside(
        &mut self,
        group: &mut Group<'_>,
        now_ms: u64,
        batch: &mut Batch,
        moved: &mut BTreeMap<Writer, Tip>,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        let (true, Some(cut)) = (self.is_merging(), self.aside.cut.clone()) else {
            return Ok(());
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        let number = self.aside.number.to_be_bytes();
        let mut all = true;
        let scanned = group.disk.scan_prefix(Family::Side, &number, &mut |key, value| {
            if entries.len() == self.merge_entries_max || bytes > MERGE_BYTES_MAX {
                all = false;
                return ControlFlow::Break(());
            }
            bytes += value.len();
            entries.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        match scanned {
            Ok(()) => {}
            Err(error) if error.is_local() => {
                self.give_up_merging(batch, committed);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let mut beyond = self
            .aside
            .beyond
            .take()
            .unwrap_or_else(|| Beyond::raising(cut.clone()));
        for (key, value) in entries {
            let Ok(payload) = layout::unseal(&value) else {
                self.give_up_merging(batch, committed);
                return Ok(());
            };
            let inner = &key[number.len()..];
            if let Some(record) = inner.strip_prefix(layout::SIDE_STATES) {
                let record: [u8; 16] = record.try_into().map_err(|_| Unsealed::Shape)?;
                let record = RecordKey::from_bytes(record);
                let state = RecordState::decode(payload).ok();
                let outcome = group.repair(record, state, &mut beyond)?;
                // What was said of it was said before this came.
                self.doubts.forget(record);
                committed.repaired_in_catch_up += u64::from(outcome != RepairOutcome::Unchanged);
                self.clock.observe(group.latest(record)?, now_ms);
            } else if let Ok(cell) = Cell::decode(payload) {
                self.clock.observe(cell.stamp, now_ms);
                group.hear_cell(cell, now_ms)?;
            }
            batch.delete(Family::Side, key);
        }
        self.aside.beyond = Some(beyond);
        let clock = layout::number_key(self.clock.last().to_u64());
        batch.put(Family::Meta, meta::CLOCK, layout::seal(&clock));
        if planted::is(Bug::RaisesEarly) && !all {
            self.raise(&cut, batch, moved);
        }
        if all {
            self.raise(&cut, batch, moved);
            self.aside.phase = Phase::Idle;
            self.aside.broken = false;
            self.aside.cut = None;
            self.aside.beyond = None;
            self.aside.mark(batch);
            committed.caught_up = true;
            committed.trimmed = Some(self.trimmed.clone());
        }
        Ok(())
    }

    /// All that the cut covers is in the records now.
    fn raise(&mut self, cut: &Vector, batch: &mut Batch, moved: &mut BTreeMap<Writer, Tip>) {
        for (replica, floor) in cut.floors() {
            // A floor over the start that runs here is of a time before this directory was restored: whoever
            // drives this replica gives it a new id.
            if replica != self.start.replica || floor.epoch < self.start.epoch {
                self.adopt_floor(replica, floor, batch);
            }
        }
        for (writer, tip) in cut.iter() {
            let last = Dot {
                writer,
                number: tip.number,
            };
            if self.vector.covers(&last) {
                continue;
            }
            self.vector.advance(writer, tip);
            moved.insert(writer, tip);
            // What lies between was never in our log.
            self.trimmed.advance(writer, tip);
            trim::put_trimmed(batch, writer, tip);
            if writer != self.start {
                self.follows.insert(writer, tip);
            }
        }
        moved.retain(|writer, _| !self.vector.folded(writer));
    }

    fn give_up_merging(&mut self, batch: &mut Batch, committed: &mut Committed) {
        committed.catch_up_failed = true;
        self.aside.phase = Phase::Idle;
        self.aside.broken = true;
        self.aside.cut = None;
        self.aside.mark(batch);
    }

    /// Removes what catch-ups that were given up have left, a stretch at a time.
    pub(super) fn sweep_aside(&self, disk: &dyn DiskRead, batch: &mut Batch) -> Result<(), DiskError> {
        let mut seen = 0;
        let kept = (self.aside.phase != Phase::Idle).then(|| self.aside.number.to_be_bytes());
        let behind = self.aside.number.wrapping_add(1).to_be_bytes();
        for from in [&[][..], &behind] {
            let scanned = damage::scan_around(disk, Family::Side, from, &mut |key, _| {
                if seen == REMOVE_ENTRIES_MAX || kept.is_some_and(|kept| key.starts_with(&kept)) {
                    return ControlFlow::Break(());
                }
                seen += 1;
                batch.delete(Family::Side, key);
                ControlFlow::Continue(())
            });
            match scanned {
                Err(error) if !error.is_local() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
