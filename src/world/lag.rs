//! `--measure lag`: how long after the answer at one site a write is visible at each other.
//!
//! One write after the other at every site, durability `local`, so that the answer is the origin's own sync.
//! The shaped one-way delay is taken off: what is left is what this program adds. Two clocks start it: the
//! client's, when the answer is in (the promise), and the origin's own note of its commit (stricter).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use super::client::Dot;
use super::looks::Looks;
use super::monitor::Sighting;
use super::network::{micros, one_way};
use super::verdict::Verdict;
use super::writes::{Writes, accounts};
use super::{World, WorldError, locked, settle};

/// Writes for so long, and gives the figures.
pub(crate) async fn measure(world: &Arc<World>, length: Duration) -> Result<Verdict, WorldError> {
    let mut verdict = Verdict::new("measure-lag");
    let say = |words: &str| world.timeline.say(words);
    let sites = world.sites.len();
    say(&format!("idle for {} s", IDLE.as_secs()));
    let idle_begin = Traffic::now(world).await;
    tokio::time::sleep(IDLE).await;
    let resident: Vec<Option<u64>> = world.sites.iter().map(|site| site.resident_kib()).collect();
    let idle = Traffic::now(world)
        .await
        .zip(idle_begin)
        .map(|(after, before)| after.since(before));
    verdict.detail("resident KiB of each idle site", &resident);
    verdict.detail(
        "bytes a second on the wire, all sites idle",
        idle.map(|idle| json!({"frames": idle.frames / IDLE.as_secs(), "with headers": idle.device / IDLE.as_secs()})),
    );

    let mut pools = Vec::new();
    for site in 0..sites {
        pools.push((site, accounts(world, site, ACCOUNTS_PER_SITE).await?));
    }
    settle::agree(world, AGREE_WITHIN)
        .await
        .map_err(|words| WorldError::Unsettled(words.join("; ")))?;
    let before = locked(&world.ledger).entries().len();

    say(&format!(
        "{} writes a second over {sites} sites, for {} s",
        world.load.rate(),
        length.as_secs()
    ));
    let began = tokio::time::Instant::now();
    let bytes_before = Traffic::now(world).await;
    let looks_before = Looks::now(world).await;
    world.monitor.begin_sightings();
    let writes = Writes::start(world, pools, world.load.rate() / sites as f64);
    tokio::time::sleep(length).await;
    let looks = Looks::now(world).await;
    let (failed, complaint) = writes.stop().await;
    tokio::time::sleep(ARRIVE).await;
    let sent = Traffic::now(world)
        .await
        .zip(bytes_before)
        .map(|(after, before)| after.since(before));
    let took = began.elapsed();
    let agreed = settle::agree(world, AGREE_WITHIN).await;
    verdict.check(
        "all sites hold the same",
        "yes",
        if agreed.is_ok() { "yes" } else { "no" },
        agreed.is_ok(),
    );
    if let (Some(looks), Some(before)) = (looks, looks_before) {
        looks.since(before).judge(&mut verdict);
    }
    let words = complaint.map_or(failed.to_string(), |first| format!("{failed}, first: {first}"));
    verdict.check("writes that failed", "0", words, failed == 0);

    // (dot) → origin and when it was answered.
    let answered: HashMap<Dot, (usize, u64)> = locked(&world.ledger)
        .entries()
        .iter()
        .skip(before)
        .map(|entry| (entry.dot.clone(), (entry.site, entry.answered_us)))
        .collect();
    let sightings = world.monitor.end_sightings();
    let expected = answered.len() * (sites - 1);
    let figures = Figures::of(sites, &answered, &sightings);
    verdict.enough(
        "writes answered",
        answered.len() as u64,
        (world.load.rate() * length.as_secs_f64() * 0.9) as u64,
    );
    verdict.check(
        "of every write, sightings at the other sites",
        expected.to_string(),
        figures.samples.to_string(),
        figures.samples as usize == expected && expected > 0,
    );
    let (p50, p99) = (
        figures.overall.value_at_quantile(0.5),
        figures.overall.value_at_quantile(0.99),
    );
    verdict.check("lag after the answer, p50", "under 2 ms", ms(p50), p50 < 2_000);
    verdict.check("lag after the answer, p99", "under 10 ms", ms(p99), p99 < 10_000);
    let strict = &figures.after_commit;
    say(&format!(
        "after the origin's own commit: p50 {}, p99 {}, max {}",
        ms(strict.value_at_quantile(0.5)),
        ms(strict.value_at_quantile(0.99)),
        ms(strict.max())
    ));
    verdict.detail("after the commit, us", json!({"p50": strict.value_at_quantile(0.5), "p99": strict.value_at_quantile(0.99), "max": strict.max()}));
    verdict.detail("pairs", figures.pairs(world));

    match (sent, idle) {
        (Some(sent), Some(idle)) if expected > 0 => {
            let none = Traffic { frames: 0, device: 0 };
            let (all, net) = (
                sent.each(none, took, expected as u64),
                sent.each(idle, took, expected as u64),
            );
            say(&format!(
                "bytes a transaction and peer: {} in frames, {} on the wire with all headers; without what an idle \
                 world says: {} and {}",
                all.frames, all.device, net.frames, net.device
            ));
            verdict.detail(
                "bytes per transaction and peer",
                json!({"frames": all.frames, "wire": all.device, "frames less idle": net.frames, "wire less idle": net.device}),
            );
        }
        _ => say("bytes on the wire: the sites do not tell"),
    }
    let resident_max = resident.iter().flatten().max().copied();
    if let Some(kib) = resident_max {
        say(&format!(
            "an idle site holds {} MB in memory at most",
            kib / 1_024
        ));
    }
    let words = resident_max.map_or("unknown".into(), |kib| format!("{} MB", kib / 1_024));
    verdict.check(
        "memory of an idle site",
        "under 60 MB",
        words,
        resident_max.is_some_and(|kib| kib < 60 * 1_024),
    );
    Ok(verdict)
}

