//! How often: guesses, mails, and what a flood of them costs everybody else.
//!
//! Here clients are told apart: the site believes a proxy on this machine, and each browser says whose request it is.

use std::{collections::BTreeMap, time::Duration};

use persona::{config::SiteConfig, limits::LimitSettings};
use reqwest::header::RETRY_AFTER;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    browser::{Browser, Reply},
    sites::{PASSWORD, SHOP, Sites},
};

const ADA: &str = "ada@shop.invalid";
const WRONG: &str = "not the password";
/// How long a password may wait for its turn before it is refused at once.
const QUEUE: Duration = Duration::from_secs(2);

/// As in earnest.
fn in_earnest(config: &mut SiteConfig) {
    config.limits = LimitSettings::default();
    let web = config.web.as_mut().expect("a listener");
    web.trusted_proxies.networks = vec!["127.0.0.0/8".parse().expect("a network")];
    config.passwords.queue = QUEUE;
}

/// A browser at a client of its own.
fn client(base: &Browser, number: usize) -> Browser {
    let mut browser = base.copy();
    browser.forwarded_for = Some(format!("198.51.{}.{}", number / 250, number % 250 + 1));
    browser
}

/// How many were answered how: by status and code.
fn tally(replies: &[Reply]) -> BTreeMap<(u16, String), usize> {
    let mut tally = BTreeMap::new();
    for reply in replies {
        let code = reply.json()["code"].as_str().unwrap_or("done").to_owned();
        *tally.entry((reply.status.as_u16(), code)).or_default() += 1;
        if matches!(reply.status.as_u16(), 429 | 503) {
            assert!(reply.headers.contains_key(RETRY_AFTER), "{reply:?}");
        }
    }
    tally
}

/// When to come back.
fn retry_after(reply: &Reply) -> Duration {
    let seconds = reply.headers[RETRY_AFTER].to_str().expect("text");
    Duration::from_secs(seconds.parse().expect("seconds"))
}

