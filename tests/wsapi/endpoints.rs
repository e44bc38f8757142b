//! Every call that there is, a row each: what it takes, what it needs, what it answers; and each way in which it says no.
//!
//! A call that is added to the service without a row here fails the tests.

use std::collections::BTreeSet;

use persona::wsapi::ENDPOINTS;
use reqwest::{
    Method,
    header::{CACHE_CONTROL, HeaderMap},
};
use serde_json::{Map, Value, json};

use crate::{
    browser::{Browser, Reply, new_key},
    sites::{PASSWORD, SHOP, Sites},
};

/// How well somebody must have shown who they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Needs {
    Nobody,
    Somebody,
    Password,
    /// Given within ten minutes, by who has one.
    FreshPassword,
}

/// What an argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Email,
    Password,
    Token,
    Code,
    Site,
    Assertion,
    Pubkey,
    SessionId,
    Flag,
    Domain,
    Issuer,
}

/// One call.
struct Row {
    name: &'static str,
    needs: Needs,
    required: &'static [(&'static str, Kind)],
    optional: &'static [(&'static str, Kind)],
    /// The status and code of who asks rightly about things that nobody has; `done` if it is done.
    answer: (u16, &'static str),
}

const DONE: (u16, &str) = (200, "done");
const EMAIL: (&str, Kind) = ("email", Kind::Email);
const PASS: (&str, Kind) = ("pass", Kind::Password);
const SITE: (&str, Kind) = ("site", Kind::Site);
const TOKEN: (&str, Kind) = ("token", Kind::Token);
const EPHEMERAL: (&str, Kind) = ("ephemeral", Kind::Flag);
const ASSERTION: (&str, Kind) = ("assertion", Kind::Assertion);

type Arguments = &'static [(&'static str, Kind)];

