//! A world in virtual time: processes, what lies between them, people, troubles, and those who check. One calendar says
//! what happens next; the seed decides everything that could be otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gossip::{ConnectionId, Input, MemberId, Peer, PeerState, PullEnd, Vector, quic::LogChunk};

use super::{
    check::{Checks, Violation},
    copies::Copies,
    network::{Carried, Class, Network, SENT_AGAIN},
    options::Options,
    people::People,
    process::{Process, site_name, start_spread},
    rng::Rng,
    story::Story,
    talks::Talks,
    tally::Tally,
    trouble::{Kind, Remedy, Troubles},
};
use crate::store::{
    ReadError, Snapshot,
    disk::{Disk, DiskRead, memory::MemoryDisk},
    read_log,
};

/// Bytes of a pull's answer at a time.
const PULL_BYTES: usize = 16 * 1024;
/// How often dead links are looked for.
const LINKS_EVERY: Duration = Duration::from_millis(250);
/// How often one replica is looked at as a whole.
const LOOK_EVERY: Duration = Duration::from_secs(4);

/// Everything.
pub struct World {
    pub(crate) now: Duration,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) processes: Vec<Process>,
    /// The members that every configuration lists. What the cluster record says of one counts instead.
    pub(crate) peers: Vec<Peer>,
    pub(crate) network: Network,
    pub(crate) people: People,
    pub(crate) talks: Talks,
    pub(crate) copies: Copies,
    pub(crate) troubles: Troubles,
    pub(crate) checks: Checks,
    pub(crate) tally: Tally,
    pub(crate) story: Story,
    /// Whom each connection leads to.
    pub(crate) leads_to: BTreeMap<ConnectionId, gossip::MemberId>,
    pub(crate) dialing: BTreeSet<(usize, usize)>,
    pub(crate) violation: Option<Violation>,
    /// What happened to a clone leaves nothing to be judged: see [`World::fail`].
    pub(crate) given_up: bool,
    calendar: BTreeMap<(Duration, u64), Happening>,
    next: u64,
}

/// What the calendar holds. `life`: only if the process has not ended since.
pub(crate) enum Happening {
    Tick {
        at: usize,
        life: u64,
    },
    Commit {
        at: usize,
        life: u64,
    },
    Reopen {
        at: usize,
        life: u64,
    },
    Start {
        at: usize,
        life: u64,
    },
    End {
        at: usize,
        life: u64,
    },
    Register {
        at: usize,
        life: u64,
    },
    Settle {
        at: usize,
        life: u64,
    },
    JoinAnew {
        at: usize,
        life: u64,
    },
    LetIn {
        member: MemberId,
        former: MemberId,
    },
    Dial {
        from: usize,
        to: usize,
    },
    Established {
        from: usize,
        to: usize,
        lives: (u64, u64),
    },
    Arrive {
        at: usize,
        connection: ConnectionId,
        class: Class,
    },
    Lost {
        at: usize,
        connection: ConnectionId,
    },
    Piece(u64),
    Links,
    Look,
    Deed,
    Errand(u64),
    Strike(Kind),
    Remedy(Remedy),
}

impl World {
    /// A world of members that know each other, with empty disks, started at about the same time.
    pub(crate) fn new(options: Options) -> World {
        let seed = options.seed;
        let names = (0..options.replicas)
            .map(|index| {
                format!(
                    "{}-{}",
                    site_name(index % options.sites),
                    index / options.sites + 1
                )
            })
            .collect();
        World::named(options, names, seed)
    }

