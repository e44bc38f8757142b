//! The end that answers: it says where the cuts differ, codes what it has there, and gives what it is asked for.

use std::collections::BTreeSet;

use serde_bytes::ByteBuf;

use super::frame::{
    Ask, CHUNK_BYTES, Candidates, Cells, Complete, Differ, Divergent, Frame, GroupHashes, Meter, Nothing,
    Symbols, VERSION, decode_keys, malformed,
};
use super::iblt::{Coder, Item, SYMBOL_BYTES_MAX};
use super::narrow::{self, GROUPS, Groups, Partitions};
use super::states::{Exchange, Outgoing};
use super::{
    Action, Cut, CutError, DIFFERENCES_MAX, ELEMENTS_MAX, Far, Key, Purpose, ReconcileError,
    SLICE_ELEMENTS_MAX, Salt, Sums,
};

/// When the first batch was not enough, the answerer goes on by half of what the asker took, and by at least and
/// at most so many symbols: 35 KB and 2 MB, so that a far asker that had enough was not sent much more.
const AHEAD_MIN: usize = 1024;
const AHEAD_MAX: usize = 64 * 1024;

/// A piece of what is divergent: bits of half a million candidates.
const BITS_BYTES: usize = 64 * 1024;

/// One conversation, as its answerer sees it.
#[derive(Debug, Default)]
pub struct Answerer {
    meter: Meter,
    purpose: Option<Purpose>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Narrowing {
        talk: Talk,
        sums: Sums,
    },
    /// Sending symbols, slice by slice, and then taking candidates.
    Coding {
        talk: Talk,
        coding: Box<Coding>,
    },
    Judging {
        talk: Talk,
        candidates: Vec<Key>,
        bits: Vec<u8>,
        sent: usize,
        lagging: u64,
    },
    Exchanging(Exchange),
    CatchingUp {
        differing: u64,
        outgoing: Outgoing,
        /// Where to go on reading cells; none when all are sent.
        cells: Option<Vec<u8>>,
    },
    Over,
}

/// What is settled at the beginning.
#[derive(Debug)]
struct Talk {
    purpose: Purpose,
    salt: Salt,
    same_vector: bool,
    far: Far,
}

#[derive(Debug)]
struct Coding {
    groups: Groups,
    /// Partitions that differ and are in no slice yet.
    rest: std::vec::IntoIter<usize>,
    /// How many symbols all partitions that differ will need.
    enough: usize,
    differ: Partitions,
    slice: Slice,
    /// How many symbols were sent in the slices before.
    sent_before: usize,
    candidates: Vec<Key>,
}

#[derive(Debug)]
struct Slice {
    partitions: Partitions,
    coder: Coder,
    /// The first batch.
    first: usize,
    sent: usize,
    taken: usize,
    /// Symbols sent when we last said that we wait.
    waits_at: usize,
}

impl Answerer {
    /// Waits for what is asked.
    #[must_use]
    pub fn new() -> Answerer {
        Answerer::default()
    }

    /// What the asker wants, once it has said so.
    #[must_use]
    pub fn purpose(&self) -> Option<Purpose> {
        self.purpose
    }

    /// Takes a frame of the asker.
    ///
    /// # Errors
    /// If it is none, or our own cut cannot be read. The conversation is over then.
    pub fn handle(&mut self, cut: &dyn Cut, frame: &[u8]) -> Result<Vec<Action>, ReconcileError> {
        let frame = self.meter.take(frame)?;
        match (std::mem::replace(&mut self.phase, Phase::Over), frame) {
            (Phase::Idle, Frame::Ask(ask)) => self.asked(cut, &ask),
            (Phase::Narrowing { talk, sums }, Frame::Groups(groups)) => self.narrow(cut, talk, &sums, groups),
            (Phase::Coding { talk, mut coding }, Frame::Got(got)) => {
                if coding.slice.got(got.symbols)? {
                    self.meter.round_trips += 1;
                }
                self.phase = Phase::Coding { talk, coding };
                Ok(Vec::new())
            }
            (Phase::Coding { talk, mut coding }, Frame::Next(_)) if coding.candidates.is_empty() => {
                self.meter.round_trips += 1;
                coding.next_slice(cut, &talk)?;
                self.phase = Phase::Coding { talk, coding };
                Ok(Vec::new())
            }
            (Phase::Coding { talk, coding }, Frame::Candidates(candidates)) => {
                self.named(cut, talk, coding, &candidates)
            }
            (Phase::Exchanging(mut exchange), Frame::States(states)) => {
                let taken = exchange.take(cut, states)?;
                self.phase = Phase::Exchanging(exchange);
                Ok(taken.into_iter().chain(self.exchanged()).collect())
            }
            (_, frame) => frame.out_of_place(),
        }
    }

