//! Where the store and the gossip meet, and nowhere else.
//!
//! The store tells of commits; the gossip pushes them. The gossip delivers what arrives, in causal order; the store
//! commits it. Neither knows the other: this file is the translation, and keeps what people should know of it.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use gossip::{
    Dot, Event, MemberId, Received, Vector, Writer,
    quic::{LogChunk, Node, ReadLogError, Replica},
    reconcile::{Cut, CutError, Part, Purpose, Verdict},
    snapshot::{Sink, SnapshotError, Source},
};
use tokio::sync::{Notify, watch};

use crate::{
    awaited::Waiters,
    planted::{self, Bug},
    settlement::Told,
    site::Site,
    store::{Beginning, CommittedGroup, Listener, Store},
};

/// Alarms kept for people to read: the latest ones.
const ALARMS_MAX: usize = 64;
/// With more vector entries than this an operator is told, long before peers refuse them.
const VECTOR_ENTRIES_HIGH: usize = gossip::VECTOR_ENTRIES_MAX / 4 * 3;
/// Commits remembered for a laboratory that asks when they became visible.
#[cfg(feature = "lab")]
const SIGHTINGS_MAX: usize = 65_536;

/// The store as the gossip sees it, and the gossip as the store sees it.
pub struct Replication {
    store: Store,
    /// The member whose store it is.
    own: MemberId,
    /// The committer's reports wait while it is being named, so that none falls between.
    node: RwLock<Option<Node>>,
    /// Another process is this member now: its start.
    aside: watch::Sender<Option<Writer>>,
    succession: Mutex<Succession>,
    alarms: Mutex<VecDeque<Alarm>>,
    /// What there is to be settled.
    pub(crate) told: Arc<Told>,
    /// Woken when the cluster record has changed: members may have.
    pub(crate) members_changed: Notify,
    /// Counts the changes of the cluster record.
    record: watch::Sender<u64>,
    /// Those who wait for what is not here yet.
    pub(crate) waiters: Waiters,
    /// Woken when an operator wants something of this site's signing keys.
    pub(crate) keys_wished: Notify,
    /// What every member that counts has.
    stable: watch::Sender<Vector>,
    /// That of it which nothing concurrent can come to any more.
    settled: watch::Sender<Vector>,
    /// Who answers newcomers. Weak: the site keeps this, not the other way round.
    enrols: OnceLock<Weak<Site>>,
    #[cfg(feature = "lab")]
    sightings: Mutex<Sightings>,
}

/// Something that a person should look into.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Alarm {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What, in words.
    pub text: String,
    /// How often in a row.
    pub times: u64,
}

impl Replication {
    /// Joins the store of a member to a node that is still to be started.
    pub fn new(store: &Store, own: MemberId) -> Arc<Replication> {
        let replication = Arc::new(Replication {
            store: store.clone(),
            own,
            node: RwLock::new(None),
            aside: watch::channel(None).0,
            succession: Mutex::default(),
            alarms: Mutex::default(),
            told: Arc::default(),
            members_changed: Notify::new(),
            record: watch::channel(0).0,
            waiters: Waiters::default(),
            keys_wished: Notify::new(),
            stable: watch::channel(Vector::new()).0,
            settled: watch::channel(Vector::new()).0,
            enrols: OnceLock::new(),
            #[cfg(feature = "lab")]
            sightings: Mutex::default(),
        });
        store.listen(Arc::new(Commits(Arc::downgrade(&replication))));
        replication
    }

    /// Names the node. What the store committed and trimmed in between the node has from its vectors.
    pub fn attach(&self, node: Node) {
        let mut named = self.node.write().unwrap_or_else(PoisonError::into_inner);
        let state = self.store.state();
        node.restarted(state.start, state.own_starts.clone(), state.vector.clone());
        node.trimmed(state.trimmed.clone());
        *named = Some(node);
    }

    /// Names the site that answers newcomers.
    pub(crate) fn enrol_at(&self, site: &Arc<Site>) {
        let _ = self.enrols.set(Arc::downgrade(site));
    }

    /// Tells that the cluster record has changed: members, keys or settings may have.
    pub fn watch_record(&self) -> watch::Receiver<u64> {
        self.record.subscribe()
    }

