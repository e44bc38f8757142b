//! One content for a dot; synced before it leaves; no writer after a failed batch; causal order at every reader.
//!
//! What a transaction causally follows is taken from what its writer's disk held when it wrote, with what was staged
//! before it in the same batch, not from what the transaction says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crdt::{AccountId, EmailId, Hlc, MemberId, RecordKey, Transaction, VaultId};
use gossip::{Dot, Envelope, Received, Tip, Vector, Writer, quic::LogChunk};
use sha2::{Digest, Sha256};

use super::{Checker, Checks, Found, Numbers, Track, wrong};
use crate::{
    sim::{
        tally::Tally,
        world::{World, read_disk, read_records},
    },
    store::{
        CommittedGroup, Ledger, Records,
        disk::{Family, memory::MemoryDisk},
        read_log,
    },
};

/// A transaction, as its writer synced it.
pub(crate) struct Known {
    bytes: Arc<[u8]>,
    /// What was on its writer's disk, or came before it in the same batch.
    pub(super) after: Arc<Numbers>,
    pub(super) records: Vec<RecordKey>,
    /// The vault values that it brings.
    pub(super) values: Vec<VaultId>,
    /// The claims that it makes, as its writer's disk had them then.
    pub(super) claims: Vec<Made>,
    /// How often its writer's disk had been replaced by another.
    pub(super) disk: u64,
    /// Who its writer was, as a member.
    pub(super) by: MemberId,
    /// The members that it held to be out.
    pub(super) out: BTreeSet<MemberId>,
}

/// A claim that a transaction made, whether anybody was told of it or not.
pub(super) struct Made {
    pub(super) email: EmailId,
    pub(super) proof: Hlc,
    pub(super) account: AccountId,
    pub(super) resets: u32,
}

impl World {
    /// A batch is on a disk, and is about to be told. `dots`: its transactions, as they were staged.
    pub(crate) fn committed(
        &mut self,
        at: usize,
        start: Writer,
        group: &CommittedGroup,
        dots: &[Dot],
        received: &[Received],
    ) {
        let disk = self.processes[at].disk.clone();
        self.receipts_taken_back(at);
        if group.caught_up || group.catch_up_failed {
            self.states_are_here(at);
            self.checks.tracks[at].half_merged = group.catch_up_failed;
        }
        let mut found = Ok(());
        for dot in dots {
            found = found.and_then(|()| {
                if let Some((_, bytes)) = group.local.iter().find(|(local, _)| local == dot) {
                    return self.checks.local(&mut self.tally, at, start, *dot, bytes, &disk);
                }
                let bytes = received.iter().find(|received| received.envelope.dot == *dot);
                let bytes = bytes.map(|received| &received.bytes);
                self.checks.remote(&mut self.tally, at, *dot, bytes)
            });
        }
        if dots.len() != group.local.len() + group.remote.len() {
            found =
                found.and_then(|()| wrong(Checker::Sync, "a batch holds transactions that nobody staged"));
        }
        // What a record says now is what the last transaction made here has said, if nothing came beside it.
        let own = group
            .local
            .last()
            .map(|(dot, _)| *dot)
            .filter(|_| group.remote.is_empty());
        self.tally
            .count("transactions from elsewhere", group.remote.len() as u64);
        self.tally.count("parts in quarantine", group.counts.quarantined);
        self.tally
            .count("values that were missing", group.counts.missing_values);
        self.tally
            .count("transactions from the future", group.from_future);
        self.tally
            .count("deliveries out of order", group.rejected.len() as u64);
        found = found.and_then(|()| self.checks.records_changed(&mut self.tally, at, &disk, dots, own));
        if !self.merging(at) {
            let keys = group.repaired.iter().map(|repaired| repaired.key);
            found = found.and_then(|()| {
                self.checks
                    .nothing_beyond(&mut self.tally, at, &self.processes[at].name, &disk, keys)
            });
        }
        // What a catch-up brought with this batch is known in a moment.
        let ledger = self.processes[at].running.as_ref();
        let ledger = ledger.and_then(|running| running.ledger.as_ref());
        if let Some(ledger) = ledger.filter(|_| !group.caught_up) {
            found = found.and_then(|()| self.checks.covers_no_more(&mut self.tally, at, ledger.vector()));
        }
        self.fail(found);
        if !group.caught_up {
            self.look_if_told(at);
        }
    }

    /// Who wants to read the story wants to know the moment. Nothing else becomes of it: what is told is what happens untold.
    pub(crate) fn look_if_told(&mut self, at: usize) {
        if self.story.is_told() && self.violation.is_none() {
            self.look_only(at);
        }
    }

