//! Two sites lose their disks.
//!
//! Promise: they come back by a copy from the nearest. What only the two had may be lost, and is
//! named; but nothing is that had the time to reach a third site, and nothing that was answered `sites:2`
//! unless its second site was the other of the two.

use std::sync::Arc;
use std::time::Duration;

use super::super::ledger::{DEGRADED, Entry};
use super::super::network::one_way;
use super::super::verdict::Verdict;
use super::super::writes::{Writes, accounts};
use super::super::{World, WorldError, audit, hands, load, locked, wall_us};
use super::{close, no_failures, only, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(AWAY_FOR);
    let mut verdict = Verdict::new("wipe-two");
    let wiped = some_sites(world, 2, 2);
    let left = others(world, &wiped);
    let mut pools = Vec::new();
    for site in &wiped {
        pools.push((*site, accounts(world, *site, ACCOUNTS).await?));
    }
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    // Many writes right up to the end, so that some are on their way when it comes.
    world
        .timeline
        .say(&format!("dense writes at {}", world.names(&wiped)));
    let writes = Writes::start(world, pools, WRITES_PER_SECOND);
    tokio::time::sleep(DENSE_FOR).await;
    let _ = locked(&world.gauges).cut_window();
    let end_us = wall_us();
    hands::wipe(world, &wiped).await?;
    // Those that were under way when it came have failed, as they should.
    let (failed, first) = writes.stop().await;
    if let Some(first) = first {
        world
            .timeline
            .say(&format!("{failed} dense writes failed, the first: {first}"));
    }
    world
        .timeline
        .say(&format!("killed -9 and emptied: {}", world.names(&wiped)));
    watch(world, "two disks are gone", length).await;
    hands::start(world, &wiped).await?;
    hands::ready(world, &wiped, hands::READY_TIMEOUT).await?;
    world.timeline.say("both are ready again, from nothing");
    watch(world, "all are back", BACK_FOR).await;
    let windows = only(locked(&world.gauges).cut_window(), &left);
    no_failures(world, "failures at the other sites", &windows, &mut verdict);

    for site in &wiped {
        let status = world.monitor.status(*site);
        let whole = status
            .as_ref()
            .is_some_and(|status| status.ready && !status.alone && status.vector_total > 0);
        let words = status.map_or("unknown".into(), |status| {
            format!("{} transactions", status.vector_total)
        });
        verdict.check(
            format!("{} is ready, and not alone", world.name(*site)),
            "yes",
            words,
            whole,
        );
    }
    if let Some((_, missing)) = close(world, load, &mut verdict).await {
        judge_missing(world, &wiped, end_us, &missing, &mut verdict);
        audit::people(world, &missing, &mut verdict).await;
    }
    verdict.common(world).await;
    Ok(verdict)
}

pub(super) fn judge_missing(
    world: &World,
    wiped: &[usize],
    end_us: u64,
    missing: &[Entry],
    verdict: &mut Verdict,
) {
    let (theirs, of) = {
        let ledger = locked(&world.ledger);
        let at_wiped = |entry: &&Entry| wiped.contains(&entry.site) && entry.answered_us <= end_us + KILL_US;
        (
            ledger.entries().iter().filter(at_wiped).count(),
            ledger.entries().len(),
        )
    };
    let by_wiped = |entry: &Entry| wiped.contains(&entry.site) && entry.asked_us <= end_us + KILL_US;
    let elsewhere = missing.iter().filter(|entry| !by_wiped(entry)).count();
    verdict.none(
        "lost writes of sites that kept their disks, or after the return",
        elsewhere,
        of - theirs.min(of),
    );
    verdict.enough("writes acknowledged by the lost before", theirs as u64, 100);

    let mut too_old = Vec::new();
    let mut named = Vec::new();
    for entry in missing.iter().filter(|entry| by_wiped(entry)) {
        let age = Duration::from_micros(end_us.saturating_sub(entry.answered_us));
        let allowed = allowed_age(world.sites.len(), wiped, entry);
        let words = format!(
            "{} {} at {}, answered {} {:.1} ms before the end (explained up to {:.1} ms)",
            entry.what,
            entry.dot.number,
            world.name(entry.site),
            entry.answered,
            age.as_secs_f64() * 1_000.0,
            allowed.as_secs_f64() * 1_000.0
        );
        world.timeline.say(&format!("lost with the disks: {words}"));
        if age > allowed {
            too_old.push(words.clone());
        }
        named.push(words);
    }
    world.timeline.say(&format!(
        "{} of {theirs} acknowledged writes were only on the disks that are gone",
        named.len()
    ));
    verdict.detail("lost with the disks", &named);
    verdict.none(
        "of those, answered longer ago than the network explains",
        too_old.len(),
        theirs,
    );
}

/// How long before the end a lost write can have been answered at most.
///
/// A write leaves for everyone at once, and reaches the nearest site that kept its disk after one delay. An
/// answer of `sites:2` that nobody else has waited for the nearest other that is lost, there and back.
fn allowed_age(sites: usize, wiped: &[usize], entry: &Entry) -> Duration {
    let kept = (0..sites).filter(|site| !wiped.contains(site));
    let nearest = kept
        .map(|site| one_way(entry.site, site))
        .min()
        .unwrap_or_default();
    let other = wiped
        .iter()
        .filter(|site| **site != entry.site)
        .map(|site| one_way(entry.site, *site))
        .min();
    let waited = match other {
        Some(other) if entry.answered != DEGRADED && entry.answered != "local" => 2 * other,
        _ => Duration::ZERO,
    };
    nearest.saturating_sub(waited) + SLACK
}

const AWAY_FOR: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(10);
const BACK_FOR: Duration = Duration::from_secs(5);
const DENSE_FOR: Duration = Duration::from_secs(3);
const ACCOUNTS: usize = 10;
/// At each of the two: a write every 5 ms.
const WRITES_PER_SECOND: f64 = 200.0;
/// What the goal for the lag (10 ms at p99), jitter and the time to end two processes add to the delay.
const SLACK: Duration = Duration::from_millis(30);
/// Killing takes a moment, in which the last answers come.
const KILL_US: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::super::super::client::Dot;
    use super::*;

    fn entry(site: usize, answered: &str) -> Entry {
        Entry {
            dot: Dot {
                writer: "w".into(),
                number: 1,
            },
            site,
            asked_us: 0,
            answered_us: 0,
            answered: answered.into(),
            what: "sign-up",
        }
    }

    #[test]
    fn what_may_be_lost_is_what_the_network_explains() {
        let nearest = (2..10).map(|site| one_way(0, site)).min().unwrap();
        assert_eq!(allowed_age(10, &[0, 1], &entry(0, "degraded")), nearest + SLACK);
        let waited = nearest.saturating_sub(2 * one_way(0, 1));
        assert_eq!(allowed_age(10, &[0, 1], &entry(0, "sites:2")), waited + SLACK);
    }
}
