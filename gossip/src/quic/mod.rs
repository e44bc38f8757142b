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
mod copy;
mod dial;
mod driver;
mod enrol;
mod gate;
mod ground;
mod inquiry;
mod pull;
mod repair;
mod replica;
#[cfg(feature = "shaped")]
mod shaped;
mod socket;
mod streams;
mod talk;
mod throttle;
mod tls;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use self::connection::Environment;
use self::driver::{Command, Driver, Waiter};
pub use self::driver::{Durability, WAITERS_MAX};
pub use self::enrol::{ENROL_ANSWER_BYTES_MAX, ENROL_REQUEST_BYTES_MAX, EnrolError, enrol};
use self::gate::Gate;
use self::ground::Chance;
pub use self::ground::{Blocking, Ground};
pub use self::replica::{LogChunk, ReadLogError, Replica};
#[cfg(feature = "shaped")]
pub use self::shaped::{Casualties, DELAYED_BYTES_MAX, DELAYED_COUNT_MAX, Link, Shape};
use self::throttle::Throttle;
use self::tls::Tls;
pub use self::tls::{ALPN, ENROL_ALPN, Identity, IdentityError, fingerprint};
pub use self::traffic::Traffic;
use crate::reconcile::{Purpose, Verdict};
use crate::{Config, Dot, MemberId, Peer, PeerState, Status, Tip, Vector, Writer};

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
    /// What it stands on; the default is this machine.
    pub ground: Ground,
    /// How fast snapshots are given, all together; see [`SNAPSHOT_BYTES_PER_SECOND`].
    pub snapshot_bytes_per_second: u64,
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
    tls: Arc<Tls>,
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

