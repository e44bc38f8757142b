//! A copy of a site's data directory is started beside its original: two processes that take themselves for one.
//!
//! Promise: no transaction number is ever used for two contents; an alarm is raised; whether both go on or one
//! stands aside, nothing that either acknowledged is lost, and all real sites hold the same in the end.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::client::Status;
use super::super::ledger::DEGRADED;
use super::super::people::password;
use super::super::plan::at;
use super::super::process::{Ended, Site};
use super::super::verdict::Verdict;
use super::super::{World, WorldError, audit, hands, load, locked, wall_us};
use super::{close, no_failures, nothing_missing, open, others, some_sites, watch};

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length.unwrap_or(BESIDE_FOR);
    let mut verdict = Verdict::new("clone");
    let chosen = some_sites(world, 1, 5);
    let index = chosen.first().copied().unwrap_or(0);
    let Some(original) = world.sites.get(index) else {
        return Ok(verdict);
    };
    let name = world.name(index).to_string();
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;

    original.terminate();
    if original.gone(DRAIN_MAX).await.is_none() {
        return Err(original.failed("did not end when it was told to"));
    }
    let planned = world.plan.twin(&original.plan())?;
    let _ = fs::remove_dir_all(planned.data());
    copy(&original.plan().data(), &planned.data())?;
    locked(&world.network).set_twin(Some(&planned));
    hands::shape(world).await?;
    let links = locked(&world.network).links_of(index);
    world.plan.write_config(&planned, &links)?;
    let twin = Arc::new(Site::new(&planned));
    world.timeline.say(&format!(
        "{name} was copied while it was down; starting the original and the copy"
    ));
    let (one, two) = tokio::join!(hands::start(world, &chosen), twin.start(None));
    // Either may stand aside at once; that is one of the right answers.
    for (which, started) in [("original", &one), ("copy", &two)] {
        if let Err(error) = started {
            world.timeline.say(&format!("the {which} did not stay: {error}"));
        }
    }
    let watched = beside(world, index, &twin, length).await;

    twin.terminate();
    let ended = twin.gone(DRAIN_MAX).await;
    if ended.is_none() {
        twin.kill().await;
    }
    world.timeline.say(&format!("stopped the copy: {ended:?}"));
    locked(&world.network).set_twin(None);
    hands::shape(world).await?;
    if !original.is_up() {
        world
            .timeline
            .say("the original had stood aside; starting it again");
        hands::start(world, &chosen).await?;
    }
    hands::ready(world, &chosen, hands::READY_TIMEOUT).await?;
    watch(world, "the copy is gone", AFTER).await;
    watched.judge(&name, &mut verdict);
    let drained = ended == Some(Ended(Some(0)));
    verdict.check(
        "the copy drained when it was stopped, or had stood aside",
        "yes",
        format!("{ended:?}"),
        ended.is_some(),
    );

    let all = locked(&world.gauges).cut_window().into_iter().enumerate();
    let elsewhere: Vec<_> = all
        .filter(|(site, _)| others(world, &chosen).contains(site))
        .collect();
    no_failures(world, "failures at the other sites", &elsewhere, &mut verdict);
    if let Some((_, missing)) = close(world, load, &mut verdict).await {
        // A write that the copy answered as degraded is on the copy's disk alone until it has drained.
        let excused = |answered: &str| answered == DEGRADED && !drained;
        let (alone, lost): (Vec<_>, Vec<_>) = missing.iter().cloned().partition(|entry| {
            watched
                .by_copy
                .contains(&(entry.dot.writer.clone(), entry.dot.number))
                && excused(&entry.answered)
        });
        verdict.detail("degraded writes that only the copy has", alone.len());
        nothing_missing(world, &lost, &mut verdict);
        audit::people(world, &missing, &mut verdict).await;
    }
    verdict.common_but_ends(world).await;
    let ends: u64 = world
        .sites
        .iter()
        .enumerate()
        .filter(|(site, _)| *site != index)
        .map(|(_, site)| site.ends_by_itself())
        .sum();
    verdict.check(
        "other sites that ended without being told to",
        "0",
        ends.to_string(),
        ends == 0,
    );
    Ok(verdict)
}

/// What was seen while original and copy were there.
#[derive(Default)]
struct Beside {
    alarms: BTreeSet<String>,
    original_writers: BTreeSet<String>,
    copy_writers: BTreeSet<String>,
    /// (writer, number) of what the copy acknowledged.
    by_copy: BTreeSet<(String, u64)>,
    copy_refused: u64,
    original_stayed: bool,
    copy_stayed: bool,
}

