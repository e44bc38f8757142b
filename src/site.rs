//! One data center in one process: starts everything in order, drains, stops.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gossip::{
    Dot, PeerState,
    quic::{Durability, Identity as GossipIdentity, Node, NodeConfig, NodeError},
};
use tokio::sync::watch;

use crate::{
    admin,
    config::{Answer, SiteConfig, hex},
    identity::{Identity, IndexKey, NORMALISATION, PasswordPool, PasswordSettings, PoolError},
    members::{self, MembersError},
    prometheus,
    replication::Replication,
    store::{BackupOwner, OpenError, Store, StoreConfig},
};

/// Protocol versions that this build speaks.
const PROTOCOL_VERSIONS: (u16, u16) = (1, 1);
/// With a clock further off than this from the median of at least three peers, local writes are refused.
const CLOCK_SKEW_MAX_MS: u64 = 60_000;
/// How often each peer is compared with.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How often the site looks whether its own entry in the cluster record is right, beside when the record changes.
const MEMBERS_LOOK: Duration = Duration::from_secs(10);

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
    #[error("identity `{}`: {message}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The pool that hashes passwords.
    #[error(transparent)]
    Passwords(#[from] PoolError),
    /// The cluster record.
    #[error(transparent)]
    Members(#[from] MembersError),
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
    /// What it was started with.
    pub config: SiteConfig,
    /// Its records.
    pub store: Store,
    /// What people do with them.
    pub identity: Identity,
    /// Its peers.
    pub node: Node,
    /// Between the two.
    pub replication: Arc<Replication>,
    /// Delay, loss and cuts between this process and its peers.
    #[cfg(feature = "lab")]
    pub shape: Arc<gossip::quic::Shape>,
    drain: watch::Sender<bool>,
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
    /// Opens the store and joins the others. It serves once [`Site::is_serving`].
    pub async fn start(config: SiteConfig) -> Result<Arc<Site>, SiteError> {
        let identity = read_identity(&config.identity)?;
        if let Some(own) = config.own()
            && identity.public_key() != own.public_key
        {
            return Err(SiteError::Identity {
                path: config.identity.clone(),
                message: format!(
                    "its public key is not the one that [[members]] lists for {}",
                    own.name
                ),
            });
        }
        let passwords = PasswordPool::new(&PasswordSettings {
            memory_kib: config.passwords.memory_kib,
            iterations: config.passwords.iterations,
            parallelism: config.passwords.parallelism,
            threads: match config.passwords.threads {
                0 => PasswordSettings::default().threads,
                threads => threads,
            },
            queue: config.passwords.queue,
        })?;
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
        let replication = Replication::new(&store);
        let listed = members::effective_at_start(&config, &store)?;
        let state = store.state();
        let core = gossip::Config {
            cluster: config.cluster.id.0,
            member: gossip::MemberId(*config.member.0.as_bytes()),
            site: config.site.clone(),
            start: state.start,
            own_starts: state.own_starts.clone(),
            versions: PROTOCOL_VERSIONS,
            features: [].into(),
            fingerprints: [
                ("index-key".to_owned(), index_key.fingerprint()),
                (
                    "digest-key".to_owned(),
                    fingerprint("digest key", &config.cluster.digest_key.0),
                ),
                (
                    "normalisation".to_owned(),
                    fingerprint("normalisation", NORMALISATION.as_bytes()),
                ),
            ]
            .into(),
            startup_grace: config.startup_grace,
            look_interval: Some(LOOK_INTERVAL),
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
            identity,
            core,
            members: listed,
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
        let identity = Identity::new(store.clone(), index_key, passwords);
        let site = Arc::new(Site {
            config,
            store,
            identity,
            node,
            replication,
            #[cfg(feature = "lab")]
            shape,
            drain: watch::channel(false).0,
            degraded: AtomicU64::new(0),
        });
        tokio::spawn(keep_members(Arc::downgrade(&site)));
        if site.config.metrics.is_some() {
            tokio::spawn(prometheus::export(Arc::downgrade(&site)));
        }
        Ok(site)
    }

    /// Serves until a drain is asked for, then drains and stops.
    pub async fn run(self: Arc<Site>) -> Result<(), SiteError> {
        let socket = self.config.data.join("admin.sock");
        let served = admin::serve(self.clone(), &socket).map_err(|source| SiteError::Listen {
            what: format!("admin socket {}", socket.display()),
            source,
        })?;
        let aside = tokio::select! {
            () = served => None,
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

    /// Whether it takes requests now: caught up, and not on its way out.
    pub fn is_serving(&self) -> bool {
        self.node.is_ready() && !self.is_draining()
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

    /// With a clock far off those of the others nothing is written here: what it stamps would beat or lose to
    /// theirs for no reason.
    fn heed_clock(&self) {
        let skew_ms = self
            .node
            .status()
            .gossip
            .skew_ms
            .filter(|skew_ms| skew_ms.unsigned_abs() > CLOCK_SKEW_MAX_MS);
        let why = skew_ms.map(|skew_ms| format!("the clock is {skew_ms} ms off the median of the peers"));
        self.store.withhold_writes(why);
    }

    /// Why this site should not be sent people; empty if it should. A full or failing disk alone is no reason while
    /// nothing is missing here, so that one shared cause cannot take every site out at once.
    pub fn unhealthy(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        if !self.node.is_ready() {
            reasons.push("still catching up with the others".to_owned());
        }
        if let Some(why) = self.store.refuses() {
            let gossip = &self.node.status().gossip;
            let behind: u64 = gossip.peers.iter().map(|peer| peer.behind_us).max().unwrap_or(0);
            if behind > 0 {
                reasons.push(format!(
                    "the disk takes no writes ({why}), and {behind} transactions are missing here"
                ));
            } else if gossip.isolated {
                reasons.push(format!(
                    "the disk takes no writes ({why}), and no peer was heard for a minute"
                ));
            }
        }
        if let Some(skew_ms) = self.node.status().gossip.skew_ms
            && skew_ms.unsigned_abs() > CLOCK_SKEW_MAX_MS
        {
            reasons.push(format!("the clock is {skew_ms} ms off the median of the peers"));
        }
        reasons
    }

    /// Writes answered on fewer sites' disks than configured.
    pub fn degraded(&self) -> u64 {
        self.degraded.load(Ordering::Relaxed)
    }

    /// Gives what only this site has to another one, then closes.
    async fn finish(&self) {
        let vector = self.store.state().vector.clone();
        let others = self
            .node
            .status()
            .gossip
            .peers
            .iter()
            .any(|peer| peer.state == PeerState::Active);
        if others && !self.node.drained(&vector, self.config.drain_timeout).await {
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

/// Keeps this member's entry in the cluster record right, and the gossip's list of members as the record has it.
async fn keep_members(site: std::sync::Weak<Site>) {
    loop {
        {
            let Some(site) = site.upgrade() else { return };
            if site.is_draining() {
                return;
            }
            if site.is_serving() {
                match members::register(&site.config, &site.store).await {
                    Ok(true) => tracing::info!("this member's entry in the cluster record was written"),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(%error, "could not write this member's entry in the cluster record");
                    }
                }
            }
            site.heed_clock();
            match members::effective(&site.config, &site.store) {
                Ok(listed) => site.node.set_members(listed),
                Err(error) => tracing::warn!(%error, "could not read the members"),
            }
        }
        let Some(replication) = site.upgrade().map(|site| site.replication.clone()) else {
            return;
        };
        let wait = if site.upgrade().is_some_and(|site| site.is_serving()) {
            MEMBERS_LOOK
        } else {
            Duration::from_millis(250)
        };
        let _ = tokio::time::timeout(wait, replication.members_changed.notified()).await;
    }
}

fn read_identity(path: &Path) -> Result<GossipIdentity, SiteError> {
    let wrong = |message: String| SiteError::Identity {
        path: path.to_path_buf(),
        message,
    };
    let pem = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    GossipIdentity::from_pem(pem.as_bytes(), pem.as_bytes()).map_err(|error| wrong(error.to_string()))
}

/// Whose a backup is that this member makes.
pub fn backup_owner(config: &SiteConfig) -> BackupOwner {
    BackupOwner {
        cluster: hex(&fingerprint("cluster id", &config.cluster.id.0)),
        site: config.site.clone(),
        member: gossip::MemberId(*config.member.0.as_bytes()),
    }
}

fn fingerprint(of: &str, bytes: &[u8]) -> [u8; 8] {
    let mut fingerprint = [0; 8];
    let context = format!("persona 2026-11-22 fingerprint of the {of}");
    blake3::Hasher::new_derive_key(&context)
        .update(bytes)
        .finalize_xof()
        .fill(&mut fingerprint);
    fingerprint
}
