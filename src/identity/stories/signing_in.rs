//! Passwords: right, wrong, changed, made anew.

use super::*;
use crate::{
    identity::sign_in::DEVICE_TRIES_KEEP_MS,
    session::{Device, Known, device::REMEMBERED_MS},
};

#[tokio::test]
async fn who_signs_up_can_sign_in_and_nobody_else() {
    let oslo = Site::new(1);
    oslo.wait(1_000);
    let ada = done(oslo.create("Ada@Example.org", OLD, Word::Operator).await);
    assert_eq!(oslo.emails(ada), [("Ada@Example.org".to_owned(), true)]);
    assert!(oslo.state(ada).has_password);
    let signed_in = oslo.sign_in("ada@example.ORG", OLD).await;
    wrote_nothing(&signed_in);
    assert_eq!(
        done(signed_in),
        SignedIn {
            account: ada,
            epoch: Epoch::default()
        }
    );
    refused(oslo.sign_in("ada@example.org", NEW).await, Refusal::WrongPassword);
    refused(
        oslo.sign_in("nobody@example.org", OLD).await,
        Refusal::WrongPassword,
    );
    refused(
        oslo.create("ada@example.org", NEW, Word::Operator).await,
        Refusal::AddressTaken,
    );
    refused(
        oslo.create("ada@example.org", NEW, staged(1, 500)).await,
        Refusal::LaterProof,
    );
    refused(
        oslo.create("ada@example.org", NEW, staged(1, 1_500)).await,
        Refusal::AddressTaken,
    );
    let nobody = oslo.identity.account(AccountId::from_bytes([0; 15])).await;
    assert_eq!(nobody, Ok(None));
    assert_eq!(oslo.holder("nobody@example.org"), None);
}

#[tokio::test]
async fn a_changed_password_ends_every_session_and_the_old_password() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let before = done(oslo.sign_in("ada@example.org", OLD).await).epoch;
    refused(oslo.change(ada, OTHER, NEW).await, Refusal::WrongPassword);
    assert_eq!(claims::session(before, oslo.state(ada).epoch), Session::Good);
    let after = done(oslo.change(ada, OLD, NEW).await);
    assert_eq!(claims::session(before, oslo.state(ada).epoch), Session::Over);
    assert_eq!(claims::session(after, oslo.state(ada).epoch), Session::Good);
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
    assert_eq!(done(oslo.sign_in("ada@example.org", NEW).await).epoch, after);

    let out = done(oslo.identity.sign_out_everywhere(ada).await.expect("sign out"));
    assert_eq!(claims::session(after, oslo.state(ada).epoch), Session::Over);
    assert_eq!(done(oslo.sign_in("ada@example.org", NEW).await).epoch, out);
    refused(
        oslo.change(AccountId::from_bytes([0; 15]), OLD, NEW).await,
        Refusal::UnknownAccount,
    );
}

#[tokio::test]
async fn only_the_last_of_several_passwords_stays_in_the_vault() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let stored = |site: &Site| {
        let read = |records: &crate::store::Snapshot<'_>| {
            let view = records.account(ada).expect("read").expect("account");
            records
                .vault(view.usable_password().expect("password").vault)
                .expect("read")
                .expect("value")
        };
        site.store.read(read).expect("read")
    };
    let old = stored(&oslo);
    assert!(oslo.holds(&old));
    done(oslo.change(ada, OLD, NEW).await);
    assert!(!oslo.holds(&old));
    assert!(oslo.holds(&stored(&oslo)));
}

