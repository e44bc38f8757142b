//! What can be asked about domains that certify their own users, and by those.

use crdt::{AccountId, EmailId, UsedAs};
use serde::{Deserialize, Serialize};

use super::{Operation, Writing};
use crate::{
    identity::{
        Address, OperationError, Refusal, SignedIn,
        address::DomainKey,
        primaries::{note, sign_in, use_as},
    },
    store::Txn,
};

/// Signs in by an assertion.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignInAsPrimary {
    /// The address's record.
    pub email: EmailId,
    /// The address.
    pub address: Address,
}

impl Operation for SignInAsPrimary {
    const NAME: &'static str = "sign-in-as-primary";
    type Answer = SignedIn;
}

impl Writing for SignInAsPrimary {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<SignedIn, Refusal>, OperationError> {
        sign_in(txn, self.email, &self.address)
    }
}

/// Notes what an address is used as.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SetUsedAs {
    /// Whose it is.
    pub account: AccountId,
    /// The address's record.
    pub email: EmailId,
    /// What it is used as.
    pub used_as: UsedAs,
}

impl Operation for SetUsedAs {
    const NAME: &'static str = "set-used-as";
    type Answer = ();
}

impl Writing for SetUsedAs {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        use_as(txn, self.account, self.email, self.used_as)
    }
}

/// Notes whether a domain certifies its own users.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NoteIdp {
    /// Which domain.
    pub domain: DomainKey,
    /// It does; else it says itself that it does not.
    pub certifies: bool,
}

impl Operation for NoteIdp {
    const NAME: &'static str = "note-idp";
    type Answer = ();
}

impl Writing for NoteIdp {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        note(txn, self.domain, self.certifies)
    }
}
