//! What is done once nothing concurrent is on its way: losers go. The site's settler, without its threads.

use std::time::Duration;

use gossip::Vector;

use super::{
    check::Checker,
    people::Deed,
    world::{Happening, World, read_records},
};
use crate::{
    settlement::collapse,
    store::{Records, Unsettled, contested, stretch},
};

/// How often what is settled is looked at, while anything waits for it.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// Records collapsed in one step.
const READY_MAX: usize = 16;

impl World {
    /// A start begins: what earlier ones were told is found again.
    pub(crate) fn nothing_settled(&mut self, at: usize) {
        let now_ms = self.wall_ms(at);
        let slot = self.processes[at].start().map_or([0; 8], |start| start.replica.0);
        let found = self.on_disk(at, |disk| stretch(disk, slot, now_ms, &[], usize::MAX));
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        let Some(ledger) = &running.ledger else { return };
        running.settlement.restarted(ledger.vector());
        if let Ok(found) = found {
            running.settlement.found(&found.unsettled, ledger.vector());
        }
        let life = self.processes[at].life;
        self.after(SETTLE_EVERY, Happening::Settle { at, life });
    }

    pub(crate) fn settled(&mut self, at: usize, settled: Vector) {
        self.tally.count("times that something was settled", 1);
        self.check_settled(at, &settled);
        if let Some(running) = &mut self.processes[at].running {
            running.settlement.settled(settled);
        }
    }

    /// Collapses what is ready, if this is the first site; forgets what has no losers any more.
    pub(crate) fn settle_some(&mut self, at: usize, life: u64) {
        if self.processes[at].life != life {
            return;
        }
        self.after(SETTLE_EVERY, Happening::Settle { at, life });
        let disk = self.processes[at].disk.clone();
        let serves = self.processes[at].serves();
        let own = crdt::MemberId::from_bytes(self.processes[at].member.0);
        let Some(running) = &mut self.processes[at].running else {
            return;
        };
        let ready = running.settlement.ready(READY_MAX);
        let Some(ledger) = running.ledger.as_ref().filter(|_| !ready.is_empty()) else {
            return;
        };
        let read = read_records(&disk, |records| {
            let now = ready
                .iter()
                .map(|ready| contested(records, ready.key))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((collapse::first_active(&records.cluster()?), now))
        });
        let Ok((first, now)) = read else { return };
        let mut collapses = Vec::new();
        for (ready, now) in ready.into_iter().zip(now) {
            match now {
                None => running.settlement.forget(ready),
                Some(now) if now != ready => {
                    let found = Unsettled {
                        contested: vec![now],
                        cancelled: Vec::new(),
                    };
                    running.settlement.found(&found, ledger.vector());
                }
                Some(_) if first == Some(own) && serves => collapses.push(ready),
                Some(_) => {}
            }
        }
        for ready in collapses {
            self.tally.look(Checker::Settled);
            self.tally.count("collapses", 1);
            self.do_now(at, Deed::Collapse(ready));
        }
    }
}
