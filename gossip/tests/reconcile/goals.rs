//! The sizes that are promised, with a million records.

use gossip::reconcile::{Key, Purpose};

use crate::model::{Distance, Draw, Replica, talk};

#[test]
fn a_million_records_are_compared_within_the_promised_bytes_and_three_round_trips() {
    let mut draw = Draw(11);
    let (asking, keys) = Replica::with_records(&mut draw, 1_000_000);
    let mut answering = asking.clone();
    let mut done = 0;
    for (changed, bytes_max) in [
        (0, 220),
        (1, 1_200),
        (10, 6_000),
        (1_000, 160_000),
        (100_000, 14_000_000),
    ] {
        // Spread over the keys in an order that has nothing to do with theirs.
        for key in &keys[done..changed] {
            answering.change(key, 2);
        }
        done = changed;
        let look = talk(Purpose::Look, draw.nonce(), [&asking, &answering], Distance::Far).unwrap();
        let verdict = look.asker.verdict();
        println!(
            "{changed} changed: {} bytes, {} round trips",
            look.bytes, look.turns
        );
        assert_eq!(verdict.divergent, keys[..changed].iter().copied().collect());
        assert!(look.bytes < bytes_max, "{changed} changed: {} bytes", look.bytes);
        assert!(look.turns <= 3 && verdict.round_trips <= 3);
    }
}

/// 200 times one changed record, and what is usual is also what is promised.
#[test]
fn one_changed_record_is_found_within_the_promised_bytes_nearly_always() {
    let mut draw = Draw(12);
    // As many in a partition as with a million records.
    let (asking, keys) = Replica::with_records(&mut draw, 50_000);
    let mut within = 0;
    for key in keys.iter().take(200) {
        let mut answering = asking.clone();
        answering.change(key, 2);
        let look = talk(Purpose::Look, draw.nonce(), [&asking, &answering], Distance::Far).unwrap();
        assert_eq!(
            look.asker.verdict().divergent.iter().collect::<Vec<&Key>>(),
            [key]
        );
        if look.bytes < 1_200 && look.turns == 3 {
            within += 1;
        }
    }
    assert!(within >= 196, "{within} of 200");
}
