//! Mail: from "this person shall get this message" to "a server accepted it".
//!
//! It knows no HTTP of ours and no record: whom to write to, and how often one may, others decide. The parts, in the
//! order in which a mail meets them:
//!
//! | where | what |
//! | --- | --- |
//! | `message.rs` | the kinds of mail and their data, each a type that proves it harmless |
//! | `words.rs`, `words/*.ftl` | what they say, by language, for translators |
//! | `letter.rs`, `templates/` | how they look, and the headers |
//! | `outbox.rs` | mails on this site's disk until they are accepted |
//! | `kept_back.rs` | those among them that wait for a word |
//! | `schedule.rs` | which is tried when: pure |
//! | `delivery.rs` | drives the schedule |
//! | `smtp.rs` | the server, and what its answers mean |
//! | `inbox.rs`, `inbox/page.rs` | the laboratory's mail readers, and a page that shows what came (feature `lab`) |
//!
//! Promise: what [`Mailer::post`] returned for, or [`Mailer::keep_back`] if what it waits for came true, is sent although the process is killed the moment after; it is sent
//! again only if the server's answer, or the erasing after it, was lost, and then under the same `Message-ID`. After
//! acceptance, refusal or a day no file holds it.

mod delivery;
#[cfg(feature = "lab")]
pub mod inbox;
mod kept_back;
mod letter;
mod message;
mod outbox;
mod relying_party;
mod schedule;
mod smtp;
mod transport;
mod words;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};

use self::{
    delivery::{Delivery, Ground},
    kept_back::Waiting,
    letter::LetterWriter,
    outbox::{Entry, KeepError, Outbox},
    transport::Transport,
};
pub use self::{
    kept_back::{Asking, KeptBack, Matter},
    letter::{LetterError, SenderAddresses},
    message::{CODE_CHARS, Challenge, Code, Mail, Message, Notice, Purpose, SecretError, TOKEN_CHARS, Token},
    outbox::{MailId, OutboxError, Room},
    relying_party::{NoOrigin, ORIGIN_BYTES_MAX, RelyingParty},
    schedule::Pace,
    smtp::{SmtpSettings, TlsError, TlsMode},
    transport::TransportSettings,
};
use crate::public_url::PublicUrl;

/// Mails on their way to the disk at once at most: each takes a thread while the disk syncs.
const POSTING_MAX: usize = 64;

/// All that sending mail takes.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The outbox: a directory of this process alone.
    pub directory: PathBuf,
    /// Where all links lead.
    pub public_url: PublicUrl,
    /// From whom mails are.
    pub sender: SenderAddresses,
    /// Where they go.
    pub transport: TransportSettings,
    /// How many may wait.
    pub room: Room,
    /// How fast, how often and how long they are tried.
    pub pace: Pace,
}

/// Why no mail can be sent with these settings.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The server's certificates cannot.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// This build's words or templates are broken.
    #[error(transparent)]
    Letter(#[from] LetterError),
}

/// Why a mail was not taken. It will not be sent, and nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// As many wait as may. Try again later, or at another site.
    #[error("too many mails wait at this site; try again later, or at another site")]
    Full,
    /// The disk said no. Try again at another site.
    #[error("the mail could not be written to disk here; try again at another site")]
    Disk(#[from] io::Error),
    /// A defect: trying again will not help.
    #[error("the mail could not be made")]
    Unwritable(#[from] LetterError),
}

/// A mail is on disk and will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Names it in logs and in its `Message-ID`.
    pub id: MailId,
}

/// Takes mails and sends them. Dropped, it stops at once; what waits is sent after the next start.
pub struct Mailer {
    writer: LetterWriter,
    outbox: Arc<Outbox>,
    posting: Arc<Semaphore>,
    posted: mpsc::UnboundedSender<MailId>,
    kept_back: Arc<Waiting>,
    settling: Mutex<Option<JoinHandle<()>>>,
    draining: watch::Sender<Option<Instant>>,
    delivery: Mutex<Option<JoinHandle<()>>>,
}

impl Mailer {
    /// Takes up what waits in the outbox, and begins to send. Must be called inside a runtime; reads the disk.
    pub fn new(settings: MailSettings) -> Result<Mailer, StartError> {
        let writer = LetterWriter::new(settings.sender, settings.public_url)?;
        let transport = Transport::new(settings.transport)?;
        let (outbox, found) = Outbox::open(&settings.directory, settings.room)?;
        if !found.mails.is_empty() || !found.kept_back.is_empty() {
            tracing::info!(
                mails = found.mails.len(),
                kept_back = found.kept_back.len(),
                "mails waited in the outbox"
            );
        }
        let outbox = Arc::new(outbox);
        let ground = Arc::new(Ground {
            outbox: outbox.clone(),
            transport,
        });
        let (posted, received) = mpsc::unbounded_channel();
        let (draining, drains) = watch::channel(None);
        let pace = settings.pace;
        let delivery = Delivery::new(ground, pace, &found.mails, received, drains);
        let times = (pace.undecided_max, pace.age_max);
        let kept_back = Waiting::new(outbox.clone(), posted.clone(), times, &found.kept_back);
        Ok(Mailer {
            writer,
            outbox,
            posting: Arc::new(Semaphore::new(POSTING_MAX)),
            posted,
            kept_back: Arc::new(kept_back),
            settling: Mutex::default(),
            draining,
            delivery: Mutex::new(Some(tokio::spawn(delivery.run()))),
        })
    }

