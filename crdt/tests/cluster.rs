//! What counts of several values in the cluster's record.

mod laws;
mod replicas;

use std::collections::BTreeSet;

use crdt::{
    Actor, ClusterView, ClusterWrite, Document, Invite, KeyField, KeyState, MemberField, MemberId,
    MemberState, RecordKind, View, Write, WriteError,
};
use proptest::prelude::*;
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
fn a_key_says_when_it_was_published_and_since_when_it_is_what_it_is() {
    let view = merged(&[
        of_key(5, KeyField::Public(vec![4; 65])),
        of_key(9, KeyField::State(KeyState::Active)),
        of_key(7, KeyField::State(KeyState::Retired)),
    ]);
    let key = &view.keys["2026-oslo"];
    assert_eq!((key.published, key.since), (at(5), at(7)));
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

fn evicts(by: u8, id: u8, ms: u64) -> Write {
    evicts_for(by, id, ms, false)
}

fn evicts_for(by: u8, id: u8, ms: u64, compromised: bool) -> Write {
    let words = format!("by {by}");
    of_member(
        id,
        ms,
        MemberField::Evicted {
            by: member(by),
            compromised,
            words,
        },
    )
}

fn all_active(members: &[u8]) -> Vec<Write> {
    let active = |id: &u8| of_member(*id, 1, MemberField::State(MemberState::Active));
    members.iter().map(active).collect()
}

/// Members 1 to 4 are active, and these evictions are said concurrently: by whom, of whom, when.
#[track_caller]
fn check_evictions(said: &[(u8, u8, u64)], still_active: &[u8]) {
    let mut writes = all_active(&[1, 2, 3, 4]);
    writes.extend(said.iter().map(|(by, id, ms)| evicts(*by, *id, *ms)));
    let view = merged(&writes);
    let active: Vec<MemberId> = view
        .members
        .values()
        .filter(|member| member.state == MemberState::Active)
        .map(|member| member.id)
        .collect();
    let expected: Vec<MemberId> = still_active.iter().map(|byte| member(*byte)).collect();
    assert_eq!(active, expected);
}

#[test]
fn of_halves_that_evict_each_other_the_first_to_say_so_stays() {
    check_evictions(&[], &[1, 2, 3, 4]);
    check_evictions(&[(1, 2, 5)], &[1, 3, 4]);
    check_evictions(&[(1, 2, 5), (2, 1, 6)], &[1, 3, 4]);
    check_evictions(&[(1, 2, 6), (2, 1, 5)], &[2, 3, 4]);
    // Of two at one moment the one that evicts the smaller id comes first.
    check_evictions(&[(1, 2, 5), (2, 1, 5)], &[2, 3, 4]);
    // Halves {1, 2} and {3, 4}: what an evicted one said later is void, what it said before stands.
    check_evictions(&[(1, 3, 5), (1, 4, 7), (3, 1, 6), (3, 2, 8)], &[1, 2]);
    check_evictions(&[(1, 3, 5), (1, 4, 7), (3, 1, 6), (4, 2, 6)], &[1]);
    check_evictions(&[(1, 3, 5), (3, 2, 4)], &[1, 4]);
    // A ring, and everyone against one.
    check_evictions(&[(1, 2, 5), (2, 3, 6), (3, 4, 7), (4, 1, 8)], &[1, 3]);
    check_evictions(
        &[(2, 1, 5), (3, 1, 6), (4, 1, 7), (1, 2, 4), (1, 3, 4), (1, 4, 4)],
        &[1],
    );
    // Who was never heard of has no word.
    check_evictions(&[(9, 1, 5)], &[1, 2, 3, 4]);
}

#[test]
fn an_eviction_says_by_whom_and_why_and_may_turn_worse() {
    let mut writes = all_active(&[1, 2, 3]);
    writes.push(evicts(1, 2, 5));
    let view = merged(&writes);
    let out = &view.members[&member(2)];
    assert!(out.is_out() && !out.is_compromised());
    let eviction = out
        .evicted
        .as_ref()
        .map(|eviction| (eviction.by, eviction.words.as_str()));
    assert_eq!(eviction, Some((member(1), "by 1")));

    writes.push(evicts_for(3, 2, 9, true));
    let out = merged(&writes).members.remove(&member(2));
    let eviction = out.and_then(|member| member.evicted);
    assert_eq!(
        eviction.map(|eviction| (eviction.by, eviction.compromised)),
        Some((member(1), true))
    );

    // Who is out itself cannot make it worse.
    writes.push(evicts(1, 3, 6));
    let view = merged(&writes);
    assert!(view.members[&member(2)].is_out() && !view.members[&member(2)].is_compromised());
}

#[test]
fn a_member_does_not_evict_itself() {
    let itself = [evicts(1, 1, 5)];
    let refused = Document::new(RecordKind::Cluster).write(Actor([1; 8]), &itself);
    assert!(matches!(refused, Err(WriteError::Invalid(_))), "{refused:?}");
}

#[test]
fn somebody_stays_also_where_the_evictor_has_left() {
    let mut writes = all_active(&[1]);
    writes.push(of_member(2, 3, MemberField::State(MemberState::Left)));
    writes.push(evicts(2, 1, 2));
    assert_eq!(merged(&writes).members[&member(1)].state, MemberState::Active);
}

#[test]
fn an_invitation_admits_the_first_to_use_it() {
    let invited = |id, ms, token| of_member(id, ms, MemberField::Invited([token; 32]));
    let state = |view: &ClusterView, id| view.members[&member(id)].state;
    let mut writes = all_active(&[1, 2, 3, 4]);
    writes.extend([
        invited(2, 9, 7),
        invited(3, 5, 7),
        invited(4, 9, 8),
        evicts(2, 4, 2),
    ]);
    writes.push(Write::Cluster(ClusterWrite::Invite {
        token: [7; 32],
        at: at(2),
        invite: Invite {
            by: member(1),
            expires_ms: 1_000,
        },
    }));
    let view = merged(&writes);
    assert_eq!(state(&view, 3), MemberState::Active);
    assert_eq!(state(&view, 2), MemberState::Evicted);
    assert_eq!(view.members[&member(2)].evicted, None);
    assert_eq!(
        state(&view, 4),
        MemberState::Active,
        "who was never in has no word"
    );
    assert_eq!(view.invites[&[7; 32]].by, member(1));
    // At one moment, the smaller id.
    let view = merged(&[all_active(&[2, 3]), vec![invited(2, 5, 7), invited(3, 5, 7)]].concat());
    assert_eq!(
        (state(&view, 2), state(&view, 3)),
        (MemberState::Active, MemberState::Evicted)
    );
}

#[test]
fn a_feature_is_finalised_by_a_setting_of_its_name() {
    let finalise = Write::Cluster(ClusterWrite::Setting {
        name: crdt::cluster::feature_setting("receipts"),
        at: at(1),
        value: vec![1],
    });
    let able = of_member(
        1,
        1,
        MemberField::Features(["receipts".to_owned(), "x".to_owned()].into()),
    );
    let view = merged(&[able, of_member(1, 1, MemberField::Version("0.1.0".to_owned()))]);
    assert!(!view.finalised("receipts"));
    let one = &view.members[&member(1)];
    assert_eq!((one.version.as_str(), one.features.len()), ("0.1.0", 2));
    let view = merged(&[finalise]);
    assert!(view.finalised("receipts") && !view.finalised("receipt"));
}

/// Up to six members, the states that they gave themselves, their invitations, and anyone's evictions of anyone.
fn opinions() -> impl Strategy<Value = Vec<Write>> {
    let id = || 1..7_u8;
    let moment = || 1..12_u64;
    let state = prop_oneof![
        1 => Just(MemberState::Joining),
        4 => Just(MemberState::Active),
        1 => Just(MemberState::Leaving),
        1 => Just(MemberState::Left)
    ];
    let states = prop::collection::vec((id(), moment(), state), 1..8);
    let invited = prop::collection::vec((id(), moment(), 0..3_u8), 0..4);
    let evictions = prop::collection::vec((id(), id(), moment(), any::<bool>()), 0..16);
    (states, invited, evictions).prop_map(|(states, invited, evictions)| {
        let states = states
            .into_iter()
            .map(|(id, ms, state)| of_member(id, ms, MemberField::State(state)));
        let invited = invited
            .into_iter()
            .map(|(id, ms, token)| of_member(id, ms, MemberField::Invited([token; 32])));
        let evictions = evictions
            .into_iter()
            .filter(|(by, id, ..)| by != id)
            .map(|(by, id, ms, compromised)| evicts_for(by, id, ms, compromised));
        states.chain(invited).chain(evictions).collect()
    })
}

fn active(view: &ClusterView) -> BTreeSet<MemberId> {
    let active = view
        .members
        .values()
        .filter(|member| member.state == MemberState::Active);
    active.map(|member| member.id).collect()
}

#[test]
fn any_opinions_in_any_order_leave_the_same_members_and_somebody() {
    laws::hold(
        256,
        "--test cluster",
        &opinions().prop_flat_map(|writes| (Just(writes.clone()), Just(writes).prop_shuffle())),
        |(writes, shuffled)| {
            let changes: Vec<Vec<u8>> = (1..)
                .zip(&writes)
                .map(|(actor, write)| {
                    let mut document = Document::new(RecordKind::Cluster);
                    document.write(Actor([actor; 8]), std::slice::from_ref(write))
                })
                .collect::<Result<_, _>>()
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            let told = |order: &[Write]| -> Result<ClusterView, TestCaseError> {
                let changes: Vec<&Vec<u8>> = order
                    .iter()
                    .filter_map(|write| Some(&changes[writes.iter().position(|other| other == write)?]))
                    .collect();
                let document = Document::new(RecordKind::Cluster)
                    .apply(&changes)
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let View::Cluster(view) = document.view() else {
                    return Err(TestCaseError::fail("the cluster's record has the cluster's view"));
                };
                Ok(view)
            };
            let view = told(&writes)?;
            prop_assert_eq!(&told(&shuffled)?, &view);
            prop_assert_eq!(ClusterView::decode(&view.encode()), Ok(view.clone()));
            let before: Vec<Write> = writes
                .iter()
                .filter(|write| {
                    !matches!(
                        write,
                        Write::Cluster(ClusterWrite::Member {
                            field: MemberField::Evicted { .. },
                            ..
                        })
                    )
                })
                .cloned()
                .collect();
            prop_assert_eq!(active(&told(&before)?).is_empty(), active(&view).is_empty());
            // Whoever is out was put out by somebody who was in, or by an invitation used before.
            for member in view.members.values() {
                if let Some(eviction) = &member.evicted {
                    prop_assert!(eviction.by != member.id);
                    prop_assert!(view.members.contains_key(&eviction.by));
                }
            }
            Ok(())
        },
    );
}
