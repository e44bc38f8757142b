//! Conversations about what both ends hold. Each end pins its disk as it is when it begins, and goes no further before
//! what came is kept.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use gossip::{
    ConnectionId, Input, MemberId, Vector, Writer,
    reconcile::{Action, Answerer, Asker, Cut, Key, Part, Purpose, ReconcileError, Verdict},
};

use super::{
    check::{Damage, Numbers},
    network::{Carried, Class},
    world::{World, read_disk},
};
use crate::store::{DigestKey, NotKept, Repair, StoreCut, Task, disk::memory::MemoryDisk};

/// One conversation.
pub(crate) struct Talk {
    purpose: Purpose,
    asker: End<Asker>,
    answerer: End<Answerer>,
    /// The asker's core was told what it came to.
    told: bool,
}

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Asker,
    Answerer,
}

/// One end of it.
struct End<M> {
    at: usize,
    life: u64,
    connection: ConnectionId,
    member: MemberId,
    /// The start under which it began.
    start: Option<Writer>,
    machine: M,
    /// What the parts that come to this end are for.
    parts_for: Purpose,
    pinned: Option<Pinned>,
    /// Parts that are not kept yet.
    keeping: usize,
    /// Frames that wait for that.
    frames: VecDeque<Vec<u8>>,
    verdict: Option<Verdict>,
}

/// A disk as it was, what was on it, and what of that was damaged.
struct Pinned {
    disk: MemoryDisk,
    numbers: Numbers,
    damage: Option<Damage>,
}

/// Of records, by key.
type States = Vec<(Key, Vec<u8>)>;

/// What became of parts: the talk, the end, and whether it was kept.
pub(crate) type Kept = Arc<Mutex<Vec<(u64, Side, Result<(), NotKept>)>>>;

/// A part on its way to the disk. One that is dropped on it, because the store was reopened, was not kept.
struct Waits {
    told: Kept,
    talk: u64,
    side: Side,
    over: bool,
}

impl Waits {
    fn end(mut self, result: Result<(), NotKept>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), NotKept>) {
        if !std::mem::replace(&mut self.over, true) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((self.talk, self.side, result));
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.tell(Err(NotKept::Disk));
    }
}

/// All conversations.
#[derive(Default)]
pub(crate) struct Talks {
    under_way: BTreeMap<u64, Talk>,
    next: u64,
}

impl<M> End<M> {
    fn new(world: &World, at: usize, connection: ConnectionId, machine: M, parts_for: Purpose) -> End<M> {
        let process = &world.processes[at];
        End {
            at,
            life: process.life,
            connection,
            member: process.member,
            start: process.start(),
            machine,
            parts_for,
            pinned: None,
            keeping: 0,
            frames: VecDeque::new(),
            verdict: None,
        }
    }

    /// Pins the disk, once, and lets the machine take a step over it.
    fn step<T>(
        &mut self,
        world: &World,
        step: impl FnOnce(&mut M, &StoreCut<'_>) -> Result<T, ReconcileError>,
    ) -> Option<T> {
        if self.pinned.is_none() {
            // Not while nobody knows what is on its disk.
            world.processes[self.at].start()?;
            self.pinned = Some(Pinned {
                disk: world.processes[self.at].disk.copy(),
                numbers: world.checks.tracks[self.at].numbers.clone(),
                damage: world.checks.damaged.get(&self.at).cloned(),
            });
        }
        let disk = &self.pinned.as_ref()?.disk;
        let machine = &mut self.machine;
        let parts_for = self.parts_for;
        read_disk(disk, |disk| {
            let cut = match parts_for {
                Purpose::CatchUp => StoreCut::to_catch_up(disk, DigestKey::default()),
                Purpose::Look | Purpose::Repair => StoreCut::new(disk, DigestKey::default()),
            };
            Ok(step(machine, &cut?).ok())
        })
        .ok()
        .flatten()
    }
}

impl World {
    pub(crate) fn begin_talk(&mut self, at: usize, connection: ConnectionId, purpose: Purpose) {
        let Some((other, far)) = self.network.far_end(connection) else {
            // It has ended meanwhile, and an answer is waited for.
            if let Some(member) = self.leads_to.get(&connection).copied() {
                let verdict = None;
                self.input(
                    at,
                    Input::Reconciled {
                        member,
                        purpose,
                        verdict,
                    },
                );
            }
            return;
        };
        let nonce = self.rng.bytes();
        let asker = End::new(self, at, connection, Asker::new(purpose, nonce), purpose);
        let answerer = End::new(self, other, far, Answerer::new(), Purpose::Repair);
        self.talks.next += 1;
        let id = self.talks.next;
        let mut talk = Talk {
            purpose,
            asker,
            answerer,
            told: false,
        };
        let actions = talk.asker.step(self, |machine, cut| machine.begin(cut));
        self.go_on(id, talk, Side::Asker, actions);
    }

