//! The replica that the domain works on: in this process, or reached through another.
//!
//! Tiers are given a [`Replica`] and do not know where it is. [`Here`] is the store itself, with what the site does for
//! it beyond its own disk ([`Peers`]); [`Remote`] is a way to the process that has the store, which asks
//! [`operations::read`](super::operations::read) and [`operations::write`](super::operations::write) there.
//!
//! Promise: where the replica is here, an operation costs what a closure over the store costs.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use gossip::Dot;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    AccountState, OperationError, Outcome, SessionStanding,
    once::Once,
    operations::{
        self, Access, Operation, ReadSession, ReadSignedIn, Reading, RemoteError, WriteRequest, Writing,
    },
    sessions::{self, WaitedFor},
    staging::{SiteNumber, StagingId, look::ReadStaging},
};
use crate::store::Store;

/// A replica. Cloning gives another handle.
#[derive(Clone)]
pub enum Replica {
    /// In this process.
    Here(Here),
    /// In another one.
    There(Arc<dyn Remote>),
}

/// A way to a replica in another process.
pub trait Remote: Send + Sync + 'static {
    /// Asks for an operation by its name, over the way that gives this access, and gives what the other side's
    /// [`operations::read`](super::operations::read) or [`operations::write`](super::operations::write) gave.
    fn ask(
        &self,
        access: Access,
        name: &'static str,
        request: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, RemoteError>>;
}

/// A replica in this process.
#[derive(Clone)]
pub struct Here {
    store: Store,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    peers: Option<Arc<dyn Peers>>,
    waited_for: Arc<WaitedFor>,
    /// Those who wait for stagings.
    fetching: Arc<Semaphore>,
}

/// What a site does for its replica beyond the replica's own disk.
pub trait Peers: Send + Sync + 'static {
    /// Waits until a write of this replica is as durable as is configured, or that takes too long.
    fn durability_of(&self, dot: Dot) -> BoxFuture<'_, Durability>;

    /// Waits until this replica has somebody's last write, asking whoever has it: for [`PATIENCE`] at most, and not
    /// at all while nobody could bring it. Whether it is here then.
    fn follow(&self, dot: Dot) -> BoxFuture<'_, bool>;

    /// Has a staging sent here, by the site that made its token, else by any other: one flight for each. Whether
    /// there is any use in waiting for it.
    fn fetch_staging(&self, id: StagingId, site: SiteNumber) -> BoxFuture<'_, bool>;
}

/// How an answer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// On as many sites' disks as is configured.
    AsConfigured,
    /// On fewer: availability wins, never silently.
    Degraded,
}

/// Requests that wait for stagings at once at most: tokens that nobody made must not gather those who wait for them.
pub const FETCHING_MAX: usize = 256;

/// How long a request waits for what another site has: DESIGN.md §4.4.
pub const PATIENCE: Duration = Duration::from_millis(300);

/// Waits for a transaction: [`Replica::follow`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Follow {
    /// Which.
    pub dot: Dot,
}

impl Operation for Follow {
    const NAME: &'static str = "follow";
    type Answer = bool;
}

/// Waits for a staging: [`Replica::fetch_staging`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct FetchStaging {
    /// Which.
    pub id: StagingId,
    /// Who made its token.
    pub site: SiteNumber,
}

impl Operation for FetchStaging {
    const NAME: &'static str = "fetch-staging";
    type Answer = bool;
}

/// Waits until a transaction is durable: [`Replica::durability_of`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DurabilityOf {
    /// Which.
    pub dot: Dot,
}

impl Operation for DurabilityOf {
    const NAME: &'static str = "durability-of";
    type Answer = Durability;
}

impl Replica {
    /// Reads one moment of the records.
    pub async fn read<R: Reading>(&self, reading: &R) -> Result<R::Answer, OperationError> {
        match self {
            Replica::Here(here) => here.read(reading),
            Replica::There(remote) => ask::<R, _>(&**remote, R::ACCESS, reading).await,
        }
    }

