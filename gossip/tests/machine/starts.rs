//! Starts of one member that others know: what is told of them, and what follows from one of ours that we did not make.

use super::driven::*;

/// So long the machine gathers what peers tell of later starts of its member.
const NEWS_MS: u64 = 1000;

#[test]
fn a_start_that_this_directory_did_not_make_is_answered_by_a_later_one() {
    // (told start, ready before) -> live
    let cases = [
        (writer(1, 4), false, None),
        (writer(1, 5), false, None),
        (writer(8, 3), false, None),
        (writer(1, 9), false, Some(false)),
        (writer(8, 5), false, Some(false)),
        (writer(0, 5), false, None),
        (writer(8, 9), true, Some(false)),
        (writer(1, 9), true, Some(true)),
    ];
    for (known, ready, expected) in cases {
        let mut machine = Machine::new(Vector::new());
        if ready {
            machine.meet(3, Vector::new());
            machine.wait(1500);
            assert!(machine.gossip.is_ready());
        }
        machine.connect(2, 2);
        let hello = Hello {
            known_start: Some(known),
            ..hello(2, Vector::new())
        };
        let mut outputs = machine.say(2, Message::Hello(Box::new(hello)));
        outputs.extend(machine.wait(NEWS_MS));
        let seen = events(&outputs).into_iter().find_map(|event| match event {
            Event::LaterStart {
                known: told, live, ..
            } => Some((told, live)),
            _ => None,
        });
        assert_eq!(seen, expected.map(|live| (known, live)), "{known} {ready}");
        if expected == Some(false) && !ready {
            machine.wait(1500);
            assert!(!machine.gossip.is_ready(), "not before its writer is restarted");
            let start = writer(1, 10);
            let outputs = machine.give(Input::Restarted {
                start,
                own_starts: vec![start],
                vector: Vector::new(),
            });
            assert!(machine.gossip.is_ready());
            let told = outputs.iter().any(|output| {
                matches!(output, Output::Send { message: Message::Hello(hello), .. } if hello.start == start)
            });
            assert!(told);
        }
    }
}

/// A backup was put back, and a peer knows of several starts since: no clone is meant by any of them.
#[test]
fn several_later_starts_told_in_one_breath_are_one_piece_of_news() {
    let mut machine = Machine::new(Vector::new());
    let (mut earlier, mut later) = (Author::new(writer(1, 7)), Author::new(writer(1, 8)));
    earlier.write(b"before", &[]);
    later.write(b"the disk was rolled back", &[]);
    let known = [(earlier.writer, earlier.tip), (later.writer, later.tip)];
    let outputs = machine.meet(2, known.into_iter().collect());
    assert_eq!(later_starts(&outputs), []);
    assert_eq!(later_starts(&machine.wait(NEWS_MS)), [(8, false)]);
}

/// The same, told only when it is ready already: it was level with one that had been away for as long.
#[test]
fn several_starts_of_our_replica_told_in_one_breath_are_one_alarm() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(3, Vector::new());
    machine.wait(1500);
    assert!(machine.gossip.is_ready());
    let mut written = [7, 8, 9].map(|epoch| Author::new(writer(1, epoch)));
    for author in &mut written {
        author.write(b"after the backup", &[]);
    }
    let vector = all(&written.iter().collect::<Vec<_>>());
    machine.connect(2, 2);
    let says = Hello {
        known_start: Some(writer(1, 9)),
        ..hello(2, vector.clone())
    };
    let mut outputs = machine.say(2, Message::Hello(Box::new(says)));
    outputs.extend(machine.meet(4, vector));
    assert_eq!(later_starts(&outputs), [(9, true)]);
    // Under the new id it is one of two again where somebody else writes with that.
    let start = writer(5, 10);
    machine.give(Input::Restarted {
        start,
        own_starts: vec![start],
        vector: Vector::new(),
    });
    let says = Hello {
        known_start: Some(writer(5, 11)),
        ..hello(3, Vector::new())
    };
    let outputs = machine.say(3, Message::Hello(Box::new(says)));
    assert_eq!(later_starts(&outputs), [(11, true)]);
}

