//! Where two cuts differ, and by about how much, before any record is looked at.
//!
//! The 4,096 partitions are 64 groups of 64. Hashes of the groups' sums say which groups differ, hashes of those
//! groups' partitions say which partitions do: half a kilobyte finds one changed record. How many partitions differ
//! also says about how many records do, so that one batch of symbols is usually enough.

use super::{Cut, CutError, Key, PARTITIONS, Purpose, Salt, Sums, partition};

/// Groups, and partitions in each.
pub(super) const GROUPS: usize = 64;

/// One partition of so many is sampled when all groups differ.
const SAMPLE_EVERY: usize = 128;

/// Each sampled partition has so many buckets of a byte each: 2 KiB in all, which tell 10,000 changed records
/// from a million.
const SAMPLE_BUCKETS: usize = 64;

pub(super) const SAMPLE_BYTES: usize = PARTITIONS / SAMPLE_EVERY * SAMPLE_BUCKETS;

/// From so many differing partitions on, the sample says more than their number.
const OCCUPANCY_MAX: usize = 4090;

/// A set of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partitions([u64; GROUPS]);

impl Partitions {
    pub(super) fn new() -> Partitions {
        Partitions([0; GROUPS])
    }

    pub(super) fn insert(&mut self, partition: usize) {
        self.0[partition / 64] |= 1 << (partition % 64);
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        let partition = partition(key);
        self.0[partition / 64] & 1 << (partition % 64) != 0
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..PARTITIONS).filter(|partition| self.0[partition / 64] & 1 << (partition % 64) != 0)
    }

    /// 8 bytes for each of `groups`, in order.
    pub(super) fn encode(&self, groups: Groups) -> Vec<u8> {
        groups
            .iter()
            .flat_map(|group| self.0[group].to_le_bytes())
            .collect()
    }

    pub(super) fn decode(groups: Groups, bytes: &[u8]) -> Option<Partitions> {
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.len() != groups.len() {
            return None;
        }
        let mut partitions = Partitions::new();
        for (group, word) in groups.iter().zip(words) {
            partitions.0[group] = u64::from_le_bytes(*word);
        }
        Some(partitions)
    }
}

/// A set of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Groups(pub(super) u64);

impl Groups {
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..GROUPS).filter(move |group| self.0 & 1 << group != 0)
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// The sum over everything.
pub(super) fn total(sums: &Sums) -> u128 {
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}

/// A cut's sums, as many as there must be.
pub(super) fn sums(cut: &dyn Cut) -> Result<Sums, CutError> {
    let sums = cut.sums()?;
    if sums.len() == PARTITIONS {
        Ok(sums)
    } else {
        Err(CutError(format!("{} sums", sums.len())))
    }
}

/// How long the hashes of sums are. A look that misses a partition finds it the next time, under another nonce. A
/// catch-up has no next time: what it missed would be covered by a vector all the same.
pub(super) fn hash_bytes(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Repair | Purpose::Look => 4,
        Purpose::CatchUp => 8,
    }
}

/// Hashes of all groups' sums.
pub(super) fn group_hashes(salt: &Salt, sums: &Sums, bytes: usize) -> Vec<u8> {
    hashes(salt, sums.chunks(PARTITIONS / GROUPS), bytes)
}

/// Hashes of the sums of the partitions in some groups.
pub(super) fn partition_hashes(salt: &Salt, sums: &Sums, groups: Groups, bytes: usize) -> Vec<u8> {
    let of_groups = groups
        .iter()
        .flat_map(|group| sums[group * 64..(group + 1) * 64].chunks(1));
    hashes(salt, of_groups, bytes)
}

fn hashes<'a>(salt: &Salt, pieces: impl Iterator<Item = &'a [u128]>, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        let summed: Vec<u8> = piece.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        all.extend_from_slice(&salt.hash(&summed).as_bytes()[..bytes]);
    }
    all
}

/// The groups whose hashes differ; nothing if `theirs` are not as many.
pub(super) fn differing_groups(ours: &[u8], theirs: &[u8], bytes: usize) -> Option<Groups> {
    let differ = differing(ours, theirs, bytes)?;
    Some(Groups(
        differ.fold(0, |groups, position| groups | 1 << (position % 64)),
    ))
}

