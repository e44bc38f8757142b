//! Worlds in which the log is not enough: what is settled, who copies, who is put out.

use gossip::reconcile::Purpose;
use gossip::{Event, Output, PeerState};

use super::world::{World, seeds};
use super::{SECOND, all_ready, regional, ten, traffic};

/// Does any of its talks copy a peer's data?
fn copied(world: &World, site: usize) -> bool {
    let mut talks = world.sites[site].talks.iter();
    talks.any(|talk| matches!(talk, Output::Snapshot { .. }))
}

fn caught_up(world: &World, site: usize) -> bool {
    let mut talks = world.sites[site].talks.iter();
    talks.any(|talk| {
        matches!(
            talk,
            Output::Reconcile {
                purpose: Purpose::CatchUp,
                ..
            }
        )
    })
}

/// The log outgrew its limit everywhere but at `but`: all of it goes, stable or not.
fn outgrow(world: &mut World, but: usize) {
    for site in (0..world.sites.len()).filter(|site| *site != but) {
        world.outgrow(site);
    }
    world.run(SECOND);
}

#[test]
fn what_is_settled_follows_a_steady_load_and_never_comes_too_early() {
    for seed in seeds(3) {
        let mut world = ten(seed);
        world.trims = true;
        world.loss = 10;
        let mut last = 0;
        for _ in 0..4 {
            traffic(&mut world, 3 * SECOND, SECOND / 40);
            let least = world.sites.iter().map(|site| site.settled.total()).min().unwrap();
            assert!(least > last, "it stands still at {least}");
            last = least;
        }
        world.settle(5 * SECOND);
        world.run(5 * SECOND);
        for site in &world.sites {
            assert!(
                site.settled.covers_vector(&site.disk.vector),
                "{}",
                world.picture()
            );
        }
    }
}

#[test]
fn a_silent_member_holds_up_what_is_settled() {
    let mut world = World::new(3, 4, regional);
    world.start_all();
    world.run(3 * SECOND);
    world.kill(3);
    world.write(0);
    world.settle(3 * SECOND);
    world.run(5 * SECOND);
    assert!(world.sites.iter().all(|site| site.settled.total() == 0));
    world.start(3);
    world.run(8 * SECOND);
    assert!(
        world.sites.iter().all(|site| site.settled.total() == 1),
        "{}",
        world.picture()
    );
}

