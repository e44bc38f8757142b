//! What can be asked about passwords that are tried.

use crdt::{AccountId, EmailId, Password};
use serde::{Deserialize, Serialize};

use super::{Access, Operation, Reading, Writing};
use crate::{
    identity::{
        HashedPassword, OperationError, Refusal,
        sign_in::{Target, TriesKey, fail, forgive, rehash},
    },
    store::{Records, Txn},
};

/// What a password is to be tried against. It tells a hash, so it is for secure webheads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadTarget {
    /// What is given with the password.
    pub of: TargetOf,
    /// The browser that it comes from, if it may have signed in here before.
    pub device: Option<[u8; 16]>,
}

/// What is given with a password.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TargetOf {
    /// The account that has an address, or the address if nobody has it.
    Email(EmailId),
    /// An account by itself.
    Account(AccountId),
    /// A password that was chosen for an account, and is not its own yet.
    Staged {
        /// The account, which may not be made yet: wrong ones are counted there.
        account: AccountId,
        /// The password.
        chosen: HashedPassword,
    },
}

impl Operation for ReadTarget {
    const NAME: &'static str = "target";
    type Answer = Result<Target, Refusal>;
}

impl Reading for ReadTarget {
    const ACCESS: Access = Access::Write;

    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Self::Answer, OperationError> {
        match &self.of {
            TargetOf::Email(email) => Target::email(records, *email, self.device, now_ms).map(Ok),
            TargetOf::Account(account) => Target::account(records, *account, self.device, now_ms),
            TargetOf::Staged { account, chosen } => {
                Target::staged(records, *account, now_ms, chosen.clone()).map(Ok)
            }
        }
    }
}

/// Counts wrong passwords. It always refuses: that is what a wrong password comes to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountWrong {
    /// Where they are counted.
    pub key: TriesKey,
    /// How many.
    pub wrong: u32,
}

impl Operation for CountWrong {
    const NAME: &'static str = "count-wrong";
    type Answer = ();
}

impl Writing for CountWrong {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        fail(txn, self.key, self.wrong)?;
        Ok(Err(Refusal::WrongPassword))
    }
}

/// What a right password leads to: wrong ones before it are forgotten, and a hash made with old costs is replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// Whose password it was.
    pub account: AccountId,
    /// The browser whose wrong ones were counted apart.
    pub device: Option<[u8; 16]>,
    /// The password that was right, and its hash made anew.
    pub rehashed: Option<(Password, HashedPassword)>,
}

impl Operation for Welcome {
    const NAME: &'static str = "welcome";
    type Answer = ();
}

impl Writing for Welcome {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        if let Some((tried, hashed)) = &self.rehashed {
            rehash(txn, self.account, tried, hashed)?;
        }
        forgive(txn, self.account.into())?;
        if let Some(device) = self.device {
            forgive(txn, TriesKey::Device(self.account, device))?;
        }
        Ok(Ok(()))
    }
}
