//! Takes mails from the outbox to the transport: drives the schedule with clock, chance, disk and network.
//!
//! A mail is erased before its place on a connection is free again. So a disk that cannot forget stops the sending,
//! and no restart sends again more than was under way.

use std::{
    collections::HashMap,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::{counter, gauge};
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinError, JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    outbox::{Damage, Found, MailId, Outbox},
    schedule::{Outcome, Pace, Schedule, Step},
    smtp::Sent,
    transport::Transport,
};

/// How often idle connections are looked at, and the age of the oldest mail is told.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often what was set aside is looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Before a file that could not be erased is tried again.
const ERASE_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Delivery {
    ground: Arc<Ground>,
    pace: Pace,
    schedule: Schedule,
    begun: Instant,
    /// Holds no more than the outbox does: each is a file there.
    posted: mpsc::UnboundedReceiver<MailId>,
    /// Set by a drain: until when what is under way may end.
    draining: watch::Receiver<Option<Instant>>,
    tries: JoinSet<Outcome>,
    tried: HashMap<task::Id, MailId>,
    chores: JoinSet<()>,
}

/// What a try needs.
pub(super) struct Ground {
    pub outbox: Arc<Outbox>,
    pub transport: Transport,
}

impl Delivery {
    pub(super) fn new(
        ground: Arc<Ground>,
        pace: Pace,
        found: &[Found],
        posted: mpsc::UnboundedReceiver<MailId>,
        draining: watch::Receiver<Option<Instant>>,
    ) -> Delivery {
        let mut schedule = Schedule::new(pace);
        let wall = SystemTime::now();
        for found in found {
            // A clock that went back makes none older.
            let age = wall.duration_since(found.posted).unwrap_or_default();
            schedule.add(Duration::ZERO, found.id, age);
        }
        Delivery {
            ground,
            pace,
            schedule,
            begun: Instant::now(),
            posted,
            draining,
            tries: JoinSet::new(),
            tried: HashMap::new(),
            chores: JoinSet::new(),
        }
    }

    /// Sends until it is told to drain and nothing is under way.
    pub(super) async fn run(mut self) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweeps = interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let draining = *self.draining.borrow();
            let over = draining.is_some_and(|limit| Instant::now() >= limit);
            if over || (draining.is_some() && self.tries.is_empty() && self.chores.is_empty()) {
                break;
            }
            let deadline = match draining {
                Some(limit) => Some(limit),
                None => self.act().map(|deadline| self.begun + deadline),
            };
            self.show();
            tokio::select! {
                Some(id) = self.posted.recv() => self.schedule.add(self.begun.elapsed(), id, Duration::ZERO),
                Some(done) = self.tries.join_next_with_id(), if !self.tries.is_empty() => self.learn(done),
                Some(_) = self.chores.join_next(), if !self.chores.is_empty() => {}
                () = until(deadline) => {}
                _ = looks.tick() => self.chore(|ground| async move { ground.transport.rest(false).await }),
                _ = sweeps.tick() => {
                    let age_max = self.pace.age_max;
                    self.chore(move |ground| async move { ground.sweep(age_max).await });
                }
                Ok(()) = self.draining.changed() => {}
            }
        }
        if !self.tries.is_empty() {
            let mails = self.tries.len();
            tracing::warn!(
                mails,
                "mails under way did not end in time; they are tried again after the next start"
            );
        }
        self.tries.shutdown().await;
        self.chores.shutdown().await;
        self.ground.transport.rest(true).await;
    }

    /// Begins what is due, and tells when something is next.
    fn act(&mut self) -> Option<Duration> {
        let now = self.begun.elapsed();
        while let Some(step) = self.schedule.poll(now) {
            match step {
                Step::Send(id) => {
                    let ground = self.ground.clone();
                    let task = self.tries.spawn(async move { ground.attempt(id).await });
                    self.tried.insert(task.id(), id);
                }
                Step::GiveUp(id) => {
                    counter!("persona_mail_given_up_total").increment(1);
                    tracing::warn!(mail = %id, "no server took a mail in time; it is given up");
                    self.chore(move |ground| async move { ground.erase(id).await });
                }
            }
        }
        self.schedule.deadline()
    }

    fn learn(&mut self, done: Result<(task::Id, Outcome), JoinError>) {
        let (task, outcome) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "sending a mail failed in an unforeseen way");
                (error.id(), Outcome::Silence)
            }
        };
        if let Some(id) = self.tried.remove(&task) {
            self.schedule
                .tried(self.begun.elapsed(), id, outcome, rand::random());
        }
    }

    fn chore<F: Future<Output = ()> + Send + 'static>(&mut self, chore: impl FnOnce(Arc<Ground>) -> F) {
        self.chores.spawn(chore(self.ground.clone()));
    }

    fn show(&self) {
        gauge!("persona_mail_waiting").set(self.schedule.waiting() as f64);
        gauge!("persona_mail_under_way").set(self.schedule.under_way() as f64);
        let oldest = self.schedule.oldest(self.begun.elapsed()).unwrap_or_default();
        gauge!("persona_mail_oldest_seconds").set(oldest.as_secs_f64());
    }
}

