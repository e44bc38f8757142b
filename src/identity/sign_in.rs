//! A password against an account, and how many wrong ones there may be.
//!
//! Failed tries are cells: each replica counts in a slot of its own, and only slots that have seen the latest
//! success add up, so spreading tries over sites gains an attacker no more than the lag between them. While a
//! password is being checked its try is taken in memory as well, so tries at once gain nothing either.
//!
//! Ten wrong ones lock, but not the browsers that signed in to the account before, which have tries of their own: so
//! nobody can lock somebody else out.
//!
//! Promise: a wrong password and an address that nobody has are told apart neither by the answer, nor by the lock,
//! nor by the time that it takes. A right one writes nothing unless there were wrong ones before it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::{
    AccountId, AccountView, AccountWrite, Cell, CellKind, EmailId, Epoch, Hlc, Ownership, Password,
    RecordKey, Tries, VaultId,
};

use serde::{Deserialize, Serialize};

use super::{
    Address, HashError, HashedPassword, Identity, OperationError, Outcome, Refusal, TypedPassword, account,
    operations::{CountWrong, ReadTarget, TargetOf, Welcome},
};
use crate::{
    session::Device,
    store::{CHANGES_MAX, ReadError, Records, Txn},
};

/// Wrong passwords after which none is checked any more, as in the original service.
pub const TRIES_MAX: u32 = 10;
/// How long a wrong password counts, in milliseconds: a week.
pub const TRIES_KEEP_MS: u64 = 7 * 24 * 3600 * 1000;
/// How long one counts that came from a browser which knows the account, while others are locked out: a day.
pub const DEVICE_TRIES_KEEP_MS: u64 = 24 * 3600 * 1000;
/// Accounts and addresses at most for which wrong passwords are kept in mind: a few MB. Beyond it the oldest are
/// forgotten, which takes an attacker as many wrong passwords at others.
const KEPT_MAX: usize = 65_536;
/// About as long as a password takes with others before it.
const CROWDED_RETRY: Duration = Duration::from_millis(500);

/// Somebody is who they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    /// Their account.
    pub account: AccountId,
    /// What a session made now has seen.
    pub epoch: Epoch,
}

impl Identity {
    /// Checks a password against the account that has the address, verified or not. After [`TRIES_MAX`] wrong ones only
    /// a browser that knows the account by its device cookie may try as many more.
    pub async fn sign_in(
        &self,
        address: &Address,
        password: TypedPassword,
        device: Option<Device>,
    ) -> Result<Outcome<SignedIn>, OperationError> {
        if let Some(outcome) = self.recall().await? {
            return Ok(outcome);
        }
        let email = self.email_id(address);
        let target = ReadTarget {
            of: TargetOf::Email(email),
            device: device.as_ref().map(|device| device.id),
        };
        let target = match self.replica.read(&target).await? {
            Ok(target) => target,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let Some((account, epoch)) = target.account else {
            return Ok(match self.try_password(target, password, None).await? {
                Err(refusal) => Outcome::Refused(refusal),
                // The decoy is nobody's password.
                Ok(_) => Outcome::Refused(Refusal::WrongPassword),
            });
        };
        let tried = self
            .try_password(target, password.clone(), device.as_ref())
            .await?;
        let tried = match tried {
            Ok(tried) => tried,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let value = SignedIn { account, epoch };
        if tried.tries == 0 && !tried.stale {
            return Ok(Outcome::Done { value, dot: None });
        }
        // Whatever becomes of this, the password was right.
        let rehashed = if tried.stale {
            self.passwords.hash(password).await.ok()
        } else {
            None
        };
        let welcome = Welcome {
            account,
            device: tried.device,
            rehashed: rehashed.map(|hashed| (tried.password, hashed)),
        };
        let dot = match self.replica.write(welcome, None).await {
            Ok(Outcome::Done { dot, .. }) => dot,
            Ok(Outcome::Refused(_)) => None,
            Err(error) => {
                metrics::counter!("persona_sign_in_upkeep_failed_total").increment(1);
                tracing::debug!(%error, "signed in, but the tries could not be forgiven or the password rehashed");
                None
            }
        };
        Ok(Outcome::Done { value, dot })
    }

    /// Checks a password, and counts it if it is wrong. The try is taken before the hash.
    pub(super) async fn try_password(
        &self,
        target: Target,
        typed: TypedPassword,
        device: Option<&Device>,
    ) -> Result<Result<Tried, Refusal>, OperationError> {
        let now_ms = (self.clock)();
        let is_locked = |key, tries: u32| tries.saturating_add(self.trying.kept(key, now_ms)) >= TRIES_MAX;
        let (mut key, mut tries) = (target.key, target.tries);
        if is_locked(key, tries)
            && let Some((account, epoch)) = target.account
            && let Some(device) = device.filter(|device| device.knows(account, epoch.resets, now_ms))
        {
            (key, tries) = (TriesKey::Device(account, device.id), target.device_tries);
        }
        if is_locked(key, tries) {
            metrics::counter!("persona_sign_in_locked_total").increment(1);
            return Ok(Err(Refusal::Locked));
        }
        let taken = self.trying.take(key, tries, now_ms);
        let mut taken = taken.ok_or(OperationError::Crowded {
            retry_after: CROWDED_RETRY,
        })?;
        let (password, hashed) = target.password.unzip();
        let checked = self.passwords.check(typed, hashed).await?;
        if let Some(password) = password.filter(|_| checked.right) {
            self.trying.forget(target.key);
            self.trying.forget(key);
            return Ok(Ok(Tried {
                password,
                stale: checked.stale,
                tries: target.tries.max(tries),
                device: key.device(),
            }));
        }
        metrics::counter!("persona_sign_in_wrong_total").increment(1);
        let count = CountWrong {
            key,
            wrong: taken.gather(),
        };
        if let Err(error) = self.write(count).await {
            // What cannot be written down is kept in mind: a replica that cannot write is no place to guess at.
            taken.keep((self.clock)().saturating_add(key.keep_ms()));
            return Err(error);
        }
        taken.written();
        Ok(Err(Refusal::WrongPassword))
    }
}

/// A password that was right.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) password: Password,
    stale: bool,
    /// Wrong ones before it.
    tries: u32,
    /// The browser whose wrong ones are counted apart, if it was its turn.
    pub(super) device: Option<[u8; 16]>,
}

/// Where wrong passwords are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TriesKey {
    /// An account, or an address that nobody has.
    Record(RecordKey),
    /// A browser that knows the account, while others are locked out.
    Device(AccountId, [u8; 16]),
}

