//! Sums over what a replica holds, so that two replicas can tell in a few bytes whether they hold the same.
//!
//! A record's *element* is a keyed hash of its key and its state digest: unkeyed ones could be made to cancel. The
//! elements of a partition are added up; the sum is kept beside the digests, and moves with them in the same batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::ControlFlow,
};

use crdt::RecordKey;
use gossip::reconcile::{self, Key, PARTITIONS, StateDigest};

use super::{
    damage,
    disk::{Batch, DiskError, DiskRead, Family},
    layout::{self, meta},
    records::ReadError,
};

/// A secret of the cluster: it keys the elements, the same at every replica.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct DigestKey(pub [u8; 32]);

impl fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DigestKey")
    }
}

impl DigestKey {
    /// What a record adds to its partition's sum.
    fn element(&self, key: &Key, digest: &StateDigest) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(key).update(digest);
        let mut element = [0; 16];
        hasher.finalize_xof().fill(&mut element);
        u128::from_be_bytes(element)
    }

    /// Tells sums made with one key from those made with another.
    fn fingerprint(&self) -> [u8; 8] {
        let mut fingerprint = [0; 8];
        let mut hasher = blake3::Hasher::new_derive_key("persona 2026 sums of digests 1");
        hasher.update(&self.0).finalize_xof().fill(&mut fingerprint);
        fingerprint
    }
}

/// The sums, as the latest batch has them.
pub(super) struct Sums {
    key: DigestKey,
    sums: reconcile::Sums,
}

impl Sums {
    /// Reads the sums, and makes those that are not there or cannot be read: an older directory has none.
    pub(super) fn open(disk: &dyn DiskRead, key: DigestKey, batch: &mut Batch) -> Result<Sums, ReadError> {
        let mut sums = Sums {
            key,
            sums: vec![0; PARTITIONS],
        };
        let own = key.fingerprint();
        if fingerprint(disk)?.is_none_or(|known| known != own) {
            sums.sums = all(disk, key)?;
            for (partition, sum) in sums.sums.iter().enumerate() {
                if read(disk, partition).ok() != Some(*sum) {
                    put(batch, partition, *sum);
                }
            }
            batch.put(Family::Meta, meta::SUMS, layout::seal(&own));
            return Ok(sums);
        }
        for partition in 0..PARTITIONS {
            match read(disk, partition) {
                Ok(sum) => sums.sums[partition] = sum,
                Err(ReadError::Disk(error)) if !error.is_local() => return Err(error.into()),
                Err(_) => {
                    sums.sums[partition] = count(disk, key, partition, &BTreeMap::new())?;
                    put(batch, partition, sums.sums[partition]);
                }
            }
        }
        Ok(sums)
    }

    /// Takes in the digests that a batch writes, and adds the sums that they move to it. The partitions to `recount`
    /// are those of records whose stored digest is not to be relied on.
    pub(super) fn take_in(
        &mut self,
        disk: &dyn DiskRead,
        digests: &BTreeMap<RecordKey, StateDigest>,
        mut recount: BTreeSet<usize>,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let mut moved = BTreeSet::new();
        for (record, digest) in digests {
            let partition = reconcile::partition(record.as_bytes());
            let old = match disk.get(Family::Digests, record.as_bytes()) {
                Ok(None) => Some(0),
                Ok(Some(bytes)) => {
                    read_digest(&bytes).map(|digest| self.key.element(record.as_bytes(), &digest))
                }
                Err(error) if error.is_local() => None,
                Err(error) => return Err(error.into()),
            };
            let Some(old) = old else {
                // What it added to the sum cannot be told any more.
                recount.insert(partition);
                continue;
            };
            let new = self.key.element(record.as_bytes(), digest);
            if new != old {
                self.sums[partition] = self.sums[partition].wrapping_sub(old).wrapping_add(new);
                moved.insert(partition);
            }
        }
        for partition in recount {
            self.sums[partition] = count(disk, self.key, partition, digests)?;
            moved.insert(partition);
        }
        for partition in moved {
            put(batch, partition, self.sums[partition]);
        }
        Ok(())
    }

    /// Adds up a partition from the digests again; true if its sum was wrong.
    pub(super) fn check(
        &mut self,
        disk: &dyn DiskRead,
        partition: usize,
        batch: &mut Batch,
    ) -> Result<bool, ReadError> {
        let counted = count(disk, self.key, partition, &BTreeMap::new())?;
        let stored = read(disk, partition).ok();
        let wrong = stored != Some(counted);
        if wrong {
            self.sums[partition] = counted;
            put(batch, partition, counted);
        }
        Ok(wrong)
    }
}

