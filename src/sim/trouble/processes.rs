//! Power: crashes, updates, sites that drain and go.

use std::time::Duration;

use super::{Kind, Remedy};
use crate::{
    sim::{
        check::Track,
        world::{Happening, World},
    },
    store::disk::memory::MemoryDisk,
};

/// How often is looked whether a drain is over, and how many times.
const DRAIN_LOOK: Duration = Duration::from_millis(200);
const DRAIN_LOOKS_MAX: u32 = 50;

impl World {
    /// One or several at once; now and then again before they are back.
    pub(super) fn crash_some(&mut self) {
        let rng = &mut self.troubles.rng;
        let count = if rng.chance(25) {
            rng.between(2, self.processes.len())
        } else {
            1
        };
        for _ in 0..count {
            let Some(at) = self.one_running() else { return };
            self.tally.fault(Kind::Crash);
            self.kill(at);
            self.remedy_later(100, 8000, Remedy::Start(at));
        }
    }

    /// Another version of the program on the same disk.
    pub(super) fn update_one(&mut self) {
        let Some(at) = self.one_running() else { return };
        let last = self.troubles.rng.between(1, 3) as u16;
        self.tally.fault(Kind::Versions);
        self.kill(at);
        self.processes[at].versions = (1, last);
        self.processes[at].newer = last > 1;
        self.remedy_later(100, 1000, Remedy::Start(at));
    }

    /// One goes, and does not come back before the storm is over: longer than logs may reach.
    pub(super) fn send_away(&mut self) {
        let Some(at) = self.one_running() else { return };
        self.tally.fault(Kind::Absence);
        self.kill(at);
    }

    /// A site is to go: it takes nothing new, and waits until another has all that it has.
    pub(super) fn drain_one(&mut self) {
        let Some(at) = self.one_running() else { return };
        let damaged = self.is_damaged();
        let process = &mut self.processes[at];
        if process.copy_of.is_some() || damaged {
            return;
        }
        if let Some(running) = &mut process.running {
            running.draining = true;
        }
        let life = process.life;
        self.tell(|| format!("process {at} drains"));
        self.after(
            DRAIN_LOOK,
            Happening::Remedy(Remedy::Drained { at, life, tries: 0 }),
        );
    }

    /// Gone once another has everything; its disk with it.
    pub(super) fn leave_if_drained(&mut self, at: usize, life: u64, tries: u32) {
        let process = &mut self.processes[at];
        if process.life != life {
            return;
        }
        let Some(running) = &mut process.running else {
            return;
        };
        if !running.draining {
            return;
        }
        if self.drained(at) && !self.is_damaged() && !self.alone_knows_who_is_out(at) {
            self.check_drained(at);
            self.tally.fault(Kind::Drain);
            self.tell(|| format!("process {at} has drained; its disk is destroyed"));
            self.kill(at);
            self.processes[at].disk = MemoryDisk::new();
            self.checks.disk_replaced(at, Track::default());
            self.remedy_later(500, 6000, Remedy::Start(at));
        } else if tries < DRAIN_LOOKS_MAX {
            let again = Remedy::Drained {
                at,
                life,
                tries: tries + 1,
            };
            self.after(DRAIN_LOOK, Happening::Remedy(again));
        } else if let Some(running) = &mut self.processes[at].running {
            running.draining = false;
        }
    }
}
