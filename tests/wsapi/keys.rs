//! Signing keys, by what people hold that they signed: cookies and certificates.

use serde_json::json;
use tokio::process::Command;

use crate::{
    browser::Browser,
    sites::{PASSWORD, SHOP, Sites, now_ms},
};

const ADA: &str = "ada@shop.invalid";

/// The key that signs at a site for a use.
async fn signer(sites: &Sites, number: usize, usage: &str) -> String {
    let member = format!("member-{number}");
    let signs = async || {
        let report = sites.site(number).client.get("/keys").await.ok()?;
        let mut keys = report["keys"].as_array()?.iter();
        let signs =
            keys.find(|key| key["member"] == member && key["use"] == usage && key["signs"] == true)?;
        Some(signs["kid"].as_str()?.to_owned())
    };
    sites.site(number).eventually("it signs", signs).await
}

/// `persona …` with the data of a site that runs.
async fn persona(sites: &Sites, number: usize, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_persona"))
        .args(arguments)
        .arg("--data")
        .arg(sites.data(number))
        .output()
        .await
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// Signed in at this site, and taken along to any.
async fn signed_in(sites: &Sites, number: usize) -> Browser {
    let mut ada = sites.browser(number);
    ada.sign_in(ADA, PASSWORD).await.good();
    ada
}

async fn certified(browser: &mut Browser) -> String {
    let certified = browser.certify(ADA).await.expect("a certificate");
    certified.assert_for(SHOP, now_ms())
}

/// What each of these sites says of a session and of an assertion.
async fn said(sites: &Sites, at: &[usize], browser: &Browser, assertion: &str) -> Vec<(bool, bool)> {
    let mut said = Vec::new();
    for &number in at {
        let mut copy = browser.copy();
        copy.site = sites.url(number);
        let signed_in = copy.get("list_emails", &[]).await.status.as_u16() == 200;
        let verdict = copy.verify(assertion, SHOP).await;
        said.push((signed_in, verdict["status"] == "okay"));
    }
    said
}

/// Waits until all of them say so.
async fn all_say(sites: &Sites, at: &[usize], browser: &Browser, assertion: &str, expected: (bool, bool)) {
    let say = async || {
        let said = said(sites, at, browser, assertion).await;
        said.iter().all(|said| *said == expected).then_some(())
    };
    sites
        .site(at[0])
        .eventually(&format!("all say {expected:?}"), say)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_at_every_site_and_its_site_signs_with_another() {
    let sites = Sites::start(2).await;
    sites.create(0, &[ADA]).await;
    let mut ada = signed_in(&sites, 0).await;
    // Who asks for somebody unknown too often is refused also once the account has come.
    sites.agree().await;
    let mut other = sites.browser(1);
    other.sign_in(ADA, PASSWORD).await.good();
    let assertion = certified(&mut ada).await;
    all_say(&sites, &[0, 1], &ada, &assertion, (true, true)).await;
    let (session, certificate) = (
        signer(&sites, 0, "session").await,
        signer(&sites, 0, "certificate").await,
    );

    // The key for sessions, revoked by another site's operator: who was signed in there signs in again, and nobody else.
    persona(&sites, 1, &["key", "revoke", &session, "--yes"]).await;
    all_say(&sites, &[0, 1], &ada, &assertion, (false, true)).await;
    all_say(&sites, &[0, 1], &other, &assertion, (true, true)).await;
    let anew = async || {
        let mut ada = sites.browser(0);
        let answer = ada.sign_in(ADA, PASSWORD).await;
        (answer.status.as_u16() == 200).then_some(ada)
    };
    let mut ada = sites.site(0).eventually("it signs with another", anew).await;
    all_say(&sites, &[0, 1], &ada, &assertion, (true, true)).await;
    assert_ne!(signer(&sites, 0, "session").await, session);

    // The key for certificates: what it certified is worth nothing, and what comes after it is good.
    persona(&sites, 1, &["key", "revoke", &certificate, "--yes"]).await;
    all_say(&sites, &[0, 1], &ada, &assertion, (true, false)).await;
    let anew = async || ada.copy().certify(ADA).await.ok();
    let anew = sites.site(0).eventually("it certifies with another", anew).await;
    let assertion = anew.assert_for(SHOP, now_ms());
    all_say(&sites, &[0, 1], &ada, &assertion, (true, true)).await;
    let url = format!("{}/.well-known/browserid", sites.url(1));
    let document = ada
        .send(reqwest::Method::GET, &url, Default::default(), None)
        .await
        .text;
    assert!(!document.contains(&certificate), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_site_s_people_stay_signed_in_unless_it_was_compromised() {
    let mut sites = Sites::start(3).await;
    sites.create(2, &[ADA]).await;
    let mut ada = signed_in(&sites, 2).await;
    let assertion = certified(&mut ada).await;
    all_say(&sites, &[0, 1, 2], &ada, &assertion, (true, true)).await;
    sites.kill(2).await;
    persona(&sites, 0, &["cluster", "evict", "member-2", "--yes"]).await;
    let evicted = async |number: usize| {
        let looks = async || {
            let report = sites.site(number).client.get("/keys").await.ok()?;
            let keys = report["keys"].as_array()?.clone();
            let mut theirs = keys.iter().filter(|key| key["member"] == "member-2");
            theirs.all(|key| key["state"] == "retired").then_some(())
        };
        sites.site(number).eventually("its keys are retired", looks).await;
    };
    evicted(0).await;
    evicted(1).await;
    all_say(&sites, &[0, 1], &ada, &assertion, (true, true)).await;
    // They go on as if nothing had been: the next write gives them a cookie that another site signed.
    ada.site = sites.url(1);
    let prolonged = ada.post("prolong_session", json!({})).await;
    assert_eq!(prolonged.status.as_u16(), 200, "{prolonged:?}");
    all_say(&sites, &[0, 1], &ada, &assertion, (true, true)).await;

    // But not if its keys may be in strange hands.
    let mut bob = signed_in(&sites, 1).await;
    let assertion = certified(&mut bob).await;
    sites.kill(1).await;
    persona(
        &sites,
        0,
        &["cluster", "evict", "member-1", "--compromised", "--yes"],
    )
    .await;
    all_say(&sites, &[0], &bob, &assertion, (false, false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_site_signs_is_good_everywhere_also_while_another_is_dead() {
    let mut sites = Sites::plan(3, |_| {});
    sites.begin(0).await;
    sites.begin(1).await;
    sites.create(0, &[ADA]).await;
    sites.kill(1).await;
    sites.begin(2).await;
    sites.agree().await;
    let mut ada = sites.browser(2);
    ada.sign_in(ADA, PASSWORD).await.good();
    let assertion = certified(&mut ada).await;
    all_say(&sites, &[0, 2], &ada, &assertion, (true, true)).await;
    // And at the one that was dead, once it is back.
    sites.begin(1).await;
    all_say(&sites, &[0, 1, 2], &ada, &assertion, (true, true)).await;
}