/// A directory was emptied, and peers that were cut off at times know different ones of its former starts. One start after
/// another is no race yet; but two processes that run as one member outdo each other for ever.
#[test]
fn former_starts_told_one_after_another_are_followed_a_few_times() {
    let mut machine = Machine::new(Vector::new());
    let mut told = Vec::new();
    for (peer, epoch) in [(2_u8, 14), (3, 22), (4, 30), (2, 38)] {
        machine.connect(peer.into(), peer);
        let hello = Hello {
            known_start: Some(writer(8, epoch)),
            ..hello(peer, Vector::new())
        };
        told.extend(later_starts(
            &machine.say(peer.into(), Message::Hello(Box::new(hello))),
        ));
        told.extend(later_starts(&machine.wait(NEWS_MS)));
        begin_past(&mut machine, epoch, peer.into());
    }
    assert_eq!(told, [(14, false), (22, false), (30, false), (38, true)]);
}

/// The first start that somebody runs may be our own former process, whose end a peer has not noticed. The second is another
/// process, whatever the ones between were.
#[test]
fn a_start_that_runs_is_followed_once() {
    // (told epoch, it runs) -> live
    let cases: [&[(u32, bool, bool)]; 3] = [
        &[(14, true, false), (22, true, true)],
        &[(14, true, false), (22, false, false), (30, true, true)],
        &[
            (14, false, false),
            (22, true, false),
            (30, false, false),
            (38, false, true),
        ],
    ];
    for case in cases {
        let mut machine = Machine::new(Vector::new());
        for (epoch, runs, expected) in case {
            machine.connect(2, 2);
            let hello = Hello {
                known_start: Some(writer(8, *epoch)),
                known_start_runs: *runs,
                ..hello(2, Vector::new())
            };
            let mut outputs = machine.say(2, Message::Hello(Box::new(hello)));
            outputs.extend(machine.wait(NEWS_MS));
            assert_eq!(later_starts(&outputs), [(*epoch, *expected)], "{case:?}");
            begin_past(&mut machine, *epoch, 2);
        }
    }
}

/// A copy of our directory was started at the same time, and whoever tells of it may not hear it.
#[test]
fn who_begins_past_a_start_of_its_own_epoch_follows_no_other_that_runs() {
    for (runs, expected) in [(true, true), (false, false)] {
        let mut machine = Machine::new(Vector::new());
        for (known, known_start_runs, live) in [(writer(1, 5), false, false), (writer(8, 7), runs, expected)]
        {
            let known = Writer {
                nonce: [0xcc; 8],
                ..known
            };
            machine.connect(2, 2);
            let hello = Hello {
                known_start: Some(known),
                known_start_runs,
                ..hello(2, Vector::new())
            };
            let mut outputs = machine.say(2, Message::Hello(Box::new(hello)));
            outputs.extend(machine.wait(NEWS_MS));
            assert_eq!(later_starts(&outputs), [(known.epoch, live)], "{runs}");
            begin_past(&mut machine, known.epoch, 2);
        }
    }
}

/// The copy goes past our start while we go past its former one.
#[test]
fn what_is_told_while_the_writer_restarts_counts_when_it_has() {
    // (the copy's next start, it runs) -> live
    for (next, runs, expected) in [
        (writer(8, 7), true, Some(true)),
        (writer(8, 7), false, Some(false)),
        // No later than what we have begun meanwhile.
        (writer(0, 6), true, None),
    ] {
        let mut machine = Machine::new(Vector::new());
        let tell = |machine: &mut Machine, known_start, known_start_runs| {
            machine.connect(2, 2);
            let hello = Hello {
                known_start: Some(known_start),
                known_start_runs,
                ..hello(2, Vector::new())
            };
            later_starts(&machine.say(2, Message::Hello(Box::new(hello))))
        };
        let copy = Writer {
            nonce: [0xcc; 8],
            ..writer(1, 5)
        };
        assert_eq!(tell(&mut machine, copy, false), []);
        assert_eq!(later_starts(&machine.wait(NEWS_MS)), [(5, false)]);
        assert_eq!(tell(&mut machine, next, runs), []);
        let mut told = later_starts(&machine.wait(NEWS_MS));
        assert_eq!(told, []);
        told = begin_past(&mut machine, 5, 2);
        told.extend(later_starts(&machine.wait(NEWS_MS)));
        let expected = expected.map(|live| (next.epoch, live));
        assert_eq!(told, expected.into_iter().collect::<Vec<_>>());
    }
}

