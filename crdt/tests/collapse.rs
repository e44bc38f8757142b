//! Losers of concurrent pairs go by collapse: what is written, and that it decides nothing anew.

mod replicas;

use std::collections::BTreeSet;
use std::convert::Infallible;

use crdt::{
    AccountId, AccountView, AccountWrite, Claim, ClaimedBy, EmailView, EmailWrite, Ownership, Password,
    RecordKind, Standing, VaultId, View, Write,
};
use proptest::prelude::*;
use replicas::{Replica, account, at, concurrently, vault};

/// Where the collapsed value lies from then on.
const NEW: u8 = 0xee;

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

fn claims(who: u8, proof: u64) -> EmailWrite {
    EmailWrite::Claim(claim(who, proof))
}

fn releases(who: u8, ms: u64) -> EmailWrite {
    EmailWrite::Release {
        account: account(who),
        at: at(ms),
    }
}

/// What the accounts' records say.
#[derive(Clone, Default, Debug)]
struct Accounts {
    cancelled: BTreeSet<u8>,
    reset: BTreeSet<u8>,
}

impl Accounts {
    fn cancelled(accounts: impl IntoIterator<Item = u8>) -> Accounts {
        Accounts {
            cancelled: accounts.into_iter().collect(),
            ..Accounts::default()
        }
    }

    fn standing(&self, id: AccountId) -> Result<Standing, Infallible> {
        let byte = id.as_bytes()[0];
        Ok(Standing {
            cancelled: self.cancelled.contains(&byte),
            resets: u32::from(self.reset.contains(&byte)),
        })
    }

    fn owner(&self, view: &EmailView) -> Option<AccountId> {
        let Ok(owner) = view.owner(|id| self.standing(id));
        match owner {
            Ownership::Held { claim, .. } => Some(claim.account),
            Ownership::Free => None,
        }
    }

    fn names(&self, view: &EmailView) -> Vec<VaultId> {
        let Ok(names) = view.names(|id| self.standing(id).map(|standing| standing.cancelled));
        names
    }

    fn collapse(&self, view: &EmailView) -> Option<EmailWrite> {
        let Ok(write) = view.collapse(|id| self.standing(id));
        match write {
            Some(EmailWrite::Claim(claim)) => Some(EmailWrite::Claim(Claim {
                vault: vault(NEW),
                ..claim
            })),
            other => other,
        }
    }
}

fn email(view: View) -> EmailView {
    let View::Email(view) = view else {
        panic!("an email's record has an email's view")
    };
    view
}

/// A replica that has heard each of these, written by one that saw none of the others.
fn heard(concurrent: &[EmailWrite]) -> Replica {
    let mut all = Replica::new(RecordKind::Email, 0x80);
    for (actor, write) in (1..).zip(concurrent) {
        let mut one = Replica::new(RecordKind::Email, actor);
        one.write(&[Write::Email(write.clone())]);
        all.hear(&one);
    }
    all
}

#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "the calls read better")]
fn check(accounts: &Accounts, concurrent: &[EmailWrite], expected: Option<EmailWrite>) {
    assert_eq!(accounts.collapse(&email(heard(concurrent).view())), expected);
}

/// A tick past what it had proven.
fn let_go(who: u8, ms: u64) -> EmailWrite {
    EmailWrite::Release {
        account: account(who),
        at: at(ms).succ(),
    }
}

fn again(who: u8, proof: u64) -> Option<EmailWrite> {
    Some(EmailWrite::Claim(Claim {
        vault: vault(NEW),
        ..claim(who, proof)
    }))
}

