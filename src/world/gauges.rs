//! What users saw: answers, failures, how long they waited. Per site, in windows and by the second.
//!
//! Latency runs from the moment somebody asked until they had an answer, detours over other sites included.
//! Arrivals are evenly paced and never wait for each other, so a site that stalls shows both as long latencies
//! and as a gap between the successes before and after it.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::network::micros;

/// Counters of all the sites.
pub(crate) struct Gauges {
    began: Instant,
    sites: Vec<Gauge>,
}

struct Gauge {
    window: Window,
    /// The latest success of a sign-in; windows share it, so that no gap hides between two of them.
    success: Option<Instant>,
    seconds: VecDeque<Second>,
}

/// What one site did between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Microseconds from asking to answer, of sign-ins that succeeded as they should.
    sign_ins: Histogram<u64>,
    /// Longest time between two successive successes of sign-ins here.
    pub(crate) longest_gap: Duration,
    /// Requests that ended as they should, sign-ins included.
    pub(crate) succeeded: u64,
    /// Reason → how many users saw it.
    pub(crate) failures: BTreeMap<String, u64>,
    /// The first few failures in words.
    pub(crate) examples: Vec<String>,
    /// Requests that this site did not take and another did: users saw no failure.
    pub(crate) turned_away: u64,
}

/// One second at one site.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Second {
    /// Whole seconds since the world began.
    #[serde(skip)]
    at: u64,
    pub(crate) sign_ins: u32,
    pub(crate) others: u32,
    pub(crate) failures: u32,
}

impl Window {
    fn new() -> Window {
        let sign_ins = Histogram::new_with_bounds(1, LONGEST_US, 3)
            .unwrap_or_else(|error| unreachable!("these bounds are allowed: {error}"));
        Window {
            sign_ins,
            longest_gap: Duration::ZERO,
            succeeded: 0,
            failures: BTreeMap::new(),
            examples: Vec::new(),
            turned_away: 0,
        }
    }

    pub(crate) fn sign_ins(&self) -> u64 {
        self.sign_ins.len()
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(if self.sign_ins.is_empty() {
            0
        } else {
            self.sign_ins.max()
        })
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(if self.sign_ins.is_empty() {
            0
        } else {
            self.sign_ins.value_at_quantile(quantile)
        })
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds another site's window, or a later one of the same site.
    pub(crate) fn join(&mut self, other: &Window) {
        // All have the same bounds, so the sum always fits.
        let _ = self.sign_ins.add(&other.sign_ins);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        self.succeeded += other.succeeded;
        self.turned_away += other.turned_away;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }
}

impl Gauges {
    pub(crate) fn new(sites: usize) -> Gauges {
        let gauge = || Gauge {
            window: Window::new(),
            success: None,
            seconds: VecDeque::new(),
        };
        Gauges {
            began: Instant::now(),
            sites: (0..sites).map(|_| gauge()).collect(),
        }
    }

    /// A sign-in with the right password succeeded.
    pub(crate) fn signed_in(&mut self, site: usize, took: Duration) {
        let now = Instant::now();
        let Some(gauge) = self.sites.get_mut(site) else {
            return;
        };
        gauge.window.sign_ins.saturating_record(micros(took));
        gauge.window.succeeded += 1;
        gauge.close_gap(now);
        gauge.success = Some(now);
        gauge.second(self.began).sign_ins += 1;
    }

    /// Anything else went as it should.
    pub(crate) fn served(&mut self, site: usize) {
        let Some(gauge) = self.sites.get_mut(site) else {
            return;
        };
        gauge.window.succeeded += 1;
        gauge.second(self.began).others += 1;
    }

    /// A user saw something that they should not have.
    pub(crate) fn failed(&mut self, site: usize, reason: String, words: String) {
        let Some(gauge) = self.sites.get_mut(site) else {
            return;
        };
        if gauge.window.examples.len() < EXAMPLES_MAX {
            gauge.window.examples.push(words);
        }
        *gauge.window.failures.entry(reason).or_default() += 1;
        gauge.second(self.began).failures += 1;
    }

