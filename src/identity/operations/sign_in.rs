//! What can be asked about passwords that are tried.

use crdt::{AccountId, EmailId, Password, RecordKey};
use serde::{Deserialize, Serialize};

use super::{Access, Operation, Reading, Writing};
use crate::{
    identity::{
        HashedPassword, OperationError, Refusal,
        sign_in::{Target, fail, forgive, rehash},
    },
    store::{Records, Txn},
};

/// What a password is to be tried against. It tells a hash, so it is for secure webheads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ReadTarget {
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
        match self {
            ReadTarget::Email(email) => Target::email(records, *email, now_ms).map(Ok),
            ReadTarget::Account(account) => Target::account(records, *account, now_ms),
            ReadTarget::Staged { account, chosen } => {
                Target::staged(records, *account, now_ms, chosen.clone()).map(Ok)
            }
        }
    }
}

/// Counts wrong passwords. It always refuses: that is what a wrong password comes to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CountWrong {
    /// Where they are counted: the account, or an address that nobody has.
    pub key: RecordKey,
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
        Ok(Ok(()))
    }
}
