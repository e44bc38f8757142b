//! Sessions, as the records have them: whether one is over, where an account is signed in, and the end of one.
//!
//! A session is a signed cookie (the [`session`](crate::session) module); no server keeps it. What ended it is in the
//! records: an account cancelled or past its epoch, a cell that names it as ended. So each request asks, through one
//! snapshot, a few point reads. *Unknown here* means that this replica lacks what the session has seen, and never that
//! the account is gone.
//!
//! Where an account is signed in is noted for its owner to look at, at most once an hour for each session, and decides
//! nothing. Each replica keeps its own short list, in a cell that ends with the last session in it, or with the account.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crdt::{
    AccountId, AccountView, AccountWrite, Cell, CellKind, Epoch, Ownership, PLACES_MAX, Place, Places,
    WORDS_BYTES_MAX,
};
use gossip::Dot;
use serde::{Deserialize, Serialize};

use super::{
    AccountState, Directory, Identity, OperationError, Outcome, Refusal, account, claims,
    operations::{EndSession, IsSignedInNews, NoteSignedIn, RaiseEpoch, ReadPlaces, ReadSession},
};
use crate::{
    session::LIFETIME_MS,
    store::{ReadError, Records, Txn, standing_of},
};

/// Sessions that [`Directory::sessions`] tells of at most.
pub const SESSIONS_MAX: usize = 64;
/// How often it is noted where a session is, in milliseconds: the time that is told is that of the last full hour.
pub const NOTED_EVERY_MS: u64 = 3600 * 1000;
/// An ended session is remembered for longer than it lasts: a site that has not heard of its end may have prolonged it
/// meanwhile, and be cut off for that long. Milliseconds: a week.
pub const CUT_OFF_MS: u64 = 7 * 24 * 3600 * 1000;

/// Whether a session is good, as far as this replica knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionStanding {
    /// It is good.
    Good(Standing),
    /// It is over: ended, its account cancelled or past its epoch, or without any address.
    Over,
    /// This replica has not heard of its account yet: no reason to sign anybody out.
    NotYet,
}

/// What a good session may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The greater of the record's and the session's: a session that has seen more than is here is good, and the record
    /// is to be raised to it ([`Identity::raise_epoch`]).
    pub epoch: Epoch,
    /// The account has a password that may be used.
    pub has_password: bool,
}

/// Where an account is signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedInAt {
    /// The session's.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it was seen last, to the hour, in milliseconds since 1970.
    pub seen_ms: u64,
    /// What the browser is, in a few coarse words.
    pub device: String,
    /// The site that saw it.
    pub site: String,
}

/// Where somebody is signed in now, to be noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedInNote {
    /// Whose session.
    pub account: AccountId,
    /// Its id.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// What it has seen of the account.
    pub epoch: Epoch,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: u64,
    /// What the browser is, in a few coarse words; what is beyond [`WORDS_BYTES_MAX`] is cut.
    pub device: String,
    /// The site that sees it; cut likewise.
    pub site: String,
}

impl Directory {
    /// Whether a session of the account is good, by its id, the epoch that it has seen and the last transaction that was
    /// written for it. If that transaction is not here, it is waited for, for
    /// [`PATIENCE`](super::replica::PATIENCE) at most and once for each session.
    pub async fn session(
        &self,
        account: AccountId,
        id: [u8; 16],
        epoch: Epoch,
        last_dot: Option<Dot>,
    ) -> Result<SessionStanding, OperationError> {
        let session = ReadSession {
            account,
            id,
            epoch,
            last_dot,
        };
        self.replica.session(session).await
    }

    /// The same, and the account if the session is good: both of one moment.
    pub async fn signed_in(
        &self,
        account: AccountId,
        id: [u8; 16],
        epoch: Epoch,
        last_dot: Option<Dot>,
    ) -> Result<(SessionStanding, Option<AccountState>), OperationError> {
        let session = ReadSession {
            account,
            id,
            epoch,
            last_dot,
        };
        self.replica.signed_in(session).await
    }

    /// Where an account is signed in, the last seen first: no session that is over, and at most [`SESSIONS_MAX`].
    pub async fn sessions(&self, account: AccountId) -> Result<Vec<SignedInAt>, OperationError> {
        self.replica.read(&ReadPlaces { account }).await
    }
}

impl Identity {
    /// Ends one session of the account, wherever it is. `expires_ms` is when its cookie ends, in milliseconds since 1970.
    /// The account need not be known here.
    pub async fn end_session(
        &self,
        account: AccountId,
        id: [u8; 16],
        expires_ms: u64,
    ) -> Result<Outcome<()>, OperationError> {
        self.write(EndSession {
            account,
            id,
            expires_ms,
        })
        .await
    }

