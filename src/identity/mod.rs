//! Who a person is here: accounts, their passwords and their addresses.
//!
//! This is the domain. It knows neither HTTP nor mail nor the disk: tiers call it, it calls the store. Every
//! operation is one local transaction over the state of the moment, judged by the pure rules of [`claims`].
//!
//! | module | subject |
//! | --- | --- |
//! | [`address`] | an address parsed once, and the id under which its record lies |
//! | [`password`] | what a password may be, how it is kept, the bounded pool that hashes it |
//! | [`proof`] | the proof of control of an address, and what follows from it |
//! | [`claims`] | may this be done? |
//! | [`account`] | sign up, change and reset a password, sign out everywhere, cancel |
//! | [`emails`] | add, move and remove an address |
//! | [`sign_in`] | a password against an account; failed tries |
//!
//! Promise: what a person asked for either happens whole or not at all, with a [`Refusal`] that says why; an
//! [`OperationError`] says nothing about the person and may be tried again, here or at another site.

pub mod account;
pub mod address;
pub mod claims;
pub mod emails;
pub mod password;
mod pool;
pub mod proof;
mod refusal;
pub mod sign_in;
#[cfg(test)]
mod stories;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crdt::{AccountId, AccountView, EmailId, EmailView, RecordKey};
use gossip::Dot;

pub use self::{
    account::{AccountState, NewPassword},
    address::{Address, AddressError, IndexKey, NORMALISATION},
    emails::{EmailState, HeldEmail, Holder},
    password::{
        HashError, HashedPassword, PasswordError, PasswordPool, PasswordSettings, PoolError, TypedPassword,
    },
    proof::{Proof, Word},
    refusal::Refusal,
    sign_in::SignedIn,
};
use self::{claims::Seen, sign_in::Trying};
use crate::store::{Committed, ReadError, Records, Store, TransactError};

/// The identity domain of one replica. Cloning gives another handle.
#[derive(Clone)]
pub struct Identity {
    store: Store,
    index_key: IndexKey,
    passwords: PasswordPool,
    trying: Arc<Trying>,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Identity {
    /// The domain over a store.
    pub fn new(store: Store, index_key: IndexKey, passwords: PasswordPool) -> Identity {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        Identity::with_clock(store, index_key, passwords, clock)
    }

    /// The same with another clock, in milliseconds since 1970; it decides only whether failed tries have expired.
    pub fn with_clock(
        store: Store,
        index_key: IndexKey,
        passwords: PasswordPool,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Identity {
        Identity {
            store,
            index_key,
            passwords,
            trying: Arc::default(),
            clock: Arc::new(clock),
        }
    }

    /// The key of an address's record.
    pub fn email_id(&self, address: &Address) -> EmailId {
        address.id(&self.index_key)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<T> {
    /// It is so now, durable on this replica.
    Done {
        /// What was asked for.
        value: T,
        /// The transaction that made it so; `None` if it was so before.
        dot: Option<Dot>,
    },
    /// It is not, and nothing was written.
    Refused(Refusal),
}

impl<T> Outcome<T> {
    fn of(committed: Committed<Result<T, Refusal>>) -> Outcome<T> {
        match committed.value {
            Ok(value) => Outcome::Done {
                value,
                dot: committed.dot,
            },
            Err(refusal) => Outcome::Refused(refusal),
        }
    }
}

/// Why an operation could not be judged or written. Nothing was written; it may be tried again, here if
/// [`retry_after`](OperationError::retry_after) says when, else at another site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
