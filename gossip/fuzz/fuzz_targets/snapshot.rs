//! Frames of a transfer from a peer: any bytes, to either end. And manifests, from a peer or a disk.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run snapshot` in `gossip/`.
#![no_main]

use std::sync::Arc;

use gossip::Vector;
use gossip::snapshot::{File, Giver, Manifest, Sink, SnapshotError, Source, Taker};
use libfuzzer_sys::fuzz_target;

struct Small(Manifest);

impl Source for Small {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn read(&self, _: usize, offset: u64, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        bytes.copy_from_slice(&b"small"[offset as usize..][..bytes.len()]);
        Ok(())
    }
}

struct Nothing;

impl Sink for Nothing {
    fn begin(&mut self, _: &Manifest) -> Result<(usize, u64), SnapshotError> {
        Ok((0, 0))
    }

    fn write(&mut self, _: usize, _: u64, _: &[u8]) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn complete(&mut self, _: usize, _: &[u8; 32]) -> Result<(), SnapshotError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SnapshotError> {
        Ok(())
    }
}

fuzz_target!(|frames: Vec<&[u8]>| {
    let file = File {
        name: "small".to_owned(),
        bytes: 5,
    };
    let manifest = Manifest::new([7; 16], Vector::new(), Vector::new(), Vec::new(), vec![file]);
    let mut giver = Giver::new(Arc::new(Small(manifest)));
    let mut taker = Taker::new(Box::new(Nothing));
    let _ = taker.more();
    for frame in frames {
        let _ = giver.handle(frame);
        let _ = giver.more();
        let _ = taker.handle(frame);
        if let Ok(manifest) = Manifest::decode(frame) {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }
});