/// Watches both, and writes at the copy as long as it takes writes. (The load goes on at the original.)
async fn beside(world: &Arc<World>, index: usize, twin: &Arc<Site>, length: Duration) -> Beside {
    let mut seen = Beside::default();
    let mut random = world.random(60);
    let began = Instant::now();
    let Some(original) = world.sites.get(index) else {
        return seen;
    };
    while began.elapsed() < length {
        let (one, two) = tokio::join!(original.client.status(), twin.client.status());
        let note =
            |alarms: &mut BTreeSet<String>, writers: &mut BTreeSet<String>, who: &str, status: &Status| {
                for alarm in &status.alarms {
                    if alarms.insert(format!("{who}: {alarm}")) {
                        world.timeline.say(&format!("alarm at the {who}: {alarm}"));
                    }
                }
                writers.insert(status.writer.clone());
            };
        if let Ok(status) = &one {
            note(&mut seen.alarms, &mut seen.original_writers, "original", status);
        }
        if let Ok(status) = &two {
            note(&mut seen.alarms, &mut seen.copy_writers, "copy", status);
            if status.ready {
                let address = locked(&world.people).fresh_address();
                let asked_us = wall_us();
                match twin.client.sign_up(&address, &password(&mut random)).await {
                    Ok(signed_up) => {
                        locked(&world.ledger).note(
                            index,
                            "sign-up at the copy",
                            asked_us,
                            &signed_up.written,
                        );
                        if let Some(dot) = signed_up.written.dot {
                            seen.by_copy.insert((dot.writer, dot.number));
                        }
                    }
                    Err(_) => seen.copy_refused += 1,
                }
            }
        }
        world.timeline.now("original and copy are beside each other");
        tokio::time::sleep(STEP).await;
    }
    seen.original_stayed = original.is_up();
    seen.copy_stayed = twin.is_up();
    world.timeline.say(&format!(
        "original {}, copy {}; the copy acknowledged {} writes and refused {}",
        if seen.original_stayed {
            "stayed"
        } else {
            "stood aside"
        },
        if seen.copy_stayed { "stayed" } else { "stood aside" },
        seen.by_copy.len(),
        seen.copy_refused
    ));
    seen
}

impl Beside {
    fn judge(&self, name: &str, verdict: &mut Verdict) {
        let alarms = self.alarms.iter().cloned().collect::<Vec<_>>().join("; ");
        let words = if alarms.is_empty() { "none".into() } else { alarms };
        verdict.check(
            format!("an alarm at {name} or its copy"),
            "at least one",
            words,
            !self.alarms.is_empty(),
        );
        let stayed = self.original_stayed || self.copy_stayed;
        verdict.check(
            "original or copy goes on",
            "one or both",
            if stayed { "yes" } else { "neither" },
            stayed,
        );
        let shared: Vec<_> = self
            .original_writers
            .intersection(&self.copy_writers)
            .cloned()
            .collect();
        verdict.check(
            "writers that original and copy share",
            "none",
            if shared.is_empty() {
                "none".into()
            } else {
                shared.join(", ")
            },
            shared.is_empty() && !(self.original_writers.is_empty() && self.copy_writers.is_empty()),
        );
        // Each has its start, and one more should it take a new replica id: clones do not race each other.
        let starts = self.original_writers.union(&self.copy_writers).count();
        verdict.check(
            "starts that original and copy made",
            "2 to 4",
            starts.to_string(),
            (2..=4).contains(&starts),
        );
        if self.copy_stayed {
            verdict.enough("writes acknowledged by the copy", self.by_copy.len() as u64, 5);
        }
    }
}

/// Copies a data directory as `cp -r` would: files and directories, no sockets.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), WorldError> {
    fs::create_dir_all(to).map_err(at("make", to))?;
    for entry in fs::read_dir(from).map_err(at("read", from))? {
        let entry = entry.map_err(at("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(at("look at", &source))?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).map_err(at("copy", &source))?;
        } else if kind.is_symlink() {
            let error = io::Error::new(
                io::ErrorKind::Unsupported,
                "a data directory should hold no links",
            );
            return Err(at("copy", &source)(error));
        }
    }
    Ok(())
}

const BEFORE: Duration = Duration::from_secs(5);
const BESIDE_FOR: Duration = Duration::from_secs(30);
const AFTER: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(200);
const DRAIN_MAX: Duration = Duration::from_secs(15);
