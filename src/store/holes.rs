//! What of the log cannot be read, or is gone.
//!
//! What such an entry changed is in the records. Only a peer that lacks it wants it still, and that one takes states in
//! place of what no log gives any more. So it is let go, stable or not, like the oldest entries of a log that has grown
//! too long: what cannot be read is deleted, and what the log no longer holds of its writer ends behind it. Which
//! transaction it was its neighbours tell: a writer's numbers lie in the log without a gap.

use std::collections::BTreeMap;

use gossip::{Dot, Envelope, Tip, Writer, transaction_hash};

use super::{
    disk::{Batch, DiskRead, Family},
    group,
    layout::{self, meta},
    ledger::Ledger,
    records::{self, ReadError},
    scrub::{Next, Step, walk},
    trim,
    work::Committed,
};

/// Entries of one hole that are deleted by name. Those of a larger one are gone, or in blocks that cannot be read.
const HOLE_ENTRIES_MAX: u64 = 65_536;

/// A reading of the log from its front to its end, a stretch at a time.
#[derive(Default)]
pub(super) struct LogPass {
    /// The key to go on from.
    from: Vec<u8>,
    /// The last transaction of each writer that was read.
    tips: BTreeMap<Writer, (u64, [u8; 8])>,
}

impl Ledger {
    /// Reads a stretch of the log again, and lets go what it cannot give any more. True at its end.
    pub(super) fn log_again(
        &mut self,
        disk: &dyn DiskRead,
        pass: &mut LogPass,
        step: &mut Step<'_>,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<bool, ReadError> {
        let from = std::mem::take(&mut pass.from);
        let mut holes: Vec<(Writer, u64, u64)> = Vec::new();
        let mut unreadable_bytes = 0;
        let next: Next = walk(disk, Family::Log, &from, step, |key, value, report| {
            let entry = layout::unseal(value).and_then(layout::log_entry).ok();
            let decoded = entry.and_then(|(dot, bytes)| {
                let envelope = Envelope::decode(bytes).ok()?;
                (envelope.dot == dot).then(|| (envelope, transaction_hash(bytes)))
            });
            let Some((envelope, hash)) = decoded else {
                report.damaged(|| format!("the log at place {}", layout::number(key).unwrap_or_default()));
                batch.delete(Family::Log, key);
                unreadable_bytes += value.len() as u64;
                return Ok(());
            };
            let dot = envelope.dot;
            let before = pass.tips.insert(dot.writer, (dot.number, hash));
            let read = before.map_or(0, |(number, _)| number);
            if dot.number > read + 1 {
                holes.push((dot.writer, read + 1, dot.number - 1));
            } else if before.is_some_and(|(_, hash)| envelope.predecessor != hash) {
                report.damaged(|| format!("the log: {} {} does not follow", dot.writer, dot.number));
            }
            let leads_here = group::get(disk, Family::Dots, &layout::dot_key(&dot))?;
            if leads_here.as_deref().map(layout::unseal) != Some(Ok(key)) {
                batch.put(Family::Dots, layout::dot_key(&dot), layout::seal(key));
                report.mended(|| format!("the place of {} {}", dot.writer, dot.number));
            }
            Ok(())
        })?;
        let over = next.is_none();
        if let Some(next) = next {
            pass.from = next;
        } else {
            // As the disk has it: what this group adds is not in what was read.
            for (writer, tip) in records::read_vector(disk, meta::VECTOR)?.iter() {
                let read = pass.tips.get(&writer).map_or(0, |(number, _)| *number);
                if read < tip.number {
                    holes.push((writer, read + 1, tip.number));
                }
            }
        }
        self.log_bytes = self.log_bytes.saturating_sub(unreadable_bytes);
        for (writer, first, last) in holes {
            if self.let_go(disk, writer, first, last, batch)? {
                step.report
                    .damaged(|| format!("the log: nothing of {writer} up to {last} can be given to others"));
                committed.trimmed = Some(self.trimmed.clone());
            }
        }
        Ok(over)
    }

    /// The log does not hold some transactions of a writer. True if it should have.
    fn let_go(
        &mut self,
        disk: &dyn DiskRead,
        writer: Writer,
        first: u64,
        last: u64,
        batch: &mut Batch,
    ) -> Result<bool, ReadError> {
        if self.trimmed.covers(&Dot { writer, number: last }) {
            return Ok(false);
        }
        let first = first.max(self.trimmed.get(&writer).map_or(0, |tip| tip.number) + 1);
        for number in (first..=last).take(usize::try_from(HOLE_ENTRIES_MAX).unwrap_or(usize::MAX)) {
            let dot = layout::dot_key(&Dot { writer, number });
            // Where the block that it lies in cannot be read, only this names it.
            if let Some(bytes) = group::get(disk, Family::Dots, &dot)?
                && let Ok(place) = layout::unseal(&bytes)
                && group::get(disk, Family::Log, place)?.is_none()
            {
                batch.delete(Family::Log, place);
            }
            batch.delete(Family::Dots, dot);
        }
        let tip = Tip {
            number: last,
            hash: [0; 8],
        };
        self.trimmed.advance(writer, tip);
        trim::put_trimmed(batch, writer, tip);
        Ok(true)
    }
}