impl TriesKey {
    /// The key of the cells.
    fn bytes(self) -> Vec<u8> {
        match self {
            TriesKey::Record(key) => key.as_bytes().to_vec(),
            TriesKey::Device(account, device) => [&account.as_bytes()[..], &device].concat(),
        }
    }

    /// How long a wrong one counts, in milliseconds.
    fn keep_ms(self) -> u64 {
        match self {
            TriesKey::Record(_) => TRIES_KEEP_MS,
            TriesKey::Device(..) => DEVICE_TRIES_KEEP_MS,
        }
    }

    fn device(self) -> Option<[u8; 16]> {
        match self {
            TriesKey::Record(_) => None,
            TriesKey::Device(_, device) => Some(device),
        }
    }
}

impl From<AccountId> for TriesKey {
    fn from(account: AccountId) -> TriesKey {
        TriesKey::Record(account.into())
    }
}

impl From<EmailId> for TriesKey {
    fn from(email: EmailId) -> TriesKey {
        TriesKey::Record(email.into())
    }
}

/// What a password is tried against.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where tries are counted: the account, or the address that nobody has.
    key: TriesKey,
    account: Option<(AccountId, Epoch)>,
    password: Option<(Password, HashedPassword)>,
    tries: u32,
    /// Those of the browser, counted apart.
    device_tries: u32,
}

impl Target {
    /// The account that has an address. One that nobody has is tried like any other.
    pub(super) fn email(
        records: &impl Records,
        email: EmailId,
        device: Option<[u8; 16]>,
        now_ms: u64,
    ) -> Result<Target, OperationError> {
        let view = records.email(email)?.unwrap_or_default();
        if let Ownership::Held { claim, .. } = records.owner_of(&view)?
            && let Ok(target) = Target::account(records, claim.account, device, now_ms)?
        {
            return Ok(target);
        }
        let tries = tries(records, email.into(), now_ms)?;
        Ok(Target {
            key: email.into(),
            account: None,
            password: None,
            tries,
            device_tries: 0,
        })
    }

