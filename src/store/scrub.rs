//! Reading everything again, before someone needs it.
//!
//! A disk forgets in silence: a byte that nobody reads may have been wrong for months. So every stored value is read
//! again over a period, a little at a time between groups. What follows from something else is made again where it is
//! wrong. What does not (a document, a vault value) is marked, so that it is not served, and so that the digest says
//! that it is missing: the next look at a peer brings it.

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
};

use crdt::{AccountId, EmailView, RecordKey, VaultId, View};
use gossip::{Dot, reconcile::PARTITIONS};

use super::{
    damage,
    disk::{Batch, DiskRead, Family},
    group::{self, Group},
    holes::LogPass,
    layout,
    ledger::Ledger,
    records::{self, ReadError},
    sums,
    work::Committed,
};

/// Findings kept of one pass.
const FINDINGS_MAX: usize = 64;
/// With more vault values named than this, those that nothing names are not looked for: it would take too much
/// memory. (A value takes some ten bytes.)
const NAMED_MAX: usize = 8_000_000;

/// What reading everything again came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ScrubReport {
    /// Values read.
    pub values: u64,
    /// Bytes of them, keys included.
    pub bytes: u64,
    /// What was wrong and has been made again from what it follows from.
    pub mended: u64,
    /// What was wrong and can only come from another replica, or not at all.
    pub damaged: u64,
    /// Blocks of tables that cannot be read. What they held comes from other replicas, but the blocks stay until the
    /// directory is emptied and filled again.
    #[serde(default)]
    pub unreadable: u64,
    /// Everything was read; otherwise the pass is still under way.
    pub complete: bool,
    /// What was wrong, a line each: the first of it.
    pub findings: Vec<String>,
}

impl ScrubReport {
    pub(super) fn mended(&mut self, finding: impl FnOnce() -> String) {
        self.mended += 1;
        self.note(finding);
    }

    pub(super) fn damaged(&mut self, finding: impl FnOnce() -> String) {
        self.damaged += 1;
        self.note(finding);
    }

    fn unreadable(&mut self, blocks: usize, of: &str) {
        self.unreadable += blocks as u64;
        self.note(|| format!("{blocks} blocks of {of} cannot be read"));
    }

    fn note(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }
}

/// Where a pass is.
#[derive(Default)]
pub(super) struct Scrub {
    stage: Stage,
    /// The key to go on from.
    from: Vec<u8>,
    report: ScrubReport,
    named: Named,
    log: LogPass,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Stage {
    #[default]
    Records,
    Index,
    Vault,
    Cells,
    Log,
    Dots,
    Quarantine,
    Side,
    Sums,
}

impl Stage {
    fn next(self) -> Option<Stage> {
        match self {
            Stage::Records => Some(Stage::Index),
            Stage::Index => Some(Stage::Vault),
            Stage::Vault => Some(Stage::Cells),
            Stage::Cells => Some(Stage::Log),
            Stage::Log => Some(Stage::Dots),
            Stage::Dots => Some(Stage::Quarantine),
            Stage::Quarantine => Some(Stage::Side),
            Stage::Side => Some(Stage::Sums),
            Stage::Sums => None,
        }
    }
}

/// The vault values that records named during this pass, by their first eight bytes: one that is among them by
/// chance stays for a pass or for ever, which is one in billions. `unknown`: a record could not be read, and may
/// name any.
#[derive(Default)]
struct Named {
    ids: HashSet<u64>,
    unknown: bool,
}

impl Named {
    fn add(&mut self, id: &VaultId) {
        if self.ids.len() < NAMED_MAX {
            self.ids.insert(short(id));
        } else {
            self.unknown = true;
        }
    }

    fn may_hold(&self, id: &VaultId) -> bool {
        self.unknown || self.ids.contains(&short(id))
    }
}

fn short(id: &VaultId) -> u64 {
    id.as_bytes()
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// What one step read, and what it made of it.
pub(super) struct Step<'s> {
    pub(super) report: &'s mut ScrubReport,
    pub(super) bytes_left: u64,
}

impl Step<'_> {
    fn read(&mut self, key: &[u8], value: &[u8]) {
        let bytes = (key.len() + value.len()) as u64;
        self.report.values += 1;
        self.report.bytes += bytes;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }
}