    /// A frame has come.
    pub(crate) fn heard_in_talk(&mut self, id: u64, to: Side, frame: Vec<u8>) {
        let Some(mut talk) = self.talks.under_way.remove(&id) else {
            return;
        };
        let frames = match to {
            Side::Asker => &mut talk.asker.frames,
            Side::Answerer => &mut talk.answerer.frames,
        };
        frames.push_back(frame);
        self.take_frames(id, talk, to);
    }

    fn take_frames(&mut self, id: u64, mut talk: Talk, side: Side) {
        let begins = side == Side::Answerer && talk.answerer.pinned.is_none();
        let actions = match side {
            Side::Asker if talk.asker.keeping == 0 => match talk.asker.frames.pop_front() {
                Some(frame) => talk.asker.step(self, |machine, cut| machine.handle(cut, &frame)),
                None => Some(Vec::new()),
            },
            Side::Answerer if talk.answerer.keeping == 0 => match talk.answerer.frames.pop_front() {
                Some(frame) => talk
                    .answerer
                    .step(self, |machine, cut| machine.handle(cut, &frame)),
                None => Some(Vec::new()),
            },
            _ => Some(Vec::new()),
        };
        if begins && talk.purpose == Purpose::CatchUp {
            self.serving(talk.answerer.at, talk.asker.member);
        }
        self.go_on(id, talk, side, actions);
    }

    /// Does what an end's machine asks for, and all that it has to say beside.
    fn go_on(&mut self, id: u64, mut talk: Talk, side: Side, actions: Option<Vec<Action>>) {
        let Some(mut actions) = actions else {
            self.end_talk(&talk);
            return;
        };
        loop {
            for action in actions {
                self.do_in_talk(id, &mut talk, side, action);
            }
            let more = match side {
                Side::Asker => talk.asker.step(self, |machine, cut| machine.more(cut)),
                Side::Answerer => talk.answerer.step(self, |machine, cut| machine.more(cut)),
            };
            match more {
                Some(more) if more.is_empty() => break,
                Some(more) => actions = more,
                None => {
                    self.end_talk(&talk);
                    return;
                }
            }
        }
        let waits = match side {
            Side::Asker => talk.asker.keeping == 0 && !talk.asker.frames.is_empty(),
            Side::Answerer => talk.answerer.keeping == 0 && !talk.answerer.frames.is_empty(),
        };
        if talk.asker.keeping == 0
            && let Some(verdict) = talk.asker.verdict.take()
        {
            talk.told = true;
            self.tell_verdict(&talk, Some(verdict));
        }
        let over = talk.told && talk.answerer.keeping == 0 && talk.answerer.verdict.is_some();
        if waits {
            self.take_frames(id, talk, side);
        } else if !over {
            self.talks.under_way.insert(id, talk);
        }
    }

    fn do_in_talk(&mut self, id: u64, talk: &mut Talk, side: Side, action: Action) {
        let (asker, answerer) = (&talk.asker, &talk.answerer);
        let (at, connection, to) = match side {
            Side::Asker => (asker.at, asker.connection, Side::Answerer),
            Side::Answerer => (answerer.at, answerer.connection, Side::Asker),
        };
        match action {
            Action::Send(frame) => self.carry(at, connection, Class::Talk, Carried::Talk { id, to, frame }),
            Action::Done(verdict) => match side {
                Side::Asker => talk.asker.verdict = Some(verdict),
                Side::Answerer => talk.answerer.verdict = Some(verdict),
            },
            Action::Deliver(part) => {
                let complete = matches!(part, Part::Complete { .. });
                let name = &self.processes[at].name;
                self.story.tell(self.now, || match &part {
                    Part::States { states, .. } => {
                        format!("{name}: {} states come, {:?}", states.len(), talk.purpose)
                    }
                    Part::Cells(cells) => format!("{name}: {} cells come", cells.len()),
                    Part::Complete { .. } => format!("{name}: all of a catch-up has come"),
                });
                if side == Side::Asker && talk.purpose == Purpose::CatchUp {
                    self.states_come(at, talk.answerer.at);
                }
                if self.keep(id, talk, side, part) {
                    match side {
                        Side::Asker => talk.asker.keeping += 1,
                        Side::Answerer => talk.answerer.keeping += 1,
                    }
                }
                if complete && let Some(pinned) = &talk.answerer.pinned {
                    self.checks.tracks[at].coming = Some(pinned.numbers.clone());
                    if let Some(damage) = &pinned.damage {
                        self.takes_damage(at, damage);
                    }
                }
            }
        }
    }

