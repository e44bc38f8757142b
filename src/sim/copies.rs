//! Whole copies for replicas that have nothing: the giver keeps a checkpoint, the taker keeps what came, also over a
//! crash, and a transfer that broke off goes on where it was.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gossip::{
    ConnectionId, Input, MemberId,
    snapshot::{Action, Giver, Source, Taker},
};

use super::{
    check::{Damage, Numbers, Track},
    network::{Carried, Class},
    talks::Side,
    world::{Happening, World},
};
use crate::store::{
    Beginning, covered,
    disk::{Disk, memory::MemoryDisk},
    install,
};

/// Pieces are sent this far apart: a copy takes its time.
const PIECE_EVERY: Duration = Duration::from_millis(40);

/// A checkpoint, the member that it is kept for, and what was on the disk.
pub(crate) struct Checkpoint {
    of: usize,
    life: u64,
    member: MemberId,
    source: Arc<dyn Source>,
    track: Track,
}

/// One transfer.
pub(crate) struct Copy {
    taker_at: usize,
    giver_at: usize,
    lives: (u64, u64),
    connections: (ConnectionId, ConnectionId),
    members: (MemberId, MemberId),
    taker: Taker,
    giver: Option<Giver>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Copies {
    under_way: BTreeMap<u64, Copy>,
    checkpoints: Vec<Checkpoint>,
    next: u64,
}

impl World {
    pub(crate) fn begin_copy(&mut self, at: usize, connection: ConnectionId) {
        let Some((other, far)) = self.network.far_end(connection) else {
            // It has ended meanwhile, and an answer is waited for.
            if let Some(member) = self.leads_to.get(&connection).copied() {
                self.copy_ended(at, member, false);
            }
            return;
        };
        let members = (self.processes[at].member, self.processes[other].member);
        let name = &self.processes[at].name;
        self.story.tell(self.now, || {
            format!("{name} copies from {}", self.processes[other].name)
        });
        let Ok(sink) = self.processes[at].disk.incoming() else {
            self.copy_ended(at, members.1, false);
            return;
        };
        self.copies.next += 1;
        let id = self.copies.next;
        let mut copy = Copy {
            taker_at: at,
            giver_at: other,
            lives: (self.processes[at].life, self.processes[other].life),
            connections: (connection, far),
            members,
            taker: Taker::new(sink),
            giver: None,
        };
        if let Ok(Some(Action::Send(frame))) = copy.taker.more() {
            let to = Side::Answerer;
            self.carry(at, connection, Class::Talk, Carried::Copy { id, to, frame });
        }
        self.copies.under_way.insert(id, copy);
    }

    /// Is a copy on its way to this process?
    pub(crate) fn copying(&self, at: usize) -> bool {
        self.copies.under_way.values().any(|copy| copy.taker_at == at)
    }

    /// The checkpoint that is kept for a member, or a new one.
    fn checkpoint(&mut self, of: usize, member: MemberId) -> Option<(Arc<dyn Source>, Track)> {
        // Not while nobody knows what is on its disk.
        self.processes[of].start()?;
        let life = self.processes[of].life;
        let kept = self
            .copies
            .checkpoints
            .iter()
            .find(|kept| (kept.of, kept.life, kept.member) == (of, life, member));
        if let Some(kept) = kept {
            return Some((Arc::clone(&kept.source), kept.track.clone()));
        }
        let source: Arc<dyn Source> = self.processes[of].disk.checkpoint(&mut covered).ok()?.into();
        let track = self.checks.tracks[of].clone();
        self.copies.checkpoints.push(Checkpoint {
            of,
            life,
            member,
            source: Arc::clone(&source),
            track: track.clone(),
        });
        self.serving(of, member);
        Some((source, track))
    }

    /// A process starts: the checkpoints that an earlier life of it left behind go.
    pub(crate) fn end_checkpoints(&mut self, of: usize) {
        self.copies.checkpoints.retain(|kept| kept.of != of);
    }

    /// A frame of a copy has come.
    pub(crate) fn heard_in_copy(&mut self, id: u64, to: Side, frame: &[u8]) {
        let Some(mut copy) = self.copies.under_way.remove(&id) else {
            return;
        };
        let going = match to {
            Side::Answerer => self.give(id, &mut copy, frame),
            Side::Asker => self.take(id, &mut copy, frame),
        };
        match going {
            Some(true) => {
                self.copies.under_way.insert(id, copy);
            }
            Some(false) => self.install(copy),
            None => self.copy_ended(copy.taker_at, copy.members.1, false),
        }
    }

    fn give(&mut self, id: u64, copy: &mut Copy, frame: &[u8]) -> Option<bool> {
        if copy.giver.is_none() {
            let (source, _) = self.checkpoint(copy.giver_at, copy.members.0)?;
            copy.giver = Some(Giver::new(source));
        }
        let actions = copy.giver.as_mut()?.handle(frame).ok()?;
        self.send_frames(id, copy, Side::Answerer, actions);
        self.after(PIECE_EVERY, Happening::Piece(id));
        Some(true)
    }

