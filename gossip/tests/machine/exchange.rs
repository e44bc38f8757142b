//! What is delivered, pulled, believed, refused.

use super::driven::*;

#[test]
fn what_is_next_is_delivered_and_what_is_early_waits() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut two = Author::new(writer(2, 1));
    let mut three = Author::new(writer(3, 1));
    let first = two.write(b"first", &[]);
    let second = two.write(b"second", &[]);
    let answer = three.write(b"answer", &[&two]);

    let outputs = machine.push(3, &answer);
    assert!(delivered(&outputs).is_empty());
    assert_eq!(pulls(&outputs).len(), 1, "its sender is asked at once");
    assert!(machine.gossip.held_bytes() > 0);
    assert!(delivered(&machine.push(2, &second)).is_empty());
    let outputs = machine.push(2, &first);
    let numbers: Vec<(Writer, u64)> = delivered(&outputs)
        .iter()
        .map(|dot| (dot.writer, dot.number))
        .collect();
    assert_eq!(numbers, [(two.writer, 1), (two.writer, 2), (three.writer, 1)]);
    assert!(delivered(&machine.push(2, &first)).is_empty(), "once is enough");

    // Nothing is stated before it is on disk; then its origin hears at once.
    assert!(states_to(&machine.wait(50), 2).is_empty());
    let outputs = machine.commit(vec![(two.writer, two.tip), (three.writer, three.tip)]);
    assert_eq!(states_to(&outputs, 2).len(), 1);
    assert_eq!(states_to(&outputs, 2)[0].moved.entries.len(), 2);
    assert_eq!(states_to(&outputs, 3).len(), 1);
    assert_eq!(machine.gossip.held_bytes(), 0);
}

#[test]
fn what_waits_for_more_of_a_writer_than_was_folded_is_dropped() {
    let mut two = Author::new(writer(2, 1));
    two.write(b"first", &[]);
    let known = two.vector();
    let mut machine = Machine::new(known.clone());
    machine.meet(2, known.clone());
    machine.meet(3, known.clone());
    // It is lost with every disk that had it, and so is the answer to it; but that one is in memory here.
    two.write(b"second", &[]);
    let mut three = Author::new(writer(3, 1));
    let answer = three.write(b"answer", &[&two]);
    assert!(delivered(&machine.push(3, &answer)).is_empty());
    assert_eq!(machine.gossip.status().early_count, 1);

    let mut folded = known;
    folded.fold(two.writer.replica, 1);
    assert!(delivered(&machine.give(Input::Trimmed(folded))).is_empty());
    assert_eq!(machine.gossip.status().early_count, 0);
    assert_eq!(machine.gossip.status().counters.early_dropped, 1);
}

#[test]
fn early_ones_beyond_the_limit_are_dropped_oldest_first_and_pulled() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    let mut two = Author::new(writer(2, 1));
    let all: Vec<Arc<[u8]>> = (0..10).map(|number| two.write(&[number], &[])).collect();
    let mut asked = Vec::new();
    for bytes in &all[1..] {
        asked.extend(pulls(&machine.push(2, bytes)));
    }
    assert_eq!(machine.gossip.status().early_count, 4);
    assert_eq!(machine.gossip.status().counters.early_dropped, 5);
    let [(_, pull)] = asked[..] else {
        panic!("one pull, not {asked:?}")
    };
    let input = Input::Pulled {
        connection: ConnectionId(2),
        pull,
        transactions: all[..6].to_vec(),
        end: Some(PullEnd::Done),
    };
    assert_eq!(delivered(&machine.give(input)).len(), 10);
    assert_eq!(machine.gossip.status().early_count, 0);
}

