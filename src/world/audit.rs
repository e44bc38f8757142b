//! Asks the sites, at the end, whether everybody can still do what they were told they could.
//!
//! Vectors and digests are the sites' own words about themselves. This goes by what people know: their
//! password opens their account at every site asked, the old one opens nothing, the addresses are theirs at
//! all ten sites, the cancelled stay cancelled.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use rand::seq::SliceRandom as _;

use super::client::{CallError, Dot};
use super::ledger::Entry;
use super::people::Person;
use super::verdict::Verdict;
use super::{World, locked};

/// Asks about everybody, or a sample of [`PEOPLE_ASKED_MAX`], and adds the checks.
///
/// Whose latest write is among the `lost` is left out: the scenario has judged that loss already. All earlier
/// writes of a person are in the past of the latest, so nobody else can have lost anything.
pub(crate) async fn people(world: &World, lost: &[Entry], verdict: &mut Verdict) {
    let lost: BTreeSet<&Dot> = lost.iter().map(|entry| &entry.dot).collect();
    let mut everybody: Vec<Person> = locked(&world.people)
        .all()
        .filter(|person| !lost.contains(&person.latest))
        .cloned()
        .collect();
    let mut random = world.random(77);
    everybody.shuffle(&mut random);
    everybody.truncate(PEOPLE_ASKED_MAX);
    let cancelled = everybody.iter().filter(|person| person.cancelled).count();
    let mut wrong = Vec::new();
    for (done, group) in everybody.chunks(AT_ONCE).enumerate() {
        world.timeline.now(&format!(
            "asking about everybody: {} of {}",
            done * AT_ONCE,
            everybody.len()
        ));
        let asked = group
            .iter()
            .enumerate()
            .map(|(place, person)| ask(world, person, done * AT_ONCE + place));
        wrong.extend(join_all(asked).await.into_iter().flatten());
    }
    world.timeline.quiet();
    verdict.none(
        "people whose account is not as they know it",
        wrong.len(),
        everybody.len(),
    );
    verdict.detail("people asked about", everybody.len());
    verdict.detail("of them cancelled", cancelled);
    verdict.detail(
        "people not asked about, as a request of theirs was never answered",
        locked(&world.people).unsure(),
    );
    for words in wrong.iter().take(SHOWN_MAX) {
        world.timeline.say(&format!("not as they know it: {words}"));
    }
    verdict.detail("people wronged", wrong.iter().take(SHOWN_MAX).collect::<Vec<_>>());
}

/// The first thing that is not as the person knows it.
async fn ask(world: &World, person: &Person, place: usize) -> Option<String> {
    for index in 0..world.sites.len() {
        if let Err(words) = records(world, index, person).await {
            return Some(format!("{} at {}: {words}", person.account, world.name(index)));
        }
    }
    // Every site gets its share of the sign-ins; two sites a person.
    let count = world.sites.len();
    for index in BTreeSet::from([place % count, (place + count / 2) % count]) {
        if let Err(words) = opens(world, index, person).await {
            return Some(format!("{} at {}: {words}", person.account, world.name(index)));
        }
    }
    None
}

async fn records(world: &World, index: usize, person: &Person) -> Result<(), String> {
    let Some(site) = world.sites.get(index) else {
        return Err("no such site".into());
    };
    let account = site
        .client
        .account(&person.account)
        .await
        .map_err(|error| error.to_string())?;
    if account.cancelled != person.cancelled {
        return Err(format!("cancelled is {}", account.cancelled));
    }
    if person.cancelled {
        return Ok(());
    }
    let has: BTreeSet<&str> = account
        .emails
        .iter()
        .map(|email| email.address.as_str())
        .collect();
    let knows: BTreeSet<&str> = person.addresses.iter().map(String::as_str).collect();
    if has != knows {
        return Err(format!("addresses are {has:?}, not {knows:?}"));
    }
    for address in &person.addresses {
        let seen = site
            .client
            .address(address)
            .await
            .map_err(|error| error.to_string())?;
        if seen.account.as_deref() != Some(person.account.as_str()) {
            return Err(format!("{address} is {} {:?}", seen.state, seen.account));
        }
    }
    Ok(())
}

async fn opens(world: &World, index: usize, person: &Person) -> Result<(), String> {
    let Some(site) = world.sites.get(index) else {
        return Err("no such site".into());
    };
    let Some(address) = person.addresses.first() else {
        return Err("has no address".into());
    };
    // Of a cancelled account the address may have a new owner by now; the password is nobody's.
    let shut = if person.cancelled {
        Some(&person.password)
    } else {
        person.password_before.as_ref()
    };
    if let Some(shut) = shut {
        match site.client.sign_in(address, shut).await {
            Err(CallError::Refused {
                status: 401 | 429, ..
            }) => {}
            Ok(_) if person.cancelled => return Err("a cancelled account was opened".into()),
            Ok(_) => return Err("the password of before opened it".into()),
            Err(error) => return Err(error.to_string()),
        }
    }
    if person.cancelled {
        return Ok(());
    }
    match site.client.sign_in(address, &person.password).await {
        Ok(opened) if opened.account == person.account => Ok(()),
        Ok(opened) => Err(format!("its password opened {}", opened.account)),
        Err(error) => Err(format!("its password: {error}")),
    }
}

/// Each is asked about at every site.
const PEOPLE_ASKED_MAX: usize = 500;
const AT_ONCE: usize = 8;
const SHOWN_MAX: usize = 20;