    fn record_changed(&self) {
        self.record.send_modify(|changes| *changes += 1);
        self.members_changed.notify_one();
    }

    /// Tells what every member that counts has.
    pub(crate) fn watch_stable(&self) -> watch::Receiver<Vector> {
        self.stable.subscribe()
    }

    /// Tells what is settled.
    pub(crate) fn watch_settled(&self) -> watch::Receiver<Vector> {
        self.settled.subscribe()
    }

    /// What people should look into, the latest last.
    pub fn alarms(&self) -> Vec<Alarm> {
        lock(&self.alarms).iter().cloned().collect()
    }

    /// Returns when another process has taken this member's place, with that one's start.
    pub async fn stood_aside(&self) -> Writer {
        let mut aside = self.aside.subscribe();
        loop {
            if let Some(start) = *aside.borrow_and_update() {
                return start;
            }
            if aside.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Raises an alarm: logged, counted, shown.
    pub fn alarm(&self, text: impl fmt::Display) {
        let text = text.to_string();
        tracing::error!(alarm = %text);
        let mut alarms = lock(&self.alarms);
        if let Some(last) = alarms.iter_mut().find(|alarm| alarm.text == text) {
            last.times += 1;
            last.at_ms = now_us() / 1000;
            return;
        }
        if alarms.len() == ALARMS_MAX {
            alarms.pop_front();
        }
        alarms.push_back(Alarm {
            at_ms: now_us() / 1000,
            text,
            times: 1,
        });
    }

    /// A peer knows a start of this member that is not before ours, and that this disk did not make.
    fn later_start(&self, known: Writer, copied: bool, live: bool) {
        if live {
            self.alarm(format_args!(
                "another process runs as this member (its start is {known}): two copies of one data directory; \
                 stop one of them"
            ));
        } else if copied {
            self.alarm(format_args!(
                "this data directory was restored or copied: peers know a start of its replica that it did not make \
                 (the latest of this member is {known}); it takes a new replica id"
            ));
        } else {
            tracing::warn!(%known, "peers know a later start of this member; beginning one past it");
        }
        let step = lock(&self.succession).later_start(known, copied, live);
        match step {
            Step::Begin(beginning) => self.store.begin_again(beginning),
            Step::StandAside => {
                self.aside.send_replace(Some(known));
            }
        }
    }
}

/// What a process does about a start of its member that it did not make. One for each life of a process.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    /// A new replica id was drawn already: once is enough.
    redrawn: bool,
}

/// What [`Succession`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Begin a new start like this.
    Begin(Beginning),
    /// The other process is the member now; this one ends.
    StandAside,
}

impl Succession {
    /// Peers know starts up to `known`. `copied`: one of them is under the replica id of this very moment, which makes this
    /// directory one of two, and it draws a new id. `live`: by what they say a process runs in it.
    pub(crate) fn later_start(&mut self, known: Writer, copied: bool, live: bool) -> Step {
        let races = planted::is(Bug::ClonesRace);
        // Two copies that live side by side do not race: an epoch past the other's is taken once. Then the one
        // that peers no longer listen to stands aside; what it has is on its disk, and goes out when it is
        // started again.
        if live && !races && (!copied || std::mem::replace(&mut self.redrawn, true)) {
            return Step::StandAside;
        }
        self.redrawn |= copied;
        Step::Begin(Beginning {
            past_epoch: known.epoch,
            new_replica: copied,
            unless_here: None,
        })
    }
}

impl Replica for Replication {
    fn deliver(&self, transactions: Vec<Received>) {
        self.store.apply(transactions);
    }

