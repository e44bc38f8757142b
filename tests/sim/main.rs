//! Worlds of replicas in virtual time: a fixed set of seeds, and a few stories.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken story ends the test"
)]

mod stories;

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

/// Fresh ones are the business of `persona sim --seeds`, which goes on for as long as one likes.
#[test]
fn fixed_seeds_hold_their_promises_and_exercise_everything() {
    let tally = live_through(39..=200);
    let missing = tally.missing();
    assert!(missing.is_empty(), "{missing:?}");
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

/// A bit flips in this world: what is known of damaged disks decides what is damaged next.
#[test]
fn what_is_told_is_what_happens_untold() {
    let options = Options::of(1_002_787);
    let [told, untold] = [true, false].map(|told| run(&options, None, told));
    assert_eq!(told.violation, untold.violation);
    assert_eq!(told.simulated, untold.simulated);
    assert_eq!(told.tally.faults, untold.tally.faults);
}