    /// A password that was chosen for an account, and is not its own yet: the account may not be there.
    pub(super) fn staged(
        records: &impl Records,
        id: AccountId,
        now_ms: u64,
        chosen: HashedPassword,
    ) -> Result<Target, OperationError> {
        // It stands in for a password that no account has.
        let none = Password {
            resets: 0,
            changed: Hlc::ZERO,
            done: Hlc::ZERO,
            rehashes: 0,
            vault: VaultId::from_bytes([0; 16]),
        };
        Ok(Target {
            key: id.into(),
            account: None,
            password: Some((none, chosen)),
            tries: tries(records, id.into(), now_ms)?,
            device_tries: 0,
        })
    }

    /// An account by itself.
    pub(super) fn account(
        records: &impl Records,
        id: AccountId,
        device: Option<[u8; 16]>,
        now_ms: u64,
    ) -> Result<Result<Target, Refusal>, OperationError> {
        let view = match account::standing(records.account(id)?) {
            Ok(view) => view,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let password = match view.usable_password() {
            Some(password) => Some((*password, stored(records, id, password)?)),
            None => None,
        };
        let device_tries = match device {
            Some(device) => tries(records, TriesKey::Device(id, device), now_ms)?,
            None => 0,
        };
        let tries = tries(records, id.into(), now_ms)?;
        Ok(Ok(Target {
            key: id.into(),
            account: Some((id, view.epoch)),
            password,
            tries,
            device_tries,
        }))
    }
}

fn stored(
    records: &impl Records,
    account: AccountId,
    password: &Password,
) -> Result<HashedPassword, OperationError> {
    let missing = OperationError::Missing { key: account.into() };
    let phc = records.vault(password.vault)?.ok_or(missing)?;
    let phc = String::from_utf8(phc).map_err(|_| HashError::Unreadable)?;
    Ok(HashedPassword::from_phc(phc)?)
}

/// Writes the same password hashed anew, unless it has changed. It keeps its HLCs, so it beats no change made
/// elsewhere; and a record near its limit is left alone, since nobody asked for this.
pub(super) fn rehash(
    txn: &mut Txn<'_>,
    account: AccountId,
    tried: &Password,
    hashed: &HashedPassword,
) -> Result<(), OperationError> {
    let view = txn.account(account)?.filter(|view| view.changes < CHANGES_MAX);
    if view.as_ref().and_then(AccountView::usable_password) != Some(tried) {
        return Ok(());
    }
    let vault = txn.put_vault(hashed.as_phc().as_bytes().to_vec());
    let password = Password {
        rehashes: tried.rehashes.saturating_add(1),
        vault,
        ..*tried
    };
    txn.write_account(account, AccountWrite::Password(password));
    Ok(())
}

/// Wrong passwords that count now.
fn tries(records: &impl Records, key: TriesKey, now_ms: u64) -> Result<u32, ReadError> {
    let cells = records.cells(CellKind::TRIES, &key.bytes())?;
    Ok(Tries::total(live(&cells, now_ms)))
}

pub(super) fn live(cells: &[Cell], now_ms: u64) -> impl Iterator<Item = Tries> {
    cells
        .iter()
        .filter(move |cell| cell.is_live(now_ms))
        .filter_map(|cell| Tries::decode(&cell.value).ok())
}

/// Counts `wrong` more wrong passwords in this replica's slot.
pub(crate) fn fail(txn: &mut Txn<'_>, key: TriesKey, wrong: u32) -> Result<(), ReadError> {
    fail_for(txn, &key.bytes(), key.keep_ms(), wrong)
}

/// The same of something that is no record.
pub(super) fn fail_under(txn: &mut Txn<'_>, key: &[u8], wrong: u32) -> Result<(), ReadError> {
    fail_for(txn, key, TRIES_KEEP_MS, wrong)
}

fn fail_for(txn: &mut Txn<'_>, key: &[u8], keep_ms: u64, wrong: u32) -> Result<(), ReadError> {
    let cells = txn.cells(CellKind::TRIES, key)?;
    let since = live(&cells, txn.now_ms())
        .map(|tries| tries.since)
        .max()
        .unwrap_or_default();
    let own = cells.iter().find(|cell| cell.slot == txn.slot());
    let own_tries = own
        .and_then(|cell| Tries::decode(&cell.value).ok())
        .unwrap_or_default();
    let own_lives = own.is_some_and(|cell| cell.is_live(txn.now_ms()));
    let counted = if own_tries.since < since {
        Tries { since, count: wrong }
    } else if own_lives {
        Tries {
            since,
            count: own_tries.count.saturating_add(wrong),
        }
    } else if own_tries.count == 0 {
        Tries {
            since: own_tries.since,
            count: wrong,
        }
    } else {
        // The slot holds a count that has expired. Merging keeps the greater count, so an era of its own begins,
        // with what others have counted meanwhile.
        let others = Tries::total(live(&cells, txn.now_ms()));
        Tries {
            since: txn.stamp_past(own_tries.since),
            count: others.saturating_add(wrong),
        }
    };
    put_tries(txn, key, keep_ms, counted);
    Ok(())
}

/// Forgets all wrong passwords, if there are any.
pub(super) fn forgive(txn: &mut Txn<'_>, key: TriesKey) -> Result<(), ReadError> {
    let cells = txn.cells(CellKind::TRIES, &key.bytes())?;
    if Tries::total(live(&cells, txn.now_ms())) > 0 {
        let since = live(&cells, txn.now_ms())
            .map(|tries| tries.since)
            .max()
            .unwrap_or_default();
        let since = txn.stamp_past(since);
        put_tries(txn, &key.bytes(), key.keep_ms(), Tries { since, count: 0 });
    }
    Ok(())
}

fn put_tries(txn: &mut Txn<'_>, key: &[u8], keep_ms: u64, tries: Tries) {
    let cell = Cell {
        kind: CellKind::TRIES,
        key: key.to_vec(),
        slot: txn.slot(),
        stamp: txn.stamp(),
        value: tries.encode(),
        expires_ms: txn.now_ms().saturating_add(keep_ms),
    };
    txn.put_cell(cell);
}

/// Tries that are written down nowhere: those under way in this process, and wrong ones that could not be written.
#[derive(Default)]
pub(super) struct Trying {
    unwritten: Mutex<Unwritten>,
}

#[derive(Default)]
struct Unwritten {
    /// No more than there are requests.
    under_way: HashMap<TriesKey, u32>,
    kept: HashMap<TriesKey, Kept>,
    /// The keys of `kept`, by when they are forgotten.
    ends: BTreeSet<(u64, TriesKey)>,
}

/// Wrong passwords that could not be written down. They count for as long as if they had been.
#[derive(Clone, Copy, Default)]
struct Kept {
    tries: u32,
    until_ms: u64,
}

impl Trying {
    /// Takes one more, unless together with the `counted` ones that might be too many.
    fn take(self: &Arc<Trying>, key: TriesKey, counted: u32, now_ms: u64) -> Option<Taken> {
        let mut unwritten = self.lock();
        let here = unwritten.under_way.get(&key).copied().unwrap_or_default();
        let kept = unwritten.kept(key, now_ms);
        if counted.saturating_add(here).saturating_add(kept) >= TRIES_MAX {
            return None;
        }
        unwritten.under_way.insert(key, here + 1);
        Some(Taken {
            trying: Arc::clone(self),
            key,
            tries: 1,
            keep: Kept::default(),
        })
    }

