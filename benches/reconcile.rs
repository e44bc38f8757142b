//! What it costs to find the records that two replicas do not share, beside the `negentropy` crate on the same set.
//!
//! `cargo bench --bench reconcile`: a million records, of which 0, 1, 10, 1,000 and 100,000 are changed at one end. Bytes
//! are of both directions, with all under way that may be before the far end reacts: the most a conversation takes. The
//! elements are in memory at either; what a disk adds is not in here. Goals: 0: 220 B; 1: 1.2 KB; 1,000: 160 KB; three
//! round trips.
#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use gossip::Vector;
use gossip::reconcile::{
    Action, Answerer, Asker, Cut, CutError, Key, PARTITIONS, Purpose, SomeCells, StateDigest, Sums, Verdict,
    partition,
};
use negentropy::{Id, Negentropy, NegentropyStorageVector};

const RECORDS: usize = 1_000_000;
const CHANGED: [usize; 5] = [0, 1, 10, 1_000, 100_000];

/// What a conversation took.
#[derive(Default)]
struct Cost {
    found: usize,
    bytes: usize,
    round_trips: u32,
    asker: Duration,
    answerer: Duration,
}

fn main() {
    let mut far = elements();
    let ours = Memory::new(&far);
    let ours_sealed = sealed(&far);
    println!("{RECORDS} records                      bytes  round trips   ms asker  ms answerer");
    for changed in CHANGED {
        // Already changed ones stay so: the elements are in no order.
        for (key, digest) in &mut far[..changed] {
            *digest = digest_of(key, 1);
        }
        let theirs = Memory::new(&far);
        let here = rateless(&ours, &theirs);
        let there = ranges(&ours_sealed, &sealed(&far));
        print("this", changed, &here);
        print("negentropy", changed, &there);
        println!(
            "  ratio{:>35.3} {:>12.2} {:>10.3} {:>12.3}",
            here.bytes as f64 / there.bytes as f64,
            f64::from(here.round_trips) / f64::from(there.round_trips),
            here.asker.as_secs_f64() / there.asker.as_secs_f64(),
            here.answerer.as_secs_f64() / there.answerer.as_secs_f64(),
        );
        assert_eq!(here.found, changed, "records found");
        // A changed record is an element that we lack.
        assert_eq!(there.found, changed, "elements found");
    }
}

fn print(who: &str, changed: usize, cost: &Cost) {
    println!(
        "{who:>12}, {changed:>6} changed {:>16} {:>12} {:>10.1} {:>12.1}",
        cost.bytes,
        cost.round_trips,
        cost.asker.as_secs_f64() * 1e3,
        cost.answerer.as_secs_f64() * 1e3,
    );
}

/// In an order that says nothing of their keys.
fn elements() -> Vec<(Key, StateDigest)> {
    (0..RECORDS)
        .map(|number| {
            let mut key = digest_of(&(number as u128).to_le_bytes(), 7);
            key[0] = b"ae"[number & 1];
            (key, digest_of(&key, 0))
        })
        .collect()
}

fn digest_of(key: &Key, state: u8) -> StateDigest {
    first_16(&blake3::keyed_hash(&[state; 32], key))
}

fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

/// A cut in memory, with sums as a store keeps them.
struct Memory {
    vector: Vector,
    partitions: Vec<Vec<(Key, StateDigest)>>,
    sums: Sums,
}

impl Memory {
    fn new(elements: &[(Key, StateDigest)]) -> Memory {
        let mut memory = Memory {
            vector: Vector::new(),
            partitions: vec![Vec::new(); PARTITIONS],
            sums: vec![0; PARTITIONS],
        };
        for (key, digest) in elements {
            let hash = first_16(&blake3::keyed_hash(&[9; 32], &[*key, *digest].concat()));
            let sum = &mut memory.sums[partition(key)];
            *sum = sum.wrapping_add(u128::from_le_bytes(hash));
            memory.partitions[partition(key)].push((*key, *digest));
        }
        memory
    }
}

