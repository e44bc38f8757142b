//! The laboratory's world: ten real sites on one machine, and a page to watch them and be unkind to them.
//!
//! `persona world` starts one `persona site` process per region, each with a data directory, ports and a key
//! of its own, and gives their datagrams the delays of the real distances. People (made up here) sign up, sign
//! in, change and leave at every site. A *scenario* does something terrible to the sites and then says, with
//! evidence, whether the promises of the design held; its exit status is its verdict.
//!
//! Without a scenario it also has what browsers reach ([`web`]), all sites behind one origin ([`front`]): whoever looks is one
//! of the people.
//!
//! Two rules keep the verdicts honest. Whoever makes trouble ([`hands`], [`scenario`]) is apart from whoever
//! judges ([`verdict`], [`audit`], [`settle`]); and a check that had nothing to look at fails.
//!
//! Compiled only with the feature `lab`; listens on loopback only.

mod asks;
mod audit;
mod client;
mod front;
mod gauges;
mod hands;
mod lag;
mod ledger;
mod load;
mod looks;
mod monitor;
mod network;
mod operator;
mod page;
mod people;
mod plan;
mod process;
mod scenario;
mod settle;
mod state;
mod timeline;
mod verdict;
mod web;
mod writes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use front::Front;
use gauges::Gauges;
use ledger::Ledger;
use monitor::Monitor;
use network::Network;
use people::People;
use plan::Plan;
use process::Site;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use timeline::Timeline;
use web::{Places, Web};

pub(crate) use page::{PAGE, ROUTES};
pub use scenario::Scenario;

use crate::demo::identity_provider::Mouth;

/// Runs ten data centers on this machine, as far apart as the real ones, with people signing in.
#[derive(clap::Args, Clone, Debug)]
pub struct WorldArgs {
    /// How many data centers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(2..=10))]
    pub sites: u8,
    /// Where the sites keep their data [default: $XDG_STATE_HOME/persona/world].
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Where the page is served; loopback only.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// What people ask for, in requests a second over all sites.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Do this to the world, judge it, and exit 0 (passed) or 1.
    #[arg(long, value_enum)]
    pub scenario: Option<Scenario>,
    /// Measure this, print the figures, and exit.
    #[arg(long, value_enum, conflicts_with = "scenario")]
    pub measure: Option<Measure>,
    /// How long the trouble of a scenario, or a measurement, lasts, in seconds.
    #[arg(long)]
    pub duration: Option<u64>,
    /// Repeats the choices of an earlier run: which sites, who does what.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Share of datagrams lost on every link, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub loss: f64,
    /// Empty the directory first (a scenario always starts empty).
    #[arg(long)]
    pub fresh: bool,
    /// Keep a scenario's data when it passed (it is always kept when it failed).
    #[arg(long)]
    pub keep: bool,
}

/// What `--measure` can measure.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Time from the answer at one site to being visible at each other, less the network's delay; and what the comparisons of
    /// replicas come to meanwhile.
    Lag,
}

/// Why the world could not be run. What it did so far has been stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A file or directory of the world could not be made, read or emptied.
    #[error("could not {doing} {}", path.display())]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Refused to empty a directory that this program did not make.
    #[error("{} has files in it but no {}, so it is not a world's directory: name another with --dir", path.display(), plan::MARKER)]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Another world runs in this directory.
    #[error("another `persona world` runs in {}: stop it, or name another directory with --dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The path of the admin sockets would not fit in a socket address.
    #[error("{} is too long for a Unix socket ({bytes} bytes, at most {}): name a shorter --dir", path.display(), plan::SOCKET_PATH_BYTES_MAX)]
    LongPath {
        /// The longest socket path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// No free ports were found.
    #[error("found no free ports from {from} on")]
    Ports {
        /// The first that was tried.
        from: u16,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Argument(String),
    /// A site's configuration, as written here, was not accepted.
    #[error("the configuration made for {site} is not accepted: {words}")]
    Configuration {
        /// The site.
        site: String,
        /// What the configuration's reader said.
        words: String,
    },
    /// A site did not come up, or did not do as told.
    #[error("{site}: {words}")]
    Site {
        /// The site.
        site: String,
        /// What happened, with the end of its log where that helps.
        words: String,
    },
    /// The sites did not get to where a scenario or measurement can begin.
    #[error("the world did not settle: {0}")]
    Unsettled(String),
    /// The page could not be served.
    #[error("could not serve the page on {listen}")]
    Page {
        /// Where it should have been.
        listen: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Interrupted by Ctrl-C or SIGTERM before the end.
    #[error("interrupted")]
    Interrupted,
}

/// Everything that runs: the sites, what the network between them should be, the people, and what is known.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) sites: Vec<Arc<Site>>,
    pub(crate) network: Mutex<Network>,
    pub(crate) people: Mutex<People>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) gauges: Mutex<Gauges>,
    pub(crate) monitor: Monitor,
    pub(crate) timeline: Timeline,
    pub(crate) load: load::Dial,
    pub(crate) seed: u64,
    /// The scenario or measurement under way; the page shows it.
    pub(crate) running: Option<&'static str>,
    /// Where browsers reach it, what they are sent through, and what the email domain says.
    pub(crate) web: Option<(Places, Arc<Front>, Mouth)>,
}

