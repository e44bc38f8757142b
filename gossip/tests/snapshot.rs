//! A copy goes from one to the other: whole, after any number of interruptions, and from nobody who cheats.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_types,
    reason = "a failure ends the run, and a test may look at what a sink keeps"
)]

use std::sync::{Arc, Mutex};

use gossip::snapshot::{
    Action, File, Giver, Manifest, PIECE_BYTES_MAX, Sink, SnapshotError, Source, Taker, TransferError,
};
use gossip::{FRAME_BYTES_MAX, ReplicaId, Tip, Vector, Writer};
use proptest::prelude::*;

struct Held {
    manifest: Manifest,
    contents: Vec<Vec<u8>>,
    /// Where they were kept.
    hashes: Vec<[u8; 32]>,
    read: Mutex<u64>,
    done: Mutex<bool>,
}

impl Source for Held {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn read(&self, file: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        let held = self.contents[file][offset as usize..].get(..bytes.len());
        bytes.copy_from_slice(held.ok_or_else(|| SnapshotError("too short".to_owned()))?);
        *self.read.lock().unwrap() += bytes.len() as u64;
        Ok(())
    }

    fn hash(&self, file: usize) -> Option<[u8; 32]> {
        self.hashes.get(file).copied()
    }

    fn done(&self) {
        *self.done.lock().unwrap() = true;
    }
}

/// What a sink keeps, however often the process around it ends.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Keeping>>);

#[derive(Default)]
struct Keeping {
    manifest: Option<Manifest>,
    contents: Vec<Vec<u8>>,
    whole: usize,
    written: u64,
    finished: bool,
}

impl Sink for Kept {
    fn begin(&mut self, manifest: &Manifest) -> Result<(usize, u64), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        if kept.manifest.as_ref() != Some(manifest) {
            kept.manifest = Some(manifest.clone());
            kept.contents = vec![Vec::new(); manifest.files.len()];
            kept.whole = 0;
        }
        let begun = kept.contents.get(kept.whole);
        Ok((kept.whole, begun.map_or(0, Vec::len) as u64))
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(kept.contents[file].len() as u64, offset);
        kept.contents[file].extend_from_slice(bytes);
        kept.written += bytes.len() as u64;
        Ok(())
    }

    fn complete(&mut self, file: usize, hash: &[u8; 32]) -> Result<(), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(kept.whole, file);
        let bytes = &mut kept.contents[file];
        if blake3::hash(bytes) != *hash {
            bytes.clear();
            return Err(SnapshotError("not what was sent".to_owned()));
        }
        kept.whole += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        let mut kept = self.0.lock().unwrap();
        assert_eq!(kept.whole, kept.contents.len());
        kept.finished = true;
        Ok(())
    }
}

fn vector(number: u64) -> Vector {
    let writer = Writer {
        replica: ReplicaId([1; 8]),
        epoch: 1,
        nonce: [2; 8],
    };
    let hash = [3; 8];
    [(writer, Tip { number, hash })].into_iter().collect()
}

fn file(name: &str, bytes: &[u8]) -> File {
    File {
        name: name.to_owned(),
        bytes: bytes.len() as u64,
    }
}

fn held(number: u64, contents: Vec<Vec<u8>>) -> Arc<Held> {
    let files = contents.iter().enumerate();
    let files = files.map(|(place, bytes)| file(&format!("{place}.sst"), bytes));
    let nonce = [number as u8; 16];
    let note = b"note".to_vec();
    Arc::new(Held {
        manifest: Manifest::new(nonce, vector(number), Vector::new(), note, files.collect()),
        contents,
        hashes: Vec::new(),
        read: Mutex::new(0),
        done: Mutex::new(false),
    })
}

/// Contents in which no two pieces are equal.
fn contents(seed: u8, lengths: &[usize]) -> Vec<Vec<u8>> {
    let made = lengths.iter().enumerate().map(|(place, length)| {
        let mut bytes = vec![0; *length];
        blake3::Hasher::new_keyed(&[seed; 32])
            .update(&[place as u8])
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    });
    made.collect()
}

