//! Domains that certify their own users, as their users meet them: also when a domain begins to, or changes its mind.
//!
//! Everything is set up at the first site and looked at from the second, which has asked none of the domains yet: what one
//! site remembers of a domain is good for its time.

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    idp::{Idps, Says},
    sign_up::sign_up,
    sites::{PASSWORD, PUBLIC_URL, SHOP, Sites, now_ms},
};

/// Signs in, or up, by an assertion.
async fn by_assertion(browser: &mut Browser, idps: &Idps, email: &str) {
    let assertion = idps.assertion(email, PUBLIC_URL, now_ms());
    let by = json!({ "assertion": assertion, "ephemeral": false });
    browser.post("auth_with_assertion", by).await.good();
}

async fn add(browser: &mut Browser, idps: &Idps, email: &str) {
    let assertion = idps.assertion(email, PUBLIC_URL, now_ms());
    let added = browser.post("add_email_with_assertion", json!({ "assertion": assertion }));
    added.await.good();
}

async fn info(browser: &mut Browser, email: &str) -> Value {
    browser.get("address_info", &[("email", email)]).await.good()
}

/// Type, state and issuer, when they have come to be so: what one site writes is at the other soon.
async fn becomes(sites: &Sites, number: usize, email: &str, expected: (&str, &str, &str)) {
    let looks = async || {
        let mut browser = sites.browser(number);
        let info = info(&mut browser, email).await;
        let found = (
            info["type"].as_str()?,
            info["state"].as_str()?,
            info["issuer"].as_str()?,
        );
        (found == expected).then_some(())
    };
    let what = format!("{email} is {expected:?}");
    sites.site(number).eventually(&what, looks).await;
}

const US: &str = "persona.localhost";

