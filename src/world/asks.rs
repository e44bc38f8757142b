//! One request of one person: sent, sent again elsewhere when a site does not take it, and judged.
//!
//! A load balancer sends a request that was certainly not taken to another site, and so does this. What counts
//! is what the user sees in the end; the detours are counted apart.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::time::Instant;

use super::client::{CallError, Client, Dot, SignedUp, Written};
use super::{World, locked, wall_us};

/// One request, as data, so that it can be sent again elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    SignUp {
        address: String,
        password: String,
    },
    SignIn {
        address: String,
        password: String,
    },
    ChangePassword {
        account: String,
        old: String,
        new: String,
    },
    ResetPassword {
        address: String,
        password: String,
    },
    AddAddress {
        account: String,
        address: String,
    },
    RemoveAddress {
        account: String,
        address: String,
    },
    Cancel {
        account: String,
    },
    SignOutEverywhere {
        account: String,
    },
}

/// What came back: the account when the answer names one, and the write when there was one.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) account: Option<String>,
    pub(crate) written: Option<Written>,
}

impl Ask {
    /// What it is called in reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Ask::SignUp { .. } => "sign-up",
            Ask::SignIn { .. } => "sign-in",
            Ask::ChangePassword { .. } => "password change",
            Ask::ResetPassword { .. } => "password reset",
            Ask::AddAddress { .. } => "address added",
            Ask::RemoveAddress { .. } => "address removed",
            Ask::Cancel { .. } => "cancellation",
            Ask::SignOutEverywhere { .. } => "sign-out everywhere",
        }
    }

    async fn send(&self, client: &Client) -> Result<Told, CallError> {
        let wrote = |written| Told {
            account: None,
            written: Some(written),
        };
        match self {
            Ask::SignUp { address, password } => {
                client
                    .sign_up(address, password)
                    .await
                    .map(|SignedUp { account, written }| Told {
                        account: Some(account),
                        written: Some(written),
                    })
            }
            Ask::SignIn { address, password } => {
                client.sign_in(address, password).await.map(|signed_in| Told {
                    account: Some(signed_in.account),
                    written: None,
                })
            }
            Ask::ChangePassword { account, old, new } => {
                client.change_password(account, old, new).await.map(wrote)
            }
            Ask::ResetPassword { address, password } => {
                client.reset_password(address, password).await.map(wrote)
            }
            Ask::AddAddress { account, address } => client.add_address(account, address).await.map(wrote),
            Ask::RemoveAddress { account, address } => {
                client.remove_address(account, address).await.map(wrote)
            }
            Ask::Cancel { account } => client.cancel(account).await.map(wrote),
            Ask::SignOutEverywhere { account } => client.sign_out_everywhere(account).await.map(wrote),
        }
    }
}

/// Sends one request to one site. A write that is answered for goes into the ledger.
pub(crate) async fn ask_at(world: &World, site: usize, ask: &Ask) -> Result<Told, CallError> {
    let Some(at) = world.sites.get(site) else {
        return Err(CallError::NotTaken("no such site".into()));
    };
    let asked_us = wall_us();
    let told = ask.send(&at.client).await?;
    if let Some(written) = &told.written {
        locked(&world.ledger).note(site, ask.name(), asked_us, written);
    }
    Ok(told)
}

/// Sends one request to a site, and, as long as sites do not take it, to others that know of `seen`.
/// Returns where it ended, what came back, and how long the user waited.
pub(crate) async fn ask(
    world: &World,
    site: usize,
    ask: &Ask,
    seen: &[&Dot],
    random: &mut StdRng,
) -> (usize, Result<Told, CallError>, Duration) {
    let began = Instant::now();
    let mut at = site;
    loop {
        let told = ask_at(world, at, ask).await;
        let again = match &told {
            Err(CallError::NotTaken(_)) => true,
            // Signing in twice is signing in once: a browser whose connection breaks just asks again.
            Err(CallError::Unknown(_)) => matches!(ask, Ask::SignIn { .. }),
            _ => false,
        };
        if !again || began.elapsed() > REROUTE_MAX {
            return (at, told, began.elapsed());
        }
        {
            let mut gauges = locked(&world.gauges);
            gauges.turned_away(at);
            if world.monitor.take_out(at) {
                gauges.out_of_rotation(at);
            }
        }
        let Some(next) = other_site(world, seen, began, random).await else {
            return (at, told, began.elapsed());
        };
        at = next;
    }
}

/// Another site in rotation that has these transactions; waits for one for a while.
async fn other_site(world: &World, seen: &[&Dot], began: Instant, random: &mut StdRng) -> Option<usize> {
    loop {
        let mut sites = world.monitor.rotation();
        sites.retain(|site| seen.iter().all(|dot| world.monitor.sees(*site, dot)));
        if let Some(site) = sites.choose(random) {
            return Some(*site);
        }
        if began.elapsed() > REROUTE_MAX {
            return None;
        }
        tokio::time::sleep(REROUTE_POLL).await;
    }
}

/// Notes what a user saw who asked for something rightful. True when it was done.
pub(crate) fn judge(
    world: &World,
    site: usize,
    what: &Ask,
    told: &Result<Told, CallError>,
    took: Duration,
) -> bool {
    let mut gauges = locked(&world.gauges);
    match told {
        Ok(_) => {
            if matches!(what, Ask::SignIn { .. }) {
                gauges.signed_in(site, took);
            } else {
                gauges.served(site);
            }
            true
        }
        Err(error) => {
            let words = format!("{} at {}: {error}", what.name(), world.name(site));
            gauges.failed(site, format!("{}: {}", what.name(), error.reason()), words);
            false
        }
    }
}

/// How long a user's request wanders from site to site before it is a failure.
const REROUTE_MAX: Duration = Duration::from_secs(3);
const REROUTE_POLL: Duration = Duration::from_millis(20);
