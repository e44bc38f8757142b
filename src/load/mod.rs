//! People's browsers, played: how a site does under the load of so many active users.
//!
//! `world::load` asks operators' questions over admin sockets, to watch for lost writes; this one asks what browsers and web
//! sites ask, over HTTP, with cookies, keys, certificates and assertions, and measures what people wait for.
//!
//! | module | subject |
//! | --- | --- |
//! | `activity` | what an active user does in a day, and which requests that makes |
//! | `schedule` | who comes when: an open loop |
//! | `errand` | one activity, from beginning to end |
//! | `repeat` | in place of all that: one request over and over |
//! | `crowd`, `browser`, `jar` | the people; what a browser keeps |
//! | `mailbox` | mails of a laboratory |
//! | `connections` | HTTP |
//! | `preparation` | people who have an account before it begins |
//! | `health` | health checks meanwhile |
//! | `tally`, `report` | what came of it |
//! | `processor` | what the generator itself cost |
//!
//! Promise: whatever the site does, as many come as were asked for, and each that came is counted: done, refused, failed, or as
//! not measured, with the reason.

mod activity;
mod browser;
mod connections;
mod crowd;
mod errand;
mod health;
mod jar;
mod mailbox;
mod options;
mod preparation;
mod processor;
mod repeat;
mod report;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

pub use self::options::LoadArgs;
use self::{
    activity::Activity,
    connections::{Connections, NoAnswer, Target, TargetError},
    crowd::Crowd,
    errand::Ground,
    mailbox::Mailbox,
    preparation::Unprepared,
    repeat::{Bare, Period},
    report::{Circumstances, LeftOut, Process, Report},
    schedule::{Arrival, Demand, Schedule},
    tally::Tally,
};
use crate::{
    outbound::{OutboundSetupError, tls::Tls},
    public_url::PublicUrl,
};

/// Activities under way at once. A site that lets so many wait has long been measured.
const IN_FLIGHT_MAX: u32 = 20_000;
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(20);
/// From here to the first arrival.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long the thread that keeps the time sleeps before it looks whether it should stop.
const NAP: Duration = Duration::from_millis(100);
/// Between two live lines; where nobody watches, between two that stay.
const LIVE_PERIOD: Duration = Duration::from_secs(1);
const LINES_PERIOD: u32 = 10;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no site to ask.
    #[error("--url {0}")]
    Target(String),
    /// There is, and it does not do what a site does.
    #[error("{site}: {what}: {answer}")]
    NotASite {
        /// Its URL.
        site: String,
        /// What was asked.
        what: &'static str,
        /// What it answered.
        answer: String,
    },
    /// The public URL can be no browser's.
    #[error("--public-url: give it: {0} cannot be one ({1})")]
    PublicUrl(Url, crate::public_url::PublicUrlError),
    /// No certificates to trust.
    #[error("--ca: {0}")]
    Certificates(String),
    /// An inbox was named, and has no mail.
    #[error("--inbox {0}: {1}")]
    Inbox(String, String),
    /// People cannot have accounts.
    #[error("{0}")]
    Unprepared(String),
    /// The results are lost.
    #[error("--json {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<TargetError> for LoadError {
    fn from(error: TargetError) -> LoadError {
        LoadError::Target(error.to_string())
    }
}

impl From<OutboundSetupError> for LoadError {
    fn from(error: OutboundSetupError) -> LoadError {
        LoadError::Certificates(error.to_string())
    }
}

impl From<Unprepared> for LoadError {
    fn from(error: Unprepared) -> LoadError {
        LoadError::Unprepared(error.to_string())
    }
}

