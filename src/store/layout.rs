//! How keys and values lie on the disk: `STORAGE.md` in code.
//!
//! Every stored value is `format · payload · checksum`: one byte, the payload, and the CRC-32 of both, little-endian.
//! RocksDB checks its blocks as well; this checksum travels with the value, and so also covers what a bug or an
//! operator did to it on the way.

use std::collections::BTreeMap;

use crdt::{AccountId, CellKind, EmailId, RecordKey, VaultId};
use gossip::{Dot, Floor, ReplicaId, Tip, Vector, Writer};

/// The format of the data directory as a whole. A newer one is refused, an older one is converted when opened.
pub(super) const STORE_FORMAT: u32 = 1;

/// Format byte of an ordinary value, version 1 of its family.
const PLAIN: u8 = 1;
/// Format byte of a view whose record has a part in quarantine: it is not served.
const QUARANTINED: u8 = 0xff;

const CHECKSUM_BYTES: usize = 4;
/// A writer and its tip.
const ENTRY_BYTES: usize = 36;

/// Why stored bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsealed {
    /// Shorter than the frame around any value.
    #[error("a stored value is too short")]
    Short,
    /// The checksum does not match: the bytes were altered since they were written.
    #[error("a stored value does not match its checksum")]
    Checksum,
    /// A format that this build does not know.
    #[error("a stored value has the unknown format {0}")]
    Format(u8),
    /// The payload is not of the shape that its format promises.
    #[error("a stored value is malformed")]
    Shape,
}

/// Frames a payload.
pub(super) fn seal(payload: &[u8]) -> Vec<u8> {
    frame(PLAIN, payload)
}

/// The view of a record of which a part is in quarantine, or whose document is damaged: in the latter case with the
/// last view that was known, which alone still tells what of the vault the record names.
pub(super) fn seal_quarantined(last_known: &[u8]) -> Vec<u8> {
    frame(QUARANTINED, last_known)
}

fn frame(format: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(payload.len() + 1 + CHECKSUM_BYTES);
    bytes.push(format);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Takes the frame off.
pub(crate) fn unseal(bytes: &[u8]) -> Result<&[u8], Unsealed> {
    match unseal_view(bytes)? {
        Some(payload) => Ok(payload),
        None => Err(Unsealed::Format(QUARANTINED)),
    }
}

/// Takes the frame off a view; `None` says that the record is in quarantine.
pub(super) fn unseal_view(bytes: &[u8]) -> Result<Option<&[u8]>, Unsealed> {
    let (format, payload) = frame_of(bytes)?;
    Ok((format == PLAIN).then_some(payload))
}

/// The last view that was known of a record, also if it is in quarantine now; `None` if there was none.
pub(super) fn last_view(bytes: &[u8]) -> Result<Option<&[u8]>, Unsealed> {
    let (_, payload) = frame_of(bytes)?;
    Ok((!payload.is_empty()).then_some(payload))
}

fn frame_of(bytes: &[u8]) -> Result<(u8, &[u8]), Unsealed> {
    let (framed, checksum) = bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .ok_or(Unsealed::Short)?;
    let (format, payload) = framed.split_first().ok_or(Unsealed::Short)?;
    if crc32fast::hash(framed).to_le_bytes() != *checksum {
        return Err(Unsealed::Checksum);
    }
    match *format {
        PLAIN | QUARANTINED => Ok((*format, payload)),
        other => Err(Unsealed::Format(other)),
    }
}

/// Keys of [`Family::Meta`](super::disk::Family::Meta).
pub(super) mod meta {
    /// → this replica's id, 8 bytes.
    pub(in crate::store) const REPLICA: &[u8] = b"replica";
    /// → the greatest HLC ever given out or taken over, 8 bytes big-endian.
    pub(in crate::store) const CLOCK: &[u8] = b"clock";
    /// → the next free place in the log, 8 bytes big-endian.
    pub(in crate::store) const PLACE: &[u8] = b"place";
    /// → what the next transaction of this replica follows: (writer, tip) after (writer, tip).
    pub(in crate::store) const FOLLOWS: &[u8] = b"follows";
    /// Prefix of this replica's starts: `start/` · place (4 bytes big-endian) → writer.
    pub(in crate::store) const START: &[u8] = b"start/";
    /// Prefix of the version vector: `vector/` · writer → tip.
    pub(in crate::store) const VECTOR: &[u8] = b"vector/";
    /// Prefix of the vector's floors: `floor/` · replica → epoch, transactions, digest.
    pub(in crate::store) const FLOOR: &[u8] = b"floor/";
    /// Prefix of what has been trimmed from the log: `trimmed/` · writer → tip.
    pub(in crate::store) const TRIMMED: &[u8] = b"trimmed/";
    /// → fingerprint of the key that the partitions' sums are made with, 8 bytes. Without it there are none.
    pub(in crate::store) const SUMS: &[u8] = b"sums";
    /// → bytes that the log's entries take, 8 bytes big-endian.
    pub(in crate::store) const LOG_BYTES: &[u8] = b"log-bytes";
    /// → how far a catch-up has come, 1 byte, and the cut that it brings: there while one is under way.
    pub(in crate::store) const ASIDE: &[u8] = b"aside";
}

/// `prefix · suffix`.
pub(super) fn join(prefix: &[u8], suffix: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + suffix.len());
    key.extend_from_slice(prefix);
    key.extend_from_slice(suffix);
    key
}

