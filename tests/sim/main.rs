//! Worlds of replicas in virtual time: a fixed set of seeds, fresh ones each run, and a few stories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken story ends the test"
)]

mod stories;

use std::time::{SystemTime, UNIX_EPOCH};

use persona::sim::{Options, Tally, run};

/// Runs seeds one after another; panics at the first that fails, with the command that shows it.
fn live_through(seeds: impl IntoIterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        let verdict = run(&Options::of(seed), None, false);
        if let Some(violation) = verdict.violation {
            panic!(
                "{}\n{violation}\nrepeat with: persona sim --seed {seed}",
                verdict.options
            );
        }
        tally.add(&verdict.tally);
    }
    tally
}

#[test]
fn fixed_seeds_hold_their_promises_and_exercise_everything() {
    let tally = live_through(1..=200);
    let missing = tally.missing();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn fresh_seeds_hold_their_promises() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let from = now.as_millis() as u64;
    println!("seeds from {from}");
    live_through(from..from + 60);
}

#[test]
fn one_seed_is_one_course_of_events() {
    for seed in [3, 7, 11] {
        let options = Options::of(seed);
        let [first, second] = [(); 2].map(|()| run(&options, None, true));
        assert_eq!(first.story, second.story, "seed {seed}");
        assert_eq!(first.tally, second.tally, "seed {seed}");
    }
}
