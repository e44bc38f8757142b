//! What was begun comes true.
//!
//! It takes the token *and* something that who only clicks in a mail does not have: the nonce of the browser that began,
//! the password that was chosen at the beginning, or (for an address of an account) the account's password or a session
//! that was made with it. A reset takes the token and the new password. In the browser that began, the code of the mail
//! stands for the token.
//!
//! Promise: completed twice, at one site or at two, it is completed once; the second time signs a browser in only while
//! nothing has happened to the account since.

use crdt::{
    AccountId, AccountView, AccountWrite, CellKind, EmailId, Epoch, Hlc, Ownership, Password, Purpose, Tries,
};
use serde::{Deserialize, Serialize};

use super::{
    BegunHere, CODE_TRIES_MAX, Code, Found, SiteNumber, StagingId, State, Token, end, find,
    look::{self, ReadStaging, StagingFacts, nonce_for},
    mailed, open_of,
};
use crate::{
    identity::{
        Address, HashedPassword, Identity, OperationError, Outcome, Refusal, TypedPassword, Word, account,
        account::{is_same, standing},
        emails,
        operations::{Operation, ReadTarget, TargetOf, Writing},
        sign_in::{fail_under, forgive, live},
    },
    store::{Records, Txn},
};

/// A link that was followed, in some browser.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// From its address.
    pub token: &'a Token,
    /// What this browser holds, if it began anything.
    pub here: Option<&'a BegunHere>,
    /// To which account it is signed in with the password, if it is.
    pub session: Option<PasswordSession>,
}

/// A session that was made with the account's password and is good here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordSession {
    /// Of which account.
    pub account: AccountId,
    /// What it has seen.
    pub epoch: Epoch,
}

/// What completing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// It is so.
    Done(Completed),
    /// The code is not the one that was mailed.
    WrongCode {
        /// More may be tried.
        tries_left: u32,
    },
}

/// What came true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// What was completed.
    pub purpose: Purpose,
    /// The account that has the address now.
    pub account: AccountId,
    /// What a session made now has seen.
    pub epoch: Epoch,
    /// The address's record.
    pub email: EmailId,
    /// Whose the address was before, if it was somebody else's: they are to be told.
    pub former: Option<AccountId>,
    /// The browser that asked is the one that began.
    pub began_here: bool,
    /// The browser that asked may be signed in with the password's level. If not, whatever session it has stays what it
    /// is.
    pub signs_in: bool,
    /// It was so before: nothing was written, and nobody is to be told again.
    pub again: bool,
}

impl Identity {
    /// Completes what a link is for, if it is for one of `purposes`. `password` is the new one for a reset; else the one
    /// that was chosen at the beginning, or the account's, where the browser is not the one that began.
    pub async fn complete_by_link(
        &self,
        purposes: &[Purpose],
        link: Link<'_>,
        password: Option<TypedPassword>,
    ) -> Result<Outcome<Completion>, OperationError> {
        let id = link.token.id();
        self.complete(
            Asked {
                id,
                purposes: purposes.to_vec(),
                nonce_hash: nonce_for(id, link.here),
                code_hash: None,
                session: link.session,
            },
            Some(link.token.site()),
            password,
        )
        .await
    }

    /// Completes what this browser began, whatever it is, with the code of the mail. `password` is the new one for a
    /// reset, and has no part else.
    pub async fn complete_by_code(
        &self,
        here: &BegunHere,
        code: &Code,
        password: Option<TypedPassword>,
    ) -> Result<Outcome<Completion>, OperationError> {
        self.complete(
            Asked {
                id: here.id,
                purposes: ALL_PURPOSES.to_vec(),
                nonce_hash: Some(here.nonce.hash()),
                code_hash: Some(code.hash(&here.nonce)),
                session: None,
            },
            None,
            password,
        )
        .await
    }

