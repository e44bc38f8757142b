//! Coded symbols of a rateless IBLT: which items two sets do not share, at a cost that grows with their number only.
//!
//! After L. Yang, Y. Gilad, M. Alizadeh, *Practical Rateless Set Reconciliation*, SIGCOMM 2024. A set becomes an
//! endless sequence of symbols; item x is mixed into symbol i with probability 1/(1 + i/2), always into symbol 0.
//! The receiver takes its own symbols off, and peels: a symbol in which one item stands alone gives that item, which
//! is then taken off everywhere else. When symbol 0 is empty, all is found: after 1.35 (many) to 1.75 (few) symbols
//! for each item that is not shared. No estimate is needed for that, and more symbols always help.
//!
//! Other than the paper, no queue orders the items by their next symbol: symbols are made in growing blocks, and each
//! block is one pass over the items. For a million items and 272,000 symbols that is a dozen passes over four bytes
//! an item, where a queue moves 24 million times.

use std::collections::VecDeque;

use super::salt::Salt;
use super::{Key, StateDigest};

/// An element as it is mixed into symbols: its key, and as much of its digest as tells two states apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Item([u64; 3]);

/// A key, and the first 8 bytes of a digest.
pub const ITEM_BYTES: usize = 24;

impl Item {
    /// What stands for this element.
    #[must_use]
    pub fn new(key: &Key, digest: &StateDigest) -> Item {
        let mut bytes = [0; ITEM_BYTES];
        bytes[..16].copy_from_slice(key);
        bytes[16..].copy_from_slice(&digest[..8]);
        Item::from_bytes(bytes)
    }

    /// The record that it is of.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut key = [0; 16];
        key.copy_from_slice(&self.to_bytes()[..16]);
        key
    }

    pub(super) fn to_bytes(self) -> [u8; ITEM_BYTES] {
        let mut bytes = [0; ITEM_BYTES];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; ITEM_BYTES]) -> Item {
        let mut words = [0; 3];
        let (eights, _) = bytes.as_chunks::<8>();
        for (word, eight) in words.iter_mut().zip(eights) {
            *word = u64::from_le_bytes(*eight);
        }
        Item(words)
    }
}

/// Some items, mixed: their exclusive or, that of their checks, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symbol {
    item: Item,
    check: u64,
    count: i32,
}

/// A symbol on the wire is at most this long; its count takes one or two bytes, seldom more.
pub const SYMBOL_BYTES_MAX: usize = ITEM_BYTES + 8 + 5;

impl Symbol {
    /// How many items are mixed in here; in a difference, theirs count up and ours down.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    fn mix(&mut self, item: &Item, check: u64, sign: i32) {
        for (word, other) in self.item.0.iter_mut().zip(item.0) {
            *word ^= other;
        }
        self.check ^= check;
        self.count = self.count.wrapping_add(sign);
    }

    fn take_off(&mut self, other: &Symbol) {
        for (word, other) in self.item.0.iter_mut().zip(other.item.0) {
            *word ^= other;
        }
        self.check ^= other.check;
        self.count = self.count.wrapping_sub(other.count);
    }

    fn is_empty(&self) -> bool {
        *self == Symbol::default()
    }

    fn may_be_one(&self) -> bool {
        self.count == 1 || self.count == -1
    }

    /// Item, check (little-endian), count (LEB128).
    pub fn encode_onto(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.item.to_bytes());
        bytes.extend_from_slice(&self.check.to_le_bytes());
        let mut count = self.count.unsigned_abs();
        while count >= 0x80 {
            bytes.push(count.to_le_bytes()[0] | 0x80);
            count >>= 7;
        }
        bytes.push(count.to_le_bytes()[0]);
    }

    /// Takes one off the front of `bytes`; nothing if there is no whole one.
    #[must_use]
    pub fn decode_from(bytes: &mut &[u8]) -> Option<Symbol> {
        let (item, rest) = bytes.split_first_chunk::<ITEM_BYTES>()?;
        let (check, mut rest) = rest.split_first_chunk::<8>()?;
        let mut count: u32 = 0;
        for shift in (0..).step_by(7) {
            let (byte, after) = rest.split_first()?;
            rest = after;
            // Of the fifth byte, bit 31 is the sign, which no count of items has.
            let part = u32::from(byte & 0x7f);
            if shift > 28 || (shift == 28 && part > 0x07) {
                return None;
            }
            count |= part << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        *bytes = rest;
        Some(Symbol {
            item: Item::from_bytes(*item),
            check: u64::from_le_bytes(*check),
            count: i32::try_from(count).ok()?,
        })
    }
}

