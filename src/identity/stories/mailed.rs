//! How much mail an address gets, and what whoever asks for it learns of the address.

use super::*;

fn reset(typed: &str) -> Begin {
    Begin::Reset {
        address: address(typed),
    }
}

fn sign_up(typed: &str) -> Begin {
    Begin::NewAccount {
        address: address(typed),
        password: pass(OLD),
    }
}

/// Whether there is a mail; `None` if the address has had too many.
async fn mails(site: &Site, begin: Begin) -> Option<bool> {
    let begun = site
        .identity
        .begin(begin, None, &Nonce::new(rand::random()))
        .await;
    match done(begun.expect("begin")) {
        Begun::Staged { mail, .. } => Some(mail.is_some()),
        Begun::Throttled { retry_after } => {
            assert!(!retry_after.is_zero());
            None
        }
    }
}

#[tokio::test]
async fn the_throttle_counts_over_all_purposes_and_sites() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let addition = |account| Begin::AddEmail {
        account,
        address: address("ada@example.org"),
        password: None,
    };
    assert_eq!(mails(&oslo, reset("ada@example.org")).await, Some(true));
    heal(&oslo, &lima).await;
    // A minute for one, whoever asks for whatever at whichever site.
    for site in [&oslo, &lima] {
        assert_eq!(mails(site, reset("Ada@Example.org")).await, None);
        assert_eq!(mails(site, addition(ada)).await, None);
        assert_eq!(mails(site, addition(bob)).await, None);
        let throttled = site
            .identity
            .begin(addition(ada), None, &Nonce::new([1; 32]))
            .await;
        wrote_nothing(&throttled.expect("begin"));
        site.wait(60_000);
    }
    // An hour for five.
    for (number, site) in [&oslo, &lima, &oslo, &lima].into_iter().enumerate() {
        assert_eq!(mails(site, addition(ada)).await, Some(true), "{number}");
        heal(&oslo, &lima).await;
        oslo.wait(60_000);
        lima.wait(60_000);
    }
    for site in [&oslo, &lima] {
        assert_eq!(mails(site, reset("ada@example.org")).await, None);
        site.wait(3_600_000);
    }
    assert_eq!(mails(&lima, reset("ada@example.org")).await, Some(true));
    // Another address is another matter.
    assert_eq!(mails(&lima, reset("bob@example.org")).await, Some(true));
}

#[tokio::test]
async fn fifteen_a_day() {
    let oslo = Site::new(1);
    let mut sent = 0;
    for _ in 0..20 {
        sent += u32::from(mails(&oslo, sign_up("ada@example.org")).await.is_some());
        oslo.wait(20 * 60_000);
    }
    assert_eq!(sent, 15);
    oslo.wait(24 * 3_600_000);
    assert_eq!(mails(&oslo, sign_up("ada@example.org")).await, Some(true));
}

#[tokio::test]
async fn whether_anybody_has_an_address_shows_in_nothing_but_the_mail() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "unverified@example.org", Word::Operator).await);
    done(oslo.reset("ada@example.org", NEW, Word::Operator).await);
    done(oslo.create("locked@example.org", OLD, Word::Operator).await);
    for _ in 0..TRIES_MAX {
        refused(
            oslo.sign_in("locked@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    for (typed, expected) in [
        ("ada@example.org", true),
        ("locked@example.org", true),
        ("unverified@example.org", false),
        ("nobody@example.org", false),
    ] {
        let nonce = Nonce::new(rand::random());
        let begun = oslo.identity.begin(reset(typed), None, &nonce).await;
        let Ok(Outcome::Done {
            value: Begun::Staged { here, mail },
            dot: Some(_),
        }) = begun
        else {
            panic!("{typed}: {begun:?}")
        };
        assert_eq!(mail.is_some(), expected, "{typed}");
        let status = oslo.identity.directory().staging_status(&here).await;
        assert_eq!(status, Ok(Some(staging::StagingStatus::Pending)), "{typed}");
        let guess = oslo.type_code(&here, &Code::new([0; 8]), Some(OTHER)).await;
        assert_eq!(done(guess), Completion::WrongCode { tries_left: 4 }, "{typed}");
        assert_eq!(mails(&oslo, reset(typed)).await, None, "{typed}");
    }
}

#[tokio::test]
async fn a_request_that_comes_twice_begins_once_and_mails_once() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let once = Once::new("a key", &[b"stage_user", b"{}"]);
    let nonce = Nonce::of_request("a key");
    let again = async |site: &Site| {
        let identity = site.identity.once(once);
        let begun = identity.begin(sign_up("ada@example.org"), None, &nonce);
        let Outcome::Done {
            value: Begun::Staged { here, mail },
            dot: Some(dot),
        } = begun.await.expect("begin")
        else {
            panic!("not staged")
        };
        (here, mail, dot)
    };
    let (here, mail, dot) = again(&oslo).await;
    let challenge = mail.expect("a mail");
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        let (same_here, no_mail, same_dot) = again(site).await;
        assert_eq!((same_here, same_dot), (here.clone(), dot));
        assert_eq!(no_mail, None);
    }
    let followed = lima.follow(&challenge.token, Some(&here), None).await;
    assert!(
        completed(followed).signs_in,
        "the first browser, by the answer of the second site"
    );
    // A completion whose answer was lost, and a wrong code, come twice as well.
    oslo.wait(60_000);
    lima.wait(60_000);
    heal(&oslo, &lima).await;
    let mail = oslo.begin_reset("ada@example.org").await;
    heal(&oslo, &lima).await;
    let key = Once::new("b key", &[]);
    for _ in 0..2 {
        let guess = oslo.identity.once(key);
        let guess = guess.complete_by_code(&mail.here, &Code::new([0; 8]), None).await;
        assert_eq!(
            done(guess.expect("tried")),
            Completion::WrongCode { tries_left: 4 }
        );
    }
    let key = Once::new("c key", &[]);
    let link = Link {
        token: &mail.token,
        here: None,
        session: None,
    };
    let first = oslo
        .identity
        .once(key)
        .complete_by_link(&[Purpose::Reset], link, Some(pass(NEW)))
        .await
        .expect("complete");
    heal(&oslo, &lima).await;
    let second = lima
        .identity
        .once(key)
        .complete_by_link(&[Purpose::Reset], link, Some(pass(NEW)))
        .await
        .expect("complete");
    assert_eq!(first, second);
}
