//! Five of ten sites are gone for good, disks and keys; five new ones take their places.
//!
//! Promise: the others go on without a failure. What every member must have stands still until an operator evicts
//! the lost; from then on stability moves, logs shrink, and who cancels is forgotten. Five new members join by
//! invitation, under load. What only the lost had is named, and none of it is older than the network explains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::verdict::Verdict;
use super::super::writes::{Writes, accounts};
use super::super::{World, WorldError, audit, hands, load, locked, operator, wall_us};
use super::wipe_two::judge_missing;
use super::{close, no_failures, only, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(ALONE_FOR);
    let mut verdict = Verdict::new("five-gone");
    let gone = some_sites(world, world.sites.len() / 2, 6);
    let left = others(world, &gone);
    let mut pools = Vec::new();
    for site in &gone {
        pools.push((*site, accounts(world, *site, ACCOUNTS).await?));
    }
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    world
        .timeline
        .say(&format!("dense writes at {}", world.names(&gone)));
    let writes = Writes::start(world, pools, WRITES_PER_SECOND);
    tokio::time::sleep(DENSE_FOR).await;
    let _ = locked(&world.gauges).cut_window();
    let names = gone.iter().filter_map(|site| world.sites.get(*site));
    let names: Vec<String> = names.map(|site| format!("{}-1", site.plan().name)).collect();
    let end_us = wall_us();
    hands::destroy(world, &gone).await?;
    let (failed, _) = writes.stop().await;
    world.timeline.say(&format!(
        "killed -9, disks and keys destroyed: {}; {failed} dense writes failed with them",
        world.names(&gone)
    ));
    watch(world, "half is gone for good", length).await;
    let windows = only(locked(&world.gauges).cut_window(), &left);
    no_failures(
        world,
        "failures at the other sites meanwhile",
        &windows,
        &mut verdict,
    );

    let Some(&first) = left.first() else {
        return Ok(verdict);
    };
    let held_up = kept(world, first).await?;
    evict(world, first, &names, &mut verdict).await?;
    let moved = Instant::now();
    let freed = loop {
        let now = kept(world, first).await?;
        if now.log < held_up.log && now.stable > held_up.stable || moved.elapsed() > MOVES_WITHIN {
            break now;
        }
        world
            .timeline
            .now(&format!("evicted; waiting for stability to move: {now:?}"));
        tokio::time::sleep(POLL).await;
    };
    world.timeline.quiet();
    verdict.check(
        "stability moves once they are evicted",
        format!("beyond {}", held_up.stable),
        freed.stable.to_string(),
        freed.stable > held_up.stable,
    );
    verdict.check(
        "logs shrink once they are evicted",
        format!("below {} transactions", held_up.log),
        freed.log.to_string(),
        freed.log < held_up.log,
    );

    let begun = Instant::now();
    for (place, site) in gone.iter().enumerate() {
        // Whoever is in may invite.
        let host = left.get(place % left.len()).copied().unwrap_or(first);
        let invitation = operator::invite(world, host).await?;
        hands::succeed(world, *site, &invitation).await?;
        world.timeline.say(&format!(
            "a new member begins in the place of {}, invited by {}",
            world.name(*site),
            world.name(host)
        ));
    }
    hands::ready(world, &gone, JOIN_WITHIN).await?;
    let took = begun.elapsed();
    world.timeline.say(&format!(
        "all five new members are active after {:.1} s",
        took.as_secs_f64()
    ));
    let _ = locked(&world.gauges).cut_window();
    watch(world, "ten again", BACK_FOR).await;
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failures at all ten, new ones too", &windows, &mut verdict);
    members(world, first, &mut verdict).await?;
    forget_somebody(world, &mut verdict).await?;

    if let Some((_, missing)) = close(world, load, &mut verdict).await {
        judge_missing(world, &gone, end_us, &missing, &mut verdict);
        audit::people(world, &missing, &mut verdict).await;
    }
    verdict.common(world).await;
    Ok(verdict)
}

/// What a site's log holds, and what every member that counts has.
#[derive(Debug)]
struct Kept {
    log: u64,
    stable: u64,
}

