//! What came of it: how often, how long, and what went wrong, by activity and by request.
//!
//! Three ends are kept apart. *Done*: as it should be. *Refused*: 503, the site's way of saying that it is full; whoever
//! measures an overload wants to see it, and nobody's fault. *Failed*: everything else.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::activity::{Activity, Call};

/// Reasons for failures that are told apart in one row; the rest are one.
const REASONS_MAX: usize = 32;
/// Longest latency that is told from longer ones: any answer is given up before.
const LONGEST_US: u64 = 120_000_000;
/// Digits of a latency that are right.
const DIGITS: u8 = 3;

/// How something ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Done,
    /// 503, with or without `Retry-After`.
    Refused {
        says_when: bool,
    },
    /// The same text for the same reason.
    Failed(String),
}

/// One activity or one request, over the whole measurement.
pub(crate) struct Row {
    /// Microseconds until it was done.
    pub(crate) done: Histogram<u64>,
    /// Microseconds until it was refused.
    pub(crate) refused: Histogram<u64>,
    /// Of those, without `Retry-After`: a client does not know when to come back.
    pub(crate) refused_without_when: u64,
    pub(crate) failed: BTreeMap<String, u64>,
}

impl Row {
    pub(crate) fn new() -> Row {
        Row {
            done: histogram(),
            refused: histogram(),
            refused_without_when: 0,
            failed: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, ending: &Ending, took: Duration) {
        match ending {
            Ending::Done => record(&mut self.done, took),
            Ending::Refused { says_when } => {
                record(&mut self.refused, took);
                self.refused_without_when += u64::from(!says_when);
            }
            Ending::Failed(reason) => {
                let is_known = self.failed.contains_key(reason);
                let reason = if is_known || self.failed.len() < REASONS_MAX {
                    reason.clone()
                } else {
                    "other".to_owned()
                };
                *self.failed.entry(reason).or_default() += 1;
            }
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS)
        .unwrap_or_else(|error| unreachable!("these bounds are allowed: {error}"))
}

pub(crate) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US));
}

/// Everything that is counted.
pub(crate) struct Counts {
    pub(crate) activities: BTreeMap<Activity, Row>,
    pub(crate) calls: BTreeMap<Call, Row>,
    /// Health checks, by path.
    pub(crate) health: BTreeMap<&'static str, Row>,
    /// From the answer to what has a mail sent until it was read.
    pub(crate) mails: Row,
    /// From when an arrival was due until the generator began it: its own slowness, which is in all latencies.
    pub(crate) late: Histogram<u64>,
    /// Arrivals for which nobody was free who could.
    pub(crate) nobody_free: u64,
    /// Arrivals that the generator did not begin, having too many under way.
    pub(crate) not_begun: u64,
    /// Since the last look of the live line.
    pub(crate) recent: Recent,
}

/// What the live line shows of requests.
pub(crate) struct Recent {
    pub(crate) done: Histogram<u64>,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

/// Counts that many tasks add to.
pub(crate) struct Tally(Mutex<Counts>);

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally(Mutex::new(Counts {
            activities: Activity::ALL.map(|activity| (activity, Row::new())).into(),
            calls: Call::ALL.map(|call| (call, Row::new())).into(),
            health: BTreeMap::new(),
            mails: Row::new(),
            late: histogram(),
            nobody_free: 0,
            not_begun: 0,
            recent: Recent {
                done: histogram(),
                refused: 0,
                failed: 0,
            },
        }))
    }

    /// A request ended. Only what is measured counts in the end; the live line shows all.
    pub(crate) fn call(&self, call: Call, ending: &Ending, took: Duration, is_measured: bool) {
        let mut counts = self.counts();
        match ending {
            Ending::Done => record(&mut counts.recent.done, took),
            Ending::Refused { .. } => counts.recent.refused += 1,
            Ending::Failed(_) => counts.recent.failed += 1,
        }
        if is_measured && let Some(row) = counts.calls.get_mut(&call) {
            row.note(ending, took);
        }
    }

    /// A measured activity ended.
    pub(crate) fn activity(&self, activity: Activity, ending: &Ending, took: Duration) {
        if let Some(row) = self.counts().activities.get_mut(&activity) {
            row.note(ending, took);
        }
    }

    pub(crate) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened since the last call.
    pub(crate) fn take_recent(&self) -> Recent {
        let fresh = Recent {
            done: histogram(),
            refused: 0,
            failed: 0,
        };
        std::mem::replace(&mut self.counts().recent, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_failure_and_no_latency_of_what_was_done() {
        let tally = Tally::new();
        let (fast, slow) = (Duration::from_millis(1), Duration::from_secs(1));
        tally.call(Call::Verify, &Ending::Done, fast, true);
        tally.call(Call::Verify, &Ending::Refused { says_when: true }, slow, true);
        tally.call(Call::Verify, &Ending::Refused { says_when: false }, slow, true);
        tally.call(
            Call::Verify,
            &Ending::Failed("no connection".to_owned()),
            slow,
            true,
        );
        tally.call(Call::Verify, &Ending::Done, slow, false);
        let counts = tally.counts();
        let row = &counts.calls[&Call::Verify];
        assert_eq!((row.done.len(), row.refused.len(), row.failures()), (1, 2, 1));
        assert_eq!(row.refused_without_when, 1);
        assert!(row.done.max() < 1100);
        assert!(
            counts.recent.done.max() > 900_000,
            "the live line shows what is not measured, too"
        );
    }

    #[test]
    fn reasons_are_bounded() {
        let mut row = Row::new();
        for number in 0..2 * REASONS_MAX {
            row.note(&Ending::Failed(format!("reason {number}")), Duration::ZERO);
        }
        assert_eq!(row.failed.len(), REASONS_MAX + 1);
        assert_eq!(row.failures(), 2 * REASONS_MAX as u64);
    }
}