/// How long [`Node::reconcile_now`] waits for all whom it concerns: ten conversations of a minute each, and some rest.
pub const RECONCILE_NOW_MAX: Duration = Duration::from_secs(15 * 60);
/// How fast snapshots are usually given: half of what a 1 Gbit/s link takes.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 64 * 1024 * 1024;

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
        let tls = Arc::new(Tls::new(&config.identity));
        tls.keys.replace(pinned(&config.members));
        let transport = Arc::new(transport());
        let mut server = ServerConfig::with_crypto(tls.admitting().map_err(NodeError::Tls)?);
        server.transport_config(Arc::clone(&transport));

        let (alive, stopped) = mpsc::channel(1);
        let ground = config.ground;
        let chance = Arc::new(Chance::new(ground.seed));
        let socket = match ground.socket {
            Some(socket) => socket,
            None => std::net::UdpSocket::bind(config.listen)
                .and_then(|socket| ground.runtime.wrap_udp_socket(socket))
                .map_err(|source| NodeError::Listen {
                    address: config.listen,
                    source,
                })?,
        };
        let socket = socket::Tracked::wrap(socket, alive.clone());
        #[cfg(feature = "shaped")]
        let socket = match config.shape {
            None => socket,
            Some(shape) => Arc::new(shaped::Shaped::new(socket, shape).map_err(NodeError::Endpoint)?),
        };
        let mut endpoint_config = EndpointConfig::new(Arc::new(config.identity.reset_key()));
        endpoint_config.rng_seed(Some(chance.bytes()));
        let endpoint =
            Endpoint::new_with_abstract_socket(endpoint_config, Some(server.clone()), socket, ground.runtime)
                .map_err(NodeError::Endpoint)?;
        let local_address = endpoint.local_addr().map_err(NodeError::Endpoint)?;

        let (commands, command_queue) = mpsc::unbounded_channel();
        let (arrivals, arrival_queue) = mpsc::unbounded_channel();
        let (status_sender, status) = watch::channel(Arc::default());
        let intake = Arc::new(Intake::default());
        let ready = Arc::new(AtomicBool::new(false));
        let environment = Environment {
            replica,
            tls: Arc::clone(&tls),
            counters: Arc::default(),
            arrivals,
            arriving: Arc::new(Semaphore::new(connection::ARRIVING_BYTES_MAX)),
            room: Arc::new(Gate::new(true)),
            chance,
            blocking: ground.blocking,
            serving: Arc::new(Semaphore::new(pull::SERVED_MAX)),
            asking: Arc::new(Semaphore::new(repair::ASKED_MAX)),
            answering: Arc::new(Semaphore::new(repair::ANSWERED_MAX)),
            giving: Arc::new(Semaphore::new(copy::GIVEN_MAX)),
            throttle: Arc::new(Throttle::new(config.snapshot_bytes_per_second)),
            commands: commands.downgrade(),
            next_connection: Arc::default(),
            alive,
        };
        let driver = Driver::new(driver::Parts {
            endpoint,
            transport,
            server,
            environment,
            commands: command_queue,
            arrivals: arrival_queue,
            intake: Arc::clone(&intake),
            ready: Arc::clone(&ready),
            wall_ms: ground.wall_ms,
            status: status_sender,
            config: config.core,
            vector,
            trimmed,
            members: config.members,
        });
        tokio::spawn(driver.run());
        let shared = Shared {
            tls,
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

    /// The list of members cannot be read: the present one stays, and nothing becomes stable or settled until there is
    /// a next.
    pub fn members_unknown(&self) {
        self.command(Command::MembersUnknown);
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

    /// Members that count, were heard within `heard_within`, and are not known to have all of this on disk. All that
    /// count, if the node has stopped.
    pub async fn lacking(&self, vector: Vector, heard_within: Duration) -> Vec<MemberId> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Lacking {
            vector,
            heard_within,
            reply,
        });
        match answer.await {
            Ok(lacking) => lacking,
            Err(_) => {
                let peers = &self.status().gossip.peers;
                let counts =
                    |peer: &&crate::PeerStatus| matches!(peer.state, PeerState::Active | PeerState::Leaving);
                peers.iter().filter(counts).map(|peer| peer.member).collect()
            }
        }
    }

    /// Somebody waits here for what `writer` made, or for anything: asks all peers for what they have now, and pulls it
    /// as soon as anybody has it. It comes by [`Replica::deliver`] as everything does, or not at all. Cheap: peers
    /// are asked every [`ASK_INTERVAL`](crate::ASK_INTERVAL) at most.
    pub fn ask_now(&self, writer: Option<Writer>) {
        self.command(Command::Ask(writer));
    }

    /// From the next connection on, in both directions, this key is shown; those that stand go on. Who is asked to list
    /// it must have done so before.
    pub fn set_identity(&self, identity: Identity) {
        self.shared.tls.present(identity);
    }

    /// Compares what this replica holds with what `member` holds, or with each active member that is connected, as
    /// soon as the core lets it. `None` beside a member: it is not connected, or the conversation failed, or there was
    /// none within [`RECONCILE_NOW_MAX`].
    pub async fn reconcile_now(
        &self,
        member: Option<MemberId>,
        purpose: Purpose,
    ) -> Vec<(MemberId, Option<Verdict>)> {
        let (asked, whom) = oneshot::channel();
        let (verdicts, mut found) = mpsc::unbounded_channel();
        self.command(Command::ReconcileNow {
            member,
            purpose,
            asked,
            verdicts,
        });
        // An error means that the node has stopped.
        let whom: BTreeSet<MemberId> = whom.await.unwrap_or_default();
        let mut outcome: BTreeMap<MemberId, Option<Verdict>> = member
            .into_iter()
            .chain(whom)
            .map(|member| (member, None))
            .collect();
        let collect = async {
            while let Some((member, verdict)) = found.recv().await {
                outcome.insert(member, verdict);
            }
        };
        if tokio::time::timeout(RECONCILE_NOW_MAX, collect).await.is_err() {
            tracing::warn!("some reconciliations that were asked for have not ended in time");
        }
        outcome.into_iter().collect()
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
        .filter(|member| member.peer.state != PeerState::Banned)
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
        // Without it quinn finishes a stream that it has begun, whatever the priorities: a long pull over a slow
        // link would silence the control stream until it is done.
        .send_fairness(true)
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(BI_STREAMS_MAX))
        // 1200 bytes pass everywhere; a larger datagram that stops passing one day would cost seconds.
        .mtu_discovery_config(None)
        .datagram_receive_buffer_size(None);
    transport
}
