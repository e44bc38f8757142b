//! One site as a process: started, killed, told to drain, emptied.
//!
//! A site dies with its world: it watches its standard input, which the world holds open ([`STDIN_MARK`] tells
//! it to), so that even a world that is killed with -9 leaves nobody behind. Sites have a process group of
//! their own, so that Ctrl-C reaches the world alone, which then ends them in order.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::Client;
use super::plan::{PlannedSite, at, remove};
use super::{WorldError, locked};

/// A site's process, or the lack of one.
pub(crate) struct Site {
    /// Who stands in this place. Another member may take it, in the same directory.
    plan: Mutex<Arc<PlannedSite>>,
    pub(crate) client: Client,
    /// Counts starts: what was learned from an earlier process is not true of a later one.
    generation: AtomicU64,
    life: Mutex<Life>,
    /// Held while it starts: told to by two at once, it is started once.
    starting: tokio::sync::Mutex<()>,
    /// How often it ended without being told to.
    ended_by_itself: AtomicU64,
    /// (generation, how it ended), for whoever waits for an end.
    ended: watch::Sender<(u64, Option<Ended>)>,
}

/// How a process ended: its exit code, or `None` when by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended(pub(crate) Option<i32>);

enum Life {
    Down,
    Up {
        pid: Pid,
        told_to_end: bool,
        /// Closes when dropped, which ends the site.
        _stdin: Option<ChildStdin>,
    },
}

impl Site {
    pub(crate) fn new(plan: &PlannedSite) -> Site {
        Site {
            client: Client::new(&plan.socket()),
            plan: Mutex::new(Arc::new(plan.clone())),
            generation: AtomicU64::new(0),
            life: Mutex::new(Life::Down),
            starting: tokio::sync::Mutex::new(()),
            ended_by_itself: AtomicU64::new(0),
            ended: watch::Sender::new((0, None)),
        }
    }

    /// Who stands here.
    pub(crate) fn plan(&self) -> Arc<PlannedSite> {
        Arc::clone(&locked(&self.plan))
    }

    /// From the next start on, somebody else does.
    pub(crate) fn replace(&self, plan: PlannedSite) {
        *locked(&self.plan) = Arc::new(plan);
    }

    /// Which start this is; zero before the first.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &*locked(&self.life) {
            Life::Up { pid, .. } => u32::try_from(pid.as_raw_nonzero().get()).ok(),
            Life::Down => None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(&*locked(&self.life), Life::Up { .. })
    }

    /// Starts the process and returns once its admin API answers. Its configuration must have been written.
    /// With an invitation it joins.
    pub(crate) async fn start(self: &Arc<Self>, invitation: Option<&str>) -> Result<(), WorldError> {
        let _only = self.starting.lock().await;
        if self.is_up() {
            return Ok(());
        }
        let log_path = self.plan().log();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(at("open", &log_path))?;
        let log_too = log.try_clone().map_err(at("open", &log_path))?;
        let program = std::env::current_exe().map_err(at("find", Path::new("this program")))?;
        let mut child = Command::new(program)
            .arg("site")
            .arg("--config")
            .arg(self.plan().config())
            .envs(invitation.map(|invitation| ("PERSONA_JOIN", invitation)))
            .env(STDIN_MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log_too))
            .stderr(Stdio::from(log))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(at("start", Path::new("persona site")))?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return Err(self.failed("ended as soon as it was started"));
        };
        let generation = {
            let mut life = locked(&self.life);
            *life = Life::Up {
                pid,
                told_to_end: false,
                _stdin: child.stdin.take(),
            };
            self.generation.fetch_add(1, Ordering::AcqRel) + 1
        };
        self.ended.send_replace((generation, None));
        let site = Arc::clone(self);
        tokio::spawn(async move {
            let status = child.wait().await;
            site.note_end(generation, status.ok());
        });
        self.wait_answering(generation).await
    }

    fn note_end(&self, generation: u64, status: Option<ExitStatus>) {
        let mut life = locked(&self.life);
        let told = matches!(
            &*life,
            Life::Up {
                told_to_end: true,
                ..
            }
        );
        *life = Life::Down;
        if !told {
            self.ended_by_itself.fetch_add(1, Ordering::Relaxed);
        }
        let code = status.and_then(|status| status.code());
        self.ended.send_replace((generation, Some(Ended(code))));
    }

    async fn wait_answering(&self, generation: u64) -> Result<(), WorldError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut ended = self.ended.subscribe();
        loop {
            if self.client.status().await.is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed("its admin API does not answer"));
            }
            let over = ended.wait_for(|(of, end)| *of > generation || end.is_some());
            if tokio::time::timeout(START_POLL, over).await.is_ok() {
                return Err(self.failed("ended while starting"));
            }
        }
    }

    /// An error about this site that shows the end of its log.
    pub(crate) fn failed(&self, words: &str) -> WorldError {
        let log = fs::read(self.plan().log()).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_SHOWN_BYTES);
        let tail = String::from_utf8_lossy(log.get(from..).unwrap_or_default())
            .trim()
            .to_string();
        let words = format!("{words}; the end of {}:\n{tail}", self.plan().log().display());
        WorldError::Site {
            site: self.plan().name.clone(),
            words,
        }
    }

    /// `kill -9`: returns when the process is gone.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::KILL);
        self.gone(KILL_TIMEOUT).await;
    }

    /// SIGTERM: asks it to drain. Does not wait.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // Under the lock the process cannot be reaped, so the number is still its own.
        if let Life::Up { pid, told_to_end, .. } = &mut *locked(&self.life) {
            *told_to_end = true;
            let _ = kill_process(*pid, signal);
        }
    }

    /// Waits until the process has ended, and says how; `None` when it has not within the time.
    pub(crate) async fn gone(&self, within: Duration) -> Option<Ended> {
        let generation = self.generation();
        let mut ended = self.ended.subscribe();
        let over = ended.wait_for(|(of, end)| *of == generation && end.is_some());
        let (_, end) = *tokio::time::timeout(within, over).await.ok()?.ok()?;
        end
    }

    /// How often it ended without being told to.
    pub(crate) fn ends_by_itself(&self) -> u64 {
        self.ended_by_itself.load(Ordering::Relaxed)
    }

    /// Empties the disk of a site that is down: its key and configuration stay, as they lie elsewhere.
    pub(crate) fn wipe(&self) -> Result<(), WorldError> {
        if self.is_up() {
            return Err(WorldError::Site {
                site: self.plan().name.clone(),
                words: "is up: stop it before its data is removed".into(),
            });
        }
        remove(&self.plan().data())
    }

    /// Destroys the machine of a site that is down: its directory and its key.
    pub(crate) fn destroy(&self) -> Result<(), WorldError> {
        self.wipe()?;
        remove(&self.plan().dir)?;
        remove(&self.plan().identity)
    }

    /// Resident memory, in KiB, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

/// A site that finds this in its environment ends when its standard input closes.
pub(crate) const STDIN_MARK: &str = "PERSONA_LAB_STDIN";

/// Ten of them open their stores at once on two cores.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(50);
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
const LOG_SHOWN_BYTES: usize = 2_000;
