//! Reconciliations with a peer that sends any frames, after any beginning that is in order.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run reconcile` in `gossip/`.
#![no_main]

use std::collections::BTreeSet;

use gossip::Vector;
use gossip::reconcile::{
    Action, Answerer, Asker, Cut, CutError, Key, PARTITIONS, Purpose, SomeCells, StateDigest, Sums, partition,
};
use libfuzzer_sys::fuzz_target;

/// Sixteen records; a few of them are other ones at each end.
struct Few {
    vector: Vector,
    other: u8,
}

impl Few {
    fn elements(&self) -> impl Iterator<Item = (Key, StateDigest)> {
        (0..16_u8).map(|number| {
            let digest = if number < 3 { self.other } else { 0 };
            ([number.wrapping_mul(37); 16], [digest; 16])
        })
    }
}

impl Cut for Few {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn sums(&self) -> Result<Sums, CutError> {
        let mut sums = vec![0; PARTITIONS];
        for (key, digest) in self.elements() {
            sums[partition(&key)] += u128::from_le_bytes(key) ^ u128::from_le_bytes(digest);
        }
        Ok(sums)
    }

    fn elements(&self, of: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError> {
        self.elements()
            .filter(|(key, _)| partition(key) == of)
            .for_each(|(key, digest)| visit(key, digest));
        Ok(())
    }

    fn touched_beyond(&self, _other: &Vector) -> Result<Option<BTreeSet<Key>>, CutError> {
        Ok(Some(BTreeSet::new()))
    }

    fn state(&self, key: &Key) -> Result<Option<Vec<u8>>, CutError> {
        Ok(self
            .elements()
            .any(|(own, _)| own == *key)
            .then(|| vec![self.other; 5]))
    }

    fn cells(&self, _from: &[u8], _bytes_max: usize) -> Result<SomeCells, CutError> {
        Ok((vec![vec![1; 3]], None))
    }
}

// The first byte says how long the conversation is in order, and which end the rest goes to.
fuzz_target!(|data: &[u8]| {
    let Some((&how, data)) = data.split_first() else {
        return;
    };
    let cuts = [1, 2].map(|other| Few {
        vector: Vector::new(),
        other,
    });
    let purpose = [Purpose::Repair, Purpose::Look, Purpose::CatchUp][usize::from(how) % 3];
    let mut asker = Asker::new(purpose, [how; 16]);
    let mut answerer = Answerer::new();
    let mut there = sent(asker.begin(&cuts[0]).unwrap_or_default());
    for _ in 0..how >> 5 {
        let mut back = Vec::new();
        for frame in there.drain(..) {
            back.extend(sent(answerer.handle(&cuts[1], &frame).unwrap_or_default()));
        }
        back.extend(sent(answerer.more(&cuts[1]).unwrap_or_default()));
        for frame in back {
            there.extend(sent(asker.handle(&cuts[0], &frame).unwrap_or_default()));
        }
        there.extend(sent(asker.more(&cuts[0]).unwrap_or_default()));
    }
    // A byte of length before each frame.
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (frame, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let ended = if how & 16 == 0 {
            asker.handle(&cuts[0], frame).is_err() || asker.more(&cuts[0]).is_err()
        } else {
            answerer.handle(&cuts[1], frame).is_err() || answerer.more(&cuts[1]).is_err()
        };
        if ended {
            return;
        }
    }
});

fn sent(actions: Vec<Action>) -> Vec<Vec<u8>> {
    let frames = actions.into_iter().filter_map(|action| match action {
        Action::Send(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}