/// Lets two ends talk for so many frames. True if both are done.
fn talk(giver: &mut Giver, taker: &mut Taker, frames_max: usize) -> Result<bool, TransferError> {
    let mut to_giver: Vec<Action> = taker.more()?.into_iter().collect();
    let mut frames = 0;
    loop {
        let mut given_up = true;
        for action in std::mem::take(&mut to_giver) {
            if let Action::Send(frame) = action {
                given_up = false;
                if giver.handle(&frame)?.contains(&Action::Done) {
                    return Ok(true);
                }
            }
        }
        while let Some(Action::Send(frame)) = giver.more()? {
            if frames == frames_max {
                return Ok(false);
            }
            frames += 1;
            given_up = false;
            assert!(frame.len() <= FRAME_BYTES_MAX);
            to_giver.extend(taker.handle(&frame)?);
        }
        assert!(!given_up, "both wait for ever");
    }
}

fn copy(source: &Arc<Held>, kept: &Kept, frames_max: usize) -> Result<bool, TransferError> {
    let source: Arc<dyn Source> = source.clone();
    talk(
        &mut Giver::new(source),
        &mut Taker::new(Box::new(kept.clone())),
        frames_max,
    )
}

#[test]
fn everything_comes_and_the_giver_learns_of_it() {
    let lengths = [
        1,
        PIECE_BYTES_MAX - 1,
        PIECE_BYTES_MAX,
        PIECE_BYTES_MAX + 1,
        3 * PIECE_BYTES_MAX,
    ];
    for files in 0..=lengths.len() {
        let source = held(7, contents(1, &lengths[..files]));
        let kept = Kept::default();
        assert_eq!(copy(&source, &kept, usize::MAX), Ok(true));
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.contents, source.contents);
        assert!(kept.finished && *source.done.lock().unwrap());
    }
}

#[test]
fn a_manifest_longer_than_a_frame_comes_in_pieces() {
    let source = held(7, contents(1, &[1; 16_000]));
    assert!(source.manifest.encode().len() > 2 * PIECE_BYTES_MAX);
    let kept = Kept::default();
    assert_eq!(copy(&source, &kept, usize::MAX), Ok(true));
}

#[test]
fn broken_off_after_any_frame_it_goes_on_and_nothing_comes_twice() {
    let source = held(
        7,
        contents(1, &[10, 2 * PIECE_BYTES_MAX + 5, 10, PIECE_BYTES_MAX]),
    );
    // The manifest, six pieces, four hashes, the end: also between the last piece of a file and its hash.
    for frames in 1..12 {
        let kept = Kept::default();
        assert_eq!(copy(&source, &kept, frames), Ok(false));
        assert!(!*source.done.lock().unwrap());
        assert_eq!(copy(&source, &kept, usize::MAX), Ok(true));
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.written, source.manifest.bytes());
        assert_eq!(kept.contents, source.contents);
        *source.done.lock().unwrap() = false;
    }
}

#[test]
fn each_file_is_read_once_and_what_lies_before_a_break_again_only_for_its_hash() {
    let lengths = [5, 2 * PIECE_BYTES_MAX];
    let source = held(7, contents(1, &lengths));
    let read = || std::mem::take(&mut *source.read.lock().unwrap());
    let bytes = source.manifest.bytes();
    assert_eq!(copy(&source, &Kept::default(), usize::MAX), Ok(true));
    assert_eq!(read(), bytes);

    // The manifest, a file and its hash, a piece of the next.
    let kept = Kept::default();
    assert_eq!(copy(&source, &kept, 4), Ok(false));
    read();
    assert_eq!(copy(&source, &kept, usize::MAX), Ok(true));
    assert_eq!(read(), lengths[1] as u64);
}