const fn row(
    name: &'static str,
    needs: Needs,
    required: Arguments,
    optional: Arguments,
    answer: (u16, &'static str),
) -> Row {
    Row {
        name,
        needs,
        required,
        optional,
        answer,
    }
}

const fn complete(name: &'static str) -> Row {
    row(
        name,
        Needs::Nobody,
        &[TOKEN],
        &[PASS, EPHEMERAL],
        (409, "unknown-staging"),
    )
}

const ROWS: &[Row] = &[
    row("session_context", Needs::Nobody, &[], &[], DONE),
    row("have_email", Needs::Nobody, &[EMAIL], &[], DONE),
    row("list_emails", Needs::Somebody, &[], &[], DONE),
    row("user_creation_status", Needs::Nobody, &[EMAIL], &[], DONE),
    row("email_addition_status", Needs::Somebody, &[EMAIL], &[], DONE),
    row("email_reverify_status", Needs::Somebody, &[EMAIL], &[], DONE),
    row("password_reset_status", Needs::Nobody, &[EMAIL], &[], DONE),
    row("transition_status", Needs::Nobody, &[EMAIL], &[], DONE),
    row(
        "email_for_token",
        Needs::Nobody,
        &[TOKEN],
        &[],
        (200, "unknown-staging"),
    ),
    row("interaction_data", Needs::Nobody, &[], &[], DONE),
    row("ping", Needs::Nobody, &[], &[], DONE),
    row("account_details", Needs::Somebody, &[], &[], DONE),
    row("list_sessions", Needs::Somebody, &[], &[], DONE),
    row(
        "address_info",
        Needs::Nobody,
        &[EMAIL],
        &[("issuer", Kind::Issuer)],
        DONE,
    ),
    row("discovery", Needs::Nobody, &[("domain", Kind::Domain)], &[], DONE),
    row(
        "authenticate_user",
        Needs::Nobody,
        &[EMAIL, PASS],
        &[EPHEMERAL],
        (200, "wrong-password"),
    ),
    row(
        "auth_with_assertion",
        Needs::Nobody,
        &[ASSERTION],
        &[EPHEMERAL],
        (200, "bad-assertion"),
    ),
    row("logout", Needs::Somebody, &[], &[], DONE),
    row("prolong_session", Needs::Somebody, &[], &[], DONE),
    row("stage_user", Needs::Nobody, &[EMAIL, PASS, SITE], &[], DONE),
    complete("complete_user_creation"),
    // Who has a password gives no other beside it.
    row("stage_email", Needs::FreshPassword, &[EMAIL, SITE], &[PASS], DONE),
    complete("complete_email_confirmation"),
    row("stage_reset", Needs::Nobody, &[EMAIL, SITE], &[], DONE),
    complete("complete_reset"),
    row(
        "stage_reverify",
        Needs::Somebody,
        &[EMAIL, SITE],
        &[],
        (409, "address-not-held"),
    ),
    row("stage_transition", Needs::Nobody, &[EMAIL, PASS, SITE], &[], DONE),
    complete("complete_transition"),
    row(
        "update_password",
        Needs::Somebody,
        &[("oldpass", Kind::Password), ("newpass", Kind::Password)],
        &[],
        (200, "wrong-password"),
    ),
    row(
        "add_email_with_assertion",
        Needs::FreshPassword,
        &[ASSERTION],
        &[],
        (200, "bad-assertion"),
    ),
    row(
        "remove_email",
        Needs::FreshPassword,
        &[EMAIL],
        &[],
        (400, "not-yours"),
    ),
    row("account_cancel", Needs::FreshPassword, &[], &[], DONE),
    row(
        "used_address_as_primary",
        Needs::Somebody,
        &[EMAIL],
        &[],
        (400, "not-primary"),
    ),
    row(
        "complete_by_code",
        Needs::Nobody,
        &[("code", Kind::Code)],
        &[PASS, EPHEMERAL],
        (409, "unknown-staging"),
    ),
    row(
        "end_session",
        Needs::Password,
        &[("id", Kind::SessionId)],
        &[],
        DONE,
    ),
    row("sign_out_everywhere", Needs::Somebody, &[], &[], DONE),
    row(
        "cert_key",
        Needs::Password,
        &[EMAIL, ("pubkey", Kind::Pubkey), EPHEMERAL],
        &[],
        (400, "not-yours"),
    ),
];

/// Calls that read no argument and compare nothing: what is sent to one is thrown away, the other has nothing to say it to.
const TAKES_ANYTHING: [&str; 2] = ["interaction_data", "ping"];

impl Row {
    fn method(&self) -> Method {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.name == self.name);
        endpoint.expect("a call").method.clone()
    }

    fn arguments(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        self.required.iter().chain(self.optional).copied()
    }

    /// Asked rightly.
    fn good(&self) -> Map<String, Value> {
        let good = |(name, kind): &(&str, Kind)| ((*name).to_owned(), kind.good());
        self.required.iter().map(good).collect()
    }

    /// By this browser, with these arguments; a POST with its CSRF value.
    async fn ask(&self, browser: &mut Browser, args: &Map<String, Value>) -> Reply {
        let reply = if self.method() == Method::POST {
            browser.post(self.name, Value::Object(args.clone())).await
        } else {
            let texts: Vec<_> = args
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
                .collect();
            browser.get(self.name, &texts).await
        };
        let kept = reply.headers.get(CACHE_CONTROL);
        assert!(
            kept.is_some_and(|kept| kept == "no-cache, max-age=0"),
            "{}: {reply:?}",
            self.name
        );
        reply
    }

    #[track_caller]
    fn answers(&self, reply: &Reply) {
        if self.answer == DONE {
            assert_eq!(reply.status.as_u16(), 200, "{}: {reply:?}", self.name);
            assert!(
                !reply.text.contains("\"success\":false"),
                "{}: {reply:?}",
                self.name
            );
        } else {
            reply.refused(self.answer.0, self.answer.1);
        }
    }
}

impl Kind {
    /// Of the right form, and nobody's.
    fn good(self) -> Value {
        match self {
            Kind::Email => {
                let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                json!(format!("nobody-{number}@shop.invalid"))
            }
            Kind::Password => json!("a password of nobody's"),
            Kind::Token => json!("0aZ9".repeat(12)),
            Kind::Code => json!("k7m2-q9xz"),
            Kind::Site => json!(SHOP),
            Kind::Assertion => json!("eyJ.eyJ.AAAA~eyJ.eyJ.AAAA~eyJ.eyJ.AAAA~eyJ.eyJ.AAAA"),
            Kind::Pubkey => json!(new_key().public().to_jwk().to_string()),
            Kind::SessionId => json!("AAAAAAAAAAAAAAAAAAAAAA"),
            Kind::Flag => json!(false),
            Kind::Domain => json!("shop.invalid"),
            Kind::Issuer => json!("default"),
        }
    }

