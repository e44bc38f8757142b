//! The driver: one QUIC endpoint that carries out what the core decides.
//!
//! One task owns the core ([`driver`]). Around it, per connection, a few tasks that only move bytes
//! ([`connection`], [`streams`], [`pull`]); [`dial`] keeps the mesh connected; [`tls`] says who may be in it;
//! `shaped` (feature `shaped`) is a network of ill repute for laboratories. The store is behind [`Replica`].
//!
//! Everything waits on events; nothing polls. This module and those below it hold the crate's only clock, its
//! only entropy and its only tasks.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the driver is where clocks and chance come from; the core is where they are banned"
)]

mod connection;
mod dial;
mod driver;
mod pull;
#[cfg(feature = "shaped")]
mod shaped;
mod socket;
mod streams;
mod tls;
mod traffic;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Runtime, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::connection::Environment;
use self::driver::{Command, Driver, Waiter};
pub use self::driver::{Durability, WAITERS_MAX};
#[cfg(feature = "shaped")]
pub use self::shaped::{Casualties, DELAYED_BYTES_MAX, DELAYED_COUNT_MAX, Link, Shape};
pub use self::tls::{ALPN, Identity, IdentityError, fingerprint};
use self::tls::{PinnedKeys, Tls};
pub use self::traffic::Traffic;
use crate::reconcile::{Cut, CutError, Part, Purpose};
use crate::snapshot::{self, SnapshotError};
use crate::{Config, Dot, Event, MemberId, Peer, Received, Status, Tip, Vector, Writer};

/// What the driver needs from the store. Called from the driver's own task: nothing here may block but
/// [`Replica::read_log`], which is called where it may.
pub trait Replica: Send + Sync + 'static {
    /// Queues transactions for the committer, in this order. They are causal, whole, and each follows what was
    /// delivered before. The driver bounds what is under way by what the core holds.
    fn deliver(&self, transactions: Vec<Received>);

    /// Reads the log in this replica's own commit order: what `beyond` does not cover, from `position` on
    /// (none: the beginning), about `bytes_max` bytes of it and at least one transaction if there is one.
    ///
    /// # Errors
    /// When the log could not be read; the peer asks again, or asks another.
    fn read_log(
        &self,
        beyond: &Vector,
        position: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, ReadLogError>;

    /// Everything up to this vector is at all members: its log entries may go.
    fn trim(&self, stable: Vector);

    /// What is committed now, at least all that was reported by [`Node::committed`]. Asked for only after the
    /// queue of reports overflowed.
    fn vector(&self) -> Vector;

    /// Something that an operator or the site should know.
    fn event(&self, event: Event);

    /// Everything up to this vector is at all members, and nothing concurrent with it is on its way.
    fn settled(&self, _settled: Vector) {}

    /// Pins a cut for as long as `talk` runs, on a thread that may block.
    ///
    /// # Errors
    /// When nothing can be pinned now.
    fn with_cut(&self, _talk: &mut dyn FnMut(&dyn Cut)) -> Result<(), CutError> {
        Err(CutError("not offered".to_owned()))
    }

    /// Takes a part of a conversation with `from`; blocks until there is room for more.
    ///
    /// # Errors
    /// When it cannot be kept; the conversation ends, and no later part of it may be delivered.
    fn take_part(&self, _from: MemberId, _purpose: Purpose, _part: Part) -> Result<(), CutError> {
        Err(CutError("not offered".to_owned()))
    }

    /// A checkpoint to be copied by a peer: the one that is kept for it, or a new one. Blocks.
    ///
    /// # Errors
    /// When none can be made.
    fn snapshot_source(&self, _for_member: MemberId) -> Result<Arc<dyn snapshot::Source>, SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }

    /// Where a copy of a peer's data is kept while it comes.
    ///
    /// # Errors
    /// When it cannot be kept.
    fn snapshot_sink(&self) -> Result<Box<dyn snapshot::Sink>, SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }

    /// The finished copy replaces all that is here. Blocks until the replica runs on it.
    ///
    /// # Errors
    /// When this replica has written something since, or the copy does not open.
    fn install_snapshot(&self) -> Result<(), SnapshotError> {
        Err(SnapshotError("not offered".to_owned()))
    }
}

