//! Flows that begin at one site and go on at another, and sites that die in between.

use serde_json::json;

use crate::{
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
