//! `kill -9` in a loop under concurrent writes: after each, the store is some prefix of its history, whole
//! transactions only, never less than what it answered for.
//!
//! The suite does twenty rounds. The long command:
//! `PERSONA_KILL_ROUNDS=200 cargo test --release --workspace --features lab --test site kill_loop`

use std::collections::{BTreeMap, BTreeSet};

use crdt::{AccountId, RecordKey};
use gossip::{Dot, Received, Vector, quic::LogChunk};
use persona::{
    identity::{Address, IndexKey},
    store::{
        Records, Store, TransactError,
        disk::{Family, memory::MemoryDisk},
    },
};
use rand::{RngExt, rngs::StdRng};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    chance,
    process::{Client, Failure, Plan, assert_sound},
};

const ROUNDS: usize = 20;
const WRITERS: usize = 8;
/// A round ends after at most so many answers.
const ANSWERS_MAX: usize = 150;
/// The whole history is replayed after every round so far apart, and after the last.
const REPLAY_EVERY: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_the_store_is_whole_and_has_all_that_it_answered_for() {
    let rounds = std::env::var("PERSONA_KILL_ROUNDS").map_or(ROUNDS, |rounds| {
        rounds.parse().expect("PERSONA_KILL_ROUNDS is a number")
    });
    let seed = chance::seed("kill_loop");
    let mut random = chance::part(seed, 0);
    let plan = Plan::new(1);
    let mut known = Known::default();
    for round in 0..rounds {
        let site = plan.start(0).await;
        // Once in a while it dies before anybody was answered.
        let answers = random
            .random_range(0..=ANSWERS_MAX)
            .saturating_sub(ANSWERS_MAX / 10);
        let (tell, mut told) = mpsc::unbounded_channel();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let part = (round * WRITERS + writer + 1) as u64;
            let person = Writer {
                client: site.client.clone(),
                random: chance::part(seed, part),
                name: format!("r{round}w{writer}"),
                accounts: Vec::new(),
                tell: tell.clone(),
            };
            writers.spawn(person.write_until_nobody_answers());
        }
        drop(tell);
        for _ in 0..answers {
            known.note(told.recv().await.expect("they write until it dies"));
        }
        site.kill().await;
        while let Some(done) = writers.join_next().await {
            known
                .in_doubt
                .extend(done.unwrap_or_else(|error| panic!("round {round}: {error}")));
        }
        // What was answered while the kill was on its way counts as well.
        while let Some(answer) = told.recv().await {
            known.note(answer);
        }
        let store = plan.open(0);
        known.assert_kept(&store, plan.configs[0].cluster.index_key.0);
        assert_whole(&store);
        if (round + 1) % REPLAY_EVERY == 0 || round + 1 == rounds {
            assert_is_its_log(&store).await;
        }
        store.close();
    }
    println!(
        "{rounds} rounds, {} writes answered, none lost",
        known.answered.len()
    );
    let site = plan.start(0).await;
    known.assert_served(&site.client, &mut random).await;
    site.stop().await;
}

/// What a writer was told.
struct Answer {
    dot: Option<Dot>,
    deed: Deed,
}

enum Deed {
    SignedUp { account: String, address: String },
    Added { account: String, address: String },
    SignedOut,
    Cancelled { account: String },
}

/// Writes as fast as it is answered, to accounts that it made itself in this round.
struct Writer {
    client: Client,
    random: StdRng,
    name: String,
    accounts: Vec<String>,
    tell: mpsc::UnboundedSender<Answer>,
}

impl Writer {
    /// Gives the account whose cancellation was asked for and not answered, if that is how it ended.
    async fn write_until_nobody_answers(mut self) -> Option<String> {
        for step in 0.. {
            let at = (!self.accounts.is_empty()).then(|| self.random.random_range(0..self.accounts.len()));
            let kind = self.random.random_range(0..10);
            let mut doubtful = None;
            let address = format!("{}n{step}@example.org", self.name);
            let written = match (kind, at) {
                (0..4, _) | (_, None) => self.client.sign_up(&address).await.map(|(account, dot)| {
                    self.accounts.push(account.clone());
                    (Some(dot), Deed::SignedUp { account, address })
                }),
                (4..7, Some(at)) => {
                    let account = self.accounts[at].clone();
                    let added = self.client.add_email(&account, &address).await;
                    added.map(|dot| (dot, Deed::Added { account, address }))
                }
                (7..9, Some(at)) => {
                    let signed_out = self.client.sign_out_everywhere(&self.accounts[at]).await;
                    signed_out.map(|dot| (dot, Deed::SignedOut))
                }
                (_, Some(at)) => {
                    let account = self.accounts.swap_remove(at);
                    doubtful = Some(account.clone());
                    self.client
                        .cancel(&account)
                        .await
                        .map(|dot| (dot, Deed::Cancelled { account }))
                }
            };
            match written {
                Ok((dot, deed)) => {
                    assert!(dot.is_some(), "everything here has to be written");
                    // The other end is there until everyone has ended.
                    let _ = self.tell.send(Answer { dot, deed });
                }
                Err(Failure::Unanswered(_)) => return doubtful,
                Err(refused) => panic!("{}: {refused:?}", self.name),
            }
        }
        None
    }
}

