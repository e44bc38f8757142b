//! A receipt says that nothing is left of an account on a disk. What comes late takes it back.

use crdt::{AccountId, CellKind};
use gossip::reconcile::Part;
use persona::{
    identity::{Outcome, Word},
    settlement::WaitsFor,
    store::{Beginning, KeepLog, Records, Snapshot, TransactError, disk::Family},
};

use crate::{
    replica::{Replica, address, passwords},
    settlement::{HOUR, Site, World, finalise, put_out},
};

/// Receipts for an account, as a site has them.
fn receipts(site: &Site, account: AccountId) -> usize {
    let read = |records: &Snapshot<'_>| records.cells(CellKind::ERASED, account.as_bytes());
    let cells = site.replica.store.read(read).expect("a read").expect("cells");
    cells.len()
}

/// Ada has signed up at the first site; Quito, which nobody counts any more, has heard of that and of nothing later.
async fn ada_and_quito(world: &World) -> (AccountId, Replica) {
    let first = &world.sites[0];
    let (account, _) = first.replica.sign_up("ada@example.org").await.expect("written");
    world.heal().await;
    let quito = Replica::new(9, &world.time, &passwords(), KeepLog::Unstable);
    quito.pull(&first.replica).await;
    put_out(first, "quito").await;
    world.heal().await;
    world.time.pass(10);
    (account, quito)
}

async fn cancel(at: &Site, account: AccountId) {
    let cancelled = at.replica.identity.cancel_account(account).await;
    assert!(matches!(cancelled, Ok(Outcome::Done { .. })), "{cancelled:?}");
}

#[tokio::test]
async fn a_receipt_for_a_disk_that_was_replaced_is_taken_back_everywhere() {
    let mut world = World::new(["accra", "lima"], HOUR).await;
    let (account, _) = world.sites[0]
        .replica
        .sign_up("ada@example.org")
        .await
        .expect("written");
    world.heal().await;
    cancel(&world.sites[1], account).await;
    world.heal().await;
    world.settle().await;
    world.heal().await;
    let complete = |site: &Site| {
        let report = site.settler.report(account).expect("a report");
        report.expect("known").complete
    };
    for site in &world.sites {
        assert!(complete(site));
    }

    // As after a backup was put back, which may be of a time before: another replica id, and a receipt in a slot that is
    // nobody's any more.
    let accra = world.sites.remove(0);
    accra.replica.store.begin_again(Beginning {
        new_replica: true,
        ..Beginning::default()
    });
    accra.replica.settled().await;
    let accra = accra.restart();
    accra.steps().await;
    world.sites.insert(0, accra);
    world.heal().await;
    for site in &world.sites {
        assert!(!complete(site), "who knows what is on that disk");
    }

    world.time.pass(HOUR.as_millis() as u64);
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert!(complete(site));
        assert_eq!(
            receipts(site, account),
            3,
            "one of them says that it does not hold"
        );
    }
}

#[tokio::test]
async fn a_receipt_does_not_hold_while_states_that_had_not_heard_of_the_cancellation_lie_aside() {
    let mut world = World::new(["accra", "lima"], HOUR).await;
    let (account, quito) = ada_and_quito(&world).await;
    quito.sign_up("bob@example.org").await.expect("written");
    cancel(&world.sites[1], account).await;
    world.heal().await;
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(receipts(site, account), 2);
    }

    let accra = world.sites.remove(0);
    let parts = quito.parts_for(&accra.replica);
    let is_states = |part: &&Part| matches!(part, Part::States { .. });
    let states: Vec<Part> = parts.iter().filter(is_states).cloned().collect();
    accra.replica.take(&states).expect("taken");
    assert_eq!(accra.traces("ada@example.org"), ["side"]);
    assert_eq!(receipts(&accra, account), 1, "Lima's holds");
    assert!(accra.waits_for(account).is_some());
    // A crash gives up what had not come whole, but it lies in tables yet.
    let accra = accra.restart();
    accra.steps().await;
    assert_eq!(receipts(&accra, account), 1);
    assert!(accra.waits_for(account).is_some());

    accra.replica.take(&parts).expect("taken");
    accra.replica.settled().await;
    assert_eq!(receipts(&accra, account), 1, "what was merged was no news");
    world.sites.insert(0, accra);
    world.sites[1].replica.pull(&quito).await;
    world.heal().await;
    world.time.pass(HOUR.as_millis() as u64);
    world.settle().await;
    world.heal().await;
    for site in &world.sites {
        assert_eq!(receipts(site, account), 2);
        assert_eq!(site.traces("ada@example.org"), Vec::<&str>::new());
    }
    world.assert_sound();
}

#[tokio::test]
async fn a_receipt_does_not_hold_once_a_scrub_finds_what_hid_from_the_cancellation() {
    let world = World::new(["accra"], HOUR).await;
    let site = &world.sites[0];
    let signed_up = site.replica.sign_up("ada@example.org").await;
    let (account, _) = signed_up.expect("written");
    for key in site.replica.keys_of(Family::Index) {
        site.replica.remove(Family::Index, &key);
    }
    cancel(site, account).await;
    world.settle().await;
    assert_eq!(receipts(site, account), 1);
    assert_eq!(site.traces("ada@example.org"), ["vault"], "nobody knows yet");

    let report = site.replica.store.scrub_now().await;
    let report = report.expect("a pass over everything");
    assert!(report.mended > 0, "{report:?}");
    site.replica.settled().await;
    assert_eq!(site.traces("ada@example.org"), Vec::<&str>::new());
    assert_eq!(receipts(site, account), 0, "it lies in tables yet");
    assert_eq!(site.waits_for(account), Some(WaitsFor::Settled.to_string()));

    world.time.pass(HOUR.as_millis() as u64);
    world.settle().await;
    assert_eq!(receipts(site, account), 1);
    world.assert_sound();
}

#[tokio::test]
async fn a_receipt_that_waits_for_its_turn_behind_something_late_is_not_written() {
    let world = World::of_before(["accra"], HOUR).await;
    let site = &world.sites[0];
    let (account, quito) = ada_and_quito(&world).await;
    let late = quito
        .identity
        .add_email(account, address("late@example.org"), Word::Operator)
        .await;
    assert!(matches!(late, Ok(Outcome::Done { .. })), "{late:?}");
    cancel(site, account).await;
    world.settle().await;
    assert_eq!(site.waits_for(account), Some(WaitsFor::Finalised.to_string()));
    finalise(site).await;

    let late = quito.log_beyond(&site.replica.store.state().vector);
    let (go_on, held_up) = std::sync::mpsc::channel();
    let store = &site.replica.store;
    let slow = store.transact(move |_| -> Result<(), TransactError> {
        held_up.recv().expect("told to go on");
        Ok(())
    });
    let receipt = async {
        store.apply(late);
        site.settler.step().await
    };
    // All that is to be committed is in the queue before the first of it is done.
    let (slow, receipt, ()) = tokio::join!(slow, receipt, async { go_on.send(()).expect("it waits") });
    slow.expect("done");
    receipt.expect("a step");
    assert_eq!(site.traces("late@example.org"), ["log"]);
    assert_eq!(receipts(site, account), 0);
    assert_eq!(site.waits_for(account), Some(WaitsFor::Settled.to_string()));
}
