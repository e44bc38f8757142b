//! Hostile bytes: whatever is given, the worst result is an `Err`, and what is accepted saves and loads.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failure fails the test")]

mod laws;
mod replicas;

use std::panic;
use std::sync::Once;

use crdt::{
    AccountView, AccountWrite, Actor, ApplyError, Cell, Claim, ClaimedBy, ClusterView, ClusterWrite,
    DecodeError, Document, EmailView, EmailWrite, RecordKind, Staging, Transaction, VaultValue, Write,
    WriteError,
};
use proptest::prelude::*;
use replicas::{account, at, vault};
use sha2::{Digest, Sha256};

/// As the program does: panics that are caught and turned into errors stay quiet.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !crdt::decoding() {
                loud(info);
            }
        }));
    });
}

/// An email's history of two writers, with a fork in it.
fn history() -> (Document, Vec<Vec<u8>>) {
    let claim = |who: u8, proof: u64| Claim {
        account: account(who),
        vault: vault(who),
        proof: at(proof),
        done: at(proof),
        resets: 0,
        by: ClaimedBy::Mail,
        released: Vec::new(),
    };
    let claims = |who, proof| [Write::Email(EmailWrite::Claim(claim(who, proof)))];
    let releases = |who, ms| {
        [Write::Email(EmailWrite::Release {
            account: account(who),
            at: at(ms),
        })]
    };
    let new = || Document::new(RecordKind::Email);
    let mut a = new();
    let first = a.write(Actor([1; 8]), &claims(1, 5)).unwrap();
    let second = a.write(Actor([1; 8]), &releases(1, 7)).unwrap();
    let mut b = new().apply(&[&first]).unwrap();
    let third = b.write(Actor([2; 8]), &claims(2, 9)).unwrap();
    let mut merged = a.apply(&[&third]).unwrap();
    let fourth = merged.write(Actor([2; 8]), &claims(3, 11)).unwrap();
    (merged, vec![first, second, third, fourth])
}

/// A chunk's type, and its contents without the header.
fn contents(chunk: &[u8]) -> (u8, Vec<u8>) {
    let length = 10
        + chunk[9..]
            .iter()
            .position(|byte| byte & 0x80 == 0)
            .expect("a length");
    (chunk[8], chunk[length..].to_vec())
}

/// A chunk of these contents, its length and checksum right, so that the contents are looked at.
fn chunk(kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut hashed = vec![kind];
    let mut length = contents.len();
    while length >= 0x80 {
        hashed.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    hashed.push(length as u8);
    hashed.extend_from_slice(contents);
    let checksum = Sha256::digest(&hashed);
    [&[0x85, 0x6f, 0x4a, 0x83], &checksum[..4], &hashed].concat()
}

#[test]
fn a_chunk_made_here_is_as_automerge_makes_it() {
    let (document, changes) = history();
    for bytes in changes.iter().chain([&document.save()]) {
        let (kind, contents) = contents(bytes);
        assert_eq!(&chunk(kind, &contents), bytes);
    }
}

/// Changes a few bytes of a chunk's contents, or cuts some out, or doubles them.
fn mutate(bytes: &[u8], mutations: &[(u16, u8, u8)]) -> Vec<u8> {
    let (kind, mut contents) = contents(bytes);
    for (place, how, byte) in mutations {
        let place = usize::from(*place) % contents.len().max(1);
        let end = (place + usize::from(byte % 8)).min(contents.len());
        match how % 6 {
            _ if contents.is_empty() => contents.push(*byte),
            0 => drop(contents.drain(place..end.max(place))),
            1 => {
                let doubled = contents[place..end.max(place)].to_vec();
                contents.splice(place..place, doubled);
            }
            2 => contents.insert(place, *byte),
            3 => contents[place] ^= 1 << (byte % 8),
            4 => contents[place] = contents[place].wrapping_add(1),
            _ => contents[place] = *byte,
        }
    }
    chunk(kind, &contents)
}

fn mutations() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    prop::collection::vec(any::<(u16, u8, u8)>(), 1..6)
}

#[test]
fn mutated_changes_are_refused_or_harmless() {
    quiet();
    let (_, changes) = history();
    laws::hold(
        20_000,
        "--test junk",
        &(0_usize..4, mutations()),
        |(which, mutations)| {
            let bytes = mutate(&changes[which], &mutations);
            let before = Document::new(RecordKind::Email).apply(&changes[..which]).unwrap();
            if let Ok(after) = before.apply(&[&bytes]) {
                let loaded = Document::load(RecordKind::Email, &after.save());
                prop_assert_eq!(
                    loaded.map(|it| (it.heads(), it.view())),
                    Ok((after.heads(), after.view()))
                );
            }
            Ok(())
        },
    );
}

#[test]
fn mutated_documents_are_refused_or_harmless() {
    quiet();
    let saved = history().0.save();
    laws::hold(20_000, "--test junk", &mutations(), |mutations| {
        let bytes = mutate(&saved, &mutations);
        if let Ok(mut loaded) = Document::load(RecordKind::Email, &bytes) {
            let _ = loaded.view();
            let again = Document::load(RecordKind::Email, &loaded.save());
            prop_assert_eq!(again.map(|it| it.heads()), Ok(loaded.heads()));
            let cancel = [Write::Email(EmailWrite::Release {
                account: account(1),
                at: at(99),
            })];
            let _ = loaded.write(Actor([9; 8]), &cancel);
        }
        Ok(())
    });
}

