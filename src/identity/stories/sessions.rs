//! Sessions at one site and another: ended, past the epoch, ahead of it, of an account that is not here yet.

use std::sync::atomic::AtomicUsize;

use crdt::{PLACES_MAX, WORDS_BYTES_MAX};
use futures_util::future::BoxFuture;

use super::{replica::PATIENCE, *};
use crate::{
    identity::{
        sessions::{CUT_OFF_MS, NOTED_EVERY_MS},
        staging::{SiteNumber, StagingId},
    },
    session::{LIFETIME_MS, SHORT_LIFETIME_MS},
};

const PHONE: [u8; 16] = [1; 16];
const LAPTOP: [u8; 16] = [2; 16];

impl Site {
    async fn look(&self, account: AccountId, id: [u8; 16], epoch: Epoch) -> SessionStanding {
        self.look_behind(account, id, epoch, None).await
    }

    async fn look_behind(
        &self,
        account: AccountId,
        id: [u8; 16],
        epoch: Epoch,
        dot: Option<Dot>,
    ) -> SessionStanding {
        let directory = self.identity.directory();
        let standing = directory.session(account, id, epoch, dot).await.expect("read");
        // With the account it is the same, and there is an account just if the session is good.
        let (closely, state) = directory.signed_in(account, id, epoch, dot).await.expect("read");
        assert_eq!(closely, standing);
        let expected = match standing {
            SessionStanding::Good(_) => directory.account(account).await.expect("read"),
            SessionStanding::Over | SessionStanding::NotYet => None,
        };
        assert_eq!(state, expected);
        standing
    }

    async fn end(&self, account: AccountId, id: [u8; 16], expires_ms: u64) -> Outcome<()> {
        let ended = self.identity.end_session(account, id, expires_ms).await;
        ended.expect("end")
    }

    async fn note(&self, account: AccountId, id: [u8; 16], device: &str, site: &str) {
        let now_ms = self.now_ms();
        let note = SignedInNote {
            account,
            id,
            epoch: self.state(account).epoch,
            started_ms: now_ms,
            expires_ms: now_ms + LIFETIME_MS,
            device: device.to_owned(),
            site: site.to_owned(),
        };
        self.identity.note_signed_in(note).await.expect("note");
    }

    /// Where an account is signed in: device and site.
    async fn places(&self, account: AccountId) -> Vec<(String, String)> {
        let places = self.identity.directory().sessions(account).await.expect("read");
        places.into_iter().map(|at| (at.device, at.site)).collect()
    }

    fn now_ms(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// How many transactions it has written or heard.
    async fn transactions(&self) -> u64 {
        self.come_to_rest().await;
        let vector = self.store.state().vector.clone();
        vector.iter().map(|(_, tip)| tip.number).sum()
    }
}

fn at(device: &str, site: &str) -> (String, String) {
    (device.to_owned(), site.to_owned())
}

fn good(epoch: Epoch) -> SessionStanding {
    SessionStanding::Good(Standing {
        epoch,
        has_password: true,
    })
}

#[tokio::test]
async fn a_session_that_was_ended_here_is_over_there_and_stays_so() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let epoch = Epoch::default();
    // An hour on a shared computer, for all that the cookie says.
    done(oslo.end(ada, PHONE, MORNING + SHORT_LIFETIME_MS).await);
    assert_eq!(oslo.look(ada, PHONE, epoch).await, SessionStanding::Over);
    assert_eq!(
        lima.look(ada, PHONE, epoch).await,
        good(epoch),
        "not heard of yet"
    );
    heal(&oslo, &lima).await;
    assert_eq!(lima.look(ada, PHONE, epoch).await, SessionStanding::Over);
    for site in [&oslo, &lima] {
        assert_eq!(site.look(ada, LAPTOP, epoch).await, good(epoch));
        assert_eq!(
            site.look(bob, PHONE, epoch).await,
            good(epoch),
            "another's session"
        );
    }
    wrote_nothing(&lima.end(ada, PHONE, u64::MAX).await);
    // A site that had not heard of it for days may have prolonged it.
    oslo.wait(LIFETIME_MS + CUT_OFF_MS - 1);
    assert_eq!(oslo.look(ada, PHONE, epoch).await, SessionStanding::Over);
    oslo.wait(1);
    assert_eq!(
        oslo.look(ada, PHONE, epoch).await,
        good(epoch),
        "no cookie lasts so long"
    );
}

