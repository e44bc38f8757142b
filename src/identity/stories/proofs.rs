//! What a proof of an address does: once, twice, and in two halves of a world that cannot hear each other.

use super::*;

#[tokio::test]
async fn one_staging_completed_twice_is_one_account() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let hashed = NewPassword::Hashed(oslo.identity.passwords.hash(pass(OLD)).await.expect("hash"));
    oslo.wait(1_000);
    lima.wait(5_000);
    let at = |site: &Site| site.identity.clone();
    let complete = |site: &Site| {
        let (identity, hashed) = (at(site), hashed.clone());
        async move {
            identity
                .create_account(address("ada@example.org"), hashed, staged(1, 0))
                .await
                .expect("create")
        }
    };
    let ada = done(complete(&oslo).await);
    let again = complete(&oslo).await;
    wrote_nothing(&again);
    assert_eq!(done(again), ada);
    assert_eq!(done(complete(&lima).await), ada);
    heal(&oslo, &lima).await;
    let held = |site: &Site| site.state(ada);
    assert_eq!(held(&oslo), held(&lima));
    assert_eq!(
        oslo.state(ada).created.ms(),
        MORNING + 1_000,
        "the earliest counts"
    );
    assert_eq!(oslo.state(ada).emails[0].done.ms(), MORNING + 1_000);
    for site in [&oslo, &lima] {
        assert_eq!(done(site.sign_in("ada@example.org", OLD).await).account, ada);
    }
    // Once its account has let the address go, or is gone, the old link does nothing.
    done(lima.remove(ada, "ada@example.org").await);
    refused(complete(&lima).await, Refusal::Released);
    done(lima.cancel(ada).await);
    refused(complete(&lima).await, Refusal::Cancelled);
}

#[tokio::test]
async fn two_sign_ups_in_two_halves_of_the_world_have_one_owner_after_it() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let early = done(oslo.create("ada@example.org", OLD, staged(1, 10)).await);
    let late = done(lima.create("ada@example.org", NEW, staged(2, 20)).await);
    assert_ne!(early, late);
    done(oslo.add(early, "ada@work.example", Word::Operator).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.holder("ada@example.org"), Some((late, true)));
        assert_eq!(done(site.sign_in("ada@example.org", NEW).await).account, late);
        refused(site.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
        // The loser has another address, and keeps its account by that.
        assert_eq!(done(site.sign_in("ada@work.example", OLD).await).account, early);
        assert_eq!(site.emails(early), [("ada@work.example".to_owned(), true)]);
        refused(site.remove(early, "ada@example.org").await, Refusal::NotHeld);
    }
    // The owner cancels: the claim that lost does not return.
    heal(&oslo, &lima).await;
    done(lima.cancel(late).await);
    heal(&oslo, &lima).await;
    assert_eq!(oslo.holder("ada@example.org"), None);
    refused(
        oslo.create("ada@example.org", OLD, staged(1, 10)).await,
        Refusal::LaterProof,
    );
    assert_eq!(
        done(oslo.add(early, "ada@example.org", Word::Operator).await),
        oslo.identity.email_id(&address("ada@example.org"))
    );
}

#[tokio::test]
async fn a_reset_beats_a_change_by_whoever_knew_the_old_password() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    // A thief, at a site cut off, later and with a clock ahead.
    let reset = done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    lima.wait(50_000);
    let thief = done(lima.change(ada, OLD, OTHER).await);
    done(lima.add(ada, "thief@example.org", Word::Operator).await);
    done(lima.identity.sign_out_everywhere(ada).await.expect("sign out"));
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
        refused(site.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
        assert_eq!(done(site.sign_in("ada@example.org", NEW).await).account, ada);
        assert_eq!(claims::session(thief, site.state(ada).epoch), Session::Over);
        // What the thief added is there, but proves nothing: it can neither reset the account …
        assert_eq!(site.holder("thief@example.org"), Some((ada, false)));
        refused(
            site.reset("thief@example.org", OTHER, Word::Operator).await,
            Refusal::Unverified,
        );
    }
    // Two distinct epochs met, so the session made under the reset ends too; the next is good.
    assert_eq!(claims::session(reset.epoch, oslo.state(ada).epoch), Session::Over);
    let next = done(oslo.sign_in("ada@example.org", NEW).await);
    assert_eq!(claims::session(next.epoch, lima.state(ada).epoch), Session::Good);
    // … and whoever proves it from outside takes it along.
    let thief = done(oslo.create("thief@example.org", OTHER, Word::Operator).await);
    assert_eq!(oslo.holder("thief@example.org"), Some((thief, true)));
    assert_eq!(oslo.emails(ada), [("ada@example.org".to_owned(), true)]);
}

