//! The email domain: found through a laboratory's configuration, and certifying whoever is signed in there, and nobody else.

use std::{collections::BTreeMap, net::SocketAddr};

use persona::{
    browserid::{Certificate, Domain, SigningKey},
    config::{LabConfig, SiteConfig},
    demo::{IdentityProvider, identity_provider::PASSWORD},
    idp::{Discovery, Outcome, Primary},
    listener::Listener,
    public_url::PublicUrl,
};
use rand::rng;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::visitor::{Visitor, serve};

const PAGES: &str = "http://idp.localhost:9442";

/// The domain as it runs, and where: its pages, and its host with TLS.
struct Running {
    pages: SocketAddr,
    secured: SocketAddr,
    authority: tempfile::NamedTempFile,
}

async fn idp() -> Running {
    let domain = Domain::parse("idp.localhost").expect("a domain");
    let persona = "http://persona.localhost:8081".parse().expect("a URL");
    let pages: PublicUrl = PAGES.parse().expect("a URL");
    let provider = IdentityProvider::new(domain, persona, Some(&pages)).expect("a domain");
    let authority = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(authority.path(), provider.authority_pem()).expect("written");
    let secured = Listener::bind(([127, 0, 0, 1], 0).into(), Some(provider.tls()))
        .await
        .expect("a port");
    let secured_at = secured.address().expect("an address");
    tokio::spawn(secured.serve(provider.router(), std::future::pending()));
    Running {
        pages: serve(provider.router()).await,
        secured: secured_at,
        authority,
    }
}

/// What a site with this configuration finds.
fn discovery(idp: &Running, lab: LabConfig) -> Discovery {
    let text = format!(
        r#"
        data = "data"
        site = "oslo"
        name = "oslo-1"
        addresses = ["127.0.0.1:7101"]
        listen = "127.0.0.1:7101"
        identity = "oslo.pem"
        [cluster]
        id = "000102030405060708090a0b0c0d0e0f"
        index_key = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"
        digest_key = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"
        [outbound]
        ca_file = {:?}
        "#,
        idp.authority.path()
    );
    let mut config: SiteConfig = toml::from_str(&text).expect("a configuration");
    config.lab = lab;
    config.discovery().expect("a way out")
}

fn named(idp: &Running) -> LabConfig {
    LabConfig {
        idps: BTreeMap::from([("idp.localhost".to_owned(), idp.secured)]),
        idp_pages: BTreeMap::from([("idp.localhost".to_owned(), PAGES.parse().expect("a URL"))]),
        ..LabConfig::default()
    }
}

async fn primary(discovery: &Discovery, domain: &str) -> std::sync::Arc<Primary> {
    match discovery.look_up(&Domain::parse(domain).expect("a domain")).await {
        Outcome::Primary(primary) => primary,
        other => panic!("{domain} is {other:?}"),
    }
}

async fn certify(browser: &mut Visitor, email: &str, key: &SigningKey, seconds: u64) -> (StatusCode, Value) {
    let pubkey = key.public().to_jwk().to_string();
    let wanted = json!({ "email": email, "pubkey": pubkey, "duration": seconds });
    browser.post(Some(PAGES), "/certify", &wanted).await
}

#[tokio::test]
async fn a_site_finds_it_and_its_pages_and_no_other_domain_at_once() {
    let idp = idp().await;
    let found = discovery(&idp, named(&idp));
    let primary = primary(&found, "idp.localhost").await;
    assert_eq!(primary.authority.as_str(), "idp.localhost");
    assert_eq!(primary.auth_url.as_str(), format!("{PAGES}/sign_in"));
    assert_eq!(primary.prov_url.as_str(), format!("{PAGES}/provision"));
    let nobody = found
        .look_up(&Domain::parse("example.org").expect("a domain"))
        .await;
    let Outcome::None(why) = nobody else {
        panic!("example.org is {nobody:?}");
    };
    assert_eq!(
        why.to_string(),
        "can't get public key for example.org: its name has no address"
    );
}

