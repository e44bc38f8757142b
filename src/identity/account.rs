//! An account's life: signing up, its password, signing out everywhere, the end.

use std::collections::BTreeSet;

use crdt::{AccountId, AccountView, AccountWrite, EmailId, EmailWrite, Epoch, Hlc, Ownership, Password};
use serde::{Deserialize, Serialize};

use super::{
    Address, Directory, HashedPassword, Identity, OperationError, Outcome, Pair, Refusal, TypedPassword,
    Word,
    claims::{self, Completion, Seen},
    emails::{self, HeldEmail},
    operations::{
        CancelAccount, ChangePassword, ReadAccount, ReadTarget, ResetPassword, SignOutEverywhere, SignUp,
        TargetOf,
    },
    sign_in::{self, SignedIn, TriesKey},
};
use crate::{
    session::Device,
    store::{ReadError, Records, TransactError, Txn},
};

/// A password to be: as typed, or hashed already when the staging was begun.
#[derive(Clone, Debug)]
pub enum NewPassword {
    /// To be hashed.
    Typed(TypedPassword),
    /// Hashed before.
    Hashed(HashedPassword),
}

impl From<TypedPassword> for NewPassword {
    fn from(password: TypedPassword) -> NewPassword {
        NewPassword::Typed(password)
    }
}

impl From<HashedPassword> for NewPassword {
    fn from(password: HashedPassword) -> NewPassword {
        NewPassword::Hashed(password)
    }
}

/// What one replica knows of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// When it was made.
    pub created: Hlc,
    /// For good.
    pub cancelled: bool,
    /// It has one that may be used.
    pub has_password: bool,
    /// Sessions that have seen less are over.
    pub epoch: Epoch,
    /// The addresses that it owns now; claims that lost are not among them.
    pub emails: Vec<HeldEmail>,
    /// The addresses that it claims and somebody else has: a newer sign-up took them. None is told of any more once the
    /// claim that lost is superseded.
    #[serde(default)]
    pub lost: Vec<Address>,
}

impl Identity {
    /// Makes an account with this address and password. Done twice on one proof, it is one account.
    pub async fn create_account(
        &self,
        address: Address,
        password: impl Into<NewPassword>,
        word: Word,
    ) -> Result<Outcome<AccountId>, OperationError> {
        let email = self.email_id(&address);
        let password = match password.into() {
            NewPassword::Hashed(hashed) => hashed,
            NewPassword::Typed(typed) => {
                if let Some(outcome) = self.recall().await? {
                    return Ok(outcome);
                }
                // A look before the hash, which costs ten thousand times as much; the rule itself is applied below.
                if word == Word::Operator && self.is_taken(email).await? {
                    return Ok(Outcome::Refused(Refusal::AddressTaken));
                }
                self.passwords.hash(typed).await?
            }
        };
        self.write(SignUp {
            email,
            address,
            password,
            word,
        })
        .await
    }

