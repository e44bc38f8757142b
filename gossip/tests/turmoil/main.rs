//! The very driver on a virtual network and a paused clock: a seed decides everything, and decides it again.
//!
//! Each seed runs twice, and both runs must write one log: every commit and event of every node, with its virtual
//! time, every datagram's way, and at the end what each node counted. After the faults all must agree.
#![cfg(feature = "quic")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test panics when it fails; the bans are for the core"
)]

#[path = "../quic/memory.rs"]
#[allow(dead_code, reason = "the tests over real sockets use the rest")]
mod memory;
mod network;
#[path = "../quic/records.rs"]
mod records;
mod world;

use std::time::{Duration, Instant};

use world::World;

/// Seeds that run each time; those that found something stay here.
const SEEDS: [u64; 4] = [1, 2, 3, 11_067_260_114_048_056_586];
/// And so many that never ran before.
const FRESH: usize = 2;

/// `GOSSIP_SEED=… cargo test -p gossip --features quic --test turmoil -- --nocapture` repeats one run.
#[test]
fn a_seed_decides_everything_and_in_the_end_all_agree() {
    let seeds = match std::env::var("GOSSIP_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => SEEDS
            .into_iter()
            .chain((0..FRESH).map(|_| rand::random()))
            .collect(),
    };
    let (begun, mut simulated) = (Instant::now(), Duration::ZERO);
    for seed in seeds {
        println!("GOSSIP_SEED={seed} cargo test -p gossip --features quic --test turmoil -- --nocapture");
        let first = World::run(seed);
        let second = World::run(seed);
        compare(&first.log, &second.log);
        println!("  {}", first.summary);
        simulated += first.lasted + second.lasted;
    }
    let rate = simulated.as_secs_f64() / begun.elapsed().as_secs_f64();
    println!(
        "{:.0} simulated seconds, {rate:.0} a second",
        simulated.as_secs_f64()
    );
}

/// Names the first line that differs, for that is where to look.
fn compare(first: &[String], second: &[String]) {
    for (number, (one, two)) in first.iter().zip(second).enumerate() {
        assert_eq!(one, two, "two runs of one seed part at line {number}");
    }
    assert_eq!(first.len(), second.len(), "one run of the same seed is longer");
}
