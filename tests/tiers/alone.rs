//! All that people do at a site of four processes, and each process killed in turn: what goes on, what is answered 503 with
//! the time to come back, and that all is as before by itself once the process is there again.

use persona::{config::LabConfig, tiers::Tier};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Reply},
    idp::Idps,
    parts::{ADA, PASSWORD, PUBLIC_URL, Parts, SHOP, now_ms},
};

async fn sign_up(browser: &mut Browser, parts: &Parts, email: &str) {
    let args = json!({ "email": email, "pass": PASSWORD, "site": SHOP });
    browser.post("stage_user", args).await.good();
    let letter = parts.mailbox.next(email, 0).await;
    let done = json!({ "token": letter.token() });
    browser.post("complete_user_creation", done).await.good();
    assert_eq!(browser.level().await.as_deref(), Some("password"));
}

/// Come back later: and when.
#[track_caller]
fn later(reply: &Reply) {
    assert_eq!(reply.status.as_u16(), 503, "{reply:?}");
    let after = reply.headers.get("retry-after").expect("when to come back");
    let seconds: u64 = after.to_str().expect("text").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{reply:?}");
}

async fn certified(browser: &mut Browser, email: &str) -> String {
    let certified = browser.certify(email).await.expect("a certificate");
    certified.assert_for(SHOP, now_ms())
}

async fn believed(browser: &mut Browser, assertion: &str) -> Value {
    let verdict = browser.verify(assertion, SHOP).await;
    assert_eq!(verdict["status"], "okay", "{verdict}");
    verdict
}

