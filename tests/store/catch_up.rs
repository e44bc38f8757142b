//! A replica that was away for longer than the logs reach back.

use std::collections::BTreeMap;

use crdt::Transaction;
use gossip::{
    quic::LogChunk,
    reconcile::{Cut, CutError, Key, Part, Purpose, StateDigest},
};
use persona::{
    identity::{Outcome, Word},
    store::{
        KeepLog, ReadError, Records, TransactError,
        disk::{Family, memory::Fault},
    },
};

use crate::{
    repair::{OWN, PEER, elements},
    replica::{Replica, Time, address, passwords, with_body},
};

/// States in one part.
const STATES: usize = 3;

impl Replica {
    /// What a catch-up from this replica brings, in order.
    pub(crate) fn parts_for(&self, other: &Replica) -> Vec<Part> {
        self.parts_beside(&other.elements())
    }

    /// What a catch-up brings to one that holds this.
    fn parts_beside(&self, theirs: &BTreeMap<Key, StateDigest>) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut collect = |cut: &dyn Cut| {
            let vector = cut.vector().clone();
            let differing: Vec<Key> = elements(cut)
                .into_iter()
                .filter(|(key, digest)| theirs.get(key) != Some(digest))
                .map(|(key, _)| key)
                .collect();
            for keys in differing.chunks(STATES) {
                let state = |key: &Key| Some((*key, cut.state(key).expect("readable")?));
                parts.push(Part::States {
                    cut: vector.clone(),
                    states: keys.iter().filter_map(state).collect(),
                });
            }
            let mut from = Some(Vec::new());
            while let Some(at) = from {
                let (cells, next) = cut.cells(&at, 100).expect("readable");
                parts.push(Part::Cells(cells));
                from = next;
            }
            parts.push(Part::Complete { cut: vector });
        };
        self.store.with_cut(Purpose::Look, &mut collect).expect("a cut");
        parts
    }

    pub(crate) fn take(&self, parts: &[Part]) -> Result<(), CutError> {
        parts
            .iter()
            .try_for_each(|part| self.store.take_part(OWN, PEER, Purpose::CatchUp, part.clone()))
    }

    fn is_trimmed_for(&self, other: &Replica) -> bool {
        let read = self.store.read_log(&other.store.state().vector, None, 1 << 20);
        matches!(read.expect("a log"), LogChunk::Trimmed)
    }
}

/// One that stayed and trimmed its log, and one that was away with writes of its own that nobody has.
async fn apart(time: &Time) -> (Replica, Replica) {
    let passwords = passwords();
    let stayed = Replica::new(1, time, &passwords, KeepLog::Unstable);
    let away = Replica::new(2, time, &passwords, KeepLog::Unstable);
    for name in ["ada", "bob"] {
        stayed
            .sign_up(&format!("{name}@example.org"))
            .await
            .expect("a sign-up");
    }
    away.pull(&stayed).await;
    for number in 0..10 {
        time.pass(1000);
        stayed
            .sign_up(&format!("new{number}@example.org"))
            .await
            .expect("a sign-up");
    }
    // A failed try leaves a cell.
    assert!(stayed.signs_in("ada@example.org").await);
    away.sign_up("mine@example.org").await.expect("a sign-up");
    stayed.store.trim(stayed.store.state().vector.clone());
    stayed.settled().await;
    assert!(stayed.is_trimmed_for(&away), "no log reaches back");
    (stayed, away)
}

/// Both hear what the other wrote after the catch-up, and hold the same.
async fn agree(stayed: &Replica, away: &Replica) {
    stayed.pull(away).await;
    away.pull(stayed).await;
    away.assert_same(stayed);
    away.assert_sound();
    stayed.assert_sound();
    for name in ["ada", "new3", "new9", "mine"] {
        let text = format!("{name}@example.org");
        assert!(
            away.signs_in(&text).await && stayed.signs_in(&text).await,
            "{name}"
        );
    }
}