#[tokio::test]
async fn ten_wrong_passwords_lock_and_a_reset_or_a_success_forgives() {
    let oslo = Site::new(1);
    done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    for typed in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..TRIES_MAX {
            refused(oslo.sign_in(typed, OTHER).await, Refusal::WrongPassword);
        }
        refused(oslo.sign_in(typed, OTHER).await, Refusal::Locked);
        refused(oslo.sign_in(typed, OLD).await, Refusal::Locked);
    }
    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    for _ in 1..TRIES_MAX {
        refused(
            oslo.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    done(oslo.sign_in("ada@example.org", NEW).await);
    for _ in 0..TRIES_MAX {
        refused(
            oslo.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    refused(oslo.sign_in("ada@example.org", NEW).await, Refusal::Locked);
}

#[tokio::test]
async fn tries_at_two_sites_add_up_and_a_success_at_either_forgives_both() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        for _ in 0..TRIES_MAX / 2 {
            refused(
                site.sign_in("ada@example.org", OTHER).await,
                Refusal::WrongPassword,
            );
        }
    }
    heal(&oslo, &lima).await;
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    refused(lima.sign_in("ada@example.org", OLD).await, Refusal::Locked);

    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    heal(&oslo, &lima).await;
    done(lima.sign_in("ada@example.org", NEW).await);
    heal(&oslo, &lima).await;
    let nothing_to_forgive = oslo.sign_in("ada@example.org", NEW).await;
    wrote_nothing(&nothing_to_forgive);
    done(nothing_to_forgive);
}

#[tokio::test]
async fn wrong_passwords_expire_and_do_not_come_back() {
    let oslo = Site::new(1);
    done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    for _ in 0..TRIES_MAX {
        refused(
            oslo.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    oslo.wait(TRIES_KEEP_MS);
    // One more does not bring the ten of last week to life again.
    refused(
        oslo.sign_in("ada@example.org", OTHER).await,
        Refusal::WrongPassword,
    );
    done(oslo.sign_in("ada@example.org", OLD).await);
}

#[tokio::test]
async fn a_sign_in_makes_an_old_hash_anew_and_never_beats_a_change() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let changed = done(lima.change(ada, OLD, NEW).await);
    let oslo = oslo.costing(2);
    let signed_in = oslo.sign_in("ada@example.org", OLD).await;
    assert!(
        matches!(signed_in, Outcome::Done { dot: Some(_), .. }),
        "{signed_in:?}"
    );
    assert!(oslo.holds(b"$argon2id$v=19$m=32,t=2,p=1$") && !oslo.holds(b"$argon2id$v=19$m=32,t=1,p=1$"));
    let again = oslo.sign_in("ada@example.org", OLD).await;
    wrote_nothing(&again);
    assert_eq!(done(again).epoch, Epoch::default(), "a rehash ends no session");
    oslo.wait(10_000);
    heal(&oslo, &lima).await;
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
    assert_eq!(done(lima.sign_in("ada@example.org", NEW).await).epoch, changed);
}

#[tokio::test]
async fn a_site_that_cannot_write_still_lets_people_in_but_lets_nobody_guess() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    oslo.store.close();
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, ada);
    for _ in 0..TRIES_MAX {
        let guess = oslo
            .identity
            .sign_in(&address("ada@example.org"), pass(OTHER), None)
            .await;
        assert!(
            matches!(guess, Err(OperationError::Store(TransactError::NotWritable(_)))),
            "{guess:?}"
        );
    }
    refused(oslo.sign_in("ada@example.org", OTHER).await, Refusal::Locked);
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    // As others are, and for as long as if it had been written down.
    assert!(
        oslo.identity
            .sign_in(&address("nobody@example.org"), pass(OTHER), None)
            .await
            .is_err()
    );
    oslo.wait(TRIES_KEEP_MS);
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, ada);
}

