//! All sites are restarted, one after another, under load: as an update does.
//!
//! Promise: no user notices. A site that is told to end says so before it stops taking requests, so those that
//! reach it too late go elsewhere; each drains, exits 0, and is ready again before the next one goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::gauges::Window;
use super::super::process::Ended;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked};
use super::{close_whole, no_failures, open, watch};

pub(super) async fn conduct(world: &Arc<World>) -> Result<Verdict, WorldError> {
    let mut verdict = Verdict::new("rolling-restart");
    let load = open(world, load::TRICKLE).await?;
    watch(world, "the usual", BEFORE).await;
    let before = locked(&world.gauges).cut_window();
    let usual = before.iter().map(Window::longest).max().unwrap_or_default();
    let mut steps = Vec::new();
    let mut unclean = Vec::new();
    for (index, site) in world.sites.iter().enumerate() {
        let name = world.name(index).to_string();
        let generation = site.generation();
        let began = Instant::now();
        site.terminate();
        let ended = site.gone(DRAIN_MAX).await;
        let drained = began.elapsed();
        if ended != Some(Ended(Some(0))) {
            let words = match ended {
                None => format!("{name} did not end within {} s", DRAIN_MAX.as_secs()),
                Some(Ended(Some(code))) => format!("{name} exited {code}"),
                Some(Ended(None)) => format!("{name} ended by a signal"),
            };
            world.timeline.say(&words);
            unclean.push(words);
            hands::kill(world, &[index]).await;
        }
        hands::start(world, &[index]).await?;
        hands::ready(world, &[index], hands::READY_TIMEOUT).await?;
        let back = began.elapsed();
        world.timeline.say(&format!(
            "restarted {name}: drained in {:.2} s, ready again after {:.2} s",
            drained.as_secs_f64(),
            back.as_secs_f64()
        ));
        steps.push(
            json!({"site": name, "drained_s": drained.as_secs_f64(), "ready_s": back.as_secs_f64(),
            "restarted": site.generation() > generation}),
        );
        watch(world, "all ready", BETWEEN).await;
    }
    let restarted = world.sites.iter().filter(|site| site.generation() >= 2).count();
    verdict.enough("sites restarted", restarted as u64, world.sites.len() as u64);
    let words = if unclean.is_empty() {
        "none".into()
    } else {
        unclean.join(", ")
    };
    verdict.check(
        "sites that did not drain and exit 0",
        "none",
        words,
        unclean.is_empty(),
    );
    verdict.detail("restarts", steps);

    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failed requests", &windows, &mut verdict);
    let fewest = windows
        .iter()
        .map(|(_, window)| window.sign_ins())
        .min()
        .unwrap_or(0);
    verdict.enough("sign-ins at each site meanwhile", fewest, 10);
    let away: u64 = windows.iter().map(|(_, window)| window.turned_away).sum();
    let longest = windows
        .iter()
        .map(|(_, window)| window.longest())
        .max()
        .unwrap_or_default();
    world.timeline.say(&format!(
        "{away} requests found their site ending and were sent to another; the longest sign-in took {} ms \
         (before: {} ms)",
        longest.as_millis(),
        usual.as_millis()
    ));
    verdict.detail("requests sent to another site", away);
    verdict.detail("longest sign-in, ms", longest.as_millis() as u64);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

const BEFORE: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_secs(1);
/// `drain_timeout` is 10 s.
const DRAIN_MAX: Duration = Duration::from_secs(15);
