//! A site that is cut off, and goes on writing, is evicted; it comes back.
//!
//! Promise: the others go on, and what every member must have moves without it. Reconnected, it learns that it is
//! out, serves nobody any more, and hands over what only it has; then it joins again, as a new member with its old
//! disk. Nothing that it ever answered for is lost, nor anything that the others did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::asks::{Ask, ask_at};
use super::super::ledger::Entry;
use super::super::people::password;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked, operator};
use super::five_gone::evict;
use super::{close_whole, no_failures, only, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(CUT_FOR);
    let mut verdict = Verdict::new("evict-return");
    let out = some_sites(world, 1, 7);
    let left = others(world, &out);
    let (Some(&index), Some(&first)) = (out.first(), left.first()) else {
        return Ok(verdict);
    };
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    let _ = locked(&world.gauges).cut_window();
    hands::set_apart(world, &out, true).await?;
    world.timeline.say(&format!(
        "cut off: {}; people write on both sides",
        world.name(index)
    ));
    write_at(world, index, WRITES).await;
    watch(world, "one is cut off", length).await;

    let before = stable(world, first).await;
    let name = member_name(world, index);
    evict(world, first, std::slice::from_ref(&name), &mut verdict).await?;
    // It does not know yet: what it answers for from now on must not be lost either.
    write_at(world, index, WRITES).await;
    watch(world, "it is evicted, and does not know", length).await;
    let after = stable(world, first).await;
    verdict.check(
        "stability moves once it is evicted",
        format!("beyond {before:?}"),
        format!("{after:?}"),
        after > before && before.is_some(),
    );
    let windows = only(locked(&world.gauges).cut_window(), &left);
    no_failures(
        world,
        "failures at the other sites meanwhile",
        &windows,
        &mut verdict,
    );
    let alone = only_at(world, index);
    verdict.enough("writes that only it has by then", alone.len() as u64, 20);

    hands::heal_network(world).await?;
    come_back(world, &out, &[first], &mut verdict).await?;
    watch(world, "it is back", BACK_FOR).await;
    let windows = only(locked(&world.gauges).cut_window(), &out);
    no_failures(world, "failures there since", &windows, &mut verdict);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// Evicted sites that can reach the others again: each must learn that it is out, and hand over all that it has;
/// then it joins again, invited by one of the hosts. (Also for the halves.)
pub(super) async fn come_back(
    world: &Arc<World>,
    out: &[usize],
    hosts: &[usize],
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    let began = Instant::now();
    let mut words = Vec::new();
    for index in out {
        let Some(site) = world.sites.get(*index) else {
            continue;
        };
        let said = loop {
            let status = site.client.status().await;
            let done = matches!(&status, Ok(s) if s.standing == "out" && !s.serves() && s.handed_over);
            if done || began.elapsed() > HANDED_OVER_WITHIN {
                break status.map(|s| (s.standing.clone(), s.serves(), s.handed_over));
            }
            world
                .timeline
                .now(&format!("waiting until {} has handed over", world.name(*index)));
            tokio::time::sleep(POLL).await;
        };
        if !matches!(&said, Ok((standing, false, true)) if standing == "out") {
            words.push(format!("{}: {said:?}", world.name(*index)));
        }
    }
    world.timeline.quiet();
    verdict.none(
        "evicted sites that did not learn it, stop serving and hand over",
        words.len(),
        out.len(),
    );
    verdict.detail("evicted sites that did not", &words);
    world.timeline.say(&format!(
        "{} handed over what they had, after {:.1} s",
        world.names(out),
        began.elapsed().as_secs_f64()
    ));
    for (place, index) in out.iter().enumerate() {
        let (Some(site), Some(host)) = (world.sites.get(*index), hosts.get(place % hosts.len().max(1)))
        else {
            continue;
        };
        site.terminate();
        if site.gone(DRAIN_MAX).await.is_none() {
            return Err(site.failed("did not end when it was told to"));
        }
        let invitation = operator::invite(world, *host).await?;
        hands::join(world, *index, &invitation).await?;
        world.timeline.say(&format!(
            "{} joins again with its old disk, invited by {}",
            world.name(*index),
            world.name(*host)
        ));
    }
    hands::ready(world, out, JOIN_WITHIN).await?;
    world.timeline.say(&format!("{}: active again", world.names(out)));
    let _ = locked(&world.gauges).cut_window();
    Ok(())
}

/// What people call the member in this place.
pub(super) fn member_name(world: &World, index: usize) -> String {
    let site = world.sites.get(index);
    site.map_or_else(String::new, |site| format!("{}-1", site.plan().name))
}

/// Sign-ups at one site, wherever the load may go.
pub(super) async fn write_at(world: &World, index: usize, count: usize) {
    let mut random = world.random(70 + index as u64);
    for _ in 0..count {
        let ask = Ask::SignUp {
            address: locked(&world.people).fresh_address(),
            password: password(&mut random),
        };
        if let Err(error) = ask_at(world, index, &ask).await {
            world
                .timeline
                .say(&format!("{} at {}: {error}", ask.name(), world.name(index)));
        }
    }
}

/// Writes acknowledged by this site that no other site has said to have.
fn only_at(world: &World, index: usize) -> Vec<Entry> {
    let elsewhere = others(world, &[index]);
    let seen = |entry: &&Entry| !elsewhere.iter().any(|site| world.monitor.sees(*site, &entry.dot));
    let ledger = locked(&world.ledger);
    let here = ledger.entries().iter().filter(|entry| entry.site == index);
    here.filter(seen).cloned().collect()
}

async fn stable(world: &World, site: usize) -> Option<u64> {
    let status = world.sites.get(site)?.client.status().await.ok()?;
    Some(status.stable)
}

const CUT_FOR: Duration = Duration::from_secs(12);
const BEFORE: Duration = Duration::from_secs(5);
const BACK_FOR: Duration = Duration::from_secs(5);
const WRITES: usize = 15;
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(60);
const JOIN_WITHIN: Duration = Duration::from_secs(120);
const DRAIN_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);
