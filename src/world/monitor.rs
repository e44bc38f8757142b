//! Watches the sites from outside, as a load balancer and an operator would.
//!
//! Three questions are asked over and over: how are you (ready sites are *in rotation*), what became visible
//! (which gives the lag per pair), and what do you have. Answers are kept with the process that gave them:
//! what an earlier start said is forgotten at the next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::client::{Commits, Dot, Status, VectorSeen};
use super::network::{micros, one_way};
use super::{World, locked, wall_us};

/// What is known of all the sites.
pub(crate) struct Monitor {
    sites: Vec<Watched>,
    lags: Mutex<Lags>,
}

struct Watched {
    in_rotation: AtomicBool,
    known: Mutex<Known>,
    reached: Mutex<Reached>,
}

/// What was ever visible at a site, through all its starts: a vector that folds a writer no longer tells.
#[derive(Default)]
struct Reached {
    /// What starts up to this one had is gone with their disk.
    gone: u64,
    /// The greatest number of each writer.
    numbers: BTreeMap<String, u64>,
}

/// What one process of a site said.
#[derive(Default)]
struct Known {
    generation: u64,
    vector: VectorSeen,
    status: Option<(Instant, Arc<Status>)>,
    /// Where to go on in its ring buffer of commits.
    next: u64,
}

/// One transaction seen at one site.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) site: usize,
    pub(crate) dot: Dot,
    pub(crate) at_us: u64,
    pub(crate) local: bool,
}

struct Lags {
    sites: usize,
    /// Where and when (µs) each recent transaction was written.
    origins: HashMap<Dot, (usize, u64)>,
    order: VecDeque<Dot>,
    /// Seen elsewhere before its origin's own note of it came in.
    waiting: VecDeque<Sighting>,
    /// Per pair (from × sites + to): when (µs), and how much later than the network alone explains (µs).
    recent: Vec<VecDeque<(u64, i64)>>,
    /// Everything seen, while somebody measures.
    sightings: Option<Vec<Sighting>>,
}

/// Lag of one pair over the last half minute, in microseconds.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct PairLag {
    pub(crate) p50_us: i64,
    pub(crate) p99_us: i64,
    pub(crate) samples: usize,
}

impl Monitor {
    pub(crate) fn new(sites: usize) -> Monitor {
        let watched = || Watched {
            in_rotation: AtomicBool::new(false),
            known: Mutex::default(),
            reached: Mutex::default(),
        };
        Monitor {
            sites: (0..sites).map(|_| watched()).collect(),
            lags: Mutex::new(Lags::new(sites)),
        }
    }

    /// Whether users are sent to this site.
    pub(crate) fn in_rotation(&self, site: usize) -> bool {
        self.sites
            .get(site)
            .is_some_and(|watched| watched.in_rotation.load(Ordering::Acquire))
    }

    /// All sites that users are sent to.
    pub(crate) fn rotation(&self) -> Vec<usize> {
        (0..self.sites.len())
            .filter(|site| self.in_rotation(*site))
            .collect()
    }

    /// Sends nobody there until the next good answer. True when users were sent there until now.
    pub(crate) fn take_out(&self, site: usize) -> bool {
        self.sites
            .get(site)
            .is_some_and(|watched| watched.in_rotation.swap(false, Ordering::AcqRel))
    }

    /// Whether this transaction is visible at this site, as far as it has said.
    pub(crate) fn sees(&self, site: usize, dot: &Dot) -> bool {
        let Some(watched) = self.sites.get(site) else {
            return false;
        };
        let (lists, folds) = {
            let known = locked(&watched.known);
            (known.vector.lists(dot), known.vector.folds(&dot.writer))
        };
        // A floor says that all have the same of a writer, and not how much that is.
        lists || (folds && self.had(dot))
    }

    /// Whether this transaction was ever visible at any site that has not lost its disk since.
    pub(crate) fn had(&self, dot: &Dot) -> bool {
        self.sites.iter().any(|watched| {
            let reached = locked(&watched.reached);
            let number = reached.numbers.get(&dot.writer);
            number.is_some_and(|number| *number >= dot.number)
        })
    }

    /// The site has lost its disk: what was visible there counts no more.
    pub(crate) fn forget(&self, site: usize) {
        if let Some(watched) = self.sites.get(site) {
            let gone = locked(&watched.known).generation;
            let numbers = BTreeMap::new();
            *locked(&watched.reached) = Reached { gone, numbers };
        }
    }

