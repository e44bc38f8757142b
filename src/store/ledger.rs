//! The commit logic: from a group of transactions to one batch, without threads, clocks or a particular disk.
//!
//! Promise: what [`Ledger::commit`] reports is synced. After an error of the disk the ledger is of no more use: its
//! writer has ended, and whoever drives it reopens the disk and opens a new one, so nothing in memory survives.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use crdt::{Actor, Cell, Clock, Hlc, RecordKey, Transaction};
use gossip::{Dot, Envelope, Floor, Received, ReplicaId, Tip, Vector, Writer, transaction_hash};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    disk::{Batch, Disk, DiskError, DiskRead, Family},
    group::{Counts, Group},
    layout::{self, meta},
    records::{self, ReadError},
    space::Space,
    txn::{Staged, TransactError, Txn},
};
use crate::planted::{self, Bug};

/// Bytes of a transaction's body that a local write may fill: what is left of a transaction is for its envelope.
const BODY_BYTES_MAX: usize = crdt::TRANSACTION_BYTES_MAX - 4096;
/// A change of one field, roughly and from above, with the record's key around it.
const WRITE_BYTES_ROUGHLY: usize = 480;
/// Log entries trimmed in one batch.
const TRIM_ENTRIES_MAX: usize = 4096;
/// Cells looked at in one sweep.
const SWEEP_CELLS_MAX: usize = 65_536;

/// Something to commit.
pub(crate) enum Work {
    /// A write of this replica.
    Local(LocalWork),
    /// A transaction from elsewhere. The caller keeps causal order; the ledger checks it.
    Remote(Received),
    /// Every member has what this vector covers: the log may forget it. Writers under its floors may be folded.
    Trim(Vector),
    /// Remove cells past their expiry.
    Sweep,
}

/// A transaction of this replica, and its bytes.
type Written = (Dot, Arc<[u8]>);
/// Runs a local write, and says what becomes of it.
pub(crate) type LocalWork = Box<dyn FnOnce(&mut Txn<'_>) -> Verdict + Send>;
/// Tells the one who waits.
pub(crate) type Finish = Box<dyn FnOnce(Result<Done, TransactError>) + Send>;

/// What a local write's closure came to.
pub(crate) struct Verdict {
    /// False: a refusal of the domain; nothing of it is written.
    pub(crate) keep: bool,
    pub(crate) finish: Finish,
}

/// Those who wait for a group, and what each is to be told.
#[derive(Default)]
pub(crate) struct Answers {
    waiting: Vec<(Finish, Result<Done, TransactError>)>,
    failure: Option<TransactError>,
}

impl Answers {
    /// Tells everyone. If the batch failed, nobody is told of success.
    pub(crate) fn tell(self) {
        for (finish, result) in self.waiting {
            finish(match &self.failure {
                Some(error) => result.and(Err(error.clone())),
                None => result,
            });
        }
    }
}

/// A local write that is durable here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) dot: Option<Dot>,
    pub(crate) hlc: Hlc,
}

/// What a group came to.
#[derive(Default)]
pub struct Committed {
    /// Vector entries that moved.
    pub moved: Vec<(Writer, Tip)>,
    /// Transactions of this replica, synced and ready to be pushed.
    pub local: Vec<(Dot, Arc<[u8]>)>,
    /// Transactions of others that are visible now.
    pub remote: Vec<Dot>,
    /// Transactions of others that were not next in causal order: whoever delivered them is mistaken.
    pub rejected: Vec<Dot>,
    /// Transactions of others stamped by a clock far ahead of ours.
    pub from_future: u64,
    /// What was trimmed from the log, if anything was.
    pub trimmed: Option<Vector>,
    /// There is more to trim than one batch takes.
    pub(crate) trim_on: Option<Vector>,
    /// What went to quarantine or is missing.
    pub counts: Counts,
    /// The cluster record is among what changed.
    pub cluster_changed: bool,
}

