//! One site hears nobody and is heard by nobody, for minutes, while people go on at both sides of the cut.
//!
//! Promise: nobody whose account was not fought over notices. What was done on both sides to one address or
//! account comes to one end, the same at all ten sites, by the rules: of two proofs of an address, and of two
//! changes of a password, the later stands; a reset beats a change; cancelled stays cancelled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt as _;

use super::super::asks::{Ask, Told, ask_at};
use super::super::client::{CallError, SignedIn};
use super::super::people::password;
use super::super::verdict::Verdict;
use super::super::{World, WorldError, hands, load, locked};
use super::{USUAL, close_whole, no_failures, open, others, some_sites, watch};

/// What is done on both sides of a cut to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quarrel {
    /// Two people sign up with one address.
    SignUpTwice,
    /// Two accounts add one address.
    AddTwice,
    /// One account's password is changed twice.
    ChangeTwice,
    /// It is reset by mail first, and changed with the old password later.
    ResetThenChange,
    /// The account is cancelled first, and its password changed later.
    CancelThenChange,
}

const QUARRELS: [Quarrel; 5] = [
    Quarrel::SignUpTwice,
    Quarrel::AddTwice,
    Quarrel::ChangeTwice,
    Quarrel::ResetThenChange,
    Quarrel::CancelThenChange,
];

impl Quarrel {
    fn name(self) -> &'static str {
        match self {
            Quarrel::SignUpTwice => "one address signed up on both sides",
            Quarrel::AddTwice => "one address added to two accounts",
            Quarrel::ChangeTwice => "one password changed on both sides",
            Quarrel::ResetThenChange => "a password reset on one side, later changed on the other",
            Quarrel::CancelThenChange => {
                "an account cancelled on one side, its password later changed on the other"
            }
        }
    }
}

/// One who has a part in a quarrel. The first acts first, on the other side of the cut from the second.
#[derive(Clone, Debug)]
struct Party {
    site: usize,
    account: String,
    /// What this party wants to be able to sign in with afterwards.
    password: String,
    /// Before the cut.
    password_before: String,
    /// An address of its own, not fought over; the same for both when they fight over one account.
    own: String,
}

#[derive(Clone, Debug)]
struct Case {
    quarrel: Quarrel,
    /// The address fought over.
    address: String,
    first: Party,
    second: Party,
}

pub(super) async fn conduct(world: &Arc<World>, length: Option<Duration>) -> Result<Verdict, WorldError> {
    let length = length
        .unwrap_or(CUT_FOR)
        .max(DETECTED + BETWEEN + Duration::from_secs(10));
    let mut verdict = Verdict::new("cut-off-one");
    let alone = some_sites(world, 1, 3);
    let inside = alone.first().copied().unwrap_or(0);
    let rest = others(world, &alone);
    let mut cases = prepare(world, inside, &rest).await?;
    let load = open(world, load::DENSE).await?;
    watch(world, "the usual", USUAL / 2).await;

    hands::set_apart(world, &alone, true).await?;
    world
        .timeline
        .say(&format!("cut off, both ways: {}", world.name(inside)));
    watch(world, "one is cut off", DETECTED).await;
    let connected = world
        .monitor
        .status(inside)
        .map(|s| s.peers.iter().filter(|peer| peer.connected).count());
    verdict.check(
        "connections of the site that is cut off",
        "0",
        connected.map_or("unknown".into(), |count| count.to_string()),
        connected == Some(0),
    );
    let heard = told(world, inside, &rest).await;

    let refused = fight(world, &mut cases, true).await;
    world
        .timeline
        .say(&format!("{} quarrels begin, each on one side", cases.len()));
    watch(world, "one is cut off", BETWEEN).await;
    let refused: Vec<String> = refused
        .into_iter()
        .chain(fight(world, &mut cases, false).await)
        .collect();
    world.timeline.say("and are answered on the other");
    for words in &refused {
        world.timeline.say(&format!("was not accepted: {words}"));
    }
    verdict.none(
        "acts on either side that were not accepted",
        refused.len(),
        2 * cases.len(),
    );
    watch(world, "one is cut off", length.saturating_sub(DETECTED + BETWEEN)).await;
    let leaked = told(world, inside, &rest).await;
    let through = leaked
        .zip(heard)
        .map(|(after, before)| after.saturating_sub(before));
    let words = through.map_or("unknown".into(), |count| count.to_string());
    verdict.check(
        "transactions of the cut-off site that came through the cut",
        "0",
        words,
        through == Some(0),
    );
    let behind = behind(world, inside, &rest);
    verdict.enough(
        "transactions that each side lacks of the other, at least",
        behind,
        50,
    );

    hands::heal_network(world).await?;
    world.timeline.say("healed");
    watch(world, "healed", HEALED_FOR).await;
    let windows: Vec<_> = locked(&world.gauges)
        .cut_window()
        .into_iter()
        .enumerate()
        .collect();
    no_failures(
        world,
        "failures of people who quarrel with nobody",
        &windows,
        &mut verdict,
    );
    let inside_sign_ins = windows.get(inside).map_or(0, |(_, window)| window.sign_ins());
    verdict.enough("sign-ins at the site that was cut off", inside_sign_ins, 50);
    close_whole(world, load, &mut verdict).await;
    judge(world, &cases, &mut verdict).await;
    Ok(verdict)
}