    /// The latest status of the present process.
    pub(crate) fn status(&self, site: usize) -> Option<Arc<Status>> {
        let known = locked(&self.sites.get(site)?.known);
        known
            .status
            .as_ref()
            .filter(|(at, _)| at.elapsed() < STATUS_AGE_MAX)
            .map(|(_, status)| Arc::clone(status))
    }

    /// Lag from one site to another.
    pub(crate) fn lag(&self, from: usize, to: usize) -> Option<PairLag> {
        locked(&self.lags).of(from, to, wall_us())
    }

    /// From now on, remembers everything that is seen.
    pub(crate) fn begin_sightings(&self) {
        locked(&self.lags).sightings = Some(Vec::new());
    }

    /// What was seen since [`Monitor::begin_sightings`].
    pub(crate) fn end_sightings(&self) -> Vec<Sighting> {
        locked(&self.lags).sightings.take().unwrap_or_default()
    }

    fn note_commits(&self, site: usize, generation: u64, commits: Commits) {
        let Some(watched) = self.sites.get(site) else {
            return;
        };
        {
            let mut known = locked(&watched.known);
            if known.generation != generation {
                return;
            }
            known.next = commits.next;
            let seen = commits
                .commits
                .iter()
                .map(|commit| (&commit.writer, commit.number));
            locked(&watched.reached).raise(generation, seen);
            for commit in &commits.commits {
                // In causal order, without gaps: seeing a number means having all up to it.
                let number = known.vector.writers.entry(commit.writer.clone()).or_default();
                *number = (*number).max(commit.number);
            }
        }
        let mut lags = locked(&self.lags);
        for commit in commits.commits {
            let dot = Dot {
                writer: commit.writer,
                number: commit.number,
            };
            lags.note(Sighting {
                site,
                dot,
                at_us: commit.at_us,
                local: commit.local,
            });
        }
        lags.match_waiting();
    }

    fn note_status(&self, site: usize, generation: u64, status: Option<Status>) -> bool {
        let Some(watched) = self.sites.get(site) else {
            return false;
        };
        let mut known = locked(&watched.known);
        if known.generation != generation {
            return false;
        }
        let serves = status.as_ref().is_some_and(Status::serves);
        known.status = status.map(|status| (Instant::now(), Arc::new(status)));
        watched.in_rotation.swap(serves, Ordering::AcqRel) && !serves
    }

    fn begin(&self, site: usize, generation: u64) {
        if let Some(watched) = self.sites.get(site) {
            let mut known = locked(&watched.known);
            if known.generation != generation {
                *known = Known {
                    generation,
                    ..Known::default()
                };
                watched.in_rotation.store(false, Ordering::Release);
            }
        }
    }
}

impl Reached {
    fn raise<'a>(&mut self, generation: u64, seen: impl Iterator<Item = (&'a String, u64)>) {
        if generation <= self.gone {
            return;
        }
        for (writer, number) in seen {
            let known = self.numbers.entry(writer.clone()).or_default();
            *known = number.max(*known);
        }
    }
}

/// Begins to watch every site. The tasks run until they are aborted.
pub(crate) fn watch(world: &Arc<World>) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for site in 0..world.sites.len() {
        tasks.push(tokio::spawn(watch_health(Arc::clone(world), site)));
        tasks.push(tokio::spawn(watch_commits(Arc::clone(world), site)));
    }
    tasks
}

async fn watch_health(world: Arc<World>, index: usize) {
    let Some(site) = world.sites.get(index).cloned() else {
        return;
    };
    loop {
        let generation = site.generation();
        world.monitor.begin(index, generation);
        let status = if site.is_up() {
            tokio::time::timeout(HEALTH_TIMEOUT, site.client.status())
                .await
                .ok()
                .and_then(Result::ok)
        } else {
            None
        };
        if world.monitor.note_status(index, generation, status) {
            locked(&world.gauges).out_of_rotation(index);
        }
        tokio::time::sleep(HEALTH_PERIOD).await;
    }
}

async fn watch_commits(world: Arc<World>, index: usize) {
    let Some(site) = world.sites.get(index).cloned() else {
        return;
    };
    let mut vector_due = Instant::now();
    let mut last_generation = 0;
    loop {
        let generation = site.generation();
        world.monitor.begin(index, generation);
        if site.is_up() {
            let after = world
                .monitor
                .sites
                .get(index)
                .map_or(0, |watched| locked(&watched.known).next);
            if let Ok(commits) = site.client.commits(after).await {
                world.monitor.note_commits(index, generation, commits);
            }
            // What it had before it began to note its commits.
            if (generation != last_generation || Instant::now() >= vector_due)
                && let Ok(vector) = site.client.vector().await
                && let Some(watched) = world.monitor.sites.get(index)
            {
                let mut known = locked(&watched.known);
                if known.generation == generation {
                    let seen = vector.writers.iter().map(|(writer, number)| (writer, *number));
                    locked(&watched.reached).raise(generation, seen);
                    known.vector = vector;
                    vector_due = Instant::now() + VECTOR_PERIOD;
                    last_generation = generation;
                }
            }
        }
        tokio::time::sleep(COMMITS_PERIOD).await;
    }
}

