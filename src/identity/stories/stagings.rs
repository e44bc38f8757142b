//! What is begun in one browser and completed by a mail: every way of it, at one site or at several.

use super::{
    staging::{CODE_TRIES_MAX, STAGING_MS, StagingStatus},
    *,
};

const MINUTE: u64 = 60_000;

#[tokio::test]
async fn begun_at_one_site_completed_at_another_and_asked_about_at_a_third() {
    let (oslo, lima, rome) = (Site::new(1), Site::new(2), Site::new(3));
    let mail = oslo.begin_sign_up("Ada@example.org", OLD).await;
    let status = oslo.identity.directory().staging_status(&mail.here).await;
    assert_eq!(status, Ok(Some(StagingStatus::Pending)));
    oslo.send_to(&lima).await;
    let facts = lima
        .identity
        .directory()
        .token(&mail.token, Some(&mail.here))
        .await;
    let facts = facts.expect("read").expect("known");
    assert_eq!(facts.address.typed(), "Ada@example.org");
    assert!(facts.began_here && !facts.must_auth(None) && !facts.needs_password());
    assert_eq!(lima.holder("ada@example.org"), None, "looking changes nothing");

    let first = completed(lima.follow(&mail.token, Some(&mail.here), None).await);
    assert!(first.began_here && first.signs_in && !first.again);
    assert_eq!(first.epoch, lima.state(first.account).epoch);
    lima.send_to(&rome).await;
    let status = rome.identity.directory().staging_status(&mail.here).await;
    let account = first.account;
    assert_eq!(status, Ok(Some(StagingStatus::Completed { account })));
    assert_eq!(done(rome.sign_in("ada@example.org", OLD).await).account, account);
    // Again at oslo, which has not heard: the same account, and nothing more than before.
    completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    heal(&oslo, &lima).await;
    heal(&oslo, &rome).await;
    for site in [&oslo, &lima, &rome] {
        assert_eq!(site.emails(account), [("Ada@example.org".to_owned(), true)]);
        let again = site.follow(&mail.token, Some(&mail.here), None).await;
        wrote_nothing(&again);
        let again = completed(again);
        assert!(again.again && again.signs_in && again.account == account);
        assert_eq!(site.identity.directory().token(&mail.token, None).await, Ok(None));
        // Whoever has nothing but the link is still asked for a password.
        refused(
            site.follow(&mail.token, None, None).await,
            Refusal::PasswordNeeded,
        );
    }
    // Once anything has ended that session, the old link makes none.
    done(rome.change(account, OLD, NEW).await);
    assert!(!completed(rome.follow(&mail.token, Some(&mail.here), None).await).signs_in);
    refused(
        rome.follow(&mail.token, None, Some(OLD)).await,
        Refusal::WrongPassword,
    );
    assert!(completed(rome.follow(&mail.token, None, Some(NEW)).await).signs_in);
}

#[tokio::test]
async fn a_link_opened_in_another_browser_takes_the_password_of_the_first() {
    let oslo = Site::new(1);
    let mail = oslo.begin_sign_up("ada@example.org", OLD).await;
    let elsewhere = oslo.identity.directory().token(&mail.token, None).await;
    assert!(elsewhere.expect("read").expect("known").must_auth(None));
    refused(
        oslo.follow(&mail.token, None, None).await,
        Refusal::PasswordNeeded,
    );
    for _ in 0..TRIES_MAX {
        refused(
            oslo.follow(&mail.token, None, Some(NEW)).await,
            Refusal::WrongPassword,
        );
    }
    refused(oslo.follow(&mail.token, None, Some(OLD)).await, Refusal::Locked);
    assert_eq!(oslo.holder("ada@example.org"), None);
    // The browser that began is not kept out, and the account does not begin locked.
    let account = completed(oslo.follow(&mail.token, Some(&mail.here), None).await).account;
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, account);
    let mail = oslo.begin_sign_up("bob@example.org", OLD).await;
    let elsewhere = completed(oslo.follow(&mail.token, None, Some(OLD)).await);
    assert!(elsewhere.signs_in && !elsewhere.began_here);
    // The first browser learns that it is done, and no more.
    let status = oslo.identity.directory().staging_status(&mail.here).await;
    let account = elsewhere.account;
    assert_eq!(status, Ok(Some(StagingStatus::Completed { account })));
    let other = BegunHere {
        nonce: Nonce::new([1; 32]),
        ..mail.here.clone()
    };
    assert_eq!(oslo.identity.directory().staging_status(&other).await, Ok(None));
    // It proves itself with the code of the same mail.
    let by_code = oslo.type_code(&mail.here, &mail.code, None).await;
    wrote_nothing(&by_code);
    assert!(completed(by_code).signs_in);
}

