//! One seed, from its first moment to its verdict: safety while the storm lasts, then everything is mended, and the
//! replicas have to agree within a bound.

use std::time::{Duration, Instant};

use super::{
    check::{EndOf, Violation},
    options::Options,
    plant::Plant,
    tally::Tally,
    world::World,
};

/// After everything is mended, replicas agree within this, in virtual time. A pull that was answered in vain rests up
/// to ten seconds, readiness waits ten for peers, and either may come twice.
pub(crate) const AGREEMENT: Duration = Duration::from_secs(120);
/// Time to start before the storm.
const CALM: Duration = Duration::from_secs(2);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// With what.
    pub options: Options,
    /// What is wrong, if anything is.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub tally: Tally,
    /// How long it was, in virtual time.
    pub simulated: Duration,
    /// And how long it took.
    pub took: Duration,
    /// What happened, if it was to be written down.
    pub story: Vec<String>,
    /// A hash over the story.
    pub digest: [u8; 32],
}

/// Lives through one world.
pub fn run(options: &Options, plant: Option<Plant>, record: bool) -> Verdict {
    let begun = Instant::now();
    if let Some(plant) = plant {
        plant.switch(true);
    }
    let mut world = World::new(options.clone());
    if record {
        world.story.record();
    }
    world.run(CALM);
    world.begin_deeds();
    world.begin_troubles();
    world.run(options.storm);
    world.mend();
    world.run_until(AGREEMENT, World::joined);
    let mut level = world.run_until(AGREEMENT, World::level);
    if level {
        let forgotten = world.run_until(AGREEMENT, World::forgotten);
        world.check_forgotten(forgotten);
        level = world.run_until(AGREEMENT, World::level);
    }
    if world.goes_on() {
        world.check_end(if level { EndOf::Peace } else { EndOf::Patience });
    }
    world.tally.count(
        "worlds given up: what nobody had heard of was folded away",
        world.given_up.into(),
    );
    if let Some(plant) = plant {
        plant.switch(false);
    }
    Verdict {
        options: options.clone(),
        violation: world.violation.take(),
        simulated: world.now,
        took: begun.elapsed(),
        story: world.story.lines().to_vec(),
        digest: world.story.digest(),
        tally: world.tally,
    }
}