    /// The giver goes on.
    pub(crate) fn next_piece(&mut self, id: u64) {
        let Some(mut copy) = self.copies.under_way.remove(&id) else {
            return;
        };
        let more = copy.giver.as_mut().map(Giver::more);
        match more {
            Some(Ok(Some(action))) => {
                self.send_frames(id, &copy, Side::Answerer, vec![action]);
                self.after(PIECE_EVERY, Happening::Piece(id));
            }
            Some(Err(_)) => {
                // That checkpoint is of no more use: whoever asks next gets a new one.
                let (of, member) = (copy.giver_at, copy.members.0);
                let kept = |kept: &Checkpoint| (kept.of, kept.member) != (of, member);
                self.copies.checkpoints.retain(kept);
                self.copy_ended(copy.taker_at, copy.members.1, false);
                return;
            }
            _ => {}
        }
        self.copies.under_way.insert(id, copy);
    }

    fn take(&mut self, id: u64, copy: &mut Copy, frame: &[u8]) -> Option<bool> {
        let actions = copy.taker.handle(frame).ok()?;
        let done = actions.contains(&Action::Done);
        self.send_frames(id, copy, Side::Asker, actions);
        Some(!done)
    }

    fn send_frames(&mut self, id: u64, copy: &Copy, from: Side, actions: Vec<Action>) {
        let (at, connection, to) = match from {
            Side::Asker => (copy.taker_at, copy.connections.0, Side::Answerer),
            Side::Answerer => (copy.giver_at, copy.connections.1, Side::Asker),
        };
        for action in actions {
            if let Action::Send(frame) = action {
                self.carry(at, connection, Class::Talk, Carried::Copy { id, to, frame });
            }
        }
    }

    /// Everything has come: it takes the place of what is here, and a new start begins on it.
    fn install(&mut self, copy: Copy) {
        let Copy {
            taker_at: at,
            giver_at,
            lives,
            members,
            taker,
            ..
        } = copy;
        drop(taker);
        let kept = self
            .copies
            .checkpoints
            .iter()
            .position(|kept| (kept.of, kept.life, kept.member) == (giver_at, lives.1, members.0));
        let kept = kept.map(|kept| self.copies.checkpoints.swap_remove(kept));
        let now_ms = self.wall_ms(at);
        let disk = self.processes[at].disk.clone();
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        let before = running.gossip.start().replica;
        let installed = match &running.ledger {
            Some(ledger) => install(ledger, &disk, now_ms).is_ok(),
            None => false,
        };
        if !installed {
            self.copy_ended(at, members.1, false);
            return;
        }
        // Whatever the disk answered, what is found on reopening is what happened.
        self.expect_copy(at, giver_at, kept.map(|kept| kept.track.numbers), &disk);
        self.reopen(at, Beginning::default());
        let installed = self.processes[at]
            .start()
            .is_some_and(|start| start.replica != before);
        self.tally
            .count("copies that were installed", u64::from(installed));
        self.copy_ended(at, members.1, installed);
    }

    /// What the checkers know of the disk that a copy took the place of.
    fn expect_copy(&mut self, at: usize, giver_at: usize, numbers: Option<Numbers>, disk: &MemoryDisk) {
        if disk.reopen().is_err() {
            return;
        }
        let has_replica = self
            .on_disk(at, |disk| Ok(crate::store::has_replica(disk)))
            .unwrap_or(true);
        if !has_replica && let Some(numbers) = numbers {
            self.checks.disk_copied(at, numbers);
            // A copy has the damage of what was copied.
            if let Some(damage) = self.checks.damaged.get(&giver_at).cloned() {
                let scrubbed = self.processes[at].scrubbed;
                let damage = Damage { scrubbed, ..damage };
                self.checks.damaged.insert(at, damage);
            }
        }
    }

    fn copy_ended(&mut self, at: usize, member: MemberId, installed: bool) {
        let name = &self.processes[at].name;
        self.story.tell(self.now, || {
            format!("{name}: the copy from {member} ended, installed: {installed}")
        });
        if !installed {
            self.tally.count("copies that broke off", 1);
        }
        self.input(at, Input::SnapshotEnded { member, installed });
    }

    /// A connection is no more, and with it the transfers over it.
    pub(crate) fn end_copies_over(&mut self, connection: ConnectionId) {
        let over = |copy: &Copy| copy.connections.0.0 & !1 == connection.0 & !1;
        let ended: Vec<u64> = self
            .copies
            .under_way
            .iter()
            .filter(|(_, copy)| over(copy))
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(copy) = self.copies.under_way.remove(&id) {
                let (at, life, member) = (copy.taker_at, copy.lives.0, copy.members.1);
                // The sink is free again before anybody asks for the next copy.
                drop(copy);
                if self.processes[at].life == life {
                    self.copy_ended(at, member, false);
                }
            }
        }
    }
}
