//! People whose email domain vouches for them: they come by an assertion, with or without a password.

use crdt::UsedAs;

use super::*;
use crate::{
    browserid::Domain,
    identity::primaries::IDP_SEEN_KEPT,
    idp::{GracePeriod, Sighting, address_state::SIGHTING_INTERVAL},
};

impl Site {
    async fn assert(&self, typed: &str) -> Outcome<SignedIn> {
        let signed_in = self.identity.sign_in_as_primary(address(typed)).await;
        signed_in.expect("sign in")
    }

    async fn add_primary(&self, account: AccountId, typed: &str) -> Outcome<()> {
        let added = self.identity.add_primary(account, address(typed)).await;
        added.expect("add")
    }

    async fn use_as(&self, account: AccountId, typed: &str, used_as: UsedAs) -> Outcome<()> {
        let noted = self.identity.used_as(account, address(typed), used_as).await;
        noted.expect("note")
    }

    async fn sight(&self, domain: &str, sighting: Sighting) {
        let domain = Domain::parse(domain).expect("a domain");
        self.identity.note_idp(&domain, sighting).await.expect("note");
    }

    /// How long ago, in milliseconds, the domain of an address was seen as an IdP.
    async fn sighted(&self, typed: &str) -> Option<u64> {
        let facts = self.identity.directory().address_facts(&address(typed)).await;
        let seen_ms = facts.expect("read").idp_seen_ms?;
        Some(self.clock.load(Ordering::Relaxed) - seen_ms)
    }

    async fn facts(&self, typed: &str) -> KnownEmail {
        let facts = self.identity.directory().address_facts(&address(typed)).await;
        facts.expect("read").email.expect("somebody has it")
    }
}

#[tokio::test]
async fn who_comes_by_an_assertion_first_gets_an_account_and_later_the_same() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let first = oslo.assert("Ada@idp.example").await;
    assert!(
        matches!(first, Outcome::Done { dot: Some(_), .. }),
        "to be followed"
    );
    let SignedIn { account: ada, epoch } = done(first);
    // What was written is what was answered: nothing is read again elsewhere (the original's issue 3309).
    assert_eq!(epoch, oslo.state(ada).epoch);
    assert!(!oslo.state(ada).has_password);
    assert_eq!(oslo.emails(ada), [("Ada@idp.example".to_owned(), true)]);
    let known = KnownEmail {
        address: address("Ada@idp.example"),
        used_as: Some(UsedAs::Primary),
        verified: true,
        has_password: false,
    };
    assert_eq!(oslo.facts("ada@idp.example").await, known);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        let again = site.assert("ada@IDP.example").await;
        wrote_nothing(&again);
        assert_eq!(done(again), SignedIn { account: ada, epoch });
        refused(site.sign_in("ada@idp.example", OLD).await, Refusal::WrongPassword);
    }
    let out = done(oslo.identity.sign_out_everywhere(ada).await.expect("sign out"));
    assert_eq!(done(oslo.assert("ada@idp.example").await).epoch, out);
    done(oslo.cancel(ada).await);
    assert_ne!(done(oslo.assert("ada@idp.example").await).account, ada);
}

#[tokio::test]
async fn an_address_with_a_password_becomes_a_primary_by_its_first_assertion() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    assert_eq!(oslo.state(ada).emails[0].used_as, None);
    let signed_in = oslo.assert("ada@example.org").await;
    assert!(matches!(signed_in, Outcome::Done { dot: Some(_), .. }));
    assert_eq!(done(signed_in).account, ada);
    assert_eq!(oslo.state(ada).emails[0].used_as, Some(UsedAs::Primary));
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, ada);
    // And is certified by the fallback again, once its domain is none any more.
    done(oslo.use_as(ada, "ada@example.org", UsedAs::Secondary).await);
    assert_eq!(oslo.state(ada).emails[0].used_as, Some(UsedAs::Secondary));
    wrote_nothing(&oslo.use_as(ada, "ada@example.org", UsedAs::Secondary).await);
    done(oslo.add(ada, "ada@home.example", Word::Operator).await);
    wrote_nothing(&oslo.use_as(ada, "ada@home.example", UsedAs::Secondary).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    refused(
        oslo.use_as(bob, "ada@example.org", UsedAs::Primary).await,
        Refusal::NotHeld,
    );
}