#[tokio::test]
async fn states_take_the_place_of_transactions_that_no_log_holds() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    let before = away.store.state().vector.clone();
    let parts = stayed.parts_for(&away);
    let (last, rest) = parts.split_last().expect("parts");
    away.take(rest).expect("kept");
    assert_eq!(
        away.store.state().vector,
        before,
        "until all of it is there, nothing counts"
    );
    assert!(!away.signs_in("new3@example.org").await);
    away.take(std::slice::from_ref(last)).expect("kept");
    away.settled().await;

    let state = away.store.state();
    assert!(state.vector.covers_vector(&stayed.store.state().vector));
    assert!(state.vector.covers_vector(&before));
    assert_eq!(away.store.counters().catch_ups, 1);
    away.assert_sound();
    assert!(stayed.is_trimmed_for(&Replica::new(3, &time, &passwords(), KeepLog::Everything)));
    agree(&stayed, &away).await;

    // What it writes now follows what came by states: whoever has not that, waits for it.
    let (_, dot) = away.sign_up("later@example.org").await.expect("a sign-up");
    let written = away.log_beyond(&stayed.store.state().vector);
    assert_eq!(written.last().map(|received| received.envelope.dot), Some(dot));
    agree(&stayed, &away).await;
}

#[tokio::test]
async fn who_has_folded_a_start_lacks_nothing_of_it() {
    let time = Time::new();
    let mut replica = Replica::new(1, &time, &passwords(), KeepLog::Unstable);
    replica.sign_up("ada@example.org").await.expect("a sign-up");
    let first = replica.store.state().start;
    replica.restart(false);
    replica.sign_up("bob@example.org").await.expect("a sign-up");
    replica.store.trim(replica.store.state().vector.clone());
    replica.settled().await;
    let mut peers = replica.store.state().vector.clone();
    peers.fold(first.replica, first.epoch);
    let (_, dot) = replica.sign_up("cy@example.org").await.expect("a sign-up");
    assert!(
        !replica.store.state().vector.folded(&first),
        "here it is not folded yet"
    );
    let lacked = replica.log_beyond(&peers);
    let dots: Vec<_> = lacked.iter().map(|received| received.envelope.dot).collect();
    assert_eq!(dots, [dot]);
}

