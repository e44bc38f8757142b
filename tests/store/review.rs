//! Found by review: interleavings that once went wrong.

use gossip::{Received, quic::LogChunk};
use persona::{
    identity::{Outcome, Word},
    store::KeepLog,
};

use crate::replica::{Replica, Time, address, passwords};

/// Two accounts claim one address at two cut-off sites; after healing the loser is cancelled at one site while
/// the winner proves the address again at the other. The release carries the winner's old claim on.
#[tokio::test]
async fn a_release_that_carries_a_claim_on_also_carries_its_value() {
    let (time, passwords) = (Time::new(), passwords());
    let one = Replica::new(1, &time, &passwords, KeepLog::Everything);
    let two = Replica::new(2, &time, &passwords, KeepLog::Everything);
    let (loser, _) = one.sign_up("ada@example.org").await.expect("written");
    time.pass(10);
    let (winner, _) = two.sign_up("ada@example.org").await.expect("written");
    one.pull(&two).await;
    two.pull(&one).await;
    one.assert_same(&two);
    one.assert_sound();
    time.pass(10);
    let cancelled = one.identity.cancel_account(loser).await.expect("written");
    assert!(matches!(cancelled, Outcome::Done { .. }));
    let again = two
        .identity
        .add_email(winner, address("ada@example.org"), Word::Operator)
        .await
        .expect("written");
    assert!(matches!(again, Outcome::Done { .. }), "{again:?}");
    one.pull(&two).await;
    two.pull(&one).await;
    one.assert_sound();
    two.assert_sound();
    one.assert_same(&two);
}

const ADDRESSES: usize = 60;
/// Accounts that had an address before and let it go: each is carried on.
const LETTING_GO: usize = 34;
/// More than a transaction may follow.
const STARTS: u32 = 1_030;

fn longest(replica: &Replica) -> usize {
    let LogChunk::Transactions { transactions, .. } = replica
        .store
        .read_log(&gossip::Vector::new(), None, usize::MAX)
        .expect("a log")
    else {
        panic!("trimmed")
    };
    transactions.iter().map(|bytes| bytes.len()).max().unwrap_or(0)
}

/// A transaction that no peer would take must not be written.
#[tokio::test]
async fn a_cancellation_of_much_contested_addresses_still_fits() {
    let (time, passwords) = (Time::new(), passwords());
    let one = Replica::new(1, &time, &passwords, KeepLog::Everything);
    for at in 0..ADDRESSES {
        let text = format!("a{at}@example.org");
        for _ in 0..LETTING_GO {
            time.pass(1);
            let (account, _) = one.sign_up(&text).await.expect("written");
            let removed = one
                .identity
                .remove_email(account, &address(&text))
                .await
                .expect("written");
            assert!(matches!(removed, Outcome::Done { .. }));
        }
    }
    let (account, _) = one.sign_up("me@example.org").await.expect("written");
    for at in 0..ADDRESSES {
        let added = one
            .identity
            .add_email(account, address(&format!("a{at}@example.org")), Word::Operator)
            .await
            .expect("ok");
        assert!(matches!(added, Outcome::Done { .. }));
    }
    let cancelled = one.identity.cancel_account(account).await.expect("written");
    assert!(matches!(cancelled, Outcome::Done { .. }));
    let longest = longest(&one);
    assert!(longest <= 64 * 1024, "a transaction of {longest} bytes");
}

/// Nor one that follows more than peers take.
#[tokio::test]
async fn many_starts_do_not_make_a_transaction_that_no_peer_takes() {
    let (time, passwords) = (Time::new(), passwords());
    let mut one = Replica::new(1, &time, &passwords, KeepLog::Everything);
    for at in 0..STARTS {
        let _ = one.sign_up(&format!("a{at}@example.org")).await.expect("written");
        one.store.begin_again(persona::store::Beginning::default());
        one.settled().await;
    }
    let _ = one.sign_up("last@example.org").await.expect("written");
    let LogChunk::Transactions { transactions, .. } = one
        .store
        .read_log(&gossip::Vector::new(), None, usize::MAX)
        .expect("a log")
    else {
        panic!("trimmed")
    };
    let bad = transactions
        .iter()
        .filter_map(|bytes| Received::decode(bytes.clone()).err())
        .count();
    assert_eq!(bad, 0, "transactions that peers refuse");
    one.restart(true);
}
