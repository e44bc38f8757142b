//! What the sites answered for: every write that somebody was told had happened.
//!
//! The ledger is the world's own memory, made of answers alone. A scenario holds the sites to it.

use std::collections::HashMap;

use serde::Serialize;

use super::client::{Dot, VectorSeen, Written};

/// The acknowledged writes of one world.
pub(crate) struct Ledger {
    /// A world without a scenario runs for days and judges nothing: it only counts.
    keep: bool,
    entries: Vec<Entry>,
    by_dot: HashMap<Dot, usize>,
    pub(crate) counts: Counts,
    /// Dots that were answered twice: two contents under one name.
    twice: Vec<Dot>,
}

/// One acknowledged write.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) dot: Dot,
    /// Where it was answered (and hence written).
    pub(crate) site: usize,
    /// When the request was sent, and when its answer came (wall clock, µs).
    pub(crate) asked_us: u64,
    pub(crate) answered_us: u64,
    /// `sites:2`, `degraded`, `local`: how many disks the site says had it.
    pub(crate) answered: String,
    pub(crate) what: &'static str,
}

/// How the writes were answered.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) degraded: u64,
    /// Said to be done, but without a dot by which it could be held to account.
    pub(crate) nameless: u64,
}

impl Ledger {
    pub(crate) fn new(keep: bool) -> Ledger {
        Ledger {
            keep,
            entries: Vec::new(),
            by_dot: HashMap::new(),
            counts: Counts::default(),
            twice: Vec::new(),
        }
    }

    /// Notes an answer.
    pub(crate) fn note(&mut self, site: usize, what: &'static str, asked_us: u64, written: &Written) {
        self.counts.acknowledged += 1;
        if written.answered == DEGRADED {
            self.counts.degraded += 1;
        }
        let Some(dot) = written.dot.clone() else {
            self.counts.nameless += 1;
            return;
        };
        if !self.keep {
            return;
        }
        let answered_us = super::wall_us();
        if self.by_dot.insert(dot.clone(), self.entries.len()).is_some() {
            self.twice.push(dot.clone());
        }
        let answered = written.answered.clone();
        self.entries.push(Entry {
            dot,
            site,
            asked_us,
            answered_us,
            answered,
            what,
        });
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Dots that were answered for more than once.
    pub(crate) fn answered_twice(&self) -> &[Dot] {
        &self.twice
    }

    /// Entries that this vector does not cover. Of a writer that it folds it has what some disk `had`: a floor tells
    /// that all have the same of it, and not how much that is.
    pub(crate) fn missing_from(&self, vector: &VectorSeen, had: impl Fn(&Dot) -> bool) -> Vec<Entry> {
        let is_in = |dot: &Dot| vector.lists(dot) || (vector.folds(&dot.writer) && had(dot));
        self.entries
            .iter()
            .filter(|entry| !is_in(&entry.dot))
            .cloned()
            .collect()
    }
}

/// Answered although fewer sites than wanted have it.
pub(crate) const DEGRADED: &str = "degraded";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u64) -> Written {
        Written {
            dot: Some(Dot {
                writer: "aa".into(),
                number,
            }),
            answered: "sites:2".into(),
        }
    }

    #[test]
    fn what_no_vector_covers_is_named() {
        let mut ledger = Ledger::new(true);
        ledger.note(3, "sign-up", 1, &written(1));
        ledger.note(3, "cancel", 2, &written(2));
        let vector = VectorSeen {
            writers: [("aa".to_string(), 1)].into(),
            ..VectorSeen::default()
        };
        let missing = ledger.missing_from(&vector, |_| false);
        assert_eq!(
            missing.iter().map(|entry| entry.what).collect::<Vec<_>>(),
            ["cancel"]
        );
    }

    #[test]
    fn what_nobody_had_when_its_writer_was_folded_is_missing() {
        let writer = "00112233445566770000000501020304050607ff";
        let mut ledger = Ledger::new(true);
        for number in [7, 8] {
            let dot = Some(Dot {
                writer: writer.into(),
                number,
            });
            let answered = "sites:2".into();
            ledger.note(0, "sign-up", 1, &Written { dot, answered });
        }
        let folded = VectorSeen {
            floors: [("0011223344556677".to_string(), 5)].into(),
            ..VectorSeen::default()
        };
        let missing = ledger.missing_from(&folded, |dot| dot.number <= 7);
        assert_eq!(
            missing.iter().map(|entry| entry.dot.number).collect::<Vec<_>>(),
            [8]
        );
    }

    #[test]
    fn one_dot_for_two_writes_is_noticed() {
        let mut ledger = Ledger::new(true);
        ledger.note(0, "sign-up", 1, &written(1));
        assert!(ledger.answered_twice().is_empty());
        ledger.note(1, "cancel", 2, &written(1));
        assert_eq!(ledger.answered_twice().len(), 1);
    }
}
