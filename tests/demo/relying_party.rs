//! The web site: nobody is signed in but by an assertion that this browser asked for, from the site's own page.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Json, Router, extract::State, response::IntoResponse, routing::post};
use persona::demo::RelyingParty;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::visitor::{Visitor, serve};

const SHOP: &str = "http://rp.localhost:9001";

/// A Persona that believes what assertions say: `EMAIL|NONCE|AUDIENCE`. It may be told to fail once.
async fn gullible(fails_once: Arc<AtomicBool>) -> SocketAddr {
    async fn verify(
        State(fails): State<Arc<AtomicBool>>,
        Json(asked): Json<Value>,
    ) -> axum::response::Response {
        if fails.swap(false, Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        assert_eq!(asked["audience"], SHOP);
        let said: Vec<_> = asked["assertion"].as_str().expect("text").split('|').collect();
        let [email, nonce, audience] = said[..] else {
            return Json(json!({ "status": "failure", "reason": "malformed backed assertion" }))
                .into_response();
        };
        let verdict = json!({
            "status": "okay", "email": email, "nonce": nonce, "audience": audience,
            "expires": 1, "issuer": "persona.example",
        });
        Json(verdict).into_response()
    }
    serve(
        Router::new()
            .route("/verify", post(verify))
            .with_state(fails_once),
    )
    .await
}

async fn shop(fails_once: &Arc<AtomicBool>) -> SocketAddr {
    let persona = gullible(fails_once.clone()).await;
    let persona = format!("http://{persona}").parse().expect("a URL");
    let shop = RelyingParty::new(SHOP.parse().expect("a URL"), persona).expect("a site");
    serve(shop.router()).await
}

async fn nonce(browser: &mut Visitor) -> String {
    let (_, page) = browser.get("/").await;
    let (_, rest) = page.split_once("data-nonce=\"").expect("a nonce");
    rest.split('"').next().expect("its end").to_owned()
}

async fn login(browser: &mut Visitor, origin: Option<&str>, assertion: &str) -> (StatusCode, String) {
    let (status, answer) = browser
        .post(origin, "/login", &json!({ "assertion": assertion }))
        .await;
    (status, answer["reason"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn who_asked_here_is_signed_in_with_a_new_session_and_once() {
    let shop = shop(&Arc::default()).await;
    let mut ada = Visitor::new(shop);
    let nonce_of_ada = nonce(&mut ada).await;
    assert_eq!(nonce(&mut ada).await, nonce_of_ada, "a session has one");
    // Somebody who saw the cookie before knows nothing after.
    let mut thief = ada.clone();
    let assertion = format!("ada@example.org|{nonce_of_ada}|{SHOP}");
    let (status, reason) = login(&mut ada, Some(SHOP), &assertion).await;
    assert_eq!(status, StatusCode::OK, "{reason}");
    assert!(ada.get("/").await.1.contains("data-user=\"ada@example.org\""));
    assert!(!thief.get("/").await.1.contains("ada@example.org"));
    let (status, reason) = login(&mut ada, Some(SHOP), &assertion).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(reason.contains("used before"), "{reason}");

    let (status, _) = ada
        .post(Some("http://evil.localhost:9002"), "/logout", &json!({}))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        ada.get("/").await.1.contains("ada@example.org"),
        "nobody else signs her out"
    );
    let (status, _) = ada.post(Some(SHOP), "/logout", &json!({})).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(!ada.get("/").await.1.contains("ada@example.org"));
}

#[tokio::test]
async fn an_assertion_from_elsewhere_signs_nobody_in() {
    let shop = shop(&Arc::default()).await;
    let mut ada = Visitor::new(shop);
    let mut eve = Visitor::new(shop);
    let (nonce_of_ada, nonce_of_eve) = (nonce(&mut ada).await, nonce(&mut eve).await);
    let good = format!("ada@example.org|{nonce_of_ada}|{SHOP}");
    let refused =
        async |browser: &mut Visitor, origin: Option<&str>, assertion: &str, expected: StatusCode| {
            let (status, reason) = login(browser, origin, assertion).await;
            assert_eq!(status, expected, "{assertion}: {reason}");
            assert!(!browser.get("/").await.1.contains("data-user"), "{assertion}");
        };
    for other in [
        None,
        Some("null"),
        Some("http://evil.localhost:9002"),
        Some("http://rp.localhost"),
    ] {
        refused(&mut ada, other, &good, StatusCode::FORBIDDEN).await;
    }
    refused(&mut Visitor::new(shop), Some(SHOP), &good, StatusCode::FORBIDDEN).await;
    // Login CSRF: Eve's assertion, shown by Ada's browser.
    let eves = format!("eve@example.org|{nonce_of_eve}|{SHOP}");
    refused(&mut ada, Some(SHOP), &eves, StatusCode::UNAUTHORIZED).await;
    let elsewhere = format!("ada@example.org|{nonce_of_ada}|http://evil.localhost:9002");
    refused(&mut ada, Some(SHOP), &elsewhere, StatusCode::UNAUTHORIZED).await;
    refused(&mut ada, Some(SHOP), "nonsense", StatusCode::UNAUTHORIZED).await;
    let (status, _) = login(&mut ada, Some(SHOP), &good).await;
    assert_eq!(status, StatusCode::OK, "after all that she still may");
}

#[tokio::test]
async fn a_data_center_that_goes_away_while_it_is_asked_is_asked_again() {
    let fails_once = Arc::new(AtomicBool::new(true));
    let shop = shop(&fails_once).await;
    let mut ada = Visitor::new(shop);
    let assertion = format!("ada@example.org|{}|{SHOP}", nonce(&mut ada).await);
    assert_eq!(login(&mut ada, Some(SHOP), &assertion).await.0, StatusCode::OK);
    assert!(!fails_once.load(Ordering::SeqCst), "it was asked twice");
}

#[tokio::test]
async fn each_page_has_the_headers_that_it_is_about() {
    let shop = shop(&Arc::default()).await;
    let headers = async |path: &str| {
        let answer = reqwest::get(format!("http://{shop}{path}"))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let of = |name: &str| {
            answer
                .headers()
                .get(name)
                .map_or("", |value| value.to_str().expect("text"))
                .to_owned()
        };
        let policy = of("content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        [
            of("cross-origin-opener-policy"),
            of("cross-origin-embedder-policy"),
            of("referrer-policy"),
        ]
    };
    assert_eq!(headers("/").await, ["", "", "strict-origin"]);
    assert_eq!(
        headers("/redirect").await,
        ["same-origin", "credentialless", "strict-origin"]
    );
    assert_eq!(
        headers("/opener-policy").await,
        ["same-origin", "", "strict-origin"]
    );
    assert_eq!(headers("/no-referrer").await, ["", "", "no-referrer"]);
}
