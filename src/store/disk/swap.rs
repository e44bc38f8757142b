//! How one store takes the place of another: by renames, with one moment at which it is decided.
//!
//! Beside `store` there may be, each named after it:
//!
//! - `store.checkpoints/`: copies kept for peers. They go at the start.
//! - `store.incoming/`: a copy that comes; it survives restarts, until the disk is rewritten.
//! - `store.staged/`: a copy that has come, being made this replica's own. It goes at the start.
//! - `store.new/`: a store that is to be `store`. As soon as it has this name that is decided, whatever happens.
//! - `store.old/`: what was `store` before. It goes as soon as `store` is there.
//! - `store.keep`: a file with the name under which what was `store` is kept instead, for an operator.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::files::{remove, sync};

/// Where everything of one store lies.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) store: PathBuf,
    pub(super) checkpoints: PathBuf,
    pub(super) incoming: PathBuf,
    pub(super) staged: PathBuf,
    new: PathBuf,
    old: PathBuf,
    keep: PathBuf,
}

impl Places {
    pub(super) fn of(store: &Path) -> Places {
        let beside = |suffix: &str| {
            let mut name = store.file_name().unwrap_or_default().to_os_string();
            name.push(suffix);
            store.with_file_name(name)
        };
        Places {
            store: store.to_path_buf(),
            checkpoints: beside(".checkpoints"),
            incoming: beside(".incoming"),
            staged: beside(".staged"),
            new: beside(".new"),
            old: beside(".old"),
            keep: beside(".keep"),
        }
    }

    /// What a process that ended left behind.
    pub(super) fn clear(&self) -> io::Result<()> {
        remove(&self.checkpoints)?;
        remove(&self.staged)
    }

    /// Decides that what is staged, synced whole, is the store from now on.
    pub(super) fn decide(&self) -> io::Result<()> {
        sync(&self.staged)?;
        remove(&self.new)?;
        fs::rename(&self.staged, &self.new)?;
        self.sync_parent()
    }

    /// Carries out what was decided, if anything was; to be called before the store is opened, by whoever opens it. True
    /// if the store is another one now.
    pub(super) fn finish(&self) -> io::Result<bool> {
        let decided = self.new.exists();
        if decided {
            if self.store.exists() {
                let to = match fs::read_to_string(&self.keep) {
                    Ok(name) => self.store.with_file_name(name),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        remove(&self.old)?;
                        self.old.clone()
                    }
                    Err(error) => return Err(error),
                };
                fs::rename(&self.store, to)?;
                self.sync_parent()?;
            }
            fs::rename(&self.new, &self.store)?;
            self.sync_parent()?;
        }
        // Nothing was decided, or all of it is done.
        match fs::remove_file(&self.keep) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if self.store.exists() {
            remove(&self.old)?;
        } else if self.old.exists() {
            // Nothing here leaves it so; but whatever did, this is the store.
            fs::rename(&self.old, &self.store)?;
            self.sync_parent()?;
        }
        Ok(decided)
    }

    /// Whether there is a store, by any of the names under which one is found again.
    pub(super) fn is_there(&self) -> bool {
        self.store.exists() || self.new.exists() || self.old.exists()
    }

    /// To be said before [`decide`](Self::decide): what is the store now is kept under this name beside it.
    pub(super) fn keep_as(&self, to: &Path) -> io::Result<()> {
        let name = to
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = File::create(&self.keep)?;
        file.write_all(name.as_bytes())?;
        file.sync_all()?;
        self.sync_parent()
    }

    fn sync_parent(&self) -> io::Result<()> {
        sync(self.store.parent().unwrap_or(Path::new(".")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process may die between any two steps; whoever opens the store then finds the old one before the decision, and
    /// the new one after it.
    #[test]
    fn whatever_step_was_the_last_one_store_is_found() {
        type Step = fn(&Places);
        let steps: [(Step, &str); 6] = [
            (|_| {}, "old"),
            (
                |places| fs::create_dir(&places.staged).expect("a directory"),
                "old",
            ),
            (
                |places| fs::write(places.staged.join("says"), "new").expect("a file"),
                "old",
            ),
            (|places| places.decide().expect("decided"), "new"),
            (
                |places| fs::rename(&places.store, &places.old).expect("renamed"),
                "new",
            ),
            (
                |places| fs::rename(&places.new, &places.store).expect("renamed"),
                "new",
            ),
        ];
        for last in 0..steps.len() {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let places = Places::of(&directory.path().join("store"));
            fs::create_dir(&places.store).expect("a directory");
            fs::write(places.store.join("says"), "old").expect("a file");
            for (step, _) in &steps[..=last] {
                step(&places);
            }
            for again in 0..2 {
                places.clear().expect("cleared");
                places.finish().expect("finished");
                let found = fs::read_to_string(places.store.join("says")).expect("a store");
                assert_eq!(found, steps[last].1, "after step {last}, opening {again}");
            }
            let left = fs::read_dir(directory.path()).expect("a directory").count();
            assert_eq!(left, 1, "after step {last} nothing else is left");
        }
    }

    /// Where an operator wants to keep what was there.
    #[test]
    fn whatever_step_was_the_last_what_is_replaced_is_kept() {
        for last in 0..5 {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let places = Places::of(&directory.path().join("store"));
            let kept = directory.path().join("store.replaced-7");
            for (at, says) in [(&places.store, "old"), (&places.staged, "new")] {
                fs::create_dir(at).expect("a directory");
                fs::write(at.join("says"), says).expect("a file");
            }
            let steps: [&dyn Fn(); 4] = [
                &|| places.keep_as(&kept).expect("noted"),
                &|| places.decide().expect("decided"),
                &|| fs::rename(&places.store, &kept).expect("renamed"),
                &|| fs::rename(&places.new, &places.store).expect("renamed"),
            ];
            for step in &steps[..last] {
                step();
            }
            places.clear().expect("cleared");
            places.finish().expect("finished");
            let says = |at: &Path| fs::read_to_string(at.join("says")).ok();
            let expected = if last < 2 {
                (Some("old"), None)
            } else {
                (Some("new"), Some("old"))
            };
            let found = (says(&places.store), says(&kept));
            assert_eq!(
                (found.0.as_deref(), found.1.as_deref()),
                expected,
                "after {last} steps"
            );
            assert!(!places.keep.exists());
        }
    }
}
