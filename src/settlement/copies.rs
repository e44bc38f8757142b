//! Copies of a store in its data directory: checkpoints, a copy that is coming, one that a restore put aside.

use std::{collections::BTreeSet, fs, io, path::Path};

/// The store itself.
const STORE: &str = "store";

/// What lies in the data directory beside the store, in directories: a name for each. Every directory counts, for an
/// operator may have put a backup there; an empty one holds nothing.
pub(super) fn copies(data: &Path) -> io::Result<BTreeSet<String>> {
    let mut copies = BTreeSet::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || entry.file_name() == STORE {
            continue;
        }
        for child in fs::read_dir(entry.path())? {
            let path = Path::new(&entry.file_name()).join(child?.file_name());
            copies.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a failure fails the test")]

    use super::*;

    #[test]
    fn every_directory_but_the_store_is_a_copy_unless_it_is_empty() {
        let data = tempfile::tempdir().expect("a directory");
        for directory in ["store", "checkpoints/7f", "incoming", "store.aside/x"] {
            fs::create_dir_all(data.path().join(directory)).expect("made");
        }
        fs::write(data.path().join("reserve"), b"0").expect("written");
        fs::write(data.path().join("store/000001.sst"), b"0").expect("written");
        let found = copies(data.path()).expect("read");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            ["checkpoints/7f", "store.aside/x"]
        );
    }
}
