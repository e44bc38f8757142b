//! Who a person is here: accounts, their passwords and their addresses.
//!
//! This is the domain. It knows neither HTTP nor mail nor the disk: tiers call it, it calls the store. Every
//! operation is one local transaction, at a replica in this process or another, over the state of the moment, judged by the pure rules of [`claims`].
//!
//! | module | subject |
//! | --- | --- |
//! | [`address`] | an address parsed once, and the id under which its record lies |
//! | [`password`] | what a password may be, how it is kept, the bounded pool that hashes it |
//! | `old_hash` | hashes of the original service |
//! | `common_passwords` | passwords that are guessed first |
//! | [`proof`] | the proof of control of an address, and what follows from it |
//! | [`claims`] | may this be done? |
//! | [`account`] | sign up, change and reset a password, sign out everywhere, cancel |
//! | [`emails`] | add, move and remove an address |
//! | [`sessions`] | whether a session is over, where an account is signed in |
//! | [`certificates`] | what the keysigner and the verifier ask |
//! | [`primaries`] | domains that certify their own users, and what their users do |
//! | [`sign_in`] | a password against an account; failed tries |
//! | [`staging`] | what waits for the proof of an address: begun here, completed anywhere |
//! | [`operations`] | what can be asked of a replica, by name |
//! | [`replica`] | the replica, here or in another process |
//! | [`once`] | a request that may come twice, and is done once |
//!
//! Promise: what a person asked for either happens whole or not at all, with a [`Refusal`] that says why; an
//! [`OperationError`] says nothing about the person and may be tried again, here or at another site.

pub mod account;
pub mod address;
pub mod certificates;
pub mod claims;
mod common_passwords;
pub mod emails;
mod old_hash;
pub mod once;
pub mod operations;
pub mod password;
mod pool;
pub mod primaries;
pub mod proof;
mod refusal;
pub mod replica;
pub mod sessions;
pub mod sign_in;
pub mod staging;
#[cfg(test)]
mod stories;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crdt::{AccountId, AccountView, EmailId, EmailView, RecordKey};
use gossip::Dot;

pub use self::{
    account::{AccountState, NewPassword},
    address::{Address, AddressError, IndexKey, NORMALISATION},
    certificates::{AddressFacts, Certifiable, KnownEmail},
    emails::{EmailState, HeldEmail, Holder},
    once::Once,
    operations::RemoteError,
    password::{
        HashError, HashedPassword, PasswordError, PasswordPool, PasswordRules, PasswordSettings, PoolError,
        TypedPassword,
    },
    proof::{Proof, Word},
    refusal::Refusal,
    replica::{Durability, Here, Peers, Remote, Replica},
    sessions::{SessionStanding, SignedInAt, SignedInNote, Standing},
    sign_in::SignedIn,
};
use self::{
    claims::Seen,
    once::{Recall, Recalled},
    operations::Writing,
    sign_in::Trying,
    staging::SiteNumber,
};
use crate::store::{ReadError, Records, Store, TransactError};

/// What people do, for the tier that writes: it hashes passwords, and a replica does the rest. Cloning gives another
/// handle.
#[derive(Clone)]
pub struct Identity {
    replica: Replica,
    index_key: IndexKey,
    passwords: PasswordPool,
    trying: Arc<Trying>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    once: Option<Once>,
    site: SiteNumber,
}

/// What is known of people, for the tiers that only read. Cloning gives another handle.
#[derive(Clone)]
pub struct Directory {
    replica: Replica,
    index_key: IndexKey,
}

impl Identity {
    /// The domain over a store.
    pub fn new(store: Store, index_key: IndexKey, passwords: PasswordPool) -> Identity {
        Identity::over(Replica::Here(Here::new(store)), index_key, passwords)
    }

    /// The domain over a replica, wherever that is.
    pub fn over(replica: Replica, index_key: IndexKey, passwords: PasswordPool) -> Identity {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        Identity {
            replica,
            index_key,
            passwords,
            trying: Arc::default(),
            clock: Arc::new(clock),
            once: None,
            site: SiteNumber::of(""),
        }
    }

    /// The same at a site, whose number the tokens bear that are made here.
    #[must_use]
    pub fn at_site(self, site: &str) -> Identity {
        Identity {
            site: SiteNumber::of(site),
            ..self
        }
    }

    /// The same with another clock, in milliseconds since 1970; it decides only whether failed tries have expired.
    pub fn with_clock(
        store: Store,
        index_key: IndexKey,
        passwords: PasswordPool,
        clock: impl Fn() -> u64 + Clone + Send + Sync + 'static,
    ) -> Identity {
        let replica = Replica::Here(Here::new(store).with_clock(clock.clone()));
        Identity {
            clock: Arc::new(clock),
            ..Identity::over(replica, index_key, passwords)
        }
    }

