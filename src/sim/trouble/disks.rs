//! Disks: failed batches, backups put back, copies that run beside the original, disks that are lost, full or slow.

use std::{collections::BTreeSet, time::Duration};

use crdt::{Member, MemberId, MemberState};
use gossip::PeerState;

use super::{Kind, Remedy};
use crate::{
    sim::{check::Track, process::Process, world::World},
    store::{
        Records, Snapshot,
        disk::{
            Disk,
            memory::{Fault, MemoryDisk},
        },
    },
};

/// A copy that runs alone hands out what only it has within this.
const HAND_OUT: Duration = Duration::from_secs(60);

impl World {
    pub(super) fn tear_batch(&mut self) {
        let Some(at) = self.one_running() else { return };
        let rng = &mut self.troubles.rng;
        let faults = [Fault::Lost, Fault::Landed, Fault::Unsynced, Fault::Full];
        let count = if rng.chance(20) { 2 } else { 1 };
        for _ in 0..count {
            let fault = faults[self.troubles.rng.below(faults.len())];
            self.processes[at].disk.plan(fault);
            self.tally.fault(Kind::TornBatch);
            self.tell(|| format!("the next batch of process {at} will be {fault:?}"));
        }
    }

    /// Takes a backup, or puts an earlier one back.
    pub(super) fn restore_one(&mut self) {
        if self.troubles.backups.is_empty() || self.troubles.rng.chance(40) {
            let at = self.troubles.rng.below(self.processes.len());
            if self.processes[at].copy_of.is_none() && !self.is_damaged() {
                let backup = (at, self.processes[at].disk.copy(), self.checks.tracks[at].clone());
                self.troubles.backups.push(backup);
            }
            return;
        }
        let which = self.troubles.rng.below(self.troubles.backups.len());
        let (at, backup, track) = self.troubles.backups.swap_remove(which);
        if self.processes[at].retired || self.is_damaged() || self.alone_knows_who_is_out(at) {
            return;
        }
        self.kill(at);
        self.tally.fault(Kind::Restore);
        self.tell(|| format!("an old backup of process {at} is put back"));
        self.processes[at].disk.restore(&backup);
        self.checks.backup_put_back(at, track);
        self.remedy_later(50, 3000, Remedy::Start(at));
    }

    /// Who was put out takes no part, and gives nobody a copy: with the last disk of the others that knows of it an
    /// operator would have to begin anew. And who left and is gone says so to nobody again: where a disk only knows that
    /// it leaves, it is waited for until an operator puts it out.
    pub(crate) fn alone_knows_who_is_out(&self, at: usize) -> bool {
        let gone = self.peers.iter().filter(|peer| peer.state == PeerState::Left);
        let gone: BTreeSet<MemberId> = gone.map(|peer| MemberId::from_bytes(peer.id.0)).collect();
        let out = |at: usize| -> BTreeSet<MemberId> {
            let view = self.on_disk(at, |disk| Snapshot::new(disk).cluster());
            let members = view.map(|view| view.members).unwrap_or_default();
            let is_out = |member: &Member| match member.state {
                MemberState::Leaving => !gone.contains(&member.id),
                MemberState::Left | MemberState::Evicted => true,
                MemberState::Joining | MemberState::Active => false,
            };
            let out = members.into_values().filter(is_out);
            out.map(|member| member.id).collect()
        };
        let known = out(at);
        let knows = |other: usize| {
            let process = &self.processes[other];
            process.state == Some(PeerState::Active) && !process.retired && known.is_subset(&out(other))
        };
        !known.is_empty() && !(0..self.processes.len()).any(|other| other != at && knows(other))
    }

    pub(super) fn wipe_one(&mut self) {
        let at = self.troubles.rng.below(self.processes.len());
        if self.processes[at].retired || self.is_damaged() || self.alone_knows_who_is_out(at) {
            return;
        }
        self.kill(at);
        self.tally.fault(Kind::Wipe);
        self.tell(|| format!("the disk of process {at} is lost"));
        self.processes[at].disk = MemoryDisk::new();
        self.checks.disk_replaced(at, Track::default());
        self.remedy_later(50, 5000, Remedy::Start(at));
    }

