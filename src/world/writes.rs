//! Writes without people: one small write after the other, evenly paced, with no password to hash.
//!
//! Each ends all sessions of one of a few accounts made for this; there is nothing to win or lose in it, so
//! what is seen is the store and the network alone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::asks::{Ask, ask_at};
use super::people::password;
use super::{World, WorldError, locked};

/// Writers under way.
pub(crate) struct Writes {
    stopped: Arc<AtomicBool>,
    /// What went wrong, the first time it did.
    complaint: Arc<OnceLock<String>>,
    failed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

/// Makes the accounts that a site's writes go to.
pub(crate) async fn accounts(world: &World, site: usize, count: usize) -> Result<Vec<String>, WorldError> {
    let mut random = world.random(900 + site as u64);
    let mut accounts = Vec::new();
    for _ in 0..count {
        let address = locked(&world.people).fresh_address();
        let ask = Ask::SignUp {
            address,
            password: password(&mut random),
        };
        let told = ask_at(world, site, &ask).await;
        match told.map(|told| told.account) {
            Ok(Some(account)) => accounts.push(account),
            Ok(None) => return Err(WorldError::Unsettled("a sign-up named no account".into())),
            Err(error) => {
                return Err(WorldError::Unsettled(format!(
                    "sign-up at {}: {error}",
                    world.name(site)
                )));
            }
        }
    }
    Ok(accounts)
}

impl Writes {
    /// Begins to write to these accounts at each site, so many times a second per site.
    pub(crate) fn start(world: &Arc<World>, sites: Vec<(usize, Vec<String>)>, per_second: f64) -> Writes {
        let stopped = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicU64::new(0));
        let complaint = Arc::new(OnceLock::new());
        let count = sites.len().max(1) as f64;
        let tasks = sites.into_iter().enumerate().map(|(place, (site, accounts))| {
            let (world, stopped) = (Arc::clone(world), Arc::clone(&stopped));
            let (failed, complaint) = (Arc::clone(&failed), Arc::clone(&complaint));
            let period = Duration::from_secs_f64(1.0 / per_second);
            let begin = tokio::time::Instant::now() + period.mul_f64(place as f64 / count);
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval_at(begin, period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                for account in accounts.iter().cycle() {
                    ticks.tick().await;
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let ask = Ask::SignOutEverywhere {
                        account: account.clone(),
                    };
                    let (world, failed, complaint) =
                        (Arc::clone(&world), Arc::clone(&failed), Arc::clone(&complaint));
                    tokio::spawn(async move {
                        if let Err(error) = ask_at(&world, site, &ask).await {
                            failed.fetch_add(1, Ordering::Relaxed);
                            let _ = complaint.set(format!("{} at {}: {error}", ask.name(), world.name(site)));
                        }
                    });
                }
            })
        });
        let tasks = tasks.collect();
        Writes {
            stopped,
            complaint,
            failed,
            tasks,
        }
    }

    /// Stops, and says how many writes failed, and how the first of them did.
    pub(crate) async fn stop(self) -> (u64, Option<String>) {
        self.stopped.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
        (self.failed.load(Ordering::Relaxed), self.complaint.get().cloned())
    }
}
