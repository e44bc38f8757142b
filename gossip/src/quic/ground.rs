//! What a node stands on: network, clock, chance, and threads that may block.
//!
//! The machine's, unless a simulation gives its own: then the very driver that runs in ten data centers runs on a
//! virtual network and a paused clock, and does the same twice for one seed. For that the driver takes all its time
//! from tokio's clock, its wall clock and its chance from here, and nowhere lets tokio choose: its selections are
//! biased, and it has no `watch` with several waiters (tokio wakes those in random order).

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Where a node gets what no state machine has.
#[derive(Clone)]
pub struct Ground {
    /// Timers and tasks for quinn; its clock must be the one that tokio has.
    pub runtime: Arc<dyn Runtime>,
    /// A socket that is bound already; none: a real one, bound to the address to listen on.
    pub socket: Option<Arc<dyn AsyncUdpSocket>>,
    /// Milliseconds since 1970, by the wall.
    pub wall_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// All that is random follows from it, but what TLS draws for itself. It is a secret: none is to be used twice.
    pub seed: [u8; 32],
    /// Where to call what may block.
    pub blocking: Blocking,
}

/// Where the driver calls the replica's functions that may block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blocking {
    /// On threads, while the driver goes on.
    #[default]
    OnThreads,
    /// While all else waits: for a simulation, where a thread would come back at a time of its own.
    InPlace,
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            runtime: Arc::new(TokioRuntime),
            socket: None,
            wall_ms: Arc::new(system_wall_ms),
            seed: rand::random(),
            blocking: Blocking::default(),
        }
    }
}

/// The seed stays out of every log.
impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground")
            .field("runtime", &self.runtime)
            .field("socket", &self.socket)
            .field("blocking", &self.blocking)
            .finish_non_exhaustive()
    }
}

impl Blocking {
    /// `None` when the call panicked, which was reported where it happened, or when the runtime stops.
    pub(super) async fn run<T: Send + 'static>(self, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            Self::OnThreads => tokio::task::spawn_blocking(call).await.ok(),
            Self::InPlace => Some(call()),
        }
    }
}

fn system_wall_ms() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// The driver's own chance.
pub(super) struct Chance(Mutex<StdRng>);

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(StdRng::from_seed(seed)))
    }

    /// A time drawn evenly from between so many times `mean`.
    pub(super) fn around(&self, mean: Duration, times: Range<f64>) -> Duration {
        let drawn = self.draw(|chance| chance.random_range(times));
        mean.mul_f64(drawn)
    }

    /// Bytes that nobody can guess.
    pub(super) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.draw(|chance| chance.fill_bytes(&mut bytes));
        bytes
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
