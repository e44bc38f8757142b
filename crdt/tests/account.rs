//! What counts of several values of an account's field: one table of cases per field.

mod replicas;

use crdt::AccountWrite::{Cancelled, Created, SeenEpoch, SessionEpoch};
use crdt::{AccountView, AccountWrite, Epoch, Hlc, Password, RecordKind, View, Write};
use replicas::{Replica, at, concurrently, vault};

const NOT_SEEN: &str = "an account's record has an account's view";

fn merged(writes: &[Vec<AccountWrite>]) -> AccountView {
    let writes: Vec<Vec<Write>> = writes
        .iter()
        .map(|writes| writes.iter().cloned().map(Write::Account).collect())
        .collect();
    account_view(&concurrently(RecordKind::Account, &writes))
}

fn account_view(view: &View) -> AccountView {
    let View::Account(view) = view else {
        panic!("{NOT_SEEN}")
    };
    assert_eq!(AccountView::decode(&view.encode()).as_ref(), Ok(view));
    view.clone()
}

/// (resets, changed, done, rehashes, vault id)
fn password((resets, changed, done, rehashes, id): (u32, u64, u64, u32, u8)) -> Password {
    Password {
        resets,
        changed: at(changed),
        done: at(done),
        rehashes,
        vault: vault(id),
    }
}

#[track_caller]
fn check_password(concurrent: &[(u32, u64, u64, u32, u8)], winner: u8) {
    let writes: Vec<Vec<AccountWrite>> = concurrent
        .iter()
        .map(|one| vec![AccountWrite::Password(password(*one))])
        .collect();
    let view = merged(&writes);
    assert_eq!(view.password.map(|password| password.vault), Some(vault(winner)));
    let mut named: Vec<_> = concurrent.iter().map(|one| vault(one.4)).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(view.names(), named, "losers are named too");
}

#[test]
fn which_password_counts() {
    check_password(&[(0, 5, 5, 0, 1)], 1);
    // The later change.
    check_password(&[(0, 5, 5, 0, 1), (0, 6, 6, 0, 2)], 2);
    // A proof by mail beats a change made with a known password, however late.
    check_password(&[(1, 5, 7, 0, 1), (0, 9, 9, 0, 2)], 1);
    check_password(&[(0, 9, 9, 9, 2), (1, 5, 7, 0, 1), (2, 1, 1, 0, 3)], 3);
    // A rehash keeps the time of the change, so it never beats one.
    check_password(&[(0, 5, 5, 9, 1), (0, 6, 6, 0, 2)], 2);
    check_password(&[(0, 5, 5, 1, 1), (0, 5, 5, 2, 2)], 2);
    // One reset link completed at two cut-off sites: the earlier stands, rehashed or not.
    check_password(&[(1, 5, 8, 0, 1), (1, 5, 7, 0, 2)], 2);
    check_password(&[(1, 5, 8, 3, 1), (1, 5, 7, 0, 2)], 2);
    // Ties end in bytes.
    check_password(&[(1, 5, 7, 0, 1), (1, 5, 7, 0, 2)], 2);
    check_password(&[(1, 5, 7, 0, 3), (1, 5, 7, 0, 3)], 3);
}

#[track_caller]
fn check_epoch(concurrent: &[(u32, u64)], expected: Epoch) {
    let writes: Vec<Vec<AccountWrite>> = concurrent
        .iter()
        .map(|(resets, ms)| {
            vec![SessionEpoch(Epoch {
                resets: *resets,
                at: at(*ms),
            })]
        })
        .collect();
    let view = merged(&writes);
    assert_eq!(view.epoch, expected);
    assert_eq!(view.resets(), expected.resets);
}

#[test]
fn which_sessions_are_over() {
    let epoch = |resets, ms| Epoch { resets, at: at(ms) };
    check_epoch(&[], Epoch::default());
    check_epoch(&[(0, 5)], epoch(0, 5));
    // Two end the sessions made under either, and those made after the two have met are good.
    let past = |resets, ms| Epoch {
        resets,
        at: at(ms).succ(),
    };
    check_epoch(&[(0, 5), (0, 6)], past(0, 6));
    check_epoch(&[(0, 5), (0, 5)], past(0, 5));
    check_epoch(&[(1, 5), (0, 9)], past(1, 5));
    check_epoch(&[(1, 5), (1, 7), (1, 7)], past(1, 7));
}