/// Runs the command. Exit status 0: nothing failed; 2: something did, or was not measured.
pub async fn run(options: LoadArgs) -> Result<ExitCode, LoadError> {
    allow_open_files();
    let stop = Arc::new(AtomicBool::new(false));
    let seed = options.seed.unwrap_or_else(rand::random);
    let (ground, left_out) = set_out(&options).await?;
    for LeftOut { activity, why } in &left_out {
        eprintln!("left out: {activity}: {why}");
    }
    if ground.mailbox.is_some() {
        tokio::select! {
            prepared = prepare(&ground, &options, seed) => prepared?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::FAILURE),
        }
    }
    let demand = Demand {
        users: options.users as f64 * options.rps_scale,
        mix: options.mix,
        ramp: options.ramp,
        measured: options.measured,
    };
    if options.repeat.is_none() {
        eprintln!(
            "{} active users make about {:.0} requests a second",
            demand.users,
            Activity::requests(demand.mix, demand.users)
        );
    }
    let bare = options.repeat.and_then(|_| Bare::measure());
    let began = Instant::now() + HEAD_START;
    let begin_measuring = began + options.ramp;
    let end = begin_measuring + options.measured;
    for site in 0..ground.sites.len() {
        health::watch(&ground, site, begin_measuring, end);
    }
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    let clock = match options.repeat {
        Some(repeated) => {
            let period = Period { begin_measuring, end };
            repeat::begin(&ground, repeated, options.at_once, seed, period, &in_flight);
            None
        }
        None => Some(
            Clock {
                ground: ground.clone(),
                stop: stop.clone(),
                in_flight: in_flight.clone(),
                left_out: left_out.iter().map(|left_out| left_out.activity).collect(),
                began,
                begin_measuring,
                runtime: Handle::current(),
            }
            .start(Schedule::new(demand, seed))?,
        ),
    };
    let live = tokio::spawn(show(ground.clone(), in_flight.clone(), began, end));

    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut interrupted = tokio::select! {
        () = sleep_until(begin_measuring) => false,
        _ = &mut interrupt => true,
    };
    let used_before = used(&options.process);
    if !interrupted {
        interrupted = tokio::select! {
            () = sleep_until(end) => false,
            _ = &mut interrupt => true,
        };
    }
    let used_after = used(&options.process);
    let measured = Instant::now().min(end).saturating_duration_since(begin_measuring);
    stop.store(true, Ordering::Relaxed);
    if let Some(clock) = clock {
        let _ = clock.join();
    }
    live.abort();
    let _ = timeout(LAST_ANSWERS, in_flight.acquire_many(IN_FLIGHT_MAX)).await;
    let unfinished = IN_FLIGHT_MAX as usize - in_flight.available_permits();

    let mut spent = used_before.iter().zip(&used_after).map(|(before, after)| {
        let (before, after) = ((*before)?, (*after)?);
        Some(after.saturating_sub(before).as_secs_f64())
    });
    let circumstances = Circumstances {
        cpu_s: spent.next().flatten(),
        processes: std::iter::zip(options.process.iter().copied(), spent)
            .map(|(pid, cpu_s)| Process { pid, cpu_s })
            .collect(),
        seed,
        measured_s: measured.as_secs_f64(),
        interrupted,
        left_out,
        unfinished: unfinished as u64,
        bare,
        options,
    };
    let report = Report::new(circumstances, &ground.tally.counts());
    publish(&report)?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// Each connection is an open file, of which a shell allows few although the system would allow many.
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

