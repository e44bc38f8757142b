//! People cancel their accounts; then every byte on every disk is looked at.
//!
//! Promise: once all sites have their receipts, no file of any site, its log, tables, write-ahead log, backup or
//! printed log, holds an address of them, as typed or as compared, or a hash of one of their passwords. Those of
//! somebody who stays are found by the same search at every site, so it can see.
//!
//! Tables are compressed, which leaves a string in the clear only if nothing before it in its block is like it. So
//! the addresses here are random, and of a hash only salt and digest are looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::super::asks::{Ask, Told, ask_at};
use super::super::people::password;
use super::super::plan::at;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, load, locked, operator};
use super::{close_whole, no_failures, open, watch};
use crate::settlement::receipts::{ErasureReport, MemberErasure};

pub(super) async fn conduct(world: &Arc<World>) -> Result<Verdict, WorldError> {
    let mut verdict = Verdict::new("erase");
    let mut random = world.random(90);
    let load = open(world, load::TRICKLE).await?;
    let mut leaving = Vec::new();
    for place in 0..LEAVING {
        leaving.push(somebody(world, place % world.sites.len(), &mut random).await?);
    }
    let staying = somebody(world, 0, &mut random).await?;
    watch(world, "everybody has signed up, changed and added", BEFORE).await;
    world.timeline.say(&format!(
        "{LEAVING} people have addresses and passwords, present and past ones"
    ));

    let theirs: BTreeSet<&Vec<u8>> = leaving.iter().flat_map(|person| &person.secrets).collect();
    let before = search(world, theirs.iter().copied())?;
    let seen: BTreeSet<&Vec<u8>> = before.found.keys().map(|(_, secret)| secret).collect();
    verdict.check(
        "their addresses and hashes that the search sees before",
        format!("at least {}", LEAVING * SECRETS_SEEN_MIN),
        format!("{} of {}", seen.len(), theirs.len()),
        // A folded address is nowhere from the beginning, and a password of before may be gone already.
        seen.len() >= LEAVING * SECRETS_SEEN_MIN,
    );

    operator::finalise_receipts(world).await?;
    let _ = locked(&world.gauges).cut_window();
    for (place, person) in leaving.iter().enumerate() {
        // Not where they signed up.
        let site = (place + 3) % world.sites.len();
        let ask = Ask::Cancel {
            account: person.account.clone(),
        };
        done(world, site, &ask).await?;
    }
    world.timeline.say(&format!(
        "all {LEAVING} have cancelled; waiting for the receipts of all sites"
    ));
    let mut incomplete = Vec::new();
    for (place, person) in leaving.iter().enumerate() {
        let site = (place + 5) % world.sites.len();
        let typed = [
            "account",
            "erased",
            &person.account,
            "--wait",
            RECEIPTS_WITHIN_S,
            "--json",
        ];
        let erased = operator::at_site(world, site, &typed).await?;
        let receipts = receipts(&erased.said);
        if erased.status != Some(0) || receipts < world.sites.len() {
            incomplete.push(person.account.clone());
        }
        if erased.status != Some(0) {
            operator::tell(world, &erased);
        }
    }
    verdict.none(
        "cancelled accounts that lack a receipt of some site",
        incomplete.len(),
        leaving.len(),
    );
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(world, "failures while sites forgot", &windows, &mut verdict);
    back_up(world).await?;

    let after = search(world, theirs.iter().copied().chain(&staying.secrets))?;
    let mut left: Vec<String> = Vec::new();
    for ((site, secret), files) in &after.found {
        if theirs.contains(secret) {
            left.push(format!(
                "{site}: {}",
                files.iter().cloned().collect::<Vec<_>>().join(", ")
            ));
        }
    }
    for words in left.iter().take(SHOWN_MAX) {
        world.timeline.say(&format!("not forgotten: {words}"));
    }
    world.timeline.say(&format!(
        "searched {} files with {:.1} MB",
        after.files,
        after.bytes as f64 / 1e6
    ));
    verdict.detail("not forgotten", &left);
    verdict.none(
        "addresses and hashes of the cancelled in some file of some site",
        left.len(),
        theirs.len(),
    );
    let mut blind = Vec::new();
    for index in 0..world.sites.len() {
        let name = world.name(index);
        // The address as typed, and the present hash.
        let found = staying.sure.iter().filter(|secret| {
            let key = (name.to_string(), (*secret).clone());
            after.found.contains_key(&key)
        });
        if found.count() < staying.sure.len() {
            blind.push(name);
        }
    }
    verdict.none(
        "sites where the search does not find who stays",
        blind.len(),
        world.sites.len(),
    );
    verdict.detail("sites where it does not", &blind);
    verdict.enough("files searched", after.files, 10 * world.sites.len() as u64);
    close_whole(world, load, &mut verdict).await;
    Ok(verdict)
}

