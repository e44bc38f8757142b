//! What somebody signed in does to their account.

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    sign_up::sign_up,
    sites::{PASSWORD, SHOP, Sites, now_ms},
};

const ADA: &str = "ada@shop.invalid";
const NEW: &str = "another horse battery";

async fn details(browser: &mut Browser) -> Value {
    browser.get("account_details", &[]).await.good()
}

fn emails(details: &Value) -> Vec<(String, bool)> {
    let mut emails: Vec<_> = details["emails"]
        .as_array()
        .expect("emails")
        .iter()
        .map(|email| {
            let address = email["email"].as_str().expect("an address").to_owned();
            (address, email["verified"].as_bool().expect("a flag"))
        })
        .collect();
    emails.sort();
    emails
}

/// Adds an address in the browser that asks.
async fn add(browser: &mut Browser, sites: &Sites, email: &str) {
    let before = sites.mailbox.of(email).len();
    browser
        .post("stage_email", json!({ "email": email, "site": SHOP }))
        .await
        .good();
    let letter = sites.mailbox.next(email, before).await;
    let pending = browser
        .get("email_addition_status", &[("email", email)])
        .await
        .good();
    assert_eq!(pending["status"], "pending");
    browser
        .post("complete_email_confirmation", json!({ "token": letter.token() }))
        .await
        .good();
    let complete = browser
        .get("email_addition_status", &[("email", email)])
        .await
        .good();
    assert_eq!(complete["status"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_added_told_of_removed_and_told_of() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, ADA).await;
    add(&mut ada, &sites, "ada@work.invalid").await;
    let told = sites.mailbox.next(ADA, 1).await;
    assert!(told.text.contains("ada@work.invalid"), "{told:?}");
    assert_eq!(
        emails(&details(&mut ada).await),
        [(ADA.to_owned(), true), ("ada@work.invalid".to_owned(), true)]
    );
    ada.certify("ada@work.invalid").await.expect("a certificate");
    ada.post("remove_email", json!({ "email": "ada@work.invalid" }))
        .await
        .good();
    assert_eq!(emails(&details(&mut ada).await), [(ADA.to_owned(), true)]);
    let refused = ada
        .certify("ada@work.invalid")
        .await
        .err()
        .expect("no certificate");
    refused.refused(400, "not-yours");
    ada.post("remove_email", json!({ "email": "eve@shop.invalid" }))
        .await
        .refused(400, "not-yours");
    // Both were told: the one that stayed and the one that went.
    let told = sites.mailbox.next(ADA, 2).await;
    assert!(told.text.contains("ada@work.invalid"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_password_ends_the_other_sessions_and_revokes_certificates() {
    let sites = Sites::one().await;
    let (mut ada, mut phone) = (sites.browser(0), sites.browser(0));
    sign_up(&mut ada, &sites, ADA).await;
    phone.sign_in(ADA, PASSWORD).await.good();
    let certified = phone.certify(ADA).await.expect("a certificate");
    let assertion = certified.assert_for(SHOP, now_ms());
    assert_eq!(phone.verify(&assertion, SHOP).await["status"], "okay");

    let wrong = json!({ "oldpass": NEW, "newpass": NEW });
    ada.post("update_password", wrong)
        .await
        .refused(200, "wrong-password");
    let right = json!({ "oldpass": PASSWORD, "newpass": NEW });
    ada.post("update_password", right).await.good();
    assert_eq!(
        ada.level().await.as_deref(),
        Some("password"),
        "who changed it stays"
    );
    assert_eq!(phone.level().await, None, "others do not");
    let verdict = phone.verify(&assertion, SHOP).await;
    assert_eq!(verdict["status"], "failure", "{verdict}");
    phone.sign_in(ADA, PASSWORD).await.refused(200, "wrong-password");
    phone.sign_in(ADA, NEW).await.good();
    let told = sites.mailbox.next(ADA, 1).await;
    assert!(told.subject.contains("password"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_forgot_the_password_resets_it_by_mail_and_the_other_addresses_wait_for_proof() {
    let sites = Sites::one().await;
    // By an operator, who sends no mail: an address has one a minute at most.
    sites.create(0, &[ADA, "ada@work.invalid"]).await;
    let mut ada = sites.browser(0);
    ada.sign_in(ADA, PASSWORD).await.good();
    let mut forgetful = sites.browser(0);
    let before = sites.mailbox.of(ADA).len();
    forgetful
        .post("stage_reset", json!({ "email": ADA, "site": SHOP }))
        .await
        .good();
    let letter = sites.mailbox.next(ADA, before).await;
    let without = json!({ "token": letter.token() });
    assert_ne!(
        forgetful.post("complete_reset", without).await.status.as_u16(),
        200
    );
    let reset = json!({ "token": letter.token(), "pass": NEW });
    forgetful.post("complete_reset", reset).await.good();
    assert_eq!(forgetful.level().await.as_deref(), Some("password"));
    assert_eq!(ada.level().await, None);
    assert_eq!(
        emails(&details(&mut forgetful).await),
        [(ADA.to_owned(), true), ("ada@work.invalid".to_owned(), false)]
    );
    let refused = forgetful
        .certify("ada@work.invalid")
        .await
        .err()
        .expect("no certificate");
    refused.refused(403, "unverified");
    let before = sites.mailbox.of("ada@work.invalid").len();
    let again = json!({ "email": "ada@work.invalid", "site": SHOP });
    forgetful.post("stage_reverify", again).await.good();
    let letter = sites.mailbox.next("ada@work.invalid", before).await;
    forgetful
        .post("complete_email_confirmation", json!({ "token": letter.token() }))
        .await
        .good();
    forgetful
        .certify("ada@work.invalid")
        .await
        .expect("a certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sees_where_one_is_signed_in_and_ends_it_there() {
    let sites = Sites::one().await;
    let (mut ada, mut phone) = (sites.browser(0), sites.browser(0));
    sign_up(&mut ada, &sites, ADA).await;
    phone.sign_in(ADA, PASSWORD).await.good();
    let list = ada.get("list_sessions", &[]).await.good();
    let sessions = list["sessions"].as_array().expect("sessions");
    assert_eq!(sessions.len(), 2, "{list}");
    let other = sessions
        .iter()
        .find(|session| session["current"] == false)
        .expect("the other");
    assert_eq!(other["site"], "site-0");
    ada.post("end_session", json!({ "id": other["id"] })).await.good();
    assert_eq!(phone.level().await, None);
    assert_eq!(ada.level().await.as_deref(), Some("password"));
    ada.post("logout", json!({})).await.good();
    assert_eq!(ada.level().await, None);
    ada.post("logout", json!({})).await.refused(400, "not-signed-in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_cookie_is_worth_nothing_after_the_session_was_ended() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, ADA).await;
    let mut thief = ada.copy();
    assert_eq!(thief.level().await.as_deref(), Some("password"));
    ada.post("logout", json!({})).await.good();
    assert_eq!(thief.level().await, None);
    let mut thief = {
        ada.sign_in(ADA, PASSWORD).await.good();
        ada.copy()
    };
    ada.post("sign_out_everywhere", json!({})).await.good();
    assert_eq!(thief.level().await, None);
    assert_eq!(ada.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_account_is_gone_and_its_address_free() {
    let sites = Sites::one().await;
    let (mut ada, mut phone) = (sites.browser(0), sites.browser(0));
    sign_up(&mut ada, &sites, ADA).await;
    phone.sign_in(ADA, PASSWORD).await.good();
    let assertion = phone
        .certify(ADA)
        .await
        .expect("a certificate")
        .assert_for(SHOP, now_ms());
    ada.post("account_cancel", json!({})).await.good();
    assert_eq!(ada.level().await, None);
    assert_eq!(phone.level().await, None);
    assert_eq!(phone.verify(&assertion, SHOP).await["status"], "failure");
    phone.sign_in(ADA, PASSWORD).await.refused(200, "wrong-password");
    let known = phone.get("have_email", &[("email", ADA)]).await.good();
    assert_eq!(known["email_known"], false);
    let told = sites.mailbox.next(ADA, 1).await;
    assert!(!told.text.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_ten_wrong_passwords_only_a_browser_that_was_signed_in_may_try() {
    let sites = Sites::one().await;
    let (mut ada, mut thief) = (sites.browser(0), sites.browser(0));
    sign_up(&mut ada, &sites, ADA).await;
    for _ in 0..10 {
        thief.sign_in(ADA, NEW).await.refused(200, "wrong-password");
    }
    thief.sign_in(ADA, PASSWORD).await.refused(200, "locked");
    // An address that nobody has is locked alike.
    for _ in 0..10 {
        thief
            .sign_in("eve@shop.invalid", NEW)
            .await
            .refused(200, "wrong-password");
    }
    thief
        .sign_in("eve@shop.invalid", NEW)
        .await
        .refused(200, "locked");
    ada.post("logout", json!({})).await.good();
    ada.sign_in(ADA, PASSWORD).await.good();
    thief.sign_in(ADA, NEW).await.refused(200, "wrong-password");

    // Nor can anybody keep them from changing it.
    for _ in 0..9 {
        thief.sign_in(ADA, NEW).await.refused(200, "wrong-password");
    }
    thief.sign_in(ADA, PASSWORD).await.refused(200, "locked");
    let change = json!({ "oldpass": PASSWORD, "newpass": NEW });
    ada.post("update_password", change).await.good();
    thief.sign_in(ADA, PASSWORD).await.refused(200, "wrong-password");
}