/// The partitions of `groups` whose hashes differ; nothing if `theirs` are not as many.
pub(super) fn differing_partitions(
    groups: Groups,
    ours: &[u8],
    theirs: &[u8],
    bytes: usize,
) -> Option<Partitions> {
    let order: Vec<usize> = groups.iter().collect();
    let mut partitions = Partitions::new();
    for position in differing(ours, theirs, bytes)? {
        partitions.insert(order.get(position / 64)? * 64 + position % 64);
    }
    Some(partitions)
}

fn differing<'a>(ours: &'a [u8], theirs: &'a [u8], bytes: usize) -> Option<impl Iterator<Item = usize> + 'a> {
    let pairs = ours.chunks(bytes).zip(theirs.chunks(bytes));
    (ours.len() == theirs.len()).then(|| {
        pairs
            .enumerate()
            .filter(|(_, (our, their))| our != their)
            .map(|(position, _)| position)
    })
}

/// A byte for each bucket of keys in every 128th partition. It changes with nearly every change of an element, and
/// only then.
pub(super) fn sample(cut: &dyn Cut, salt: &Salt) -> Result<Vec<u8>, CutError> {
    let mut buckets = vec![0; SAMPLE_BYTES];
    for (position, chunk) in buckets.chunks_exact_mut(SAMPLE_BUCKETS).enumerate() {
        cut.elements(position * SAMPLE_EVERY, &mut |key, digest| {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&key);
            bytes[16..].copy_from_slice(&digest);
            // The bits of the key that follow those of the partition.
            chunk[usize::from(key[3]) * SAMPLE_BUCKETS / 256] ^= salt.hash(&bytes).as_bytes()[0];
        })?;
    }
    Ok(buckets)
}

/// How many symbols will most likely be enough, if `partitions` differ and this is how the samples differ.
pub(super) fn symbols_enough(partitions: usize, samples: Option<(&[u8], &[u8])>) -> usize {
    let (records, deviation) = match samples {
        Some((ours, theirs)) if partitions > OCCUPANCY_MAX => {
            let differ = ours.iter().zip(theirs).filter(|(our, their)| our != their);
            let (sampled, deviation) = thrown(differ.count(), SAMPLE_BYTES);
            let scale = SAMPLE_EVERY as f64;
            (sampled * scale, (sampled + deviation * deviation).sqrt() * scale)
        }
        _ => thrown(partitions, PARTITIONS),
    };
    // A changed record is two differences. The bound is the 99th to the 99.9th percentile of 20,000 runs for each
    // number from 1 to 50,000.
    let differences = 2.0 * (records + 3.0 * deviation);
    (1.36 * differences + 6.0 * differences.sqrt() + 1.0).ceil() as usize
}

/// How many balls were thrown into `all` bins if `hit` of them are not empty, and the standard deviation of that.
fn thrown(hit: usize, all: usize) -> (f64, f64) {
    let all_bins = all as f64;
    // When all are hit, as if half a bin were empty.
    let empty = (all_bins - hit as f64).max(0.5);
    let load = (all_bins / empty).ln();
    (
        load * all_bins,
        (all_bins * (load.exp() - 1.0 - load).max(0.0)).sqrt(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_record_needs_few_symbols_and_many_are_estimated() {
        assert_eq!(symbols_enough(1, None), 13);
        let partitions_of = |records: f64| 4096.0 * (1.0 - (-records / 4096.0).exp());
        for records in [10.0, 100.0, 1_000.0, 10_000.0, 20_000.0] {
            let enough = symbols_enough(partitions_of(records).round() as usize, None) as f64;
            let least = 2.0 * 1.36 * records;
            assert!(
                enough > least && enough < 1.4 * least + 60.0,
                "{records}: {enough}"
            );
        }
    }

    #[test]
    fn partitions_come_back_from_their_groups() {
        let mut partitions = Partitions::new();
        for partition in [5, 64, 4095] {
            partitions.insert(partition);
        }
        let groups = Groups(1 | 2 | 1 << 63);
        let bytes = partitions.encode(groups);
        assert_eq!(bytes.len(), 24);
        assert_eq!(Partitions::decode(groups, &bytes), Some(partitions.clone()));
        assert_eq!(partitions.iter().collect::<Vec<_>>(), [5, 64, 4095]);
        assert_eq!(Partitions::decode(groups, &bytes[1..]), None);
    }
}
