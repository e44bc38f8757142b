//! Taking in another copy of a record as a whole: it comes to the same as hearing each of its changes.

#![allow(
    clippy::expect_used,
    reason = "a failure ends the run, and says what was expected"
)]

mod laws;
mod replicas;

use crdt::{AccountWrite, ApplyError, Document, Epoch, RecordKind, Write};
use proptest::prelude::*;
use replicas::{Replica, at};

const REPLICAS: usize = 4;

/// (who writes, from whom it hears before).
fn histories() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..REPLICAS, 0..REPLICAS), 0..24)
}

fn play(history: &[(usize, usize)]) -> Vec<Replica> {
    let mut replicas: Vec<Replica> = (1..)
        .take(REPLICAS)
        .map(|actor| Replica::new(RecordKind::Account, actor))
        .collect();
    for (ms, (who, from)) in (1..).zip(history) {
        if who != from {
            let heard = replicas[*from].clone();
            replicas[*who].hear(&heard);
        }
        let epoch = Epoch {
            resets: 0,
            at: at(ms),
        };
        replicas[*who].write(&[Write::Account(AccountWrite::SessionEpoch(epoch))]);
    }
    replicas
}

/// A copy as another replica would send it.
fn copy(replica: &Replica) -> Document {
    Document::load(RecordKind::Account, &replica.document().save()).expect("what was just saved")
}

#[test]
fn merging_copies_keeps_the_laws() {
    laws::hold(96, "--test merge", &histories(), |history| {
        let replicas = play(&history);
        let merge = |order: &mut dyn Iterator<Item = &Replica>| {
            let mut all = Document::new(RecordKind::Account);
            for replica in order {
                all = all.merge(&copy(replica))?;
            }
            Ok(all)
        };
        let fail = |error: ApplyError| TestCaseError::fail(error.to_string());
        let all = merge(&mut replicas.iter()).map_err(fail)?;
        let other = merge(&mut replicas.iter().rev().chain(&replicas)).map_err(fail)?;
        prop_assert_eq!(all.heads(), other.heads());
        prop_assert_eq!(all.view(), other.view());
        prop_assert_eq!(all.changes(), other.changes());
        // In pairs.
        let pairs: Result<Vec<Document>, ApplyError> = replicas
            .chunks(2)
            .map(|pair| copy(&pair[0]).merge(&copy(&pair[1])))
            .collect();
        let pairs = pairs.map_err(fail)?;
        let grouped = copy(&replicas[3]).merge(&pairs[0]).map_err(fail)?;
        let grouped = grouped.merge(&pairs[1]).map_err(fail)?;
        prop_assert_eq!(grouped.heads(), all.heads());
        // Change by change.
        let mut heard = Replica::new(RecordKind::Account, 0xff);
        for replica in &replicas {
            heard.hear(replica);
        }
        prop_assert_eq!(heard.document().heads(), all.heads());
        prop_assert_eq!(heard.view(), all.view());
        prop_assert!(all.holds(&heard.changes));
        prop_assert_eq!(
            all.missing(&copy(&replicas[0])).map_err(fail)?,
            Vec::<Vec<u8>>::new()
        );
        let loaded = Document::load(RecordKind::Account, &all.save())
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(loaded.view(), all.view());
        Ok(())
    });
}

#[test]
fn two_copies_whose_writer_forked_are_not_merged() {
    let mut one = Replica::new(RecordKind::Account, 1);
    let mut two = Replica::new(RecordKind::Account, 1);
    one.write(&[Write::Account(AccountWrite::Created(at(1)))]);
    two.write(&[Write::Account(AccountWrite::Created(at(2)))]);
    assert!(matches!(
        one.document().merge(&two.document()),
        Err(ApplyError::Forked { .. } | ApplyError::Unfit { .. })
    ));
}
