//! Half of the sites vanish at once.
//!
//! Promise: at the others every request succeeds, and no sign-in takes more than 100 ms longer than the longest
//! did before. When the lost return, all hold the same, and no acknowledged write is missing: every disk is
//! still there.

use std::sync::Arc;
use std::time::Duration;

use super::super::gauges::Window;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked};
use super::{USUAL, close_whole, no_failures, only, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(LOST_FOR);
    let mut verdict = Verdict::new("lose-half");
    let lost = some_sites(world, world.sites.len() / 2, 1);
    let left = others(world, &lost);
    let load = open(world, load::TRICKLE).await?;

    watch(world, "the usual", USUAL).await;
    let usual = only(locked(&world.gauges).cut_window(), &left);
    no_failures(world, "failures before anything happened", &usual, &mut verdict);

    hands::kill(world, &lost).await;
    world.timeline.say(&format!("killed -9: {}", world.names(&lost)));
    watch(world, "half is gone", length).await;
    let outage = only(locked(&world.gauges).cut_window(), &left);
    world
        .timeline
        .say(&format!("starting again: {}", world.names(&lost)));
    hands::start(world, &lost).await?;
    hands::ready(world, &lost, hands::READY_TIMEOUT).await?;
    world.timeline.say("all are ready again");
    watch(world, "all are back", BACK_FOR).await;
    let back = only(locked(&world.gauges).cut_window(), &left);

    for (phase, windows) in [("while half was gone", &outage), ("while they came back", &back)] {
        no_failures(
            world,
            &format!("failures at the others {phase}"),
            windows,
            &mut verdict,
        );
        let away: u64 = windows.iter().map(|(_, window)| window.turned_away).sum();
        verdict.check(
            format!("requests that the others did not take {phase}"),
            "0",
            away.to_string(),
            away == 0,
        );
        pauses(world, phase, &usual, windows, &mut verdict);
    }
    // Each of the others must have had its share of sign-ins, or their silence would pass for calm.
    let share = world.load.rate() * 0.8 / world.sites.len() as f64 * length.as_secs_f64() * 0.8;
    let fewest = outage
        .iter()
        .map(|(_, window)| window.sign_ins())
        .min()
        .unwrap_or(0);
    verdict.enough(
        "sign-ins at each of the others while half was gone",
        fewest,
        share as u64,
    );
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// Adds the checks that no sign-in took, and no gap between two was, much longer than the longest before.
fn pauses(
    world: &World,
    phase: &str,
    usual: &[(usize, Window)],
    windows: &[(usize, Window)],
    verdict: &mut Verdict,
) {
    type Reading = fn(&Window) -> Duration;
    let readings: [(&str, Reading); 2] = [
        ("longest sign-in", Window::longest),
        ("longest time between two sign-ins", |window| window.longest_gap),
    ];
    for (what, reading) in readings {
        let mut rows = Vec::new();
        let mut worst = Duration::ZERO;
        for ((site, before), (_, window)) in usual.iter().zip(windows) {
            let (before, now) = (reading(before), reading(window));
            worst = worst.max(now.saturating_sub(before));
            rows.push(format!(
                "{} {} ms (usual {})",
                world.name(*site),
                now.as_millis(),
                before.as_millis()
            ));
        }
        let words = format!("{} ms more; {}", worst.as_millis(), rows.join(", "));
        let measured = !rows.is_empty() && usual.iter().all(|(_, before)| before.sign_ins() > 0);
        verdict.check(
            format!("{what} {phase}, beyond the usual"),
            format!("at most {} ms", PAUSE_MAX.as_millis()),
            words,
            measured && worst <= PAUSE_MAX,
        );
    }
    let mut all: Option<Window> = None;
    for (_, window) in windows {
        match &mut all {
            Some(all) => all.join(window),
            None => all = Some(window.clone()),
        }
    }
    if let Some(all) = all {
        let quantiles = [0.5, 0.99, 0.999].map(|q| all.quantile(q).as_secs_f64() * 1_000.0);
        world.timeline.say(&format!(
            "sign-ins at the others {phase}: {}; p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms",
            all.sign_ins(),
            quantiles[0],
            quantiles[1],
            quantiles[2]
        ));
        verdict.detail(&format!("sign-in ms p50, p99, p99.9 {phase}"), quantiles);
    }
}

const LOST_FOR: Duration = Duration::from_secs(30);
const BACK_FOR: Duration = Duration::from_secs(10);
/// Longer than this, and a user might notice.
const PAUSE_MAX: Duration = Duration::from_millis(100);
