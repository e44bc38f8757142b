//! Copies of a store, or of what is in it, in its data directory: checkpoints, a copy that is coming, one that a restore
//! put aside, mails that wait.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::directory_lock;

/// The store itself.
const STORE: &str = "store";

/// Where a site keeps its data.
#[derive(Clone, Debug)]
pub struct Directories {
    /// The data directory; the store is in it.
    pub data: PathBuf,
    /// The signing keys, perhaps in it. Nothing of anybody is in these.
    pub keys: PathBuf,
}

impl Directories {
    /// The files that may hold a copy of something in the store: a name for each. All in directories beside the store count,
    /// for an operator may have put a backup there. Empty files hold nothing, nor does the mark of who uses a directory.
    pub(super) fn copies(&self) -> io::Result<BTreeSet<String>> {
        let mut copies = BTreeSet::new();
        for entry in fs::read_dir(&self.data)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != STORE {
                self.copies_in(entry.path(), &mut copies)?;
            }
        }
        Ok(copies)
    }

    /// What a mail or a checkpoint that is just being removed held is gone, so what is missing is no error.
    fn copies_in(&self, directory: PathBuf, copies: &mut BTreeSet<String>) -> io::Result<()> {
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            if directory == self.keys {
                continue;
            }
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if metadata.is_dir() {
                    directories.push(entry.path());
                } else if metadata.len() > 0 && entry.file_name() != directory_lock::NAME {
                    copies.insert(self.name(&entry.path()));
                }
            }
        }
        Ok(())
    }

    fn name(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.data).unwrap_or(path);
        path.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a failure fails the test")]

    use super::*;

    #[test]
    fn every_file_beside_the_store_is_a_copy_unless_it_is_empty_or_a_key() {
        let data = tempfile::tempdir().expect("a directory");
        for (file, bytes) in [
            ("reserve", "0"),
            ("store/000001.sst", "an address"),
            ("store.checkpoints/7f/000001.sst", "an address"),
            ("store.aside/CURRENT", "MANIFEST"),
            ("outbox/0a.mail", "an address"),
            ("outbox/aside/0b.mail", "an address"),
            ("outbox/0c.mail", ""),
            ("outbox/lock", "4711"),
            ("incoming/lock", "4711"),
            ("keys/certificate.1.pem", "a key"),
            ("keys/lock", "4711"),
        ] {
            let path = data.path().join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        let directories = Directories {
            data: data.path().to_owned(),
            keys: data.path().join("keys"),
        };
        let found = directories.copies().expect("read");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [
                "outbox/0a.mail",
                "outbox/aside/0b.mail",
                "store.aside/CURRENT",
                "store.checkpoints/7f/000001.sst"
            ]
        );
    }
}
