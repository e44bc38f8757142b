//! Backups: a copy of the store in a directory of the operator's, and a store made from one.
//!
//! A backup is what a peer would be given ([`snapshot`](super::snapshot)), with `manifest.json` beside it for people; it is
//! there last, so a directory without it is no backup. What people have deleted is still in it: hence an age above which
//! none is restored, and which erasure promises.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crdt::Clock;
use gossip::{MemberId, ReplicaId, Writer, snapshot::Source};
use serde::{Deserialize, Serialize};

use super::{
    Store,
    directory::{Directory, DirectoryError},
    disk::{
        Disk, DiskError,
        arriving::FilesSink,
        files::FilesSource,
        rocks::{self, RocksDisk},
    },
    found::Found,
    layout::STORE_FORMAT,
    lock, snapshot,
};

const ABOUT: &str = "manifest.json";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What a backup is of: `manifest.json` in its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// When it was made, in milliseconds since 1970.
    pub made_at_ms: u64,
    /// Whose it is.
    pub owner: BackupOwner,
    /// The replica.
    pub replica: ReplicaId,
    /// The writer of that replica's start then.
    pub start: Writer,
    /// How many transactions it covers.
    pub transactions: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// The format of what is in them.
    pub store_format: u32,
}

/// The member that made a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupOwner {
    /// Fingerprint of the cluster's id.
    pub cluster: String,
    /// Its site.
    pub site: String,
    /// Its id; none where a data directory is nobody's yet.
    pub member: Option<MemberId>,
}

/// Why no backup was made. Nothing is left that could be taken for one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something already.
    #[error("{}: is there already; give `--to` a directory that does not exist yet", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Another one is being made.
    #[error("another backup of this site is being made; wait for it")]
    Busy,
    /// The disk that is copied.
    #[error("the store could not be copied: {0}")]
    Disk(#[from] DiskError),
    /// The disk that is copied to.
    #[error("{}: {why}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// Why nothing was restored. What was there is as it was, unless the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory is not ours to use.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What `--from` names.
    #[error("{}: not a whole backup ({why}); `--from` is a directory that `persona backup --to` made", path.display())]
    NotABackup {
        /// Where.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// Of another cluster.
    #[error(
        "the backup is of another cluster (fingerprint {found}, this one's is {own}): it has other people and other keys"
    )]
    Cluster {
        /// Its fingerprint.
        found: String,
        /// This one's.
        own: String,
    },
    /// Made by a later version.
    #[error(
        "the backup holds store format {found}, and this build reads up to {STORE_FORMAT}; use the newer build that made it"
    )]
    Newer {
        /// Its format.
        found: u32,
    },
    /// Older than erasure allows.
    #[error(
        "the backup is {days} days old, and `backup.age_max_days` is {max}: people were promised that what they deleted \
         before then is gone for good. Take a later one, or start the site with an empty directory: it copies a peer"
    )]
    TooOld {
        /// Its age.
        days: u64,
        /// The limit.
        max: u64,
    },
    /// There is a store already.
    #[error(
        "{}: holds a store; if the backup is to take its place, say `--replace`, and it is moved aside", path.display()
    )]
    Occupied {
        /// The data directory.
        path: PathBuf,
    },
    /// A disk.
    #[error("restoring failed: {0}; say it again once that is cured")]
    Disk(#[from] DiskError),
}

impl Store {
    /// Makes a backup in a directory that does not exist yet, or is empty. Blocks for as long as that takes; the store
    /// goes on meanwhile.
    pub fn backup(&self, to: &Path, owner: BackupOwner) -> Result<Backup, BackupError> {
        let _one = self.shared.backing_up.try_lock().map_err(|_| BackupError::Busy)?;
        // Peers ask again for a checkpoint that went with a rewriting; an operator would have to.
        let _kept = lock(&self.shared.rewriting);
        let write = |why: &dyn std::fmt::Display| BackupError::Write {
            path: to.to_path_buf(),
            why: why.to_string(),
        };
        match fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(true) => {
                return Err(BackupError::Exists {
                    path: to.to_path_buf(),
                });
            }
            Err(error) => return Err(write(&error)),
        }
        // The time of the moment that is copied, or earlier: a backup is never taken for younger than it is.
        let made_at_ms = self.shared.now_ms();
        let start = self.state().start;
        let copy = self.disk.checkpoint(&mut snapshot::covered)?;
        gossip::snapshot::copy(&*copy, &mut FilesSink::new(to.to_path_buf()))
            .map_err(|error| write(&error))?;
        let backup = Backup {
            made_at_ms,
            owner,
            replica: start.replica,
            start,
            transactions: copy.manifest().vector.total(),
            bytes: copy.manifest().bytes(),
            store_format: STORE_FORMAT,
        };
        backup.write(to).map_err(|error| write(&error))?;
        Ok(backup)
    }
}

