//! After the troubles: everything is the same everywhere, in time, and nothing has grown without bound.

use std::collections::{BTreeMap, BTreeSet};

use crdt::CellKind;
use gossip::{Gossip, Limits, VECTOR_ENTRIES_MAX};

use super::{Checker, Checks, Found, wrong};
use crate::{
    identity::sign_in::TRIES_KEEP_MS,
    sim::{
        tally::Tally,
        trouble::Kind,
        world::{World, read_disk, read_records},
    },
    store::disk::{Family, memory::MemoryDisk},
};

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EndOf {
    /// All replicas hold the same.
    Peace,
    /// They do not, within the bound.
    Patience,
}

/// Starts that one run of a process may make, beside one for each batch that failed: its first; three past others that peers
/// know; one past a second process that runs as its member; one past a number of its own that it never gave out, one for a
/// replica id of its own beside a copy, and one where it begins without the others.
const STARTS_MAX: usize = 8;

impl World {
    /// Do all that run hold the same transactions, with nothing under way?
    pub(crate) fn level(&mut self) -> bool {
        let damaged: Vec<usize> = self.checks.damaged.keys().copied().collect();
        for at in damaged {
            self.replace_if_torn(at);
        }
        if !self.joined() {
            return false;
        }
        let mut vectors = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            if process.retired {
                continue;
            }
            if !process.idle() || !process.serves() {
                return false;
            }
            vectors.push(&self.checks.tracks[at].numbers);
        }
        vectors.windows(2).all(|pair| pair[0] == pair[1]) && self.hold_the_same() && self.is_healed()
    }

    /// Is everything that was damaged by hand whole again?
    fn is_healed(&mut self) -> bool {
        let damaged: Vec<usize> = self.checks.damaged.keys().copied().collect();
        damaged.into_iter().all(|at| self.check_healed(at))
    }

    /// Has everyone forgotten whom it has to forget? Members are put out and join anew in that time too, and only one that is
    /// active gives receipts.
    pub(crate) fn forgotten(&mut self) -> bool {
        !self.options.trims
            || self.joined()
                && (0..self.processes.len())
                    .filter(|at| !self.processes[*at].retired)
                    .all(|at| self.unforgotten(at) == 0)
    }

    /// Do all that run say the same, with nothing in quarantine? Looks take their time to bring that about.
    fn hold_the_same(&self) -> bool {
        let mut first = None;
        self.processes
            .iter()
            .filter(|process| !process.retired)
            .all(|process| {
                let said = everything(&process.disk);
                *first.get_or_insert(said) == said && !has_quarantine(&process.disk)
            })
    }

    /// Judges whether cancelled accounts were forgotten in time.
    pub(crate) fn check_forgotten(&mut self, forgotten: bool) {
        let left = (0..self.processes.len()).map(|at| (at, self.unforgotten(at)));
        let left: Vec<(usize, usize)> = left.filter(|(_, count)| *count > 0).collect();
        if !forgotten && self.goes_on() {
            let found = wrong(
                Checker::Erased,
                format!(
                    "no receipts in time, by process: {left:?}; {}; not settled: {}; {}",
                    self.waits_for(),
                    left.iter()
                        .map(|(at, _)| self.unsettled(*at))
                        .collect::<Vec<_>>()
                        .join("; "),
                    self.differences(),
                ),
            );
            self.fail(found);
        }
    }

    /// Judges the end.
    pub(crate) fn check_end(&mut self, end: EndOf) {
        self.tally.look(Checker::Convergence);
        if end == EndOf::Patience {
            let found = self.unhealed().and_then(|()| {
                wrong(
                    Checker::Convergence,
                    format!("no agreement in time: {}", self.picture()),
                )
            });
            self.fail(found);
            return;
        }
        // What a flipped bit takes of the cells nobody brings back. And they end by each replica's own clock: where two were
        // further apart than failed tries are kept, what still counts for one had expired for the other.
        let bits_flip = self.options.troubles.contains_key(&Kind::BitFlip);
        let cells_too = !bits_flip && !self.checks.tries_may_have_expired();
        if cells_too {
            self.tally.count("ends at which failed tries were compared", 1);
        }
        let mut first: Option<(String, [u8; 32])> = None;
        let mut first_tries = None;
        for at in 0..self.processes.len() {
            if self.processes[at].retired || !self.goes_on() {
                continue;
            }
            let name = self.processes[at].name.clone();
            let disk = self.processes[at].disk.clone();
            self.look(at);
            let mut found = read_records(&disk, |records| {
                Ok(self.checks.kept(&mut self.tally, at, &name, records))
            })
            .unwrap_or_else(|error| wrong(Checker::Acknowledged, format!("{name} cannot be read: {error}")));
            let digest = everything(&disk);
            match &first {
                None => first = Some((name, digest)),
                Some((other, theirs)) if *theirs != digest && found.is_ok() => {
                    found = wrong(
                        Checker::Convergence,
                        format!("{name} holds something else than {other}"),
                    );
                }
                Some(_) => {}
            }
            let tries = tries(&disk);
            if cells_too && *first_tries.get_or_insert(tries) != tries && found.is_ok() {
                let name = &self.processes[at].name;
                found = wrong(
                    Checker::Convergence,
                    format!("{name} has counted other failed tries than the rest"),
                );
            }
            if let Some(vector) = self.processes[at].vector() {
                self.tally.look(Checker::Bounds);
                if vector.len() > VECTOR_ENTRIES_MAX && found.is_ok() {
                    found = wrong(Checker::Bounds, format!("a vector has {} entries", vector.len()));
                }
            }
            self.fail(found);
        }
        self.tally.look(Checker::Bounds);
        for (at, process) in self.processes.iter().enumerate() {
            // Counted at its start, and at its end.
            let runs = process.life.div_ceil(2);
            let made = self.checks.starts_of(at);
            if made as u64 > runs * STARTS_MAX as u64 {
                let name = &process.name;
                let words = format!("{name} made {made} starts in {runs} runs, for no batch that failed");
                self.fail(wrong(Checker::Bounds, words));
                return;
            }
        }
    }

    /// Where everyone stands, for whoever looks for the reason.
    pub(crate) fn picture(&self) -> String {
        let of = |process: &crate::sim::process::Process| {
            let Some(running) = &process.running else {
                return format!("{} is down", process.name);
            };
            let status = running.gossip.status();
            let behind: Vec<String> = status
                .peers
                .iter()
                .map(|peer| {
                    let link = if peer.connected { "" } else { " (no link)" };
                    format!(
                        "{}: {} here, {} there{link}",
                        peer.name, peer.behind_us, peer.behind_them
                    )
                })
                .collect();
            format!(
                "{} has {} (ready {}, early {}, pulls {}), lacking by peer {behind:?}",
                process.name, status.transactions, status.ready, status.early_count, status.pulls
            )
        };
        let lines: Vec<String> = self
            .processes
            .iter()
            .filter(|process| !process.retired)
            .map(of)
            .collect();
        format!("{}; {}", lines.join("; "), self.differences())
    }

    /// What keeps the world from being level, where everyone has the same transactions.
    fn differences(&self) -> String {
        let here: Vec<usize> = (0..self.processes.len())
            .filter(|at| !self.processes[*at].retired)
            .collect();
        let first = here.first().copied().unwrap_or_default();
        let mut told = Vec::new();
        for at in here {
            let process = &self.processes[at];
            let name = &process.name;
            if process.arriving {
                told.push(format!("{name} has not arrived"));
            } else if !process.serves() {
                told.push(format!("{name} does not serve"));
            } else if !process.idle() {
                told.push(format!("{name} is at work"));
            }
            if self.checks.tracks[at].numbers != self.checks.tracks[first].numbers {
                told.push(format!("{name} has other numbers"));
            }
            for family in SAID {
                let (ours, theirs) = (
                    stored(&process.disk, family),
                    stored(&self.processes[first].disk, family),
                );
                let keys: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
                let differ = keys.into_iter().filter(|key| ours.get(*key) != theirs.get(*key));
                told.extend(differ.take(DIFFERENCES_TOLD_MAX).map(|key| {
                    let [ours, theirs] = [&ours, &theirs].map(|stored| stored.get(key).map(Vec::len));
                    format!("{name} has other {family:?} {key:02x?}: {ours:?} bytes, not {theirs:?}")
                }));
            }
            let parts = stored(&process.disk, Family::Quarantine);
            told.extend(
                parts
                    .keys()
                    .take(DIFFERENCES_TOLD_MAX)
                    .map(|key| format!("{name} has in quarantine {key:02x?}")),
            );
        }
        told.join(", ")
    }
}