    /// Gives what can be sent without being asked for, about a chunk of it.
    ///
    /// # Errors
    /// If our own cut cannot be read.
    pub fn more(&mut self, cut: &dyn Cut) -> Result<Vec<Action>, ReconcileError> {
        match &mut self.phase {
            Phase::Coding { coding, .. } if coding.candidates.is_empty() => match coding.frame() {
                Some(frame) => Ok(vec![self.meter.send(&Frame::Symbols(frame))?]),
                None => Ok(Vec::new()),
            },
            Phase::Judging { .. } => self.judge(),
            Phase::Exchanging(exchange) => {
                let Some(states) = exchange.frame(cut)? else {
                    return Ok(Vec::new());
                };
                let sent = self.meter.send(&Frame::States(states))?;
                Ok([sent].into_iter().chain(self.exchanged()).collect())
            }
            Phase::CatchingUp {
                differing,
                outgoing,
                cells,
            } => {
                if !outgoing.over {
                    let states = outgoing.frame(cut)?;
                    return Ok(vec![self.meter.send(&Frame::States(states))?]);
                }
                while let Some(from) = cells {
                    let (read, next) = cut.cells(from, CHUNK_BYTES)?;
                    *cells = next;
                    if !read.is_empty() {
                        let cells = read.into_iter().map(ByteBuf::from).collect();
                        return Ok(vec![self.meter.send(&Frame::Cells(Cells { cells }))?]);
                    }
                }
                let differing = *differing;
                let vector = cut.vector().clone();
                Ok(vec![
                    self.meter.send(&Frame::Complete(Complete { vector }))?,
                    self.verdict(BTreeSet::new(), differing, true),
                ])
            }
            _ => Ok(Vec::new()),
        }
    }

    fn asked(&mut self, cut: &dyn Cut, ask: &Ask) -> Result<Vec<Action>, ReconcileError> {
        if ask.version > VERSION {
            return malformed(&format!("format {} is not known here", ask.version));
        }
        self.meter.round_trips += 1;
        self.purpose = Some(ask.purpose);
        let sums = narrow::sums(cut)?;
        let same_vector = *ask.vector_hash == cut.vector().hash();
        if *ask.sum == narrow::total(&sums).to_be_bytes() {
            let equal = self.meter.send(&Frame::Equal(Nothing {}))?;
            if ask.purpose == Purpose::CatchUp {
                let mut outgoing = Outgoing::new(Vec::new());
                outgoing.over = true;
                self.phase = Phase::CatchingUp {
                    differing: 0,
                    outgoing,
                    cells: Some(Vec::new()),
                };
                return Ok(vec![equal]);
            }
            return Ok(vec![equal, self.verdict(BTreeSet::new(), 0, true)]);
        }
        let salt = Salt::new(&ask.nonce);
        let groups = narrow::group_hashes(&salt, &sums, narrow::hash_bytes(ask.purpose));
        let differ = Frame::Differ(Differ {
            groups: ByteBuf::from(groups),
            vector: (!same_vector).then(|| cut.vector().clone()),
        });
        self.phase = Phase::Narrowing {
            talk: Talk {
                purpose: ask.purpose,
                salt,
                same_vector,
                far: None,
            },
            sums,
        };
        Ok(vec![self.meter.send(&differ)?])
    }

