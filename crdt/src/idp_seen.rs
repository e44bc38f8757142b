//! When a domain was last seen certifying its own users, as one replica saw it: what a cell holds under a keyed hash
//! of the domain.

use crate::cell::Cell;
use crate::format::{DecodeError, Reader};

/// What one replica saw last of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdpSeen {
    /// It certified its users.
    Seen {
        /// When, in milliseconds since the Unix epoch.
        at_ms: u64,
    },
    /// It said itself that it does not: what was seen before no longer counts.
    Forgotten,
}

const WHAT: &str = "identity provider";
/// The first byte.
const FORMAT: u8 = 1;
const SEEN: u8 = 1;
const FORGOTTEN: u8 = 2;

impl IdpSeen {
    /// A cell's value.
    pub fn encode(self) -> Vec<u8> {
        match self {
            IdpSeen::Seen { at_ms } => {
                let mut bytes = vec![FORMAT, SEEN];
                bytes.extend_from_slice(&at_ms.to_le_bytes());
                bytes
            }
            IdpSeen::Forgotten => vec![FORMAT, FORGOTTEN],
        }
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<IdpSeen, DecodeError> {
        let mut reader = Reader::with_format(WHAT, FORMAT, bytes)?;
        let seen = match reader.u8()? {
            SEEN => IdpSeen::Seen { at_ms: reader.u64()? },
            FORGOTTEN => IdpSeen::Forgotten,
            other => return Err(DecodeError::malformed(WHAT, &format!("no such state: {other}"))),
        };
        reader.end().map(|()| seen)
    }

    /// Of all replicas' slots, the one written last counts.
    pub fn latest<'c>(cells: impl Iterator<Item = &'c Cell>) -> Option<IdpSeen> {
        cells
            .filter_map(|cell| Some((cell.stamp, cell.slot, IdpSeen::decode(&cell.value).ok()?)))
            .max_by_key(|(stamp, slot, _)| (*stamp, *slot))
            .map(|(_, _, seen)| seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::CellKind;
    use crate::hlc::Hlc;

    fn cell(slot: u8, stamp: u64, value: Vec<u8>) -> Cell {
        Cell {
            kind: CellKind::IDP_SEEN,
            key: vec![1],
            slot: [slot; 8],
            stamp: Hlc::new(stamp, 0),
            value,
            expires_ms: 9,
        }
    }

    #[track_caller]
    fn check(cells: &[(u64, IdpSeen)], expected: Option<IdpSeen>) {
        let mut cells: Vec<Cell> = (1..)
            .zip(cells)
            .map(|(slot, (stamp, seen))| cell(slot, *stamp, seen.encode()))
            .collect();
        cells.push(cell(0, u64::MAX, b"of a newer version".to_vec()));
        assert_eq!(IdpSeen::latest(cells.iter()), expected);
        cells.reverse();
        assert_eq!(IdpSeen::latest(cells.iter()), expected);
    }

    #[test]
    fn the_last_word_counts_whoever_wrote_it() {
        let seen = |at_ms| IdpSeen::Seen { at_ms };
        check(&[], None);
        check(&[(5, seen(5))], Some(seen(5)));
        check(&[(5, seen(5)), (6, IdpSeen::Forgotten)], Some(IdpSeen::Forgotten));
        check(&[(7, seen(4)), (6, IdpSeen::Forgotten)], Some(seen(4)));
        check(&[(5, seen(1)), (5, seen(2))], Some(seen(2)));
    }
}