/// What a replica says: records' digests and values.
const SAID: [Family; 4] = [Family::Digests, Family::Views, Family::Vault, Family::Index];
/// So many of one family are told of.
const DIFFERENCES_TOLD_MAX: usize = 3;

/// What is stored of a family, as far as it can be read.
fn stored(disk: &MemoryDisk, family: Family) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut stored = BTreeMap::new();
    let _ = read_disk(disk, |disk| {
        disk.scan(family, &[], &mut |key, value| {
            stored.insert(key.to_vec(), value.to_vec());
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(())
    });
    stored
}

impl Checks {
    /// Whether some replica's clock was past the end of failed tries that some replica, by its clock, counted.
    fn tries_may_have_expired(&self) -> bool {
        self.clocks
            .is_some_and(|(least, greatest)| greatest - least >= TRIES_KEEP_MS)
    }

    /// What is held in memory stays within its limits.
    pub(super) fn buffers(tally: &mut Tally, name: &str, gossip: &Gossip) -> Found {
        tally.look(Checker::Bounds);
        let status = gossip.status();
        if status.early_bytes > Limits::default().early_bytes_max {
            return wrong(
                Checker::Bounds,
                format!("{name} holds {} bytes that are early", status.early_bytes),
            );
        }
        Ok(())
    }
}

fn has_quarantine(disk: &MemoryDisk) -> bool {
    let mut some = false;
    let read = read_disk(disk, |disk| {
        disk.scan(Family::Quarantine, &[], &mut |_, _| {
            some = true;
            std::ops::ControlFlow::Break(())
        })?;
        Ok(())
    });
    some || read.is_err()
}

/// A hash over the failed tries that a replica has counted.
fn tries(disk: &MemoryDisk) -> [u8; 32] {
    hash_of(disk, &[Family::Cells], |key| {
        key.first() == Some(&CellKind::TRIES.0)
    })
}

/// A hash over what a replica says: records' digests and values.
fn everything(disk: &MemoryDisk) -> [u8; 32] {
    hash_of(disk, &SAID, |_| true)
}

/// Zeros where they cannot be read.
fn hash_of(disk: &MemoryDisk, families: &[Family], counts: impl Fn(&[u8]) -> bool) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let read = read_disk(disk, |disk| {
        for family in families {
            disk.scan(*family, &[], &mut |key, value| {
                if counts(key) {
                    hasher.update(key);
                    hasher.update(value);
                }
                std::ops::ControlFlow::Continue(())
            })?;
        }
        Ok(())
    });
    if read.is_err() {
        return [0; 32];
    }
    *hasher.finalize().as_bytes()
}
