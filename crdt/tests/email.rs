//! Who has an address: a table of cases for what was concurrent, stories for what followed.

mod replicas;

use std::collections::BTreeMap;
use std::convert::Infallible;

use crdt::{
    AccountId, Actor, Claim, ClaimedBy, Document, EmailView, EmailWrite, Ownership, RecordKind, Released,
    Standing, UsedAs, View, Write,
};
use replicas::{Replica, account, at, concurrently, vault};

/// A claim of account and vault id `who`, proven at `proof`, completed a moment later.
fn claim(who: u8, proof: u64) -> Claim {
    Claim {
        account: account(who),
        vault: vault(who),
        proof: at(proof),
        done: at(proof + 1),
        resets: 0,
        by: ClaimedBy::Mail,
        released: Vec::new(),
    }
}

fn claims(claim: Claim) -> Write {
    Write::Email(EmailWrite::Claim(claim))
}

fn releases(who: u8, ms: u64) -> Write {
    Write::Email(EmailWrite::Release {
        account: account(who),
        at: at(ms),
    })
}

fn email(view: &View) -> EmailView {
    let View::Email(view) = view else {
        panic!("an email's record has an email's view")
    };
    assert_eq!(EmailView::decode(&view.encode()).as_ref(), Ok(view));
    assert_eq!(view.unreadable, 0);
    view.clone()
}

/// What the accounts' records say: nothing special unless it is said here.
#[derive(Default)]
struct World {
    resets: BTreeMap<u8, u32>,
    cancelled: Vec<u8>,
}

impl World {
    fn cancelled(accounts: &[u8]) -> World {
        World {
            cancelled: accounts.to_vec(),
            ..World::default()
        }
    }

    fn reset(accounts: &[(u8, u32)]) -> World {
        World {
            resets: accounts.iter().copied().collect(),
            ..World::default()
        }
    }

    fn standing(&self, id: AccountId) -> Result<Standing, Infallible> {
        let byte = id.as_bytes()[0];
        Ok(Standing {
            cancelled: self.cancelled.contains(&byte),
            resets: self.resets.get(&byte).copied().unwrap_or(0),
        })
    }

    /// The owner, and whether it is verified.
    fn owner(&self, view: &EmailView) -> Option<(u8, bool)> {
        match view.owner(|id| self.standing(id)) {
            Ok(Ownership::Held { claim, verified }) => Some((claim.account.as_bytes()[0], verified)),
            Ok(Ownership::Free) => None,
        }
    }
}

#[track_caller]
fn check(world: &World, concurrent: &[Write], owner: Option<(u8, bool)>) {
    let writes: Vec<Vec<Write>> = concurrent.iter().map(|write| vec![write.clone()]).collect();
    let view = email(&concurrently(RecordKind::Email, &writes));
    assert_eq!(world.owner(&view), owner, "{view:?}");
}

#[test]
fn of_concurrent_claims_one_owns() {
    let world = World::default();
    check(&world, &[], None);
    check(&world, &[claims(claim(1, 5))], Some((1, true)));
    // The greatest proof.
    check(
        &world,
        &[claims(claim(1, 5)), claims(claim(2, 6))],
        Some((2, true)),
    );
    check(
        &world,
        &[claims(claim(3, 9)), claims(claim(1, 5)), claims(claim(2, 6))],
        Some((3, true)),
    );
    // Then the smaller account.
    check(
        &world,
        &[claims(claim(2, 5)), claims(claim(1, 5))],
        Some((1, true)),
    );
    // Verified first.
    let world = World::reset(&[(2, 1)]);
    check(
        &world,
        &[claims(claim(1, 5)), claims(claim(2, 6))],
        Some((1, true)),
    );
    check(&world, &[claims(claim(2, 6))], Some((2, false)));
    let world = World::reset(&[(1, 1), (2, 1)]);
    check(
        &world,
        &[claims(claim(1, 5)), claims(claim(2, 6))],
        Some((2, false)),
    );
    check(
        &world,
        &[
            claims(Claim {
                resets: 1,
                ..claim(1, 5)
            }),
            claims(claim(2, 6)),
        ],
        Some((1, true)),
    );
    // A claim of resets that this replica has not heard of yet is no more verified than an old one.
    check(
        &World::default(),
        &[claims(Claim {
            resets: 1,
            ..claim(1, 5)
        })],
        Some((1, false)),
    );
}

#[test]
fn a_release_ends_its_own_accounts_claims_up_to_it_and_nothing_else() {
    let world = World::default();
    check(&world, &[claims(claim(1, 5)), releases(1, 7)], None);
    check(&world, &[claims(claim(1, 5)), releases(1, 5)], None);
    check(&world, &[claims(claim(1, 8)), releases(1, 7)], Some((1, true)));
    check(&world, &[claims(claim(1, 5)), releases(2, 7)], Some((1, true)));
    check(
        &world,
        &[claims(claim(1, 5)), claims(claim(2, 6)), releases(2, 7)],
        Some((1, true)),
    );
    check(
        &world,
        &[
            claims(claim(1, 5)),
            claims(claim(2, 6)),
            releases(2, 7),
            releases(1, 9),
        ],
        None,
    );
}