/// A piece of the log.
#[derive(Debug, Clone)]
pub enum LogChunk {
    /// Transactions as their writers made them.
    Transactions {
        /// In commit order.
        transactions: Vec<Arc<[u8]>>,
        /// Where to go on reading; none at the end.
        next: Option<u64>,
    },
    /// Some of what is asked for is not in the log any more.
    Trimmed,
}

/// The log could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the log could not be read: {0}")]
pub struct ReadLogError(pub String);

/// A member, and how to reach and recognise it.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberConfig {
    /// As the core knows it.
    pub peer: Peer,
    /// `host:port` each; all are tried.
    pub addresses: Vec<String>,
    /// Public keys (SPKI DER), pinned. Two while a key is being replaced.
    pub keys: Vec<Vec<u8>>,
}

/// What a node is started with.
pub struct NodeConfig {
    /// Where to listen, and from where to dial.
    pub listen: SocketAddr,
    /// This member's key, which the others have listed.
    pub identity: Identity,
    /// What the core is told of this replica.
    pub core: Config,
    /// All members; this one may be among them.
    pub members: Vec<MemberConfig>,
    /// A laboratory's network; none for the real one.
    #[cfg(feature = "shaped")]
    pub shape: Option<Arc<Shape>>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Most often another process has the port.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key is of a kind that TLS does not take here.
    #[error("this identity cannot be used for TLS")]
    Tls(#[source] rustls::Error),
    /// The system gave no socket, or no thread, to run it.
    #[error("cannot start the endpoint")]
    Endpoint(#[source] std::io::Error),
}

/// What an operator sees of a node: the core's picture, and the driver's counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NodeStatus {
    #[serde(flatten)]
    /// Who has what, from here.
    pub gossip: Status,
    /// What went over the wire, and what was refused.
    pub traffic: Traffic,
}

/// A replica's end of the gossip. Clones are handles to the same; when the last one is dropped it stops.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    commands: mpsc::UnboundedSender<Command>,
    intake: Arc<Intake>,
    status: watch::Receiver<Arc<NodeStatus>>,
    ready: Arc<AtomicBool>,
    local_address: SocketAddr,
    /// Yields `None` when every task is gone.
    stopped: tokio::sync::Mutex<mpsc::Receiver<Infallible>>,
}

/// What the committer has reported and the driver not yet taken.
#[derive(Default)]
struct Intake {
    bytes: AtomicUsize,
    /// A report did not fit: the driver reads the replica's vector instead.
    overflowed: AtomicBool,
}

/// Bytes of reported commits on their way to the driver.
const INTAKE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a reported entry or transaction costs beside its bytes.
const INTAKE_ITEM_BYTES: usize = 64;

/// How long [`Node::shutdown`] waits for the tasks.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

