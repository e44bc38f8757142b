//! Recomputes what a replica's derived values should be, and says where they differ.
//!
//! Views, index, digests and the vault's contents all follow from the documents. This reads everything and holds
//! one against the other: for tests after every kind of misfortune, and for whoever doubts a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use crdt::{AccountId, AccountView, Document, RecordKey, VaultId, View};
use gossip::Dot;

use super::{
    disk::{DiskRead, Family},
    layout::{self, meta},
    records::{self, ReadError},
    sums::{self, DigestKey},
};

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Records looked at.
    pub records: u64,
    /// Vault values looked at.
    pub vault_values: u64,
    /// Log entries looked at.
    pub log_entries: u64,
    /// Records with a part in quarantine: not held against the rest.
    pub quarantined: u64,
    /// What is not as it should be, a line each.
    pub findings: Vec<String>,
}

/// Findings are kept up to this many.
const FINDINGS_MAX: usize = 100;

impl Audit {
    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// With `key`, the sums of digests too.
pub(crate) fn audit(disk: &dyn DiskRead, key: Option<DigestKey>) -> Result<Audit, ReadError> {
    let mut audit = Audit::default();
    let mut views = BTreeMap::new();
    let mut heads = BTreeMap::new();
    let mut quarantined = BTreeSet::new();
    for (key, bytes) in everything(disk, Family::Documents)? {
        audit.records += 1;
        let Some(record) = record_key(&key) else {
            audit.find(format!("documents: key {key:02x?} is no record's"));
            continue;
        };
        let document = record
            .kind()
            .and_then(|kind| Document::load(kind, layout::unseal(&bytes).ok()?).ok());
        let Some(document) = document else {
            audit.find(format!("documents: {record} cannot be read"));
            continue;
        };
        match disk.get(Family::Views, &key)?.as_deref().map(layout::unseal_view) {
            Some(Ok(None)) => {
                audit.quarantined += 1;
                quarantined.insert(record);
            }
            Some(Ok(Some(view))) if view == document.view().encode() => {}
            _ => audit.find(format!("views: that of {record} is not what its document says")),
        }
        heads.insert(record, document.heads());
        views.insert(record, document.view());
    }
    let cancelled = |account: AccountId| {
        matches!(
            views.get(&account.into()),
            Some(View::Account(AccountView { cancelled: true, .. }))
        )
    };
    let mut named: BTreeMap<RecordKey, Vec<VaultId>> = BTreeMap::new();
    let mut index = BTreeSet::new();
    for (record, view) in &views {
        let names = match view {
            View::Account(view) => view.names().to_vec(),
            View::Email(view) => {
                let email = record.email();
                index.extend(email.into_iter().flat_map(|email| {
                    view.accounts()
                        .map(move |account| layout::index_key(account, email))
                        .collect::<Vec<_>>()
                }));
                let names: Result<_, ReadError> = view.names(|account| Ok(cancelled(account)));
                names?
            }
            View::Cluster(_) => Vec::new(),
        };
        named.insert(*record, names);
    }
    audit_vault(disk, &mut audit, &named)?;
    for (key, value) in everything(disk, Family::Index)? {
        if layout::unseal(&value).is_err() {
            audit.find(format!("index: {key:02x?} cannot be read"));
        }
        if !index.remove(&key) {
            audit.find(format!("index: {key:02x?} follows from no record"));
        }
    }
    for key in index {
        audit.find(format!("index: {key:02x?} is missing"));
    }
    heads.retain(|record, _| !quarantined.contains(record));
    for (record, heads) in heads {
        let mut present = Vec::new();
        for id in named.remove(&record).unwrap_or_default() {
            if disk.get(Family::Vault, id.as_bytes())?.is_some() {
                present.push(id);
            }
        }
        let stored = disk.get(Family::Digests, record.as_bytes())?;
        let stored = stored
            .as_deref()
            .and_then(|bytes| layout::unseal(bytes).ok().map(<[u8]>::to_vec));
        if stored.as_deref() != Some(&crdt::state_digest(&heads, &present)[..]) {
            audit.find(format!("digests: that of {record} is not what its document says"));
        }
    }
    for (key, value) in everything(disk, Family::Cells)? {
        if !records::decode_cell(&value)
            .is_ok_and(|cell| key == layout::cell_key(cell.kind, &cell.key, cell.slot))
        {
            audit.find(format!("cells: {key:02x?} cannot be read"));
        }
    }
    if let Some(key) = key {
        for (partition, sum) in sums::all(disk, key)?.into_iter().enumerate() {
            if sums::read(disk, partition).ok() != Some(sum) {
                audit.find(format!(
                    "sums: that of partition {partition} is not what the digests come to"
                ));
            }
        }
    }
    audit_log(disk, &mut audit)?;
    // What is in there the views tell. But whether anything is shows only where it can be read.
    for family in [Family::Quarantine, Family::Side] {
        everything(disk, family)?;
    }
    Ok(audit)
}

/// Present and named are the same, both ways, and every value proves itself.
fn audit_vault(
    disk: &dyn DiskRead,
    audit: &mut Audit,
    named: &BTreeMap<RecordKey, Vec<VaultId>>,
) -> Result<(), ReadError> {
    let mut missing: BTreeSet<VaultId> = named.values().flatten().copied().collect();
    for (key, _) in everything(disk, Family::Vault)? {
        audit.vault_values += 1;
        let Ok(id) = <[u8; 16]>::try_from(&key[..]).map(VaultId::from_bytes) else {
            audit.find(format!("vault: key {key:02x?} is no id"));
            continue;
        };
        if let Err(error) = records::read_vault(disk, id) {
            audit.find(format!("vault: {error}"));
        }
        if !missing.remove(&id) {
            audit.find(format!("vault: {id} is there, and nothing names it"));
        }
    }
    for id in missing {
        audit.find(format!("vault: {id} is named, and not there"));
    }
    Ok(())
}

/// What the vector covers and has not been trimmed is in the log, whole, chained, in causal order.
fn audit_log(disk: &dyn DiskRead, audit: &mut Audit) -> Result<(), ReadError> {
    let mut last = BTreeMap::new();
    let trimmed = records::read_vector(disk, meta::TRIMMED)?;
    for (key, bytes) in everything(disk, Family::Log)? {
        audit.log_entries += 1;
        let entry = layout::unseal(&bytes).and_then(layout::log_entry);
        let decoded = entry.ok().and_then(|(dot, bytes)| {
            let envelope = gossip::Envelope::decode(bytes).ok()?;
            (envelope.dot == dot).then(|| (envelope, gossip::transaction_hash(bytes)))
        });
        let Some((envelope, hash)) = decoded else {
            audit.find(format!("log: place {key:02x?} cannot be read"));
            continue;
        };
        let dot = envelope.dot;
        if disk.get(Family::Dots, &layout::dot_key(&dot))? != Some(layout::seal(&key)) {
            audit.find(format!(
                "dots: {} {} does not lead to its place",
                dot.writer, dot.number
            ));
        }
        // Where states took the place of transactions, those were never in this log.
        let skipped = Dot {
            writer: dot.writer,
            number: dot.number.saturating_sub(1),
        };
        if let Some((number, predecessor)) = last.insert(dot.writer, (dot.number, hash))
            && (dot.number != number + 1 || envelope.predecessor != predecessor)
            && !(dot.number > number + 1 && trimmed.covers(&skipped))
        {
            audit.find(format!(
                "log: {} {} does not follow {number}",
                dot.writer, dot.number
            ));
        }
    }
    for (key, bytes) in everything(disk, Family::Meta)? {
        let Some(writer) = key.strip_prefix(meta::VECTOR) else {
            continue;
        };
        let (writer, tip) = (layout::writer(writer)?, layout::tip(layout::unseal(&bytes)?)?);
        let all_trimmed = trimmed
            .get(&writer)
            .is_some_and(|trimmed| trimmed.number == tip.number);
        match last.remove(&writer) {
            Some((number, hash)) if number == tip.number && hash == tip.hash => {}
            Some(_) | None if all_trimmed => {}
            None => audit.find(format!("log: nothing of {writer} up to {}", tip.number)),
            Some((number, _)) => {
                audit.find(format!(
                    "log: {writer} ends at {number}, its vector entry says {}",
                    tip.number
                ));
            }
        }
    }
    for (writer, (number, _)) in last.into_iter().filter(|(writer, _)| !trimmed.folded(writer)) {
        audit.find(format!(
            "log: {writer} has {number} transactions, and no vector entry"
        ));
    }
    Ok(())
}

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

fn everything(disk: &dyn DiskRead, family: Family) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    disk.scan(family, &[], &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

fn record_key(key: &[u8]) -> Option<RecordKey> {
    Some(RecordKey::from_bytes(key.try_into().ok()?))
}
