//! What can be asked about accounts.

use std::collections::BTreeSet;

use crdt::{AccountId, EmailId, Epoch, Password};
use serde::{Deserialize, Serialize};

use super::{Operation, Reading, Writing};
use crate::{
    identity::{
        AccountState, Address, HashedPassword, OperationError, Refusal, SignedIn, Word,
        account::{cancel, change, reset, sign_out_everywhere, sign_up, state},
    },
    store::{Records, Txn},
};

/// What is known of an account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadAccount {
    /// Which.
    pub account: AccountId,
}

impl Operation for ReadAccount {
    const NAME: &'static str = "account";
    type Answer = Option<AccountState>;
}

impl Reading for ReadAccount {
    fn read(&self, records: &impl Records, _: u64) -> Result<Self::Answer, OperationError> {
        state(records, self.account)
    }
}

/// Makes an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignUp {
    /// The address's record.
    pub email: EmailId,
    /// The address.
    pub address: Address,
    /// The password.
    pub password: HashedPassword,
    /// On whose word.
    pub word: Word,
}

impl Operation for SignUp {
    const NAME: &'static str = "sign-up";
    type Answer = AccountId;
}

impl Writing for SignUp {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<AccountId, Refusal>, OperationError> {
        sign_up(txn, self.email, &self.address, &self.password, self.word)
    }
}

/// Changes the password of somebody who knew `known`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChangePassword {
    /// Whose.
    pub account: AccountId,
    /// What they knew.
    pub known: Password,
    /// What takes its place.
    pub password: HashedPassword,
    /// The browser whose wrong tries were counted apart.
    #[serde(default)]
    pub device: Option<[u8; 16]>,
}

impl Operation for ChangePassword {
    const NAME: &'static str = "change-password";
    type Answer = Epoch;
}

impl Writing for ChangePassword {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<Epoch, Refusal>, OperationError> {
        change(txn, self.account, &self.known, &self.password, self.device)
    }
}

/// Sets a new password on a proof of an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResetPassword {
    /// The address's record.
    pub email: EmailId,
    /// The address.
    pub address: Address,
    /// The new password.
    pub password: HashedPassword,
    /// On whose word.
    pub word: Word,
}

impl Operation for ResetPassword {
    const NAME: &'static str = "reset-password";
    type Answer = SignedIn;
}

impl Writing for ResetPassword {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<SignedIn, Refusal>, OperationError> {
        reset(txn, self.email, &self.address, &self.password, self.word)
    }
}

/// Ends every session of an account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SignOutEverywhere {
    /// Whose.
    pub account: AccountId,
}

impl Operation for SignOutEverywhere {
    const NAME: &'static str = "sign-out-everywhere";
    type Answer = Epoch;
}

impl Writing for SignOutEverywhere {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<Epoch, Refusal>, OperationError> {
        sign_out_everywhere(txn, self.account)
    }
}

/// Ends an account for good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CancelAccount {
    /// Which.
    pub account: AccountId,
    /// Addresses released in this transaction at most.
    pub releases_max: usize,
    /// Addresses whose records take no write here.
    pub spoiled: BTreeSet<EmailId>,
}

impl Operation for CancelAccount {
    const NAME: &'static str = "cancel-account";
    type Answer = ();
}

impl Writing for CancelAccount {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        cancel(txn, self.account, self.releases_max, &self.spoiled)
    }
}