    /// Writes in one transaction. With `once`, a repeat gets the first answer and writes nothing.
    pub async fn write<W: Writing>(
        &self,
        operation: W,
        once: Option<Once>,
    ) -> Result<Outcome<W::Answer>, OperationError> {
        match self {
            Replica::Here(here) => here.write(operation, once).await,
            Replica::There(remote) => {
                let request = operations::encode(W::NAME, &WriteRequest { operation, once })?;
                let answer = remote.ask(Access::Write, W::NAME, request).await?;
                operations::decode::<Result<_, OperationError>>(W::NAME, &answer)?
            }
        }
    }

    /// Waits until somebody's last write is here, for [`PATIENCE`] at most. Whether it is.
    pub async fn follow(&self, dot: Dot) -> Result<bool, OperationError> {
        match self {
            Replica::Here(here) => Ok(here.follow(dot).await),
            Replica::There(remote) => ask::<Follow, _>(&**remote, Access::Read, &Follow { dot }).await,
        }
    }

    /// Whether a session is good. If its last transaction is not here, waits for it, for [`PATIENCE`] at most and once for
    /// each session; then the records here decide.
    pub async fn session(&self, session: ReadSession) -> Result<SessionStanding, OperationError> {
        match self {
            Replica::Here(here) => here.session(session).await,
            Replica::There(remote) => ask::<ReadSession, _>(&**remote, Access::Read, &session).await,
        }
    }

    /// The same, and the account if the session is good: both of one moment, so that the one does not contradict the other.
    pub async fn signed_in(
        &self,
        session: ReadSession,
    ) -> Result<(SessionStanding, Option<AccountState>), OperationError> {
        match self {
            Replica::Here(here) => here.signed_in(session).await,
            Replica::There(remote) => {
                ask::<ReadSignedIn, _>(&**remote, Access::Read, &ReadSignedIn { session }).await
            }
        }
    }

    /// Waits until a staging that another site made is here, for [`PATIENCE`] at most. Whether it is.
    pub async fn fetch_staging(&self, id: StagingId, site: SiteNumber) -> Result<bool, OperationError> {
        match self {
            Replica::Here(here) => Ok(here.fetch_staging(id, site).await),
            Replica::There(remote) => {
                ask::<FetchStaging, _>(&**remote, Access::Read, &FetchStaging { id, site }).await
            }
        }
    }

    /// Waits until a write of this replica is as durable as is configured, or that takes too long.
    pub async fn durability_of(&self, dot: Dot) -> Result<Durability, OperationError> {
        match self {
            Replica::Here(here) => Ok(here.durability_of(dot).await),
            Replica::There(remote) => {
                ask::<DurabilityOf, _>(&**remote, Access::Write, &DurabilityOf { dot }).await
            }
        }
    }
}

async fn ask<O: Operation, Q: Serialize>(
    remote: &dyn Remote,
    access: Access,
    request: &Q,
) -> Result<O::Answer, OperationError>
where
    O::Answer: DeserializeOwned,
{
    let request = operations::encode(O::NAME, request)?;
    let answer = remote.ask(access, O::NAME, request).await?;
    operations::decode::<Result<_, OperationError>>(O::NAME, &answer)?
}

