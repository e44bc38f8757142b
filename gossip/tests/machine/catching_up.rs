//! When no log brings what is lacked: copies, and catch-ups by states.

use super::driven::*;

#[test]
fn with_nothing_the_nearest_good_copy_is_taken_and_no_log() {
    let mut old = Author::new(writer(4, 1));
    old.write(b"trimmed", &[]);
    let long = Tip {
        number: 20_001,
        hash: [1; 8],
    };
    let trimmed = |from: u8| Hello {
        trimmed: old.vector(),
        ..hello(from, old.vector())
    };
    // What the nearest says -> is it copied?
    let cases = [
        (trimmed(2), true),
        (hello(2, [(writer(4, 1), long)].into_iter().collect()), true),
        (hello(2, old.vector()), false),
        (
            Hello {
                ready: false,
                ..trimmed(2)
            },
            false,
        ),
        (
            Hello {
                holding: true,
                ..trimmed(2)
            },
            false,
        ),
    ];
    for (near, expected) in cases {
        let mut machine = Machine::new(Vector::new());
        let mut outputs = machine.meet_as(3, 80, trimmed(3));
        outputs.extend(machine.meet_as(2, 10, near.clone()));
        assert!(talks(&outputs).is_empty(), "the nearest may be still to come");
        outputs.extend(machine.wait(1100));
        let from = if expected { 2 } else { 3 };
        assert_eq!(talks(&outputs), [(from, None)], "{near:?}");
        assert!(pulls(&outputs).is_empty());
    }
}

/// All disks but one were lost, and that one's replica was still joining when they were set up.
#[test]
fn with_nothing_a_copy_comes_from_one_that_joins_where_nobody_better_comes_for_long() {
    let mut old = Author::new(writer(4, 1));
    old.write(b"trimmed", &[]);
    let says = |from: u8, ready: bool| Hello {
        trimmed: old.vector(),
        ready,
        ..hello(from, old.vector())
    };
    // What the active one says -> is the one copied that joins?
    let cases = [
        (says(2, false), true),
        (hello(2, Vector::new()), true),
        (hello(2, old.vector()), false),
    ];
    for (active, expected) in cases {
        let mut machine = Machine::new(Vector::new());
        machine.see(&[(3, PeerState::Joining), (4, PeerState::Evicted)]);
        machine.meet_as(2, 80, active.clone());
        machine.meet_as(3, 10, says(3, true));
        machine.meet_as(4, 10, says(4, true));
        assert!(
            talks(&machine.wait(9900)).is_empty(),
            "a better one may still come"
        );
        let from: &[_] = if expected { &[(3, None)] } else { &[] };
        assert_eq!(talks(&machine.wait(1100)), from, "{active:?}");
    }
}

#[test]
fn a_copy_that_fails_is_taken_elsewhere_and_pulls_follow_one_that_is_installed() {
    let mut old = Author::new(writer(4, 1));
    old.write(b"trimmed", &[]);
    let trimmed = |from: u8| Hello {
        trimmed: old.vector(),
        ..hello(from, old.vector())
    };
    let mut machine = Machine::new(Vector::new());
    machine.meet_as(2, 10, trimmed(2));
    machine.meet_as(3, 80, trimmed(3));
    assert_eq!(talks(&machine.wait(1100)), [(2, None)]);
    let stated = states_to(&machine.wait(1000), 3);
    assert!(stated.iter().all(|state| state.holding && !state.ready));
    // A push that would be on the disk by then would be lost: it is not taken.
    let mut three = Author::new(writer(3, 1));
    assert!(delivered(&machine.push(3, &three.write(b"now", &[]))).is_empty());
    let ended = |from: u8, installed| Input::SnapshotEnded {
        member: member(from),
        installed,
    };
    assert!(
        talks(&machine.give(ended(3, false))).is_empty(),
        "not the one that runs"
    );
    let mut outputs = machine.give(ended(2, false));
    outputs.extend(machine.wait(1100));
    assert_eq!(talks(&outputs), [(3, None)]);
    machine.say(3, state(2, vec![(three.writer, three.tip)]));
    machine.give(Input::Restarted {
        start: Writer {
            replica: ReplicaId([77; 8]),
            ..writer(1, 6)
        },
        own_starts: vec![writer(1, 6)],
        vector: old.vector(),
    });
    machine.give(Input::Trimmed(old.vector()));
    let mut outputs = machine.give(ended(3, true));
    assert!(!machine.gossip.status().holding);
    outputs.extend(machine.wait(400));
    assert_eq!(pulls(&outputs).len(), 1, "the rest comes by the log");
    assert!(
        machine.gossip.is_ready(),
        "level with what they had at their hello"
    );
}

