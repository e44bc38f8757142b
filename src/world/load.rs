//! The trickle: people who sign up, sign in, mistype, change, move, leave; at every site, all the time.
//!
//! Arrivals are evenly paced per site and never wait for each other, so a stalled site cannot slow down the
//! questions that would show it. A person near a site that is not in rotation is sent to another, as a load
//! balancer would; a request that a site did not take goes to the next one, and only what the user sees in
//! the end counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::asks::{Ask, Told, ask, ask_at, judge};
use super::client::{CallError, Dot, Written};
use super::people::{Lease, Person, password};
use super::{World, locked};

/// How much is asked for; may be turned while the load runs.
pub(crate) struct Dial {
    rate_bits: AtomicU64,
    stopped: AtomicBool,
}

impl Dial {
    pub(crate) fn new(rate: f64) -> Dial {
        Dial {
            rate_bits: AtomicU64::new(rate.to_bits()),
            stopped: AtomicBool::new(false),
        }
    }

    /// Requests a second over all sites.
    pub(crate) fn rate(&self) -> f64 {
        f64::from_bits(self.rate_bits.load(Ordering::Relaxed))
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// What share of the requests are sign-ins with the right password, and what the rest are, by weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    sign_in_share: f64,
    errands: &'static [(Errand, u32)],
}

/// What people do besides signing in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    SignUp,
    /// A wrong password, then the right one.
    Mistype,
    /// The password before the last change, then the right one.
    OldPassword,
    /// An address or account given up.
    Knock,
    /// An address that nobody ever had.
    Stranger,
    ChangePassword,
    ResetPassword,
    AddAddress,
    /// Takes an address from somebody who gives it.
    MoveAddress,
    RemoveAddress,
    SignOutEverywhere,
    Cancel,
}

/// An ordinary day: mostly sign-ins.
pub(crate) const TRICKLE: Mix = Mix {
    sign_in_share: 0.8,
    errands: &[
        (Errand::SignUp, 7),
        (Errand::Mistype, 2),
        (Errand::OldPassword, 1),
        (Errand::Knock, 1),
        (Errand::Stranger, 1),
        (Errand::ChangePassword, 3),
        (Errand::ResetPassword, 1),
        (Errand::AddAddress, 2),
        (Errand::MoveAddress, 1),
        (Errand::RemoveAddress, 1),
        (Errand::SignOutEverywhere, 1),
        (Errand::Cancel, 1),
    ],
};

/// As many writes as sign-ins.
pub(crate) const DENSE: Mix = Mix {
    sign_in_share: 0.5,
    ..TRICKLE
};

/// A load under way.
pub(crate) struct Load {
    tasks: Vec<JoinHandle<()>>,
    in_flight: Arc<Semaphore>,
}

impl Load {
    /// Runs until the world is stopped.
    pub(crate) async fn forever(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }

    /// Stops asking, and returns when the last answer is in.
    pub(crate) async fn stop(self, world: &World) {
        world.load.stop();
        self.forever_ref().await;
        // An answer takes at most the client's own time limit, several times over when it is rerouted.
        let all = self.in_flight.acquire_many(IN_FLIGHT_MAX);
        let _ = tokio::time::timeout(LAST_ANSWERS, all).await;
    }

