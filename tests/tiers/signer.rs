//! The keysigner, asked directly with a webhead's certificate: it believes nothing that it is told.

use std::{path::Path, sync::Arc};

use persona::{
    browserid::{SigningKey, json::encode_base64url},
    tiers::Tier,
};
use rand::rng;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    idp::Idps,
    parts::{PASSWORD, PUBLIC_URL, Parts, SHOP, now_ms},
    wire::{Heard, ask, client},
};

const NEXT: &str = "another horse battery";

/// A webhead that asks the keysigner what it likes.
struct Asking<'p> {
    parts: &'p Parts,
    webhead: Arc<ClientConfig>,
}

impl Asking<'_> {
    async fn ask(&self, cookies: &str, body: &Value) -> Heard {
        let keysigner = (
            Tier::Keysigner,
            self.parts.at(Tier::Keysigner).expect("a listener"),
        );
        let head = format!(
            "POST /wsapi/cert_key HTTP/1.1\r\nContent-Type: application/json\r\nX-Persona-Client: \
             127.0.0.1\r\nCookie: {cookies}"
        );
        let heard = ask(&self.webhead, keysigner, &head, body.to_string().as_bytes()).await;
        heard.expect("an answer")
    }

    #[track_caller]
    fn expect(heard: &Heard, what: &str, status: u16, code: &str) {
        let text = String::from_utf8_lossy(&heard.body);
        assert!(!text.starts_with("eyJ"), "{what}: a certificate");
        let json: Value = serde_json::from_slice(&heard.body).unwrap_or_default();
        assert_eq!(
            (heard.status, json["code"].as_str()),
            (status, Some(code)),
            "{what}: {text}"
        );
    }

    /// A browser's own words, but for what the keysigner is asked for.
    async fn refuses(&self, what: &str, browser: &mut Browser, arguments: Value, status: u16, code: &str) {
        let wish = with_csrf(browser, arguments).await;
        let heard = self.ask(&browser.cookie_header(), &wish).await;
        Asking::expect(&heard, what, status, code);
    }
}

async fn with_csrf(browser: &mut Browser, mut arguments: Value) -> Value {
    arguments["csrf"] = browser.context().await["csrf_token"].clone();
    arguments
}

/// An account of these addresses, made by an operator, and a browser that is signed in to it.
async fn account(parts: &Parts, emails: &[&str]) -> Browser {
    let operator = &parts.part(Tier::Replica).client;
    let made = json!({ "address": emails[0], "password": PASSWORD });
    let made = operator.post("/accounts", made).await.expect("an account");
    let account = made["account"].as_str().expect("its id");
    for email in &emails[1..] {
        let path = format!("/accounts/{account}/emails");
        let added = operator.post(&path, json!({ "address": email })).await;
        added.expect("added");
    }
    let mut browser = parts.browser();
    browser.sign_in(emails[0], PASSWORD).await.good();
    browser
}

fn key() -> String {
    let key = SigningKey::generate(&mut rng()).expect("a key");
    key.public().to_jwk().to_string()
}