impl Backup {
    /// Reads what a directory says of itself; `None` if it is no backup.
    pub fn read(directory: &Path) -> Result<Option<Backup>, serde_json::Error> {
        match fs::read(directory.join(ABOUT)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Its age. One from the future has none; one from further than a clock may be off is [too old](is_too_old).
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.made_at_ms))
    }

    fn write(&self, directory: &Path) -> io::Result<()> {
        let aside = directory.join("manifest.json.new");
        let mut file = File::create(&aside)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.sync_all()?;
        fs::rename(aside, directory.join(ABOUT))?;
        File::open(directory)?.sync_all()?;
        // The directory itself is an entry of another.
        match directory.canonicalize()?.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Where and what to restore.
#[derive(Clone, Debug)]
pub struct Restore<'a> {
    /// The data directory of a site that does not run.
    pub directory: &'a Path,
    /// The backup.
    pub from: &'a Path,
    /// Who restores it.
    pub owner: &'a BackupOwner,
    /// No older one.
    pub age_max_days: u64,
    /// A store that is there already is moved aside.
    pub replace: bool,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// A restored store.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What it was restored from.
    pub backup: Backup,
    /// Where the store went that was there.
    pub aside: Option<PathBuf>,
}

impl Restore<'_> {
    /// Makes a store from the backup. Its next start draws a new replica id and an epoch past all that it knows of, so
    /// that nothing is ever written twice under one name.
    pub fn run(&self) -> Result<Restored, RestoreError> {
        let not_a_backup = |why: &dyn std::fmt::Display| RestoreError::NotABackup {
            path: self.from.to_path_buf(),
            why: why.to_string(),
        };
        let backup = Backup::read(self.from)
            .map_err(|error| not_a_backup(&error))?
            .ok_or_else(|| not_a_backup(&format_args!("no {ABOUT}")))?;
        self.check(&backup)?;
        let copy = FilesSource::open(self.from).map_err(|error| not_a_backup(&error))?;

        // Held to the end: a site that is running has it.
        let _directory = Directory::open(self.directory, STORE_FORMAT)?;
        let store = self.directory.join("store");
        let mut own_starts = Vec::new();
        if rocks::is_there(&store) {
            if !self.replace {
                return Err(RestoreError::Occupied {
                    path: self.directory.to_path_buf(),
                });
            }
            own_starts = starts_of(&store);
        }
        if backup.owner.member.is_none()
            || self.owner.member.is_none()
            || backup.owner.member == self.owner.member
        {
            own_starts.push(backup.start);
        }
        own_starts.sort_by_key(|start| (start.epoch, start.nonce));
        own_starts.dedup();
        let own = snapshot::own(
            copy.manifest(),
            &own_starts,
            Clock::new(crdt::Hlc::ZERO),
            self.now_ms,
        )?;
        let aside = self.directory.join(format!("store.replaced-{}", self.now_ms));
        rocks::restore(&store, &copy, &own, &aside)?;
        Ok(Restored {
            backup,
            aside: aside.exists().then_some(aside),
        })
    }

    fn check(&self, backup: &Backup) -> Result<(), RestoreError> {
        if backup.owner.cluster != self.owner.cluster {
            return Err(RestoreError::Cluster {
                found: backup.owner.cluster.clone(),
                own: self.owner.cluster.clone(),
            });
        }
        if backup.store_format > STORE_FORMAT {
            return Err(RestoreError::Newer {
                found: backup.store_format,
            });
        }
        if is_too_old(backup, self.age_max_days, self.now_ms) {
            return Err(RestoreError::TooOld {
                days: backup.age(self.now_ms).as_millis() as u64 / DAY_MS,
                max: self.age_max_days,
            });
        }
        Ok(())
    }
}

/// A backup of a clock that was far ahead may be of any age, and would never be too old.
fn is_too_old(backup: &Backup, age_max_days: u64, now_ms: u64) -> bool {
    if backup.made_at_ms > now_ms.saturating_add(DAY_MS) {
        return true;
    }
    backup.age(now_ms).as_millis() > u128::from(age_max_days) * u128::from(DAY_MS)
}

/// The starts that a store remembers; none if it cannot be read, which is why it is replaced. Peers tell of others.
fn starts_of(store: &Path) -> Vec<Writer> {
    let mut starts = Vec::new();
    let read = RocksDisk::open(store).and_then(|disk| {
        disk.read(&mut |disk| {
            starts = Found::read(disk)
                .map(|found| found.own_starts)
                .unwrap_or_default();
        })
    });
    if let Err(error) = read {
        tracing::warn!(%error, "the store that is replaced could not be read");
    }
    starts
}

/// Removes the backups of this cluster right below a directory that may not be restored any more; gives their names.
pub fn prune(
    directory: &Path,
    owner: &BackupOwner,
    age_max_days: u64,
    now_ms: u64,
) -> io::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Ok(Some(backup)) = Backup::read(&path) else {
            continue;
        };
        if backup.owner.cluster == owner.cluster && is_too_old(&backup, age_max_days, now_ms) {
            // No backup any more from the first step on.
            fs::remove_file(path.join(ABOUT))?;
            fs::remove_dir_all(&path)?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}
