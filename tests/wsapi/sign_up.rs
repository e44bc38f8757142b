//! From nothing to an assertion that a relying party believes.

use serde_json::json;

use crate::{
    browser::{Browser, Letter},
    sites::{PASSWORD, SHOP, Sites, now_ms},
};

/// Begins a sign-up, and gives the mail.
pub(crate) async fn stage(browser: &mut Browser, sites: &Sites, email: &str) -> Letter {
    let before = sites.mailbox.of(email).len();
    let args = json!({ "email": email, "pass": PASSWORD, "site": SHOP });
    browser.post("stage_user", args).await.good();
    sites.mailbox.next(email, before).await
}

/// Signs somebody up, in one browser.
pub(crate) async fn sign_up(browser: &mut Browser, sites: &Sites, email: &str) {
    let letter = stage(browser, sites, email).await;
    let done = browser
        .post("complete_user_creation", json!({ "token": letter.token() }))
        .await;
    done.good();
    assert_eq!(browser.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_person_signs_up_and_a_shop_believes_the_assertion() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    let context = ada.context().await;
    assert_eq!(context["authenticated"], false);
    assert_eq!(context["auth_level"], false);
    let info = ada
        .get("address_info", &[("email", "Ada@shop.invalid")])
        .await
        .good();
    assert_eq!(
        (info["type"].as_str(), info["state"].as_str()),
        (Some("secondary"), Some("unknown"))
    );

    let letter = stage(&mut ada, &sites, "Ada@shop.invalid").await;
    assert!(letter.text.contains(SHOP), "{}", letter.text);
    let pending = ada
        .get("user_creation_status", &[("email", "Ada@shop.invalid")])
        .await
        .good();
    assert_eq!(pending["status"], "pending");
    let told = ada
        .get("email_for_token", &[("token", &letter.token())])
        .await
        .good();
    assert_eq!(
        (&told["email"], &told["must_auth"]),
        (&json!("Ada@shop.invalid"), &json!(false))
    );
    let done = ada
        .post("complete_user_creation", json!({ "token": letter.token() }))
        .await
        .good();
    assert!(done["userid"].is_string());
    let status = ada
        .get("user_creation_status", &[("email", "Ada@shop.invalid")])
        .await
        .good();
    assert_eq!(status["status"], "complete");

    let context = ada.context().await;
    assert_eq!(context["auth_level"], "password");
    assert_eq!(context["userid"], done["userid"]);
    assert_eq!(context["has_password"], true);
    let emails = ada.get("list_emails", &[]).await.good();
    assert_eq!(emails["emails"], json!(["Ada@shop.invalid"]));
    let certified = ada.certify("ada@shop.invalid").await.expect("a certificate");
    let assertion = certified.assert_for(SHOP, now_ms());
    let verdict = ada.verify(&assertion, SHOP).await;
    assert_eq!(verdict["status"], "okay", "{verdict}");
    assert_eq!(verdict["email"], "ada@shop.invalid");
    assert_eq!(verdict["issuer"], "persona.localhost");
    let other = ada.verify(&assertion, "https://evil.example").await;
    assert_eq!(other["status"], "failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_opened_elsewhere_takes_the_password_and_signs_only_that_browser_in() {
    let sites = Sites::one().await;
    let (mut began, mut other) = (sites.browser(0), sites.browser(0));
    let letter = stage(&mut began, &sites, "ada@shop.invalid").await;
    let token = letter.token();
    let told = other.get("email_for_token", &[("token", &token)]).await.good();
    assert_eq!(told["must_auth"], true);
    other
        .post("complete_user_creation", json!({ "token": token }))
        .await
        .refused(401, "password-needed");
    let wrong = json!({ "token": token, "pass": "not the password" });
    other
        .post("complete_user_creation", wrong)
        .await
        .refused(401, "password-needed");
    let right = json!({ "token": token, "pass": PASSWORD });
    other.post("complete_user_creation", right).await.good();
    assert_eq!(other.level().await.as_deref(), Some("password"));

    let status = began
        .get("user_creation_status", &[("email", "ada@shop.invalid")])
        .await
        .good();
    assert_eq!(status["status"], "mustAuth");
    assert_eq!(began.level().await, None, "who began learns only that it is done");
    began
        .post("complete_by_code", json!({ "code": letter.code() }))
        .await
        .good();
    assert_eq!(began.level().await.as_deref(), Some("password"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_address_are_told_apart_by_nothing() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, "ada@shop.invalid").await;
    let mut thief = sites.browser(0);
    let wrong = thief.sign_in("ada@shop.invalid", "not the password").await;
    let unknown = thief.sign_in("eve@shop.invalid", "not the password").await;
    assert_eq!(wrong.text, unknown.text);
    assert_eq!(wrong.status, unknown.status);
    wrong.refused(200, "wrong-password");
    thief.sign_in("ada@shop.invalid", PASSWORD).await.good();
    assert_eq!(thief.level().await.as_deref(), Some("password"));
}