    fn read_log(
        &self,
        beyond: &Vector,
        position: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, ReadLogError> {
        self.store
            .read_log(beyond, position, bytes_max)
            .map_err(|error| ReadLogError(error.to_string()))
    }

    fn stable(&self, stable: Vector) {
        self.stable.send_replace(stable);
    }

    fn trim(&self, free: Vector) {
        self.store.trim(free);
    }

    fn enrol(&self, request: Vec<u8>, binding: [u8; 32], peer_key: Vec<u8>) -> Vec<u8> {
        // Nothing said closes the connection: the newcomer asks another. Whoever still catches up may not know the
        // invitation yet, or not that it is used.
        let site = self.enrols.get().and_then(Weak::upgrade);
        site.filter(|site| site.is_serving())
            .map_or_else(Vec::new, |site| site.enrol(&request, binding, peer_key))
    }

    fn vector(&self) -> Vector {
        self.store.state().vector.clone()
    }

    fn snapshot_source(&self, for_member: MemberId) -> Result<Arc<dyn Source>, SnapshotError> {
        self.store.snapshot_source(for_member)
    }

    fn snapshot_sink(&self) -> Result<Box<dyn Sink>, SnapshotError> {
        self.store.snapshot_sink()
    }

    fn install_snapshot(&self) -> Result<(), SnapshotError> {
        self.store
            .install_snapshot()
            .map_err(|error| SnapshotError(error.to_string()))?;
        self.record_changed();
        tracing::info!("a copy of a peer's data was installed");
        Ok(())
    }

    fn with_cut(&self, purpose: Purpose, talk: &mut dyn FnMut(&dyn Cut)) -> Result<(), CutError> {
        self.store.with_cut(purpose, talk)
    }

    fn take_part(&self, from: MemberId, purpose: Purpose, part: Part) -> Result<(), CutError> {
        self.store.take_part(self.own, from, purpose, part)
    }

    fn looked(&self, member: MemberId, purpose: Purpose, verdict: Option<&Verdict>) {
        let Some(verdict) = verdict else { return };
        if purpose == Purpose::CatchUp || verdict.divergent.is_empty() {
            return;
        }
        tracing::warn!(
            %member,
            records = verdict.divergent.len(),
            ?purpose,
            "records differ, and nothing under way explains it"
        );
        self.alarm(format_args!(
            "records here and at {member} differed, and nothing under way explained it: look for what damaged one of \
             the disks (`persona scrub`), and whether they are the same now (`persona repair --dry-run`)"
        ));
    }

    fn settled(&self, settled: Vector) {
        self.settled.send_replace(settled.clone());
        self.told.settled(settled);
    }

    fn event(&self, event: Event) {
        match event {
            Event::Ready { alone: false, .. } => tracing::info!("caught up with every peer in reach: ready"),
            Event::Ready { alone: true, renew } => {
                tracing::warn!("ready, but alone: no peer was in reach");
                if renew {
                    // Before any write: the committer begins again before it takes what waits.
                    self.store.begin_again(Beginning {
                        new_replica: true,
                        ..Beginning::default()
                    });
                }
            }
            Event::Unready => self.alarm(
                "what this replica lacks is in no reachable log any more: it catches up by states, and is not ready \
                 until then",
            ),
            Event::Evicted => self.alarm(
                "this site is not in the cluster any more: it serves nobody, and hands over what only it has to \
                 members in reach; leave it running until it has",
            ),
            Event::HandedOver => self.alarm(
                "everything here is at every member in reach: to come back, ask for `persona cluster invite` and \
                 start this site again with --join; its data stays, it becomes a new member",
            ),
            Event::LaterStart { known, copied, live } => self.later_start(known, copied, live),
            Event::WriterAhead { dot, from } => {
                tracing::warn!(%from, number = dot.number, "a peer has more of this start than was told");
                self.store.begin_again(Beginning {
                    past_epoch: dot.writer.epoch,
                    new_replica: false,
                    unless_here: Some(dot),
                });
            }
            Event::Fork { dot, from, .. } => self.alarm(format_args!(
                "transaction {} of {} has another content at {from}: that copy is not taken",
                dot.number, dot.writer
            )),
            Event::Refused { member, words } => tracing::warn!(%member, words, "refused"),
            Event::Misbehaved { member, why } => tracing::warn!(%member, why, "a peer misbehaved"),
            Event::ClockSkew { offset_ms } => {
                self.alarm(format_args!("the clock here is {offset_ms} ms behind the median of the peers"));
            }
            Event::Isolated(true) => tracing::warn!("isolated: no other site was heard for a minute"),
            Event::Isolated(false) => tracing::info!("no longer isolated"),
        }
    }
}

/// The store's listener. It holds the replication weakly: the store must not keep itself alive through it.
struct Commits(Weak<Replication>);

impl Listener for Commits {
    fn committed(&self, group: &CommittedGroup) {
        let Some(replication) = self.0.upgrade() else {
            return;
        };
        #[cfg(feature = "lab")]
        lock(&replication.sightings).add(group);
        replication
            .told
            .committed(group, &replication.store.state().vector);
        if group.cluster_changed {
            replication.record_changed();
        }
        replication.waiters.committed();
        if group.counts.quarantined > 0 {
            replication.alarm("a part of a transaction could not be merged and lies in quarantine");
        }
        let node = replication.node.read().unwrap_or_else(PoisonError::into_inner);
        let Some(node) = &*node else { return };
        if group.caught_up || group.catch_up_failed {
            // A failed one has raised nothing: what is missing is missing still, and is asked for again.
            let state = replication.store.state();
            node.caught_up(state.vector.clone(), state.trimmed.clone());
            if group.caught_up {
                tracing::info!("what this replica missed is merged");
            } else {
                replication.alarm("a part of what this replica missed could not be read back from its disk");
            }
        } else {
            node.committed(group.moved.clone(), group.local.clone());
            if let Some(trimmed) = &group.trimmed {
                node.trimmed(trimmed.clone());
            }
        }
        if !group.rejected.is_empty() {
            tracing::error!(
                count = group.rejected.len(),
                "transactions were delivered out of order"
            );
            node.rejected(group.rejected.clone());
        }
    }

