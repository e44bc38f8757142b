//! May this be done? The rules of proofs, claims, resets and session epochs, as pure functions over what one
//! snapshot says.
//!
//! Promise: what is let through here raises a proof only to the proof's own time, adds nothing when it is done a
//! second time, and never takes a verified address out of an account but by a later proof of control. The merge
//! (the `crdt` crate) keeps the same rules for what two sites could not tell each other in time; here they are
//! kept for what this site knows already, with an answer that a person can use.

use crdt::{AccountId, AccountView, EmailView, Epoch, Hlc, Ownership};

use super::Refusal;

/// What a rule looks at: the records as one snapshot has them.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The account that acts; `None` if there is no record of it here.
    pub account: Option<&'a AccountView>,
    /// The address's record, empty if there is none.
    pub email: &'a EmailView,
    /// Who has the address.
    pub owner: Ownership<'a>,
}

/// A completion that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// To be written.
    New,
    /// This very proof was completed before, here or elsewhere, and stands: nothing is to be written.
    Already,
}

/// May a sign-up begun at `at` be completed? `account` follows from the proof, so both halves of a cut make one.
pub fn sign_up(account: AccountId, at: Hlc, seen: &Seen<'_>) -> Result<Completion, Refusal> {
    let made = seen.account.is_some_and(exists);
    if seen.account.is_some_and(|view| view.cancelled) {
        return Err(Refusal::Cancelled);
    }
    if let Some(completion) = settled(account, at, seen)? {
        return Ok(completion);
    }
    if made {
        // The account was made from this proof, and what became of the address since is later than it.
        return Err(Refusal::LaterProof);
    }
    match seen.owner {
        Ownership::Held { verified: true, .. } => Err(Refusal::AddressTaken),
        // An unverified address that is proven from outside leaves for a new account.
        Ownership::Held { verified: false, .. } | Ownership::Free => Ok(Completion::New),
    }
}

/// May `account`, which had had `resets` resets when this was begun at `at`, add the address, take it over from
/// another account, or verify it again?
pub fn addition(account: AccountId, resets: u32, at: Hlc, seen: &Seen<'_>) -> Result<Completion, Refusal> {
    speaks_for(seen.account, resets)?;
    Ok(settled(account, at, seen)?.unwrap_or(Completion::New))
}

/// May a proof of the address begun at `at` reset `account`, which had had `resets` resets then?
///
/// A second completion is refused, unlike elsewhere: it may bring another password than the one that now stands.
pub fn reset(account: AccountId, resets: u32, at: Hlc, seen: &Seen<'_>) -> Result<(), Refusal> {
    speaks_for(seen.account, resets)?;
    match seen.owner {
        Ownership::Held { claim, verified } if claim.account == account => {
            if !verified {
                return Err(Refusal::Unverified);
            }
        }
        Ownership::Held { .. } | Ownership::Free => return Err(Refusal::NotHeld),
    }
    match settled(account, at, seen)? {
        // The address was claimed with this very proof without a reset: it was no proof for one.
        Some(Completion::Already) => Err(Refusal::LaterProof),
        Some(Completion::New) | None => Ok(()),
    }
}

/// May the account let the address go?
pub fn removal(account: AccountId, seen: &Seen<'_>) -> Result<(), Refusal> {
    let view = seen
        .account
        .filter(|view| exists(view))
        .ok_or(Refusal::UnknownAccount)?;
    if view.cancelled {
        return Err(Refusal::Cancelled);
    }
    match seen.owner {
        Ownership::Held { claim, .. } if claim.account == account => Ok(()),
        Ownership::Held { .. } | Ownership::Free => Err(Refusal::NotHeld),
    }
}

/// Whether an account that is being cancelled writes a release into this address: only into those that it owns. A
/// release ends every claim that it sees, so a loser's would end the owner's; and a cancelled account's claim
/// counts for nothing anyway.
pub fn releases_when_cancelled(account: AccountId, owner: &Ownership<'_>) -> bool {
    matches!(owner, Ownership::Held { claim, .. } if claim.account == account)
}

