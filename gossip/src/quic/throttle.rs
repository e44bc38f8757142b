//! So many bytes a second, over all that share it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What may be sent at once after a rest.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket, kept as the moment at which it is empty (the "virtual scheduling" of ITU-T I.371).
#[derive(Debug)]
pub(super) struct Throttle {
    bytes_per_second: f64,
    empty_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1) as f64,
            empty_at: Mutex::new(None),
        }
    }

    /// Takes so many bytes, and says when they may be sent.
    pub(super) fn pay(&self, now: Instant, bytes: usize) -> Instant {
        let mut empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = now.checked_sub(BURST).unwrap_or(now);
        let from = empty_at.map_or(rested, |at| at.max(rested));
        let until = from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *empty_at = Some(until);
        until.max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_flow_at_the_rate_whoever_pays() {
        let throttle = Throttle::new(1_000_000);
        let begun = Instant::now();
        let mut sent_at = begun;
        for _ in 0..100 {
            sent_at = throttle.pay(begun, 100_000);
        }
        let lasted = sent_at - begun;
        assert_eq!(lasted, Duration::from_secs(10) - BURST);
        // What was not used is not saved up.
        let later = sent_at + Duration::from_secs(60);
        assert_eq!(throttle.pay(later, 100_000), later);
        assert_eq!(throttle.pay(later, 100_000), later + BURST);
    }
}