#[test]
fn any_bytes_at_all_are_an_error_or_a_value() {
    quiet();
    laws::hold(
        20_000,
        "--test junk",
        &prop::collection::vec(any::<u8>(), 0..200),
        |mut bytes| {
            let _ = AccountView::decode(&bytes);
            let _ = EmailView::decode(&bytes);
            let _ = ClusterView::decode(&bytes);
            let _ = Cell::decode(&bytes);
            let _ = Staging::decode(&bytes);
            let _ = VaultValue::decode(&bytes);
            let _ = Transaction::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = 1; // the format that is known
                let _ = AccountView::decode(&bytes);
                let _ = EmailView::decode(&bytes);
                let _ = ClusterView::decode(&bytes);
                let _ = Cell::decode(&bytes);
            }
            prop_assert!(Document::load(RecordKind::Account, &bytes).is_err());
            prop_assert!(Document::new(RecordKind::Account).apply(&[&bytes]).is_err());
            Ok(())
        },
    );
}

#[test]
fn a_change_without_what_it_follows_is_refused_not_queued() {
    let (_, changes) = history();
    let refused = Document::new(RecordKind::Email)
        .apply(&changes[1..2])
        .map(|document| document.view());
    assert!(
        matches!(refused, Err(ApplyError::MissingDependency { index: 0, .. })),
        "{refused:?}"
    );
}

#[test]
fn a_second_change_of_one_actor_and_number_is_a_fork() {
    let created = |ms| [Write::Account(AccountWrite::Created(at(ms)))];
    let mut one = Document::new(RecordKind::Account);
    one.write(Actor([1; 8]), &created(1)).unwrap();
    let other = Document::new(RecordKind::Account)
        .write(Actor([1; 8]), &created(2))
        .unwrap();
    assert!(matches!(
        one.apply(&[&other]),
        Err(ApplyError::Forked { index: 0 })
    ));
}

#[test]
fn flipped_bits_without_a_new_checksum_are_refused() {
    let (document, changes) = history();
    let saved = document.save();
    for place in 0..saved.len() {
        let mut bytes = saved.clone();
        bytes[place] ^= 0x10;
        assert!(Document::load(RecordKind::Email, &bytes).is_err(), "at {place}");
    }
    for place in 0..changes[0].len() {
        let mut bytes = changes[0].clone();
        bytes[place] ^= 0x10;
        assert!(
            Document::new(RecordKind::Email).apply(&[&bytes]).is_err(),
            "at {place}"
        );
    }
}

#[test]
fn a_column_that_says_it_is_huge_is_refused_before_it_is_made() {
    // The field names of the operations: one, spelled out (-1). Now it is to be repeated 2^40 times.
    let (kind, mut contents) = contents(&history().1[0]);
    let place = contents
        .windows(7)
        .position(|bytes| bytes == b"\x7f\x05claim")
        .expect("the field's name");
    contents.splice(place..=place, [0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
    let column = contents
        .windows(2)
        .position(|pair| pair == [0x15, 7])
        .expect("the column's length");
    contents[column + 1] += 5;
    let bytes = chunk(kind, &contents);
    let refused = Document::new(RecordKind::Email)
        .apply(&[&bytes])
        .map(|document| document.view());
    let Err(ApplyError::Decode {
        source: DecodeError::TooLarge { what: "rows", .. },
        ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
}

#[test]
fn a_small_document_that_says_it_is_huge_is_refused_too() {
    let claim = AccountWrite::Created(at(1));
    let mut document = Document::new(RecordKind::Account);
    document.write(Actor([1; 8]), &[Write::Account(claim)]).unwrap();
    let (kind, mut contents) = contents(&document.save());
    let place = contents
        .windows(9)
        .position(|bytes| bytes == b"\x7f\x07created")
        .expect("the field's name");
    // 2^14 rows are within what a document may have, but not within what these bytes could hold.
    contents.splice(place..=place, [0x80, 0x80, 0x01]);
    let column = contents
        .windows(2)
        .position(|pair| pair == [0x15, 9])
        .expect("the column's length");
    contents[column + 1] += 2;
    let refused = Document::load(RecordKind::Account, &chunk(kind, &contents));
    assert!(
        matches!(refused, Err(DecodeError::TooLarge { what: "rows", .. })),
        "{refused:?}"
    );
}

#[test]
fn what_is_over_the_limits_is_refused() {
    let huge = vec![0; crdt::document::DOCUMENT_BYTES_MAX + 1];
    assert!(matches!(
        Document::load(RecordKind::Email, &huge),
        Err(DecodeError::TooLarge { .. })
    ));
}

#[test]
fn a_write_that_no_peer_would_take_is_refused_here() {
    let at = at(1);
    let many: Vec<Write> = (0..2000)
        .map(|n| {
            Write::Cluster(ClusterWrite::Setting {
                name: format!("s{n}"),
                at,
                value: vec![1],
            })
        })
        .collect();
    let refused = Document::new(RecordKind::Cluster).write(Actor([1; 8]), &many);
    assert!(
        matches!(refused, Err(WriteError::Invalid(DecodeError::TooLarge { .. }))),
        "{refused:?}"
    );
}
