//! A reset is a recovery: whoever held the old password gets nothing by it, at whatever site, however late.

use super::*;

struct World {
    oslo: Site,
    lima: Site,
    ada: AccountId,
    /// A session of before.
    stolen: Epoch,
}

/// Ada resets at oslo, while a thief who knows the old password is at lima, which hears nothing.
async fn world() -> World {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    heal(&oslo, &lima).await;
    oslo.wait(1_000);
    lima.wait(1_000);
    World {
        stolen: oslo.state(ada).epoch,
        oslo,
        lima,
        ada,
    }
}

impl World {
    async fn reset(&self) -> Epoch {
        let mail = self.oslo.begin_reset("ada@example.org").await;
        let reset = completed(self.oslo.follow(&mail.token, None, Some(NEW)).await);
        assert_eq!(reset.account, self.ada);
        // Whatever the thief does is later by every clock.
        self.lima.wait(30_000);
        reset.epoch
    }

    /// After all has been heard: who gets in, and into what.
    async fn only_the_new_password_counts(&self, thieves: &[Epoch]) {
        heal(&self.oslo, &self.lima).await;
        for site in [&self.oslo, &self.lima] {
            for password in [OLD, OTHER] {
                refused(
                    site.sign_in("ada@example.org", password).await,
                    Refusal::WrongPassword,
                );
            }
            let signed_in = done(site.sign_in("ada@example.org", NEW).await);
            assert_eq!(signed_in.account, self.ada);
            let state = site.state(self.ada);
            assert_eq!(claims::session(self.stolen, state.epoch), Session::Over);
            for thief in thieves {
                assert_eq!(claims::session(*thief, state.epoch), Session::Over);
            }
            assert_eq!(site.holder("ada@example.org"), Some((self.ada, true)));
            let others = state.emails.iter().filter(|held| held.verified).count();
            assert_eq!(others, 1, "only the address that was proven by the reset");
        }
    }
}

#[tokio::test]
async fn against_a_sign_in_with_the_old_password() {
    let world = world().await;
    world.reset().await;
    let thief = done(world.lima.sign_in("ada@example.org", OLD).await);
    world.only_the_new_password_counts(&[thief.epoch]).await;
}

#[tokio::test]
async fn against_a_change_of_the_password() {
    let world = world().await;
    world.reset().await;
    let changed = done(world.lima.change(world.ada, OLD, OTHER).await);
    let out = world.lima.identity.sign_out_everywhere(world.ada).await;
    let out = done(out.expect("sign out"));
    world.only_the_new_password_counts(&[changed, out]).await;
}

#[tokio::test]
async fn against_an_address_that_is_added_and_a_reset_by_it() {
    let world = world().await;
    world.reset().await;
    let mail = world.lima.begin_addition(world.ada, "thief@example.net").await;
    completed(world.lima.follow(&mail.token, Some(&mail.here), None).await);
    world.only_the_new_password_counts(&[]).await;
    for site in [&world.oslo, &world.lima] {
        assert_eq!(site.holder("thief@example.net"), Some((world.ada, false)));
        site.wait(120_000);
        let reset = Begin::Reset {
            address: address("thief@example.net"),
        };
        let begun = site.identity.begin(reset, None, &Nonce::new([1; 32])).await;
        assert!(matches!(
            done(begun.expect("begin")),
            Begun::Staged { mail: None, .. }
        ));
    }
}

#[tokio::test]
async fn against_additions_and_resets_begun_before_it() {
    let world = world().await;
    let World { oslo, lima, ada, .. } = &world;
    let addition = lima.begin_addition(*ada, "thief@example.net").await;
    let older = lima.begin_reset("ada@work.example").await;
    world.reset().await;
    // One where nobody has heard of the reset, one where everybody has.
    completed(lima.follow(&addition.token, Some(&addition.here), None).await);
    world.only_the_new_password_counts(&[]).await;
    for site in [oslo, lima] {
        refused(
            site.follow(&older.token, Some(&older.here), Some(OTHER)).await,
            Refusal::LaterReset,
        );
        let again = site.follow(&addition.token, Some(&addition.here), None).await;
        assert!(matches!(&again, Outcome::Done { value: Completion::Done(again), .. } if !again.signs_in));
    }
    world.only_the_new_password_counts(&[]).await;
}

