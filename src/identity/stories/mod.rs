//! What people do, at one site or at two that cannot hear each other, told over a store in memory.

mod addresses;
mod certificates;
mod kept_back;
mod mailed;
mod phisher;
mod primaries;
mod proofs;
mod recovery;
mod repeated;
mod sessions;
mod signing_in;
mod stagings;
mod tiers;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crdt::{AccountId, ClaimedBy, Epoch, Hlc, Purpose};
use gossip::{Received, quic::LogChunk};

use super::{
    claims::{self, Session},
    sign_in::{TRIES_KEEP_MS, TRIES_MAX},
    staging::{Begin, Begun, BegunHere, Code, Completed, Completion, Link, Nonce, PasswordSession, Token},
    *,
};
use crate::store::{
    Records,
    disk::{
        Family,
        memory::{Fault, MemoryDisk},
    },
};

/// When every story begins, in milliseconds.
const MORNING: u64 = 1_700_000_000_000;
const OLD: &str = "correct horse";
const NEW: &str = "battery staple";
const OTHER: &str = "something else";

/// One site with a replica of its own.
struct Site {
    identity: Identity,
    store: Store,
    clock: Arc<AtomicU64>,
}

impl Site {
    fn new(seed: u8) -> Site {
        Site::with_iterations(seed, 1)
    }

    fn with_iterations(seed: u8, iterations: u32) -> Site {
        Site::on(MemoryDisk::new(), seed, iterations)
    }

    /// A site and its disk, for things to go wrong on.
    fn with_disk(seed: u8) -> (Site, MemoryDisk) {
        let disk = MemoryDisk::new();
        (Site::on(disk.clone(), seed, 1), disk)
    }

    fn on(disk: MemoryDisk, seed: u8, iterations: u32) -> Site {
        let clock = Arc::new(AtomicU64::new(MORNING));
        let wall = clock.clone();
        let store = Store::open_memory(disk, move || wall.load(Ordering::Relaxed), [seed; 32]);
        let store = store.expect("a store in memory");
        Site {
            identity: identity(&store, &clock, iterations),
            store,
            clock,
        }
    }

    /// The same site after its operator changed the cost of a hash.
    fn costing(self, iterations: u32) -> Site {
        Site {
            identity: identity(&self.store, &self.clock, iterations),
            ..self
        }
    }

    fn here(&self) -> &Here {
        match self.identity.replica() {
            Replica::Here(here) => here,
            Replica::There(_) => panic!("a replica in this process"),
        }
    }

