//! Who speaks: hellos that are refused, and second connections.

use super::driven::*;

#[test]
fn hellos_that_do_not_fit_are_refused_in_words() {
    type Change = fn(&mut Hello);
    let cases: [(Change, RefuseCode); 5] = [
        (|hello| hello.cluster = [8; 16], RefuseCode::CLUSTER),
        (|hello| hello.versions = (4, 9), RefuseCode::VERSIONS),
        (|hello| hello.versions = (1, 1), RefuseCode::VERSIONS),
        (|hello| hello.member = member(3), RefuseCode::MEMBER),
        (
            |hello| hello.fingerprints.extend([("index key".to_owned(), [2; 8])]),
            RefuseCode::FINGERPRINT,
        ),
    ];
    for (change, expected) in cases {
        let mut machine = Machine::new(Vector::new());
        machine.connect(2, 2);
        let mut hello = hello(2, Vector::new());
        change(&mut hello);
        let outputs = machine.say(2, Message::Hello(Box::new(hello)));
        let refused = outputs.iter().any(|output| {
            matches!(output, Output::Send { message: Message::Refuse { code, .. }, .. } if *code == expected)
        });
        assert!(refused, "{outputs:?}");
        assert_eq!(closed(&outputs), [2]);
        assert_eq!(machine.gossip.connected_sites(), 0);
    }
    let mut machine = Machine::new(Vector::new());
    assert_eq!(closed(&machine.connect(7, 77)), [7], "no member");
}

#[test]
fn of_two_connections_one_stays() {
    // (their start on the first, on the second, dialed first, dialed second) -> closed
    type Case = (u32, u32, bool, bool, Vec<u64>);
    let cases: [Case; 5] = [
        (1, 1, true, false, vec![8]),
        (1, 1, false, true, vec![7]),
        (1, 1, true, true, vec![7]),
        (1, 2, true, false, vec![7]),
        (2, 1, false, true, vec![8]),
    ];
    for (first, second, dialed_first, dialed_second, expected) in cases {
        let mut machine = Machine::new(Vector::new());
        let mut outputs = Vec::new();
        for (connection, epoch, dialed) in [(7, first, dialed_first), (8, second, dialed_second)] {
            machine.give(Input::Connected {
                connection: ConnectionId(connection),
                member: member(2),
                dialed,
            });
            let hello = Hello {
                start: writer(2, epoch),
                ..hello(2, Vector::new())
            };
            outputs.extend(machine.say(connection, Message::Hello(Box::new(hello))));
        }
        assert_eq!(
            closed(&outputs),
            expected,
            "{first} {second} {dialed_first} {dialed_second}"
        );
        if first < second {
            let told = outputs.iter().any(|output| {
                matches!(output, Output::Send { connection: ConnectionId(7), message: Message::Hello(hello) }
                    if hello.known_start == Some(writer(2, second)) && hello.known_start_runs)
            });
            assert!(
                told,
                "the earlier start hears of the later before it is closed, and that it runs"
            );
        }
    }
}