impl Node {
    /// Binds the socket and starts to listen and to dial.
    ///
    /// # Errors
    /// When the address is taken or the identity unusable.
    pub async fn start(
        config: NodeConfig,
        vector: Vector,
        trimmed: Vector,
        replica: Arc<dyn Replica>,
    ) -> Result<Node, NodeError> {
        let keys = Arc::new(PinnedKeys::default());
        keys.replace(pinned(&config.members));
        let tls = Tls::new(&config.identity, &keys).map_err(NodeError::Tls)?;
        let transport = Arc::new(transport());
        let mut server = ServerConfig::with_crypto(tls.server);
        server.transport_config(Arc::clone(&transport));
        let mut client = quinn::ClientConfig::new(tls.client);
        client.transport_config(transport);

        let (alive, stopped) = mpsc::channel(1);
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let socket = std::net::UdpSocket::bind(config.listen)
            .and_then(|socket| runtime.wrap_udp_socket(socket))
            .map(|socket| socket::Tracked::wrap(socket, alive.clone()))
            .map_err(|source| NodeError::Listen {
                address: config.listen,
                source,
            })?;
        #[cfg(feature = "shaped")]
        let socket = match config.shape {
            None => socket,
            Some(shape) => Arc::new(shaped::Shaped::new(socket, shape).map_err(NodeError::Endpoint)?),
        };
        let endpoint_config = EndpointConfig::new(Arc::new(config.identity.reset_key()));
        let endpoint = Endpoint::new_with_abstract_socket(endpoint_config, Some(server), socket, runtime)
            .map_err(NodeError::Endpoint)?;
        let local_address = endpoint.local_addr().map_err(NodeError::Endpoint)?;

        let (commands, command_queue) = mpsc::unbounded_channel();
        let (arrivals, arrival_queue) = mpsc::unbounded_channel();
        let (room, room_watch) = watch::channel(true);
        let (status_sender, status) = watch::channel(Arc::default());
        let intake = Arc::new(Intake::default());
        let ready = Arc::new(AtomicBool::new(false));
        let environment = Environment {
            replica,
            keys,
            counters: Arc::default(),
            arrivals,
            arriving: Arc::new(Semaphore::new(connection::ARRIVING_BYTES_MAX)),
            room: room_watch,
            serving: Arc::new(Semaphore::new(pull::SERVED_MAX)),
            next_connection: Arc::default(),
            alive,
        };
        let driver = Driver::new(driver::Parts {
            endpoint,
            client,
            environment,
            commands: command_queue,
            arrivals: arrival_queue,
            intake: Arc::clone(&intake),
            ready: Arc::clone(&ready),
            room,
            status: status_sender,
            config: config.core,
            vector,
            trimmed,
            members: config.members,
        });
        tokio::spawn(driver.run());
        let shared = Shared {
            commands,
            intake,
            status,
            ready,
            local_address,
            stopped: tokio::sync::Mutex::new(stopped),
        };
        Ok(Node {
            shared: Arc::new(shared),
        })
    }

