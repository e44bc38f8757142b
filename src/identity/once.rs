//! A request that may come twice, and is done once.
//!
//! A browser that got no answer does not know whether it was heard, so it asks again, perhaps at another site. It names
//! the request by a random key. What the first asking came to is put, in the transaction that makes it so, into a cell
//! for ten minutes; whoever asks again with the same key and the same contents gets that answer, and nothing is written.
//!
//! What wrote nothing leaves no cell: asked again it comes to the same, until something else happens.
//!
//! Promise: the cell tells nothing of the request. Its key and the hash of its contents (which may hold a password)
//! cannot be computed, nor guessed at, without the browser's random key, which is kept nowhere.

use std::time::Duration;

use crdt::{Cell, CellKind, cell::CELL_VALUE_BYTES_MAX};
use gossip::Dot;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    OperationError, Outcome, Refusal,
    operations::{self, Access, Operation, Reading, Writing},
};
use crate::store::{Records, Txn};

/// How long an answer is kept: DESIGN.md §7.
pub const KEEP: Duration = Duration::from_secs(600);

/// Names a request, so that it is done once.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Under which the answer is kept.
    #[serde(with = "serde_bytes")]
    pub key: [u8; 32],
    /// What was asked for. The same key with other contents is refused.
    #[serde(with = "serde_bytes")]
    pub request: [u8; 32],
}

impl Once {
    /// From the browser's random key and all that makes this request what it is: its endpoint, whose session it came
    /// with, its body.
    pub fn new(key: &str, contents: &[&[u8]]) -> Once {
        let mut request = blake3::Hasher::new_derive_key("persona 2026-11-22 contents of a request");
        for part in [key.as_bytes()].iter().chain(contents) {
            request.update(&(part.len() as u64).to_le_bytes());
            request.update(part);
        }
        Once {
            key: blake3::derive_key("persona 2026-11-22 key of a request", key.as_bytes()),
            request: *request.finalize().as_bytes(),
        }
    }

    /// Carries a write out, unless that was done before. With the dot of what was done before.
    pub(super) fn write<W: Writing>(
        self,
        operation: &W,
        txn: &mut Txn<'_>,
    ) -> Result<Done<W::Answer>, OperationError> {
        if let Some(known) = self.recall(txn, txn.now_ms())? {
            let known = known.answer::<W::Answer>()?;
            return Ok(match known {
                Outcome::Done { value, dot } => (Ok(value), dot),
                Outcome::Refused(refusal) => (Err(refusal), None),
            });
        }
        let result = operation.write(txn)?;
        if !txn.is_empty() {
            self.remember(&result, txn)?;
        }
        Ok((result, None))
    }

    fn recall(&self, records: &impl Records, now_ms: u64) -> Result<Option<Recalled>, OperationError> {
        let mut cells = records.cells(CellKind::OUTCOME, &self.key)?;
        // Where two sites did it before either knew, the first counts, at every site.
        cells.sort_by_key(|cell| (cell.stamp, cell.slot));
        let mut live = cells.iter().filter(|cell| cell.is_live(now_ms));
        let kept = live.find_map(|cell| Kept::decode(&cell.value));
        Ok(kept.map(|kept| {
            if kept.request == self.request {
                kept.recalled
            } else {
                Recalled::Refused(Refusal::OtherRequest)
            }
        }))
    }

    fn remember<T: Serialize>(
        &self,
        result: &Result<T, Refusal>,
        txn: &mut Txn<'_>,
    ) -> Result<(), OperationError> {
        let recalled = match result {
            Ok(value) => Recalled::Done {
                dot: txn.dot(),
                value: ByteBuf::from(operations::encode(WHAT, value)?),
            },
            Err(refusal) => Recalled::Refused(*refusal),
        };
        let kept = Kept {
            format: FORMAT,
            request: self.request,
            recalled,
        };
        let value = operations::encode(WHAT, &kept)?;
        if value.len() > CELL_VALUE_BYTES_MAX {
            // No operation here answers so much. Were it so, a repeat would be a request like any other.
            return Ok(());
        }
        let cell = Cell {
            kind: CellKind::OUTCOME,
            key: self.key.to_vec(),
            slot: txn.slot(),
            stamp: txn.stamp(),
            value,
            expires_ms: txn.now_ms().saturating_add(KEEP.as_millis() as u64),
        };
        txn.put_cell(cell);
        Ok(())
    }
}