/// All that was answered, in every round.
#[derive(Default)]
struct Known {
    answered: Vec<Dot>,
    /// Address → account.
    addresses: BTreeMap<String, String>,
    cancelled: BTreeSet<String>,
    /// Their cancellation was asked for and not answered: both are right.
    in_doubt: BTreeSet<String>,
}

impl Known {
    fn note(&mut self, answer: Answer) {
        self.answered.extend(answer.dot);
        match answer.deed {
            Deed::SignedUp { account, address } | Deed::Added { account, address } => {
                self.addresses.insert(address, account);
            }
            Deed::Cancelled { account } => {
                self.cancelled.insert(account);
            }
            Deed::SignedOut => {}
        }
    }

    fn assert_kept(&self, store: &Store, index_key: [u8; 32]) {
        assert_sound(store, &self.answered);
        let index_key = IndexKey::new(index_key);
        let looked = store.read(|records| {
            for (address, account) in &self.addresses {
                let id: AccountId = account.parse().expect("an account");
                let email = Address::parse(address).expect("an address").id(&index_key);
                let view = records
                    .account(id)
                    .expect("a record")
                    .unwrap_or_else(|| panic!("{address} is lost"));
                if self.cancelled.contains(account) {
                    assert!(view.cancelled, "{account} was cancelled");
                } else if !self.in_doubt.contains(account) {
                    assert!(!view.cancelled, "{account} was never cancelled");
                    let emails = records.emails_of(id).expect("an index");
                    assert!(emails.contains(&email), "{address} is no longer of {account}");
                }
            }
        });
        looked.expect("a snapshot");
    }

    /// A few of those people sign in; the cancelled do not.
    async fn assert_served(&self, client: &Client, random: &mut StdRng) {
        let addresses: Vec<(&String, &String)> = self.addresses.iter().collect();
        for _ in 0..addresses.len().min(50) {
            let (address, account) = addresses[random.random_range(0..addresses.len())];
            if self.cancelled.contains(account) {
                assert!(
                    client.is_not_let_in(address).await,
                    "{address} is of a cancelled account"
                );
            } else if !self.in_doubt.contains(account) {
                let signed_in = client
                    .sign_in(address)
                    .await
                    .unwrap_or_else(|error| panic!("{address}: {error:?}"));
                assert_eq!(&signed_in["account"], account);
            }
        }
    }
}

/// A sign-up makes an account and a claim: whichever is here, the other is too.
fn assert_whole(store: &Store) {
    let mut keys = Vec::new();
    let scanned = store.scan_everything(|family, key, _| {
        if family == Family::Documents {
            keys.push(RecordKey::from_bytes(key.try_into().expect("a record's key")));
        }
    });
    scanned.expect("a readable store");
    let looked = store.read(|records| {
        for key in keys {
            if let Some(id) = key.account() {
                let view = records
                    .account(id)
                    .expect("a record")
                    .expect("a view beside its document");
                let emails = records.emails_of(id).expect("an index");
                assert!(view.cancelled || !emails.is_empty(), "{id} has no address");
            }
            if let Some(id) = key.email() {
                let view = records
                    .email(id)
                    .expect("a record")
                    .expect("a view beside its document");
                for account in view.accounts() {
                    let account = records.account(account).expect("a record");
                    assert!(
                        account.is_some(),
                        "{id} is claimed by an account that is not here"
                    );
                }
            }
        }
    });
    looked.expect("a snapshot");
}

/// Applied to an empty replica, the log gives exactly what the store holds: all of each transaction, nothing else.
async fn assert_is_its_log(store: &Store) {
    let replica = Store::open_memory(MemoryDisk::new(), || 1_700_000_000_000, [7; 32]).expect("a store");
    let mut position = None;
    loop {
        let chunk = store
            .read_log(&Vector::new(), position, 1 << 20)
            .expect("a readable log");
        let LogChunk::Transactions { transactions, next } = chunk else {
            panic!("nothing was trimmed")
        };
        replica.apply(
            transactions
                .into_iter()
                .map(|bytes| Received::decode(bytes).expect("a transaction")),
        );
        position = next;
        if position.is_none() {
            break;
        }
    }
    // Queued behind all of them.
    replica
        .transact(|_| Ok::<(), TransactError>(()))
        .await
        .expect("an empty write");
    assert_eq!(replica.state().vector, store.state().vector);
    assert_eq!(
        replica.digest().expect("a digest"),
        store.digest().expect("a digest")
    );
}