/// Which symbols an item is mixed into: an endless, growing sequence that begins with 0.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    state: u64,
    index: u32,
}

impl Mapping {
    fn new(check: u64) -> Mapping {
        Mapping {
            state: check,
            index: 0,
        }
    }

    /// Goes on to the next symbol. Both ends must come to the same, on whatever machine: integers and those
    /// operations of IEEE 754 that are rounded in one way only.
    fn advance(&mut self) {
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        drawn ^= drawn >> 31;
        // The gap exceeds x with probability (i + 1)(i + 2) / (i + x + 1)(i + x + 2): the inverse of that, in full where
        // the paper approximates it, as the square root is what costs.
        let exceeds = (drawn as f64 + 1.0) / TWO_TO_64;
        let centre = f64::from(self.index) + 1.5;
        let gap = ((centre * centre - 0.25) / exceeds + 0.25).sqrt() - centre;
        // Rounded up by hand: without SSE 4.1 `ceil` is a call, and this is where the time goes. `as` saturates; what is
        // as far as u32::MAX is never reached.
        let whole = gap as u32;
        let up = u32::from(f64::from(whole) < gap);
        self.index = self.index.saturating_add(whole.saturating_add(up).max(1));
    }
}

const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// A set of items on its way through the symbols. About 44 bytes an item.
#[derive(Debug, Clone, Default)]
pub struct Coder {
    items: Vec<(Item, u64)>,
    states: Vec<u64>,
    /// Apart from the rest, as each block reads all of these and few of those.
    indexes: Vec<u32>,
    /// The next symbol to be made.
    at: u32,
    /// Made, and not yet given out.
    made: VecDeque<Symbol>,
}

/// A block has as many symbols as there were before it, so that there are few passes; but at most so many: 2.5 MB.
const BLOCK_SYMBOLS_MAX: usize = 64 * 1024;

impl Coder {
    /// An empty set.
    #[must_use]
    pub fn new() -> Coder {
        Coder::default()
    }

    /// Adds an item; before the first symbol is made.
    pub fn insert(&mut self, item: Item, salt: &Salt) {
        let check = salt.check(&item);
        self.push(item, check, Mapping::new(check));
    }

    /// How many items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The next `count` symbols.
    #[must_use]
    pub fn symbols(&mut self, count: usize) -> Vec<Symbol> {
        while self.made.len() < count {
            let size = BLOCK_SYMBOLS_MAX
                .min(self.at as usize)
                .max(count - self.made.len());
            let mut block = vec![Symbol::default(); size];
            self.mix_into(&mut block, 1);
            self.made.extend(block);
        }
        self.made.drain(..count).collect()
    }

    fn push(&mut self, item: Item, check: u64, mapping: Mapping) {
        self.items.push((item, check));
        self.states.push(mapping.state);
        self.indexes.push(mapping.index);
    }