    /// The site did not take a request, and another one got it.
    pub(crate) fn turned_away(&mut self, site: usize) {
        if let Some(gauge) = self.sites.get_mut(site) {
            gauge.window.turned_away += 1;
        }
    }

    /// Nobody is sent to this site any more: what follows is no pause of its.
    pub(crate) fn out_of_rotation(&mut self, site: usize) {
        if let Some(gauge) = self.sites.get_mut(site) {
            gauge.close_gap(Instant::now());
            gauge.success = None;
        }
    }

    /// Ends the present window of every site and begins the next.
    pub(crate) fn cut_window(&mut self) -> Vec<Window> {
        let now = Instant::now();
        let cut = |gauge: &mut Gauge| {
            // A gap that is still open counts as far as it goes; it goes on counting in the next window.
            gauge.close_gap(now);
            std::mem::replace(&mut gauge.window, Window::new())
        };
        self.sites.iter_mut().map(cut).collect()
    }

    /// The present window of a site.
    pub(crate) fn window(&self, site: usize) -> Option<&Window> {
        self.sites.get(site).map(|gauge| &gauge.window)
    }

    /// The last whole seconds of a site, oldest first, without holes.
    pub(crate) fn seconds(&self, site: usize) -> Vec<Second> {
        let now = self.began.elapsed().as_secs();
        let from = now.saturating_sub(SECONDS_SHOWN);
        let known = self.sites.get(site).map(|gauge| &gauge.seconds);
        let at = |second| {
            known
                .and_then(|known| known.iter().find(|s| s.at == second))
                .copied()
        };
        (from..now).map(|second| at(second).unwrap_or_default()).collect()
    }
}

impl Gauge {
    fn close_gap(&mut self, now: Instant) {
        if let Some(success) = self.success {
            self.window.longest_gap = self.window.longest_gap.max(now - success);
        }
    }

    fn second(&mut self, began: Instant) -> &mut Second {
        let at = began.elapsed().as_secs();
        if self.seconds.back().is_none_or(|last| last.at != at) {
            if self.seconds.len() as u64 > SECONDS_SHOWN {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second {
                at,
                ..Second::default()
            });
        }
        let last = self.seconds.len() - 1;
        &mut self.seconds[last]
    }
}

/// Waits are told apart up to two minutes; nothing waits that long before it is a failure.
const LONGEST_US: u64 = 120_000_000;

/// How far back the page's small curves go.
const SECONDS_SHOWN: u64 = 60;

/// Failures told in words per site and window; the rest are counted.
const EXAMPLES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_seen_across_windows_but_not_while_out_of_rotation() {
        let mut gauges = Gauges::new(1);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        gauges.sites[0].success = Some(long_ago);
        assert!(gauges.cut_window()[0].longest_gap >= Duration::from_secs(5));
        gauges.signed_in(0, Duration::from_millis(3));
        assert!(
            gauges.cut_window()[0].longest_gap >= Duration::from_secs(5),
            "it is in both windows"
        );
        gauges.sites[0].success = Some(long_ago);
        gauges.out_of_rotation(0);
        let _ = gauges.cut_window();
        gauges.signed_in(0, Duration::from_millis(3));
        assert!(gauges.cut_window()[0].longest_gap < Duration::from_secs(1));
    }

    #[test]
    fn windows_join_into_one() {
        let mut gauges = Gauges::new(2);
        gauges.signed_in(0, Duration::from_millis(3));
        gauges.signed_in(1, Duration::from_millis(9));
        gauges.failed(1, "503 busy".into(), "at night".into());
        let windows = gauges.cut_window();
        let mut all = windows[0].clone();
        all.join(&windows[1]);
        assert_eq!((all.sign_ins(), all.succeeded, all.failed()), (2, 2, 1));
        assert!(all.longest() >= Duration::from_millis(9));
    }
}
