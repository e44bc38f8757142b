//! The smallest world that still fails in the same way: fewer troubles, replicas and deeds, less time.

use std::time::{Duration, Instant};

use super::{
    check::Checker,
    options::Options,
    plant::Plant,
    seed::{Verdict, run},
};

/// A world changed in one respect starts another course of events, so each is tried with a few seeds.
const SEEDS_EACH: u64 = 4;

/// Tries smaller worlds until none fails any more, or the time is up; gives the smallest, with its story.
pub fn shrink(failed: &Verdict, plant: Option<Plant>, time: Duration) -> Verdict {
    let Some(violation) = &failed.violation else {
        return failed.clone();
    };
    let until = Instant::now() + time;
    let mut smallest = failed.options.clone();
    while let Some(smaller) = smaller(&smallest)
        .into_iter()
        .filter(|options| *options != smallest)
        .find_map(|options| still_fails(&options, violation.checker, plant, until))
    {
        smallest = smaller;
    }
    run(&smallest, plant, true)
}

fn still_fails(options: &Options, checker: Checker, plant: Option<Plant>, until: Instant) -> Option<Options> {
    (0..SEEDS_EACH)
        .map(|more| Options {
            seed: options.seed.wrapping_add(more),
            ..options.clone()
        })
        .take_while(|_| Instant::now() < until)
        .find(|options| {
            let violation = run(options, plant, false).violation;
            violation.is_some_and(|violation| violation.checker == checker)
        })
}

/// Worlds that are smaller in one respect, the greatest steps first.
fn smaller(options: &Options) -> Vec<Options> {
    let mut worlds = Vec::new();
    let mut add = |change: &dyn Fn(&mut Options)| {
        let mut world = options.clone();
        change(&mut world);
        world.sites = world.sites.min(world.replicas);
        worlds.push(world);
    };
    add(&|world| world.replicas = world.replicas.min(3));
    add(&|world| world.deeds /= 3);
    for kind in options.troubles.keys() {
        add(&|world| {
            world.troubles.remove(kind);
        });
    }
    add(&|world| world.storm /= 2);
    add(&|world| world.deeds = world.deeds * 2 / 3);
    add(&|world| world.replicas = (world.replicas - 1).max(2));
    add(&|world| world.addresses = (world.addresses / 2).max(1));
    add(&|world| world.trims = false);
    for kind in options.troubles.keys() {
        add(&|world| {
            world.troubles.insert(*kind, 1);
        });
    }
    worlds
}