#[tokio::test]
async fn without_a_place_for_its_pages_they_are_at_its_own_host() {
    let idp = idp().await;
    let lab = LabConfig {
        idp_pages: BTreeMap::new(),
        ..named(&idp)
    };
    let found = discovery(&idp, lab);
    let primary = primary(&found, "idp.localhost").await;
    assert_eq!(primary.auth_url.as_str(), "https://idp.localhost/sign_in");
}

#[tokio::test]
async fn whoever_is_signed_in_there_is_certified_for_their_own_address() {
    let idp = idp().await;
    let key = SigningKey::generate(&mut rng()).expect("a key");
    let mut ada = Visitor::new(idp.pages);
    assert_eq!(
        certify(&mut ada, "ada@idp.localhost", &key, 3600).await.0,
        StatusCode::FORBIDDEN
    );
    let sign_in = |user: &str, password: &str| json!({ "user": user, "password": password });
    let (status, _) = ada.post(Some(PAGES), "/session", &sign_in("ada", "sesame")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = ada
        .post(Some(PAGES), "/session", &sign_in("ada@example.org", PASSWORD))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it speaks for no other domain");
    let (status, answer) = ada.post(Some(PAGES), "/session", &sign_in("Ada", PASSWORD)).await;
    assert_eq!(
        (status, &answer["email"]),
        (StatusCode::OK, &json!("Ada@idp.localhost"))
    );

    let (status, answer) = certify(&mut ada, "ada@idp.localhost", &key, 3600).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let text = answer["certificate"].as_str().expect("a certificate");
    let certificate = Certificate::parse(text).expect("a certificate");
    assert_eq!(certificate.issuer().as_str(), "idp.localhost");
    assert_eq!(certificate.email().typed(), "ada@idp.localhost");
    assert_eq!(certificate.public_key(), key.public());
    let lifetime_ms = certificate.expires_ms() - certificate.issued_ms();
    assert!((3_600_000..3_660_000).contains(&lifetime_ms), "{lifetime_ms}");
    let found = discovery(&idp, named(&idp));
    let known = primary(&found, "idp.localhost").await;
    certificate
        .verify(&known.keys)
        .expect("by the key that the domain publishes");

    for other in ["eve@idp.localhost", "ada@example.org", "ada"] {
        // Without a domain it is of this one.
        let expected = if other == "ada" {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(certify(&mut ada, other, &key, 3600).await.0, expected, "{other}");
    }
    let (_, answer) = certify(&mut ada, "ada@idp.localhost", &key, u64::MAX).await;
    let certificate =
        Certificate::parse(answer["certificate"].as_str().expect("a certificate")).expect("one");
    let lifetime_ms = certificate.expires_ms() - certificate.issued_ms();
    assert!(
        lifetime_ms <= 86_400_000 + 60_000,
        "a day at most, not {lifetime_ms}"
    );

    let wanted = json!({ "email": "ada@idp.localhost", "pubkey": "{}", "duration": 60 });
    assert_eq!(
        ada.post(Some(PAGES), "/certify", &wanted).await.0,
        StatusCode::BAD_REQUEST
    );
    let pubkey = key.public().to_jwk().to_string();
    let wanted = json!({ "email": "ada@idp.localhost", "pubkey": pubkey, "duration": 60 });
    for origin in [None, Some("null"), Some("http://evil.localhost:9002")] {
        assert_eq!(
            ada.post(origin, "/certify", &wanted).await.0,
            StatusCode::FORBIDDEN,
            "{origin:?}"
        );
    }
    ada.post(Some(PAGES), "/sign_out", &json!({})).await;
    assert_eq!(
        certify(&mut ada, "ada@idp.localhost", &key, 3600).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn only_the_persona_that_it_certifies_for_may_frame_it_and_only_to_certify() {
    let idp = idp().await;
    let policy = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", idp.pages))
            .await
            .expect("an answer");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .expect("text")
            .to_owned();
        policy
            .split("frame-ancestors ")
            .nth(1)
            .expect("ancestors")
            .to_owned()
    };
    assert_eq!(policy("/provision").await, "http://persona.localhost:8081");
    assert_eq!(policy("/sign_in").await, "'none'");
    assert_eq!(policy("/").await, "'none'");
    let (_, page) = Visitor::new(idp.pages).get("/sign_in").await;
    assert!(page.contains(PASSWORD), "everybody may know it");
}
