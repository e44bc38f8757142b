//! Terrible things to do to the world, each with its judgement.
//!
//! Every scenario opens and closes alike: a crowd signs up, the load begins; at the end the load stops, all
//! sites must come to hold the same, every acknowledged write is looked for in it, and everybody is asked
//! about. What a scenario promises beyond that is in its own file.

mod clone;
mod cut_off_one;
mod divergence;
mod erase;
mod evict_return;
mod five_gone;
mod halves_evict;
mod long_absence;
mod lose_half;
mod one_way;
mod rolling_restart;
mod wipe_two;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;

use super::gauges::Window;
use super::ledger::Entry;
use super::load::{self, Load, Mix};
use super::plan::Upkeep;
use super::settle::{self, Agreement};
use super::verdict::Verdict;
use super::{World, WorldError, audit, locked};

/// What to do to the world.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Kills half of the sites with -9 at once, under load; they return.
    LoseHalf,
    /// Empties the disks of two sites.
    WipeTwo,
    /// Cuts one site off for minutes, both sides writing, also about the same addresses.
    CutOffOne,
    /// Cuts some links in one direction only.
    OneWay,
    /// Restarts all sites, one after another, under load.
    RollingRestart,
    /// Starts a copy of a site's data directory beside the original.
    Clone,
    /// Alters one site's disk behind its back, flips a bit of a table, puts an old backup back.
    Divergence,
    /// Cancels accounts, and looks for what they held in every byte of every site's disk.
    Erase,
    /// Cuts one site off for longer than the others' logs reach back, and empties the disk of another.
    LongAbsence,
    /// Evicts a site that is cut off and writes; it hands over, and joins again.
    EvictReturn,
    /// Cuts the world into halves that evict each other, both writing.
    HalvesEvict,
    /// Destroys five sites for good under load; they are evicted, and five new ones join.
    FiveGone,
}

impl Scenario {
    /// Its name on the command line, in the report and in the directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::LoseHalf => "lose-half",
            Scenario::WipeTwo => "wipe-two",
            Scenario::CutOffOne => "cut-off-one",
            Scenario::OneWay => "one-way",
            Scenario::RollingRestart => "rolling-restart",
            Scenario::Clone => "clone",
            Scenario::Divergence => "divergence",
            Scenario::Erase => "erase",
            Scenario::LongAbsence => "long-absence",
            Scenario::EvictReturn => "evict-return",
            Scenario::HalvesEvict => "halves-evict",
            Scenario::FiveGone => "five-gone",
        }
    }

    /// Requests a second, unless told otherwise.
    pub(crate) fn rate(self) -> f64 {
        match self {
            // Ten sign-ins a second at each site, so that a pause of 100 ms has no place to hide.
            Scenario::LoseHalf => 120.0,
            Scenario::RollingRestart => 100.0,
            // There is other work to do on the machine's two cores beside the people's.
            Scenario::Divergence
            | Scenario::Erase
            | Scenario::EvictReturn
            | Scenario::HalvesEvict
            | Scenario::FiveGone => 30.0,
            _ => 60.0,
        }
    }

    /// With fewer sites it makes no sense.
    pub(crate) fn sites_min(self) -> usize {
        match self {
            Scenario::LoseHalf
            | Scenario::WipeTwo
            | Scenario::OneWay
            | Scenario::HalvesEvict
            | Scenario::LongAbsence
            | Scenario::FiveGone => 4,
            Scenario::CutOffOne | Scenario::Clone | Scenario::Divergence | Scenario::EvictReturn => 3,
            Scenario::Erase => 2,
            Scenario::RollingRestart => 2,
        }
    }

    /// How its sites keep, compare and forget.
    pub(crate) fn upkeep(self) -> Upkeep {
        let usual = Upkeep::default();
        match self {
            Scenario::LongAbsence => Upkeep {
                log_mib_max: 1,
                ..usual
            },
            Scenario::Erase | Scenario::FiveGone => Upkeep {
                erasure_minutes: 0,
                ..usual
            },
            // What is wrong must be named before anybody mends it; the scenario changes this for its site later.
            Scenario::Divergence => Upkeep {
                look_interval: Duration::from_secs(3_600),
                ..usual
            },
            _ => usual,
        }
    }

    /// Does it, and judges. `length` is how long the trouble lasts.
    pub(crate) async fn conduct(
        self,
        world: &Arc<World>,
        length: Option<Duration>,
    ) -> Result<Verdict, WorldError> {
        match self {
            Scenario::LoseHalf => lose_half::conduct(world, length).await,
            Scenario::WipeTwo => wipe_two::conduct(world, length).await,
            Scenario::CutOffOne => cut_off_one::conduct(world, length).await,
            Scenario::OneWay => one_way::conduct(world, length).await,
            Scenario::RollingRestart => rolling_restart::conduct(world).await,
            Scenario::Clone => clone::conduct(world, length).await,
            Scenario::Divergence => divergence::conduct(world).await,
            Scenario::Erase => erase::conduct(world).await,
            Scenario::LongAbsence => long_absence::conduct(world, length).await,
            Scenario::EvictReturn => evict_return::conduct(world, length).await,
            Scenario::HalvesEvict => halves_evict::conduct(world, length).await,
            Scenario::FiveGone => five_gone::conduct(world, length).await,
        }
    }
}

