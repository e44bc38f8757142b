//! What the two ends of a conversation come to.

use std::collections::BTreeSet;

use gossip::reconcile::{Key, Part, Purpose, ReconcileError, SLICE_ELEMENTS_MAX};

use crate::model::{Distance, Draw, Replica, talk, writer};
use crate::seeds;

const BOTH: [Distance; 2] = [Distance::Near, Distance::Far];

/// Differences made behind the vectors' backs, at equal vectors: in one direction, the other, and both.
#[track_caller]
fn check(records: usize, changed: usize, only_asker: usize, only_answerer: usize) {
    for distance in BOTH {
        let mut draw = Draw(changed as u64);
        let (mut asking, keys) = Replica::with_records(&mut draw, records);
        asking.write(writer(1), &keys[0], 2);
        let mut answering = asking.clone();
        let mut expected = BTreeSet::new();
        for key in &keys[..changed] {
            asking.change(key, 10);
            answering.change(key, 11);
            expected.insert(*key);
        }
        for key in &keys[changed..changed + only_asker] {
            answering.delete(key);
            expected.insert(*key);
        }
        for _ in 0..only_answerer {
            let key = draw.key();
            answering.change(&key, 12);
            expected.insert(key);
        }
        let look = talk(Purpose::Look, draw.nonce(), [&asking, &answering], distance).unwrap();
        assert_eq!(look.asker.verdict().divergent, expected);
        assert!(look.asker.parts.is_empty() && look.answerer.parts.is_empty());

        let repair = talk(Purpose::Repair, draw.nonce(), [&asking, &answering], distance).unwrap();
        assert_eq!(repair.asker.verdict().divergent, expected);
        assert_eq!(repair.asker.verdict().lagging, 0);
        if distance == Distance::Far {
            assert!(repair.turns <= repair.asker.verdict().round_trips);
        }
        for part in &repair.asker.parts {
            asking.take(part);
        }
        for part in &repair.answerer.parts {
            answering.take(part);
        }
        assert!(asking.differing(&answering).is_empty());
    }
}

#[test]
fn one_record_differs() {
    check(2_000, 1, 0, 0);
    check(2_000, 0, 1, 0);
    check(2_000, 0, 0, 1);
    check(1, 1, 0, 0);
    check(1, 0, 1, 0);
}

#[test]
fn ten_records_differ() {
    check(2_000, 10, 0, 0);
    check(2_000, 0, 10, 0);
    check(2_000, 0, 0, 10);
    check(2_000, 5, 3, 2);
}

#[test]
fn a_thousand_records_differ() {
    check(20_000, 1_000, 0, 0);
    check(20_000, 0, 1_000, 0);
    check(20_000, 300, 300, 400);
}

#[test]
fn everything_differs() {
    check(5_000, 5_000, 0, 0);
    check(5_000, 0, 5_000, 0);
    check(5_000, 0, 5_000, 5_000);
}

#[test]
fn equal_sums_end_it_whatever_the_vectors() {
    let mut draw = Draw(1);
    let (mut asking, keys) = Replica::with_records(&mut draw, 1_000);
    let answering = asking.clone();
    for _ in 0..2 {
        for purpose in [Purpose::Look, Purpose::Repair] {
            let talk = talk(purpose, draw.nonce(), [&asking, &answering], Distance::Far).unwrap();
            let verdict = talk.asker.verdict();
            assert!(verdict.divergent.is_empty() && verdict.conclusive && verdict.lagging == 0);
            assert_eq!((talk.turns, verdict.round_trips), (1, 1));
            assert!(talk.bytes < 220, "{}", talk.bytes);
        }
        // A transaction that changed nothing here: the record had that change already.
        asking.write(writer(1), &keys[0], 1);
    }
}

#[test]
fn differences_crowded_into_one_partition_take_one_more_round_trip() {
    let mut draw = Draw(2);
    let (mut asking, keys) = Replica::with_records(&mut draw, 1_000);
    let answering = asking.clone();
    for number in 0..200_u32 {
        let mut key = keys[0];
        key[12..].copy_from_slice(&number.to_be_bytes());
        asking.change(&key, 5);
    }
    let found = talk(Purpose::Look, draw.nonce(), [&asking, &answering], Distance::Far).unwrap();
    assert_eq!(found.asker.verdict().divergent, asking.differing(&answering));
    assert_eq!(found.asker.verdict().round_trips, 4);
    assert_eq!(found.turns, 4);
}

#[test]
fn lag_alone_is_no_divergence() {
    for distance in BOTH {
        let mut draw = Draw(3);
        let (mut asking, keys) = Replica::with_records(&mut draw, 3_000);
        let mut answering = asking.clone();
        for key in &keys[..50] {
            asking.write(writer(1), key, 20);
        }
        for key in &keys[30..90] {
            answering.write(writer(2), key, 21);
        }
        let repair = talk(Purpose::Repair, draw.nonce(), [&asking, &answering], distance).unwrap();
        let verdict = repair.asker.verdict();
        assert!(verdict.divergent.is_empty() && verdict.conclusive);
        assert_eq!(verdict.lagging, 90);
        assert!(repair.asker.parts.is_empty() && repair.answerer.parts.is_empty());
    }
}

