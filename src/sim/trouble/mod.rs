//! Those who make trouble. They know nothing of who checks, and do to a world only what the world does to people:
//! wires, power, disks and clocks. What they break, a remedy mends, at the latest when the storm is over.

mod clocks;
mod damage;
mod disks;
mod evictions;
mod members;
mod network;
mod processes;

use std::time::Duration;

use super::{
    check::Track,
    rng::Rng,
    world::{Happening, World},
};
use crate::store::disk::memory::MemoryDisk;

/// A kind of trouble.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Pushes are lost.
    Loss,
    /// Pushes come twice.
    Duplication,
    /// Delays vary widely.
    Delay,
    /// Some things take seconds longer than others on the same way.
    Reordering,
    /// Two replicas, or a group and the rest, do not hear each other.
    Cut,
    /// One hears the other, which does not hear it.
    OneWayCut,
    /// A process ends, with what it had in memory.
    Crash,
    /// A batch fails: lost, landed, or written and not synced.
    TornBatch,
    /// A backup is put back.
    Restore,
    /// A second process runs on a copy of a directory.
    Clone,
    /// A disk is replaced by an empty one.
    Wipe,
    /// A site drains, goes, and its disk is destroyed; it comes back with an empty one.
    Drain,
    /// A clock is off.
    ClockSkew,
    /// A clock jumps.
    ClockJump,
    /// A disk is full.
    FullDisk,
    /// A disk takes seconds for a batch.
    SlowDisk,
    /// Replicas of several versions, updated one by one.
    Versions,
    /// A member that is joining while everything else goes on.
    Join,
    /// A replica is away for as long as the storm lasts.
    Absence,
    /// A member leaves in good order.
    Leave,
    /// A member is put out, hands over what it has, and joins anew.
    Evict,
    /// Members that do not hear each other put each other out.
    MutualEvictions,
    /// A stored value is altered, or gone, or cannot be read.
    BitFlip,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 23] = [
        Kind::Loss,
        Kind::Duplication,
        Kind::Delay,
        Kind::Reordering,
        Kind::Cut,
        Kind::OneWayCut,
        Kind::Crash,
        Kind::TornBatch,
        Kind::Restore,
        Kind::Clone,
        Kind::Wipe,
        Kind::Drain,
        Kind::ClockSkew,
        Kind::ClockJump,
        Kind::FullDisk,
        Kind::SlowDisk,
        Kind::Versions,
        Kind::Join,
        Kind::Absence,
        Kind::Leave,
        Kind::Evict,
        Kind::MutualEvictions,
        Kind::BitFlip,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Loss => "loss",
            Kind::Duplication => "duplication",
            Kind::Delay => "delay",
            Kind::Reordering => "reordering",
            Kind::Cut => "cut",
            Kind::OneWayCut => "one-way-cut",
            Kind::Crash => "crash",
            Kind::TornBatch => "torn-batch",
            Kind::Restore => "restore",
            Kind::Clone => "clone",
            Kind::Wipe => "wipe",
            Kind::Drain => "drain",
            Kind::ClockSkew => "clock-skew",
            Kind::ClockJump => "clock-jump",
            Kind::FullDisk => "full-disk",
            Kind::SlowDisk => "slow-disk",
            Kind::Versions => "versions",
            Kind::Join => "join",
            Kind::Absence => "absence",
            Kind::Leave => "leave",
            Kind::Evict => "evict",
            Kind::MutualEvictions => "mutual-evictions",
            Kind::BitFlip => "bit-flip",
        }
    }
}

/// What the trouble makers remember.
pub(crate) struct Troubles {
    pub(super) rng: Rng,
    /// Whose disk, as it was, and what was known of it.
    pub(super) backups: Vec<(usize, MemoryDisk, Track)>,
    over: bool,
    /// A member was put out or has left: one in a world.
    pub(super) put_out: bool,
    /// Members that asked to be let in anew.
    pub(super) newcomers: u64,
}

/// What mends a trouble.
#[derive(Clone, Debug)]
pub(crate) enum Remedy {
    /// Starts a process that is down.
    Start(usize),
    /// Lets these hear each other again.
    Join(Vec<(usize, usize)>),
    /// The weather is fine again.
    Weather,
    /// A disk has room again.
    Room(usize),
    /// A disk is as fast as any.
    Speed(usize),
    /// A clock is right.
    Clock(usize),
    /// Looks whether a site that drains may go.
    Drained { at: usize, life: u64, tries: u32 },
    /// Looks whether a member that leaves may go.
    Left(usize),
    /// One member says that others are out.
    Evict { by: usize, ids: Vec<gossip::MemberId> },
    /// Empties a directory on which nothing starts.
    Replace(usize),
}