#[test]
fn what_an_addresss_collapse_writes() {
    let all_there = Accounts::default();
    check(&all_there, &[], None);
    check(&all_there, &[claims(1, 5)], None);
    check(&all_there, &[claims(1, 5), releases(1, 7)], None);
    check(&all_there, &[claims(1, 5), releases(2, 7)], None);
    // The winner, as it is.
    check(&all_there, &[claims(1, 5), claims(2, 6)], again(2, 6));
    check(&all_there, &[claims(1, 5), claims(2, 6), releases(2, 7)], None); // void claims name nothing
    check(
        &all_there,
        &[claims(1, 5), claims(2, 6), claims(3, 7), releases(3, 8)],
        again(2, 6),
    );
    // Verified first: here account 2 had a reset since.
    let reset = Accounts {
        reset: [2].into(),
        ..Accounts::default()
    };
    check(&reset, &[claims(1, 5), claims(2, 6)], again(1, 5));
    // One account, twice: the address lies in the vault under two ids.
    let twice = Claim {
        vault: vault(9),
        ..claim(1, 5)
    };
    check(&all_there, &[claims(1, 5), EmailWrite::Claim(twice)], again(1, 5));
    // A cancelled loser is named no more, so nothing is left to end.
    check(&Accounts::cancelled([1]), &[claims(1, 5), claims(2, 6)], None);
    // The winner was cancelled without having seen the others: the address is free, and so they must end.
    check(
        &Accounts::cancelled([2]),
        &[claims(1, 5), claims(2, 6)],
        Some(let_go(2, 6)),
    );
    check(
        &Accounts::cancelled([2, 3]),
        &[claims(1, 5), claims(2, 6), claims(3, 7)],
        Some(let_go(3, 7)),
    );
    check(&Accounts::cancelled([1, 2]), &[claims(1, 5), claims(2, 6)], None);
}

#[test]
fn a_claim_that_comes_after_what_a_cancelled_account_let_go_is_ended() {
    let accounts = Accounts::cancelled([2]);
    let mut replica = Replica::new(RecordKind::Email, 1);
    replica.write(&[Write::Email(claims(2, 6))]);
    replica.write(&[Write::Email(releases(2, 8))]);
    let mut other = Replica::new(RecordKind::Email, 2);
    other.write(&[Write::Email(claims(1, 5))]);
    replica.hear(&other);
    let view = email(replica.view());
    assert_eq!(
        (accounts.owner(&view), accounts.names(&view)),
        (None, vec![vault(1)])
    );
    let write = accounts.collapse(&view).expect("a loser is named");
    assert_eq!(write, let_go(2, 8));
    replica.write(&[Write::Email(write)]);
    let after = email(replica.view());
    assert_eq!(after.claims, []);
    let of = |view: &EmailView| {
        view.released
            .iter()
            .map(|one| (one.account, one.proof))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&after), of(&view), "the release is as it was");
}

/// The loser's value must not go while a release of the winner's is on its way; once everything concurrent has
/// come, what is still to come has seen both claims and meets the same.
#[test]
fn a_release_that_saw_both_ends_the_collapsed_claim_too() {
    let mut replica = heard(&[claims(1, 5), claims(2, 6)]);
    let mut releasing = Replica::new(RecordKind::Email, 0x90);
    releasing.hear(&replica).write(&[Write::Email(releases(2, 9))]);
    let write = Accounts::default()
        .collapse(&email(replica.view()))
        .expect("a loser is named");
    replica.write(&[Write::Email(write)]).hear(&releasing);
    let view = email(replica.view());
    assert_eq!(
        view.claims,
        [],
        "the claim written again has the proof that was released"
    );
}

fn passwords(view: View) -> AccountView {
    let View::Account(view) = view else {
        panic!("an account's record has an account's view")
    };
    view
}

#[test]
fn passwords_that_lost_are_superseded_by_the_one_that_counts() {
    let password = |resets, changed, id| {
        let (changed, done, vault) = (at(changed), at(changed + 1), vault(id));
        Password {
            resets,
            changed,
            done,
            rehashes: 0,
            vault,
        }
    };
    let written = |password| vec![Write::Account(AccountWrite::Password(password))];
    let view = passwords(concurrently(RecordKind::Account, &[written(password(0, 5, 1))]));
    assert_eq!(view.collapse(), None);
    let both = [written(password(1, 5, 1)), written(password(0, 9, 2))];
    let view = passwords(concurrently(RecordKind::Account, &both));
    assert_eq!(view.collapse(), Some(password(1, 5, 1)));
    let cancelled = vec![Write::Account(AccountWrite::Cancelled(at(10)))];
    let [one, other] = both;
    let view = passwords(concurrently(RecordKind::Account, &[one, other, cancelled]));
    assert_eq!(view.collapse(), None, "nothing of a cancelled account is named");
}