    async fn forever_ref(&self) {
        while self.tasks.iter().any(|task| !task.is_finished()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Begins to send people to all sites.
pub(crate) fn start(world: &Arc<World>, mix: Mix) -> Load {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    let mut tasks = Vec::new();
    for home in 0..world.sites.len() {
        for signing_in in [true, false] {
            let share = if signing_in {
                mix.sign_in_share
            } else {
                1.0 - mix.sign_in_share
            };
            let errands = if signing_in { None } else { Some(mix.errands) };
            let world = Arc::clone(world);
            tasks.push(tokio::spawn(arrivals(
                world,
                home,
                share,
                errands,
                Arc::clone(&in_flight),
            )));
        }
    }
    Load { tasks, in_flight }
}

async fn arrivals(
    world: Arc<World>,
    home: usize,
    share: f64,
    errands: Option<&'static [(Errand, u32)]>,
    in_flight: Arc<Semaphore>,
) {
    let purpose = 1_000 + 2 * home as u64 + u64::from(errands.is_some());
    let mut random = world.random(purpose);
    let sites = world.sites.len() as f64;
    let period = Duration::from_secs_f64(sites / (world.load.rate() * share));
    // Sites do not ask in step.
    let mut ticks = tokio::time::interval_at(Instant::now() + period.mul_f64(random.random()), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !world.load.is_stopped() {
        ticks.tick().await;
        let Some(site) = choose_site(&world, home, &mut random) else {
            let words = "no site at all is in rotation".to_string();
            locked(&world.gauges).failed(home, "nowhere to go".into(), words);
            continue;
        };
        let Ok(permit) = Arc::clone(&in_flight).try_acquire_owned() else {
            let words = format!("{IN_FLIGHT_MAX} requests wait for an answer");
            locked(&world.gauges).failed(site, "overloaded".into(), words);
            continue;
        };
        let errand = errands.map(|errands| draw(errands, &mut random));
        let random = world.random(random.random());
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            match errand {
                None => sign_in(&world, site, random).await,
                Some(errand) => run_errand(&world, site, errand, random).await,
            }
            drop(permit);
        });
    }
}

/// Home if it serves, otherwise any other site that does.
fn choose_site(world: &World, home: usize, random: &mut StdRng) -> Option<usize> {
    if world.monitor.in_rotation(home) {
        return Some(home);
    }
    world.monitor.rotation().choose(random).copied()
}

fn draw(errands: &'static [(Errand, u32)], random: &mut StdRng) -> Errand {
    let total: u32 = errands.iter().map(|(_, weight)| weight).sum();
    let mut ball = random.random_range(0..total.max(1));
    for (errand, weight) in errands {
        if ball < *weight {
            return *errand;
        }
        ball -= weight;
    }
    Errand::Stranger
}

async fn sign_in(world: &World, site: usize, mut random: StdRng) {
    let suits = |person: &Person| !person.cancelled && world.monitor.sees(site, &person.latest);
    let Some(lease) = locked(&world.people).lease(&mut random, suits) else {
        // Nobody is known at this site yet: the first one signs up.
        return run_errand(world, site, Errand::SignUp, random).await;
    };
    rightful_sign_in(world, site, &lease.person, &mut random).await;
    locked(&world.people).give_back(lease);
}

/// Signs in with one of the person's addresses and the right password. The answer must be the right account.
async fn rightful_sign_in(world: &World, site: usize, person: &Person, random: &mut StdRng) {
    let Some(address) = person.addresses.choose(random).cloned() else {
        return;
    };
    let what = Ask::SignIn {
        address,
        password: person.password.clone(),
    };
    let (at, told, took) = ask(world, site, &what, &[&person.latest], random).await;
    if let Ok(Told {
        account: Some(account),
        ..
    }) = &told
        && *account != person.account
    {
        let words = format!(
            "signed in to {account} instead of {} at {}",
            person.account,
            world.name(at)
        );
        return locked(&world.gauges).failed(at, "sign-in: wrong account".into(), words);
    }
    judge(world, at, &what, &told, took);
}

/// A sign-in that must be refused: letting it in is a failure like any other.
async fn wrongful_sign_in(
    world: &World,
    site: usize,
    address: String,
    password: String,
    why: &'static str,
    seen: &[&Dot],
    random: &mut StdRng,
) {
    let what = Ask::SignIn { address, password };
    let (at, told, took) = ask(world, site, &what, seen, random).await;
    match &told {
        Err(CallError::Refused {
            status: 401 | 429, ..
        }) => locked(&world.gauges).served(at),
        Ok(_) => {
            let words = format!("{} let in somebody with {why}", world.name(at));
            locked(&world.gauges).failed(at, format!("let in: {why}"), words);
        }
        Err(_) => {
            judge(world, at, &what, &told, took);
        }
    }
}

async fn run_errand(world: &World, site: usize, errand: Errand, mut random: StdRng) {
    match errand {
        Errand::SignUp => sign_up(world, site, &mut random).await,
        Errand::Stranger => {
            let address = format!("nobody.{:x}@example.org", random.random::<u64>());
            let wrong = password(&mut random);
            wrongful_sign_in(
                world,
                site,
                address,
                wrong,
                "an unknown address",
                &[],
                &mut random,
            )
            .await;
        }
        Errand::MoveAddress => move_address(world, site, &mut random).await,
        _ => {
            let suits = |person: &Person| suits(errand, person) && world.monitor.sees(site, &person.latest);
            let Some(mut lease) = locked(&world.people).lease(&mut random, suits) else {
                return;
            };
            with_person(world, site, errand, &mut lease, &mut random).await;
            locked(&world.people).give_back(lease);
        }
    }
}

fn suits(errand: Errand, person: &Person) -> bool {
    match errand {
        Errand::Knock => person.knocks < KNOCKS_MAX && (person.cancelled || person.address_before.is_some()),
        _ if person.cancelled => false,
        Errand::OldPassword => person.password_before.is_some(),
        // A reset makes the other addresses of the account unverified until they are proven again; people of
        // this world with several addresses change their password instead.
        Errand::ResetPassword => person.addresses.len() == 1,
        Errand::AddAddress => person.addresses.len() < ADDRESSES_MAX,
        Errand::RemoveAddress => person.addresses.len() > 1,
        _ => true,
    }
}

async fn sign_up(world: &World, site: usize, random: &mut StdRng) {
    if locked(&world.people).len() >= PEOPLE_MAX {
        return;
    }
    let address = {
        let mut people = locked(&world.people);
        let freed = random
            .random_bool(FREED_SHARE)
            .then(|| people.freed_address(|dot| world.monitor.sees(site, dot)));
        freed.flatten().unwrap_or_else(|| people.fresh_address())
    };
    let password = password(random);
    let what = Ask::SignUp {
        address: address.clone(),
        password: password.clone(),
    };
    let (at, told, took) = ask(world, site, &what, &[], random).await;
    judge(world, at, &what, &told, took);
    if let Some(person) = newcomer(&told, address, password) {
        locked(&world.people).add(person);
    }
}

/// Who somebody is after a sign-up that was answered.
pub(crate) fn newcomer(told: &Result<Told, CallError>, address: String, password: String) -> Option<Person> {
    let Ok(Told {
        account: Some(account),
        written: Some(Written { dot: Some(dot), .. }),
    }) = told
    else {
        return None;
    };
    Some(Person {
        account: account.clone(),
        addresses: vec![address],
        password,
        password_before: None,
        address_before: None,
        cancelled: false,
        latest: dot.clone(),
        knocks: 0,
        unsure: false,
    })
}

async fn with_person(world: &World, site: usize, errand: Errand, lease: &mut Lease, random: &mut StdRng) {
    let person = &mut lease.person;
    let account = person.account.clone();
    let address = person.addresses.choose(random).cloned().unwrap_or_default();
    let fresh = password(random);
    let what = match errand {
        Errand::Mistype | Errand::OldPassword => {
            let (wrong, why) = match (errand, &person.password_before) {
                (Errand::OldPassword, Some(before)) => (before.clone(), "the password of before"),
                _ => (fresh, "a wrong password"),
            };
            wrongful_sign_in(world, site, address, wrong, why, &[&person.latest], random).await;
            // Then the right one, which also takes the count of failed tries back.
            return rightful_sign_in(world, site, person, random).await;
        }
        Errand::Knock => {
            person.knocks += 1;
            let given_up = if person.cancelled {
                person.addresses.first()
            } else {
                person.address_before.as_ref()
            };
            let Some(address) = given_up.cloned() else { return };
            let why = if person.cancelled {
                "a cancelled account"
            } else {
                "an address given up"
            };
            let right = person.password.clone();
            return wrongful_sign_in(world, site, address, right, why, &[&person.latest], random).await;
        }
        Errand::ChangePassword => Ask::ChangePassword {
            account,
            old: person.password.clone(),
            new: fresh.clone(),
        },
        Errand::ResetPassword => Ask::ResetPassword {
            address: address.clone(),
            password: fresh.clone(),
        },
        Errand::AddAddress => Ask::AddAddress {
            account,
            address: locked(&world.people).fresh_address(),
        },
        Errand::RemoveAddress => Ask::RemoveAddress {
            account,
            address: address.clone(),
        },
        Errand::Cancel => Ask::Cancel { account },
        Errand::SignOutEverywhere => Ask::SignOutEverywhere { account },
        Errand::SignUp | Errand::Stranger | Errand::MoveAddress => return,
    };
    let (at, told, took) = ask(world, site, &what, &[&person.latest], random).await;
    judge(world, at, &what, &told, took);
    let Some(dot) = learned(person, &told) else { return };
    match what {
        Ask::ChangePassword { .. } | Ask::ResetPassword { .. } => {
            person.password_before = Some(std::mem::replace(&mut person.password, fresh));
        }
        Ask::AddAddress { address: added, .. } => person.addresses.push(added),
        Ask::RemoveAddress { .. } => {
            person.addresses.retain(|own| *own != address);
            person.knocks = 0;
            // Either it is for somebody else, or it is knocked on to see that nobody opens: not both.
            if random.random_bool(0.5) {
                person.address_before = None;
                locked(&world.people).free(address, dot);
            } else {
                person.address_before = Some(address);
            }
        }
        Ask::Cancel { .. } => {
            person.cancelled = true;
            person.knocks = 0;
            // As above: for somebody else, or to be knocked on.
            if random.random_bool(0.5) {
                person.knocks = KNOCKS_MAX;
                let mut people = locked(&world.people);
                for address in &person.addresses {
                    people.free(address.clone(), dot.clone());
                }
            }
        }
        _ => {}
    }
}

/// What a person knows after a write: its dot, or that they cannot know.
fn learned(person: &mut Person, told: &Result<Told, CallError>) -> Option<Dot> {
    match told {
        Ok(Told {
            written: Some(Written { dot: Some(dot), .. }),
            ..
        }) => {
            person.latest = dot.clone();
            Some(dot.clone())
        }
        // Nothing was done.
        Err(CallError::NotTaken(_) | CallError::Refused { .. }) => None,
        _ => {
            person.unsure = true;
            None
        }
    }
}

async fn move_address(world: &World, site: usize, random: &mut StdRng) {
    let (mut taker, mut giver) = {
        let mut people = locked(&world.people);
        let here = |person: &Person| !person.cancelled && world.monitor.sees(site, &person.latest);
        let gives = |person: &Person| here(person) && person.addresses.len() > 1;
        let Some(giver) = people.lease(random, gives) else {
            return;
        };
        let takes = |person: &Person| here(person) && person.addresses.len() < ADDRESSES_MAX;
        let Some(taker) = people.lease(random, takes) else {
            return people.give_back(giver);
        };
        (taker, giver)
    };
    if let Some(address) = giver.person.addresses.pop() {
        let what = Ask::AddAddress {
            account: taker.person.account.clone(),
            address: address.clone(),
        };
        let seen = [&taker.person.latest, &giver.person.latest].map(Clone::clone);
        let (at, told, took) = ask(world, site, &what, &[&seen[0], &seen[1]], random).await;
        judge(world, at, &what, &told, took);
        let given = learned(&mut giver.person, &told);
        match learned(&mut taker.person, &told).and(given) {
            Some(_) => taker.person.addresses.push(address),
            None => giver.person.addresses.push(address),
        }
    }
    let mut people = locked(&world.people);
    people.give_back(taker);
    people.give_back(giver);
}

/// Signs up a first crowd at all sites, outside of any count. Returns how many could not.
pub(crate) async fn populate(world: &Arc<World>, per_site: usize) -> Vec<String> {
    let crowds = (0..world.sites.len()).map(|site| {
        let world = Arc::clone(world);
        async move {
            let mut random = world.random(500 + site as u64);
            let mut failures = Vec::new();
            for _ in 0..per_site {
                let address = locked(&world.people).fresh_address();
                let password = password(&mut random);
                let what = Ask::SignUp {
                    address: address.clone(),
                    password: password.clone(),
                };
                let told = ask_at(&world, site, &what).await;
                match newcomer(&told, address, password) {
                    Some(person) => locked(&world.people).add(person),
                    None => failures.push(format!("sign-up at {}: {told:?}", world.name(site))),
                }
            }
            failures
        }
    });
    futures_util::future::join_all(crowds)
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// More than this unanswered at once is no trickle any more.
const IN_FLIGHT_MAX: u32 = 512;

const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// Ten failed tries lock an address or account.
const KNOCKS_MAX: u32 = 3;
const ADDRESSES_MAX: usize = 4;
/// How often somebody signs up with an address that another gave up.
const FREED_SHARE: f64 = 0.3;
/// A world that runs for days does not grow for ever.
const PEOPLE_MAX: usize = 20_000;
