//! One pinned moment of a replica, as a reconciliation sees it.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
};

use crdt::{AccountId, Document, RecordKey, VaultId, VaultValue, View};
use gossip::{
    Vector,
    reconcile::{Cut, CutError, Key, PARTITIONS, StateDigest, Sums},
};

use super::{
    catch_up, damage,
    disk::{DiskRead, Family},
    group,
    layout::{self, Unsealed, meta},
    log,
    records::{self, ReadError},
    repair,
    sums::{self, DigestKey},
};

/// A [`Cut`] over one snapshot of a disk.
pub struct StoreCut<'d> {
    disk: &'d dyn DiskRead,
    key: DigestKey,
    vector: Vector,
    /// Set when the disk is wanted back: the conversation ends at its next question.
    ended: Option<&'d AtomicBool>,
}

impl<'d> StoreCut<'d> {
    /// The moment of a snapshot. There is none while a catch-up is being merged: records then hold more than the
    /// vector covers.
    pub fn new(disk: &'d dyn DiskRead, key: DigestKey) -> Result<StoreCut<'d>, ReadError> {
        if catch_up::under_way(disk)? {
            return Err(ReadError::CatchingUp);
        }
        StoreCut::pin(disk, key)
    }

    /// The moment at which a catch-up is asked for: also where an earlier one could be merged in part only. The records
    /// then hold more than the vector covers, and only another catch-up ends that.
    pub fn to_catch_up(disk: &'d dyn DiskRead, key: DigestKey) -> Result<StoreCut<'d>, ReadError> {
        if catch_up::merging(disk)? {
            return Err(ReadError::CatchingUp);
        }
        StoreCut::pin(disk, key)
    }

    fn pin(disk: &'d dyn DiskRead, key: DigestKey) -> Result<StoreCut<'d>, ReadError> {
        Ok(StoreCut {
            disk,
            key,
            vector: records::read_vector(disk, meta::VECTOR)?,
            ended: None,
        })
    }

    /// The same, until somebody ends it.
    pub(super) fn until(self, ended: &'d AtomicBool) -> StoreCut<'d> {
        StoreCut {
            ended: Some(ended),
            ..self
        }
    }

    fn disk(&self) -> Result<&'d dyn DiskRead, CutError> {
        if self.is_over() {
            return Err(CutError("the disk is being opened again".to_owned()));
        }
        Ok(self.disk)
    }
}

impl Cut for StoreCut<'_> {
    fn vector(&self) -> &Vector {
        &self.vector
    }

    fn is_over(&self) -> bool {
        self.ended.is_some_and(|ended| ended.load(Ordering::Relaxed))
    }

    fn sums(&self) -> Result<Sums, CutError> {
        let disk = self.disk()?;
        (0..PARTITIONS)
            .map(|partition| sums::read(disk, partition).map_err(refused))
            .collect()
    }

    fn elements(&self, partition: usize, visit: &mut dyn FnMut(Key, StateDigest)) -> Result<(), CutError> {
        sums::elements(self.disk()?, partition, visit)
            .map(|_| ())
            .map_err(|error| CutError(error.to_string()))
    }

    fn is_whole(&self, partition: usize) -> Result<bool, CutError> {
        sums::is_whole(self.disk()?, self.key, partition).map_err(refused)
    }

    fn touched_beyond(&self, other: &Vector) -> Result<Option<BTreeSet<Key>>, CutError> {
        let disk = self.disk()?;
        let Some(touched) = log::records_beyond(disk, other).map_err(refused)? else {
            return Ok(None);
        };
        let mut touched: BTreeSet<Key> = touched.iter().map(|key| *key.as_bytes()).collect();
        // Cancelling an account takes its values from its emails' digests, wherever the claims came from.
        let accounts: Vec<AccountId> = touched
            .iter()
            .filter_map(|key| RecordKey::from_bytes(*key).account())
            .collect();
        for account in accounts {
            if !is_cancelled(disk, account).map_err(refused)? {
                continue;
            }
            match records::read_index(disk, account, usize::MAX) {
                Ok(emails) => touched.extend(emails.into_iter().map(|id| *RecordKey::from(id).as_bytes())),
                Err(ReadError::Disk(error)) if !error.is_local() => return Err(refused(error.into())),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(touched))
    }

    fn state(&self, key: &Key) -> Result<Option<Vec<u8>>, CutError> {
        let state = RecordState::read(self.disk()?, RecordKey::from_bytes(*key)).map_err(refused)?;
        Ok(state.map(|state| state.encode()))
    }

    fn cells(&self, from: &[u8], bytes_max: usize) -> Result<(Vec<Vec<u8>>, Option<Vec<u8>>), CutError> {
        let mut cells: Vec<Vec<u8>> = Vec::new();
        let (mut bytes, mut next) = (0, None);
        damage::scan_around(self.disk()?, Family::Cells, from, &mut |key, value| {
            if bytes >= bytes_max {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            // One past its expiry that was not swept yet changes nothing where it comes to.
            if let Ok(cell) = records::decode_cell(value) {
                let cell = cell.encode();
                bytes += cell.len();
                cells.push(cell);
            }
            ControlFlow::Continue(())
        })
        .map_err(|error| CutError(error.to_string()))?;
        Ok((cells, next))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn refused(error: ReadError) -> CutError {
    CutError(error.to_string())
}

/// A record's whole state as it travels.
pub(super) struct RecordState {
    /// As it is stored; `None` if it cannot be read where the state comes from.
    pub(super) document: Option<Vec<u8>>,
    /// What its holder says of it.
    pub(super) standing: Standing,
    /// The values that it names, as far as they are there.
    pub(super) values: Vec<VaultValue>,
}

/// What the holder of a state says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// No part of it is in quarantine: all that the cut covers of this record is in it.
    Whole,
    /// All that its holder has of the record is in it. Something may be missing that its holder cannot name.
    Doubted,
    /// Something that its holder has of the record is not in it.
    Partial,
}

/// Format byte of a state, version 1: flags · length of the document (4, big-endian) · document, then each value
/// behind its length (2, big-endian). A document of no bytes is one that cannot be read.
const STATE_FORMAT: u8 = 1;
const WHOLE: u8 = 1;
const DOUBTED: u8 = 2;

impl RecordState {
    /// `None` if there is no such record. One whose document cannot be read is not passed over: whoever takes all that
    /// a cut covers has to know that it lacks this.
    fn read(disk: &dyn DiskRead, key: RecordKey) -> Result<Option<RecordState>, ReadError> {
        let unreadable = Some(RecordState {
            document: None,
            standing: Standing::Partial,
            values: Vec::new(),
        });
        let sealed = match disk.get(Family::Documents, key.as_bytes()) {
            Ok(Some(sealed)) => sealed,
            Ok(None) if group::get(disk, Family::Digests, key.as_bytes())?.is_none() => return Ok(None),
            Ok(None) => return Ok(unreadable),
            Err(error) if error.is_local() => return Ok(unreadable),
            Err(error) => return Err(error.into()),
        };
        let Ok(document) = layout::unseal(&sealed) else {
            return Ok(unreadable);
        };
        let view = group::get(disk, Family::Views, key.as_bytes())?;
        let view = view
            .as_deref()
            .and_then(|bytes| layout::unseal_view(bytes).ok())
            .flatten();
        let (view, standing) = match view.map(|bytes| records::decode_view(key, bytes)) {
            Some(Ok(view)) => (view, Standing::Whole),
            _ => {
                let loaded = key.kind().and_then(|kind| Document::load(kind, document).ok());
                let Some(loaded) = loaded else {
                    return Ok(unreadable);
                };
                let view = loaded.view();
                let doubted = view.unreadable() == 0 && repair::lacks_only_unnamed(disk, key)?;
                let standing = if doubted {
                    Standing::Doubted
                } else {
                    Standing::Partial
                };
                (view, standing)
            }
        };
        let mut values = Vec::new();
        for id in names(disk, &view)? {
            match records::read_vault(disk, id) {
                Ok(value) => values.extend(value),
                Err(ReadError::Disk(error)) if !error.is_local() => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(Some(RecordState {
            document: Some(document.to_vec()),
            standing,
            values,
        }))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let document = self.document.as_deref().unwrap_or_default();
        let mut bytes = Vec::with_capacity(document.len() + 64);
        let flags = match self.standing {
            Standing::Whole => WHOLE,
            Standing::Doubted => DOUBTED,
            Standing::Partial => 0,
        };
        bytes.extend_from_slice(&[STATE_FORMAT, flags]);
        bytes.extend_from_slice(&u32::try_from(document.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(document);
        for value in &self.values {
            let value = value.encode();
            bytes.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(&value);
        }
        bytes
    }

    /// The reverse. A value may be any: what does not prove to be one that the record names is not stored.
    pub(super) fn decode(bytes: &[u8]) -> Result<RecordState, Unsealed> {
        let ([format, flags], rest) = bytes.split_first_chunk::<2>().ok_or(Unsealed::Short)?;
        if *format != STATE_FORMAT {
            return Err(Unsealed::Format(*format));
        }
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(Unsealed::Short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Unsealed::Shape)?;
        let (document, mut rest) = rest.split_at_checked(length).ok_or(Unsealed::Short)?;
        let mut values = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk::<2>().ok_or(Unsealed::Short)?;
            let (value, behind) = behind
                .split_at_checked(u16::from_be_bytes(*length).into())
                .ok_or(Unsealed::Short)?;
            values.push(VaultValue::decode(value).map_err(|_| Unsealed::Shape)?);
            rest = behind;
        }
        Ok(RecordState {
            document: Some(document.to_vec()).filter(|document| !document.is_empty()),
            standing: if flags & WHOLE != 0 {
                Standing::Whole
            } else if flags & DOUBTED != 0 {
                Standing::Doubted
            } else {
                Standing::Partial
            },
            values,
        })
    }
}

/// What of the vault a record names.
fn names(disk: &dyn DiskRead, view: &View) -> Result<Vec<VaultId>, ReadError> {
    match view {
        View::Account(view) => Ok(view.names().to_vec()),
        View::Email(view) => view.names(|account| is_cancelled(disk, account)),
        View::Cluster(_) => Ok(Vec::new()),
    }
}

/// Whether an account is cancelled, as far as can be read.
fn is_cancelled(disk: &dyn DiskRead, account: AccountId) -> Result<bool, ReadError> {
    Ok(group::stored_account(disk, account)?.is_some_and(|view| view.cancelled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_and_a_cut_one_does_not() {
        let mut state = RecordState {
            document: Some(b"a document".to_vec()),
            standing: Standing::Partial,
            values: vec![VaultValue::new([3; 16], b"a value".to_vec())],
        };
        for standing in [Standing::Partial, Standing::Doubted, Standing::Whole] {
            state.standing = standing;
            let back = RecordState::decode(&state.encode()).expect("a state");
            assert_eq!((&back.document, back.standing), (&state.document, standing));
            assert_eq!(back.values, state.values);
        }
        let bytes = state.encode();
        let cut = (0..bytes.len()).filter(|length| RecordState::decode(&bytes[..*length]).is_ok());
        // Between the document and the value it is a state without the value.
        assert_eq!(cut.collect::<Vec<_>>(), [2 + 4 + b"a document".len()]);
    }
}