#[test]
fn a_file_that_is_not_what_it_was_when_it_was_hashed_does_not_pass() {
    let made = held(7, contents(1, &[10, PIECE_BYTES_MAX + 1]));
    let hashes = made.contents.iter().map(|bytes| blake3::hash(bytes).into());
    let mut damaged = made.contents.clone();
    damaged[1][PIECE_BYTES_MAX] ^= 1;
    let source = |contents: &[Vec<u8>]| Held {
        manifest: made.manifest.clone(),
        contents: contents.to_vec(),
        hashes: hashes.clone().collect(),
        read: Mutex::new(0),
        done: Mutex::new(false),
    };
    let kept = Kept::default();
    assert!(copy(&Arc::new(source(&damaged)), &kept, usize::MAX).is_err());
    assert!(!kept.0.lock().unwrap().finished);
    assert!(gossip::snapshot::copy(&source(&damaged), &mut kept.clone()).is_err());
    // What was thrown away comes again.
    assert_eq!(
        gossip::snapshot::copy(&source(&made.contents), &mut kept.clone()),
        Ok(())
    );
    let kept = kept.0.lock().unwrap();
    assert!(kept.finished && kept.contents == made.contents);
}

#[test]
fn files_and_vector_are_never_of_two_checkpoints() {
    let lengths = [2 * PIECE_BYTES_MAX, 2 * PIECE_BYTES_MAX];
    let (first, second) = (held(7, contents(1, &lengths)), held(8, contents(2, &lengths)));
    for frames in 1..5 {
        let kept = Kept::default();
        assert_eq!(copy(&first, &kept, frames), Ok(false));
        assert_eq!(copy(&second, &kept, usize::MAX), Ok(true));
        let kept = kept.0.lock().unwrap();
        assert_eq!(kept.contents, second.contents);
        assert_eq!(kept.manifest.as_ref().unwrap().vector, vector(8));
    }
    // Nor can one that says so be made: its id is the hash of all of it.
    let mut mixed = first.manifest.clone();
    mixed.vector = vector(8);
    assert!(Manifest::decode(&mixed.encode()).is_err());
    mixed.vector = vector(7);
    assert_eq!(Manifest::decode(&mixed.encode()), Ok(mixed));
}