    /// Wrong ones that could not be written down.
    fn kept(&self, key: TriesKey, now_ms: u64) -> u32 {
        self.lock().kept(key, now_ms)
    }

    /// Forgets the wrong ones that could not be written down: a right one came after them, or a reset.
    pub(super) fn forget(&self, key: TriesKey) {
        self.lock().forget(key);
    }

    fn lock(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unwritten {
    fn keep(&mut self, key: TriesKey, more: Kept) {
        let known = self.forget(key).unwrap_or_default();
        let kept = Kept {
            tries: known.tries.saturating_add(more.tries),
            until_ms: known.until_ms.max(more.until_ms),
        };
        self.kept.insert(key, kept);
        self.ends.insert((kept.until_ms, key));
        while self.kept.len() > KEPT_MAX
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            self.kept.remove(&oldest);
        }
    }

    fn forget(&mut self, key: TriesKey) -> Option<Kept> {
        let kept = self.kept.remove(&key)?;
        self.ends.remove(&(kept.until_ms, key));
        Some(kept)
    }

    /// Those that count now, once all that have ended are forgotten.
    fn kept(&mut self, key: TriesKey, now_ms: u64) -> u32 {
        while let Some((until_ms, ended)) = self.ends.first().copied()
            && until_ms <= now_ms
        {
            self.forget(ended);
        }
        self.kept.get(&key).map_or(0, |kept| kept.tries)
    }
}

/// One try under way; given back when dropped.
struct Taken {
    trying: Arc<Trying>,
    key: TriesKey,
    /// Itself, and those kept in mind that are being written down with it.
    tries: u32,
    /// What is kept in mind when it is dropped: what was before, unless it is known to be written.
    keep: Kept,
}

impl Taken {
    /// How many wrong ones there are to write down: this one, and those that could not be before.
    fn gather(&mut self) -> u32 {
        let mut unwritten = self.trying.lock();
        if let Some(kept) = unwritten.forget(self.key) {
            *unwritten.under_way.entry(self.key).or_default() += kept.tries;
            self.tries += kept.tries;
            self.keep = kept;
        }
        self.tries
    }

