//! The two threads that keep a copy while it comes: one hashes and writes, one syncs.
//!
//! Whoever has orders for them waits only when many are not done yet, and learns of a failure by a later order.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
};

use gossip::snapshot::{Manifest, SnapshotError};

use super::files::{FILES, PARTS, failed};

/// Pieces that wait for the disk; whoever brings more waits.
const PIECES_MAX: usize = 16;
/// Orders that wait for the thread that syncs.
const SYNCS_MAX: usize = 4;
/// A file that is being written is synced every so many bytes: then its end has little left to wait for.
pub(super) const SYNCED_AT_ONCE: u64 = 8 << 20;
/// What was kept of a file is read again in pieces of so many bytes.
const READ_AT_ONCE: usize = 1 << 20;

pub(super) enum Order {
    Write {
        file: usize,
        offset: u64,
        piece: Vec<u8>,
    },
    Complete {
        file: usize,
        hash: [u8; 32],
    },
}

pub(super) type Hashes = Vec<Option<[u8; 32]>>;

/// Who writes and syncs. Ended, and waited for, when this is dropped.
pub(super) struct Threads {
    orders: Option<SyncSender<Order>>,
    /// Pieces that were written, to be filled again.
    pub(super) emptied: Receiver<Vec<u8>>,
    writer: Option<JoinHandle<Result<Hashes, SnapshotError>>>,
}

impl Threads {
    pub(super) fn start(directory: &Path, manifest: &Arc<Manifest>) -> io::Result<Threads> {
        let (orders, taken) = mpsc::sync_channel(PIECES_MAX);
        let (empty, emptied) = mpsc::channel();
        let mut writer = Writer {
            parts: directory.join(PARTS),
            manifest: manifest.clone(),
            emptied: empty,
            open: None,
            hashes: vec![None; manifest.files.len()],
        };
        let files = directory.join(FILES);
        let run = move || {
            thread::scope(|scope| {
                let (syncs, to_sync) = mpsc::sync_channel(SYNCS_MAX);
                let syncer = thread::Builder::new()
                    .name("copy-sync".to_owned())
                    .spawn_scoped(scope, || run_syncs(to_sync, &files))
                    .map_err(|error| failed(&files, &error))?;
                let written = writer.run(taken, &syncs);
                drop(syncs);
                let panicked = || SnapshotError("the thread that syncs panicked".to_owned());
                // What it failed at comes first: the writer may only have noticed that it is gone.
                syncer.join().map_err(|_| panicked())??;
                written?;
                Ok(writer.hashes)
            })
        };
        let writer = thread::Builder::new().name("copy-write".to_owned()).spawn(run)?;
        Ok(Threads {
            orders: Some(orders),
            emptied,
            writer: Some(writer),
        })
    }

    /// False: they have ended.
    pub(super) fn give(&self, order: Order) -> bool {
        self.orders
            .as_ref()
            .is_some_and(|orders| orders.send(order).is_ok())
    }

    /// Waits until all that was given is done.
    pub(super) fn end(mut self) -> Result<Hashes, SnapshotError> {
        self.orders = None;
        let panicked = || SnapshotError("the thread that writes panicked".to_owned());
        let ended = self.writer.take().map(JoinHandle::join);
        ended.ok_or_else(panicked)?.map_err(|_| panicked())?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            // What was taken is kept. An error is found again by whoever goes on.
            let _ = writer.join();
        }
    }
}

struct Writer {
    parts: PathBuf,
    manifest: Arc<Manifest>,
    emptied: Sender<Vec<u8>>,
    open: Option<Part>,
    hashes: Hashes,
}

/// A file that comes.
struct Part {
    place: usize,
    file: Arc<File>,
    hasher: blake3::Hasher,
    bytes: u64,
    unsynced: u64,
}

enum ToSync {
    /// What is there so far.
    Some(Arc<File>),
    /// A file that is whole, and is to have its name then.
    Whole { file: Arc<File>, path: PathBuf },
}

