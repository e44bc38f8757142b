//! A model of a disk: batches in the order written, and how many of them are synced.
//!
//! A crash keeps the synced prefix and drops the rest, as a real disk may. Faults are planned ahead by the test and
//! happen at the next write, so a story can say exactly where things go wrong.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use gossip::snapshot::{self, Manifest, Sink, SnapshotError, Source};

use crate::planted::{self, Bug};

use super::{Batch, Describe, Disk, DiskError, DiskRead, Entry, Family, Visit};

type Contents = BTreeMap<(Family, Vec<u8>), Vec<u8>>;
/// Keys whose block cannot be read any more.
type Unreadable = BTreeSet<(Family, Vec<u8>)>;
/// The files of a checkpoint; none once it was let go.
type Files = Mutex<Option<Vec<Vec<u8>>>>;

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
    /// What a crash would leave, where that is something else.
    synced: Option<Arc<Contents>>,
    faults: VecDeque<Fault>,
    broken: bool,
    batches: u64,
    capacity_bytes: Option<u64>,
    /// A copy of another disk that comes, or has come. It survives a crash.
    incoming: Option<Incoming>,
    /// Somebody fills it.
    receiving: bool,
    /// The disk was rewritten meanwhile: what has come goes with whoever fills it, if the power does not go first.
    outdated: bool,
    /// Damaged until they are written again: reading one of them, or a scan that comes there, is an error.
    unreadable: Arc<Unreadable>,
    /// What was deleted or overwritten and lies in tables until these are rewritten, where that is kept.
    residue: Option<Arc<Vec<Vec<u8>>>>,
    checkpoints: Vec<Weak<Files>>,
}

struct Incoming {
    manifest: Manifest,
    files: Vec<Vec<u8>>,
    /// So many of them are known to be what they are to be.
    whole: usize,
    checked: bool,
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

    /// Whether it holds only so much.
    pub fn is_limited(&self) -> bool {
        self.state().capacity_bytes.is_some()
    }

    /// The machine loses power: what was not synced is gone, open handles see the loss.
    pub fn crash(&self) {
        let mut state = self.state();
        state.contents = state.synced();
        state.synced = None;
        state.broken = false;
        state.outdated = false;
        state.faults.clear();
    }

    /// A copy of what is synced, as a backup or a cloned directory would hold it: the files, with what was deleted from
    /// the tables in them.
    pub fn copy(&self) -> MemoryDisk {
        let copy = MemoryDisk::new();
        let state = self.state();
        let mut copied = copy.state();
        copied.contents = state.synced();
        copied.unreadable = state.unreadable.clone();
        copied.residue = state.residue.clone();
        drop((state, copied));
        copy
    }

    /// Puts back an earlier [`copy`](Self::copy): the disk of a replica restored from a backup. The files that were there are
    /// gone, with all that lay in them: what this disk forgot lately is in none of those that come.
    pub fn restore(&self, backup: &MemoryDisk) {
        let (synced, unreadable, residue) = {
            let backup = backup.state();
            (backup.synced(), backup.unreadable.clone(), backup.residue.clone())
        };
        let mut state = self.state();
        state.contents = synced;
        state.unreadable = unreadable;
        state.residue = residue;
        state.incoming = None;
        state.synced = None;
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
        synced.as_mut().map(flip);
        flip(contents)
    }

    /// Whether a crash would leave a value of this key.
    pub fn is_synced(&self, family: Family, key: &[u8]) -> bool {
        self.state().synced().contains_key(&(family, key.to_vec()))
    }

    /// Changes a stored value, or removes it, behind everyone's back.
    pub fn tamper(&self, family: Family, key: &[u8], value: Option<Vec<u8>>) {
        let entry = [(family, key.to_vec(), value)];
        let mut state = self.state();
        let State { contents, synced, .. } = &mut *state;
        if let Some(synced) = synced {
            apply(synced, &entry);
        }
        apply(contents, &entry);
    }

    /// The block that holds these keys cannot be read any more, until each of them is written again.
    pub fn make_unreadable(&self, family: Family, keys: impl IntoIterator<Item = Vec<u8>>) {
        let mut state = self.state();
        let keys = keys.into_iter().map(|key| (family, key));
        Arc::make_mut(&mut state.unreadable).extend(keys);
    }

    /// The families in which something cannot be read.
    pub fn unreadable(&self) -> BTreeSet<Family> {
        self.state()
            .unreadable
            .iter()
            .map(|(family, _)| *family)
            .collect()
    }

