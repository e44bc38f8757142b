//! Replicas as far as a reconciliation sees them, and the stream between two of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gossip::reconcile::{
    Action, Answerer, Asker, Cut, CutError, Key, PARTITIONS, Part, Purpose, ReconcileError, SomeCells,
    StateDigest, Sums, Verdict, partition,
};
use gossip::{Dot, FRAME_BYTES_MAX, ReplicaId, Tip, Vector, Writer};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn key(&mut self) -> Key {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next().to_le_bytes());
        key[8..].copy_from_slice(&self.next().to_le_bytes());
        key[0] = b"ae"[usize::from(key[0] & 1)];
        key
    }

    pub(crate) fn nonce(&mut self) -> [u8; 16] {
        self.key()
    }
}

/// A record: its changes, as numbers. Merged by union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    changes: BTreeSet<u64>,
    digest: StateDigest,
}

impl Record {
    fn new(changes: BTreeSet<u64>) -> Record {
        let mut hasher = blake3::Hasher::new();
        changes.iter().for_each(|change| {
            hasher.update(&change.to_le_bytes());
        });
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Record { changes, digest }
    }

    fn state(&self) -> Vec<u8> {
        self.changes
            .iter()
            .flat_map(|change| change.to_le_bytes())
            .collect()
    }
}

/// A replica, and its cut: nothing happens while they talk.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) vector: Vector,
    records: Vec<BTreeMap<Key, Record>>,
    sums: Sums,
    /// What each transaction touched.
    log: BTreeMap<Dot, Key>,
    /// The log does not reach back to any other vector.
    pub(crate) trimmed: bool,
    pub(crate) cells: BTreeSet<Vec<u8>>,
}

pub(crate) fn writer(replica: u8) -> Writer {
    Writer {
        replica: ReplicaId([replica; 8]),
        epoch: 1,
        nonce: [replica; 8],
    }
}

impl Replica {
    pub(crate) fn new() -> Replica {
        Replica {
            vector: Vector::new(),
            records: vec![BTreeMap::new(); PARTITIONS],
            sums: vec![0; PARTITIONS],
            log: BTreeMap::new(),
            trimmed: false,
            cells: BTreeSet::new(),
        }
    }

    /// With so many records of one change.
    pub(crate) fn with_records(draw: &mut Draw, records: usize) -> (Replica, Vec<Key>) {
        let mut replica = Replica::new();
        let keys: Vec<Key> = (0..records).map(|_| draw.key()).collect();
        for key in &keys {
            replica.change(key, 1);
        }
        (replica, keys)
    }

    /// Merges changes into a record, behind the back of vector and log.
    pub(crate) fn merge(&mut self, key: &Key, changes: impl IntoIterator<Item = u64>) {
        let at = partition(key);
        let mut merged: BTreeSet<u64> = changes.into_iter().collect();
        if let Some(old) = self.records[at].get(key) {
            merged.extend(&old.changes);
            self.sums[at] = self.sums[at].wrapping_sub(element_hash(key, &old.digest));
        }
        let record = Record::new(merged);
        self.sums[at] = self.sums[at].wrapping_add(element_hash(key, &record.digest));
        self.records[at].insert(*key, record);
    }

    pub(crate) fn change(&mut self, key: &Key, change: u64) {
        self.merge(key, [change]);
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        let at = partition(key);
        let old = self.records[at].remove(key).expect("there");
        self.sums[at] = self.sums[at].wrapping_sub(element_hash(key, &old.digest));
    }

    /// A transaction: changes a record, and is logged and covered.
    pub(crate) fn write(&mut self, writer: Writer, key: &Key, change: u64) {
        let number = self.vector.get(&writer).map_or(0, |tip| tip.number) + 1;
        let hash = number.to_le_bytes();
        self.vector.advance(writer, Tip { number, hash });
        self.log.insert(Dot { writer, number }, *key);
        self.change(key, change);
    }

    pub(crate) fn spoil_sum(&mut self) {
        self.sums[7] ^= 1;
    }

    /// A record's digest is lost; the sum knows of it yet.
    pub(crate) fn lose(&mut self, key: &Key) {
        self.records[partition(key)].remove(key).expect("there");
    }