impl Troubles {
    pub(crate) fn new(rng: Rng) -> Troubles {
        Troubles {
            rng,
            backups: Vec::new(),
            over: false,
            put_out: false,
            newcomers: 0,
        }
    }
}

impl World {
    /// The storm begins.
    pub(crate) fn begin_troubles(&mut self) {
        for kind in self.options.troubles.keys().copied().collect::<Vec<_>>() {
            self.strike_later(kind);
        }
    }

    fn strike_later(&mut self, kind: Kind) {
        let intensity = self.options.troubles.get(&kind).copied().unwrap_or(1);
        let every = self.options.storm.as_millis() as u64 / u64::from(1 + intensity);
        let wait = self.troubles.rng.ms(every / 8, every);
        self.after(wait, Happening::Strike(kind));
    }

    pub(crate) fn strike(&mut self, kind: Kind) {
        if self.troubles.over {
            return;
        }
        match kind {
            Kind::Loss | Kind::Duplication | Kind::Delay | Kind::Reordering => self.bad_weather(kind),
            Kind::Cut => self.cut_some(),
            Kind::OneWayCut => self.cut_one_way(),
            Kind::Crash => self.crash_some(),
            Kind::Versions => self.update_one(),
            Kind::Join => self.let_join(),
            Kind::Absence => self.send_away(),
            Kind::Leave => self.let_leave(),
            Kind::Evict => self.evict_one(),
            Kind::MutualEvictions => self.evict_each_other(),
            Kind::BitFlip => self.damage_one(),
            Kind::Drain => self.drain_one(),
            Kind::Clone => self.clone_one(),
            Kind::TornBatch => self.tear_batch(),
            Kind::Restore => self.restore_one(),
            Kind::Wipe => self.wipe_one(),
            Kind::FullDisk => self.fill_disk(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::ClockSkew | Kind::ClockJump => self.turn_clock(kind),
        }
        self.strike_later(kind);
    }

    fn remedy_later(&mut self, low_ms: u64, high_ms: u64, remedy: Remedy) {
        let wait = self.troubles.rng.ms(low_ms, high_ms);
        self.after(wait, Happening::Remedy(remedy));
    }

    pub(crate) fn remedy(&mut self, remedy: Remedy) {
        match remedy {
            Remedy::Start(at) => self.start(at),
            Remedy::Join(pairs) => {
                for pair in pairs {
                    self.network.cuts.remove(&pair);
                }
            }
            Remedy::Weather => self.network.weather = super::network::Weather::default(),
            Remedy::Room(at) => self.make_room(at),
            Remedy::Speed(at) => self.processes[at].batch_ms = 2,
            Remedy::Clock(at) => self.processes[at].clock_ms = 0,
            Remedy::Drained { at, life, tries } => self.leave_if_drained(at, life, tries),
            Remedy::Left(at) => self.gone_if_left(at),
            Remedy::Evict { by, ids } => self.say_out(by, &ids),
            Remedy::Replace(at) => self.replace_if_closed(at),
        }
    }

    /// The storm is over: everything is mended, what is down is started. Of several copies of one directory one runs
    /// after the other, so that each hands out what it alone has; see `disks`.
    pub(crate) fn mend(&mut self) {
        self.troubles.over = true;
        self.people.rest();
        self.story.tell(self.now, || "the storm is over".to_owned());
        self.network.cuts.clear();
        self.network.weather = super::network::Weather::default();
        for at in 0..self.processes.len() {
            self.make_room(at);
            let process = &mut self.processes[at];
            process.batch_ms = 2;
            process.clock_ms = 0;
            if let Some(running) = &mut process.running {
                running.draining = false;
            }
        }
        self.settle_copies();
        for at in 0..self.processes.len() {
            self.start(at);
        }
        self.tally.count("storms", 1);
    }

    /// A process that runs, if one does.
    fn one_running(&mut self) -> Option<usize> {
        let running: Vec<usize> = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.running.is_some())
            .map(|(at, _)| at)
            .collect();
        self.troubles.rng.pick(&running)
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        self.story.tell(self.now, line);
    }

    /// Lets the world go on for a while, until something holds.
    pub(crate) fn run_until(&mut self, bound: Duration, mut holds: impl FnMut(&mut World) -> bool) -> bool {
        let end = self.now + bound;
        while self.goes_on() {
            if holds(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.run(Duration::from_millis(200));
        }
        false
    }
}
