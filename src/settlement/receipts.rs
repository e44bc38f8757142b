//! Who has forgotten an account: one receipt per member, as cells that any site can list.

use std::collections::BTreeMap;

use crdt::{
    AccountId, Cell, CellKind, ClusterView, ERASED_SCOPE, Erased, Member, MemberId, MemberState,
    RETRACTED_SCOPE,
};
use serde::{Deserialize, Serialize};

use super::WaitsFor;
use crate::store::{RECEIPT_MS, ReadError, Records, Txn};

/// Writes this member's receipts for accounts of which nothing is left on its disk, unless something of one comes in the same
/// batch: it was on its way to the disk when that was looked for.
pub(crate) fn give(txn: &mut Txn<'_>, member: MemberId, accounts: &[AccountId]) {
    txn.urgent();
    let at_ms = txn.now_ms();
    let receipt = Erased {
        member,
        at_ms,
        scope: ERASED_SCOPE,
    };
    for account in accounts {
        if txn.is_recalled(*account) {
            continue;
        }
        txn.put_cell(Cell {
            kind: CellKind::ERASED,
            key: account.as_bytes().to_vec(),
            slot: txn.slot(),
            stamp: txn.stamp(),
            value: receipt.encode(),
            expires_ms: at_ms.saturating_add(RECEIPT_MS),
        });
    }
}

/// The accounts among these of which this member gave a receipt for a disk that it has no more: it was put back to a
/// backup since, which may hold what was gone, under another replica id.
pub(crate) fn of_former_disks(
    records: &impl Records,
    member: MemberId,
    slot: [u8; 8],
    accounts: &[AccountId],
) -> Result<Vec<AccountId>, ReadError> {
    let mut found = Vec::new();
    for account in accounts {
        if !former(records, member, slot, *account)?.is_empty() {
            found.push(*account);
        }
    }
    Ok(found)
}

fn former(
    records: &impl Records,
    member: MemberId,
    slot: [u8; 8],
    account: AccountId,
) -> Result<Vec<Cell>, ReadError> {
    let mut cells = records.cells(CellKind::ERASED, account.as_bytes())?;
    cells.retain(|cell| {
        let receipt = Erased::decode(&cell.value);
        let holds = |receipt: Erased| receipt.member == member && receipt.scope != RETRACTED_SCOPE;
        cell.slot != slot && receipt.is_ok_and(holds)
    });
    Ok(cells)
}

/// Says everywhere that the receipts of this member's former disks do not hold any more.
pub(crate) fn retract(txn: &mut Txn<'_>, member: MemberId, accounts: &[AccountId]) -> Result<(), ReadError> {
    txn.urgent();
    let retracted = Erased {
        member,
        at_ms: txn.now_ms(),
        scope: RETRACTED_SCOPE,
    };
    for account in accounts {
        for cell in former(txn, member, txn.slot(), *account)? {
            txn.put_cell(Cell {
                stamp: txn.stamp(),
                value: retracted.encode(),
                ..cell
            });
        }
    }
    Ok(())
}

/// How far the erasure of a cancelled account is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReport {
    /// The account.
    pub account: String,
    /// Whether it is cancelled here. If not, there is nothing to erase.
    pub cancelled: bool,
    /// Every member that holds data has given its receipt.
    pub complete: bool,
    /// Each of those members.
    pub members: Vec<MemberErasure>,
    /// Members that were put out and have not come back with their data, by name. They give no receipt: their disks may hold
    /// it, and what only they have of it may still be handed over, which would begin the erasure again.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub put_out: Vec<String>,
}

/// How far one member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberErasure {
    /// The site that it is in.
    pub site: String,
    /// Its name.
    pub name: String,
    /// Its id.
    pub member: String,
    /// When the last of the account was gone from its disk, by its own clock, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub erased_at_ms: Option<u64>,
    /// What it still waits for; of others one knows only that their receipt has not come.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits_for: Option<String>,
}

/// Reads it; `None` if no such account is known here. `waits_for` is what this member itself waits for.
///
/// # Errors
/// When a record cannot be read.
pub fn report(
    records: &impl Records,
    own: MemberId,
    account: AccountId,
    waits_for: WaitsFor,
) -> Result<Option<ErasureReport>, ReadError> {
    let Some(view) = records.account(account)? else {
        return Ok(None);
    };
    let mut receipts: BTreeMap<MemberId, u64> = BTreeMap::new();
    for cell in records.cells(CellKind::ERASED, account.as_bytes())? {
        // One that a newer version wrote in another form says nothing here.
        if let Ok(Erased { member, at_ms, scope }) = Erased::decode(&cell.value)
            && scope != RETRACTED_SCOPE
        {
            let latest = receipts.entry(member).or_insert(at_ms);
            *latest = at_ms.max(*latest);
        }
    }
    let cluster = records.cluster()?;
    let holds = |state| matches!(state, MemberState::Active | MemberState::Leaving);
    let mut members: Vec<MemberErasure> = cluster
        .members
        .values()
        .filter(|member| holds(member.state))
        .map(|member| {
            let erased_at_ms = receipts.get(&member.id).copied();
            let waits_for = match erased_at_ms {
                Some(_) => None,
                None if !view.cancelled => Some("nothing: the account is not cancelled".to_owned()),
                None if member.id == own => Some(waits_for.to_string()),
                None => Some("its receipt has not come".to_owned()),
            };
            MemberErasure {
                site: member.site.clone(),
                name: member.name.clone(),
                member: member.id.to_string(),
                erased_at_ms,
                waits_for,
            }
        })
        .collect();
    members.sort_by(|one, other| (&one.site, &one.name).cmp(&(&other.site, &other.name)));
    Ok(Some(ErasureReport {
        account: account.to_string(),
        cancelled: view.cancelled,
        complete: view.cancelled
            && !members.is_empty()
            && members.iter().all(|member| member.erased_at_ms.is_some()),
        members,
        put_out: put_out(&cluster),
    }))
}

fn put_out(cluster: &ClusterView) -> Vec<String> {
    let is_back = |member: &Member| {
        let mut inside = cluster.members.values().filter(|other| !other.is_out());
        inside.any(|other| other.keys.iter().any(|key| member.keys.contains(key)))
    };
    let members = cluster.members.values();
    members
        .filter(|member| member.evicted.is_some() && !is_back(member))
        .map(|member| member.name.clone())
        .collect()
}