impl Ledger {
    /// Reads about so many bytes again; the report of a pass is in `committed`. Alone in its group: what it looks at is as
    /// the disk has it.
    pub(super) fn read_again(
        &mut self,
        group: &mut Group<'_>,
        bytes: u64,
        batch: &mut Batch,
        committed: &mut Committed,
    ) -> Result<(), ReadError> {
        let disk = group.disk;
        let mut scrub = std::mem::take(&mut self.scrub);
        if scrub.stage == Stage::Records && scrub.from.is_empty() {
            scrub.report = ScrubReport::default();
            scrub.named = Named::default();
            scrub.log = LogPass::default();
        }
        let mut step = Step {
            report: &mut scrub.report,
            bytes_left: bytes.max(1),
        };
        let from = std::mem::take(&mut scrub.from);
        let next = match scrub.stage {
            Stage::Records => records_again(group, &from, &mut step, &mut scrub.named)?,
            Stage::Index => index_again(disk, &from, &mut step, batch)?,
            Stage::Vault => vault_again(disk, &from, &mut step, &scrub.named, batch)?,
            Stage::Cells => cells_again(disk, &from, &mut step, batch)?,
            Stage::Log => {
                let over = self.log_again(disk, &mut scrub.log, &mut step, batch, committed)?;
                (!over).then(Vec::new)
            }
            Stage::Dots => dots_again(disk, &from, &mut step, batch)?,
            Stage::Quarantine => waiting_again(disk, Family::Quarantine, &from, &mut step)?,
            Stage::Side => waiting_again(disk, Family::Side, &from, &mut step)?,
            Stage::Sums => {
                let first = from
                    .first_chunk()
                    .map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
                let mut partition = first;
                while partition < PARTITIONS && step.bytes_left > 0 {
                    let mut records = 0;
                    sums::elements(disk, partition, &mut |key, digest| {
                        records += 1;
                        step.read(&key, &digest);
                    })?;
                    step.read(&[], &[0; 24]);
                    if self.sums.check(disk, partition, batch)? {
                        step.report
                            .mended(|| format!("the sum of partition {partition} ({records} records)"));
                    }
                    partition += 1;
                }
                let next = u16::try_from(partition).unwrap_or(u16::MAX);
                (partition < PARTITIONS).then(|| next.to_be_bytes().to_vec())
            }
        };
        match next {
            Some(from) => scrub.from = from,
            None => match scrub.stage.next() {
                Some(stage) => scrub.stage = stage,
                None => {
                    scrub.report.complete = true;
                    committed.scrubbed = Some(std::mem::take(&mut scrub.report));
                    scrub = Scrub::default();
                }
            },
        }
        self.scrub = scrub;
        Ok(())
    }

    /// Names of records that a group wrote: they are named also if this pass came by before.
    pub(super) fn note_named(&mut self, names: &[VaultId]) {
        if self.scrub.stage != Stage::Records || !self.scrub.from.is_empty() {
            names.iter().for_each(|id| self.scrub.named.add(id));
        }
    }
}

/// Where the next step goes on; `None` at the end of the family.
pub(super) type Next = Option<Vec<u8>>;

