//! A replica in memory, and a world of nodes over loopback around it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use gossip::quic::{Identity, Link, LogChunk, MemberConfig, Node, NodeConfig, ReadLogError, Replica, Shape};
use gossip::{
    Config, Dot, Envelope, Event, Limits, MemberId, Peer, PeerState, Received, ReplicaId, Tip, Vector,
    Writer, transaction_hash,
};
use tokio::sync::{mpsc, watch};

pub(crate) const CLUSTER: [u8; 16] = *b"a world in tests";
/// However slow the machine: a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store in memory whose every commit is "synced" at once.
pub(crate) struct Memory {
    state: Mutex<State>,
    inbox: mpsc::UnboundedSender<Vec<Received>>,
    node: OnceLock<Node>,
    /// Rung after each commit and event.
    bell: watch::Sender<u64>,
}

struct State {
    start: Writer,
    own: Tip,
    vector: Vector,
    /// What the last own transaction knew.
    known: Vector,
    log: Vec<Entry>,
    events: Vec<Event>,
}

#[derive(Clone)]
struct Entry {
    dot: Dot,
    bytes: Arc<[u8]>,
    body: Vec<u8>,
    at: Instant,
}

impl Memory {
    fn new(start: Writer, before: Option<&Memory>) -> (Arc<Memory>, mpsc::UnboundedReceiver<Vec<Received>>) {
        let (inbox, queue) = mpsc::unbounded_channel();
        let (vector, log) = before.map(Memory::kept).unwrap_or_default();
        let state = State {
            start,
            own: Tip {
                number: 0,
                hash: [0; 8],
            },
            known: Vector::new(),
            vector,
            log,
            events: Vec::new(),
        };
        let memory = Memory {
            state: Mutex::new(state),
            inbox,
            node: OnceLock::new(),
            bell: watch::channel(0).0,
        };
        (Arc::new(memory), queue)
    }

    fn kept(&self) -> (Vector, Vec<Entry>) {
        let state = self.state();
        (state.vector.clone(), state.log.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn node(&self) -> &Node {
        self.node.get().unwrap()
    }

    fn ring(&self) {
        self.bell.send_modify(|rung| *rung += 1);
    }

    pub(crate) fn write(&self, body: &[u8]) -> Dot {
        let mut state = self.state();
        let writer = state.start;
        let dot = Dot {
            writer,
            number: state.own.number + 1,
        };
        let follows: Vec<_> = state
            .vector
            .moved_since(&state.known)
            .into_iter()
            .filter(|(other, _)| *other != writer)
            .collect();
        let envelope = Envelope {
            dot,
            predecessor: state.own.hash,
            follows,
            body: body.to_vec(),
        };
        let bytes: Arc<[u8]> = envelope.encode().into();
        let tip = Tip {
            number: dot.number,
            hash: transaction_hash(&bytes),
        };
        state.own = tip;
        state.vector.advance(writer, tip);
        state.known = state.vector.clone();
        state.log.push(Entry {
            dot,
            bytes: Arc::clone(&bytes),
            body: body.to_vec(),
            at: Instant::now(),
        });
        self.node().committed(vec![(writer, tip)], vec![(dot, bytes)]);
        drop(state);
        self.ring();
        dot
    }

    fn apply(&self, received: Vec<Received>) {
        let mut state = self.state();
        let mut moved = BTreeMap::new();
        for Received {
            envelope,
            bytes,
            hash,
        } in received
        {
            let dot = envelope.dot;
            let follows: Vector = envelope.follows.iter().copied().collect();
            assert!(
                state.vector.covers_vector(&follows),
                "{dot} came before what it follows"
            );
            let last = state.vector.get(&dot.writer).map_or(0, |tip| tip.number);
            assert_eq!(dot.number, last + 1, "{dot} came out of order");
            let tip = Tip {
                number: dot.number,
                hash,
            };
            state.vector.advance(dot.writer, tip);
            moved.insert(dot.writer, tip);
            state.log.push(Entry {
                dot,
                bytes,
                body: envelope.body,
                at: Instant::now(),
            });
        }
        self.node().committed(moved.into_iter().collect(), Vec::new());
        drop(state);
        self.ring();
    }

    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let mut bodies: Vec<_> = self.state().log.iter().map(|entry| entry.body.clone()).collect();
        bodies.sort();
        bodies
    }

    pub(crate) fn committed_at(&self, dot: Dot) -> Option<Instant> {
        self.state()
            .log
            .iter()
            .find(|entry| entry.dot == dot)
            .map(|entry| entry.at)
    }

    pub(crate) fn vector(&self) -> Vector {
        self.state().vector.clone()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Waits until this is so; looks again whenever something was committed or told.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, so: impl Fn(&Memory) -> bool) -> impl Future<Output = ()> {
        let mut bell = self.bell.subscribe();
        let caller = std::panic::Location::caller();
        async move {
            let waiting = async {
                while !so(self) {
                    bell.changed().await.unwrap();
                }
            };
            if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
                panic!("{caller}: never: {what}; vector {:?}", self.vector());
            }
        }
    }