async fn prepare(ground: &Arc<Ground>, options: &LoadArgs, seed: u64) -> Result<(), LoadError> {
    preparation::prepare(ground, options.accounts, seed).await?;
    if options.repeat.is_none() && !options.without.contains(&Activity::ResetPassword) {
        let pause = ground.crowd.until_mail();
        if !pause.is_zero() {
            eprintln!(
                "waiting for {} s, until the first of them may be sent a mail again",
                pause.as_secs() + 1
            );
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// The processor time of this process, and of others.
fn used(processes: &[u32]) -> Vec<Option<Duration>> {
    let own = std::iter::once(None);
    own.chain(processes.iter().map(|pid| Some(*pid)))
        .map(processor::used)
        .collect()
}

fn publish(report: &Report) -> Result<(), LoadError> {
    let json = || serde_json::to_string_pretty(report).unwrap_or_default();
    match &report.options.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()),
        Some(path) => {
            println!("{}", report.table());
            fs::write(path, json()).map_err(|source| LoadError::Json {
                path: path.clone(),
                source,
            })?;
        }
        None => println!("{}", report.table()),
    }
    Ok(())
}

/// Finds out what there is, and what can be done there.
async fn set_out(options: &LoadArgs) -> Result<(Arc<Ground>, Vec<LeftOut>), LoadError> {
    let Some(first) = options.urls.first() else {
        return Err(LoadError::Target("name a site".to_owned()));
    };
    let public_url = match &options.public_url {
        Some(public_url) => public_url.clone(),
        None => first
            .as_str()
            .parse::<PublicUrl>()
            .map_err(|error| LoadError::PublicUrl(first.clone(), error))?,
    };
    let origin = public_url.origin();
    let authority = origin
        .split_once("://")
        .map_or(origin, |(_, authority)| authority);
    let is_https = |urls: &[Url]| urls.iter().any(|url| url.scheme() == "https");
    let tls = if is_https(&options.urls) || is_https(&options.inbox) {
        let roots = options.ca.as_ref().map(|path| {
            fs::read(path).map_err(|error| LoadError::Certificates(format!("{}: {error}", path.display())))
        });
        Some(Arc::new(Tls::new(roots.transpose()?.as_deref())?))
    } else {
        None
    };
    let mut sites = Vec::new();
    for url in &options.urls {
        let target = Target::new(url, authority, tls.clone()).await?;
        sites.push(Connections::new(target, usize::from(options.connections)));
    }
    let mut left_out: Vec<_> = options
        .without
        .iter()
        .map(|activity| LeftOut {
            activity: *activity,
            why: "as was asked for".to_owned(),
        })
        .collect();
    for site in &sites {
        look(site, "/wsapi/session_context").await?;
    }
    if let Some(site) = sites.first()
        && let Err(error) = look(site, "/include.js").await
    {
        left_out.push(LeftOut {
            activity: Activity::IncludeOnly,
            why: error.to_string(),
        });
    }
    let mailbox = match open_mailbox(options, authority, tls).await {
        Ok(mailbox) => Some(mailbox),
        Err(error) if !options.inbox.is_empty() => return Err(error),
        Err(error) => {
            let takes_account = |activity: &Activity| {
                let takes_account = activity.takes_mail() || activity.takes_account();
                takes_account && !options.without.contains(activity)
            };
            left_out.extend(
                Activity::ALL
                    .into_iter()
                    .filter(takes_account)
                    .map(|activity| LeftOut {
                        activity,
                        why: format!("nobody can prove an address without a laboratory's inbox: {error}"),
                    }),
            );
            None
        }
    };
    let count = sites.len();
    let ground = Ground {
        sites,
        origin: HeaderValue::from_str(origin).map_err(|error| LoadError::Target(error.to_string()))?,
        mailbox,
        crowd: Crowd::new(format!("{:x}", browser::now_ms()), options.domain.clone(), count),
        tally: Tally::new(),
        moving: options.moving,
    };
    Ok((Arc::new(ground), left_out))
}

async fn open_mailbox(
    options: &LoadArgs,
    authority: &str,
    tls: Option<Arc<Tls>>,
) -> Result<Arc<Mailbox>, LoadError> {
    let urls = if options.inbox.is_empty() {
        &options.urls
    } else {
        &options.inbox
    };
    let mut sources = Vec::new();
    for url in urls {
        let target = Target::new(url, authority, tls.clone()).await?;
        sources.push(Connections::new(target, 1));
    }
    let opened = Mailbox::open(sources).await;
    let mailbox = opened.map_err(|(url, error)| LoadError::Inbox(url, error.to_string()))?;
    mailbox.start();
    Ok(mailbox)
}

/// Whether a site answers this at all.
async fn look(site: &Connections, path: &'static str) -> Result<(), LoadError> {
    let not_a_site = |answer: String| LoadError::NotASite {
        site: site.target().name.clone(),
        what: path,
        answer,
    };
    let request = Request::get(path).body(Full::default());
    let request = request.map_err(|error| not_a_site(error.to_string()))?;
    let reply = site.ask(request).await;
    let reply = reply.map_err(|error: NoAnswer| not_a_site(error.to_string()))?;
    match reply.status {
        StatusCode::OK => Ok(()),
        status => Err(not_a_site(status.to_string())),
    }
}

/// Sends people off when they are due. On a thread of its own: a timer of the runtime is late by up to a millisecond, which
/// here would be most of what is measured.
struct Clock {
    ground: Arc<Ground>,
    stop: Arc<AtomicBool>,
    in_flight: Arc<Semaphore>,
    left_out: Vec<Activity>,
    began: Instant,
    begin_measuring: Instant,
    runtime: Handle,
}

impl Clock {
    fn start(self, schedule: Schedule) -> Result<JoinHandle<()>, LoadError> {
        thread::Builder::new()
            .name("persona-clock".to_owned())
            .spawn(move || self.run(schedule))
            .map_err(|error| LoadError::Target(format!("no thread could be started: {error}")))
    }

    fn run(self, schedule: Schedule) {
        for arrival in schedule {
            if self.left_out.contains(&arrival.activity) {
                continue;
            }
            let due = self.began + arrival.due;
            loop {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::sleep(left.min(NAP));
            }
            self.send_off(arrival, due);
        }
    }

    fn send_off(&self, arrival: Arrival, due: Instant) {
        let is_measured = due >= self.begin_measuring;
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else {
            if is_measured {
                self.ground.tally.counts().not_begun += 1;
            }
            return;
        };
        let ground = self.ground.clone();
        self.runtime.spawn(async move {
            errand::run(&ground, arrival.activity, due, arrival.seed, is_measured).await;
            drop(place);
        });
    }
}

/// Tells how it goes.
async fn show(ground: Arc<Ground>, in_flight: Arc<Semaphore>, began: Instant, end: Instant) {
    let is_watched = io::stderr().is_terminal();
    let bar = if is_watched {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let whole = end.saturating_duration_since(began).as_secs();
    let period = if is_watched {
        LIVE_PERIOD
    } else {
        LIVE_PERIOD * LINES_PERIOD
    };
    ground.tally.take_recent();
    let mut next = began;
    let mut before = began;
    loop {
        next += period;
        sleep_until(next).await;
        let now = Instant::now();
        let recent = ground.tally.take_recent();
        let people = IN_FLIGHT_MAX as usize - in_flight.available_permits();
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        before = now;
        let line = format!(
            "{:>4}/{whole} s {}",
            now.saturating_duration_since(began).as_secs(),
            report::live(&recent, seconds, people)
        );
        if is_watched {
            bar.set_message(line);
            bar.tick();
        } else {
            eprintln!("{line}");
        }
    }
}
