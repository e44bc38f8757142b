//! What can be asked of a replica, each under a name, so that whoever asks may be another process.
//!
//! An *operation* is a value that says all that is wanted; carrying it out takes one moment of the records (a
//! [`Reading`]) or one local transaction (a [`Writing`]), and nothing else. Where the replica is in this process no
//! byte is encoded. Where it is not, operation and answer travel as CBOR maps: a field that is added has to have a
//! default, and a name is never given to another meaning.
//!
//! There are two registries. Promise: [`read`] reaches nothing that writes, and nothing that tells a secret (a
//! password's hash, what an earlier request was answered): those are for secure webheads, through [`write`]. In neither
//! is what takes an address on somebody's mere word ([`SignUp`], [`ResetPassword`], [`AddEmail`] on another's word than its
//! domain's): that is for operators, at the replica itself. A tier completes stagings, which prove themselves.

mod account;
mod certificates;
mod emails;
mod primaries;
mod sessions;
mod sign_in;

use ciborium::de::from_reader_with_recursion_limit;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::{
    account::{CancelAccount, ChangePassword, ReadAccount, ResetPassword, SignOutEverywhere, SignUp},
    certificates::{Ping, ReadAddressFacts, ReadCertifiable, ReadStanding},
    emails::{AddEmail, ReadEmail, RemoveEmail},
    primaries::{NoteIdp, SetUsedAs, SignInAsPrimary},
    sessions::{EndSession, IsSignedInNews, NoteSignedIn, RaiseEpoch, ReadPlaces, ReadSession, ReadSignedIn},
    sign_in::{CountWrong, ReadTarget, TargetOf, Welcome},
};
use super::{
    OperationError, Refusal,
    once::{Once, Recall},
    replica::{DurabilityOf, FetchStaging, Follow, Here},
    staging::{
        begin::BeginStaging,
        complete::CompleteStaging,
        look::{ReadStaging, ReadStagingStatus, ReadToken},
    },
};
use crate::store::{Records, Txn};

/// Which registry an operation is in, and so which tiers may ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reads what a webhead or a keysigner may know.
    Read,
    /// Writes, or reads what only a secure webhead may know.
    Write,
}

/// Something that can be asked of a replica.
pub trait Operation: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name between processes. Retired, never reused.
    const NAME: &'static str;
    /// What it comes to.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// An operation that only reads.
pub trait Reading: Operation {
    /// Who may ask.
    const ACCESS: Access = Access::Read;

    /// Reads one moment of the records. `now_ms`, milliseconds since 1970, decides only about expiry.
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Self::Answer, OperationError>;
}

/// An operation that writes, by [`Access::Write`].
pub trait Writing: Operation {
    /// Whether a tier in another process may ask for it. What only an operator may ask for, who reaches a replica by the
    /// socket in its data directory, no tier may.
    fn is_for_tiers(&self) -> bool {
        true
    }

    /// Reads and stages within one transaction. What is staged is kept also beside a refusal: a wrong password counts.
    fn write(&self, txn: &mut Txn<'_>) -> Result<Result<Self::Answer, Refusal>, OperationError>;
}

/// Why there is no answer from a replica in another process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RemoteError {
    /// It did not answer in time, or not at all. Whether a write was written is not known: it may be repeated with
    /// the same [`Once`], here or at another site.
    #[error("the replica did not answer")]
    Unreachable,
    /// It does not know this operation: it runs another version.
    #[error("the replica knows no operation {0}")]
    UnknownOperation(String),
    /// The bytes are not what the operation takes or answers: one side runs another version.
    #[error("{0}: not what this operation takes or answers")]
    Malformed(String),
}

/// Bytes of a request at most: a transaction cannot carry more.
pub const REQUEST_BYTES_MAX: usize = gossip::TRANSACTION_BYTES_MAX;

/// A write as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct WriteRequest<W> {
    pub(super) operation: W,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) once: Option<Once>,
}

/// Carries out an operation that anybody inside may ask for: what a replica's listener for webheads and keysigners
/// calls. The answer is a CBOR `Result`, also when the operation itself fails.
pub async fn read(name: &str, request: &[u8], here: &Here) -> Result<Vec<u8>, RemoteError> {
    run(open(name, request, here)).await
}

/// Carries out an operation that only secure webheads may ask for.
pub async fn write(name: &str, request: &[u8], here: &Here) -> Result<Vec<u8>, RemoteError> {
    run(guarded(name, request, here)).await
}

type Running<'h> = Result<BoxFuture<'h, Result<Vec<u8>, RemoteError>>, RemoteError>;

async fn run(running: Running<'_>) -> Result<Vec<u8>, RemoteError> {
    running?.await
}