/// A replica's commit logic over its disk.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    start: Writer,
    own_starts: Vec<Writer>,
    vector: Vector,
    trimmed: Vector,
    /// What the next transaction of this replica follows beside its own previous one: the transactions applied since
    /// that no other of them follows. All that they follow in turn is implied, so this stays as small as the number
    /// of replicas that write at once, over any number of restarts.
    follows: BTreeMap<Writer, Tip>,
    clock: Clock,
    next_place: u64,
    sweep_from: Vec<u8>,
    random: StdRng,
}

/// Why a replica could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The disk does not answer.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What the replica knows of itself is damaged; restore a backup, or empty the directory and let it catch up.
    #[error("what this replica knows of itself is damaged on the disk: {0}")]
    Damaged(String),
    /// Committing panicked: a fault of this program.
    #[error("committing panicked")]
    Panicked,
}

impl From<ReadError> for LedgerError {
    fn from(error: ReadError) -> LedgerError {
        match error {
            ReadError::Disk(error) => LedgerError::Disk(error),
            other => LedgerError::Damaged(other.to_string()),
        }
    }
}

/// How a ledger begins its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beginning {
    /// A start of this member that peers know and this disk may not: ours must be later.
    pub past_epoch: u32,
    /// Draw a new replica id: this directory met a start of its id that it did not make.
    pub new_replica: bool,
    /// Only if this transaction of ours, which a peer has, is really not on this disk.
    pub unless_here: Option<Dot>,
}

impl Ledger {
    /// Begins a new start of the replica on this disk. The start is synced before anything is written under it.
    pub fn open(disk: Arc<dyn Disk>, beginning: Beginning, seed: [u8; 32]) -> Result<Ledger, LedgerError> {
        let mut random = StdRng::from_seed(seed);
        let mut found = Err(LedgerError::Disk(DiskError::Closed));
        disk.read(&mut |disk| found = Found::read(disk))?;
        let mut found = found?;
        let replica = match found.replica {
            Some(replica) if !beginning.new_replica => replica,
            _ => ReplicaId(random.random()),
        };
        let epoch = found
            .own_starts
            .iter()
            .map(|start| start.epoch)
            .max()
            .unwrap_or(0)
            .max(beginning.past_epoch);
        let start = Writer {
            replica,
            epoch: epoch.saturating_add(1),
            nonce: if planted::is(Bug::StartsByTheClock) {
                [0x5e; 8]
            } else {
                random.random()
            },
        };
        let last = found.last_own();
        let mut own_starts = std::mem::take(&mut found.own_starts);
        // The first transaction of this start follows the last of the start before.
        found.follows.extend(last);
        own_starts.push(start);
        let place = u32::try_from(own_starts.len()).unwrap_or(u32::MAX);
        let mut batch = Batch::new();
        batch.put(Family::Meta, meta::REPLICA, layout::seal(&replica.0));
        batch.put(
            Family::Meta,
            layout::join(meta::START, &place.to_be_bytes()),
            layout::seal(&start.to_bytes()),
        );
        disk.write(&batch)?;
        Ok(Ledger {
            disk,
            start,
            follows: found.follows,
            own_starts,
            vector: found.vector,
            trimmed: found.trimmed,
            clock: Clock::new(found.clock),
            next_place: found.next_place,
            sweep_from: Vec::new(),
            random,
        })
    }

    /// The writer of this start.
    pub fn start(&self) -> Writer {
        self.start
    }

    /// Every start that this disk has seen, newest last.
    pub fn own_starts(&self) -> &[Writer] {
        &self.own_starts
    }

    /// What has been applied, all of it synced.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// What the log no longer holds.
    pub fn trimmed(&self) -> &Vector {
        &self.trimmed
    }

