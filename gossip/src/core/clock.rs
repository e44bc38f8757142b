//! How far this replica's wall clock is off its peers'.
//!
//! Each statement of a peer carries its wall clock; half a round trip is how old that is. One peer may be wrong,
//! so the median of at least three counts. Nothing here sets a clock: over 5 s is shown, and the
//! site refuses writes over 60 s.

use std::time::Duration;

use super::{Event, Gossip, Now};

/// A peer's clock less ours, and when that was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offset {
    pub(super) ms: i64,
    at: Duration,
}

/// With fewer peers, nobody can say whose clock is wrong.
const PEERS_MIN: usize = 3;
/// An older measurement does not count.
const FRESH: Duration = Duration::from_secs(10);
/// From here on it is shown.
const WARN_MS: u64 = 5_000;
/// How often is looked; the median is over a handful of numbers, but this is asked after every input.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often it is shown again.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

impl Offset {
    pub(super) fn measure(now: Now, wall_ms: u64, rtt: Option<Duration>) -> Offset {
        let way = rtt.map_or(0, |rtt| i128::try_from(rtt.as_millis() / 2).unwrap_or(0));
        let ms = i128::from(wall_ms) + way - i128::from(now.wall_ms);
        let bound = i128::from(i64::MAX);
        Offset {
            ms: i64::try_from(ms.clamp(-bound, bound)).unwrap_or(0),
            at: now.at,
        }
    }
}

impl Gossip {
    /// The median of the peers' clocks less ours, in milliseconds; nothing with fewer than three of them.
    #[must_use]
    pub fn skew(&self) -> Option<i64> {
        let fresh = self
            .offsets
            .values()
            .filter(|offset| offset.at + FRESH >= self.now.at);
        let mut offsets: Vec<i64> = fresh.map(|offset| offset.ms).collect();
        if offsets.len() < PEERS_MIN {
            return None;
        }
        offsets.sort_unstable();
        let upper = offsets.get(offsets.len() / 2).copied()?;
        let lower = offsets.get((offsets.len() - 1) / 2).copied()?;
        Some(lower.midpoint(upper))
    }

    pub(super) fn settle_skew(&mut self) {
        if self.offsets.len() < PEERS_MIN || self.now.at < self.skew_at {
            return;
        }
        self.skew_at = self.now.at + LOOK_INTERVAL;
        match self.skew().filter(|ms| ms.unsigned_abs() > WARN_MS) {
            None => self.skew_told = None,
            Some(offset_ms) => {
                if self
                    .skew_told
                    .is_none_or(|told| told + WARN_INTERVAL <= self.now.at)
                {
                    self.skew_told = Some(self.now.at);
                    self.emit(Event::ClockSkew { offset_ms });
                }
            }
        }
    }
}
