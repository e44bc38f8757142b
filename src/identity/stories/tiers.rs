//! The same domain, where the replica is in another process.

use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::{
    once::Recall,
    operations::{Access, Operation, REQUEST_BYTES_MAX, ReadAccount, ReadTarget},
    *,
};
use crate::idp::{GracePeriod, Sighting};

/// A way to a replica, which carries bytes only.
struct Wire {
    here: Here,
    /// What was asked, and by which access.
    asked: Mutex<Vec<(Access, &'static str)>>,
}

impl Remote for Wire {
    fn ask(
        &self,
        access: Access,
        name: &'static str,
        request: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, RemoteError>> {
        self.asked.lock().expect("no panic").push((access, name));
        Box::pin(async move {
            match access {
                Access::Read => operations::read(name, &request, &self.here).await,
                Access::Write => operations::write(name, &request, &self.here).await,
            }
        })
    }
}

/// A site whose domain reaches its replica over a wire, and what an operator has at the replica itself.
fn split(seed: u8) -> (Site, Arc<Wire>, Site) {
    let site = Site::new(seed);
    let wire = Arc::new(Wire {
        here: site.here().clone(),
        asked: Mutex::default(),
    });
    let replica = Replica::There(wire.clone());
    let identity = Identity {
        replica,
        ..site.identity.clone()
    };
    let tier = Site {
        identity,
        store: site.store.clone(),
        clock: site.clock.clone(),
    };
    (tier, wire, site)
}

#[tokio::test]
async fn over_a_wire_everything_is_as_in_one_process() {
    let (oslo, wire, operator) = split(1);
    let ada = done(operator.create("ada@example.org", OLD, Word::Operator).await);
    let signed_in = done(oslo.sign_in("ada@example.org", OLD).await);
    assert_eq!(signed_in.account, ada);
    let changed = oslo
        .identity
        .change_password(ada, pass(OLD), pass(NEW), None)
        .await;
    let Ok(Outcome::Done {
        value: epoch,
        dot: Some(dot),
    }) = changed
    else {
        panic!("{changed:?}")
    };
    assert!(oslo.identity.replica().follow(dot).await.expect("asked"));
    let durability = oslo.identity.replica().durability_of(dot).await;
    assert_eq!(durability, Ok(Durability::AsConfigured));
    done(operator.add(ada, "Ada@Work.example", Word::Operator).await);
    for _ in 0..TRIES_MAX {
        refused(oslo.sign_in("ada@example.org", OLD).await, Refusal::WrongPassword);
    }
    refused(oslo.sign_in("ada@example.org", NEW).await, Refusal::Locked);
    let reset = done(operator.reset("ada@example.org", OTHER, Word::Operator).await);
    assert!(reset.epoch > epoch);
    let state = oslo
        .identity
        .directory()
        .account(ada)
        .await
        .expect("read")
        .expect("an account");
    assert_eq!(
        state,
        wire.here
            .read(&ReadAccount { account: ada })
            .expect("read")
            .expect("an account")
    );
    assert_eq!(state.emails.len(), 2);
    let email = oslo
        .identity
        .directory()
        .email(&address("ada@work.example"))
        .await
        .expect("read");
    assert_eq!(
        email.holder,
        Some(Holder {
            account: ada,
            verified: false
        })
    );
    let out = oslo
        .identity
        .once(Once {
            key: [1; 32],
            request: [2; 32],
        })
        .sign_out_everywhere(ada)
        .await;
    let again = oslo
        .identity
        .once(Once {
            key: [1; 32],
            request: [2; 32],
        })
        .sign_out_everywhere(ada)
        .await;
    assert_eq!(out, again);
    done(oslo.remove(ada, "ada@work.example").await);
    done(oslo.cancel(ada).await);
    // Nor is there anything else that does not survive the trip.
    let other = done(
        oslo.identity
            .sign_in_as_primary(address("ada@idp.example"))
            .await
            .expect("sign in"),
    );
    let (account, epoch, id) = (other.account, other.epoch, [7; 16]);
    let device = crate::session::Device::new(id);
    let tried = oslo
        .identity
        .sign_in(&address("ada@idp.example"), pass(OLD), Some(device))
        .await;
    refused(tried.expect("sign in"), Refusal::WrongPassword);
    let note = SignedInNote {
        account,
        id,
        epoch,
        started_ms: MORNING,
        expires_ms: MORNING + 1,
        device: "a browser".to_owned(),
        site: "oslo".to_owned(),
    };
    oslo.identity.note_signed_in(note).await.expect("note");
    let directory = oslo.identity.directory();
    let places = directory.sessions(account).await.expect("read");
    assert_eq!(places.len(), 1);
    assert_eq!(
        places,
        wire.here.read(&operations::ReadPlaces { account }).expect("read")
    );
    let good = SessionStanding::Good(Standing {
        epoch,
        has_password: false,
    });
    assert_eq!(directory.session(account, id, epoch, Some(dot)).await, Ok(good));
    let state = directory.account(account).await.expect("read");
    assert!(state.is_some());
    assert_eq!(
        directory.signed_in(account, id, epoch, Some(dot)).await,
        Ok((good, state))
    );
    done(
        oslo.identity
            .end_session(account, id, MORNING)
            .await
            .expect("end"),
    );
    assert_eq!(
        directory.session(account, id, epoch, None).await,
        Ok(SessionStanding::Over)
    );
    let typed = address("ada@idp.example");
    let certifiable = directory
        .certifiable(account, &typed, GracePeriod::default())
        .await;
    assert!(matches!(certifiable, Ok(Certifiable::Yes { .. })));
    let standing = directory.standing(&typed).await;
    assert!(matches!(
        standing,
        Ok(crate::browserid::Standing::Held { verified: true, .. })
    ));
    let domain = crate::browserid::Domain::of(&typed);
    oslo.identity
        .note_idp(&domain, Sighting::Seen)
        .await
        .expect("note");
    let facts = directory.address_facts(&typed).await.expect("read");
    assert_eq!(facts.idp_seen_ms, Some(MORNING));
    assert_eq!(facts.email.map(|email| email.address), Some(typed.clone()));
    assert_eq!(directory.ping().await, Ok(()));
    let ahead = Epoch { resets: 1, ..epoch };
    done(oslo.identity.raise_epoch(account, ahead).await.expect("raise"));
    done(
        oslo.identity
            .add_primary(account, typed.clone())
            .await
            .expect("add"),
    );
    wrote_nothing(
        &oslo
            .identity
            .used_as(account, typed, crdt::UsedAs::Primary)
            .await
            .expect("note"),
    );
    let once = Once::new("a random key", &[]);
    assert_eq!(oslo.identity.is_recorded(&once).await, Ok(false));

    // Whoever may only read was asked for nothing else.
    let asked = wire.asked.lock().expect("no panic");
    for (access, name) in &*asked {
        let only_reads = [
            "account",
            "address-facts",
            "certifiable",
            "email",
            "follow",
            "ping",
            "places",
            "session",
            "signed-in",
            "standing",
        ]
        .contains(name);
        assert_eq!(*access == Access::Read, only_reads, "{name}");
    }
}

#[tokio::test]
async fn who_may_only_read_reaches_no_write_and_no_hash() {
    let (_oslo, wire, operator) = split(1);
    let ada = done(operator.create("ada@example.org", OLD, Word::Operator).await);
    let before = wire.here.read(&ReadAccount { account: ada });
    for name in operations::names(Access::Write) {
        let unknown = operations::read(name, &[], &wire.here).await;
        assert_eq!(unknown, Err(RemoteError::UnknownOperation(name.to_string())));
    }
    for name in operations::names(Access::Read) {
        let unknown = operations::write(name, &[], &wire.here).await;
        assert_eq!(unknown, Err(RemoteError::UnknownOperation(name.to_string())));
    }
    assert!(operations::names(Access::Write).contains(&ReadTarget::NAME));
    assert!(operations::names(Access::Write).contains(&Recall::NAME));
    assert_eq!(wire.here.read(&ReadAccount { account: ada }), before);
}

#[tokio::test]
async fn what_is_done_on_an_operator_s_word_is_not_done_for_a_tier() {
    let (oslo, wire, operator) = split(1);
    let ada = done(operator.create("ada@example.org", OLD, Word::Operator).await);
    let before = wire.here.read(&ReadAccount { account: ada });
    let refused = |name: &str| {
        let unknown = RemoteError::UnknownOperation(name.to_owned());
        Err::<(), _>(OperationError::Remote(unknown))
    };
    // Nor on the word of a staging that the tier itself has made up.
    for word in [Word::Operator, Word::Asserted, staged(1, 0)] {
        let (bob, eve) = (address("bob@example.org"), address("ada@example.org"));
        let made = oslo.identity.create_account(bob, pass(OLD), word).await;
        assert_eq!(made.map(drop), refused("sign-up"));
        let reset = oslo.identity.reset_password(eve, pass(NEW), word).await;
        assert_eq!(reset.map(drop), refused("reset-password"));
    }
    for word in [Word::Operator, staged_for(ada, 0, 1, 0)] {
        let added = oslo
            .identity
            .add_email(ada, address("ada@work.example"), word)
            .await;
        assert_eq!(added.map(drop), refused("add-email"));
    }
    assert_eq!(wire.here.read(&ReadAccount { account: ada }), before);
    let proven = oslo.identity.add_primary(ada, address("ada@idp.example")).await;
    done(proven.expect("a domain's own word is taken"));
}

#[tokio::test]
async fn what_is_no_request_is_an_error_and_no_more() {
    let (_oslo, wire, operator) = split(1);
    let ada = done(operator.create("ada@example.org", OLD, Word::Operator).await);
    let good = operations::encode("", &ReadAccount { account: ada }).expect("encoded");
    let mut trailing = good.clone();
    trailing.push(0);
    let deep = vec![0x81; REQUEST_BYTES_MAX];
    let huge = vec![0; REQUEST_BYTES_MAX + 1];
    for bytes in [&[][..], &[0xff], &good[1..], &trailing, &deep, &huge] {
        for name in operations::names(Access::Read) {
            let answer = operations::read(name, bytes, &wire.here).await;
            assert_eq!(
                answer,
                Err(RemoteError::Malformed(name.to_string())),
                "{name} {bytes:02x?}"
            );
        }
        for name in operations::names(Access::Write) {
            let answer = operations::write(name, bytes, &wire.here).await;
            assert_eq!(
                answer,
                Err(RemoteError::Malformed(name.to_string())),
                "{name} {bytes:02x?}"
            );
        }
    }
    let long = operations::read(&"x".repeat(10_000), &good, &wire.here).await;
    assert_eq!(long, Err(RemoteError::UnknownOperation("x".repeat(64))));
    let answer = operations::read(ReadAccount::NAME, &good, &wire.here).await;
    assert!(answer.is_ok_and(|answer| !answer.is_empty()));
}

#[tokio::test]
async fn why_it_failed_and_when_to_try_again_survives_the_trip() {
    let (oslo, _wire, operator) = split(1);
    let ada = done(operator.create("ada@example.org", OLD, Word::Operator).await);
    oslo.store.close();
    let closed = oslo.identity.sign_out_everywhere(ada).await;
    assert!(
        matches!(closed, Err(OperationError::Store(TransactError::NotWritable(_)))),
        "{closed:?}"
    );
    let ms = Duration::from_millis;
    let errors = [
        OperationError::Store(TransactError::Busy),
        OperationError::Store(TransactError::TooLarge { bytes: 7 }),
        OperationError::Store(TransactError::Read(ReadError::Quarantined { key: ada.into() })),
        OperationError::Password(HashError::Busy { retry_after: ms(300) }),
        OperationError::Crowded { retry_after: ms(20) },
        OperationError::Missing { key: ada.into() },
        OperationError::Remote(RemoteError::Unreachable),
    ];
    for error in errors {
        let bytes = operations::encode("", &Err::<(), _>(&error)).expect("encoded");
        let back = operations::decode::<Result<(), OperationError>>("", &bytes).expect("decoded");
        assert_eq!(back, Err(error.clone()));
        assert_eq!(back.expect_err("an error").retry_after(), error.retry_after());
    }
}
