//! A change from a peer, its checksum right and its contents not, applied to what it might have followed.
#![no_main]

use std::sync::OnceLock;

use crdt::{Document, RecordKind};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static HISTORY: OnceLock<Vec<Step>> = OnceLock::new();

/// A change, and the document as it was before it, saved.
struct Step {
    before: Vec<u8>,
    change: Vec<u8>,
}

fn history() -> &'static [Step] {
    HISTORY.get_or_init(|| {
        let changes = crdt_fuzz::email().1;
        let before = |known: usize| {
            let document = Document::new(RecordKind::Email)
                .apply(&changes[..known])
                .expect("good changes");
            document.save()
        };
        changes
            .iter()
            .enumerate()
            .map(|(known, change)| Step {
                before: before(known),
                change: change.clone(),
            })
            .collect()
    })
}

fuzz_target!(init: crdt_fuzz::let_caught_panics_pass(), |data: &[u8]| {
    // One of the steps, as the contents have it: the checksum's first byte is as good as random.
    let step = data.get(4).map_or(0, |byte| usize::from(*byte)) % history().len();
    let before = Document::load(RecordKind::Email, &history()[step].before).expect("a good document");
    if let Ok(after) = before.apply(&[data]) {
        crdt_fuzz::check_sound(&after);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, size_max: usize, seed: u32| {
    let good = &history()[seed as usize % history().len()].change;
    crdt_fuzz::mutate_chunk(data, size, size_max, good)
});
