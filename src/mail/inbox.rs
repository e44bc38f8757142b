//! Laboratory: mails received, for who has no mail server: in memory, or in a directory of `.eml` files, which the
//! sites of one machine may share.

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mail_parser::MessageParser;

use super::{
    message::{CODE_CHARS, is_alphanumeric},
    outbox::{Entry, MailId},
};
use crate::identity::Address;

/// Mails kept in memory at most; then the oldest go.
const KEPT_MAX: usize = 1000;

/// A mail as its reader sees it. A laboratory's only: it shows addresses and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The left side of its `Message-ID`.
    pub id: String,
    /// When it was posted, in seconds since 1970.
    pub date: i64,
    /// The recipient, the domain in ASCII.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// Our link.
    pub link: Option<String>,
    /// The code that may be typed in its place.
    pub code: Option<String>,
}

/// Mails in memory, bounded.
#[derive(Default)]
pub struct Inbox {
    mails: Mutex<VecDeque<Received>>,
}

impl Inbox {
    /// All that are kept, the newest first.
    pub fn list(&self) -> Vec<Received> {
        self.mails().iter().cloned().collect()
    }

    /// The newest to this address.
    pub fn latest_to(&self, address: &Address) -> Option<Received> {
        let to = address.mailbox();
        self.mails().iter().find(|mail| mail.to == to).cloned()
    }

    pub(super) fn receive(&self, id: MailId, entry: &Entry) {
        let Some(received) = Received::parse(&entry.message) else {
            tracing::error!(mail = %id, "a mail of ours cannot be parsed");
            return;
        };
        let mut mails = self.mails();
        // As a mail server's users would: one that comes twice is seen once.
        if mails.iter().all(|mail| mail.id != received.id) {
            mails.push_front(received);
            mails.truncate(KEPT_MAX);
        }
    }

    fn mails(&self) -> MutexGuard<'_, VecDeque<Received>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} mails)", self.mails().len())
    }
}

impl Received {
    /// Reads a mail of ours; none if it is not one.
    pub fn parse(message: &[u8]) -> Option<Received> {
        let parsed = MessageParser::default().parse(message)?;
        let text = parsed.body_text(0)?.into_owned();
        // Our link begins its line, a web site's origin does not.
        let link = text
            .lines()
            .find(|line| line.starts_with("https://") || line.starts_with("http://"));
        let code = text
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .find(|line| is_alphanumeric(line, CODE_CHARS));
        Some(Received {
            id: parsed.message_id()?.split('@').next()?.to_owned(),
            date: parsed.date()?.to_timestamp(),
            to: parsed.to()?.first()?.address()?.to_owned(),
            subject: parsed.subject()?.to_owned(),
            link: link.map(str::to_owned),
            code: code.map(str::to_owned),
            html: parsed.body_html(0)?.into_owned(),
            text,
        })
    }
}

/// The mails in a directory of `.eml` files, the newest first.
pub fn read_directory(path: &Path) -> io::Result<Vec<Received>> {
    let mut mails = Vec::new();
    for file in fs::read_dir(path)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            mails.extend(Received::parse(&fs::read(path)?));
        }
    }
    mails.sort_by(|one, other| (other.date, &other.id).cmp(&(one.date, &one.id)));
    Ok(mails)
}

/// A reader finds it whole or not at all.
pub(super) async fn write_file(directory: &Path, id: MailId, entry: &Entry) -> io::Result<()> {
    let unfinished = directory.join(format!("{id}.unfinished"));
    tokio::fs::create_dir_all(directory).await?;
    tokio::fs::write(&unfinished, &entry.message).await?;
    tokio::fs::rename(&unfinished, directory.join(format!("{id}.eml"))).await
}