#[tokio::test]
async fn a_crash_at_any_batch_loses_nothing_and_raises_nothing_too_early() {
    for fault in [Fault::Lost, Fault::Landed, Fault::Unsynced] {
        for batch in 0.. {
            let time = Time::new();
            let (stayed, mut away) = apart(&time).await;
            let before = away.store.state().vector.clone();
            let batches = away.disk.batches();
            let parts = stayed.parts_for(&away);
            let mut met = false;
            for (number, part) in parts.iter().enumerate() {
                if number == batch {
                    away.disk.plan(fault);
                    met = true;
                }
                if away.take(std::slice::from_ref(part)).is_err() {
                    break;
                }
            }
            if !met {
                // The batches after the last part are those of the merging.
                away.disk.plan(fault);
            }
            away.settled().await;
            away.restart(true);
            let state = away.store.state();
            assert!(state.vector.covers_vector(&before));
            let raised = state.vector.covers_vector(&stayed.store.state().vector);
            if !raised {
                assert!(!away.signs_in("new3@example.org").await, "{fault:?} at {batch}");
                away.assert_sound();
                let parts = stayed.parts_for(&away);
                away.take(&parts).expect("kept now");
                away.settled().await;
            }
            agree(&stayed, &away).await;
            if batch > parts.len() + 2 {
                assert!(away.disk.batches() > batches);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_merge_that_was_cut_short_goes_on_before_anything_is_written() {
    let time = Time::new();
    let (stayed, mut away) = apart(&time).await;
    let parts = stayed.parts_for(&away);
    let (last, rest) = parts.split_last().expect("parts");
    away.take(rest).expect("kept");
    // The batch that says that everything is there, and the process dies before it merges any of it: what it writes
    // first on reopening fails.
    away.disk.plan(Fault::Landed);
    away.disk.plan(Fault::Lost);
    let _ = away.take(std::slice::from_ref(last));
    away.restart(true);
    let written = away
        .store
        .transact(|txn| {
            let at = txn.stamp();
            txn.write_account(
                crdt::AccountId::from_bytes([5; 15]),
                crdt::AccountWrite::Created(at),
            );
            Ok::<(), TransactError>(())
        })
        .await;
    assert!(written.is_ok(), "{written:?}");
    let state = away.store.state();
    assert!(state.vector.covers_vector(&stayed.store.state().vector));
    assert_eq!(away.store.counters().catch_ups, 1);
    away.assert_sound();
    agree(&stayed, &away).await;
}

#[tokio::test]
async fn what_was_given_up_is_not_mixed_with_what_comes_later() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    let early = stayed.parts_for(&away);
    away.take(&early[..2]).expect("kept");
    time.pass(1000);
    stayed.sign_up("late@example.org").await.expect("a sign-up");
    let late = stayed.parts_for(&away);
    // The earlier conversation broke off; the later one's last part alone is not all of it.
    let last = std::slice::from_ref(&late[late.len() - 1]);
    assert!(away.take(last).is_err(), "what lies aside is of another cut");
    away.take(&late).expect("kept");
    away.settled().await;
    agree(&stayed, &away).await;
    assert!(away.signs_in("late@example.org").await);
    let mut aside = 0;
    time.pass(120_000);
    away.store
        .scan_everything(|family, _, _| aside += usize::from(family == Family::Side))
        .expect("a scan");
    assert!(aside <= 2 * STATES, "only what was given up: {aside}");
}

#[tokio::test]
async fn nothing_stays_aside_of_a_conversation_that_broke_off() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    let parts = stayed.parts_for(&away);
    let mut breaks_off = |_: &dyn Cut| away.take(&parts[..2]).expect("kept");
    away.store
        .with_cut(Purpose::CatchUp, &mut breaks_off)
        .expect("a cut");
    assert!(!away.disk.keys(Family::Side).is_empty());
    // It may never begin again: what it was to bring may come another way.
    away.sign_up("late@example.org").await.expect("a sign-up");
    away.swept(&time).await;
    assert_eq!(away.disk.keys(Family::Side), Vec::<Vec<u8>>::new());
    let parts = stayed.parts_for(&away);
    away.take(&parts).expect("kept");
    away.settled().await;
    agree(&stayed, &away).await;
}

#[tokio::test]
async fn a_conversation_does_not_outlive_the_start_that_it_began_under() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    let parts = stayed.parts_for(&away);
    away.take(&parts[..2]).expect("kept");
    away.store.begin_again(persona::store::Beginning::default());
    away.settled().await;
    assert!(away.take(&parts[2..]).is_err(), "what came before is gone");
    let parts = stayed.parts_for(&away);
    away.take(&parts).expect("kept");
    away.settled().await;
    agree(&stayed, &away).await;
}

/// Both hold the same accounts, and then each trims a log that the other never sees.
async fn two_halves(time: &Time) -> (Replica, Replica) {
    let passwords = passwords();
    let one = Replica::new(1, time, &passwords, KeepLog::Unstable);
    let two = Replica::new(2, time, &passwords, KeepLog::Unstable);
    for name in ["ada", "bob", "cy"] {
        one.sign_up(&format!("{name}@example.org"))
            .await
            .expect("a sign-up");
    }
    two.pull(&one).await;
    (one, two)
}

async fn trim_all(replica: &Replica) {
    replica.store.trim(replica.store.state().vector.clone());
    replica.settled().await;
}

impl Replica {
    pub(crate) async fn catch_up_from(&self, other: &Replica) {
        self.take(&other.parts_for(self)).expect("kept");
        self.settled().await;
    }

    async fn holder(&self, text: &str) -> Option<crdt::AccountId> {
        let state = self.identity.email(&address(text)).await.expect("served");
        state.holder.map(|holder| holder.account)
    }

    fn is_served(&self, account: crdt::AccountId) -> bool {
        let read = self.store.read(|records| records.account(account));
        match read.expect("a snapshot") {
            Ok(view) => view.is_some(),
            Err(ReadError::Quarantined { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn an_address_that_changed_hands_meanwhile_leaves_nothing_behind() {
    for cancelled in [false, true] {
        let time = Time::new();
        let (stayed, away) = two_halves(&time).await;
        let ada = stayed.holder("ada@example.org").await.expect("held");
        let bob = stayed.holder("bob@example.org").await.expect("held");
        time.pass(1000);
        let ada_s = address("ada@example.org");
        let moved = stayed.identity.add_email(bob, ada_s, Word::Operator).await;
        assert!(matches!(moved, Ok(Outcome::Done { .. })), "{moved:?}");
        if cancelled {
            let gone = stayed.identity.cancel_account(ada).await;
            assert!(matches!(gone, Ok(Outcome::Done { .. })), "{gone:?}");
        }
        trim_all(&stayed).await;
        assert!(stayed.is_trimmed_for(&away), "no log reaches back");
        away.catch_up_from(&stayed).await;
        away.assert_sound();
        assert_eq!(away.holder("ada@example.org").await, Some(bob));
        away.assert_same(&stayed);
    }
}

#[tokio::test]
async fn what_only_the_other_half_wrote_is_served_though_both_logs_were_trimmed() {
    let time = Time::new();
    let (one, two) = two_halves(&time).await;
    for (replica, names) in [(&one, ["dan", "eve"]), (&two, ["flo", "gil"])] {
        time.pass(1000);
        for name in names {
            let text = format!("{name}@example.org");
            replica.sign_up(&text).await.expect("a sign-up");
        }
        trim_all(replica).await;
    }
    assert!(one.is_trimmed_for(&two) && two.is_trimmed_for(&one));
    two.catch_up_from(&one).await;
    assert_eq!(two.store.audit().expect("an audit").quarantined, 0);
    one.catch_up_from(&two).await;
    one.assert_same(&two);
    one.assert_sound();
    for name in ["ada", "dan", "eve", "flo", "gil"] {
        let text = format!("{name}@example.org");
        assert!(one.signs_in(&text).await && two.signs_in(&text).await, "{name}");
    }
}

/// The vector is raised over it, so it must not be served as if nothing were missing.
#[tokio::test]
async fn what_the_source_lacks_itself_is_in_quarantine_until_another_brings_it() {
    enum Lacks {
        Document,
        Part,
    }
    for lacks in [Lacks::Document, Lacks::Part] {
        let time = Time::new();
        let (whole, away) = two_halves(&time).await;
        let source = Replica::new(3, &time, &passwords(), KeepLog::Unstable);
        source.pull(&whole).await;
        let ada = whole.holder("ada@example.org").await.expect("held");
        time.pass(1000);
        let _ = whole.identity.sign_out_everywhere(ada).await.expect("written");
        match lacks {
            Lacks::Document => {
                source.pull(&whole).await;
                let key = crdt::RecordKey::from(ada);
                assert!(source.disk.flip_bit(Family::Documents, key.as_bytes(), 77));
            }
            Lacks::Part => {
                let [lost] = &whole.log_beyond(&source.store.state().vector)[..] else {
                    panic!("one transaction");
                };
                let mut body = Transaction::decode(&lost.envelope.body).expect("a transaction");
                let change = &mut body.records[0].changes[0];
                let last = change.len() - 1;
                change[last] ^= 0xff;
                source.store.apply([with_body(lost, body.encode())]);
                source.settled().await;
                assert!(!source.is_served(ada));
            }
        }
        trim_all(&source).await;
        assert!(source.is_trimmed_for(&away));

        away.catch_up_from(&source).await;
        let state = away.store.state();
        assert!(state.vector.covers_vector(&source.store.state().vector));
        assert!(
            !away.is_served(ada),
            "a session that was ended would be good again"
        );
        assert!(
            away.holder("bob@example.org").await.is_some(),
            "the rest is served"
        );

        away.pull(&whole).await;
        let differing = away.differing(&whole);
        assert_eq!(
            differing,
            [*crdt::RecordKey::from(ada).as_bytes()],
            "it is found to differ"
        );
        away.repair_from(&whole, &differing);
        assert!(away.is_served(ada));
        away.assert_sound();
        assert_eq!(away.differing(&whole), Vec::<Key>::new());
    }
}

#[tokio::test]
async fn one_that_could_be_merged_in_part_only_is_asked_for_again() {
    let time = Time::new();
    let (stayed, mut away) = apart(&time).await;
    let parts = stayed.parts_for(&away);
    let (last, rest) = parts.split_last().expect("parts");
    away.take(rest).expect("kept");
    let mut aside = Vec::new();
    away.store
        .scan_everything(|family, key, _| aside.extend((family == Family::Side).then(|| key.to_vec())))
        .expect("a scan");
    assert!(away.disk.flip_bit(Family::Side, &aside[aside.len() / 2], 99));
    away.take(std::slice::from_ref(last)).expect("kept");
    away.settled().await;
    assert_eq!(away.store.counters().catch_ups, 0);
    for restarts in [false, true] {
        if restarts {
            away.restart(true);
        }
        assert!(
            away.sign_up("early@example.org").await.is_none(),
            "it would follow what is not here"
        );
        let read = away.store.with_cut(Purpose::Look, &mut |_| {});
        assert!(read.is_err(), "what it holds is of no moment");
    }
    let mut pinned = false;
    away.store
        .with_cut(Purpose::CatchUp, &mut |_| pinned = true)
        .expect("another one may be asked for");
    assert!(pinned);
    away.take(&stayed.parts_beside(&BTreeMap::new())).expect("kept");
    away.settled().await;
    agree(&stayed, &away).await;
}