    /// The greatest HLC given out or taken over.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Commits a group as one batch. On an error the outcome is unknown. Nobody is told yet, of success or failure:
    /// the caller does that with the answers, once the new state is published.
    pub(crate) fn commit(
        &mut self,
        now_ms: u64,
        space: Space,
        works: impl IntoIterator<Item = Work>,
    ) -> (Result<Committed, LedgerError>, Answers) {
        let disk = self.disk.clone();
        let mut answers = Answers::default();
        let mut works = Some(works);
        let mut outcome = Err(LedgerError::Disk(DiskError::Closed));
        let read = disk.read(&mut |disk| {
            if let Some(works) = works.take() {
                outcome = self.stage(disk, now_ms, space, works, &mut answers);
            }
        });
        let written = read
            .map_err(LedgerError::from)
            .and(outcome)
            .and_then(|(batch, committed)| {
                if !batch.is_empty()
                    && let Err(error) = disk.write(&batch)
                    && !planted::is(Bug::AnswersBeforeSync)
                {
                    return Err(error.into());
                }
                Ok(committed)
            });
        answers.failure = written.as_ref().err().map(|error| match error {
            LedgerError::Disk(error) => TransactError::from(error.clone()),
            damaged => TransactError::NotWritable(damaged.to_string()),
        });
        (written, answers)
    }

    fn stage(
        &mut self,
        disk: &dyn DiskRead,
        now_ms: u64,
        space: Space,
        works: impl IntoIterator<Item = Work>,
        answers: &mut Answers,
    ) -> Result<(Batch, Committed), LedgerError> {
        let mut group = Group::new(disk);
        let mut batch = Batch::new();
        let mut committed = Committed::default();
        let mut moved = BTreeMap::new();
        for work in works {
            match work {
                Work::Local(work) => {
                    let mut txn = Txn::new(
                        &group,
                        &mut self.clock,
                        &mut self.random,
                        now_ms,
                        self.start.replica.0,
                    );
                    let Verdict { keep, finish } = work(&mut txn);
                    let hlc = txn.stamp();
                    let staged = std::mem::take(&mut txn.staged);
                    let mut result = Ok(Done { dot: None, hlc });
                    if keep && !staged.is_empty() {
                        result = match admit(&mut group, space, &staged) {
                            Ok(()) => self.append(&mut group, &mut batch, now_ms, hlc, staged)?,
                            Err(refusal) => Err(refusal),
                        }
                        .map(|(dot, bytes)| {
                            let hash = transaction_hash(&bytes);
                            moved.insert(
                                dot.writer,
                                Tip {
                                    number: dot.number,
                                    hash,
                                },
                            );
                            committed.local.push((dot, bytes));
                            Done { dot: Some(dot), hlc }
                        });
                    }
                    answers.waiting.push((finish, result));
                }
                Work::Remote(received) => {
                    let dot = received.envelope.dot;
                    if self.vector.covers(&dot) {
                        // Told once more, so that whoever delivered it knows.
                        moved.extend(self.vector.get(&dot.writer).map(|tip| (dot.writer, tip)));
                        continue;
                    }
                    if !self.is_next(&received.envelope) {
                        committed.rejected.push(dot);
                        continue;
                    }
                    let future = self.take_over(&mut group, &mut batch, now_ms, &received)?;
                    committed.from_future += u64::from(future);
                    moved.insert(
                        dot.writer,
                        Tip {
                            number: dot.number,
                            hash: received.hash,
                        },
                    );
                    committed.remote.push(dot);
                }
                Work::Trim(stable) => self.trim(disk, &stable, &mut batch, &mut committed)?,
                Work::Sweep => self.sweep(disk, now_ms, &mut batch)?,
            }
        }
        committed.cluster_changed = group.changes(RecordKey::CLUSTER);
        committed.counts = group.finish(&mut batch)?;
        for (writer, tip) in &moved {
            let key = layout::join(meta::VECTOR, &writer.to_bytes());
            batch.put(Family::Meta, key, layout::seal(&layout::tip_payload(*tip)));
        }
        if !moved.is_empty() {
            let clock = self.clock.last().to_u64();
            batch.put(
                Family::Meta,
                meta::CLOCK,
                layout::seal(&layout::number_key(clock)),
            );
            batch.put(
                Family::Meta,
                meta::PLACE,
                layout::seal(&layout::number_key(self.next_place)),
            );
            batch.put(
                Family::Meta,
                meta::FOLLOWS,
                layout::seal(&layout::entries_payload(&self.follows)),
            );
        }
        committed.moved = moved.into_iter().collect();
        Ok((batch, committed))
    }

