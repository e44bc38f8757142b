//! Laboratory: mails received, for who has no mail server: in memory, or in a directory of `.eml` files, which the
//! sites of one machine may share. `page.rs` shows them, to people and to programs.

mod page;

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use mail_parser::MessageParser;
use serde::Serialize;

pub use self::page::{Mails, router};
pub(crate) use self::page::{PAGE, ROUTES, TOLD};

use super::{
    message::{CODE_CHARS, TOKEN_CHARS, is_alphanumeric},
    outbox::{Entry, MailId},
};
use crate::identity::Address;

/// Mails kept in memory at most; then the oldest go.
const KEPT_MAX: usize = 1000;

/// A mail as its reader sees it. A laboratory's only: it shows addresses and secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    /// The left side of its `Message-ID`.
    pub id: String,
    /// The recipient, the domain in ASCII.
    pub to: String,
    /// When it was posted, in seconds since 1970.
    #[serde(skip)]
    pub date: i64,
    /// When it came here, in milliseconds since 1970; of one that was only read, when it was posted.
    pub at_ms: u64,
    /// The subject.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// Our link.
    pub link: Option<String>,
    /// What the link carries, if it proves something.
    pub token: Option<String>,
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

    /// At most so many of those wanted, the newest first.
    fn newest(&self, is_wanted: impl Fn(&Received) -> bool, mails_max: usize) -> Vec<Received> {
        let mails = self.mails();
        let wanted = mails.iter().filter(|mail| is_wanted(mail));
        wanted.take(mails_max).cloned().collect()
    }

    /// The newest to this address.
    pub fn latest_to(&self, address: &Address) -> Option<Received> {
        let to = address.mailbox();
        self.mails().iter().find(|mail| mail.to == to).cloned()
    }

    pub(super) fn receive(&self, id: MailId, entry: &Entry) {
        let Some(mut received) = Received::parse(&entry.message) else {
            tracing::error!(mail = %id, "a mail of ours cannot be parsed");
            return;
        };
        received.at_ms = since_1970_ms(SystemTime::now());
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
        let token = link
            .and_then(|link| link.split_once("?token="))
            .map(|(_, token)| token)
            .filter(|token| is_alphanumeric(token, TOKEN_CHARS));
        let date = parsed.date()?.to_timestamp();
        Some(Received {
            id: parsed.message_id()?.split('@').next()?.to_owned(),
            date,
            at_ms: u64::try_from(date).unwrap_or_default().saturating_mul(1000),
            to: parsed.to()?.first()?.address()?.to_owned(),
            subject: parsed.subject()?.to_owned(),
            link: link.map(str::to_owned),
            token: token.map(str::to_owned),
            code: code.map(str::to_owned),
            html: parsed.body_html(0)?.into_owned(),
            text,
        })
    }
}

/// The mails in a directory of `.eml` files, the newest first.
pub fn read_directory(path: &Path) -> io::Result<Vec<Received>> {
    let mut mails = read_newest(path, 0, usize::MAX)?;
    mails.sort_by(|one, other| (other.date, &other.id).cmp(&(one.date, &one.id)));
    Ok(mails)
}

/// At most so many of them that came at or after this time, the last to come first. The others are not even opened.
fn read_newest(path: &Path, after_ms: u64, mails_max: usize) -> io::Result<Vec<Received>> {
    let mut files = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?;
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            let at_ms = since_1970_ms(file.metadata()?.modified()?);
            if at_ms >= after_ms {
                files.push((at_ms, path));
            }
        }
    }
    files.sort_by(|one, other| other.cmp(one));
    files.truncate(mails_max);
    let mut mails = Vec::new();
    for (at_ms, path) in files {
        if let Some(mail) = Received::parse(&fs::read(path)?) {
            mails.push(Received { at_ms, ..mail });
        }
    }
    Ok(mails)
}

fn since_1970_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A reader finds it whole or not at all.
pub(super) async fn write_file(directory: &Path, id: MailId, entry: &Entry) -> io::Result<()> {
    let unfinished = directory.join(format!("{id}.unfinished"));
    tokio::fs::create_dir_all(directory).await?;
    tokio::fs::write(&unfinished, &entry.message).await?;
    tokio::fs::rename(&unfinished, directory.join(format!("{id}.eml"))).await
}
