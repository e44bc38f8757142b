use axum::{
    body::{Body, to_bytes},
    http::{
        HeaderValue, Request,
        header::{
            ACCEPT_LANGUAGE, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_LANGUAGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, ETAG, IF_NONE_MATCH, LOCATION, ORIGIN,
            REFERRER_POLICY, SET_COOKIE, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha384};
use tower::ServiceExt;

use super::*;

const HTTPS: &str = "https://persona.example";
const LOOPBACK: &str = "http://persona.localhost:8080";
/// RFC 7517, appendix A.1.
const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

fn web(url: &str) -> Arc<Web> {
    Arc::new(Web::new(&url.parse().expect("a URL")).expect("pages"))
}

/// One for all tests: making it takes a while.
fn at(url: &str) -> Arc<Web> {
    use std::sync::OnceLock;

    static ONES: [OnceLock<Arc<Web>>; 2] = [OnceLock::new(), OnceLock::new()];
    Arc::clone(ONES[usize::from(url == LOOPBACK)].get_or_init(|| web(url)))
}

async fn send(url: &str, request: Request<Body>) -> Response {
    let Ok(response) = at(url).router().oneshot(request).await;
    response
}

async fn get(url: &str, path: &str) -> Response {
    send(url, Request::get(path).body(Body::empty()).expect("a request")).await
}

async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("a text")
}

const PAGES: [&str; 13] = [
    "/",
    "/sign_in",
    "/verify_email_address",
    "/confirm",
    "/reset_password",
    "/complete_transition",
    "/about",
    "/terms",
    "/tos",
    "/privacy",
    "/developers",
    "/unavailable",
    "/nothing",
];

#[tokio::test]
async fn every_page_is_kept_from_what_it_does_not_need() {
    for path in PAGES {
        let response = get(HTTPS, path).await;
        let expected = match path {
            "/unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            "/nothing" => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        assert_eq!(response.status(), expected, "{path}");
        let headers = response.headers().clone();
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(
                policy.split("; ").any(|one| one == rule),
                "{rule} at {path}: {policy}"
            );
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http:"),
            "{policy}"
        );
        assert_eq!(policy.contains("frame-src https:"), path == "/sign_in", "{path}");
        let opener = if path == "/sign_in" {
            "unsafe-none"
        } else {
            "same-origin"
        };
        assert_eq!(headers["cross-origin-opener-policy"], opener, "{path}");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        assert_eq!(headers[REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(headers[VARY].to_str().expect("ASCII").contains("Accept-Language"));
    }
}

#[tokio::test]
async fn no_page_has_inline_code_or_asks_for_anything_elsewhere() {
    for path in PAGES {
        let html = text(get(HTTPS, path).await).await;
        assert!(!html.contains("<style") && !html.contains(" style="), "{path}");
        for tag in html.split('<').skip(1) {
            let tag = tag.split('>').next().expect("a tag");
            assert!(
                !tag.split([' ', '\n']).any(|part| part.starts_with("on")),
                "{path}: {tag}"
            );
            if tag.starts_with("script") {
                assert!(
                    tag.starts_with(r#"script type="module" src="/s/"#),
                    "{path}: {tag}"
                );
            }
            for attribute in ["src=\"", "href=\""] {
                if let Some((_, address)) = tag.split_once(attribute) {
                    assert!(
                        address.starts_with(['/', '#']) && !address.starts_with("//"),
                        "{path}: {tag}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn plain_http_is_not_told_to_be_https_and_may_frame_this_machine() {
    let response = get(LOOPBACK, "/sign_in").await;
    assert!(!response.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    let policy = response.headers()[CONTENT_SECURITY_POLICY]
        .to_str()
        .expect("ASCII");
    assert!(policy.contains("http://*.localhost:*"), "{policy}");
}

#[tokio::test]
async fn a_page_comes_in_the_language_that_a_browser_wants() {
    for (wanted, language, word) in [
        ("de-CH, en;q=0.5", "de", "Anmelden"),
        ("fr", "fr", "Se connecter"),
        ("nl", "en", "Sign in"),
    ] {
        let request = Request::get("/sign_in").header(ACCEPT_LANGUAGE, wanted);
        let response = send(HTTPS, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.headers()[CONTENT_LANGUAGE], language);
        let html = text(response).await;
        assert!(
            html.contains(&format!("<html lang=\"{language}\"")) && html.contains(word),
            "{wanted}"
        );
    }
}

#[tokio::test]
async fn what_pages_load_is_there_and_may_be_kept_for_ever() {
    for path in PAGES {
        let html = text(get(HTTPS, path).await).await;
        for address in html.split("\"/s/").skip(1) {
            let address = format!("/s/{}", address.split('"').next().expect("an address"));
            let response = get(HTTPS, &address).await;
            assert_eq!(response.status(), StatusCode::OK, "{address} of {path}");
            let headers = response.headers();
            assert_eq!(headers[CACHE_CONTROL], "public, max-age=31536000, immutable");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_version_gets_what_there_is_and_nobody_keeps_it() {
    let response = get(HTTPS, "/s/0000000000000000/dialog.js").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
    for path in [
        "/s/0000000000000000/nothing.js",
        "/s/x/..%2Fmod.rs",
        "/include/x.js",
        "/include/include.js",
    ] {
        assert_eq!(get(HTTPS, path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn scripts_for_others_may_be_loaded_by_anybody_and_speak_of_our_origin() {
    for name in ["include.js", "provisioning_api.js", "authentication_api.js"] {
        let response = get(HTTPS, &format!("/{name}")).await;
        let headers = response.headers();
        assert_eq!(headers["cross-origin-resource-policy"], "cross-origin");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[CONTENT_TYPE], "text/javascript; charset=utf-8");
        assert!(
            headers[CACHE_CONTROL]
                .to_str()
                .expect("ASCII")
                .starts_with("public, max-age=300")
        );
        let script = text(response).await;
        assert!(
            script.contains(r#"const PERSONA = "https://persona.example""#),
            "{name}"
        );
        assert!(!script.contains("PERSONA_ORIGIN"), "{name}");
    }
}

#[tokio::test]
async fn a_pinned_script_is_what_its_integrity_says() {
    let html = text(get(HTTPS, "/developers").await).await;
    let pinned = html
        .split("https://persona.example/include/")
        .nth(1)
        .expect("a pinned script");
    let hash = pinned.split(".js").next().expect("a hash");
    let integrity = html
        .split("integrity=\"")
        .nth(1)
        .expect("integrity")
        .split('"')
        .next()
        .expect("a value");
    let response = get(HTTPS, &format!("/include/{hash}.js")).await;
    assert_eq!(
        response.headers()[CACHE_CONTROL],
        "public, max-age=31536000, immutable"
    );
    assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    let script = text(response).await;
    assert_eq!(
        integrity,
        format!("sha384-{}", STANDARD.encode(Sha384::digest(script.as_bytes())))
    );
    assert_eq!(script, text(get(HTTPS, "/include.js").await).await);
}

#[tokio::test]
async fn who_has_it_already_is_told_so() {
    for path in ["/include.js", "/about", "/sign_in"] {
        let tag = get(HTTPS, path).await.headers()[ETAG].clone();
        let request = Request::get(path).header(IF_NONE_MATCH, &tag);
        let response = send(HTTPS, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert_eq!(response.headers()[ETAG], tag);
        assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY) || path == "/include.js");
        assert_eq!(text(response).await, "");
    }
    assert!(!get(HTTPS, "/nothing").await.headers().contains_key(ETAG));
}

/// What a newcomer's browser loads: the goals of issue 5.
#[test]
fn the_script_and_the_dialog_are_small() {
    let web = at(HTTPS);
    let size = |name: &str| web.assets.named(name).expect(name).smallest();
    assert!(
        size("include.js") < 6 * 1024,
        "include.js: {}",
        size("include.js")
    );
    let of_others = ["account.js", "landing.js", "developers.js"];
    let parts = web
        .assets
        .names()
        .filter(|name| !assets::FOR_OTHERS.contains(name) && !of_others.contains(name));
    let page = web.pages.of(Page::SignIn, Language::German).smallest();
    let all = page + parts.map(size).sum::<usize>();
    assert!(all < 60 * 1024, "the dialog: {all}");
}

/// A name that a script shows or asks for is there, in the page that loads it.
#[test]
fn the_dialog_has_every_state_and_word_that_its_scripts_name() {
    let web = at(HTTPS);
    for (page, scripts) in [
        (Page::SignIn, &["dialog.js", "mailed.js", "flow.js"][..]),
        (Page::Home, &["account.js", "mailed.js"]),
        (Page::Confirm, &["landing.js"]),
    ] {
        let html = web.pages.of(page, Language::French).text();
        for script in scripts {
            let script = web.assets.named(script).expect("a script").text();
            for (call, close) in [
                ("view.show(place, \"", '"'),
                ("tell(\"", '"'),
                ("view.build(\"", '"'),
            ] {
                for name in script.split(call).skip(1) {
                    let name = name.split(close).next().expect("a name");
                    assert!(
                        html.contains(&format!("id=\"state-{name}\"")),
                        "{name} in {page:?}"
                    );
                }
            }
            for call in [
                "view.words(\"",
                "said(\"",
                "note: \"",
                "new NoFlow(\"",
                "useless(\"",
            ] {
                for name in script.split(call).skip(1) {
                    let name = name.split('"').next().expect("a name");
                    let name = if call.contains("NoFlow") {
                        format!("flow-{name}")
                    } else {
                        name.to_owned()
                    };
                    assert!(
                        html.contains(&format!("data-word=\"{name}\"")),
                        "{name} in {page:?}"
                    );
                }
            }
        }
    }
}

/* ---- sign-in by redirection ---- */

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish()
}

fn begin(origin: Option<&str>, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::post("/sign_in").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    request.body(Body::from(form(fields))).expect("a request")
}

const WHOLE: [(&str, &str); 4] = [
    ("returnTo", "/basket?item=1"),
    ("key", KEY),
    ("nonce", "n-1"),
    ("siteName", "The <b>shop</b>"),
];

/// Begins a flow and gives the dialog's address and the cookie.
async fn begun(url: &str, origin: &str) -> (String, String, String) {
    let response = send(url, begin(Some(origin), &WHOLE)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let location = response.headers()[LOCATION].to_str().expect("ASCII").to_owned();
    let cookie = response.headers()[SET_COOKIE].to_str().expect("ASCII").to_owned();
    let pair = cookie.split(';').next().expect("a pair").to_owned();
    (location, cookie, pair)
}

async fn dialog(url: &str, location: &str, cookie: &str) -> String {
    let request = Request::get(location).header(COOKIE, cookie);
    text(send(url, request.body(Body::empty()).expect("a request")).await).await
}

#[tokio::test]
async fn a_flow_is_what_the_browser_and_the_form_said() {
    let (location, cookie, pair) = begun(HTTPS, "https://shop.example").await;
    let id = location.strip_prefix("/sign_in?flow=").expect("the dialog");
    assert!(
        cookie.starts_with(&format!("__Host-persona_flow_{id}=")),
        "{cookie}"
    );
    for part in [
        "; Path=/;",
        "; Max-Age=7200;",
        "; HttpOnly",
        "; SameSite=Lax",
        "; Secure",
    ] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    let html = dialog(HTTPS, &location, &pair).await;
    let flow = html
        .split("<meta name=\"persona-flow\" content=\"")
        .nth(1)
        .expect("a flow");
    let flow = flow
        .split("\">")
        .next()
        .expect("its end")
        .replace("&quot;", "\"")
        .replace("&#x2f;", "/");
    let flow = flow.replace("&lt;", "<").replace("&gt;", ">");
    let flow: serde_json::Value = serde_json::from_str(&flow).expect("JSON");
    assert_eq!(flow["origin"], "https://shop.example");
    assert_eq!(flow["returnTo"], "/basket?item=1");
    assert_eq!(flow["nonce"], "n-1");
    assert_eq!(flow["siteName"], "The <b>shop</b>");
    assert_eq!(flow["id"], id);
    assert_eq!(flow["key"]["kty"], "EC");
    assert!(!html.contains("<b>shop"), "markup of a stranger");
}

#[tokio::test]
async fn who_does_not_say_who_they_are_is_refused_and_told_the_cure() {
    let many = |count| "x".repeat(count);
    let long = [
        ("returnTo", "/"),
        ("key", KEY),
        ("privacyPolicy", &*many(2000)),
        ("termsOfService", &*many(2000)),
    ];
    let huge = [("returnTo", "/"), ("key", KEY), ("siteName", &*many(20_000))];
    let nonce = [("returnTo", "/"), ("key", KEY), ("nonce", &*many(257))];
    let other_key = KEY.replace("MKBC", "MKBD");
    let private = KEY.replace("\"P-256\"", "\"P-384\"");
    let whole = &WHOLE[..];
    let paths: Vec<[(&str, &str); 2]> = [
        "",
        "basket",
        "//evil.example/",
        "/\\evil.example/",
        "https://evil.example/",
        "/a\nb",
        "/\t/evil.example",
        "/a#b",
        "javascript:alert(1)",
    ]
    .map(|path| [("returnTo", path), ("key", KEY)])
    .to_vec();
    type Case<'c> = (Option<&'c str>, &'c [(&'c str, &'c str)], &'c str);
    let mut cases: Vec<Case<'_>> = vec![
        (None, whole, "Origin"),
        (Some("null"), whole, "Origin"),
        (Some("shop.example"), whole, "Origin"),
        (Some("https://shop.example/path"), whole, "Origin"),
        (Some("http://shop.example"), whole, "HTTPS"),
        (Some("http://localhost.example"), whole, "HTTPS"),
        (Some("https://shop.example"), &WHOLE[..1], "include.js"),
        (Some("https://shop.example"), &WHOLE[1..], "include.js"),
        (Some("https://shop.example"), &long, "include.js"),
        (Some("https://shop.example"), &huge, "include.js"),
        (Some("https://shop.example"), &nonce, "include.js"),
    ];
    let keys = [
        [("returnTo", "/"), ("key", &*other_key)],
        [("returnTo", "/"), ("key", &*private)],
        [("returnTo", "/"), ("key", "{}")],
    ];
    cases.extend(
        keys.iter()
            .map(|key| (Some("https://shop.example"), &key[..], "include.js")),
    );
    cases.extend(
        paths
            .iter()
            .map(|path| (Some("https://shop.example"), &path[..], "include.js")),
    );
    for (origin, fields, cure) in cases {
        let response = send(HTTPS, begin(origin, fields)).await;
        assert_eq!(
            response.status(),
            StatusCode::BAD_REQUEST,
            "{origin:?} {fields:?}"
        );
        assert!(!response.headers().contains_key(SET_COOKIE));
        let html = text(response).await;
        let note = html.split("class=\"note\">").nth(1).expect("a cure");
        assert!(
            note.split("</p>").next().expect("its end").contains(cure),
            "{origin:?} {fields:?}: {note}"
        );
    }
}

#[tokio::test]
async fn two_origins_in_one_request_are_none() {
    let mut request = begin(Some("https://shop.example"), &WHOLE);
    request
        .headers_mut()
        .append(ORIGIN, HeaderValue::from_static("https://evil.example"));
    assert_eq!(send(HTTPS, request).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn plain_http_is_for_this_machine_only() {
    for origin in [
        "http://rp.localhost:9000",
        "http://localhost",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
    ] {
        let (location, cookie, pair) = begun(LOOPBACK, origin).await;
        assert!(
            cookie.starts_with("persona_flow_") && !cookie.contains("Secure"),
            "{cookie}"
        );
        assert!(dialog(LOOPBACK, &location, &pair).await.contains("persona-flow"));
    }
}

#[tokio::test]
async fn a_flow_is_read_from_its_own_cookie_and_no_other() {
    let (location, _, pair) = begun(HTTPS, "https://shop.example").await;
    let (other, _, other_pair) = begun(HTTPS, "https://evil.example").await;
    let (name, _) = pair.split_once('=').expect("a pair");
    let (_, evil) = other_pair.split_once('=').expect("a pair");
    for cookies in [
        String::new(),
        other_pair.clone(),
        // One more of the same name: one of them was planted.
        format!("{pair}; {name}={evil}"),
        format!("{name}=e30"),
        format!("{name}=!"),
        format!("{name}={}", "A".repeat(4000)),
    ] {
        let html = dialog(HTTPS, &location, &cookies).await;
        assert!(!html.contains("persona-flow"), "{cookies}");
    }
    for id in ["", "x", "../../x", &format!("{}x", &location[14..])] {
        let html = dialog(HTTPS, &format!("/sign_in?flow={id}"), &pair).await;
        assert!(!html.contains("persona-flow"), "{id}");
    }
    let both = format!("{pair}; {other_pair}");
    assert!(dialog(HTTPS, &location, &both).await.contains("shop.example"));
    assert!(dialog(HTTPS, &other, &both).await.contains("evil.example"));
}

#[tokio::test]
async fn a_cookie_that_says_what_no_form_could_is_not_taken() {
    use crate::browserid::json::encode_base64url;

    let (location, _, pair) = begun(HTTPS, "https://shop.example").await;
    let (name, value) = pair.split_once('=').expect("a pair");
    let flow = crate::browserid::json::decode_base64url(value).expect("base64url");
    let flow: serde_json::Value = serde_json::from_slice(&flow).expect("JSON");
    for (field, wrong) in [
        ("returnTo", "//evil.example/"),
        ("returnTo", "https://evil.example/"),
        ("origin", "http://shop.example"),
        ("origin", "null"),
        ("origin", "https://shop.example/path"),
    ] {
        let mut changed = flow.clone();
        changed[field] = wrong.into();
        let cookie = format!("{name}={}", encode_base64url(changed.to_string()));
        assert!(
            !dialog(HTTPS, &location, &cookie).await.contains("persona-flow"),
            "{field} {wrong}"
        );
    }
}

#[tokio::test]
async fn flows_do_not_pile_up_in_a_browser() {
    let (_, _, first) = begun(HTTPS, "https://one.example").await;
    let (_, _, second) = begun(HTTPS, "https://two.example").await;
    let mut request = begin(Some("https://three.example"), &WHOLE);
    let both = HeaderValue::from_str(&format!("{second}; other=1; {first}")).expect("a header");
    request.headers_mut().insert(COOKIE, both);
    let response = send(HTTPS, request).await;
    let cookies: Vec<_> = response
        .headers()
        .get_all(SET_COOKIE)
        .into_iter()
        .map(|cookie| cookie.to_str().expect("ASCII"))
        .collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    let ended: Vec<_> = cookies
        .iter()
        .filter(|cookie| cookie.contains("Max-Age=0;"))
        .collect();
    let mut names = [&first, &second].map(|pair| pair.split('=').next().expect("a name"));
    names.sort_unstable();
    assert_eq!(ended.len(), 1);
    assert!(
        ended[0].starts_with(&format!("{}=;", names[0])),
        "the oldest ends: {ended:?}"
    );
}

#[tokio::test]
async fn nothing_but_a_form_begins_a_flow() {
    let mut request = begin(Some("https://shop.example"), &WHOLE);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_eq!(send(HTTPS, request).await.status(), StatusCode::BAD_REQUEST);
    let query = format!("/sign_in?{}", form(&WHOLE));
    let html = text(get(HTTPS, &query).await).await;
    assert!(!html.contains("persona-flow"));
}