/// Both ends dialed, and the connection on which a copy has begun gives way to the other: that says nothing of the giver.
#[test]
fn a_copy_whose_connection_gave_way_to_another_goes_on_there() {
    let mut old = Author::new(writer(4, 1));
    old.write(b"trimmed", &[]);
    let says = || Hello {
        trimmed: old.vector(),
        ..hello(2, old.vector())
    };
    let ended = Input::SnapshotEnded {
        member: member(2),
        installed: false,
    };
    let gone = Input::Disconnected {
        connection: ConnectionId(2),
    };
    // Whichever is noticed first.
    for inputs in [[ended.clone(), gone.clone()], [gone, ended]] {
        let mut machine = Machine::new(Vector::new());
        machine.meet_as(2, 10, says());
        assert_eq!(talks(&machine.wait(1100)), [(2, None)]);
        let mut outputs = Vec::new();
        for input in inputs {
            outputs.extend(machine.give(input));
        }
        machine.connect(22, 2);
        outputs.extend(machine.say(22, Message::Hello(Box::new(says()))));
        outputs.extend(machine.wait(1100));
        assert_eq!(talks(&outputs), [(22, None)]);
        assert!(pulls(&outputs).is_empty());
    }
}

#[test]
fn what_no_log_has_is_caught_up_with_by_states() {
    let (mut machine, own, old) = behind();
    machine.meet_as(4, 200, hello(4, Vector::new()));
    let outputs = machine.meet_as(3, 80, beyond(3, &own, &old));
    assert_eq!(talks(&outputs), [(3, Some(Purpose::CatchUp))]);
    assert!(pulls(&outputs).is_empty());
    machine.meet_as(2, 10, beyond(2, &own, &old));
    assert!(machine.gossip.status().holding);
    let stated = states_to(&machine.wait(1000), 2);
    assert!(!stated.is_empty() && stated.iter().all(|state| state.holding));
    // It fails, and the other is asked; after both failed, they rest.
    let outputs = machine.give(reconciled(3, Purpose::CatchUp, None));
    assert_eq!(talks(&outputs), [(2, Some(Purpose::CatchUp))]);
    let outputs = machine.give(reconciled(2, Purpose::CatchUp, None));
    assert!(talks(&outputs).is_empty());
    assert_eq!(talks(&machine.wait(seconds(11))), [(2, Some(Purpose::CatchUp))]);
    machine.give(reconciled(2, Purpose::CatchUp, Some(verdict(&[], 0, true))));
    let status = machine.gossip.status();
    assert!(status.holding && !status.ready, "the store merges still");
    let caught_up = Input::CaughtUp {
        vector: all(&[&own, &old]),
        trimmed: old.vector(),
    };
    let outputs = machine.give(caught_up);
    assert!(!machine.gossip.status().holding);
    assert!(machine.gossip.is_ready());
    let told = outputs.iter().any(|output| {
        matches!(output, Output::Send { message: Message::Hello(hello), .. }
            if hello.vector == all(&[&own, &old]) && !hello.holding)
    });
    assert!(told);
}

/// Each lacks what the other has trimmed, so neither is ready; they would wait for each other for good. Nor does one help
/// them that is ready and has nothing of it: it came back with an empty disk when nobody else was in reach.
#[test]
fn where_nobody_ready_has_it_who_is_not_ready_is_caught_up_with() {
    let unready = |hello: Hello| Hello {
        ready: false,
        ..hello
    };
    let holding = |hello: Hello| Hello {
        holding: true,
        ..hello
    };
    let nothing = || hello(4, Vector::new());
    let (_, own, old) = behind();
    let table = [
        (unready(nothing()), Some(3)),
        (nothing(), Some(3)),
        (beyond(4, &own, &old), Some(4)),
        (holding(beyond(4, &own, &old)), None),
    ];
    for (place, (fourth, from)) in table.into_iter().enumerate() {
        let (mut machine, own, old) = behind();
        let mut talked = talks(&machine.meet_as(4, 200, fourth));
        talked.extend(talks(&machine.meet_as(3, 80, unready(beyond(3, &own, &old)))));
        let expected: Vec<_> = from
            .map(|from| (from, Some(Purpose::CatchUp)))
            .into_iter()
            .collect();
        assert_eq!(talked, expected, "row {place}");
    }
}

