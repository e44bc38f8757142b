//! Taking in a copy as files. Whoever brings the pieces does not wait for the disk: one thread hashes and writes them, and
//! a second one syncs, so that most of a file is on the disk by the time that its last piece is written.
//!
//! Promise: a file stands in `files/` only when it is what its hash says, and is synced; before that it is in `parts/`.
//! So whatever ends the process, or the machine, what is in `files/` need not come again.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use gossip::snapshot::{Manifest, Sink, SnapshotError};

use super::{
    files::{CHECKED, FILES, MANIFEST, PARTS, failed, make_private, remove, sync},
    writing::{Order, Threads, hash_of},
};
use crate::store::space::free_bytes;

/// Left free on the disk when a copy is taken.
const FREE_BYTES_MIN: u64 = 16 << 20;

/// Takes a copy in.
pub struct FilesSink {
    directory: PathBuf,
    coming: Option<(Arc<Manifest>, Threads)>,
}

impl FilesSink {
    /// Keeps it in this directory, which is made if it is not there.
    pub fn new(directory: PathBuf) -> FilesSink {
        FilesSink {
            directory,
            coming: None,
        }
    }

    fn start_over(&self, encoded: &[u8]) -> io::Result<()> {
        remove(&self.directory)?;
        make_private(&self.directory.join(FILES))?;
        make_private(&self.directory.join(PARTS))?;
        put(&self.directory, MANIFEST, encoded)
    }

