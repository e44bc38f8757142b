//! Requests that come twice: the answer was lost, or the site died before it gave one.

use super::*;

fn once(request: u8) -> Once {
    Once {
        key: [7; 32],
        request: [request; 32],
    }
}

/// The domain of a site, for one request that may come twice.
fn again(site: &Site, request: u8) -> Identity {
    site.identity.once(once(request))
}

#[tokio::test]
async fn a_write_that_comes_twice_is_done_once_at_whatever_site() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    let first = again(&oslo, 1)
        .change_password(ada, pass(OLD), pass(NEW), None)
        .await;
    let first = first.expect("change");
    let here = again(&oslo, 1)
        .change_password(ada, pass(OLD), pass(NEW), None)
        .await;
    assert_eq!(here.as_ref(), Ok(&first), "the dot too, for others to follow");
    heal(&oslo, &lima).await;
    let there = again(&lima, 1)
        .change_password(ada, pass(OLD), pass(NEW), None)
        .await;
    assert_eq!(there, Ok(first));
    assert_eq!(done(lima.sign_in("ada@example.org", NEW).await).account, ada);
    // Other contents under the same key are another request, whatever it asks for.
    refused(
        again(&lima, 2)
            .change_password(ada, pass(OLD), pass(NEW), None)
            .await
            .expect("recall"),
        Refusal::OtherRequest,
    );
    refused(
        again(&lima, 2).cancel_account(ada).await.expect("recall"),
        Refusal::OtherRequest,
    );
    assert!(!lima.state(ada).cancelled);
    // After ten minutes nothing is known of it.
    for site in [&oslo, &lima] {
        site.wait(once::KEEP.as_millis() as u64);
        refused(
            again(site, 1)
                .change_password(ada, pass(OLD), pass(NEW), None)
                .await
                .expect("change"),
            Refusal::WrongPassword,
        );
    }
}

#[tokio::test]
async fn a_wrong_password_that_comes_twice_counts_once() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    for site in [&oslo, &oslo, &lima] {
        for _ in 0..TRIES_MAX {
            let guess = again(site, 1)
                .sign_in(&address("ada@example.org"), pass(OTHER), None)
                .await;
            refused(guess.expect("a try"), Refusal::WrongPassword);
        }
        heal(&oslo, &lima).await;
    }
    for _ in 1..TRIES_MAX {
        refused(
            lima.sign_in("ada@example.org", OTHER).await,
            Refusal::WrongPassword,
        );
    }
    refused(lima.sign_in("ada@example.org", OLD).await, Refusal::Locked);
}

#[tokio::test]
async fn what_wrote_nothing_is_judged_anew() {
    let oslo = Site::new(1);
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    let absent = again(&oslo, 1)
        .remove_email(ada, &address("ada@work.example"))
        .await;
    refused(absent.expect("a look"), Refusal::NotHeld);
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    let removed = again(&oslo, 1)
        .remove_email(ada, &address("ada@work.example"))
        .await;
    let removed = removed.expect("removed");
    done(oslo.add(ada, "ada@work.example", Word::Operator).await);
    let repeated = again(&oslo, 1)
        .remove_email(ada, &address("ada@work.example"))
        .await;
    assert_eq!(repeated, Ok(removed));
    assert_eq!(oslo.holder("ada@work.example"), Some((ada, true)));
}

#[tokio::test]
async fn the_first_of_two_sites_that_both_did_it_is_the_answer_at_both() {
    let (oslo, lima) = (Site::new(1), Site::new(2));
    let ada = done(oslo.create("ada@example.org", OLD, Word::Operator).await);
    heal(&oslo, &lima).await;
    lima.wait(10);
    let first = again(&oslo, 1).sign_out_everywhere(ada).await.expect("oslo");
    let second = again(&lima, 1).sign_out_everywhere(ada).await.expect("lima");
    assert_ne!(first, second);
    heal(&oslo, &lima).await;
    for site in [&oslo, &lima] {
        assert_eq!(again(site, 1).sign_out_everywhere(ada).await.as_ref(), Ok(&first));
    }
}

#[test]
fn what_names_a_request_tells_nothing_of_it_and_mixes_nothing_up() {
    let of = |key: &str, contents: &[&str]| {
        let contents: Vec<&[u8]> = contents.iter().map(|part| part.as_bytes()).collect();
        Once::new(key, &contents)
    };
    let one = of("a key", &["update_password", "body"]);
    assert!(one == of("a key", &["update_password", "body"]));
    assert_eq!(one.key, of("a key", &["other"]).key);
    for other in [
        of("a key", &["update_password", "body "]),
        of("a key", &["update_passwordbody"]),
        of("a key", &["update_password", "body", ""]),
        of("b key", &["update_password", "body"]),
    ] {
        assert_ne!(one.request, other.request);
    }
    assert_ne!(one.key, one.request);
    assert_eq!(format!("{one:?}"), "Once(..)");
}
