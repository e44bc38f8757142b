//! The core, in stories: worlds of replicas in virtual time.

mod agreement;
mod world;

use std::time::Duration;

use gossip::{Dot, Event, Gossip, PeerState, regions};
use world::{World, member, seeds};

const SECOND: Duration = Duration::from_secs(1);

/// One-way delays between real regions.
fn regional(a: usize, b: usize) -> Duration {
    regions::round_trip(a, b) / 2
}

/// Ten ready sites.
fn ten(seed: u64) -> World {
    let mut world = World::new(seed, 10, regional);
    world.start_all();
    world.run(3 * SECOND);
    world
}

fn all_ready(world: &World) -> bool {
    world
        .sites
        .iter()
        .filter_map(|site| site.gossip.as_ref())
        .all(Gossip::is_ready)
}

/// Every site writes every so often.
fn traffic(world: &mut World, time: Duration, every: Duration) {
    let end = world.now + time;
    while world.now < end {
        for site in 0..world.sites.len() {
            if world.rng.chance(50) {
                world.write(site);
            }
        }
        world.run(every);
    }
}

#[test]
fn ten_that_start_empty_at_once_become_ready_together() {
    for seed in seeds(20) {
        let world = ten(seed);
        assert!(all_ready(&world), "{}", world.picture());
        assert!(world.sites.iter().all(|site| !site.gossip().is_alone()));
        assert!(
            world
                .sites
                .iter()
                .all(|site| site.gossip().connected_sites() == 9)
        );
    }
}