impl Lags {
    fn new(sites: usize) -> Lags {
        Lags {
            sites,
            origins: HashMap::new(),
            order: VecDeque::new(),
            waiting: VecDeque::new(),
            recent: vec![VecDeque::new(); sites * sites],
            sightings: None,
        }
    }

    fn note(&mut self, sighting: Sighting) {
        if let Some(sightings) = &mut self.sightings {
            sightings.push(sighting.clone());
        }
        if sighting.local {
            if self.order.len() == ORIGINS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.origins.remove(&oldest);
            }
            self.order.push_back(sighting.dot.clone());
            self.origins.insert(sighting.dot, (sighting.site, sighting.at_us));
        } else {
            if self.waiting.len() == WAITING_MAX {
                self.waiting.pop_front();
            }
            self.waiting.push_back(sighting);
        }
    }

    /// Pairs what was seen elsewhere with what its origin noted. What has no origin waits for it a while:
    /// that of a site which died before it was asked never comes.
    fn match_waiting(&mut self) {
        let now = wall_us();
        for sighting in std::mem::take(&mut self.waiting) {
            match self.origins.get(&sighting.dot) {
                Some((from, at_us)) => {
                    let network = micros(one_way(*from, sighting.site));
                    let late = sighting.at_us.cast_signed() - (at_us + network).cast_signed();
                    if let Some(recent) = self.recent.get_mut(from * self.sites + sighting.site) {
                        if recent.len() == PAIR_SAMPLES_MAX {
                            recent.pop_front();
                        }
                        recent.push_back((sighting.at_us, late));
                    }
                }
                None if now.saturating_sub(sighting.at_us) < WAITING_US_MAX => {
                    self.waiting.push_back(sighting);
                }
                None => {}
            }
        }
    }

    fn of(&self, from: usize, to: usize, now_us: u64) -> Option<PairLag> {
        let recent = self.recent.get(from * self.sites + to)?;
        let young = recent
            .iter()
            .filter(|(at, _)| now_us.saturating_sub(*at) < SHOWN_US);
        let mut late: Vec<i64> = young.map(|(_, late)| *late).collect();
        late.sort_unstable();
        let at = |share: f64| {
            late.get(((late.len() as f64 * share) as usize).min(late.len() - 1))
                .copied()
        };
        if late.is_empty() {
            return None;
        }
        Some(PairLag {
            p50_us: at(0.5)?,
            p99_us: at(0.99)?,
            samples: late.len(),
        })
    }
}

/// Load balancers ask every second or more rarely; ours is quick, because the world's time is.
const HEALTH_PERIOD: Duration = Duration::from_millis(200);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const COMMITS_PERIOD: Duration = Duration::from_millis(100);
const VECTOR_PERIOD: Duration = Duration::from_secs(2);
const STATUS_AGE_MAX: Duration = Duration::from_secs(3);

const ORIGINS_MAX: usize = 20_000;
const WAITING_MAX: usize = 200_000;
const WAITING_US_MAX: u64 = 10_000_000;
const PAIR_SAMPLES_MAX: usize = 400;
/// The lag that is shown is that of the last half minute.
const SHOWN_US: u64 = 30_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(site: usize, at_us: u64, local: bool) -> Sighting {
        Sighting {
            site,
            dot: Dot {
                writer: "w".into(),
                number: 1,
            },
            at_us,
            local,
        }
    }

    #[test]
    fn lag_is_what_the_network_does_not_explain() {
        let mut lags = Lags::new(3);
        let written = wall_us();
        let network = micros(one_way(0, 2));
        lags.note(seen(2, written + network + 1_500, false));
        lags.match_waiting();
        assert!(lags.of(0, 2, written).is_none(), "its origin is not known yet");
        lags.note(seen(0, written, true));
        lags.match_waiting();
        let lag = lags.of(0, 2, written).unwrap();
        assert_eq!((lag.p50_us, lag.p99_us, lag.samples), (1_500, 1_500, 1));
        assert!(lags.of(0, 1, written).is_none());
    }
}