    pub(crate) fn named(options: Options, names: Vec<String>, seed: u64) -> World {
        let mut processes = Vec::new();
        let mut peers = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let site = index % options.sites;
            let member = MemberId((index as u64 + 1).to_be_bytes());
            let joins = options.troubles.contains_key(&Kind::Join) && index + 1 == options.replicas;
            peers.push(Peer {
                id: member,
                name: name.clone(),
                site: site_name(site),
                state: if joins {
                    PeerState::Joining
                } else {
                    PeerState::Active
                },
            });
            processes.push(Process::new(member, name, site, MemoryDisk::new()));
        }
        let mut world = World {
            now: Duration::ZERO,
            rng: Rng::stream(seed, 2),
            people: People::new(Rng::stream(seed, 3), &options),
            troubles: Troubles::new(Rng::stream(seed, 4)),
            checks: Checks::new(processes.len()),
            network: Network::default(),
            talks: Talks::default(),
            copies: Copies::default(),
            tally: Tally::default(),
            story: Story::default(),
            leads_to: BTreeMap::new(),
            dialing: BTreeSet::new(),
            violation: None,
            given_up: false,
            calendar: BTreeMap::new(),
            next: 0,
            processes,
            peers,
            options,
        };
        for at in 0..world.processes.len() {
            let after = start_spread(&mut world.rng);
            world.after(after, Happening::Start { at, life: 0 });
        }
        world.after(LINKS_EVERY, Happening::Links);
        world.after(LOOK_EVERY, Happening::Look);
        world
    }

    pub(crate) fn after(&mut self, wait: Duration, happening: Happening) {
        self.next += 1;
        self.calendar.insert((self.now + wait, self.next), happening);
    }

    /// Lives on for a while; stops at once when something is found to be wrong.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.goes_on()
            && let Some(entry) = self.calendar.first_entry()
            && entry.key().0 <= end
        {
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            self.happen(happening);
        }
        self.now = end.max(self.now);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { at, life } => self.tick(at, life),
            Happening::Commit { at, life } => self.commit(at, life),
            Happening::Reopen { at, life } => self.try_reopening(at, life),
            Happening::Start { at, life } => {
                if self.processes[at].life == life {
                    self.start(at);
                }
            }
            Happening::End { at, life } => {
                if self.processes[at].life == life {
                    self.kill(at);
                }
            }
            Happening::Register { at, life } => {
                if self.processes[at].life == life {
                    self.register(at);
                }
            }
            Happening::Settle { at, life } => self.settle_some(at, life),
            Happening::JoinAnew { at, life } => self.join_anew(at, life),
            Happening::LetIn { member, former } => self.let_in(member, former),
            Happening::Dial { from, to } => self.dial(from, to),
            Happening::Established { from, to, lives } => {
                if (self.processes[from].life, self.processes[to].life) == lives {
                    self.establish(from, to);
                }
            }
            Happening::Arrive {
                at,
                connection,
                class,
            } => self.arrive(at, connection, class),
            Happening::Lost { at, connection } => {
                self.input(at, Input::Disconnected { connection });
                self.redial(at);
            }
            Happening::Links => {
                for connection in self.network.silent(self.now) {
                    for (at, connection) in self.unlink(connection).into_iter().flatten() {
                        self.input(at, Input::Disconnected { connection });
                        self.redial(at);
                    }
                }
                self.after(LINKS_EVERY, Happening::Links);
            }
            Happening::Look => {
                let open: Vec<usize> = (0..self.processes.len())
                    .filter(|at| self.processes[*at].start().is_some())
                    .collect();
                if let Some(at) = self.rng.pick(&open) {
                    self.look(at);
                }
                self.after(LOOK_EVERY, Happening::Look);
            }
            Happening::Piece(id) => self.next_piece(id),
            Happening::Deed => self.next_deed(),
            Happening::Errand(errand) => self.run_errand(errand),
            Happening::Strike(kind) => self.strike(kind),
            Happening::Remedy(remedy) => self.remedy(remedy),
        }
    }

    /// Dials everyone that a process has no connection to.
    pub(crate) fn redial(&mut self, at: usize) {
        for other in 0..self.processes.len() {
            if !self.network.linked(at, other) {
                self.dial_soon(at, other);
            }
        }
    }

    fn dial(&mut self, from: usize, to: usize) {
        self.dialing.remove(&(from, to));
        if self.processes[from].running.is_none() || self.network.linked(from, to) {
            return;
        }
        if self.processes[to].running.is_some() && self.network.open(from, to) {
            let lives = (self.processes[from].life, self.processes[to].life);
            let handshake = Network::delay(self.processes[from].site, self.processes[to].site) * 2;
            self.after(handshake, Happening::Established { from, to, lives });
        }
        // Forever: one that is established meanwhile ends it.
        self.dial_soon(from, to);
    }

    fn establish(&mut self, from: usize, to: usize) {
        if !self.network.open(from, to) {
            return;
        }
        let ends = self.network.link(self.now, from, to);
        let rtt = Network::delay(self.processes[from].site, self.processes[to].site) * 2;
        for (at, other, connection, dialed) in [(from, to, ends[0], true), (to, from, ends[1], false)] {
            let member = self.processes[other].member;
            self.leads_to.insert(connection, member);
            self.input(
                at,
                Input::Connected {
                    connection,
                    member,
                    dialed,
                },
            );
            self.input(at, Input::Rtt { connection, rtt });
        }
    }

    /// A connection is no more: what went over it ends.
    pub(crate) fn unlink(&mut self, connection: ConnectionId) -> Option<[(usize, ConnectionId); 2]> {
        let ends = self.network.unlink(connection);
        self.end_talks_over(connection);
        self.end_copies_over(connection);
        ends
    }

    /// One end closes a connection: the other learns it after what was sent before.
    pub(crate) fn close(&mut self, at: usize, connection: ConnectionId) {
        for (other, far) in self.unlink(connection).into_iter().flatten() {
            if other != at {
                let delay = Network::delay(self.processes[at].site, self.processes[other].site);
                let lost = Happening::Lost {
                    at: other,
                    connection: far,
                };
                self.after(delay + Duration::from_millis(5), lost);
            }
        }
        self.redial(at);
    }

    pub(crate) fn carry(&mut self, from: usize, connection: ConnectionId, class: Class, carried: Carried) {
        let (extra, straggles) = self.network.weather.extra(&mut self.rng);
        let Some((to, there)) = self.network.far_end(connection) else {
            return;
        };
        if straggles {
            self.tally.fault(Kind::Reordering);
        } else if self.network.weather.jitter_ms > 0 {
            self.tally.fault(Kind::Delay);
        }
        let way = Network::delay(self.processes[from].site, self.processes[to].site) + extra;
        let now = self.now;
        let Some((link, direction)) = self.network.sending(connection) else {
            return;
        };
        let arrives = &mut link.arrives[direction][class as usize];
        *arrives = (*arrives).max(now + way);
        let wait = *arrives - now;
        link.under_way[direction][class as usize].push_back(carried);
        self.after(
            wait,
            Happening::Arrive {
                at: to,
                connection: there,
                class,
            },
        );
    }

    fn arrive(&mut self, at: usize, connection: ConnectionId, class: Class) {
        let Some((from, far)) = self.network.far_end(connection) else {
            return;
        };
        if self.network.is_cut(from, at) {
            self.tally.fault(if self.network.is_cut(at, from) {
                Kind::Cut
            } else {
                Kind::OneWayCut
            });
            let now = self.now;
            if let Some((link, direction)) = self.network.sending(far) {
                let arrives = &mut link.arrives[direction][class as usize];
                *arrives = (*arrives).max(now + SENT_AGAIN);
            }
            self.after(
                SENT_AGAIN,
                Happening::Arrive {
                    at,
                    connection,
                    class,
                },
            );
            return;
        }
        let Some((link, direction)) = self.network.sending(far) else {
            return;
        };
        let Some(carried) = link.under_way[direction][class as usize].pop_front() else {
            return;
        };
        match carried {
            Carried::Message(message) => self.input(at, Input::Message { connection, message }),
            Carried::Talk { id, to, frame } => self.heard_in_talk(id, to, frame),
            Carried::Copy { id, to, frame } => self.heard_in_copy(id, to, &frame),
            Carried::Push(bytes) => self.input(at, Input::Pushed { connection, bytes }),
            Carried::PullRequest { pull, vector } => self.serve(at, connection, pull, &vector),
            Carried::PullAnswer {
                pull,
                transactions,
                end,
            } => self.input(
                at,
                Input::Pulled {
                    connection,
                    pull,
                    transactions,
                    end,
                },
            ),
        }
    }

    /// Answers a pull from the log, in commit order.
    fn serve(&mut self, at: usize, connection: ConnectionId, pull: u64, vector: &Vector) {
        let Some(running) = &self.processes[at].running else {
            return;
        };
        let synced = running.gossip.vector().clone();
        let mut position = None;
        loop {
            let chunk = self.on_disk(at, |disk| read_log(disk, vector, &synced, position, PULL_BYTES));
            let (transactions, next, end) = match chunk {
                Ok(LogChunk::Transactions { transactions, next }) => {
                    (transactions, next, next.is_none().then_some(PullEnd::Done))
                }
                Ok(LogChunk::Trimmed) => (Vec::new(), None, Some(PullEnd::Trimmed)),
                Err(_) => (Vec::new(), None, Some(PullEnd::Failed)),
            };
            let over = end.is_some();
            let answer = Carried::PullAnswer {
                pull,
                transactions,
                end,
            };
            self.carry(at, connection, Class::Pull, answer);
            if over {
                return;
            }
            position = next;
        }
    }

    /// Reads a process's disk, whether it runs or not.
    pub(crate) fn on_disk<T>(
        &self,
        at: usize,
        read: impl FnOnce(&dyn DiskRead) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        read_disk(&self.processes[at].disk, read)
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.violation.is_none() && !self.given_up
    }

    fn something_unheard_was_folded_away(&self) -> bool {
        self.checks.unheard().any(|dot| {
            (0..self.processes.len()).any(|at| {
                let vector = self.processes[at].vector();
                vector.is_some_and(|vector| vector.folded(&dot.writer))
                    && !self.checks.tracks[at].covers(&dot)
            })
        })
    }

    /// Notes a violation; the first one ends the world.
    ///
    /// But where a replica wrote on beside its own clone, unheard, or lay aside with what it had while that one was heard,
    /// or where a backup brought back what all other disks had lost, and others have folded such a writer meanwhile, no
    /// vector can name what the replica holds of it any more. Its states come to the others by looks, as divergence, in
    /// no order: what these checkers then see says nothing. Nobody can both forget the writers of the past and tell them
    /// from those of a copied directory.
    pub(crate) fn fail(&mut self, found: Result<(), Violation>) {
        if let Err(violation) = found
            && self.goes_on()
        {
            if self.something_unheard_was_folded_away() {
                self.story.tell(self.now, || {
                    format!("given up, for what nobody had heard of was folded away: {violation}")
                });
                self.given_up = true;
                return;
            }
            self.story.tell(self.now, || format!("VIOLATION: {violation}"));
            self.violation = Some(violation);
        }
    }
}

/// Reads a disk through one snapshot.
pub(crate) fn read_disk<T>(
    disk: &MemoryDisk,
    read: impl FnOnce(&dyn DiskRead) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let mut read = Some(read);
    let mut value = None;
    disk.read(&mut |disk| value = read.take().map(|read| read(disk)))?;
    value.unwrap_or(Err(ReadError::Disk(crate::store::disk::DiskError::Closed)))
}

/// Reads what the records say.
pub(crate) fn read_records<T>(
    disk: &MemoryDisk,
    read: impl FnOnce(&Snapshot<'_>) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    read_disk(disk, |disk| read(&Snapshot::new(disk)))
}
