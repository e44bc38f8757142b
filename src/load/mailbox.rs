//! Reads the laboratory's inbox for everybody: one question for what is new, however many wait.
//!
//! It asks only while somebody waits, so that a measurement holds little of what no site of the world would be asked.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, timeout},
};

use super::connections::{Connections, NoAnswer};

/// Between two questions.
const PERIOD: Duration = Duration::from_millis(40);
/// How long somebody waits for a mail.
pub(crate) const MAIL_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of what was already seen is asked for again: files appear a little later than their time.
const OVERLAP_MS: u64 = 50;

/// Where a laboratory's site tells what mail there is.
#[cfg(feature = "lab")]
const INBOX: Option<&str> = Some(crate::mail::inbox::TOLD);
#[cfg(not(feature = "lab"))]
const INBOX: Option<&str> = None;

/// Mail of everybody.
pub(crate) struct Mailbox {
    /// A site each, or one for all where they share a directory.
    sources: Vec<Connections>,
    waiting: Mutex<HashMap<String, oneshot::Sender<String>>>,
}

/// A mail that is to come.
pub(crate) struct Awaited {
    mailbox: Arc<Mailbox>,
    address: String,
    token: oneshot::Receiver<String>,
}

/// As the inbox has it; the rest is for people.
#[derive(Deserialize)]
struct Mail {
    id: String,
    to: String,
    at_ms: u64,
    token: Option<String>,
}

/// Why no mail can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailboxError {
    #[error("this program is built without the laboratory, and reads no mail")]
    NoLaboratory,
    #[error("{0}")]
    NoAnswer(#[from] NoAnswer),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer makes no sense")]
    Nonsense,
}

impl Mailbox {
    /// A mailbox of these inboxes, if all of them answer.
    pub(crate) async fn open(sources: Vec<Connections>) -> Result<Arc<Mailbox>, (String, MailboxError)> {
        for source in &sources {
            let newest = look(source, u64::MAX).await;
            newest.map_err(|error| (source.target().name.clone(), error))?;
        }
        Ok(Arc::new(Mailbox {
            sources,
            waiting: Mutex::default(),
        }))
    }

    /// Begins to read. Ends with the runtime.
    pub(crate) fn start(self: &Arc<Mailbox>) {
        for source in 0..self.sources.len() {
            tokio::spawn(self.clone().read(source));
        }
    }

    /// To be called before what has the mail sent: it may be faster than its answer.
    pub(crate) fn expect(self: &Arc<Mailbox>, address: &str) -> Awaited {
        let (sender, token) = oneshot::channel();
        self.waiting().insert(address.to_owned(), sender);
        Awaited {
            mailbox: self.clone(),
            address: address.to_owned(),
            token,
        }
    }

    async fn read(self: Arc<Mailbox>, source: usize) {
        let Some(source) = self.sources.get(source) else {
            return;
        };
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut latest_ms, mut seen) = (0_u64, HashSet::new());
        loop {
            ticks.tick().await;
            if self.waiting().is_empty() {
                continue;
            }
            // Who waits in vain says so.
            let Ok(mails) = look(source, latest_ms.saturating_sub(OVERLAP_MS)).await else {
                continue;
            };
            for mail in &mails {
                latest_ms = latest_ms.max(mail.at_ms);
                if let Some(token) = &mail.token
                    && !seen.contains(&mail.id)
                    && let Some(waiting) = self.waiting().remove(&mail.to)
                {
                    let _ = waiting.send(token.clone());
                }
            }
            seen = mails.into_iter().map(|mail| mail.id).collect();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<String>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// The token of the mail's link, when it has come.
    pub(crate) async fn token(mut self) -> Option<String> {
        timeout(MAIL_TIMEOUT, &mut self.token).await.ok()?.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.mailbox.waiting().remove(&self.address);
    }
}

async fn look(source: &Connections, after_ms: u64) -> Result<Vec<Mail>, MailboxError> {
    let inbox = INBOX.ok_or(MailboxError::NoLaboratory)?;
    let request = Request::get(format!("{inbox}?after_ms={after_ms}"));
    let request = request
        .body(Full::default())
        .map_err(|_| MailboxError::Nonsense)?;
    let reply = source.ask(request).await?;
    if reply.status != StatusCode::OK {
        return Err(MailboxError::Status(reply.status));
    }
    serde_json::from_slice(&reply.body).map_err(|_| MailboxError::Nonsense)
}