#[tokio::test]
async fn against_an_older_reset_link_completed_where_nobody_had_heard() {
    let world = world().await;
    let older = world.lima.begin_reset("ada@work.example").await;
    world.oslo.wait(5_000);
    let reset = world.reset().await;
    // The later proof of two concurrent resets has the password; every session made under either ends.
    let thief = completed(world.lima.follow(&older.token, None, Some(OTHER)).await);
    heal(&world.oslo, &world.lima).await;
    for site in [&world.oslo, &world.lima] {
        assert_eq!(
            done(site.sign_in("ada@example.org", NEW).await).account,
            world.ada
        );
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
        let epoch = site.state(world.ada).epoch;
        assert_eq!(claims::session(thief.epoch, epoch), Session::Over);
        assert_eq!(claims::session(reset, epoch), Session::Over);
    }
}

#[tokio::test]
async fn against_the_removal_of_another_address() {
    let world = world().await;
    world.reset().await;
    done(world.lima.remove(world.ada, "ada@work.example").await);
    world.only_the_new_password_counts(&[]).await;
    assert_eq!(world.oslo.holder("ada@work.example"), None);
}

#[tokio::test]
async fn against_the_removal_of_the_address_itself_or_the_end_of_the_account() {
    for cancels in [false, true] {
        let world = world().await;
        let World { oslo, lima, ada, .. } = &world;
        world.reset().await;
        if cancels {
            done(lima.cancel(*ada).await);
        } else {
            done(lima.remove(*ada, "ada@example.org").await);
        }
        heal(oslo, lima).await;
        for site in [oslo, lima] {
            for password in [OLD, OTHER] {
                refused(
                    site.sign_in("ada@example.org", password).await,
                    Refusal::WrongPassword,
                );
            }
            assert_eq!(
                claims::session(world.stolen, site.state(*ada).epoch),
                Session::Over
            );
            assert_eq!(site.state(*ada).cancelled, cancels);
            assert_eq!(site.holder("ada@example.org"), None);
        }
        // A thief can destroy, and gains nothing: the address is its owner's by the next mail.
        oslo.wait(60_000);
        let mail = oslo.begin_sign_up("ada@example.org", NEW).await;
        let anew = completed(oslo.follow(&mail.token, Some(&mail.here), None).await).account;
        heal(oslo, lima).await;
        assert_eq!(lima.holder("ada@example.org"), Some((anew, true)));
    }
}

#[tokio::test]
async fn one_link_at_two_sites_that_hear_nothing_of_each_other() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let mail = oslo.begin_sign_up("ada@example.org", OLD).await;
    heal(&oslo, &lima).await;
    lima.wait(5_000);
    let first = completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    let second = completed(lima.follow(&mail.token, None, Some(OLD)).await);
    assert_eq!(first.account, second.account);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.emails(first.account), [("ada@example.org".to_owned(), true)]);
        for session in [first.epoch, second.epoch] {
            assert_eq!(
                claims::session(session, site.state(first.account).epoch),
                Session::Good
            );
        }
    }
    oslo.wait(60_000);
    lima.wait(60_000);
    let mail = oslo.begin_reset("ada@example.org").await;
    heal(&oslo, &lima).await;
    let earlier = completed(oslo.follow(&mail.token, None, Some(NEW)).await);
    let later = completed(lima.follow(&mail.token, Some(&mail.here), Some(OTHER)).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        done(site.sign_in("ada@example.org", NEW).await);
        refused(
            site.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
        for session in [earlier.epoch, later.epoch] {
            assert_eq!(
                claims::session(session, site.state(first.account).epoch),
                Session::Over
            );
        }
        // Nor does the code make one: what it stood for is over.
        assert!(!completed(site.type_code(&mail.here, &mail.code, None).await).signs_in);
    }
}

#[tokio::test]
async fn one_address_signed_up_at_two_sites_and_the_winner_leaves() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    lima.wait(2_000);
    let at_oslo = oslo.begin_sign_up("ada@example.org", OLD).await;
    let at_lima = lima.begin_sign_up("ada@example.org", NEW).await;
    let loser = completed(oslo.follow(&at_oslo.token, Some(&at_oslo.here), None).await).account;
    let winner = completed(lima.follow(&at_lima.token, Some(&at_lima.here), None).await).account;
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.holder("ada@example.org"), Some((winner, true)));
        assert_eq!(site.emails(loser), []);
        assert_eq!(done(site.sign_in("ada@example.org", NEW).await).account, winner);
        refused(site.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
        refused(
            site.follow(&at_oslo.token, Some(&at_oslo.here), None).await,
            Refusal::LaterProof,
        );
    }
    done(lima.cancel(winner).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(
            site.holder("ada@example.org"),
            None,
            "it does not fall to the loser"
        );
        refused(
            site.follow(&at_oslo.token, Some(&at_oslo.here), None).await,
            Refusal::LaterProof,
        );
    }
}
