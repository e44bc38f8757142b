//! Replicas of one record, for the tables of cases: who writes what, having seen what.
#![allow(
    dead_code,
    clippy::expect_used,
    reason = "each test file uses a part of it, and a failure here fails it"
)]

use crdt::{AccountId, Actor, Document, Hlc, MemberId, RecordKind, VaultId, View, Write};

/// A copy of one record, and every change that it has.
#[derive(Clone)]
pub(crate) struct Replica {
    kind: RecordKind,
    actor: Actor,
    pub(crate) changes: Vec<Vec<u8>>,
}

impl Replica {
    pub(crate) fn new(kind: RecordKind, actor: u8) -> Replica {
        Replica {
            kind,
            actor: Actor([actor; 8]),
            changes: Vec::new(),
        }
    }

    pub(crate) fn document(&self) -> Document {
        Document::new(self.kind)
            .apply(&self.changes)
            .expect("its own changes")
    }

    pub(crate) fn write(&mut self, writes: &[Write]) -> &mut Replica {
        let mut document = self.document();
        self.changes
            .push(document.write(self.actor, writes).expect("a good write"));
        self
    }

    /// Takes in all that the other has.
    pub(crate) fn hear(&mut self, other: &Replica) -> &mut Replica {
        for change in &other.changes {
            if !self.changes.contains(change) {
                self.changes.push(change.clone());
            }
        }
        self
    }

    pub(crate) fn view(&self) -> View {
        let document = self.document();
        let loaded = Document::load(self.kind, &document.save()).expect("what was just saved");
        assert_eq!(loaded.view(), document.view(), "saving changes nothing");
        assert_eq!(loaded.heads(), document.heads());
        assert_eq!(loaded.changes(), document.changes());
        document.view()
    }
}

/// What a record says after each of these was written by a replica that saw none of the others, told in
/// every order to one that has seen nothing.
#[track_caller]
pub(crate) fn concurrently(kind: RecordKind, writes: &[Vec<Write>]) -> View {
    let changes: Vec<Replica> = (1..)
        .zip(writes)
        .map(|(actor, writes)| {
            let mut replica = Replica::new(kind, actor);
            replica.write(writes);
            replica
        })
        .collect();
    let merged = |order: &mut dyn Iterator<Item = &Replica>| {
        let mut all = Replica::new(kind, 0xff);
        order.for_each(|replica| {
            all.hear(replica);
        });
        all.view()
    };
    let view = merged(&mut changes.iter());
    assert_eq!(
        view,
        merged(&mut changes.iter().rev()),
        "the order of arrival does not matter"
    );
    assert_eq!(view, merged(&mut changes.iter().chain(&changes)), "twice is once");
    for turn in 1..changes.len() {
        assert_eq!(
            view,
            merged(&mut changes.iter().cycle().skip(turn).take(changes.len()))
        );
    }
    view
}

/// A moment, by its milliseconds.
pub(crate) fn at(ms: u64) -> Hlc {
    Hlc::new(ms, 0)
}

pub(crate) fn account(byte: u8) -> AccountId {
    AccountId::from_bytes([byte; 15])
}

pub(crate) fn vault(byte: u8) -> VaultId {
    VaultId::from_bytes([byte; 16])
}

pub(crate) fn member(byte: u8) -> MemberId {
    MemberId::from_bytes([byte; 8])
}
