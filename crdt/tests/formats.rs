//! Formats are promises: a sample of each that was ever written, and what it means.
//!
//! `fixtures/format1.txt` has a line for each: its name and its bytes. A line is never changed; a new format
//! adds lines. The bytes that this version writes are compared too, since equal values must be equal bytes.
#![allow(clippy::expect_used, reason = "a failure fails the test")]

mod replicas;

use std::collections::BTreeMap;

use crdt::{
    AccountView, AccountWrite, Actor, Cell, CellKind, Claim, ClaimedBy, ClusterView, ClusterWrite, Document,
    ERASED_SCOPE, EmailId, EmailView, EmailWrite, Epoch, Erased, Hlc, IdpSeen, Invite, KeyField, KeyState,
    Mailed, MemberField, MemberState, Password, Place, Places, Purpose, RecordChange, RecordKey, RecordKind,
    Staging, Transaction, Tries, UsedAs, VaultValue, View, Write, cell::MailedOnce,
};
use replicas::{account, at, member, vault};

/// The sample of that name.
fn fixture(name: &str) -> Vec<u8> {
    let lines = include_str!("fixtures/format1.txt").lines();
    let samples: BTreeMap<&str, &str> = lines.filter_map(|line| line.split_once(' ')).collect();
    let digits = samples.get(name).copied().unwrap_or_default();
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal");
    pairs.map(byte).collect()
}

#[track_caller]
fn check(name: &str, written: &[u8]) {
    let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(fixture(name) == written, "not as in the fixture:\n{name} {hex}");
}

fn account_document() -> (Document, Vec<u8>) {
    let password = Password {
        resets: 2,
        changed: at(5),
        done: at(6),
        rehashes: 1,
        vault: vault(7),
    };
    let writes = [
        AccountWrite::Created(at(3)),
        AccountWrite::Password(password),
        AccountWrite::SessionEpoch(Epoch { resets: 2, at: at(5) }),
        AccountWrite::Cancelled(at(9)),
    ];
    written(RecordKind::Account, &writes.map(Write::Account))
}

/// An account whose epoch a session brought.
fn account_ahead_document() -> (Document, Vec<u8>) {
    let writes = [
        AccountWrite::SessionEpoch(Epoch { resets: 2, at: at(5) }),
        AccountWrite::SeenEpoch(Epoch { resets: 3, at: at(7) }),
    ];
    written(RecordKind::Account, &writes.map(Write::Account))
}

fn email_documents() -> [(Document, Vec<u8>); 2] {
    let claim = |who, proof| {
        Write::Email(EmailWrite::Claim(Claim {
            account: account(who),
            vault: vault(who),
            proof: at(proof),
            done: at(proof + 1),
            resets: 4,
            by: ClaimedBy::Idp,
            released: Vec::new(),
        }))
    };
    let release = |who, ms| {
        Write::Email(EmailWrite::Release {
            account: account(who),
            at: at(ms),
        })
    };
    let used = Write::Email(EmailWrite::UsedAs(UsedAs::Secondary, at(8)));
    let held = written(RecordKind::Email, &[release(1, 5), claim(2, 7), used]);
    let freed = written(RecordKind::Email, &[release(1, 5), claim(2, 7), release(3, 9)]);
    [held, freed]
}

fn cluster_document() -> (Document, Vec<u8>) {
    let of_member = |field| ClusterWrite::Member {
        id: member(7),
        at: at(3),
        field,
    };
    let of_key = |field| ClusterWrite::Key {
        kid: "k1".to_owned(),
        at: at(4),
        field,
    };
    let writes = vec![
        of_member(MemberField::Name("oslo-1".to_owned())),
        of_member(MemberField::Site("oslo".to_owned())),
        of_member(MemberField::Addresses(vec!["[2001:db8::7]:4433".to_owned()])),
        of_member(MemberField::Key(vec![1, 2])),
        of_member(MemberField::NextKey(vec![3])),
        of_member(MemberField::State(MemberState::Leaving)),
        of_key(KeyField::Public(vec![4, 5])),
        of_key(KeyField::Use("session".to_owned())),
        of_key(KeyField::Member(member(7))),
        of_key(KeyField::State(KeyState::Retired)),
        ClusterWrite::Setting {
            name: "s".to_owned(),
            at: at(5),
            value: vec![6],
        },
    ];
    let writes: Vec<Write> = writes.into_iter().map(Write::Cluster).collect();
    written(RecordKind::Cluster, &writes)
}

/// What came with joining by invitation.
fn members_document() -> (Document, Vec<u8>) {
    let of_member = |id, field| ClusterWrite::Member {
        id: member(id),
        at: at(3),
        field,
    };
    let writes = vec![
        of_member(7, MemberField::State(MemberState::Active)),
        of_member(8, MemberField::State(MemberState::Active)),
        of_member(8, MemberField::Version("0.1.0".to_owned())),
        of_member(8, MemberField::Features(["a".to_owned(), "b".to_owned()].into())),
        of_member(8, MemberField::Invited([5; 32])),
        of_member(
            8,
            MemberField::Evicted {
                by: member(7),
                compromised: true,
                words: "stolen".to_owned(),
            },
        ),
        ClusterWrite::Invite {
            token: [5; 32],
            at: at(2),
            invite: Invite {
                by: member(7),
                expires_ms: 9,
            },
        },
    ];
    let writes: Vec<Write> = writes.into_iter().map(Write::Cluster).collect();
    written(RecordKind::Cluster, &writes)
}

