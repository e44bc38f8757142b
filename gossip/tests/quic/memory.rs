//! A replica in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use gossip::quic::{LogChunk, Node, ReadLogError, Replica};
use gossip::reconcile::{Cut, CutError, Part, Purpose, Verdict};
use gossip::snapshot::{Sink, SnapshotError, Source};
use gossip::{
    Config, Dot, Envelope, Event, Limits, MemberId, Received, ReplicaId, Tip, Vector, Writer,
    transaction_hash,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::records::{Checkpoint, Incoming, Records};

pub(crate) const CLUSTER: [u8; 16] = *b"a world in tests";
/// However slow the machine: a test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A store in memory whose every commit is "synced" at once.
pub(crate) struct Memory {
    state: Mutex<State>,
    inbox: mpsc::UnboundedSender<Vec<Received>>,
    told: Box<dyn Fn(String) + Send + Sync>,
    node: OnceLock<Node>,
    pub(crate) records: Records,
    incoming: Incoming,
    own_starts: Vec<Writer>,
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
    /// The last of these starts, on what another kept. `told` hears of every commit and event.
    pub(crate) fn new(
        starts: &[Writer],
        before: Option<&Memory>,
        told: impl Fn(String) + Send + Sync + 'static,
    ) -> (Arc<Memory>, mpsc::UnboundedReceiver<Vec<Received>>) {
        let (inbox, queue) = mpsc::unbounded_channel();
        let (vector, log) = before.map(Memory::kept).unwrap_or_default();
        let start = *starts.last().unwrap();
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
            told: Box::new(told),
            node: OnceLock::new(),
            records: before.map(|before| before.records.clone()).unwrap_or_default(),
            incoming: before.map(|before| before.incoming.clone()).unwrap_or_default(),
            own_starts: starts.to_vec(),
            bell: watch::channel(0).0,
        };
        (Arc::new(memory), queue)
    }

    /// Commits what `node` delivers, and reports to it.
    pub(crate) fn attach(self: &Arc<Memory>, node: Node, mut queue: mpsc::UnboundedReceiver<Vec<Received>>) {
        assert!(self.node.set(node).is_ok());
        let committer = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(received) = queue.recv().await {
                let Some(memory) = committer.upgrade() else { return };
                memory.apply(received);
            }
        });
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
        (self.told)(format!("wrote {dot}"));
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
            (self.told)(format!("committed {dot}"));
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

fn entry(bytes: Arc<[u8]>) -> Entry {
    let envelope = Envelope::decode(&bytes).unwrap();
    Entry {
        dot: envelope.dot,
        bytes,
        body: envelope.body,
        at: Instant::now(),
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

    fn with_cut(&self, _purpose: Purpose, talk: &mut dyn FnMut(&dyn Cut)) -> Result<(), CutError> {
        talk(&self.records.cut(self.vector()));
        Ok(())
    }

    fn take_part(&self, _from: MemberId, _purpose: Purpose, part: Part) -> Result<(), CutError> {
        self.records.take(part);
        self.ring();
        Ok(())
    }

    fn looked(&self, member: MemberId, purpose: Purpose, verdict: Option<&Verdict>) {
        let divergent = verdict.map(|verdict| verdict.divergent.len());
        (self.told)(format!("{purpose:?} with {member}: {divergent:?}"));
    }

    fn snapshot_source(&self, _member: MemberId) -> Result<Arc<dyn Source>, SnapshotError> {
        let (vector, log) = self.kept();
        let transactions: Vec<_> = log.into_iter().map(|entry| entry.bytes).collect();
        Ok(Arc::new(Checkpoint::new(vector, &transactions)))
    }

    fn snapshot_sink(&self) -> Result<Box<dyn Sink>, SnapshotError> {
        Ok(Box::new(self.incoming.clone()))
    }

    fn install_snapshot(&self) -> Result<(), SnapshotError> {
        let refused = |why: &str| SnapshotError(why.to_owned());
        let (vector, transactions) = self.incoming.installed().ok_or_else(|| refused("nothing came"))?;
        let mut state = self.state();
        if !state.vector.is_empty() {
            return Err(refused("there is something here"));
        }
        state.vector = vector.clone();
        state.log = transactions.into_iter().map(entry).collect();
        self.node()
            .restarted(state.start, self.own_starts.clone(), vector.clone());
        self.node().trimmed(Vector::new());
        drop(state);
        (self.told)(format!("installed a copy of {} transactions", vector.total()));
        self.ring();
        Ok(())
    }

    fn enrol(&self, request: Vec<u8>, binding: [u8; 32], peer_key: Vec<u8>) -> Vec<u8> {
        if request == b"nonsense" {
            return Vec::new();
        }
        [&request, &binding[..], &peer_key].concat()
    }

    fn vector(&self) -> Vector {
        self.state().vector.clone()
    }

    fn event(&self, event: Event) {
        (self.told)(format!("{event:?}"));
        self.state().events.push(event);
        self.ring();
    }
}

pub(crate) fn member_id(number: usize) -> MemberId {
    MemberId((number as u64 + 1).to_be_bytes())
}

pub(crate) fn writer(number: usize, epoch: u32) -> Writer {
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
