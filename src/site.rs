//! One data center in one process: starts everything in order, drains, stops.

mod entry;
mod health;
mod peers;

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crdt::ClusterView;
use gossip::{
    Dot, PeerState,
    quic::{Durability, Node, NodeConfig, NodeError},
};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    admin,
    config::{Answer, SiteConfig},
    identity::{Here, Identity, IndexKey, PasswordPool, PoolError, Replica},
    keyring::{self, Keyring, KeyringError, publisher::Publisher},
    members::{
        self, IdentityError, MembersError,
        enrol::{self, Channel, Common, JoinError},
        features,
        identity::Keys,
        keeper::{self, Standing},
        own::{MemberFile, Own, OwnError},
        token::Invitation,
    },
    prometheus,
    replication::Replication,
    settlement::{Directories, Settler},
    store::{OpenError, Store, StoreConfig},
    tiers::together::{Doors, ServeError},
};

use self::{
    entry::{common, is_own_key, let_in},
    peers::Around,
};
pub use entry::backup_owner;

/// Protocol versions that this build speaks.
const PROTOCOL_VERSIONS: (u16, u16) = (1, 1);
/// How often each peer is compared with.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Why a site does not run.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The gossip's socket.
    #[error("gossip: {error}{}", because(.error))]
    Node {
        /// What.
        #[from]
        error: NodeError,
    },
    /// The member's own key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Which member this is.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// It was not let in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The pool that hashes passwords.
    #[error(transparent)]
    Passwords(#[from] PoolError),
    /// The signing keys' directory.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What people reach.
    #[error(transparent)]
    Serve(#[from] Box<ServeError>),
    /// The cluster record.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// The cluster has gone on to what this build cannot read.
    #[error(
        "this version cannot read what the cluster has finalised ({}): start the version that ran here before, or a later \
         one",
        .0.join(", ")
    )]
    Finalised(Vec<String>),
    /// Two processes run as this member, and the others listen to the other one.
    #[error(
        "stood aside: another process runs as this member (its start is {start}), from a copy of {}; stop that one, \
         then start this one again: what only this one has lies safely on its disk",
        data.display()
    )]
    StoodAside {
        /// This one's data directory.
        data: PathBuf,
        /// The other's start.
        start: String,
    },
    /// A listener that could not be opened.
    #[error("{what}: {source}")]
    Listen {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

fn because(error: &NodeError) -> String {
    std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default()
}

/// A running data center.
pub struct Site {
    /// What it was started with; among the members, also those that it was told of when it joined.
    pub config: SiteConfig,
    /// Which member it is.
    pub own: Own,
    /// Its records.
    pub store: Store,
    /// What people do with them.
    pub identity: Identity,
    /// Its peers.
    pub node: Node,
    /// Between the two.
    pub replication: Arc<Replication>,
    /// Ends what lost, and forgets what was cancelled.
    pub settler: Arc<Settler>,
    /// What this site signs with.
    pub keyring: Arc<Keyring>,
    /// The replica's half of it.
    pub publisher: Publisher,
    /// What everybody's signatures are verified with.
    pub signing_keys: Arc<keyring::Keys>,
    /// Delay, loss and cuts between this process and its peers.
    #[cfg(feature = "lab")]
    pub shape: Arc<gossip::quic::Shape>,
    drain: watch::Sender<bool>,
    standing: watch::Sender<Standing>,
    arriving: AtomicBool,
    keys: Mutex<Keys>,
    common: Common,
    runtime: Handle,
    degraded: AtomicU64,
}

/// How a write was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// As configured.
    As(Answer),
    /// On fewer sites' disks than that: availability wins, never silently.
    Degraded,
}

