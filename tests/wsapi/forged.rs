//! Tokens that are not what they seem, over HTTP: a session's cookie, a certificate, an assertion, a primary's certificate.
//!
//! Each is made from a good one with the very key that signs the good ones, where a forger could only wish for it: so what is
//! refused is refused for the one thing that is wrong.

use std::{fs, path::Path};

use aws_lc_rs::hmac;
use persona::browserid::{
    NewAssertion, PublicKey, SigningKey,
    json::{decode_base64url, encode_base64url},
};
use rand::rng;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    idp::Idps,
    sites::{PASSWORD, PUBLIC_URL, SHOP, Sites, now_ms},
};

const ADA: &str = "ada@shop.invalid";

/// The three parts of a token, read.
struct Parts {
    header: Value,
    claims: Value,
}

fn parts(token: &str) -> Parts {
    let read = |part: &str| {
        let bytes = decode_base64url(part).expect("base64url");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let mut parts = token.split('.');
    Parts {
        header: read(parts.next().expect("a header")),
        claims: read(parts.next().expect("claims")),
    }
}

/// These words, signed.
fn signed(header: &str, claims: &str, key: &SigningKey) -> String {
    let message = format!("{}.{}", encode_base64url(header), encode_base64url(claims));
    let signature = key.sign(message.as_bytes()).expect("a signature");
    format!("{message}.{}", encode_base64url(signature))
}

/// A JSON object with a member said twice, the second time as it is.
fn twice(object: &Value, member: &str, first: &Value) -> String {
    let text = object.to_string();
    format!("{{{}:{first},{}", json!(member), &text[1..])
}

/// Every forgery of a token that this key signs, by name; `other` is a kind of token that it also could sign.
fn forgeries(token: &str, key: &SigningKey, other: &str) -> Vec<(&'static str, String)> {
    let Parts { header, claims } = parts(token);
    let stranger = SigningKey::generate(&mut rng()).expect("a key");
    let text = claims.to_string();
    let with = |member: &str, value: Value| {
        let mut changed = header.clone();
        changed[member] = value;
        changed.to_string()
    };
    let good = signed(&header.to_string(), &text, key);
    let (message, signature) = good.rsplit_once('.').expect("a signature");
    let signature = decode_base64url(signature).expect("base64url");
    let resigned = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = signature.clone();
        change(&mut bytes);
        format!("{message}.{}", encode_base64url(bytes))
    };
    let unsigned = |header: &str| format!("{}.{}.", encode_base64url(header), encode_base64url(&text));
    let PublicKey::P256(point) = key.public() else {
        panic!("a P-256 key")
    };
    let by_hmac = |secret: &[u8]| {
        let message = format!(
            "{}.{}",
            encode_base64url(with("alg", json!("HS256"))),
            encode_base64url(&text)
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", encode_base64url(tag))
    };
    let mut brought: Value = header.clone();
    brought["jwk"] = stranger.public().to_jwk();
    let mut all = vec![
        ("none", unsigned(&with("alg", json!("none")))),
        ("None", unsigned(&with("alg", json!("None")))),
        (
            "none, with a signature",
            signed(&with("alg", json!("none")), &text, key),
        ),
        ("no signature", unsigned(&header.to_string())),
        ("HS256 with our public key", by_hmac(&point.to_sec1())),
        (
            "HS256 with our public key as it is published",
            by_hmac(key.public().to_jwk().to_string().as_bytes()),
        ),
        ("another kind", signed(&with("typ", json!(other)), &text, key)),
        (
            "a stranger's signature",
            signed(&header.to_string(), &text, &stranger),
        ),
        (
            "a key brought along",
            signed(&brought.to_string(), &text, &stranger),
        ),
        (
            "a key brought along, in vain",
            signed(&brought.to_string(), &text, key),
        ),
        (
            "where to find a key",
            signed(&with("jku", json!("https://evil.example/keys")), &text, key),
        ),
        ("a chain", signed(&with("x5c", json!([])), &text, key)),
        (
            "something critical",
            signed(&with("crit", json!(["exp"])), &text, key),
        ),
        ("r = 0", resigned(&|bytes| bytes[..32].fill(0))),
        ("s = 0", resigned(&|bytes| bytes[32..].fill(0))),
        ("r = s = 0", resigned(&|bytes| bytes.fill(0))),
        ("r and s too great", resigned(&|bytes| bytes.fill(0xff))),
        ("one bit", resigned(&|bytes| bytes[63] ^= 1)),
        ("a signature cut short", resigned(&|bytes| bytes.truncate(63))),
        ("padding", format!("{good}=")),
        ("two signs of padding", format!("{good}==")),
        (
            "a header twice",
            signed(&twice(&header, "alg", &json!("none")), &text, key),
        ),
        (
            "a claim twice",
            signed(&header.to_string(), &twice(&claims, "exp", &json!(1)), key),
        ),
        ("a fourth part", format!("{good}.AAAA")),
    ];
    if header.get("kid").is_some() {
        let theirs = with("kid", json!(stranger.kid()));
        all.push(("a stranger's kid", signed(&theirs, &text, &stranger)));
        let mut nameless = header.clone();
        nameless.as_object_mut().expect("an object").remove("kid");
        all.push(("no kid", signed(&nameless.to_string(), &text, key)));
    }
    all
}

/// A site's private key for a use.
fn private(directory: &Path, usage: &str) -> SigningKey {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("keys")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pem"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(usage))
        })
        .collect();
    files.sort();
    let pem = fs::read_to_string(files.first().expect("a key")).expect("read");
    SigningKey::from_pem(&pem).expect("a key")
}