#[tokio::test]
async fn a_code_has_five_tries_over_all_sites_and_only_in_the_browser_that_began() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let mail = oslo.begin_sign_up("ada@example.org", OLD).await;
    heal(&oslo, &lima).await;
    let wrong = Code::new([9; 8]);
    for (number, site) in [&oslo, &lima, &oslo, &lima].into_iter().enumerate() {
        let tries_left = CODE_TRIES_MAX - 1 - number as u32;
        let tried = site.type_code(&mail.here, &wrong, None).await;
        assert_eq!(done(tried), Completion::WrongCode { tries_left });
        heal(&oslo, &lima).await;
    }
    // Another browser is told nothing, and takes no tries.
    let other = BegunHere {
        nonce: Nonce::new([1; 32]),
        ..mail.here.clone()
    };
    for code in [&wrong, &mail.code] {
        refused(lima.type_code(&other, code, None).await, Refusal::UnknownStaging);
    }
    let fifth = lima.type_code(&mail.here, &wrong, None).await;
    assert_eq!(done(fifth), Completion::WrongCode { tries_left: 0 });
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        refused(
            site.type_code(&mail.here, &mail.code, None).await,
            Refusal::CodeEnded,
        );
    }
    // The link is as good as ever.
    assert!(completed(oslo.follow(&mail.token, Some(&mail.here), None).await).signs_in);

    let mail = oslo.begin_sign_up("bob@example.org", OLD).await;
    let code = Code::parse(&mail.code.as_str().to_lowercase()).expect("a code");
    assert!(completed(oslo.type_code(&mail.here, &code, None).await).signs_in);
}

#[tokio::test]
async fn an_address_is_added_by_the_browser_that_began_or_by_who_knows_the_account() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let bob = done(oslo.create("bob@example.org", NEW, Word::Operator).await);
    let epoch = oslo.state(ada).epoch;
    let mail = oslo.begin_addition(ada, "one@example.org").await;
    let added = completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    assert!(
        added.account == ada && !added.signs_in,
        "whatever session it has goes on"
    );

    let mail = oslo.begin_addition(ada, "two@example.org").await;
    let facts = oslo.identity.directory().token(&mail.token, None).await;
    let facts = facts.expect("read").expect("known");
    assert!(facts.must_auth(None) && facts.must_auth(Some(bob)) && !facts.must_auth(Some(ada)));
    refused(
        oslo.follow(&mail.token, None, Some(NEW)).await,
        Refusal::WrongPassword,
    );
    let added = completed(oslo.follow(&mail.token, None, Some(OLD)).await);
    assert!(added.account == ada && added.signs_in && !added.began_here);

    let mail = oslo.begin_addition(ada, "three@example.org").await;
    let follow = async |account, epoch| {
        let link = Link {
            token: &mail.token,
            here: None,
            session: Some(PasswordSession { account, epoch }),
        };
        let purposes = [Purpose::AddEmail, Purpose::Reverify];
        let outcome = oslo.identity.complete_by_link(&purposes, link, None).await;
        outcome.expect("complete")
    };
    refused(follow(bob, epoch).await, Refusal::PasswordNeeded);
    let added = completed(follow(ada, epoch).await);
    assert!(added.account == ada && !added.signs_in);
    // One that another account has moves, and the one that had it is to be told.
    oslo.wait(1);
    let mail = oslo.begin_addition(ada, "bob@example.org").await;
    let moved = completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    assert_eq!(moved.former, Some(bob));
    assert_eq!(oslo.emails(bob), []);
    assert_eq!(oslo.emails(ada).len(), 5);
}

#[tokio::test]
async fn what_was_begun_in_a_session_ends_with_it() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let seen = oslo.state(ada).epoch;
    // A thief has a session, and a mailbox. The owner notices, and puts them out.
    let stolen = [
        oslo.begin_addition(ada, "thief1@example.net").await,
        oslo.begin_addition(ada, "thief2@example.net").await,
    ];
    done(oslo.identity.sign_out_everywhere(ada).await.expect("sign out"));
    for mail in &stolen {
        refused(
            oslo.follow(&mail.token, Some(&mail.here), None).await,
            Refusal::LaterReset,
        );
        refused(
            oslo.type_code(&mail.here, &mail.code, None).await,
            Refusal::LaterReset,
        );
        let link = Link {
            token: &mail.token,
            here: Some(&mail.here),
            session: Some(PasswordSession {
                account: ada,
                epoch: seen,
            }),
        };
        let purposes = [Purpose::AddEmail];
        let by_session = oslo.identity.complete_by_link(&purposes, link, None).await;
        refused(by_session.expect("complete"), Refusal::LaterReset);
    }
    assert_eq!(oslo.emails(ada).len(), 1);
    // Were it the owner's own, their password would do.
    assert!(completed(oslo.follow(&stolen[0].token, None, Some(OLD)).await).signs_in);
}

