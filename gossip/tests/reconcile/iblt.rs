//! The coded symbols have the properties that their paper states.

use std::collections::BTreeSet;

use gossip::reconcile::Salt;
use gossip::reconcile::iblt::{Coder, Decoder, Item, SYMBOL_BYTES_MAX, Symbol};

use crate::model::Draw;
use crate::seeds;

fn item(draw: &mut Draw) -> Item {
    Item::new(&draw.key(), &draw.key())
}

fn coder<'a>(items: impl IntoIterator<Item = &'a Item>, salt: &Salt) -> Coder {
    let mut coder = Coder::new();
    items.into_iter().for_each(|item| coder.insert(*item, salt));
    coder
}

/// Takes `step` symbols at a time until all is found; gives how many that took.
#[track_caller]
fn reconcile(theirs: &[Item], ours: &[Item], shared: &[Item], salt: &Salt, step: usize) -> usize {
    let mut far = coder(theirs.iter().chain(shared), salt);
    let mut decoder = Decoder::new(salt.clone(), coder(ours.iter().chain(shared), salt));
    while !decoder.take(far.symbols(step)).unwrap() {}
    assert_eq!(
        decoder.theirs().collect::<BTreeSet<_>>(),
        theirs.iter().collect::<BTreeSet<_>>()
    );
    assert_eq!(
        decoder.ours().collect::<BTreeSet<_>>(),
        ours.iter().collect::<BTreeSet<_>>()
    );
    assert_eq!(
        decoder.theirs().count() + decoder.ours().count(),
        theirs.len() + ours.len()
    );
    decoder.taken()
}

#[test]
fn from_none_to_a_hundred_thousand_differences_are_found_and_nothing_else() {
    let mut draw = Draw(1);
    let shared: Vec<Item> = (0..1_000).map(|_| item(&mut draw)).collect();
    for (theirs, ours) in [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (2, 0),
        (7, 5),
        (1_000, 0),
        (0, 1_000),
        (300, 900),
    ] {
        for _ in 0..20 {
            let salt = Salt::new(&draw.nonce());
            let theirs: Vec<Item> = (0..theirs).map(|_| item(&mut draw)).collect();
            let ours: Vec<Item> = (0..ours).map(|_| item(&mut draw)).collect();
            let taken = reconcile(&theirs, &ours, &shared, &salt, 1);
            assert_eq!(taken == 1, theirs.len() + ours.len() <= 1);
        }
    }
    let salt = Salt::new(&draw.nonce());
    let theirs: Vec<Item> = (0..60_000).map(|_| item(&mut draw)).collect();
    let ours: Vec<Item> = (0..40_000).map(|_| item(&mut draw)).collect();
    let taken = reconcile(&theirs, &ours, &shared, &salt, 100);
    assert!(taken < 140_000, "{taken}");
}

/// Figure 5 of the paper: 1.72 at the most, at 4 to 6 differences, falling to 1.35.
#[test]
fn it_takes_as_many_symbols_for_a_difference_as_the_paper_says() {
    let mut draw = Draw(2);
    for (differences, runs, least, most) in [
        (1, 10, 1.0, 1.0),
        (2, 4_000, 1.5, 1.7),
        (5, 4_000, 1.68, 1.82),
        (10, 2_000, 1.65, 1.78),
        (50, 500, 1.45, 1.58),
        (200, 200, 1.38, 1.45),
        (1_000, 40, 1.35, 1.41),
        (20_000, 3, 1.34, 1.38),
    ] {
        let mut taken = 0;
        for _ in 0..runs {
            let salt = Salt::new(&draw.nonce());
            let all: Vec<Item> = (0..differences).map(|_| item(&mut draw)).collect();
            let (theirs, ours) = all.split_at(differences / 2);
            taken += reconcile(theirs, ours, &[], &salt, (differences / 500).max(1));
        }
        let each = taken as f64 / f64::from(runs) / differences as f64;
        println!("{differences} differences: {each:.3} symbols each");
        assert!((least..=most).contains(&each), "{differences}: {each}");
    }
}

