//! What counts of several values in the cluster's record.

mod replicas;

use crdt::{
    ClusterView, ClusterWrite, KeyField, KeyState, MemberField, MemberState, RecordKind, View, Write,
    WriteError,
};
use replicas::{Replica, at, concurrently, member};

fn of_member(byte: u8, ms: u64, field: MemberField) -> Write {
    Write::Cluster(ClusterWrite::Member {
        id: member(byte),
        at: at(ms),
        field,
    })
}

fn of_key(ms: u64, field: KeyField) -> Write {
    Write::Cluster(ClusterWrite::Key {
        kid: "2026-oslo".to_owned(),
        at: at(ms),
        field,
    })
}

fn setting(ms: u64, value: &[u8]) -> Write {
    Write::Cluster(ClusterWrite::Setting {
        name: "format/wire".to_owned(),
        at: at(ms),
        value: value.to_vec(),
    })
}

fn cluster(view: &View) -> ClusterView {
    let View::Cluster(view) = view else {
        panic!("the cluster's record has the cluster's view")
    };
    assert_eq!(ClusterView::decode(&view.encode()).as_ref(), Ok(view));
    assert_eq!(view.unreadable, 0);
    view.clone()
}

fn merged(writes: &[Write]) -> ClusterView {
    let writes: Vec<Vec<Write>> = writes.iter().map(|write| vec![write.clone()]).collect();
    cluster(&concurrently(RecordKind::Cluster, &writes))
}

#[test]
fn a_member_is_the_sum_of_its_fields() {
    let view = merged(&[
        of_member(7, 1, MemberField::Name("oslo-1".to_owned())),
        of_member(7, 1, MemberField::Site("oslo".to_owned())),
        of_member(
            7,
            2,
            MemberField::Addresses(vec![
                "198.51.100.7:4433".to_owned(),
                "[2001:db8::7]:4433".to_owned(),
            ]),
        ),
        of_member(7, 3, MemberField::NextKey(vec![9; 91])),
        of_member(7, 3, MemberField::Key(vec![8; 91])),
        of_member(7, 3, MemberField::State(MemberState::Active)),
        of_member(8, 3, MemberField::Name("lima-1".to_owned())),
    ]);
    let oslo = &view.members[&member(7)];
    assert_eq!(
        (oslo.name.as_str(), oslo.site.as_str(), oslo.state),
        ("oslo-1", "oslo", MemberState::Active)
    );
    assert_eq!(oslo.addresses, ["198.51.100.7:4433", "[2001:db8::7]:4433"]);
    assert_eq!(oslo.keys, [vec![8; 91], vec![9; 91]]);
    let lima = &view.members[&member(8)];
    assert_eq!(
        (lima.name.as_str(), lima.state, lima.keys.len()),
        ("lima-1", MemberState::Joining, 0)
    );
    assert_eq!(view.latest, at(3));
}

#[track_caller]
fn check_member_state(concurrent: &[(u64, MemberState)], expected: MemberState) {
    let writes: Vec<Write> = concurrent
        .iter()
        .map(|(ms, state)| of_member(1, *ms, MemberField::State(*state)))
        .collect();
    assert_eq!(merged(&writes).members[&member(1)].state, expected);
}

#[test]
fn a_member_only_moves_forward() {
    use MemberState::{Active, Evicted, Joining, Leaving, Left};
    check_member_state(&[(5, Joining)], Joining);
    check_member_state(&[(9, Joining), (5, Active)], Active);
    check_member_state(&[(9, Active), (5, Leaving)], Leaving);
    check_member_state(&[(9, Leaving), (5, Left)], Left);
    check_member_state(&[(9, Left), (5, Evicted), (99, Active)], Evicted);
}

#[track_caller]
fn check_key_state(concurrent: &[(u64, KeyState)], expected: KeyState) {
    let writes: Vec<Write> = concurrent
        .iter()
        .map(|(ms, state)| of_key(*ms, KeyField::State(*state)))
        .collect();
    assert_eq!(merged(&writes).keys["2026-oslo"].state, expected);
}

#[test]
fn a_key_only_moves_forward_and_revoked_is_for_good() {
    use KeyState::{Active, Published, Retired, Revoked};
    check_key_state(&[(5, Published)], Published);
    check_key_state(&[(9, Published), (5, Active)], Active);
    check_key_state(&[(9, Active), (5, Retired)], Retired);
    check_key_state(&[(9, Retired), (5, Revoked), (99, Active)], Revoked);
}

#[test]
fn a_state_that_would_go_back_is_refused() {
    let mut replica = Replica::new(RecordKind::Cluster, 1);
    replica.write(&[of_member(1, 5, MemberField::State(MemberState::Left))]);
    let back = [of_member(1, 9, MemberField::State(MemberState::Active))];
    let refused = replica.document().write(crdt::Actor([1; 8]), &back);
    assert_eq!(
        refused,
        Err(WriteError::Backward {
            field: format!("member/{}/state", member(1))
        })
    );
}

#[test]
fn the_rest_is_the_latest_and_ties_end_in_bytes() {
    let name = |ms, name: &str| of_member(1, ms, MemberField::Name(name.to_owned()));
    let winner = |writes: &[Write]| merged(writes).members[&member(1)].name.clone();
    assert_eq!(winner(&[name(5, "z"), name(6, "a")]), "a");
    assert_eq!(winner(&[name(5, "z"), name(5, "a")]), "z");
    assert_eq!(
        merged(&[setting(5, &[9]), setting(6, &[1, 2])]).settings["format/wire"],
        [1, 2]
    );
    let view = merged(&[
        of_key(5, KeyField::Public(vec![4; 65])),
        of_key(5, KeyField::Use("session".to_owned())),
        of_key(5, KeyField::Member(member(3))),
    ]);
    let key = &view.keys["2026-oslo"];
    assert_eq!(
        (key.usage.as_str(), key.member, key.public.len()),
        ("session", Some(member(3)), 65)
    );
}

#[test]
fn names_that_could_not_be_told_apart_are_refused() {
    let write = |write: Write| {
        Replica::new(RecordKind::Cluster, 1)
            .document()
            .write(crdt::Actor([1; 8]), &[write])
    };
    let key = |kid: &str| {
        let field = KeyField::State(KeyState::Active);
        write(Write::Cluster(ClusterWrite::Key {
            kid: kid.to_owned(),
            at: at(1),
            field,
        }))
    };
    assert!(key("a").is_ok());
    assert!(matches!(key("a/b"), Err(WriteError::Invalid(_))));
    assert!(matches!(key(""), Err(WriteError::Invalid(_))));
    assert!(matches!(key(&"k".repeat(129)), Err(WriteError::Invalid(_))));
    let long = MemberField::Key(vec![0; crdt::cluster::FIELD_BYTES_MAX + 1]);
    assert!(matches!(
        write(of_member(1, 1, long)),
        Err(WriteError::Invalid(_))
    ));
}
