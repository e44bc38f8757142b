//! Bytes: what is written is read again, what is junk is an error, and nothing panics.

use std::collections::{BTreeMap, BTreeSet};

use gossip::{
    Ack, Dot, Envelope, FRAME_BYTES_MAX, Floor, FrameDecoder, Hello, MemberId, Message, Moved, Received,
    RefuseCode, ReplicaId, State, TRANSACTION_BYTES_MAX, Tip, Vector, WireError, Writer,
};
use proptest::prelude::*;

fn writer(replica: u8, epoch: u32, nonce: u8) -> Writer {
    Writer {
        replica: ReplicaId([replica; 8]),
        epoch,
        nonce: [nonce; 8],
    }
}

fn tip(number: u64) -> Tip {
    Tip {
        number,
        hash: number.to_be_bytes(),
    }
}

fn sample_vector() -> Vector {
    let mut vector: Vector = (1..6)
        .map(|epoch| (writer(1, epoch, 7), tip(u64::from(epoch) * 10)))
        .collect();
    vector.advance(writer(2, 1, 9), tip(3));
    vector.fold(ReplicaId([1; 8]), 3);
    vector
}

fn samples() -> Vec<Message> {
    let hello = Hello {
        cluster: [1; 16],
        member: MemberId([2; 8]),
        site: "oslo".to_owned(),
        start: writer(1, 5, 7),
        versions: (1, 2),
        features: BTreeSet::from(["snapshot".to_owned()]),
        fingerprints: BTreeMap::from([("index key".to_owned(), [3; 8])]),
        known_start: Some(writer(2, 1, 9)),
        known_start_runs: true,
        counter: 17,
        vector: sample_vector(),
        trimmed: Vector::new(),
        ready: true,
        holding: true,
        wall_ms: 1_700_000_000_000,
    };
    let moved = Moved::from(&sample_vector());
    let state = State {
        counter: 18,
        moved: moved.clone(),
        hash: Some([4; 16]),
        trimmed: Moved::default(),
        ready: false,
        holding: true,
        wall_ms: 5,
    };
    let ack = Ack {
        member: MemberId([3; 8]),
        start: writer(3, 1, 1),
        counter: 9,
        base: 8,
        vector: moved,
    };
    vec![
        Message::Hello(Box::new(hello)),
        Message::Refuse {
            code: RefuseCode::CLUSTER,
            words: "no".to_owned(),
        },
        Message::State(state),
        Message::State(State::default()),
        Message::Acks(vec![ack.clone(), ack]),
        Message::Restate,
        Message::Ask,
        Message::Unsupported {
            name: "symbols".to_owned(),
        },
    ]
}

#[test]
fn messages_come_back_as_they_were_however_the_stream_is_cut() {
    let frames: Vec<u8> = samples().iter().flat_map(Message::to_frame).collect();
    for piece in [1, 3, 1000, frames.len()] {
        let mut decoder = FrameDecoder::new();
        let mut messages = Vec::new();
        for bytes in frames.chunks(piece) {
            decoder.push(bytes);
            while let Some(message) = decoder.next_message().unwrap() {
                messages.push(message);
            }
        }
        assert_eq!(messages, samples());
    }
}

#[test]
fn statements_are_small() {
    let beat = Message::State(State {
        counter: 1_000_000,
        hash: Some([4; 16]),
        wall_ms: u64::MAX,
        ..State::default()
    });
    assert!(beat.to_frame().len() <= 64, "{}", beat.to_frame().len());
    let moved = Moved {
        entries: vec![(writer(1, 2, 3), tip(100_000))],
        floors: Vec::new(),
    };
    let state = Message::State(State {
        counter: 1_000_000,
        moved,
        wall_ms: u64::MAX,
        ..State::default()
    });
    assert!(state.to_frame().len() <= 90, "{}", state.to_frame().len());
}

