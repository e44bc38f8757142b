//! The addresses of an account: added, moved here from another, removed.

use crdt::{AccountId, Claim, ClaimedBy, EmailId, EmailView, EmailWrite, Hlc, Ownership, UsedAs};
use serde::{Deserialize, Serialize};

use super::{
    Address, Directory, Identity, OperationError, Outcome, Pair, Proof, Refusal, Word,
    claims::{self, Completion},
    operations::{AddEmail, ReadEmail, RemoveEmail},
};
use crate::{
    planted::{self, Bug},
    store::{Records, Txn},
};

/// Addresses of one account at most. All of them must fit into the one transaction that cancels the account.
pub const EMAILS_MAX: usize = 100;

/// An address that an account owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldEmail {
    /// Its record.
    pub id: EmailId,
    /// As its owner typed it.
    pub address: Address,
    /// It was proven since the account's last reset.
    pub verified: bool,
    /// When control of it was proven.
    pub proof: Hlc,
    /// When that was completed.
    pub done: Hlc,
    /// What its owner used it as last.
    #[serde(default)]
    pub used_as: Option<UsedAs>,
}

/// What one replica knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailState {
    /// Its record.
    pub id: EmailId,
    /// Who has it.
    pub holder: Option<Holder>,
    /// What its owner used it as last.
    pub used_as: Option<UsedAs>,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The account.
    pub account: AccountId,
    /// It was proven since the account's last reset.
    pub verified: bool,
}

impl HeldEmail {
    pub(super) fn read(
        records: &impl Records,
        id: EmailId,
        claim: &Claim,
        used_as: Option<(UsedAs, Hlc)>,
        verified: bool,
    ) -> Result<HeldEmail, OperationError> {
        let missing = || OperationError::Missing { key: id.into() };
        let typed = records.vault(claim.vault)?.ok_or_else(missing)?;
        // What the vault proves to be the value that was put was an address when it was put.
        let address = std::str::from_utf8(&typed)
            .ok()
            .and_then(|typed| Address::parse(typed).ok());
        let address = address.ok_or_else(missing)?;
        Ok(HeldEmail {
            id,
            address,
            verified,
            proof: claim.proof,
            done: claim.done,
            used_as: used_as.map(|(used_as, _)| used_as),
        })
    }
}

impl Identity {
    /// Gives an address to an account that proved it: a new one, one that another account had (the latest proof
    /// wins), or one of its own, which is then verified again.
    pub async fn add_email(
        &self,
        account: AccountId,
        address: Address,
        word: Word,
    ) -> Result<Outcome<EmailId>, OperationError> {
        let email = self.email_id(&address);
        self.write(AddEmail {
            account,
            email,
            address,
            word,
        })
        .await
    }

    /// Lets an address go. It may be the last one: then nobody comes into the account any more, and its
    /// sessions end.
    pub async fn remove_email(
        &self,
        account: AccountId,
        address: &Address,
    ) -> Result<Outcome<EmailId>, OperationError> {
        let email = self.email_id(address);
        self.write(RemoveEmail { account, email }).await
    }

    /// What is known of an address here.
    pub async fn email(&self, address: &Address) -> Result<EmailState, OperationError> {
        self.directory().email(address).await
    }

    /// Whether a sign-up would be told so.
    pub(super) async fn is_taken(&self, email: EmailId) -> Result<bool, OperationError> {
        let state = self.replica.read(&ReadEmail { email }).await?;
        Ok(state.holder.is_some_and(|holder| holder.verified))
    }
}

impl Directory {
    /// What is known of an address here.
    pub async fn email(&self, address: &Address) -> Result<EmailState, OperationError> {
        let email = self.email_id(address);
        self.replica.read(&ReadEmail { email }).await
    }
}

/// What one moment of the records says of an address.
pub(super) fn state(records: &impl Records, id: EmailId) -> Result<EmailState, OperationError> {
    let view = records.email(id)?.unwrap_or_default();
    let holder = match records.owner_of(&view)? {
        Ownership::Free => None,
        Ownership::Held { claim, verified } => Some(Holder {
            account: claim.account,
            verified,
        }),
    };
    Ok(EmailState {
        id,
        holder,
        used_as: view.used_as.map(|(used_as, _)| used_as),
    })
}

/// An addition, within its transaction.
pub(crate) fn add(
    txn: &mut Txn<'_>,
    account: AccountId,
    email: EmailId,
    address: &Address,
    word: Word,
) -> Result<Result<EmailId, Refusal>, OperationError> {
    let pair = Pair::read(txn, account, email)?;
    let resets = pair.account.as_ref().map_or(0, crdt::AccountView::resets);
    let begun = match word {
        Word::Operator | Word::Asserted => resets,
        Word::Staged {
            account: Some((of, resets)),
            ..
        } if of == account => resets,
        // A token serves its own purpose and account only.
        Word::Staged { .. } => return Ok(Err(Refusal::NotHeld)),
    };
    let proof = word.proof(txn, pair.latest());
    match claims::addition(account, begun, proof.at, &pair.seen(txn)?) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Completion::Already) => return Ok(Ok(email)),
        Ok(Completion::New) => {}
    }
    let held = txn.emails_of(account)?;
    if held.len() >= EMAILS_MAX && !held.contains(&email) {
        return Ok(Err(Refusal::TooManyAddresses));
    }
    let done = txn.stamp_past(pair.latest().max(proof.at));
    claim(txn, account, resets, email, address, &pair.email, &proof, done);
    Ok(Ok(email))
}

/// A removal, within its transaction.
pub(crate) fn remove(
    txn: &mut Txn<'_>,
    account: AccountId,
    email: EmailId,
) -> Result<Result<EmailId, Refusal>, OperationError> {
    let pair = Pair::read(txn, account, email)?;
    if let Err(refusal) = claims::removal(account, &pair.seen(txn)?) {
        return Ok(Err(refusal));
    }
    let at = txn.stamp_past(pair.email.latest());
    txn.write_email(email, EmailWrite::Release { account, at });
    Ok(Ok(email))
}

/// Writes a claim, with the address in the vault under an id of the claim's own.
#[expect(clippy::too_many_arguments, reason = "a claim is that many things")]
pub(super) fn claim(
    txn: &mut Txn<'_>,
    account: AccountId,
    resets: u32,
    email: EmailId,
    address: &Address,
    known: &EmailView,
    proof: &Proof,
    done: Hlc,
) {
    let salt = if planted::is(Bug::VaultIdReused) {
        let mut salt = [0; 16];
        salt[..15].copy_from_slice(account.as_bytes());
        salt
    } else {
        proof.address_salt()
    };
    let vault = txn.put_vault_salted(salt, address.typed().as_bytes().to_vec());
    let claim = Claim {
        account,
        vault,
        proof: proof.at,
        done,
        resets,
        by: proof.by,
        released: Vec::new(),
    };
    txn.write_email(email, EmailWrite::Claim(claim));
    // An address whose own domain vouches is used as a primary from then on, any other as a secondary, which is
    // also what no value means.
    let used_as = if proof.by == ClaimedBy::Idp {
        UsedAs::Primary
    } else {
        UsedAs::Secondary
    };
    if known.used_as.map_or(UsedAs::Secondary, |(used_as, _)| used_as) != used_as {
        txn.write_email(email, EmailWrite::UsedAs(used_as, done));
    }
}
