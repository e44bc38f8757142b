//! The hybrid logical clock.
//!
//! An [`Hlc`] orders values that were written concurrently; what was written knowing of another needs no
//! clock, since Automerge drops overwritten values itself. Promise: a [`Clock`] never goes back, and a single
//! value from the future cannot make it run ahead of the wall clock by more than [`CLOCK_AHEAD_MAX_MS`].
//!
//! After Kulkarni and others, "Logical Physical Clocks" (2014), in its 64-bit form.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::planted::{self, Bug};

/// A moment: 48 bits of milliseconds since the Unix epoch, then 16 bits of counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hlc(u64);

impl Hlc {
    /// Before every other.
    pub const ZERO: Hlc = Hlc(0);

    /// `ms` beyond 48 bits (the year 10889) is cut to the greatest that fits.
    pub const fn new(ms: u64, counter: u16) -> Hlc {
        let ms = if ms > MS_MAX { MS_MAX } else { ms };
        Hlc((ms << 16) | counter as u64)
    }

    /// Milliseconds since the Unix epoch.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// Tells apart what happened within one millisecond.
    pub fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The next greater one; the greatest has none and stays.
    #[must_use]
    pub fn succ(self) -> Hlc {
        Hlc(self.0.saturating_add(1))
    }

    /// The form that is stored and sent.
    pub fn to_u64(self) -> u64 {
        self.0
    }

    /// The other way; every number is an `Hlc`.
    pub fn from_u64(raw: u64) -> Hlc {
        Hlc(raw)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// How far a value from elsewhere may move a clock ahead of its own wall clock, in milliseconds.
pub const CLOCK_AHEAD_MAX_MS: u64 = 60_000;

const MS_MAX: u64 = (1 << 48) - 1;

/// Gives out [`Hlc`]s. It holds no wall clock: the time comes in with each call, and may jump either way.
#[derive(Clone, Debug)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// Goes on after `last`, the greatest that this replica is known to have given out or taken in.
    pub fn new(last: Hlc) -> Clock {
        Clock { last }
    }

    /// The greatest so far.
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// Strictly greater than every earlier tick.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        self.last = Hlc::new(wall_ms, 0).max(self.last.succ());
        self.last
    }

    /// A stamp for a value that is to beat one that its writer has read: greater than `beat`, whatever any
    /// bound. A `beat` from the future is beaten, but does not drag the clock itself along: one such value
    /// must not poison all later ones.
    pub fn stamp_past(&mut self, wall_ms: u64, beat: Hlc) -> Hlc {
        self.observe(beat, wall_ms);
        if planted::is(Bug::HlcCapped) {
            return self.tick(wall_ms);
        }
        self.tick(wall_ms).max(beat.succ())
    }

    /// Takes note of a stamp made elsewhere. True if it is from the future: more than
    /// [`CLOCK_AHEAD_MAX_MS`] ahead of `wall_ms`; the clock then moves no further than that bound.
    pub fn observe(&mut self, remote: Hlc, wall_ms: u64) -> bool {
        let bound = Hlc::new(wall_ms.saturating_add(CLOCK_AHEAD_MAX_MS), u16::MAX);
        self.last = self.last.max(remote.min(bound));
        remote > bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_MS: u64 = 1_700_000_000_000;

    #[test]
    fn parts_come_back() {
        let hlc = Hlc::new(WALL_MS, 7);
        assert_eq!((hlc.ms(), hlc.counter()), (WALL_MS, 7));
        assert_eq!(Hlc::from_u64(hlc.to_u64()), hlc);
        assert_eq!(Hlc::new(u64::MAX, 0).ms(), MS_MAX);
        assert_eq!(Hlc::from_u64(u64::MAX).succ(), Hlc::from_u64(u64::MAX));
        assert_eq!(Hlc::new(5, u16::MAX).succ(), Hlc::new(6, 0));
    }

    #[test]
    fn it_ticks_on_when_the_wall_clock_stands_or_goes_back() {
        let mut clock = Clock::new(Hlc::ZERO);
        let a = clock.tick(WALL_MS);
        let b = clock.tick(WALL_MS);
        let c = clock.tick(WALL_MS - 500_000);
        assert!(a < b && b < c);
        assert_eq!(c.ms(), WALL_MS);
    }

    #[test]
    fn a_peer_moves_it_at_most_a_minute_ahead() {
        let mut clock = Clock::new(Hlc::ZERO);
        assert!(!clock.observe(Hlc::new(WALL_MS + 59_999, 3), WALL_MS));
        assert_eq!(clock.last(), Hlc::new(WALL_MS + 59_999, 3));
        assert!(clock.observe(Hlc::new(WALL_MS + 3_600_000, 0), WALL_MS));
        assert_eq!(clock.last().ms(), WALL_MS + CLOCK_AHEAD_MAX_MS);
        assert!(!clock.observe(Hlc::new(1, 0), WALL_MS));
        assert_eq!(clock.last().ms(), WALL_MS + CLOCK_AHEAD_MAX_MS);
    }

    #[test]
    fn what_is_read_is_beaten_but_does_not_poison_what_follows() {
        let mut clock = Clock::new(Hlc::ZERO);
        let future = Hlc::new(WALL_MS + 86_400_000, 0);
        assert_eq!(clock.stamp_past(WALL_MS, future), future.succ());
        assert!(clock.tick(WALL_MS).ms() <= WALL_MS + CLOCK_AHEAD_MAX_MS + 1);
        let near = Hlc::new(WALL_MS + 5_000, 9);
        let mut clock = Clock::new(Hlc::ZERO);
        let stamp = clock.stamp_past(WALL_MS, near);
        assert!(stamp > near && clock.tick(WALL_MS) > stamp);
    }
}