#[test]
fn symbol_i_holds_an_item_with_probability_one_in_one_plus_half_i() {
    let mut draw = Draw(3);
    let salt = Salt::new(&draw.nonce());
    let items: Vec<Item> = (0..40_000).map(|_| item(&mut draw)).collect();
    let symbols = coder(&items, &salt).symbols(2_000);
    for (index, symbol) in symbols.iter().enumerate() {
        let share = 1.0 / (1.0 + index as f64 / 2.0);
        let expected = share * 40_000.0;
        let deviation = (expected * (1.0 - share)).sqrt();
        let off = (f64::from(symbol.count()) - expected).abs();
        assert!(
            off <= 5.0 * deviation,
            "symbol {index}: {} items, {expected} expected",
            symbol.count()
        );
    }
}

#[test]
fn a_shorter_sequence_is_the_beginning_of_a_longer_one() {
    let mut draw = Draw(4);
    let salt = Salt::new(&draw.nonce());
    let items: Vec<Item> = (0..500).map(|_| item(&mut draw)).collect();
    let at_once = coder(&items, &salt).symbols(5_000);
    let mut coder = coder(&items, &salt);
    let mut piecewise = Vec::new();
    while piecewise.len() < 5_000 {
        piecewise.extend(coder.symbols(1 + draw.below(100) as usize));
    }
    assert_eq!(at_once, piecewise[..5_000]);
}

#[test]
fn the_order_of_items_and_of_batches_does_not_matter_and_other_salts_give_other_symbols() {
    for seed in seeds(50) {
        println!("RECONCILE_SEED={seed} cargo test --release -p gossip --test reconcile the_order_of_items");
        let mut draw = Draw(seed);
        let salt = Salt::new(&draw.nonce());
        let all: Vec<Item> = (0..1 + draw.below(200)).map(|_| item(&mut draw)).collect();
        let backwards: Vec<Item> = all.iter().rev().copied().collect();
        let symbols = coder(&all, &salt).symbols(100);
        assert_eq!(symbols, coder(&backwards, &salt).symbols(100));
        assert_ne!(symbols, coder(&all, &Salt::new(&draw.nonce())).symbols(100));
        let (theirs, ours) = all.split_at(all.len() / 3);
        let taken = reconcile(theirs, ours, &[], &salt, 1);
        let step = 1 + draw.below(300) as usize;
        assert!(reconcile(theirs, ours, &[], &salt, step) < taken + step);
    }
}

#[test]
fn symbols_come_back_from_their_bytes() {
    let mut draw = Draw(5);
    let salt = Salt::new(&draw.nonce());
    let items: Vec<Item> = (0..70_000).map(|_| item(&mut draw)).collect();
    let symbols = coder(&items, &salt).symbols(1_000);
    let mut bytes = Vec::new();
    symbols.iter().for_each(|symbol| symbol.encode_onto(&mut bytes));
    assert!(bytes.len() <= 1_000 * SYMBOL_BYTES_MAX);
    let mut rest = bytes.as_slice();
    for symbol in &symbols {
        assert_eq!(Symbol::decode_from(&mut rest), Some(*symbol));
    }
    assert!(rest.is_empty());
    for length in 0..33 {
        assert_eq!(Symbol::decode_from(&mut &bytes[..length]), None);
    }
    let endless = [0xff; SYMBOL_BYTES_MAX + 9];
    assert_eq!(Symbol::decode_from(&mut endless.as_slice()), None);
}

/// One item in one symbol, and in none of the others that it belongs to: taking it off there makes it appear
/// elsewhere, and so on for ever.
#[test]
fn symbols_of_no_set_are_an_error_and_no_endless_loop() {
    let mut draw = Draw(6);
    let salt = Salt::new(&draw.nonce());
    let whole = coder(&[item(&mut draw)], &salt).symbols(64);
    let mut decoder = Decoder::new(salt, Coder::new());
    let mut forged = vec![Symbol::default(); 64];
    forged[0] = whole[0];
    assert!(decoder.take(forged).is_err());
}