#[tokio::test]
async fn a_reset_takes_the_new_password_from_whoever_has_the_mail() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    let session = done(oslo.sign_in("ada@example.org", OLD).await).epoch;
    oslo.wait(1);
    let mail = oslo.begin_reset("ada@example.org").await;
    let facts = oslo.identity.directory().token(&mail.token, None).await;
    let facts = facts.expect("read").expect("known");
    assert!(facts.needs_password() && !facts.must_auth(None));
    refused(
        oslo.follow(&mail.token, Some(&mail.here), None).await,
        Refusal::PasswordNeeded,
    );
    let reset = completed(oslo.follow(&mail.token, None, Some(NEW)).await);
    assert!(reset.signs_in && reset.account == ada);
    assert_eq!(claims::session(session, reset.epoch), Session::Over);
    assert_eq!(
        done(oslo.sign_in("ada@example.org", NEW).await).epoch,
        reset.epoch
    );
    assert_eq!(
        oslo.emails(ada),
        [
            ("ada@example.org".to_owned(), true),
            ("ada@work.example".to_owned(), false)
        ]
    );
    // The link does no more. The browser that began proves itself with the code, while nothing has happened since.
    for here in [None, Some(&mail.here)] {
        refused(
            oslo.follow(&mail.token, here, Some(OTHER)).await,
            Refusal::StagingEnded,
        );
    }
    assert!(completed(oslo.type_code(&mail.here, &mail.code, Some(OTHER)).await).signs_in);
    done(oslo.change(ada, NEW, OLD).await);
    assert!(!completed(oslo.type_code(&mail.here, &mail.code, None).await).signs_in);
    refused(
        oslo.sign_in("ada@example.org", OTHER).await,
        Refusal::WrongPassword,
    );
    // The address that the reset left unverified is proven again.
    let reverify = Begin::Reverify {
        account: ada,
        address: address("ada@work.example"),
    };
    let mail = oslo.begin(reverify).await;
    completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    assert_eq!(oslo.holder("ada@work.example"), Some((ada, true)));
    let not_theirs = Begin::Reverify {
        account: ada,
        address: address("else@work.example"),
    };
    let begun = oslo
        .identity
        .begin(not_theirs, None, &Nonce::new([1; 32]))
        .await
        .expect("begin");
    refused(begun, Refusal::NotHeld);
}

/// An account whose address its own domain vouched for, and that has no password.
pub(super) async fn certified(site: &Site, typed: &'static str) -> AccountId {
    let email = site.identity.email_id(&address(typed));
    let make = move |txn: &mut crate::store::Txn<'_>| -> Result<AccountId, OperationError> {
        let proof = Proof {
            id: txn.random(),
            at: txn.stamp(),
            by: ClaimedBy::Idp,
        };
        let account = proof.account();
        txn.write_account(account, crdt::AccountWrite::Created(proof.at));
        let known = EmailView::default();
        emails::claim(txn, account, 0, email, &address(typed), &known, &proof, proof.at);
        Ok(account)
    };
    site.store.transact(make).await.expect("written").value
}

#[tokio::test]
async fn an_account_without_a_password_gets_its_first() {
    let oslo = Site::new(1);
    let ada = certified(&oslo, "ada@idp.example").await;
    let epoch = oslo.state(ada).epoch;
    oslo.wait(1);
    let without = Begin::AddEmail {
        account: ada,
        address: address("ada@example.org"),
        password: None,
    };
    let begun = oslo.identity.begin(without, None, &Nonce::new([1; 32])).await;
    refused(begun.expect("begin"), Refusal::PasswordNeeded);
    let with = |typed: &str| Begin::AddEmail {
        account: ada,
        address: address(typed),
        password: Some(pass(OLD)),
    };
    let mail = oslo.begin(with("ada@example.org")).await;
    let added = completed(oslo.follow(&mail.token, None, Some(OLD)).await);
    assert_eq!(added.account, ada);
    assert_eq!(oslo.state(ada).epoch, epoch, "no session ends");
    assert_eq!(done(oslo.sign_in("ada@example.org", OLD).await).account, ada);
    assert_eq!(oslo.emails(ada).len(), 2);
    let another = with("ada@else.example");
    let begun = oslo.identity.begin(another, None, &Nonce::new([1; 32])).await;
    refused(begun.expect("begin"), Refusal::HasPassword);
}

