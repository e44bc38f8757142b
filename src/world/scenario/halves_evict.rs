//! The world is cut into halves, and each half's operator evicts the other half.
//!
//! Promise: both halves go on. When they meet again they agree on who is out: what was said first counts. Those hand
//! over what they have and join again, and nothing that anybody answered for is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::network::PairCut;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked};
use super::evict_return::{come_back, member_name, write_at};
use super::five_gone::evict;
use super::{close_whole, no_failures, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(CUT_FOR);
    let mut verdict = Verdict::new("halves-evict");
    let one = some_sites(world, world.sites.len() / 2, 8);
    let other = others(world, &one);
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    let _ = locked(&world.gauges).cut_window();
    let pairs: Vec<(usize, usize)> = one
        .iter()
        .flat_map(|a| other.iter().map(move |b| (*a, *b)))
        .collect();
    hands::set_pairs(world, &pairs, PairCut::Both).await?;
    world.timeline.say(&format!(
        "cut into halves: {} | {}",
        world.names(&one),
        world.names(&other)
    ));
    watch(world, "two halves", length).await;
    for (here, there) in [(&one, &other), (&other, &one)] {
        let names: Vec<String> = there.iter().map(|site| member_name(world, *site)).collect();
        if let Some(by) = here.first() {
            evict(world, *by, &names, &mut verdict).await?;
        }
    }
    for site in one.iter().chain(&other) {
        write_at(world, *site, WRITES).await;
    }
    watch(world, "each has evicted the other", length).await;
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failures at both halves meanwhile", &windows, &mut verdict);

    hands::heal_network(world).await?;
    world.timeline.say("the halves meet again");
    let (stayed, out) = resolved(world).await?;
    world.timeline.say(&format!(
        "still in: {}; out: {}",
        world.names(&stayed),
        world.names(&out)
    ));
    verdict.check(
        "those that are still in are some, and not all",
        "yes",
        format!("{} in, {} out", stayed.len(), out.len()),
        !stayed.is_empty() && !out.is_empty(),
    );
    come_back(world, &out, &stayed, &mut verdict).await?;
    watch(world, "ten again", BACK_FOR).await;
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failures at all sites since", &windows, &mut verdict);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// Waits until every site says whether it is in, the same twice over some seconds.
async fn resolved(world: &World) -> Result<(Vec<usize>, Vec<usize>), WorldError> {
    let began = Instant::now();
    let mut last: Option<(Vec<usize>, Instant)> = None;
    loop {
        let mut stayed = Vec::new();
        for (index, site) in world.sites.iter().enumerate() {
            if let Ok(status) = site.client.status().await
                && status.standing == "active"
            {
                stayed.push(index);
            }
        }
        match &last {
            Some((before, since)) if *before == stayed => {
                let all: Vec<usize> = others(world, &stayed);
                if since.elapsed() > SAME_FOR && !all.is_empty() {
                    return Ok((stayed, all));
                }
            }
            _ => last = Some((stayed.clone(), Instant::now())),
        }
        if began.elapsed() > RESOLVED_WITHIN {
            return Ok((stayed.clone(), others(world, &stayed)));
        }
        world
            .timeline
            .now(&format!("{} sites say that they are in", stayed.len()));
        tokio::time::sleep(POLL).await;
    }
}

const CUT_FOR: Duration = Duration::from_secs(10);
const BEFORE: Duration = Duration::from_secs(5);
const BACK_FOR: Duration = Duration::from_secs(5);
const WRITES: usize = 5;
const SAME_FOR: Duration = Duration::from_secs(5);
const RESOLVED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