    /// Notes where somebody is signed in, unless that was noted within this hour. A session that is over, or of an account
    /// that is not known here, is not noted.
    pub async fn note_signed_in(&self, note: SignedInNote) -> Result<(), OperationError> {
        let news = IsSignedInNews { note: note.cut() };
        // A look takes no place in the queue of writes.
        if self.replica.read(&news).await? {
            let note = NoteSignedIn { note: news.note };
            let (Outcome::Done { .. } | Outcome::Refused(_)) = self.replica.write(note, None).await?;
        }
        Ok(())
    }

    /// Raises the account's record to an epoch that a session has seen. Nothing is written if it is that far.
    pub async fn raise_epoch(&self, account: AccountId, epoch: Epoch) -> Result<Outcome<()>, OperationError> {
        self.write(RaiseEpoch { account, epoch }).await
    }
}

impl SignedInNote {
    /// With words that are no longer than they may be.
    fn cut(mut self) -> SignedInNote {
        for words in [&mut self.device, &mut self.site] {
            words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        }
        self
    }
}

/// What one moment of the records says of a session. `is_covered`: its last transaction is among them.
pub(super) fn look(
    records: &impl Records,
    now_ms: u64,
    session: &ReadSession,
    is_covered: bool,
) -> Result<SessionStanding, OperationError> {
    Ok(match account_of(records, now_ms, session, is_covered)? {
        Ok(view) if has_address(records, session.account, &view)? => good(session, &view),
        Ok(_) => SessionStanding::Over,
        Err(standing) => standing,
    })
}

/// The same, and what the same moment says of the account if the session is good.
pub(super) fn look_closely(
    records: &impl Records,
    now_ms: u64,
    session: &ReadSession,
    is_covered: bool,
) -> Result<(SessionStanding, Option<AccountState>), OperationError> {
    let view = match account_of(records, now_ms, session, is_covered)? {
        Ok(view) => view,
        Err(standing) => return Ok((standing, None)),
    };
    let account = account::state_by(records, session.account, &view)?;
    Ok(match account.filter(|account| !account.emails.is_empty()) {
        Some(account) => (good(session, &view), Some(account)),
        None => (SessionStanding::Over, None),
    })
}

fn good(session: &ReadSession, view: &AccountView) -> SessionStanding {
    SessionStanding::Good(Standing {
        epoch: view.epoch.max(session.epoch),
        has_password: view.usable_password().is_some(),
    })
}

/// The account of a session that neither its own end nor the account's, nor its epoch, has ended; else what it is. Whether
/// the account has an address is still to be asked.
fn account_of(
    records: &impl Records,
    now_ms: u64,
    session: &ReadSession,
    is_covered: bool,
) -> Result<Result<AccountView, SessionStanding>, OperationError> {
    if is_ended(records, now_ms, session.account, session.id)? {
        return Ok(Err(SessionStanding::Over));
    }
    let Some(view) = records.account(session.account)?.filter(claims::exists) else {
        return Ok(Err(if is_covered {
            SessionStanding::Over
        } else {
            SessionStanding::NotYet
        }));
    };
    let is_past = claims::session(session.epoch, view.epoch) == claims::Session::Over;
    Ok(if view.cancelled || is_past {
        Err(SessionStanding::Over)
    } else {
        Ok(view)
    })
}

/// Whether the account owns any address, verified or not. One that owns none has lost it to a newer sign-up, or let it go;
/// which of the two nobody can tell any more once the claim that lost is superseded.
fn has_address(
    records: &impl Records,
    account: AccountId,
    view: &AccountView,
) -> Result<bool, OperationError> {
    let mut unreadable = None;
    for id in records.emails_of(account)? {
        let owned = || -> Result<bool, ReadError> {
            let Some(email) = records.email(id)? else {
                return Ok(false);
            };
            let owner = email.owner(|other| {
                if other == account {
                    Ok(standing_of(Some(view)))
                } else {
                    records.standing(other)
                }
            })?;
            Ok(matches!(owner, Ownership::Held { claim, .. } if claim.account == account))
        };
        match owned() {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => unreadable = Some(error),
        }
    }
    // One that cannot be read may be its own.
    unreadable.map_or(Ok(false), |error| Err(error.into()))
}

/// Whether a cell says that a session was ended.
fn is_ended(
    records: &impl Records,
    now_ms: u64,
    account: AccountId,
    id: [u8; 16],
) -> Result<bool, ReadError> {
    let cells = records.cells(CellKind::ENDED, &ended_key(account, id))?;
    Ok(cells.iter().any(|cell| cell.is_live(now_ms)))
}

/// The account is part of it, so that nobody can end another's session.
fn ended_key(account: AccountId, id: [u8; 16]) -> [u8; 31] {
    let mut key = [0; 31];
    key[..AccountId::LEN].copy_from_slice(account.as_bytes());
    key[AccountId::LEN..].copy_from_slice(&id);
    key
}