/// The writer may be restarted for another reason before it is restarted past what was told.
#[test]
fn what_the_site_was_told_stands_until_a_start_answers_it() {
    let mut machine = Machine::new(Vector::new());
    let tell = |machine: &mut Machine| {
        machine.connect(2, 2);
        let hello = Hello {
            known_start: Some(writer(8, 9)),
            known_start_runs: true,
            ..hello(2, Vector::new())
        };
        machine.say(2, Message::Hello(Box::new(hello)));
        later_starts(&machine.wait(NEWS_MS))
    };
    assert_eq!(tell(&mut machine), [(9, false)]);
    assert_eq!(begin_past(&mut machine, 5, 2), []);
    assert_eq!(tell(&mut machine), [], "it is being answered");
    machine.wait(1500);
    assert!(!machine.gossip.is_ready());
    begin_past(&mut machine, 9, 2);
    machine.meet(3, Vector::new());
    machine.wait(1500);
    assert!(machine.gossip.is_ready());
}

/// Two copies of a directory: one that is ready hears of the other, which has gone on before it has a new id.
#[test]
fn one_that_takes_a_new_id_looks_at_the_next_start_when_it_has_it() {
    // (the copy's next start) -> whether it stands aside, in the start of replica 5 that it takes
    for (next, aside) in [(writer(8, 6), true), (writer(3, 6), false)] {
        let mut machine = Machine::new(Vector::new());
        machine.meet(3, Vector::new());
        machine.wait(1500);
        assert!(machine.gossip.is_ready());
        machine.connect(2, 2);
        let copy = Writer {
            nonce: [0xcc; 8],
            ..writer(1, 5)
        };
        let mut told = Vec::new();
        for (known, runs) in [(copy, false), (next, true)] {
            let hello = Hello {
                known_start: Some(known),
                known_start_runs: runs,
                ..hello(2, Vector::new())
            };
            told.extend(later_starts(&machine.say(2, Message::Hello(Box::new(hello)))));
        }
        assert_eq!(told, [(5, true)]);
        let start = writer(5, 6);
        let outputs = machine.give(Input::Restarted {
            start,
            own_starts: vec![start],
            vector: Vector::new(),
        });
        let told = later_starts(&outputs);
        assert_eq!(told, if aside { vec![(6, true)] } else { vec![] });
    }
}

/// A backup was put back, and since it was made its replica had one more start, and the member one under another id.
#[test]
fn that_one_of_several_starts_is_of_our_replica_is_not_forgotten() {
    let (own, other) = (writer(1, 6), writer(8, 7));
    for order in [[own, other], [other, own]] {
        let mut machine = Machine::new(Vector::new());
        for (peer, known) in [(2, order[0]), (3, order[1])] {
            machine.connect(peer.into(), peer);
            let hello = Hello {
                known_start: Some(known),
                ..hello(peer, Vector::new())
            };
            machine.say(peer.into(), Message::Hello(Box::new(hello)));
        }
        let told = events(&machine.wait(NEWS_MS));
        let expected = Event::LaterStart {
            known: other,
            copied: true,
            live: false,
        };
        assert!(told.contains(&expected), "{told:?}");
    }
}

/// A start that it was told of before its present one is told again, if it is later than that too.
#[test]
fn a_member_hears_of_a_later_start_in_each_of_its_own() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(3, Vector::new());
    machine.connect(2, 2);
    let relayed = Ack {
        member: member(2),
        start: writer(9, 7),
        counter: 1,
        base: 0,
        vector: Moved::default(),
    };
    machine.say(3, Message::Acks(vec![relayed]));
    for epoch in [6, 7] {
        let start = writer(2, epoch);
        let hello = Hello {
            start,
            ..hello(2, Vector::new())
        };
        let told = machine.say(2, Message::Hello(Box::new(hello)));
        let told = told.iter().any(|output| {
            matches!(output, Output::Send { connection: ConnectionId(2), message: Message::Hello(hello) }
                if hello.known_start == Some(writer(9, 7)))
        });
        assert!(told, "{epoch}");
    }
}