#[test]
fn divergence_is_found_under_lag_and_travels_with_the_cut_it_was_read_from() {
    for distance in BOTH {
        let mut draw = Draw(4);
        let (mut asking, keys) = Replica::with_records(&mut draw, 3_000);
        let mut answering = asking.clone();
        for key in &keys[..50] {
            asking.write(writer(1), key, 20);
            answering.write(writer(2), key, 21);
        }
        for key in &keys[1_000..1_020] {
            asking.change(key, 30);
        }
        answering.delete(&keys[1_500]);
        let divergent: BTreeSet<Key> = keys[1_000..1_020].iter().chain([&keys[1_500]]).copied().collect();
        let repair = talk(Purpose::Repair, draw.nonce(), [&asking, &answering], distance).unwrap();
        assert_eq!(repair.asker.verdict().divergent, divergent);
        assert_eq!(repair.asker.verdict().lagging, 50);
        for (end, from) in [(&repair.asker, &answering), (&repair.answerer, &asking)] {
            for part in &end.parts {
                let Part::States { cut, .. } = part else {
                    panic!("only states")
                };
                assert_eq!(*cut, from.vector);
            }
            assert!(
                end.keys()
                    .iter()
                    .all(|key| divergent.contains(key) && from.has(key))
            );
        }
        assert_eq!(
            (repair.asker.keys().len(), repair.answerer.keys().len()),
            (20, 21)
        );
    }
}

#[test]
fn a_trimmed_log_leaves_it_open() {
    for trimmed in [0, 1] {
        let mut draw = Draw(5);
        let (asking, keys) = Replica::with_records(&mut draw, 1_000);
        let mut pair = [asking.clone(), asking];
        pair[0].write(writer(1), &keys[0], 20);
        pair[0].change(&keys[1], 20);
        pair[trimmed].trimmed = true;
        let repair = talk(
            Purpose::Repair,
            draw.nonce(),
            [&pair[0], &pair[1]],
            Distance::Near,
        )
        .unwrap();
        let verdict = repair.asker.verdict();
        assert!(!verdict.conclusive && verdict.divergent.is_empty() && verdict.lagging == 0);
        assert!(repair.asker.parts.is_empty() && repair.answerer.parts.is_empty());

        // At equal vectors there is nothing to strike out, and no log is needed.
        let [first, second] = &mut pair;
        second.write(writer(1), &keys[0], 20);
        let repair = talk(Purpose::Repair, draw.nonce(), [&*first, &*second], Distance::Near).unwrap();
        assert_eq!(repair.asker.verdict().divergent, BTreeSet::from([keys[1]]));
    }
}

#[test]
fn sums_that_are_not_of_the_elements_are_an_error() {
    let mut draw = Draw(6);
    let (asking, _) = Replica::with_records(&mut draw, 1_000);
    let mut answering = asking.clone();
    answering.spoil_sum();
    let failed = talk(
        Purpose::Repair,
        draw.nonce(),
        [&asking, &answering],
        Distance::Near,
    );
    assert_eq!(failed.unwrap_err(), ReconcileError::Sums);
}

#[test]
fn catching_up_brings_states_cells_and_at_last_the_vector() {
    for distance in BOTH {
        let mut draw = Draw(7);
        let (mut asking, keys) = Replica::with_records(&mut draw, 5_000);
        let mut answering = asking.clone();
        asking.write(writer(1), &keys[0], 20);
        for key in &keys[..2_000] {
            answering.write(writer(2), key, 21);
        }
        for _ in 0..500 {
            answering.write(writer(2), &draw.key(), 22);
        }
        for number in 0..2_000_u32 {
            let mut cell = vec![7; 200];
            cell[..4].copy_from_slice(&number.to_be_bytes());
            answering.cells.insert(cell);
        }
        asking.trimmed = true;
        answering.trimmed = true;
        let up = talk(Purpose::CatchUp, draw.nonce(), [&asking, &answering], distance).unwrap();
        assert_eq!(up.asker.verdict().lagging, 2_500);
        assert!(up.asker.verdict().conclusive && up.asker.verdict().divergent.is_empty());
        assert!(up.answerer.parts.is_empty());
        assert!(matches!(up.asker.parts.last(), Some(Part::Complete { .. })));
        let completes = up
            .asker
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Complete { .. }));
        assert_eq!(completes.count(), 1);
        for part in &up.asker.parts {
            asking.take(part);
        }
        assert!(asking.vector.covers_vector(&answering.vector));
        assert_eq!(asking.cells, answering.cells);
        assert_eq!(asking.differing(&answering), BTreeSet::from([keys[0]]));
    }
}

