//! A directory that one process has to itself: the store's, and the outbox's.
//!
//! Promise: while a lock lives no other process gets one, and it goes with the process, however that ends.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Why there is no lock. Nothing in the directory was changed.
#[derive(Debug)]
pub(crate) enum DirectoryLockError {
    /// Another process has it: its id, as it wrote it down.
    Held(String),
    /// The file system said no, at this path.
    Io(PathBuf, io::Error),
}

/// A directory, locked for this process while this lives.
pub(crate) struct DirectoryLock {
    path: PathBuf,
    file: File,
}

impl DirectoryLock {
    /// Makes the directory if there is none, readable by its owner only, and locks it.
    pub(crate) fn take(directory: &Path) -> Result<DirectoryLock, DirectoryLockError> {
        let io = |at: &Path| {
            let path = at.to_path_buf();
            move |source| DirectoryLockError::Io(path, source)
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io(directory))?;
        let path = directory.join(NAME);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(DirectoryLock { path, file }),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { "unknown" } else { holder };
                Err(DirectoryLockError::Held(holder.to_owned()))
            }
            Err(TryLockError::Error(source)) => Err(io(&path)(source)),
        }
    }

    /// Writes down whose it is, for whoever is refused. Only once the directory is known to be ours.
    pub(crate) fn sign(&mut self) -> Result<(), DirectoryLockError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(std::process::id().to_string().as_bytes()))
            .map_err(|source| DirectoryLockError::Io(self.path.clone(), source))
    }
}

/// The file that is locked.
pub(crate) const NAME: &str = "lock";