fn wish(email: &str) -> Value {
    json!({ "email": email, "pubkey": key(), "ephemeral": false })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keysigner_checks_everything_itself() {
    let idps = Idps::start(&["idp.test"]).await;
    let parts = Parts::plan(&idps.lab(), Some(&idps.authority_file()));
    persona::tiers::certificates::certify("site-0", &parts.tiers()).expect("certificates");
    let parts = parts.run().await;
    let asking = Asking {
        parts: &parts,
        webhead: client(&parts.pem("authority"), Some(&parts.pem("webhead"))),
    };
    let (ada, work, bob) = ("ada@shop.invalid", "ada@work.invalid", "bob@shop.invalid");
    let mut browser = account(&parts, &[ada, work]).await;
    account(&parts, &[bob]).await;

    // What is right gets a certificate, so what is refused below is refused for what is wrong with it.
    let good = with_csrf(&mut browser, wish(ada)).await;
    let heard = asking.ask(&browser.cookie_header(), &good).await;
    assert!(heard.status == 200 && heard.body.starts_with(b"eyJ"), "{heard:?}");

    // Who asks.
    let nobody = &mut parts.browser();
    asking
        .refuses("nobody is signed in", nobody, wish(ada), 400, "not-signed-in")
        .await;
    let heard = asking.ask("", &good).await;
    Asking::expect(&heard, "no cookie", 403, "no-cookie");
    let mut wrong = good.clone();
    wrong["csrf"] = json!(encode_base64url([9; 16]));
    let heard = asking.ask(&browser.cookie_header(), &wrong).await;
    Asking::expect(&heard, "another's CSRF value", 400, "csrf");
    let session = browser.cookies["persona_session"].clone();
    let twice = format!("persona_session={session}; persona_session={session}");
    let heard = asking.ask(&twice, &good).await;
    Asking::expect(&heard, "two sessions", 403, "no-cookie");
    let mut broken = session.clone();
    broken.replace_range(broken.len() - 8..broken.len() - 4, "AAAA");
    let visit = encode_base64url([9; 16]);
    let mut said = good.clone();
    said["csrf"] = json!(visit);
    let heard = asking
        .ask(&format!("persona_session={broken}; persona_visit={visit}"), &said)
        .await;
    Asking::expect(&heard, "a signature that is none", 400, "not-signed-in");

    // For whom.
    for email in [bob, "nobody@shop.invalid"] {
        asking
            .refuses("not theirs", &mut browser, wish(email), 400, "not-yours")
            .await;
    }

    // What for.
    let p256 = |x: &str, y: &str| json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }).to_string();
    let zero = encode_base64url([0; 32]);
    let rsa = json!({ "kty": "RSA", "n": encode_base64url([0xc1; 256]), "e": "AQAB" }).to_string();
    let doubled = key().replace("\"kty\":\"EC\"", "\"kty\":\"EC\",\"kty\":\"EC\"");
    for (what, pubkey) in [
        ("a point that is not on the curve", p256(&zero, &zero)),
        ("half a point", p256(&zero, "")),
        ("an RSA key", rsa),
        (
            "a key of the original",
            r#"{"algorithm":"DS","y":"11","p":"22","q":"33","g":"44","and":"so on and so on"}"#.to_owned(),
        ),
        ("a member twice", doubled),
        ("no JSON", "x".repeat(100)),
    ] {
        let mut wish = wish(ada);
        wish["pubkey"] = json!(pubkey);
        asking
            .refuses(what, &mut browser, wish, 400, "bad-arguments")
            .await;
    }
    for (what, change) in [
        ("an argument too many", ("issuer", json!("evil.example"))),
        ("a lifetime of one's own", ("expires", json!(1))),
        ("a text for a boolean", ("ephemeral", json!("false"))),
    ] {
        let mut wish = wish(ada);
        wish[change.0] = change.1;
        asking
            .refuses(what, &mut browser, wish, 400, "bad-arguments")
            .await;
    }

    // How well.
    let eve = "eve@idp.test";
    let mut by_assertion = parts.browser();
    let assertion = idps.assertion(eve, PUBLIC_URL, now_ms());
    by_assertion
        .post(
            "auth_with_assertion",
            json!({ "assertion": assertion, "ephemeral": false }),
        )
        .await
        .good();
    asking
        .refuses(
            "by an assertion alone",
            &mut by_assertion,
            wish(eve),
            400,
            "not-signed-in",
        )
        .await;
    let assertion = idps.assertion(eve, PUBLIC_URL, now_ms());
    browser
        .post("add_email_with_assertion", json!({ "assertion": assertion }))
        .await
        .good();
    let info = browser.get("address_info", &[("email", eve)]).await.good();
    assert_eq!(info["type"], "primary");
    // That a domain was seen is noted beside the answer.
    let noted = async || {
        let mut copy = browser.copy();
        let wish = with_csrf(&mut copy, wish(eve)).await;
        let heard = asking.ask(&copy.cookie_header(), &wish).await;
        (heard.status == 403).then_some(heard)
    };
    let heard = parts.part(Tier::Keysigner).eventually("it is noted", noted).await;
    Asking::expect(&heard, "another's to certify", 403, "primary");

    // And whether it is so still.
    let mut ended = parts.browser();
    ended.sign_in(ada, PASSWORD).await.good();
    let kept = ended.cookie_header();
    let wished = with_csrf(&mut ended, wish(ada)).await;
    ended.post("logout", json!({})).await.good();
    let heard = asking.ask(&kept, &wished).await;
    Asking::expect(&heard, "a session that was ended", 400, "not-signed-in");
    let mut before = parts.browser();
    before.sign_in(ada, PASSWORD).await.good();
    let kept = before.cookie_header();
    let wished = with_csrf(&mut before, wish(ada)).await;
    let change = json!({ "oldpass": PASSWORD, "newpass": NEXT });
    browser.post("update_password", change).await.good();
    let heard = asking.ask(&kept, &wished).await;
    Asking::expect(&heard, "a session from before the change", 400, "not-signed-in");

    // After a reset by one address the other has to be proven again.
    let mut forgetful = parts.browser();
    forgetful
        .post("stage_reset", json!({ "email": ada, "site": SHOP }))
        .await
        .good();
    // A notice of the change came before.
    let mailed = async || {
        let letters = parts.mailbox.of(ada).into_iter();
        letters.into_iter().find(|letter| letter.text.contains("?token="))
    };
    let letter = parts.part(Tier::SecureWebhead).eventually("a link", mailed).await;
    let reset = json!({ "token": letter.token(), "pass": PASSWORD });
    forgetful.post("complete_reset", reset).await.good();
    assert_eq!(forgetful.level().await.as_deref(), Some("password"));
    asking
        .refuses("unverified", &mut forgetful, wish(work), 403, "unverified")
        .await;
    let kept = forgetful.cookie_header();
    let wished = with_csrf(&mut forgetful, wish(ada)).await;
    forgetful.post("account_cancel", json!({})).await.good();
    let heard = asking.ask(&kept, &wished).await;
    Asking::expect(&heard, "a cancelled account", 400, "not-signed-in");

    // It holds the one key that certifies, and no other.
    let keys = parts.home(Tier::Keysigner).join("data/keys");
    let names = |directory: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".pem"))
            .collect()
    };
    assert!(
        names(&keys).iter().all(|name| name.starts_with("certificate")),
        "{:?}",
        names(&keys)
    );
    let keys = parts.home(Tier::SecureWebhead).join("data/keys");
    assert!(
        names(&keys).iter().all(|name| name.starts_with("session")),
        "{:?}",
        names(&keys)
    );
}
