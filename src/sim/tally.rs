//! How often each kind of fault really happened, and how often each checker looked.
//!
//! A run in which one of them never did shows nothing about it, and is no pass.

use std::collections::BTreeMap;

use super::{check::Checker, trouble::Kind};

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Faults that took effect, not those that were meant.
    pub faults: BTreeMap<Kind, u64>,
    /// Looks of each checker at something that could have been wrong.
    pub looks: BTreeMap<Checker, u64>,
    /// What else happened, by what it is called.
    pub other: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn fault(&mut self, kind: Kind) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn look(&mut self, checker: Checker) {
        *self.looks.entry(checker).or_default() += 1;
    }

    pub(crate) fn count(&mut self, what: &'static str, times: u64) {
        *self.other.entry(what).or_default() += times;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Tally) {
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        for (checker, count) in &other.looks {
            *self.looks.entry(*checker).or_default() += count;
        }
        for (what, count) in &other.other {
            *self.other.entry(what).or_default() += count;
        }
    }

    /// What never happened, in words; empty if everything was exercised.
    pub fn missing(&self) -> Vec<String> {
        let faults = Kind::ALL
            .iter()
            .filter(|kind| self.faults.get(kind).is_none_or(|count| *count == 0));
        let looks = Checker::ALL
            .iter()
            .filter(|checker| self.looks.get(checker).is_none_or(|count| *count == 0));
        faults
            .map(|kind| format!("no fault of kind {}", kind.name()))
            .chain(looks.map(|checker| format!("checker {} never looked", checker.name())))
            .collect()
    }
}