/// Opens: a crowd that every site knows, and the load begun and warm.
async fn open(world: &Arc<World>, mix: Mix) -> Result<Load, WorldError> {
    let failures = load::populate(world, CROWD_PER_SITE).await;
    if let Some(first) = failures.first() {
        return Err(WorldError::Unsettled(format!(
            "{} could not sign up; {first}",
            failures.len()
        )));
    }
    let crowd = locked(&world.people).len();
    world.timeline.say(&format!(
        "{crowd} people have signed up; waiting until all sites know them"
    ));
    settle::agree(world, AGREE_WITHIN)
        .await
        .map_err(|words| WorldError::Unsettled(words.join("; ")))?;
    let load = load::start(world, mix);
    world.timeline.say(&format!(
        "load: {} requests a second over {} sites",
        world.load.rate(),
        world.sites.len()
    ));
    watch(world, "warming up", WARM_UP).await;
    let _ = locked(&world.gauges).cut_window();
    Ok(load)
}

/// Closes: the load ends, all sites must hold the same. Gives what they agreed on, and the acknowledged writes
/// that are not in it: the scenario says whether any may be missing.
async fn close(world: &Arc<World>, load: Load, verdict: &mut Verdict) -> Option<(Agreement, Vec<Entry>)> {
    load.stop(world).await;
    world
        .timeline
        .say("the load has ended; waiting until all sites hold the same");
    match settle::agree(world, AGREE_WITHIN).await {
        Ok(agreement) => {
            let words = format!(
                "yes, after {:.1} s: {} records, digest {}",
                agreement.took.as_secs_f64(),
                agreement.digest.records,
                agreement.digest.digest
            );
            world
                .timeline
                .say(&format!("all {} sites hold the same", world.sites.len()));
            // Two records a person at least: an account and an address.
            let least = 2 * (CROWD_PER_SITE * world.sites.len()) as u64;
            let sane = agreement.digest.records >= least && !agreement.vector.writers.is_empty();
            verdict.check(
                "all sites hold the same transactions and records",
                "yes, and not nothing",
                words,
                sane,
            );
            let missing = locked(&world.ledger).missing_from(&agreement.vector, |dot| world.monitor.had(dot));
            Some((agreement, missing))
        }
        Err(words) => {
            verdict.check(
                "all sites hold the same transactions and records",
                "yes",
                words.join("; "),
                false,
            );
            None
        }
    }
}

/// [`close`], when no acknowledged write at all may be missing, and the common checks.
async fn close_whole(world: &Arc<World>, load: Load, verdict: &mut Verdict) {
    if let Some((_, missing)) = close(world, load, verdict).await {
        nothing_missing(world, &missing, verdict);
        audit::people(world, &missing, verdict).await;
    }
    verdict.common(world).await;
}

fn nothing_missing(world: &World, missing: &[Entry], verdict: &mut Verdict) {
    let of = locked(&world.ledger).entries().len();
    verdict.none("acknowledged writes that are lost", missing.len(), of);
    verdict.detail("lost writes", missing.iter().take(50).collect::<Vec<_>>());
}

/// Adds the check that users saw no failure in these windows.
fn no_failures(world: &World, what: &str, windows: &[(usize, Window)], verdict: &mut Verdict) {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    let mut requests = 0;
    for (site, window) in windows {
        requests += window.succeeded + window.failed();
        for (reason, count) in &window.failures {
            *all.entry(reason.clone()).or_default() += count;
        }
        for words in &window.examples {
            world
                .timeline
                .say(&format!("a user at {} saw: {words}", world.name(*site)));
        }
    }
    let failed: u64 = all.values().sum();
    let mut words = format!("{failed} of {requests} requests");
    if failed > 0 {
        words = format!("{words}: {all:?}");
    }
    verdict.check(what, "0, of at least 1", words, failed == 0 && requests > 0);
}

/// Windows of some of the sites.
fn only(windows: Vec<Window>, sites: &[usize]) -> Vec<(usize, Window)> {
    windows
        .into_iter()
        .enumerate()
        .filter(|(site, _)| sites.contains(site))
        .collect()
}

/// Some sites at random, in order.
fn some_sites(world: &World, count: usize, purpose: u64) -> Vec<usize> {
    let mut sites: Vec<usize> = (0..world.sites.len()).collect();
    sites.shuffle(&mut world.random(purpose));
    sites.truncate(count);
    sites.sort_unstable();
    sites
}

/// All sites but these.
fn others(world: &World, sites: &[usize]) -> Vec<usize> {
    (0..world.sites.len())
        .filter(|site| !sites.contains(site))
        .collect()
}

/// Lets time pass, and shows in the last line of a terminal how it goes.
async fn watch(world: &World, doing: &str, length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        let left = length.saturating_sub(began.elapsed());
        let (mut sign_ins, mut failures) = (0, 0);
        {
            let gauges = locked(&world.gauges);
            for site in 0..world.sites.len() {
                if let Some(window) = gauges.window(site) {
                    sign_ins += window.sign_ins();
                    failures += window.failed();
                }
            }
        }
        let rotation = world.monitor.rotation().len();
        world.timeline.now(&format!(
            "{doing}, {} s to go; {rotation} sites serve; {sign_ins} sign-ins, {failures} failures",
            left.as_secs() + 1
        ));
        tokio::time::sleep(left.min(WATCH_STEP)).await;
    }
    world.timeline.quiet();
}

/// How long the usual is observed before the trouble.
const USUAL: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(4);
const WATCH_STEP: Duration = Duration::from_millis(250);
const CROWD_PER_SITE: usize = 30;
/// After any trouble all must agree within this.
const AGREE_WITHIN: Duration = Duration::from_secs(90);