    /// Texts that are none of these: too short, too long, with line ends or zeros in them, with letters that look alike.
    fn wrong_texts(self) -> Vec<String> {
        let long = |length| "x".repeat(length);
        let texts = match self {
            Kind::Email => vec![
                "ada".to_owned(),
                "ada@".to_owned(),
                "@shop.invalid".to_owned(),
                "ada@invalid".to_owned(),
                "ada@@shop.invalid".to_owned(),
                "ada@shop.invalid, eve@shop.invalid".to_owned(),
                "Ada <ada@shop.invalid>".to_owned(),
                "ada@[127.0.0.1]".to_owned(),
                "\"ada\"@shop.invalid".to_owned(),
                " ada@shop.invalid".to_owned(),
                "ada@shop.invalid\n".to_owned(),
                "ada@shop.invalid\r\nBcc: eve@shop.invalid".to_owned(),
                "ada\r\nBcc: eve@shop.invalid".to_owned(),
                "ada\0@shop.invalid".to_owned(),
                "ada@shop\0.invalid".to_owned(),
                // A Cyrillic a, a full-width a, a word joiner.
                "\u{430}da@shop.invalid".to_owned(),
                "\u{ff41}da@shop.invalid".to_owned(),
                "a\u{2060}da@shop.invalid".to_owned(),
                "ada@sh\u{202e}op.invalid".to_owned(),
                format!("{}@shop.invalid", long(65)),
                format!("ada@{}.invalid", vec![long(60); 5].join(".")),
                long(9000),
            ],
            Kind::Password => vec!["1234567".to_owned(), long(81), long(9000)],
            Kind::Token => vec![
                long(47),
                long(49),
                long(9000),
                format!("{}-", long(47)),
                format!("{}\n", long(47)),
                format!("{}\0", long(47)),
                "\u{ff11}".repeat(48),
                format!("{}\u{430}", long(46)),
            ],
            Kind::Code => vec![
                "k7m2".to_owned(),
                "k7m2q9xz0".to_owned(),
                "k7m2q9xu".to_owned(),
                "k7m2q9x\n".to_owned(),
                "k7m2q9x\u{ff3a}".to_owned(),
                long(9000),
            ],
            Kind::Site => vec![
                "shop.example".to_owned(),
                "ftp://shop.example".to_owned(),
                "javascript:alert(1)".to_owned(),
                "https://shop.example/".to_owned(),
                "https://shop.example/path".to_owned(),
                "https://ada@shop.example".to_owned(),
                "https://shop.example?q".to_owned(),
                "https://shop.example\r\nBcc: eve@shop.invalid".to_owned(),
                "https://shop.example\n".to_owned(),
                "https://shop\t.example".to_owned(),
                "https://shop.example\\@evil.example".to_owned(),
                "https://".to_owned(),
                format!("https://{}.example", vec![long(60); 5].join(".")),
                long(9000),
            ],
            Kind::Assertion => vec![long(49)],
            Kind::Pubkey => vec![
                long(60),
                "{}".to_owned(),
                format!(
                    "{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{0}\",\"y\":\"{0}\"}}",
                    "A".repeat(43)
                ),
                format!("{{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"{}\"}}", "w".repeat(342)),
                format!("{{\"kty\":\"oct\",\"k\":\"{}\"}}", "A".repeat(43)),
                long(9000),
            ],
            Kind::SessionId => vec![
                "A".repeat(21),
                "A".repeat(23),
                format!("{}=", "A".repeat(21)),
                long(9000),
            ],
            Kind::Flag => vec!["false".to_owned(), "0".to_owned()],
            Kind::Domain => vec![
                "a:b".to_owned(),
                "a b".to_owned(),
                "https://shop.invalid".to_owned(),
                "shop.invalid/path".to_owned(),
                "ada@shop.invalid".to_owned(),
                "shop.invalid\r\nHost: evil.example".to_owned(),
                "shop\0.invalid".to_owned(),
                "[::1]".to_owned(),
                format!("{}.invalid", vec![long(60); 5].join(".")),
            ],
            Kind::Issuer => vec!["evil.example".to_owned(), "default\n".to_owned()],
        };
        texts.into_iter().chain([String::new()]).collect()
    }

