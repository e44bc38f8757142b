//! A member that the test plays: the real gossip and its QUIC below, and above it a log in which anything may lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use gossip::{
    Config, Dot, Envelope, Event, Limits, MemberId, Peer, PeerState, Received, ReplicaId, Tip, Vector,
    Writer,
    quic::{Identity, LogChunk, MemberConfig, Node, NodeConfig, ReadLogError, Replica},
    transaction_hash,
};

use crate::process::{Plan, loopback};

/// What it says of itself that others do not.
#[derive(Clone)]
pub(crate) struct Quirks {
    pub(crate) versions: (u16, u16),
    pub(crate) features: BTreeSet<String>,
    pub(crate) fingerprints: BTreeMap<String, [u8; 8]>,
}

impl Default for Quirks {
    fn default() -> Quirks {
        Quirks {
            versions: (1, 1),
            features: BTreeSet::new(),
            fingerprints: BTreeMap::new(),
        }
    }
}

/// A member of a plan, with its key.
pub(crate) struct Gossiper {
    pub(crate) node: Node,
    log: Arc<AnyLog>,
    start: Writer,
    tip: Tip,
}

impl Gossiper {
    /// The start of `epoch` of a planned member, which finds the first one at `site`.
    pub(crate) async fn start(
        plan: &Plan,
        number: usize,
        epoch: u32,
        site: SocketAddr,
        quirks: Quirks,
    ) -> Gossiper {
        let pem = std::fs::read(&plan.configs[number].identity).expect("an identity");
        Gossiper::with_key(plan, number, epoch, site, quirks, &pem).await
    }

    /// The same with any key.
    pub(crate) async fn with_key(
        plan: &Plan,
        number: usize,
        epoch: u32,
        site: SocketAddr,
        quirks: Quirks,
        pem: &[u8],
    ) -> Gossiper {
        let config = &plan.configs[number];
        let member = |config: &persona::config::MemberConfig| MemberId(*config.id.0.as_bytes());
        let start = Writer {
            replica: ReplicaId(*b"replayer"),
            epoch,
            nonce: rand::random(),
        };
        let log = Arc::new(AnyLog::default());
        let members = config
            .members
            .iter()
            .enumerate()
            .map(|(at, listed)| MemberConfig {
                peer: Peer {
                    id: member(listed),
                    name: listed.name.clone(),
                    site: listed.site.clone(),
                    state: PeerState::Active,
                },
                addresses: if at == 0 {
                    vec![site.to_string()]
                } else {
                    listed.addresses.clone()
                },
                keys: vec![listed.public_key.clone()],
            });
        let node = NodeConfig {
            listen: loopback(),
            identity: Identity::from_pem(pem, pem).expect("an identity"),
            core: Config {
                cluster: config.cluster.id.0,
                member: MemberId(*config.member.expect("a listed member").0.as_bytes()),
                site: config.site.clone(),
                start,
                own_starts: vec![start],
                versions: quirks.versions,
                features: quirks.features,
                fingerprints: quirks.fingerprints,
                startup_grace: Duration::from_millis(100),
                look_interval: None,
                limits: Limits::default(),
            },
            members: members.collect(),
            ground: gossip::quic::Ground::default(),
            snapshot_bytes_per_second: gossip::quic::SNAPSHOT_BYTES_PER_SECOND,
            shape: None,
        };
        let node = Node::start(node, Vector::new(), Vector::new(), log.clone())
            .await
            .expect("it starts");
        log.node.set(node.clone()).ok().expect("set once");
        Gossiper {
            node,
            log,
            start,
            tip: Tip {
                number: 0,
                hash: [0; 8],
            },
        }
    }

    /// The writer of its transactions.
    pub(crate) fn writer(&self) -> Writer {
        self.start
    }

    /// Writes a transaction whose envelope is as it should be.
    pub(crate) fn write(&mut self, body: Vec<u8>) -> Dot {
        let dot = Dot {
            writer: self.start,
            number: self.tip.number + 1,
        };
        let envelope = Envelope {
            dot,
            predecessor: self.tip.hash,
            follows: Vec::new(),
            body,
        };
        self.write_bytes(&envelope.encode())
    }

    /// Writes any bytes as its next transaction.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Dot {
        let dot = Dot {
            writer: self.start,
            number: self.tip.number + 1,
        };
        let hash = transaction_hash(bytes);
        self.tip = Tip {
            number: dot.number,
            hash,
        };
        let bytes: Arc<[u8]> = bytes.into();
        let mut kept = self.log.kept();
        kept.log.push((dot, bytes.clone()));
        kept.vector.advance(dot.writer, self.tip);
        drop(kept);
        self.node
            .committed(vec![(dot.writer, self.tip)], vec![(dot, bytes)]);
        dot
    }

    /// Pushes something that it has not written: an old transaction, say. It is in no vector and in no log.
    pub(crate) fn push(&self, dot: Dot, bytes: Arc<[u8]>) {
        self.node.committed(Vec::new(), vec![(dot, bytes)]);
    }

    /// What it has written, as it wrote it.
    pub(crate) fn log(&self) -> Vec<(Dot, Arc<[u8]>)> {
        self.log.kept().log.clone()
    }

    /// The hash of what it wrote last.
    pub(crate) fn last_hash(&self) -> [u8; 8] {
        self.tip.hash
    }

    pub(crate) async fn stop(self) {
        self.node.shutdown().await;
    }
}

/// A log of its own transactions; what others bring is noted and forgotten.
#[derive(Default)]
struct AnyLog {
    kept: Mutex<Kept>,
    node: OnceLock<Node>,
}

#[derive(Default)]
struct Kept {
    log: Vec<(Dot, Arc<[u8]>)>,
    vector: Vector,
}

impl AnyLog {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replica for AnyLog {
    fn deliver(&self, transactions: Vec<Received>) {
        let mut kept = self.kept();
        let moved: Vec<(Writer, Tip)> = transactions
            .iter()
            .map(|received| received.envelope.tip(received.hash))
            .collect();
        for (writer, tip) in &moved {
            kept.vector.advance(*writer, *tip);
        }
        drop(kept);
        // Not before it has a node, and then it has been told of its own vector only.
        if let Some(node) = self.node.get() {
            node.committed(moved, Vec::new());
        }
    }

    fn read_log(&self, beyond: &Vector, _: Option<u64>, _: usize) -> Result<LogChunk, ReadLogError> {
        let kept = self.kept();
        let transactions = kept
            .log
            .iter()
            .filter(|(dot, _)| !beyond.covers(dot))
            .map(|(_, bytes)| bytes.clone());
        Ok(LogChunk::Transactions {
            transactions: transactions.collect(),
            next: None,
        })
    }

    fn trim(&self, _: Vector) {}

    fn vector(&self) -> Vector {
        self.kept().vector.clone()
    }

    fn event(&self, _: Event) {}
}
