//! What is held in memory: transactions that came too early, and those that the committer has not on disk yet.

use std::collections::{BTreeMap, VecDeque};

use super::envelope::Received;
use super::vector::{Dot, MemberId, Vector, Writer};

/// Transactions that came before what they follow.
#[derive(Debug, Default)]
pub(super) struct Early {
    waiting: BTreeMap<Writer, BTreeMap<u64, Waiting>>,
    /// In the order in which they came: the oldest goes first for want of room.
    order: BTreeMap<u64, Dot>,
    next: u64,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) received: Received,
    pub(super) from: MemberId,
    order: u64,
}

/// Delivered, not yet on disk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    numbers: BTreeMap<Writer, VecDeque<(u64, usize)>>,
    pub(super) bytes: usize,
}

/// What a transaction costs to hold beside its bytes, roughly: the envelope taken apart.
const HELD_OVERHEAD: usize = 256;

impl Early {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn insert(&mut self, received: Received, from: MemberId) {
        let dot = received.envelope.dot;
        let of_writer = self.waiting.entry(dot.writer).or_default();
        if of_writer.contains_key(&dot.number) {
            return;
        }
        let order = self.next;
        self.next += 1;
        self.bytes += held(&received);
        self.order.insert(order, dot);
        of_writer.insert(
            dot.number,
            Waiting {
                received,
                from,
                order,
            },
        );
    }

    pub(super) fn remove(&mut self, dot: &Dot) -> Option<Waiting> {
        let of_writer = self.waiting.get_mut(&dot.writer)?;
        let waiting = of_writer.remove(&dot.number)?;
        if of_writer.is_empty() {
            self.waiting.remove(&dot.writer);
        }
        self.order.remove(&waiting.order);
        self.bytes -= held(&waiting.received);
        Some(waiting)
    }

    pub(super) fn drop_oldest(&mut self) -> bool {
        let oldest = self.order.values().next().copied();
        oldest.is_some_and(|dot| self.remove(&dot).is_some())
    }

    /// Drops those that follow something which is covered now only because its writer was folded: what was folded may end
    /// before it. Says how many. Whoever has one on disk has what it follows, and brings it again.
    pub(super) fn forget_folded(&mut self, before: &Vector, now: &Vector) -> u64 {
        let lost = |received: &Received| {
            let mut follows = received.envelope.follows.iter();
            follows.any(|(writer, tip)| {
                let (writer, number) = (*writer, tip.number);
                now.folded(&writer) && !before.covers(&Dot { writer, number })
            })
        };
        let waiting = self.waiting.iter().flat_map(|(writer, of_writer)| {
            let lost = of_writer.iter().filter(|(_, waiting)| lost(&waiting.received));
            lost.map(|(number, _)| Dot {
                writer: *writer,
                number: *number,
            })
        });
        let lost: Vec<Dot> = waiting.collect();
        let count = lost.iter().filter_map(|dot| self.remove(dot)).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The lowest number waiting of each writer.
    pub(super) fn firsts(&self) -> Vec<Dot> {
        let first = |(writer, of_writer): (&Writer, &BTreeMap<u64, Waiting>)| {
            Some(Dot {
                writer: *writer,
                number: *of_writer.keys().next()?,
            })
        };
        self.waiting.iter().filter_map(first).collect()
    }

    pub(super) fn get(&self, dot: &Dot) -> Option<&Waiting> {
        self.waiting.get(&dot.writer)?.get(&dot.number)
    }
}

impl Pending {
    pub(super) fn delivered(&mut self, received: &Received) {
        let dot = received.envelope.dot;
        self.bytes += held(received);
        self.numbers
            .entry(dot.writer)
            .or_default()
            .push_back((dot.number, held(received)));
    }

    /// The disk jumped ahead of what was delivered.
    pub(super) fn covered(&mut self, vector: &Vector) {
        let writers: Vec<Writer> = self.numbers.keys().copied().collect();
        for writer in writers {
            if vector.folded(&writer) {
                self.committed(writer, u64::MAX);
            } else if let Some(tip) = vector.get(&writer) {
                self.committed(writer, tip.number);
            }
        }
    }

    pub(super) fn committed(&mut self, writer: Writer, number: u64) {
        let Some(numbers) = self.numbers.get_mut(&writer) else {
            return;
        };
        while let Some((_, bytes)) = numbers.pop_front_if(|(waiting, _)| *waiting <= number) {
            self.bytes -= bytes;
        }
        if numbers.is_empty() {
            self.numbers.remove(&writer);
        }
    }
}

fn held(received: &Received) -> usize {
    2 * received.bytes.len() + HELD_OVERHEAD
}
