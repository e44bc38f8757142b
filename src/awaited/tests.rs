//! Waiting in a stopped clock: what is asked, and who waits how long.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;

fn thing(number: u8) -> Thing {
    Thing::key(&format!("key {number}"))
}

/// Waits for a thing that comes with the so many-th look.
async fn wait_for(waiters: &Waiters, number: u8, looks: u32) -> (bool, Duration) {
    let begun = Instant::now();
    let left = Cell::new(looks);
    let look = || {
        left.set(left.get().saturating_sub(1));
        (left.get() == 0).then_some(())
    };
    let came = waiters.wait(thing(number), || true, || (), look).await;
    (came.is_some(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn what_is_here_is_not_waited_for_and_what_cannot_come_neither() {
    let waiters = Waiters::default();
    let asked = Cell::new(0);
    let ask = || asked.set(asked.get() + 1);
    let begun = Instant::now();
    assert_eq!(
        waiters
            .wait(thing(1), || panic!("it is here"), ask, || Some(7))
            .await,
        Some(7)
    );
    assert_eq!(waiters.wait(thing(1), || false, ask, || None::<u8>).await, None);
    assert_eq!((begun.elapsed(), asked.get()), (Duration::ZERO, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_looks_after_each_commit_and_for_a_moment_only() {
    let waiters = Arc::new(Waiters::default());
    let ringing = tokio::spawn({
        let waiters = waiters.clone();
        async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                waiters.committed();
            }
        }
    });
    // Two looks before the first commit.
    assert_eq!(wait_for(&waiters, 1, 5).await, (true, Duration::from_millis(60)));
    ringing.await.expect("it rang");
    assert_eq!(wait_for(&waiters, 2, 3).await, (false, AWAITED_MAX));
    assert_eq!(
        wait_for(&waiters, 2, 3).await,
        (false, Duration::ZERO),
        "once was enough"
    );
    assert_eq!(
        wait_for(&waiters, 2, 1).await,
        (true, Duration::ZERO),
        "but if it came, it is seen"
    );
    tokio::time::sleep(IN_VAIN_REST).await;
    assert_eq!(wait_for(&waiters, 2, 3).await, (false, AWAITED_MAX));
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_one_thing_ask_once() {
    let waiters = Arc::new(Waiters::default());
    let asked = Arc::new(AtomicUsize::new(0));
    let come = Arc::new(AtomicUsize::new(0));
    let mut waits = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (waiters, asked, come) = (waiters.clone(), asked.clone(), come.clone());
        waits.spawn(async move {
            let ask = || {
                let _ = asked.fetch_add(1, Ordering::Relaxed);
            };
            let look = || (come.load(Ordering::Relaxed) > 0).then_some(());
            waiters.wait(thing(1), || true, ask, look).await
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    come.store(1, Ordering::Relaxed);
    waiters.committed();
    assert!(waits.join_all().await.iter().all(Option::is_some));
    assert_eq!(waiters.desk().count, 0);
    assert!(waiters.desk().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_than_a_bound_wait_and_who_goes_away_makes_room() {
    let waiters = Arc::new(Waiters::default());
    let mut waits = tokio::task::JoinSet::new();
    for number in 0..WAITERS_MAX {
        let waiters = waiters.clone();
        waits.spawn(async move {
            let thing = Thing::key(&format!("{number}"));
            waiters.wait(thing, || true, || (), || None::<()>).await
        });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(
        wait_for(&waiters, 1, 3).await,
        (false, Duration::ZERO),
        "there is no place"
    );
    waits.abort_all();
    while waits.join_next().await.is_some() {}
    assert_eq!(waiters.desk().count, 0);
    assert_eq!(wait_for(&waiters, 1, 3).await, (false, AWAITED_MAX));
}
