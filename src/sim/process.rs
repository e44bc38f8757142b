//! One replica's process: the real core and the real commit logic, driven as the real driver, committer and site drive
//! them, only without threads. A commit takes its time; a crash within that time loses it, or leaves it done and told
//! to nobody.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use gossip::{Config, Dot, Event, Gossip, Input, Limits, MemberId, Now, Output, PeerState, Vector, Writer};

use super::{
    check::Promise,
    commits::{REOPEN_AFTER, next_group},
    deeds::{Gone, Outcome},
    rng::Rng,
    talks::Kept,
    trouble::Kind,
    world::{Happening, World},
};
use crate::{
    planted::{self, Bug},
    replication::{Step, Succession},
    settlement::Settlement,
    store::{
        Beginning, Ledger, Space, Task, WaitingRepairs,
        disk::{Disk, memory::MemoryDisk},
    },
};

/// With a clock further off its peers' median than this, a site writes nothing.
const CLOCK_SKEW_MAX_MS: u64 = 60_000;
/// How often each peer is compared with: oftener than in earnest, because storms are short.
const LOOK_INTERVAL: Duration = Duration::from_secs(8);
/// When every world begins, in milliseconds since 1970.
const MORNING_MS: u64 = 1_700_000_000_000;

/// A place to run: a disk, a clock, a name in the cluster. What runs there comes and goes.
pub(crate) struct Process {
    pub(crate) member: MemberId,
    pub(crate) name: String,
    /// Which place: decides delays, and what counts as another site.
    pub(crate) site: usize,
    pub(crate) disk: MemoryDisk,
    pub(crate) running: Option<Running>,
    /// Counts starts and ends of the process, so that what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) clock_ms: i64,
    /// How long a batch takes, in milliseconds.
    pub(crate) batch_ms: u64,
    pub(crate) versions: (u16, u16),
    /// It writes transactions as a version to come would, with more in them.
    pub(crate) newer: bool,
    /// It will not run again.
    pub(crate) retired: bool,
    /// Another process made of the same directory runs, or did: at most one of them is started at the end.
    pub(crate) copy_of: Option<usize>,
    /// Times that all that is stored was read again.
    pub(crate) scrubbed: u64,
    /// Its operator keeps it down: whoever had planned to start it waits for that.
    pub(crate) kept_down: bool,
    /// What it last knew itself to be.
    pub(crate) state: Option<PeerState>,
    /// It is active, and not everybody knows: as a site, it serves nobody before that is settled.
    pub(crate) arriving: bool,
    /// It was put out, and asked to be let in as this one: until it is told that this is written down, it is nobody else.
    pub(crate) asks_as: Option<MemberId>,
    wakes: Option<Duration>,
}

/// What is lost when the process ends.
pub(crate) struct Running {
    pub(crate) gossip: Gossip,
    /// None while the disk cannot be opened.
    pub(crate) ledger: Option<Ledger>,
    pub(crate) space: Space,
    pub(crate) draining: bool,
    /// It is an active member, as far as it knows.
    pub(crate) takes_part: bool,
    /// Once this is settled it has arrived.
    pub(crate) before_serving: Option<Vector>,
    pub(crate) queue: VecDeque<Task>,
    pub(crate) committing: bool,
    pub(crate) begin_again: Option<Beginning>,
    pub(crate) succession: Succession,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) told: Arc<Mutex<Vec<(u64, Outcome)>>>,
    pub(crate) kept: Kept,
    pub(crate) settlement: Settlement,
    pub(crate) gone: Gone,
    /// When the disk was last rewritten.
    pub(crate) rewritten: Option<Duration>,
    /// States that came before what they follow.
    pub(crate) waiting_repairs: WaitingRepairs,
}

/// A local write on this disk whose answer waits for another site.
pub(crate) struct Waiting {
    pub(crate) deed: u64,
    pub(crate) dot: Dot,
    pub(crate) until: Duration,
}

impl Process {
    pub(crate) fn new(member: MemberId, name: String, site: usize, disk: MemoryDisk) -> Process {
        Process {
            member,
            name,
            site,
            disk,
            running: None,
            life: 0,
            clock_ms: 0,
            batch_ms: 2,
            versions: (1, 1),
            newer: false,
            retired: false,
            copy_of: None,
            scrubbed: 0,
            kept_down: false,
            state: None,
            arriving: false,
            asks_as: None,
            wakes: None,
        }
    }

