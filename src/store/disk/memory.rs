//! A model of a disk: batches in the order written, and how many of them are synced.
//!
//! A crash keeps the synced prefix and drops the rest, as a real disk may. Faults are planned ahead by the test and
//! happen at the next write, so a story can say exactly where things go wrong.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Disk, DiskError, DiskRead, Entry, Family, Visit};

type Contents = BTreeMap<(Family, Vec<u8>), Vec<u8>>;

/// What goes wrong at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full: nothing is written.
    Full,
    /// The write fails and leaves nothing.
    Lost,
    /// The write fails, yet the batch is found whole after reopening: the outcome nobody can know beforehand.
    Landed,
    /// The batch is written but not synced, and the answer is an error: reopening after a crash may lose it.
    Unsynced,
}

/// A disk in memory. Cloning gives another handle on the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What a reader sees. Shared with snapshots: copied when written while one is open.
    contents: Arc<Contents>,
    /// What a crash would leave.
    synced: Arc<Contents>,
    faults: VecDeque<Fault>,
    broken: bool,
    batches: u64,
    capacity_bytes: Option<u64>,
}

impl MemoryDisk {
    /// An empty disk that never fails.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Plans a fault for the next write that has none yet; several are met in the order planned.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// From now on writes that would hold more than this are refused as [`DiskError::Full`].
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// The machine loses power: what was not synced is gone, open handles see the loss.
    pub fn crash(&self) {
        let mut state = self.state();
        state.contents = state.synced.clone();
        state.broken = false;
        state.faults.clear();
    }

    /// A copy of what is synced, as a backup or a cloned directory would hold it.
    pub fn copy(&self) -> MemoryDisk {
        let synced = self.state().synced.clone();
        let copy = MemoryDisk::new();
        {
            let mut state = copy.state();
            state.contents = synced.clone();
            state.synced = synced;
        }
        copy
    }

    /// Puts back an earlier [`copy`](Self::copy): the disk of a replica restored from a backup.
    pub fn restore(&self, backup: &MemoryDisk) {
        let synced = backup.state().synced.clone();
        let mut state = self.state();
        state.contents = synced.clone();
        state.synced = synced;
        state.broken = false;
    }

    /// Flips one bit of a stored value, behind everyone's back. False if there is no such value or bit.
    pub fn flip_bit(&self, family: Family, key: &[u8], bit: usize) -> bool {
        let mut state = self.state();
        let flip = |contents: &mut Arc<Contents>| {
            Arc::make_mut(contents)
                .get_mut(&(family, key.to_vec()))
                .and_then(|value| value.get_mut(bit / 8))
                .map(|byte| *byte ^= 1 << (bit % 8))
                .is_some()
        };
        let State { contents, synced, .. } = &mut *state;
        flip(synced);
        flip(contents)
    }

    /// Whether a crash would leave a value of this key.
    pub fn is_synced(&self, family: Family, key: &[u8]) -> bool {
        self.state().synced.contains_key(&(family, key.to_vec()))
    }

    /// Changes a stored value, or removes it, behind everyone's back.
    pub fn tamper(&self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        let entry = [(family, key.to_vec(), value)];
        let mut state = self.state();
        let State { contents, synced, .. } = &mut *state;
        apply(contents, &entry);
        apply(synced, &entry);
    }

    /// Batches made durable so far.
    pub fn batches(&self) -> u64 {
        self.state().batches
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn apply(contents: &mut Arc<Contents>, entries: &[Entry]) {
    let contents = Arc::make_mut(contents);
    for (family, key, value) in entries {
        match value {
            Some(value) => contents.insert((*family, key.clone()), value.clone()),
            None => contents.remove(&(*family, key.clone())),
        };
    }
}

fn bytes_of(contents: &Contents) -> u64 {
    contents
        .iter()
        .map(|((_, key), value)| (key.len() + value.len()) as u64)
        .sum()
}

struct Snapshot(Arc<Contents>);

impl DiskRead for Snapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.0.get(&(family, key.to_vec())).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        for ((found, key), value) in self.0.range((family, from.to_vec())..) {
            if *found != family || visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn read(&self, read: &mut dyn FnMut(&dyn DiskRead)) -> Result<(), DiskError> {
        let snapshot = Snapshot(self.state().contents.clone());
        read(&snapshot);
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.broken {
            return Err(DiskError::Closed);
        }
        if let Some(capacity) = state.capacity_bytes
            && bytes_of(&state.contents) + batch.bytes() as u64 > capacity
        {
            state.broken = true;
            return Err(DiskError::Full);
        }
        let fault = state.faults.pop_front();
        state.broken = fault.is_some();
        let State {
            contents,
            synced,
            batches,
            ..
        } = &mut *state;
        match fault {
            Some(Fault::Full) => Err(DiskError::Full),
            Some(Fault::Lost) => Err(DiskError::Io("planned fault: the write was lost".into())),
            Some(Fault::Unsynced) => {
                apply(contents, batch.entries());
                Err(DiskError::Io("planned fault: written but not synced".into()))
            }
            Some(Fault::Landed) => {
                apply(contents, batch.entries());
                *synced = contents.clone();
                *batches += 1;
                Err(DiskError::Io(
                    "planned fault: the write landed, the answer did not".into(),
                ))
            }
            None => {
                // Both hold the same, each in a map of its own: sharing one would copy it at every write.
                apply(contents, batch.entries());
                apply(synced, batch.entries());
                *batches += 1;
                Ok(())
            }
        }
    }

    fn reopen(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        state.broken = false;
        // What is found on reopening is durable: opening replays and syncs the write-ahead log.
        state.synced = state.contents.clone();
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        bytes_of(&self.state().contents)
    }
}