async fn kept(world: &World, site: usize) -> Result<Kept, WorldError> {
    let unknown = |error: String| WorldError::Unsettled(format!("{}: {error}", world.name(site)));
    let at = world
        .sites
        .get(site)
        .ok_or_else(|| unknown("no such site".into()))?;
    let status = at
        .client
        .status()
        .await
        .map_err(|error| unknown(error.to_string()))?;
    Ok(Kept {
        log: status.vector_total.saturating_sub(status.trimmed),
        stable: status.stable,
    })
}

/// Shows what an eviction would cut off, then evicts, as an operator would. (Also for the other scenarios.)
pub(super) async fn evict(
    world: &World,
    by: usize,
    names: &[String],
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    let mut shown = 0;
    for name in names {
        let asked = operator::at_site(world, by, &["cluster", "evict", name]).await?;
        let tells = [name.as_str(), "last heard", "only it has", "Nothing was done"];
        if asked.status == Some(2) && tells.iter().all(|tell| asked.said.contains(tell)) {
            shown += 1;
        }
        world.timeline.say(&format!(
            "operator at {}: persona cluster evict {name}",
            world.name(by)
        ));
        operator::tell(world, &asked);
        operator::at_site(
            world,
            by,
            &["cluster", "evict", name, "--yes", "--reason", "a scenario"],
        )
        .await?
        .done("cluster evict")?;
    }
    verdict.check(
        format!(
            "evictions at {} that were shown first, with what they cut off",
            world.name(by)
        ),
        names.len().to_string(),
        shown.to_string(),
        shown == names.len() && shown > 0,
    );
    Ok(())
}

/// All places must be active members, and nobody else.
async fn members(world: &World, asked: usize, verdict: &mut Verdict) -> Result<(), WorldError> {
    let listed = operator::at_site(world, asked, &["cluster", "members", "--all"]).await?;
    operator::tell(world, &listed);
    // The third column; why somebody is out is said on a line of its own.
    let states: Vec<&str> = listed
        .said
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    let count = |state: &str| states.iter().filter(|found| **found == state).count();
    let (active, evicted) = (count("active"), count("evicted"));
    verdict.check(
        "members that are active",
        world.sites.len().to_string(),
        active.to_string(),
        active == world.sites.len(),
    );
    let lost = world.sites.len() / 2;
    verdict.check(
        "members that were evicted",
        lost.to_string(),
        evicted.to_string(),
        evicted == lost,
    );
    Ok(())
}

/// Erasure needs every active member: somebody signs up, cancels, and must be forgotten by all ten.
async fn forget_somebody(world: &World, verdict: &mut Verdict) -> Result<(), WorldError> {
    let Some(account) = accounts(world, 0, 1).await?.pop() else {
        return Ok(());
    };
    operator::finalise_receipts(world).await?;
    operator::at_site(world, 0, &["account", "cancel", &account, "--yes"])
        .await?
        .done("account cancel")?;
    let erased = operator::at_site(
        world,
        0,
        &["account", "erased", &account, "--wait", ERASED_WITHIN_S],
    )
    .await?;
    operator::tell(world, &erased);
    verdict.check(
        "an account that is cancelled now is erased by all active members",
        "exit status 0",
        format!("{:?}", erased.status),
        erased.status == Some(0) && erased.said.contains("Erased everywhere"),
    );
    Ok(())
}

const ALONE_FOR: Duration = Duration::from_secs(12);
const BEFORE: Duration = Duration::from_secs(6);
const DENSE_FOR: Duration = Duration::from_secs(3);
const BACK_FOR: Duration = Duration::from_secs(8);
const ACCOUNTS: usize = 10;
/// At each of the five.
const WRITES_PER_SECOND: f64 = 30.0;
const MOVES_WITHIN: Duration = Duration::from_secs(30);
/// Five copies, one after the other or not, on one machine.
const JOIN_WITHIN: Duration = Duration::from_secs(120);
const ERASED_WITHIN_S: &str = "120";
const POLL: Duration = Duration::from_millis(500);
