//! What can be done to the world, from the page and from scenarios alike.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::seq::SliceRandom as _;
use tokio::time::Instant;

use super::network::PairCut;
use super::plan::PlannedSite;
use super::{World, WorldError, locked};

/// Starts all sites at once, and waits until all are ready.
pub(crate) async fn start_everything(world: &Arc<World>) -> Result<(), WorldError> {
    let all: Vec<usize> = (0..world.sites.len()).collect();
    world.timeline.say("starting the sites");
    start(world, &all).await?;
    ready(world, &all, READY_TIMEOUT).await
}

/// Starts sites with the network as it is to be now.
pub(crate) async fn start(world: &Arc<World>, sites: &[usize]) -> Result<(), WorldError> {
    for index in sites {
        let links = locked(&world.network).links_of(*index);
        if let Some(site) = world.sites.get(*index)
            && !site.is_up()
        {
            world.plan.write_config(&site.plan(), &links)?;
        }
    }
    let starts = sites
        .iter()
        .filter_map(|index| world.sites.get(*index))
        .map(|site| site.start(None));
    join_all(starts).await.into_iter().collect::<Result<(), _>>()?;
    // Whatever was cut or healed while they started.
    shape(world).await
}

/// Waits until sites are ready, which means caught up with all that they could reach.
pub(crate) async fn ready(world: &World, sites: &[usize], within: Duration) -> Result<(), WorldError> {
    let deadline = Instant::now() + within;
    for index in sites {
        let Some(site) = world.sites.get(*index) else {
            continue;
        };
        loop {
            let answer = site.client.status().await;
            // The monitor too, so that people are sent there from now on.
            if matches!(&answer, Ok(status) if status.serves()) && world.monitor.in_rotation(*index) {
                break;
            }
            if !site.is_up() {
                return Err(site.failed("ended before it was ready"));
            }
            if Instant::now() > deadline {
                let words = match answer {
                    Ok(status) => format!("is not ready after {} s; it says {status:?}", within.as_secs()),
                    Err(error) => format!("is not ready after {} s; {error}", within.as_secs()),
                };
                return Err(site.failed(&words));
            }
            world
                .timeline
                .now(&format!("waiting for {} to be ready", site.plan().name));
            tokio::time::sleep(POLL).await;
        }
    }
    world.timeline.quiet();
    Ok(())
}

/// `kill -9` of several sites at one moment.
pub(crate) async fn kill(world: &World, sites: &[usize]) {
    join_all(
        sites
            .iter()
            .filter_map(|index| world.sites.get(*index))
            .map(|site| site.kill()),
    )
    .await;
}

/// Kills sites and empties their disks.
pub(crate) async fn wipe(world: &World, sites: &[usize]) -> Result<(), WorldError> {
    kill(world, sites).await;
    for index in sites {
        if let Some(site) = world.sites.get(*index) {
            site.wipe()?;
            world.monitor.forget(*index);
        }
    }
    Ok(())
}

/// Kills sites and destroys their machines, disks and keys.
pub(crate) async fn destroy(world: &World, sites: &[usize]) -> Result<(), WorldError> {
    kill(world, sites).await;
    for index in sites {
        if let Some(site) = world.sites.get(*index) {
            site.destroy()?;
            world.monitor.forget(*index);
        }
    }
    Ok(())
}

/// Puts a new member in the place of one that is gone: another name, key and port. It joins by this invitation.
pub(crate) async fn succeed(world: &Arc<World>, index: usize, invitation: &str) -> Result<(), WorldError> {
    let Some(site) = world.sites.get(index) else {
        return Ok(());
    };
    let plan = world.plan.successor(&site.plan())?;
    locked(&world.network).set_address(index, plan.gossip);
    shape(world).await?;
    site.replace(plan);
    join(world, index, invitation).await
}

/// Starts a site with an invitation.
pub(crate) async fn join(world: &Arc<World>, index: usize, invitation: &str) -> Result<(), WorldError> {
    let links = locked(&world.network).links_of(index);
    let Some(site) = world.sites.get(index) else {
        return Ok(());
    };
    world.plan.write_config(&site.plan(), &links)?;
    site.start(Some(invitation)).await?;
    if let Ok(status) = site.client.status().await {
        let member = status.member;
        site.replace(PlannedSite {
            member,
            ..(*site.plan()).clone()
        });
    }
    shape(world).await
}

/// Parts sites from all the others, or joins them again.
pub(crate) async fn set_apart(world: &World, sites: &[usize], apart: bool) -> Result<(), WorldError> {
    for site in sites {
        locked(&world.network).set_apart(*site, apart);
    }
    shape(world).await
}

/// Cuts or heals the links of pairs.
pub(crate) async fn set_pairs(
    world: &World,
    pairs: &[(usize, usize)],
    cut: PairCut,
) -> Result<(), WorldError> {
    for (from, to) in pairs {
        locked(&world.network).set_pair(*from, *to, cut);
    }
    shape(world).await
}

/// Removes every cut; processes stay as they are.
pub(crate) async fn heal_network(world: &World) -> Result<(), WorldError> {
    locked(&world.network).heal();
    shape(world).await
}

/// Removes every cut and starts every site that is down.
pub(crate) async fn heal_everything(world: &Arc<World>) -> Result<(), WorldError> {
    heal_network(world).await?;
    let down: Vec<usize> = world
        .sites
        .iter()
        .enumerate()
        .filter(|(_, site)| !site.is_up())
        .map(|(index, _)| index)
        .collect();
    start(world, &down).await
}

/// Kills half of the sites that are up. Which ones is random.
pub(crate) async fn lose_half(world: &World) -> Vec<usize> {
    let mut random = world.random(super::wall_us());
    let mut up: Vec<usize> = world
        .sites
        .iter()
        .enumerate()
        .filter(|(_, site)| site.is_up())
        .map(|(index, _)| index)
        .collect();
    up.shuffle(&mut random);
    up.truncate(up.len() / 2);
    up.sort_unstable();
    kill(world, &up).await;
    up
}

/// Tells every running site how its network is to be now. A site that ends meanwhile is told at its start.
pub(crate) async fn shape(world: &World) -> Result<(), WorldError> {
    let told = world.sites.iter().enumerate().map(|(index, site)| async move {
        for attempt in 1_u32.. {
            let links = locked(&world.network).links_of(index);
            match site.client.set_links(&links).await {
                Ok(()) => return Ok(()),
                Err(_) if !site.is_up() => return Ok(()),
                Err(error) if attempt == SHAPE_ATTEMPTS => {
                    return Err(site.failed(&format!("did not take the shape of its network: {error}")));
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        Ok(())
    });
    join_all(told).await.into_iter().collect()
}

/// Ends all sites: politely first, since a polite end is a quick one while the others are still there.
pub(crate) async fn stop_everything(world: &World) {
    for site in &world.sites {
        site.terminate();
    }
    join_all(world.sites.iter().map(|site| async move {
        if site.is_up() && site.gone(POLITE).await.is_none() {
            site.kill().await;
        }
    }))
    .await;
}

/// Ten stores are opened and ten handshakes with nine others made, on one machine.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const SHAPE_ATTEMPTS: u32 = 10;
/// Those that drain last have nobody to hand anything to.
const POLITE: Duration = Duration::from_secs(2);
