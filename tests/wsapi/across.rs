//! Flows that begin at one site and go on at another, and sites that die in between.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    browser::{Browser, Reply},
    primary::Primary,
    sign_up::{sign_up, stage},
    sites::{PASSWORD, SHOP, Sites, now_ms},
};

const ADA: &str = "ada@shop.invalid";

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_goes_on_at_any_site() {
    let sites = Sites::start(3).await;
    let mut ada = sites.browser(0);
    let letter = stage(&mut ada, &sites, ADA).await;
    // Polled at a third, completed at a second.
    ada.site = sites.url(2);
    let status = ada.get("user_creation_status", &[("email", ADA)]).await.good();
    assert_eq!(status["status"], "pending");
    ada.site = sites.url(1);
    ada.post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();
    for number in [0, 2, 1] {
        ada.site = sites.url(number);
        let emails = ada.get("list_emails", &[]).await.good();
        assert_eq!(emails["emails"], json!([ADA]), "at once, at site {number}");
        let certified = ada.certify(ADA).await.expect("a certificate");
        ada.site = sites.url((number + 1) % 3);
        let verdict = ada.verify(&certified.assert_for(SHOP, now_ms()), SHOP).await;
        assert_eq!(verdict["status"], "okay", "{verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_dies_right_after_the_mail_and_the_link_works_elsewhere() {
    let mut sites = Sites::start(3).await;
    let mut ada = sites.browser(0);
    let letter = stage(&mut ada, &sites, ADA).await;
    sites.kill(0).await;
    ada.site = sites.url(1);
    ada.post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();
    assert_eq!(ada.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_by_a_site_that_died_is_answered_again_by_another() {
    let mut sites = Sites::start(2).await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, ADA).await;
    // The answer is lost: the browser keeps what it had before.
    let mut before = ada.copy();
    let change = json!({ "oldpass": PASSWORD, "newpass": "another horse battery" });
    ada.post_once("update_password", change.clone(), "the-change-of-the-password")
        .await
        .good();
    sites.kill(0).await;
    before.site = sites.url(1);
    before
        .post_once("update_password", change.clone(), "the-change-of-the-password")
        .await
        .good();
    assert_eq!(
        before.level().await.as_deref(),
        Some("password"),
        "the new session is in the answer"
    );
    let mut other = change;
    other["newpass"] = json!("a third horse battery");
    before
        .post_once("update_password", other, "the-change-of-the-password")
        .await
        .refused(409, "other-request");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_at_home_at_once_at_a_site_far_away() {
    let sites = Sites::start(3).await;
    // A fifth of a second to the third site, each way; the second is near.
    for (from, to) in [(0, &[2][..]), (1, &[2]), (2, &[0, 1])] {
        sites.shape(from, to, &json!({ "delay_us": 200_000 })).await;
    }
    let mut ada = sites.browser(0);
    ada.context().await;
    let letter = stage(&mut ada, &sites, ADA).await;
    ada.post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();
    ada.site = sites.url(2);
    // What is not there yet is waited for; what does not come in time is asked for again. Nobody is signed out meanwhile, and no
    // list is empty.
    let mut asked = 0;
    let emails = loop {
        asked += 1;
        let reply = ada.get("list_emails", &[]).await;
        if reply.status.as_u16() != 503 {
            break reply.good();
        }
        assert!(reply.headers.contains_key(RETRY_AFTER), "{reply:?}");
        let context = ada.context().await;
        assert_eq!(context["authenticated"], true, "{context}");
        assert!(asked < 100, "it never comes");
    };
    assert_eq!(emails["emails"], json!([ADA]));
    // A change of the account made there is seen here, as soon as the answer is back.
    let change = json!({ "oldpass": PASSWORD, "newpass": "another horse battery" });
    ada.post("update_password", change).await.good();
    ada.site = sites.url(0);
    assert_eq!(ada.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sites_that_hear_nothing_of_each_other_agree_afterwards() {
    let sites = Sites::start(2).await;
    let (mut ada, mut at_home, mut away) = (sites.browser(0), sites.browser(0), sites.browser(1));
    let letter = stage(&mut ada, &sites, ADA).await;
    sites.create(0, &["reset@shop.invalid"]).await;
    let args = json!({ "email": "reset@shop.invalid", "site": SHOP });
    at_home.post("stage_reset", args).await.good();
    let reset = sites.mailbox.next("reset@shop.invalid", 0).await.token();
    sites.agree().await;
    sites.cut_off(1).await;

    // One link, completed at both.
    let mut ada_away = ada.copy();
    ada_away.site = sites.url(1);
    let token = json!({ "token": letter.token() });
    let here = ada.post("complete_user_creation", token.clone()).await.good();
    let there = ada_away.post("complete_user_creation", token).await.good();
    assert_eq!(here["userid"], there["userid"], "one account");
    // One link of a reset, with a password each.
    for (browser, pass) in [(&mut at_home, "chosen at home"), (&mut away, "chosen far away")] {
        let args = json!({ "token": reset, "pass": pass });
        browser.post("complete_reset", args).await.good();
        assert_eq!(browser.level().await.as_deref(), Some("password"));
    }
    // One address, signed up at both; the proof that was begun later counts.
    let (mut loser, mut winner) = (sites.browser(0), sites.browser(1));
    sign_up(&mut loser, &sites, "both@shop.invalid").await;
    let before = sites.mailbox.of("both@shop.invalid").len();
    let args = json!({ "email": "both@shop.invalid", "pass": "the winner's own", "site": SHOP });
    winner.post("stage_user", args).await.good();
    let letter = sites.mailbox.next("both@shop.invalid", before).await;
    winner
        .post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();
    let certified = loser.certify("both@shop.invalid").await.expect("a certificate");
    let assertion = certified.assert_for(SHOP, now_ms());

    sites.heal(1).await;
    sites.agree().await;
    for number in [0, 1] {
        let mut anybody = sites.browser(number);
        for browser in [&mut ada, &mut ada_away] {
            browser.site = sites.url(number);
            let emails = browser.get("list_emails", &[]).await.good();
            assert_eq!(emails["emails"], json!([ADA]), "at {number}");
        }
        // Of two passwords the earlier stands, and no session that was made under either.
        anybody
            .sign_in("reset@shop.invalid", "chosen far away")
            .await
            .refused(200, "wrong-password");
        anybody
            .sign_in("reset@shop.invalid", "chosen at home")
            .await
            .good();
        for browser in [&mut at_home, &mut away] {
            browser.site = sites.url(number);
            assert_eq!(browser.level().await, None, "at {number}");
        }
        anybody
            .sign_in("both@shop.invalid", PASSWORD)
            .await
            .refused(200, "wrong-password");
        anybody
            .sign_in("both@shop.invalid", "the winner's own")
            .await
            .good();
        loser.site = sites.url(number);
        let emails = loser.get("list_emails", &[]).await;
        if emails.status.as_u16() == 200 {
            assert_eq!(emails.json()["emails"], json!([]), "at {number}");
        } else {
            emails.refused(400, "not-signed-in");
        }
        assert!(loser.certify("both@shop.invalid").await.is_err());
        assert_eq!(anybody.verify(&assertion, SHOP).await["status"], "failure");
    }
    // The winner leaves; the address is nobody's, and not the loser's.
    winner.post("account_cancel", json!({})).await.good();
    sites.agree().await;
    for number in [0, 1] {
        let mut anybody = sites.browser(number);
        let known = anybody
            .get("have_email", &[("email", "both@shop.invalid")])
            .await
            .good();
        assert_eq!(known["email_known"], false, "at {number}");
        for password in [PASSWORD, "the winner's own"] {
            anybody
                .sign_in("both@shop.invalid", password)
                .await
                .refused(200, "wrong-password");
        }
        loser.site = sites.url(number);
        assert!(loser.certify("both@shop.invalid").await.is_err());
    }
}

/// Somebody who asks for something, once, at a site that dies before it answers.
struct Asking {
    call: &'static str,
    browser: Browser,
    args: Value,
}

impl Asking {
    fn key(&self) -> String {
        format!("one-key-for-{}", self.call)
    }
}

/// Every POST of the dialog and the account page that writes, each by somebody of their own.
async fn every_write(sites: &Sites, primary: &Primary) -> Vec<Asking> {
    let mut asking = Vec::new();
    let email = |call: &str| format!("{}@shop.invalid", call.replace('_', "-"));
    let of_idp = |call: &str| format!("{}@idp.localhost", call.replace('_', "-"));
    for call in [
        "stage_user",
        "complete_user_creation",
        "complete_by_code",
        "stage_email",
        "complete_email_confirmation",
        "stage_reset",
        "complete_reset",
        "stage_reverify",
        "stage_transition",
        "complete_transition",
        "authenticate_user",
        "auth_with_assertion",
        "update_password",
        "add_email_with_assertion",
        "remove_email",
        "end_session",
        "sign_out_everywhere",
        "logout",
        "account_cancel",
    ] {
        let mut browser = sites.browser(0);
        browser.context().await;
        let (own, new) = (email(call), format!("new-{}", email(call)));
        let begin = json!({ "email": own, "pass": PASSWORD, "site": SHOP });
        let proof = json!({ "email": own, "site": SHOP });
        let is_signed_in = matches!(
            call,
            "stage_email"
                | "complete_email_confirmation"
                | "stage_reverify"
                | "update_password"
                | "add_email_with_assertion"
                | "remove_email"
                | "end_session"
                | "sign_out_everywhere"
                | "logout"
                | "account_cancel"
        );
        if is_signed_in || matches!(call, "stage_reset" | "complete_reset" | "authenticate_user") {
            sites.create(0, &[&own, &format!("old-{own}")]).await;
        }
        if call == "stage_reverify" {
            sites.reset_by_operator(0, &format!("old-{own}")).await;
        }
        if is_signed_in {
            browser.sign_in(&own, PASSWORD).await.good();
        }
        let args = match call {
            "stage_user" => begin,
            "complete_user_creation" | "complete_by_code" => {
                browser.post("stage_user", begin).await.good();
                let letter = sites.mailbox.next(&own, 0).await;
                match call {
                    "complete_by_code" => json!({ "code": letter.code() }),
                    _ => json!({ "token": letter.token() }),
                }
            }
            "stage_email" => json!({ "email": new, "site": SHOP }),
            "complete_email_confirmation" => {
                let args = json!({ "email": new, "site": SHOP });
                browser.post("stage_email", args).await.good();
                json!({ "token": sites.mailbox.next(&new, 0).await.token() })
            }
            "stage_reset" | "stage_reverify" => proof,
            "complete_reset" => {
                browser.post("stage_reset", proof).await.good();
                let token = sites.mailbox.next(&own, 0).await.token();
                json!({ "token": token, "pass": "another horse battery" })
            }
            "stage_transition" | "complete_transition" => {
                primary.sign_in(&mut sites.browser(0), &of_idp(call)).await;
                let args = json!({ "email": of_idp(call), "pass": PASSWORD, "site": SHOP });
                if call == "complete_transition" {
                    browser.post("stage_transition", args).await.good();
                    json!({ "token": sites.mailbox.next(&of_idp(call), 0).await.token() })
                } else {
                    args
                }
            }
            "authenticate_user" => {
                // A wrong one before it is something to be forgiven, which is a write.
                sites
                    .browser(0)
                    .sign_in(&own, "not the password")
                    .await
                    .refused(200, "wrong-password");
                json!({ "email": own, "pass": PASSWORD, "ephemeral": false })
            }
            "auth_with_assertion" => json!({ "assertion": primary.assertion(&of_idp(call)).await }),
            "update_password" => json!({ "oldpass": PASSWORD, "newpass": "another horse battery" }),
            "add_email_with_assertion" => json!({ "assertion": primary.assertion(&of_idp(call)).await }),
            "remove_email" => json!({ "email": format!("old-{own}") }),
            "end_session" => {
                let list = browser.get("list_sessions", &[]).await.good();
                json!({ "id": list["sessions"][0]["id"] })
            }
            _ => json!({}),
        };
        asking.push(Asking { call, browser, args });
    }
    asking
}

/// What was answered, but for how far it has got by now.
fn without_elsewhere(reply: &Reply) -> Value {
    let mut json = reply.json();
    if let Some(object) = json.as_object_mut() {
        object.remove("elsewhere");
    }
    json
}

#[tokio::test(flavor = "multi_thread")]
async fn each_post_is_done_once_though_the_site_died_between_its_write_and_its_answer() {
    let primary = Primary::start().await;
    let mut sites = Sites::start_with(2, |config| {
        primary.known_to(config);
        // Longer than the test: until then nobody is answered of whose write no other site has told that it has it.
        config.durability.timeout = Duration::from_secs(60);
    })
    .await;
    let asking = every_write(&sites, &primary).await;
    sites.agree().await;
    let count = asking.len() as u64;
    let writers = sites.site(0).vector().await;
    // The first site hears nothing any more: what it writes goes out, and that it arrived does not come back.
    sites.shape(0, &[1], &json!({ "cut_in": true })).await;
    let mut under_way = JoinSet::new();
    for asking in asking {
        under_way.spawn(async move {
            // If the machine is so slow that the connection is given up first, there is an answer, which gets lost.
            let mut lost = asking.browser.copy();
            let _ = lost
                .try_post_once(asking.call, asking.args.clone(), &asking.key())
                .await;
            asking
        });
    }
    let written = async || {
        let vector = sites.site(1).vector().await;
        let more = vector.iter().map(|(writer, number)| {
            let before = writers.get(writer).copied().unwrap_or_default();
            number.saturating_sub(before)
        });
        (more.sum::<u64>() >= count).then_some(())
    };
    sites
        .site(1)
        .eventually("all is written and has gone out", written)
        .await;
    sites.kill(0).await;
    while let Some(asking) = under_way.join_next().await {
        let mut asking = asking.expect("unanswered");
        let (call, key) = (asking.call, asking.key());
        // The browser, which has had no answer, asks at the other site; and once more, for the answer may get lost again.
        let mut again = asking.browser.copy();
        again.site = sites.url(1);
        asking.browser.site = sites.url(1);
        let first = asking.browser.post_once(call, asking.args.clone(), &key).await;
        let second = again.post_once(call, asking.args.clone(), &key).await;
        assert_eq!(first.status.as_u16(), 200, "{call}: {first:?}");
        assert_eq!(without_elsewhere(&first), without_elsewhere(&second), "{call}");
        let signed_in = asking.browser.level().await;
        let expected = match call {
            "stage_user" | "stage_reset" | "stage_transition" | "end_session" | "logout"
            | "account_cancel" => None,
            "auth_with_assertion" => Some("assertion"),
            _ => Some("password"),
        };
        assert_eq!(signed_in.as_deref(), expected, "{call}");
    }
    // One account, one address, one mail.
    let mut ada = sites.browser(1);
    for call in [
        "complete_user_creation",
        "complete_by_code",
        "complete_email_confirmation",
    ] {
        let email = format!("{}@shop.invalid", call.replace('_', "-"));
        ada.sign_in(&email, PASSWORD).await.good();
        let emails = ada.get("list_emails", &[]).await.good();
        let expected = if call == "complete_email_confirmation" {
            3
        } else {
            1
        };
        assert_eq!(
            emails["emails"].as_array().map(Vec::len),
            Some(expected),
            "{emails}"
        );
    }
    for call in ["stage_user", "stage_reset", "stage_reverify"] {
        let email = format!("{}@shop.invalid", call.replace('_', "-"));
        assert!(sites.mailbox.of(&email).len() <= 1, "{call}");
    }
}