    /// The keys of a family that a crash would leave.
    pub fn keys(&self, family: Family) -> Vec<Vec<u8>> {
        let synced = self.state().synced();
        let keys = synced.range((family, Vec::new())..).map(|(key, _)| key);
        keys.take_while(|(found, _)| *found == family)
            .map(|(_, key)| key.clone())
            .collect()
    }

    /// From now on what is deleted or overwritten stays on the disk until that is rewritten, as in earnest.
    pub fn keep_residue(&self) {
        self.state().residue.get_or_insert_default();
    }

    /// Visits all bytes that somebody who took the disk away would find, each with the place where it lies.
    pub fn search(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        let state = self.state();
        for contents in std::iter::once(&state.contents).chain(&state.synced) {
            for ((family, key), value) in &**contents {
                visit(family.name(), key);
                visit(family.name(), value);
            }
        }
        for bytes in state.residue.iter().flat_map(|residue| residue.iter()) {
            visit("what was deleted", bytes);
        }
        for file in state.incoming.iter().flat_map(|incoming| &incoming.files) {
            visit("a copy that comes", file);
        }
        for files in state.checkpoints.iter().filter_map(Weak::upgrade) {
            for file in lock(&files).iter().flatten() {
                visit("a checkpoint", file);
            }
        }
    }

    /// The copies that lie beside the store, a name for each.
    pub fn copies(&self) -> BTreeSet<String> {
        let state = self.state();
        let incoming = state.incoming.as_ref();
        let incoming = incoming.map(|incoming| format!("incoming/{:02x?}", incoming.manifest.id));
        let kept = state.checkpoints.iter().enumerate();
        let kept = kept.filter(|(_, files)| files.upgrade().is_some_and(|files| lock(&files).is_some()));
        kept.map(|(number, _)| format!("checkpoints/{number}"))
            .chain(incoming)
            .collect()
    }

