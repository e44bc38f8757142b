//! What every call demands: method, arguments, CSRF value, size; each refusal over HTTP.

use persona::wsapi::ENDPOINTS;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Reply},
    sign_up::sign_up,
    sites::{PASSWORD, PUBLIC_URL, SHOP, Sites},
};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, value.parse().expect("a header"));
    }
    headers
}

async fn raw(
    browser: &mut Browser,
    method: Method,
    path: &str,
    with: &[(&'static str, &str)],
    body: &str,
) -> Reply {
    let url = format!("{}{path}", browser.site);
    let body = (!body.is_empty()).then(|| body.to_owned());
    browser.send(method, &url, headers(with), body).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_and_wrong_methods_are_no_such_api() {
    let sites = Sites::one().await;
    let mut browser = sites.browser(0);
    for (method, path) in [
        (Method::GET, "/wsapi/nothing"),
        (Method::POST, "/wsapi/session_context"),
        (Method::GET, "/wsapi/stage_user"),
        (Method::GET, "/wsapi/create_account_with_assertion"),
        (Method::GET, "/wsapi/increment_failed_auth_tries"),
        (Method::GET, "/wsapi/saw_idp"),
        (Method::DELETE, "/wsapi/list_emails"),
        (Method::GET, "/wsapi/a/b"),
    ] {
        let reply = raw(&mut browser, method, path, &[], "").await;
        assert!(reply.text.contains("no such api"), "{path}: {reply:?}");
        reply.refused(400, "no-such-api");
    }
    for path in ["/replica/read/read-account", "/internal", "/lab/kill"] {
        let reply = raw(&mut browser, Method::POST, path, &[JSON], "{}").await;
        assert_eq!(reply.status.as_u16(), 404, "{path}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_post_needs_the_csrf_value_of_this_browser_and_our_own_page() {
    let sites = Sites::one().await;
    for endpoint in ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.method == Method::POST)
    {
        if endpoint.name == "interaction_data" {
            continue;
        }
        let path = format!("/wsapi/{}", endpoint.name);
        let mut stranger = sites.browser(0);
        raw(&mut stranger, Method::POST, &path, &[JSON], "{}")
            .await
            .refused(403, "no-cookie");
        let mut browser = sites.browser(0);
        let context = browser.context().await;
        let csrf = context["csrf_token"].as_str().expect("a value").to_owned();
        raw(&mut browser, Method::POST, &path, &[JSON], "{}")
            .await
            .refused(400, "csrf");
        let wrong = json!({ "csrf": "AAAAAAAAAAAAAAAAAAAAAA" }).to_string();
        raw(&mut browser, Method::POST, &path, &[JSON], &wrong)
            .await
            .refused(400, "csrf");
        let right = json!({ "csrf": csrf }).to_string();
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
        ] {
            let reply = raw(&mut browser, Method::POST, &path, &[JSON, (name, value)], &right).await;
            reply.refused(403, "other-origin");
        }
        // With all that it is looked at: the arguments are missing, or nobody is signed in.
        let ours = [JSON, ("origin", PUBLIC_URL), ("sec-fetch-site", "same-origin")];
        let reply = raw(&mut browser, Method::POST, &path, &ours, &right).await;
        let code = reply.json()["code"].clone();
        assert_eq!(reply.status.as_u16(), 400, "{path}: {reply:?}");
        assert!(
            code == "bad-arguments" || code == "not-signed-in",
            "{path}: {reply:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_read_strictly() {
    let sites = Sites::one().await;
    let mut browser = sites.browser(0);
    let good = json!({ "email": "ada@shop.invalid", "pass": PASSWORD, "site": SHOP });
    let with = |name: &str, value: Value| {
        let mut args = good.clone();
        args[name] = value;
        args
    };
    let without = |name: &str| {
        let mut args = good.clone();
        args.as_object_mut().expect("an object").remove(name);
        args
    };
    for args in [
        without("email"),
        without("pass"),
        without("site"),
        with("extra", json!("x")),
        with("email", json!("no address")),
        with("email", json!("ada@shop.invalid\r\nBcc: eve@shop.invalid")),
        with("email", json!("ada@shop.invalid,eve@shop.invalid")),
        with("email", json!(7)),
        with("pass", json!("short")),
        with("pass", json!("x".repeat(81))),
        with("site", json!("shop.example")),
        with("site", json!("https://shop.example/path")),
        with("site", json!("javascript:alert(1)")),
        with("site", json!("https://shop.example\r\nX: y")),
        with("email", json!(null)),
    ] {
        browser
            .post("stage_user", args)
            .await
            .refused(400, "bad-arguments");
    }
    let common = with("pass", json!("password123"));
    browser
        .post("stage_user", common)
        .await
        .refused(400, "bad-password");
    for (call, args) in [
        ("complete_user_creation", json!({ "token": "short" })),
        ("complete_user_creation", json!({ "token": "-".repeat(48) })),
        ("complete_by_code", json!({ "code": "1234" })),
        (
            "authenticate_user",
            json!({ "email": "ada@shop.invalid", "pass": PASSWORD, "ephemeral": "false" }),
        ),
        (
            "cert_key",
            json!({ "email": "ada@shop.invalid", "pubkey": "x".repeat(60), "ephemeral": false }),
        ),
        (
            "auth_with_assertion",
            json!({ "assertion": "short", "ephemeral": false }),
        ),
    ] {
        browser.post(call, args).await.refused(400, "bad-arguments");
    }
    browser.get("have_email", &[]).await.refused(400, "bad-arguments");
    browser
        .get(
            "have_email",
            &[("email", "a@b.invalid"), ("email", "c@d.invalid")],
        )
        .await
        .refused(400, "bad-arguments");
    browser
        .get("have_email", &[("email", "a@b.invalid"), ("x", "1")])
        .await
        .refused(400, "bad-arguments");
    assert_eq!(sites.mailbox.of("ada@shop.invalid").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_json_or_forms_of_ten_kilobytes() {
    let sites = Sites::one().await;
    let mut browser = sites.browser(0);
    let csrf = browser.context().await["csrf_token"]
        .as_str()
        .expect("a value")
        .to_owned();
    let path = "/wsapi/authenticate_user";
    let large = "x".repeat(10 * 1024 + 1);
    raw(&mut browser, Method::POST, path, &[JSON], &large)
        .await
        .refused(413, "too-large");
    for junk in ["{", "[]", "7", "{\"csrf\":1,\"csrf\":2}", "\u{0}"] {
        raw(&mut browser, Method::POST, path, &[JSON], junk)
            .await
            .refused(400, "bad-body");
    }
    let text = [("content-type", "text/plain")];
    raw(&mut browser, Method::POST, path, &text, "{}")
        .await
        .refused(415, "bad-content-type");
    // A form does as well, but has no booleans.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("csrf", &csrf)
        .append_pair("email", "nobody@shop.invalid")
        .append_pair("pass", PASSWORD)
        .finish();
    raw(&mut browser, Method::POST, path, &form, &body)
        .await
        .refused(200, "wrong-password");
    let twice = format!("{body}&pass=again");
    raw(&mut browser, Method::POST, path, &form, &twice)
        .await
        .refused(400, "bad-arguments");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_somebody_signed_in_says_so_to_everybody_else() {
    let sites = Sites::one().await;
    let mut browser = sites.browser(0);
    browser.context().await;
    for (call, args) in [
        ("logout", json!({})),
        ("prolong_session", json!({})),
        ("sign_out_everywhere", json!({})),
        ("account_cancel", json!({})),
        ("remove_email", json!({ "email": "ada@shop.invalid" })),
        ("used_address_as_primary", json!({ "email": "ada@shop.invalid" })),
        (
            "update_password",
            json!({ "oldpass": PASSWORD, "newpass": PASSWORD }),
        ),
        (
            "stage_email",
            json!({ "email": "ada@shop.invalid", "site": SHOP }),
        ),
        (
            "stage_reverify",
            json!({ "email": "ada@shop.invalid", "site": SHOP }),
        ),
        ("end_session", json!({ "id": "AAAAAAAAAAAAAAAAAAAAAA" })),
    ] {
        browser.post(call, args).await.refused(400, "not-signed-in");
    }
    for call in ["list_emails", "account_details", "list_sessions"] {
        browser.get(call, &[]).await.refused(400, "not-signed-in");
    }
    let refused = browser
        .certify("ada@shop.invalid")
        .await
        .err()
        .expect("no certificate");
    refused.refused(400, "not-signed-in");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_pages_of_others_set_no_cookie_and_answers_are_kept_by_nobody() {
    let sites = Sites::one().await;
    let mut ada = sites.browser(0);
    sign_up(&mut ada, &sites, "ada@shop.invalid").await;
    for (call, query) in [
        ("session_context", &[][..]),
        ("list_emails", &[]),
        ("user_creation_status", &[("email", "ada@shop.invalid")]),
        ("password_reset_status", &[("email", "ada@shop.invalid")]),
        ("address_info", &[("email", "ada@shop.invalid")]),
    ] {
        let reply = ada.get(call, query).await;
        assert!(!reply.headers.contains_key("set-cookie"), "{call}: {reply:?}");
        assert_eq!(reply.headers["cache-control"], "no-cache, max-age=0", "{call}");
        reply.good();
    }
}