    /// A second process runs on a copy of a directory, beside the first or started in the same second.
    pub(super) fn clone_one(&mut self) {
        let copies = self
            .processes
            .iter()
            .filter(|process| process.copy_of.is_some())
            .count();
        let originals: Vec<usize> = (0..self.processes.len())
            .filter(|at| {
                let process = &self.processes[*at];
                let copied = self.processes.iter().any(|other| other.copy_of == Some(*at));
                process.copy_of.is_none() && !process.retired && !copied
            })
            .collect();
        let Some(of) = self.troubles.rng.pick(&originals) else {
            return;
        };
        if copies >= 2 || self.is_damaged() || self.checks.tracks[of].numbers.is_empty() {
            return;
        }
        self.tally.fault(Kind::Clone);
        let together = self.troubles.rng.chance(50);
        if together {
            self.kill(of);
        }
        let at = self.copy_directory(of);
        if together {
            let both = self.troubles.rng.ms(50, 1000);
            for process in [of, at] {
                self.after(both, crate::sim::world::Happening::Remedy(Remedy::Start(process)));
            }
        } else {
            self.remedy_later(50, 500, Remedy::Start(at));
        }
    }

    /// A second process, not started yet, with a copy of the directory of this one.
    pub(crate) fn copy_directory(&mut self, of: usize) -> usize {
        let original = &self.processes[of];
        let disk = original.disk.copy();
        let mut copy = Process::new(
            original.member,
            format!("{}-copy", original.name),
            original.site,
            disk,
        );
        copy.copy_of = Some(of);
        self.processes.push(copy);
        let at = self.processes.len() - 1;
        let track = self.checks.tracks[of].clone();
        self.checks.disk_replaced(at, track);
        self.tell(|| format!("process {at} runs on a copy of process {of}'s directory"));
        // Nobody hears a copy through a cut that the original is behind.
        let cuts: Vec<(usize, usize)> = self.network.cuts.iter().copied().collect();
        for (a, b) in cuts {
            if a == of {
                self.network.cuts.insert((at, b));
            } else if b == of {
                self.network.cuts.insert((a, at));
            }
        }
        at
    }

    /// An operator ends the copies, as the alarm asks: one process of each directory runs at a time, and the copy goes
    /// for good once others have what it has. Until then the other is kept down, also where a crash had it start about now.
    pub(crate) fn settle_copies(&mut self) {
        let copies: Vec<(usize, usize)> = self
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| !process.retired)
            .filter_map(|(at, process)| Some((at, process.copy_of?)))
            .collect();
        for at in 0..self.processes.len() {
            self.start(at);
        }
        for (at, of) in copies {
            self.kill(of);
            self.kill(at);
            self.processes[of].kept_down = true;
            self.start(at);
            let handed_out = self.run_until(HAND_OUT, |world| {
                world.processes[at].serves() && world.drained(at)
            });
            if handed_out {
                self.check_drained(at);
            } else if self.goes_on() {
                self.tally.count("copies that could not hand out", 1);
            }
            self.kill(at);
            self.processes[at].retired = true;
            self.processes[at].disk = MemoryDisk::new();
            self.checks.disk_replaced(at, Track::default());
            self.processes[of].kept_down = false;
            self.start(of);
        }
    }

    pub(super) fn fill_disk(&mut self) {
        let Some(at) = self.one_running() else { return };
        let room = self.troubles.rng.below(3000) as u64;
        let disk = &self.processes[at].disk;
        disk.set_capacity(Some(disk.bytes_used() + room));
        self.tell(|| format!("the disk of process {at} has {room} bytes left"));
        self.remedy_later(1000, 10_000, Remedy::Room(at));
    }

    pub(super) fn make_room(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.disk.set_capacity(None);
        if let Some(running) = &mut process.running {
            running.space = crate::store::Space::Enough;
        }
    }

    pub(super) fn slow_disk(&mut self) {
        let Some(at) = self.one_running() else { return };
        self.tally.fault(Kind::SlowDisk);
        self.processes[at].batch_ms = self.troubles.rng.between(200, 4000) as u64;
        self.tell(|| format!("the disk of process {at} is slow"));
        self.remedy_later(1000, 10_000, Remedy::Speed(at));
    }
}
