//! One machine driven by hand, and what it puts out.

pub(crate) use std::collections::{BTreeMap, BTreeSet};
pub(crate) use std::sync::Arc;
pub(crate) use std::time::Duration;

pub(crate) use gossip::reconcile::{Purpose, Verdict};
pub(crate) use gossip::{
    Ack, Config, ConnectionId, Dot, Envelope, Event, Gossip, Hello, Input, Limits, MemberId, Message, Moved,
    Now, Output, Peer, PeerState, PullEnd, Received, RefuseCode, ReplicaId, State, Tip, Vector, Writer,
    transaction_hash,
};

pub(crate) const WALL: u64 = 1_700_000_000_000;

pub(crate) fn writer(replica: u8, epoch: u32) -> Writer {
    Writer {
        replica: ReplicaId([replica; 8]),
        epoch,
        nonce: [replica ^ u8::try_from(epoch).unwrap(); 8],
    }
}

pub(crate) fn member(id: u8) -> MemberId {
    MemberId([id; 8])
}

/// A writer's transactions, made one after the other.
pub(crate) struct Author {
    pub(crate) writer: Writer,
    pub(crate) tip: Tip,
}

impl Author {
    pub(crate) fn new(writer: Writer) -> Author {
        Author {
            writer,
            tip: Tip {
                number: 0,
                hash: [0; 8],
            },
        }
    }

    pub(crate) fn write(&mut self, body: &[u8], follows: &[&Author]) -> Arc<[u8]> {
        let dot = Dot {
            writer: self.writer,
            number: self.tip.number + 1,
        };
        let follows = follows.iter().map(|author| (author.writer, author.tip)).collect();
        let envelope = Envelope {
            dot,
            predecessor: self.tip.hash,
            follows,
            body: body.to_vec(),
        };
        let bytes: Arc<[u8]> = envelope.encode().into();
        self.tip = Tip {
            number: dot.number,
            hash: transaction_hash(&bytes),
        };
        bytes
    }

    pub(crate) fn vector(&self) -> Vector {
        [(self.writer, self.tip)].into_iter().collect()
    }
}

/// Members 1 to 4: active, but for these.
pub(crate) fn peers(but: &[(u8, PeerState)]) -> Vec<Peer> {
    let sites = ["one", "two", "three", "four"];
    let state = |id| {
        but.iter()
            .find(|(other, _)| *other == id)
            .map_or(PeerState::Active, |(_, state)| *state)
    };
    let peer = |(site, id): (&&str, u8)| Peer {
        id: member(id),
        name: format!("{site}-1"),
        site: (*site).to_owned(),
        state: state(id),
    };
    sites.iter().zip(1..).map(peer).collect()
}

/// Member 1 with peers 2, 3, 4, and what it puts out.
pub(crate) struct Machine {
    pub(crate) gossip: Gossip,
    pub(crate) at: Duration,
}

impl Machine {
    pub(crate) fn new(vector: Vector) -> Machine {
        Machine::made(vector, |_| {})
    }

    pub(crate) fn made(vector: Vector, change: impl FnOnce(&mut Config)) -> Machine {
        let mut config = Config {
            cluster: [9; 16],
            member: member(1),
            site: "one".to_owned(),
            start: writer(1, 5),
            own_starts: vec![writer(1, 4), writer(1, 5)],
            versions: (2, 3),
            features: BTreeSet::new(),
            fingerprints: BTreeMap::from([("index key".to_owned(), [1; 8])]),
            startup_grace: Duration::from_secs(10),
            look_interval: None,
            limits: Limits {
                early_count_max: 4,
                ..Limits::default()
            },
        };
        change(&mut config);
        let now = Now {
            at: Duration::ZERO,
            wall_ms: WALL,
        };
        Machine {
            gossip: Gossip::new(now, config, vector, Vector::new(), peers(&[])),
            at: Duration::ZERO,
        }
    }

    pub(crate) fn give(&mut self, input: Input) -> Vec<Output> {
        let wall_ms = WALL + u64::try_from(self.at.as_millis()).unwrap();
        self.gossip.handle(Now { at: self.at, wall_ms }, input);
        std::iter::from_fn(|| self.gossip.poll()).collect()
    }

    pub(crate) fn wait(&mut self, ms: u64) -> Vec<Output> {
        let end = self.at + Duration::from_millis(ms);
        let mut outputs = Vec::new();
        while self.at < end {
            self.at = self.gossip.deadline().min(end);
            outputs.extend(self.give(Input::Tick));
        }
        outputs
    }

    pub(crate) fn say(&mut self, connection: u64, message: Message) -> Vec<Output> {
        self.give(Input::Message {
            connection: ConnectionId(connection),
            message,
        })
    }

    pub(crate) fn connect(&mut self, connection: u64, from: u8) -> Vec<Output> {
        self.give(Input::Connected {
            connection: ConnectionId(connection),
            member: member(from),
            dialed: true,
        })
    }

    /// Connects member `from` as connection `from`, with this vector.
    pub(crate) fn meet(&mut self, from: u8, vector: Vector) -> Vec<Output> {
        let mut outputs = self.connect(u64::from(from), from);
        outputs.extend(self.say(u64::from(from), greeting(from, vector)));
        outputs
    }