    fn wait(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Gives `other` all that it lacks.
    async fn send_to(&self, other: &Site) {
        self.come_to_rest().await;
        other.come_to_rest().await;
        let lacking = other.store.state().vector.clone();
        let LogChunk::Transactions { transactions, .. } =
            self.store.read_log(&lacking, None, usize::MAX).expect("a log")
        else {
            panic!("nothing was trimmed")
        };
        other.store.apply(
            transactions
                .into_iter()
                .map(|bytes| Received::decode(bytes).expect("our own")),
        );
        other.come_to_rest().await;
        assert!(
            other
                .store
                .state()
                .vector
                .covers_vector(&self.store.state().vector)
        );
    }

    /// All that waited is committed, and the store's state says so: groups are committed in order, and the second
    /// of two empty writes, one after the other, is in a later group than whatever came before the first.
    async fn come_to_rest(&self) {
        for _ in 0..2 {
            self.store
                .transact(|_| Ok::<(), TransactError>(()))
                .await
                .expect("an empty write");
        }
    }

    async fn create(&self, typed: &str, password: &str, word: Word) -> Outcome<AccountId> {
        self.identity
            .create_account(address(typed), pass(password), word)
            .await
            .expect("create")
    }

    async fn sign_in(&self, typed: &str, password: &str) -> Outcome<SignedIn> {
        self.identity
            .sign_in(&address(typed), pass(password), None)
            .await
            .expect("sign in")
    }

    async fn add(&self, account: AccountId, typed: &str, word: Word) -> Outcome<crdt::EmailId> {
        self.identity
            .add_email(account, address(typed), word)
            .await
            .expect("add")
    }

    async fn reset(&self, typed: &str, password: &str, word: Word) -> Outcome<SignedIn> {
        self.identity
            .reset_password(address(typed), pass(password), word)
            .await
            .expect("reset")
    }

    async fn change(&self, account: AccountId, old: &str, new: &str) -> Outcome<Epoch> {
        self.identity
            .change_password(account, pass(old), pass(new), None)
            .await
            .expect("change")
    }

    async fn remove(&self, account: AccountId, typed: &str) -> Outcome<crdt::EmailId> {
        self.identity
            .remove_email(account, &address(typed))
            .await
            .expect("remove")
    }

    async fn cancel(&self, account: AccountId) -> Outcome<()> {
        self.identity.cancel_account(account).await.expect("cancel")
    }

    /// Begins something in a browser of its own, and reads the mail.
    async fn begin(&self, begin: Begin) -> Mailed {
        let nonce = Nonce::new(rand::random());
        let begun = self.identity.begin(begin, None, &nonce).await.expect("begin");
        let Begun::Staged {
            here,
            mail: Some(challenge),
        } = done(begun)
        else {
            panic!("no mail")
        };
        Mailed {
            here,
            token: challenge.token,
            code: challenge.code,
        }
    }

    async fn begin_sign_up(&self, typed: &str, password: &str) -> Mailed {
        self.begin(Begin::NewAccount {
            address: address(typed),
            password: pass(password),
        })
        .await
    }

    async fn begin_addition(&self, account: AccountId, typed: &str) -> Mailed {
        self.begin(Begin::AddEmail {
            account,
            address: address(typed),
            password: None,
        })
        .await
    }

    async fn begin_reset(&self, typed: &str) -> Mailed {
        self.begin(Begin::Reset {
            address: address(typed),
        })
        .await
    }

    /// Follows a link in a browser that holds `here`.
    async fn follow(
        &self,
        token: &Token,
        here: Option<&BegunHere>,
        password: Option<&str>,
    ) -> Outcome<Completion> {
        self.follow_to(&EVERY_PURPOSE, token, here, password).await
    }

    /// The same, to a page that completes only these.
    async fn follow_to(
        &self,
        purposes: &[Purpose],
        token: &Token,
        here: Option<&BegunHere>,
        password: Option<&str>,
    ) -> Outcome<Completion> {
        let link = Link {
            token,
            here,
            session: None,
        };
        self.identity
            .complete_by_link(purposes, link, password.map(pass))
            .await
            .expect("complete")
    }

    async fn type_code(&self, here: &BegunHere, code: &Code, password: Option<&str>) -> Outcome<Completion> {
        self.identity
            .complete_by_code(here, code, password.map(pass))
            .await
            .expect("complete")
    }

    fn holder(&self, typed: &str) -> Option<(AccountId, bool)> {
        let email = self.identity.email_id(&address(typed));
        let state = self.here().read(&operations::ReadEmail { email }).expect("read");
        state.holder.map(|holder| (holder.account, holder.verified))
    }

    fn state(&self, account: AccountId) -> AccountState {
        let state = self.here().read(&operations::ReadAccount { account });
        state.expect("read").expect("an account")
    }

    fn emails(&self, account: AccountId) -> Vec<(String, bool)> {
        let held = self.state(account).emails.into_iter();
        let mut emails: Vec<_> = held
            .map(|held| (held.address.typed().to_owned(), held.verified))
            .collect();
        emails.sort();
        emails
    }

    /// Whether the bytes are anywhere in what this replica would serve from: all but the log, which goes when it
    /// is stable.
    fn holds(&self, bytes: &[u8]) -> bool {
        let mut found = false;
        let visit = |family: Family, _: &[u8], value: &[u8]| {
            found |= family != Family::Log && value.windows(bytes.len()).any(|at| at == bytes);
        };
        self.store.scan_everything(visit).expect("scan");
        found
    }
}

/// What a browser began, and the mail that came of it.
struct Mailed {
    here: BegunHere,
    token: Token,
    code: Code,
}

const EVERY_PURPOSE: [Purpose; 5] = [
    Purpose::NewAccount,
    Purpose::AddEmail,
    Purpose::Reset,
    Purpose::Reverify,
    Purpose::Transition,
];

#[track_caller]
fn completed(outcome: Outcome<Completion>) -> Completed {
    match done(outcome) {
        Completion::Done(completed) => completed,
        Completion::WrongCode { .. } => panic!("a wrong code"),
    }
}

fn identity(store: &Store, clock: &Arc<AtomicU64>, iterations: u32) -> Identity {
    let settings = PasswordSettings {
        memory_kib: 32,
        iterations,
        parallelism: 1,
        threads: 1,
        queue: Duration::from_secs(3600),
    };
    let passwords = PasswordPool::new(&settings).expect("settings");
    let wall = clock.clone();
    let index_key = IndexKey::new([9; 32]);
    let clock = move || wall.load(Ordering::Relaxed);
    Identity::with_clock(store.clone(), index_key, passwords, clock).at_site("oslo")
}

/// Both have all that either had, and hold the same.
async fn heal(one: &Site, other: &Site) {
    one.send_to(other).await;
    other.send_to(one).await;
    assert_eq!(
        one.store.digest().expect("digest"),
        other.store.digest().expect("digest")
    );
}

fn address(typed: &str) -> Address {
    Address::parse(typed).expect(typed)
}

fn pass(typed: &str) -> TypedPassword {
    TypedPassword::parse(typed.to_owned()).expect(typed)
}

/// A proof that began `ms` after the story did.
fn proof(id: u8, ms: u64) -> Proof {
    Proof {
        id: [id; 32],
        at: Hlc::new(MORNING + ms, 0),
        by: ClaimedBy::Mail,
    }
}

fn staged(id: u8, ms: u64) -> Word {
    Word::Staged {
        proof: proof(id, ms),
        account: None,
    }
}

fn staged_for(account: AccountId, resets: u32, id: u8, ms: u64) -> Word {
    Word::Staged {
        proof: proof(id, ms),
        account: Some((account, resets)),
    }
}

#[track_caller]
fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done { value, .. } => value,
        Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Outcome<T>, expected: Refusal) {
    match outcome {
        Outcome::Refused(refusal) => assert_eq!(refusal, expected),
        Outcome::Done { value, .. } => panic!("not refused: {value:?}"),
    }
}

#[track_caller]
fn wrote_nothing<T: std::fmt::Debug>(outcome: &Outcome<T>) {
    assert!(
        matches!(outcome, Outcome::Done { dot: None, .. } | Outcome::Refused(_)),
        "{outcome:?}"
    );
}
