//! The end that asks: it learns where the cuts differ, and decides together with the far end what of that is lag.

use std::collections::BTreeSet;

use serde_bytes::{ByteArray, ByteBuf};

use super::frame::{
    Ask, CHUNK_BYTES, Candidates, Divergent, Frame, Got, GroupHashes, Meter, Nothing, Symbols, VERSION,
    decode_symbols, malformed,
};
use super::iblt::{Coder, Decoder, Item};
use super::narrow::{self, GROUPS, Groups, Partitions};
use super::states::{Exchange, Incoming, deliver};
use super::{
    Action, Cut, CutError, DIFFERENCES_MAX, ELEMENTS_MAX, Far, Key, Part, Purpose, ReconcileError, Salt, Sums,
};

/// One conversation, as its asker sees it.
#[derive(Debug)]
pub struct Asker {
    purpose: Purpose,
    nonce: [u8; 16],
    salt: Salt,
    meter: Meter,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Asked {
        sums: Sums,
    },
    /// Taking symbols, slice by slice.
    Decoding {
        far: Far,
        groups: Groups,
        slice: Option<Box<Slice>>,
        differing: Vec<Key>,
    },
    /// Naming candidates, and waiting for what the answerer says of them.
    Judging {
        far: Far,
        named: Named,
        bits: Vec<u8>,
    },
    Exchanging(Exchange),
    CatchingUp {
        far: Far,
        named: Named,
        differing: u64,
        incoming: Incoming,
    },
    Over,
}

/// Some partitions, as far as they are decoded.
#[derive(Debug)]
struct Slice {
    partitions: Partitions,
    decoder: Decoder,
    more_slices: bool,
}

/// Keys on their way to the answerer.
#[derive(Debug)]
struct Named {
    keys: Vec<Key>,
    sent: usize,
    lagging: u64,
    over: bool,
}

/// A few differences may by bad luck need far more than twice as many symbols, and are then sent a thousand at once.
const SYMBOLS_SPARE: usize = 8 * 1024;

impl Asker {
    /// `nonce` is drawn at random for this conversation.
    #[must_use]
    pub fn new(purpose: Purpose, nonce: [u8; 16]) -> Asker {
        Asker {
            purpose,
            nonce,
            salt: Salt::new(&nonce),
            meter: Meter::default(),
            phase: Phase::Idle,
        }
    }

    /// Asks. Called once, before anything else.
    ///
    /// # Errors
    /// If our own cut cannot be read.
    pub fn begin(&mut self, cut: &dyn Cut) -> Result<Vec<Action>, ReconcileError> {
        let sums = narrow::sums(cut)?;
        let ask = Frame::Ask(Ask {
            version: VERSION,
            purpose: self.purpose,
            nonce: ByteArray::new(self.nonce),
            vector_hash: ByteArray::new(cut.vector().hash()),
            sum: ByteArray::new(narrow::total(&sums).to_be_bytes()),
        });
        self.phase = Phase::Asked { sums };
        self.meter.round_trips += 1;
        Ok(vec![self.meter.send(&ask)?])
    }

    /// Takes a frame of the answerer.
    ///
    /// # Errors
    /// If it is none, or our own cut cannot be read. The conversation is over then.
    pub fn handle(&mut self, cut: &dyn Cut, frame: &[u8]) -> Result<Vec<Action>, ReconcileError> {
        let frame = self.meter.take(frame)?;
        match (std::mem::replace(&mut self.phase, Phase::Over), frame) {
            (Phase::Asked { .. }, Frame::Equal(_)) => Ok(self.equal()),
            (Phase::Asked { sums }, Frame::Differ(differ)) => {
                self.narrow(cut, &sums, &differ.groups, differ.vector)
            }
            (
                Phase::Decoding {
                    far,
                    groups,
                    slice,
                    differing,
                },
                Frame::Symbols(symbols),
            ) => self.decode(cut, far, groups, slice, differing, &symbols),
            // They were under way when we had enough.
            (phase @ (Phase::Judging { .. } | Phase::CatchingUp { .. }), Frame::Symbols(late))
                if late.partitions.is_empty() =>
            {
                self.phase = phase;
                Ok(Vec::new())
            }
            (Phase::Judging { far, named, bits }, Frame::Divergent(divergent)) if named.over => {
                self.judged(far, named, bits, &divergent)
            }
            (Phase::Exchanging(mut exchange), Frame::States(states)) => {
                let taken = exchange.take(cut, states)?;
                self.phase = Phase::Exchanging(exchange);
                Ok(taken.into_iter().chain(self.exchanged()).collect())
            }
            (
                Phase::CatchingUp {
                    far,
                    named,
                    differing,
                    mut incoming,
                },
                Frame::States(states),
            ) => {
                let taken = deliver(cut, far.as_ref(), incoming.take(states)?);
                self.phase = Phase::CatchingUp {
                    far,
                    named,
                    differing,
                    incoming,
                };
                Ok(taken.into_iter().collect())
            }
            (phase @ Phase::CatchingUp { .. }, Frame::Cells(cells)) if !cells.cells.is_empty() => {
                self.phase = phase;
                let cells = cells.cells.into_iter().map(ByteBuf::into_vec).collect();
                Ok(vec![Action::Deliver(Part::Cells(cells))])
            }
            (
                Phase::CatchingUp {
                    differing, incoming, ..
                },
                Frame::Complete(complete),
            ) if incoming.over => Ok(vec![
                Action::Deliver(Part::Complete { cut: complete.vector }),
                self.verdict(BTreeSet::new(), differing, true),
            ]),
            (_, frame) => frame.out_of_place(),
        }
    }

