//! A document from a disk or a peer, its checksum right and its contents not.
#![no_main]

use std::sync::OnceLock;

use crdt::{AccountId, Actor, Document, EmailWrite, Hlc, RecordKind, Write};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static SAVED: OnceLock<[Vec<u8>; 2]> = OnceLock::new();

fn saved() -> &'static [Vec<u8>; 2] {
    SAVED.get_or_init(|| [crdt_fuzz::email().0.save(), crdt_fuzz::account().save()])
}

fuzz_target!(init: crdt_fuzz::let_caught_panics_pass(), |data: &[u8]| {
    if let Ok(mut loaded) = Document::load(RecordKind::Email, data) {
        crdt_fuzz::check_sound(&loaded);
        let release = EmailWrite::Release { account: AccountId::from_bytes([1; 15]), at: Hlc::new(99, 0) };
        if loaded.write(Actor([9; 8]), &[Write::Email(release)]).is_ok() {
            crdt_fuzz::check_sound(&loaded);
        }
    }
    let _ = Document::load(RecordKind::Account, data).map(|loaded| loaded.view());
});

fuzz_mutator!(|data: &mut [u8], size: usize, size_max: usize, seed: u32| {
    crdt_fuzz::mutate_chunk(data, size, size_max, &saved()[seed as usize % saved().len()])
});
