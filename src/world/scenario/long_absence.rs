//! One site is cut off for longer than the others' logs reach back; another loses its disk.
//!
//! Promise: the first comes back by states, with what it wrote while it was cut off; the second by a copy of the
//! nearest one's disk. Both say which way it was. Nothing that was answered for by a site that kept its disk is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::verdict::Verdict;
use super::super::writes::{Writes, accounts};
use super::super::{World, WorldError, audit, hands, load, locked, wall_us};
use super::evict_return::write_at;
use super::wipe_two::judge_missing;
use super::{close, no_failures, only, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(AWAY_AT_MOST);
    let mut verdict = Verdict::new("long-absence");
    let chosen = some_sites(world, 2, 9);
    let (away, wiped) = match chosen.as_slice() {
        [away, wiped] => (vec![*away], vec![*wiped]),
        _ => return Ok(verdict),
    };
    let kept = others(world, &chosen);
    let (mut pools, mut pools_of_wiped) = (Vec::new(), Vec::new());
    for site in &kept {
        pools.push((*site, accounts(world, *site, ACCOUNTS).await?));
    }
    for site in &wiped {
        pools_of_wiped.push((*site, accounts(world, *site, ACCOUNTS).await?));
    }
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    let _ = locked(&world.gauges).cut_window();
    hands::set_apart(world, &away, true).await?;
    world.timeline.say(&format!(
        "cut off: {}; the others' logs hold 1 MiB at most, and are filled",
        world.names(&away)
    ));
    let writes = Writes::start(world, pools, WRITES_PER_SECOND);
    for site in &away {
        write_at(world, *site, WRITES).await;
    }
    let beyond = until_trimmed(world, &away, &kept, length).await;
    let (failed, complaint) = writes.stop().await;
    if let Some(complaint) = complaint {
        world
            .timeline
            .say(&format!("{failed} filling writes failed, the first: {complaint}"));
    }
    verdict.check(
        "logs that no longer reach back to the one cut off",
        format!("all {}", kept.len()),
        beyond.to_string(),
        beyond == kept.len(),
    );
    let windows = only(locked(&world.gauges).cut_window(), &kept);
    no_failures(
        world,
        "failures at the other sites meanwhile",
        &windows,
        &mut verdict,
    );
    hands::set_apart(world, &away, false).await?;
    came(world, &away, "catch_ups", &mut verdict).await?;

    // Many writes there right up to the end, as at any site whose disk is lost.
    let writes = Writes::start(world, pools_of_wiped, DENSE_PER_SECOND);
    tokio::time::sleep(DENSE_FOR).await;
    let end_us = wall_us();
    hands::wipe(world, &wiped).await?;
    // Those that were under way have failed, as they should.
    let _ = writes.stop().await;
    world
        .timeline
        .say(&format!("killed -9 and emptied: {}", world.names(&wiped)));
    watch(world, "a disk is gone", EMPTY_FOR).await;
    hands::start(world, &wiped).await?;
    came(world, &wiped, "snapshots", &mut verdict).await?;
    watch(world, "all are back", BACK_FOR).await;
    if let Some((_, missing)) = close(world, load, &mut verdict).await {
        judge_missing(world, &wiped, end_us, &missing, &mut verdict);
        audit::people(world, &missing, &mut verdict).await;
    }
    verdict.common(world).await;
    Ok(verdict)
}

/// Waits until the logs of these sites begin later than what the ones away have. Gives of how many they do.
async fn until_trimmed(world: &World, away: &[usize], kept: &[usize], at_most: Duration) -> usize {
    let began = Instant::now();
    let has = total(world, away).await;
    loop {
        let mut beyond = 0;
        let mut words = String::new();
        for index in kept {
            let status = match world.sites.get(*index) {
                Some(site) => site.client.status().await.unwrap_or_default(),
                None => continue,
            };
            words = format!("{} of {} transactions", status.trimmed, status.vector_total);
            // What it wrote itself meanwhile only makes this stricter.
            if status.trimmed > has + SURELY {
                beyond += 1;
            }
        }
        if beyond == kept.len() || began.elapsed() > at_most {
            world.timeline.quiet();
            world.timeline.say(&format!(
                "after {:.0} s {beyond} logs no longer reach back: one has let go {words}, {} had {has}",
                began.elapsed().as_secs_f64(),
                world.names(away)
            ));
            return beyond;
        }
        world.timeline.now(&format!(
            "filling the logs: {beyond} no longer reach back; one has let go {words}"
        ));
        tokio::time::sleep(POLL).await;
    }
}

async fn total(world: &World, sites: &[usize]) -> u64 {
    let mut greatest = 0;
    for site in sites.iter().filter_map(|index| world.sites.get(*index)) {
        if let Ok(status) = site.client.status().await {
            greatest = status.vector_total.max(greatest);
        }
    }
    greatest
}

/// Waits until they are ready, and have come there this way.
async fn came(world: &World, sites: &[usize], way: &str, verdict: &mut Verdict) -> Result<(), WorldError> {
    let began = Instant::now();
    loop {
        let mut ways = Vec::new();
        for index in sites {
            let Some(site) = world.sites.get(*index) else {
                continue;
            };
            let status = site.client.status().await.unwrap_or_default();
            let level = status.serves() && !status.alone;
            ways.push((world.name(*index), level, status.counter(way)));
        }
        let done = ways
            .iter()
            .all(|(_, level, count)| *level && count.is_some_and(|count| count > 0));
        if done || began.elapsed() > BACK_WITHIN {
            world.timeline.quiet();
            for (name, level, count) in &ways {
                verdict.check(
                    format!("{name} came back by {way}, and serves"),
                    "at least 1",
                    format!("{count:?}, serves: {level}"),
                    *level && count.is_some_and(|count| count > 0),
                );
            }
            world.timeline.say(&format!(
                "{} back by {way} after {:.1} s",
                world.names(sites),
                began.elapsed().as_secs_f64()
            ));
            return hands::ready(world, sites, hands::READY_TIMEOUT).await;
        }
        world
            .timeline
            .now(&format!("waiting until {} is back", world.names(sites)));
        tokio::time::sleep(POLL).await;
    }
}

const AWAY_AT_MOST: Duration = Duration::from_secs(120);
const BEFORE: Duration = Duration::from_secs(4);
const EMPTY_FOR: Duration = Duration::from_secs(4);
const BACK_FOR: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(90);
const ACCOUNTS: usize = 20;
/// At each of those that stay.
const WRITES_PER_SECOND: f64 = 25.0;
/// At the one that is cut off.
const WRITES: usize = 30;
const DENSE_PER_SECOND: f64 = 100.0;
const DENSE_FOR: Duration = Duration::from_secs(3);
/// Transactions beyond what the one away has, so that the logs begin after it whatever the order.
const SURELY: u64 = 200;
const POLL: Duration = Duration::from_millis(500);