#[tokio::test]
async fn an_address_whose_domain_does_not_vouch_any_more_gets_a_password() {
    let oslo = Site::new(1);
    let ada = certified(&oslo, "ada@idp.example").await;
    oslo.wait(1);
    let transition = || Begin::Transition {
        address: address("ada@idp.example"),
        password: pass(OLD),
    };
    let mail = oslo.begin(transition()).await;
    for password in [None, Some(NEW)] {
        let outcome = oslo.follow(&mail.token, None, password).await;
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let transited = completed(oslo.follow(&mail.token, Some(&mail.here), None).await);
    assert!(transited.signs_in && transited.account == ada);
    assert_eq!(
        done(oslo.sign_in("ada@idp.example", OLD).await).epoch,
        transited.epoch
    );
    let used_as = oslo
        .identity
        .email(&address("ada@idp.example"))
        .await
        .expect("read")
        .used_as;
    assert_eq!(used_as, Some(crdt::UsedAs::Secondary));
    // Who has a password has no use for one.
    oslo.wait(MINUTE);
    let begun = oslo
        .identity
        .begin(transition(), None, &Nonce::new([1; 32]))
        .await;
    assert!(
        matches!(done(begun.expect("begin")), Begun::Staged { mail: None, .. }),
        "nobody is told"
    );
}

#[tokio::test]
async fn three_wait_side_by_side_and_completing_one_ends_the_rest() {
    let oslo = Site::new(1);
    let mut mails = Vec::new();
    for password in [OLD, NEW, OTHER, "another password"] {
        mails.push(oslo.begin_sign_up("ada@example.org", password).await);
        oslo.wait(MINUTE);
    }
    refused(
        oslo.follow(&mails[0].token, Some(&mails[0].here), None).await,
        Refusal::StagingEnded,
    );
    let status = oslo.identity.directory().staging_status(&mails[0].here).await;
    assert_eq!(status, Ok(Some(StagingStatus::Ended)));
    // A later one takes nothing from an earlier one.
    let account = completed(oslo.follow(&mails[1].token, None, Some(NEW)).await).account;
    assert_eq!(done(oslo.sign_in("ada@example.org", NEW).await).account, account);
    for mail in &mails[2..] {
        refused(
            oslo.follow(&mail.token, Some(&mail.here), None).await,
            Refusal::StagingEnded,
        );
        refused(
            oslo.type_code(&mail.here, &mail.code, None).await,
            Refusal::StagingEnded,
        );
    }
    let taken = Begin::NewAccount {
        address: address("ada@example.org"),
        password: pass(OLD),
    };
    let begun = oslo.identity.begin(taken, None, &Nonce::new([1; 32])).await;
    refused(begun.expect("begin"), Refusal::AddressTaken);
}

#[tokio::test]
async fn after_a_day_nothing_of_it_counts() {
    let oslo = Site::new(1);
    let done_before = oslo.begin_sign_up("bob@example.org", OLD).await;
    completed(
        oslo.follow(&done_before.token, Some(&done_before.here), None)
            .await,
    );
    let mail = oslo.begin_sign_up("ada@example.org", OLD).await;
    oslo.wait(STAGING_MS);
    for mail in [&mail, &done_before] {
        refused(
            oslo.follow(&mail.token, Some(&mail.here), None).await,
            Refusal::UnknownStaging,
        );
        refused(
            oslo.type_code(&mail.here, &mail.code, None).await,
            Refusal::UnknownStaging,
        );
        assert_eq!(
            oslo.identity.directory().staging_status(&mail.here).await,
            Ok(None)
        );
        assert_eq!(oslo.identity.directory().token(&mail.token, None).await, Ok(None));
    }
}

#[tokio::test]
async fn a_site_waits_for_what_it_is_asked_about_and_not_for_ever() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let mail = oslo.begin_sign_up("ada@example.org", OLD).await;
    let nowhere = Token::new(staging::SiteNumber::of("oslo"), [7; 32]);
    refused(lima.follow(&nowhere, None, None).await, Refusal::UnknownStaging);
    let (followed, ()) = tokio::join!(
        lima.follow(&mail.token, Some(&mail.here), None),
        oslo.send_to(&lima)
    );
    assert!(completed(followed).signs_in);
}
