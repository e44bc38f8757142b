//! A change from a peer, its checksum right and its contents not, applied to what it might have followed.
#![no_main]

use std::sync::OnceLock;

use crdt::{Document, RecordKind};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static CHANGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();

fn changes() -> &'static [Vec<u8>] {
    CHANGES.get_or_init(|| crdt_fuzz::email().1)
}

fuzz_target!(init: crdt_fuzz::let_caught_panics_pass(), |data: &[u8]| {
    for known in 0..changes().len() {
        let before = Document::new(RecordKind::Email).apply(&changes()[..known]).expect("good changes");
        if let Ok(after) = before.apply(&[data]) {
            crdt_fuzz::check_sound(&after);
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, size_max: usize, seed: u32| {
    let good = &changes()[seed as usize % changes().len()];
    crdt_fuzz::mutate_chunk(data, size, size_max, good)
});
