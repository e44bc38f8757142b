//! Some links fail in one direction only.
//!
//! Promise: two sites of which one does not hear the other still learn of each other's writes, through the
//! rest; users notice nothing; healed, they talk directly again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;

use super::super::network::PairCut;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked, wall_us};
use super::{USUAL, close_whole, no_failures, open, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(CUT_FOR).max(DETECTED + Duration::from_secs(5));
    let mut verdict = Verdict::new("one-way");
    let cuts = choose(world);
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", USUAL / 2).await;
    hands::set_pairs(world, &cuts, PairCut::OneWay).await?;
    for (from, to) in &cuts {
        world.timeline.say(&format!(
            "cut: {} no longer hears {}",
            world.name(*to),
            world.name(*from)
        ));
    }
    watch(world, "one way only", DETECTED).await;
    let mut talking = Vec::new();
    for (from, to) in &cuts {
        if connected(world, *from, *to) != Some(false) || connected(world, *to, *from) != Some(false) {
            talking.push(format!("{} and {}", world.name(*from), world.name(*to)));
        }
    }
    let words = if talking.is_empty() {
        "none".into()
    } else {
        talking.join(", ")
    };
    verdict.check(
        "cut pairs that still say they are connected",
        "none",
        words,
        talking.is_empty(),
    );

    world.monitor.begin_sightings();
    let begin_us = wall_us();
    watch(world, "one way only", length - DETECTED).await;
    let end_us = wall_us();
    // What was acknowledged until now must arrive before the links are healed.
    tokio::time::sleep(ARRIVE).await;
    let sightings = world.monitor.end_sightings();
    let written: Vec<_> = locked(&world.ledger)
        .entries()
        .iter()
        .filter(|entry| (begin_us..end_us).contains(&entry.answered_us))
        .cloned()
        .collect();
    let seen: BTreeSet<_> = sightings.iter().map(|seen| (seen.site, &seen.dot)).collect();
    for (from, to) in &cuts {
        for (origin, at) in [(*from, *to), (*to, *from)] {
            let of: Vec<_> = written.iter().filter(|entry| entry.site == origin).collect();
            let absent = of
                .iter()
                .filter(|entry| !seen.contains(&(at, &entry.dot)))
                .count();
            let what = format!(
                "writes of {} that did not reach {}",
                world.name(origin),
                world.name(at)
            );
            verdict.none(what, absent, of.len());
        }
    }
    hands::heal_network(world).await?;
    world.timeline.say("healed");
    let began = Instant::now();
    let apart = |pairs: &[(usize, usize)]| {
        let direct = |(from, to): &&(usize, usize)| {
            connected(world, *from, *to) != Some(true) || connected(world, *to, *from) != Some(true)
        };
        pairs.iter().filter(direct).count()
    };
    while apart(&cuts) > 0 && began.elapsed() < RECONNECTED {
        watch(world, "reconnecting", Duration::from_millis(250)).await;
    }
    let still = apart(&cuts);
    let words = format!(
        "{still} of {}, {:.1} s after healing",
        cuts.len(),
        began.elapsed().as_secs_f64()
    );
    verdict.check("pairs that do not talk again", "0", words, still == 0);
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failures at all sites", &windows, &mut verdict);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// One cut for about every second site, no site in more than one: so each pair has others in common.
fn choose(world: &World) -> Vec<(usize, usize)> {
    let mut sites: Vec<usize> = (0..world.sites.len()).collect();
    sites.shuffle(&mut world.random(4));
    sites
        .chunks_exact(2)
        .take(CUTS_MAX.min(world.sites.len() / 2 - 1))
        .map(|pair| (pair[0], pair[1]))
        .collect()
}

/// Whether a site says that it is connected to another; `None` when it does not say.
fn connected(world: &World, site: usize, to: usize) -> Option<bool> {
    let member = world.sites.get(to)?.plan().member.clone();
    let status = world.monitor.status(site)?;
    status
        .peers
        .iter()
        .find(|peer| peer.member == member)
        .map(|peer| peer.connected)
}

const CUT_FOR: Duration = Duration::from_secs(30);
/// Who hears nothing gives a connection up after 3 s, without a word. Who still heard it then has only probes of its
/// own left to send, which go out ever more rarely, up to 3 s apart: it gives up 3 s after the next of them.
const DETECTED: Duration = Duration::from_secs(12);
/// Through a third site: two delays and a pull, generously.
const ARRIVE: Duration = Duration::from_secs(5);
const RECONNECTED: Duration = Duration::from_secs(20);
const CUTS_MAX: usize = 4;