#[test]
fn a_wiped_replica_copies_its_nearest_and_catches_up_by_the_log() {
    for seed in seeds(4) {
        let mut world = ten(seed);
        world.trims = true;
        traffic(&mut world, 5 * SECOND, SECOND / 50);
        world.settle(5 * SECOND);
        world.run(3 * SECOND);
        world.wipe(4);
        // Some are not there to hear that it was wiped; what they hold stable by its old ack, they trim.
        traffic(&mut world, SECOND, SECOND / 50);
        world.run(4 * SECOND);
        world.start(4);
        traffic(&mut world, 3 * SECOND, SECOND / 50);
        world.settle(20 * SECOND);
        assert!(copied(&world, 4), "{}", world.picture());
        world.run(5 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
        let live = world.sites[4].saw(|event| matches!(event, Event::LaterStart { live: true, .. }));
        assert!(!live, "{}", world.picture());
        for site in &world.sites {
            let believed = site
                .gossip()
                .status()
                .peers
                .iter()
                .all(|peer| peer.believed && !peer.holding);
            assert!(believed, "{}", world.picture());
        }
    }
}

#[test]
fn a_copy_that_breaks_off_is_taken_elsewhere() {
    for seed in seeds(3) {
        let mut world = ten(seed);
        world.trims = true;
        traffic(&mut world, 2 * SECOND, SECOND / 50);
        world.settle(5 * SECOND);
        world.run(3 * SECOND);
        world.wipe(0);
        world.run(4 * SECOND);
        world.start(0);
        while !copied(&world, 0) {
            world.run(SECOND / 10);
            assert!(!world.sites[0].gossip().is_ready());
        }
        world.kill(1); // the nearest
        world.settle(30 * SECOND);
        let copies = world.sites[0].talks.len();
        assert!(copies >= 2, "{}", world.picture());
        world.start(1);
        world.settle(20 * SECOND);
        world.run(5 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
    }
}

#[test]
fn a_site_away_for_longer_than_the_log_comes_back_by_states() {
    for seed in seeds(4) {
        let mut world = ten(seed);
        traffic(&mut world, 2 * SECOND, SECOND / 50);
        world.settle(5 * SECOND);
        world.kill(6);
        traffic(&mut world, 5 * SECOND, SECOND / 50);
        world.settle(5 * SECOND);
        outgrow(&mut world, 6);
        world.start(6);
        traffic(&mut world, 3 * SECOND, SECOND / 50);
        world.settle(20 * SECOND);
        assert!(caught_up(&world, 6) && !copied(&world, 6), "{}", world.picture());
        world.run(5 * SECOND);
        assert!(all_ready(&world), "{}", world.picture());
    }
}

#[test]
fn a_running_site_cut_off_for_longer_than_the_log_is_not_ready_until_it_is_level() {
    for seed in seeds(4) {
        let mut world = ten(seed);
        world.cut_off(6);
        // Both sides write: what the one that was cut off wrote is in its log still.
        traffic(&mut world, 10 * SECOND, SECOND / 50);
        outgrow(&mut world, 6);
        let theirs = world.sites[0].disk.vector.clone();
        world.heal();
        world.settle(30 * SECOND);
        world.run(3 * SECOND);
        assert!(world.sites[6].disk.vector.covers_vector(&theirs));
        assert!(
            world.sites[6].saw(|event| *event == Event::Unready),
            "{}",
            world.picture()
        );
        assert!(all_ready(&world), "{}", world.picture());
        for site in (0..10).filter(|site| *site != 6) {
            assert!(!world.sites[site].saw(|event| *event == Event::Unready));
        }
    }
}

#[test]
fn one_that_joins_copies_under_load_and_the_log_waits_for_it() {
    for seed in seeds(4) {
        let mut world = World::new(seed, 5, regional);
        world.trims = true;
        world.peers[4].state = PeerState::Joining;
        for site in 0..4 {
            world.start(site);
        }
        world.run(3 * SECOND);
        let busy = |world: &mut World, time| {
            let end = world.now + time;
            while world.now < end {
                (0..4).for_each(|site| world.write(site));
                world.run(SECOND / 20);
            }
        };
        busy(&mut world, 5 * SECOND);
        world.start(4);
        busy(&mut world, 8 * SECOND);
        assert!(
            copied(&world, 4) && world.sites[4].talks.len() == 1,
            "{}",
            world.picture()
        );
        assert!(world.sites[4].gossip().is_ready(), "{}", world.picture());
        for site in 0..5 {
            world.see(site, &[(4, PeerState::Active)]);
        }
        busy(&mut world, 3 * SECOND);
        world.settle(5 * SECOND);
        world.run(5 * SECOND);
        assert_eq!(world.sites[4].talks.len(), 1, "{}", world.picture());
        for site in &world.sites {
            let status = site.gossip().status();
            assert_eq!(
                (status.leases, site.disk.log.len()),
                (0, 0),
                "{}",
                world.picture()
            );
        }
    }
}

/// 0 to 2 and 3 to 5 were cut apart, and each half evicted the other; the first half's evictions count.
fn halves(seed: u64, trims: bool) -> World {
    let mut world = World::new(seed, 6, regional);
    world.trims = trims;
    world.start_all();
    world.run(3 * SECOND);
    traffic(&mut world, 2 * SECOND, SECOND / 50);
    world.settle(5 * SECOND);
    world.run(2 * SECOND);
    for near in 0..3 {
        for far in 3..6 {
            world.cut(near, far);
            world.cut(far, near);
        }
    }
    traffic(&mut world, 4 * SECOND, SECOND / 50);
    let gone = |range: std::ops::Range<usize>| -> Vec<(usize, PeerState)> {
        range.map(|site| (site, PeerState::Evicted)).collect()
    };
    for site in 0..6 {
        world.see(site, &if site < 3 { gone(3..6) } else { gone(0..3) });
    }
    // Restarts in either half: their old starts are folded there, if it trims.
    for site in [1, 4] {
        world.kill(site);
        world.run(4 * SECOND);
        world.start(site);
        world.run(2 * SECOND);
    }
    traffic(&mut world, 4 * SECOND, SECOND / 50);
    world.run(5 * SECOND);
    world
}

#[test]
fn halves_that_evicted_each_other_hand_everything_over() {
    for seed in seeds(3) {
        for trims in [false, true] {
            let mut world = halves(seed, trims);
            let before: Vec<_> = (0..6).map(|site| world.sites[site].disk.vector.clone()).collect();
            world.heal();
            world.run(3 * SECOND);
            // The cluster record is merged: all come to the same.
            for site in 3..6 {
                let back: Vec<_> = (0..3).map(|site| (site, PeerState::Active)).collect();
                world.see(site, &back);
                world.see(
                    site,
                    &[
                        (3, PeerState::Evicted),
                        (4, PeerState::Evicted),
                        (5, PeerState::Evicted),
                    ],
                );
            }
            world.run(30 * SECOND);
            for site in 0..3 {
                for had in &before {
                    assert!(
                        world.sites[site].disk.vector.covers_vector(had),
                        "{}",
                        world.picture()
                    );
                }
                assert!(world.sites[site].gossip().is_ready());
                let unready = world.sites[site].saw(|event| *event == Event::Unready);
                assert!(
                    !unready,
                    "handing over takes nobody's readiness: {}",
                    world.picture()
                );
            }
            for site in 3..6 {
                let saw = |wanted: Event| world.sites[site].saw(|event| *event == wanted);
                assert!(
                    saw(Event::Evicted) && saw(Event::HandedOver),
                    "{}",
                    world.picture()
                );
                assert!(!world.sites[site].gossip().is_ready());
            }
            let handed = (0..3).any(|site| caught_up(&world, site));
            assert_eq!(handed, trims, "{}", world.picture());
            // And the three go on: what they write becomes stable and settled among them.
            let total = world.sites[0].settled.total();
            (0..3).for_each(|site| world.write(site));
            world.run(8 * SECOND);
            assert!(world.sites[0].settled.total() >= total + 3, "{}", world.picture());
        }
    }
}

#[test]
fn everybody_is_compared_with_everybody_and_no_asker_twice_at_a_time() {
    let mut world = World::new(7, 10, regional);
    world.look_interval = Some(20 * SECOND);
    world.start_all();
    traffic(&mut world, 65 * SECOND, SECOND / 5);
    for site in &world.sites {
        let looks = site.gossip().status().counters.looks;
        assert!((18..=36).contains(&looks.begun), "{looks:?}");
        let running = looks.begun - (looks.equal + looks.lag_only);
        assert!(running <= 1, "{looks:?}");
        let status = site.gossip().status();
        assert!(
            status
                .peers
                .iter()
                .all(|peer| peer.verdict_ms_ago.is_some_and(|ago| ago < 25_000))
        );
    }
}
