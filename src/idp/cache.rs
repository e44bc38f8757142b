//! What is remembered of domains, in bounded room.
//!
//! When it is full, what would end soonest goes first: failures before anybody's keys, so that whoever asks for domains
//! that do not exist pushes out only such.

use std::collections::{BTreeSet, HashMap};

use tokio::time::{Duration, Instant};

use super::discovery::Outcome;
use crate::browserid::Domain;

/// Outcomes by domain.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Domain, Entry>,
    by_end: BTreeSet<(Instant, Domain)>,
    entries_max: usize,
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    until: Instant,
    /// When it was last asked anew before its end.
    refreshed: Option<Instant>,
}

impl Cache {
    pub(super) fn new(entries_max: usize) -> Cache {
        Cache {
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
            entries_max,
        }
    }

    /// What may still be used.
    pub(super) fn fresh(&self, domain: &Domain, now: Instant) -> Option<&Outcome> {
        let entry = self.entries.get(domain)?;
        (now < entry.until).then_some(&entry.outcome)
    }

    /// How much longer it may be used.
    pub(super) fn fresh_for(&self, domain: &Domain, now: Instant) -> Duration {
        let until = self.entries.get(domain).map(|entry| entry.until);
        until
            .and_then(|until| until.checked_duration_since(now))
            .unwrap_or_default()
    }

    /// Remembers an outcome. A failure does not take the place of an outcome that may still be used: the domain said
    /// itself how long that is good.
    pub(super) fn put(&mut self, domain: &Domain, outcome: &Outcome, until: Instant, now: Instant) {
        let is_failure = matches!(outcome, Outcome::None(_));
        let good = self
            .fresh(domain, now)
            .is_some_and(|old| !matches!(old, Outcome::None(_)));
        if (is_failure && good) || self.entries_max == 0 {
            return;
        }
        let refreshed = self.remove(domain).and_then(|old| old.refreshed);
        while self.entries.len() >= self.entries_max {
            let Some((_, first)) = self.by_end.pop_first() else {
                break;
            };
            self.entries.remove(&first);
        }
        self.by_end.insert((until, domain.clone()));
        let entry = Entry {
            outcome: outcome.clone(),
            until,
            refreshed,
        };
        self.entries.insert(domain.clone(), entry);
    }

    /// Whether a domain may be asked anew before its entry ends. Yes uses it up, for a while.
    pub(super) fn take_refresh(&mut self, domain: &Domain, interval: Duration, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(domain) else {
            return true;
        };
        if entry.refreshed.is_some_and(|last| now < last + interval) {
            return false;
        }
        entry.refreshed = Some(now);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, domain: &Domain) -> Option<Entry> {
        let entry = self.entries.remove(domain)?;
        self.by_end.remove(&(entry.until, domain.clone()));
        Some(entry)
    }
}