/// The end of a session, within its transaction.
pub(super) fn end(
    txn: &mut Txn<'_>,
    account: AccountId,
    id: [u8; 16],
    expires_ms: u64,
) -> Result<Result<(), Refusal>, OperationError> {
    let now_ms = txn.now_ms();
    // As long as if it had been prolonged in this moment; no cookie says more.
    let longest_ms = now_ms.saturating_add(LIFETIME_MS);
    let kept_ms = expires_ms.clamp(longest_ms, longest_ms.saturating_add(LIFETIME_MS));
    if !is_ended(txn, now_ms, account, id)? {
        let cell = Cell {
            kind: CellKind::ENDED,
            key: ended_key(account, id).to_vec(),
            slot: txn.slot(),
            stamp: txn.stamp(),
            value: Vec::new(),
            expires_ms: kept_ms.saturating_add(CUT_OFF_MS),
        };
        txn.put_cell(cell);
    }
    // What other replicas have noted of it is passed over, and goes with their next note.
    let mut own = own_places(txn, account)?;
    if own.places.iter().any(|place| place.id == id) {
        own.places.retain(|place| place.id != id);
        put_places(txn, account, &own);
    }
    Ok(Ok(()))
}

/// Whether there is something to note.
pub(super) fn is_news(
    records: &impl Records,
    now_ms: u64,
    note: &SignedInNote,
) -> Result<bool, OperationError> {
    let Ok(view) = account::standing(records.account(note.account)?) else {
        return Ok(false);
    };
    if note.epoch < view.epoch || is_ended(records, now_ms, note.account, note.id)? {
        return Ok(false);
    }
    let cells = records.cells(CellKind::SIGNED_IN, note.account.as_bytes())?;
    let is_noted = |place: Place| {
        place.id == note.id
            && place.seen_ms >= hour(now_ms)
            && place.expires_ms >= note.expires_ms
            && place.epoch >= note.epoch
    };
    Ok(!live_places(&cells, now_ms).any(|(_, place)| is_noted(place)))
}

/// A note, within its transaction.
pub(super) fn note(txn: &mut Txn<'_>, note: &SignedInNote) -> Result<Result<(), Refusal>, OperationError> {
    let now_ms = txn.now_ms();
    if !is_news(txn, now_ms, note)? {
        return Ok(Ok(()));
    }
    let epoch = txn.account(note.account)?.map_or(note.epoch, |view| view.epoch);
    let mut places = Vec::new();
    for place in own_places(txn, note.account)?.places {
        let is_over = place.expires_ms <= now_ms
            || place.epoch < epoch
            || place.id == note.id
            || is_ended(txn, now_ms, note.account, place.id)?;
        if !is_over {
            places.push(place);
        }
    }
    // Of more than fit, those seen longest ago go.
    places.sort_by_key(|place| std::cmp::Reverse((place.seen_ms, place.started_ms, place.id)));
    places.truncate(PLACES_MAX - 1);
    places.push(Place {
        id: note.id,
        epoch: note.epoch,
        started_ms: note.started_ms,
        seen_ms: hour(now_ms),
        expires_ms: note.expires_ms.min(now_ms.saturating_add(LIFETIME_MS)),
        device: note.device.clone(),
        site: note.site.clone(),
    });
    put_places(txn, note.account, &Places { places });
    Ok(Ok(()))
}

/// Where an account is signed in by one moment of the records.
pub(super) fn places(
    records: &impl Records,
    now_ms: u64,
    id: AccountId,
) -> Result<Vec<SignedInAt>, OperationError> {
    let Ok(view) = account::standing(records.account(id)?) else {
        return Ok(Vec::new());
    };
    let cells = records.cells(CellKind::SIGNED_IN, id.as_bytes())?;
    // Of what several sites say of one session, what was seen last; it began when the first says.
    let mut seen: BTreeMap<[u8; 16], (u64, [u8; 8], Place)> = BTreeMap::new();
    for (slot, place) in live_places(&cells, now_ms).filter(|(_, place)| place.epoch >= view.epoch) {
        let known = seen.remove(&place.id);
        let new = (place.seen_ms, slot, place);
        let mut last = match known {
            Some(known) if (known.0, known.1) >= (new.0, new.1) => (known, new),
            Some(known) => (new, known),
            None => {
                seen.insert(new.2.id, new);
                continue;
            }
        };
        last.0.2.started_ms = last.0.2.started_ms.min(last.1.2.started_ms);
        seen.insert(last.0.2.id, last.0);
    }
    let mut places: Vec<Place> = seen.into_values().map(|(_, _, place)| place).collect();
    places.sort_by_key(|place| std::cmp::Reverse((place.seen_ms, place.started_ms, place.id)));
    let mut signed_in = Vec::new();
    for place in places {
        if signed_in.len() == SESSIONS_MAX {
            break;
        }
        if !is_ended(records, now_ms, id, place.id)? {
            signed_in.push(SignedInAt {
                id: place.id,
                started_ms: place.started_ms,
                seen_ms: place.seen_ms,
                device: place.device,
                site: place.site,
            });
        }
    }
    Ok(signed_in)
}