    /// The same for one request, which may come twice: what its first coming wrote is what it is answered again. It is
    /// for one call of one method.
    #[must_use]
    pub fn once(&self, once: Once) -> Identity {
        Identity {
            once: Some(once),
            ..self.clone()
        }
    }

    /// What only reads.
    pub fn directory(&self) -> Directory {
        Directory {
            replica: self.replica.clone(),
            index_key: self.index_key.clone(),
        }
    }

    /// The replica that it works on.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The key under which addresses become ids.
    pub fn index_key(&self) -> &IndexKey {
        &self.index_key
    }

    /// What hashes passwords.
    pub fn passwords(&self) -> &PasswordPool {
        &self.passwords
    }

    /// The key of an address's record.
    pub fn email_id(&self, address: &Address) -> EmailId {
        address.id(&self.index_key)
    }

    /// Whether this very request came before, and its answer is kept.
    pub async fn is_recorded(&self, once: &Once) -> Result<bool, OperationError> {
        let recalled = self.replica.read(&Recall { once: *once }).await?;
        Ok(recalled.is_some_and(|recalled| recalled != Recalled::Refused(Refusal::OtherRequest)))
    }

    async fn write<W: Writing>(&self, operation: W) -> Result<Outcome<W::Answer>, OperationError> {
        self.replica.write(operation, self.once).await
    }

    /// What this request was answered before, if it came before: to be looked up before anything that costs much.
    async fn recall<T: DeserializeOwned>(&self) -> Result<Option<Outcome<T>>, OperationError> {
        let Some(once) = self.once else {
            return Ok(None);
        };
        let recalled = self.replica.read(&Recall { once }).await?;
        recalled.map(once::Recalled::answer).transpose()
    }
}

impl Directory {
    /// What is known at a replica, wherever that is.
    pub fn new(replica: Replica, index_key: IndexKey) -> Directory {
        Directory { replica, index_key }
    }

    /// The key of an address's record.
    pub fn email_id(&self, address: &Address) -> EmailId {
        address.id(&self.index_key)
    }

    /// The replica that it reads.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub enum Outcome<T> {
    /// It is so now, durable on this replica.
    Done {
        /// What was asked for.
        value: T,
        /// The transaction that made it so; `None` if it was so before.
        dot: Option<Dot>,
    },
    /// It is not, and nothing was written but that it was tried.
    Refused(Refusal),
}

impl<T> Outcome<T> {
    fn of(result: Result<T, Refusal>, dot: Option<Dot>) -> Outcome<T> {
        match result {
            Ok(value) => Outcome::Done { value, dot },
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}

/// Why an operation could not be judged or written. Nothing was written, unless the replica is in another process and
/// did not answer; it may be tried again, here if [`retry_after`](OperationError::retry_after) says when, else at
/// another site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum OperationError {
    /// The store could not read or write.
    #[error(transparent)]
    Store(#[from] TransactError),
    /// The password could not be hashed or checked.
    #[error(transparent)]
    Password(#[from] HashError),
    /// As many passwords as may be wrong are being tried for this account or address right now.
    #[error("too many tries at once for this account; try again in {} ms", .retry_after.as_millis())]
    Crowded {
        /// When one of them is likely to have ended.
        retry_after: Duration,
    },
    /// The replica is in another process, and gave no answer that can be used.
    #[error(transparent)]
    Remote(RemoteError),
    /// The record names a value that is not here; the repair that runs beside will bring it.
    #[error("a value that record {key} names has not arrived here")]
    Missing {
        /// Which record.
        key: RecordKey,
    },
}

impl OperationError {
    /// When to try again here, if this is only a matter of too much at once.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            OperationError::Password(HashError::Busy { retry_after })
            | OperationError::Crowded { retry_after } => Some(*retry_after),
            OperationError::Store(TransactError::Busy) => Some(STORE_RETRY),
            _ => None,
        }
    }
}

impl From<ReadError> for OperationError {
    fn from(error: ReadError) -> OperationError {
        OperationError::Store(error.into())
    }
}

/// A full queue of writes empties in about a group commit.
const STORE_RETRY: Duration = Duration::from_millis(100);

/// The two records that a rule looks at, read at one moment.
struct Pair {
    account: Option<AccountView>,
    email: EmailView,
}

impl Pair {
    fn read(records: &impl Records, account: AccountId, email: EmailId) -> Result<Pair, ReadError> {
        Ok(Pair {
            account: records.account(account)?,
            email: records.email(email)?.unwrap_or_default(),
        })
    }

    fn seen(&self, records: &impl Records) -> Result<Seen<'_>, ReadError> {
        let owner = records.owner_of(&self.email)?;
        Ok(Seen {
            account: self.account.as_ref(),
            email: &self.email,
            owner,
        })
    }

    /// What a value that replaces one in either must beat.
    fn latest(&self) -> crdt::Hlc {
        self.email
            .latest()
            .max(self.account.as_ref().map(AccountView::latest).unwrap_or_default())
    }
}
