//! Two cuts and a stream between them: what differs is found, lag is told from divergence, and both ends agree.
//!
//! A randomised test prints its seed; `RECONCILE_SEED=N cargo test --release -p gossip --test reconcile NAME` repeats
//! it. `cargo test --release -p gossip --test reconcile`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken model ends the test"
)]

mod conversation;
mod formats;
mod goals;
mod hostile;
mod iblt;
mod model;

/// The one seed asked for, or these.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("RECONCILE_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..count).collect(),
    }
}