    async fn complete(
        &self,
        asked: Asked,
        site: Option<SiteNumber>,
        password: Option<TypedPassword>,
    ) -> Result<Outcome<Completion>, OperationError> {
        if let Some(outcome) = self.recall().await? {
            return Ok(outcome);
        }
        let look = ReadStaging {
            id: asked.id,
            nonce_hash: asked.nonce_hash,
        };
        let facts = look::look(&self.replica, &look, site).await?;
        let Some(facts) = facts.filter(|facts| asked.purposes.contains(&facts.purpose)) else {
            return Ok(Outcome::Refused(Refusal::UnknownStaging));
        };
        let mut completing = CompleteStaging {
            asked,
            shown: Shown::Nothing,
            password: None,
        };
        match password {
            Some(new) if facts.purpose == Purpose::Reset => {
                if facts.state == State::Open {
                    completing.password = Some(self.passwords.hash(new).await?);
                }
            }
            Some(typed) if !facts.began_here => match self.shown_by(&facts, typed).await? {
                Ok(shown) => completing.shown = shown,
                Err(refusal) => return Ok(Outcome::Refused(refusal)),
            },
            Some(_) | None => {}
        }
        let outcome = self.write(completing).await?;
        if let Outcome::Done {
            value: Completion::Done(completed),
            ..
        } = &outcome
            && completed.purpose == Purpose::Reset
        {
            self.trying.forget(completed.account.into());
        }
        Ok(outcome)
    }

    /// What a password shows that was given beside a token: it is the one that was chosen at the beginning, or the
    /// account's.
    async fn shown_by(
        &self,
        facts: &StagingFacts,
        typed: TypedPassword,
    ) -> Result<Result<Shown, Refusal>, OperationError> {
        let staged = facts.password.clone().filter(|_| facts.state == State::Open);
        let Some(account) = facts.account else {
            return Ok(Err(Refusal::StagingEnded));
        };
        let is_staged = staged.is_some();
        let of = match staged {
            Some(chosen) => TargetOf::Staged { account, chosen },
            None => TargetOf::Account(account),
        };
        let target = ReadTarget { of, device: None };
        let target = self.replica.read(&target).await?;
        let target = match target {
            Ok(target) => target,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(self.try_password(target, typed, None).await?.map(|tried| {
            if is_staged {
                Shown::StagedPassword
            } else {
                Shown::AccountPassword(tried.password)
            }
        }))
    }
}

const ALL_PURPOSES: [Purpose; 5] = [
    Purpose::NewAccount,
    Purpose::AddEmail,
    Purpose::Reset,
    Purpose::Reverify,
    Purpose::Transition,
];

/// Completes a staging: [`Identity::complete_by_link`] and [`Identity::complete_by_code`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompleteStaging {
    /// Who asks for what.
    pub asked: Asked,
    /// What was checked beside.
    pub shown: Shown,
    /// The new password of a reset.
    pub password: Option<HashedPassword>,
}

/// Who asks for what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The hash of a token that was shown; without one, see `code_hash`.
    pub id: StagingId,
    /// What the token may be good for.
    pub purposes: Vec<Purpose>,
    /// Of the browser that asks, if it holds something of this staging.
    pub nonce_hash: Option<[u8; 32]>,
    /// Of a code that was typed in place of showing the token.
    pub code_hash: Option<[u8; 32]>,
    /// To which account the browser is signed in with the password.
    pub session: Option<PasswordSession>,
}

/// What a password that was checked shows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Shown {
    /// None was checked.
    Nothing,
    /// It is the one that was chosen at the beginning.
    StagedPassword,
    /// It is the account's.
    AccountPassword(Password),
}

impl Operation for CompleteStaging {
    const NAME: &'static str = "complete-staging";
    type Answer = Completion;
}

impl Writing for CompleteStaging {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<Completion, Refusal>, OperationError> {
        let id = self.asked.id;
        let known = find(txn, id, txn.now_ms())?;
        let Some(found) = known.filter(|found| self.asked.purposes.contains(&found.staging.purpose)) else {
            return Ok(Err(Refusal::UnknownStaging));
        };
        if let Some(code_hash) = self.asked.code_hash
            && let Some(otherwise) = self.try_code(txn, &found, code_hash)?
        {
            return Ok(otherwise);
        }
        let completed = match found.state {
            State::Ended => Err(Refusal::StagingEnded),
            State::Completed => self.again(txn, &found)?,
            State::Open => self.complete(txn, &found)?,
        };
        Ok(completed.map(Completion::Done))
    }
}

