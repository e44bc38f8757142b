//! Mails that wait for a word: they are on disk before what they tell of is written, and go once it is.
//!
//! A proof's mail is kept back before the staging is written: so a process that dies between the two has the mail still, and
//! the next one asks what became of the staging. Whoever kept a mail back says what becomes of it, too; but their request may
//! end in between, because the person went away or the replica did not answer. So what nobody has decided for
//! [`undecided_max`](super::Pace::undecided_max) is asked about as well.
//!
//! Promise: a mail that was kept back goes at most once into the schedule, whoever decides; and without a word it goes
//! nowhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::outbox::{Found, MailId, Outbox};

/// What a mail waits for: a name that only whoever is asked about it understands, and that tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matter(pub [u8; 32]);

impl fmt::Debug for Matter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Matter")
    }
}

/// Says whether what a mail tells of came true; `None`: that is not known now.
pub type Asking = Arc<dyn Fn(Matter) -> BoxFuture<'static, Option<bool>> + Send + Sync>;

/// A mail that waits for a word.
#[derive(Clone, Copy, Debug)]
pub struct KeptBack {
    /// Names it in logs and in its `Message-ID`.
    pub id: MailId,
    pub(super) matter: Matter,
}

/// All of them.
pub(super) struct Waiting {
    outbox: Arc<Outbox>,
    posted: mpsc::UnboundedSender<MailId>,
    undecided_max: Duration,
    age_max: Duration,
    mails: Mutex<HashMap<MailId, Wait>>,
}

#[derive(Clone, Copy)]
struct Wait {
    matter: Matter,
    /// `None`: an earlier process kept it back.
    since: Option<Instant>,
    posted: SystemTime,
}

/// How often those that wait are looked through.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Waiting {
    pub(super) fn new(
        outbox: Arc<Outbox>,
        posted: mpsc::UnboundedSender<MailId>,
        (undecided_max, age_max): (Duration, Duration),
        found: &[(Found, Matter)],
    ) -> Waiting {
        let wait = |(found, matter): &(Found, Matter)| {
            let wait = Wait {
                matter: *matter,
                since: None,
                posted: found.posted,
            };
            (found.id, wait)
        };
        Waiting {
            outbox,
            posted,
            undecided_max,
            age_max,
            mails: Mutex::new(found.iter().map(wait).collect()),
        }
    }

    /// One more, which is on disk.
    pub(super) fn add(&self, kept: KeptBack) {
        let wait = Wait {
            matter: kept.matter,
            since: Some(Instant::now()),
            posted: SystemTime::now(),
        };
        self.mails().insert(kept.id, wait);
    }

    /// Says what becomes of one. Blocks on the disk.
    pub(super) fn decide(&self, id: MailId, goes: bool) {
        // Whoever takes it out decides.
        let Some(wait) = self.mails().remove(&id) else {
            return;
        };
        let decided = match goes {
            true => self.outbox.release(id, wait.matter),
            false => self.outbox.withdraw(id, wait.matter),
        };
        match decided {
            // Nobody listens after a drain; the next start finds it.
            Ok(()) if goes => drop(self.posted.send(id)),
            Ok(()) => {}
            Err(error) => {
                tracing::error!(mail = %id, %error, "what became of a mail could not be written down; trying again");
                self.mails().insert(id, wait);
            }
        }
    }

    /// Asks about those that nobody decides, for as long as it is polled.
    pub(super) async fn settle(self: Arc<Waiting>, asking: Asking) {
        let mut looks = interval(LOOK_EVERY.min(self.undecided_max));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            for (id, wait) in self.due() {
                let goes = match asking(wait.matter).await {
                    // What is not there may yet be written, by a replica that is still at it.
                    Some(false) if !self.is_old(&wait, self.undecided_max) => continue,
                    Some(goes) => goes,
                    None if self.is_old(&wait, self.age_max) => false,
                    None => continue,
                };
                tracing::info!(mail = %id, goes, "a mail that was kept back is decided");
                let this = self.clone();
                // It ends in an unforeseen way only with the runtime.
                let _ = spawn_blocking(move || this.decide(id, goes)).await;
            }
        }
    }

    /// Those that are asked about now.
    fn due(&self) -> Vec<(MailId, Wait)> {
        let mails = self.mails();
        let due = mails.iter().filter(|(_, wait)| {
            wait.since
                .is_none_or(|since| since.elapsed() >= self.undecided_max)
        });
        due.map(|(id, wait)| (*id, *wait)).collect()
    }

    /// A clock that went back makes none older.
    fn is_old(&self, wait: &Wait, age: Duration) -> bool {
        let old = SystemTime::now().duration_since(wait.posted);
        old.unwrap_or_default() >= age
    }

    fn mails(&self) -> MutexGuard<'_, HashMap<MailId, Wait>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