#[test]
fn when_the_winner_is_cancelled_the_address_is_free() {
    let world = World::cancelled(&[2]);
    check(&world, &[claims(claim(1, 5)), claims(claim(2, 6))], None);
    // Unless it was won over in turn.
    check(
        &world,
        &[claims(claim(1, 7)), claims(claim(2, 6))],
        Some((1, true)),
    );
    // A cancelled loser changes nothing.
    check(
        &World::cancelled(&[1]),
        &[claims(claim(1, 5)), claims(claim(2, 6))],
        Some((2, true)),
    );
}

#[test]
fn a_claim_of_a_cancelled_account_is_not_verified_and_beats_only_what_comes_after_it() {
    let world = |resets: &[(u8, u32)]| World {
        cancelled: vec![2],
        ..World::reset(resets)
    };
    let lost = [claims(claim(1, 9)), claims(claim(2, 5))];
    let won = [claims(claim(1, 5)), claims(claim(2, 6))];
    // The winner keeps the address when a reset through another one leaves it unverified.
    check(&world(&[]), &lost, Some((1, true)));
    check(&world(&[(1, 1)]), &lost, Some((1, false)));
    check(&world(&[(1, 1), (2, 1)]), &lost, Some((1, false)));
    // One that a reset had left unverified had lost to a verified one, and takes nothing from it.
    check(&world(&[(2, 1)]), &won, Some((1, true)));
    // Where it had won, the address is free.
    check(&world(&[]), &won, None);
    check(&world(&[(1, 1)]), &won, None);
    check(&world(&[(1, 1), (2, 1)]), &won, None);
    // All at once, each with what the others leave it.
    let three = [claims(claim(1, 9)), claims(claim(2, 6)), claims(claim(3, 5))];
    check(&world(&[]), &three, Some((1, true)));
    check(&world(&[(1, 1)]), &three, Some((1, false)));
    check(&world(&[(1, 1), (2, 1)]), &three, Some((3, true)));
    check(&world(&[(1, 1), (2, 1), (3, 1)]), &three, Some((1, false)));
    // Its release says the same of what comes after it.
    let released = [claims(claim(1, 9)), releases(2, 12)];
    check(&world(&[(1, 1)]), &released, Some((1, false)));
}

#[test]
fn an_unverified_claim_ends_with_the_release_that_saw_it_though_it_comes_first() {
    let mut first = Replica::new(RecordKind::Email, 1);
    first.write(&[claims(claim(1, 9))]);
    let mut owner = Replica::new(RecordKind::Email, 2);
    owner.write(&[claims(claim(2, 5))]).hear(&first);
    let world = World::reset(&[(1, 1)]);
    assert_eq!(world.owner(&email(&owner.view())), Some((2, true)));
    owner.write(&[releases(2, 12)]);
    let view = email(&first.hear(&owner).view());
    assert_eq!((world.owner(&view), view.claims), (None, vec![]));
}

#[test]
fn a_loser_that_the_cancelling_site_had_not_seen_does_not_come_back() {
    let mut winner = Replica::new(RecordKind::Email, 1);
    winner.write(&[claims(claim(2, 6))]).write(&[releases(2, 9)]);
    let mut loser = Replica::new(RecordKind::Email, 2);
    loser.write(&[claims(claim(1, 5))]);
    let view = email(&winner.hear(&loser).view());
    assert_eq!(World::cancelled(&[2]).owner(&view), None);
    // One that only let the address go leaves it to the other.
    assert_eq!(World::default().owner(&view), Some((1, true)));
    // And one that proved it since has it.
    let mut later = Replica::new(RecordKind::Email, 3);
    later.write(&[claims(claim(3, 7))]);
    let view = email(&winner.hear(&later).view());
    assert_eq!(World::cancelled(&[2]).owner(&view), Some((3, true)));
}

#[test]
fn a_released_claim_does_not_return_when_a_later_value_takes_the_releases_place() {
    let mut old = Replica::new(RecordKind::Email, 1);
    old.write(&[claims(claim(1, 5))]);
    let mut new = Replica::new(RecordKind::Email, 2);
    new.write(&[releases(1, 7)])
        .write(&[claims(claim(2, 10))])
        .write(&[releases(2, 12)]);
    let view = email(&new.hear(&old).view());
    assert_eq!(World::default().owner(&view), None);
    let ended = |who, ms, proof| Released {
        account: account(who),
        at: at(ms),
        proof: at(proof),
    };
    assert_eq!(view.released, [ended(1, 7, 0), ended(2, 12, 10)]);
    // Proven again it counts.
    new.write(&[claims(claim(1, 13))]);
    assert_eq!(World::default().owner(&email(&new.view())), Some((1, true)));
}