    /// Batches made durable so far.
    pub fn batches(&self) -> u64 {
        self.state().batches
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Families whose values may hold what is to be forgotten.
fn may_tell(family: Family) -> bool {
    use Family::{Cells, Log, Quarantine, Side, Vault};
    matches!(family, Vault | Cells | Log | Quarantine | Side)
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

struct Snapshot {
    contents: Arc<Contents>,
    unreadable: Arc<Unreadable>,
}

impl Snapshot {
    fn readable(&self, key: &(Family, Vec<u8>)) -> Result<(), DiskError> {
        if !self.unreadable.is_empty() && self.unreadable.contains(key) {
            return Err(DiskError::Damaged(
                "planned damage: a block cannot be read".into(),
            ));
        }
        Ok(())
    }
}

impl DiskRead for Snapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        let key = (family, key.to_vec());
        self.readable(&key)?;
        Ok(self.contents.get(&key).cloned())
    }

    fn scan(&self, family: Family, from: &[u8], visit: &mut Visit<'_>) -> Result<(), DiskError> {
        for (key, value) in self.contents.range((family, from.to_vec())..) {
            if key.0 != family {
                break;
            }
            self.readable(key)?;
            if visit(&key.1, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn read(&self, read: &mut dyn FnMut(&dyn DiskRead)) -> Result<(), DiskError> {
        let snapshot = self.state().snapshot();
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
        state.land(|contents| apply(contents, batch.entries()), batch.entries())
    }

    fn reopen(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        state.broken = false;
        // What is found on reopening is durable: opening replays and syncs the write-ahead log.
        state.synced = None;
        Ok(())
    }

    fn checkpoint(&self, describe: &mut Describe<'_>) -> Result<Box<dyn Source>, DiskError> {
        let snapshot = self.state().snapshot();
        if snapshot.unreadable.iter().any(|(family, _)| family.travels()) {
            // In earnest such a copy would be made, with the damage in it.
            return Err(DiskError::Damaged(
                "planned damage: a block cannot be copied".into(),
            ));
        }
        let covered = describe(&snapshot)?;
        let contents = snapshot.contents;
        let (names, contents): (Vec<String>, Vec<Vec<u8>>) = Family::ALL
            .into_iter()
            .filter(|family| family.travels())
            .map(|family| (family.name().to_owned(), encode(&contents, family)))
            .filter(|(_, bytes)| !bytes.is_empty())
            .unzip();
        let described = names
            .into_iter()
            .zip(&contents)
            .map(|(name, bytes)| snapshot::File {
                name,
                bytes: bytes.len() as u64,
            });
        // Not drawn, so that a seed repeats it.
        let mut hasher = blake3::Hasher::new();
        for bytes in &contents {
            hasher.update(bytes);
        }
        let mut nonce = [0; 16];
        hasher.finalize_xof().fill(&mut nonce);
        let manifest = Manifest::new(
            nonce,
            covered.vector,
            covered.trimmed,
            covered.note,
            described.collect(),
        );
        let files = Arc::new(Mutex::new(Some(contents)));
        self.state().checkpoints.push(Arc::downgrade(&files));
        Ok(Box::new(Held { manifest, files }))
    }

    fn incoming(&self) -> Result<Box<dyn Sink>, DiskError> {
        let mut state = self.state();
        if state.receiving {
            return Err(DiskError::Io("a copy is on its way already".into()));
        }
        state.receiving = true;
        Ok(Box::new(Receiver(self.clone())))
    }

    fn arrived(&self) -> Result<Option<Manifest>, DiskError> {
        let state = self.state();
        let whole = state.incoming.as_ref().filter(|incoming| incoming.checked);
        Ok(whole.map(|incoming| incoming.manifest.clone()))
    }

    fn install(&self, copy: &Manifest, own: &Batch) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.broken {
            return Err(DiskError::Closed);
        }
        if state.receiving {
            return Err(DiskError::Io("a copy is on its way already".into()));
        }
        let incoming = state
            .incoming
            .take_if(|incoming| incoming.checked && incoming.manifest.id == copy.id)
            .ok_or_else(|| DiskError::Io("the copy that is to be installed is not here whole".into()))?;
        let mut copied = Arc::new(decode(&incoming)?);
        apply(&mut copied, own.entries());
        state.land(|contents| *contents = copied, &[])?;
        state.unreadable = Arc::default();
        Ok(())
    }

    fn compact(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.broken {
            return Err(DiskError::Closed);
        }
        if let Some(residue) = &mut state.residue {
            *residue = Arc::default();
        }
        for files in state.checkpoints.iter().filter_map(Weak::upgrade) {
            *lock(&files) = None;
        }
        if state.receiving {
            state.outdated = true;
        } else {
            state.incoming = None;
        }
        Ok(())
    }

    fn bytes_used(&self) -> u64 {
        bytes_of(&self.state().contents)
    }
}

impl State {
    fn synced(&self) -> Arc<Contents> {
        self.synced.clone().unwrap_or_else(|| self.contents.clone())
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            contents: self.contents.clone(),
            unreadable: self.unreadable.clone(),
        }
    }

    /// What these entries take the place of lies about until the disk is rewritten.
    fn leave_residue(&mut self, entries: &[Entry]) {
        let Some(residue) = &mut self.residue else { return };
        let told = entries.iter().filter(|(family, ..)| may_tell(*family));
        let mut gone = told
            .filter_map(|(family, key, _)| self.contents.get(&(*family, key.clone())).cloned())
            .peekable();
        if gone.peek().is_some() {
            Arc::make_mut(residue).extend(gone);
        }
    }

    /// Changes the contents, as the next planned fault lets it. `entries`: what of them is written again.
    fn land(&mut self, change: impl FnOnce(&mut Arc<Contents>), entries: &[Entry]) -> Result<(), DiskError> {
        let fault = self.faults.pop_front();
        self.broken = fault.is_some();
        match fault {
            Some(Fault::Full) => return Err(DiskError::Full),
            Some(Fault::Lost) => return Err(DiskError::Io("planned fault: the write was lost".into())),
            Some(Fault::Unsynced) => self.synced = Some(self.synced()),
            Some(Fault::Landed) | None => {
                self.synced = None;
                self.batches += 1;
            }
        }
        self.leave_residue(entries);
        if !self.unreadable.is_empty() {
            let unreadable = Arc::make_mut(&mut self.unreadable);
            for (family, key, _) in entries {
                unreadable.remove(&(*family, key.clone()));
            }
        }
        change(&mut self.contents);
        match fault {
            None => Ok(()),
            Some(Fault::Unsynced) => Err(DiskError::Io("planned fault: written but not synced".into())),
            Some(_) => Err(DiskError::Io(
                "planned fault: the write landed, the answer did not".into(),
            )),
        }
    }
}

/// A checkpoint in memory: a file for each family that travels and is not empty.
struct Held {
    manifest: Manifest,
    files: Arc<Files>,
}

impl Source for Held {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let beyond = || SnapshotError("there is nothing there".to_owned());
        let from = usize::try_from(offset).map_err(|_| beyond())?;
        let files = lock(&self.files);
        let file = files.as_ref().and_then(|files| files.get(file));
        let held = file.and_then(|held| held.get(from..)?.get(..bytes.len()));
        bytes.copy_from_slice(held.ok_or_else(beyond)?);
        Ok(())
    }
}

impl Incoming {
    /// A mistake: what has come whole counts as if it were of the second copy. Says at which file that goes on.
    fn go_on_as(&mut self, second: &Manifest) -> Option<usize> {
        let names = self.manifest.files.iter().zip(&second.files);
        let place = names
            .take(self.whole)
            .take_while(|(first, second)| first.name == second.name)
            .count();
        let mut mixed = second.clone();
        mixed.files[..place].clone_from_slice(&self.manifest.files[..place]);
        self.manifest = mixed;
        self.files.resize(second.files.len(), Vec::new());
        self.files[place..].iter_mut().for_each(Vec::clear);
        self.whole = place;
        (place > 0).then_some(place)
    }
}

/// Takes a copy in.
struct Receiver(MemoryDisk);

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receiving = false;
        if std::mem::take(&mut state.outdated) {
            state.incoming = None;
        }
    }
}