impl Ground {
    /// Tries a mail once. Where it is no longer ours, its file is gone when this returns.
    async fn attempt(self: &Arc<Ground>, id: MailId) -> Outcome {
        let entry = match self.block(move |outbox| outbox.read(id)).await {
            Some(Ok(entry)) => entry,
            Some(Err(damage)) => return self.set_aside(id, damage).await,
            None => return Outcome::Silence,
        };
        match self.transport.send(id, &entry).await {
            Sent::Accepted => {
                counter!("persona_mail_accepted_total").increment(1);
                tracing::debug!(mail = %id, "a mail was accepted");
                self.erase(id).await;
                Outcome::Done
            }
            Sent::Refused(status) => {
                counter!("persona_mail_refused_total").increment(1);
                tracing::warn!(mail = %id, status, "the server refused a mail for good");
                self.erase(id).await;
                Outcome::Done
            }
            Sent::Later(status) => {
                counter!("persona_mail_retried_total").increment(1);
                tracing::info!(mail = %id, status, "the server wants a mail later");
                Outcome::Later
            }
            Sent::Silence(reason) => {
                counter!("persona_mail_retried_total").increment(1);
                counter!("persona_mail_silences_total").increment(1);
                tracing::warn!(mail = %id, reason, "the mail server could not be used; trying again");
                Outcome::Silence
            }
        }
    }

    /// Returns once the file is gone: what was accepted must not be sent again after a restart.
    async fn erase(&self, id: MailId) {
        while let Some(Err(error)) = self.block(move |outbox| outbox.erase(id)).await {
            tracing::error!(mail = %id, %error, "a mail cannot be erased; trying again");
            sleep(ERASE_AGAIN).await;
        }
    }

    async fn set_aside(&self, id: MailId, damage: Damage) -> Outcome {
        counter!("persona_mail_damaged_total").increment(1);
        tracing::error!(mail = %id, %damage, "a mail on disk is damaged and set aside");
        if let Some(Err(error)) = self.block(move |outbox| outbox.set_aside(id)).await {
            tracing::error!(mail = %id, %error, "a damaged mail cannot be set aside");
        }
        Outcome::Done
    }

    async fn sweep(&self, age_max: Duration) {
        match self
            .block(move |outbox| outbox.sweep(SystemTime::now(), age_max))
            .await
        {
            Some(Ok(files)) if files > 0 => tracing::info!(files, "what was set aside is erased"),
            Some(Err(error)) => tracing::warn!(%error, "what was set aside cannot be erased"),
            _ => {}
        }
    }

    /// Runs what blocks on the disk on a thread for that; `None` when the runtime ends.
    async fn block<T: Send + 'static>(&self, work: impl FnOnce(&Outbox) -> T + Send + 'static) -> Option<T> {
        let outbox = self.outbox.clone();
        spawn_blocking(move || work(&outbox)).await.ok()
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