/// A writer's last number and hash, as a payload.
pub(super) fn tip_payload(tip: Tip) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&tip.number.to_be_bytes());
    bytes[8..].copy_from_slice(&tip.hash);
    bytes
}

/// The reverse of [`tip_payload`].
pub(super) fn tip(payload: &[u8]) -> Result<Tip, Unsealed> {
    let (number, rest) = payload.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
    let hash = rest.try_into().map_err(|_| Unsealed::Shape)?;
    Ok(Tip {
        number: u64::from_be_bytes(*number),
        hash,
    })
}

/// Vector entries, as a payload.
pub(super) fn entries_payload(entries: &BTreeMap<Writer, Tip>) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(writer, tip)| writer.to_bytes().into_iter().chain(tip_payload(*tip)))
        .collect()
}

/// The reverse of [`entries_payload`].
pub(super) fn entries(payload: &[u8]) -> Result<Vec<(Writer, Tip)>, Unsealed> {
    let (entries, []) = payload.as_chunks::<ENTRY_BYTES>() else {
        return Err(Unsealed::Shape);
    };
    entries
        .iter()
        .map(|entry| Ok((writer(&entry[..20])?, tip(&entry[20..])?)))
        .collect()
}

/// What is left of a replica's older writers, as a payload.
pub(super) fn floor_payload(floor: Floor) -> Vec<u8> {
    [
        &floor.epoch.to_be_bytes()[..],
        &floor.transactions.to_be_bytes(),
        &floor.digest,
    ]
    .concat()
}

/// The reverse of [`floor_payload`].
pub(super) fn floor(payload: &[u8]) -> Result<Floor, Unsealed> {
    let (epoch, rest) = payload.split_first_chunk::<4>().ok_or(Unsealed::Shape)?;
    let (transactions, rest) = rest.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
    Ok(Floor {
        epoch: u32::from_be_bytes(*epoch),
        transactions: u64::from_be_bytes(*transactions),
        digest: rest.try_into().map_err(|_| Unsealed::Shape)?,
    })
}

/// A whole vector, as a payload: how many entries, the entries, the floors with their replicas.
pub(super) fn vector_payload(vector: &Vector) -> Vec<u8> {
    let entries: BTreeMap<Writer, Tip> = vector.iter().collect();
    let mut bytes = (entries.len() as u64).to_be_bytes().to_vec();
    bytes.extend(entries_payload(&entries));
    for (replica, known) in vector.floors() {
        bytes.extend_from_slice(&replica.0);
        bytes.extend(floor_payload(known));
    }
    bytes
}

/// The reverse of [`vector_payload`].
pub(super) fn vector(payload: &[u8]) -> Result<Vector, Unsealed> {
    let (count, rest) = payload.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
    let entries_bytes = usize::try_from(u64::from_be_bytes(*count))
        .ok()
        .and_then(|count| count.checked_mul(ENTRY_BYTES))
        .ok_or(Unsealed::Shape)?;
    let (known, rest) = rest.split_at_checked(entries_bytes).ok_or(Unsealed::Shape)?;
    let mut vector: Vector = entries(known)?.into_iter().collect();
    let (floors, []) = rest.as_chunks::<28>() else {
        return Err(Unsealed::Shape);
    };
    for bytes in floors {
        let (replica, known) = bytes.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
        vector.adopt_floor(ReplicaId(*replica), floor(known)?);
    }
    Ok(vector)
}