impl Site {
    /// Opens the store and joins the others, by invitation if this directory is of no member yet, or of one that is
    /// out. It serves once [`Site::is_serving`].
    pub async fn start(
        mut config: SiteConfig,
        invitation: Option<Invitation>,
    ) -> Result<Arc<Site>, SiteError> {
        let keys = Keys::read(&config.identity)?;
        let file = MemberFile::read(&config.data)?;
        if invitation.is_none() {
            // For nobody nothing is made, nor for a wrong key: only a record that is here could know it for a later one.
            let own = Own::find(&config, file.as_ref())?;
            if !config.data.exists() {
                is_own_key(&config, &own, &keys, &ClusterView::default())?;
            }
        }
        let passwords = PasswordPool::new(&config.passwords.settings())?;
        let store_config = StoreConfig {
            directory: config.data.clone(),
            keeping: config.keeping(),
            reserve_bytes: config.disk.reserve_mib << 20,
            free_bytes_min: config.disk.free_min_mib << 20,
        };
        let store = tokio::task::spawn_blocking(move || Store::open(&store_config))
            .await
            .unwrap_or_else(|_| Err(OpenError::Thread(io::Error::other("opening panicked"))))?;
        let index_key = IndexKey::new(config.cluster.index_key.0);
        let common = common(&config, &index_key);
        let cluster = members::cluster_at_start(&store)?;
        let lacked = features::lacked(&cluster, &features::known());
        if !lacked.is_empty() {
            return Err(SiteError::Finalised(lacked));
        }
        let file = let_in(&config, &common, &keys, &store, &cluster, file, invitation).await?;
        let own = Own::find(&config, file.as_ref())?;
        is_own_key(&config, &own, &keys, &cluster)?;
        let arriving = file.as_ref().is_some_and(|file| file.arriving);
        for told in file.into_iter().flat_map(|file| file.members) {
            if config.members.iter().all(|listed| listed.id != told.id) {
                config.members.push(told);
            }
        }
        let keyring = Arc::new(Keyring::open(&config.keys_directory(), &config.signs())?);
        let signing_keys = Arc::new(keyring::Keys::of(&cluster, store.now_ms()));
        let standing = Standing::of(cluster.members.get(&own.id), own.begins, arriving, &cluster);
        let listed = members::effective(&config, &own, &keys.public(), cluster);
        let member = gossip::MemberId(*own.id.as_bytes());
        let replication = Replication::new(&store, member);
        let state = store.state();
        let core = gossip::Config {
            cluster: common.cluster,
            member,
            site: config.site.clone(),
            start: state.start,
            own_starts: state.own_starts.clone(),
            versions: PROTOCOL_VERSIONS,
            features: features::known(),
            fingerprints: common.fingerprints.clone(),
            startup_grace: config.startup_grace,
            look_interval: Some(look_interval(&config)),
            limits: gossip::Limits::default(),
        };
        #[cfg(feature = "lab")]
        let shape = {
            let shape = gossip::quic::Shape::new(rand::random());
            for link in &config.lab.links {
                shape.set(link.address, link.into());
            }
            shape
        };
        let node_config = NodeConfig {
            listen: config.listen,
            identity: keys.present().clone(),
            core,
            members: members::for_gossip(listed),
            ground: gossip::quic::Ground::default(),
            snapshot_bytes_per_second: gossip::quic::SNAPSHOT_BYTES_PER_SECOND,
            #[cfg(feature = "lab")]
            shape: Some(shape.clone()),
        };
        let node = Node::start(
            node_config,
            state.vector.clone(),
            state.trimmed.clone(),
            replication.clone(),
        )
        .await?;
        replication.attach(node.clone());
        let around = Arc::new(Around::default());
        let here = Here::new(store.clone()).with_peers(around.clone());
        let identity = Identity::over(Replica::Here(here), index_key, passwords);
        let settler = Arc::new(Settler::new(
            store.clone(),
            replication.told.clone(),
            own.id,
            Some(Directories {
                data: config.data.clone(),
                keys: config.keys_directory(),
            }),
            config.erasure.interval(),
        ));
        let publisher = Publisher::new(own.id, store.clone());
        let site = Arc::new(Site {
            config,
            own,
            store,
            identity,
            node,
            replication,
            settler,
            keyring,
            publisher,
            signing_keys,
            #[cfg(feature = "lab")]
            shape,
            drain: watch::channel(false).0,
            standing: watch::channel(standing).0,
            arriving: AtomicBool::new(arriving),
            keys: Mutex::new(keys),
            common,
            runtime: Handle::current(),
            degraded: AtomicU64::new(0),
        });
        site.heed();
        let _ = around.0.set(Arc::downgrade(&site));
        site.replication.enrol_at(&site);
        tokio::spawn(keeper::keep(Arc::downgrade(&site)));
        tokio::spawn(keyring::keeper::follow(Arc::downgrade(&site)));
        tokio::spawn(keyring::keeper::keep(Arc::downgrade(&site)));
        tokio::spawn(settle(Arc::downgrade(&site)));
        if site.config.metrics.is_some() {
            tokio::spawn(prometheus::export(Arc::downgrade(&site)));
        }
        Ok(site)
    }