fn writes() -> impl Strategy<Value = Vec<EmailWrite>> {
    let who = 1u8..5;
    let write = prop_oneof![
        3 => (who.clone(), 1u64..8).prop_map(|(who, proof)| claims(who, proof)),
        1 => (who, 1u64..10).prop_map(|(who, ms)| releases(who, ms)),
    ];
    prop::collection::vec(write, 0..6)
}

fn accounts() -> impl Strategy<Value = Accounts> {
    let some = || prop::collection::btree_set(1u8..5, 0..3);
    (some(), some()).prop_map(|(cancelled, reset)| Accounts { cancelled, reset })
}

proptest! {
    /// After it nothing but the owner's address is named, the owner is who it was, and there is nothing to do.
    #[test]
    fn it_ends_the_losers_and_decides_nothing(accounts in accounts(), concurrent in writes()) {
        let mut replica = heard(&concurrent);
        let before = email(replica.view());
        let Some(write) = accounts.collapse(&before) else {
            let named = accounts.names(&before).len();
            prop_assert!(named <= usize::from(accounts.owner(&before).is_some()), "{before:?}");
            return Ok(());
        };
        replica.write(&[Write::Email(write)]);
        let after = email(replica.view());
        prop_assert_eq!(accounts.owner(&after), accounts.owner(&before));
        prop_assert!(after.latest() <= before.latest().succ(), "no HLC is raised");
        let named = if accounts.owner(&before).is_some() { vec![vault(NEW)] } else { Vec::new() };
        prop_assert_eq!(accounts.names(&after), named);
        prop_assert_eq!(accounts.collapse(&after), None);
        for released in &before.released {
            prop_assert!(after.released.iter().any(|carried| {
                carried.account == released.account && carried.at >= released.at
            }), "releases are carried on");
        }
    }

    /// Two sites that both think that they are the first write the same, so there is nothing left to collapse.
    #[test]
    fn two_at_once_are_one(accounts in accounts(), concurrent in writes()) {
        let one = heard(&concurrent);
        let Some(write) = accounts.collapse(&email(one.view())) else { return Ok(()) };
        let mut here = Replica::new(RecordKind::Email, 0x91);
        here.hear(&one).write(&[Write::Email(write.clone())]);
        let mut there = Replica::new(RecordKind::Email, 0x92);
        there.hear(&one).write(&[Write::Email(write)]);
        here.hear(&there);
        let view = email(here.view());
        prop_assert!(view.claims.len() <= 1);
        prop_assert_eq!(accounts.collapse(&view), None);
    }

    /// What one writes who had seen all of it (a later proof, the owner's release) fares as it would have without.
    #[test]
    fn what_is_still_on_its_way_meets_what_it_would_have_met(
        accounts in accounts(),
        concurrent in writes(),
        ms in 20u64..30,
    ) {
        let settled = heard(&concurrent);
        let Some(write) = accounts.collapse(&email(settled.view())) else { return Ok(()) };
        let owner = accounts.owner(&email(settled.view()));
        let newcomer = claims(6, ms);
        for write_late in owner.map(|account| EmailWrite::Release { account, at: at(ms) }).into_iter().chain([newcomer]) {
            let mut elsewhere = Replica::new(RecordKind::Email, 0x90);
            elsewhere.hear(&settled).write(&[Write::Email(write_late)]);
            let expected = accounts.owner(&email(elsewhere.view()));
            let mut here = Replica::new(RecordKind::Email, 0x91);
            here.hear(&settled).write(&[Write::Email(write.clone())]);
            here.hear(&elsewhere);
            prop_assert_eq!(accounts.owner(&email(here.view())), expected);
        }
    }
}
