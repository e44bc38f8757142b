//! The commit logic: from a group of transactions to one batch, without threads, clocks or a particular disk.
//!
//! Promise: what [`Ledger::commit`] reports is synced. After an error of the disk the ledger is of no more use: its
//! writer has ended, and whoever drives it reopens the disk and opens a new one, so nothing in memory survives.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc, time::Duration};

use crdt::{Actor, Cell, Clock, Hlc, RecordKey, Transaction, VaultId, VaultValue};
use gossip::{Dot, Envelope, Received, ReplicaId, Tip, Vector, Writer, reconcile, transaction_hash};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    KeepLog,
    catch_up::Aside,
    damage,
    disk::{Batch, Disk, DiskError, DiskRead, Family},
    doubts::Doubts,
    found::Found,
    group::Group,
    layout::{self, meta},
    records::{self, ReadError},
    scrub::Scrub,
    space::Space,
    sums::{DigestKey, Sums},
    trim::TornLog,
    txn::{Staged, TransactError, Txn},
    unsettled,
    work::{Answers, Committed, Done, Verdict, Work},
};
use crate::planted::{self, Bug};

/// Bytes of a transaction's body that a local write may fill: what is left of a transaction is for its envelope.
const BODY_BYTES_MAX: usize = crdt::TRANSACTION_BYTES_MAX - 4096;
/// A change of one field, roughly and from above, with the record's key around it.
const WRITE_BYTES_ROUGHLY: usize = 480;
/// Cells looked at in one sweep.
const SWEEP_CELLS_MAX: usize = 65_536;

/// A transaction of this replica, and its bytes.
type Written = (Dot, Arc<[u8]>);

/// How a replica keeps what it holds.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// Whether the log forgets what every member has.
    pub log: KeepLog,
    /// With more in it than this, a log that forgets at all lets the oldest go, also what some member lacks.
    pub log_bytes_max: u64,
    /// Keys the sums of what the replica holds.
    pub digest_key: DigestKey,
    /// How long it may take until every stored byte has been read again; `None`: that is never done by itself.
    pub scrub_period: Option<Duration>,
    /// States and cells of a catch-up that are merged in one batch.
    pub merge_entries_max: usize,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            log: KeepLog::default(),
            log_bytes_max: 1 << 30,
            digest_key: DigestKey::default(),
            scrub_period: None,
            merge_entries_max: 512,
        }
    }
}

impl From<KeepLog> for Keeping {
    fn from(log: KeepLog) -> Keeping {
        Keeping {
            log,
            ..Keeping::default()
        }
    }
}