#[tokio::test]
async fn after_a_reset_the_other_addresses_have_to_be_proven_again() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    oslo.wait(1_000);
    let link = staged_for(ada, 0, 1, 1_000);
    let second_link = staged_for(ada, 0, 2, 1_001);
    oslo.wait(1_000);
    let reset = done(oslo.reset("ada@example.org", NEW, link).await);
    assert_eq!(reset.epoch.resets, 1);
    assert_eq!(
        oslo.emails(ada),
        [
            ("ada@example.org".to_owned(), true),
            ("ada@work.example".to_owned(), false)
        ]
    );
    // The same link again, one more of before, and an addition begun before, are all of an older trust.
    refused(
        oslo.reset("ada@example.org", OTHER, link).await,
        Refusal::LaterReset,
    );
    refused(
        oslo.reset("ada@example.org", OTHER, second_link).await,
        Refusal::LaterReset,
    );
    refused(
        oslo.add(ada, "ada@new.example", staged_for(ada, 0, 3, 900)).await,
        Refusal::LaterReset,
    );
    refused(
        oslo.add(ada, "ada@new.example", staged_for(ada, 2, 3, 900)).await,
        Refusal::NotYet,
    );
    refused(
        oslo.reset("ada@work.example", OTHER, staged_for(ada, 1, 4, 3_000))
            .await,
        Refusal::Unverified,
    );
    // One still comes in by an unverified address and the password.
    assert_eq!(done(oslo.sign_in("ada@work.example", NEW).await).account, ada);
    done(
        oslo.add(ada, "ada@work.example", staged_for(ada, 1, 5, 4_000))
            .await,
    );
    assert_eq!(oslo.holder("ada@work.example"), Some((ada, true)));
    done(
        oslo.reset("ada@work.example", OTHER, staged_for(ada, 1, 6, 5_000))
            .await,
    );
    assert_eq!(oslo.holder("ada@example.org"), Some((ada, false)));
    // A token is for its own account and purpose.
    refused(
        oslo.reset("ada@work.example", OTHER, staged(7, 9_000)).await,
        Refusal::NotHeld,
    );
    refused(
        oslo.add(
            AccountId::from_bytes([8; 15]),
            "x@y.example",
            staged_for(ada, 2, 8, 9_000),
        )
        .await,
        Refusal::NotHeld,
    );
}

#[tokio::test]
async fn of_one_reset_link_used_in_both_halves_the_earlier_password_stands_and_no_session() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let link = staged_for(ada, 0, 1, 1_000);
    oslo.wait(2_000);
    lima.wait(9_000);
    let earlier = done(oslo.reset("ada@example.org", NEW, link).await);
    let later = done(lima.reset("ada@example.org", OTHER, link).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(done(site.sign_in("ada@example.org", NEW).await).account, ada);
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
        let epoch = site.state(ada).epoch;
        assert_eq!(claims::session(earlier.epoch, epoch), Session::Over);
        assert_eq!(claims::session(later.epoch, epoch), Session::Over);
        assert_eq!(epoch.resets, 1);
        assert_eq!(site.holder("ada@example.org"), Some((ada, true)));
    }
}