#[tokio::test]
async fn a_session_that_has_seen_more_than_is_here_is_good_and_raises_the_record() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let before = oslo.state(ada).epoch;
    let after = done(oslo.identity.sign_out_everywhere(ada).await.expect("sign out"));
    assert_eq!(oslo.look(ada, PHONE, before).await, SessionStanding::Over);
    assert_eq!(oslo.look(ada, LAPTOP, after).await, good(after));
    assert_eq!(lima.look(ada, PHONE, before).await, good(before));
    assert_eq!(lima.look(ada, LAPTOP, after).await, good(after));
    done(lima.identity.raise_epoch(ada, after).await.expect("raise"));
    assert_eq!(lima.look(ada, PHONE, before).await, SessionStanding::Over);
    assert_eq!(lima.state(ada).epoch, after);
    for epoch in [before, after] {
        wrote_nothing(&lima.identity.raise_epoch(ada, epoch).await.expect("raise"));
    }
    heal(&oslo, &lima).await;
    assert_eq!(oslo.state(ada).epoch, after);
    done(oslo.cancel(ada).await);
    assert_eq!(oslo.look(ada, LAPTOP, after).await, SessionStanding::Over);
    let raised = oslo.identity.raise_epoch(ada, after).await.expect("raise");
    refused(raised, Refusal::Cancelled);
}

/// The sites around a replica: they bring what they are asked for, or do not.
#[derive(Default)]
struct Around {
    asked: AtomicUsize,
    /// From whom, and to whom.
    bring: Option<(Store, Store)>,
}

impl Peers for Around {
    fn durability_of(&self, _: Dot) -> BoxFuture<'_, Durability> {
        Box::pin(async { Durability::AsConfigured })
    }

    fn fetch_staging(&self, _: StagingId, _: SiteNumber) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    fn follow(&self, dot: Dot) -> BoxFuture<'_, bool> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let Some((from, to)) = &self.bring else {
                return false;
            };
            let LogChunk::Transactions { transactions, .. } = from
                .read_log(&to.state().vector.clone(), None, usize::MAX)
                .expect("a log")
            else {
                panic!("nothing was trimmed")
            };
            to.apply(
                transactions
                    .into_iter()
                    .map(|bytes| Received::decode(bytes).expect("our own")),
            );
            to.wait_until(|store| store.state().vector.covers(&dot)).await;
            true
        })
    }
}

/// The same site with others around it.
fn among(site: Site, around: &Arc<Around>) -> Site {
    let here = site.here().clone().with_peers(around.clone());
    let identity = Identity {
        replica: Replica::Here(here),
        ..site.identity.clone()
    };
    Site { identity, ..site }
}

#[tokio::test]
async fn what_is_not_here_yet_is_waited_for_once_and_never_gone() {
    let oslo = Site::new(1);
    let Outcome::Done {
        value: ada,
        dot: Some(dot),
    } = oslo.create("ada@example.org", OLD, Word::Operator).await
    else {
        panic!("created")
    };
    let around = Arc::new(Around::default());
    let lima = among(Site::new(2), &around);
    let epoch = Epoch::default();
    for id in [PHONE, PHONE, LAPTOP, LAPTOP] {
        let standing = lima.look_behind(ada, id, epoch, Some(dot)).await;
        assert_eq!(standing, SessionStanding::NotYet);
    }
    assert_eq!(around.asked.load(Ordering::Relaxed), 2, "once for each session");
    assert_eq!(lima.look(ada, PHONE, epoch).await, SessionStanding::NotYet);
    // What somebody ended is ended, also where nobody has heard of them.
    done(lima.end(ada, LAPTOP, MORNING).await);
    assert_eq!(
        lima.look_behind(ada, LAPTOP, epoch, Some(dot)).await,
        SessionStanding::Over
    );

    let quito = Site::new(3);
    let around = Arc::new(Around {
        bring: Some((oslo.store.clone(), quito.store.clone())),
        ..Around::default()
    });
    let quito = among(quito, &around);
    for _ in 0..2 {
        assert_eq!(quito.look_behind(ada, PHONE, epoch, Some(dot)).await, good(epoch));
    }
    assert_eq!(
        around.asked.load(Ordering::Relaxed),
        1,
        "what is here is not asked for"
    );
    // Who has all that a session has seen, and no such account, knows that it is none.
    let nobody = AccountId::from_bytes([0; 15]);
    assert_eq!(
        oslo.look_behind(nobody, PHONE, epoch, Some(dot)).await,
        SessionStanding::Over
    );
    assert_eq!(oslo.look(nobody, PHONE, epoch).await, SessionStanding::NotYet);
}