async fn all(mut asking: JoinSet<Reply>) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some(reply) = asking.join_next().await {
        replies.push(reply.expect("a reply"));
    }
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_guesses_at_once_are_ten_and_whose_the_account_is_comes_in() {
    let sites = Sites::one_with(in_earnest).await;
    let mut base = sites.browser(0);
    base.context().await;
    sites.create(0, &[ADA]).await;
    let mut ada = client(&base, 9_000);
    ada.sign_in(ADA, PASSWORD).await.good();
    ada.post("logout", json!({})).await.good();

    let mut guesses = JoinSet::new();
    for number in 0..1_000 {
        let mut thief = client(&base, number);
        guesses.spawn(async move { thief.sign_in(ADA, &format!("guess number {number}")).await });
    }
    let tally = tally(&all(guesses).await);
    let wrong = tally
        .get(&(200, "wrong-password".to_owned()))
        .copied()
        .unwrap_or_default();
    assert!(wrong <= 10, "so many were checked: {tally:?}");
    for (status, code) in tally.keys() {
        let known = [
            (200, "wrong-password"),
            (200, "locked"),
            (429, "too-many-requests"),
            (503, "busy"),
        ];
        assert!(known.contains(&(*status, code.as_str())), "{tally:?}");
    }
    // One after the other until it is locked, if the thousand were too many at once for that.
    for number in 0..20 {
        let mut thief = client(&base, 1_000 + number);
        let reply = thief.sign_in(ADA, WRONG).await;
        assert!(
            reply.status.as_u16() != 200 || reply.json()["success"] == false,
            "{reply:?}"
        );
    }
    // Nobody else is let in, right or not; and a browser that was signed in before is, whatever goes on.
    let mut stranger = client(&base, 9_001);
    let reply = stranger.sign_in(ADA, PASSWORD).await;
    assert_eq!(stranger.level().await, None, "{reply:?}");
    ada.sign_in(ADA, PASSWORD).await.good();
    assert_eq!(ada.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_guess_each_at_many_accounts_is_paid_by_who_guesses() {
    let sites = Sites::one_with(in_earnest).await;
    let mut base = sites.browser(0);
    base.context().await;
    let emails: Vec<_> = (0..10)
        .map(|number| format!("ada-{number}@shop.invalid"))
        .collect();
    for email in &emails {
        sites.create(0, &[email]).await;
    }
    let mut thief = client(&base, 1);
    thief.context().await;
    let begun = Instant::now();
    let mut guesses = JoinSet::new();
    for number in 0..300 {
        let mut thief = thief.copy();
        guesses.spawn(async move {
            let email = format!("ada-{number}@shop.invalid");
            thief.sign_in(&email, WRONG).await
        });
    }
    let tally = tally(&all(guesses).await);
    let took = begun.elapsed().as_secs() as usize + 1;
    let wrong = tally
        .get(&(200, "wrong-password".to_owned()))
        .copied()
        .unwrap_or_default();
    // A full bucket is a hundred passwords, and five flow in every two seconds.
    assert!(
        (1..=100 + took * 5 / 2 + 1).contains(&wrong),
        "in {took} s: {tally:?}"
    );
    assert!(
        tally.contains_key(&(429, "too-many-requests".to_owned())),
        "{tally:?}"
    );
    // Others do not pay for it: neither from their clients nor at their accounts.
    for (number, email) in emails.iter().enumerate() {
        client(&base, 100 + number).sign_in(email, PASSWORD).await.good();
    }
    // Nor does who guesses come by a network of addresses: an IPv6 client is 64 bits.
    let mut guesses = JoinSet::new();
    for number in 0..300 {
        let mut thief = base.copy();
        thief.forwarded_for = Some(format!("2001:db8:0:7::{number:x}"));
        guesses.spawn(async move {
            let email = format!("eve-{number}@shop.invalid");
            thief.sign_in(&email, WRONG).await
        });
    }
    let tally = self::tally(&all(guesses).await);
    assert!(
        tally.contains_key(&(429, "too-many-requests".to_owned())),
        "{tally:?}"
    );
}

/// How often somebody comes back at most, told each time when.
const TRIES_MAX: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_keeps_nobody_waiting() {
    let sites = Sites::one_with(|config| {
        in_earnest(config);
        // A hash that takes a few tens of milliseconds, on one thread: the flood asks for more than there is.
        config.passwords.memory_kib = 19 * 1024;
        config.passwords.iterations = 2;
    })
    .await;
    let mut base = sites.browser(0);
    base.context().await;
    let emails: Vec<_> = (0..8)
        .map(|number| format!("ada-{number}@shop.invalid"))
        .collect();
    for email in &emails {
        sites.create(0, &[email]).await;
    }
    let mut flood = JoinSet::new();
    for number in 0..200 {
        let mut thief = client(&base, number);
        flood.spawn(async move {
            let mut last = thief.sign_in(&format!("eve-{number}@shop.invalid"), WRONG).await;
            for again in 0..4 {
                last = thief
                    .sign_in(&format!("eve-{number}-{again}@shop.invalid"), WRONG)
                    .await;
            }
            last
        });
    }
    let health = format!("{}/__lbheartbeat__", sites.url(0));
    for (number, email) in emails.iter().enumerate() {
        let mut ada = client(&base, 1_000 + number);
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let reply = ada.sign_in(email, PASSWORD).await;
            let waited = begun.elapsed();
            // Its turn within the queue's time, or a word at once; twice that is for a machine with much else to do.
            assert!(waited < QUEUE * 3, "{waited:?}: {reply:?}");
            if reply.status.as_u16() != 503 {
                reply.good();
                break;
            }
            // There was no turn for it soon: it is told so, and when to come back.
            tries += 1;
            assert!(tries < TRIES_MAX, "{email}: {reply:?}");
            tokio::time::sleep(retry_after(&reply)).await;
        }
        let lives = reqwest::get(&health).await.expect("an answer");
        assert_eq!(lives.status().as_u16(), 200);
    }
    tally(&all(flood).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_one_mail_a_minute_whoever_asks_for_what_at_whichever_site() {
    let sites = Sites::start(2).await;
    sites.create(0, &[ADA]).await;
    sites.create(0, &["bob@shop.invalid"]).await;
    sites.create(0, &["new@shop.invalid"]).await;
    sites.reset_by_operator(0, "bob@shop.invalid").await;
    let mut bob = sites.browser(0);
    bob.sign_in("bob@shop.invalid", PASSWORD).await.good();
    sites.agree().await;

    // Twenty at once are one.
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let mut anybody = sites.browser(0);
        asking.spawn(async move {
            let args = json!({ "email": ADA, "site": SHOP });
            anybody.post("stage_reset", args).await
        });
    }
    let tally = tally(&all(asking).await);
    assert_eq!(tally.get(&(200, "done".to_owned())), Some(&1), "{tally:?}");
    assert_eq!(
        tally.get(&(429, "mail-throttled".to_owned())),
        Some(&19),
        "{tally:?}"
    );
    sites.mailbox.next(ADA, 0).await;
    sites.agree().await;
    for number in [0, 1] {
        bob.site = sites.url(number);
        for (call, args) in [
            ("stage_reset", json!({ "email": ADA, "site": SHOP })),
            (
                "stage_reset",
                json!({ "email": "ADA@SHOP.invalid", "site": "https://other.example" }),
            ),
            ("stage_email", json!({ "email": ADA, "site": SHOP })),
            (
                "stage_transition",
                json!({ "email": ADA, "pass": PASSWORD, "site": SHOP }),
            ),
        ] {
            let reply = bob.post(call, args).await;
            reply.refused(429, "mail-throttled");
            let after = retry_after(&reply).as_secs();
            assert!((1..=60).contains(&after), "{call}: {after}");
        }
        // One who signs up is told first that somebody has it.
        let args = json!({ "email": ADA, "pass": PASSWORD, "site": SHOP });
        bob.post("stage_user", args).await.refused(409, "address-taken");
    }
    // An address that nobody has, alike.
    for (number, (status, code)) in [(0, (200, "done")), (1, (429, "mail-throttled"))] {
        let mut anybody = sites.browser(number);
        let args = json!({ "email": "nobody@shop.invalid", "site": SHOP });
        let reply = anybody.post("stage_reset", args).await;
        assert_eq!(reply.status.as_u16(), status, "{code}: {reply:?}");
        sites.agree().await;
    }
    let mut anybody = sites.browser(1);
    let args = json!({ "email": "nobody@shop.invalid", "pass": PASSWORD, "site": SHOP });
    anybody
        .post("stage_user", args)
        .await
        .refused(429, "mail-throttled");
    assert_eq!(sites.mailbox.of(ADA).len(), 1);
    assert_eq!(sites.mailbox.of("nobody@shop.invalid").len(), 0);
}
