//! What a replica in memory holds beside its log: records that peers compare, and copies of the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use gossip::Vector;
use gossip::reconcile::{Cut, CutError, Key, PARTITIONS, Part, SomeCells, StateDigest, Sums, partition};
use gossip::snapshot::{File, Manifest, Sink, SnapshotError, Source};

/// Records that no transaction explains, as if written behind the store's back. Of two states the greater counts.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<BTreeMap<Key, Vec<u8>>>>);

impl Records {
    pub(crate) fn put(&self, number: u32, state: &[u8]) {
        let key = key(number);
        self.0.lock().unwrap().insert(key, state.to_vec());
    }

    pub(crate) fn all(&self) -> BTreeMap<Key, Vec<u8>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn take(&self, part: Part) {
        let Part::States { states, .. } = part else { return };
        let mut records = self.0.lock().unwrap();
        for (key, state) in states {
            let kept = records.entry(key).or_default();
            if *kept < state {
                *kept = state;
            }
        }
    }

    pub(crate) fn cut(&self, vector: Vector) -> Pinned {
        Pinned {
            vector,
            records: self.all(),
        }
    }
}

/// Keys as they are in the store: the first byte is the kind, the rest as good as random.
pub(crate) fn key(number: u32) -> Key {
    let mut key = [1; 16];
    key[1..].copy_from_slice(&blake3::hash(&number.to_be_bytes()).as_bytes()[..15]);
    key
}

/// One moment of the records.
pub(crate) struct Pinned {
    vector: Vector,
    records: BTreeMap<Key, Vec<u8>>,
}

fn digest(state: &[u8]) -> StateDigest {
    blake3::hash(state).as_bytes()[..16].try_into().unwrap()
}

impl Cut for Pinned {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn sums(&self) -> Result<Sums, CutError> {
        let mut sums = vec![0_u128; PARTITIONS];
        for (key, state) in &self.records {
            let element = blake3::hash(&[key, &digest(state)[..]].concat());
            let sum = &mut sums[partition(key)];
            *sum = sum.wrapping_add(u128::from_be_bytes(element.as_bytes()[..16].try_into().unwrap()));
        }
        Ok(sums)
    }

    fn elements(&self, within: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError> {
        for (key, state) in self.records.iter().filter(|(key, _)| partition(key) == within) {
            visit(*key, digest(state));
        }
        Ok(())
    }

    fn touched_beyond(&self, _: &Vector) -> Result<Option<BTreeSet<Key>>, CutError> {
        Ok(Some(BTreeSet::new()))
    }

    fn state(&self, key: &Key) -> Result<Option<Vec<u8>>, CutError> {
        Ok(self.records.get(key).cloned())
    }

    fn cells(&self, _: &[u8], _: usize) -> Result<SomeCells, CutError> {
        Ok((Vec::new(), None))
    }
}

/// A copy as its giver has it: one file.
pub(crate) struct Checkpoint {
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Checkpoint {
    pub(crate) fn new(vector: Vector, transactions: &[Arc<[u8]>]) -> Checkpoint {
        let mut bytes = Vec::new();
        for transaction in transactions {
            bytes.extend_from_slice(&u32::try_from(transaction.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(transaction);
        }
        let file = File {
            name: "log".to_owned(),
            bytes: bytes.len() as u64,
        };
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Checkpoint {
            manifest: Manifest::new(nonce, vector, Vector::new(), Vec::new(), vec![file]),
            bytes,
        }
    }
}

impl Source for Checkpoint {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, _file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let rest = &self.bytes[usize::try_from(offset).unwrap()..];
        bytes.copy_from_slice(&rest[..bytes.len()]);
        Ok(())
    }
}

/// A copy as it comes. What is kept outlives a transfer that breaks off.
#[derive(Clone, Default)]
pub(crate) struct Incoming(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    manifest: Option<Manifest>,
    bytes: Vec<u8>,
    whole: bool,
    finished: bool,
}

impl Incoming {
    /// What it brought, once.
    pub(crate) fn installed(&self) -> Option<(Vector, Vec<Arc<[u8]>>)> {
        let Kept {
            manifest,
            bytes,
            finished,
            ..
        } = std::mem::take(&mut *self.0.lock().unwrap());
        let (manifest, mut rest) = (manifest.filter(|_| finished)?, &bytes[..]);
        let mut transactions = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let (transaction, behind) = behind.split_at(u32::from_le_bytes(*length) as usize);
            transactions.push(transaction.into());
            rest = behind;
        }
        Some((manifest.vector, transactions))
    }
}

impl Sink for Incoming {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        if kept.manifest.as_ref().map(|manifest| manifest.id) != Some(manifest.id) {
            *kept = Kept::default();
            kept.manifest = Some(manifest.clone());
        }
        Ok(if kept.whole {
            (1, 0)
        } else {
            (0, kept.bytes.len() as u64)
        })
    }

    fn write(&mut self, _file: usize, _offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.0.lock().unwrap().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn complete(&mut self, _file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(blake3::hash(&kept.bytes), *hash);
        kept.whole = true;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        assert!(kept.whole);
        kept.finished = true;
        Ok(())
    }
}