    pub(crate) async fn has(&self, dot: Dot) {
        self.until(&format!("has {dot}"), |memory| memory.state().vector.covers(&dot))
            .await;
    }
}

impl Replica for Memory {
    fn deliver(&self, transactions: Vec<Received>) {
        self.inbox.send(transactions).unwrap();
    }

    fn read_log(
        &self,
        beyond: &Vector,
        position: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, ReadLogError> {
        let state = self.state();
        let mut at = usize::try_from(position.unwrap_or(0)).unwrap();
        let (mut transactions, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = state.log.get(at) {
            if bytes > bytes_max {
                return Ok(LogChunk::Transactions {
                    transactions,
                    next: Some(at as u64),
                });
            }
            if !beyond.covers(&entry.dot) {
                bytes += entry.bytes.len();
                transactions.push(Arc::clone(&entry.bytes));
            }
            at += 1;
        }
        Ok(LogChunk::Transactions {
            transactions,
            next: None,
        })
    }

    fn trim(&self, _stable: Vector) {}

    fn vector(&self) -> Vector {
        self.state().vector.clone()
    }

    fn event(&self, event: Event) {
        self.state().events.push(event);
        self.ring();
    }
}

/// One site: what outlives its node, and its node.
pub(crate) struct Site {
    pub(crate) identity: Identity,
    pub(crate) member: MemberId,
    pub(crate) shape: Arc<Shape>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    starts: Vec<Writer>,
}

pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    /// Members without a node: their addresses are dead, their keys listed.
    pub(crate) ghosts: Vec<Identity>,
}

pub(crate) fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["anything".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap()
}

pub(crate) fn member_id(number: usize) -> MemberId {
    MemberId((number as u64 + 1).to_be_bytes())
}

fn writer(number: usize, epoch: u32) -> Writer {
    let mut nonce = [epoch as u8; 8];
    nonce[0] = number as u8;
    Writer {
        replica: ReplicaId(member_id(number).0),
        epoch,
        nonce,
    }
}

pub(crate) fn config(number: usize, starts: &[Writer]) -> Config {
    Config {
        cluster: CLUSTER,
        member: member_id(number),
        site: format!("site-{number}"),
        start: *starts.last().unwrap(),
        own_starts: starts.to_vec(),
        versions: (1, 1),
        features: std::iter::once("tests".to_owned()).collect(),
        fingerprints: BTreeMap::new(),
        startup_grace: Duration::from_secs(10),
        look_interval: None,
        limits: Limits::default(),
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World {
    /// So many sites that know each other, and members that are only listed.
    pub(crate) async fn new(sites: usize, ghosts: usize) -> World {
        let mut world = World {
            sites: Vec::new(),
            ghosts: (0..ghosts).map(|_| identity()).collect(),
        };
        for number in 0..sites {
            let starts = vec![writer(number, 1)];
            let (identity, shape) = (identity(), Shape::new(number as u64));
            let (memory, queue) = Memory::new(starts[0], None);
            // The others are not known yet: their ports are drawn as they start.
            let node_config = NodeConfig {
                listen: loopback(),
                identity: identity.clone(),
                core: config(number, &starts),
                members: Vec::new(),
                shape: Some(Arc::clone(&shape)),
            };
            let node = start(node_config, &memory, queue).await;
            let (member, address) = (member_id(number), node.local_addr());
            world.sites.push(Site {
                identity,
                member,
                shape,
                memory,
                node,
                address,
                starts,
            });
        }
        let members = world.members();
        for site in &world.sites {
            site.node.set_members(members.clone());
        }
        world
    }

    pub(crate) fn members(&self) -> Vec<MemberConfig> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let living = self.sites.iter().map(|site| (&site.identity, site.address));
        let listed = living.chain(self.ghosts.iter().map(|ghost| (ghost, nowhere)));
        listed
            .enumerate()
            .map(|(number, (identity, address))| MemberConfig {
                peer: Peer {
                    id: member_id(number),
                    name: format!("member-{number}"),
                    site: format!("site-{number}"),
                    state: PeerState::Active,
                },
                addresses: vec![address.to_string()],
                keys: vec![identity.public_key().to_vec()],
            })
            .collect()
    }

    pub(crate) fn memory(&self, number: usize) -> &Memory {
        &self.sites[number].memory
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.sites[number].node
    }

    /// Sets how `from` sends to `to`.
    pub(crate) fn link(&self, from: usize, to: usize, link: Link) {
        self.sites[from].shape.set(self.sites[to].address, link);
    }

    pub(crate) fn cut(&self, a: usize, b: usize) {
        self.link(
            a,
            b,
            Link {
                cut_out: true,
                cut_in: true,
                ..Link::default()
            },
        );
    }

    pub(crate) fn heal(&self) {
        for site in &self.sites {
            site.shape.clear();
        }
    }

    /// Waits until a node's picture is so.
    pub(crate) async fn picture(
        &self,
        number: usize,
        what: &str,
        so: impl Fn(&gossip::quic::NodeStatus) -> bool,
    ) {
        let mut status = self.node(number).watch_status();
        let waiting = status.wait_for(|status| so(status));
        if let Ok(found) = tokio::time::timeout(PATIENCE, waiting).await {
            found.unwrap();
            return;
        }
        panic!("site {number} never: {what}; {:#?}", self.node(number).status());
    }

    /// Waits until every site is connected to so many others.
    pub(crate) async fn connected(&self, others: usize) {
        for number in 0..self.sites.len() {
            self.picture(number, &format!("connected to {others}"), |status| {
                connected(status) == others
            })
            .await;
        }
    }

    /// Waits until every site has what any of them has.
    pub(crate) async fn level(&self) {
        let mut all = Vector::new();
        for site in &self.sites {
            all.merge_max(&site.memory.vector());
        }
        for site in &self.sites {
            site.memory
                .until("level with all", |memory| memory.vector().covers_vector(&all))
                .await;
        }
        let bodies = self.memory(0).bodies();
        assert!(
            self.sites.iter().all(|site| site.memory.bodies() == bodies),
            "vectors agree, contents do not"
        );
    }

    /// Stops a node and starts it again on what its memory kept, as a new start.
    pub(crate) async fn restart(&mut self, number: usize) {
        self.stop(number).await;
        self.start_again(number).await;
    }

    pub(crate) async fn stop(&self, number: usize) {
        self.node(number).clone().shutdown().await;
    }

    pub(crate) async fn start_again(&mut self, number: usize) {
        let members = self.members();
        let site = &mut self.sites[number];
        let epoch = u32::try_from(site.starts.len()).unwrap() + 1;
        site.starts.push(writer(number, epoch));
        let (memory, queue) = Memory::new(writer(number, epoch), Some(&site.memory));
        let node_config = NodeConfig {
            listen: site.address,
            identity: site.identity.clone(),
            core: config(number, &site.starts),
            members,
            shape: Some(Arc::clone(&site.shape)),
        };
        site.node = start(node_config, &memory, queue).await;
        site.memory = memory;
    }
}

pub(crate) fn connected(status: &gossip::quic::NodeStatus) -> usize {
    status.gossip.peers.iter().filter(|peer| peer.connected).count()
}

async fn start(
    config: NodeConfig,
    memory: &Arc<Memory>,
    mut queue: mpsc::UnboundedReceiver<Vec<Received>>,
) -> Node {
    let replica: Arc<dyn Replica> = memory.clone();
    let node = Node::start(config, memory.vector(), Vector::new(), replica)
        .await
        .unwrap();
    assert!(memory.node.set(node.clone()).is_ok());
    let committer = Arc::downgrade(memory);
    tokio::spawn(async move {
        while let Some(received) = queue.recv().await {
            let Some(memory) = committer.upgrade() else { return };
            memory.apply(received);
        }
    });
    node
}