    /// A disk was opened and a start begun on it.
    pub(crate) fn opened(&mut self, at: usize, ledger: &Ledger) {
        let disk = self.processes[at].disk.clone();
        // A catch-up that was merged in a batch of which nobody was told, or that never came whole.
        if let Some(numbers) = self.checks.tracks[at].coming.take() {
            let merged = numbers.iter().all(|(writer, number)| {
                let dot = Dot {
                    writer: *writer,
                    number: *number,
                };
                *number == 0 || ledger.vector().covers(&dot)
            });
            if merged {
                self.checks.caught_up(at, &numbers);
            } else if ledger.is_merging() {
                self.checks.tracks[at].coming = Some(numbers);
            }
        }
        let member = MemberId::from_bytes(self.processes[at].member.0);
        self.checks.members.insert(ledger.start(), member);
        let found = self
            .checks
            .opened(&mut self.tally, at, ledger.start(), ledger.vector(), &disk);
        self.fail(found);
        self.find_receipts(at, ledger.start().replica.0);
    }

    /// A batch may have landed of which nobody was told, in a crash or with a wrong answer: what of it is on the disk is
    /// known from now on, for its log may be damaged before the replica begins again. `vector`: with that batch.
    pub(crate) fn landed(&mut self, at: usize, vector: &Vector) {
        let disk = self.processes[at].disk.clone();
        let found = self.checks.find_landed(&mut self.tally, at, vector, &disk);
        self.fail(found);
    }

    /// A replica was shown two contents of one dot.
    pub(crate) fn forked(&mut self, at: usize, dot: Dot) {
        let name = &self.processes[at].name;
        let found = wrong(
            Checker::Content,
            format!("{name} was shown another content of {dot}"),
        );
        self.fail(found);
    }
}

impl Checks {
    /// One of two copies of a directory ends: only the other one's acks may count from now on, so what of a writer lies on
    /// this disk alone keeps nobody from folding it.
    pub(crate) fn held_beside_clone(&mut self, at: usize) {
        for (writer, number) in &self.tracks[at].numbers {
            hold_unheard(&mut self.unheard, *writer, *number);
        }
    }

    /// A backup is put back: what of it is on no other disk any more may have been folded without it.
    pub(crate) fn backup_put_back(&mut self, at: usize, track: Track) {
        for (writer, number) in &track.numbers {
            let dot = Dot {
                writer: *writer,
                number: *number,
            };
            let mut others = self.tracks.iter().enumerate();
            if !others.any(|(other, track)| other != at && track.covers(&dot)) {
                hold_unheard(&mut self.unheard, *writer, *number);
            }
        }
        self.disk_replaced(at, track);
    }

    /// What nobody need have heard of who folds its writer: see [`Checks::unheard`].
    pub(crate) fn unheard(&self) -> impl Iterator<Item = Dot> {
        let dot = |(writer, number): (&Writer, &u64)| Dot {
            writer: *writer,
            number: *number,
        };
        self.unheard.iter().map(dot)
    }

    fn local(
        &mut self,
        tally: &mut Tally,
        at: usize,
        start: Writer,
        dot: Dot,
        bytes: &Arc<[u8]>,
        disk: &MemoryDisk,
    ) -> Found {
        tally.look(Checker::Sync);
        if self.ended.contains(&dot.writer) {
            return wrong(
                Checker::Sync,
                format!("{dot} was written after a batch of its writer failed"),
            );
        }
        if dot.writer != start {
            return wrong(Checker::Sync, format!("{dot} was written in the start {start}"));
        }
        if !disk.is_synced(Family::Dots, &dot_key(&dot)) {
            return wrong(Checker::Sync, format!("{dot} is told, and is not on the disk"));
        }
        self.learn(tally, at, dot, bytes, disk)
    }