    fn restarted(&self, start: Writer, own_starts: &[Writer], vector: &Vector) {
        let Some(replication) = self.0.upgrade() else {
            return;
        };
        replication.told.restarted(vector);
        if vector.len() > VECTOR_ENTRIES_HIGH {
            replication.alarm(format_args!(
                "{} starts of replicas are known, and peers take at most {}: older ones are folded once every member \
                 has what they wrote, so look for one that is gone for good and evict it; a log that is to keep \
                 everything (`log.keep`) folds none",
                vector.len(),
                gossip::VECTOR_ENTRIES_MAX
            ));
        }
        let node = replication.node.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = &*node {
            node.restarted(start, own_starts.to_vec(), vector.clone());
            // With a peer's copy installed the log begins where that peer's does.
            node.trimmed(replication.store.state().trimmed.clone());
        }
    }

    fn lost(&self, dot: Dot) {
        if let Some(replication) = self.0.upgrade() {
            replication.alarm(format_args!(
                "a peer has transaction {} of this replica, which this disk does not: it lost what it had synced",
                dot.number
            ));
        }
    }
}

/// When a transaction became visible here.
#[cfg(feature = "lab")]
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Counts sightings since the process began.
    pub sequence: u64,
    /// Which transaction.
    pub dot: Dot,
    /// The wall clock, in microseconds since 1970.
    pub at_us: u64,
    /// Written here.
    pub local: bool,
}

#[cfg(feature = "lab")]
#[derive(Default)]
struct Sightings {
    next: u64,
    latest: VecDeque<Sighting>,
}

#[cfg(feature = "lab")]
impl Sightings {
    fn add(&mut self, group: &CommittedGroup) {
        let at_us = now_us();
        let local = group.local.iter().map(|(dot, _)| (*dot, true));
        for (dot, local) in local.chain(group.remote.iter().map(|dot| (*dot, false))) {
            if self.latest.len() == SIGHTINGS_MAX {
                self.latest.pop_front();
            }
            self.latest.push_back(Sighting {
                sequence: self.next,
                dot,
                at_us,
                local,
            });
            self.next += 1;
        }
    }
}

#[cfg(feature = "lab")]
impl Replication {
    /// Transactions that became visible here, from a sequence number on, and the next number to ask for.
    pub fn sightings(&self, after: u64) -> (u64, Vec<Sighting>) {
        let sightings = lock(&self.sightings);
        let found = sightings
            .latest
            .iter()
            .filter(|sighting| sighting.sequence >= after)
            .copied()
            .collect();
        (sightings.next, found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock: for people and measurements only.
fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