    /// Mixes the items into the next symbols.
    fn mix_into(&mut self, symbols: &mut [Symbol], sign: i32) {
        let end = self
            .at
            .saturating_add(u32::try_from(symbols.len()).unwrap_or(u32::MAX));
        for (position, index) in self.indexes.iter_mut().enumerate() {
            if *index >= end {
                continue;
            }
            let (item, check) = &self.items[position];
            let mut mapping = Mapping {
                state: self.states[position],
                index: *index,
            };
            while mapping.index < end {
                symbols[(mapping.index - self.at) as usize].mix(item, *check, sign);
                mapping.advance();
            }
            self.states[position] = mapping.state;
            *index = mapping.index;
        }
        self.at = end;
    }
}

/// Finds what two sets do not share, from the other's symbols and the own items.
#[derive(Debug, Clone)]
pub struct Decoder {
    salt: Salt,
    own: Coder,
    /// The other's symbols less our own items and all that was found.
    symbols: Vec<Symbol>,
    theirs: Coder,
    ours: Coder,
    /// Of their first symbol: how many items they have.
    their_count: Option<usize>,
}

/// The symbols are of no set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("symbols that no set has")]
pub struct NoSuchSet;

impl Decoder {
    /// With our own items, of which no symbol was made yet.
    #[must_use]
    pub fn new(salt: Salt, own: Coder) -> Decoder {
        Decoder {
            salt,
            own,
            symbols: Vec::new(),
            theirs: Coder::new(),
            ours: Coder::new(),
            their_count: None,
        }
    }

    /// Takes the next symbols; says whether all is found.
    ///
    /// # Errors
    /// If more comes out than went in: no set has these symbols.
    pub fn take(&mut self, mut symbols: Vec<Symbol>) -> Result<bool, NoSuchSet> {
        if self.their_count.is_none() {
            self.their_count = symbols
                .first()
                .and_then(|first| usize::try_from(first.count).ok());
        }
        let own = self.own.symbols(symbols.len());
        for (symbol, own) in symbols.iter_mut().zip(own) {
            symbol.take_off(&own);
        }
        self.theirs.mix_into(&mut symbols, -1);
        self.ours.mix_into(&mut symbols, 1);
        let first = self.symbols.len();
        self.symbols.append(&mut symbols);
        let mut single: Vec<usize> = (first..self.symbols.len())
            .filter(|&index| self.symbols[index].may_be_one())
            .collect();
        while let Some(index) = single.pop() {
            self.peel(index, &mut single)?;
        }
        Ok(self.symbols.first().is_some_and(Symbol::is_empty))
    }

    /// Takes the item of a symbol that has but one off all symbols.
    fn peel(&mut self, index: usize, single: &mut Vec<usize>) -> Result<(), NoSuchSet> {
        let Symbol { item, check, count } = self.symbols[index];
        if !self.symbols[index].may_be_one() || self.salt.check(&item) != check {
            return Ok(());
        }
        // Each item that is found leaves a symbol empty for good.
        if self.ours.len() + self.theirs.len() >= self.symbols.len() {
            return Err(NoSuchSet);
        }
        let mut mapping = Mapping::new(check);
        while let Some(symbol) = self.symbols.get_mut(mapping.index as usize) {
            symbol.mix(&item, check, -count);
            if symbol.may_be_one() {
                single.push(mapping.index as usize);
            }
            mapping.advance();
        }
        let found = if count > 0 {
            &mut self.theirs
        } else {
            &mut self.ours
        };
        found.push(item, check, mapping);
        Ok(())
    }

    /// How many symbols were taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.symbols.len()
    }

    /// How many items the other has, by its first symbol.
    #[must_use]
    pub fn their_count(&self) -> Option<usize> {
        self.their_count
    }

    /// How many items we have.
    #[must_use]
    pub fn own(&self) -> usize {
        self.own.len()
    }

    /// Found, and only the other has them.
    pub fn theirs(&self) -> impl Iterator<Item = &Item> {
        self.theirs.items.iter().map(|(item, _)| item)
    }

    /// Found, and only we have them.
    pub fn ours(&self) -> impl Iterator<Item = &Item> {
        self.ours.items.iter().map(|(item, _)| item)
    }
}