    /// A transaction of this disk's own that nobody had before.
    fn learn(
        &mut self,
        tally: &mut Tally,
        at: usize,
        dot: Dot,
        bytes: &Arc<[u8]>,
        disk: &MemoryDisk,
    ) -> Found {
        tally.look(Checker::Content);
        if let Some(known) = self.transactions.get(&dot) {
            let words = if known.bytes == *bytes {
                "was written twice"
            } else {
                "has two contents"
            };
            return wrong(Checker::Content, format!("{dot} {words}"));
        }
        let is_outdone = |(start, by): (&Writer, &usize)| {
            start.replica == dot.writer.replica && start.epoch > dot.writer.epoch && *by != at
        };
        if self.starts.iter().any(is_outdone) {
            hold_unheard(&mut self.unheard, dot.writer, dot.number);
        }
        self.advance(at, dot)?;
        let envelope = match Envelope::decode(bytes) {
            Ok(envelope) if envelope.dot == dot => envelope,
            _ => return wrong(Checker::Content, format!("{dot} cannot be read by who wrote it")),
        };
        let Ok(transaction) = Transaction::decode(&envelope.body) else {
            return wrong(
                Checker::Content,
                format!("the body of {dot} cannot be read by who wrote it"),
            );
        };
        let mut records = Vec::new();
        for part in &transaction.records {
            records.push(part.key);
            for change in &part.changes {
                let hash = change_hash(change);
                self.changes.entry(part.key).or_default().push((dot, hash));
            }
        }
        let mut after = self.numbers_before(at);
        Arc::make_mut(&mut after).remove(&dot.writer);
        let values: Vec<VaultId> = transaction.vault.iter().map(crdt::VaultValue::id).collect();
        let claims = made(disk, &records, &values);
        self.erasing.learn(&transaction.vault);
        let known = Known {
            bytes: bytes.clone(),
            after,
            records,
            values,
            claims,
            disk: self.settling.disks_before(at),
            by: self
                .members
                .get(&dot.writer)
                .copied()
                .unwrap_or(MemberId::from_bytes([0; 8])),
            out: if self.evictions.any_said() {
                held_out(disk)
            } else {
                BTreeSet::new()
            },
        };
        self.transactions.insert(dot, known);
        self.not_too_late(dot)
    }

    fn remote(&mut self, tally: &mut Tally, at: usize, dot: Dot, bytes: Option<&Arc<[u8]>>) -> Found {
        tally.look(Checker::Order);
        tally.look(Checker::Content);
        let Some(known) = self.transactions.get(&dot) else {
            return wrong(
                Checker::Sync,
                format!("{dot} was delivered, and nobody ever synced it"),
            );
        };
        if bytes.is_some_and(|bytes| *bytes != known.bytes) {
            return wrong(
                Checker::Content,
                format!("{dot} was delivered with other bytes than its writer made"),
            );
        }
        let track = &self.tracks[at];
        let early = known
            .after
            .iter()
            .find(|(writer, number)| track.numbers.get(writer).is_none_or(|here| here < number));
        if let Some((writer, number)) = early {
            return wrong(
                Checker::Order,
                format!(
                    "{dot} is visible at process {at} before {number} of {writer}, which its writer had seen"
                ),
            );
        }
        self.not_concurrent(tally, at, dot)?;
        self.overtaken(tally, at, dot);
        self.advance(at, dot)
    }

    /// The vector of a disk, which is its next ack, covers nothing that is not whole on it.
    fn covers_no_more(&self, tally: &mut Tally, at: usize, vector: &Vector) -> Found {
        tally.look(Checker::Acks);
        let dots = vector.iter().map(|(writer, tip)| Dot {
            writer,
            number: tip.number,
        });
        let mut beyond = dots.filter(|dot| dot.number > 0 && !self.tracks[at].covers(dot));
        match beyond.next() {
            None => Ok(()),
            Some(dot) => wrong(
                Checker::Acks,
                format!("the vector of process {at} covers {dot}, which is not whole on its disk"),
            ),
        }
    }

    fn advance(&mut self, at: usize, dot: Dot) -> Found {
        let number = self.tracks[at].numbers.entry(dot.writer).or_default();
        if dot.number != *number + 1 {
            return wrong(Checker::Order, format!("{dot} follows number {number}"));
        }
        *number = dot.number;
        Ok(())
    }

    /// Nothing that was synced is missing; what nobody was told of may be there.
    fn opened(
        &mut self,
        tally: &mut Tally,
        at: usize,
        start: Writer,
        vector: &Vector,
        disk: &MemoryDisk,
    ) -> Found {
        tally.look(Checker::Content);
        tally.look(Checker::Acks);
        if let Some(other) = self.starts.insert(start, at) {
            return wrong(
                Checker::Content,
                format!("the start {start} was made before, by process {other}"),
            );
        }
        for (writer, number) in &self.tracks[at].numbers {
            let dot = Dot {
                writer: *writer,
                number: *number,
            };
            if !vector.covers(&dot) {
                return wrong(
                    Checker::Acks,
                    format!("{dot} was synced, and is gone from the disk"),
                );
            }
        }
        self.find_landed(tally, at, vector, disk)
    }