#[test]
fn nothing_is_pushed_to_who_lacks_what_we_have_folded() {
    let mut old = Author::new(writer(8, 1));
    old.write(b"folded", &[]);
    let mut folded = old.vector();
    folded.fold(old.writer.replica, 1);
    let mut machine = Machine::new(folded.clone());
    machine.meet(2, folded.clone());
    machine.meet(3, old.vector());
    machine.meet(4, Vector::new());
    let mut own = Author::new(writer(1, 5));
    let write = |machine: &mut Machine, own: &mut Author| {
        let bytes = own.write(b"ours", &[]);
        let dot = Dot {
            writer: own.writer,
            number: own.tip.number,
        };
        let local = vec![(dot, bytes)];
        let moved = Vec::new();
        pushes(&machine.give(Input::Committed { moved, local }))
    };
    assert_eq!(
        write(&mut machine, &mut own),
        [2, 3],
        "not to four, which lacks it"
    );
    machine.say(4, state(2, vec![(old.writer, old.tip)]));
    assert_eq!(write(&mut machine, &mut own), [2, 3, 4]);

    // What a catch-up brings folded is as unsaid as what was folded here.
    let mut other = Author::new(writer(7, 1));
    other.write(b"folded elsewhere", &[]);
    let mut caught_up = all(&[&other, &own]);
    caught_up.fold(other.writer.replica, 1);
    caught_up.merge_max(&folded);
    let input = Input::CaughtUp {
        vector: caught_up,
        trimmed: Vector::new(),
    };
    machine.give(input);
    machine.say(3, state(2, vec![(other.writer, other.tip)]));
    assert_eq!(write(&mut machine, &mut own), [3]);
}

#[test]
fn forks_are_shown_and_never_applied() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut ours = Author::new(writer(2, 1));
    let mut theirs = Author::new(writer(2, 1));
    let first = ours.write(b"ours", &[]);
    let other = theirs.write(b"theirs", &[]);
    let after = theirs.write(b"and on", &[]);
    assert_eq!(delivered(&machine.push(2, &first)).len(), 1);
    let outputs = machine.push(3, &other);
    let dot = Dot {
        writer: ours.writer,
        number: 1,
    };
    let fork = Event::Fork {
        dot,
        ours: transaction_hash(&first),
        theirs: transaction_hash(&other),
        from: member(3),
    };
    assert_eq!(events(&outputs), [fork]);
    assert!(delivered(&machine.push(3, &after)).is_empty());
    // From the other side the chain gives it away; the writer as member 2 has it goes on.
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.push(2, &first);
    let outputs = machine.push(2, &after);
    assert!(delivered(&outputs).is_empty());
    assert!(matches!(events(&outputs)[..], [Event::Fork { .. }]));
    assert_eq!(machine.gossip.status().counters.forks, 1);
}

#[test]
fn a_transaction_that_follows_a_fork_is_not_applied() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut ours = Author::new(writer(2, 1));
    let mut forked = Author::new(writer(2, 1));
    let mut three = Author::new(writer(3, 1));
    machine.push(2, &ours.write(b"ours", &[]));
    forked.write(b"theirs", &[]);
    let outputs = machine.push(3, &three.write(b"follows theirs", &[&forked]));
    assert!(delivered(&outputs).is_empty());
    assert!(matches!(events(&outputs)[..], [Event::Fork { .. }]));
}

#[test]
fn a_push_gets_patience_and_a_dead_origins_writes_do_not() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut two = Author::new(writer(2, 1));
    let mut dead = Author::new(writer(4, 1));
    let bytes = two.write(b"on its way", &[]);
    let outputs = machine.say(3, state(2, vec![(two.writer, two.tip)]));
    assert!(pulls(&outputs).is_empty());
    assert!(pulls(&machine.wait(200)).is_empty());
    assert_eq!(pulls(&machine.wait(100)).len(), 1);
    machine.push(2, &bytes);
    dead.write(b"last words", &[]);
    let outputs = machine.say(2, state(2, vec![(dead.writer, dead.tip)]));
    assert_eq!(pulls(&outputs).first().map(|pull| pull.0), Some(2));
}