    fn narrow(
        &mut self,
        cut: &dyn Cut,
        mut talk: Talk,
        sums: &Sums,
        frame: GroupHashes,
    ) -> Result<Vec<Action>, ReconcileError> {
        if talk.same_vector != frame.vector.is_none() {
            return malformed("a vector that is not the one asked with");
        }
        talk.far = frame.vector;
        self.meter.round_trips += 1;
        let bytes = narrow::hash_bytes(talk.purpose);
        let groups = Groups(u64::from_le_bytes(*frame.differ));
        let ours = narrow::partition_hashes(&talk.salt, sums, groups, bytes);
        let Some(differ) = narrow::differing_partitions(groups, &ours, &frame.partitions, bytes) else {
            return malformed("not the hashes of these groups");
        };
        if differ.len() == 0 {
            return Err(ReconcileError::Sums);
        }
        let sampled = frame.sample.len() == narrow::SAMPLE_BYTES && groups.len() == GROUPS;
        let enough = if sampled {
            let ours = narrow::sample(cut, &talk.salt)?;
            narrow::symbols_enough(differ.len(), Some((&ours, &frame.sample)))
        } else {
            narrow::symbols_enough(differ.len(), None)
        };
        let mut coding = Box::new(Coding {
            groups,
            rest: differ.iter().collect::<Vec<_>>().into_iter(),
            enough,
            differ,
            slice: Slice::new(),
            sent_before: 0,
            candidates: Vec::new(),
        });
        coding.next_slice(cut, &talk)?;
        self.phase = Phase::Coding { talk, coding };
        Ok(Vec::new())
    }

    fn named(
        &mut self,
        cut: &dyn Cut,
        talk: Talk,
        mut coding: Box<Coding>,
        frame: &Candidates,
    ) -> Result<Vec<Action>, ReconcileError> {
        if frame.inconclusive {
            return Ok(vec![self.verdict(BTreeSet::new(), 0, false)]);
        }
        // Every difference took a symbol to find.
        let keys_max = DIFFERENCES_MAX.min(coding.sent_before + coding.slice.sent);
        decode_keys(&frame.keys, &mut coding.candidates, keys_max)?;
        if frame.more {
            if frame.keys.is_empty() {
                return malformed("no candidates");
            }
            self.phase = Phase::Coding { talk, coding };
            return Ok(Vec::new());
        }
        let candidates = coding.candidates;
        if !candidates.iter().all(|key| coding.differ.has(key)) {
            return malformed("a candidate of another partition");
        }
        if talk.purpose == Purpose::CatchUp {
            self.meter.round_trips += 1;
            self.phase = Phase::CatchingUp {
                differing: candidates.len() as u64,
                outgoing: Outgoing::new(candidates),
                cells: Some(Vec::new()),
            };
            return Ok(Vec::new());
        }
        if candidates.is_empty() {
            return Ok(vec![self.verdict(BTreeSet::new(), frame.lagging, true)]);
        }
        self.meter.round_trips += 1;
        let mut touched = BTreeSet::new();
        if let Some(far) = &talk.far {
            match cut.touched_beyond(far)? {
                Some(keys) => touched = keys,
                None => {
                    let frame = Frame::Divergent(Divergent {
                        inconclusive: true,
                        ..Divergent::default()
                    });
                    return Ok(vec![
                        self.meter.send(&frame)?,
                        self.verdict(BTreeSet::new(), 0, false),
                    ]);
                }
            }
        }
        let mut bits = vec![0; candidates.len().div_ceil(8)];
        for (position, key) in candidates.iter().enumerate() {
            if !touched.contains(key) {
                bits[position / 8] |= 1 << (position % 8);
            }
        }
        let struck = candidates.iter().filter(|key| touched.contains(*key)).count() as u64;
        let divergent = candidates.into_iter().filter(|key| !touched.contains(key));
        self.phase = Phase::Judging {
            candidates: divergent.collect(),
            talk,
            bits,
            sent: 0,
            lagging: frame.lagging.saturating_add(struck),
        };
        Ok(Vec::new())
    }