    /// What is in the log of a disk, and nobody was told of.
    fn find_landed(&mut self, tally: &mut Tally, at: usize, vector: &Vector, disk: &MemoryDisk) -> Found {
        let mut beyond = Vector::new();
        for (writer, number) in &self.tracks[at].numbers {
            let tip = Tip {
                number: *number,
                hash: [0; 8],
            };
            beyond.set(*writer, tip);
        }
        for (replica, floor) in vector.floors() {
            beyond.adopt_floor(replica, floor);
        }
        let landed = match read_disk(disk, |disk| read_log(disk, &beyond, vector, None, usize::MAX)) {
            Ok(LogChunk::Transactions { transactions, .. }) => transactions,
            _ => Vec::new(),
        };
        let mut dots = Vec::new();
        for bytes in landed {
            let Ok(Envelope { dot, .. }) = Envelope::decode(&bytes) else {
                continue;
            };
            if self.transactions.contains_key(&dot) {
                self.remote(tally, at, dot, Some(&bytes))?;
            } else {
                self.learn(tally, at, dot, &bytes, disk)?;
            }
            dots.push(dot);
        }
        if !dots.is_empty() {
            tally.count("transactions found that nobody was told of", dots.len() as u64);
            self.records_changed(tally, at, disk, &dots, None)?;
        }
        Ok(())
    }

    /// The process that made a start.
    pub(super) fn maker(&self, writer: &Writer) -> Option<usize> {
        self.starts.get(writer).copied()
    }

    /// The starts that a process made, but for those that a batch which failed has ended.
    pub(super) fn starts_of(&self, at: usize) -> usize {
        let lasted = |(start, by): &(&Writer, &usize)| **by == at && !self.ended.contains(start);
        self.starts.iter().filter(lasted).count()
    }

    pub(super) fn known(&self, dot: &Dot) -> Option<&Known> {
        self.transactions.get(dot)
    }

    /// The claims made by transactions whose writers had seen this one, and by itself.
    pub(super) fn claims_after(&self, dot: &Dot) -> impl Iterator<Item = &Made> {
        let has_seen = move |(later, known): &(&Dot, &Known)| {
            let seen = if later.writer == dot.writer {
                Some(&later.number)
            } else {
                known.after.get(&dot.writer)
            };
            seen.is_some_and(|number| *number >= dot.number)
        };
        let later = self.transactions.iter().filter(has_seen);
        later.flat_map(|(_, known)| &known.claims)
    }

    /// The transactions that changed a record.
    pub(super) fn changers(&self, key: RecordKey) -> impl Iterator<Item = Dot> {
        let changes = self.changes.get(&key).into_iter().flatten();
        changes.map(|(dot, _)| *dot)
    }

    pub(super) fn records_of(&self, dot: &Dot) -> &[RecordKey] {
        self.transactions.get(dot).map_or(&[], |known| &known.records)
    }
}

/// The members that are out, as a disk has it.
fn held_out(disk: &MemoryDisk) -> BTreeSet<MemberId> {
    let view = read_records(disk, |records| records.cluster()).unwrap_or_default();
    let out = view.members.values().filter(|member| member.is_out());
    out.map(|member| member.id).collect()
}

/// The claims of these records that name one of these values. A record that cannot be read tells of none.
fn made(disk: &MemoryDisk, records: &[RecordKey], values: &[VaultId]) -> Vec<Made> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut made = Vec::new();
    for email in records.iter().filter_map(RecordKey::email) {
        let view = read_records(disk, |records| records.email(email));
        let claims = view.ok().flatten().map_or(Vec::new(), |view| view.claims);
        let named = claims.into_iter().filter(|claim| values.contains(&claim.vault));
        made.extend(named.map(|claim| Made {
            email,
            proof: claim.proof,
            account: claim.account,
            resets: claim.resets,
        }));
    }
    made
}

/// The hash by which Automerge knows a change: over its chunk, from the type on (after the magic and the checksum).
fn change_hash(change: &[u8]) -> [u8; 32] {
    Sha256::digest(change.get(8..).unwrap_or_default()).into()
}

/// Where the log says it has a dot.
pub(super) fn dot_key(dot: &Dot) -> Vec<u8> {
    let mut key = dot.writer.to_bytes().to_vec();
    key.extend_from_slice(&dot.number.to_be_bytes());
    key
}

fn hold_unheard(unheard: &mut BTreeMap<Writer, u64>, writer: Writer, number: u64) {
    let known = unheard.entry(writer).or_default();
    *known = number.max(*known);
}