    /// Changes the password of somebody who knows the old one. Every session ends; the new epoch is for the one
    /// that is made in its place. As with [`sign_in`](Identity::sign_in), a browser that knows the account by its device
    /// cookie may try it also while others are locked out.
    pub async fn change_password(
        &self,
        account: AccountId,
        old: TypedPassword,
        new: TypedPassword,
        device: Option<Device>,
    ) -> Result<Outcome<Epoch>, OperationError> {
        if let Some(outcome) = self.recall().await? {
            return Ok(outcome);
        }
        let target = ReadTarget {
            of: TargetOf::Account(account),
            device: device.as_ref().map(|device| device.id),
        };
        let target = self.replica.read(&target).await?;
        let target = match target {
            Ok(target) => target,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let tried = match self.try_password(target, old, device.as_ref()).await? {
            Ok(tried) => tried,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let password = self.passwords.hash(new).await?;
        self.write(ChangePassword {
            account,
            known: tried.password,
            password,
            device: tried.device,
        })
        .await
    }

    /// Sets a new password on a proof of one of the account's verified addresses. Every session ends, and every
    /// other address of the account has to be proven again.
    pub async fn reset_password(
        &self,
        address: Address,
        password: impl Into<NewPassword>,
        word: Word,
    ) -> Result<Outcome<SignedIn>, OperationError> {
        let email = self.email_id(&address);
        let password = match password.into() {
            NewPassword::Hashed(hashed) => hashed,
            NewPassword::Typed(typed) => {
                if let Some(outcome) = self.recall().await? {
                    return Ok(outcome);
                }
                self.passwords.hash(typed).await?
            }
        };
        let reset = ResetPassword {
            email,
            address,
            password,
            word,
        };
        let outcome = self.write(reset).await?;
        if let Outcome::Done { value, .. } = &outcome {
            self.trying.forget(value.account.into());
        }
        Ok(outcome)
    }

    /// Ends every session of the account; the new epoch is for the one that asked, if it is to go on.
    pub async fn sign_out_everywhere(&self, account: AccountId) -> Result<Outcome<Epoch>, OperationError> {
        self.write(SignOutEverywhere { account }).await
    }

    /// Ends the account for good: its password and addresses are erased wherever nothing else names them.
    pub async fn cancel_account(&self, account: AccountId) -> Result<Outcome<()>, OperationError> {
        let mut releases_max = usize::MAX;
        let mut spoiled = BTreeSet::new();
        loop {
            let cancel = CancelAccount {
                account,
                releases_max,
                spoiled: spoiled.clone(),
            };
            match self.write(cancel).await {
                // More than one transaction can carry. The cancellation alone ends all claims too; a release lets
                // others know even before they know of it, so as many are written as there is room for.
                Err(OperationError::Store(TransactError::TooLarge { .. })) if releases_max > 0 => {
                    releases_max = releases_max.min(emails::EMAILS_MAX) / 2;
                }
                // What an address's record says can be read, but nothing be written to it.
                Err(OperationError::Store(TransactError::Read(ReadError::Quarantined { key })))
                    if key.email().is_some_and(|email| spoiled.insert(email)) => {}
                outcome => return outcome,
            }
        }
    }

    /// What is known of an account here; `None` is no proof that there is none.
    pub async fn account(&self, account: AccountId) -> Result<Option<AccountState>, OperationError> {
        self.directory().account(account).await
    }
}

impl Directory {
    /// What is known of an account here; `None` is no proof that there is none.
    pub async fn account(&self, account: AccountId) -> Result<Option<AccountState>, OperationError> {
        self.replica.read(&ReadAccount { account }).await
    }
}

/// A sign-up, within its transaction.
pub(crate) fn sign_up(
    txn: &mut Txn<'_>,
    email: EmailId,
    address: &Address,
    password: &HashedPassword,
    word: Word,
) -> Result<Result<AccountId, Refusal>, OperationError> {
    let known = txn.email(email)?.unwrap_or_default();
    let proof = word.proof(txn, known.latest());
    let account = proof.account();
    let pair = Pair {
        account: txn.account(account)?,
        email: known,
    };
    match claims::sign_up(account, proof.at, &pair.seen(txn)?) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Completion::Already) => return Ok(Ok(account)),
        Ok(Completion::New) => txn.new_record_of_person(),
    }
    let done = txn.stamp_past(pair.latest().max(proof.at));
    let vault = txn.put_vault_salted(proof.password_salt(), password.as_phc().as_bytes().to_vec());
    let password = Password {
        resets: 0,
        changed: proof.at,
        done,
        rehashes: 0,
        vault,
    };
    txn.write_account(account, AccountWrite::Created(done));
    txn.write_account(account, AccountWrite::Password(password));
    emails::claim(txn, account, 0, email, address, &pair.email, &proof, done);
    Ok(Ok(account))
}

