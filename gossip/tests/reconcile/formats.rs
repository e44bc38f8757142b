//! The bytes of a conversation stay what they are: a later version reads them, and says them to an earlier one.

use std::fmt::Write as _;

use gossip::reconcile::Purpose;

use crate::model::{Distance, Draw, Replica, Talk, talk, writer};

/// One conversation of each purpose between replicas of 40 records.
fn conversations() -> Vec<(Purpose, Talk)> {
    let mut draw = Draw(1);
    let (mut asking, keys) = Replica::with_records(&mut draw, 40);
    let mut answering = asking.clone();
    asking.write(writer(1), &keys[0], 5);
    answering.write(writer(2), &keys[1], 6);
    answering.change(&keys[2], 7);
    asking.change(&keys[3], 8);
    answering.cells.insert(b"a cell".to_vec());
    [Purpose::Look, Purpose::Repair, Purpose::CatchUp]
        .into_iter()
        .map(|purpose| {
            let nonce = [purpose as u8; 16];
            (
                purpose,
                talk(purpose, nonce, [&asking, &answering], Distance::Near).unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_conversation_is_said_in_these_bytes() {
    let mut said = String::new();
    for (purpose, talk) in conversations() {
        writeln!(said, "{purpose:?}").unwrap();
        for (by_asker, frame) in &talk.frames {
            let hex = frame.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            writeln!(said, "{} {hex}", if *by_asker { "asker" } else { "answerer" }).unwrap();
        }
    }
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        std::fs::write("tests/fixtures/reconciliation-1.txt", &said).unwrap();
    }
    assert!(
        said == include_str!("../fixtures/reconciliation-1.txt"),
        "the format changed: give it a number, and keep reading this one"
    );
}

#[test]
fn what_a_later_version_adds_is_skipped() {
    let mut draw = Draw(2);
    let (asking, _) = Replica::with_records(&mut draw, 40);
    let mut asker = gossip::reconcile::Asker::new(Purpose::Look, [1; 16]);
    asker.begin(&asking).unwrap();
    // {"equal": {"since": 5}}
    let actions = asker.handle(&asking, b"\xa1eequal\xa1esince\x05").unwrap();
    assert!(matches!(actions[..], [gossip::reconcile::Action::Done(_)]));
}
