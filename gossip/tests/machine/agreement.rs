//! Whose acks count; who was put out; when to compare; what is folded.

use super::driven::*;

#[test]
fn one_that_is_in_again_is_believed_at_once_and_in_all_that_it_said_meanwhile() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let before = own.vector();
    let mut eight = Author::new(writer(8, 1));
    eight.write(b"of one that nobody runs any more", &[]);
    let ours = all(&[&own, &eight]);
    let mut machine = Machine::new(ours.clone());
    machine.meet(2, ours.clone());
    machine.meet(3, ours.clone());
    machine.meet(4, before.clone());
    machine.see(&[(4, PeerState::Evicted)]);
    machine.say(4, state(3, vec![(eight.writer, eight.tip)]));
    // An earlier eviction voids that one. Four's connection stood all the time, so it says no new hello.
    machine.see(&[]);
    let dot = Dot {
        writer: eight.writer,
        number: 1,
    };
    assert_eq!(machine.gossip.sites_with(&dot), 4);
    assert_eq!(machine.gossip.stable(), ours);
    // What a third relays of it is older. Nothing that it stated is forgotten for that.
    let relayed = Ack {
        member: member(4),
        start: writer(4, 1),
        counter: 2,
        base: 0,
        vector: Moved::from(&before),
    };
    machine.say(2, Message::Acks(vec![relayed]));
    own.write(b"more", &[]);
    machine.say(4, state(4, vec![(own.writer, own.tip)]));
    assert_eq!(machine.gossip.stable(), ours);
    machine.commit(vec![(own.writer, own.tip)]);
    let dot = Dot {
        writer: own.writer,
        number: 2,
    };
    assert_eq!(machine.gossip.sites_with(&dot), 2);
}

/// A relay that said less than it should, for whatever reason, must not hold back what is stable for ever.
#[test]
fn what_a_member_says_itself_mends_an_ack_that_lost_count() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.meet(2, own.vector());
    machine.meet(3, own.vector());
    machine.meet(4, Vector::new());
    let short = Ack {
        member: member(4),
        start: writer(4, 1),
        counter: 5,
        base: 1,
        vector: Moved::default(),
    };
    machine.say(2, Message::Acks(vec![short]));
    machine.say(4, state(3, vec![(own.writer, own.tip)]));
    let held = machine.gossip.stable().get(&own.writer);
    assert_eq!(held, None, "it is taken for older than what was relayed");
    let whole = State {
        counter: 6,
        hash: Some(own.vector().hash()),
        wall_ms: WALL,
        ..State::default()
    };
    machine.say(4, Message::State(whole));
    assert_eq!(machine.gossip.stable().get(&own.writer), Some(own.tip));
}

#[test]
fn who_counts_for_what() {
    // (state, on how many sites our transaction is, stable, connected sites, pushed to, still connected)
    let cases = [
        (PeerState::Joining, 3, true, 2, true, true),
        (PeerState::Active, 4, true, 3, true, true),
        (PeerState::Leaving, 4, true, 3, true, true),
        (PeerState::Left, 3, true, 2, false, true),
        (PeerState::Evicted, 3, true, 2, false, true),
        (PeerState::Banned, 3, true, 2, false, false),
    ];
    for (became, sites, stable, connected, pushed, stays) in cases {
        let mut own = Author::new(writer(1, 5));
        own.write(b"ours", &[]);
        let dot = Dot {
            writer: own.writer,
            number: 1,
        };
        let mut machine = Machine::new(own.vector());
        for from in [2, 3, 4] {
            machine.meet(from, own.vector());
        }
        let outputs = machine.see(&[(4, became)]);
        assert_eq!(closed(&outputs).is_empty(), stays, "{became:?}");
        assert_eq!(machine.gossip.sites_with(&dot), sites, "{became:?}");
        assert_eq!(machine.gossip.stable().covers(&dot), stable, "{became:?}");
        assert_eq!(machine.gossip.connected_sites(), connected, "{became:?}");
        let bytes = own.write(b"next", &[]);
        let dot = Dot {
            writer: own.writer,
            number: 2,
        };
        let outputs = machine.give(Input::Committed {
            moved: vec![(own.writer, own.tip)],
            local: vec![(dot, bytes)],
        });
        assert_eq!(pushes(&outputs).contains(&4), pushed, "{became:?}");
        // What it states counts as it did, and what it relays only while it takes part.
        machine.say(4, state(2, vec![(own.writer, own.tip)]));
        assert_eq!(machine.gossip.sites_with(&dot), sites - 2, "{became:?}");
        let relayed = Ack {
            member: member(2),
            start: writer(2, 1),
            counter: 9,
            base: 0,
            vector: Moved::from(&own.vector()),
        };
        machine.say(4, Message::Acks(vec![relayed]));
        let heard = if pushed { sites - 1 } else { sites - 2 };
        assert_eq!(machine.gossip.sites_with(&dot), heard, "{became:?}");
        // What it alone has is pulled, but for one that is banned.
        let mut four = Author::new(writer(4, 1));
        four.write(b"handed over", &[]);
        let mut outputs = machine.say(4, state(3, vec![(four.writer, four.tip)]));
        outputs.extend(machine.wait(400));
        assert_eq!(pulls(&outputs).len(), usize::from(stays), "{became:?}");
    }
}

