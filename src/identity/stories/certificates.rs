//! What the keysigner may certify, and what stands of what it has.

use super::*;
use crate::{browserid, browserid::Reason, idp::GracePeriod};

impl Site {
    async fn certifiable(&self, account: AccountId, typed: &str) -> Certifiable {
        let grace = GracePeriod::default();
        let directory = self.identity.directory();
        let certifiable = directory.certifiable(account, &address(typed), grace).await;
        certifiable.expect("read")
    }

    /// Issues a certificate, as the keysigner would: gives its time.
    async fn certify(&self, account: AccountId, typed: &str) -> u64 {
        let Certifiable::Yes { rests_on_ms, .. } = self.certifiable(account, typed).await else {
            panic!("certifiable")
        };
        let now_ms = self.clock.load(Ordering::Relaxed);
        assert!(rests_on_ms <= now_ms, "nothing here is from the future");
        now_ms
    }

    /// Judges a certificate, as the verifier would.
    async fn judge(&self, typed: &str, issued_ms: u64) -> Result<(), Reason> {
        let standing = self.identity.directory().standing(&address(typed)).await;
        standing.expect("read").judge(issued_ms, u32::MAX)
    }
}

#[tokio::test]
async fn the_keysigner_refuses_whatever_its_own_replica_does_not_say() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    oslo.wait(1_000);
    let ada = done(oslo.create("Ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    assert_eq!(
        oslo.certifiable(ada, "ada@EXAMPLE.org").await,
        Certifiable::Yes {
            rests_on_ms: MORNING + 1_000,
            resets: 0,
            address: address("Ada@example.org"),
        }
    );
    for other in ["bob@example.org", "nobody@example.org"] {
        assert_eq!(oslo.certifiable(ada, other).await, Certifiable::NotTheirs);
    }
    assert_eq!(
        lima.certifiable(ada, "ada@example.org").await,
        Certifiable::NotYet
    );
    oslo.wait(1_000);
    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    assert_eq!(
        oslo.certifiable(ada, "ada@work.example").await,
        Certifiable::Unverified
    );
    let Certifiable::Yes {
        rests_on_ms, resets, ..
    } = oslo.certifiable(ada, "ada@example.org").await
    else {
        panic!("certifiable")
    };
    assert_eq!((rests_on_ms, resets), (MORNING + 2_000, 1), "the reset");
    // It went elsewhere, and came back in another site's view.
    heal(&oslo, &lima).await;
    done(oslo.add(bob, "ada@example.org", Word::Operator).await);
    assert_eq!(
        oslo.certifiable(ada, "ada@example.org").await,
        Certifiable::NotTheirs
    );
    assert!(matches!(
        lima.certifiable(ada, "ada@example.org").await,
        Certifiable::Yes { .. }
    ));
    done(oslo.cancel(bob).await);
    for typed in ["bob@example.org", "ada@example.org"] {
        assert_eq!(oslo.certifiable(bob, typed).await, Certifiable::NotTheirs);
    }
}

#[tokio::test]
async fn a_certificate_stands_until_what_it_rests_on_ends() {
    let nobodys = || Err(Reason::NobodysAddress);
    let superseded = || Err(Reason::Superseded);
    type Verdict = Result<(), Reason>;
    let ends: [(&str, Verdict, Verdict); 6] = [
        // What ends it; what is said of it then; what of one that was issued after.
        ("reset", superseded(), Ok(())),
        (
            "reset by another address",
            Err(Reason::UnverifiedEmail),
            Err(Reason::UnverifiedEmail),
        ),
        ("sign out everywhere", superseded(), Ok(())),
        ("removal", nobodys(), nobodys()),
        ("move", superseded(), Ok(())),
        ("cancellation", nobodys(), nobodys()),
    ];
    for (what, before, after) in ends {
        let (oslo, lima) = (Site::new(1), Site::new(2));
        let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
        done(oslo.add(ada, "ada@home.example", Word::Operator).await);
        let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
        assert_eq!(
            oslo.judge("ada@example.org", 0).await,
            superseded(),
            "not yet issued"
        );
        oslo.wait(1_000);
        let issued_ms = oslo.certify(ada, "ada@example.org").await;
        assert_eq!(oslo.judge("ada@example.org", issued_ms).await, Ok(()));
        heal(&oslo, &lima).await;
        oslo.wait(1_000);
        match what {
            "reset" => drop(done(oslo.reset("ada@example.org", NEW, Word::Operator).await)),
            "reset by another address" => {
                done(oslo.reset("ada@home.example", NEW, Word::Operator).await);
            }
            "sign out everywhere" => {
                done(oslo.identity.sign_out_everywhere(ada).await.expect("sign out"));
            }
            "removal" => drop(done(oslo.remove(ada, "ada@example.org").await)),
            "move" => drop(done(oslo.add(bob, "ada@example.org", Word::Operator).await)),
            _ => done(oslo.cancel(ada).await),
        }
        let later_ms = oslo.clock.load(Ordering::Relaxed) + 1;
        assert_eq!(oslo.judge("ada@example.org", issued_ms).await, before, "{what}");
        assert_eq!(
            oslo.judge("ada@example.org", later_ms).await,
            after,
            "after {what}"
        );
        assert_eq!(
            lima.judge("ada@example.org", issued_ms).await,
            Ok(()),
            "not heard of"
        );
        heal(&oslo, &lima).await;
        assert_eq!(lima.judge("ada@example.org", issued_ms).await, before, "{what}");
    }
    let nobody = Site::new(3).identity.directory();
    let standing = nobody.standing(&address("ada@example.org")).await;
    assert_eq!(standing, Ok(browserid::Standing::Free));
    assert_eq!(nobody.ping().await, Ok(()));
}

#[tokio::test]
async fn what_is_known_of_an_address() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("Ada@example.org", OLD, Word::Operator).await);
    let facts = |typed: &'static str| {
        let directory = oslo.identity.directory();
        async move { directory.address_facts(&address(typed)).await.expect("read") }
    };
    let known = KnownEmail {
        address: address("Ada@example.org"),
        used_as: None,
        verified: true,
        has_password: true,
    };
    assert_eq!(facts("ada@example.org").await.email, Some(known.clone()));
    assert_eq!(facts("bob@example.org").await.email, None);
    done(oslo.add(ada, "ada@home.example", Word::Operator).await);
    done(oslo.reset("ada@home.example", NEW, Word::Operator).await);
    let unverified = KnownEmail {
        verified: false,
        ..known
    };
    assert_eq!(facts("ada@example.org").await.email, Some(unverified));
    done(oslo.cancel(ada).await);
    assert_eq!(facts("ada@example.org").await.email, None);
}
