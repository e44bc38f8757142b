//! An email domain that certifies its own users, and what people of it do.

use std::collections::BTreeMap;

use persona::{
    browserid::Domain,
    config::SiteConfig,
    demo::{IdentityProvider, identity_provider},
    listener::Listener,
};
use reqwest::header::{HeaderMap, ORIGIN};
use serde_json::json;

use crate::{
    browser::{Browser, Certified, new_key},
    process::keep_secret,
    sign_up::sign_up,
    sites::{PASSWORD, PUBLIC_URL, SHOP, Sites, now_ms},
};

const DOMAIN: &str = "idp.localhost";
const PAGES: &str = "http://idp.localhost:9442";

/// The domain, until the test ends.
pub(crate) struct Primary {
    secured: std::net::SocketAddr,
    pages: std::net::SocketAddr,
    authority: tempfile::NamedTempFile,
}

impl Primary {
    pub(crate) async fn start() -> Primary {
        let domain = Domain::parse(DOMAIN).expect("a domain");
        let (persona, pages) = (PUBLIC_URL.parse(), PAGES.parse());
        let pages = pages.expect("a URL");
        let provider =
            IdentityProvider::new(domain, persona.expect("a URL"), Some(&pages)).expect("an email domain");
        let authority = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(authority.path(), provider.authority_pem()).expect("written");
        let mut at = Vec::new();
        for tls in [Some(provider.tls()), None] {
            let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).await;
            let listener = listener.expect("a port");
            at.push(listener.address().expect("an address"));
            tokio::spawn(listener.serve(provider.router(), std::future::pending()));
        }
        Primary {
            secured: at[0],
            pages: at[1],
            authority,
        }
    }

    /// A site with this configuration finds it, and no other.
    pub(crate) fn known_to(&self, config: &mut SiteConfig) {
        config.lab.idps = BTreeMap::from([(DOMAIN.to_owned(), self.secured)]);
        config.lab.idp_pages = BTreeMap::from([(DOMAIN.to_owned(), PAGES.parse().expect("a URL"))]);
        config.outbound.ca_file = Some(self.authority.path().to_owned());
    }

    /// Has a browser's key certified by the domain, for one of its users.
    pub(crate) async fn certify(&self, email: &str) -> Certified {
        let mut browser = Browser::new(&format!("http://{}", self.pages));
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, PAGES.parse().expect("a header"));
        headers.insert("content-type", "application/json".parse().expect("a header"));
        let user = json!({ "user": email, "password": identity_provider::PASSWORD });
        let key = new_key();
        let wanted = json!({ "email": email, "pubkey": key.public().to_jwk().to_string(), "duration": 3600 });
        let mut told = None;
        for (path, body) in [("/session", user), ("/certify", wanted)] {
            let url = format!("{}{path}", browser.site);
            let (method, headers) = (reqwest::Method::POST, headers.clone());
            told = Some(
                browser
                    .send(method, &url, headers, Some(body.to_string()))
                    .await
                    .good(),
            );
        }
        let told = told.expect("an answer");
        let certificate = told["certificate"].as_str().expect("a certificate").to_owned();
        keep_secret(&certificate);
        Certified { certificate, key }
    }

    /// What signs its user in at Persona itself.
    pub(crate) async fn assertion(&self, email: &str) -> String {
        self.certify(email).await.assert_for(PUBLIC_URL, now_ms())
    }

    /// Signs its user in. An account that has no other address has no password then.
    pub(crate) async fn sign_in(&self, browser: &mut Browser, email: &str) {
        let args = json!({ "assertion": self.assertion(email).await, "ephemeral": false });
        browser.post("auth_with_assertion", args).await.good();
        assert_eq!(browser.level().await.as_deref(), Some("assertion"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_domain_vouches_for_them_needs_no_password() {
    let primary = Primary::start().await;
    let sites = Sites::one_with(|config| primary.known_to(config)).await;
    let mut eve = sites.browser(0);
    let info = eve
        .get("address_info", &[("email", "eve@idp.localhost")])
        .await
        .good();
    assert_eq!(
        (info["type"].as_str(), info["state"].as_str()),
        (Some("primary"), Some("unknown"))
    );
    primary.sign_in(&mut eve, "eve@idp.localhost").await;
    let context = eve.context().await;
    assert_eq!(
        (&context["has_password"], &context["auth_level"]),
        (&json!(false), &json!("assertion"))
    );
    assert_eq!(context["emails"], json!(["eve@idp.localhost"]));
    // Her own domain certifies her, and we do not.
    eve.certify("eve@idp.localhost")
        .await
        .err()
        .expect("no certificate")
        .refused(400, "not-signed-in");
    let verdict = primary
        .certify("eve@idp.localhost")
        .await
        .assert_for(SHOP, now_ms());
    let verdict = eve.verify(&verdict, SHOP).await;
    assert_eq!(
        (&verdict["status"], &verdict["issuer"]),
        (&json!("okay"), &json!("idp.localhost"))
    );
    // An assertion for somebody else is none for us, and one of ours none of hers.
    let other = primary
        .certify("eve@idp.localhost")
        .await
        .assert_for(SHOP, now_ms());
    let args = json!({ "assertion": other, "ephemeral": false });
    sites
        .browser(0)
        .post("auth_with_assertion", args)
        .await
        .refused(200, "bad-assertion");

    // The first address of ours takes a first password, and the second takes none.
    let without = json!({ "email": "eve@shop.invalid", "site": SHOP });
    eve.post("stage_email", without)
        .await
        .refused(401, "password-needed");
    let with = json!({ "email": "eve@shop.invalid", "site": SHOP, "pass": PASSWORD });
    eve.post("stage_email", with).await.good();
    let letter = sites.mailbox.next("eve@shop.invalid", 0).await;
    let mut elsewhere = sites.browser(0);
    let token = letter.token();
    elsewhere
        .post("complete_email_confirmation", json!({ "token": token }))
        .await
        .refused(401, "password-needed");
    let completed = elsewhere
        .post(
            "complete_email_confirmation",
            json!({ "token": token, "pass": PASSWORD }),
        )
        .await
        .good();
    assert_eq!(
        completed["signed_in"], true,
        "who gives the first password is signed in: {completed}"
    );
    assert_eq!(elsewhere.level().await.as_deref(), Some("password"));
    assert_eq!(
        eve.level().await.as_deref(),
        Some("assertion"),
        "and nobody is signed out"
    );
    elsewhere
        .certify("eve@shop.invalid")
        .await
        .expect("a certificate");
    let refused = elsewhere
        .certify("eve@idp.localhost")
        .await
        .err()
        .expect("no certificate");
    refused.refused(403, "primary");
    let again = json!({ "email": "more@shop.invalid", "site": SHOP, "pass": PASSWORD });
    elsewhere
        .post("stage_email", again)
        .await
        .refused(409, "has-password");

    // Somebody with a password adds an address of that domain; that moves it to them.
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, "ada@shop.invalid").await;
    let args = json!({ "email": "eve@idp.localhost" });
    ada.post("used_address_as_primary", args.clone())
        .await
        .refused(409, "address-not-held");
    let assertion = primary.assertion("eve@idp.localhost").await;
    ada.post("add_email_with_assertion", json!({ "assertion": assertion }))
        .await
        .good();
    ada.post("used_address_as_primary", args).await.good();
    let emails = ada.get("list_emails", &[]).await.good();
    assert_eq!(emails["emails"].as_array().map(Vec::len), Some(2), "{emails}");
    let emails = eve.get("list_emails", &[]).await.good();
    assert_eq!(emails["emails"], json!(["eve@shop.invalid"]));
}