#[test]
fn only_members_that_count_end_isolation_and_only_active_ones_are_targets() {
    for became in [PeerState::Joining, PeerState::Left, PeerState::Evicted] {
        let mut machine = Machine::new(Vector::new());
        machine.see(&[(2, became)]);
        machine.wait(seconds(61));
        assert!(machine.gossip.status().isolated);
        let mut two = Author::new(writer(2, 1));
        two.write(b"1", &[]);
        assert!(!events(&machine.meet(2, two.vector())).contains(&Event::Isolated(false)));
        assert!(events(&machine.meet(3, Vector::new())).contains(&Event::Isolated(false)));

        let mut machine = Machine::new(Vector::new());
        machine.see(&[(2, became)]);
        machine.meet(2, two.vector());
        machine.wait(1500);
        assert!(!machine.gossip.is_ready(), "{became:?} does not make ready");
        machine.meet(3, Vector::new());
        assert!(machine.gossip.is_ready(), "{became:?} is not waited for");
    }
}

#[test]
fn one_that_joins_counts_nothing_for_itself_and_is_never_ready_alone() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.see(&[(1, PeerState::Joining)]);
    machine.wait(seconds(20));
    assert!(!machine.gossip.is_ready());
    machine.meet(2, own.vector());
    assert!(machine.gossip.is_ready());
    let dot = Dot {
        writer: own.writer,
        number: 1,
    };
    assert_eq!(machine.gossip.sites_with(&dot), 1);
}

#[test]
fn one_that_was_put_out_only_hands_over() {
    for became in [PeerState::Left, PeerState::Evicted] {
        let mut own = Author::new(writer(1, 5));
        own.write(b"only here", &[]);
        let mut machine = Machine::new(own.vector());
        machine.meet(2, Vector::new());
        machine.meet(3, own.vector());
        machine.wait(1500);
        assert!(machine.gossip.is_ready());
        let mut outputs = machine.see(&[(1, became)]);
        assert!(!machine.gossip.is_ready());
        outputs.extend(machine.wait(seconds(30)));
        let told = events(&outputs);
        assert_eq!(told.iter().filter(|event| **event == Event::Evicted).count(), 1);
        assert!(!told.contains(&Event::HandedOver), "two lacks it");
        let dot = Dot {
            writer: own.writer,
            number: 1,
        };
        assert_eq!(
            machine.gossip.sites_with(&dot),
            1,
            "three has it; ours does not count"
        );
        let outputs = machine.say(2, state(2, vec![(own.writer, own.tip)]));
        assert!(events(&outputs).contains(&Event::HandedOver));
        let outputs = machine.wait(seconds(20));
        assert!(events(&outputs).is_empty() && trims(&outputs).is_empty() && settled(&outputs).is_empty());
        assert!(machine.gossip.status().evicted && machine.gossip.status().handed_over);
    }
}

#[test]
fn one_that_is_in_again_is_ready_once_level_with_what_the_others_have_by_then() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.meet(2, own.vector());
    machine.meet(3, own.vector());
    machine.wait(1500);
    assert!(machine.gossip.is_ready());
    let out = machine.see(&[(1, PeerState::Evicted)]);
    assert!(events(&out).contains(&Event::Evicted) && events(&out).contains(&Event::HandedOver));
    let mut two = Author::new(writer(2, 1));
    two.write(b"meanwhile", &[]);
    machine.say(2, state(2, vec![(two.writer, two.tip)]));
    // An earlier eviction voids that one.
    machine.see(&[]);
    machine.wait(1500);
    let status = machine.gossip.status();
    assert_eq!(
        (status.ready, status.evicted, status.handed_over),
        (false, false, false)
    );
    machine.commit(vec![(two.writer, two.tip)]);
    assert!(machine.gossip.is_ready());
    // And it may be put out again.
    let out = machine.see(&[(1, PeerState::Evicted)]);
    assert!(!machine.gossip.is_ready());
    assert!(events(&out).contains(&Event::Evicted) && !events(&out).contains(&Event::HandedOver));
}

