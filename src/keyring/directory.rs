//! Private keys on disk: a PEM file each, of mode 0600, named for use and age (`session.3.pem`).
//!
//! Promise: a key that was given out here is on the disk, synced, and a file is never written over.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::HELD_MAX;
use crate::{
    browserid::{SigningKey, SigningKeyError, Usage},
    directory_lock::{DirectoryLock, DirectoryLockError},
    members::identity::{sync_directory_of, write_private},
};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// Another process has the directory.
    #[error(
        "{}: in use by process {holder}; a directory of signing keys is for one process: name another one in `[keys]`",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other's process id, as it wrote it down.
        holder: String,
    },
    /// The file system said no.
    #[error("signing keys: {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cryptographic library failed.
    #[error("no signing key could be made: {0}")]
    Make(#[from] SigningKeyError),
    /// A bound on how many there are: something makes key after key.
    #[error(
        "no further {usage} key is made: as many as there may be were made within the hour, or lie in the directory; \
         see `persona key list`"
    )]
    TooMany {
        /// Of which use.
        usage: &'static str,
    },
}

/// A private key, and its file.
pub(super) struct Held {
    pub(super) key: Arc<SigningKey>,
    path: PathBuf,
}

impl Held {
    pub(super) fn is_foreign(held: &Held) -> String {
        format!(
            "{} holds the signing key {} of another member or use; it is not used here. No private key should leave its \
             site: remove the file, and if it came from another site, see `persona key revoke`",
            held.path.display(),
            held.key.kid()
        )
    }
}

/// What was found.
pub(super) struct Found {
    /// The oldest first.
    pub(super) keys: Vec<Held>,
    /// What people should look into.
    pub(super) alarms: Vec<String>,
}

/// A directory of keys, locked for this process while this lives.
pub(super) struct Directory {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Directory {
    /// Makes it if there is none, readable by its owner only, and takes what a crash left half-written out of the way.
    pub(super) fn open(path: &Path) -> Result<Directory, KeyringError> {
        let refused = |error| match error {
            DirectoryLockError::Held(holder) => KeyringError::InUse {
                path: path.to_path_buf(),
                holder,
            },
            DirectoryLockError::Io(path, source) => KeyringError::Io { path, source },
        };
        let mut lock = DirectoryLock::take(path).map_err(refused)?;
        lock.sign().map_err(refused)?;
        Ok(Directory {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Reads the keys of a use.
    pub(super) fn read(&self, usage: Usage) -> Result<Found, KeyringError> {
        let mut found = Found {
            keys: Vec::new(),
            alarms: Vec::new(),
        };
        let mut numbers = self.numbers(usage)?;
        let surplus = numbers.len().saturating_sub(HELD_MAX);
        for number in numbers.drain(..).skip(surplus) {
            let path = self.file(usage, number);
            match read(&path, &mut found.alarms) {
                Ok(key) => found.keys.push(Held {
                    key: Arc::new(key),
                    path,
                }),
                Err(words) => found.alarms.push(format!(
                    "signing keys: {}: {words}; it is as if it were lost, and another is made",
                    path.display()
                )),
            }
        }
        Ok(found)
    }

    /// Makes a key, newer than all that are here.
    pub(super) fn make(&self, usage: Usage) -> Result<Held, KeyringError> {
        let key = SigningKey::generate(&mut rand::rng())?;
        let number = self.numbers(usage)?.last().map_or(1, |last| last + 1);
        let path = self.file(usage, number);
        // Aside and renamed: a crash, or a disk that fills up, leaves no half of it under its name.
        let aside = path.with_added_extension("new");
        let pem = key.to_pem()?;
        match fs::remove_file(&aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(KeyringError::Io { path: aside, source });
            }
            _ => {}
        }
        let written = write_private(&aside, &pem)
            .and_then(|()| fs::rename(&aside, &path))
            .and_then(|()| sync_directory_of(&path));
        if let Err(source) = written {
            let _ = fs::remove_file(&aside);
            return Err(KeyringError::Io { path, source });
        }
        Ok(Held {
            key: Arc::new(key),
            path,
        })
    }

    /// Erases a key that signs no more.
    pub(super) fn erase(&self, held: &Held) -> Result<(), KeyringError> {
        let erased = match fs::remove_file(&held.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            erased => erased.and_then(|()| sync_directory_of(&held.path)),
        };
        erased.map_err(|source| KeyringError::Io {
            path: held.path.clone(),
            source,
        })
    }

    fn file(&self, usage: Usage, number: u64) -> PathBuf {
        self.path.join(format!("{}.{number}.pem", usage.name()))
    }

    /// The numbers of a use's files, the least first.
    fn numbers(&self, usage: Usage) -> Result<Vec<u64>, KeyringError> {
        let io = |source| KeyringError::Io {
            path: self.path.clone(),
            source,
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let number = name
                .to_str()
                .and_then(|name| {
                    name.strip_prefix(usage.name())?
                        .strip_prefix('.')?
                        .strip_suffix(".pem")
                })
                .and_then(|number| number.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Reads one. A file that others may read is made private again, and people are told: it is for them to say whether it
/// was read, and refusing it would let one careless copy of configurations take every site out at once.
fn read(path: &Path, alarms: &mut Vec<String>) -> Result<SigningKey, String> {
    let words = |error: io::Error| error.to_string();
    let mut file = fs::File::open(path).map_err(words)?;
    let mode = file.metadata().map_err(words)?.permissions().mode();
    if mode & 0o077 != 0 {
        let mended = match file.set_permissions(fs::Permissions::from_mode(0o600)) {
            Ok(()) => "it is private again".to_owned(),
            Err(error) => format!("it could not be made private: {error}"),
        };
        alarms.push(format!(
            "signing keys: {} could be read by others than its owner (mode {:o}); {mended}. If anybody may have read it, \
             revoke it: `persona key list`, `persona key revoke`",
            path.display(),
            mode & 0o777
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(PEM_BYTES_MAX));
    file.by_ref()
        .take(PEM_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .map_err(words)?;
    SigningKey::from_pem(&text).map_err(|error| error.to_string())
}

/// A P-256 key takes 241 bytes of PEM. Read at once into a buffer of this size, so that no copy is left behind by growing.
const PEM_BYTES_MAX: usize = 4096;