/// What a write came to, and the dot of the transaction that made it so before.
type Done<T> = (Result<T, Refusal>, Option<Dot>);

/// Looks whether a request was answered before, and how: so that what costs more than a look (the hash of a password)
/// is not done a second time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Recall {
    /// Which request.
    pub once: Once,
}

impl Operation for Recall {
    const NAME: &'static str = "recall";
    type Answer = Option<Recalled>;
}

impl Reading for Recall {
    const ACCESS: Access = Access::Write;

    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Option<Recalled>, OperationError> {
        self.once.recall(records, now_ms)
    }
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recalled {
    /// It was done.
    Done {
        /// The transaction that did it.
        dot: Dot,
        /// What it came to, encoded.
        value: ByteBuf,
    },
    /// It was refused.
    Refused(Refusal),
}

impl Recalled {
    /// The answer of an operation that answers with `T`.
    pub(super) fn answer<T: for<'de> Deserialize<'de>>(self) -> Result<Outcome<T>, OperationError> {
        Ok(match self {
            Recalled::Done { dot, value } => Outcome::Done {
                value: operations::decode(WHAT, &value)?,
                dot: Some(dot),
            },
            Recalled::Refused(refusal) => Outcome::Refused(refusal),
        })
    }
}

/// A cell's value.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "f")]
    format: u8,
    #[serde(rename = "r", with = "serde_bytes")]
    request: [u8; 32],
    #[serde(rename = "a")]
    recalled: Recalled,
}

impl Kept {
    /// What a newer version wrote in another way is as if it had not been kept.
    fn decode(value: &[u8]) -> Option<Kept> {
        let kept: Kept = operations::decode(WHAT, value).ok()?;
        (kept.format == FORMAT).then_some(kept)
    }
}

const WHAT: &str = "outcome";
/// The field `f` of an outcome's cell.
const FORMAT: u8 = 1;

/// Which request somebody makes is nobody else's business.
impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Once(..)")
    }
}

#[cfg(test)]
mod tests {
    use gossip::{ReplicaId, Writer};

    use super::*;

    /// What a cell of format 1 is, for good.
    #[track_caller]
    fn check(recalled: Recalled, sample: &str) {
        let kept = Kept {
            format: FORMAT,
            request: [9; 32],
            recalled: recalled.clone(),
        };
        let written = operations::encode(WHAT, &kept).expect("encoded");
        let hex: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, sample);
        let read = Kept::decode(&written).expect("decoded");
        assert_eq!((read.request, read.recalled), ([9; 32], recalled));
    }

    #[test]
    fn an_answer_that_is_kept_has_its_format() {
        let dot = Dot {
            writer: Writer {
                replica: ReplicaId([1; 8]),
                epoch: 2,
                nonce: [3; 8],
            },
            number: 7,
        };
        let value = ByteBuf::from(vec![0x18, 0x2a]);
        check(Recalled::Done { dot, value }, DONE);
        check(Recalled::Refused(Refusal::WrongPassword), REFUSED);
    }

    const DONE: &str = "a36166016172582009090909090909090909090909090909090909090909090909090909090909096161a164446f6e65a263646f74a266777269746572540101010101010101000000020303030303030303666e756d626572076576616c756542182a";
    const REFUSED: &str = "a36166016172582009090909090909090909090909090909090909090909090909090909090909096161a167526566757365646e77726f6e672d70617373776f7264";
}
