//! Reading what the records say, through one snapshot.
//!
//! Nothing here touches Automerge: a read is one key lookup and the decoding of a small view. What spans records
//! (who owns an address, whether the claim is verified) is computed when read, from the same snapshot.

use std::{collections::BTreeSet, ops::ControlFlow};

use crdt::{
    AccountId, AccountView, Cell, CellKind, ClusterView, EmailId, EmailView, Ownership, RecordKey,
    RecordKind, Standing, VaultId, VaultValue, View,
};
use gossip::{Floor, ReplicaId, Vector};

use super::{
    damage,
    disk::{DiskError, DiskRead, Family},
    layout::{self, Unsealed, meta},
};

/// Cells read for one kind and key at most: one slot per replica that ever wrote it, while it lives.
pub(super) const CELL_SLOTS_MAX: usize = 256;
/// Emails read of one account at most.
pub(super) const EMAILS_READ_MAX: usize = 1024;

/// Why a record could not be read. Retrying here will not help; another site may serve it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum ReadError {
    /// A part of the record could not be merged: the missing part may be a reset, so the rest is not served.
    #[error("record {key} has a part in quarantine here")]
    Quarantined {
        /// Which record.
        key: RecordKey,
    },
    /// The bytes on disk are not what was written.
    #[error("a stored value is damaged: {0}")]
    Corrupt(String),
    /// The disk does not answer.
    #[error("the store cannot be read")]
    Disk(#[from] DiskError),
    /// What this replica missed is being merged: its records and its vector do not fit together yet.
    #[error("this replica is taking in what it missed")]
    CatchingUp,
}

impl From<Unsealed> for ReadError {
    fn from(error: Unsealed) -> ReadError {
        ReadError::Corrupt(error.to_string())
    }
}

/// What can be asked of a replica's records: by a reader through a [`Snapshot`], by a local write through its
/// [`Txn`](super::Txn).
pub trait Records {
    /// What an account's record says; `None` if there is none here.
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, ReadError>;

    /// What an email's record says; `None` if there is none here.
    fn email(&self, id: EmailId) -> Result<Option<EmailView>, ReadError>;

    /// Members, keys and settings.
    fn cluster(&self) -> Result<ClusterView, ReadError>;

    /// A vault value; `None` if it was erased or never arrived.
    fn vault(&self, id: VaultId) -> Result<Option<Vec<u8>>, ReadError>;

    /// The emails with a surviving claim of this account, losers included.
    fn emails_of(&self, id: AccountId) -> Result<Vec<EmailId>, ReadError>;

    /// The cells of one kind and key, a slot each, also those past their expiry.
    fn cells(&self, kind: CellKind, key: &[u8]) -> Result<Vec<Cell>, ReadError>;

    /// What the rest of the world's rules need to know of an account. One that is not here stands as new.
    fn standing(&self, id: AccountId) -> Result<Standing, ReadError> {
        Ok(standing_of(self.account(id)?.as_ref()))
    }

    /// Who owns an address now.
    fn owner_of<'v>(&self, email: &'v EmailView) -> Result<Ownership<'v>, ReadError> {
        email.owner(|account| self.standing(account))
    }
}

/// The standing of an account from its view.
pub fn standing_of(view: Option<&AccountView>) -> Standing {
    view.map_or(
        Standing {
            cancelled: false,
            resets: 0,
        },
        |view| Standing {
            cancelled: view.cancelled,
            resets: view.resets(),
        },
    )
}

/// One moment of a replica.
pub struct Snapshot<'a> {
    disk: &'a dyn DiskRead,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn new(disk: &'a dyn DiskRead) -> Snapshot<'a> {
        Snapshot { disk }
    }

    /// The disk below, for what is not a record: digests, the log.
    pub(super) fn disk(&self) -> &'a dyn DiskRead {
        self.disk
    }
}

/// Reads a view from its family.
pub(super) fn read_view<T>(
    disk: &dyn DiskRead,
    key: RecordKey,
    decode: impl FnOnce(&[u8]) -> Result<T, crdt::DecodeError>,
) -> Result<Option<T>, ReadError> {
    let Some(bytes) = disk.get(Family::Views, key.as_bytes())? else {
        return Ok(None);
    };
    let payload = layout::unseal_view(&bytes)?.ok_or(ReadError::Quarantined { key })?;
    decode(payload)
        .map(Some)
        .map_err(|error| ReadError::Corrupt(format!("view of {key}: {error}")))
}

/// A view of a record of any kind.
pub(super) fn decode_view(key: RecordKey, bytes: &[u8]) -> Result<View, ReadError> {
    let decoded = match key.kind() {
        Some(RecordKind::Account) => AccountView::decode(bytes).map(View::Account),
        Some(RecordKind::Email) => EmailView::decode(bytes).map(View::Email),
        Some(RecordKind::Cluster) => ClusterView::decode(bytes).map(View::Cluster),
        None => return Err(Unsealed::Shape.into()),
    };
    decoded.map_err(|error| ReadError::Corrupt(format!("view of {key}: {error}")))
}