#[test]
fn a_catch_up_that_is_merged_before_its_end_is_heard_is_over_then() {
    let (mut machine, own, old) = behind();
    machine.meet(2, own.vector());
    let outputs = machine.meet_as(3, 80, beyond(3, &own, &old));
    assert_eq!(talks(&outputs), [(3, Some(Purpose::CatchUp))]);
    machine.give(Input::CaughtUp {
        vector: all(&[&own, &old]),
        trimmed: old.vector(),
    });
    assert!(machine.gossip.status().holding);
    machine.give(reconciled(3, Purpose::CatchUp, Some(verdict(&[], 0, true))));
    assert!(!machine.gossip.status().holding);
    machine.wait(1100);
    assert!(machine.gossip.is_ready());
}

#[test]
fn a_log_that_still_has_it_is_pulled_and_not_given_up_for_states() {
    let (mut machine, own, old) = behind();
    let outputs = machine.meet_as(2, 10, hello(2, all(&[&own, &old])));
    assert_eq!(pulls(&outputs).len(), 1);
    let (_, pull) = pulls(&outputs)[0];
    machine.meet_as(3, 80, beyond(3, &own, &old));
    let failed = Input::Pulled {
        connection: ConnectionId(2),
        pull,
        transactions: Vec::new(),
        end: Some(PullEnd::Failed),
    };
    assert!(
        talks(&machine.give(failed)).is_empty(),
        "it rests, and is asked again"
    );
    let (mut asked, mut talked) = (0, Vec::new());
    for _ in 0..5 {
        let outputs = machine.wait(600);
        talked.extend(talks(&outputs));
        for (connection, pull) in pulls(&outputs) {
            asked += 1;
            let outputs = machine.give(Input::Pulled {
                connection: ConnectionId(connection),
                pull,
                transactions: Vec::new(),
                end: Some(PullEnd::Failed),
            });
            talked.extend(talks(&outputs));
        }
    }
    assert!(asked >= 2, "{asked}");
    assert_eq!(
        talked,
        [(3, Some(Purpose::CatchUp))],
        "a log that brings nothing is no hope"
    );
}

#[test]
fn a_ready_replica_behind_the_logs_is_not_ready_but_one_that_is_handed_something_is() {
    // (who wrote what is lacked, from whom it comes, that one's state) -> is readiness lost?
    let cases = [
        (4, 3, PeerState::Active, true),
        (9, 3, PeerState::Active, false),
        (3, 3, PeerState::Evicted, false),
        (4, 3, PeerState::Evicted, true),
    ];
    for (wrote, from, became, lost) in cases {
        let mut own = Author::new(writer(1, 4));
        own.write(b"from before", &[]);
        let mut old = Author::new(writer(wrote, 1));
        old.write(b"trimmed", &[]);
        let mut machine = Machine::new(own.vector());
        machine.meet(2, own.vector());
        machine.meet(4, own.vector());
        machine.see(&[(from, became)]);
        machine.wait(1500);
        assert!(machine.gossip.is_ready());
        let outputs = machine.meet_as(from, 10, beyond(from, &own, &old));
        assert_eq!(talks(&outputs), [(3, Some(Purpose::CatchUp))]);
        assert_eq!(
            events(&outputs).contains(&Event::Unready),
            lost,
            "{wrote} {became:?}"
        );
        assert_eq!(machine.gossip.is_ready(), !lost);
        assert_eq!(machine.gossip.status().holding, lost);
        machine.give(reconciled(3, Purpose::CatchUp, Some(verdict(&[], 0, true))));
        machine.give(Input::CaughtUp {
            vector: all(&[&own, &old]),
            trimmed: old.vector(),
        });
        machine.wait(1100);
        assert!(machine.gossip.is_ready(), "{wrote} {became:?}");
    }
}