/// What tells the key that the stored sums are made with; none if they are not made.
pub(super) fn fingerprint(disk: &dyn DiskRead) -> Result<Option<Vec<u8>>, ReadError> {
    match disk.get(Family::Meta, meta::SUMS)? {
        Some(bytes) => Ok(Some(layout::unseal(&bytes)?.to_vec())),
        None => Ok(None),
    }
}

/// One stored sum. None is stored before the first record of a partition.
pub(super) fn read(disk: &dyn DiskRead, partition: usize) -> Result<u128, ReadError> {
    let Some(bytes) = disk.get(Family::Sums, &key_of(partition))? else {
        return Ok(0);
    };
    let sum = layout::unseal(&bytes)?.try_into();
    Ok(u128::from_be_bytes(sum.map_err(|_| layout::Unsealed::Shape)?))
}

/// Whether the digests of a partition that can be read are all that its sum is of.
pub(super) fn is_whole(disk: &dyn DiskRead, key: DigestKey, partition: usize) -> Result<bool, ReadError> {
    let stored = match read(disk, partition) {
        Err(ReadError::Disk(error)) if !error.is_local() => return Err(error.into()),
        stored => stored.ok(),
    };
    let mut sum = 0_u128;
    let passed_over = elements(disk, partition, &mut |record, digest| {
        sum = sum.wrapping_add(key.element(&record, &digest));
    })?;
    // A batch that could not read an old digest has added up the rest: then the sum knows nothing of the lost.
    Ok(passed_over == 0 && stored == Some(sum))
}

/// Visits the digests of a partition that can be read. Says how many places it passed over.
pub(super) fn elements(
    disk: &dyn DiskRead,
    partition: usize,
    visit: &mut dyn FnMut(Key, StateDigest),
) -> Result<usize, DiskError> {
    let mut passed_over = 0;
    for kind in KINDS {
        let first = first_key(kind, partition);
        let mut spoiled = 0;
        passed_over += damage::scan_around(disk, Family::Digests, &first, &mut |key, bytes| {
            let Ok(key) = Key::try_from(key) else {
                return ControlFlow::Continue(());
            };
            if key[0] != kind || reconcile::partition(&key) != partition {
                return ControlFlow::Break(());
            }
            match read_digest(bytes) {
                Some(digest) => visit(key, digest),
                None => spoiled += 1,
            }
            ControlFlow::Continue(())
        })?;
        passed_over += spoiled;
    }
    Ok(passed_over)
}

/// A stored digest.
pub(super) fn read_digest(bytes: &[u8]) -> Option<StateDigest> {
    layout::unseal(bytes).ok()?.try_into().ok()
}

/// All sums, from the digests.
pub(super) fn all(disk: &dyn DiskRead, key: DigestKey) -> Result<reconcile::Sums, DiskError> {
    let mut sums = vec![0_u128; PARTITIONS];
    damage::scan_around(disk, Family::Digests, &[], &mut |record, bytes| {
        if let (Ok(record), Some(digest)) = (Key::try_from(record), read_digest(bytes)) {
            let sum = &mut sums[reconcile::partition(&record)];
            *sum = sum.wrapping_add(key.element(&record, &digest));
        }
        ControlFlow::Continue(())
    })?;
    Ok(sums)
}

/// The sum of one partition from its digests, with those that a batch is about to write in place of the stored ones.
fn count(
    disk: &dyn DiskRead,
    key: DigestKey,
    partition: usize,
    written: &BTreeMap<RecordKey, StateDigest>,
) -> Result<u128, DiskError> {
    let mut sum = 0_u128;
    elements(disk, partition, &mut |record, digest| {
        if !written.contains_key(&RecordKey::from_bytes(record)) {
            sum = sum.wrapping_add(key.element(&record, &digest));
        }
    })?;
    for (record, digest) in written {
        if reconcile::partition(record.as_bytes()) == partition {
            sum = sum.wrapping_add(key.element(record.as_bytes(), digest));
        }
    }
    Ok(sum)
}

fn put(batch: &mut Batch, partition: usize, sum: u128) {
    batch.put(Family::Sums, key_of(partition), layout::seal(&sum.to_be_bytes()));
}

fn key_of(partition: usize) -> [u8; 2] {
    layout::sums_key(u16::try_from(partition).unwrap_or(u16::MAX))
}

/// The first key of a kind that may be in a partition.
fn first_key(kind: u8, partition: usize) -> [u8; 3] {
    let [high, low] = u16::try_from(partition << 4).unwrap_or(u16::MAX).to_be_bytes();
    [kind, high, low]
}

/// First bytes of record keys, in order.
const KINDS: [u8; 3] = [b'a', b'c', b'e'];