/// Reads a vault value, and sees that it is the one that its id names.
pub(super) fn read_vault(disk: &dyn DiskRead, id: VaultId) -> Result<Option<VaultValue>, ReadError> {
    let Some(bytes) = disk.get(Family::Vault, id.as_bytes())? else {
        return Ok(None);
    };
    let value = VaultValue::decode(layout::unseal(&bytes)?)
        .map_err(|error| ReadError::Corrupt(format!("vault value {id}: {error}")))?;
    if value.id() != id {
        return Err(ReadError::Corrupt(format!(
            "vault value {id} does not prove itself"
        )));
    }
    Ok(Some(value))
}

/// Visits the keys that begin with `prefix`, in order, with a visitor that may fail.
pub(super) fn try_scan(
    disk: &dyn DiskRead,
    family: Family,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, ReadError>,
) -> Result<(), ReadError> {
    let mut failed = None;
    disk.scan_prefix(family, prefix, &mut |key, value| {
        visit(key, value).unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
}

/// The index of one account, from the disk.
pub(super) fn read_index(
    disk: &dyn DiskRead,
    id: AccountId,
    emails_max: usize,
) -> Result<Vec<EmailId>, ReadError> {
    let mut emails = Vec::new();
    try_scan(disk, Family::Index, id.as_bytes(), |key, _| {
        emails.push(layout::indexed_email(key)?);
        Ok(if emails.len() < emails_max {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(emails)
}

/// All of them that can be read, and how many blocks were passed over that may hide others.
pub(super) fn read_index_around(
    disk: &dyn DiskRead,
    id: AccountId,
) -> Result<(BTreeSet<EmailId>, usize), ReadError> {
    let mut emails = BTreeSet::new();
    let gaps = damage::scan_prefix_around(disk, Family::Index, id.as_bytes(), &mut |key, _| {
        // A key that is no email's follows from no record: whoever reads everything again removes it.
        emails.extend(layout::indexed_email(key));
        ControlFlow::Continue(())
    })?;
    Ok((emails, gaps))
}

/// The cells of one kind and key, from the disk. A damaged cell is worth no more than none.
pub(super) fn read_cells(disk: &dyn DiskRead, kind: CellKind, key: &[u8]) -> Result<Vec<Cell>, ReadError> {
    let prefix = layout::cell_prefix(kind, key);
    let mut cells = Vec::new();
    damage::scan_prefix_around(disk, Family::Cells, &prefix, &mut |_, value| {
        if cells.len() == CELL_SLOTS_MAX {
            return ControlFlow::Break(());
        }
        cells.extend(decode_cell(value));
        ControlFlow::Continue(())
    })?;
    Ok(cells)
}

/// The floors of this replica's vector.
pub(super) fn read_floors(disk: &dyn DiskRead) -> Result<Vec<(ReplicaId, Floor)>, ReadError> {
    let mut floors = Vec::new();
    try_scan(disk, Family::Meta, meta::FLOOR, |key, value| {
        let replica = key[meta::FLOOR.len()..].try_into().map_err(|_| Unsealed::Shape)?;
        floors.push((ReplicaId(replica), layout::floor(layout::unseal(value)?)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(floors)
}

/// The vector of the disk's moment, or, under [`meta::TRIMMED`], what its log does not hold any more.
pub(super) fn read_vector(disk: &dyn DiskRead, prefix: &[u8]) -> Result<Vector, ReadError> {
    let mut vector = Vector::new();
    for (replica, floor) in read_floors(disk)? {
        vector.adopt_floor(replica, floor);
    }
    try_scan(disk, Family::Meta, prefix, |key, value| {
        vector.set(
            layout::writer(&key[prefix.len()..])?,
            layout::tip(layout::unseal(value)?)?,
        );
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(vector)
}

/// A stored cell.
pub(super) fn decode_cell(value: &[u8]) -> Result<Cell, ReadError> {
    Cell::decode(layout::unseal(value)?).map_err(|error| ReadError::Corrupt(format!("cell: {error}")))
}

impl Records for Snapshot<'_> {
    fn account(&self, id: AccountId) -> Result<Option<AccountView>, ReadError> {
        read_view(self.disk, id.into(), AccountView::decode)
    }

    fn email(&self, id: EmailId) -> Result<Option<EmailView>, ReadError> {
        read_view(self.disk, id.into(), EmailView::decode)
    }

    fn cluster(&self) -> Result<ClusterView, ReadError> {
        Ok(read_view(self.disk, RecordKey::CLUSTER, ClusterView::decode)?.unwrap_or_default())
    }

    fn vault(&self, id: VaultId) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(read_vault(self.disk, id)?.map(|value| value.data))
    }

    fn emails_of(&self, id: AccountId) -> Result<Vec<EmailId>, ReadError> {
        read_index(self.disk, id, EMAILS_READ_MAX)
    }

    fn cells(&self, kind: CellKind, key: &[u8]) -> Result<Vec<Cell>, ReadError> {
        read_cells(self.disk, kind, key)
    }
}