    /// What is not even a text, or no truth value.
    fn wrong_values(self) -> Vec<Value> {
        let mut values = vec![
            json!(7),
            json!(-1.5),
            json!([]),
            json!(["text"]),
            json!({}),
            json!({ "a": "b" }),
        ];
        if self != Kind::Flag {
            values.push(json!(true));
        }
        values
    }
}

static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Somebody with an account of their own, signed in just now.
async fn somebody(sites: &Sites) -> (Browser, String) {
    let email = Kind::Email.good();
    let email = email.as_str().expect("a text").to_owned();
    sites.create(0, &[&email]).await;
    let mut browser = sites.browser(0);
    browser.sign_in(&email, PASSWORD).await.good();
    (browser, email)
}

#[test]
fn every_call_has_a_row_and_every_row_a_call() {
    let calls: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
    let rows: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(calls, rows);
    assert_eq!(rows.len(), ROWS.len(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answers_who_may_ask_and_refuses_everybody_else() {
    let sites = Sites::one().await;
    for row in ROWS {
        // Somebody who has just given their password.
        let (mut fresh, email) = somebody(&sites).await;
        let (mut by_assertion, mut of_before) = (fresh.copy(), fresh.copy());
        row.answers(&row.ask(&mut fresh, &row.good()).await);

        // Nobody.
        let reply = row.ask(&mut sites.browser(0), &row.good()).await;
        match row.needs {
            Needs::Nobody => row.answers(&reply),
            _ => reply.refused(400, "not-signed-in"),
        }
        if row.name == "account_cancel" {
            // It was, with all its sessions.
            row.ask(&mut of_before, &row.good())
                .await
                .refused(400, "not-signed-in");
            continue;
        }

        // By an assertion, though there is a password.
        sites.alter_session(0, &mut by_assertion, |session| {
            session.methods.assertion_ms = session.methods.password_ms.take();
        });
        // It was given eleven minutes ago.
        sites.alter_session(0, &mut of_before, |session| {
            session.methods.password_ms = session.methods.password_ms.map(|at_ms| at_ms - 660_000);
        });
        if matches!(row.name, "logout" | "sign_out_everywhere") {
            // What was done above has ended these as well.
            row.ask(&mut by_assertion, &row.good())
                .await
                .refused(400, "not-signed-in");
            row.ask(&mut of_before, &row.good())
                .await
                .refused(400, "not-signed-in");
            continue;
        }
        let reply = row.ask(&mut by_assertion, &row.good()).await;
        match row.needs {
            Needs::Nobody | Needs::Somebody => row.answers(&reply),
            Needs::Password => reply.refused(400, "not-signed-in"),
            Needs::FreshPassword => reply.refused(403, "password-too-old"),
        }
        let reply = row.ask(&mut of_before, &row.good()).await;
        match row.needs {
            Needs::Nobody | Needs::Somebody | Needs::Password => row.answers(&reply),
            Needs::FreshPassword => reply.refused(403, "password-too-old"),
        }

        // A reset has ended the session.
        sites.reset_by_operator(0, &email).await;
        let reply = row.ask(&mut of_before, &row.good()).await;
        match row.needs {
            Needs::Nobody => row.answers(&reply),
            _ => reply.refused(400, "not-signed-in"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reads_its_arguments_strictly() {
    let sites = Sites::one().await;
    let (mut browser, _) = somebody(&sites).await;
    for row in ROWS.iter().filter(|row| !TAKES_ANYTHING.contains(&row.name)) {
        let is_post = row.method() == Method::POST;
        let mut refused = async |args: Map<String, Value>, why: &str| {
            let reply = row.ask(&mut browser, &args).await;
            let code = reply.json()["code"].clone();
            assert_eq!(
                (reply.status.as_u16(), code.as_str()),
                (400, Some("bad-arguments")),
                "{}, {why}: {reply:?}",
                row.name
            );
        };
        for (name, _) in row.required {
            let mut args = row.good();
            args.remove(*name);
            refused(args, *name).await;
            if is_post {
                let mut args = row.good();
                args.insert((*name).to_owned(), Value::Null);
                refused(args, *name).await;
            }
        }
        let mut args = row.good();
        args.insert("allowUnverified".to_owned(), json!("true"));
        refused(args, "one too many").await;
        for (name, kind) in row.arguments() {
            let texts = kind.wrong_texts().into_iter().map(Value::String);
            let values = kind.wrong_values().into_iter().filter(|_| is_post);
            for wrong in texts.chain(values) {
                let mut args = row.good();
                args.insert(name.to_owned(), wrong.clone());
                refused(args, &format!("{name}: {wrong}")).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_takes_one_method_and_bodies_of_two_types_within_ten_kilobytes() {
    let sites = Sites::one().await;
    let mut browser = sites.browser(0);
    browser.context().await;
    for row in ROWS {
        let url = format!("{}/wsapi/{}", browser.site, row.name);
        let mut other_methods = vec![Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
        other_methods.push(if row.method() == Method::POST {
            Method::GET
        } else {
            Method::POST
        });
        for method in other_methods {
            let reply = browser.send(method, &url, HeaderMap::new(), None).await;
            assert!(reply.text.contains("no such api"), "{}: {reply:?}", row.name);
            reply.refused(400, "no-such-api");
        }
        if TAKES_ANYTHING.contains(&row.name) {
            continue;
        }
        if row.method() != Method::POST {
            let twice = browser.get(row.name, &[("email", "a@b.invalid"), ("email", "c@d.invalid")]);
            twice.await.refused(400, "bad-arguments");
            let no_text = format!("{url}?email=%ff%fe");
            let reply = browser.send(Method::GET, &no_text, HeaderMap::new(), None).await;
            assert_eq!(reply.status.as_u16(), 400, "{}: {reply:?}", row.name);
            continue;
        }
        for (kind, body, status, code) in [
            ("application/json", "x".repeat(10 * 1024 + 1), 413, "too-large"),
            (
                "application/x-www-form-urlencoded",
                "x".repeat(10 * 1024 + 1),
                413,
                "too-large",
            ),
            ("text/plain", "{}".to_owned(), 415, "bad-content-type"),
            (
                "multipart/form-data; boundary=x",
                "--x--".to_owned(),
                415,
                "bad-content-type",
            ),
            ("", "{}".to_owned(), 415, "bad-content-type"),
            ("application/json", "{".to_owned(), 400, "bad-body"),
            ("application/json", "[]".to_owned(), 400, "bad-body"),
            (
                "application/json",
                "{\"csrf\":\"a\",\"csrf\":\"b\"}".to_owned(),
                400,
                "bad-body",
            ),
            (
                "application/json",
                format!("{}1{}", "[".repeat(4000), "]".repeat(4000)),
                400,
                "bad-body",
            ),
            (
                "application/x-www-form-urlencoded",
                "csrf=a&csrf=b".to_owned(),
                400,
                "bad-arguments",
            ),
        ] {
            let mut headers = HeaderMap::new();
            if !kind.is_empty() {
                headers.insert("content-type", kind.parse().expect("a header"));
            }
            let reply = browser.send(Method::POST, &url, headers, Some(body)).await;
            assert!(
                reply.headers.contains_key(CACHE_CONTROL),
                "{}: {reply:?}",
                row.name
            );
            reply.refused(status, code);
        }
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "short".parse().expect("a header"));
        headers.insert("content-type", "application/json".parse().expect("a header"));
        let csrf = browser.context().await["csrf_token"].clone();
        let body = json!({ "csrf": csrf }).to_string();
        let reply = browser.send(Method::POST, &url, headers, Some(body)).await;
        reply.refused(400, "bad-idempotency-key");
    }
}
