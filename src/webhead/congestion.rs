//! Whether requests wait too long for a processor, and which of them are refused then.
//!
//! Under more than it can carry, a process has its queue not where requests are counted: each is done as soon as its turn
//! comes, and until then lies in the runtime's queue or in a socket. So what is measured is that wait itself, as in CoDel
//! (Nichols and Jacobson, ACM Queue 2012): a byte through a socket of our own passes the same queues as a request. Up to
//! [`WAIT_MIN`] all are served, from [`WAIT_MAX`] on none, between them a share; so the wait settles in between, and so does
//! that of a health check, of which none is refused.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep},
};

/// With a wait like this nobody is refused.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// With one like this everybody is.
const WAIT_MAX: Duration = Duration::from_millis(30);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Where fewer requests a second come, it is not they who keep the processors busy.
const REQUESTS_MIN: u128 = 400;
/// So many that come at once are worked off: nobody of them is refused.
const BURST: u64 = 64;

/// How long requests wait now.
#[derive(Clone)]
pub(super) struct Congestion(Arc<Shared>);

struct Shared {
    begun: Instant,
    /// Requests that came, refused ones too.
    came: AtomicU64,
    /// When the byte was sent that is still on its way, in microseconds since we began; 0: none is.
    sent_us: AtomicU64,
    /// Requests that had come then.
    came_before: AtomicU64,
    /// How long the latest ones waited, in microseconds.
    waited_us: AtomicU64,
}

impl Congestion {
    /// Looks from now on, for as long as somebody asks. Without a runtime, or a socket, nothing is ever too long.
    pub(super) fn watched() -> Congestion {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            came: AtomicU64::new(0),
            sent_us: AtomicU64::new(0),
            came_before: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let watched = Arc::downgrade(&shared);
            runtime.spawn(async move {
                if let Err(error) = watch(&watched).await {
                    tracing::warn!(%error, "how long requests wait is not watched: too many at once make all wait");
                }
            });
        }
        Congestion(shared)
    }

    /// Whether a request that comes now is to be refused.
    pub(super) fn refuses(&self) -> bool {
        let shared = &self.0;
        let number = shared.came.fetch_add(1, Ordering::Relaxed);
        let waited = Duration::from_micros(shared.waited_us.load(Ordering::Relaxed));
        is_refused(number, share_refused(waited.max(shared.waiting())))
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// How long the byte that is on its way has waited by now, if it is requests that it waits for.
    fn waiting(&self) -> Duration {
        let sent_us = self.sent_us.load(Ordering::Relaxed);
        if sent_us == 0 {
            return Duration::ZERO;
        }
        let wait = Duration::from_micros(self.now_us().saturating_sub(sent_us));
        if self.crowded(wait) { wait } else { Duration::ZERO }
    }

    /// Whether so many have come since the byte was sent that it may have waited this long for them.
    fn crowded(&self, wait: Duration) -> bool {
        let came = self.came.load(Ordering::Relaxed);
        let since = came.saturating_sub(self.came_before.load(Ordering::Relaxed));
        since >= BURST && u128::from(since) * 1_000_000 >= REQUESTS_MIN * wait.as_micros()
    }
}

/// Of so many requests a share is counted.
const ALL: u32 = 1000;

/// Whether the request of this number is among the share: they are spread evenly.
fn is_refused(number: u64, share: u32) -> bool {
    let share = u64::from(share);
    number.wrapping_mul(share) % u64::from(ALL) < share
}

async fn watch(watched: &Weak<Shared>) -> io::Result<()> {
    let (mut near, mut far) = UnixStream::pair()?;
    let mut smoothed = Duration::ZERO;
    // More than is sent: what fills it would be taken for ready the next time, without a turn in the queue.
    let mut bytes = [0; 8];
    loop {
        sleep(LOOK_EVERY).await;
        let Some(shared) = watched.upgrade() else {
            return Ok(());
        };
        let sent = Instant::now();
        let came = shared.came.load(Ordering::Relaxed);
        shared.came_before.store(came, Ordering::Relaxed);
        shared.sent_us.store(shared.now_us().max(1), Ordering::Relaxed);
        near.write_all(&[0]).await?;
        let _ = far.read(&mut bytes).await?;
        let wait = sent.elapsed();
        shared.sent_us.store(0, Ordering::Relaxed);
        // One wait that was long says little: the machine may have been busy with something else.
        smoothed = (smoothed + wait) / 2;
        let waited = if shared.crowded(wait) {
            smoothed
        } else {
            Duration::ZERO
        };
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        shared.waited_us.store(waited_us, Ordering::Relaxed);
        metrics::gauge!("persona_request_wait_seconds").set(smoothed.as_secs_f64());
    }
}

fn share_refused(wait: Duration) -> u32 {
    let beyond = wait.saturating_sub(WAIT_MIN).as_micros();
    let share = beyond * u128::from(ALL) / (WAIT_MAX - WAIT_MIN).as_micros();
    u32::try_from(share).unwrap_or(ALL).min(ALL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a failure fails the test")]

    use super::*;

    #[test]
    fn the_share_grows_with_the_wait_and_is_spread_evenly() {
        for (wait_ms, share) in [(0, 0), (10, 0), (20, 500), (30, 1000), (60_000, 1000)] {
            assert_eq!(
                share_refused(Duration::from_millis(wait_ms)),
                share,
                "{wait_ms} ms"
            );
            for from in [0, 12_345] {
                let refused = (from..from + 1000)
                    .filter(|number| is_refused(*number, share))
                    .count();
                assert_eq!(refused as u32, share);
                let early = (from..from + 100)
                    .filter(|number| is_refused(*number, share))
                    .count();
                assert!(
                    (early as u32).abs_diff(share / 10) <= 1,
                    "{early} of the first hundred"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_wait_counts_only_if_enough_requests_came_meanwhile() {
        // A byte on its way for so long, while so many came, and one more now.
        for (wait_ms, came, counts) in [
            (50, BURST - 2, false),
            (50, BURST, true),
            (50, 1000, true),
            (10_000, 1000, false),
            (10_000, 5000, true),
        ] {
            let shared = Shared {
                begun: Instant::now() - Duration::from_millis(wait_ms),
                came: AtomicU64::new(came),
                sent_us: AtomicU64::new(1),
                came_before: AtomicU64::new(0),
                waited_us: AtomicU64::new(0),
            };
            let refused = Congestion(Arc::new(shared)).refuses();
            assert_eq!(refused, counts, "{wait_ms} ms, {came} requests");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_for_its_turn_is_refused_until_the_queue_is_short_again() {
        let congestion = Congestion::watched();
        // As many connections, each ready with the next request as soon as it has its answer.
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let congestion = congestion.clone();
            crowd.spawn(async move {
                let mut refused = 0;
                for _ in 0..20 {
                    refused += usize::from(congestion.refuses());
                    // A request's work, which keeps the thread.
                    let begun = std::time::Instant::now();
                    while begun.elapsed() < Duration::from_micros(500) {
                        std::hint::spin_loop();
                    }
                    tokio::task::yield_now().await;
                }
                refused
            });
        }
        let refused: usize = crowd.join_all().await.into_iter().sum();
        assert!(
            refused > 400,
            "{refused} of 4000 refused, each of which waited for 100 ms"
        );
        let calm = async {
            while congestion.0.waited_us.load(Ordering::Relaxed) > 0 {
                sleep(LOOK_EVERY).await;
            }
        };
        let calmed = tokio::time::timeout(Duration::from_secs(30), calm).await;
        calmed.expect("a short queue is seen");
        assert!(!congestion.refuses(), "nobody waits any more");
    }
}