impl World {
    /// Randomness for one purpose, repeated by the same seed.
    pub(crate) fn random(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// How a site is called in reports.
    pub(crate) fn name(&self, site: usize) -> &str {
        self.plan.sites.get(site).map_or("?", |s| s.name.as_str())
    }

    /// Names of several sites, for a sentence.
    pub(crate) fn names(&self, sites: &[usize]) -> String {
        sites.iter().map(|s| self.name(*s)).collect::<Vec<_>>().join(", ")
    }
}

/// A lock that another task's panic does not take away: the state is counters and tables, always whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wall clock, in microseconds: what the sites' own times are compared with (one machine, one clock).
pub(crate) fn wall_us() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Runs the world until it is told to stop, or until its scenario or measurement ends.
pub async fn run(args: WorldArgs) -> Result<ExitCode, WorldError> {
    check_arguments(&args)?;
    let seed = args.seed.unwrap_or_else(rand::random::<u64>);
    let running = match (args.scenario, args.measure) {
        (Some(scenario), _) => Some(scenario.name()),
        (None, Some(Measure::Lag)) => Some("measure-lag"),
        (None, None) => None,
    };
    let base = args.dir.clone().unwrap_or_else(plan::default_dir);
    let dir = running.map_or_else(|| base.clone(), |name| base.join(name));
    let fresh = args.fresh || running.is_some();
    let settings = plan::Settings {
        sites: usize::from(args.sites),
        loss: args.loss,
        // What is measured is what the program adds: the network must be known to the microsecond then.
        jitter: if args.measure.is_some() {
            0.0
        } else {
            network::JITTER_SHARE
        },
        answer: if args.measure.is_some() {
            "local"
        } else {
            "sites:2"
        },
        upkeep: args.scenario.map(Scenario::upkeep).unwrap_or_default(),
    };
    let mut plan = Plan::open(&dir, fresh, settings)?;
    // A scenario is judged by what its own clients see: nobody looks.
    let web = match running {
        Some(_) => None,
        None => Some(Web::open(&plan.dir, args.listen).await?),
    };
    plan.web = web.as_ref().map(|web| web.plan.clone());
    let sites: Vec<_> = plan.sites.iter().map(|site| Arc::new(Site::new(site))).collect();
    let (web, serving) = match web {
        Some(web) => {
            let (places, mouth) = (web.places.clone(), web.mouth.clone());
            let (front, tasks) = web.serve(&sites);
            (Some((places, front, mouth)), tasks)
        }
        None => (None, Vec::new()),
    };

    let timeline = Timeline::new();
    timeline.say(&format!("{} sites in {}", plan.sites.len(), plan.dir.display()));
    timeline.say(&format!("seed {seed}: the same choices again with --seed {seed}"));
    timeline.say(plan::HASHING_NOTE);
    let world = Arc::new(World {
        sites,
        network: Mutex::new(Network::new(&plan)),
        people: Mutex::new(People::new(format!("{:x}", wall_us() / 1_000_000))),
        ledger: Mutex::new(Ledger::new(running.is_some())),
        gauges: Mutex::new(Gauges::new(plan.sites.len())),
        monitor: Monitor::new(plan.sites.len()),
        load: load::Dial::new(args.rate.unwrap_or(default_rate(&args))),
        plan,
        timeline,
        seed,
        running,
        web,
    });

    let served = page::serve(&world, args.listen).await?;
    if let Some(at) = served {
        world.timeline.say(&format!("page: http://{at}/"));
    }
    let watching = monitor::watch(&world);
    let outcome = tokio::select! {
        outcome = conduct(&world, &args) => outcome,
        () = interrupted() => Err(WorldError::Interrupted),
    };
    world.load.stop();
    world.timeline.say("stopping the sites");
    hands::stop_everything(&world).await;
    for task in watching.into_iter().chain(serving) {
        task.abort();
    }
    finish(&world, &args, outcome)
}

/// Starts the sites, then does what was asked for. `Ok(None)`: there was nothing to judge.
async fn conduct(world: &Arc<World>, args: &WorldArgs) -> Result<Option<verdict::Verdict>, WorldError> {
    hands::start_everything(world).await?;
    if args.measure.is_some() {
        return lag::measure(world, args.duration.map_or(LAG_MEASURED, Duration::from_secs))
            .await
            .map(Some);
    }
    if let Some(scenario) = args.scenario {
        return scenario
            .conduct(world, args.duration.map(Duration::from_secs))
            .await
            .map(Some);
    }
    world.timeline.say("all sites are ready; people begin to arrive");
    let load = load::start(world, load::TRICKLE);
    let places = world.web.iter().flat_map(|(places, ..)| places.lines());
    for line in places {
        world.timeline.say(&line);
    }
    for line in TRY_NEXT {
        world.timeline.say(line);
    }
    load.forever().await;
    Ok(None)
}

/// Prints and files the verdict, and clears away what nobody needs any more.
fn finish(
    world: &World,
    args: &WorldArgs,
    outcome: Result<Option<verdict::Verdict>, WorldError>,
) -> Result<ExitCode, WorldError> {
    let verdict = match outcome {
        Ok(Some(verdict)) => verdict,
        Ok(None) => return Ok(ExitCode::SUCCESS),
        // Ctrl-C is how a world without a scenario is meant to end.
        Err(WorldError::Interrupted) if world.running.is_none() => return Ok(ExitCode::SUCCESS),
        Err(error) => match world.running {
            Some(name) => verdict::Verdict::broken_off(name, &error),
            None => return Err(error),
        },
    };
    let report = args
        .dir
        .clone()
        .unwrap_or_else(plan::default_dir)
        .join(plan::REPORT);
    verdict.write(world, &report)?;
    verdict.print(world);
    world.timeline.say(&format!("report: {}", report.display()));
    if verdict.passed() {
        if !args.keep {
            world.plan.clear_sites()?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    world.timeline.say(&format!(
        "the sites' data and logs are kept in {}",
        world.plan.dir.display()
    ));
    world
        .timeline
        .say(&format!("again: {}", verdict.again(world, args)));
    Ok(ExitCode::FAILURE)
}

fn check_arguments(args: &WorldArgs) -> Result<(), WorldError> {
    if !args.listen.ip().is_loopback() {
        let words = format!(
            "--listen {}: the laboratory listens on loopback only",
            args.listen
        );
        return Err(WorldError::Argument(words));
    }
    if !(0.0..1.0).contains(&args.loss) {
        return Err(WorldError::Argument(format!(
            "--loss {}: a share from 0 to below 1",
            args.loss
        )));
    }
    if args.rate.is_some_and(|rate| !(rate > 0.0 && rate <= RATE_MAX)) {
        return Err(WorldError::Argument(format!(
            "--rate: above 0 and at most {RATE_MAX} requests a second"
        )));
    }
    let needed = args.scenario.map_or(2, Scenario::sites_min);
    if usize::from(args.sites) < needed {
        return Err(WorldError::Argument(format!(
            "--sites {}: this scenario needs {needed}",
            args.sites
        )));
    }
    Ok(())
}

fn default_rate(args: &WorldArgs) -> f64 {
    match (args.scenario, args.measure) {
        (_, Some(Measure::Lag)) => 100.0,
        (Some(scenario), _) => scenario.rate(),
        (None, None) => 40.0,
    }
}

/// Ends at Ctrl-C or SIGTERM.
async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// More than this is another program: the world and its ten sites share one machine.
const RATE_MAX: f64 = 5_000.0;

/// How long `--measure lag` writes, unless told otherwise.
const LAG_MEASURED: Duration = Duration::from_secs(60);

const TRY_NEXT: [&str; 4] = [
    "try on the page: \"Lose half\", then watch the sign-ins of the others; then \"Heal everything\"",
    "try on the page: cut one site off, let both sides write, heal it",
    "try here:        persona world --scenario five-gone   (`persona world --help` lists the others)",
    "Ctrl-C stops everything; the data stays for the next time (--fresh forgets it)",
];