#[test]
fn catching_up_from_one_with_the_same_records_still_brings_cells_and_vector() {
    let mut draw = Draw(8);
    let (mut asking, keys) = Replica::with_records(&mut draw, 100);
    let mut answering = asking.clone();
    answering.write(writer(2), &keys[0], 1);
    answering.cells.insert(vec![1, 2, 3]);
    let up = talk(
        Purpose::CatchUp,
        draw.nonce(),
        [&asking, &answering],
        Distance::Far,
    )
    .unwrap();
    for part in &up.asker.parts {
        asking.take(part);
    }
    assert_eq!(
        (&asking.vector, &asking.cells),
        (&answering.vector, &answering.cells)
    );
}

/// Who catches up takes itself to have all that the other's vector covers: nobody would tell it of the lost record.
#[test]
fn one_that_has_lost_digests_lets_nobody_catch_up_and_lets_everybody_look() {
    let mut draw = Draw(10);
    let (asking, keys) = Replica::with_records(&mut draw, 1_000);
    for lost in &keys[..3] {
        let mut answering = asking.clone();
        answering.write(writer(2), lost, 2);
        answering.lose(lost);
        let talk = |purpose| talk(purpose, [5; 16], [&asking, &answering], Distance::Near);
        assert!(matches!(talk(Purpose::CatchUp), Err(ReconcileError::Cut(_))));
        assert!(talk(Purpose::Look).is_ok());
    }
}

#[test]
fn large_states_go_over_several_frames() {
    let mut draw = Draw(9);
    let (mut asking, keys) = Replica::with_records(&mut draw, 100);
    let mut answering = asking.clone();
    asking.merge(&keys[0], 0..1_000_000);
    asking.merge(&keys[1], 0..20_000);
    asking.merge(&keys[2], 0..10);
    answering.merge(&keys[0], 500_000..1_100_000);
    let repair = talk(
        Purpose::Repair,
        draw.nonce(),
        [&asking, &answering],
        Distance::Far,
    )
    .unwrap();
    for part in &repair.asker.parts {
        asking.take(part);
    }
    for part in &repair.answerer.parts {
        answering.take(part);
    }
    assert!(asking.differing(&answering).is_empty());
}

#[test]
fn more_than_memory_holds_goes_slice_by_slice() {
    let mut draw = Draw(10);
    let (answering, keys) = Replica::with_records(&mut draw, SLICE_ELEMENTS_MAX + SLICE_ELEMENTS_MAX / 8);
    let mut asking = answering.clone();
    // Every 100th: all partitions differ.
    for key in keys.iter().step_by(100) {
        asking.delete(key);
    }
    let found = talk(Purpose::Look, draw.nonce(), [&asking, &answering], Distance::Far).unwrap();
    assert_eq!(
        found.asker.verdict().divergent,
        keys.iter().step_by(100).copied().collect()
    );
    assert_eq!(found.asker.verdict().round_trips, 4);
}

#[test]
fn any_two_replicas_come_to_the_truth() {
    for seed in seeds(300) {
        println!("RECONCILE_SEED={seed} cargo test --release -p gossip --test reconcile any_two");
        let mut draw = Draw(seed);
        let records = [1, 10, 300, 3_000][draw.below(4) as usize];
        let (mut asking, keys) = Replica::with_records(&mut draw, records);
        let mut answering = asking.clone();
        let mut touched = BTreeSet::new();
        let share = [0, 1, 30][draw.below(3) as usize];
        let (lag, harm) = (draw.below(share + 1), draw.below(share + 1));
        for key in &keys {
            if draw.below(100) < lag {
                let (replica, by) = if draw.below(2) == 0 {
                    (&mut asking, 1)
                } else {
                    (&mut answering, 2)
                };
                replica.write(writer(by), key, 100 + draw.below(2));
                touched.insert(*key);
            }
            if draw.below(100) < harm {
                match draw.below(3) {
                    0 => asking.change(key, 200),
                    1 => answering.change(key, 201),
                    _ => asking.delete(key),
                }
            }
        }
        let mut divergent = asking.differing(&answering);
        let lagging = divergent.intersection(&touched).count() as u64;
        divergent.retain(|key| !touched.contains(key));
        let distance = BOTH[draw.below(2) as usize];
        let repair = talk(Purpose::Repair, draw.nonce(), [&asking, &answering], distance).unwrap();
        assert_eq!(repair.asker.verdict().divergent, divergent);
        assert_eq!(repair.asker.verdict().lagging, lagging);
        for part in &repair.asker.parts {
            asking.take(part);
        }
        for part in &repair.answerer.parts {
            answering.take(part);
        }
        let up = talk(Purpose::CatchUp, draw.nonce(), [&asking, &answering], distance).unwrap();
        for part in &up.asker.parts {
            asking.take(part);
        }
        let up = talk(Purpose::CatchUp, draw.nonce(), [&answering, &asking], distance).unwrap();
        for part in &up.asker.parts {
            answering.take(part);
        }
        assert!(asking.differing(&answering).is_empty());
        assert!(asking.vector == answering.vector);
    }
}
