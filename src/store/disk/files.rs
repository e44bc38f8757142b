//! A copy of a disk as files in a directory: once it has come, while it is kept for a peer, and as a backup.
//!
//! `manifest` says what the copy consists of, `files/` holds it, and `checked` is there once every file had come, was
//! found to be what was sent, and was synced: it holds their hashes. [`arriving`](super::arriving) is how it comes.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
};

use gossip::snapshot::{self, Manifest, SnapshotError, Source};

use super::DiskError;

pub(super) const MANIFEST: &str = "manifest";
pub(super) const FILES: &str = "files";
pub(super) const PARTS: &str = "parts";
pub(super) const CHECKED: &str = "checked";

/// A copy that is not here, or not whole.
pub(super) fn failed(at: &Path, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError(format!("{}: {error}", at.display()))
}

/// Names and lengths of files, in the order of the names.
pub fn describe(directory: &Path, mut names: Vec<String>) -> io::Result<Vec<snapshot::File>> {
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bytes = fs::metadata(directory.join(&name))?.len();
            Ok(snapshot::File { name, bytes })
        })
        .collect()
}

/// Makes a directory that only its owner reads.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Removes a directory with all that is in it; one that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Files that are kept to be read.
pub struct FilesSource {
    files: PathBuf,
    manifest: Manifest,
    /// Where they were kept.
    hashes: Option<Vec<[u8; 32]>>,
    /// Removed with this, if it is.
    passing: Option<PathBuf>,
}

impl FilesSource {
    /// A copy that was kept whole, as [`FilesSink`] leaves it.
    pub fn open(directory: &Path) -> Result<FilesSource, SnapshotError> {
        let manifest = arrived(directory)
            .map_err(|error| failed(directory, &error))?
            .ok_or_else(|| failed(directory, &"holds no whole copy"))?;
        let checked = fs::read(directory.join(CHECKED)).map_err(|error| failed(directory, &error))?;
        let (hashes, rest) = checked.as_chunks::<32>();
        if hashes.len() != manifest.files.len() || !rest.is_empty() {
            return Err(failed(directory, &"does not say what its files hash to"));
        }
        Ok(FilesSource {
            files: directory.join(FILES),
            manifest,
            hashes: Some(hashes.to_vec()),
            passing: None,
        })
    }

    /// Files of the process's own, which go when this does.
    pub(super) fn passing(files: PathBuf, manifest: Manifest) -> FilesSource {
        FilesSource {
            passing: Some(files.clone()),
            files,
            manifest,
            hashes: None,
        }
    }
}

impl Drop for FilesSource {
    fn drop(&mut self) {
        if let Some(path) = &self.passing
            && let Err(error) = remove(path)
        {
            tracing::warn!(%error, "a checkpoint could not be removed; the next start removes it");
        }
    }
}

impl Source for FilesSource {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let known = self
            .manifest
            .files
            .get(file)
            .ok_or_else(|| SnapshotError("there is no such file in it".to_owned()))?;
        // Opened each time: one that was removed meanwhile is not to be read any more.
        File::open(self.files.join(&known.name))
            .and_then(|opened| opened.read_exact_at(bytes, offset))
            .map_err(|error| failed(Path::new(&known.name), &error))
    }

    fn hash(&self, file: usize) -> Option<[u8; 32]> {
        self.hashes.as_ref()?.get(file).copied()
    }
}

/// The manifest of a copy that is in a directory whole.
pub(super) fn arrived(directory: &Path) -> Result<Option<Manifest>, DiskError> {
    if !directory.join(CHECKED).exists() {
        return Ok(None);
    }
    let bytes = fs::read(directory.join(MANIFEST))?;
    Manifest::decode(&bytes)
        .map(Some)
        .map_err(|error| DiskError::Damaged(error.to_string()))
}

/// Takes the files of a whole copy out of its directory, which goes.
pub(super) fn take_out(directory: &Path, to: &Path) -> io::Result<()> {
    // First of all it is no longer whole: from here on it is not installed by anyone else.
    fs::remove_file(directory.join(CHECKED))?;
    remove(to)?;
    fs::rename(directory.join(FILES), to)?;
    remove(directory)
}