#[test]
fn one_that_was_put_out_and_is_behind_every_log_still_hears_what_it_is() {
    let (mut machine, own, old) = behind();
    machine.meet(2, own.vector());
    machine.see(&[(1, PeerState::Evicted)]);
    let outputs = machine.meet_as(3, 80, beyond(3, &own, &old));
    assert_eq!(talks(&outputs), [(3, Some(Purpose::CatchUp))]);
    machine.give(reconciled(3, Purpose::CatchUp, Some(verdict(&[], 0, true))));
    machine.give(Input::CaughtUp {
        vector: all(&[&own, &old]),
        trimmed: old.vector(),
    });
    assert!(!machine.gossip.is_ready());
    // That brought the cluster record, and in it an earlier eviction that voids its own.
    machine.see(&[]);
    machine.wait(1500);
    assert!(machine.gossip.is_ready());
}

#[test]
fn peers_are_looked_at_in_turn_one_at_a_time() {
    let mut machine = Machine::made(Vector::new(), |config| {
        config.look_interval = Some(Duration::from_secs(60));
    });
    for from in [2, 3] {
        machine.meet(from, Vector::new());
    }
    machine.meet_as(
        4,
        10,
        Hello {
            ready: false,
            ..hello(4, Vector::new())
        },
    );
    machine.wait(1500);
    let mut begun = Vec::new();
    let end = machine.at + Duration::from_secs(130);
    while machine.at < end {
        let outputs = machine.wait(1000);
        let now = talks(&outputs);
        assert!(now.len() <= 1);
        for (with, purpose) in now {
            assert_eq!(purpose, Some(Purpose::Repair));
            begun.push(with);
            // Meanwhile no other begins.
            assert!(talks(&machine.wait(seconds(3))).is_empty());
            let from = u8::try_from(with).unwrap();
            let found = if begun.len() == 1 {
                verdict(&[], 0, true)
            } else {
                verdict(&[7], 3, true)
            };
            machine.give(reconciled(from, Purpose::Repair, Some(found)));
        }
        // A peer that is not ready stays so.
        machine.say(
            4,
            Message::State(State {
                counter: 2,
                wall_ms: WALL,
                ..State::default()
            }),
        );
    }
    assert_eq!(begun, [2, 3, 2, 3], "each once a minute");
    let looks = machine.gossip.status().counters.looks;
    assert_eq!(
        (looks.begun, looks.equal, looks.divergent, looks.divergent_records),
        (4, 1, 3, 3)
    );
    let status = machine.gossip.status();
    let two = status.peers.iter().find(|peer| peer.member == member(2)).unwrap();
    assert_eq!((two.looks.begun, two.looks.equal, two.looks.divergent), (2, 1, 1));
    assert!(two.verdict_ms_ago.is_some_and(|ago| ago < 61_000));
}

#[test]
fn an_operator_looks_when_it_likes() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    machine.wait(seconds(200));
    let ask = |member, purpose| Input::ReconcileNow { member, purpose };
    assert!(
        talks(&machine.give(ask(Some(member(4)), Purpose::Look))).is_empty(),
        "not connected"
    );
    assert_eq!(
        talks(&machine.give(ask(Some(member(3)), Purpose::Look))),
        [(3, Some(Purpose::Look))]
    );
    assert!(
        talks(&machine.give(ask(None, Purpose::Repair))).is_empty(),
        "one at a time"
    );
    assert!(
        talks(&machine.give(reconciled(2, Purpose::Look, None))).is_empty(),
        "not that one"
    );
    assert_eq!(
        talks(&machine.give(reconciled(3, Purpose::Look, None))),
        [(2, Some(Purpose::Repair))]
    );
    let outputs = machine.give(reconciled(2, Purpose::Repair, Some(verdict(&[], 0, false))));
    assert_eq!(talks(&outputs), [(3, Some(Purpose::Repair))]);
    machine.give(reconciled(3, Purpose::Repair, Some(verdict(&[], 5, true))));
    let looks = machine.gossip.status().counters.looks;
    assert_eq!(
        (looks.begun, looks.failed, looks.inconclusive, looks.lag_only),
        (3, 1, 1, 1)
    );
}