    /// The same with a hello that says more.
    pub(crate) fn meet_as(&mut self, from: u8, rtt_ms: u64, hello: Hello) -> Vec<Output> {
        let mut outputs = self.connect(u64::from(from), from);
        self.give(Input::Rtt {
            connection: ConnectionId(u64::from(from)),
            rtt: Duration::from_millis(rtt_ms),
        });
        outputs.extend(self.say(u64::from(from), Message::Hello(Box::new(hello))));
        outputs
    }

    /// The members are 1 to 4: active, but for these.
    pub(crate) fn see(&mut self, but: &[(u8, PeerState)]) -> Vec<Output> {
        self.give(Input::Members(peers(but)))
    }

    pub(crate) fn push(&mut self, connection: u64, bytes: &Arc<[u8]>) -> Vec<Output> {
        self.give(Input::Pushed {
            connection: ConnectionId(connection),
            bytes: Arc::clone(bytes),
        })
    }

    pub(crate) fn commit(&mut self, moved: Vec<(Writer, Tip)>) -> Vec<Output> {
        self.give(Input::Committed {
            moved,
            local: Vec::new(),
        })
    }
}

pub(crate) fn hello(from: u8, vector: Vector) -> Hello {
    Hello {
        cluster: [9; 16],
        member: member(from),
        site: "elsewhere".to_owned(),
        start: writer(from, 1),
        versions: (1, 2),
        features: BTreeSet::new(),
        fingerprints: BTreeMap::new(),
        known_start: None,
        known_start_runs: false,
        counter: 1,
        vector,
        trimmed: Vector::new(),
        ready: true,
        holding: false,
        wall_ms: WALL,
    }
}

pub(crate) fn greeting(from: u8, vector: Vector) -> Message {
    Message::Hello(Box::new(hello(from, vector)))
}

pub(crate) fn state(counter: u64, entries: Vec<(Writer, Tip)>) -> Message {
    let moved = Moved {
        entries,
        floors: Vec::new(),
    };
    Message::State(State {
        counter,
        moved,
        ready: true,
        wall_ms: WALL,
        ..State::default()
    })
}

pub(crate) fn delivered(outputs: &[Output]) -> Vec<Dot> {
    let of = |output: &Output| match output {
        Output::Deliver(received) => received.iter().map(|received| received.envelope.dot).collect(),
        _ => Vec::new(),
    };
    outputs.iter().flat_map(of).collect()
}

pub(crate) fn pulls(outputs: &[Output]) -> Vec<(u64, u64)> {
    let of = |output: &Output| match output {
        Output::Pull { connection, pull, .. } => Some((connection.0, *pull)),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn events(outputs: &[Output]) -> Vec<Event> {
    let of = |output: &Output| match output {
        Output::Event(event) => Some(event.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn states_to(outputs: &[Output], to: u64) -> Vec<State> {
    let of = |output: &Output| match output {
        Output::Send {
            connection,
            message: Message::State(state),
        } if connection.0 == to => Some(state.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn closed(outputs: &[Output]) -> Vec<u64> {
    let of = |output: &Output| match output {
        Output::Close { connection, .. } => Some(connection.0),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn pushes(outputs: &[Output]) -> Vec<u64> {
    let of = |output: &Output| match output {
        Output::Push { connection, .. } => Some(connection.0),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

/// Conversations and snapshots that are to begin: with whom, and what for; none for a snapshot.
pub(crate) fn talks(outputs: &[Output]) -> Vec<(u64, Option<Purpose>)> {
    let of = |output: &Output| match output {
        Output::Reconcile { connection, purpose } => Some((connection.0, Some(*purpose))),
        Output::Snapshot { connection } => Some((connection.0, None)),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn settled(outputs: &[Output]) -> Vec<Vector> {
    let of = |output: &Output| match output {
        Output::Settled(vector) => Some(vector.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn trims(outputs: &[Output]) -> Vec<Vector> {
    let of = |output: &Output| match output {
        Output::Trim(vector) => Some(vector.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn stables(outputs: &[Output]) -> Vec<Vector> {
    let of = |output: &Output| match output {
        Output::Stable(vector) => Some(vector.clone()),
        _ => None,
    };
    outputs.iter().filter_map(of).collect()
}

pub(crate) fn seconds(seconds: u64) -> u64 {
    1000 * seconds
}

/// What `authors` wrote so far.
pub(crate) fn all(authors: &[&Author]) -> Vector {
    authors.iter().map(|author| (author.writer, author.tip)).collect()
}

pub(crate) fn reconciled(from: u8, purpose: Purpose, verdict: Option<Verdict>) -> Input {
    Input::Reconciled {
        member: member(from),
        purpose,
        verdict,
    }
}

pub(crate) fn verdict(divergent: &[u8], lagging: u64, conclusive: bool) -> Verdict {
    Verdict {
        divergent: divergent.iter().map(|key| [*key; 16]).collect(),
        lagging,
        conclusive,
        bytes: 100,
        round_trips: 1,
    }
}

/// Has transactions, and lacks what peers have trimmed: (machine, what it has, what was trimmed).
pub(crate) fn behind() -> (Machine, Author, Author) {
    let mut own = Author::new(writer(1, 4));
    own.write(b"from before", &[]);
    let mut old = Author::new(writer(4, 1));
    old.write(b"trimmed", &[]);
    (Machine::new(own.vector()), own, old)
}

pub(crate) fn beyond(from: u8, own: &Author, old: &Author) -> Hello {
    Hello {
        trimmed: old.vector(),
        ..hello(from, all(&[own, old]))
    }
}
