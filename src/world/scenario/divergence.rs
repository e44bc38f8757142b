//! One site's disk is no longer what its site wrote: altered behind its back, a bit flipped, an old backup put back.
//!
//! Promise: comparing names what is wrong, repairing mends it from the others, and afterwards nothing is found;
//! whatever was acknowledged is still there, and all sites hold the same. (A copied data directory is the scenario
//! `clone`.)

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crdt::{RecordKey, RecordKind};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::super::plan::PlannedSite;
use super::super::process::Site;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked, operator};
use super::clone::copy;
use super::{close_whole, no_failures, only, open, others, some_sites, watch};
use crate::admin::{Compared, RepairReport};
use crate::config::hex;
use crate::store::disk::rocks::RocksDisk;
use crate::store::disk::{Batch, Disk, DiskError, Family};

pub(super) async fn conduct(world: &Arc<World>) -> Result<Verdict, WorldError> {
    let mut verdict = Verdict::new("divergence");
    let chosen = some_sites(world, 1, 10);
    let Some(site) = chosen.first().and_then(|index| world.sites.get(*index)).cloned() else {
        return Ok(verdict);
    };
    let index = chosen[0];
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", BEFORE).await;
    let _ = locked(&world.gauges).cut_window();
    let early = backed_up(&site).await?;
    // The records as they are at this moment, to be put back later.
    stop(&site).await?;
    let then = site.plan().dir.join("then");
    copy(&store_of(&site.plan()), &then)?;
    start(world, &chosen).await?;
    watch(world, "what changes now will be undone at one site", CHANGING).await;

    altered(world, index, &site, &then, &mut verdict).await?;
    flipped(world, index, &site, &mut verdict).await?;
    put_back(world, index, &site, &early, &mut verdict).await?;

    watch(world, "all is mended", AFTER).await;
    let windows = only(locked(&world.gauges).cut_window(), &others(world, &chosen));
    no_failures(world, "failures at the other sites", &windows, &mut verdict);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// Records are deleted, set back and added while the site is down.
async fn altered(
    world: &Arc<World>,
    index: usize,
    site: &Arc<Site>,
    then: &Path,
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    stop(site).await?;
    let (store, then) = (store_of(&site.plan()), then.to_path_buf());
    let random = world.random(101);
    let tampered = tokio::task::spawn_blocking(move || tamper(&store, &then, random)).await;
    let tampered = tampered
        .map_err(|_| unsettled("tampering panicked"))?
        .map_err(unsettled)?;
    world.timeline.say(&format!(
        "behind the back of {}: {} records deleted, {} set back, {} added",
        world.name(index),
        tampered.deleted.len(),
        tampered.older.len(),
        tampered.added.len()
    ));
    for (what, records) in [
        ("records deleted", &tampered.deleted),
        ("records set back", &tampered.older),
        ("records added", &tampered.added),
    ] {
        verdict.enough(what, records.len() as u64, 1);
    }
    start(world, &[index]).await?;
    let before = compared(world, index, true).await?;
    let named: BTreeSet<&String> = before.peers.iter().flat_map(|peer| &peer.records).collect();
    let all = [tampered.deleted, tampered.older, tampered.added].concat();
    let unnamed: Vec<&String> = all.iter().filter(|record| !named.contains(record)).collect();
    world.timeline.say(&format!(
        "persona repair --dry-run names {} records, {} of the {} tampered with",
        named.len(),
        all.len() - unnamed.len(),
        all.len()
    ));
    verdict.none(
        "tampered records that `repair --dry-run` does not name",
        unnamed.len(),
        all.len(),
    );
    verdict.detail("tampered and not named", &unnamed);
    let mended = compared(world, index, false).await?;
    world.timeline.say(&format!(
        "persona repair changed {} records here",
        mended.repaired.len()
    ));
    verdict.enough(
        "records that `repair` changed there",
        mended.repaired.len() as u64,
        1,
    );
    nothing_left(world, index, "after records were altered", verdict).await
}

/// A bit of a table of `documents` is flipped.
async fn flipped(
    world: &Arc<World>,
    index: usize,
    site: &Arc<Site>,
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    stop(site).await?;
    let store = store_of(&site.plan());
    let flip = tokio::task::spawn_blocking(move || flip_a_bit(&store)).await;
    let table = flip
        .map_err(|_| unsettled("flipping panicked"))?
        .map_err(unsettled)?;
    world
        .timeline
        .say(&format!("a bit was flipped in {}", table.display()));
    // From now on it compares itself often, by its own clock.
    site.replace(PlannedSite {
        look_interval: Some(LOOKS_OFTEN),
        ..(*site.plan()).clone()
    });
    start(world, &[index]).await?;
    let scrubbed = operator::at_site(world, index, &["scrub"]).await?;
    world.timeline.say("persona scrub:");
    operator::tell(world, &scrubbed);
    let found = !scrubbed.said.contains("Everything is as it was written");
    verdict.check(
        "a pass over every byte finds the flipped bit",
        "yes",
        if found { "yes" } else { "no" },
        found && !scrubbed.said.is_empty(),
    );
    let began = Instant::now();
    loop {
        let again = operator::at_site(world, index, &["scrub"]).await?;
        // The block itself stays: RocksDB compacts none away that it cannot read.
        let clean = again.said.contains("is as it was written");
        if clean || began.elapsed() > MENDED_WITHIN {
            let took = began.elapsed().as_secs_f64();
            if !clean {
                operator::tell(world, &again);
            }
            verdict.check(
                "comparisons by the clock bring back what the table lost",
                format!("within {} s", MENDED_WITHIN.as_secs()),
                if clean {
                    format!("after {took:.1} s")
                } else {
                    "not yet".into()
                },
                clean,
            );
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    nothing_left(world, index, "after a bit was flipped", verdict).await
}

/// The backup of before replaces the store.
async fn put_back(
    world: &Arc<World>,
    index: usize,
    site: &Arc<Site>,
    early: &Path,
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    stop(site).await?;
    let plan = site.plan();
    let (config, from) = (plan.config(), early.to_string_lossy().into_owned());
    let config = config.to_string_lossy();
    let typed = [
        "restore",
        "--config",
        config.as_ref(),
        "--from",
        &from,
        "--replace",
    ];
    let restored = operator::persona(&plan.data(), &typed).await?;
    operator::tell(world, &restored);
    restored.done("restore")?;
    start(world, &[index]).await?;
    nothing_left(world, index, "after an old backup was put back", verdict).await
}

/// Compares until no peer differs, and adds the check.
async fn nothing_left(
    world: &World,
    index: usize,
    when: &str,
    verdict: &mut Verdict,
) -> Result<(), WorldError> {
    let began = Instant::now();
    loop {
        let report = compared(world, index, true).await?;
        let level = |outcome: Compared| matches!(outcome, Compared::Equal | Compared::Lag);
        let same = report.peers.iter().filter(|peer| level(peer.outcome)).count();
        let all = world.sites.len() - 1;
        if same == all || began.elapsed() > MENDED_WITHIN {
            let differ = report.peers.iter().filter(|peer| !level(peer.outcome));
            let words: Vec<String> = differ
                .map(|peer| format!("{} {:?} {:?}", peer.name, peer.outcome, peer.records))
                .collect();
            verdict.check(
                format!("sites that `repair --dry-run` finds the same {when}"),
                format!("all {all}"),
                format!(
                    "{same}{}{}",
                    if words.is_empty() { "" } else { ": " },
                    words.join("; ")
                ),
                same == all,
            );
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
        if report
            .peers
            .iter()
            .any(|peer| peer.outcome == Compared::Divergent)
        {
            compared(world, index, false).await?;
        }
    }
}

async fn compared(world: &World, index: usize, only_look: bool) -> Result<RepairReport, WorldError> {
    let typed: &[&str] = if only_look {
        &["repair", "--dry-run", "--json"]
    } else {
        &["repair", "--json"]
    };
    let typed = operator::at_site(world, index, typed).await?;
    serde_json::from_str(&typed.said).map_err(|error| {
        unsettled(format!(
            "persona repair: {error}: {} {}",
            typed.said, typed.complained
        ))
    })
}

async fn backed_up(site: &Site) -> Result<PathBuf, WorldError> {
    let plan = site.plan();
    let to = plan.dir.join("backup");
    let (config, directory) = (plan.config(), to.to_string_lossy().into_owned());
    let config = config.to_string_lossy();
    let typed = ["backup", "--config", config.as_ref(), "--to", &directory];
    operator::persona(&plan.data(), &typed).await?.done("backup")?;
    Ok(to)
}

async fn stop(site: &Arc<Site>) -> Result<(), WorldError> {
    site.terminate();
    match site.gone(DRAIN_MAX).await {
        Some(_) => Ok(()),
        None => Err(site.failed("did not end when it was told to")),
    }
}

async fn start(world: &Arc<World>, sites: &[usize]) -> Result<(), WorldError> {
    hands::start(world, sites).await?;
    hands::ready(world, sites, hands::READY_TIMEOUT).await
}

fn store_of(plan: &PlannedSite) -> PathBuf {
    plan.data().join("store")
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn unsettled(words: impl ToString) -> WorldError {
    WorldError::Unsettled(words.to_string())
}

/// What was done behind a site's back: `account ID`, `email ID`.
struct Tampered {
    deleted: Vec<String>,
    older: Vec<String>,
    added: Vec<String>,
}

/// Deletes some records, sets some back to what they were `then`, and adds one that nobody wrote. The sums are made
/// anew when the site starts, as those of a disk that never had any: so all fits together, and is wrong.
fn tamper(store: &Path, then: &Path, mut random: StdRng) -> Result<Tampered, DiskError> {
    let before = RocksDisk::open(then)?;
    let now = RocksDisk::open(store)?;
    let mut records = documents(&now)?;
    records.shuffle(&mut random);
    let old = documents(&before)?;
    let was = |key: &[u8]| old.iter().find(|(known, _)| known == key);
    let mut batch = Batch::new();
    let mut tampered = Tampered {
        deleted: Vec::new(),
        older: Vec::new(),
        added: Vec::new(),
    };
    let mut unchanged = Vec::new();
    for (key, document) in records {
        match was(&key) {
            Some((_, earlier)) if *earlier != document && tampered.older.len() < EACH => {
                for family in OF_A_RECORD {
                    let value = get(&before, family, &key)?;
                    match value {
                        Some(value) => batch.put(family, key.clone(), value),
                        None => batch.delete(family, key.clone()),
                    }
                }
                tampered.older.push(named(&key));
            }
            _ => unchanged.push(key),
        }
    }
    for key in unchanged.iter().take(EACH) {
        for family in OF_A_RECORD {
            batch.delete(family, key.clone());
        }
        tampered.deleted.push(named(key));
    }
    // One that names nothing of the vault, if somebody has cancelled: it is as a stranger's.
    let of_account = unchanged.iter().skip(EACH).find(|key| {
        let key = <[u8; 16]>::try_from(key.as_slice()).map(RecordKey::from_bytes);
        key.is_ok_and(|key| key.kind() == Some(RecordKind::Account))
    });
    if let Some(key) = of_account {
        let mut stranger = key.clone();
        stranger
            .iter_mut()
            .skip(1)
            .for_each(|byte| *byte = random.random());
        for family in OF_A_RECORD {
            if let Some(value) = get(&now, family, key)? {
                batch.put(family, stranger.clone(), value);
            }
        }
        tampered.added.push(named(&stranger));
    }
    batch.delete(Family::Meta, *SUMS);
    now.write(&batch)?;
    now.close();
    before.close();
    Ok(tampered)
}

/// A key and its value, as they are stored.
type Stored = (Vec<u8>, Vec<u8>);

/// The documents of people's records, with their keys.
fn documents(disk: &RocksDisk) -> Result<Vec<Stored>, DiskError> {
    let mut found = Vec::new();
    let mut scanned = Ok(());
    disk.read(&mut |disk| {
        scanned = disk.scan(Family::Documents, &[], &mut |key, value| {
            let record = <[u8; 16]>::try_from(key).map(RecordKey::from_bytes);
            if record.is_ok_and(|key| matches!(key.kind(), Some(RecordKind::Account | RecordKind::Email))) {
                found.push((key.to_vec(), value.to_vec()));
            }
            ControlFlow::Continue(())
        });
    })?;
    scanned.map(|()| found)
}

fn get(disk: &RocksDisk, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
    let mut found = Ok(None);
    disk.read(&mut |disk| found = disk.get(family, key))?;
    found
}

/// A record in the words of `persona repair`.
fn named(key: &[u8]) -> String {
    let id = hex(key.get(1..).unwrap_or_default());
    let record = <[u8; 16]>::try_from(key).map(RecordKey::from_bytes);
    match record.ok().and_then(|key| key.kind()) {
        Some(RecordKind::Account) => format!("account {id}"),
        _ => format!("email {id}"),
    }
}

/// Brings all documents into tables, and flips a bit in the middle of one.
fn flip_a_bit(store: &Path) -> Result<PathBuf, String> {
    let disk = RocksDisk::open(store).map_err(|error| error.to_string())?;
    disk.compact().map_err(|error| error.to_string())?;
    disk.close();
    drop(disk);
    let families = Family::ALL.map(Family::name);
    let options = rocksdb::Options::default();
    let db = rocksdb::DB::open_cf_for_read_only(&options, store, families, false)
        .map_err(|error| error.to_string())?;
    let tables = db.live_files().map_err(|error| error.to_string())?;
    let table = tables
        .into_iter()
        .filter(|table| table.column_family_name == Family::Documents.name())
        .max_by_key(|table| table.size)
        .ok_or("there is no table of documents")?;
    drop(db);
    let path = store.join(table.name.trim_start_matches('/'));
    let mut bytes = fs::read(&path).map_err(|error| error.to_string())?;
    // Data comes first in a table, its index and filter last.
    let place = bytes.len() / 3;
    let byte = bytes.get_mut(place).ok_or("the table is empty")?;
    *byte ^= 0x10;
    fs::write(&path, bytes).map_err(|error| error.to_string())?;
    Ok(path)
}

/// What follows from one record, and is kept under its key.
const OF_A_RECORD: [Family; 3] = [Family::Documents, Family::Views, Family::Digests];
/// Under this key of `meta` a disk says that it has sums (STORAGE.md).
const SUMS: &[u8; 4] = b"sums";
const EACH: usize = 4;
const BEFORE: Duration = Duration::from_secs(4);
const CHANGING: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(4);
const LOOKS_OFTEN: Duration = Duration::from_secs(5);
const MENDED_WITHIN: Duration = Duration::from_secs(45);
const DRAIN_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_secs(1);