#[tokio::test]
async fn whom_a_reset_put_out_does_not_come_back_by_an_assertion() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    // Mallory knows the password, and adds an address of hers at a site that does not hear of the reset.
    done(lima.add_primary(ada, "mallory@evil.example").await);
    assert_eq!(done(lima.assert("mallory@evil.example").await).account, ada);
    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.holder("mallory@evil.example"), Some((ada, false)));
    }
    let mallory = done(lima.assert("mallory@evil.example").await).account;
    assert_ne!(mallory, ada);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.holder("mallory@evil.example"), Some((mallory, true)));
        assert_eq!(site.emails(ada), [("ada@example.org".to_owned(), true)]);
    }
    // Who is in the account may prove theirs again.
    done(oslo.add(ada, "ada@idp.example", Word::Operator).await);
    done(oslo.reset("ada@example.org", OLD, Word::Operator).await);
    assert_eq!(oslo.holder("ada@idp.example"), Some((ada, false)));
    done(oslo.add_primary(ada, "ada@idp.example").await);
    assert_eq!(done(oslo.assert("ada@idp.example").await).account, ada);
}

#[tokio::test]
async fn an_assertion_moves_an_address_from_one_account_to_another() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let other = done(oslo.assert("ada@idp.example").await);
    done(oslo.add_primary(ada, "ada@idp.example").await);
    assert_eq!(oslo.holder("ada@idp.example"), Some((ada, true)));
    assert_eq!(done(oslo.assert("ada@idp.example").await).account, ada);
    // The account that had nothing else keeps nothing.
    let standing = oslo
        .identity
        .directory()
        .session(other.account, [1; 16], other.epoch, None)
        .await;
    assert_eq!(standing, Ok(SessionStanding::Over));
    refused(
        oslo.add_primary(AccountId::from_bytes([0; 15]), "ada@idp.example")
            .await,
        Refusal::UnknownAccount,
    );
    refused(
        oslo.reset("ada@idp.example", NEW, Word::Asserted).await,
        Refusal::NotHeld,
    );
}

#[tokio::test]
async fn two_assertions_in_two_halves_of_the_world_are_one_account_after_it() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let early = done(oslo.assert("ada@idp.example").await);
    lima.wait(1_000);
    let late = done(lima.assert("ada@idp.example").await);
    assert_ne!(early.account, late.account);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        let again = site.assert("ada@idp.example").await;
        wrote_nothing(&again);
        assert_eq!(done(again), late);
    }
    // The same request at two sites, of which the second has heard of the first.
    let once = Once::new("a random key", &[b"auth_with_assertion"]);
    let first = oslo
        .identity
        .once(once)
        .sign_in_as_primary(address("bob@idp.example"))
        .await;
    heal(&oslo, &lima).await;
    let second = lima
        .identity
        .once(once)
        .sign_in_as_primary(address("bob@idp.example"))
        .await;
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_domain_that_was_seen_as_an_idp_is_certified_by_nobody_else_for_a_while() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let grace = GracePeriod::default();
    let may = |site: &Site| {
        let directory = site.identity.directory();
        async move {
            let certifiable = directory
                .certifiable(ada, &address("ada@example.org"), grace)
                .await;
            match certifiable.expect("read") {
                Certifiable::Yes { .. } => true,
                Certifiable::Primary => false,
                other => panic!("{other:?}"),
            }
        }
    };
    assert!(may(&oslo).await);
    oslo.sight("Example.ORG", Sighting::Seen).await;
    assert!(!may(&oslo).await);
    assert_eq!(oslo.sighted("bob@example.org").await, Some(0));
    assert_eq!(oslo.sighted("bob@other.example").await, None);
    assert!(may(&lima).await, "it has not heard of it");
    heal(&oslo, &lima).await;
    assert!(!may(&lima).await);
    // Seen again at once is not written again, after an hour it is.
    lima.wait(10);
    lima.sight("example.org", Sighting::Seen).await;
    assert_eq!(lima.sighted("ada@example.org").await, Some(10));
    lima.wait(SIGHTING_INTERVAL.as_millis() as u64);
    lima.sight("example.org", Sighting::Seen).await;
    assert_eq!(lima.sighted("ada@example.org").await, Some(0));
    let GracePeriod(grace_time) = grace;
    lima.wait(grace_time.as_millis() as u64);
    assert!(may(&lima).await);
    heal(&oslo, &lima).await;

    // Its own word ends it, also where the clock is behind the one that saw it.
    oslo.sight("example.org", Sighting::Forget).await;
    assert_eq!(oslo.sighted("ada@example.org").await, None);
    assert!(may(&oslo).await);
    heal(&oslo, &lima).await;
    assert_eq!(lima.sighted("ada@example.org").await, None);
    oslo.sight("example.org", Sighting::Seen).await;
    assert_eq!(oslo.sighted("ada@example.org").await, Some(0));
    heal(&oslo, &lima).await;
    lima.sight("example.org", Sighting::Unchanged).await;
    lima.wait(IDP_SEEN_KEPT.as_millis() as u64);
    assert_eq!(lima.sighted("ada@example.org").await, None, "after thirty days");
    // A domain of few people tells who they are, and is written nowhere.
    oslo.sight("few-people.example", Sighting::Seen).await;
    assert_eq!(oslo.sighted("ada@few-people.example").await, Some(0));
    assert!(!oslo.holds(b"few-people"));
}