/// A change of the password by somebody who knew `known`, within its transaction.
pub(crate) fn change(
    txn: &mut Txn<'_>,
    account: AccountId,
    known: &Password,
    hashed: &HashedPassword,
    device: Option<[u8; 16]>,
) -> Result<Result<Epoch, Refusal>, OperationError> {
    let view = match standing(txn.account(account)?) {
        Ok(view) => view,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Changed or reset while the old one was checked: what was checked is no longer the password.
    if !view
        .usable_password()
        .is_some_and(|password| is_same(password, known))
    {
        return Ok(Err(Refusal::WrongPassword));
    }
    let at = txn.stamp_past(view.latest());
    let vault = txn.put_vault(hashed.as_phc().as_bytes().to_vec());
    let resets = view.resets();
    let password = Password {
        resets,
        changed: at,
        done: at,
        rehashes: 0,
        vault,
    };
    let epoch = Epoch { resets, at };
    txn.write_account(account, AccountWrite::Password(password));
    txn.write_account(account, AccountWrite::SessionEpoch(epoch));
    sign_in::forgive(txn, account.into())?;
    if let Some(device) = device {
        sign_in::forgive(txn, TriesKey::Device(account, device))?;
    }
    Ok(Ok(epoch))
}

/// A reset, within its transaction.
pub(crate) fn reset(
    txn: &mut Txn<'_>,
    email: EmailId,
    address: &Address,
    password: &HashedPassword,
    word: Word,
) -> Result<Result<SignedIn, Refusal>, OperationError> {
    let known = txn.email(email)?.unwrap_or_default();
    let holder = match txn.owner_of(&known)? {
        Ownership::Held { claim, .. } => Some(claim.account),
        Ownership::Free => None,
    };
    let (account, begun) = match word {
        Word::Staged {
            account: Some((account, resets)),
            ..
        } => (account, Some(resets)),
        // Who comes by an assertion needs no password, and cannot say whose one to set.
        Word::Staged { account: None, .. } | Word::Asserted => return Ok(Err(Refusal::NotHeld)),
        Word::Operator => match holder {
            Some(account) => (account, None),
            None => return Ok(Err(Refusal::NotHeld)),
        },
    };
    let pair = Pair {
        account: txn.account(account)?,
        email: known,
    };
    let resets = pair.account.as_ref().map_or(0, AccountView::resets);
    let proof = word.proof(txn, pair.latest());
    if let Err(refusal) = claims::reset(account, begun.unwrap_or(resets), proof.at, &pair.seen(txn)?) {
        return Ok(Err(refusal));
    }
    txn.urgent();
    let resets = resets.saturating_add(1);
    let done = txn.stamp_past(pair.latest().max(proof.at));
    let vault = txn.put_vault_salted(proof.password_salt(), password.as_phc().as_bytes().to_vec());
    let password = Password {
        resets,
        changed: proof.at,
        done,
        rehashes: 0,
        vault,
    };
    let epoch = Epoch { resets, at: done };
    txn.write_account(account, AccountWrite::Password(password));
    txn.write_account(account, AccountWrite::SessionEpoch(epoch));
    emails::claim(txn, account, resets, email, address, &pair.email, &proof, done);
    sign_in::forgive(txn, account.into())?;
    Ok(Ok(SignedIn { account, epoch }))
}

/// The end of every session of an account, within its transaction.
pub(crate) fn sign_out_everywhere(
    txn: &mut Txn<'_>,
    account: AccountId,
) -> Result<Result<Epoch, Refusal>, OperationError> {
    let view = match standing(txn.account(account)?) {
        Ok(view) => view,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let epoch = Epoch {
        resets: view.resets(),
        at: txn.stamp_past(view.latest()),
    };
    txn.write_account(account, AccountWrite::SessionEpoch(epoch));
    Ok(Ok(epoch))
}

/// A cancellation, within its transaction.
pub(crate) fn cancel(
    txn: &mut Txn<'_>,
    account: AccountId,
    releases_max: usize,
    spoiled: &BTreeSet<EmailId>,
) -> Result<Result<(), Refusal>, OperationError> {
    let view = match standing(txn.account(account)?) {
        Ok(view) => view,
        Err(Refusal::Cancelled) => return Ok(Ok(())),
        Err(refusal) => return Ok(Err(refusal)),
    };
    txn.urgent();
    let mut latest = view.latest();
    let mut released = Vec::new();
    for email in txn.emails_of(account)? {
        if released.len() >= releases_max {
            break;
        }
        if spoiled.contains(&email) {
            continue;
        }
        let Some(known) = readable(txn.email(email))?.flatten() else {
            continue;
        };
        let Some(owner) = readable(txn.owner_of(&known))? else {
            continue;
        };
        if claims::releases_when_cancelled(account, &owner) {
            latest = latest.max(known.latest());
            released.push(email);
        }
    }
    let at = txn.stamp_past(latest);
    txn.write_account(account, AccountWrite::Cancelled(at));
    for email in released {
        txn.write_email(email, EmailWrite::Release { account, at });
    }
    Ok(Ok(()))
}

/// What was read of one of a cancelled account's addresses. One that cannot be read here is left alone, so that it
/// cannot keep the account from being cancelled: a cancelled account's claim counts for nothing anyway.
fn readable<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Quarantined { .. } | ReadError::Corrupt(_)) => Ok(None),
        Err(ReadError::Disk(error)) if error.is_local() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What one moment of the records says of an account.
pub(super) fn state(
    records: &impl Records,
    account: AccountId,
) -> Result<Option<AccountState>, OperationError> {
    match records.account(account)? {
        Some(view) => state_by(records, account, &view),
        None => Ok(None),
    }
}

/// The same, by the view that was read of it.
pub(super) fn state_by(
    records: &impl Records,
    account: AccountId,
    view: &AccountView,
) -> Result<Option<AccountState>, OperationError> {
    let Some(created) = view.created else {
        return Ok(None);
    };
    let mut emails = Vec::new();
    let mut lost = Vec::new();
    for id in if view.cancelled {
        Vec::new()
    } else {
        records.emails_of(account)?
    } {
        let pair = Pair::read(records, account, id)?;
        let Seen {
            owner: Ownership::Held { claim, verified },
            email,
            ..
        } = pair.seen(records)?
        else {
            continue;
        };
        if claim.account == account {
            emails.push(HeldEmail::read(records, id, claim, email.used_as, verified)?);
        } else if let Some(own) = email.claims.iter().find(|claim| claim.account == account) {
            match HeldEmail::read(records, id, own, None, false) {
                Ok(held) => lost.push(held.address),
                // It is about to be superseded, and no reason to refuse the rest.
                Err(OperationError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(AccountState {
        created,
        cancelled: view.cancelled,
        has_password: view.usable_password().is_some(),
        epoch: view.epoch,
        emails,
        lost,
    }))
}

/// The account, if it may do anything.
pub(super) fn standing(view: Option<AccountView>) -> Result<AccountView, Refusal> {
    match view.filter(claims::exists) {
        None => Err(Refusal::UnknownAccount),
        Some(view) if view.cancelled => Err(Refusal::Cancelled),
        Some(view) => Ok(view),
    }
}

/// One and the same password, though perhaps hashed anew in between.
pub(super) fn is_same(one: &Password, other: &Password) -> bool {
    (one.resets, one.changed, one.done) == (other.resets, other.changed, other.done)
}