/// Records by their keys in any family: one whose document is gone is found by what was made from it.
fn records_again(
    group: &mut Group<'_>,
    from: &[u8],
    step: &mut Step<'_>,
    named: &mut Named,
) -> Result<Next, ReadError> {
    let disk = group.disk;
    let mut keys = BTreeSet::new();
    let mut next = None;
    let gaps = damage::scan_around(disk, Family::Documents, from, &mut |key, value| {
        if step.bytes_left == 0 {
            next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        step.read(key, value);
        keys.insert(key.to_vec());
        ControlFlow::Continue(())
    })?;
    let mut gaps = gaps;
    for family in [Family::Views, Family::Digests] {
        gaps += damage::scan_around(disk, family, from, &mut |key, value| {
            if next.as_deref().is_some_and(|next| key >= next) {
                return ControlFlow::Break(());
            }
            step.report.values += 1;
            step.report.bytes += (key.len() + value.len()) as u64;
            keys.insert(key.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    if gaps > 0 {
        // What hides there may name any value.
        named.unknown = true;
        step.report.unreadable(gaps, "documents, views or digests");
    }
    for key in keys {
        match <[u8; 16]>::try_from(&key[..]).map(RecordKey::from_bytes) {
            Ok(key) if key.kind().is_some() => record_again(group, key, step.report, named)?,
            _ => step.report.damaged(|| "a key that is no record's".to_owned()),
        }
    }
    Ok(next)
}

fn record_again(
    group: &mut Group<'_>,
    key: RecordKey,
    report: &mut ScrubReport,
    named: &mut Named,
) -> Result<(), ReadError> {
    if group.load(key)?.quarantined {
        named.unknown = true;
        group.retry_quarantine(key, |_| false)?;
    }
    let found = group.recheck(key)?;
    if found.unreadable {
        report.damaged(|| format!("the document of {key}: it is not served until a peer's state has come"));
    }
    for _ in 0..found.values_spoiled {
        report.damaged(|| format!("a vault value of {key}"));
    }
    for part in found.wrong {
        report.mended(|| format!("the {part} of {key}"));
    }
    found.names.iter().for_each(|id| named.add(id));
    Ok(())
}

/// What is wrong with a record on the disk.
#[derive(Default)]
pub(super) struct Recheck {
    unreadable: bool,
    values_spoiled: usize,
    /// What does not follow from the document.
    wrong: Vec<&'static str>,
    names: Vec<VaultId>,
}

impl Group<'_> {
    /// Holds what is stored of a record against its document, and has the record written down if it does not fit.
    pub(super) fn recheck(&mut self, key: RecordKey) -> Result<Recheck, ReadError> {
        let disk = self.disk;
        let stored_view = group::get(disk, Family::Views, key.as_bytes())?;
        let stored_view = stored_view.as_deref().map(layout::unseal_view);
        let stored_digest = group::get(disk, Family::Digests, key.as_bytes())?;
        let stored_digest = stored_digest.as_deref().and_then(sums::read_digest);
        let mut found = Recheck::default();
        let marked = stored_digest == Some(self.digest_of_damaged(key)) && stored_view == Some(Ok(None));
        let loaded = self.load(key)?;
        let Some((document, view)) = &loaded.document else {
            loaded.dirty |= !marked;
            found.unreadable = true;
            return Ok(found);
        };
        let (heads, view) = (document.heads(), view.clone());
        if !loaded.quarantined && stored_view != Some(Ok(Some(&view.encode()[..]))) {
            found.wrong.push("view");
        }
        found.names = self.names(&view)?;
        let mut present = Vec::with_capacity(found.names.len());
        for id in &found.names {
            match records::read_vault(disk, *id) {
                Ok(Some(_)) => present.push(*id),
                Ok(None) => {}
                Err(ReadError::Disk(error)) if !error.is_local() => return Err(error.into()),
                Err(_) => {
                    found.values_spoiled += 1;
                    self.spoiled.insert(*id);
                }
            }
        }
        // A value that goes is no fault of the digest.
        present.extend(self.spoiled.iter().filter(|id| found.names.contains(id)));
        let expected = if self.load(key)?.quarantined {
            self.digest_of_damaged(key)
        } else {
            crdt::state_digest(&heads, &present)
        };
        if stored_digest != Some(expected) {
            found.wrong.push("digest");
        }
        if let (View::Email(email), Some(id)) = (&view, key.email()) {
            for account in email.accounts() {
                let bytes = group::get(disk, Family::Index, &layout::index_key(account, id))?;
                if bytes.is_none_or(|bytes| layout::unseal(&bytes).is_err()) {
                    found.wrong.push("index");
                    self.load(key)?.reindexed = true;
                    break;
                }
            }
            if !found.wrong.is_empty() {
                self.recall_hidden(email)?;
            }
        }
        self.load(key)?.dirty |= !found.wrong.is_empty() || found.values_spoiled > 0;
        Ok(found)
    }
}

fn index_again(
    disk: &dyn DiskRead,
    from: &[u8],
    step: &mut Step<'_>,
    batch: &mut Batch,
) -> Result<Next, ReadError> {
    walk(disk, Family::Index, from, step, |key, _, report| {
        let claimed = match (key.first_chunk::<15>(), layout::indexed_email(key)) {
            (Some(account), Ok(email)) => {
                let account = AccountId::from_bytes(*account);
                match records::read_view(disk, email.into(), EmailView::decode) {
                    Ok(view) => view.is_some_and(|view| view.accounts().any(|known| known == account)),
                    // What cannot be read now may claim it.
                    Err(_) => true,
                }
            }
            _ => false,
        };
        if !claimed {
            batch.delete(Family::Index, key);
            report.mended(|| "an entry of the index that follows from no record".to_owned());
        }
        Ok(())
    })
}

fn vault_again(
    disk: &dyn DiskRead,
    from: &[u8],
    step: &mut Step<'_>,
    named: &Named,
    batch: &mut Batch,
) -> Result<Next, ReadError> {
    walk(disk, Family::Vault, from, step, |key, _, report| {
        let is_named = <[u8; 16]>::try_from(key).is_ok_and(|id| named.may_hold(&VaultId::from_bytes(id)));
        if !is_named {
            batch.delete(Family::Vault, key);
            report.mended(|| "a vault value that nothing names".to_owned());
        }
        Ok(())
    })
}

fn cells_again(
    disk: &dyn DiskRead,
    from: &[u8],
    step: &mut Step<'_>,
    batch: &mut Batch,
) -> Result<Next, ReadError> {
    walk(disk, Family::Cells, from, step, |key, value, report| {
        let sound = records::decode_cell(value)
            .is_ok_and(|cell| key == layout::cell_key(cell.kind, &cell.key, cell.slot));
        if !sound {
            batch.delete(Family::Cells, key);
            report.damaged(|| "a cell".to_owned());
        }
        Ok(())
    })
}

fn dots_again(
    disk: &dyn DiskRead,
    from: &[u8],
    step: &mut Step<'_>,
    batch: &mut Batch,
) -> Result<Next, ReadError> {
    walk(disk, Family::Dots, from, step, |key, value, report| {
        // What cannot be read in the log was let go by the reading of it before.
        let mut leads = false;
        if let Ok(place) = layout::unseal(value) {
            match disk.get(Family::Log, place) {
                Ok(entry) => {
                    let entry = entry.as_deref().map(layout::unseal);
                    let entry = entry.and_then(|entry| entry.and_then(layout::log_entry).ok());
                    leads = entry.is_some_and(|(dot, _): (Dot, _)| layout::dot_key(&dot) == key);
                }
                Err(error) if error.is_local() => batch.delete(Family::Log, place),
                Err(error) => return Err(error.into()),
            }
        }
        if !leads {
            batch.delete(Family::Dots, key);
            report.mended(|| "a place in the log where nothing is".to_owned());
        }
        Ok(())
    })
}

/// What waits to be taken in follows from nothing here, and another state brings it. But a block of it that cannot be read
/// may hide something for as long as the disk is used, and holds back every erasure: its operator is to know.
fn waiting_again(
    disk: &dyn DiskRead,
    family: Family,
    from: &[u8],
    step: &mut Step<'_>,
) -> Result<Next, ReadError> {
    walk(disk, family, from, step, |_, _, _| Ok(()))
}

/// Visits a stretch of a family, around what cannot be read.
pub(super) fn walk(
    disk: &dyn DiskRead,
    family: Family,
    from: &[u8],
    step: &mut Step<'_>,
    mut visit: impl FnMut(&[u8], &[u8], &mut ScrubReport) -> Result<(), ReadError>,
) -> Result<Next, ReadError> {
    let mut next = None;
    let mut failed = None;
    let gaps = damage::scan_around(disk, family, from, &mut |key, value| {
        if step.bytes_left == 0 {
            next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        step.read(key, value);
        match visit(key, value, step.report) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if gaps > 0 {
        step.report.unreadable(gaps, family.name());
    }
    failed.map_or(Ok(next), Err)
}
