//! Domains that certify their own users, and what such users do here: sign in, or add an address, by an assertion.
//!
//! An assertion is a proof of the moment, on the word of the address's own domain. It signs in to the account that has the
//! address verified; an address that nobody has, or that its account would have to prove again, gets an account of its own,
//! which has no password. So whoever was put out of an account by a reset does not come back by an address of theirs that
//! was in it.
//!
//! When a domain was last seen certifying its own users is kept for thirty days: within the grace period after that the
//! fallback certifies none of them ([`GracePeriod`]).

use std::time::Duration;

use crdt::{
    AccountId, AccountView, AccountWrite, Cell, CellKind, EmailId, EmailWrite, IdpSeen, Ownership, UsedAs,
};

use super::{
    Address, Identity, OperationError, Outcome, Pair, Refusal, SignedIn, Word, account,
    address::DomainKey,
    claims::{self, Completion},
    emails,
    operations::{AddEmail, NoteIdp, SetUsedAs, SignInAsPrimary},
};
use crate::{
    browserid::Domain,
    idp::{GracePeriod, Sighting, address_state::SIGHTING_INTERVAL},
    store::{ReadError, Records, Txn},
};

/// How long it is kept when a domain was last seen: DESIGN.md §3.5.
pub const IDP_SEEN_KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Identity {
    /// Signs in whoever has just proven the address by an assertion of its own domain.
    pub async fn sign_in_as_primary(&self, address: Address) -> Result<Outcome<SignedIn>, OperationError> {
        let email = self.email_id(&address);
        self.write(SignInAsPrimary { email, address }).await
    }

    /// Gives an account an address that was just proven by an assertion of the address's own domain, also if another
    /// account had it.
    pub async fn add_primary(
        &self,
        account: AccountId,
        address: Address,
    ) -> Result<Outcome<()>, OperationError> {
        let email = self.email_id(&address);
        let add = AddEmail {
            account,
            email,
            address,
            word: Word::Asserted,
        };
        Ok(match self.write(add).await? {
            Outcome::Done { dot, .. } => Outcome::Done { value: (), dot },
            Outcome::Refused(refusal) => Outcome::Refused(refusal),
        })
    }

    /// Notes what the owner of an address uses it as. Nothing is written if that is so already.
    pub async fn used_as(
        &self,
        account: AccountId,
        address: Address,
        used_as: UsedAs,
    ) -> Result<Outcome<()>, OperationError> {
        let email = self.email_id(&address);
        self.write(SetUsedAs {
            account,
            email,
            used_as,
        })
        .await
    }

    /// Notes that a domain was seen certifying its own users, or that it says itself that it does not. Nothing is written if
    /// that is known.
    pub async fn note_idp(&self, domain: &Domain, sighting: Sighting) -> Result<(), OperationError> {
        let certifies = match sighting {
            Sighting::Unchanged => return Ok(()),
            Sighting::Seen => true,
            Sighting::Forget => false,
        };
        let note = NoteIdp {
            domain: self.index_key.domain(domain.as_str()),
            certifies,
        };
        // It is of no use to whoever asked, so no repeat of theirs is to be answered with it.
        let (Outcome::Done { .. } | Outcome::Refused(_)) = self.replica.write(note, None).await?;
        Ok(())
    }
}

/// A sign-in by an assertion, within its transaction.
pub(super) fn sign_in(
    txn: &mut Txn<'_>,
    email: EmailId,
    address: &Address,
) -> Result<Result<SignedIn, Refusal>, OperationError> {
    let known = txn.email(email)?.unwrap_or_default();
    if let Ownership::Held {
        claim,
        verified: true,
    } = txn.owner_of(&known)?
    {
        let account = claim.account;
        let view = match account::standing(txn.account(account)?) {
            Ok(view) => view,
            Err(refusal) => return Ok(Err(refusal)),
        };
        set_used_as(txn, email, &known, UsedAs::Primary);
        let epoch = view.epoch;
        return Ok(Ok(SignedIn { account, epoch }));
    }
    let proof = Word::Asserted.proof(txn, known.latest());
    let account = proof.account();
    let pair = Pair {
        account: txn.account(account)?,
        email: known,
    };
    match claims::sign_up(account, proof.at, &pair.seen(txn)?) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(Completion::New | Completion::Already) => txn.new_record_of_person(),
    }
    let done = txn.stamp_past(pair.latest().max(proof.at));
    txn.write_account(account, AccountWrite::Created(done));
    emails::claim(txn, account, 0, email, address, &pair.email, &proof, done);
    let epoch = AccountView::default().epoch;
    Ok(Ok(SignedIn { account, epoch }))
}