    /// Hands a part to the store of a process; false if there is nothing to wait for.
    fn keep(&mut self, id: u64, talk: &Talk, side: Side, part: Part) -> bool {
        let (asker, answerer) = (&talk.asker, &talk.answerer);
        let (at, start, own, from, sent_at) = match side {
            Side::Asker => (asker.at, asker.start, asker.member, answerer.member, answerer.at),
            Side::Answerer => (
                answerer.at,
                answerer.start,
                answerer.member,
                asker.member,
                asker.at,
            ),
        };
        let part = match part {
            Part::States { cut, states } if talk.purpose == Purpose::Repair && self.options.late_states => {
                let (cut, states) = self.of_now(sent_at, &states).unwrap_or((cut, states));
                Part::States { cut, states }
            }
            part => part,
        };
        let Some(running) = &mut self.processes[at].running else {
            return false;
        };
        let told = Arc::clone(&running.kept);
        let waits = Waits {
            told,
            talk: id,
            side,
            over: false,
        };
        let kept = Box::new(move |result| waits.end(result));
        let task = match (talk.purpose, part, start) {
            (Purpose::Repair, Part::States { cut, states }, _) => {
                self.tally
                    .count("records that came to be repaired", states.len() as u64);
                Task::Repair {
                    repair: Repair {
                        own,
                        from,
                        cut: Arc::new(cut),
                        states,
                    },
                    kept: Some(kept),
                }
            }
            (Purpose::CatchUp, part, Some(start)) => Task::Aside { start, part, kept },
            _ => return false,
        };
        running.queue.push_back(task);
        self.commit_soon(at);
        true
    }

    /// The same records as a process holds them at this moment, and its vector. `None`: it is down, or has not got all.
    fn of_now(&self, at: usize, states: &States) -> Option<(Vector, States)> {
        self.processes[at].start()?;
        let read = read_disk(&self.processes[at].disk, |disk| {
            let cut = StoreCut::new(disk, DigestKey::default())?;
            let now = states.iter().map(|(key, _)| Some((*key, cut.state(key).ok()??)));
            let now: Option<States> = now.collect();
            Ok(now.map(|states| (cut.vector().clone(), states)))
        });
        read.ok().flatten()
    }

    /// The store has kept parts, or has not.
    pub(crate) fn parts_kept(&mut self, kept: &Kept) {
        let kept = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, side, result) in kept {
            let Some(mut talk) = self.talks.under_way.remove(&id) else {
                continue;
            };
            if result.is_err() {
                self.end_talk(&talk);
                continue;
            }
            match side {
                Side::Asker => talk.asker.keeping -= 1,
                Side::Answerer => talk.answerer.keeping -= 1,
            }
            self.take_frames(id, talk, side);
        }
    }

    /// A connection is no more, and with it what was said over it.
    pub(crate) fn end_talks_over(&mut self, connection: ConnectionId) {
        let over = |talk: &Talk| talk.asker.connection.0 & !1 == connection.0 & !1;
        let ended: Vec<u64> = self
            .talks
            .under_way
            .iter()
            .filter(|(_, talk)| over(talk))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(talk) = self.talks.under_way.remove(&id) {
                self.end_talk(&talk);
            }
        }
    }

    fn end_talk(&mut self, talk: &Talk) {
        if !talk.told {
            self.tell_verdict(talk, None);
        }
    }

    fn tell_verdict(&mut self, talk: &Talk, verdict: Option<Verdict>) {
        let what = match (&verdict, talk.purpose) {
            (None, _) => "conversations that broke off",
            (Some(_), Purpose::CatchUp) => "catch-ups by states",
            (Some(verdict), _) if !verdict.conclusive => "looks that could not tell",
            (Some(verdict), _) if verdict.divergent.is_empty() => "looks that found none",
            (Some(_), _) => "looks that found divergence",
        };
        self.tally.count(what, 1);
        let [name, other] = [talk.asker.at, talk.answerer.at].map(|at| &self.processes[at].name);
        self.story.tell(self.now, || {
            format!("{name} and {other}, {:?}: {what}", talk.purpose)
        });
        if let Some(verdict) = verdict.as_ref().filter(|verdict| verdict.conclusive)
            && talk.purpose != Purpose::CatchUp
        {
            self.looked(talk.asker.at, talk.answerer.at, verdict);
        }
        if self.processes[talk.asker.at].life == talk.asker.life {
            // As the store hears it, whatever it came to, before another one begins.
            if talk.purpose == Purpose::CatchUp
                && let Some(running) = &mut self.processes[talk.asker.at].running
            {
                running.queue.push_back(Task::AsideEnds);
                self.commit_soon(talk.asker.at);
            }
            self.input(
                talk.asker.at,
                Input::Reconciled {
                    member: talk.answerer.member,
                    purpose: talk.purpose,
                    verdict,
                },
            );
        }
    }
}