    /// The address that it listens on and dials from.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_address
    }

    /// Reports a commit, after its sync: all vector entries that it moved, and the transactions in it that were
    /// written here. Never blocks and never fails; when reports come faster than they are taken, the rest is
    /// read from [`Replica::vector`] and reaches the peers by their pulls.
    pub fn committed(&self, moved: Vec<(Writer, Tip)>, local: Vec<(Dot, Arc<[u8]>)>) {
        let intake = &self.shared.intake;
        let content: usize = local.iter().map(|(_, bytes)| bytes.len()).sum();
        let bytes = content + (1 + moved.len() + local.len()) * INTAKE_ITEM_BYTES;
        if intake.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= INTAKE_BYTES_MAX {
            self.command(Command::Committed { moved, local, bytes });
            return;
        }
        intake.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !intake.overflowed.swap(true, Ordering::AcqRel) {
            self.command(Command::Resync);
        }
    }

    /// Reports that nothing in memory survived: a batch failed, or the replica took a new start. What was
    /// reported before is void.
    pub fn restarted(&self, start: Writer, own_starts: Vec<Writer>, vector: Vector) {
        self.command(Command::Restarted {
            start,
            own_starts,
            vector,
        });
    }

    /// Reports that what a catch-up brought is merged: what is on disk, and what the log no longer holds.
    pub fn caught_up(&self, vector: Vector, trimmed: Vector) {
        self.command(Command::CaughtUp { vector, trimmed });
    }

    /// Reports what the log no longer holds.
    pub fn trimmed(&self, trimmed: Vector) {
        self.command(Command::Trimmed(trimmed));
    }

    /// Reports delivered transactions that the store did not take; they are asked for again after a rest.
    pub fn rejected(&self, dots: Vec<Dot>) {
        self.command(Command::Rejected(dots));
    }

    /// Replaces the list of members: who is dialed, whose keys are pinned, whose acks count. Connections whose
    /// key is no longer listed are closed.
    pub fn set_members(&self, members: Vec<MemberConfig>) {
        self.command(Command::Members(members));
    }

    /// Waits until this transaction is on disk in so many sites, this one counted; at most `timeout`, and not
    /// at all while fewer sites are connected than that takes.
    pub async fn durable(&self, dot: Dot, sites: usize, timeout: Duration) -> Durability {
        self.wait(vec![dot], sites, false, timeout).await
    }

    /// Waits until everything up to this vector is also at some other site, at most `timeout`. It waits on
    /// while none is connected: one may come back.
    pub async fn drained(&self, vector: &Vector, timeout: Duration) -> bool {
        let dots = vector
            .iter()
            .map(|(writer, tip)| Dot {
                writer,
                number: tip.number,
            })
            .collect();
        matches!(
            self.wait(dots, 2, true, timeout).await,
            Durability::Reached { .. }
        )
    }

    async fn wait(&self, dots: Vec<Dot>, sites: usize, patient: bool, timeout: Duration) -> Durability {
        let (reply, answer) = oneshot::channel();
        let reached = Arc::new(AtomicUsize::new(0));
        self.command(Command::Wait(Waiter {
            dots,
            sites,
            patient,
            reached: Arc::clone(&reached),
            reply,
        }));
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(durability)) => durability,
            // Out of time, or the node has stopped.
            _ => Durability::Degraded {
                sites: reached.load(Ordering::Relaxed),
            },
        }
    }

    /// The picture as it was a moment ago (a tenth of a second while things happen, else a second at most).
    #[must_use]
    pub fn status(&self) -> Arc<NodeStatus> {
        Arc::clone(&self.shared.status.borrow())
    }

    /// Tells of every new picture.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Arc<NodeStatus>> {
        self.shared.status.clone()
    }

    /// Whether this replica has caught up since its start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// Closes all connections and waits until every task has ended and the port is free again.
    pub async fn shutdown(self) {
        self.command(Command::Stop);
        let mut stopped = self.shared.stopped.lock().await;
        if tokio::time::timeout(STOP_TIMEOUT, stopped.recv()).await.is_err() {
            tracing::warn!("some of the node's tasks did not end in time");
        }
    }

    fn command(&self, command: Command) {
        // Without a driver the node has stopped, and nothing matters any more.
        let _ = self.shared.commands.send(command);
    }
}

/// Whose each pinned key is.
fn pinned(members: &[MemberConfig]) -> BTreeMap<Vec<u8>, MemberId> {
    members
        .iter()
        .flat_map(|member| member.keys.iter().map(|key| (key.clone(), member.peer.id)))
        .collect()
}

/// A peer that is silent for this long is gone.
const IDLE_TIMEOUT_MS: u32 = 3_000;
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// A guess between neighbours and antipodes, for the handshake's first retransmission.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(150);
/// Unread bytes per stream: 2 MiB lets one pull run at 6 MB/s over the longest real round trip (330 ms).
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Unread bytes per connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Bytes sent and not yet acknowledged per connection.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;
/// One-way streams that a peer may have open: two are used, the rest is for versions to come.
const UNI_STREAMS_MAX: u32 = 8;
/// Two-way streams that a peer may have open: one pull at a time, and cancelled ones that linger.
const BI_STREAMS_MAX: u32 = 8;

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // Within one priority there is one stream, or several pulls: better one done than all half done.
        .send_fairness(false)
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(BI_STREAMS_MAX))
        // 1200 bytes pass everywhere; a larger datagram that stops passing one day would cost seconds.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None);
    transport
}