/// A function from a name to what carries it out. A name twice in one registry is an unreachable pattern, which the
/// compiler tells.
macro_rules! registry {
    (
        $(#[$doc:meta])*
        fn $registry:ident, $access:pat,
        readings: [$($reading:ty),* $(,)?];
        writings: [$($writing:ty),* $(,)?];
        others: [$($other:ty => $carry_out:path),* $(,)?];
    ) => {
        $(#[$doc])*
        fn $registry<'h>(name: &str, request: &[u8], here: &'h Here) -> Running<'h> {
            $(const {
                assert!(
                    matches!(<$reading as Reading>::ACCESS, $access),
                    "this reading is for the other registry"
                );
            })*
            match name {
                $(<$reading as Operation>::NAME => carry_reading::<$reading>(request, here),)*
                $(<$writing as Operation>::NAME => carry_writing::<$writing>(request, here),)*
                $(<$other as Operation>::NAME => $carry_out(request, here),)*
                name => Err(RemoteError::UnknownOperation(name.chars().take(NAME_CHARS_MAX).collect())),
            }
        }

        mod $registry {
            use super::*;

            pub(super) const NAMES: &[&str] = &[
                $(<$reading as Operation>::NAME,)*
                $(<$writing as Operation>::NAME,)*
                $(<$other as Operation>::NAME,)*
            ];
        }
    };
}

/// Of a name that is not known so many characters are told back.
const NAME_CHARS_MAX: usize = 64;

registry! {
    /// What webheads and keysigners may ask.
    fn open, Access::Read,
    readings: [
        ReadAccount,
        ReadEmail,
        ReadPlaces,
        ReadCertifiable,
        ReadStanding,
        ReadAddressFacts,
        Ping,
        ReadStagingStatus,
        ReadToken,
    ];
    writings: [];
    others: [
        Follow => carry_follow,
        ReadSession => carry_session,
        ReadSignedIn => carry_signed_in,
        FetchStaging => carry_fetch_staging,
    ];
}

registry! {
    /// What secure webheads may ask.
    fn guarded, Access::Write,
    readings: [
        Recall,
        ReadTarget,
        IsSignedInNews,
        ReadStaging,
    ];
    writings: [
        ChangePassword,
        SignOutEverywhere,
        CancelAccount,
        AddEmail,
        RemoveEmail,
        CountWrong,
        Welcome,
        EndSession,
        NoteSignedIn,
        RaiseEpoch,
        SignInAsPrimary,
        SetUsedAs,
        NoteIdp,
        BeginStaging,
        CompleteStaging,
    ];
    others: [DurabilityOf => carry_durability];
}

fn carry_reading<'h, R: Reading>(request: &[u8], here: &'h Here) -> Running<'h> {
    let reading: R = decode(R::NAME, request)?;
    Ok(Box::pin(async move { encode(R::NAME, &here.read(&reading)) }))
}

fn carry_writing<'h, W: Writing>(request: &[u8], here: &'h Here) -> Running<'h> {
    let WriteRequest { operation, once } = decode::<WriteRequest<W>>(W::NAME, request)?;
    if !operation.is_for_tiers() {
        return Err(RemoteError::UnknownOperation(W::NAME.to_owned()));
    }
    Ok(Box::pin(async move {
        encode(W::NAME, &here.write(operation, once).await)
    }))
}

fn carry_follow<'h>(request: &[u8], here: &'h Here) -> Running<'h> {
    let Follow { dot } = decode(Follow::NAME, request)?;
    Ok(Box::pin(async move {
        encode(Follow::NAME, &Ok::<_, OperationError>(here.follow(dot).await))
    }))
}

fn carry_session<'h>(request: &[u8], here: &'h Here) -> Running<'h> {
    let session: ReadSession = decode(ReadSession::NAME, request)?;
    Ok(Box::pin(async move {
        encode(ReadSession::NAME, &here.session(session).await)
    }))
}

fn carry_signed_in<'h>(request: &[u8], here: &'h Here) -> Running<'h> {
    let ReadSignedIn { session } = decode(ReadSignedIn::NAME, request)?;
    Ok(Box::pin(async move {
        encode(ReadSignedIn::NAME, &here.signed_in(session).await)
    }))
}

fn carry_fetch_staging<'h>(request: &[u8], here: &'h Here) -> Running<'h> {
    let FetchStaging { id, site } = decode(FetchStaging::NAME, request)?;
    Ok(Box::pin(async move {
        let is_here = here.fetch_staging(id, site).await;
        encode(FetchStaging::NAME, &Ok::<_, OperationError>(is_here))
    }))
}

fn carry_durability<'h>(request: &[u8], here: &'h Here) -> Running<'h> {
    let DurabilityOf { dot } = decode(DurabilityOf::NAME, request)?;
    Ok(Box::pin(async move {
        encode(
            DurabilityOf::NAME,
            &Ok::<_, OperationError>(here.durability_of(dot).await),
        )
    }))
}

pub(super) fn encode<T: Serialize>(name: &str, value: &T) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = Vec::new();
    match ciborium::into_writer(value, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(RemoteError::Malformed(name.to_owned())),
    }
}

/// What is wrong is not told: it may quote what was sent.
pub(super) fn decode<T: DeserializeOwned>(name: &str, mut bytes: &[u8]) -> Result<T, RemoteError> {
    let malformed = || RemoteError::Malformed(name.to_owned());
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(malformed());
    }
    let value = from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX).map_err(|_| malformed())?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(malformed())
    }
}

/// How deep a request or an answer may nest.
const DEPTH_MAX: usize = 32;

/// What can be asked with this access: for who makes sure that somebody may not.
pub fn names(access: Access) -> &'static [&'static str] {
    match access {
        Access::Read => open::NAMES,
        Access::Write => guarded::NAMES,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_in_one_registry_and_once() {
        let all: Vec<&str> = open::NAMES.iter().chain(guarded::NAMES).copied().collect();
        let names: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| name.len() <= NAME_CHARS_MAX));
    }
}
