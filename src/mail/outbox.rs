//! Mails on this site's disk, from the answer to whoever asked for them until a server accepted them.
//!
//! They are no replicated data: another site that had them would send them too. So they have a directory of their own,
//! mode 0700, one file a mail, which one process has at a time.
//!
//! Promises: a mail that [`Outbox::keep`] returned for is found again after any crash, whole; what was being written
//! when a crash came is found as nothing. A file that is no mail, or no longer, is set aside and holds up no other. An
//! erased mail is unlinked and its directory synced: no file holds its address or token any more. Freed blocks are the
//! disk's own, as they are of the store's deleted tables; overwriting first would promise more than a disk that moves
//! its blocks keeps. Whoever must deny them to a thief encrypts the disk.

mod entry;

use std::{
    collections::HashMap,
    fmt,
    fs::{self, DirBuilder, DirEntry, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use zeroize::Zeroizing;

use self::entry::FILE_BYTES_MAX;
pub(super) use self::entry::{Damage, Entry};
use super::kept_back::Matter;
use crate::{
    config::hex,
    directory_lock::{self, DirectoryLock, DirectoryLockError},
};

/// Names a mail in logs, in its file's name and in its `Message-ID`. It is random and tells nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId([u8; ID_BYTES]);

const ID_BYTES: usize = 16;

impl MailId {
    pub(super) fn random() -> MailId {
        MailId(rand::random())
    }

    #[cfg(test)]
    pub(super) fn of(number: u8) -> MailId {
        MailId([number; ID_BYTES])
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MailId({self})")
    }
}

impl FromStr for MailId {
    type Err = ();

    fn from_str(text: &str) -> Result<MailId, ()> {
        let number = u128::from_str_radix(text, 16).map_err(|_| ())?;
        let id = MailId(number.to_be_bytes());
        // Only what we write: no sign, no capitals, all digits.
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

/// How much an outbox takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Mails that wait at most.
    pub mails_max: usize,
    /// Bytes of their files at most.
    pub bytes_max: u64,
}

impl Default for Room {
    /// An hour of a server's silence at a few mails a second.
    fn default() -> Room {
        Room {
            mails_max: 20_000,
            bytes_max: 512 << 20,
        }
    }
}

/// Why the directory of an outbox cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// Another process sends what is in it.
    #[error("{}: process {holder} sends the mails in it; stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a mail was not taken. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    /// As many wait as may.
    #[error("as many mails wait as may")]
    Full,
    /// A mail of this size is never taken.
    #[error("the mail is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// The disk said no: perhaps it is full.
    #[error("the mail could not be written to disk")]
    Disk(#[from] io::Error),
}

/// What waited when the outbox was opened.
#[derive(Default)]
pub(super) struct AllFound {
    pub mails: Vec<Found>,
    /// Those that wait for a word.
    pub kept_back: Vec<(Found, Matter)>,
}

/// A mail that waited when the outbox was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub id: MailId,
    pub posted: SystemTime,
}

/// The directory, locked for this process while this lives. Its methods block on the disk.
pub(super) struct Outbox {
    path: PathBuf,
    room: Room,
    held: Mutex<Held>,
    count: watch::Sender<usize>,
    _lock: DirectoryLock,
}

/// What is in the directory, or on its way into it.
#[derive(Default)]
struct Held {
    mails: HashMap<MailId, u64>,
    bytes: u64,
}

impl Outbox {
    /// Makes the directory if there is none, locks it, sets aside what is no mail, and tells what waits.
    pub(super) fn open(path: &Path, room: Room) -> Result<(Outbox, AllFound), OutboxError> {
        let failed = |at: &Path| {
            let path = at.to_path_buf();
            move |source| OutboxError::Io { path, source }
        };
        let refused = |error| match error {
            DirectoryLockError::Held(holder) => OutboxError::InUse {
                path: path.to_path_buf(),
                holder,
            },
            DirectoryLockError::Io(path, source) => OutboxError::Io { path, source },
        };
        let mut lock = DirectoryLock::take(path).map_err(refused)?;
        lock.sign().map_err(refused)?;
        let aside = path.join(ASIDE);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&aside)
            .map_err(failed(&aside))?;
        let outbox = Outbox {
            path: path.to_path_buf(),
            room,
            held: Mutex::default(),
            count: watch::Sender::new(0),
            _lock: lock,
        };
        let found = outbox.look_through().map_err(failed(path))?;
        Ok((outbox, found))
    }

    /// Writes a mail; when this returns it survives any crash. Whatever else happens, nothing of it is left.
    pub(super) fn keep(&self, id: MailId, entry: &Entry) -> Result<(), KeepError> {
        self.keep_as(id, &file_name(id), entry)
    }

    /// The same of a mail that waits for a word. What it waits for is in its file's name; so its bytes are those of any mail, and
    /// an earlier version, which sends none that it does not know, sets it aside.
    pub(super) fn keep_back(&self, id: MailId, matter: Matter, entry: &Entry) -> Result<(), KeepError> {
        self.keep_as(id, &kept_back_name(id, matter), entry)
    }

    /// The word came: from now on it is a mail like any other.
    pub(super) fn release(&self, id: MailId, matter: Matter) -> io::Result<()> {
        fs::rename(self.path.join(kept_back_name(id, matter)), self.mail(id))?;
        sync_directory(&self.path)
    }

    /// The word will not come: it is forgotten.
    pub(super) fn withdraw(&self, id: MailId, matter: Matter) -> io::Result<()> {
        self.erase_file(id, &self.path.join(kept_back_name(id, matter)))
    }

    fn keep_as(&self, id: MailId, name: &str, entry: &Entry) -> Result<(), KeepError> {
        let bytes = entry.encode().ok_or(KeepError::TooLarge)?;
        let size = bytes.len() as u64;
        {
            let mut held = self.held();
            if held.mails.len() >= self.room.mails_max
                || held.bytes.saturating_add(size) > self.room.bytes_max
            {
                return Err(KeepError::Full);
            }
            held.add(id, size);
            self.count.send_replace(held.mails.len());
        }
        self.write(id, name, &bytes).map_err(|error| {
            self.let_go(id);
            KeepError::Disk(error)
        })
    }

    /// The mail, if it is still as it was written.
    pub(super) fn read(&self, id: MailId) -> Result<Entry, Damage> {
        Entry::decode(&read_whole(&self.mail(id))?)
    }

    /// Forgets a mail. An error leaves it where it is, and its place taken.
    pub(super) fn erase(&self, id: MailId) -> io::Result<()> {
        self.erase_file(id, &self.mail(id))
    }

    fn erase_file(&self, id: MailId, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => sync_directory(&self.path)?,
        }
        self.let_go(id);
        Ok(())
    }

    /// Takes a damaged mail out of the way. It may be looked into there until [`Outbox::sweep`] erases it.
    pub(super) fn set_aside(&self, id: MailId) -> io::Result<()> {
        let name = file_name(id);
        fs::rename(self.path.join(&name), self.path.join(ASIDE).join(&name))?;
        sync_directory(&self.path)?;
        self.let_go(id);
        Ok(())
    }

    /// Erases what was set aside, or left by a later version, once it is as old as a mail may get: addresses and
    /// tokens may be in it. Tells how many files.
    pub(super) fn sweep(&self, now: SystemTime, age_max: Duration) -> io::Result<usize> {
        let held: Vec<MailId> = self.held().mails.keys().copied().collect();
        let mut swept = 0;
        for directory in [&self.path, &self.path.join(ASIDE)] {
            for file in fs::read_dir(directory)? {
                let file = file?;
                let id = id_of(&file).or_else(|| kept_back_of(&file).map(|(id, _)| id));
                let ours = id.is_some_and(|id| directory == &self.path && held.contains(&id));
                let kind = file.file_type()?;
                if ours || kind.is_dir() || file.file_name() == directory_lock::NAME {
                    continue;
                }
                let age = now
                    .duration_since(file.metadata()?.modified()?)
                    .unwrap_or_default();
                if age > age_max {
                    fs::remove_file(file.path())?;
                    swept += 1;
                }
            }
            sync_directory(directory)?;
        }
        Ok(swept)
    }

    /// How many mails are in it, now and whenever that changes.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    fn look_through(&self) -> io::Result<AllFound> {
        let mut all = AllFound::default();
        for file in fs::read_dir(&self.path)? {
            let file = file?;
            let name = file.file_name();
            if name == directory_lock::NAME || name == ASIDE {
                continue;
            }
            if name.to_string_lossy().ends_with(UNFINISHED) {
                // Nobody was answered yet.
                fs::remove_file(file.path())?;
                continue;
            }
            let kept_back = kept_back_of(&file);
            let read = match id_of(&file).or(kept_back.map(|(id, _)| id)) {
                Some(id) => read_whole(&file.path()).and_then(|bytes| {
                    let entry = Entry::decode(&bytes)?;
                    Ok((id, entry.posted, bytes.len() as u64))
                }),
                None => Err(Damage::Foreign),
            };
            match read {
                Ok((id, posted, size)) => {
                    self.held().add(id, size);
                    let found = Found { id, posted };
                    match kept_back {
                        Some((_, matter)) => all.kept_back.push((found, matter)),
                        None => all.mails.push(found),
                    }
                }
                Err(Damage::Newer) => {
                    tracing::warn!(file = ?name, "a mail of a later version of Persona waits; start that version");
                }
                Err(damage) => {
                    metrics::counter!("persona_mail_damaged_total").increment(1);
                    tracing::error!(file = ?name, %damage, "a file in the outbox is set aside");
                    fs::rename(file.path(), self.path.join(ASIDE).join(&name))?;
                }
            }
        }
        sync_directory(&self.path)?;
        self.count.send_replace(self.held().mails.len());
        Ok(all)
    }

    fn write(&self, id: MailId, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let unfinished = self.path.join(format!("{id}{UNFINISHED}"));
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&unfinished, &path))
            .and_then(|()| sync_directory(&self.path));
        if written.is_err() {
            // Whoever asked is told that it was not taken, so it must not go out later.
            let _ = fs::remove_file(&unfinished);
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn let_go(&self, id: MailId) {
        let mut held = self.held();
        held.remove(id);
        self.count.send_replace(held.mails.len());
    }

    fn mail(&self, id: MailId) -> PathBuf {
        self.path.join(file_name(id))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Numbers only: a panic elsewhere left nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn add(&mut self, id: MailId, size: u64) {
        self.mails.insert(id, size);
        self.bytes = self.bytes.saturating_add(size);
    }

    fn remove(&mut self, id: MailId) {
        if let Some(size) = self.mails.remove(&id) {
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}

const ASIDE: &str = "aside";
const FINISHED: &str = ".mail";
const UNFINISHED: &str = ".unfinished";
const KEPT_BACK: &str = ".kept-back";

fn file_name(id: MailId) -> String {
    format!("{id}{FINISHED}")
}

fn kept_back_name(id: MailId, Matter(matter): Matter) -> String {
    format!("{id}.{}{KEPT_BACK}", hex(&matter))
}

fn kept_back_of(file: &DirEntry) -> Option<(MailId, Matter)> {
    let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
    let name = file.file_name();
    let (id, digits) = name.to_str()?.strip_suffix(KEPT_BACK)?.split_once('.')?;
    let mut matter = [0; 32];
    for (place, byte) in matter.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    // Only what we write.
    (is_file && hex(&matter) == digits).then_some((id.parse().ok()?, Matter(matter)))
}

fn id_of(file: &DirEntry) -> Option<MailId> {
    let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
    let name = file.file_name();
    let id = name.to_str()?.strip_suffix(FINISHED)?.parse().ok()?;
    is_file.then_some(id)
}

fn read_whole(path: &Path) -> Result<Zeroizing<Vec<u8>>, Damage> {
    let unreadable = |error: io::Error| Damage::Unreadable(error.kind());
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    file.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