/// One former process may be known by two of its starts, and be taken to run by who did not notice its end.
#[test]
fn what_several_peers_know_is_answered_by_one_start() {
    for ran in [[false, false], [true, false], [false, true], [true, true]] {
        let mut machine = Machine::new(Vector::new());
        let says = |peer: u8, epoch, known_start_runs| Hello {
            known_start: Some(writer(8, epoch)),
            known_start_runs,
            ..hello(peer, Vector::new())
        };
        for (peer, epoch, runs) in [(2, 9, ran[0]), (3, 8, false), (4, 11, ran[1])] {
            machine.connect(peer.into(), peer);
            let told = machine.say(peer.into(), Message::Hello(Box::new(says(peer, epoch, runs))));
            assert_eq!(later_starts(&told), []);
            let wait = if peer == 4 { NEWS_MS - 201 } else { 100 };
            assert_eq!(later_starts(&machine.wait(wait)), []);
        }
        assert_eq!(later_starts(&machine.wait(1)), [(11, false)]);
        assert_eq!(begin_past(&mut machine, 11, 2), []);
        // Who else runs is another process, if one of these did.
        let told = machine.say(3, Message::Hello(Box::new(says(3, 13, true))));
        let at_once = ran != [false, false];
        assert_eq!(
            later_starts(&told),
            if at_once { vec![(13, true)] } else { vec![] }
        );
    }
}

/// Who told of a later start before it heard it tells once more when it does.
#[test]
fn that_a_start_runs_is_told_when_it_is_heard() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    let told = |outputs: &[Output]| -> Vec<_> {
        let hellos = outputs.iter().filter_map(|output| match output {
            Output::Send {
                connection: ConnectionId(2),
                message: Message::Hello(hello),
            } => Some((hello.known_start, hello.known_start_runs)),
            _ => None,
        });
        hellos.collect()
    };
    let later = writer(2, 9);
    let relayed = Ack {
        member: member(2),
        start: later,
        counter: 1,
        base: 0,
        vector: Moved::default(),
    };
    machine.meet(3, Vector::new());
    let outputs = machine.say(3, Message::Acks(vec![relayed]));
    assert_eq!(told(&outputs), [(Some(later), false)]);
    machine.connect(7, 2);
    let heard = Hello {
        start: later,
        ..hello(2, Vector::new())
    };
    let outputs = machine.say(7, Message::Hello(Box::new(heard)));
    assert_eq!(told(&outputs), [(Some(later), true)]);
}

/// One that was killed is not told to run for long, though its connection still stands.
#[test]
fn a_start_runs_while_it_is_heard() {
    for (silent_ms, expected) in [(0, true), (1400, true), (1600, false)] {
        let mut machine = Machine::new(Vector::new());
        machine.connect(7, 2);
        let former = Hello {
            start: writer(2, 9),
            ..hello(2, Vector::new())
        };
        machine.say(7, Message::Hello(Box::new(former)));
        machine.wait(silent_ms);
        let outputs = machine.connect(8, 2);
        let told: Vec<_> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Send {
                    connection: ConnectionId(8),
                    message: Message::Hello(hello),
                } => Some((hello.known_start, hello.known_start_runs)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(Some(writer(2, 9)), expected)], "{silent_ms}");
    }
}

#[test]
fn a_number_of_our_writer_that_we_never_gave_out_is_noticed() {
    let mut own = Author::new(writer(1, 5));
    let bytes = own.write(b"before the disk was rolled back", &[]);
    let mut machine = Machine::new(Vector::new());
    let dot = Dot {
        writer: own.writer,
        number: 1,
    };
    let ahead = Event::WriterAhead { dot, from: member(2) };
    assert!(events(&machine.meet(2, own.vector())).contains(&ahead));
    assert!(delivered(&machine.push(2, &bytes)).is_empty());
    // Under a later writer it is a transaction like any other.
    let start = writer(1, 6);
    let outputs = machine.give(Input::Restarted {
        start,
        own_starts: vec![own.writer, start],
        vector: Vector::new(),
    });
    assert_eq!(pulls(&outputs).len(), 1);
    assert_eq!(delivered(&machine.push(2, &bytes)), [dot]);
}

/// Of starts of ours that peers know: the epoch, and whether a process runs in it, by what they say.
fn later_starts(outputs: &[Output]) -> Vec<(u32, bool)> {
    let told = events(outputs).into_iter().filter_map(|event| match event {
        Event::LaterStart { known, live, .. } => Some((known.epoch, live)),
        _ => None,
    });
    told.collect()
}

/// The writer is restarted after an epoch, and whoever told of that goes.
fn begin_past(machine: &mut Machine, epoch: u32, connection: u64) -> Vec<(u32, bool)> {
    let start = writer(1, epoch + 1);
    let told = machine.give(Input::Restarted {
        start,
        own_starts: vec![start],
        vector: Vector::new(),
    });
    machine.give(Input::Disconnected {
        connection: ConnectionId(connection),
    });
    later_starts(&told)
}
