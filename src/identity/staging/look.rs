//! What a browser, or the bearer of a token, may know of a staging.

use crdt::{AccountId, EmailId, Purpose};
use serde::{Deserialize, Serialize};

use super::{BegunHere, SiteNumber, StagingId, State, Token, find};
use crate::{
    identity::{
        Address, Directory, HashedPassword, OperationError,
        operations::{Access, Operation, Reading},
        replica::Replica,
    },
    store::Records,
};

/// What the browser that began learns by asking. It grants nothing: who learns that it is done has yet to prove
/// themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StagingStatus {
    /// It waits.
    Pending,
    /// It came true.
    Completed {
        /// For which account. Whoever is signed in to it is done; others have to give the password or the code.
        account: AccountId,
    },
    /// Another of the same address came true, or too many were begun since: begin again.
    Ended,
}

/// What the bearer of a token learns before completing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The address.
    pub address: Address,
    /// What the token is good for.
    pub purpose: Purpose,
    /// The account that it is for; none for a sign-up.
    pub account: Option<AccountId>,
    /// The browser that asks is the one that began.
    pub began_here: bool,
}

impl TokenFacts {
    /// Whether a password has to be given: the one that was chosen at the beginning, or the account's. `session` is
    /// the account to which this browser is signed in with its password, if it is.
    pub fn must_auth(&self, session: Option<AccountId>) -> bool {
        match self.purpose {
            Purpose::Reset => false,
            Purpose::NewAccount | Purpose::Transition => !self.began_here,
            Purpose::AddEmail | Purpose::Reverify => {
                !self.began_here && (session.is_none() || session != self.account)
            }
        }
    }

    /// Whether a new password is to be chosen.
    pub fn needs_password(&self) -> bool {
        self.purpose == Purpose::Reset
    }
}

impl Directory {
    /// How what this browser began stands; `None` if nothing is known of it here, which is what nobody's address and
    /// one of yesterday look like.
    pub async fn staging_status(&self, here: &BegunHere) -> Result<Option<StagingStatus>, OperationError> {
        let look = ReadStagingStatus {
            id: here.id,
            nonce_hash: here.nonce.hash(),
        };
        self.replica.read(&look).await
    }

    /// What a token is for; `None` if it is for nothing, or not any more. A token from another site is waited for.
    pub async fn token(
        &self,
        token: &Token,
        here: Option<&BegunHere>,
    ) -> Result<Option<TokenFacts>, OperationError> {
        let look = ReadToken {
            id: token.id(),
            nonce_hash: nonce_for(token.id(), here),
        };
        if let Some(facts) = self.replica.read(&look).await? {
            return Ok(Some(facts));
        }
        if self.replica.fetch_staging(token.id(), token.site()).await? {
            self.replica.read(&look).await
        } else {
            Ok(None)
        }
    }
}

/// What of a cookie counts for a staging: a nonce is for its own only.
pub(super) fn nonce_for(id: StagingId, here: Option<&BegunHere>) -> Option<[u8; 32]> {
    here.filter(|here| here.id == id).map(|here| here.nonce.hash())
}

/// How a staging stands, for the browser that began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadStagingStatus {
    /// Which.
    pub id: StagingId,
    /// What shows that it began.
    #[serde(with = "serde_bytes")]
    pub nonce_hash: [u8; 32],
}

impl Operation for ReadStagingStatus {
    const NAME: &'static str = "staging-status";
    type Answer = Option<StagingStatus>;
}

impl Reading for ReadStagingStatus {
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Self::Answer, OperationError> {
        let found = find(records, self.id, now_ms)?.filter(|found| found.began(Some(self.nonce_hash)));
        Ok(found.map(|found| match (found.state, found.account(self.id)) {
            (State::Open, _) => StagingStatus::Pending,
            (State::Completed, Some(account)) => StagingStatus::Completed { account },
            (State::Completed, None) | (State::Ended, _) => StagingStatus::Ended,
        }))
    }
}

/// What a token is for, by its hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadToken {
    /// The token's hash.
    pub id: StagingId,
    /// Of the browser that asks, if it holds something of this staging.
    pub nonce_hash: Option<[u8; 32]>,
}

impl Operation for ReadToken {
    const NAME: &'static str = "token";
    type Answer = Option<TokenFacts>;
}

impl Reading for ReadToken {
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Self::Answer, OperationError> {
        let found = find(records, self.id, now_ms)?.filter(|found| found.state == State::Open);
        Ok(found.and_then(|found| {
            Some(TokenFacts {
                address: Address::parse(&found.staging.address).ok()?,
                purpose: found.staging.purpose,
                account: found.staging.account.map(|(account, _)| account),
                began_here: found.began(self.nonce_hash),
            })
        }))
    }
}

/// What completing has to know before it begins. It tells a hash, so it is for secure webheads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReadStaging {
    /// Which.
    pub id: StagingId,
    /// Of the browser that asks, if it holds something of this staging.
    pub nonce_hash: Option<[u8; 32]>,
}

/// A staging, for whoever completes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StagingFacts {
    /// What it is good for.
    pub purpose: Purpose,
    /// The address's record.
    pub email: Option<EmailId>,
    /// The account that it is for, or makes.
    pub account: Option<AccountId>,
    /// The password that was chosen at the beginning.
    pub password: Option<HashedPassword>,
    /// The browser that asks is the one that began.
    pub began_here: bool,
    /// How far it is.
    pub state: State,
}

impl Operation for ReadStaging {
    const NAME: &'static str = "staging";
    type Answer = Option<StagingFacts>;
}

impl Reading for ReadStaging {
    const ACCESS: Access = Access::Write;

    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Self::Answer, OperationError> {
        let Some(found) = find(records, self.id, now_ms)? else {
            return Ok(None);
        };
        let password = found.staging.password_hash.clone();
        Ok(Some(StagingFacts {
            purpose: found.staging.purpose,
            email: found.staging.email,
            account: found.account(self.id),
            password: password.map(HashedPassword::from_phc).transpose()?,
            began_here: found.began(self.nonce_hash),
            state: found.state,
        }))
    }
}

/// Reads a staging, which may not have come here yet.
pub(super) async fn look(
    replica: &Replica,
    look: &ReadStaging,
    site: Option<SiteNumber>,
) -> Result<Option<StagingFacts>, OperationError> {
    if let Some(facts) = replica.read(look).await? {
        return Ok(Some(facts));
    }
    match site {
        Some(site) if replica.fetch_staging(look.id, site).await? => replica.read(look).await,
        _ => Ok(None),
    }
}