/// Everything that takes all of a site.
async fn all_goes(parts: &Parts, ada: &mut Browser) {
    assert_eq!(ada.level().await.as_deref(), Some("password"));
    let assertion = certified(ada, ADA).await;
    believed(ada, &assertion).await;
    let mut phone = parts.browser();
    phone.sign_in(ADA, PASSWORD).await.good();
    phone.post("logout", json!({})).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_four_processes_does_all_that_one_does() {
    let idps = Idps::start(&["idp.test"]).await;
    let parts = with(&idps).await;
    let mut ada = parts.browser();
    sign_up(&mut ada, &parts, ADA).await;
    let assertion = certified(&mut ada, ADA).await;
    let verdict = believed(&mut ada, &assertion).await;
    assert_eq!(
        (&verdict["email"], &verdict["issuer"]),
        (&json!(ADA), &json!("persona.localhost"))
    );
    let elsewhere = ada.verify(&assertion, "https://evil.example").await;
    assert_eq!(elsewhere["status"], "failure");

    // The account's page.
    let details = ada.get("account_details", &[]).await.good();
    assert_eq!(
        (&details["has_password"], &details["emails"][0]["email"]),
        (&json!(true), &json!(ADA))
    );
    let sessions = ada.get("list_sessions", &[]).await.good();
    assert_eq!(sessions["sessions"][0]["current"], true, "{sessions}");
    assert_eq!(sessions["sessions"][0]["site"], "site-0");
    let work = "ada@work.invalid";
    ada.post("stage_email", json!({ "email": work, "site": SHOP }))
        .await
        .good();
    let letter = parts.mailbox.next(work, 0).await;
    ada.post("complete_email_confirmation", json!({ "token": letter.token() }))
        .await
        .good();
    let emails = ada.get("list_emails", &[]).await.good();
    assert_eq!(emails["emails"].as_array().map(Vec::len), Some(2), "{emails}");
    ada.post("remove_email", json!({ "email": work })).await.good();
    let next = "another horse battery";
    let change = json!({ "oldpass": PASSWORD, "newpass": next });
    ada.post("update_password", change).await.good();
    let old = ada.verify(&assertion, SHOP).await;
    assert_eq!(old["status"], "failure", "what was certified before is over");
    let mut phone = parts.browser();
    phone.sign_in(ADA, PASSWORD).await.refused(200, "wrong-password");
    phone.sign_in(ADA, next).await.good();

    // A domain that certifies its own users is asked by the secure webhead alone: the webhead has no way out.
    let eve = "eve@idp.test";
    let info = phone.get("address_info", &[("email", eve)]).await.good();
    assert_eq!(
        (&info["type"], &info["issuer"]),
        (&json!("primary"), &json!("idp.test")),
        "{info}"
    );
    let mut tablet = parts.browser();
    let assertion = idps.assertion(eve, PUBLIC_URL, now_ms());
    let by = json!({ "assertion": assertion, "ephemeral": false });
    tablet.post("auth_with_assertion", by).await.good();
    assert_eq!(tablet.level().await.as_deref(), Some("assertion"));
    let asked = idps.asked();
    assert_eq!(asked, 1, "and once, for all tiers");
    for _ in 0..3 {
        let assertion = idps.assertion(eve, SHOP, now_ms());
        let verdict = believed(&mut tablet, &assertion).await;
        assert_eq!(
            (&verdict["email"], &verdict["issuer"]),
            (&json!(eve), &json!("idp.test"))
        );
    }
    assert_eq!(idps.asked(), asked);

    ada.post("account_cancel", json!({})).await.good();
    phone.sign_in(ADA, next).await.refused(200, "wrong-password");
}

/// With this domain to be found.
async fn with(idps: &Idps) -> Parts {
    let parts = Parts::plan(&idps.lab(), Some(&idps.authority_file()));
    persona::tiers::certificates::certify("site-0", &parts.tiers()).expect("certificates");
    parts.run().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_keysigner_nothing_is_certified_and_all_else_goes_on() {
    let mut parts = Parts::start(&LabConfig::default()).await;
    let mut ada = parts.browser();
    sign_up(&mut ada, &parts, ADA).await;
    let assertion = certified(&mut ada, ADA).await;
    parts.kill(Tier::Keysigner).await;
    assert_eq!(
        parts.heartbeat().await,
        Some(503),
        "people are better served elsewhere"
    );
    later(&ada.certify(ADA).await.err().expect("nobody certifies"));
    assert_eq!(ada.level().await.as_deref(), Some("password"));
    believed(&mut ada, &assertion).await;
    ada.get("list_emails", &[]).await.good();
    let mut phone = parts.browser();
    phone.sign_in(ADA, PASSWORD).await.good();

    parts.begin(Tier::Keysigner);
    parts.is_well().await;
    all_goes(&parts, &mut ada).await;
    believed(&mut ada, &assertion).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secure_webhead_who_is_signed_in_goes_on_and_nobody_else_comes_in() {
    let idps = Idps::start(&["idp.test"]).await;
    let mut parts = with(&idps).await;
    let mut ada = parts.browser();
    sign_up(&mut ada, &parts, ADA).await;
    let eve = idps.assertion("eve@idp.test", SHOP, now_ms());
    believed(&mut ada, &eve).await;
    parts.kill(Tier::SecureWebhead).await;
    assert_eq!(parts.heartbeat().await, Some(503));
    assert_eq!(ada.level().await.as_deref(), Some("password"));
    let assertion = certified(&mut ada, ADA).await;
    believed(&mut ada, &assertion).await;
    // Who speaks for the domain is remembered.
    believed(&mut ada, &eve).await;
    let mut phone = parts.browser();
    later(&phone.sign_in(ADA, PASSWORD).await);
    let staged = json!({ "email": "bob@shop.invalid", "pass": PASSWORD, "site": SHOP });
    later(&phone.post("stage_user", staged).await);
    later(&phone.get("address_info", &[("email", "eve@idp.test")]).await);
    // Of a domain that nobody can ask nothing is said, least of all that it has no right to its users.
    let stranger = idps.assertion("eve@other.test", SHOP, now_ms());
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("a header"));
    let body = json!({ "assertion": stranger, "audience": SHOP }).to_string();
    let url = format!("{}/verify", parts.url());
    later(&phone.send(reqwest::Method::POST, &url, headers, Some(body)).await);

    parts.begin(Tier::SecureWebhead);
    parts.is_well().await;
    all_goes(&parts, &mut ada).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_replica_a_site_says_so_and_signs_nobody_out() {
    let mut parts = Parts::start(&LabConfig::default()).await;
    let mut ada = parts.browser();
    sign_up(&mut ada, &parts, ADA).await;
    let assertion = certified(&mut ada, ADA).await;
    let cookies = ada.cookies.clone();
    parts.kill(Tier::Replica).await;
    later(&ada.get("list_emails", &[]).await);
    later(&ada.certify(ADA).await.err().expect("nobody certifies"));
    let mut phone = parts.browser();
    later(&phone.sign_in(ADA, PASSWORD).await);
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().expect("a header"));
    let body = json!({ "assertion": assertion, "audience": SHOP }).to_string();
    let url = format!("{}/verify", parts.url());
    later(&phone.send(reqwest::Method::POST, &url, headers, Some(body)).await);
    // What needs no record is served: pages and scripts, and keys for whoever verifies by themselves.
    for path in ["/", "/include.js", "/.well-known/browserid", "/__lbheartbeat__"] {
        let answer = reqwest::get(format!("{}{path}", parts.url()))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{path}");
    }
    let unwell = async || (parts.heartbeat().await? == 503).then_some(());
    parts
        .part(Tier::Webhead)
        .eventually("its heartbeat says so", unwell)
        .await;
    assert_eq!(ada.cookies, cookies, "nobody was signed out");

    parts.begin(Tier::Replica);
    parts.is_well().await;
    all_goes(&parts, &mut ada).await;
    believed(&mut ada, &assertion).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhead_is_worth_nothing_and_its_loss_costs_nothing() {
    let mut parts = Parts::start(&LabConfig::default()).await;
    let mut ada = parts.browser();
    sign_up(&mut ada, &parts, ADA).await;
    parts.kill(Tier::Webhead).await;
    assert_eq!(parts.heartbeat().await, None);
    parts.begin(Tier::Webhead);
    parts.is_well().await;
    all_goes(&parts, &mut ada).await;

    // Asked to end, it says so before it is gone, and ends well.
    let webhead = parts.take(Tier::Webhead);
    webhead.signal(rustix::process::Signal::TERM);
    let said = async || (parts.heartbeat().await? == 503).then_some(());
    parts
        .part(Tier::Replica)
        .eventually("its heartbeat says that it drains", said)
        .await;
    let (status, _, log) = webhead.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    for tier in [Tier::SecureWebhead, Tier::Keysigner, Tier::Replica] {
        let (status, _, log) = parts.take(tier).terminate().await;
        assert_eq!(status.code(), Some(0), "{tier}: {log}");
    }
}