impl Here {
    /// A replica that is alone, by the system's clock.
    pub fn new(store: Store) -> Here {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        };
        Here {
            store,
            clock: Arc::new(clock),
            peers: None,
            waited_for: Arc::default(),
            fetching: Arc::new(Semaphore::new(FETCHING_MAX)),
        }
    }

    /// The same with another clock, in milliseconds since 1970; it decides only about expiry.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Here {
        Here {
            clock: Arc::new(clock),
            ..self
        }
    }

    /// The same with others around it.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn Peers>) -> Here {
        Here {
            peers: Some(peers),
            ..self
        }
    }

    /// Reads one moment of the records.
    pub fn read<R: Reading>(&self, reading: &R) -> Result<R::Answer, OperationError> {
        let now_ms = (self.clock)();
        self.store.read(|records| reading.read(records, now_ms))?
    }

    /// Writes in one transaction.
    pub async fn write<W: Writing>(
        &self,
        operation: W,
        once: Option<Once>,
    ) -> Result<Outcome<W::Answer>, OperationError> {
        let Some(once) = once else {
            let committed = self.store.transact(move |txn| operation.write(txn)).await?;
            return Ok(Outcome::of(committed.value, committed.dot));
        };
        let committed = self
            .store
            .transact(move |txn| once.write(&operation, txn))
            .await?;
        let (result, before) = committed.value;
        Ok(Outcome::of(result, committed.dot.or(before)))
    }

    /// As [`Replica::follow`].
    pub async fn follow(&self, dot: Dot) -> bool {
        let is_here = |store: &Store| store.state().vector.covers(&dot);
        if is_here(&self.store) {
            return true;
        }
        match &self.peers {
            Some(peers) => peers.follow(dot).await,
            None => timeout(PATIENCE, self.store.wait_until(is_here)).await.is_ok(),
        }
    }

    /// As [`Replica::session`].
    pub async fn session(&self, session: ReadSession) -> Result<SessionStanding, OperationError> {
        let is_covered = self.has_last_of(&session).await;
        let now_ms = (self.clock)();
        self.store
            .read(|records| sessions::look(records, now_ms, &session, is_covered))?
    }

    /// As [`Replica::signed_in`].
    pub async fn signed_in(
        &self,
        session: ReadSession,
    ) -> Result<(SessionStanding, Option<AccountState>), OperationError> {
        let is_covered = self.has_last_of(&session).await;
        let now_ms = (self.clock)();
        self.store
            .read(|records| sessions::look_closely(records, now_ms, &session, is_covered))?
    }

    /// Whether a session's last transaction is here, after waiting for it if need be. Whatever is covered before a snapshot is
    /// taken is in it.
    async fn has_last_of(&self, session: &ReadSession) -> bool {
        match session.last_dot {
            None => false,
            Some(dot) => self.covers(dot) || self.follow_once(session.id, dot).await,
        }
    }

    /// Waits for a session's last transaction, unless that was in vain before.
    async fn follow_once(&self, id: [u8; 16], dot: Dot) -> bool {
        if self.waited_for.knows(id, dot) {
            return false;
        }
        let is_here = self.follow(dot).await;
        if !is_here {
            self.waited_for.note(id, dot);
        }
        is_here
    }

    fn covers(&self, dot: Dot) -> bool {
        self.store.state().vector.covers(&dot)
    }

    /// As [`Replica::fetch_staging`].
    pub async fn fetch_staging(&self, id: StagingId, site: SiteNumber) -> bool {
        let look = ReadStaging { id, nonce_hash: None };
        let is_here = |_: &Store| matches!(self.read(&look), Ok(Some(_)));
        let Ok(_waiting) = self.fetching.try_acquire() else {
            return is_here(&self.store);
        };
        let fetched = async {
            match &self.peers {
                Some(peers) if !peers.fetch_staging(id, site).await => is_here(&self.store),
                Some(_) | None => std::future::pending().await,
            }
        };
        let arrives = async {
            tokio::select! {
                () = self.store.wait_until(is_here) => true,
                is_here = fetched => is_here,
            }
        };
        timeout(PATIENCE, arrives).await.unwrap_or(false)
    }

    /// As [`Replica::durability_of`].
    pub async fn durability_of(&self, dot: Dot) -> Durability {
        match &self.peers {
            Some(peers) => peers.durability_of(dot).await,
            None => Durability::AsConfigured,
        }
    }
}

impl From<RemoteError> for OperationError {
    fn from(error: RemoteError) -> OperationError {
        OperationError::Remote(error)
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Replica::Here(_) => "Replica::Here",
            Replica::There(_) => "Replica::There",
        })
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").finish_non_exhaustive()
    }
}