/// Bytes that all sites have sent each other until now.
#[derive(Clone, Copy)]
struct Traffic {
    /// Of frames, as the sites count them since their starts.
    frames: u64,
    /// Everything on the loopback device, headers of QUIC, UDP and IP included; also that of other programs,
    /// but not the world's own questions, which go over Unix sockets.
    device: u64,
}

impl Traffic {
    async fn now(world: &World) -> Option<Traffic> {
        let mut frames = 0;
        for site in &world.sites {
            frames += site.client.status().await.ok()?.bytes_sent()?;
        }
        let devices = std::fs::read_to_string("/proc/net/dev").ok()?;
        let loopback = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
        Some(Traffic {
            frames,
            device: loopback.split_whitespace().next()?.parse().ok()?,
        })
    }

    fn since(self, before: Traffic) -> Traffic {
        Traffic {
            frames: self.frames.saturating_sub(before.frames),
            device: self.device.saturating_sub(before.device),
        }
    }

    /// What is left for each of `count`, when an idle world says `idle` in `IDLE` and this took `length`.
    fn each(self, idle: Traffic, length: Duration, count: u64) -> Traffic {
        let quiet = |bytes: u64| (bytes as f64 * length.as_secs_f64() / IDLE.as_secs_f64()) as u64;
        let each = |all: u64, idle: u64| all.saturating_sub(quiet(idle)) / count.max(1);
        Traffic {
            frames: each(self.frames, idle.frames),
            device: each(self.device, idle.device),
        }
    }
}

struct Figures {
    sites: usize,
    samples: u64,
    /// Microseconds after the answer; early counts as zero.
    overall: Histogram<u64>,
    after_commit: Histogram<u64>,
    by_pair: Vec<Histogram<u64>>,
}

impl Figures {
    fn of(sites: usize, answered: &HashMap<Dot, (usize, u64)>, sightings: &[Sighting]) -> Figures {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST_US, 3)
                .unwrap_or_else(|error| unreachable!("these bounds are allowed: {error}"))
        };
        let mut figures = Figures {
            sites,
            samples: 0,
            overall: histogram(),
            after_commit: histogram(),
            by_pair: (0..sites * sites).map(|_| histogram()).collect(),
        };
        let committed: HashMap<&Dot, u64> = sightings
            .iter()
            .filter(|seen| seen.local)
            .map(|seen| (&seen.dot, seen.at_us))
            .collect();
        for seen in sightings.iter().filter(|seen| !seen.local) {
            let Some((from, answered_us)) = answered.get(&seen.dot) else {
                continue;
            };
            let network = micros(one_way(*from, seen.site));
            figures.samples += 1;
            let late = seen.at_us.saturating_sub(answered_us + network);
            figures.overall.saturating_record(late);
            if let Some(pair) = figures.by_pair.get_mut(from * sites + seen.site) {
                pair.saturating_record(late);
            }
            if let Some(commit_us) = committed.get(&seen.dot) {
                figures
                    .after_commit
                    .saturating_record(seen.at_us.saturating_sub(commit_us + network));
            }
        }
        figures
    }

    fn pairs(&self, world: &World) -> Vec<serde_json::Value> {
        let measured = self
            .by_pair
            .iter()
            .enumerate()
            .filter(|(_, pair)| !pair.is_empty());
        let row = |(place, pair): (usize, &Histogram<u64>)| {
            json!({
                "from": world.name(place / self.sites),
                "to": world.name(place % self.sites),
                "one_way_us": micros(one_way(place / self.sites, place % self.sites)),
                "p50_us": pair.value_at_quantile(0.5),
                "p99_us": pair.value_at_quantile(0.99),
                "samples": pair.len(),
            })
        };
        measured.map(row).collect()
    }
}

fn ms(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1_000.0)
}

const IDLE: Duration = Duration::from_secs(10);
/// Longer than the longest way, so that the last write has arrived everywhere.
const ARRIVE: Duration = Duration::from_secs(2);
const AGREE_WITHIN: Duration = Duration::from_secs(60);
/// Lags are told apart up to two minutes.
const LONGEST_US: u64 = 120_000_000;
/// A record that is written more than a thousand times refuses.
const ACCOUNTS_PER_SITE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_from_the_answer_and_less_the_network() {
        let dot = Dot {
            writer: "w".into(),
            number: 1,
        };
        let network = micros(one_way(0, 1));
        let answered = HashMap::from([(dot.clone(), (0, 1_000_000))]);
        let sightings = [
            Sighting {
                site: 0,
                dot: dot.clone(),
                at_us: 999_000,
                local: true,
            },
            Sighting {
                site: 1,
                dot,
                at_us: 1_000_000 + network + 700,
                local: false,
            },
        ];
        let figures = Figures::of(2, &answered, &sightings);
        assert_eq!(
            (figures.samples, figures.overall.max(), figures.after_commit.max()),
            (1, 700, 1_700)
        );
    }
}
