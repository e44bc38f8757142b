//! States of records on their way: many small ones to a frame, and large ones over several.

use std::collections::BTreeSet;

use serde_bytes::{ByteArray, ByteBuf};

use super::frame::{CHUNK_BYTES, States, malformed};
use super::{Action, Cut, CutError, Far, Key, Part, ReconcileError};
use crate::Vector;

/// A record's state is at most this long: 8 MiB of document, and the values that it names.
pub const STATE_BYTES_MAX: usize = 9 * 1024 * 1024;

/// A key and the lengths around a state cost about so many bytes.
const STATE_FRAME_BYTES: usize = 24;

/// Each end gives the other its states of what is divergent.
#[derive(Debug)]
pub(super) struct Exchange {
    far: Far,
    divergent: Vec<Key>,
    lagging: u64,
    outgoing: Outgoing,
    incoming: Incoming,
}

impl Exchange {
    pub(super) fn new(far: Far, divergent: Vec<Key>, lagging: u64) -> Exchange {
        Exchange {
            far,
            lagging,
            outgoing: Outgoing::new(divergent.clone()),
            incoming: Incoming::new(divergent.clone()),
            divergent,
        }
    }

    /// More of ours; `None` once all is sent.
    pub(super) fn frame(&mut self, cut: &dyn Cut) -> Result<Option<States>, ReconcileError> {
        if self.outgoing.over {
            return Ok(None);
        }
        self.outgoing.frame(cut).map(Some)
    }

    /// Takes more of theirs, for the store.
    pub(super) fn take(&mut self, cut: &dyn Cut, frame: States) -> Result<Option<Action>, ReconcileError> {
        Ok(deliver(cut, self.far.as_ref(), self.incoming.take(frame)?))
    }

    /// What was found, once both ends have the other's states.
    pub(super) fn found(&mut self) -> Option<(BTreeSet<Key>, u64)> {
        (self.outgoing.over && self.incoming.over).then(|| (self.divergent.drain(..).collect(), self.lagging))
    }
}

/// States of the far end, for the store.
pub(super) fn deliver(cut: &dyn Cut, far: Option<&Vector>, states: Vec<(Key, Vec<u8>)>) -> Option<Action> {
    let cut = far.unwrap_or_else(|| cut.vector());
    (!states.is_empty()).then(|| {
        Action::Deliver(Part::States {
            cut: cut.clone(),
            states,
        })
    })
}

/// The states of some records, frame by frame.
#[derive(Debug)]
pub(super) struct Outgoing {
    keys: std::vec::IntoIter<Key>,
    /// A state that did not fit, from a position on.
    rest: Option<(Key, Vec<u8>, usize)>,
    pub(super) over: bool,
}

impl Outgoing {
    pub(super) fn new(keys: Vec<Key>) -> Outgoing {
        Outgoing {
            keys: keys.into_iter(),
            rest: None,
            over: false,
        }
    }

    /// The next frame. The last one says so.
    pub(super) fn frame(&mut self, cut: &dyn Cut) -> Result<States, ReconcileError> {
        let mut frame = States::default();
        let mut room = CHUNK_BYTES;
        while room > 0 {
            let (key, state, from) = match self.rest.take() {
                Some(rest) => rest,
                None => match self.keys.next() {
                    Some(key) => match cut.state(&key)? {
                        Some(state) if state.len() > STATE_BYTES_MAX => {
                            return Err(CutError(format!("a state of {} bytes", state.len())).into());
                        }
                        Some(state) => (key, state, 0),
                        None => continue,
                    },
                    None => {
                        frame.end = true;
                        self.over = true;
                        break;
                    }
                },
            };
            let until = state.len().min(from + room);
            let piece = state[from..until].to_vec();
            room = room.saturating_sub(piece.len() + STATE_FRAME_BYTES);
            frame.states.push((ByteArray::new(key), ByteBuf::from(piece)));
            if until < state.len() {
                frame.more = true;
                self.rest = Some((key, state, until));
                break;
            }
        }
        Ok(frame)
    }
}

/// States as they come, put together.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Ascending. Nothing else is taken, and each at most once.
    wanted: Vec<Key>,
    next: usize,
    partial: Option<(Key, Vec<u8>)>,
    pub(super) over: bool,
}

impl Incoming {
    pub(super) fn new(wanted: Vec<Key>) -> Incoming {
        Incoming {
            wanted,
            next: 0,
            partial: None,
            over: false,
        }
    }

    /// Takes a frame; gives the states that are whole now.
    pub(super) fn take(&mut self, frame: States) -> Result<Vec<(Key, Vec<u8>)>, ReconcileError> {
        if self.over {
            return malformed("states after the last");
        }
        let mut whole = Vec::new();
        let count = frame.states.len();
        if count == 0 && !frame.end {
            return malformed("no states");
        }
        for (position, (key, piece)) in frame.states.into_iter().enumerate() {
            let key = key.into_array();
            let state = match self.partial.take() {
                Some((of, mut state)) if of == key => {
                    if state.len() + piece.len() > STATE_BYTES_MAX {
                        return malformed("a state that is too long");
                    }
                    state.extend_from_slice(&piece);
                    state
                }
                Some(_) => return malformed("a state without its end"),
                None => {
                    let rest = self.wanted.get(self.next..).unwrap_or_default();
                    let Ok(ahead) = rest.binary_search(&key) else {
                        return malformed("a state that was not asked for");
                    };
                    self.next += ahead + 1;
                    piece.into_vec()
                }
            };
            if frame.more && position + 1 == count {
                self.partial = Some((key, state));
            } else {
                whole.push((key, state));
            }
        }
        if frame.end {
            if self.partial.is_some() {
                return malformed("a state without its end");
            }
            self.over = true;
        }
        Ok(whole)
    }
}