impl Sink for Receiver {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        let mut state = self.0.state();
        if let Some(incoming) = &state.incoming
            && incoming.manifest == *manifest
        {
            let offset = incoming.files.get(incoming.whole).map_or(0, Vec::len);
            return Ok((incoming.whole, offset as u64));
        }
        if planted::is(Bug::MixesCuts)
            && let Some(place) = state.incoming.as_mut().and_then(|kept| kept.go_on_as(manifest))
        {
            return Ok((place, 0));
        }
        state.incoming = Some(Incoming {
            manifest: manifest.clone(),
            files: vec![Vec::new(); manifest.files.len()],
            whole: 0,
            checked: false,
        });
        Ok((0, 0))
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut state = self.0.state();
        state
            .incoming
            .as_mut()
            .and_then(|incoming| incoming.files.get_mut(file))
            .filter(|kept| kept.len() as u64 == offset)
            .map(|kept| kept.extend_from_slice(bytes))
            .ok_or_else(|| SnapshotError("a piece that is not the next".to_owned()))
    }

    fn complete(&mut self, file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError> {
        let mut state = self.0.state();
        let incoming = state.incoming.as_mut().filter(|incoming| incoming.whole == file);
        let incoming = incoming.ok_or_else(|| SnapshotError("a file that is not the next".to_owned()))?;
        if let Some(bytes) = incoming.files.get_mut(file)
            && blake3::hash(bytes) != *hash
        {
            bytes.clear();
            return Err(SnapshotError("a file is not what it is to be".to_owned()));
        }
        incoming.whole += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        let mut state = self.0.state();
        let incoming = state.incoming.as_mut();
        let incoming = incoming.filter(|incoming| incoming.whole == incoming.files.len());
        incoming
            .ok_or_else(|| SnapshotError("it has not come whole".to_owned()))?
            .checked = true;
        Ok(())
    }
}

/// Keys and values of a family, each behind its length (u32, little-endian).
fn encode(contents: &Contents, family: Family) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entries = contents.range((family, Vec::new())..);
    for ((_, key), value) in entries.take_while(|((found, _), _)| *found == family) {
        for part in [key, value] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn decode(incoming: &Incoming) -> Result<Contents, DiskError> {
    let damaged = || DiskError::Damaged("a copy is not what a disk like this makes".into());
    let mut contents = Contents::new();
    for (file, bytes) in incoming.manifest.files.iter().zip(&incoming.files) {
        let family = Family::ALL
            .into_iter()
            .find(|family| family.travels() && family.name() == file.name)
            .ok_or_else(damaged)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let key = part(&mut rest).ok_or_else(damaged)?;
            let value = part(&mut rest).ok_or_else(damaged)?;
            contents.insert((family, key), value);
        }
    }
    Ok(contents)
}

fn part(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, behind) = rest.split_first_chunk::<4>()?;
    let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = behind;
    Some(part.to_vec())
}