    /// Returns once the mail survives a crash. Whoever gave the future up cannot know whether it will be sent.
    pub async fn post(&self, mail: Mail) -> Result<Posted, MailError> {
        let posted = self.posted.clone();
        let id = self
            .keep(&mail, move |outbox, id, entry| {
                outbox.keep(id, entry)?;
                // Nobody listens after a drain; the next start finds it.
                let _ = posted.send(id);
                Ok(())
            })
            .await?;
        metrics::counter!("persona_mail_posted_total").increment(1);
        Ok(Posted { id })
    }

    /// Returns once the mail survives a crash. It goes when it is [released](Mailer::release), or when whoever is
    /// [asked](Mailer::settle_by) says that the matter came true; and nowhere else.
    pub async fn keep_back(&self, mail: Mail, matter: Matter) -> Result<KeptBack, MailError> {
        let waiting = self.kept_back.clone();
        let id = self
            .keep(&mail, move |outbox, id, entry| {
                outbox.keep_back(id, matter, entry)?;
                waiting.add(KeptBack { id, matter });
                Ok(())
            })
            .await?;
        Ok(KeptBack { id, matter })
    }

    /// What a mail was kept back for came true: it is sent. Nobody has to wait for this.
    pub fn release(&self, kept: KeptBack) {
        metrics::counter!("persona_mail_posted_total").increment(1);
        self.decide(kept.id, true);
    }

    /// It did not: the mail is forgotten.
    pub fn withdraw(&self, kept: KeptBack) {
        self.decide(kept.id, false);
    }

    /// Says whom to ask about mails that are kept back and that nobody decides: those of an earlier process, and those whose
    /// request came to no end. To be said once.
    pub fn settle_by(&self, asking: Asking) {
        let settling = tokio::spawn(self.kept_back.clone().settle(asking));
        let mut place = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = place.replace(settling) {
            before.abort();
        }
    }

    fn decide(&self, id: MailId, goes: bool) {
        let waiting = self.kept_back.clone();
        spawn_blocking(move || waiting.decide(id, goes));
    }

    async fn keep(
        &self,
        mail: &Mail,
        keep: impl FnOnce(&Outbox, MailId, &Entry) -> Result<(), KeepError> + Send + 'static,
    ) -> Result<MailId, MailError> {
        let id = MailId::random();
        let entry = self.writer.write(id, mail, SystemTime::now())?;
        let permit = self.posting.clone().try_acquire_owned();
        let permit = permit.map_err(|_| refuse(MailError::Full))?;
        let outbox = self.outbox.clone();
        let kept = spawn_blocking(move || {
            let _permit = permit;
            keep(&outbox, id, &entry)
        });
        match kept.await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(KeepError::Full)) => Err(refuse(MailError::Full)),
            Ok(Err(KeepError::Disk(error))) => Err(refuse(MailError::Disk(error))),
            Ok(Err(KeepError::TooLarge)) => Err(refuse(LetterError::TooLarge.into())),
            Err(error) => Err(refuse(MailError::Disk(io::Error::other(error)))),
        }
    }

    /// How many mails are on disk, now and whenever that changes.
    pub fn waiting(&self) -> watch::Receiver<usize> {
        self.outbox.count()
    }

    /// Begins no mail more, and finishes those under way within the limit. What is posted from now on waits on disk
    /// for the next start.
    pub async fn drain(&self, limit: Duration) {
        self.draining.send_replace(Some(Instant::now() + limit));
        let delivery = self
            .delivery
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(delivery) = delivery else { return };
        if let Err(error) = delivery.await {
            tracing::error!(%error, "sending mails ended in an unforeseen way");
        }
        match *self.outbox.count().borrow() {
            0 => {}
            mails => tracing::info!(mails, "mails wait in the outbox for the next start"),
        }
    }
}

fn refuse(error: MailError) -> MailError {
    metrics::counter!("persona_mail_not_taken_total").increment(1);
    tracing::error!(%error, "a mail was not taken");
    error
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let delivery = self.delivery.get_mut().unwrap_or_else(PoisonError::into_inner);
        let settling = self.settling.get_mut().unwrap_or_else(PoisonError::into_inner);
        for task in [delivery.take(), settling.take()].into_iter().flatten() {
            task.abort();
        }
    }
}