#[test]
fn what_sessions_have_seen_counts_if_it_is_later_and_is_no_end() {
    let epoch = |ms| Epoch {
        resets: 0,
        at: at(ms),
    };
    let check = |writes: &[AccountWrite], expected: Hlc| {
        let concurrent: Vec<Vec<AccountWrite>> = writes.iter().map(|write| vec![write.clone()]).collect();
        assert_eq!(merged(&concurrent).epoch.at, expected);
    };
    let (end, seen) = (|ms| SessionEpoch(epoch(ms)), |ms| SeenEpoch(epoch(ms)));
    check(&[seen(5)], at(5));
    check(&[seen(5), seen(6)], at(6));
    check(&[end(5), seen(5)], at(5));
    check(&[end(5), seen(6)], at(6));
    check(&[end(5), end(6), seen(6)], at(6).succ());
    check(&[end(5), end(6), seen(7)], at(7));
}

#[test]
fn an_epoch_written_after_a_meeting_stands_alone() {
    let mut a = Replica::new(RecordKind::Account, 1);
    let mut b = Replica::new(RecordKind::Account, 2);
    let epoch = |ms| {
        [Write::Account(SessionEpoch(Epoch {
            resets: 0,
            at: at(ms),
        }))]
    };
    a.write(&epoch(5));
    b.write(&epoch(6));
    a.hear(&b).write(&epoch(8));
    assert_eq!(account_view(&a.view()).epoch.at, at(8));
}

#[test]
fn created_is_the_earliest_and_cancelled_is_for_good() {
    let view = merged(&[vec![Created(at(7))], vec![Created(at(5))], vec![Created(at(6))]]);
    assert_eq!(
        (view.created, view.cancelled, view.changes),
        (Some(at(5)), false, 3)
    );

    let known = AccountWrite::Password(password((0, 5, 5, 0, 1)));
    let reset = AccountWrite::Password(password((3, 9, 9, 0, 2)));
    let view = merged(&[vec![Created(at(5)), known.clone(), Cancelled(at(6))], vec![reset]]);
    assert!(view.cancelled);
    assert!(view.names().is_empty() && view.usable_password().is_none());

    // Also when it was written first, and everything else knowing of it.
    let mut a = Replica::new(RecordKind::Account, 1);
    a.write(&[Write::Account(Cancelled(at(6)))])
        .write(&[Write::Account(known)]);
    assert!(account_view(&a.view()).cancelled);
}

#[test]
fn a_password_of_fewer_resets_than_the_account_is_not_usable() {
    let usable = |resets, epoch| {
        let writes = [
            AccountWrite::Password(password((resets, 5, 5, 0, 1))),
            SessionEpoch(Epoch {
                resets: epoch,
                at: at(9),
            }),
        ];
        merged(&[writes.to_vec()]).usable_password().is_some()
    };
    assert!(usable(0, 0));
    assert!(usable(1, 1));
    assert!(usable(1, 0));
    assert!(!usable(0, 1));
}

#[test]
fn a_later_write_replaces_what_it_saw_whatever_the_clocks_say() {
    let mut a = Replica::new(RecordKind::Account, 1);
    let mut b = Replica::new(RecordKind::Account, 2);
    a.write(&[Write::Account(AccountWrite::Password(password((
        0, 900, 900, 0, 1,
    ))))]);
    b.hear(&a)
        .write(&[Write::Account(AccountWrite::Password(password((0, 5, 5, 0, 2))))]);
    a.hear(&b);
    let view = account_view(&a.view());
    assert_eq!(view.password.map(|password| password.vault), Some(vault(2)));
    assert_eq!(view.names(), [vault(2)]);
    assert_eq!(view.latest(), at(5));
}
