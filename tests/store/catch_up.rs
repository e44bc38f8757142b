//! A replica that was away for longer than the logs reach back.

use gossip::{
    quic::LogChunk,
    reconcile::{Cut, CutError, Key, Part, Purpose},
};
use persona::{
    identity::Word,
    store::{
        KeepLog, TransactError,
        disk::{Family, memory::Fault},
    },
};

use crate::{
    repair::{PEER, elements},
    replica::{Replica, Time, address, passwords},
};

/// States in one part.
const STATES: usize = 3;

impl Replica {
    /// What a catch-up from this replica brings, in order.
    fn parts_for(&self, other: &Replica) -> Vec<Part> {
        let theirs = other.elements();
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
        self.store.with_cut(&mut collect).expect("a cut");
        parts
    }

    fn take(&self, parts: &[Part]) -> Result<(), CutError> {
        parts
            .iter()
            .try_for_each(|part| self.store.take_part(PEER, Purpose::CatchUp, part.clone()))
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
async fn what_is_new_is_served_at_once_though_no_log_reaches_back_to_the_others_cut() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    away.store.trim(away.store.state().vector.clone());
    away.settled().await;
    assert!(away.is_trimmed_for(&stayed));
    for (taker, giver) in [(&away, &stayed), (&stayed, &away)] {
        taker.take(&giver.parts_for(taker)).expect("kept");
        taker.settled().await;
        taker.assert_sound();
        assert_eq!(taker.store.audit().expect("an audit").quarantined, 0);
    }
    agree(&stayed, &away).await;
}

#[tokio::test]
async fn an_address_that_changed_hands_meanwhile_leaves_nothing_of_its_former_owner() {
    let time = Time::new();
    let (stayed, away) = apart(&time).await;
    let moved = address("bob@example.org");
    let owner = |text: &str| {
        let state = stayed.identity.email(&address(text)).expect("readable");
        state.holder.expect("held").account
    };
    let (ada, bob) = (owner("ada@example.org"), owner("bob@example.org"));
    time.pass(1000);
    let more = address("bob2@example.org");
    let _ = stayed
        .identity
        .add_email(bob, more, Word::Operator)
        .await
        .expect("written");
    let _ = stayed.identity.remove_email(bob, &moved).await.expect("written");
    time.pass(1000);
    let _ = stayed
        .identity
        .add_email(ada, moved, Word::Operator)
        .await
        .expect("written");
    stayed.store.trim(stayed.store.state().vector.clone());
    stayed.settled().await;
    assert_eq!(owner("bob@example.org"), ada, "it has changed hands");

    away.take(&stayed.parts_for(&away)).expect("kept");
    away.settled().await;
    away.assert_sound(); // Neither a vault value nor an entry of the index is there that follows from no record.
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