/// Somebody with something to forget.
struct Somebody {
    account: String,
    /// Addresses as typed and as compared, salts with digests of hashes.
    secrets: BTreeSet<Vec<u8>>,
    /// Those that must be on every disk as long as the account is: an address as typed, the present hash.
    sure: Vec<Vec<u8>>,
}

/// Signs somebody up, changes the password, adds an address; and remembers what is written of them.
async fn somebody(world: &World, site: usize, random: &mut StdRng) -> Result<Somebody, WorldError> {
    let mut address = || format!("{}@example.org", random_words(random));
    let (first, second) = (address(), address());
    let (old, new) = (password(random), password(random));
    let sign_up = Ask::SignUp {
        address: first.clone(),
        password: old.clone(),
    };
    let Some(account) = done(world, site, &sign_up).await?.account else {
        return Err(WorldError::Unsettled("a sign-up named no account".into()));
    };
    let client = match world.sites.get(site) {
        Some(site) => &site.client,
        None => return Err(WorldError::Unsettled("no such site".into())),
    };
    let hashes = |error: super::super::client::CallError| WorldError::Unsettled(format!("hashes: {error}"));
    let mut all = client.password_hashes(&account).await.map_err(hashes)?;
    let change = Ask::ChangePassword {
        account: account.clone(),
        old,
        new,
    };
    done(world, site, &change).await?;
    let add = Ask::AddAddress {
        account: account.clone(),
        address: second.clone(),
    };
    done(world, site, &add).await?;
    let present = client.password_hashes(&account).await.map_err(hashes)?;
    all.extend(present.iter().cloned());
    if present.is_empty() || all.len() < 2 {
        return Err(WorldError::Unsettled("the vault tells no password hash".into()));
    }
    let tail = |hash: &String| hash.splitn(5, '$').last().unwrap_or_default().as_bytes().to_vec();
    let mut secrets: BTreeSet<Vec<u8>> = all.iter().map(tail).collect();
    for address in [&first, &second] {
        secrets.insert(local(address));
        secrets.insert(local(&address.to_ascii_lowercase()));
    }
    let mut sure: Vec<Vec<u8>> = present.iter().map(tail).collect();
    sure.push(local(&first));
    Ok(Somebody {
        account,
        secrets,
        sure,
    })
}

/// Twenty-four letters in both cases.
fn random_words(random: &mut StdRng) -> String {
    let letter = |_| {
        let letter = char::from(b'a' + random.random_range(0..26_u8));
        if random.random_bool(0.5) {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    };
    (0..24).map(letter).collect()
}

/// The part of an address that nobody shares.
fn local(address: &str) -> Vec<u8> {
    address.split('@').next().unwrap_or_default().as_bytes().to_vec()
}

async fn done(world: &World, site: usize, ask: &Ask) -> Result<Told, WorldError> {
    ask_at(world, site, ask)
        .await
        .map_err(|error| WorldError::Unsettled(format!("{} at {}: {error}", ask.name(), world.name(site))))
}

/// How many members a report of `persona account erased --json` names that have given theirs.
fn receipts(report: &str) -> usize {
    serde_json::from_str(report).map_or(0, |report: ErasureReport| {
        let given = |member: &&MemberErasure| member.erased_at_ms.is_some();
        report.members.iter().filter(given).count()
    })
}

/// What is backed up after the receipts must not hold them either.
async fn back_up(world: &World) -> Result<(), WorldError> {
    let Some(site) = world.sites.first() else {
        return Ok(());
    };
    let plan = site.plan();
    let (config, to) = (plan.config(), plan.dir.join("backup"));
    let (config, to) = (config.to_string_lossy(), to.to_string_lossy());
    let typed = ["backup", "--config", config.as_ref(), "--to", to.as_ref()];
    operator::persona(&plan.data(), &typed).await?.done("backup")?;
    Ok(())
}

/// What a search through every file came to.
#[derive(Default)]
struct Found {
    files: u64,
    bytes: u64,
    /// (site, secret) → files.
    found: BTreeMap<(String, Vec<u8>), BTreeSet<String>>,
}

/// Reads every file under every site's directory. The sites go on, so files come and go: one that is gone by the time
/// it is read holds nothing.
fn search<'a>(world: &World, secrets: impl Iterator<Item = &'a Vec<u8>>) -> Result<Found, WorldError> {
    let needles = Needles::new(secrets);
    let mut found = Found::default();
    for (index, site) in world.sites.iter().enumerate() {
        walk(&site.plan().dir, world.name(index), &needles, &mut found)?;
    }
    Ok(found)
}