#[tokio::test]
async fn a_site_that_is_alone_waits_no_longer_than_its_patience() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let Outcome::Done {
        value: ada,
        dot: dot @ Some(_),
    } = oslo.create("ada@example.org", OLD, Word::Operator).await
    else {
        panic!("created")
    };
    tokio::time::pause();
    for expected in [PATIENCE, Duration::ZERO] {
        let asked = tokio::time::Instant::now();
        let standing = lima.look_behind(ada, PHONE, Epoch::default(), dot).await;
        assert_eq!(standing, SessionStanding::NotYet);
        let waited = asked.elapsed();
        assert!(
            waited >= expected && waited < expected + Duration::from_millis(10),
            "{waited:?}"
        );
    }
}

#[tokio::test]
async fn who_loses_the_only_address_to_a_newer_sign_up_loses_the_sessions() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let older = done(oslo.create("Ada@example.org", OLD, Word::Operator).await);
    let both = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    done(oslo.add(both, "bob@home.example", Word::Operator).await);
    lima.wait(1_000);
    let newer = done(lima.create("ada@example.org", NEW, Word::Operator).await);
    done(lima.create("Bob@example.org", NEW, Word::Operator).await);
    let epoch = Epoch::default();
    assert_eq!(oslo.look(older, PHONE, epoch).await, good(epoch));
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(site.look(older, PHONE, epoch).await, SessionStanding::Over);
        assert_eq!(site.look(newer, PHONE, epoch).await, good(epoch));
        assert_eq!(
            site.look(both, PHONE, epoch).await,
            good(epoch),
            "it has another address"
        );
        assert_eq!(site.emails(both), [("bob@home.example".to_owned(), true)]);
        assert_eq!(site.state(both).lost, [address("bob@example.org")]);
        assert_eq!(site.state(older).lost, [address("Ada@example.org")]);
        assert_eq!(site.state(newer).lost, []);
    }
    // And who lets the last one go.
    done(oslo.remove(newer, "ada@example.org").await);
    assert_eq!(oslo.look(newer, PHONE, epoch).await, SessionStanding::Over);
    assert_eq!(oslo.look(older, PHONE, epoch).await, SessionStanding::Over);
    // An address that is to be proven again is still one.
    done(oslo.add(both, "bob@work.example", Word::Operator).await);
    let reset = done(oslo.reset("bob@work.example", NEW, Word::Operator).await).epoch;
    done(oslo.remove(both, "bob@work.example").await);
    assert_eq!(oslo.emails(both), [("bob@home.example".to_owned(), false)]);
    assert_eq!(oslo.look(both, PHONE, reset).await, good(reset));
}

#[tokio::test]
async fn somebody_sees_where_they_are_signed_in_until_that_is_over() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    oslo.note(ada, PHONE, "Firefox on Android", "oslo").await;
    oslo.wait(NOTED_EVERY_MS);
    oslo.note(ada, LAPTOP, "Firefox on Linux", "oslo").await;
    let phone = at("Firefox on Android", "oslo");
    let laptop = at("Firefox on Linux", "oslo");
    assert_eq!(oslo.places(ada).await, [laptop.clone(), phone.clone()]);
    heal(&oslo, &lima).await;
    assert_eq!(lima.places(ada).await, [laptop.clone(), phone.clone()]);

    // The phone comes to Lima.
    lima.wait(2 * NOTED_EVERY_MS + 1);
    let began = lima.identity.directory().sessions(ada).await.expect("read")[1].started_ms;
    lima.note(ada, PHONE, "Firefox on Android", "lima").await;
    heal(&oslo, &lima).await;
    let travelled = at("Firefox on Android", "lima");
    assert_eq!(oslo.places(ada).await, [travelled.clone(), laptop.clone()]);
    let phones = oslo
        .identity
        .directory()
        .sessions(ada)
        .await
        .expect("read")
        .remove(0);
    assert_eq!(phones.started_ms, began, "it is the same session");
    assert_eq!(phones.seen_ms % NOTED_EVERY_MS, 0);
    assert!(phones.seen_ms <= lima.now_ms() && phones.seen_ms + NOTED_EVERY_MS > lima.now_ms());

    // It is ended where it was seen first, and Lima's note of it counts no more.
    done(oslo.end(ada, PHONE, oslo.now_ms() + LIFETIME_MS).await);
    assert_eq!(oslo.places(ada).await, std::slice::from_ref(&laptop));
    oslo.note(ada, PHONE, "Firefox on Android", "oslo").await;
    assert_eq!(oslo.places(ada).await, [laptop], "what is over is not noted");
    heal(&oslo, &lima).await;
    done(lima.identity.sign_out_everywhere(ada).await.expect("sign out"));
    assert_eq!(lima.places(ada).await, []);
    lima.note(ada, LAPTOP, "Firefox on Linux", "lima").await;
    assert_eq!(lima.places(ada).await, [at("Firefox on Linux", "lima")]);
    lima.wait(LIFETIME_MS);
    assert_eq!(lima.places(ada).await, []);
}