/// How many transactions written by the inner site the outer ones know.
async fn told(world: &World, inside: usize, rest: &[usize]) -> Option<u64> {
    let writer = world.monitor.status(inside)?.writer.clone();
    let mut most = 0;
    for site in rest {
        let vector = world.sites.get(*site)?.client.vector().await.ok()?;
        most = most.max(vector.writers.get(&writer).copied().unwrap_or(0));
    }
    Some(most)
}

/// How much of the other side's writes each side lacks: the lesser of the two.
fn behind(world: &World, inside: usize, rest: &[usize]) -> u64 {
    let ledger = locked(&world.ledger);
    let lacks = |site: usize, of: &dyn Fn(usize) -> bool| {
        ledger
            .entries()
            .iter()
            .filter(|entry| of(entry.site) && !world.monitor.sees(site, &entry.dot))
            .count()
    };
    let outer = rest.first().copied().unwrap_or(0);
    lacks(inside, &|site| site != inside).min(lacks(outer, &|site| site == inside)) as u64
}

/// Makes the accounts that will be fought over, while everybody still hears everybody.
async fn prepare(world: &World, inside: usize, rest: &[usize]) -> Result<Vec<Case>, WorldError> {
    let mut random = world.random(30);
    let mut cases = Vec::new();
    for quarrel in QUARRELS {
        for place in 0..CASES_EACH {
            let outer = rest
                .get(random.random_range(0..rest.len().max(1)))
                .copied()
                .unwrap_or(0);
            // Each side is the later one in half of the cases.
            let (first_site, second_site) = if place % 2 == 0 {
                (inside, outer)
            } else {
                (outer, inside)
            };
            let mut party = async |site: usize| {
                let own = locked(&world.people).fresh_address();
                let password_before = password(&mut random);
                let ask = Ask::SignUp {
                    address: own.clone(),
                    password: password_before.clone(),
                };
                let Ok(Told {
                    account: Some(account),
                    ..
                }) = ask_at(world, site, &ask).await
                else {
                    return Err(WorldError::Unsettled(format!(
                        "nobody can sign up at {}",
                        world.name(site)
                    )));
                };
                Ok(Party {
                    site,
                    account,
                    password: password(&mut random),
                    password_before,
                    own,
                })
            };
            let first = party(first_site).await?;
            let case = match quarrel {
                Quarrel::SignUpTwice | Quarrel::AddTwice => {
                    let second = party(second_site).await?;
                    let address = locked(&world.people).fresh_address();
                    Case {
                        quarrel,
                        address,
                        first,
                        second,
                    }
                }
                _ => {
                    let second = Party {
                        site: second_site,
                        password: password(&mut random),
                        ..first.clone()
                    };
                    Case {
                        quarrel,
                        address: first.own.clone(),
                        first,
                        second,
                    }
                }
            };
            cases.push(case);
        }
    }
    Ok(cases)
}

/// Lets the first or the second parties act, all at once. Gives what was not accepted.
async fn fight(world: &World, cases: &mut [Case], first: bool) -> Vec<String> {
    let acts = cases.iter_mut().map(|case| async move {
        let (quarrel, address) = (case.quarrel, case.address.clone());
        let party = if first { &mut case.first } else { &mut case.second };
        let change = Ask::ChangePassword {
            account: party.account.clone(),
            old: party.password_before.clone(),
            new: party.password.clone(),
        };
        let ask = match (quarrel, first) {
            (Quarrel::SignUpTwice, _) => Ask::SignUp {
                address,
                password: party.password.clone(),
            },
            (Quarrel::AddTwice, _) => {
                // They sign in with the password they have.
                party.password.clone_from(&party.password_before);
                Ask::AddAddress {
                    account: party.account.clone(),
                    address,
                }
            }
            (Quarrel::ResetThenChange, true) => Ask::ResetPassword {
                address,
                password: party.password.clone(),
            },
            (Quarrel::CancelThenChange, true) => Ask::Cancel {
                account: party.account.clone(),
            },
            _ => change,
        };
        match ask_at(world, party.site, &ask).await {
            Ok(told) => {
                if let (Quarrel::SignUpTwice, Some(account)) = (quarrel, told.account) {
                    party.account = account;
                }
                None
            }
            Err(error) => Some(format!("{} at {}: {error}", ask.name(), world.name(party.site))),
        }
    });
    join_all(acts).await.into_iter().flatten().collect()
}