#[test]
fn what_a_later_version_says_is_tolerated() {
    // {"t": "symbols", "b": {"x": 1}}
    let unknown = b"\xa2atgsymbolsab\xa1ax\x01";
    assert_eq!(
        Message::decode(unknown),
        Ok(Message::Unknown {
            name: "symbols".to_owned()
        })
    );
    // {"t": "state", "b": {"c": 1, "r": true, "w": 2, "new": [1, 2]}, "z": null}
    let extended = b"\xa3atestateab\xa4ac\x01ar\xf5aw\x02cnew\x82\x01\x02az\xf6";
    let Ok(Message::State(state)) = Message::decode(extended) else {
        panic!("not taken")
    };
    assert_eq!((state.counter, state.ready, state.wall_ms), (1, true, 2));
}

#[test]
fn junk_is_an_error() {
    assert!(matches!(Message::decode(b""), Err(WireError::Malformed(_))));
    assert!(
        matches!(Message::decode(&[0x9f; 4000]), Err(WireError::Malformed(_))),
        "too deep"
    );
    assert!(matches!(
        Message::decode(&vec![0; FRAME_BYTES_MAX + 1]),
        Err(WireError::TooLong { .. })
    ));
    let mut decoder = FrameDecoder::new();
    decoder.push(&u32::MAX.to_le_bytes());
    assert!(matches!(decoder.next_message(), Err(WireError::TooLong { .. })));
    let mut trailing = Message::Restate.encode();
    trailing.push(0);
    assert!(Message::decode(&trailing).is_err());
}

#[test]
fn envelopes_state_what_they_must() {
    let envelope = |number, predecessor| Envelope {
        dot: Dot {
            writer: writer(1, 2, 3),
            number,
        },
        predecessor,
        follows: vec![(writer(2, 1, 1), tip(4))],
        body: vec![5; 100],
    };
    let cases = [
        (1, [0; 8], true),
        (2, [1; 8], true),
        (0, [0; 8], false),
        (1, [1; 8], false),
        (2, [0; 8], false),
    ];
    for (number, predecessor, good) in cases {
        let bytes = envelope(number, predecessor).encode();
        assert_eq!(Envelope::decode(&bytes).is_ok(), good, "{number} {predecessor:?}");
    }
    let bytes = envelope(1, [0; 8]).encode();
    println!("{} bytes beside a body of 100", bytes.len() - 100);
    assert_eq!(Envelope::decode(&bytes), Ok(envelope(1, [0; 8])));
    let mut newer = bytes.clone();
    assert_eq!(newer[3], 1, "the format");
    newer[3] = 2;
    assert_eq!(Envelope::decode(&newer), Err(WireError::Format(2)));
    let own = Envelope {
        follows: vec![(writer(2, 1, 1), tip(4)), (writer(1, 2, 3), tip(1))],
        ..envelope(2, [1; 8])
    };
    assert_eq!(
        Envelope::decode(&own.encode()),
        Err(WireError::Malformed(
            "a transaction follows its own writer".to_owned()
        ))
    );
    let long = Envelope {
        body: vec![0; TRANSACTION_BYTES_MAX],
        ..envelope(1, [0; 8])
    };
    assert!(matches!(
        Envelope::decode(&long.encode()),
        Err(WireError::TooLong { .. })
    ));
}

#[test]
fn ids_have_one_text_and_sort_as_their_bytes() {
    let start = writer(0xab, 258, 1);
    assert_eq!(start.to_string(), "abababababababab000001020101010101010101");
    assert_eq!(start.to_string().parse(), Ok(start));
    assert!("AB".repeat(8).parse::<ReplicaId>().is_err());
    assert!("ab".repeat(7).parse::<MemberId>().is_err());
    assert!(writer(1, 255, 9) < writer(1, 256, 0));
}

