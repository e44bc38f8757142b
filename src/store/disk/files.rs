//! A copy of a disk as files in a directory: while it comes, while it is kept for a peer, and as a backup.
//!
//! `manifest` says what the copy consists of, `files/` holds it, and `checked` is there once every file was found to be
//! what the manifest says, and was synced.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
};

use gossip::snapshot::{self, Manifest, Sink, SnapshotError, Source};

use super::DiskError;
use crate::store::space::free_bytes;

const MANIFEST: &str = "manifest";
const FILES: &str = "files";
const CHECKED: &str = "checked";

/// Left free on the disk when a copy is taken.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Files are hashed in pieces of so many bytes.
const HASHED_AT_ONCE: usize = 1 << 20;
/// And copied.
const COPIED_AT_ONCE: usize = 1 << 20;

/// A copy that is not here, or not whole.
fn failed(at: &Path, error: &dyn std::fmt::Display) -> SnapshotError {
    SnapshotError(format!("{}: {error}", at.display()))
}

/// Length and BLAKE3 of files, in the order of their names.
pub fn describe(directory: &Path, mut names: Vec<String>) -> io::Result<Vec<snapshot::File>> {
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let path = directory.join(&name);
            let bytes = fs::metadata(&path)?.len();
            let hash = hash(&path)?;
            Ok(snapshot::File { name, bytes, hash })
        })
        .collect()
}

fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; HASHED_AT_ONCE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(*hasher.finalize().as_bytes()),
            length => hasher.update(&piece[..length]),
        };
    }
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
    /// Removed with this, if it is.
    passing: Option<PathBuf>,
}

impl FilesSource {
    /// A copy that was kept whole, as [`FilesSink`] leaves it.
    pub fn open(directory: &Path) -> Result<FilesSource, SnapshotError> {
        let manifest = arrived(directory)
            .map_err(|error| failed(directory, &error))?
            .ok_or_else(|| failed(directory, &"holds no whole copy"))?;
        Ok(FilesSource {
            files: directory.join(FILES),
            manifest,
            passing: None,
        })
    }

    /// Files of the process's own, which go when this does.
    pub(super) fn passing(files: PathBuf, manifest: Manifest) -> FilesSource {
        FilesSource {
            passing: Some(files.clone()),
            files,
            manifest,
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

    fn read(&self, file: usize, offset: u64, bytes_max: usize) -> Result<Vec<u8>, SnapshotError> {
        let known = self
            .manifest
            .files
            .get(file)
            .ok_or_else(|| SnapshotError("there is no such file in it".to_owned()))?;
        let left = known.bytes.saturating_sub(offset).min(bytes_max as u64);
        let mut piece = vec![0; left as usize];
        File::open(self.files.join(&known.name))
            .and_then(|opened| opened.read_exact_at(&mut piece, offset))
            .map_err(|error| failed(Path::new(&known.name), &error))?;
        Ok(piece)
    }
}

/// Takes a copy in.
pub struct FilesSink {
    directory: PathBuf,
    manifest: Option<Manifest>,
    /// The file that is being written.
    open: Option<(usize, File)>,
}

impl FilesSink {
    /// Keeps it in this directory, which is made if it is not there.
    pub fn new(directory: PathBuf) -> FilesSink {
        FilesSink {
            directory,
            manifest: None,
            open: None,
        }
    }

    fn start_over(&self, encoded: &[u8]) -> io::Result<()> {
        remove(&self.directory)?;
        make_private(&self.directory.join(FILES))?;
        let aside = self.directory.join("manifest.new");
        let mut file = File::create(&aside)?;
        file.write_all(encoded)?;
        file.sync_all()?;
        fs::rename(aside, self.directory.join(MANIFEST))?;
        sync(&self.directory)
    }

    fn kept(&self, manifest: &Manifest) -> io::Result<(usize, u64)> {
        for (place, file) in manifest.files.iter().enumerate() {
            let bytes = match fs::metadata(self.directory.join(FILES).join(&file.name)) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            if bytes < file.bytes {
                return Ok((place, bytes));
            }
        }
        Ok((manifest.files.len(), 0))
    }

    fn room(&self, manifest: &Manifest, kept: (usize, u64)) -> Result<(), SnapshotError> {
        let come: u64 = manifest.files[..kept.0].iter().map(|file| file.bytes).sum();
        let needed = (manifest.bytes() - come).saturating_sub(kept.1);
        let free = free_bytes(&self.directory).unwrap_or(u64::MAX);
        if free < needed.saturating_add(FREE_BYTES_MIN) {
            return Err(SnapshotError(format!(
                "no room for the copy: it takes {needed} bytes more, and {free} are free; free some, and it goes on by \
                 itself"
            )));
        }
        Ok(())
    }

    fn write_piece(&mut self, path: &Path, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let opened = match &mut self.open {
            Some((at, opened)) if *at == file => opened,
            open => {
                let opened = File::options()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                &mut open.insert((file, opened)).1
            }
        };
        opened.write_all_at(bytes, offset)
    }

    fn check(&self, manifest: &Manifest) -> Result<(), SnapshotError> {
        let files = self.directory.join(FILES);
        for file in &manifest.files {
            let path = files.join(&file.name);
            let io = |error: io::Error| failed(&path, &error);
            let right =
                fs::metadata(&path).map_err(io)?.len() == file.bytes && hash(&path).map_err(io)? == file.hash;
            if !right {
                // So that the next transfer brings it again.
                fs::remove_file(&path).map_err(io)?;
                return Err(SnapshotError(format!(
                    "{} is not what the manifest says",
                    file.name
                )));
            }
            File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
        }
        sync(&files)
            .and_then(|()| File::create(self.directory.join(CHECKED))?.sync_all())
            .and_then(|()| sync(&self.directory))
            .map_err(|error| failed(&self.directory, &error))
    }
}

impl Sink for FilesSink {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        let encoded = manifest.encode();
        let io = |error: io::Error| failed(&self.directory, &error);
        let same = fs::read(self.directory.join(MANIFEST)).is_ok_and(|known| known == encoded);
        if !same {
            self.start_over(&encoded).map_err(io)?;
        }
        let kept = self.kept(manifest).map_err(io)?;
        self.room(manifest, kept)?;
        self.manifest = Some(manifest.clone());
        Ok(kept)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let known = self
            .manifest
            .as_ref()
            .and_then(|manifest| manifest.files.get(file))
            .ok_or_else(|| SnapshotError("there is no such file in it".to_owned()))?;
        let path = self.directory.join(FILES).join(&known.name);
        self.write_piece(&path, file, offset, bytes)
            .map_err(|error| failed(&path, &error))
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        self.open = None;
        let manifest = self
            .manifest
            .take()
            .ok_or_else(|| SnapshotError("it has not begun".to_owned()))?;
        self.check(&manifest)
    }
}

/// Copies all of it, going on where the sink was left.
pub fn copy(from: &dyn Source, to: &mut dyn Sink) -> Result<(), SnapshotError> {
    let manifest = from.manifest();
    let (mut file, mut offset) = to.begin(manifest)?;
    while let Some(known) = manifest.files.get(file) {
        let piece = from.read(file, offset, COPIED_AT_ONCE)?;
        if piece.is_empty() {
            return Err(SnapshotError(format!(
                "{} is shorter than its manifest says",
                known.name
            )));
        }
        to.write(file, offset, &piece)?;
        offset += piece.len() as u64;
        if offset >= known.bytes {
            (file, offset) = (file + 1, 0);
        }
    }
    to.finish()
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
