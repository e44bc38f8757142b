//! Transactions that no sound replica makes: forged from real ones, so that they get as far as they can.

use std::{sync::Arc, time::SystemTime};

use crdt::{Cell, CellKind, Hlc, RecordKey, Transaction, VaultValue};
use gossip::{Received, Vector, quic::LogChunk};
use persona::{
    identity::{Address, Identity, IndexKey, Outcome, PasswordPool, PasswordSettings, TypedPassword, Word},
    store::{Store, disk::memory::MemoryDisk},
};
use rand::{Rng, RngExt, rngs::StdRng};
use sha2::{Digest, Sha256};

use crate::{process::PASSWORD, relay::spoil};

const PEOPLE: usize = 12;

/// Real transactions, and the addresses that they are about.
pub(crate) struct Forger {
    bodies: Vec<Vec<u8>>,
    pub(crate) addresses: Vec<String>,
}

impl Forger {
    /// Lets some people live in a replica in memory: sign up, add addresses, sign out, reset, cancel.
    pub(crate) async fn new(index_key: [u8; 32]) -> Forger {
        let clock = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        let store = Store::open_memory(MemoryDisk::new(), clock, rand::random()).expect("a store");
        let settings = PasswordSettings {
            memory_kib: 8,
            iterations: 1,
            threads: 1,
            ..PasswordSettings::default()
        };
        let passwords = PasswordPool::new(&settings).expect("a pool");
        let identity = Identity::new(store.clone(), IndexKey::new(index_key), passwords);
        let address = |text: &str| Address::parse(text).expect("an address");
        let password = || TypedPassword::parse(PASSWORD.to_owned()).expect("a password");
        let mut addresses = Vec::new();
        for number in 0..PEOPLE {
            let (first, second) = (
                format!("forged{number}@example.org"),
                format!("forged{number}b@example.org"),
            );
            let made = identity
                .create_account(address(&first), password(), Word::Operator)
                .await
                .expect("written");
            let Outcome::Done { value: account, .. } = made else {
                panic!("{made:?}")
            };
            let _ = identity
                .add_email(account, address(&second), Word::Operator)
                .await
                .expect("written");
            let _ = identity.sign_out_everywhere(account).await.expect("written");
            let _ = identity
                .reset_password(address(&first), password(), Word::Operator)
                .await
                .expect("written");
            if number % 3 == 0 {
                let _ = identity.cancel_account(account).await.expect("written");
            }
            addresses.extend([first, second]);
        }
        let log = store.read_log(&Vector::new(), None, usize::MAX).expect("a log");
        let LogChunk::Transactions { transactions, .. } = log else {
            panic!("nothing was trimmed")
        };
        let body = |bytes: Arc<[u8]>| Received::decode(bytes).expect("a transaction").envelope.body;
        Forger {
            bodies: transactions.into_iter().map(body).collect(),
            addresses,
        }
    }

    /// One of the real bodies.
    pub(crate) fn sound(&self, random: &mut StdRng) -> Vec<u8> {
        self.bodies[random.random_range(0..self.bodies.len())].clone()
    }

    /// A body that is spoilt somewhere between its first byte and the contents of its last Automerge column.
    pub(crate) fn forge(&self, random: &mut StdRng) -> Vec<u8> {
        let body = self.sound(random);
        let mut transaction = Transaction::decode(&body).expect("a transaction");
        match random.random_range(0..10) {
            0 => return noise(random, 2000),
            1 => return spoil(&body, random),
            2 => return giant(random),
            3 => {
                // A change under the key of another record, or of none.
                let key: [u8; 16] = match random.random_range(0..3) {
                    0 => *RecordKey::CLUSTER.as_bytes(),
                    1 => random.random(),
                    _ => {
                        let mut key = *transaction.records[0].key.as_bytes();
                        key[0] ^= b'a' ^ b'e';
                        key
                    }
                };
                transaction.records[0].key = RecordKey::from_bytes(key);
            }
            4 => {
                // Twice the same, or without what it follows.
                let again = transaction.records[0].clone();
                transaction.records.push(again);
            }
            5 => {
                transaction.hlc = Hlc::from_u64(u64::MAX);
                transaction.vault = vec![VaultValue::new(random.random(), noise(random, 300))];
                transaction.cells = vec![Cell {
                    kind: CellKind(random.random_range(0..8)),
                    key: noise(random, 32),
                    slot: random.random(),
                    stamp: Hlc::from_u64(u64::MAX),
                    value: noise(random, 64),
                    expires_ms: u64::MAX,
                }];
            }
            _ => {
                let place = random.random_range(0..transaction.records.len());
                for change in &mut transaction.records[place].changes {
                    *change = forge_chunk(change, random);
                }
            }
        }
        transaction.encode()
    }
}

fn noise(random: &mut StdRng, length_max: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..length_max)];
    random.fill_bytes(&mut bytes);
    bytes
}

/// CBOR that claims to be longer than the world is: an array, a map, bytes or text, nested or in a field.
pub(crate) fn giant(random: &mut StdRng) -> Vec<u8> {
    let major = [0x9b, 0xbb, 0x5b, 0x7b][random.random_range(0..4)];
    let length: u64 = [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 32, 1 << 30][random.random_range(0..5)];
    let claim = [&[major][..], &length.to_be_bytes()].concat();
    match random.random_range(0..4) {
        0 => claim,
        // Deep rather than wide.
        1 => vec![0x81; 20_000],
        // {"f": 1, "h": 1, "r": …} and {"f": 1, "h": 1, "c": …}
        2 => [&b"\xa3\x61f\x01\x61h\x01\x61r"[..], &claim].concat(),
        _ => [&b"\xa3\x61f\x01\x61h\x01\x61c"[..], &claim].concat(),
    }
}

/// Changes the contents of an Automerge chunk and puts length and checksum right, so that they are looked at.
fn forge_chunk(chunk: &[u8], random: &mut StdRng) -> Vec<u8> {
    // Magic (4), checksum (4), type (1), length (LEB128), contents.
    let header = 10
        + chunk[9..]
            .iter()
            .position(|byte| byte & 0x80 == 0)
            .expect("a length");
    let mut contents = spoil(&chunk[header..], random);
    if random.random_range(0..4) == 0 && !contents.is_empty() {
        // A number in it becomes enormous.
        let at = random.random_range(0..contents.len());
        contents.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    }
    let mut hashed = vec![chunk[8]];
    let mut length = contents.len();
    while length >= 0x80 {
        hashed.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    hashed.push(length as u8);
    hashed.extend_from_slice(&contents);
    let checksum = Sha256::digest(&hashed);
    [&chunk[..4], &checksum[..4], &hashed].concat()
}