    /// Turns what a local write staged, and was admitted for, into this writer's next transaction. The outer error
    /// ends the group; the inner one refuses this write, and leaves no trace of it.
    fn append(
        &mut self,
        group: &mut Group<'_>,
        batch: &mut Batch,
        now_ms: u64,
        hlc: Hlc,
        staged: Staged,
    ) -> Result<Result<Written, TransactError>, LedgerError> {
        let records = match group.write(Actor(self.start.nonce), staged.writes)? {
            Ok(records) => records,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let body = Transaction {
            hlc,
            records,
            vault: staged.vault,
            cells: staged.cells,
        };
        let last = self.vector.get(&self.start);
        let dot = Dot {
            writer: self.start,
            number: last.map_or(0, |tip| tip.number) + 1,
        };
        let encoded = body.encode();
        let body_bytes = encoded.len();
        let envelope = Envelope {
            dot,
            predecessor: last.map_or([0; 8], |tip| tip.hash),
            follows: self.follows(),
            body: encoded,
        };
        let bytes: Arc<[u8]> = envelope.encode().into();
        if body_bytes > crdt::TRANSACTION_BYTES_MAX || bytes.len() > gossip::TRANSACTION_BYTES_MAX {
            // No peer would take it, so it must not be written here either.
            group.undo(&body.records)?;
            return Ok(Err(TransactError::TooLarge { bytes: bytes.len() }));
        }
        self.follows.clear();
        for cell in body.cells {
            group.merge_cell(cell, now_ms)?;
        }
        group.arrive(body.vault);
        self.log(batch, dot, &bytes);
        self.vector.advance(
            dot.writer,
            Tip {
                number: dot.number,
                hash: transaction_hash(&bytes),
            },
        );
        Ok(Ok((dot, bytes)))
    }

    fn follows(&self) -> Vec<(Writer, Tip)> {
        let skipped = usize::from(planted::is(Bug::SkipsDependency));
        self.follows
            .iter()
            .skip(skipped)
            .map(|(writer, tip)| (*writer, *tip))
            .collect()
    }

    fn is_next(&self, envelope: &Envelope) -> bool {
        let last = self.vector.get(&envelope.dot.writer);
        envelope.dot.number == last.map_or(0, |tip| tip.number) + 1
            && envelope.predecessor == last.map_or([0; 8], |tip| tip.hash)
            && envelope.follows.iter().all(|(writer, tip)| {
                self.vector.covers(&Dot {
                    writer: *writer,
                    number: tip.number,
                })
            })
    }

    /// Applies a transaction from elsewhere; true if its clock is far ahead.
    fn take_over(
        &mut self,
        group: &mut Group<'_>,
        batch: &mut Batch,
        now_ms: u64,
        received: &Received,
    ) -> Result<bool, ReadError> {
        let dot = received.envelope.dot;
        let place = self.next_place;
        if planted::is(Bug::Reencodes) {
            self.log(batch, dot, &received.envelope.encode());
        } else {
            self.log(batch, dot, &received.bytes);
        }
        let tip = Tip {
            number: dot.number,
            hash: received.hash,
        };
        self.vector.advance(dot.writer, tip);
        // What it follows, directly, is implied by it from now on.
        for (writer, implied) in &received.envelope.follows {
            if self
                .follows
                .get(writer)
                .is_some_and(|known| known.number <= implied.number)
            {
                self.follows.remove(writer);
            }
        }
        self.follows.insert(dot.writer, tip);
        let Ok(transaction) = Transaction::decode(&received.envelope.body) else {
            group.hold_body(place, &received.envelope.body);
            return Ok(false);
        };
        for part in &transaction.records {
            group.merge(place, part, &transaction.vault)?;
        }
        group.arrive(transaction.vault);
        for cell in transaction.cells {
            group.merge_cell(cell, now_ms)?;
        }
        Ok(self.clock.observe(transaction.hlc, now_ms))
    }

    fn log(&mut self, batch: &mut Batch, dot: Dot, bytes: &[u8]) {
        let place = layout::number_key(self.next_place);
        self.next_place += 1;
        batch.put(
            Family::Log,
            place,
            layout::seal(&layout::log_payload(&dot, bytes)),
        );
        batch.put(Family::Dots, layout::dot_key(&dot), layout::seal(&place));
    }

    /// Removes from the front of the log what everyone has, as far as it goes.
    fn trim(
        &mut self,
        disk: &dyn DiskRead,
        stable: &Vector,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        let mut trimmed: BTreeMap<Writer, u64> = BTreeMap::new();
        let mut seen = 0;
        disk.scan(Family::Log, &[], &mut |key, value| {
            // A damaged entry stays, and what is behind it: trimming can wait, a group cannot.
            let entry = layout::unseal(value).and_then(layout::log_entry);
            let Ok((dot, _)) = entry else {
                return ControlFlow::Break(());
            };
            if seen == TRIM_ENTRIES_MAX || !stable.covers(&dot) {
                return ControlFlow::Break(());
            }
            seen += 1;
            batch.delete(Family::Log, key);
            batch.delete(Family::Dots, layout::dot_key(&dot));
            trimmed.insert(dot.writer, dot.number);
            ControlFlow::Continue(())
        })?;
        for (writer, number) in trimmed {
            let tip = Tip { number, hash: [0; 8] };
            self.trimmed.advance(writer, tip);
            let key = layout::join(meta::TRIMMED, &writer.to_bytes());
            batch.put(Family::Meta, key, layout::seal(&layout::tip_payload(tip)));
        }
        committed.trim_on = (seen == TRIM_ENTRIES_MAX).then(|| stable.clone());
        for (replica, floor) in stable.floors() {
            self.fold(replica, floor, batch);
        }
        committed.trimmed = Some(self.trimmed.clone());
        Ok(())
    }

    /// Folds the older writers of a replica into one floor, once the log holds nothing of them.
    fn fold(&mut self, replica: ReplicaId, floor: Floor, batch: &mut Batch) {
        let ended: Vec<(Writer, Tip)> = self
            .vector
            .of_replica(replica)
            .take_while(|(writer, _)| writer.epoch <= floor.epoch)
            .collect();
        let gone = |(writer, tip): &(Writer, Tip)| {
            *writer != self.start
                && self.trimmed.covers(&Dot {
                    writer: *writer,
                    number: tip.number,
                })
        };
        if self
            .vector
            .floor(&replica)
            .is_some_and(|ours| ours.epoch >= floor.epoch)
            || !ended.iter().all(gone)
        {
            return;
        }
        for (writer, _) in &ended {
            batch.delete(Family::Meta, layout::join(meta::VECTOR, &writer.to_bytes()));
            batch.delete(Family::Meta, layout::join(meta::TRIMMED, &writer.to_bytes()));
            self.follows.remove(writer);
        }
        self.vector.adopt_floor(replica, floor);
        self.trimmed.adopt_floor(replica, floor);
        let key = layout::join(meta::FLOOR, &replica.0);
        batch.put(Family::Meta, key, layout::seal(&layout::floor_payload(floor)));
    }

    /// Removes cells past their expiry, a stretch of the family at a time.
    fn sweep(&mut self, disk: &dyn DiskRead, now_ms: u64, batch: &mut Batch) -> Result<(), ReadError> {
        let mut seen = 0;
        let mut next = Vec::new();
        disk.scan(Family::Cells, &self.sweep_from, &mut |key, value| {
            if seen == SWEEP_CELLS_MAX {
                next = key.to_vec();
                return ControlFlow::Break(());
            }
            seen += 1;
            // A damaged cell is worth no more than an expired one: both go.
            if !records::decode_cell(value).is_ok_and(|cell: Cell| cell.is_live(now_ms)) {
                batch.delete(Family::Cells, key);
            }
            ControlFlow::Continue(())
        })?;
        self.sweep_from = next;
        Ok(())
    }
}

/// Whether a local write goes on. Everything that may refuse it is asked here, before anything of it is done.
fn admit(group: &mut Group<'_>, space: Space, staged: &Staged) -> Result<(), TransactError> {
    space.admits(staged.sign_up, staged.urgent)?;
    let bytes = staged.writes.len() * WRITE_BYTES_ROUGHLY
        + staged
            .vault
            .iter()
            .map(|value| value.data.len() + 64)
            .sum::<usize>()
        + staged
            .cells
            .iter()
            .map(|cell| cell.value.len() + 96)
            .sum::<usize>();
    if bytes > BODY_BYTES_MAX {
        return Err(TransactError::TooLarge { bytes });
    }
    group.admit(&staged.writes, staged.urgent)
}

/// What a disk holds of the replica itself.
pub(super) struct Found {
    pub(super) replica: Option<ReplicaId>,
    pub(super) own_starts: Vec<Writer>,
    pub(super) vector: Vector,
    pub(super) trimmed: Vector,
    pub(super) follows: BTreeMap<Writer, Tip>,
    pub(super) clock: Hlc,
    pub(super) next_place: u64,
}

impl Found {
    /// The last transaction of the latest start that wrote any.
    pub(super) fn last_own(&self) -> Option<(Writer, Tip)> {
        self.own_starts
            .iter()
            .rev()
            .find_map(|start| Some((*start, self.vector.get(start)?)))
    }