    /// Says which candidates are divergent.
    fn judge(&mut self) -> Result<Vec<Action>, ReconcileError> {
        let Phase::Judging {
            talk,
            candidates: divergent,
            bits,
            sent,
            lagging,
        } = &mut self.phase
        else {
            return Ok(Vec::new());
        };
        let until = bits.len().min(*sent + BITS_BYTES);
        let frame = Frame::Divergent(Divergent {
            bits: ByteBuf::from(bits[*sent..until].to_vec()),
            more: until < bits.len(),
            inconclusive: false,
        });
        *sent = until;
        let mut actions = vec![self.meter.send(&frame)?];
        if until < bits.len() {
            return Ok(actions);
        }
        let (divergent, lagging) = (std::mem::take(divergent), *lagging);
        if talk.purpose == Purpose::Look || divergent.is_empty() {
            actions.push(self.verdict(divergent.into_iter().collect(), lagging, true));
        } else {
            self.phase = Phase::Exchanging(Exchange::new(talk.far.take(), divergent, lagging));
        }
        Ok(actions)
    }

    /// The verdict, once both ends have the other's states.
    fn exchanged(&mut self) -> Option<Action> {
        let Phase::Exchanging(exchange) = &mut self.phase else {
            return None;
        };
        let (divergent, lagging) = exchange.found()?;
        Some(self.verdict(divergent, lagging, true))
    }

    fn verdict(&mut self, divergent: BTreeSet<Key>, lagging: u64, conclusive: bool) -> Action {
        self.phase = Phase::Over;
        Action::Done(self.meter.verdict(divergent, lagging, conclusive))
    }
}

impl Coding {
    /// Takes as many partitions together as memory allows.
    fn next_slice(&mut self, cut: &dyn Cut, talk: &Talk) -> Result<(), ReconcileError> {
        let (purpose, salt) = (talk.purpose, &talk.salt);
        if self.rest.len() == 0 {
            return malformed("no slice is left");
        }
        self.sent_before += self.slice.sent;
        let mut slice = Slice::new();
        while slice.coder.len() < SLICE_ELEMENTS_MAX
            && let Some(partition) = self.rest.next()
        {
            slice.partitions.insert(partition);
            if purpose == Purpose::CatchUp && !cut.is_whole(partition)? {
                let lost = "digests are lost here; until they are made again, ask another member";
                return Err(CutError(lost.to_owned()).into());
            }
            cut.elements(partition, &mut |key, digest| {
                slice.coder.insert(Item::new(&key, &digest), salt);
            })?;
        }
        slice.first = (self.enough * slice.partitions.len()).div_ceil(self.differ.len());
        self.slice = slice;
        Ok(())
    }

    /// The next symbols, if the asker may get more.
    fn frame(&mut self) -> Option<Symbols> {
        let slice = &mut self.slice;
        let allowed = slice.allowed();
        let count = allowed
            .checked_sub(slice.sent)?
            .min(CHUNK_BYTES / SYMBOL_BYTES_MAX);
        if count == 0 {
            return None;
        }
        let mut frame = Symbols::default();
        if slice.sent == 0 {
            frame.partitions = ByteBuf::from(slice.partitions.encode(self.groups));
            frame.more_slices = self.rest.len() > 0;
        }
        for symbol in slice.coder.symbols(count) {
            symbol.encode_onto(&mut frame.symbols);
        }
        slice.sent += count;
        if slice.sent == allowed {
            frame.waits = true;
            slice.waits_at = slice.sent;
        }
        Some(frame)
    }
}

impl Slice {
    fn new() -> Slice {
        Slice {
            partitions: Partitions::new(),
            coder: Coder::new(),
            first: 0,
            sent: 0,
            taken: 0,
            waits_at: 0,
        }
    }

    /// How many symbols may be sent by now.
    fn allowed(&self) -> usize {
        if self.taken < self.first {
            return self.first;
        }
        let ahead = (self.taken / 2).clamp(AHEAD_MIN, AHEAD_MAX);
        // More would be refused: not even two sets that share nothing need them.
        let symbols_max = 2 * (self.coder.len() + ELEMENTS_MAX);
        (self.taken + ahead).min(symbols_max.max(self.first))
    }

    /// The asker took so many; says whether it waits.
    fn got(&mut self, symbols: u64) -> Result<bool, ReconcileError> {
        match usize::try_from(symbols) {
            Ok(taken) if taken > self.taken && taken <= self.sent => {
                self.taken = taken;
                Ok(taken == self.waits_at)
            }
            _ => malformed("symbols that were not sent"),
        }
    }
}