#[tokio::test(flavor = "multi_thread")]
async fn an_address_s_state_follows_from_its_domain_and_its_account() {
    let idps = Idps::start(&["a.test", "b.test", "c.test", "d.test", "e.test", "f.test"]).await;
    let sites = Sites::finding(2, &idps).await;

    // Nobody has them.
    becomes(&sites, 0, "new@a.test", ("primary", "unknown", "a.test")).await;
    becomes(&sites, 0, "new@shop.invalid", ("secondary", "unknown", US)).await;
    // A domain's own user, and one of ours.
    let mut ann = sites.browser(0);
    by_assertion(&mut ann, &idps, "ann@a.test").await;
    assert_eq!(ann.level().await.as_deref(), Some("assertion"));
    becomes(&sites, 0, "ann@a.test", ("primary", "known", "a.test")).await;
    let mut bob = sites.browser(0);
    sign_up(&mut bob, &sites, "bob@shop.invalid").await;
    becomes(&sites, 0, "bob@shop.invalid", ("secondary", "known", US)).await;
    let info_of_ann = info(&mut ann, "ann@a.test").await;
    assert_eq!(info_of_ann["auth"], "https://a.test/sign_in", "{info_of_ann}");
    assert_eq!(info_of_ann["prov"], "https://a.test/provision");

    // Ours, until the domain begins: then it is the domain's, and we certify it no longer.
    let mut cat = sites.browser(0);
    sign_up(&mut cat, &sites, "cat@b.test").await;
    cat.certify("cat@b.test").await.expect("a certificate");
    becomes(
        &sites,
        0,
        "cat@b.test",
        ("primary", "transition_to_primary", "b.test"),
    )
    .await;
    let never = async || cat.copy().certify("cat@b.test").await.err();
    let refused = sites.site(0).eventually("the domain was seen", never).await;
    refused.refused(403, "primary");
    cat.post("used_address_as_primary", json!({ "email": "cat@b.test" }))
        .await
        .good();
    becomes(&sites, 0, "cat@b.test", ("primary", "known", "b.test")).await;

    // A domain that says that it certifies nobody any more: who has a password goes on with it, others choose one.
    let mut dan = sites.browser(0);
    sign_up(&mut dan, &sites, "dan@shop.invalid").await;
    add(&mut dan, &idps, "dan@c.test").await;
    becomes(&sites, 0, "dan@c.test", ("primary", "known", "c.test")).await;
    let mut deb = sites.browser(0);
    sign_up(&mut deb, &sites, "deb@shop.invalid").await;
    add(&mut deb, &idps, "deb@c.test").await;
    let mut eve = sites.browser(0);
    by_assertion(&mut eve, &idps, "eve@c.test").await;
    idps.say("c.test", Says::Disabled);
    becomes(
        &sites,
        1,
        "dan@c.test",
        ("secondary", "transition_to_secondary", US),
    )
    .await;
    becomes(
        &sites,
        1,
        "eve@c.test",
        ("secondary", "transition_no_password", US),
    )
    .await;
    let said = info(&mut sites.browser(1), "dan@c.test").await;
    assert_eq!(said["disabled"], true, "{said}");
    // That it was seen once counts no more: it says so itself.
    dan.site = sites.url(1);
    let forgotten = async || dan.copy().certify("dan@c.test").await.ok();
    let certified = sites.site(1).eventually("it is forgotten", forgotten).await;
    let verdict = dan.verify(&certified.assert_for(SHOP, now_ms()), SHOP).await;
    assert_eq!(
        (&verdict["status"], &verdict["issuer"]),
        (&json!("okay"), &json!(US)),
        "{verdict}"
    );
    // Whoever went on with it is not told again.
    let again = json!({ "email": "dan@c.test", "pass": PASSWORD });
    sites.browser(1).post("authenticate_user", again).await.good();
    becomes(&sites, 1, "dan@c.test", ("secondary", "known", US)).await;
    let staged = json!({ "email": "eve@c.test", "pass": PASSWORD, "site": SHOP });
    eve.site = sites.url(1);
    eve.post("stage_transition", staged).await.good();
    let letter = sites.mailbox.next("eve@c.test", 0).await;
    let done = json!({ "token": letter.token() });
    eve.post("complete_transition", done).await.good();
    assert_eq!(eve.level().await.as_deref(), Some("password"));
    eve.certify("eve@c.test").await.expect("a certificate");

    // One that is gone without a word stays what it was: people wait, and the fallback certifies nobody.
    let mut fay = sites.browser(0);
    sign_up(&mut fay, &sites, "fay@shop.invalid").await;
    add(&mut fay, &idps, "fay@d.test").await;
    becomes(&sites, 0, "fay@d.test", ("primary", "known", "d.test")).await;
    idps.say("d.test", Says::Nothing);
    becomes(&sites, 1, "fay@d.test", ("secondary", "offline", US)).await;
    fay.site = sites.url(1);
    fay.certify("fay@shop.invalid")
        .await
        .expect("the other address is ours");
    let refused = fay
        .certify("fay@d.test")
        .await
        .err()
        .expect("within the grace period");
    refused.refused(403, "primary");
    fay.site = sites.url(0);
    let refused = fay.certify("fay@d.test").await.err().expect("at no site");
    refused.refused(403, "primary");
    // Nor has who signs in with a password meanwhile taken it from its domain. (What is noted of a sign-in is noted behind its
    // answer: of a later one it is there.)
    let mut again = sites.browser(1);
    for email in ["fay@d.test", "deb@c.test"] {
        let credentials = json!({ "email": email, "pass": PASSWORD });
        again.post("authenticate_user", credentials).await.good();
    }
    becomes(&sites, 1, "deb@c.test", ("secondary", "known", US)).await;
    fay.site = sites.url(1);
    let details = fay.get("account_details", &[]).await.good();
    let emails = details["emails"].as_array().expect("a list");
    let of_domain = emails.iter().find(|held| held["email"] == "fay@d.test");
    assert_eq!(of_domain.expect("it is hers")["type"], "primary", "{details}");
    fay.site = sites.url(0);
    // Nor does a relying party believe anybody else for it.
    let assertion = idps.assertion("fay@e.test", SHOP, now_ms());
    let mut shop = sites.browser(1);
    let verdict = shop.verify(&assertion, SHOP).await;
    assert_eq!(
        (&verdict["status"], &verdict["issuer"]),
        (&json!("okay"), &json!("e.test"))
    );
    idps.say("f.test", Says::Nothing);
    let gone = idps.assertion("guy@f.test", SHOP, now_ms());
    let verdict = shop.verify(&gone, SHOP).await;
    assert_eq!(verdict["status"], "failure", "{verdict}");

    // Each site has asked each domain once; one that said nothing perhaps again, after a minute.
    assert!(idps.asked() <= 2 * 6 + 8, "{}", idps.asked());

    // After a reset by one address, another one of ours waits for its proof.
    sites.create(0, &["hal@shop.invalid", "hal@work.invalid"]).await;
    let mut hal = sites.browser(0);
    let staged = json!({ "email": "hal@shop.invalid", "site": SHOP });
    hal.post("stage_reset", staged).await.good();
    let letter = sites.mailbox.next("hal@shop.invalid", 0).await;
    let reset = json!({ "token": letter.token(), "pass": "another horse battery" });
    hal.post("complete_reset", reset).await.good();
    becomes(&sites, 0, "hal@work.invalid", ("secondary", "unverified", US)).await;
    becomes(&sites, 1, "hal@work.invalid", ("secondary", "unverified", US)).await;
}
