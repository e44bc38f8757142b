//! Cells: what ends by its own data.

use crdt::{Cell, CellKind, Hlc, Tries};
use persona::store::{KeepLog, Records, TransactError, Txn};

use crate::replica::{Replica, Time, passwords};

const KEY: &[u8] = b"ada";
const KEEP_MS: u64 = 1000;

async fn count(replica: &Replica, count: u32) {
    let write = move |txn: &mut Txn<'_>| -> Result<(), TransactError> {
        let tries = Tries {
            since: Hlc::ZERO,
            count,
        };
        txn.put_cell(Cell {
            kind: CellKind::TRIES,
            key: KEY.to_vec(),
            slot: txn.slot(),
            stamp: txn.stamp(),
            value: tries.encode(),
            expires_ms: txn.now_ms() + KEEP_MS,
        });
        Ok(())
    };
    let _ = replica.store.transact(write).await.expect("written");
}

#[track_caller]
fn counted(replica: &Replica) -> u32 {
    let cells = replica.store.read(|records| records.cells(CellKind::TRIES, KEY));
    let cells = cells.expect("a snapshot").expect("cells");
    let tries = cells
        .iter()
        .map(|cell| Tries::decode(&cell.value).expect("a count"));
    Tries::total(tries)
}

#[tokio::test]
async fn what_has_expired_does_not_live_on_in_what_takes_its_place_though_no_sweep_has_come_by() {
    let (time, passwords) = (Time::new(), passwords());
    let oslo = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let lima = Replica::new(2, &time, &passwords, KeepLog::Everything);
    count(&oslo, 9).await;
    lima.pull(&oslo).await;
    assert_eq!(counted(&lima), 9);

    time.pass(2 * KEEP_MS);
    assert_eq!(counted(&lima), 9, "no sweep has come by");
    count(&oslo, 1).await;
    lima.pull(&oslo).await;
    for replica in [&oslo, &lima] {
        assert_eq!(counted(replica), 1);
        replica.assert_sound();
    }
}

#[tokio::test]
async fn of_two_that_live_the_greater_count_stays() {
    let (time, passwords) = (Time::new(), passwords());
    let oslo = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let lima = Replica::new(2, &time, &passwords, KeepLog::Everything);
    count(&oslo, 9).await;
    time.pass(KEEP_MS / 2);
    count(&oslo, 1).await;
    lima.pull(&oslo).await;
    for replica in [&oslo, &lima] {
        assert_eq!(counted(replica), 9);
    }
}