#[tokio::test]
async fn tries_that_the_disk_did_not_take_are_written_down_with_the_next() {
    let (oslo, disk) = Site::with_disk(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    for _ in 0..2 {
        disk.plan(Fault::Full);
        let guess = oslo
            .identity
            .sign_in(&address("ada@example.org"), pass(OTHER), None)
            .await;
        assert!(matches!(guess, Err(OperationError::Store(_))), "{guess:?}");
        // The disk is open again, and the next fault is not for that.
        oslo.come_to_rest().await;
    }
    for _ in 2..TRIES_MAX {
        refused(
            oslo.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    // With nothing in mind: so they are all on the disk.
    let oslo = oslo.costing(1);
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);

    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    for _ in 1..TRIES_MAX {
        refused(
            oslo.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    disk.plan(Fault::Full);
    let tenth = oslo
        .identity
        .sign_in(&address("ada@example.org"), pass(OTHER), None)
        .await;
    assert!(matches!(tenth, Err(OperationError::Store(_))), "{tenth:?}");
    refused(oslo.sign_in("ada@example.org", NEW).await, Refusal::Locked);
    // What a reset forgives is forgiven there too.
    done(oslo.reset("ada@example.org", OLD, Word::Operator).await);
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, ada);
}

/// A browser that signed in to an account which had had so many resets.
fn browser(id: u8, account: AccountId, resets: u32) -> Device {
    let mut device = Device::new([id; 16]);
    device.signed_in(Known {
        account,
        resets,
        signed_in_ms: MORNING,
    });
    device
}

async fn try_from(site: &Site, typed: &str, password: &str, device: &Device) -> Outcome<SignedIn> {
    let signed_in = site
        .identity
        .sign_in(&address(typed), pass(password), Some(device.clone()))
        .await;
    signed_in.expect("sign in")
}

async fn lock(site: &Site) {
    for _ in 0..TRIES_MAX {
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    refused(site.sign_in("ada@example.org", OTHER).await, Refusal::Locked);
}

#[tokio::test]
async fn nobody_locks_somebody_else_out_of_their_own_browser() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    lock(&oslo).await;
    heal(&oslo, &lima).await;
    let (laptop, bobs, new) = (browser(1, ada, 0), browser(2, bob, 0), Device::new([3; 16]));
    for stranger in [&bobs, &new] {
        for site in [&oslo, &lima] {
            refused(
                try_from(site, "ada@example.org", OLD, stranger).await,
                Refusal::Locked,
            );
        }
    }
    // Its own wrong ones lock it too, at whatever site, and no other browser of Ada's.
    for site in [&oslo, &lima] {
        for _ in 0..TRIES_MAX / 2 {
            refused(
                try_from(site, "ada@example.org", OTHER, &laptop).await,
                Refusal::WrongPassword,
            );
        }
    }
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        refused(
            try_from(site, "ada@example.org", OLD, &laptop).await,
            Refusal::Locked,
        );
    }
    let phone = browser(4, ada, 0);
    assert_eq!(
        done(try_from(&lima, "ada@example.org", OLD, &phone).await).account,
        ada
    );
    // Whoever knows the password unlocks the account for all.
    assert_eq!(done(lima.sign_in("ada@example.org", OLD).await).account, ada);
}

#[tokio::test]
async fn a_browser_that_knows_an_account_has_ten_tries_a_day_and_forgets_it_with_a_reset() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let laptop = browser(1, ada, 0);
    // As long as all may try, its tries are counted with all others.
    for _ in 0..TRIES_MAX {
        refused(
            try_from(&oslo, "ada@example.org", OTHER, &laptop).await,
            Refusal::WrongPassword,
        );
    }
    refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    for _ in 0..2 {
        for _ in 0..TRIES_MAX {
            refused(
                try_from(&oslo, "ada@example.org", OTHER, &laptop).await,
                Refusal::WrongPassword,
            );
        }
        refused(
            try_from(&oslo, "ada@example.org", OLD, &laptop).await,
            Refusal::Locked,
        );
        oslo.wait(DEVICE_TRIES_KEEP_MS);
        refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::Locked);
    }
    // What it has tried counts no more once it was right.
    for _ in 1..TRIES_MAX {
        refused(
            try_from(&oslo, "ada@example.org", OTHER, &laptop).await,
            Refusal::WrongPassword,
        );
    }
    done(try_from(&oslo, "ada@example.org", OLD, &laptop).await);
    lock(&oslo).await;
    for _ in 1..TRIES_MAX {
        refused(
            try_from(&oslo, "ada@example.org", OTHER, &laptop).await,
            Refusal::WrongPassword,
        );
    }
    done(try_from(&oslo, "ada@example.org", OLD, &laptop).await);

    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    for _ in 0..TRIES_MAX {
        refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
    }
    refused(
        try_from(&oslo, "ada@example.org", NEW, &laptop).await,
        Refusal::Locked,
    );
    let after = browser(1, ada, 1);
    done(try_from(&oslo, "ada@example.org", NEW, &after).await);
    lock(&oslo).await;
    oslo.wait(REMEMBERED_MS - 3 * DEVICE_TRIES_KEEP_MS);
    lock(&oslo).await;
    oslo.wait(3 * DEVICE_TRIES_KEEP_MS);
    refused(
        try_from(&oslo, "ada@example.org", NEW, &after).await,
        Refusal::Locked,
    );
}
