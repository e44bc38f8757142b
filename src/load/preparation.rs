//! Before the measurement: people sign up, add an address, and sign in with all their browsers, so that what is measured is an
//! ordinary day and not the first one.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use super::{
    activity::Call,
    crowd::{BROWSERS, Person},
    errand::{Errand, Ground, Setback},
    tally::Ending,
};

/// People who are prepared at once. Their passwords are hashed, and a site has a bound for that.
const AT_ONCE: usize = 8;
/// How often somebody begins again whom the site refused for being full, and when.
const TRIES_MAX: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// Failures after which something is wrong with the site, and not with one person.
const FAILURES_MAX: usize = 10;

/// Nobody can be prepared.
#[derive(Debug, thiserror::Error)]
#[error("people cannot sign up there: {}: {reason}", call.map_or("?", Call::name))]
pub(crate) struct Unprepared {
    call: Option<Call>,
    reason: String,
}

/// Lets so many people in; fewer if some fail, which it says.
pub(crate) async fn prepare(ground: &Arc<Ground>, accounts: usize, seed: u64) -> Result<(), Unprepared> {
    let bar = ProgressBar::new(accounts as u64);
    if let Ok(style) = ProgressStyle::with_template("preparing people {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let seeds: Vec<u64> = (0..accounts).map(|_| random.random()).collect();
    let mut failures = Vec::new();
    let mut people = stream::iter(seeds)
        .map(|seed| one(ground, seed))
        .buffer_unordered(AT_ONCE);
    while let Some(person) = people.next().await {
        bar.inc(1);
        match person {
            Ok(person) => ground.crowd.let_in(person),
            Err(unprepared) => {
                failures.push(unprepared);
                if failures.len() > FAILURES_MAX {
                    break;
                }
            }
        }
    }
    bar.finish_and_clear();
    match failures.pop() {
        Some(unprepared) if failures.len() >= FAILURES_MAX || ground.crowd.len() == 0 => Err(unprepared),
        Some(unprepared) => {
            eprintln!(
                "{} people could not be prepared; the last: {unprepared}",
                failures.len() + 1
            );
            Ok(())
        }
        None => Ok(()),
    }
}

async fn one(ground: &Arc<Ground>, seed: u64) -> Result<Person, Unprepared> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tries = 0;
    loop {
        let mut person = ground.crowd.stranger(&mut random);
        let random = StdRng::seed_from_u64(random.random());
        let mut errand = Errand::new(ground, person.home, person.client, random, Instant::now(), false);
        match settle(&mut errand, &mut person).await {
            Ok(()) => return Ok(person),
            Err(Setback(Ending::Refused { .. })) if tries < TRIES_MAX => {
                tries += 1;
                sleep(PAUSE).await;
            }
            Err(Setback(ending)) => {
                let reason = match ending {
                    Ending::Failed(reason) => reason,
                    Ending::Refused { .. } | Ending::Done => {
                        "the site is too busy, also without load".to_owned()
                    }
                };
                let call = errand.asked();
                return Err(Unprepared { call, reason });
            }
        }
    }
}

async fn settle(errand: &mut Errand<'_>, person: &mut Person) -> Result<(), Setback> {
    errand.sign_up(person, 0).await?;
    errand.add_email(person, 0).await?;
    for device in 0..BROWSERS {
        if !person.browsers[device].is_signed_in {
            errand.context(&mut person.browsers[device]).await?;
            errand.authenticate(person, device).await?;
        }
        for address in 0..person.addresses.len() {
            errand.certify(person, device, address).await?;
        }
    }
    Ok(())
}