#[test]
fn folding_in_one_step_or_several_is_the_same_and_can_be_checked_by_who_did_not() {
    let unfolded: Vector = (1..6)
        .map(|epoch| (writer(1, epoch, 7), tip(u64::from(epoch))))
        .collect();
    let replica = ReplicaId([1; 8]);
    let mut once = unfolded.clone();
    once.fold(replica, 3);
    let mut steps = unfolded.clone();
    for epoch in 1..4 {
        steps.fold(replica, epoch);
    }
    assert_eq!(once, steps);
    assert_eq!(once.total(), unfolded.total());
    assert!(unfolded.covers_vector(&once) && once.covers_vector(&unfolded));
    let mut behind = unfolded.clone();
    behind.set(writer(1, 2, 7), tip(1));
    assert!(!behind.covers_vector(&once), "it lacks some of what is folded");
    assert!(!Vector::new().covers_vector(&once));
    assert!(once.covers(&Dot {
        writer: writer(1, 2, 7),
        number: 99
    }));
    let floor = once.floor(&replica).unwrap();
    assert_eq!((floor.epoch, floor.transactions), (3, 6));
    assert_ne!(
        floor,
        Floor {
            digest: [0; 8],
            ..floor
        }
    );
}

#[test]
fn of_two_floors_of_one_epoch_everybody_keeps_the_same() {
    let replica = ReplicaId([1; 8]);
    let floor = |number: u64| {
        let mut vector: Vector = [(writer(1, 1, 7), tip(number))].into_iter().collect();
        vector.fold(replica, 1);
        vector
    };
    let (less, more) = (floor(7), floor(8));
    assert!(!less.covers_vector(&more) && !more.covers_vector(&less));
    for (mut vector, other) in [(less.clone(), &more), (more.clone(), &less)] {
        vector.merge_max(other);
        assert_eq!(vector, more);
        assert_eq!(vector.hash(), more.hash());
    }
}

#[test]
fn vectors_move_up_by_advance_and_anywhere_by_set() {
    let a = writer(1, 1, 1);
    let mut vector = Vector::new();
    assert!(vector.advance(a, tip(3)) && !vector.advance(a, tip(3)) && !vector.advance(a, tip(2)));
    assert_eq!(vector.get(&a), Some(tip(3)));
    vector.set(a, tip(1));
    assert_eq!(vector.get(&a), Some(tip(1)));
    let older = vector.clone();
    vector.advance(a, tip(5));
    assert_eq!(vector.moved_since(&older), [(a, tip(5))]);
    assert_eq!((vector.missing_from(&older), older.missing_from(&vector)), (4, 0));
    assert_ne!(vector.hash(), older.hash());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(&bytes);
        let _ = Received::decode(bytes.as_slice().into());
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_message() {}
    }

    #[test]
    fn no_mutated_message_panics(which in 0usize..7, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = samples()[which].encode();
        let index = at.index(bytes.len());
        bytes[index] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn merging_covers_both_and_its_hash_is_of_the_content(
        a in prop::collection::vec((0u8..4, 0u32..4, 1u64..9), 0..12),
        b in prop::collection::vec((0u8..4, 0u32..4, 1u64..9), 0..12),
    ) {
        let vector = |entries: &[(u8, u32, u64)]| {
            let mut vector = Vector::new();
            for (replica, epoch, number) in entries {
                vector.advance(writer(*replica, *epoch, 0), tip(*number));
            }
            vector
        };
        let (a, b) = (vector(&a), vector(&b));
        let mut ab = a.clone();
        ab.merge_max(&b);
        let mut ba = b.clone();
        ba.merge_max(&a);
        prop_assert!(ab.covers_vector(&a) && ab.covers_vector(&b));
        prop_assert_eq!(ab.hash(), ba.hash());
        prop_assert_eq!(ab.total(), a.total() + b.missing_from(&a));
        let mut delta = a.clone();
        let moved = Moved { entries: ab.moved_since(&a), floors: Vec::new() };
        moved.apply(&mut delta).unwrap();
        prop_assert_eq!(delta, ab);
    }
}
