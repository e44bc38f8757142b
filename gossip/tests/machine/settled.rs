//! What is settled: stable, and nothing concurrent is on its way.

use std::sync::Arc;

use super::driven::*;

/// All have ours, so that is stable; what member three wrote before it had ours may still come.
struct Waiting {
    machine: Machine,
    own: Author,
    three: Author,
    from_three: Arc<[u8]>,
}

fn waits_for_three() -> Waiting {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut three = Author::new(writer(3, 1));
    let from_three = three.write(b"written before it had ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.meet(2, own.vector());
    machine.meet(3, all(&[&own, &three]));
    machine.meet(4, own.vector());
    let outputs = machine.wait(1100);
    assert_eq!(trims(&outputs), [own.vector()]);
    assert!(settled(&outputs).is_empty(), "what three wrote may still come");
    Waiting {
        machine,
        own,
        three,
        from_three,
    }
}

#[test]
fn settled_is_what_is_stable_and_whose_acks_we_cover() {
    let Waiting {
        mut machine,
        own,
        mut three,
        from_three,
    } = waits_for_three();
    // It goes on under a load: what came after the ack is not waited for.
    machine.push(3, &from_three);
    let first = three.tip;
    three.write(b"later", &[]);
    machine.say(3, state(2, vec![(three.writer, three.tip)]));
    machine.commit(vec![(three.writer, first)]);
    assert_eq!(settled(&machine.wait(1100)), [own.vector()]);
    assert_eq!(machine.gossip.status().settled, 1);
}

#[test]
fn an_ack_that_goes_down_or_is_not_believed_settles_nothing() {
    // What becomes of the member that holds the pair up, before its writes come.
    type Case = fn(&mut Machine);
    let cases: [(&str, Case, bool); 4] = [
        ("nothing", |_| {}, true),
        (
            "a later start is known",
            |machine| {
                let ack = Ack {
                    member: member(3),
                    start: writer(3, 7),
                    counter: 1,
                    base: 0,
                    vector: Moved::default(),
                };
                machine.say(2, Message::Acks(vec![ack]));
            },
            false,
        ),
        (
            "wiped",
            |machine| {
                let wiped = Hello {
                    start: writer(3, 2),
                    ..hello(3, Vector::new())
                };
                machine.say(3, Message::Hello(Box::new(wiped)));
            },
            false,
        ),
        (
            "it takes over a state",
            |machine| {
                let holds = State {
                    counter: 2,
                    holding: true,
                    wall_ms: WALL,
                    ..State::default()
                };
                machine.say(3, Message::State(holds));
            },
            false,
        ),
    ];
    for (name, case, expected) in cases {
        let Waiting {
            mut machine,
            three,
            from_three,
            ..
        } = waits_for_three();
        case(&mut machine);
        machine.push(3, &from_three);
        machine.commit(vec![(three.writer, three.tip)]);
        assert_eq!(!settled(&machine.wait(2100)).is_empty(), expected, "{name}");
    }
}

/// Two processes ran as member four, each on a copy of one disk. The one whose acks counted goes, and the other, whose writes
/// nobody has, is level in the next moment: what follows from the acks of the first is not to be relied on.
#[test]
fn what_a_new_start_brings_that_the_one_before_did_not_have_is_waited_for() {
    let Waiting {
        mut machine,
        own,
        three,
        from_three,
    } = waits_for_three();
    let mut copy = Author::new(writer(4, 2));
    let from_copy = copy.write(b"written where nobody heard it", &[]);
    let other = Hello {
        start: copy.writer,
        ..hello(4, all(&[&own, &copy]))
    };
    machine.say(4, Message::Hello(Box::new(other)));
    machine.push(3, &from_three);
    machine.commit(vec![(three.writer, three.tip)]);
    assert!(
        settled(&machine.wait(2100)).is_empty(),
        "the copy's may still come"
    );
    machine.push(4, &from_copy);
    machine.commit(vec![(copy.writer, copy.tip)]);
    assert_eq!(settled(&machine.wait(2100)), [own.vector()]);
}

#[test]
fn what_was_lost_with_a_disk_is_not_waited_for() {
    let Waiting { mut machine, own, .. } = waits_for_three();
    // An old backup of three's disk is put back: it has ours, and what it wrote later is no more.
    let back = Hello {
        start: writer(3, 2),
        ..hello(3, own.vector())
    };
    machine.say(3, Message::Hello(Box::new(back)));
    assert_eq!(settled(&machine.wait(2100)), [own.vector()]);
}

#[test]
fn what_waits_to_be_settled_waits_for_one_that_becomes_active_too() {
    let mut own = Author::new(writer(1, 5));
    own.write(b"ours", &[]);
    let mut three = Author::new(writer(3, 1));
    let from_three = three.write(b"written before it had ours", &[]);
    let mut four = Author::new(writer(4, 1));
    let from_four = four.write(b"written before it had ours", &[]);
    let mut machine = Machine::new(own.vector());
    machine.see(&[(4, PeerState::Joining)]);
    machine.meet(2, own.vector());
    machine.meet(3, all(&[&own, &three]));
    machine.meet(4, all(&[&own, &four]));
    assert!(settled(&machine.wait(1100)).is_empty(), "three's may still come");
    machine.see(&[]);
    machine.push(3, &from_three);
    machine.commit(vec![(three.writer, three.tip)]);
    assert!(settled(&machine.wait(2100)).is_empty(), "four's may still come");
    machine.push(4, &from_four);
    machine.commit(vec![(four.writer, four.tip)]);
    assert_eq!(settled(&machine.wait(2100)), [own.vector()]);
}