    /// Gives what can be sent without being asked for, about a chunk of it.
    ///
    /// # Errors
    /// If our own cut cannot be read.
    pub fn more(&mut self, cut: &dyn Cut) -> Result<Vec<Action>, ReconcileError> {
        match &mut self.phase {
            Phase::Judging { named, .. } | Phase::CatchingUp { named, .. } if !named.over => {
                let frame = named.frame();
                if named.over {
                    self.meter.round_trips += 1;
                }
                Ok(vec![self.meter.send(&Frame::Candidates(frame))?])
            }
            Phase::Exchanging(exchange) => {
                let Some(states) = exchange.frame(cut)? else {
                    return Ok(Vec::new());
                };
                let sent = self.meter.send(&Frame::States(states))?;
                Ok([sent].into_iter().chain(self.exchanged()).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn equal(&mut self) -> Vec<Action> {
        if self.purpose != Purpose::CatchUp {
            return vec![self.verdict(BTreeSet::new(), 0, true)];
        }
        // Only cells come, and the vector.
        let mut incoming = Incoming::new(Vec::new());
        incoming.over = true;
        let mut named = Named::new(Vec::new(), 0);
        named.over = true;
        self.phase = Phase::CatchingUp {
            far: None,
            named,
            differing: 0,
            incoming,
        };
        Vec::new()
    }

    fn narrow(
        &mut self,
        cut: &dyn Cut,
        sums: &Sums,
        theirs: &[u8],
        far: Far,
    ) -> Result<Vec<Action>, ReconcileError> {
        let bytes = narrow::hash_bytes(self.purpose);
        let ours = narrow::group_hashes(&self.salt, sums, bytes);
        let Some(groups) = narrow::differing_groups(&ours, theirs, bytes) else {
            return malformed("not the hashes of 64 groups");
        };
        if groups.len() == 0 {
            return Err(ReconcileError::Sums);
        }
        let sample = if groups.len() == GROUPS {
            narrow::sample(cut, &self.salt)?
        } else {
            Vec::new()
        };
        let frame = Frame::Groups(GroupHashes {
            differ: ByteArray::new(groups.0.to_le_bytes()),
            partitions: ByteBuf::from(narrow::partition_hashes(&self.salt, sums, groups, bytes)),
            sample: ByteBuf::from(sample),
            vector: far.as_ref().map(|_| cut.vector().clone()),
        });
        self.phase = Phase::Decoding {
            far,
            groups,
            slice: None,
            differing: Vec::new(),
        };
        self.meter.round_trips += 1;
        Ok(vec![self.meter.send(&frame)?])
    }

    fn decode(
        &mut self,
        cut: &dyn Cut,
        far: Far,
        groups: Groups,
        slice: Option<Box<Slice>>,
        mut differing: Vec<Key>,
        frame: &Symbols,
    ) -> Result<Vec<Action>, ReconcileError> {
        let slice = if !frame.partitions.is_empty() {
            if slice.is_some() {
                return malformed("a slice within a slice");
            }
            Some(Box::new(self.slice(cut, groups, frame)?))
        } else {
            slice
        };
        let Some(mut slice) = slice else {
            // Of the slice before: they were under way when we had enough.
            self.phase = Phase::Decoding {
                far,
                groups,
                slice: None,
                differing,
            };
            return Ok(Vec::new());
        };
        let symbols = decode_symbols(&frame.symbols)?;
        if symbols.is_empty() {
            return malformed("no symbols");
        }
        if slice.decoder.taken() + symbols.len() > slice.symbols_max() {
            return malformed("more symbols than any difference needs");
        }
        let Ok(done) = slice.decoder.take(symbols) else {
            return malformed("symbols that no set has");
        };
        if !done {
            let got = Frame::Got(Got {
                symbols: slice.decoder.taken() as u64,
            });
            if frame.waits {
                self.meter.round_trips += 1;
            }
            self.phase = Phase::Decoding {
                far,
                groups,
                slice: Some(slice),
                differing,
            };
            return Ok(vec![self.meter.send(&got)?]);
        }
        slice.add_to(&mut differing, self.purpose)?;
        if slice.more_slices {
            self.phase = Phase::Decoding {
                far,
                groups,
                slice: None,
                differing,
            };
            self.meter.round_trips += 1;
            return Ok(vec![self.meter.send(&Frame::Next(Nothing {}))?]);
        }
        self.decoded(cut, far, differing)
    }

    /// Begins to decode some partitions.
    fn slice(&self, cut: &dyn Cut, groups: Groups, frame: &Symbols) -> Result<Slice, ReconcileError> {
        let Some(partitions) = Partitions::decode(groups, &frame.partitions) else {
            return malformed("partitions of other groups");
        };
        let mut own = Coder::new();
        for partition in partitions.iter() {
            cut.elements(partition, &mut |key, digest| {
                own.insert(Item::new(&key, &digest), &self.salt);
            })?;
            if own.len() > ELEMENTS_MAX {
                return Err(CutError(format!("more than {ELEMENTS_MAX} elements in question")).into());
            }
        }
        Ok(Slice {
            partitions,
            decoder: Decoder::new(self.salt.clone(), own),
            more_slices: frame.more_slices,
        })
    }

    /// All differences are known: `differing` holds the keys of elements that one end has and the other has not.
    fn decoded(
        &mut self,
        cut: &dyn Cut,
        far: Far,
        mut differing: Vec<Key>,
    ) -> Result<Vec<Action>, ReconcileError> {
        differing.sort_unstable();
        differing.dedup();
        if self.purpose == Purpose::CatchUp {
            self.phase = Phase::CatchingUp {
                far,
                differing: differing.len() as u64,
                incoming: Incoming::new(differing.clone()),
                named: Named::new(differing, 0),
            };
            return Ok(Vec::new());
        }
        if differing.is_empty() {
            return Err(ReconcileError::Sums);
        }
        let found = differing.len();
        if let Some(theirs) = &far {
            let Some(touched) = cut.touched_beyond(theirs)? else {
                let frame = Frame::Candidates(Candidates {
                    inconclusive: true,
                    ..Candidates::default()
                });
                return Ok(vec![
                    self.meter.send(&frame)?,
                    self.verdict(BTreeSet::new(), 0, false),
                ]);
            };
            differing.retain(|key| !touched.contains(key));
        }
        let lagging = (found - differing.len()) as u64;
        if differing.is_empty() {
            let frame = Frame::Candidates(Candidates {
                lagging,
                ..Candidates::default()
            });
            return Ok(vec![
                self.meter.send(&frame)?,
                self.verdict(BTreeSet::new(), lagging, true),
            ]);
        }
        self.phase = Phase::Judging {
            far,
            named: Named::new(differing, lagging),
            bits: Vec::new(),
        };
        Ok(Vec::new())
    }

    fn judged(
        &mut self,
        far: Far,
        named: Named,
        mut bits: Vec<u8>,
        frame: &Divergent,
    ) -> Result<Vec<Action>, ReconcileError> {
        if frame.inconclusive {
            return Ok(vec![self.verdict(BTreeSet::new(), 0, false)]);
        }
        bits.extend_from_slice(&frame.bits);
        let bytes = named.keys.len().div_ceil(8);
        if bits.len() > bytes || frame.bits.is_empty() || (!frame.more && bits.len() < bytes) {
            return malformed("not a bit for each candidate");
        }
        if frame.more {
            self.phase = Phase::Judging { far, named, bits };
            return Ok(Vec::new());
        }
        let candidates = named.keys.len();
        let mut divergent = named.keys;
        let mut position = 0;
        divergent.retain(|_| {
            position += 1;
            bits[(position - 1) / 8] & 1 << ((position - 1) % 8) != 0
        });
        let lagging = named.lagging + (candidates - divergent.len()) as u64;
        if self.purpose == Purpose::Look || divergent.is_empty() {
            return Ok(vec![self.verdict(divergent.into_iter().collect(), lagging, true)]);
        }
        self.phase = Phase::Exchanging(Exchange::new(far, divergent, lagging));
        Ok(Vec::new())
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

impl Slice {
    /// More are never needed: not by two sets that share nothing, and what the answerer sends ahead.
    fn symbols_max(&self) -> usize {
        let theirs = self
            .decoder
            .their_count()
            .unwrap_or(ELEMENTS_MAX)
            .min(ELEMENTS_MAX);
        2 * (self.decoder.own() + theirs) + SYMBOLS_SPARE
    }

    /// In a catch-up only what the far end has counts.
    fn add_to(&self, differing: &mut Vec<Key>, purpose: Purpose) -> Result<(), ReconcileError> {
        let ours = self.decoder.ours().filter(|_| purpose != Purpose::CatchUp);
        for item in self.decoder.theirs().chain(ours) {
            let key = item.key();
            if !self.partitions.has(&key) {
                return malformed("an element of another partition");
            }
            differing.push(key);
        }
        if differing.len() > 2 * DIFFERENCES_MAX {
            return Err(CutError(format!("more than {DIFFERENCES_MAX} records differ")).into());
        }
        Ok(())
    }
}

impl Named {
    fn new(keys: Vec<Key>, lagging: u64) -> Named {
        Named {
            keys,
            sent: 0,
            lagging,
            over: false,
        }
    }

    fn frame(&mut self) -> Candidates {
        let until = self.keys.len().min(self.sent + CHUNK_BYTES / 16);
        let keys = self.keys[self.sent..until].concat();
        self.sent = until;
        self.over = until == self.keys.len();
        Candidates {
            keys: ByteBuf::from(keys),
            more: !self.over,
            lagging: self.lagging,
            inconclusive: false,
        }
    }
}