/// Asks all sites about every case.
async fn judge(world: &World, cases: &[Case], verdict: &mut Verdict) {
    for quarrel in QUARRELS {
        let of_kind = || cases.iter().filter(|case| case.quarrel == quarrel);
        let asked = of_kind().map(|case| async move {
            for site in 0..world.sites.len() {
                if let Err(words) = outcome(world, site, case).await {
                    return Some(format!("{} at {}: {words}", case.address, world.name(site)));
                }
            }
            None
        });
        let wrong: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
        for words in &wrong {
            world.timeline.say(&format!("{}: {words}", quarrel.name()));
        }
        let what = format!(
            "{}: cases that did not end as they should at every site",
            quarrel.name()
        );
        verdict.none(what, wrong.len(), of_kind().count());
    }
}

/// Whether a case ended at this site as it should. Each refused sign-in is followed by one that succeeds where
/// there is any, so that nobody is locked out by being asked about.
async fn outcome(world: &World, site: usize, case: &Case) -> Result<(), String> {
    let client = &world.sites.get(site).ok_or("no such site")?.client;
    let seen = client
        .address(&case.address)
        .await
        .map_err(|error| error.to_string())?;
    let owner = seen.account.as_deref();
    let (first, second) = (&case.first, &case.second);
    match case.quarrel {
        Quarrel::SignUpTwice | Quarrel::AddTwice => {
            if owner != Some(second.account.as_str()) {
                return Err(format!(
                    "belongs to {owner:?}, not to the later proof, {}",
                    second.account
                ));
            }
            let loser = client
                .account(&first.account)
                .await
                .map_err(|error| error.to_string())?;
            if loser.emails.iter().any(|email| email.address == case.address) {
                return Err("is listed with the loser, too".into());
            }
            shut(client.sign_in(&case.address, &first.password).await)?;
            opens(
                client.sign_in(&case.address, &second.password).await,
                &second.account,
            )?;
            if case.quarrel == Quarrel::AddTwice {
                // Who lost the address keeps account and password.
                opens(client.sign_in(&first.own, &first.password).await, &first.account)?;
            }
            Ok(())
        }
        Quarrel::ChangeTwice | Quarrel::ResetThenChange => {
            let (stands, falls) = if case.quarrel == Quarrel::ChangeTwice {
                (second, first)
            } else {
                (first, second)
            };
            if owner != Some(first.account.as_str()) {
                return Err(format!("belongs to {owner:?}, not to {}", first.account));
            }
            shut(client.sign_in(&case.address, &falls.password).await)?;
            shut(client.sign_in(&case.address, &first.password_before).await)?;
            opens(
                client.sign_in(&case.address, &stands.password).await,
                &first.account,
            )
        }
        Quarrel::CancelThenChange => {
            if owner.is_some() || seen.state != "free" {
                return Err(format!(
                    "is {} and belongs to {owner:?}, but should be free",
                    seen.state
                ));
            }
            let account = client
                .account(&first.account)
                .await
                .map_err(|error| error.to_string())?;
            if !account.cancelled {
                return Err("is not cancelled".into());
            }
            shut(client.sign_in(&case.address, &second.password).await)
        }
    }
}

fn shut(answer: Result<SignedIn, CallError>) -> Result<(), String> {
    match answer {
        Err(CallError::Refused {
            status: 401 | 429, ..
        }) => Ok(()),
        Ok(opened) => Err(format!(
            "a password that should open nothing opened {}",
            opened.account
        )),
        Err(error) => Err(error.to_string()),
    }
}

fn opens(answer: Result<SignedIn, CallError>, account: &str) -> Result<(), String> {
    match answer {
        Ok(opened) if opened.account == account => Ok(()),
        Ok(opened) => Err(format!(
            "the password that should open {account} opened {}",
            opened.account
        )),
        Err(error) => Err(format!("the password that should open {account}: {error}")),
    }
}

const CUT_FOR: Duration = Duration::from_secs(120);
/// A connection is given up after 3 s without a word.
const DETECTED: Duration = Duration::from_secs(8);
/// The second parties act so much later that no clock could be in doubt.
const BETWEEN: Duration = Duration::from_secs(5);
const HEALED_FOR: Duration = Duration::from_secs(10);
const CASES_EACH: usize = 10;