#[test]
fn a_joiners_cut_holds_the_log_until_it_counts_or_comes_no_further() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"1", &[]);
    let cut = own.vector();
    let later = |machine: &mut Machine, own: &mut Author, counter: u64| {
        own.write(b"more", &[]);
        machine.commit(vec![(own.writer, own.tip)]);
        for from in [2, 3] {
            machine.say(from, state(counter, vec![(own.writer, own.tip)]));
        }
        trims(&machine.wait(1100)).last().cloned()
    };
    let begin = |own: &Author, cut: &Vector| {
        let mut machine = Machine::new(own.vector());
        machine.see(&[(4, PeerState::Joining)]);
        machine.meet(2, own.vector());
        machine.meet(3, own.vector());
        machine.give(Input::Serving {
            member: member(4),
            cut: cut.clone(),
        });
        assert_eq!(trims(&machine.wait(1100)).last(), Some(cut));
        machine
    };
    let mut machine = begin(&own, &cut);
    assert_eq!(
        later(&mut machine, &mut own, 2),
        None,
        "it needs what comes after its cut"
    );
    assert_eq!(machine.gossip.status().leases, 1);
    // It runs on the cut, and pulls: what it has may go.
    let has = own.vector();
    machine.meet(4, has.clone());
    assert_eq!(trims(&machine.wait(1100)).last(), Some(&has));
    assert_eq!(later(&mut machine, &mut own, 3), None);
    // Active, it counts by itself, and there is no lease any more.
    machine.see(&[]);
    machine.wait(1100);
    assert_eq!(machine.gossip.status().leases, 0);
    machine.say(4, state(2, vec![(own.writer, own.tip)]));
    assert_eq!(trims(&machine.wait(1100)).last(), Some(&own.vector()));

    let mut own = Author::new(writer(1, 5));
    own.write(b"1", &[]);
    let mut machine = begin(&own, &cut);
    assert_eq!(later(&mut machine, &mut own, 2), None);
    assert!(trims(&machine.wait(seconds(590))).is_empty());
    assert_eq!(
        trims(&machine.wait(seconds(12))).last(),
        Some(&own.vector()),
        "it was silent"
    );

    // It speaks all the time, and has no room for more than its cut.
    let mut own = Author::new(writer(1, 5));
    own.write(b"1", &[]);
    let mut machine = begin(&own, &cut);
    machine.meet(4, cut.clone());
    assert_eq!(later(&mut machine, &mut own, 2), None);
    let mut trimmed = Vec::new();
    for counter in 2..612 {
        machine.say(4, state(counter, Vec::new()));
        trimmed.extend(trims(&machine.wait(1000)));
    }
    assert_eq!(trimmed, [own.vector()]);
}

#[test]
fn what_is_stable_is_told_also_while_the_log_is_kept_for_one_that_joins() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"1", &[]);
    let mut machine = Machine::new(own.vector());
    machine.see(&[(4, PeerState::Joining)]);
    machine.give(Input::Serving {
        member: member(4),
        cut: Vector::new(),
    });
    machine.meet(2, own.vector());
    machine.meet(3, own.vector());
    let outputs = machine.wait(1100);
    assert_eq!(stables(&outputs), [own.vector()]);
    assert!(trims(&outputs).is_empty());
}

#[test]
fn while_the_members_are_unknown_nothing_is_stable_or_settled() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.see(&[(4, PeerState::Evicted)]);
    machine.give(Input::MembersUnknown);
    machine.meet(2, own.vector());
    machine.meet(3, own.vector());
    let outputs = machine.wait(5000);
    assert!(stables(&outputs).is_empty() && settled(&outputs).is_empty() && trims(&outputs).is_empty());
    // They can be read again: somebody has joined meanwhile, or nobody.
    let mut outputs = machine.see(&[(4, PeerState::Evicted)]);
    outputs.extend(machine.wait(5000));
    assert_eq!(stables(&outputs), [own.vector()]);
    assert_eq!(settled(&outputs), [own.vector()]);
}