#[test]
fn manifests_that_no_replica_makes_are_refused() {
    #[track_caller]
    fn check(files: Vec<File>, words: &str) {
        let manifest = Manifest::new([1; 16], vector(1), Vector::new(), Vec::new(), files);
        let error = Manifest::decode(&manifest.encode()).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    let good = file("a", b"x");
    for name in ["", "..", ".hidden", "a/b", "a\\b", "a\0", "ä", &"a".repeat(65)] {
        check(vec![file(name, b"x")], "plain");
    }
    check(vec![good.clone(), good.clone()], "twice");
    check(vec![file("a", b"")], "length");
    let endless = |name: &str| File {
        bytes: u64::MAX,
        ..file(name, b"x")
    };
    check(vec![endless("a"), endless("b")], "length");
    let many = (0..20_000).map(|number: u32| file(&number.to_string(), b"x"));
    check(many.collect(), "too");
}

/// Replaces the n-th frame from the giver, and says how the taker takes it.
fn with_frame(place: usize, change: impl Fn(&mut Vec<u8>)) -> Result<(), TransferError> {
    let source = held(7, contents(1, &[PIECE_BYTES_MAX + 1, 3]));
    let mut giver = Giver::new(source);
    let mut taker = Taker::new(Box::new(Kept::default()));
    let mut to_giver: Vec<Action> = taker.more()?.into_iter().collect();
    let mut frames = 0;
    while !to_giver.is_empty() {
        for action in std::mem::take(&mut to_giver) {
            if let Action::Send(frame) = action {
                giver.handle(&frame)?;
            }
        }
        while let Some(Action::Send(mut frame)) = giver.more()? {
            if frames == place {
                change(&mut frame);
            }
            frames += 1;
            to_giver.extend(taker.handle(&frame)?);
        }
    }
    Ok(())
}

#[test]
fn a_giver_that_cheats_is_found_out() {
    // Frames: the manifest, two pieces, a hash, a piece, a hash, the end.
    for place in 0..6 {
        let last = |frame: &mut Vec<u8>| *frame.last_mut().unwrap() ^= 1;
        assert!(with_frame(place, last).is_err(), "frame {place} altered");
        let shorter = |frame: &mut Vec<u8>| frame.truncate(frame.len() - 1);
        let result = with_frame(place, shorter);
        // A manifest that is cut off is waited for.
        assert!(result.is_err() || place == 0, "frame {place} cut");
        assert!(
            with_frame(place, |frame| frame.push(0)).is_err(),
            "frame {place} longer"
        );
        assert!(with_frame(place, Vec::clear).is_err(), "frame {place} empty");
    }
    assert!(with_frame(6, |frame| frame.push(0)).is_err());
    assert_eq!(with_frame(9, Vec::clear), Ok(()));
}

#[test]
fn whoever_gives_up_says_why() {
    let words = TransferError::from(SnapshotError("the disk is full".to_owned()));
    let frame = words.to_frame().expect("a frame");
    let gave_up = Err(TransferError::GaveUp("the disk is full".to_owned()));
    assert_eq!(Taker::new(Box::new(Kept::default())).handle(&frame), gave_up);
    assert_eq!(Giver::new(held(1, Vec::new())).handle(&frame), gave_up);
    assert_eq!(TransferError::GaveUp(String::new()).to_frame(), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The frames of one small transfer, byte by byte: a peer of another version reads and sends these.
#[test]
fn frames_are_as_they_ever_were() {
    let source = held(7, vec![b"one".to_vec()]);
    let mut giver = Giver::new(source);
    let mut taker = Taker::new(Box::new(Kept::default()));
    let mut frames = Vec::new();
    let mut to_giver: Vec<Action> = taker.more().unwrap().into_iter().collect();
    while !to_giver.is_empty() {
        for action in std::mem::take(&mut to_giver) {
            if let Action::Send(frame) = action {
                frames.push(hex(&frame));
                giver.handle(&frame).unwrap();
            }
        }
        while let Some(Action::Send(frame)) = giver.more().unwrap() {
            frames.push(hex(&frame));
            to_giver.extend(taker.handle(&frame).unwrap());
        }
    }
    let fixture = include_str!("fixtures/snapshot-1.txt");
    assert_eq!(frames, fixture.lines().collect::<Vec<_>>(), "{frames:#?}");
}

proptest! {
    #[test]
    fn junk_is_an_error_and_nothing_panics(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)) {
        let mut giver = Giver::new(held(7, contents(1, &[10])));
        let mut taker = Taker::new(Box::new(Kept::default()));
        let _ = taker.more();
        for frame in &frames {
            let _ = giver.handle(frame);
            let _ = giver.more();
            let _ = taker.handle(frame);
        }
    }

    /// Frames that are well formed, in any order, from either side.
    #[test]
    fn frames_out_of_turn_harm_nobody(order in prop::collection::vec((any::<bool>(), 0..10_usize), 0..30)) {
        let source = held(7, contents(1, &[10, PIECE_BYTES_MAX + 1]));
        let frames: Vec<Vec<u8>> = {
            let mut giver = Giver::new(source.clone());
            let mut taker = Taker::new(Box::new(Kept::default()));
            let mut frames = Vec::new();
            let mut to_giver: Vec<Action> = taker.more().unwrap().into_iter().collect();
            while !to_giver.is_empty() {
                for action in std::mem::take(&mut to_giver) {
                    if let Action::Send(frame) = action {
                        giver.handle(&frame).unwrap();
                        frames.push(frame);
                    }
                }
                while let Some(Action::Send(frame)) = giver.more().unwrap() {
                    to_giver.extend(taker.handle(&frame).unwrap());
                    frames.push(frame);
                }
            }
            frames
        };
        let kept = Kept::default();
        let mut giver = Giver::new(source.clone());
        let mut taker = Taker::new(Box::new(kept.clone()));
        let _ = taker.more();
        for (to_giver, place) in order {
            let frame = &frames[place % frames.len()];
            if to_giver {
                let _ = giver.handle(frame);
                let _ = giver.more();
            } else {
                let _ = taker.handle(frame);
            }
        }
        let kept = kept.0.lock().unwrap();
        prop_assert!(!kept.finished || kept.contents == source.contents);
    }
}