    /// Where to go on.
    fn kept(&self, manifest: &Manifest) -> io::Result<(usize, u64)> {
        for (place, file) in manifest.files.iter().enumerate() {
            if bytes_of(&self.directory.join(FILES).join(&file.name))? == file.bytes {
                continue;
            }
            let bytes = bytes_of(&self.directory.join(PARTS).join(&file.name))?;
            return Ok((place, bytes.min(file.bytes)));
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

    fn order(&mut self, order: impl FnOnce(&Threads) -> Order) -> Result<(), SnapshotError> {
        let (_, threads) = self.coming.as_mut().ok_or_else(not_begun)?;
        let order = order(threads);
        if threads.give(order) {
            return Ok(());
        }
        // They have ended: they say why.
        let ended = self.coming.take().ok_or_else(not_begun)?.1.end();
        Err(ended.err().unwrap_or_else(not_begun))
    }

    /// Decides that the copy is whole. `hashes`: of the files that came just now.
    fn check(&self, manifest: &Manifest, hashes: &[Option<[u8; 32]>]) -> io::Result<()> {
        let files = self.directory.join(FILES);
        let mut checked = Vec::new();
        for (place, file) in manifest.files.iter().enumerate() {
            let hash = match hashes.get(place).copied().flatten() {
                Some(hash) => hash,
                // It came before a break.
                None => hash_of(&mut File::open(files.join(&file.name))?, file.bytes)?
                    .finalize()
                    .into(),
            };
            checked.extend_from_slice(&hash);
        }
        sync(&files)?;
        put(&self.directory, CHECKED, &checked)
    }
}

impl Sink for FilesSink {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        self.coming = None;
        let encoded = manifest.encode();
        let io = |error: io::Error| failed(&self.directory, &error);
        let same = fs::read(self.directory.join(MANIFEST)).is_ok_and(|known| known == encoded);
        if !same {
            self.start_over(&encoded).map_err(io)?;
        }
        let kept = self.kept(manifest).map_err(io)?;
        self.room(manifest, kept)?;
        let manifest = Arc::new(manifest.clone());
        let threads = Threads::start(&self.directory, &manifest).map_err(io)?;
        self.coming = Some((manifest, threads));
        Ok(kept)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.order(|threads| {
            let mut piece = threads.emptied.try_recv().unwrap_or_default();
            piece.clear();
            piece.extend_from_slice(bytes);
            Order::Write { file, offset, piece }
        })
    }

    fn complete(&mut self, file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError> {
        self.order(|_| Order::Complete { file, hash: *hash })
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        let (manifest, threads) = self.coming.take().ok_or_else(not_begun)?;
        let hashes = threads.end()?;
        self.check(&manifest, &hashes)
            .map_err(|error| failed(&self.directory, &error))
    }
}

fn not_begun() -> SnapshotError {
    SnapshotError("it has not begun".to_owned())
}

/// Puts a small file in a directory, whole or not at all.
fn put(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = directory.join(format!("{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(aside, directory.join(name))?;
    sync(directory)
}

fn bytes_of(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use gossip::{
        Vector,
        snapshot::{self, Source},
    };

    use std::os::unix::fs::FileExt;

    use super::{
        super::{files::FilesSource, writing::SYNCED_AT_ONCE},
        *,
    };

    /// Two files, the second longer than what is synced at once.
    fn manifest(contents: &[Vec<u8>; 2]) -> Manifest {
        let files = contents.iter().zip(["1.sst", "2.sst"]);
        let files = files.map(|(bytes, name)| snapshot::File {
            name: name.to_owned(),
            bytes: bytes.len() as u64,
        });
        Manifest::new([7; 16], Vector::new(), Vector::new(), Vec::new(), files.collect())
    }

    fn contents() -> [Vec<u8>; 2] {
        [1000, 2 * SYNCED_AT_ONCE as usize + 3].map(|length| {
            let mut bytes = vec![0; length];
            blake3::Hasher::new().finalize_xof().fill(&mut bytes);
            bytes
        })
    }

    fn bring(sink: &mut FilesSink, file: usize, offset: u64, bytes: &[u8]) {
        let mut at = offset;
        for piece in bytes.chunks(100_000) {
            sink.write(file, at, piece).expect("written");
            at += piece.len() as u64;
        }
    }

    fn hash(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    #[test]
    fn it_goes_on_behind_what_came_and_what_is_whole_has_its_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = directory.path().join("incoming");
        let contents = contents();
        let manifest = manifest(&contents);
        let mut sink = FilesSink::new(at.clone());
        assert_eq!(sink.begin(&manifest), Ok((0, 0)));
        bring(&mut sink, 0, 0, &contents[0]);
        drop(sink);
        let mut sink = FilesSink::new(at.clone());
        assert_eq!(sink.begin(&manifest), Ok((0, 1000)), "its hash did not come");
        sink.complete(0, &hash(&contents[0])).expect("whole");
        bring(&mut sink, 1, 0, &contents[1][..700_000]);
        drop(sink);
        assert!(at.join("files/1.sst").exists() && !at.join("files/2.sst").exists());

        let mut sink = FilesSink::new(at.clone());
        assert_eq!(sink.begin(&manifest), Ok((1, 700_000)));
        bring(&mut sink, 1, 700_000, &contents[1][700_000..]);
        sink.complete(1, &hash(&contents[1])).expect("whole");
        assert!(FilesSource::open(&at).is_err(), "it is not yet");
        sink.finish().expect("all of it");
        let copy = FilesSource::open(&at).expect("a whole copy");
        assert_eq!(copy.hash(0), Some(hash(&contents[0])), "it came before the break");
        let mut bytes = vec![0; contents[1].len()];
        copy.read(1, 0, &mut bytes).expect("readable");
        assert!(bytes == contents[1]);
    }

    #[test]
    fn a_file_that_is_not_what_was_sent_comes_again() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = directory.path().join("incoming");
        let contents = contents();
        let manifest = manifest(&contents);
        let mut sink = FilesSink::new(at.clone());
        sink.begin(&manifest).expect("begun");
        bring(&mut sink, 0, 0, &contents[0]);
        sink.complete(0, &[0; 32]).expect("it is checked later");
        let words = sink.finish().expect_err("damaged").to_string();
        assert!(words.contains("its hash is another"), "{words}");
        assert!(sink.finish().is_err(), "nothing is decided");

        // The power went while it was written: its length is there, not all of its bytes.
        let mut sink = FilesSink::new(at.clone());
        assert_eq!(sink.begin(&manifest), Ok((0, 0)));
        bring(&mut sink, 0, 0, &contents[0][..900]);
        drop(sink);
        let torn = File::options().write(true).open(at.join("parts/1.sst"));
        torn.and_then(|torn| torn.write_all_at(&[0; 100], 500))
            .expect("torn");
        let mut sink = FilesSink::new(at.clone());
        assert_eq!(sink.begin(&manifest), Ok((0, 900)));
        bring(&mut sink, 0, 900, &contents[0][900..]);
        let told = sink.complete(0, &hash(&contents[0])).and_then(|()| sink.finish());
        assert!(told.is_err());
        assert_eq!(FilesSink::new(at).begin(&manifest), Ok((0, 0)));
    }
}