#[test]
fn features_are_common_if_every_member_that_counts_said_so() {
    let with = |from: u8, features: &[&str]| Hello {
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        ..hello(from, Vector::new())
    };
    let mut machine = Machine::made(Vector::new(), |config| {
        config.features = ["a", "b", "c"].map(str::to_owned).into();
    });
    let common = |machine: &Machine| {
        machine
            .gossip
            .common_features()
            .into_iter()
            .collect::<Vec<_>>()
            .concat()
    };
    machine.meet_as(2, 10, with(2, &["a", "b"]));
    machine.meet_as(3, 10, with(3, &["b", "a", "d"]));
    assert_eq!(common(&machine), "", "four was never heard");
    machine.see(&[(4, PeerState::Evicted)]);
    assert_eq!(common(&machine), "ab");
    machine.give(Input::Disconnected {
        connection: ConnectionId(2),
    });
    assert_eq!(common(&machine), "ab", "as last heard");
    machine.meet_as(2, 10, with(2, &["b"]));
    assert_eq!(common(&machine), "b");
    let status = machine.gossip.status();
    let three = status.peers.iter().find(|peer| peer.member == member(3)).unwrap();
    assert_eq!((three.features.len(), three.versions), (3, Some((1, 2))));
}

#[test]
fn alone_on_an_old_disk_a_new_replica_id_is_taken() {
    // (something on the disk, others are members) -> renew
    let mut own = Author::new(writer(1, 4));
    own.write(b"from before", &[]);
    let cases = [
        (Vector::new(), true, false),
        (own.vector(), true, true),
        (own.vector(), false, false),
    ];
    for (vector, others, renew) in cases {
        let mut machine = Machine::new(vector);
        let mut outputs = Vec::new();
        if !others {
            outputs.extend(machine.give(Input::Members(Vec::new())));
        }
        outputs.extend(machine.wait(seconds(11)));
        assert!(events(&outputs).contains(&Event::Ready { alone: true, renew }));
    }
}

#[test]
fn the_last_start_of_a_replica_that_nobody_runs_stays_open() {
    let mut first = Author::new(writer(8, 1));
    first.write(b"1", &[]);
    let mut last = Author::new(writer(8, 2));
    last.write(b"2", &[&first]);
    let both = all(&[&first, &last]);
    let mut machine = Machine::new(both.clone());
    for from in [2, 3, 4] {
        machine.meet(from, both.clone());
    }
    machine.give(Input::Trimmed(both));
    let stable = machine.gossip.stable();
    assert_eq!(stable.floor(&ReplicaId([8; 8])).map(|floor| floor.epoch), Some(1));
    // So one that was put out may still hand over more of it.
    let more = last.write(b"3", &[]);
    assert_eq!(delivered(&machine.push(2, &more)).len(), 1);
}

#[test]
fn a_start_is_not_folded_by_acks_from_before_a_later_one() {
    let mut ended = Author::new(writer(4, 1));
    ended.write(b"1", &[]);
    let first = ended.vector();
    let mut machine = Machine::new(first.clone());
    machine.meet(2, first.clone());
    machine.meet(3, first.clone());
    // Four wrote a second, which two has by now and has not told; then an old backup was put back, and it started anew.
    let second = ended.write(b"2", &[]);
    let restored = Hello {
        start: writer(4, 2),
        ..hello(4, first.clone())
    };
    machine.meet_as(4, 10, restored);
    machine.give(Input::Trimmed(first.clone()));
    let floor = |machine: &Machine| machine.gossip.stable().floor(&ReplicaId([4; 8]));
    assert_eq!(machine.gossip.stable(), first, "all have the first");
    assert_eq!(floor(&machine), None);
    assert_eq!(delivered(&machine.push(2, &second)).len(), 1);

    let mut later = Author::new(writer(4, 2));
    later.write(b"3", &[&ended]);
    let both = vec![(ended.writer, ended.tip), (later.writer, later.tip)];
    machine.commit(both.clone());
    machine.give(Input::Trimmed(ended.vector()));
    for from in [2, 4] {
        machine.say(from, state(2, both.clone()));
        assert_eq!(floor(&machine), None);
    }
    // Three has all of it, and may have had that before the later start.
    machine.say(3, state(2, vec![(ended.writer, ended.tip)]));
    assert_eq!(floor(&machine), None);
    machine.say(3, state(3, vec![(later.writer, later.tip)]));
    assert_eq!(
        floor(&machine).map(|floor| (floor.epoch, floor.transactions)),
        Some((1, 2))
    );
}
