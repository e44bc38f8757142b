//! Cells: the laws of their merging, and what each kind's rule means.

mod laws;

use crdt::{
    AccountId, Cell, CellKind, DecodeError, EmailId, Hlc, Mailed, Purpose, Staging, Tries,
    cell::{MAILED_MAX, MailedOnce},
};
use proptest::prelude::*;

fn staging() -> Staging {
    Staging {
        purpose: Purpose::Reset,
        address: "ada@example.org".to_owned(),
        email: None,
        password_hash: None,
        account: Some((AccountId::from_bytes([7; 15]), 3)),
        epoch_at: Hlc::ZERO,
        rp_origin: Some("https://rp.example".to_owned()),
        at: Hlc::new(5, 6),
        nonce_hash: [9; 32],
        code_hash: None,
        ended: false,
        completed: false,
    }
}

fn cell(kind: CellKind, stamp: u64, value: Vec<u8>, expires_ms: u64) -> Cell {
    Cell {
        kind,
        key: vec![1, 2, 3],
        slot: [4; 8],
        stamp: Hlc::new(stamp, 0),
        value,
        expires_ms,
    }
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let staging = (any::<bool>(), 0_u8..3).prop_map(|(ended, byte)| {
        Staging {
            ended,
            nonce_hash: [byte; 32],
            password_hash: ended.then(|| "hash".to_owned()),
            ..staging()
        }
        .encode()
    });
    prop_oneof![
        (0_u64..3, 0_u32..3).prop_map(|(since, count)| Tries {
            since: Hlc::new(since, 0),
            count
        }
        .encode()),
        staging,
        prop::collection::vec(0_u8..3, 0..4),
    ]
}

#[test]
fn merging_is_commutative_associative_and_idempotent() {
    let one = || (0_u64..3, value(), 0_u64..3);
    let inputs = (0_u8..10, one(), one(), one());
    laws::hold(4096, "--test cells", &inputs, |(kind, a, b, c)| {
        let [a, b, c] = [a, b, c].map(|(stamp, value, expires)| cell(CellKind(kind), stamp, value, expires));
        let merge = |left: &Cell, right: &Cell| left.clone().merge(right.clone());
        prop_assert_eq!(merge(&a, &a), a.clone());
        prop_assert_eq!(merge(&a, &b), merge(&b, &a));
        prop_assert_eq!(merge(&merge(&a, &b), &c), merge(&a, &merge(&b, &c)));
        prop_assert_eq!(merge(&merge(&a, &b), &b), merge(&a, &b));
        prop_assert_eq!(Cell::decode(&a.encode()), Ok(a));
        Ok(())
    });
}

#[track_caller]
fn check(kind: CellKind, left: (u64, Vec<u8>), right: (u64, Vec<u8>), winner: &[u8]) {
    let (left, right) = (cell(kind, left.0, left.1, 50), cell(kind, right.0, right.1, 60));
    let merged = left.clone().merge(right.clone());
    assert_eq!(merged, right.merge(left));
    assert_eq!(merged.value, winner);
    assert_eq!(merged.expires_ms, 60, "the later expiry");
}

#[test]
fn each_kind_has_its_rule() {
    let tries = |since, count| {
        Tries {
            since: Hlc::new(since, 0),
            count,
        }
        .encode()
    };
    check(CellKind::TRIES, (9, tries(1, 2)), (1, tries(1, 3)), &tries(1, 3));
    check(CellKind::TRIES, (9, tries(1, 9)), (1, tries(2, 0)), &tries(2, 0));
    check(
        CellKind::TRIES,
        (1, tries(0, 0)),
        (9, b"unreadable".to_vec()),
        &tries(0, 0),
    );
    let ended = Staging {
        ended: true,
        ..staging()
    };
    check(
        CellKind::STAGING,
        (9, staging().encode()),
        (1, ended.encode()),
        &ended.encode(),
    );
    let other = Staging {
        address: "bob@example.org".to_owned(),
        ..staging()
    };
    check(
        CellKind::STAGING,
        (2, staging().encode()),
        (1, other.encode()),
        &staging().encode(),
    );
    check(CellKind::SIGNED_IN, (2, vec![1]), (1, vec![2]), &[1]);
    check(CellKind::SIGNED_IN, (2, vec![1]), (2, vec![2]), &[2]);
    check(CellKind(200), (2, vec![1]), (1, vec![2]), &[1]);
}

#[test]
fn only_the_slots_that_saw_the_latest_success_add_up() {
    let total = |slots: &[(u64, u32)]| {
        Tries::total(slots.iter().map(|(since, count)| Tries {
            since: Hlc::new(*since, 0),
            count: *count,
        }))
    };
    assert_eq!(total(&[]), 0);
    assert_eq!(total(&[(0, 2), (0, 3)]), 5);
    assert_eq!(total(&[(5, 2), (0, 9), (5, 1)]), 3);
    assert_eq!(total(&[(0, 9), (5, 0)]), 0);
    assert_eq!(total(&[(0, u32::MAX), (0, 1)]), u32::MAX);
}

#[test]
fn a_cell_is_gone_at_its_expiry() {
    let cell = cell(CellKind::ENDED, 1, Vec::new(), 100);
    assert!(cell.is_live(99) && !cell.is_live(100));
}

#[test]
fn what_is_over_the_limits_is_refused() {
    let long_key = Cell {
        key: vec![0; 33],
        ..cell(CellKind::ENDED, 1, Vec::new(), 1)
    };
    let long_value = cell(CellKind::ENDED, 1, vec![0; 4097], 1);
    for cell in [long_key, long_value] {
        assert!(matches!(cell.validate(), Err(DecodeError::TooLarge { .. })));
        assert!(matches!(
            Cell::decode(&cell.encode()),
            Err(DecodeError::TooLarge { .. })
        ));
    }
}

#[test]
fn a_staging_comes_back_and_tolerates_what_is_new() {
    for staging in [
        staging(),
        Staging {
            account: None,
            rp_origin: None,
            ended: true,
            completed: true,
            ..staging()
        },
        Staging {
            email: Some(EmailId::from_bytes([6; 15])),
            epoch_at: Hlc::new(7, 8),
            code_hash: Some([5; 32]),
            ..staging()
        },
    ] {
        assert_eq!(Staging::decode(&staging.encode()), Ok(staging));
    }
    // A map of one more field, which is itself a map.
    let mut newer = staging().encode();
    assert_eq!(newer[0] & 0xe0, 0xa0, "a map of fewer than 24 fields");
    newer[0] += 1;
    newer.extend_from_slice(&[0x63, b'n', b'e', b'w', 0xa1, 0x01, 0x81, 0x02]);
    assert_eq!(Staging::decode(&newer), Ok(staging()));
    newer.push(0);
    assert!(matches!(Staging::decode(&newer), Err(DecodeError::Trailing(_))));
}

#[test]
fn of_more_mails_than_a_cell_takes_the_latest_stay() {
    let mail = |at_ms| MailedOnce {
        at_ms,
        staging: [at_ms as u8; 32],
    };
    let many = Mailed((0..100).map(mail).collect());
    let kept = Mailed::decode(&many.encode()).expect("what we wrote");
    assert_eq!(kept.0.len(), MAILED_MAX);
    assert_eq!(kept.0.last(), Some(&mail(99)));
    cell(CellKind::MAIL_THROTTLE, 1, many.encode(), 1)
        .validate()
        .expect("within the limits");
    assert_eq!(Mailed::decode(&Mailed::default().encode()), Ok(Mailed::default()));
    assert!(Mailed::decode(&staging().encode()).is_err());
}
