//! The data directory: whose it is, and of which format.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::directory_lock::{DirectoryLock, DirectoryLockError};

/// Why a data directory cannot be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it.
    #[error(
        "{}: in use by process {holder}; stop that one first, or give this site a data directory of its own", path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, as it wrote it down.
        holder: String,
    },
    /// Written by a later version of Persona.
    #[error(
        "{}: holds store format {found}, and this build reads up to {known}; start the newer build that wrote it",
        path.display()
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The format file is not one of ours.
    #[error("{}: not a data directory of Persona: its file `format` does not say `persona store N`", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
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

const MARK: &str = "persona store ";

/// A data directory, locked for this process while this lives.
pub(super) struct Directory {
    _lock: DirectoryLock,
}

impl Directory {
    /// Makes the directory if there is none (readable by its owner only), locks it, and checks its format.
    pub(super) fn open(path: &Path, format: u32) -> Result<Directory, DirectoryError> {
        let refused = |error| match error {
            DirectoryLockError::Held(holder) => DirectoryError::InUse {
                path: path.to_path_buf(),
                holder,
            },
            DirectoryLockError::Io(path, source) => DirectoryError::Io { path, source },
        };
        let mut lock = DirectoryLock::take(path).map_err(refused)?;
        check_format(path, format)?;
        lock.sign().map_err(refused)?;
        Ok(Directory { _lock: lock })
    }
}

fn check_format(path: &Path, known: u32) -> Result<(), DirectoryError> {
    let file = path.join("format");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let found = text
                .trim()
                .strip_prefix(MARK)
                .and_then(|number| number.parse().ok());
            match found {
                Some(found) if found > known => Err(DirectoryError::Newer {
                    path: path.to_path_buf(),
                    found,
                    known,
                }),
                Some(_) => Ok(()),
                None => Err(DirectoryError::Foreign {
                    path: path.to_path_buf(),
                }),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_format(path, &file, known).map_err(|source| DirectoryError::Io { path: file, source })
        }
        Err(source) => Err(DirectoryError::Io { path: file, source }),
    }
}

/// Written aside and renamed, so that a crash leaves no half of it.
fn write_format(directory: &Path, file: &Path, format: u32) -> io::Result<()> {
    let aside = directory.join("format.new");
    let mut new = File::create(&aside)?;
    writeln!(new, "{MARK}{format}")?;
    new.sync_all()?;
    fs::rename(&aside, file)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_for_one_process_and_one_format() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("data");
        let first = Directory::open(&path, 1).expect("a new directory");
        let second = Directory::open(&path, 1).err().expect("it is locked").to_string();
        assert!(
            second.contains(&format!("in use by process {}", std::process::id())),
            "{second}"
        );
        drop(first);

        fs::write(path.join("format"), "persona store 3\n").expect("written");
        let newer = Directory::open(&path, 1).err().expect("it is newer").to_string();
        assert!(
            newer.contains("holds store format 3, and this build reads up to 1"),
            "{newer}"
        );

        fs::write(path.join("format"), "something else").expect("written");
        assert!(matches!(
            Directory::open(&path, 1),
            Err(DirectoryError::Foreign { .. })
        ));
    }
}