/// What an address is used as, within its transaction.
pub(super) fn use_as(
    txn: &mut Txn<'_>,
    account: AccountId,
    email: EmailId,
    used_as: UsedAs,
) -> Result<Result<(), Refusal>, OperationError> {
    let pair = Pair::read(txn, account, email)?;
    // Who may let it go is who has it.
    if let Err(refusal) = claims::removal(account, &pair.seen(txn)?) {
        return Ok(Err(refusal));
    }
    set_used_as(txn, email, &pair.email, used_as);
    Ok(Ok(()))
}

fn set_used_as(txn: &mut Txn<'_>, email: EmailId, known: &crdt::EmailView, used_as: UsedAs) {
    // No value means the same as secondary.
    if known.used_as.map_or(UsedAs::Secondary, |(used_as, _)| used_as) != used_as {
        let at = txn.stamp_past(known.latest());
        txn.write_email(email, EmailWrite::UsedAs(used_as, at));
    }
}

/// What is noted of a domain, within its transaction.
pub(super) fn note(
    txn: &mut Txn<'_>,
    domain: DomainKey,
    certifies: bool,
) -> Result<Result<(), Refusal>, OperationError> {
    let now_ms = txn.now_ms();
    let cells = txn.cells(CellKind::IDP_SEEN, domain.as_bytes())?;
    let live = || cells.iter().filter(move |cell| cell.is_live(now_ms));
    let is_known = match (certifies, IdpSeen::latest(live())) {
        (true, Some(IdpSeen::Seen { at_ms })) => {
            GracePeriod(SIGHTING_INTERVAL).is_running(Some(at_ms), now_ms)
        }
        (true, Some(IdpSeen::Forgotten) | None) | (false, Some(IdpSeen::Seen { .. })) => false,
        (false, Some(IdpSeen::Forgotten) | None) => true,
    };
    if is_known {
        return Ok(Ok(()));
    }
    let seen = if certifies {
        IdpSeen::Seen { at_ms: now_ms }
    } else {
        IdpSeen::Forgotten
    };
    // It comes after what it takes the place of, and does not end before that, by whatever clock that was written.
    let beat = live().map(|cell| cell.stamp).max().unwrap_or_default();
    let outlive_ms = live().map(|cell| cell.expires_ms).max().unwrap_or_default();
    let keep_ms = IDP_SEEN_KEPT.as_millis() as u64;
    let cell = Cell {
        kind: CellKind::IDP_SEEN,
        key: domain.as_bytes().to_vec(),
        slot: txn.slot(),
        stamp: txn.stamp_past(beat),
        value: seen.encode(),
        expires_ms: now_ms.saturating_add(keep_ms).max(outlive_ms),
    };
    txn.put_cell(cell);
    Ok(Ok(()))
}

/// When a domain was last seen certifying its own users, in milliseconds since 1970; `None` if it was not in the last
/// thirty days, or has said since that it does not.
pub(super) fn seen_ms(
    records: &impl Records,
    now_ms: u64,
    domain: DomainKey,
) -> Result<Option<u64>, ReadError> {
    let cells = records.cells(CellKind::IDP_SEEN, domain.as_bytes())?;
    let live = cells.iter().filter(|cell| cell.is_live(now_ms));
    Ok(match IdpSeen::latest(live) {
        Some(IdpSeen::Seen { at_ms }) => Some(at_ms),
        Some(IdpSeen::Forgotten) | None => None,
    })
}
