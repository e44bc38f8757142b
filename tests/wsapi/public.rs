//! What is for everybody: the verifier, our support document, heartbeats, version, the description of the API.

use persona::wsapi::ENDPOINTS;
use reqwest::{
    Method,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, HeaderMap},
};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Reply},
    sign_up::sign_up,
    sites::{PUBLIC_URL, SHOP, Sites, now_ms},
};

const ADA: &str = "ada@shop.invalid";

async fn ask(browser: &mut Browser, method: Method, path: &str, kind: &str, body: &str) -> Reply {
    let url = format!("{}{path}", browser.site);
    let mut headers = HeaderMap::new();
    if !kind.is_empty() {
        headers.insert("content-type", kind.parse().expect("a header"));
    }
    let body = (!body.is_empty()).then(|| body.to_owned());
    browser.send(method, &url, headers, body).await
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(pairs).finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_takes_what_the_original_took_and_says_what_is_wrong() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, ADA).await;
    let certified = ada.certify(ADA).await.expect("a certificate");
    let assertion = certified.assert_for(SHOP, now_ms());
    let both = json!({ "assertion": assertion, "audience": SHOP }).to_string();
    let as_form = form(&[("assertion", &assertion), ("audience", SHOP)]);
    let in_query = format!("/verify?{as_form}");

    // A relying party has no cookie of ours.
    let mut shop = sites.browser(0);
    for (path, kind, body) in [
        ("/verify", JSON, both.as_str()),
        ("/verify", "application/json; charset=utf-8", both.as_str()),
        ("/verify", FORM, as_form.as_str()),
        (in_query.as_str(), "", ""),
        (in_query.as_str(), FORM, "audience=https%3A%2F%2Fshop.example"),
    ] {
        let reply = ask(&mut shop, Method::POST, path, kind, body).await;
        assert_eq!(reply.headers[CACHE_CONTROL], "no-cache, max-age=0");
        let verdict = reply.good();
        assert_eq!(verdict["status"], "okay", "{kind}: {verdict}");
        assert_eq!(verdict["email"], ADA);
        assert_eq!(verdict["audience"], SHOP);
        assert_eq!(verdict["issuer"], "persona.localhost");
        assert!(
            verdict["expires"].as_u64().is_some_and(|at_ms| at_ms > now_ms()),
            "{verdict}"
        );
    }
    assert!(shop.cookies.is_empty(), "nobody is remembered");

    let only = |name: &str, value: &str| json!({ name: value }).to_string();
    for (kind, body, status, reason) in [
        (JSON, "{}".to_owned(), 400, "need assertion and audience"),
        (
            JSON,
            only("assertion", &assertion),
            400,
            "need assertion and audience",
        ),
        (JSON, only("audience", SHOP), 400, "need assertion and audience"),
        (
            JSON,
            json!({ "assertion": 7, "audience": SHOP }).to_string(),
            400,
            "need assertion and audience",
        ),
        ("", String::new(), 400, "need assertion and audience"),
        (FORM, "assertion=a&assertion=b".to_owned(), 400, "repeated"),
        (JSON, "{\"assertion\":1,\"assertion\":2}".to_owned(), 400, ""),
        (JSON, "{".to_owned(), 400, ""),
        ("text/plain", both.clone(), 415, "application/json"),
        ("", both.clone(), 415, "application/json"),
        (JSON, " ".repeat(10 * 1024 + 1), 413, "10240"),
    ] {
        let reply = ask(&mut shop, Method::POST, "/verify", kind, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {reply:?}");
        assert_eq!(reply.headers[CACHE_CONTROL], "no-cache, max-age=0");
        let told = reply.json();
        assert_eq!(told["status"], "failure", "{told}");
        assert!(
            told["reason"]
                .as_str()
                .is_some_and(|words| words.contains(reason)),
            "{body}: {told}"
        );
    }
    let reply = ask(&mut shop, Method::GET, &in_query, "", "").await;
    assert_eq!(
        (reply.status.as_u16(), reply.headers[ALLOW].as_bytes()),
        (405, &b"POST"[..])
    );

    let expired = certified.assert_for(SHOP, now_ms() - 600_000);
    let (certificate, signed) = assertion.split_once('~').expect("two parts");
    let (head, signature) = signed.rsplit_once('.').expect("a signature");
    let other = ada.certify(ADA).await.expect("a certificate");
    let chained = format!("{certificate}~{certificate}~{signed}");
    let stolen = format!("{}~{signed}", other.certificate);
    let cut = format!("{certificate}~{head}.{}", &signature[2..]);
    for (assertion, audience, reason) in [
        (
            assertion.as_str(),
            "https://evil.example",
            "audience mismatch: domain mismatch",
        ),
        (
            &assertion,
            "http://shop.example",
            "audience mismatch: scheme mismatch",
        ),
        (
            &assertion,
            "https://shop.example:8443",
            "audience mismatch: port mismatch",
        ),
        (
            assertion.as_str(),
            "https://sh\u{43e}p.example",
            "audience mismatch",
        ),
        (
            &assertion,
            "https://shop.example\r\nHost: evil.example",
            "audience mismatch",
        ),
        (assertion.as_str(), "", "audience mismatch"),
        (expired.as_str(), SHOP, "assertion has expired"),
        (chained.as_str(), SHOP, "certificate chaining is not yet allowed"),
        (stolen.as_str(), SHOP, "signature"),
        (cut.as_str(), SHOP, "signature"),
        (signed, SHOP, "no certificates provided"),
        ("~", SHOP, ""),
        ("", SHOP, ""),
        ("\u{430}~\u{430}", SHOP, ""),
    ] {
        let verdict = shop.verify(assertion, audience).await;
        assert_eq!(verdict["status"], "failure", "{audience}: {verdict}");
        let told = verdict["reason"].as_str().expect("a reason");
        assert!(
            told.contains(reason),
            "{assertion:?} for {audience:?}: {told}, not {reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_heartbeats_are_for_everybody() {
    let sites = Sites::one().await;
    let mut anybody = sites.browser(0);
    for path in [
        "/.well-known/browserid",
        "/.well-known/browserid?domain=shop.invalid",
    ] {
        let reply = ask(&mut anybody, Method::GET, path, "", "").await;
        assert_eq!(reply.headers[CACHE_CONTROL], "public, max-age=10");
        assert_eq!(reply.headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(
            reply.headers["content-type"]
                .to_str()
                .expect("text")
                .starts_with(JSON)
        );
        let document = reply.good();
        let keys = document["keys"].as_array().expect("keys");
        assert!(!keys.is_empty());
        for key in keys {
            assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-256")));
            assert!(key["kid"].is_string() && key.get("d").is_none(), "{key}");
        }
        assert!(keys.contains(&document["public-key"]));
        let page = |name: &str| document[name].as_str().is_some_and(|page| page.starts_with('/'));
        assert!(page("authentication") && page("provisioning"), "{document}");
    }
    let reply = ask(&mut anybody, Method::GET, "/__lbheartbeat__", "", "").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    let heartbeat = ask(&mut anybody, Method::GET, "/__heartbeat__", "", "")
        .await
        .good();
    assert_eq!(heartbeat["status"], "ok", "{heartbeat}");
    assert!(
        heartbeat["checks"]
            .as_object()
            .is_some_and(|checks| !checks.is_empty()),
        "{heartbeat}"
    );
    let version = ask(&mut anybody, Method::GET, "/__version__", "", "")
        .await
        .good();
    assert_eq!(
        version,
        json!({ "source": "persona", "version": env!("CARGO_PKG_VERSION"), "lab": true })
    );
    for path in [
        "/.well-known/browserid",
        "/__lbheartbeat__",
        "/__heartbeat__",
        "/__version__",
        "/openapi.json",
    ] {
        let reply = ask(&mut anybody, Method::POST, path, JSON, "{}").await;
        assert_eq!(reply.status.as_u16(), 405, "{path}: {reply:?}");
        let head = ask(&mut anybody, Method::HEAD, path, "", "").await;
        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""), "{path}");
    }
    assert!(anybody.cookies.is_empty());
    let described = ask(&mut anybody, Method::GET, "/openapi.json", "", "")
        .await
        .good();
    for endpoint in ENDPOINTS {
        let path = format!("/wsapi/{}", endpoint.name);
        let method = endpoint.method.as_str().to_lowercase();
        assert!(described["paths"][path][method].is_object(), "{}", endpoint.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_host_a_request_names_links_are_to_the_public_url() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    let csrf = ada.context().await["csrf_token"].clone();
    let body = json!({
        "csrf": csrf, "email": ADA, "pass": "correct horse battery",
        // A Cyrillic o.
        "site": "https://sh\u{43e}p.example",
    });
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", JSON),
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-proto", "gopher"),
        ("x-original-url", "/__version__"),
        ("x-persona-client", "192.0.2.1"),
    ] {
        headers.insert(name, value.parse().expect("a header"));
    }
    let url = format!("{}/wsapi/stage_user", ada.site);
    let reply = ada
        .send(Method::POST, &url, headers.clone(), Some(body.to_string()))
        .await;
    assert!(!format!("{reply:?}").contains("evil.example"));
    reply.good();
    let letter = sites.mailbox.next(ADA, 0).await;
    assert!(!letter.text.contains("evil.example"), "{}", letter.text);
    assert!(
        letter.text.contains("https://xn--shp-ted.example"),
        "{}",
        letter.text
    );
    assert!(!letter.text.contains("sh\u{43e}p"), "{}", letter.text);
    let links = letter.text.split_whitespace().filter(|word| word.contains("://"));
    for link in links.filter(|link| !link.contains("xn--shp-ted")) {
        assert!(
            link.trim_start_matches(['<', '(']).starts_with(PUBLIC_URL),
            "{link}"
        );
    }
    for path in [
        "/",
        "/.well-known/browserid",
        "/wsapi/address_info?email=ada@shop.invalid",
        "/include.js",
    ] {
        let url = format!("{}{path}", ada.site);
        let mut headers = headers.clone();
        headers.remove("content-type");
        let reply = ada.send(Method::GET, &url, headers, None).await;
        assert_eq!(reply.status.as_u16(), 200, "{path}: {reply:?}");
        assert!(!format!("{reply:?}").contains("evil.example"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_looks_like_another_is_another() {
    let sites = Sites::one().await;
    sites.create(0, &[ADA]).await;
    let mut thief = sites.browser(0);
    let known = async |browser: &mut Browser, email: &str| -> Value {
        let reply = browser.get("have_email", &[("email", email)]).await;
        reply.good()["email_known"].clone()
    };
    // One and the same mailbox, however it is typed.
    for same in [
        "ADA@shop.invalid",
        "ada@SHOP.INVALID",
        "ada@\u{ff53}hop.invalid",
        "Ada@shop\u{3002}invalid",
    ] {
        assert_eq!(known(&mut thief, same).await, json!(true), "{same}");
    }
    // A Cyrillic o, and what it is in ASCII; a Turkish dotless i.
    for other in [
        "ada@sh\u{43e}p.invalid",
        "ada@xn--shp-ted.invalid",
        "ada@shop.inval\u{131}d",
        "a.da@shop.invalid",
    ] {
        assert_eq!(known(&mut thief, other).await, json!(false), "{other}");
        thief
            .sign_in(other, "correct horse battery")
            .await
            .refused(200, "wrong-password");
    }
    thief
        .sign_in("ADA@Shop.invalid", "correct horse battery")
        .await
        .good();
    let emails = thief.get("list_emails", &[]).await.good();
    assert_eq!(emails["emails"], json!([ADA]), "as it was typed at first");
    // Spaces of every kind are one password's; letters that look alike are not.
    let mut phone = sites.browser(0);
    phone
        .sign_in(ADA, "correct\u{a0}horse\u{2003}battery")
        .await
        .good();
    phone
        .sign_in(ADA, "c\u{43e}rrect horse battery")
        .await
        .refused(200, "wrong-password");
}
