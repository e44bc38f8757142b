//! Reconciliations and snapshots between nodes, and what comes on their streams that should not.

use std::sync::Arc;
use std::time::Duration;

use gossip::quic::{Link, Node};
use gossip::reconcile::Purpose;
use gossip::{Event, StreamClass};
use tokio::time::Instant;

use crate::LONG;
use crate::hostile::{Papers, frame, goes_on, world};
use crate::memory::Memory;
use crate::records::key;
use crate::replica::{self, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_diverged_is_found_and_repaired_while_writes_go_on() {
    let world = World::new(3, 0).await;
    for number in 0..5_000 {
        for site in &world.sites {
            site.memory.records.put(number, b"the same");
        }
    }
    world.memory(0).records.put(7, b"varied here");
    world.memory(1).records.put(8, b"varied there");
    world.memory(2).records.put(5_001, b"only here");
    world.connected(2).await;
    let writer = Arc::clone(&world.sites[0].memory);
    let writing = tokio::spawn(async move {
        for round in 0..200_u8 {
            writer.write(&[round]);
            tokio::task::yield_now().await;
        }
    });

    let looked = world.node(0).reconcile_now(None, Purpose::Look).await;
    assert_eq!(looked.len(), 2);
    let with_1 = looked[0].1.as_ref().expect("a verdict");
    assert_eq!(with_1.divergent, [key(7), key(8)].into());
    let with_2 = looked[1].1.as_ref().expect("a verdict");
    assert_eq!(with_2.divergent, [key(7), key(5_001)].into());
    assert!(
        !world.memory(0).records.all().contains_key(&key(5_001)),
        "a look touches nothing"
    );

    for site in [0, 1, 2, 0, 1, 2] {
        world.node(site).reconcile_now(None, Purpose::Repair).await;
    }
    let records = world.memory(0).records.all();
    assert_eq!(records[&key(7)], b"varied here");
    assert!(records.contains_key(&key(5_001)));
    for site in &world.sites {
        assert!(site.memory.records.all() == records);
    }
    for (_, verdict) in world.node(1).reconcile_now(None, Purpose::Repair).await {
        let verdict = verdict.expect("a verdict");
        assert!(verdict.divergent.is_empty() && verdict.conclusive);
    }
    writing.await.unwrap();
    world.level().await;
    assert_eq!(
        world
            .node(0)
            .reconcile_now(Some(crate::memory::member_id(9)), Purpose::Look)
            .await
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catch_up_of_megabytes_over_a_thin_link_delays_no_push() {
    let world = World::unmet(2, 0, |_| {}).await;
    for number in 0..4_000 {
        world.memory(1).records.put(number, &[number as u8; 1_000]);
    }
    world.meet();
    world.connected(1).await;
    let delay = Duration::from_millis(20);
    for (from, to) in [(0, 1), (1, 0)] {
        world.link(
            from,
            to,
            Link {
                delay,
                ..Link::default()
            },
        );
    }
    let asking = world.node(0).clone();
    let caught_up = tokio::spawn(async move { asking.reconcile_now(None, Purpose::CatchUp).await });
    world
        .picture(0, "the catch-up is under way", |status| {
            status.traffic.repair_bytes_received > 200_000
        })
        .await;
    let begun = Instant::now();
    let dot = world.memory(1).write(b"meanwhile");
    world.memory(0).has(dot).await;
    let arrived = world.memory(0).committed_at(dot).unwrap() - begun;
    println!("a push beside a catch-up took {arrived:?}");
    let found = caught_up.await.unwrap();
    assert!(found[0].1.is_some(), "{found:?}");
    assert!(world.memory(0).records.all() == world.memory(1).records.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_replica_copies_what_is_too_much_to_pull_at_the_giver_s_pace() {
    const BYTES_PER_SECOND: u64 = 2_000_000;
    let world = World::unmet(2, 0, |config| {
        config.core.limits.log_catch_up_max = 100;
        config.snapshot_bytes_per_second = BYTES_PER_SECOND;
    })
    .await;
    world.memory(0).until("ready", is_ready).await;
    for round in 0..500_u16 {
        world.memory(0).write(&vec![round as u8; 5_000]);
    }
    world
        .picture(0, "has all", |status| status.gossip.transactions == 500)
        .await;
    let begun = Instant::now();
    world.meet();
    world.level().await;
    assert!(
        begun.elapsed() >= Duration::from_millis(1_000),
        "it took {:?}",
        begun.elapsed()
    );
    world.memory(1).until("ready", is_ready).await;
    world
        .picture(1, "copied", |status| {
            status.traffic.snapshot_bytes_received > 2_500_000
        })
        .await;
    let status = world.node(1).status();
    assert_eq!(status.gossip.counters.pull_received, 0, "{status:#?}");
    world
        .picture(0, "has given one", |status| status.traffic.snapshots_given == 1)
        .await;
    // What it writes from then on is its own.
    let dot = world.memory(1).write(b"and goes on");
    world.memory(0).has(dot).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_breaks_off_goes_on_where_it_was() {
    let world = World::unmet(2, 0, |config| {
        config.core.limits.log_catch_up_max = 100;
        config.snapshot_bytes_per_second = 2_000_000;
    })
    .await;
    world.memory(0).until("ready", is_ready).await;
    for round in 0..1_000_u16 {
        world.memory(0).write(&vec![round as u8; 5_000]);
    }
    world
        .picture(0, "has all", |status| status.gossip.transactions == 1_000)
        .await;
    world.meet();
    world
        .picture(1, "some of it has come", |status| {
            status.traffic.snapshot_bytes_received > 1_000_000
        })
        .await;
    world.cut(0, 1);
    world
        .picture(1, "cut off", |status| replica::connected(status) == 0)
        .await;
    let before = world.node(1).status().traffic.snapshot_bytes_received;
    world.heal();
    world.level().await;
    let total = world.node(1).status().traffic.snapshot_bytes_received;
    assert!(
        total < 5_100_000 + before / 4,
        "{before} bytes came before the cut, {total} in all"
    );
}

fn is_ready(memory: &Memory) -> bool {
    memory
        .events()
        .iter()
        .any(|event| matches!(event, Event::Ready { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_conversation_at_once_is_refused_and_none_hurts() {
    let (world, papers) = world().await;
    let raw = papers.connect(world.node(0)).await.unwrap();
    let _control = raw.hello(gossip::Vector::new()).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(begin(&raw.connection, StreamClass::Repair).await);
    }
    world
        .picture(0, "answers two", |status| status.traffic.repairs_answered == 2)
        .await;
    let (_send, mut receive) = begin(&raw.connection, StreamClass::Repair).await;
    let refused = tokio::time::timeout(LONG, receive.read_to_end(100))
        .await
        .unwrap();
    assert!(refused.is_err(), "reset");
    assert!(raw.connection.close_reason().is_none());
    // Two that said nothing are given up after the silence limit.
    for (_, receive) in &mut open {
        let ended = tokio::time::timeout(LONG, receive.read_to_end(100))
            .await
            .unwrap();
        assert!(ended.is_err(), "reset");
    }
    goes_on(&world).await;
    assert!(verdict(world.node(1)).await);
}

/// Whether a look from here comes to a verdict.
async fn verdict(node: &Node) -> bool {
    let found = node
        .reconcile_now(Some(crate::memory::member_id(0)), Purpose::Look)
        .await;
    found[0].1.is_some()
}

async fn begin(connection: &quinn::Connection, class: StreamClass) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(&[class.to_byte()]).await.unwrap();
    (send, receive)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_on_the_streams_of_conversations_closes_the_connection() {
    let (world, papers): (World, Papers) = world().await;
    for class in [StreamClass::Repair, StreamClass::Snapshot] {
        for junk in [
            frame(&[0xff; 40]),
            u32::MAX.to_le_bytes().to_vec(),
            b"\x64\0\0\0half".to_vec(),
        ] {
            let raw = papers.connect(world.node(0)).await.unwrap();
            let _control = raw.hello(gossip::Vector::new()).await;
            let (mut send, _receive) = begin(&raw.connection, class).await;
            let _ = send.write_all(&junk).await;
            let _ = send.finish();
            raw.is_closed(&format!("{class:?}, {} bytes of junk", junk.len()))
                .await;
        }
    }
    goes_on(&world).await;
}