    /// They are written down.
    fn written(mut self) {
        self.keep = Kept::default();
    }

    /// They could not be: keeps them all in mind.
    fn keep(mut self, until_ms: u64) {
        self.keep = Kept {
            tries: self.tries,
            until_ms,
        };
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut unwritten = self.trying.lock();
        match unwritten.under_way.get_mut(&self.key) {
            Some(count) if *count > self.tries => *count -= self.tries,
            _ => {
                unwritten.under_way.remove(&self.key);
            }
        }
        if self.keep.tries > 0 {
            unwritten.keep(self.key, self.keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> TriesKey {
        let mut id = [0; 15];
        id[..4].copy_from_slice(&number.to_be_bytes());
        TriesKey::from(AccountId::from_bytes(id))
    }

    /// Fails at `now_ms`, and cannot be written down.
    fn fails(trying: &Arc<Trying>, key: TriesKey, now_ms: u64) {
        let mut taken = trying.take(key, 0, now_ms).expect("one more");
        taken.gather();
        taken.keep(now_ms + TRIES_KEEP_MS);
    }

    #[test]
    fn tries_under_way_count_with_those_that_failed_and_are_given_back() {
        let trying = Arc::new(Trying::default());
        let first = trying.take(key(1), 8, 0).expect("8 failed, this is the 9th");
        let second = trying.take(key(1), 8, 0).expect("the 10th");
        assert!(trying.take(key(1), 8, 0).is_none());
        assert!(trying.take(key(2), 9, 0).is_some());
        drop(first);
        let third = trying.take(key(1), 8, 0).expect("one was given back");
        third.keep(5);
        drop(second);
        assert!(
            trying.take(key(1), 9, 4).is_none(),
            "the one that was kept still counts"
        );
        assert!(trying.take(key(1), 8, 4).is_some());
        assert!(trying.take(key(1), 9, 5).is_some(), "until it is forgotten");
        let unwritten = trying.lock();
        assert!(
            unwritten.under_way.is_empty() && unwritten.kept.is_empty() && unwritten.ends.is_empty(),
            "nothing is remembered of who has no try under way"
        );
    }

    #[test]
    fn what_is_kept_counts_until_it_is_written_down_with_the_next() {
        let trying = Arc::new(Trying::default());
        for _ in 0..4 {
            fails(&trying, key(1), 0);
        }
        let mut given_up = trying.take(key(1), 0, 1).expect("the 5th");
        assert_eq!(given_up.gather(), 5);
        assert!(trying.take(key(1), 5, 1).is_none(), "they count meanwhile");
        // Nobody knows what became of it.
        drop(given_up);
        let mut last = trying.take(key(1), 0, 1).expect("the 5th again");
        assert_eq!(last.gather(), 5);
        last.written();
        assert!(trying.take(key(1), 9, 1).is_some());
        fails(&trying, key(1), 1);
        trying.forget(key(1));
        assert!(trying.take(key(1), 9, 1).is_some());
    }

    #[test]
    fn many_that_are_kept_keep_nobody_else_out() {
        let trying = Arc::new(Trying::default());
        let many = u32::try_from(KEPT_MAX).expect("a small number");
        for number in 0..=many {
            fails(&trying, key(number), u64::from(number));
        }
        assert_eq!(trying.lock().kept.len(), KEPT_MAX);
        assert_eq!(trying.lock().ends.len(), KEPT_MAX);
        let now_ms = u64::from(many);
        assert!(
            trying.take(key(0), 9, now_ms).is_some(),
            "the oldest was forgotten"
        );
        assert!(trying.take(key(1), 9, now_ms).is_none(), "no other was");
        assert!(trying.take(key(many + 1), 9, now_ms).is_some());
        assert!(trying.take(key(1), 9, now_ms + TRIES_KEEP_MS).is_some());
        assert_eq!(trying.lock().kept.len(), 0);
    }
}