async fn signed_in(sites: &Sites) -> Browser {
    sites.create(0, &[ADA]).await;
    let mut ada = sites.browser(0);
    ada.sign_in(ADA, PASSWORD).await.good();
    ada
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_no_secure_webhead_signed_signs_nobody_in() {
    let sites = Sites::one().await;
    let ada = signed_in(&sites).await;
    let cookie = ada.cookies["persona_session"].clone();
    let (sessions, certificates) = (
        private(&sites.keys(0), "session"),
        private(&sites.keys(0), "certificate"),
    );
    // The same words signed anew are a session: it is not the way of signing that is refused below.
    let Parts { header, claims } = parts(&cookie);
    let good = signed(&header.to_string(), &claims.to_string(), &sessions);
    let level = async |cookie: String| {
        let mut thief = sites.browser(0);
        thief.cookies.insert("persona_session".to_owned(), cookie);
        let listed = thief.get("list_emails", &[]).await;
        (listed.status.as_u16(), thief.get("session_context", &[]).await)
    };
    assert_eq!(level(good).await.0, 200);
    let mut forged = forgeries(&cookie, &sessions, "persona-device+jwt");
    let mut by_the_other = header.clone();
    by_the_other["kid"] = json!(certificates.kid());
    forged.push((
        "our own key for certificates",
        signed(&by_the_other.to_string(), &claims.to_string(), &certificates),
    ));
    forged.push((
        "our own key for certificates, under the other's name",
        signed(&header.to_string(), &claims.to_string(), &certificates),
    ));
    let device = ada.cookies["persona_device"].clone();
    forged.push(("a device's cookie", device));
    for (what, cookie) in forged {
        let (status, context) = level(cookie).await;
        // A key that nobody here knows may be a new one: whoever says so is asked to come again, and is not signed in.
        let unknown = status == 503 && context.status == 503;
        let nobody = status == 400 && context.json()["authenticated"] == false;
        assert!(unknown || nobody, "{what}: {status} {context:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_that_is_not_what_it_seems_proves_nothing() {
    let sites = Sites::one().await;
    let mut ada = signed_in(&sites).await;
    let (sessions, certificates) = (
        private(&sites.keys(0), "session"),
        private(&sites.keys(0), "certificate"),
    );
    let user = SigningKey::generate(&mut rng()).expect("a key");
    let wish = json!({ "email": ADA, "pubkey": user.public().to_jwk().to_string(), "ephemeral": false });
    let certificate = ada.post("cert_key", wish).await.text;
    let backed = |certificate: &str| {
        let assertion = NewAssertion {
            audience: SHOP,
            expires_ms: now_ms() + 120_000,
            nonce: None,
        };
        assertion.back(certificate, &user).expect("an assertion")
    };
    let whole = backed(&certificate);
    let (_, assertion) = whole.split_once('~').expect("two parts");
    let Parts { header, claims } = parts(&certificate);
    let good = signed(&header.to_string(), &claims.to_string(), &certificates);
    assert_eq!(ada.verify(&backed(&good), SHOP).await["status"], "okay");
    assert_eq!(ada.verify(&whole, SHOP).await["status"], "okay");

    let mut forged: Vec<(String, String)> = Vec::new();
    for (what, certificate) in forgeries(&certificate, &certificates, "persona-session+jwt") {
        forged.push((format!("certificate: {what}"), backed(&certificate)));
    }
    let mut by_the_other = header.clone();
    by_the_other["kid"] = json!(sessions.kid());
    for header in [&by_the_other, &header] {
        let certificate = signed(&header.to_string(), &claims.to_string(), &sessions);
        forged.push((
            "certificate: our own key for sessions".to_owned(),
            backed(&certificate),
        ));
    }
    forged.push((
        "a session for a certificate".to_owned(),
        backed(&ada.cookies["persona_session"]),
    ));
    let kind = header["typ"].as_str().expect("a kind");
    for (what, assertion) in forgeries(assertion, &user, kind) {
        forged.push((format!("assertion: {what}"), format!("{certificate}~{assertion}")));
    }
    forged.push((
        "two certificates".to_owned(),
        format!("{certificate}~{certificate}~{assertion}"),
    ));
    forged.push(("no assertion".to_owned(), format!("{certificate}~")));
    forged.push(("no certificate".to_owned(), assertion.to_owned()));
    assert!(forged.len() > 50);
    for (what, assertion) in forged {
        let verdict = ada.verify(&assertion, SHOP).await;
        assert_eq!(verdict["status"], "failure", "{what}: {verdict}");
        assert!(verdict.get("email").is_none(), "{what}: {verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_s_assertion_that_is_not_what_it_seems_signs_nobody_in() {
    let idps = Idps::start(&["idp.test", "other.test"]).await;
    let sites = Sites::finding(1, &idps).await;
    let eve = "eve@idp.test";
    let (user, certificate) = idps.certify(eve, now_ms());
    let backed = |certificate: &str, user: &SigningKey| {
        let assertion = NewAssertion {
            audience: PUBLIC_URL,
            expires_ms: now_ms() + 120_000,
            nonce: None,
        };
        assertion.back(certificate, user).expect("an assertion")
    };
    let sign_in = async |assertion: String| {
        let mut browser = sites.browser(0);
        let by = json!({ "assertion": assertion, "ephemeral": false });
        let reply = browser.post("auth_with_assertion", by).await;
        (browser.cookies.contains_key("persona_session"), reply)
    };
    let (is_in, reply) = sign_in(backed(&certificate, &user)).await;
    assert!(is_in, "{reply:?}");
    let mut forged: Vec<(String, String)> = Vec::new();
    for (what, certificate) in forgeries(&certificate, &idps.key, "persona-session+jwt") {
        // Another domain's key may have any name, and none: it is the domain's own list that counts.
        if what != "no kid" {
            forged.push((format!("certificate: {what}"), backed(&certificate, &user)));
        }
    }
    let whole = backed(&certificate, &user);
    let (_, assertion) = whole.split_once('~').expect("two parts");
    for (what, assertion) in forgeries(assertion, &user, "browserid-certificate+jwt") {
        forged.push((format!("assertion: {what}"), format!("{certificate}~{assertion}")));
    }
    // A domain speaks for its own users only, and our own certificates sign nobody in here.
    let (other, theirs) = idps.certify("eve@other.test", now_ms());
    let Parts { header, claims } = parts(&theirs);
    let mut claims: Value = claims;
    claims["principal"]["email"] = json!(eve);
    let crossed = signed(&header.to_string(), &claims.to_string(), &idps.key);
    forged.push(("another domain's user".to_owned(), backed(&crossed, &other)));
    for (what, assertion) in forged {
        let (is_in, reply) = sign_in(assertion).await;
        assert!(!is_in && reply.json()["success"] == false, "{what}: {reply:?}");
        assert!(reply.status.as_u16() < 500, "{what}: {reply:?}");
    }
}