fn walk(directory: &Path, site: &str, needles: &Needles<'_>, found: &mut Found) -> Result<(), WorldError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(directory) {
        Err(error) if gone(&error) => return Ok(()),
        entries => entries.map_err(at("read", directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(at("read", directory))?;
        let path = entry.path();
        let kind = match entry.file_type() {
            Err(error) if gone(&error) => continue,
            kind => kind.map_err(at("look at", &path))?,
        };
        if kind.is_dir() {
            walk(&path, site, needles, found)?;
        } else if kind.is_file() {
            let bytes = match fs::read(&path) {
                Err(error) if gone(&error) => continue,
                bytes => bytes.map_err(at("read", &path))?,
            };
            found.files += 1;
            found.bytes += bytes.len() as u64;
            for secret in needles.find(&bytes) {
                found
                    .found
                    .entry((site.to_string(), secret.clone()))
                    .or_default()
                    .insert(path.display().to_string());
            }
        }
    }
    Ok(())
}

/// Strings to look for, by their first eight bytes.
struct Needles<'a> {
    by_head: BTreeMap<[u8; HEAD], Vec<&'a Vec<u8>>>,
    /// Whether any begins with these two bytes: most places are passed over by this alone.
    begins: Vec<bool>,
}

impl<'a> Needles<'a> {
    fn new(secrets: impl Iterator<Item = &'a Vec<u8>>) -> Needles<'a> {
        let mut by_head: BTreeMap<[u8; HEAD], Vec<&Vec<u8>>> = BTreeMap::new();
        let mut begins = vec![false; 1 << 16];
        for secret in secrets {
            if let Some(head) = secret.first_chunk::<HEAD>() {
                by_head.entry(*head).or_default().push(secret);
                if let Some(begin) = begins.get_mut(usize::from(u16::from_le_bytes([head[0], head[1]]))) {
                    *begin = true;
                }
            }
        }
        Needles { by_head, begins }
    }

    fn find(&self, bytes: &[u8]) -> BTreeSet<&'a Vec<u8>> {
        let mut found = BTreeSet::new();
        for (place, window) in bytes.windows(HEAD).enumerate() {
            let begins = usize::from(u16::from_le_bytes([window[0], window[1]]));
            if !self.begins.get(begins).is_some_and(|begins| *begins) {
                continue;
            }
            let rest = bytes.get(place..).unwrap_or_default();
            let alike = rest.first_chunk::<HEAD>().and_then(|head| self.by_head.get(head));
            found.extend(
                alike
                    .into_iter()
                    .flatten()
                    .filter(|secret| rest.starts_with(secret)),
            );
        }
        found
    }
}

const LEAVING: usize = 10;
/// Of the six of a person: two addresses as typed, and a hash.
const SECRETS_SEEN_MIN: usize = 3;
const BEFORE: Duration = Duration::from_secs(5);
const RECEIPTS_WITHIN_S: &str = "150";
const SHOWN_MAX: usize = 20;
const HEAD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_found_wherever_it_stands_and_only_whole() {
        let secrets = [b"abcdefghIJ".to_vec(), b"abcdefghKL".to_vec()];
        let needles = Needles::new(secrets.iter());
        assert_eq!(needles.find(b"..abcdefghIJ").len(), 1);
        assert_eq!(needles.find(b"abcdefghKL.abcdefghIJ").len(), 2);
        assert_eq!(needles.find(b"abcdefghI").len(), 0);
        assert_eq!(needles.find(b"").len(), 0);
    }
}