#[test]
fn a_pull_that_stands_still_is_given_up_for_another_peer() {
    let mut dead = Author::new(writer(4, 1));
    dead.write(b"last words", &[]);
    let mut machine = Machine::new(Vector::new());
    let first = pulls(&machine.meet(2, dead.vector()));
    assert_eq!(first.len(), 1);
    assert!(
        pulls(&machine.meet(3, dead.vector())).is_empty(),
        "one brings all of it"
    );
    let outputs = machine.wait(2100);
    assert!(outputs.contains(&Output::CancelPull {
        connection: ConnectionId(2),
        pull: first[0].1
    }));
    assert_eq!(pulls(&outputs).first().map(|pull| pull.0), Some(3));
}

#[test]
fn an_ack_counts_for_its_latest_start_only_also_downwards() {
    let mut own = Author::new(writer(1, 5));
    let bytes = own.write(b"ours", &[]);
    let dot = Dot {
        writer: own.writer,
        number: 1,
    };
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    machine.give(Input::Committed {
        moved: vec![(own.writer, own.tip)],
        local: vec![(dot, bytes)],
    });
    let with = |machine: &Machine| machine.gossip.sites_with(&dot);
    assert_eq!(with(&machine), 1);
    machine.say(2, state(2, vec![(own.writer, own.tip)]));
    assert_eq!(with(&machine), 2);

    let ack = |start: Writer, counter: u64, base: u64, vector: &Vector| {
        Message::Acks(vec![Ack {
            member: member(4),
            start,
            counter,
            base,
            vector: Moved::from(vector),
        }])
    };
    machine.say(3, ack(writer(4, 6), 10, 0, &own.vector()));
    assert_eq!(with(&machine), 3, "relayed");
    // Wiped, and back with epoch 1: it is told, and neither of its acks counts.
    machine.connect(4, 4);
    let outputs = machine.say(4, greeting(4, own.vector()));
    let told = outputs.iter().any(|output| {
        matches!(output, Output::Send { connection: ConnectionId(4), message: Message::Hello(hello) }
            if hello.known_start == Some(writer(4, 6)))
    });
    // It heard already when it connected.
    assert!(!told && !closed(&outputs).contains(&4));
    assert_eq!(with(&machine), 2);
    machine.say(3, ack(writer(4, 6), 11, 0, &own.vector()));
    assert_eq!(with(&machine), 2, "a stale relay does not bring it back");
    machine.say(
        4,
        Message::Hello(Box::new(Hello {
            start: writer(4, 7),
            ..hello(4, Vector::new())
        })),
    );
    assert_eq!(with(&machine), 2);
    machine.say(3, ack(writer(4, 6), 12, 0, &own.vector()));
    assert_eq!(with(&machine), 2);
    machine.say(4, state(2, vec![(own.writer, own.tip)]));
    assert_eq!(with(&machine), 3);
    // Without a connection the last ack stands.
    machine.give(Input::Disconnected {
        connection: ConnectionId(4),
    });
    assert_eq!(with(&machine), 3);
    machine.say(3, ack(writer(4, 8), 1, 0, &Vector::new()));
    assert_eq!(with(&machine), 2, "a relayed later start goes down too");
    machine.say(3, ack(writer(4, 8), 3, 2, &own.vector()));
    assert_eq!(with(&machine), 2, "built on what we have not heard");
    machine.say(3, ack(writer(4, 8), 3, 1, &own.vector()));
    assert_eq!(with(&machine), 3);
}

#[test]
fn stable_is_the_least_of_all_acks_and_nothing_while_one_is_silent() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"1", &[]);
    let first = own.tip;
    own.write(b"2", &[]);
    let mut machine = Machine::new(own.vector());
    machine.meet(2, own.vector());
    machine.meet(3, own.vector());
    assert!(machine.gossip.stable().is_empty());
    machine.meet(4, [(own.writer, first)].into_iter().collect());
    assert_eq!(machine.gossip.stable().get(&own.writer), Some(first));
    let outputs = machine.wait(1000);
    assert!(outputs.iter().any(|output| matches!(output, Output::Trim(_))));
}

