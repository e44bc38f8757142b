//! What the fuzz targets share: good bytes to start from, and a way past the checksum.
//!
//! Run one with `RUSTC_BOOTSTRAP=1 cargo fuzz run change` in `crdt/`.

use std::panic;

use crdt::{
    AccountId, AccountWrite, Actor, Claim, ClaimedBy, Document, EmailWrite, Epoch, Hlc, Password, RecordKind,
    VaultId, Write,
};
use libfuzzer_sys::fuzzer_mutate;
use sha2::{Digest, Sha256};

/// libFuzzer's own hook aborts at every panic; those that the crate catches are none of its business.
pub fn let_caught_panics_pass() {
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !crdt::decoding() {
            abort(info);
        }
    }));
}

/// Mutates a chunk's contents, then puts its length and its checksum right, so that the contents are reached.
pub fn mutate_chunk(data: &mut [u8], size: usize, size_max: usize, good: &[u8]) -> usize {
    let mut bytes = data.get(..size).unwrap_or_default().to_vec();
    if body(&bytes).is_none() {
        bytes = good.to_vec();
    }
    let Some(contents) = body(&bytes) else { return size };
    let mut contents = contents.to_vec();
    let length = contents.len();
    let room = size_max.saturating_sub(HEADER_MAX).max(length);
    contents.resize(room, 0);
    let length = fuzzer_mutate(&mut contents, length, room);
    contents.truncate(length);
    let chunk = chunk(good.get(8).copied().unwrap_or(1), &contents);
    match data.get_mut(..chunk.len()) {
        Some(target) if chunk.len() <= size_max => {
            target.copy_from_slice(&chunk);
            chunk.len()
        }
        _ => size,
    }
}

/// The longest header: four bytes of magic, four of checksum, the type, and ten of length.
const HEADER_MAX: usize = 19;

fn body(chunk: &[u8]) -> Option<&[u8]> {
    let rest = chunk.get(9..)?;
    let length = 1 + rest.iter().position(|byte| byte & 0x80 == 0)?;
    rest.get(length..)
}

fn chunk(kind: u8, contents: &[u8]) -> Vec<u8> {
    let mut hashed = vec![kind];
    let mut length = contents.len();
    while length >= 0x80 {
        hashed.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    hashed.push(length as u8);
    hashed.extend_from_slice(contents);
    let mut chunk = vec![0x85, 0x6f, 0x4a, 0x83];
    chunk.extend_from_slice(&Sha256::digest(&hashed)[..4]);
    chunk.extend_from_slice(&hashed);
    chunk
}

/// An address's history: two writers who saw each other, and a third who saw nothing.
pub fn email() -> (Document, Vec<Vec<u8>>) {
    let claim = |who: u8, proof: u64| {
        let claim = Claim {
            account: AccountId::from_bytes([who; 15]),
            vault: VaultId::from_bytes([who; 16]),
            proof: Hlc::new(proof, 0),
            done: Hlc::new(proof, 1),
            resets: 0,
            by: ClaimedBy::Mail,
            released: Vec::new(),
        };
        [Write::Email(EmailWrite::Claim(claim))]
    };
    let release = |who: u8, ms: u64| {
        [Write::Email(EmailWrite::Release {
            account: AccountId::from_bytes([who; 15]),
            at: Hlc::new(ms, 0),
        })]
    };
    let new = || Document::new(RecordKind::Email);
    let mut first = new();
    let mut changes = vec![
        write(&mut first, 1, &claim(1, 5)),
        write(&mut first, 1, &release(1, 7)),
    ];
    let mut second = apply(new(), &changes[..1]);
    changes.push(write(&mut second, 2, &claim(2, 9)));
    changes.push(write(&mut new(), 3, &claim(3, 8)));
    let mut merged = apply(first, &changes[2..]);
    changes.push(write(&mut merged, 1, &release(2, 20)));
    (merged, changes)
}

/// An account's history: one change of several fields.
pub fn account() -> Document {
    let at = Hlc::new(5, 0);
    let password = Password {
        resets: 0,
        changed: at,
        done: at,
        rehashes: 0,
        vault: VaultId::from_bytes([7; 16]),
    };
    let mut document = Document::new(RecordKind::Account);
    let writes = [
        Write::Account(AccountWrite::Created(at)),
        Write::Account(AccountWrite::Password(password)),
        Write::Account(AccountWrite::SessionEpoch(Epoch { resets: 0, at })),
    ];
    write(&mut document, 1, &writes);
    document
}

fn write(document: &mut Document, actor: u8, writes: &[Write]) -> Vec<u8> {
    document.write(Actor([actor; 8]), writes).expect("a good write")
}

fn apply(document: Document, changes: &[Vec<u8>]) -> Document {
    document.apply(changes).expect("good changes")
}

/// What was accepted must save, load again, and be the same.
pub fn check_sound(document: &Document) {
    let loaded = Document::load(RecordKind::Email, &document.save()).expect("what was accepted loads again");
    assert_eq!(loaded.heads(), document.heads());
    assert_eq!(loaded.view(), document.view());
    assert_eq!(loaded.changes(), document.changes());
}
