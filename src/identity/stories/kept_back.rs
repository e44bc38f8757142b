//! What waits for a proof, as whoever keeps its mail back asks about it.

use super::{
    staging::{Begin, Begun, Nonce, STAGING_MS, StagingId},
    *,
};

impl Site {
    /// Begins, and gives the staging's id and what that came to.
    async fn begin_as(&self, begin: Begin) -> (StagingId, Begun) {
        let challenge = self.identity.challenge();
        let id = challenge.token.id();
        let nonce = Nonce::new([7; 32]);
        let begun = self.identity.begin_with(begin, None, &nonce, challenge).await;
        (id, done(begun.expect("begin")))
    }

    async fn wants_mail(&self, id: StagingId) -> bool {
        self.identity.wants_mail(id).await.expect("read")
    }
}

fn sign_up(typed: &str) -> Begin {
    Begin::NewAccount {
        address: address(typed),
        password: pass(OLD),
    }
}

#[tokio::test]
async fn a_mail_is_wanted_for_what_waits_and_can_lead_to_something() {
    let oslo = Site::new(1);
    let (ada, begun) = oslo.begin_as(sign_up("ada@example.org")).await;
    assert!(matches!(begun, Begun::Staged { mail: Some(_), .. }));
    assert!(oslo.wants_mail(ada).await);
    // What was never written: the address had a mail just now.
    let (again, begun) = oslo.begin_as(sign_up("ada@example.org")).await;
    assert!(matches!(begun, Begun::Throttled { .. }));
    assert!(!oslo.wants_mail(again).await);
    // What is there only so that nobody can tell who has an account.
    let reset = Begin::Reset {
        address: address("nobody@example.org"),
    };
    let (nobody, begun) = oslo.begin_as(reset).await;
    assert!(matches!(begun, Begun::Staged { mail: None, .. }));
    assert!(!oslo.wants_mail(nobody).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    let reset = Begin::Reset {
        address: address("bob@example.org"),
    };
    let (forgotten, _) = oslo.begin_as(reset).await;
    assert!(oslo.wants_mail(forgotten).await);
    done(oslo.cancel(bob).await);
    assert!(!oslo.wants_mail(StagingId::from_bytes([9; 32])).await);
    oslo.wait(STAGING_MS + 1);
    assert!(!oslo.wants_mail(ada).await, "its day is over");
}
