//! What waits for the proof of an address: begun by a browser, completed by whoever read the mail.
//!
//! A *staging* is a cell under the hash of its token. The token is in the mail and nowhere else; the browser that began
//! holds a [`Nonce`] of its own, and the staging its hash. A site number in the token says who was asked first, so that a
//! site to which the cell has not come knows whom to ask.
//!
//! | module | subject |
//! | --- | --- |
//! | [`secrets`] | token, code, nonce, and what of them is kept |
//! | [`throttle`] | how much mail an address gets: pure |
//! | [`begin`] | a staging is made, and a mail is to be sent |
//! | [`complete`] | what was begun comes true |
//! | [`look`] | what a browser, or the bearer of a token, may know of one |
//!
//! What each rule is against:
//!
//! | who tries | what keeps them out |
//! | --- | --- |
//! | has another's address proven by a click in a mail | the click alone completes nothing: the browser that began, or a password, is needed as well |
//! | sets a password for an account through a click | a reset takes the new password from whoever has the token |
//! | reads cells, or cookies | they hold hashes of the token and the nonce, and a code only under the nonce |
//! | guesses the code | five tries, counted over all sites, and only with the nonce |
//! | begins an addition with a stolen session, and completes it when the session is gone | the account's epoch must be that of the beginning, but for who knows the password |
//! | keeps a link for after the reset | resets are counted in the staging |
//! | floods an address, or its owner's list of stagings | the throttle, over all purposes and sites; the newest three live |
//! | asks which addresses have accounts | a reset is begun for nobody's address too, in the same writes; only no mail goes |

pub mod begin;
pub mod complete;
pub mod look;
pub mod secrets;
pub mod throttle;

use crdt::{AccountId, Cell, CellKind, ClaimedBy, EmailId, Mailed, Purpose, Staging, cell::MailedOnce};

pub use self::{
    begin::{Begin, Begun, Challenge},
    complete::{Completed, Completion, Link, PasswordSession},
    look::{StagingStatus, TokenFacts},
    secrets::{BegunHere, Code, Nonce, NotASecret, SiteNumber, StagingId, Token},
};
use super::Proof;
use crate::store::{ReadError, Records, Txn};

/// How long a staging waits, in milliseconds: a day, by the data alone.
pub const STAGING_MS: u64 = 24 * 3600 * 1000;
/// Stagings of one address that live side by side. One more ends the oldest.
pub const STAGINGS_MAX: usize = 3;
/// Wrong codes that one staging takes.
pub const CODE_TRIES_MAX: u32 = 5;

/// A staging as all slots together have it.
#[derive(Clone, Debug)]
struct Found {
    staging: Staging,
    state: State,
}

/// How far a staging is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits.
    Open,
    /// It came true.
    Completed,
    /// Another of the same address did, or three were begun since.
    Ended,
}

impl Found {
    fn began(&self, nonce: Option<[u8; 32]>) -> bool {
        nonce == Some(self.staging.nonce_hash)
    }

    /// What it proves once it is completed.
    fn proof(&self, id: StagingId) -> Proof {
        Proof {
            id: *id.as_bytes(),
            at: self.staging.at,
            by: ClaimedBy::Mail,
        }
    }

    /// The account that it is for; the one that it makes, if it is a sign-up.
    fn account(&self, id: StagingId) -> Option<AccountId> {
        match self.staging.purpose {
            Purpose::NewAccount => Some(self.proof(id).account()),
            _ => self.staging.account.map(|(account, _)| account),
        }
    }
}

/// Looks a staging up. Each site ends it in a slot of its own, where only what is asked of an ended one is left.
fn find(records: &impl Records, id: StagingId, now_ms: u64) -> Result<Option<Found>, ReadError> {
    let cells = records.cells(CellKind::STAGING, id.as_bytes())?;
    let live = cells.iter().filter(|cell| cell.is_live(now_ms));
    let mut slots: Vec<Staging> = live
        .filter_map(|cell| Staging::decode(&cell.value).ok())
        .collect();
    let state = if slots.iter().any(|slot| slot.completed) {
        State::Completed
    } else if slots.iter().any(|slot| slot.ended) {
        State::Ended
    } else {
        State::Open
    };
    // The one that has all, if there still is one.
    slots.sort_by_key(|slot| slot.ended);
    Ok(slots.into_iter().next().map(|staging| Found { staging, state }))
}

/// The mails of an address that any site let go and that may still count, the earliest first.
fn mailed(records: &impl Records, email: EmailId, now_ms: u64) -> Result<Vec<MailedOnce>, ReadError> {
    let cells = records.cells(CellKind::MAIL_THROTTLE, email.as_bytes())?;
    let live = cells.iter().filter(|cell| cell.is_live(now_ms));
    let mut mails: Vec<MailedOnce> = live
        .filter_map(|cell| Mailed::decode(&cell.value).ok())
        .flat_map(|mailed| mailed.0)
        .collect();
    mails.sort_by_key(|mail| (mail.at_ms, mail.staging));
    mails.dedup();
    Ok(mails)
}

/// The stagings of an address that wait, the earliest begun first.
fn open_of(
    records: &impl Records,
    mails: &[MailedOnce],
    now_ms: u64,
) -> Result<Vec<(StagingId, Found)>, ReadError> {
    let mut open = Vec::new();
    for mail in mails {
        let id = StagingId::from_bytes(mail.staging);
        if let Some(found) = find(records, id, now_ms)?
            && found.state == State::Open
        {
            open.push((id, found));
        }
    }
    open.sort_by_key(|(id, found)| (found.staging.at, *id));
    Ok(open)
}

/// Ends a staging, in this replica's slot. What is erased with it: the address, the password, where it was begun.
fn end(txn: &mut Txn<'_>, id: StagingId, found: &Found, completed: bool) {
    let ended = Staging {
        address: String::new(),
        password_hash: None,
        rp_origin: None,
        ended: true,
        completed,
        ..found.staging.clone()
    };
    put(txn, id, &ended);
}

fn put(txn: &mut Txn<'_>, id: StagingId, staging: &Staging) {
    let cell = Cell {
        kind: CellKind::STAGING,
        key: id.as_bytes().to_vec(),
        slot: txn.slot(),
        stamp: txn.stamp(),
        value: staging.encode(),
        expires_ms: txn.now_ms().saturating_add(STAGING_MS),
    };
    txn.put_cell(cell);
}