/// What a session's epoch, as its signer saw it, says here. Compared as values seen; no clock decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// It has not seen a reset, a change of password or a "sign out everywhere".
    Over,
    /// It is good.
    Good,
    /// It has seen more than this site has: good, and the record is to be raised to it.
    Ahead,
}

/// Compares a session's epoch with the account's.
pub fn session(seen: Epoch, account: Epoch) -> Session {
    match seen.cmp(&account) {
        std::cmp::Ordering::Less => Session::Over,
        std::cmp::Ordering::Equal => Session::Good,
        std::cmp::Ordering::Greater => Session::Ahead,
    }
}

/// Whether the record is that of an account that was made, and not of one of which only a part has come.
pub(super) fn exists(view: &AccountView) -> bool {
    view.created.is_some()
}

fn speaks_for(view: Option<&AccountView>, resets: u32) -> Result<(), Refusal> {
    let view = view.filter(|view| exists(view)).ok_or(Refusal::UnknownAccount)?;
    if view.cancelled {
        return Err(Refusal::Cancelled);
    }
    match view.resets().cmp(&resets) {
        std::cmp::Ordering::Greater => Err(Refusal::LaterReset),
        std::cmp::Ordering::Less => Err(Refusal::NotYet),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// What the address's record alone says of a proof begun at `at`: that it was completed, or came too late.
fn settled(account: AccountId, at: Hlc, seen: &Seen<'_>) -> Result<Option<Completion>, Refusal> {
    if seen
        .email
        .released
        .iter()
        .any(|released| released.account == account && released.at >= at)
    {
        return Err(Refusal::Released);
    }
    if seen
        .email
        .claims
        .iter()
        .any(|claim| claim.account == account && claim.proof == at)
    {
        return match seen.owner {
            Ownership::Held { claim, .. } if claim.account == account && claim.proof == at => {
                Ok(Some(Completion::Already))
            }
            Ownership::Held { .. } | Ownership::Free => Err(Refusal::LaterProof),
        };
    }
    let claimed = seen.email.claims.iter().map(|claim| claim.proof);
    // A later proof counts also when its account has let the address go since.
    let ended = seen
        .email
        .released
        .iter()
        .filter(|released| released.account != account);
    let later = claimed
        .chain(ended.map(|released| released.proof))
        .any(|proof| proof >= at);
    if later { Err(Refusal::LaterProof) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use crdt::{Claim, ClaimedBy, Released, Standing, VaultId};

    use super::*;

    const ADA: AccountId = AccountId::from_bytes([1; 15]);
    const BOB: AccountId = AccountId::from_bytes([2; 15]);
    /// When the proof in question was begun.
    const AT: u64 = 50;

    fn hlc(ms: u64) -> Hlc {
        Hlc::new(ms, 0)
    }

    fn claim(account: AccountId, proof: u64, resets: u32) -> Claim {
        Claim {
            account,
            vault: VaultId::from_bytes([account.as_bytes()[0]; 16]),
            proof: hlc(proof),
            done: hlc(proof + 1),
            resets,
            by: ClaimedBy::Mail,
            released: Vec::new(),
        }
    }

    fn released(account: AccountId, at: u64, proof: u64) -> Released {
        Released {
            account,
            at: hlc(at),
            proof: hlc(proof),
        }
    }

    /// A world with one address, in which Ada and Bob may or may not have an account.
    #[derive(Clone, Default)]
    struct World {
        email: EmailView,
        ada: Option<AccountView>,
        bob: Option<AccountView>,
    }

    impl World {
        fn ada(mut self, resets: u32) -> World {
            self.ada = Some(account(resets));
            self
        }

        fn bob(mut self, resets: u32) -> World {
            self.bob = Some(account(resets));
            self
        }

        fn cancelled(mut self, who: AccountId) -> World {
            let view = if who == ADA { &mut self.ada } else { &mut self.bob };
            view.get_or_insert_default().cancelled = true;
            self
        }

        fn claims(mut self, claims: impl IntoIterator<Item = Claim>) -> World {
            self.email.claims = claims.into_iter().collect();
            self.email
                .claims
                .sort_by_key(|claim| (std::cmp::Reverse(claim.proof), claim.account));
            self
        }

        fn released(mut self, entries: impl IntoIterator<Item = Released>) -> World {
            self.email.released = entries.into_iter().collect();
            self
        }

        fn owner(&self) -> Ownership<'_> {
            let standing = |view: Option<&AccountView>| Standing {
                cancelled: view.is_some_and(|view| view.cancelled),
                resets: view.map_or(0, AccountView::resets),
            };
            let of = |who| {
                if who == ADA {
                    self.ada.as_ref()
                } else {
                    self.bob.as_ref()
                }
            };
            match self
                .email
                .owner(|who| Ok::<_, std::convert::Infallible>(standing(of(who))))
            {
                Ok(owner) => owner,
                Err(never) => match never {},
            }
        }

        fn seen(&self) -> Seen<'_> {
            Seen {
                account: self.ada.as_ref(),
                email: &self.email,
                owner: self.owner(),
            }
        }
    }

    fn account(resets: u32) -> AccountView {
        AccountView {
            created: Some(hlc(1)),
            epoch: Epoch {
                resets,
                at: hlc(u64::from(resets)),
            },
            ..AccountView::default()
        }
    }

    fn nobody() -> World {
        World::default()
    }

    const NEW: Result<Completion, Refusal> = Ok(Completion::New);
    const ALREADY: Result<Completion, Refusal> = Ok(Completion::Already);

    #[track_caller]
    fn check_sign_up(world: &World, expected: Result<Completion, Refusal>) {
        assert_eq!(sign_up(ADA, hlc(AT), &world.seen()), expected);
    }

    #[test]
    fn who_may_sign_up() {
        check_sign_up(&nobody(), NEW);
        // Others before.
        check_sign_up(
            &nobody().bob(0).claims([claim(BOB, 40, 0)]),
            Err(Refusal::AddressTaken),
        );
        check_sign_up(&nobody().bob(1).claims([claim(BOB, 40, 0)]), NEW); // unverified: leaves for a new account
        check_sign_up(&nobody().bob(0).claims([claim(BOB, 40, 0)]).cancelled(BOB), NEW);
        check_sign_up(&nobody().bob(0).released([released(BOB, 60, 40)]), NEW); // let go since, but proven before
        check_sign_up(&nobody().cancelled(BOB).released([released(BOB, 60, 40)]), NEW);
        // Others since.
        check_sign_up(
            &nobody().bob(0).claims([claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().bob(0).claims([claim(BOB, AT, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().bob(1).claims([claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().bob(0).released([released(BOB, 70, 60)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().cancelled(BOB).released([released(BOB, 70, 60)]),
            Err(Refusal::LaterProof),
        );
        // A second completion.
        check_sign_up(&nobody().ada(0).claims([claim(ADA, AT, 0)]), ALREADY);
        check_sign_up(&nobody().ada(1).claims([claim(ADA, AT, 0)]), ALREADY); // unverified, but undone by nothing
        check_sign_up(
            &nobody().ada(0).claims([claim(ADA, 70, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().ada(0).claims([claim(ADA, AT, 0), claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().ada(0).bob(0).claims([claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_sign_up(
            &nobody().ada(0).released([released(ADA, 60, AT)]),
            Err(Refusal::Released),
        );
        check_sign_up(&nobody().ada(0).cancelled(ADA), Err(Refusal::Cancelled));
        check_sign_up(&nobody().ada(0), Err(Refusal::LaterProof)); // made, and the address is elsewhere by now
    }

    #[track_caller]
    fn check_addition(resets: u32, world: &World, expected: Result<Completion, Refusal>) {
        assert_eq!(addition(ADA, resets, hlc(AT), &world.seen()), expected);
    }

    #[test]
    fn who_may_add_an_address() {
        check_addition(0, &nobody(), Err(Refusal::UnknownAccount));
        check_addition(
            0,
            &World {
                ada: Some(AccountView::default()),
                ..nobody()
            },
            Err(Refusal::UnknownAccount),
        );
        check_addition(0, &nobody().ada(0).cancelled(ADA), Err(Refusal::Cancelled));
        check_addition(0, &nobody().ada(0), NEW);
        check_addition(2, &nobody().ada(2), NEW);
        check_addition(0, &nobody().ada(1), Err(Refusal::LaterReset));
        check_addition(1, &nobody().ada(0), Err(Refusal::NotYet));
        // Taking it over: the latest proof wins.
        check_addition(0, &nobody().ada(0).bob(0).claims([claim(BOB, 40, 0)]), NEW);
        check_addition(
            0,
            &nobody().ada(0).bob(0).claims([claim(BOB, AT, 0)]),
            Err(Refusal::LaterProof),
        );
        check_addition(
            0,
            &nobody().ada(0).bob(0).claims([claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_addition(
            0,
            &nobody().ada(0).bob(0).released([released(BOB, 70, 60)]),
            Err(Refusal::LaterProof),
        );
        // Its own: again, verified again, done twice, let go since, let go before.
        check_addition(0, &nobody().ada(0).claims([claim(ADA, 40, 0)]), NEW);
        check_addition(1, &nobody().ada(1).claims([claim(ADA, 40, 0)]), NEW);
        check_addition(0, &nobody().ada(0).claims([claim(ADA, AT, 0)]), ALREADY);
        check_addition(
            0,
            &nobody().ada(0).claims([claim(ADA, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_addition(
            0,
            &nobody().ada(0).released([released(ADA, 60, 40)]),
            Err(Refusal::Released),
        );
        check_addition(
            0,
            &nobody().ada(0).released([released(ADA, AT, 40)]),
            Err(Refusal::Released),
        );
        check_addition(0, &nobody().ada(0).released([released(ADA, 45, 40)]), NEW);
    }

    #[track_caller]
    fn check_reset(resets: u32, world: &World, expected: Result<(), Refusal>) {
        assert_eq!(reset(ADA, resets, hlc(AT), &world.seen()), expected);
    }

    #[test]
    fn which_address_may_reset_which_account() {
        let has = |resets, claim_resets| nobody().ada(resets).claims([claim(ADA, 40, claim_resets)]);
        check_reset(0, &has(0, 0), Ok(()));
        check_reset(3, &has(3, 3), Ok(()));
        check_reset(1, &has(1, 0), Err(Refusal::Unverified));
        check_reset(0, &has(1, 1), Err(Refusal::LaterReset)); // of two links, the second; or one link twice
        check_reset(2, &has(1, 1), Err(Refusal::NotYet));
        check_reset(0, &nobody(), Err(Refusal::UnknownAccount));
        check_reset(0, &has(0, 0).cancelled(ADA), Err(Refusal::Cancelled));
        check_reset(0, &nobody().ada(0), Err(Refusal::NotHeld));
        check_reset(
            0,
            &nobody().ada(0).bob(0).claims([claim(BOB, 40, 0)]),
            Err(Refusal::NotHeld),
        );
        check_reset(
            0,
            &nobody()
                .ada(0)
                .bob(0)
                .claims([claim(ADA, 30, 0), claim(BOB, 40, 0)]),
            Err(Refusal::NotHeld),
        );
        check_reset(
            0,
            &nobody()
                .ada(0)
                .bob(1)
                .claims([claim(ADA, 30, 0), claim(BOB, 40, 0)]),
            Ok(()),
        );
        check_reset(
            0,
            &nobody()
                .ada(0)
                .bob(1)
                .claims([claim(ADA, 30, 0), claim(BOB, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_reset(
            0,
            &nobody().ada(0).claims([claim(ADA, 60, 0)]),
            Err(Refusal::LaterProof),
        );
        check_reset(
            0,
            &nobody().ada(0).claims([claim(ADA, AT, 0)]),
            Err(Refusal::LaterProof),
        );
    }

    #[track_caller]
    fn check_removal(world: &World, expected: Result<(), Refusal>) {
        assert_eq!(removal(ADA, &world.seen()), expected);
    }

    #[test]
    fn an_account_lets_go_only_what_it_has() {
        check_removal(&nobody().ada(0).claims([claim(ADA, 40, 0)]), Ok(()));
        check_removal(&nobody().ada(1).claims([claim(ADA, 40, 0)]), Ok(())); // unverified is still its own
        check_removal(&nobody().ada(0), Err(Refusal::NotHeld));
        check_removal(
            &nobody().ada(0).bob(0).claims([claim(BOB, 40, 0)]),
            Err(Refusal::NotHeld),
        );
        check_removal(
            &nobody()
                .ada(0)
                .bob(0)
                .claims([claim(ADA, 30, 0), claim(BOB, 40, 0)]),
            Err(Refusal::NotHeld),
        );
        check_removal(&nobody(), Err(Refusal::UnknownAccount));
        check_removal(
            &nobody().ada(0).claims([claim(ADA, 40, 0)]).cancelled(ADA),
            Err(Refusal::Cancelled),
        );
    }

    #[track_caller]
    fn check_releases(world: &World, expected: bool) {
        assert_eq!(releases_when_cancelled(ADA, &world.owner()), expected);
    }

    #[test]
    fn a_cancelled_account_ends_nobody_elses_claim() {
        check_releases(&nobody().ada(0).claims([claim(ADA, 40, 0)]), true);
        check_releases(&nobody().ada(1).claims([claim(ADA, 40, 0)]), true);
        check_releases(&nobody().ada(0), false);
        check_releases(&nobody().ada(0).bob(0).claims([claim(BOB, 40, 0)]), false);
        check_releases(
            &nobody()
                .ada(0)
                .bob(0)
                .claims([claim(ADA, 40, 0), claim(BOB, 30, 0)]),
            true,
        ); // Ada's
        check_releases(
            &nobody()
                .ada(0)
                .bob(0)
                .claims([claim(ADA, 40, 0), claim(BOB, 60, 0)]),
            false,
        ); // Bob's
        check_releases(
            &nobody()
                .ada(1)
                .bob(0)
                .claims([claim(ADA, 40, 0), claim(BOB, 30, 0)]),
            false,
        ); // Bob's, who alone is verified
        check_releases(
            &nobody()
                .ada(0)
                .bob(0)
                .claims([claim(ADA, 40, 0), claim(BOB, 60, 0)])
                .cancelled(BOB),
            false,
        ); // nobody's
    }

    #[track_caller]
    fn check_session(seen: (u32, u64), account: (u32, u64), expected: Session) {
        let epoch = |(resets, at): (u32, u64)| Epoch { resets, at: hlc(at) };
        assert_eq!(
            session(epoch(seen), epoch(account)),
            expected,
            "{seen:?} against {account:?}"
        );
    }

    #[test]
    fn a_session_is_over_only_when_the_account_has_moved_past_it() {
        check_session((0, 0), (0, 0), Session::Good);
        check_session((0, 9), (0, 9), Session::Good);
        check_session((0, 9), (0, 10), Session::Over);
        check_session((0, 99), (1, 10), Session::Over); // a reset counts before any clock
        check_session((1, 10), (0, 99), Session::Ahead);
        check_session((0, 10), (0, 9), Session::Ahead);
    }
}