impl CompleteStaging {
    /// What a code comes to that is not right; `None` if it is.
    fn try_code(
        &self,
        txn: &mut Txn<'_>,
        found: &Found,
        code_hash: [u8; 32],
    ) -> Result<Option<Result<Completion, Refusal>>, OperationError> {
        if !found.began(self.asked.nonce_hash) {
            return Ok(Some(Err(Refusal::UnknownStaging)));
        }
        let cells = txn.cells(CellKind::TRIES, self.asked.id.as_bytes())?;
        let tried = Tries::total(live(&cells, txn.now_ms()));
        if tried >= CODE_TRIES_MAX {
            return Ok(Some(Err(Refusal::CodeEnded)));
        }
        if found.staging.code_hash == Some(code_hash) {
            return Ok(None);
        }
        fail_under(txn, self.asked.id.as_bytes(), 1)?;
        let tries_left = CODE_TRIES_MAX.saturating_sub(tried + 1);
        Ok(Some(Ok(Completion::WrongCode { tries_left })))
    }

    fn complete(
        &self,
        txn: &mut Txn<'_>,
        found: &Found,
    ) -> Result<Result<Completed, Refusal>, OperationError> {
        let staging = &found.staging;
        let (Some(email), Ok(address)) = (staging.email, Address::parse(&staging.address)) else {
            return Ok(Err(Refusal::StagingEnded));
        };
        if let Err(refusal) = self.is_vouched_for(txn, found)? {
            return Ok(Err(refusal));
        }
        let word = Word::Staged {
            proof: found.proof(self.asked.id),
            account: staging.account,
        };
        let before = txn.email(email)?.unwrap_or_default();
        let owner = match txn.owner_of(&before)? {
            Ownership::Held { claim, .. } => Some(claim.account),
            Ownership::Free => None,
        };
        let staged = staging.password_hash.clone();
        let staged = staged.map(HashedPassword::from_phc).transpose()?;
        let (account, epoch, signs_in) = match staging.purpose {
            Purpose::NewAccount => {
                let Some(password) = staged else {
                    return Ok(Err(Refusal::StagingEnded));
                };
                match account::sign_up(txn, email, &address, &password, word)? {
                    Ok(account) => (account, Epoch::default(), true),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            Purpose::Reset | Purpose::Transition => {
                let chosen = if staging.purpose == Purpose::Reset {
                    self.password.clone()
                } else {
                    staged
                };
                let Some(password) = chosen else {
                    return Ok(Err(Refusal::PasswordNeeded));
                };
                match account::reset(txn, email, &address, &password, word)? {
                    Ok(signed_in) => (signed_in.account, signed_in.epoch, true),
                    Err(refusal) => return Ok(Err(refusal)),
                }
            }
            Purpose::AddEmail | Purpose::Reverify => {
                let Some((account, _)) = staging.account else {
                    return Ok(Err(Refusal::StagingEnded));
                };
                if let Err(refusal) = emails::add(txn, account, email, &address, word)? {
                    return Ok(Err(refusal));
                }
                let view = txn.account(account)?.unwrap_or_default();
                if let Some(hashed) = staged
                    && !txn.is_empty()
                {
                    first_password(txn, account, &view, found, self.asked.id, &hashed);
                }
                let knows = match self.shown {
                    Shown::Nothing => false,
                    Shown::StagedPassword => view.usable_password().is_none(),
                    Shown::AccountPassword(_) => true,
                };
                (account, view.epoch, knows)
            }
        };
        if txn.is_empty() {
            // Completed at another site, and all that says so but the staging has come.
            return self.again(txn, found);
        }
        let now_ms = txn.now_ms();
        let mails = mailed(txn, email, now_ms)?;
        for (other, rest) in open_of(txn, &mails, now_ms)? {
            if other != self.asked.id {
                end(txn, other, &rest, false);
            }
        }
        end(txn, self.asked.id, found, true);
        if signs_in {
            // Wrong ones may have been tried while it was not made yet.
            forgive(txn, account.into())?;
        }
        Ok(Ok(Completed {
            purpose: staging.purpose,
            account,
            epoch,
            email,
            former: owner.filter(|former| *former != account),
            began_here: found.began(self.asked.nonce_hash),
            signs_in,
            again: false,
        }))
    }

    /// Whether this is more than a click in a mail.
    fn is_vouched_for(
        &self,
        records: &impl Records,
        found: &Found,
    ) -> Result<Result<(), Refusal>, OperationError> {
        let staging = &found.staging;
        let began = found.began(self.asked.nonce_hash)
            || (staging.password_hash.is_some() && matches!(self.shown, Shown::StagedPassword));
        let account = match (staging.purpose, staging.account) {
            (Purpose::NewAccount | Purpose::Transition, _) if began => return Ok(Ok(())),
            (Purpose::Reset, _) if self.password.is_some() => return Ok(Ok(())),
            (Purpose::AddEmail | Purpose::Reverify, Some((account, _))) => account,
            _ => return Ok(Err(Refusal::PasswordNeeded)),
        };
        let view = match standing(records.account(account)?) {
            Ok(view) => view,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.is_of(account, &view) {
            return Ok(Ok(()));
        }
        if !began {
            return Ok(Err(Refusal::PasswordNeeded));
        }
        // Who began it did so in a session. If the account's have been ended since, that one was, too.
        Ok(match staging.epoch_at.cmp(&view.epoch.at) {
            std::cmp::Ordering::Less => Err(Refusal::LaterReset),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Refusal::NotYet),
        })
    }

    /// Whether who asks knows the account's password, or is signed in with it.
    fn is_of(&self, account: AccountId, view: &AccountView) -> bool {
        let knows = match &self.shown {
            Shown::AccountPassword(known) => view
                .usable_password()
                .is_some_and(|password| is_same(password, known)),
            Shown::Nothing | Shown::StagedPassword => false,
        };
        let session = self.asked.session;
        knows || session.is_some_and(|session| session.account == account && session.epoch >= view.epoch)
    }

    /// What came true before, for whoever asks again.
    fn again(
        &self,
        records: &impl Records,
        found: &Found,
    ) -> Result<Result<Completed, Refusal>, OperationError> {
        let staging = &found.staging;
        let (Some(email), Some(account)) = (staging.email, found.account(self.asked.id)) else {
            return Ok(Err(Refusal::StagingEnded));
        };
        if staging.purpose == Purpose::Reset && self.asked.code_hash.is_none() {
            // It may come with another password than the one that stands.
            return Ok(Err(Refusal::StagingEnded));
        }
        let view = match standing(records.account(account)?) {
            Ok(view) => view,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = records.email(email)?.unwrap_or_default();
        let Ownership::Held { claim, verified } = records.owner_of(&known)? else {
            return Ok(Err(Refusal::LaterProof));
        };
        if claim.account != account || claim.proof != staging.at {
            return Ok(Err(Refusal::LaterProof));
        }
        let knows = matches!(self.shown, Shown::AccountPassword(_)) && self.is_of(account, &view);
        let began_here = found.began(self.asked.nonce_hash);
        if !knows && !began_here && !self.is_of(account, &view) {
            return Ok(Err(Refusal::PasswordNeeded));
        }
        // The browser that began, or a code, is as good as it was then only while nothing has ended that.
        let unchanged = match staging.purpose {
            Purpose::NewAccount => view.epoch == Epoch::default(),
            Purpose::Reset | Purpose::Transition => {
                let made = view
                    .usable_password()
                    .filter(|password| password.changed == staging.at);
                made.is_some_and(|password| view.epoch.at == password.done)
            }
            Purpose::AddEmail | Purpose::Reverify => false,
        };
        Ok(Ok(Completed {
            purpose: staging.purpose,
            account,
            epoch: view.epoch,
            email,
            former: None,
            began_here,
            signs_in: knows || (began_here && unchanged && verified),
            again: true,
        }))
    }
}

/// The first password of an account that has none: a function of the staging, but for when it was done. No session
/// ends.
fn first_password(
    txn: &mut Txn<'_>,
    account: AccountId,
    view: &AccountView,
    found: &Found,
    id: StagingId,
    hashed: &HashedPassword,
) {
    if view.usable_password().is_some() {
        return;
    }
    let at: Hlc = found.staging.at;
    let done = txn.stamp_past(view.latest().max(at));
    let salt = found.proof(id).password_salt();
    let vault = txn.put_vault_salted(salt, hashed.as_phc().as_bytes().to_vec());
    let password = Password {
        resets: view.resets(),
        changed: at,
        done,
        rehashes: 0,
        vault,
    };
    txn.write_account(account, AccountWrite::Password(password));
}