#[test]
fn a_failed_batch_is_asked_for_again() {
    let mut two = Author::new(writer(2, 1));
    let bytes = two.write(b"lost", &[]);
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, two.vector());
    assert_eq!(delivered(&machine.push(2, &bytes)).len(), 1);
    assert!(machine.gossip.held_bytes() > 0);
    let start = writer(1, 6);
    let own_starts = vec![writer(1, 5), start];
    let outputs = machine.give(Input::Restarted {
        start,
        own_starts,
        vector: Vector::new(),
    });
    assert_eq!(machine.gossip.held_bytes(), 0);
    assert_eq!(pulls(&outputs).len(), 1);
    assert_eq!(delivered(&machine.push(2, &bytes)).len(), 1);

    // And one that the store rejected, after a rest.
    let dot = Dot {
        writer: two.writer,
        number: 1,
    };
    assert!(pulls(&machine.give(Input::Rejected(vec![dot]))).is_empty());
    assert_eq!(pulls(&machine.wait(600)).len(), 1);
}

#[test]
fn readiness_waits_for_fixed_targets() {
    let mut two = Author::new(writer(2, 1));
    let bytes = two.write(b"1", &[]);
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, two.vector());
    machine.wait(1500);
    assert!(!machine.gossip.is_ready());
    let first = two.tip;
    two.write(b"2", &[]);
    machine.say(2, state(2, vec![(two.writer, two.tip)]));
    machine.push(2, &bytes);
    assert!(!machine.gossip.is_ready(), "delivered is not on disk");
    let outputs = machine.commit(vec![(two.writer, first)]);
    assert!(events(&outputs).contains(&Event::Ready {
        alone: false,
        renew: false
    }));

    let mut machine = Machine::new(Vector::new());
    machine.meet(2, two.vector());
    machine.give(Input::Disconnected {
        connection: ConnectionId(2),
    });
    machine.wait(9000);
    assert!(!machine.gossip.is_ready());
    assert!(events(&machine.wait(1100)).contains(&Event::Ready {
        alone: true,
        renew: false
    }));
    assert!(machine.gossip.is_alone());
}

/// A newcomer whose disk was put back says hello to who was out by then as to strangers. What it catches up with says that they
/// are in again, and none of them says hello once more for that.
#[test]
fn who_becomes_active_after_its_hello_makes_us_ready_too() {
    let mut two = Author::new(writer(2, 1));
    two.write(b"1", &[]);
    let mut machine = Machine::new(Vector::new());
    let (joining, out) = (PeerState::Joining, PeerState::Evicted);
    machine.see(&[(1, joining), (2, out)]);
    machine.meet(2, two.vector());
    machine.wait(1500);
    machine.see(&[(1, joining)]);
    machine.wait(10_000);
    assert!(!machine.gossip.is_ready(), "it lacks what member 2 has");
    let outputs = machine.commit(vec![(two.writer, two.tip)]);
    assert!(events(&outputs).contains(&Event::Ready {
        alone: false,
        renew: false
    }));
}

#[test]
fn lost_count_is_noticed_and_mended() {
    let mut two = Author::new(writer(2, 1));
    two.write(b"1", &[]);
    let mut machine = Machine::new(two.vector());
    machine.meet(2, two.vector());
    let beat = |hash| {
        Message::State(State {
            counter: 2,
            hash: Some(hash),
            wall_ms: WALL,
            ..State::default()
        })
    };
    let restates = |outputs: Vec<Output>| {
        outputs
            .iter()
            .filter(|output| {
                matches!(
                    output,
                    Output::Send {
                        message: Message::Restate,
                        ..
                    }
                )
            })
            .count()
    };
    assert_eq!(restates(machine.say(2, beat(two.vector().hash()))), 0);
    assert_eq!(restates(machine.say(2, beat([0; 16]))), 1);
    assert_eq!(restates(machine.say(2, beat([0; 16]))), 0, "not again at once");
    let hellos = machine.say(2, Message::Restate);
    assert!(hellos.iter().any(|output| matches!(
        output,
        Output::Send {
            message: Message::Hello(_),
            ..
        }
    )));
}