#[tokio::test]
async fn where_somebody_is_signed_in_is_written_once_an_hour_and_never_too_much() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    oslo.wait(NOTED_EVERY_MS - MORNING % NOTED_EVERY_MS);
    let before = oslo.transactions().await;
    let expires_ms = oslo.now_ms() + LIFETIME_MS;
    let note = SignedInNote {
        account: ada,
        id: PHONE,
        epoch: Epoch::default(),
        started_ms: oslo.now_ms(),
        expires_ms,
        device: "\u{fc}".repeat(WORDS_BYTES_MAX),
        site: "s".repeat(WORDS_BYTES_MAX + 1),
    };
    for (wait_ms, expected) in [
        (0, 1),
        (1, 1),
        (NOTED_EVERY_MS - 2, 1),
        (1, 2),
        (NOTED_EVERY_MS, 3),
    ] {
        oslo.wait(wait_ms);
        oslo.identity.note_signed_in(note.clone()).await.expect("note");
        assert_eq!(oslo.transactions().await - before, expected, "after {wait_ms} ms");
    }
    let cut = at(
        &"\u{fc}".repeat(WORDS_BYTES_MAX / 2),
        &"s".repeat(WORDS_BYTES_MAX),
    );
    assert_eq!(oslo.places(ada).await, [cut]);
    let prolonged = SignedInNote {
        expires_ms: oslo.now_ms() + LIFETIME_MS,
        ..note.clone()
    };
    oslo.identity.note_signed_in(prolonged).await.expect("note");
    assert_eq!(oslo.transactions().await - before, 4, "it was prolonged");

    for id in 10..50 {
        oslo.wait(1);
        oslo.note(ada, [id; 16], &format!("browser {id}"), "oslo").await;
    }
    let places = oslo.places(ada).await;
    assert_eq!(places.len(), PLACES_MAX);
    assert_eq!(places[0], at("browser 49", "oslo"));
    let nobody = SignedInNote {
        account: AccountId::from_bytes([0; 15]),
        ..note
    };
    let before = oslo.transactions().await;
    oslo.identity.note_signed_in(nobody).await.expect("note");
    assert_eq!(oslo.transactions().await, before);
}

#[tokio::test]
async fn where_somebody_was_signed_in_goes_with_the_account() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    oslo.note(ada, PHONE, "a telephone", "oslo").await;
    oslo.note(bob, PHONE, "a calculator", "oslo").await;
    heal(&oslo, &lima).await;
    assert!(lima.holds(b"a telephone"));
    // While Oslo cancels the account, Lima sees it once more.
    lima.note(ada, LAPTOP, "a typewriter", "lima").await;
    done(oslo.cancel(ada).await);
    assert!(!oslo.holds(b"a telephone"), "in the same transaction");
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        for words in ["a telephone", "a typewriter"] {
            assert!(!site.holds(words.as_bytes()), "{words}");
        }
        assert!(site.holds(b"a calculator"));
        assert_eq!(site.places(ada).await, []);
    }
}

#[tokio::test]
async fn a_request_that_is_recorded_is_known_by_all_that_it_is() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let once = Once::new("a random key", &[b"sign_out_everywhere", b"{}"]);
    let other = Once::new("a random key", &[b"account_cancel", b"{}"]);
    assert_eq!(oslo.identity.is_recorded(&once).await, Ok(false));
    done(
        oslo.identity
            .once(once)
            .sign_out_everywhere(ada)
            .await
            .expect("sign out"),
    );
    assert_eq!(oslo.identity.is_recorded(&once).await, Ok(true));
    assert_eq!(oslo.identity.is_recorded(&other).await, Ok(false));
    oslo.wait(once::KEEP.as_millis() as u64);
    assert_eq!(oslo.identity.is_recorded(&once).await, Ok(false));
}