    pub(super) fn read(disk: &dyn DiskRead) -> Result<Found, LedgerError> {
        let mut found = Found {
            replica: None,
            own_starts: Vec::new(),
            vector: Vector::new(),
            trimmed: Vector::new(),
            follows: BTreeMap::new(),
            clock: Hlc::ZERO,
            // Place 0 is never used: it stands for "before the log".
            next_place: 1,
        };
        let shape = |_| ReadError::from(layout::Unsealed::Shape);
        if let Some(bytes) = disk.get(Family::Meta, meta::REPLICA)? {
            let bytes = layout::unseal(&bytes).map_err(ReadError::from)?;
            found.replica = Some(ReplicaId(bytes.try_into().map_err(shape)?));
        }
        if let Some(bytes) = disk.get(Family::Meta, meta::CLOCK)? {
            let number = layout::unseal(&bytes)
                .and_then(layout::number)
                .map_err(ReadError::from)?;
            found.clock = Hlc::from_u64(number);
        }
        let follows = disk.get(Family::Meta, meta::FOLLOWS)?;
        let follows_known = follows.is_some();
        if let Some(bytes) = follows {
            let entries = layout::unseal(&bytes)
                .and_then(layout::entries)
                .map_err(ReadError::from)?;
            found.follows = entries.into_iter().collect();
        }
        records::try_scan(disk, Family::Meta, meta::START, |_, value| {
            found.own_starts.push(layout::writer(layout::unseal(value)?)?);
            Ok(ControlFlow::Continue(()))
        })?;
        for (replica, floor) in records::read_floors(disk)? {
            found.vector.adopt_floor(replica, floor);
            found.trimmed.adopt_floor(replica, floor);
        }
        for (prefix, vector) in [
            (meta::VECTOR, &mut found.vector),
            (meta::TRIMMED, &mut found.trimmed),
        ] {
            records::try_scan(disk, Family::Meta, prefix, |key, value| {
                vector.set(
                    layout::writer(&key[prefix.len()..])?,
                    layout::tip(layout::unseal(value)?)?,
                );
                Ok(ControlFlow::Continue(()))
            })?;
        }
        if let Some(bytes) = disk.get(Family::Meta, meta::PLACE)? {
            found.next_place = layout::unseal(&bytes)
                .and_then(layout::number)
                .map_err(ReadError::from)?;
        }
        if !follows_known {
            found.follows = found.vector.iter().collect();
        }
        Ok(found)
    }
}