impl Cut for Memory {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn sums(&self) -> Result<Sums, CutError> {
        Ok(self.sums.clone())
    }

    fn elements(&self, partition: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError> {
        self.partitions[partition]
            .iter()
            .for_each(|(key, digest)| visit(*key, *digest));
        Ok(())
    }

    fn touched_beyond(&self, _other: &Vector) -> Result<Option<BTreeSet<Key>>, CutError> {
        Ok(None)
    }

    fn state(&self, _key: &Key) -> Result<Option<Vec<u8>>, CutError> {
        Ok(None)
    }

    fn cells(&self, _from: &[u8], _bytes_max: usize) -> Result<SomeCells, CutError> {
        Ok((Vec::new(), None))
    }
}

fn rateless(ours: &Memory, theirs: &Memory) -> Cost {
    let mut cost = Cost::default();
    let mut asker = Asker::new(Purpose::Look, [5; 16]);
    let mut answerer = Answerer::new();
    let begun = Instant::now();
    let (mut there, mut verdict) = sent(asker.begin(ours).expect("a cut"));
    cost.asker += begun.elapsed();
    while verdict.is_none() {
        let begun = Instant::now();
        let mut back = VecDeque::new();
        for frame in there.drain(..) {
            back.extend(sent(answerer.handle(theirs, &frame).expect("a frame")).0);
        }
        loop {
            let more = answerer.more(theirs).expect("a cut");
            if more.is_empty() {
                break;
            }
            back.extend(sent(more).0);
        }
        cost.answerer += begun.elapsed();
        let begun = Instant::now();
        for frame in back {
            let (frames, done) = sent(asker.handle(ours, &frame).expect("a frame"));
            there.extend(frames);
            verdict = verdict.or(done);
        }
        loop {
            let more = asker.more(ours).expect("a cut");
            if more.is_empty() {
                break;
            }
            there.extend(sent(more).0);
        }
        cost.asker += begun.elapsed();
    }
    let verdict = verdict.expect("an end");
    cost.found = verdict.divergent.len();
    cost.bytes = usize::try_from(verdict.bytes).unwrap_or(usize::MAX);
    cost.round_trips = verdict.round_trips;
    cost
}

fn sent(actions: Vec<Action>) -> (VecDeque<Vec<u8>>, Option<Verdict>) {
    let mut frames = VecDeque::new();
    let mut verdict = None;
    for action in actions {
        match action {
            Action::Send(frame) => frames.push_back(frame),
            Action::Done(done) => verdict = Some(done),
            Action::Deliver(_) => {}
        }
    }
    (frames, verdict)
}

fn sealed(elements: &[(Key, StateDigest)]) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::with_capacity(elements.len());
    for (key, digest) in elements {
        let mut id = [0; 32];
        id[..16].copy_from_slice(key);
        id[16..].copy_from_slice(digest);
        storage
            .insert(0, Id::from_byte_array(id))
            .expect("not sealed yet");
    }
    storage.seal().expect("no element twice");
    storage
}

fn ranges(ours: &NegentropyStorageVector, theirs: &NegentropyStorageVector) -> Cost {
    const LENGTH_BYTES: usize = 4;
    let mut cost = Cost::default();
    let mut asker = Negentropy::borrowed(ours, 0).expect("no limit");
    let mut answerer = Negentropy::borrowed(theirs, 0).expect("no limit");
    let begun = Instant::now();
    let mut query = Some(asker.initiate().expect("first"));
    cost.asker += begun.elapsed();
    let (mut have, mut need) = (Vec::new(), Vec::new());
    while let Some(asked) = query {
        cost.round_trips += 1;
        let begun = Instant::now();
        let answer = answerer.reconcile(&asked).expect("a message");
        cost.answerer += begun.elapsed();
        cost.bytes += asked.len() + answer.len() + 2 * LENGTH_BYTES;
        let begun = Instant::now();
        query = asker
            .reconcile_with_ids(&answer, &mut have, &mut need)
            .expect("a message");
        cost.asker += begun.elapsed();
    }
    cost.found = need.len();
    cost
}
