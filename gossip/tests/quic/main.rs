//! The driver over real sockets on loopback: several nodes in one process, each with a replica in memory.
//!
//! Nothing here depends on how fast the machine is: a test waits for what must happen, and the only times that
//! are compared are lower bounds which the shaped socket guarantees.
#![cfg(all(feature = "quic", feature = "shaped"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test panics when it fails, and this one is about real time; the bans are for the core"
)]

mod hostile;
mod memory;
mod newcomers;
mod records;
mod replica;
mod talks;

use std::time::Duration;

use gossip::Event;
use gossip::quic::{Durability, Link};

use replica::World;
use tokio::time::Instant;

/// Far longer than anything here takes: a wait that ends by it has failed.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_writes_all_get() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    let mut dots = Vec::new();
    for round in 0..50_u8 {
        for site in &world.sites {
            dots.push(site.memory.write(&[round, site.member.0[7]]));
        }
    }
    world.level().await;
    for dot in dots {
        assert_eq!(
            world
                .node(usize::from(dot.writer.replica.0[7]) - 1)
                .durable(dot, 3, LONG)
                .await,
            Durability::Reached { sites: 3 }
        );
    }
    world
        .picture(0, "ready, having pushed", |status| {
            status.gossip.ready && status.gossip.counters.pushed > 0
        })
        .await;
    assert!(world.node(0).is_ready());
    assert!(
        world
            .memory(0)
            .events()
            .iter()
            .any(|event| matches!(event, Event::Ready { .. }))
    );
    assert!(world.node(0).drained(&world.memory(0).vector(), LONG).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_on_both_sides_of_a_cut_meet_when_it_heals() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    let before = world.memory(0).write(b"before");
    world.level().await;

    world.cut(0, 1);
    world.cut(0, 2);
    world
        .picture(0, "alone", |status| replica::connected(status) == 0)
        .await;
    let here = world.memory(0).write(b"here");
    let there = world.memory(1).write(b"there");
    world.memory(2).has(there).await;
    assert!(!world.memory(0).vector().covers(&there) && !world.memory(1).vector().covers(&here));
    // Nobody is in reach, so nobody is waited for.
    assert_eq!(
        world.node(0).durable(here, 2, LONG).await,
        Durability::Degraded { sites: 1 }
    );
    assert!(
        !world
            .node(0)
            .drained(&world.memory(0).vector(), Duration::from_millis(50))
            .await
    );

    world.heal();
    world.level().await;
    assert!(world.memory(2).vector().covers(&before));
    world.connected(2).await;
    assert_eq!(
        world.node(0).durable(here, 3, LONG).await,
        Durability::Reached { sites: 3 }
    );
    let served: u64 = (0..3)
        .map(|number| world.node(number).status().traffic.pulls_served)
        .sum();
    assert!(served > 0, "what was missed was pulled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shaped_delay_is_really_there() {
    const DELAY: Duration = Duration::from_millis(120);
    let world = World::new(2, 0).await;
    for (from, to) in [(0, 1), (1, 0)] {
        world.link(
            from,
            to,
            Link {
                delay: DELAY,
                jitter: Duration::from_millis(5),
                ..Link::default()
            },
        );
    }
    world.connected(1).await;
    for round in 0..5_u8 {
        let begun = Instant::now();
        let dot = world.memory(0).write(&[round]);
        world.memory(1).has(dot).await;
        let arrived = world.memory(1).committed_at(dot).unwrap() - begun;
        assert!(arrived >= DELAY, "it took {arrived:?}");
        assert_eq!(
            world.node(0).durable(dot, 2, LONG).await,
            Durability::Reached { sites: 2 }
        );
        assert!(begun.elapsed() >= 2 * DELAY, "the ack travels too");
    }
    let floor = u64::try_from(2 * DELAY.as_micros()).unwrap();
    world
        .picture(0, "has measured the round trip", |status| {
            status.gossip.peers.iter().all(|peer| peer.rtt_us >= Some(floor))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lossy_network_loses_nothing() {
    let world = World::new(3, 0).await;
    for from in 0..3 {
        for to in (0..3).filter(|to| *to != from) {
            let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(5));
            world.link(
                from,
                to,
                Link {
                    delay,
                    jitter,
                    loss: 0.05,
                    ..Link::default()
                },
            );
        }
    }
    world.connected(2).await;
    for round in 0..200_u16 {
        world
            .memory(usize::from(round % 3))
            .write(&vec![7; 2_000 + usize::from(round)]);
    }
    world.level().await;
    assert!(
        world
            .sites
            .iter()
            .map(|site| site.shape.casualties().lost)
            .sum::<u64>()
            > 0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_cannot_talk_agree_through_a_third() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    // One way only: what 0 sends to 1 is dropped on the way.
    world.link(
        0,
        1,
        Link {
            cut_out: true,
            ..Link::default()
        },
    );
    world
        .picture(0, "1 is gone", |status| replica::connected(status) == 1)
        .await;
    world
        .picture(1, "0 is gone", |status| replica::connected(status) == 1)
        .await;
    for round in 0..20_u8 {
        world.memory(0).write(&[0, round]);
        world.memory(1).write(&[1, round]);
    }
    world.level().await;
    assert!(world.sites[0].shape.casualties().cut > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_site_catches_up_as_a_new_writer() {
    let mut world = World::new(3, 0).await;
    world.connected(2).await;
    let old = world.memory(1).write(b"of the first start");
    world.level().await;

    world.stop(1).await;
    for round in 0..100_u8 {
        world.memory(0).write(&[round]);
    }
    world.start_again(1).await;
    world.level().await;
    let new = world.memory(1).write(b"of the second start");
    assert_ne!(old.writer, new.writer);
    world.level().await;
    world.connected(2).await;
    assert_eq!(
        world.node(1).durable(new, 3, LONG).await,
        Durability::Reached { sites: 3 }
    );
    world.restart(1).await;
    world.level().await;
    world.connected(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durability_is_never_promised_beyond_what_is() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    let dot = world.memory(0).write(b"ordinary");
    assert!(matches!(
        world.node(0).durable(dot, 2, LONG).await,
        Durability::Reached { sites: 2.. }
    ));
    assert!(matches!(
        world.node(0).durable(dot, 1, LONG).await,
        Durability::Reached { sites: 1.. }
    ));
    // There are no four sites: nobody waits.
    let begun = Instant::now();
    assert!(matches!(
        world.node(0).durable(dot, 4, LONG).await,
        Durability::Degraded { sites: 1..=3 }
    ));
    assert!(begun.elapsed() < LONG);
    // Connected still, as far as anyone knows, but mute: the wait ends by its own time.
    world.cut(0, 1);
    world.cut(0, 2);
    let dot = world.memory(0).write(b"unheard");
    let timeout = Duration::from_millis(200);
    let begun = Instant::now();
    assert_eq!(
        world.node(0).durable(dot, 2, timeout).await,
        Durability::Degraded { sites: 1 }
    );
    assert!(begun.elapsed() >= timeout);
}

/// On one thread the driver cannot run while the writer does, so the reports overflow for certain.
#[tokio::test]
async fn a_burst_beyond_the_queue_still_arrives() {
    let world = World::new(2, 0).await;
    world.connected(1).await;
    for _ in 0..400 {
        world.memory(0).write(&vec![1; 60_000]);
    }
    world.level().await;
    world
        .picture(0, "has read the vector", |status| status.traffic.resyncs > 0)
        .await;
    assert_eq!(world.memory(1).bodies().len(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_unlisted_is_cut_off_and_who_is_listed_again_is_heard() {
    let world = World::new(3, 0).await;
    world.connected(2).await;
    let mut members = world.members();
    members[2].keys.clear();
    world.node(0).set_members(members);
    world
        .picture(0, "2 is cut off", |status| replica::connected(status) == 1)
        .await;
    world
        .picture(0, "2 is refused", |status| status.traffic.handshakes_refused > 0)
        .await;
    world.node(0).set_members(world.members());
    world.connected(2).await;
    world.memory(2).write(b"back");
    world.level().await;
}