#[test]
fn ten_with_different_disks_that_start_at_once_become_ready_and_level() {
    for seed in seeds(10) {
        let mut world = ten(seed);
        world.cut_off(3);
        world.cut_off(4);
        traffic(&mut world, 5 * SECOND, Duration::from_millis(50));
        for site in 0..10 {
            world.kill(site);
        }
        world.heal();
        world.run(4 * SECOND);
        world.start_all();
        world.run(5 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
        world.settle(5 * SECOND);
    }
}

#[test]
fn a_push_is_visible_one_way_delay_after_its_commit() {
    let mut world = ten(1);
    traffic(&mut world, SECOND, Duration::from_millis(20));
    world.settle(5 * SECOND);
    world.write(0);
    world.run(Duration::from_millis(2));
    let total = world.sites[0].disk.vector.total();
    // The farthest of Virginia is Singapore: 125 ms, 8 of jitter, 2 to commit.
    world.run(Duration::from_millis(136));
    assert!(
        world.sites.iter().all(|site| site.disk.vector.total() == total),
        "{}",
        world.picture()
    );
    // And one way back it is durable at two sites: Oregon is 34 ms away.
    assert!(
        world.sites[0]
            .answered
            .iter()
            .any(|dot| Some(dot.writer) == Some(world.sites[0].gossip().start()))
    );
}

#[test]
fn lost_pushes_are_pulled() {
    for seed in seeds(5) {
        let mut world = ten(seed);
        world.loss = 20;
        traffic(&mut world, 5 * SECOND, Duration::from_millis(20));
        world.settle(5 * SECOND);
    }
}

#[test]
fn steady_traffic_needs_no_pulls() {
    let mut world = ten(1);
    let pulls = |world: &World| -> u64 {
        world
            .sites
            .iter()
            .map(|site| site.gossip().status().counters.pulls_started)
            .sum()
    };
    let before = pulls(&world);
    traffic(&mut world, 10 * SECOND, Duration::from_millis(10));
    world.settle(5 * SECOND);
    let pulls = pulls(&world) - before;
    let received: u64 = world
        .sites
        .iter()
        .map(|site| site.gossip().status().counters.push_received)
        .sum();
    println!("{pulls} pulls for {received} pushes");
    assert!(pulls * 10 < received, "{pulls} pulls for {received} pushes");
}

#[test]
fn a_dead_origins_last_writes_reach_everyone_through_a_third() {
    for seed in seeds(10) {
        let mut world = ten(seed);
        for other in 2..10 {
            world.cut(0, other);
        }
        world.write(0);
        world.run(Duration::from_millis(200)); // only Oregon has it
        world.kill(0);
        let start = *world.sites[0].disk.starts.last().unwrap();
        let dot = Dot {
            writer: start,
            number: 1,
        };
        assert!(world.sites[1].disk.vector.covers(&dot));
        world.run(4 * SECOND);
        assert!(
            world.sites[1..].iter().all(|site| site.disk.vector.covers(&dot)),
            "{}",
            world.picture()
        );
        // Relayed acks: Sydney knows who has it, the dead one included, whose disk it never heard of itself.
        assert_eq!(world.sites[9].gossip().sites_with(&dot), 10);
    }
}

#[test]
fn sites_that_cannot_hear_each_other_agree_through_a_third() {
    for seed in seeds(10) {
        let mut world = World::new(seed, 3, regional);
        world.cut(0, 1); // one way is enough to end the connection
        world.start_all();
        world.run(3 * SECOND);
        traffic(&mut world, 5 * SECOND, Duration::from_millis(20));
        world.settle(5 * SECOND);
        assert_eq!(world.sites[0].gossip().connected_sites(), 1);
        let dot = Dot {
            writer: world.sites[1].gossip().start(),
            number: 1,
        };
        world.run(3 * SECOND);
        assert_eq!(world.sites[0].gossip().sites_with(&dot), 3);
    }
}

#[test]
fn both_sides_of_a_cut_write_and_agree_after_it() {
    for seed in seeds(3) {
        let mut world = ten(seed);
        world.cut_off(5);
        traffic(&mut world, 60 * SECOND, Duration::from_millis(20));
        world.heal();
        let took = world.settle(15 * SECOND);
        assert!(took < 10 * SECOND, "{took:?}");
        assert!(world.sites[5].saw(|event| *event == Event::Isolated(true)) || world.now < 63 * SECOND);
    }
}

#[test]
fn stable_is_trimmed_and_old_starts_fold() {
    for seed in seeds(4) {
        let mut world = ten(seed);
        world.trims = true;
        for round in 0..4 {
            traffic(&mut world, 2 * SECOND, Duration::from_millis(20));
            world.settle(5 * SECOND);
            let site = 1 + round;
            world.kill(site);
            world.run(4 * SECOND);
            world.start(site);
            world.run(3 * SECOND);
        }
        traffic(&mut world, SECOND, Duration::from_millis(20));
        world.settle(5 * SECOND);
        world.run(8 * SECOND);
        for site in &world.sites {
            assert!(
                site.disk.log.is_empty(),
                "{} left of the log {}",
                site.disk.log.len(),
                world.picture()
            );
            assert_eq!(site.disk.vector.floors().count(), 4, "{:?}", site.disk.vector);
            assert_eq!(site.disk.vector.iter().count(), 10);
        }
        let hash = world.sites[0].disk.vector.hash();
        assert!(world.sites.iter().all(|site| site.disk.vector.hash() == hash));
        assert!(all_ready(&world));
        // One that restarts with folded entries is level and ready at once.
        world.kill(0);
        world.run(SECOND);
        world.start(0);
        world.run(2 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
        assert!(world.sites[0].talks.is_empty());
    }
}

#[test]
fn nothing_is_trimmed_while_a_member_is_away() {
    let mut world = ten(3);
    world.trims = true;
    world.settle(SECOND);
    world.kill(7);
    traffic(&mut world, 5 * SECOND, Duration::from_millis(20));
    world.settle(5 * SECOND);
    world.run(5 * SECOND);
    let ours = world.sites[0].disk.vector.total();
    assert!(world.sites[0].disk.log.len() as u64 > ours * 9 / 10);
    world.start(7);
    world.settle(5 * SECOND);
    world.run(5 * SECOND);
    assert!(world.sites.iter().all(|site| site.disk.log.is_empty()));
}

#[test]
fn a_wiped_replica_comes_back_by_the_log_and_its_acks_go_down() {
    for seed in seeds(8) {
        let mut world = ten(seed);
        traffic(&mut world, 5 * SECOND, Duration::from_millis(20));
        world.settle(5 * SECOND);
        world.run(2 * SECOND);
        let dot = Dot {
            writer: world.sites[0].gossip().start(),
            number: 1,
        };
        assert_eq!(world.sites[0].gossip().sites_with(&dot), 10);
        let former = world.sites[4].gossip().start();
        world.wipe(4);
        world.run(4 * SECOND);
        world.start(4);
        // Cut off as soon as it has said hello, before it has pulled much: nobody believes its old acks.
        world.run(Duration::from_millis(3000));
        world.settle(10 * SECOND);
        world.run(3 * SECOND);
        let start = world.sites[4].gossip().start();
        assert!((start.epoch, start.replica) > (former.epoch, former.replica));
        // Of two starts of one epoch the greater replica id is later: it is told of nothing then.
        let told = world.sites[4].saw(|event| matches!(event, Event::LaterStart { live: false, .. }));
        assert_eq!(told, start.epoch > former.epoch);
        assert!(
            !world.sites[4].saw(|event| matches!(event, Event::LaterStart { live: true, .. })),
            "{}",
            world.picture()
        );
        assert!(all_ready(&world), "{}", world.picture());
        for site in [0, 1, 2, 3, 5, 6, 7, 8, 9] {
            let status = world.sites[site].gossip().status();
            let peer = status.peers.iter().find(|peer| peer.member == member(4)).unwrap();
            assert!(peer.believed && peer.start == Some(start), "{peer:?}");
            assert_eq!(world.sites[site].gossip().sites_with(&dot), 10);
        }
    }
}

#[test]
fn a_wiped_replica_that_cannot_pull_yet_is_not_counted_by_anyone() {
    let mut world = World::new(5, 4, regional);
    world.start_all();
    world.run(3 * SECOND);
    traffic(&mut world, SECOND, Duration::from_millis(20));
    world.settle(5 * SECOND);
    world.run(2 * SECOND);
    let dot = Dot {
        writer: world.sites[0].gossip().start(),
        number: 1,
    };
    world.wipe(3);
    // It reaches only site 2, whose log is of no use to it.
    for other in [0, 1] {
        world.cut(3, other);
        world.cut(other, 3);
    }
    world.sites[2].disk.trimmed = world.sites[2].disk.vector.clone();
    world.run(4 * SECOND);
    world.start(3);
    world.run(5 * SECOND);
    for site in 0..3 {
        let with = world.sites[site].gossip().sites_with(&dot);
        assert_eq!(with, 3, "site {site} believes an ack of a disk that is no more");
        assert!(!world.sites[site].gossip().stable().covers(&dot));
    }
}

#[test]
fn two_wiped_at_once_come_back() {
    for seed in seeds(8) {
        let mut world = ten(seed);
        traffic(&mut world, 3 * SECOND, Duration::from_millis(20));
        world.settle(5 * SECOND);
        world.wipe(3);
        world.wipe(4);
        world.run(4 * SECOND);
        world.start(3);
        world.start(4);
        traffic(&mut world, 3 * SECOND, Duration::from_millis(20));
        world.settle(10 * SECOND);
        world.run(3 * SECOND);
        for site in [3, 4] {
            let live = world.sites[site].saw(|event| matches!(event, Event::LaterStart { live: true, .. }));
            assert!(!live, "{}", world.picture());
        }
        assert!(all_ready(&world));
        for site in &world.sites {
            assert!(
                site.gossip().status().peers.iter().all(|peer| peer.believed),
                "{}",
                world.picture()
            );
        }
    }
}

#[test]
fn a_restored_backup_takes_a_later_epoch_and_catches_up_before_it_writes() {
    for seed in seeds(8) {
        let mut world = ten(seed);
        traffic(&mut world, 2 * SECOND, Duration::from_millis(20));
        let backup = world.sites[2].disk.clone();
        for _ in 0..2 {
            world.kill(2);
            world.run(4 * SECOND);
            world.start(2);
            world.run(2 * SECOND);
            traffic(&mut world, SECOND, Duration::from_millis(20));
        }
        world.settle(5 * SECOND);
        let total = world.sites[0].disk.vector.total();
        let known = world.sites[2].gossip().start();
        world.kill(2);
        world.put_back(2, backup);
        world.run(4 * SECOND);
        world.start(2);
        world.write(2);
        world.settle(10 * SECOND);
        assert!(world.sites[2].gossip().start().epoch > known.epoch);
        assert_eq!(
            world.sites[2].disk.vector.total(),
            total + 1,
            "its write came after all it had lost"
        );
        assert!(!world.sites[2].saw(|event| matches!(event, Event::LaterStart { live: true, .. })));
        assert!(!world.sites[0].saw(|event| matches!(event, Event::Fork { .. })));
    }
}

#[test]
fn a_clone_raises_an_alarm_and_nobody_races() {
    for seed in seeds(10) {
        let mut world = World::new(seed, 4, regional);
        world.start_all();
        world.run(3 * SECOND);
        traffic(&mut world, SECOND, Duration::from_millis(20));
        let clone = world.clone_site(2);
        traffic(&mut world, 20 * SECOND, Duration::from_millis(50));
        let starts: usize = [2, clone]
            .iter()
            .map(|site| world.sites[*site].disk.starts.len())
            .sum();
        assert!(starts < 12, "they race: {starts} starts");
        let alarm = [2, clone].iter().any(|site| {
            world.sites[*site].saw(|event| matches!(event, Event::LaterStart { live: true, .. }))
        });
        assert!(alarm, "{}", world.picture());
        // Once one of the two is gone, everything agrees, and all that reached anyone is everywhere.
        world.kill(clone);
        world.settle(20 * SECOND);
    }
}

#[test]
fn a_failed_commit_after_delivery_loses_nothing() {
    for seed in seeds(6) {
        let mut world = ten(seed);
        world.failing_commits = 3;
        world.loss = 5;
        traffic(&mut world, 5 * SECOND, Duration::from_millis(20));
        world.failing_commits = 0;
        world.settle(10 * SECOND);
        world.run(3 * SECOND);
        for site in &world.sites {
            assert!(
                site.gossip().status().peers.iter().all(|peer| peer.believed),
                "{}",
                world.picture()
            );
        }
    }
}

#[test]
fn catching_up_with_thousands_is_bounded_in_memory() {
    let mut world = World::new(1, 3, regional);
    world.log_catch_up_max = u64::MAX;
    world.start_all();
    world.run(3 * SECOND);
    world.kill(2);
    for _ in 0..20_000 {
        world.write(0);
        world.write(1);
    }
    world.settle(20 * SECOND);
    world.start(2);
    world.settle(10 * SECOND);
    assert!(world.sites[2].held_max < 64 << 20);
}

#[test]
fn members_that_join_or_leave_count_as_they_should() {
    let mut world = World::new(9, 4, regional);
    world.peers[3].state = PeerState::Joining;
    world.start_all();
    world.run(3 * SECOND);
    world.write(0);
    world.settle(5 * SECOND);
    world.run(2 * SECOND);
    let dot = Dot {
        writer: world.sites[0].gossip().start(),
        number: 1,
    };
    assert_eq!(world.sites[0].gossip().sites_with(&dot), 3);
    assert_eq!(world.sites[0].gossip().connected_sites(), 2);
    assert!(world.sites[0].gossip().stable().covers(&dot));
}

/// Everything at once, then peace: safety all the way, agreement within a bound.
#[test]
fn storms_end_in_agreement() {
    for seed in seeds(25) {
        let mut world = World::new(seed, 7, regional);
        world.trims = seed % 2 == 0;
        world.look_interval = Some(20 * SECOND);
        if seed % 3 == 0 {
            world.log_catch_up_max = 100;
        }
        world.start_all();
        world.run(3 * SECOND);
        world.loss = world.rng.below(30);
        world.failing_commits = world.rng.below(10);
        let mut down = Vec::new();
        for _ in 0..20 {
            let site = usize::try_from(world.rng.below(7)).unwrap();
            let other = usize::try_from(world.rng.below(7)).unwrap();
            match world.rng.below(8) {
                0 if down.len() < 3 && !down.contains(&site) => {
                    world.kill(site);
                    down.push(site);
                }
                1 if down.len() < 2 && !down.contains(&site) => {
                    world.wipe(site);
                    down.push(site);
                }
                2 | 3 => {
                    if let Some(site) = down.pop() {
                        world.start(site);
                    }
                }
                4 if site != other => world.cut(site, other),
                5 => world.cut_off(site),
                6 => world.heal(),
                _ => {}
            }
            let time = Duration::from_millis(world.rng.below(4000));
            traffic(&mut world, time, Duration::from_millis(100));
        }
        world.heal();
        world.failing_commits = 0;
        world.loss = 0;
        for site in down {
            world.start(site);
        }
        world.run(4 * SECOND);
        world.settle(30 * SECOND);
        world.run(12 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
        for site in &world.sites {
            assert!(
                site.gossip().status().peers.iter().all(|peer| peer.believed),
                "{}",
                world.picture()
            );
        }
        let dots: Vec<Dot> = world
            .sites
            .iter()
            .flat_map(|site| site.answered.iter().copied())
            .collect();
        println!(
            "seed {seed}: {} answered, {} in all",
            dots.len(),
            world.sites[0].disk.vector.total()
        );
    }
}