/// A replica's commit logic over its disk.
pub struct Ledger {
    disk: Arc<dyn Disk>,
    pub(super) start: Writer,
    own_starts: Vec<Writer>,
    pub(super) vector: Vector,
    pub(super) trimmed: Vector,
    pub(super) sums: Sums,
    pub(super) aside: Aside,
    pub(super) doubts: Doubts,
    pub(super) scrub: Scrub,
    pub(super) torn: TornLog,
    /// `None`: the log keeps everything.
    pub(super) merge_entries_max: usize,
    pub(super) log_bytes_max: Option<u64>,
    pub(super) log_bytes: u64,
    /// What would be trimmed, and waits: see [`Ledger::trim`].
    pub(super) trim_held: Option<Vector>,
    /// What the next transaction of this replica follows beside its own previous one: the transactions applied since
    /// that no other of them follows. All that they follow in turn is implied, so this stays as small as the number
    /// of replicas that write at once, over any number of restarts.
    pub(super) follows: BTreeMap<Writer, Tip>,
    pub(super) clock: Clock,
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

impl Beginning {
    /// Whether this start is already what was asked for. Peers tell of one and the same start again while the start past it is
    /// being made.
    pub fn is_done(&self, start: Writer, vector: &Vector) -> bool {
        match self.unless_here {
            Some(dot) => vector.covers(&dot),
            None => !self.new_replica && (1..start.epoch).contains(&self.past_epoch),
        }
    }
}

impl Ledger {
    /// Begins a new start of the replica on this disk. The start is synced before anything is written under it.
    pub fn open(
        disk: Arc<dyn Disk>,
        beginning: Beginning,
        keeping: Keeping,
        seed: [u8; 32],
    ) -> Result<Ledger, LedgerError> {
        let mut random = StdRng::from_seed(seed);
        let mut batch = Batch::new();
        let mut found = Err(LedgerError::Disk(DiskError::Closed));
        disk.read(&mut |disk| {
            found = Found::read(disk).and_then(|found| {
                let sums = Sums::open(disk, keeping.digest_key, &mut batch)?;
                Ok((found, sums, Aside::open(disk, random.random())?))
            });
        })?;
        let (mut found, sums, aside) = found?;
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
            sums,
            aside,
            doubts: Doubts::default(),
            scrub: Scrub::default(),
            torn: TornLog::default(),
            merge_entries_max: keeping.merge_entries_max,
            log_bytes_max: (keeping.log == KeepLog::Unstable).then_some(keeping.log_bytes_max),
            log_bytes: found.log_bytes,
            trim_held: None,
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
        let mut group = Group::new(disk, self.start.replica);
        let mut batch = Batch::new();
        let mut committed = Committed::default();
        let mut moved = BTreeMap::new();
        for work in works {
            match work {
                Work::Local(work) => {
                    let dot = self.next_dot();
                    let mut txn = Txn::new(&group, &mut self.clock, &mut self.random, now_ms, dot);
                    let Verdict { keep, finish } = work(&mut txn);
                    let hlc = txn.stamp();
                    let staged = std::mem::take(&mut txn.staged);
                    let mut result = Ok(Done { dot: None, hlc });
                    if keep && !staged.is_empty() {
                        let admitted = match self.holds_back() {
                            Some(why) => Err(TransactError::NotWritable(why.to_owned())),
                            None => admit(&mut group, space, &staged),
                        };
                        result = match admitted {
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
                Work::Sweep => {
                    self.sweep(disk, now_ms, &mut batch)?;
                    self.sweep_aside(disk, &mut batch)?;
                }
                Work::Repair { repair, kept } => {
                    self.repair(&mut group, repair, &mut committed)?;
                    answers.kept.extend(kept.map(|kept| (kept, Ok(()))));
                }
                Work::Aside { start, part, kept } => {
                    let result = self.set_aside(&mut group, start, part, &mut batch)?;
                    answers.kept.push((kept, result));
                }
                Work::AsideEnds => self.end_aside(&mut batch),
                Work::MergeAside => {
                    self.merge_aside(&mut group, now_ms, &mut batch, &mut moved, &mut committed)?;
                }
                Work::Scrub { .. } if planted::is(Bug::ScrubSleeps) => {}
                Work::Scrub { bytes, anew } => {
                    if anew {
                        self.scrub = Scrub::default();
                    }
                    self.read_again(&mut group, bytes, &mut batch, &mut committed)?;
                }
                Work::Mark(tell) => answers.kept.push((tell, Ok(()))),
            }
        }
        self.trim_to_size(disk, &mut batch, &mut committed)?;
        committed.cluster_changed = group.changes(RecordKey::CLUSTER);
        committed.unsettled = unsettled::after(&group)?;
        if group.frees_unnamed() && committed.trim_on.is_none() {
            committed.trim_on = self.trim_held.take();
        }
        let finished = group.finish(&mut batch)?;
        committed.counts = finished.counts;
        self.note_named(&finished.named);
        let repaired = committed.repaired.iter();
        let recount = repaired
            .map(|repaired| reconcile::partition(repaired.key.as_bytes()))
            .collect();
        self.sums.take_in(disk, &finished.digests, recount, &mut batch)?;
        for (writer, tip) in &moved {
            let key = layout::join(meta::VECTOR, &writer.to_bytes());
            batch.put(Family::Meta, key, layout::seal(&layout::tip_payload(*tip)));
        }
        if !moved.is_empty() || committed.trimmed.is_some() {
            batch.put(
                Family::Meta,
                meta::LOG_BYTES,
                layout::seal(&layout::number_key(self.log_bytes)),
            );
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
        let dot = self.next_dot();
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

    /// The dot of this writer's next transaction.
    fn next_dot(&self) -> Dot {
        Dot {
            writer: self.start,
            number: self.vector.get(&self.start).map_or(0, |tip| tip.number) + 1,
        }
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
        let values: Vec<VaultId> = transaction.vault.iter().map(VaultValue::id).collect();
        group.arrive(transaction.vault);
        group.recall(transaction.records.iter().map(|part| part.key), &values)?;
        for cell in transaction.cells {
            group.hear_cell(cell, now_ms)?;
        }
        Ok(self.clock.observe(transaction.hlc, now_ms))
    }

    fn log(&mut self, batch: &mut Batch, dot: Dot, bytes: &[u8]) {
        let place = layout::number_key(self.next_place);
        self.next_place += 1;
        let entry = layout::seal(&layout::log_payload(&dot, bytes));
        self.log_bytes += entry.len() as u64;
        batch.put(Family::Log, place, entry);
        batch.put(Family::Dots, layout::dot_key(&dot), layout::seal(&place));
    }

    /// Removes cells past their expiry, a stretch of the family at a time.
    fn sweep(&mut self, disk: &dyn DiskRead, now_ms: u64, batch: &mut Batch) -> Result<(), ReadError> {
        let mut seen = 0;
        let mut next = Vec::new();
        damage::scan_around(disk, Family::Cells, &self.sweep_from, &mut |key, value| {
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