/// A writer from the end of a key.
pub(super) fn writer(bytes: &[u8]) -> Result<Writer, Unsealed> {
    Ok(Writer::from_bytes(bytes.try_into().map_err(|_| Unsealed::Shape)?))
}

/// Big-endian, so that keys sort as numbers do.
pub(super) fn number_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The reverse of [`number_key`].
pub(super) fn number(bytes: &[u8]) -> Result<u64, Unsealed> {
    Ok(u64::from_be_bytes(bytes.try_into().map_err(|_| Unsealed::Shape)?))
}

/// Key of [`Family::Dots`](super::disk::Family::Dots).
pub(super) fn dot_key(dot: &Dot) -> Vec<u8> {
    join(&dot.writer.to_bytes(), &number_key(dot.number))
}

/// A value of the log: the dot first, so that trimming and serving need not decode the transaction.
pub(super) fn log_payload(dot: &Dot, transaction: &[u8]) -> Vec<u8> {
    join(&dot_key(dot), transaction)
}

/// The reverse of [`log_payload`].
pub(super) fn log_entry(payload: &[u8]) -> Result<(Dot, &[u8]), Unsealed> {
    let (writer_bytes, rest) = payload.split_first_chunk::<20>().ok_or(Unsealed::Shape)?;
    let (number_bytes, transaction) = rest.split_first_chunk::<8>().ok_or(Unsealed::Shape)?;
    let dot = Dot {
        writer: Writer::from_bytes(*writer_bytes),
        number: u64::from_be_bytes(*number_bytes),
    };
    Ok((dot, transaction))
}

/// Key of [`Family::Index`](super::disk::Family::Index).
pub(super) fn index_key(account: AccountId, email: EmailId) -> Vec<u8> {
    join(account.as_bytes(), email.as_bytes())
}

/// The email in an index key.
pub(super) fn indexed_email(key: &[u8]) -> Result<EmailId, Unsealed> {
    let bytes = key
        .get(15..)
        .and_then(|tail| tail.try_into().ok())
        .ok_or(Unsealed::Shape)?;
    Ok(EmailId::from_bytes(bytes))
}

/// Prefix of the cells of one kind and key, over all slots: kind, length of the key, key.
pub(super) fn cell_prefix(kind: CellKind, key: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind.0, u8::try_from(key.len()).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(key);
    bytes
}

/// Key of [`Family::Cells`](super::disk::Family::Cells).
pub(super) fn cell_key(kind: CellKind, key: &[u8], slot: [u8; 8]) -> Vec<u8> {
    join(&cell_prefix(kind, key), &slot)
}

/// Key of [`Family::Quarantine`](super::disk::Family::Quarantine): the record, and the place in the log of the
/// transaction that the part came with.
pub(super) fn quarantine_key(record: RecordKey, place: u64) -> Vec<u8> {
    join(record.as_bytes(), &number_key(place))
}

/// In [`Family::Side`](super::disk::Family::Side), behind the number of the catch-up: states, by record key.
pub(super) const SIDE_STATES: &[u8] = b"s";
/// And cells, by their own keys, behind the states.
pub(super) const SIDE_CELLS: &[u8] = b"t";

/// Key of [`Family::Sums`](super::disk::Family::Sums).
pub(super) fn sums_key(partition: u16) -> [u8; 2] {
    partition.to_be_bytes()
}

/// Key of [`Family::Vault`](super::disk::Family::Vault).
pub(super) fn vault_key(id: VaultId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_sealed_value_is_noticed() {
        let sealed = seal(b"a value");
        assert_eq!(unseal(&sealed), Ok(&b"a value"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(unseal(&sealed[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_quarantined_view_is_not_a_value() {
        let sealed = seal_quarantined(b"the last view");
        assert_eq!(unseal_view(&sealed), Ok(None));
        assert_eq!(unseal(&sealed), Err(Unsealed::Format(QUARANTINED)));
        assert_eq!(last_view(&sealed), Ok(Some(&b"the last view"[..])));
        assert_eq!(last_view(&seal_quarantined(&[])), Ok(None));
    }
}