    /// Does it take people's writes now?
    pub(crate) fn serves(&self) -> bool {
        !self.arriving
            && self.running.as_ref().is_some_and(|running| {
                running.ledger.is_some()
                    && running.begin_again.is_none()
                    && running.gossip.is_ready()
                    && running.takes_part
                    && !running.draining
                    && running
                        .gossip
                        .skew()
                        .is_none_or(|skew| skew.unsigned_abs() <= CLOCK_SKEW_MAX_MS)
            })
    }

    pub(crate) fn idle(&self) -> bool {
        self.running.as_ref().is_some_and(|running| {
            running.queue.is_empty() && !running.committing && running.ledger.is_some()
        })
    }

    pub(crate) fn start(&self) -> Option<Writer> {
        let running = self.running.as_ref()?;
        running.ledger.as_ref().map(Ledger::start)
    }

    pub(crate) fn vector(&self) -> Option<&Vector> {
        self.running.as_ref()?.ledger.as_ref().map(Ledger::vector)
    }
}

impl World {
    /// The wall clock of a process, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self, at: usize) -> u64 {
        let true_ms = MORNING_MS + self.now.as_millis() as u64;
        true_ms.saturating_add_signed(self.processes[at].clock_ms)
    }

    fn clock(&self, at: usize) -> Now {
        Now {
            at: self.now,
            wall_ms: self.wall_ms(at),
        }
    }

    /// Starts a process on whatever is on its disk.
    pub(crate) fn start(&mut self, at: usize) {
        let process = &self.processes[at];
        if process.running.is_some() || process.retired || process.kept_down {
            return;
        }
        let seed = self.rng.bytes();
        let disk = self.processes[at].disk.clone();
        self.end_checkpoints(at);
        disk.keep_residue();
        if disk.reopen().is_err() {
            return;
        }
        self.processes[at].life += 1;
        let ledger = match Ledger::open(Arc::new(disk), Beginning::default(), self.keeping(), seed) {
            Ok(ledger) => ledger,
            Err(error) => {
                self.story.tell(self.now, || {
                    format!("{} does not start: {error}", self.processes[at].name)
                });
                let life = self.processes[at].life;
                self.after(REOPEN_AFTER, Happening::Start { at, life });
                return;
            }
        };
        self.opened(at, &ledger);
        let process = &self.processes[at];
        let config = Config {
            cluster: [7; 16],
            member: process.member,
            site: site_name(process.site),
            start: ledger.start(),
            own_starts: ledger.own_starts().to_vec(),
            versions: process.versions,
            features: BTreeSet::new(),
            fingerprints: BTreeMap::new(),
            startup_grace: Duration::from_secs(10),
            look_interval: Some(LOOK_INTERVAL),
            limits: Limits {
                early_count_max: 64,
                log_catch_up_max: self.options.log_catch_up_max,
                ..Limits::default()
            },
        };
        let gossip = Gossip::new(
            self.clock(at),
            config,
            ledger.vector().clone(),
            ledger.trimmed().clone(),
            self.peers_seen_by(at),
        );
        let name = &self.processes[at].name;
        self.story
            .tell(self.now, || format!("{name} starts as {}", ledger.start()));
        let process = &mut self.processes[at];
        process.wakes = None;
        process.running = Some(Running {
            gossip,
            ledger: Some(ledger),
            space: Space::Enough,
            draining: false,
            takes_part: false,
            before_serving: None,
            queue: VecDeque::new(),
            committing: false,
            begin_again: None,
            succession: Succession::default(),
            waiting: Vec::new(),
            told: Arc::default(),
            kept: Kept::default(),
            settlement: Settlement::default(),
            gone: Gone::default(),
            rewritten: None,
            waiting_repairs: WaitingRepairs::default(),
        });
        for other in 0..self.processes.len() {
            self.dial_soon(at, other);
            self.dial_soon(other, at);
        }
        self.members_may_have_changed(at);
        self.nothing_settled(at);
        let life = self.processes[at].life;
        self.after(super::settling::SETTLE_EVERY, Happening::Settle { at, life });
        self.commit_soon(at);
    }

    /// The process ends at once, like a machine that loses power. A batch under way is lost, or done and told to nobody.
    pub(crate) fn kill(&mut self, at: usize) {
        let lands = self.rng.chance(50);
        let Some(mut running) = self.processes[at].running.take() else {
            return;
        };
        let mut landed = None;
        if running.committing
            && lands
            && let Some(ledger) = &mut running.ledger
        {
            let group = next_group(ledger, &mut running.queue);
            let now_ms = self.wall_ms(at);
            self.checks.batch_made(now_ms);
            // Whatever the disk answered: what it answers wrongly nobody is told of either.
            let _ = ledger.commit(now_ms, running.space, group);
            landed = Some(ledger.vector().clone());
            self.tally.count("batches that landed in a crash", 1);
        }
        let process = &mut self.processes[at];
        process.disk.crash();
        process.life += 1;
        self.story.tell(self.now, || format!("{} ends", process.name));
        if let Some(vector) = landed {
            self.landed(at, &vector);
        }
        if self.is_one_of_two(at) {
            self.checks.held_beside_clone(at);
        }
        for connection in self.network.links_of(at) {
            for (other, connection) in self.unlink(connection).into_iter().flatten() {
                if other != at {
                    self.after(
                        super::network::IDLE_TIMEOUT,
                        Happening::Lost {
                            at: other,
                            connection,
                        },
                    );
                }
            }
        }
    }

    /// Another process was made of a copy of its directory, or it is such a copy.
    fn is_one_of_two(&self, at: usize) -> bool {
        let copied = self.processes.iter().any(|other| other.copy_of == Some(at));
        copied || self.processes[at].copy_of.is_some()
    }

    /// Something for the core of a process.
    pub(crate) fn input(&mut self, at: usize, input: Input) {
        let now = self.clock(at);
        if let Some(running) = &mut self.processes[at].running {
            running.gossip.handle(now, input);
            self.drive(at);
        }
    }

    pub(crate) fn tick(&mut self, at: usize, life: u64) {
        if self.processes[at].life == life {
            self.processes[at].wakes = None;
            self.input(at, Input::Tick);
        }
    }

    /// Does what the core asks for, and answers who waits.
    fn drive(&mut self, at: usize) {
        while let Some(output) = self.processes[at]
            .running
            .as_mut()
            .and_then(|running| running.gossip.poll())
        {
            self.perform(at, output);
        }
        self.answer(at);
        if planted::is(Bug::CollapsesOnAcks)
            && let Some(running) = &mut self.processes[at].running
            && running.settlement.is_waiting()
        {
            let stable = running.gossip.stable();
            running.settlement.settled(stable);
            self.collapse_some(at);
        }
        let process = &mut self.processes[at];
        let Some(running) = &process.running else { return };
        let deadline = running.gossip.deadline();
        if process.wakes.is_none_or(|wakes| wakes > deadline) {
            process.wakes = Some(deadline);
            let life = process.life;
            self.after(deadline.saturating_sub(self.now), Happening::Tick { at, life });
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        use super::network::{Carried, Class};
        match output {
            Output::Send { connection, message } => {
                // Through the codec, as on a real wire.
                let frame = message.to_frame();
                if let Ok(message) = gossip::Message::decode(frame.get(4..).unwrap_or_default()) {
                    self.carry(at, connection, Class::Control, Carried::Message(message));
                }
            }
            Output::Push { connection, bytes } => {
                let weather = self.network.weather;
                if weather.lost_percent > 0 && self.rng.chance(weather.lost_percent) {
                    self.tally.fault(Kind::Loss);
                    return;
                }
                if weather.doubled_percent > 0 && self.rng.chance(weather.doubled_percent) {
                    self.tally.fault(Kind::Duplication);
                    self.carry(at, connection, Class::Push, Carried::Push(bytes.clone()));
                }
                self.carry(at, connection, Class::Push, Carried::Push(bytes));
            }
            Output::Pull {
                connection,
                pull,
                vector,
            } => self.carry(at, connection, Class::Pull, Carried::PullRequest { pull, vector }),
            Output::CancelPull { .. } => {}
            Output::Deliver(received) => {
                if let Some(running) = &mut self.processes[at].running {
                    running.queue.extend(received.into_iter().map(Task::Remote));
                }
                self.commit_soon(at);
            }
            // What of it may go is checked below.
            Output::Stable(_) => {}
            Output::Trim(stable) => {
                self.stable(at, &stable);
                if self.options.trims
                    && let Some(running) = &mut self.processes[at].running
                {
                    running.queue.push_back(Task::Trim(stable));
                    self.commit_soon(at);
                }
            }
            Output::Close { connection, .. } => self.close(at, connection),
            Output::Event(event) => self.event(at, event),
            Output::Reconcile { connection, purpose } => self.begin_talk(at, connection, purpose),
            Output::Snapshot { connection } => self.begin_copy(at, connection),
            Output::Settled(settled) => self.settled(at, settled),
        }
    }

    fn event(&mut self, at: usize, event: Event) {
        let name = &self.processes[at].name;
        self.story.tell(self.now, || format!("{name}: {event:?}"));
        match event {
            Event::LaterStart { known, copied, live } => {
                let Some(running) = &mut self.processes[at].running else {
                    return;
                };
                match running.succession.later_start(known, copied, live) {
                    Step::Begin(beginning) => self.begin_again_soon(at, beginning),
                    Step::StandAside => {
                        self.tally.count("copies that stood aside", 1);
                        let life = self.processes[at].life;
                        self.after(Duration::from_millis(1), Happening::End { at, life });
                    }
                }
            }
            Event::WriterAhead { dot, .. } => {
                let beginning = Beginning {
                    past_epoch: dot.writer.epoch,
                    new_replica: false,
                    unless_here: Some(dot),
                };
                self.begin_again_soon(at, beginning);
            }
            Event::Fork { dot, .. } => self.forked(at, dot),
            Event::Misbehaved { .. } => self.tally.count("peers that misbehaved", 1),
            Event::ClockSkew { .. } => self.tally.count("warnings of a clock", 1),
            Event::Ready { renew: false, .. } => {
                let life = self.processes[at].life;
                self.after(Duration::from_millis(10), Happening::Register { at, life });
            }
            Event::HandedOver => {
                self.tally.count("members put out that handed over", 1);
                let life = self.processes[at].life;
                self.after(Duration::from_secs(1), Happening::JoinAnew { at, life });
            }
            Event::Evicted => self.put_out(at),
            Event::Unready => self.tally.count("replicas beyond all logs", 1),
            Event::Ready { renew: true, .. } => {
                let beginning = Beginning {
                    new_replica: true,
                    ..Beginning::default()
                };
                self.begin_again_soon(at, beginning);
            }
            _ => {}
        }
    }

    fn begin_again_soon(&mut self, at: usize, beginning: Beginning) {
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        running.begin_again = Some(match running.begin_again {
            None => beginning,
            Some(earlier) => Beginning {
                past_epoch: earlier.past_epoch.max(beginning.past_epoch),
                new_replica: earlier.new_replica || beginning.new_replica,
                unless_here: earlier.unless_here.and(beginning.unless_here),
            },
        });
        self.commit_soon(at);
    }

    /// Answers those whose writes are on two sites' disks, and those who have waited long enough.
    fn answer(&mut self, at: usize) {
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        if running.waiting.is_empty() {
            return;
        }
        let alone = running.gossip.connected_sites() == 0;
        let mut answered = Vec::new();
        running.waiting.retain(|waiting| {
            let promise = if running.gossip.sites_with(&waiting.dot) >= 2 {
                Promise::TwoSites
            } else if alone || waiting.until <= self.now {
                Promise::Here
            } else {
                return true;
            };
            answered.push((waiting.deed, waiting.dot, promise));
            false
        });
        for (deed, dot, promise) in answered {
            self.answered(at, deed, dot, promise);
        }
    }

    /// A member takes a copy or a catch-up from this process, as of now.
    pub(crate) fn serving(&mut self, at: usize, member: MemberId) {
        if let Some(cut) = self.processes[at].vector().cloned() {
            self.input(at, Input::Serving { member, cut });
        }
    }

    /// Does any other site have everything, so that this one may go? What a failed batch has left is known only once the
    /// disk is open again.
    pub(crate) fn drained(&self, at: usize) -> bool {
        self.processes[at].running.as_ref().is_some_and(|running| {
            running.queue.is_empty()
                && running.ledger.is_some()
                && running.gossip.elsewhere(running.gossip.vector())
        })
    }

    pub(crate) fn dial_soon(&mut self, from: usize, to: usize) {
        if from != to
            && self.processes[from].member != self.processes[to].member
            && self.dialing.insert((from, to))
        {
            let wait = self.rng.ms(50, 550);
            self.after(wait, Happening::Dial { from, to });
        }
    }
}

pub(crate) fn site_name(site: usize) -> String {
    gossip::regions::regions()[site % 10].code.to_owned()
}

/// How long after its predecessor a member's process is started, so that none waits for all.
pub(crate) fn start_spread(rng: &mut Rng) -> Duration {
    rng.ms(0, 300)
}
