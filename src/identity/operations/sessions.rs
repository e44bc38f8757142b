//! What can be asked about sessions.

use crdt::{AccountId, Epoch};
use gossip::Dot;
use serde::{Deserialize, Serialize};

use super::{Access, Operation, Reading, Writing};
use crate::{
    identity::{
        AccountState, OperationError, Refusal, SessionStanding, SignedInAt, SignedInNote,
        sessions::{end, is_news, note, places, raise},
    },
    store::{Records, Txn},
};

/// Whether a session is good. It waits for the session's last transaction, so it is no [`Reading`] of one moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadSession {
    /// Whose.
    pub account: AccountId,
    /// Its id.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// What it has seen of the account.
    pub epoch: Epoch,
    /// The last transaction that was written for it.
    pub last_dot: Option<Dot>,
}

impl Operation for ReadSession {
    const NAME: &'static str = "session";
    type Answer = SessionStanding;
}

/// The same, and the account of a session that is good: both of one moment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadSignedIn {
    /// Which session.
    pub session: ReadSession,
}

impl Operation for ReadSignedIn {
    const NAME: &'static str = "signed-in";
    type Answer = (SessionStanding, Option<AccountState>);
}

/// Where an account is signed in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadPlaces {
    /// Which account.
    pub account: AccountId,
}

impl Operation for ReadPlaces {
    const NAME: &'static str = "places";
    type Answer = Vec<SignedInAt>;
}

impl Reading for ReadPlaces {
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Vec<SignedInAt>, OperationError> {
        places(records, now_ms, self.account)
    }
}

/// Ends one session.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EndSession {
    /// Whose.
    pub account: AccountId,
    /// Its id.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// When its cookie ends, in milliseconds since 1970.
    pub expires_ms: u64,
}

impl Operation for EndSession {
    const NAME: &'static str = "end-session";
    type Answer = ();
}

impl Writing for EndSession {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        end(txn, self.account, self.id, self.expires_ms)
    }
}

/// Looks whether there is something to note.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IsSignedInNews {
    /// What would be noted.
    pub note: SignedInNote,
}

impl Operation for IsSignedInNews {
    const NAME: &'static str = "is-signed-in-news";
    type Answer = bool;
}

impl Reading for IsSignedInNews {
    const ACCESS: Access = Access::Write;

    fn read(&self, records: &impl Records, now_ms: u64) -> Result<bool, OperationError> {
        is_news(records, now_ms, &self.note)
    }
}

/// Notes where somebody is signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoteSignedIn {
    /// What is to be noted.
    pub note: SignedInNote,
}

impl Operation for NoteSignedIn {
    const NAME: &'static str = "note-signed-in";
    type Answer = ();
}

impl Writing for NoteSignedIn {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        note(txn, &self.note)
    }
}

/// Raises an account to an epoch that a session has seen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct RaiseEpoch {
    /// Which account.
    pub account: AccountId,
    /// What the session has seen.
    pub epoch: Epoch,
}

impl Operation for RaiseEpoch {
    const NAME: &'static str = "raise-epoch";
    type Answer = ();
}

impl Writing for RaiseEpoch {
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<(), Refusal>, OperationError> {
        raise(txn, self.account, self.epoch)
    }
}