    /// Serves until a drain is asked for, then drains and stops.
    pub async fn run(self: Arc<Site>) -> Result<(), SiteError> {
        let doors = Doors::open(&self).await.map_err(Box::new)?;
        // Last: who finds the socket finds a site that answers at all its doors.
        let socket = self.config.data.join("admin.sock");
        let served = admin::serve(self.clone(), &socket).map_err(|source| SiteError::Listen {
            what: format!("admin socket {}", socket.display()),
            source,
        })?;
        let all_served = futures_util::future::join(served, doors.serve(self.clone()));
        let aside = tokio::select! {
            _ = all_served => None,
            start = self.replication.stood_aside() => Some(start),
        };
        if let Some(start) = aside {
            self.drain();
            self.close().await;
            return Err(SiteError::StoodAside {
                data: self.config.data.clone(),
                start: start.to_string(),
            });
        }
        self.finish().await;
        let _ = fs::remove_file(&socket);
        Ok(())
    }

    /// Whether it takes people's requests now: an active member, caught up, and not on its way out.
    pub fn is_serving(&self) -> bool {
        self.node.is_ready() && !self.is_draining() && *self.standing.borrow() == Standing::Active
    }

    /// Whether this member has a part in the cluster.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    pub(crate) fn set_standing(&self, standing: Standing) {
        self.standing.send_if_modified(|known| {
            let is_new = *known != standing;
            if is_new {
                if let Some(words) = standing.why_not_serving() {
                    tracing::warn!("{words}");
                }
                *known = standing;
            }
            is_new
        });
    }

    /// Whether it is not settled yet that this member is in.
    pub(crate) fn is_arriving(&self) -> bool {
        self.arriving.load(Ordering::Acquire)
    }

    /// Notes it, for a restart as well, where this directory says who it is. (Of a member that configurations list only the
    /// process knows it.)
    pub(crate) fn set_arriving(&self, arriving: bool) {
        self.arriving.store(arriving, Ordering::Release);
        let noted = MemberFile::read(&self.config.data).and_then(|file| match file {
            Some(file) => MemberFile { arriving, ..file }.write(&self.config.data),
            None => Ok(()),
        });
        if let Err(error) = noted {
            tracing::warn!(%error, arriving, "could not note whether this member has arrived");
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that the cluster record should list: the present one, and the next while it is being replaced.
    pub(crate) fn public_keys(&self) -> Vec<Vec<u8>> {
        self.keys().public()
    }

    /// Whether the key is being replaced.
    pub fn is_rotating(&self) -> bool {
        self.keys().is_rotating()
    }

    /// Begins to replace this member's key, or goes on with it.
    pub fn rotate_key(&self) -> Result<(), IdentityError> {
        self.keys().begin(&self.own.name)?;
        self.replication.members_changed.notify_one();
        Ok(())
    }

    /// The next key becomes the present one, for connections to come; those that stand go on.
    pub(crate) fn take_next_key(&self) -> Result<(), IdentityError> {
        let mut keys = self.keys();
        if keys.promote()? {
            self.node.set_identity(keys.present().clone());
        }
        Ok(())
    }

    /// Answers a newcomer, once what that takes is as durable as other writes. Blocks.
    pub(crate) fn enrol(&self, request: &[u8], binding: [u8; 32], newcomer: Vec<u8>) -> Vec<u8> {
        let channel = Channel {
            binding,
            newcomer,
            member: self.keys().present().public_key().to_vec(),
        };
        self.runtime.block_on(async {
            let (answer, dot) = enrol::admit(self.own.id, &self.common, &self.store, channel, request).await;
            if dot.is_some() {
                tracing::info!("a newcomer was let in by invitation");
                self.answer(dot).await;
            }
            answer
        })
    }

    /// Whether this site has heard no other for a minute.
    pub fn is_isolated(&self) -> bool {
        self.node.status().gossip.isolated
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Begins the drain: nothing new is taken, what is under way is finished.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// Returns when a drain has begun.
    pub async fn drain_begun(&self) {
        let _ = self.drain.subscribe().wait_for(|drain| *drain).await;
    }

    /// Waits until a write is as durable as configured, or degraded.
    pub async fn answer(&self, dot: Option<Dot>) -> Answered {
        let answer = self.config.durability.answer;
        let (Some(dot), Answer::Sites(sites)) = (dot, answer) else {
            return Answered::As(answer);
        };
        match self
            .node
            .durable(dot, sites, self.config.durability.timeout)
            .await
        {
            Durability::Reached { .. } => Answered::As(answer),
            Durability::Degraded { .. } => {
                self.degraded.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("persona_answers_degraded_total").increment(1);
                tracing::warn!(writer = %dot.writer, number = dot.number, "answered degraded");
                Answered::Degraded
            }
        }
    }

    /// Writes answered on fewer sites' disks than configured.
    pub fn degraded(&self) -> u64 {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Gives what only this site has to another one, then closes.
    async fn finish(&self) {
        let deadline = tokio::time::Instant::now() + self.config.drain_timeout;
        // Its disk may hold a batch that failed, and is open again only then.
        let outcome = tokio::time::timeout_at(deadline, self.store.outcome()).await;
        if outcome.is_err() {
            tracing::warn!("drained with a closed disk: what its last batch has left on it is not known");
        }
        let vector = outcome.unwrap_or_else(|_| self.store.state()).vector.clone();
        let others = self
            .node
            .status()
            .gossip
            .peers
            .iter()
            .any(|peer| peer.state == PeerState::Active);
        let rest = deadline.saturating_duration_since(tokio::time::Instant::now());
        if others && !self.node.drained(&vector, rest).await {
            let state = self.store.state();
            let last = state.vector.get(&state.start).map_or(0, |tip| tip.number);
            tracing::warn!(
                writer = %state.start,
                number = last,
                "drained only here: no other site has acknowledged everything up to this transaction"
            );
        }
        self.close().await;
        tracing::info!("drained");
    }

    async fn close(&self) {
        self.node.clone().shutdown().await;
        let store = self.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

fn look_interval(config: &SiteConfig) -> Duration {
    #[cfg(feature = "lab")]
    if let Some(interval_ms) = config.lab.look_interval_ms {
        return Duration::from_millis(interval_ms);
    }
    let _ = config;
    LOOK_INTERVAL
}

/// Settles while the site serves: one that catches up knows too little, one on its way out has no time.
async fn settle(site: Weak<Site>) {
    loop {
        let settler = {
            let Some(site) = site.upgrade() else { return };
            if site.is_draining() {
                return;
            }
            if site.is_serving()
                && let Err(error) = site.settler.step().await
            {
                tracing::warn!(%error, "what is settled could not be acted on; trying again");
            }
            site.settler.clone()
        };
        settler.wait().await;
    }
}