#[test]
fn a_loser_that_is_cancelled_takes_nothing_from_the_winner() {
    let mut a = Replica::new(RecordKind::Email, 1);
    a.write(&[claims(claim(1, 9))]);
    let mut b = Replica::new(RecordKind::Email, 2);
    b.write(&[claims(claim(2, 5))]).hear(&a);
    // Only an owner lets go: cancelling the loser changes nothing here, its claim counts for nothing anyway.
    let view = email(&b.view());
    assert_eq!(World::cancelled(&[2]).owner(&view), Some((1, true)));
    // The winner may then go too, also where nobody heard of the loser.
    a.write(&[releases(1, 12)]);
    assert_eq!(World::cancelled(&[1, 2]).owner(&email(&b.hear(&a).view())), None);
}

#[test]
fn a_winner_that_lets_go_does_not_leave_the_address_to_those_it_had_beaten() {
    let mut a = Replica::new(RecordKind::Email, 1);
    a.write(&[claims(claim(1, 9))]);
    let mut b = Replica::new(RecordKind::Email, 2);
    b.write(&[claims(claim(2, 5))]).hear(&a).write(&[releases(1, 11)]);
    let view = email(&b.view());
    assert_eq!(World::default().owner(&view), None);
    assert!(view.claims.is_empty());
}

#[test]
fn two_completions_of_one_staging_are_one_claim() {
    let first = Claim {
        vault: vault(7),
        done: at(20),
        ..claim(1, 5)
    };
    let second = Claim {
        vault: vault(3),
        done: at(30),
        ..claim(1, 5)
    };
    let view = email(&concurrently(
        RecordKind::Email,
        &[vec![claims(second)], vec![claims(first)]],
    ));
    let Ok(Ownership::Held { claim, .. }) = view.owner(|id| World::default().standing(id)) else {
        panic!()
    };
    assert_eq!(
        (claim.vault, claim.done),
        (vault(7), at(20)),
        "the earliest counts"
    );
    let none_cancelled = |_| Ok::<_, Infallible>(false);
    assert_eq!(
        view.names(none_cancelled),
        Ok(vec![vault(3), vault(7)]),
        "both stay named"
    );
    assert_eq!(view.accounts().count(), 1);
    assert_eq!(view.latest(), at(30));
}

#[test]
fn names_are_those_of_accounts_that_are_there() {
    let view = email(&concurrently(
        RecordKind::Email,
        &[vec![claims(claim(1, 5))], vec![claims(claim(2, 6))]],
    ));
    let names = |gone: &[u8]| view.names(|id| Ok::<_, Infallible>(gone.contains(&id.as_bytes()[0])));
    assert_eq!(names(&[]), Ok(vec![vault(1), vault(2)]));
    assert_eq!(names(&[1]), Ok(vec![vault(2)]));
    assert_eq!(names(&[1, 2]), Ok(vec![]));
}

#[test]
fn used_as_is_the_latest() {
    let used = |used_as, ms| vec![Write::Email(EmailWrite::UsedAs(used_as, at(ms)))];
    let latest = |writes: &[Vec<Write>]| email(&concurrently(RecordKind::Email, writes)).used_as;
    assert_eq!(latest(&[]), None);
    let (primary, secondary) = (used(UsedAs::Primary, 5), used(UsedAs::Secondary, 6));
    assert_eq!(
        latest(&[primary.clone(), secondary]),
        Some((UsedAs::Secondary, at(6)))
    );
    assert_eq!(
        latest(&[primary, used(UsedAs::Secondary, 5)]),
        Some((UsedAs::Secondary, at(5)))
    );
}

#[test]
fn an_address_moves_in_one_change() {
    let mut replica = Replica::new(RecordKind::Email, 1);
    replica
        .write(&[claims(claim(1, 5))])
        .write(&[releases(1, 8), claims(claim(2, 9))]);
    let view = email(&replica.view());
    assert_eq!(World::default().owner(&view), Some((2, true)));
    assert_eq!(
        view.released,
        [Released {
            account: account(1),
            at: at(8),
            proof: at(5)
        }]
    );
    assert_eq!(view.changes, 2);
}

#[test]
fn releases_carried_are_bounded_and_the_latest_stay() {
    let mut document = Document::new(RecordKind::Email);
    for who in 0..100 {
        let proof = 10 * u64::from(who) + 1;
        document
            .write(Actor([1; 8]), &[claims(claim(who, proof))])
            .unwrap();
        document
            .write(Actor([1; 8]), &[releases(who, proof + 5)])
            .unwrap();
    }
    let view = email(&document.view());
    assert_eq!(
        view.released.len(),
        crdt::email::RELEASED_MAX + 1,
        "its own, and what it carries"
    );
    assert!(
        view.released
            .iter()
            .all(|released| released.account >= account(35))
    );
}

#[test]
fn who_vouched_comes_back_even_when_it_is_not_known_here() {
    for by in [
        ClaimedBy::Mail,
        ClaimedBy::Idp,
        ClaimedBy::Operator,
        ClaimedBy::Other(77),
    ] {
        let view = email(&concurrently(
            RecordKind::Email,
            &[vec![claims(Claim { by, ..claim(1, 5) })]],
        ));
        assert_eq!(view.claims.first().map(|claim| claim.by), Some(by));
    }
}