    pub(crate) fn take(&mut self, part: &Part) {
        match part {
            Part::States { states, .. } => {
                for (key, state) in states {
                    let (changes, rest) = state.as_chunks::<8>();
                    assert!(rest.is_empty());
                    self.merge(key, changes.iter().map(|change| u64::from_le_bytes(*change)));
                }
            }
            Part::Cells(cells) => self.cells.extend(cells.iter().cloned()),
            Part::Complete { cut } => self.vector.merge_max(cut),
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = (&Key, &Record)> {
        self.records.iter().flatten()
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.records[partition(key)].contains_key(key)
    }

    pub(crate) fn digest(&self, key: &Key) -> Option<StateDigest> {
        self.records[partition(key)].get(key).map(|record| record.digest)
    }

    /// Keys whose records differ.
    pub(crate) fn differing(&self, other: &Replica) -> BTreeSet<Key> {
        let keys = self.records().chain(other.records()).map(|(key, _)| *key);
        keys.filter(|key| self.digest(key) != other.digest(key)).collect()
    }
}

fn element_hash(key: &Key, digest: &StateDigest) -> u128 {
    let mut bytes = [9; 32];
    bytes[..16].copy_from_slice(key);
    bytes[16..].copy_from_slice(digest);
    let mut sum = [0; 16];
    sum.copy_from_slice(&blake3::keyed_hash(&[3; 32], &bytes).as_bytes()[..16]);
    u128::from_le_bytes(sum)
}

impl Cut for Replica {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn sums(&self) -> Result<Sums, CutError> {
        Ok(self.sums.clone())
    }

    fn elements(&self, partition: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError> {
        self.records[partition]
            .iter()
            .for_each(|(key, record)| visit(*key, record.digest));
        Ok(())
    }

    fn is_whole(&self, partition: usize) -> Result<bool, CutError> {
        let elements = self.records[partition].iter();
        let sum = elements.fold(0_u128, |sum, (key, record)| {
            sum.wrapping_add(element_hash(key, &record.digest))
        });
        Ok(sum == self.sums[partition])
    }

    fn touched_beyond(&self, other: &Vector) -> Result<Option<BTreeSet<Key>>, CutError> {
        let beyond = self.log.iter().filter(|(dot, _)| !other.covers(dot));
        Ok((!self.trimmed).then(|| beyond.map(|(_, key)| *key).collect()))
    }

    fn state(&self, key: &Key) -> Result<Option<Vec<u8>>, CutError> {
        Ok(self.records[partition(key)].get(key).map(Record::state))
    }

    fn cells(&self, from: &[u8], bytes_max: usize) -> Result<SomeCells, CutError> {
        let mut some = Vec::new();
        let mut bytes = 0;
        for cell in self.cells.range(from.to_vec()..) {
            if bytes > bytes_max {
                return Ok((some, Some(cell.clone())));
            }
            bytes += cell.len();
            some.push(cell.clone());
        }
        Ok((some, None))
    }
}

/// How far apart the two are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Each frame arrives before anything more is streamed.
    Near,
    /// All that may be streamed is under way before anything arrives: the most bytes that a conversation can take.
    Far,
}

/// What came of a conversation at one end.
#[derive(Debug, Default, Clone)]
pub(crate) struct End {
    pub(crate) parts: Vec<Part>,
    pub(crate) verdict: Option<Verdict>,
}

impl End {
    pub(crate) fn verdict(&self) -> &Verdict {
        self.verdict.as_ref().expect("the conversation ended")
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let states = self.parts.iter().filter_map(|part| match part {
            Part::States { states, .. } => Some(states),
            _ => None,
        });
        states.flatten().map(|(key, _)| *key).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) asker: End,
    pub(crate) answerer: End,
    pub(crate) bytes: u64,
    /// Seen from outside, where all that may be sent is: how often something came back to the asker.
    pub(crate) turns: u32,
    /// All frames, and whether the asker sent it.
    pub(crate) frames: Vec<(bool, Vec<u8>)>,
}

/// Lets two replicas talk to the end.
pub(crate) fn talk(
    purpose: Purpose,
    nonce: [u8; 16],
    [asking, answering]: [&Replica; 2],
    distance: Distance,
) -> Result<Talk, ReconcileError> {
    let mut asker = Asker::new(purpose, nonce);
    let mut answerer = Answerer::new();
    let mut talk = Talk::default();
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    let begun = asker.begin(asking)?;
    talk.take(true, begun, &mut there);
    while talk.asker.verdict.is_none() || talk.answerer.verdict.is_none() {
        let before = talk.frames.len();
        while let Some(frame) = there.pop_front() {
            let actions = answerer.handle(answering, &frame)?;
            talk.take(false, actions, &mut back);
        }
        loop {
            let actions = answerer.more(answering)?;
            let idle = actions.is_empty();
            talk.take(false, actions, &mut back);
            if idle || distance == Distance::Near {
                break;
            }
        }
        if !back.is_empty() {
            talk.turns += 1;
        }
        while let Some(frame) = back.pop_front() {
            let actions = asker.handle(asking, &frame)?;
            talk.take(true, actions, &mut there);
        }
        loop {
            let actions = asker.more(asking)?;
            let idle = actions.is_empty();
            talk.take(true, actions, &mut there);
            if idle || distance == Distance::Near {
                break;
            }
        }
        let over = talk.asker.verdict.is_some() || talk.answerer.verdict.is_some();
        assert!(over || talk.frames.len() > before, "both wait");
    }
    assert!(asker.more(asking)?.is_empty() && answerer.more(answering)?.is_empty());
    assert_eq!(talk.asker.verdict().divergent, talk.answerer.verdict().divergent);
    assert_eq!(
        talk.asker.verdict().conclusive,
        talk.answerer.verdict().conclusive
    );
    assert_eq!(talk.asker.verdict().lagging, talk.answerer.verdict().lagging);
    assert_eq!(
        talk.asker.verdict().round_trips,
        talk.answerer.verdict().round_trips
    );
    assert_eq!(talk.asker.verdict().bytes, talk.bytes);
    Ok(talk)
}

impl Talk {
    fn take(&mut self, by_asker: bool, actions: Vec<Action>, queue: &mut VecDeque<Vec<u8>>) {
        let end = if by_asker {
            &mut self.asker
        } else {
            &mut self.answerer
        };
        for action in actions {
            assert!(end.verdict.is_none(), "nothing follows the verdict");
            match action {
                Action::Send(frame) => {
                    assert!(frame.len() <= FRAME_BYTES_MAX);
                    self.bytes += 4 + frame.len() as u64;
                    self.frames.push((by_asker, frame.clone()));
                    queue.push_back(frame);
                }
                Action::Deliver(part) => end.parts.push(part),
                Action::Done(verdict) => end.verdict = Some(verdict),
            }
        }
    }
}
