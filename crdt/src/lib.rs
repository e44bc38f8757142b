//! What an account is, and how two copies become one.
//!
//! This crate is pure: it has no clock, disk, socket, entropy or async. Time, random bytes and the writer's
//! id come in as arguments; bytes from a peer or a disk come in as slices, and the worst they can cause is an
//! `Err`.
//!
//! | module | subject |
//! | --- | --- |
//! | [`hlc`] | the hybrid logical clock that orders what was truly concurrent |
//! | [`id`] | keys and ids |
//! | [`vault`] | erasable personal data, which records only point to |
//! | [`account`], [`email`], [`cluster`] | the three kinds of record: their fields, and the policy that settles concurrent values |
//! | [`document`] | a record loaded, as an Automerge document handled with care |
//! | [`view`] | the small encoded answer that reads use in place of a document |
//! | [`cell`] | small values that expire |
//! | [`places`], [`idp_seen`] | what cells say of where an account is signed in, and of who certified its own users |
//! | [`transaction`] | what one write changes, atomically |
//! | [`digest`] | when two copies of a record count as equal |
//! | [`planted`] | mistakes that a laboratory's build makes on purpose |
//! | [`format`] | the byte formats' common ground: bounded reading, and why bytes were refused |
#![forbid(unsafe_code)]

pub mod account;
pub mod cell;
mod chunk;
pub mod cluster;
pub mod digest;
pub mod document;
pub mod email;
pub mod format;
pub mod hlc;
pub mod id;
pub mod idp_seen;
pub mod places;
pub mod planted;
pub mod transaction;
pub mod vault;
pub mod view;

pub use account::{AccountView, AccountWrite, Epoch, Password};
pub use cell::{Cell, CellKind, ERASED_SCOPE, Erased, Mailed, Purpose, RETRACTED_SCOPE, Staging, Tries};
pub use cluster::{
    Admission, ClusterView, ClusterWrite, Eviction, Invite, KeyField, KeyState, Member, MemberField,
    MemberState, SigningKey, TokenHash,
};
pub use digest::state_digest;
pub use document::{Actor, ApplyError, Document, Write, WriteError, decoding};
pub use email::{Claim, ClaimedBy, EmailView, EmailWrite, Ownership, Released, Standing, UsedAs};
pub use format::DecodeError;
pub use hlc::{CLOCK_AHEAD_MAX_MS, Clock, Hlc};
pub use id::{AccountId, EmailId, MemberId, RecordKey, RecordKind, VaultId};
pub use idp_seen::IdpSeen;
pub use places::{PLACES_MAX, Place, Places, WORDS_BYTES_MAX};
pub use transaction::{RecordChange, TRANSACTION_BYTES_MAX, Transaction};
pub use vault::{VAULT_BYTES_MAX, VaultValue};
pub use view::View;