fn written(kind: RecordKind, writes: &[Write]) -> (Document, Vec<u8>) {
    let mut document = Document::new(kind);
    let change = document
        .write(Actor([1, 2, 3, 4, 5, 6, 7, 8]), writes)
        .expect("a good write");
    (document, change)
}

fn email(byte: u8) -> EmailId {
    EmailId::from_bytes([byte; 15])
}

#[test]
fn records_and_their_views() {
    let [held, freed] = email_documents();
    let records = [
        ("account", RecordKind::Account, account_document()),
        ("account-ahead", RecordKind::Account, account_ahead_document()),
        ("email-held", RecordKind::Email, held),
        ("email-freed", RecordKind::Email, freed),
        ("cluster", RecordKind::Cluster, cluster_document()),
        ("members", RecordKind::Cluster, members_document()),
    ];
    for (name, kind, (document, change)) in records {
        check(&format!("{name}-change"), &change);
        check(&format!("{name}-document"), &document.save());
        let view = match name {
            "cluster" => "cluster-view-3".to_owned(),
            name => format!("{name}-view"),
        };
        check(&view, &document.view().encode());
        let loaded = Document::load(kind, &fixture(&format!("{name}-document"))).expect("a sample");
        assert_eq!(loaded.view(), document.view());
        let applied = Document::new(kind)
            .apply(&[fixture(&format!("{name}-change"))])
            .expect("a sample");
        assert_eq!(applied.view(), document.view());
        let bytes = fixture(&view);
        let view = match kind {
            RecordKind::Account => AccountView::decode(&bytes).map(View::Account),
            RecordKind::Email => EmailView::decode(&bytes).map(View::Email),
            RecordKind::Cluster => ClusterView::decode(&bytes).map(View::Cluster),
        };
        assert_eq!(view, Ok(document.view()));
    }
}

/// The first format said nothing of when a key was published.
#[test]
fn a_cluster_s_view_in_its_first_format() {
    let View::Cluster(mut expected) = cluster_document().0.view() else {
        panic!("the cluster's record has the cluster's view")
    };
    for key in expected.keys.values_mut() {
        (key.since, key.published) = (Hlc::ZERO, Hlc::ZERO);
    }
    assert_eq!(ClusterView::decode(&fixture("cluster-view")), Ok(expected));
}

#[test]
fn the_rest() {
    let value = VaultValue::new([3; 16], b"ada@example.org".to_vec());
    check("vault", &value.encode());
    assert_eq!(VaultValue::decode(&fixture("vault")).as_ref(), Ok(&value));

    let tries = Tries {
        since: at(5),
        count: 6,
    };
    check("tries", &tries.encode());
    assert_eq!(Tries::decode(&fixture("tries")), Ok(tries));

    let erased = Erased {
        member: member(7),
        at_ms: 8,
        scope: ERASED_SCOPE,
    };
    check("erased", &erased.encode());
    assert_eq!(Erased::decode(&fixture("erased")), Ok(erased));

    let places = Places {
        places: vec![Place {
            id: [6; 16],
            epoch: Epoch { resets: 2, at: at(5) },
            started_ms: 7,
            seen_ms: 8,
            expires_ms: 9,
            device: "Firefox on Linux".to_owned(),
            site: "oslo".to_owned(),
        }],
    };
    check("places", &places.encode());
    assert_eq!(Places::decode(&fixture("places")), Ok(places));

    for (name, seen) in [
        ("idp-seen", IdpSeen::Seen { at_ms: 8 }),
        ("idp-forgotten", IdpSeen::Forgotten),
    ] {
        check(name, &seen.encode());
        assert_eq!(IdpSeen::decode(&fixture(name)), Ok(seen));
    }

    let staging = Staging {
        purpose: Purpose::Transition,
        address: "ada@example.org".to_owned(),
        email: None,
        password_hash: Some("$argon2id$".to_owned()),
        account: Some((account(7), 8)),
        epoch_at: Hlc::ZERO,
        rp_origin: Some("https://rp.example".to_owned()),
        at: at(5),
        nonce_hash: [9; 32],
        code_hash: None,
        ended: true,
        completed: false,
    };
    check("staging", &staging.encode());
    assert_eq!(Staging::decode(&fixture("staging")).as_ref(), Ok(&staging));

    // What came with sign-in: fields that the first sample does without.
    let completed = Staging {
        email: Some(email(6)),
        epoch_at: at(4),
        code_hash: Some([8; 32]),
        completed: true,
        ..staging
    };
    check("staging-completed", &completed.encode());
    assert_eq!(Staging::decode(&fixture("staging-completed")), Ok(completed));

    let mailed = Mailed(vec![MailedOnce {
        at_ms: 5,
        staging: [9; 32],
    }]);
    check("mailed", &mailed.encode());
    assert_eq!(Mailed::decode(&fixture("mailed")), Ok(mailed));

    let cell = Cell {
        kind: CellKind::TRIES,
        key: vec![1, 2, 3],
        slot: [4; 8],
        stamp: at(5),
        value: tries.encode(),
        expires_ms: 6,
    };
    check("cell", &cell.encode());
    assert_eq!(Cell::decode(&fixture("cell")).as_ref(), Ok(&cell));

    let records = vec![RecordChange {
        key: RecordKey::from(account(1)),
        changes: vec![account_document().1],
    }];
    let transaction = Transaction {
        hlc: at(5),
        records,
        vault: vec![value],
        cells: vec![cell],
    };
    check("transaction", &transaction.encode());
    assert_eq!(Transaction::decode(&fixture("transaction")), Ok(transaction));
}
