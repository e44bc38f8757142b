//! Addresses that move, are let go, and end with their account.

use super::*;

#[tokio::test]
async fn an_address_moves_to_whoever_proved_it_last() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, staged(1, 10)).await);
    let bob = done(oslo.create("bob@example.org", NEW, staged(2, 20)).await);
    done(oslo.add(ada, "team@example.org", staged_for(ada, 0, 3, 30)).await);
    done(oslo.add(bob, "team@example.org", staged_for(bob, 0, 4, 40)).await);
    assert_eq!(oslo.holder("team@example.org"), Some((bob, true)));
    assert_eq!(oslo.emails(ada), [("ada@example.org".to_owned(), true)]);
    refused(
        oslo.add(ada, "team@example.org", staged_for(ada, 0, 3, 30)).await,
        Refusal::LaterProof,
    );
    refused(
        oslo.add(ada, "team@example.org", staged_for(ada, 0, 5, 35)).await,
        Refusal::LaterProof,
    );
    let again = oslo.add(bob, "team@example.org", staged_for(bob, 0, 4, 40)).await;
    wrote_nothing(&again);
    done(again);
    // Bob lets it go. Ada's older proofs stay spent; a new one is good.
    done(oslo.remove(bob, "team@example.org").await);
    assert_eq!(oslo.holder("team@example.org"), None);
    refused(
        oslo.add(bob, "team@example.org", staged_for(bob, 0, 4, 40)).await,
        Refusal::Released,
    );
    refused(
        oslo.add(ada, "team@example.org", staged_for(ada, 0, 5, 35)).await,
        Refusal::LaterProof,
    );
    done(oslo.add(ada, "team@example.org", Word::Operator).await);
    heal(&oslo, &lima).await;
    // In two halves: whichever proof is later, wherever it was completed first.
    done(lima.add(bob, "team@example.org", Word::Operator).await);
    lima.wait(1_000);
    oslo.wait(500);
    done(oslo.add(ada, "team@example.org", Word::Operator).await);
    heal(&oslo, &lima).await;
    assert_eq!(oslo.holder("team@example.org"), Some((ada, true)));
    assert_eq!(lima.holder("team@example.org"), Some((ada, true)));
    assert_eq!(lima.emails(bob), [("bob@example.org".to_owned(), true)]);
}

#[tokio::test]
async fn an_address_let_go_in_one_half_is_gone_though_it_was_proven_again_earlier_in_the_other() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    heal(&oslo, &lima).await;
    done(
        lima.add(ada, "ada@work.example", staged_for(ada, 0, 1, 2_000))
            .await,
    );
    oslo.wait(5_000);
    done(oslo.remove(ada, "ada@work.example").await);
    heal(&oslo, &lima).await;
    assert_eq!(lima.holder("ada@work.example"), None);
    assert!(!lima.holds(b"ada@work.example") && !oslo.holds(b"ada@work.example"));
}

#[tokio::test]
async fn who_cancels_is_forgotten_and_the_address_is_free() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    heal(&oslo, &lima).await;
    assert!(lima.holds(b"ada@example.org") && lima.holds(b"$argon2id$"));
    // Meanwhile, where nobody knows of it yet, the account goes on.
    done(lima.change(ada, OLD, NEW).await);
    done(lima.add(ada, "ada@new.example", Word::Operator).await);
    done(oslo.cancel(ada).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert!(site.state(ada).cancelled && !site.state(ada).has_password);
        assert_eq!(site.emails(ada), []);
        for typed in ["ada@example.org", "ada@work.example", "ada@new.example"] {
            assert_eq!(site.holder(typed), None);
            assert!(!site.holds(typed.as_bytes()), "{typed}");
            refused(site.sign_in(typed, NEW).await, Refusal::WrongPassword);
        }
        assert!(!site.holds(b"$argon2id$"));
        refused(site.change(ada, OLD, NEW).await, Refusal::Cancelled);
        refused(
            site.add(ada, "x@y.example", Word::Operator).await,
            Refusal::Cancelled,
        );
        refused(site.remove(ada, "ada@example.org").await, Refusal::Cancelled);
        refused(
            site.reset("ada@example.org", NEW, staged_for(ada, 0, 1, 9_000))
                .await,
            Refusal::Cancelled,
        );
    }
    let again = oslo.cancel(ada).await;
    wrote_nothing(&again);
    done(again);
    refused(
        oslo.cancel(AccountId::from_bytes([0; 15])).await,
        Refusal::UnknownAccount,
    );
    let next = done(oslo.create("ada@example.org", OTHER, Word::Operator).await);
    heal(&oslo, &lima).await;
    assert_eq!(lima.holder("ada@example.org"), Some((next, true)));
}

#[tokio::test]
async fn who_cancels_takes_nothing_from_whom_they_had_lost_an_address_to() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", NEW, Word::Operator).await);
    heal(&oslo, &lima).await;
    // Both prove one address; Ada does later, but a reset of hers leaves only Bob's claim verified.
    done(
        oslo.add(bob, "team@example.org", staged_for(bob, 0, 1, 1_000))
            .await,
    );
    done(
        lima.add(ada, "team@example.org", staged_for(ada, 0, 2, 2_000))
            .await,
    );
    done(lima.reset("ada@example.org", OTHER, Word::Operator).await);
    heal(&oslo, &lima).await;
    assert_eq!(oslo.holder("team@example.org"), Some((bob, true)));
    done(oslo.cancel(ada).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.holder("team@example.org"), Some((bob, true)));
        assert_eq!(site.holder("ada@example.org"), None);
    }
}

#[tokio::test]
async fn an_address_that_is_damaged_here_keeps_nobody_from_cancelling() {
    let (oslo, disk) = Site::with_disk(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    for (typed, family) in [
        ("view@example.org", Family::Views),
        ("document@example.org", Family::Documents),
    ] {
        let email = done(oslo.add(ada, typed, Word::Operator).await);
        let key = crdt::RecordKey::from(email);
        assert!(disk.flip_bit(family, key.as_bytes(), 100), "{typed}");
    }
    let damaged = oslo.identity.email(&address("view@example.org")).await;
    assert!(damaged.is_err());
    done(oslo.cancel(ada).await);
    assert!(oslo.state(ada).cancelled);
    for typed in ["ada@example.org", "document@example.org"] {
        assert_eq!(oslo.holder(typed), None, "{typed}");
    }
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
}

#[tokio::test]
async fn an_account_has_so_many_addresses_that_one_transaction_can_cancel_it() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    for number in 1..emails::EMAILS_MAX {
        done(
            oslo.add(ada, &format!("ada{number}@example.org"), Word::Operator)
                .await,
        );
    }
    refused(
        oslo.add(ada, "one@too.many.example", Word::Operator).await,
        Refusal::TooManyAddresses,
    );
    done(oslo.add(ada, "ada7@example.org", Word::Operator).await);
    assert_eq!(oslo.state(ada).emails.len(), emails::EMAILS_MAX);
    done(oslo.cancel(ada).await);
    assert!(!oslo.holds(b"@example.org"));
    for number in 1..emails::EMAILS_MAX {
        assert_eq!(oslo.holder(&format!("ada{number}@example.org")), None);
    }
}
