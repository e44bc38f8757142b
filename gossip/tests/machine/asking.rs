//! Somebody waits for what is not here yet.

use gossip::{ASK_INTERVAL, ASK_LASTS};

use super::driven::*;

fn ask(machine: &mut Machine, writer: Option<Writer>) -> Vec<Output> {
    machine.give(Input::Ask { writer })
}

fn asked(outputs: &[Output]) -> Vec<ConnectionId> {
    let asked = outputs.iter().filter_map(|output| match output {
        Output::Send {
            connection,
            message: Message::Ask,
        } => Some(*connection),
        _ => None,
    });
    asked.collect()
}

#[test]
fn all_peers_are_asked_once_however_many_wait() {
    let mut machine = Machine::new(Vector::new());
    assert!(asked(&ask(&mut machine, None)).is_empty(), "nobody is there");
    machine.wait(200);
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    assert_eq!(
        asked(&ask(&mut machine, None)),
        [ConnectionId(2), ConnectionId(3)]
    );
    for epoch in 1..200 {
        assert!(asked(&ask(&mut machine, Some(writer(4, epoch)))).is_empty());
    }
    machine.wait(u64::try_from(ASK_INTERVAL.as_millis()).unwrap());
    assert_eq!(asked(&ask(&mut machine, None)).len(), 2);
    assert_eq!(machine.gossip.status().counters.asked, 4);
}

#[test]
fn what_somebody_waits_for_is_pulled_without_patience() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut two = Author::new(writer(2, 1));
    let mut three = Author::new(writer(3, 1));
    two.write(b"lost on its way", &[]);
    three.write(b"on its way", &[]);
    let both = || state(2, vec![(two.writer, two.tip), (three.writer, three.tip)]);
    assert!(pulls(&machine.say(3, both())).is_empty(), "it may come by push");
    let pulled = pulls(&ask(&mut machine, Some(two.writer)));
    assert_eq!(
        pulled.first().map(|pull| pull.0),
        Some(3),
        "nobody waits for that any more"
    );

    // What is stated while somebody waits is asked for at once as well, and of no other writer.
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    ask(&mut machine, Some(three.writer));
    assert!(pulls(&machine.say(3, state(2, vec![(two.writer, two.tip)]))).is_empty());
    assert_eq!(
        pulls(&machine.say(2, state(2, vec![(three.writer, three.tip)]))).len(),
        1
    );

    // Later nobody waits.
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    ask(&mut machine, None);
    machine.wait(u64::try_from(ASK_LASTS.as_millis()).unwrap());
    assert!(pulls(&machine.say(3, both())).is_empty());
}

#[test]
fn who_has_asked_is_told_at_once_what_moved_and_nothing_if_nothing_did() {
    let mut machine = Machine::new(Vector::new());
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    let mut four = Author::new(writer(4, 1));
    four.write(b"one", &[]);
    // Said a moment ago, so that nothing more is due for a tenth of a second.
    machine.commit(vec![(four.writer, four.tip)]);
    machine.wait(200);
    four.write(b"two", &[]);
    machine.commit(vec![(four.writer, four.tip)]);
    machine.wait(50);
    four.write(b"three", &[]);
    let outputs = machine.commit(vec![(four.writer, four.tip)]);
    assert!(states_to(&outputs, 2).is_empty() && states_to(&outputs, 3).is_empty());
    let told = machine.say(2, Message::Ask);
    assert_eq!(states_to(&told, 2).len(), 1);
    assert!(states_to(&told, 3).is_empty(), "only who has asked");
    assert!(
        states_to(&machine.say(2, Message::Ask), 2).is_empty(),
        "there is nothing more to say"
    );

    // And what comes to the disk in the next moment.
    machine.wait(20);
    four.write(b"four", &[]);
    let outputs = machine.commit(vec![(four.writer, four.tip)]);
    assert_eq!(states_to(&outputs, 2).len(), 1);
    assert_eq!(states_to(&outputs, 2)[0].moved.entries, [(four.writer, four.tip)]);
}

#[test]
fn a_question_before_a_hello_is_none() {
    let mut machine = Machine::new(Vector::new());
    machine.give(Input::Connected {
        connection: ConnectionId(2),
        member: member(2),
        dialed: true,
    });
    let outputs = machine.say(2, Message::Ask);
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Close { .. })),
        "{outputs:?}"
    );
}

#[test]
fn who_lacks_something_is_who_was_heard_of_late_and_counts() {
    let lacking = |machine: &Machine, author: &Author| {
        let lacking = machine.gossip.lacking(&author.vector(), Duration::from_secs(10));
        lacking.into_iter().map(|id| id.0[0]).collect::<Vec<u8>>()
    };
    let mut machine = Machine::new(Vector::new());
    let mut four = Author::new(writer(4, 1));
    four.write(b"a key", &[]);
    assert!(lacking(&machine, &four).is_empty(), "nobody was heard");
    machine.meet(2, Vector::new());
    machine.meet(3, Vector::new());
    assert_eq!(lacking(&machine, &four), [2, 3], "the fourth was never heard");
    machine.say(2, state(2, vec![(four.writer, four.tip)]));
    assert_eq!(lacking(&machine, &four), [3]);
    machine.see(&[(3, PeerState::Joining)]);
    assert!(
        lacking(&machine, &four).is_empty(),
        "who joins holds nothing back"
    );
    machine.see(&[]);
    assert_eq!(lacking(&machine, &four), [3]);
    machine.wait(11_000);
    assert!(lacking(&machine, &four).is_empty(), "nor who is silent");
}