impl Writer {
    fn run(&mut self, orders: Receiver<Order>, syncs: &SyncSender<ToSync>) -> Result<(), SnapshotError> {
        for order in orders {
            match order {
                Order::Write { file, offset, piece } => {
                    let path = self.path(file)?;
                    self.write(&path, file, offset, &piece, syncs)
                        .map_err(|error| failed(&path, &error))?;
                    // Nobody wants it at the end.
                    let _ = self.emptied.send(piece);
                }
                Order::Complete { file, hash } => {
                    let path = self.path(file)?;
                    let bytes = self.manifest.files.get(file).map_or(0, |file| file.bytes);
                    let io = |error: io::Error| failed(&path, &error);
                    let part = self.part(&path, file, bytes).map_err(io)?;
                    if part.bytes != bytes || *part.hasher.finalize().as_bytes() != hash {
                        self.open = None;
                        // So that the next transfer brings it again.
                        fs::remove_file(&path).map_err(io)?;
                        return Err(failed(&path, &"is not what it is to be: its hash is another"));
                    }
                    let file_of = part.file.clone();
                    self.open = None;
                    self.hashes[file] = Some(hash);
                    let whole = ToSync::Whole { file: file_of, path };
                    syncs.send(whole).map_err(|_| not_synced())?;
                }
            }
        }
        Ok(())
    }

    fn path(&self, file: usize) -> Result<PathBuf, SnapshotError> {
        let known = self.manifest.files.get(file);
        let known = known.ok_or_else(|| SnapshotError("there is no such file in it".to_owned()))?;
        Ok(self.parts.join(&known.name))
    }

    fn write(
        &mut self,
        path: &Path,
        file: usize,
        offset: u64,
        piece: &[u8],
        syncs: &SyncSender<ToSync>,
    ) -> io::Result<()> {
        let part = self.part(path, file, offset)?;
        part.file.write_all_at(piece, offset)?;
        part.hasher.update(piece);
        part.bytes += piece.len() as u64;
        part.unsynced += piece.len() as u64;
        // If it is behind, that can wait for the end.
        if part.unsynced >= SYNCED_AT_ONCE && syncs.try_send(ToSync::Some(part.file.clone())).is_ok() {
            part.unsynced = 0;
        }
        Ok(())
    }

    /// The file that comes, which has so many bytes: what was kept of it is hashed again.
    fn part(&mut self, path: &Path, place: usize, bytes: u64) -> io::Result<&mut Part> {
        if self
            .open
            .as_ref()
            .is_some_and(|part| part.place != place || part.bytes != bytes)
        {
            self.open = None;
        }
        let part = match self.open.take() {
            Some(part) => part,
            None => {
                let mut file = File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                let hasher = hash_of(&mut file, bytes)?;
                file.set_len(bytes)?;
                Part {
                    place,
                    file: Arc::new(file),
                    hasher,
                    bytes,
                    unsynced: 0,
                }
            }
        };
        Ok(self.open.insert(part))
    }
}

fn not_synced() -> SnapshotError {
    SnapshotError("nothing is synced any more".to_owned())
}

/// Syncs, and gives their names to files that are whole.
fn run_syncs(to_sync: Receiver<ToSync>, files: &Path) -> Result<(), SnapshotError> {
    for order in to_sync {
        match order {
            ToSync::Some(file) => file.sync_data().map_err(|error| failed(files, &error))?,
            ToSync::Whole { file, path } => file
                .sync_all()
                .and_then(|()| fs::rename(&path, files.join(path.file_name().unwrap_or_default())))
                .map_err(|error| failed(&path, &error))?,
        }
    }
    Ok(())
}

/// Takes in the first bytes of a file.
pub(super) fn hash_of(file: &mut File, bytes: u64) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; READ_AT_ONCE];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(READ_AT_ONCE as u64) as usize;
        file.read_exact(&mut piece[..length])?;
        hasher.update(&piece[..length]);
        left -= length as u64;
    }
    Ok(hasher)
}