/// The epoch that a session has seen, within its transaction.
pub(crate) fn raise(
    txn: &mut Txn<'_>,
    account: AccountId,
    epoch: Epoch,
) -> Result<Result<(), Refusal>, OperationError> {
    let view = match account::standing(txn.account(account)?) {
        Ok(view) => view,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if view.epoch < epoch {
        txn.urgent();
        txn.write_account(account, AccountWrite::SeenEpoch(epoch));
    }
    Ok(Ok(()))
}

fn hour(ms: u64) -> u64 {
    ms - ms % NOTED_EVERY_MS
}

/// All that is noted of sessions that may go on, with whose slot it is in. A slot that a newer version wrote in another
/// way is as if nothing had been noted.
fn live_places(cells: &[Cell], now_ms: u64) -> impl Iterator<Item = ([u8; 8], Place)> {
    cells
        .iter()
        .filter(move |cell| cell.is_live(now_ms))
        .filter_map(|cell| Some((cell.slot, Places::decode(&cell.value).ok()?)))
        .flat_map(|(slot, places)| places.places.into_iter().map(move |place| (slot, place)))
        .filter(move |(_, place)| now_ms < place.expires_ms)
}

fn own_places(txn: &Txn<'_>, account: AccountId) -> Result<Places, ReadError> {
    let cells = txn.cells(CellKind::SIGNED_IN, account.as_bytes())?;
    let own = cells
        .iter()
        .find(|cell| cell.slot == txn.slot() && cell.is_live(txn.now_ms()));
    let places = own.and_then(|cell| Places::decode(&cell.value).ok());
    Ok(places.unwrap_or_default())
}

fn put_places(txn: &mut Txn<'_>, account: AccountId, places: &Places) {
    let last_ms = places.places.iter().map(|place| place.expires_ms).max();
    // An empty list takes the place of one that was not.
    let expires_ms = last_ms.unwrap_or_else(|| txn.now_ms().saturating_add(LIFETIME_MS));
    let cell = Cell {
        kind: CellKind::SIGNED_IN,
        key: account.as_bytes().to_vec(),
        slot: txn.slot(),
        stamp: txn.stamp(),
        value: places.encode(),
        expires_ms,
    };
    txn.put_cell(cell);
}

/// Sessions whose last transaction was waited for in vain: a request that comes again waits no more. Two generations,
/// of which the older is forgotten when the younger is full.
#[derive(Default)]
pub(super) struct WaitedFor {
    generations: Mutex<[Generation; 2]>,
}

/// Sessions, each with the transaction that it was waited for.
type Generation = HashSet<([u8; 16], Dot)>;

/// Sessions of a generation at most: about 50 bytes each.
const WAITED_FOR_MAX: usize = 8192;

impl WaitedFor {
    pub(super) fn knows(&self, id: [u8; 16], dot: Dot) -> bool {
        self.lock().iter().any(|sessions| sessions.contains(&(id, dot)))
    }

    pub(super) fn note(&self, id: [u8; 16], dot: Dot) {
        let [young, old] = &mut *self.lock();
        if young.len() >= WAITED_FOR_MAX {
            *old = mem::take(young);
        }
        young.insert((id, dot));
    }

    fn lock(&self) -> MutexGuard<'_, [Generation; 2]> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use gossip::Writer;

    use super::*;

    #[test]
    fn few_are_remembered_as_waited_for_and_the_last_ones_are_among_them() {
        let waited = WaitedFor::default();
        let dot = |number| Dot {
            writer: Writer::from_bytes([1; 20]),
            number,
        };
        let many = 3 * WAITED_FOR_MAX as u64;
        for number in 0..many {
            assert!(!waited.knows([7; 16], dot(number)));
            waited.note([7; 16], dot(number));
            assert!(waited.knows([7; 16], dot(number)));
        }
        assert!(!waited.knows([7; 16], dot(0)), "forgotten");
        assert!(!waited.knows([8; 16], dot(many - 1)), "another's session");
        assert!(waited.knows([7; 16], dot(many - WAITED_FOR_MAX as u64)));
        let kept: usize = waited.lock().iter().map(HashSet::len).sum();
        assert!(kept <= 2 * WAITED_FOR_MAX);
    }
}
