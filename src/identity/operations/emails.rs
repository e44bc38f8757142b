//! What can be asked about addresses.

use crdt::{AccountId, EmailId};
use serde::{Deserialize, Serialize};

use super::{Operation, Reading, Writing};
use crate::{
    identity::{
        Address, EmailState, OperationError, Refusal, Word,
        emails::{add, remove, state},
    },
    store::{Records, Txn},
};

/// What is known of an address.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadEmail {
    /// Its record.
    pub email: EmailId,
}

impl Operation for ReadEmail {
    const NAME: &'static str = "email";
    type Answer = EmailState;
}

impl Reading for ReadEmail {
    fn read(&self, records: &impl Records, _: u64) -> Result<EmailState, OperationError> {
        state(records, self.email)
    }
}

/// Gives an address to an account that proved it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AddEmail {
    /// Whose it becomes.
    pub account: AccountId,
    /// The address's record.
    pub email: EmailId,
    /// The address.
    pub address: Address,
    /// On whose word.
    pub word: Word,
}

impl Operation for AddEmail {
    const NAME: &'static str = "add-email";
    type Answer = EmailId;
}

impl Writing for AddEmail {
    /// A secure webhead has verified an assertion; of a proof by mail the staging tells, and of an operator's word nobody.
    fn is_for_tiers(&self) -> bool {
        self.word == Word::Asserted
    }

    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<EmailId, Refusal>, OperationError> {
        add(txn, self.account, self.email, &self.address, self.word)
    }
}

/// Lets an address go.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RemoveEmail {
    /// Whose it is.
    pub account: AccountId,
    /// The address's record.
    pub email: EmailId,
}

impl Operation for RemoveEmail {
    const NAME: &'static str = "remove-email";
    type Answer = EmailId;
}

impl Writing for RemoveEmail {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<EmailId, Refusal>, OperationError> {
        remove(txn, self.account, self.email)
    }
}