#[test]
fn what_nobody_should_say_closes_the_connection_and_no_more() {
    type Case = fn(&mut Machine) -> Vec<Output>;
    let cases: [(&str, Case); 4] = [
        ("before hello", |machine| {
            machine.connect(2, 2);
            machine.say(2, state(1, Vec::new()))
        }),
        ("junk pushed", |machine| {
            machine.meet(2, Vector::new());
            machine.push(2, &Arc::from(&b"junk"[..]))
        }),
        ("junk pulled", |machine| {
            machine.meet(2, Vector::new());
            let transactions = vec![Arc::from(&b"junk"[..])];
            machine.give(Input::Pulled {
                connection: ConnectionId(2),
                pull: 99,
                transactions,
                end: None,
            })
        }),
        ("too many entries", |machine| {
            machine.meet(2, Vector::new());
            let entries = (0..5000).map(|epoch| {
                let writer = Writer {
                    replica: ReplicaId([2; 8]),
                    epoch,
                    nonce: [0; 8],
                };
                (
                    writer,
                    Tip {
                        number: 1,
                        hash: [0; 8],
                    },
                )
            });
            machine.say(2, state(2, entries.collect()))
        }),
    ];
    for (name, case) in cases {
        let mut machine = Machine::new(Vector::new());
        let outputs = case(&mut machine);
        assert_eq!(closed(&outputs), [2], "{name}");
        assert!(
            matches!(events(&outputs)[..], [Event::Misbehaved { .. }]),
            "{name}"
        );
        // Late inputs of a closed connection are nothing.
        assert!(machine.say(2, Message::Restate).is_empty());
    }
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    let outputs = machine.say(
        2,
        Message::Unknown {
            name: "symbols".to_owned(),
        },
    );
    let unsupported = Message::Unsupported {
        name: "symbols".to_owned(),
    };
    assert_eq!(
        outputs,
        [Output::Send {
            connection: ConnectionId(2),
            message: unsupported
        }]
    );
    assert_eq!(closed(&machine.connect(3, 3)), []);
    assert_eq!(closed(&machine.wait(5100)), [3], "no hello in time");
}

#[test]
fn clocks_are_compared_with_the_median_of_three() {
    let mut machine = Machine::new(Vector::new());
    for (from, ahead) in [(2, 70_000), (3, 61_000), (4, 0)] {
        assert_eq!(machine.gossip.skew(), None);
        machine.connect(u64::from(from), from);
        let hello = Hello {
            wall_ms: WALL + ahead,
            ..hello(from, Vector::new())
        };
        let outputs = machine.say(u64::from(from), Message::Hello(Box::new(hello)));
        let warned = events(&outputs).contains(&Event::ClockSkew { offset_ms: 61_000 });
        assert_eq!(warned, from == 4);
    }
    assert_eq!(machine.gossip.skew(), Some(61_000));
    machine.wait(11_000);
    assert_eq!(machine.gossip.skew(), None, "stale");
}

#[test]
fn isolation_comes_after_a_minute_and_goes_with_a_word() {
    let mut machine = Machine::new(Vector::new());
    assert!(!events(&machine.wait(59_900)).contains(&Event::Isolated(true)));
    assert!(events(&machine.wait(200)).contains(&Event::Isolated(true)));
    assert!(events(&machine.meet(2, Vector::new())).contains(&Event::Isolated(false)));
}

#[test]
fn a_received_transaction_keeps_its_bytes() {
    let mut two = Author::new(writer(2, 1));
    let bytes = two.write(b"body", &[]);
    let received = Received::decode(Arc::clone(&bytes)).unwrap();
    assert_eq!(received.bytes, bytes);
    assert_eq!(received.hash, two.tip.hash);
    assert_eq!(received.envelope.encode(), bytes.to_vec());
}
