//! The laboratory's mails over HTTP: a page for people, JSON for programs.
//!
//! The page holds no script of its own beyond one file, and nothing from elsewhere; what a mail says is shown as text,
//! never as markup. It is on the public listener of a laboratory, which listens on this machine alone.

use std::{io, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use minijinja::{AutoEscape, Environment, Value};
use serde::Deserialize;
use tokio::task::spawn_blocking;
use url::Url;

use super::{Inbox, Received, read_newest};
use crate::{identity::Address, public_url::is_loopback};

/// Mails in one answer at most: the newest.
const SHOWN_MAX: usize = 100;
/// Files of a directory read for one answer at most.
const FILES_MAX: usize = 1000;

/// Where the mails are.
#[derive(Clone, Debug)]
pub enum Mails {
    /// In this process's memory.
    Memory(Arc<Inbox>),
    /// In a directory, a file each.
    Directory(PathBuf),
}

impl From<Arc<Inbox>> for Mails {
    fn from(inbox: Arc<Inbox>) -> Mails {
        Mails::Memory(inbox)
    }
}

/// What the router below has.
pub(crate) const ROUTES: [&str; 4] = [SHOWN, TOLD, STYLE, SCRIPT];
const SHOWN: &str = "/lab/inbox";
pub(crate) const TOLD: &str = "/lab/inbox.json";
const STYLE: &str = "/lab/inbox.css";
const SCRIPT: &str = "/lab/inbox.js";

/// `GET /lab/inbox` for people, `GET /lab/inbox.json?to=ADDRESS&after_ms=N` for programs.
pub fn router(mails: impl Into<Mails>) -> Router {
    Router::new()
        .route(SHOWN, get(page))
        .route(TOLD, get(json))
        .route(
            STYLE,
            get(async || asset("text/css; charset=utf-8", include_str!("inbox.css"))),
        )
        .route(
            SCRIPT,
            get(async || asset("text/javascript; charset=utf-8", include_str!("inbox.js"))),
        )
        .layer(middleware::from_fn(for_this_machine))
        .with_state(mails.into())
}

/// Refuses whoever takes this machine for another one.
async fn for_this_machine(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "this is for this machine alone\n",
    )
        .into_response()
}

/// Whether the one `Host` is a name or an address that no name server can lead anybody else to.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let url = host
        .to_str()
        .ok()
        .and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    let is_plain = |url: &Url| url.path() == "/" && url.username().is_empty();
    url.filter(is_plain)
        .is_some_and(|url| url.host().is_some_and(|host| is_loopback(&host)))
}

/// Which mails.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only those to this address.
    to: Option<String>,
    /// Only those that came at this time or later, in milliseconds since 1970: in a millisecond several may come, so who
    /// asks again for what is new asks from the last one on, and leaves out those that it knows by their ids.
    #[serde(default)]
    after_ms: u64,
}

impl Mails {
    /// The newest of those wanted, bounded.
    async fn newest(&self, wanted: Wanted) -> Result<Vec<Received>, Response> {
        let to = match wanted.to.as_deref().filter(|to| !to.is_empty()) {
            Some(to) => match Address::parse(to) {
                Ok(address) => Some(address.mailbox()),
                Err(error) => return Err((StatusCode::BAD_REQUEST, error.to_string()).into_response()),
            },
            None => None,
        };
        let Wanted { after_ms, .. } = wanted;
        let is_wanted =
            |mail: &Received| mail.at_ms >= after_ms && to.as_ref().is_none_or(|to| mail.to == *to);
        let read = match self {
            Mails::Memory(inbox) => return Ok(inbox.newest(is_wanted, SHOWN_MAX)),
            Mails::Directory(path) => {
                let path = path.clone();
                spawn_blocking(move || read_newest(&path, after_ms, FILES_MAX)).await
            }
        };
        match read.map_err(io::Error::other).flatten() {
            Ok(mails) => Ok(mails.into_iter().filter(is_wanted).take(SHOWN_MAX).collect()),
            // No mail was sent yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()),
        }
    }
}

async fn json(State(mails): State<Mails>, Query(wanted): Query<Wanted>) -> Response {
    match mails.newest(wanted).await {
        Ok(mails) => ([(CACHE_CONTROL, "no-store")], Json(mails)).into_response(),
        Err(refusal) => refusal,
    }
}

async fn page(State(mails): State<Mails>, Query(wanted): Query<Wanted>) -> Response {
    let to = wanted.to.clone().unwrap_or_default();
    let mails = match mails.newest(wanted).await {
        Ok(mails) => mails,
        Err(refusal) => return refusal,
    };
    match render(&mails, &to) {
        Ok(html) => asset("text/html; charset=utf-8", html),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

const TEMPLATE: &str = "inbox.html";
/// Its template.
pub(crate) const PAGE: &str = include_str!("inbox.html");

fn render(mails: &[Received], to: &str) -> Result<String, minijinja::Error> {
    let mut templates = Environment::empty();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.add_template(TEMPLATE, PAGE)?;
    let mails: Vec<Value> = mails.iter().map(shown).collect();
    templates.get_template(TEMPLATE)?.render(Value::from_pairs([
        ("mails", Value::from(mails)),
        ("to", Value::from(to)),
    ]))
}

fn shown(mail: &Received) -> Value {
    // The kind of a code that is easily read to somebody: two groups of four.
    let code = mail.code.as_deref().map(|code| match code.split_at_checked(4) {
        Some((one, other)) => format!("{one} {other}"),
        None => code.to_owned(),
    });
    Value::from_pairs([
        ("id", Value::from(mail.id.as_str())),
        ("to", Value::from(mail.to.as_str())),
        ("at_ms", Value::from(mail.at_ms)),
        ("subject", Value::from(mail.subject.as_str())),
        ("text", Value::from(mail.text.as_str())),
        ("link", Value::from(mail.link.clone())),
        ("proves", Value::from(mail.token.is_some())),
        ("code", Value::from(code)),
    ])
}

fn asset(kind: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // The link that is followed says nothing of this page to what it leads to.
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, body).into_response()
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, extract::Request};
    use tower::ServiceExt;

    use super::*;

    fn mail(number: u64, to: &str, text: &str) -> Received {
        Received {
            id: format!("{number}"),
            to: to.to_owned(),
            date: 0,
            at_ms: number,
            subject: format!("Mail <{number}>"),
            text: text.to_owned(),
            html: String::new(),
            link: Some("http://localhost/confirm?token=a".to_owned()),
            token: Some("a".to_owned()),
            code: Some("ABCD2345".to_owned()),
        }
    }

    fn inbox(mails: Vec<Received>) -> Arc<Inbox> {
        let inbox = Inbox::default();
        inbox.mails().extend(mails);
        Arc::new(inbox)
    }

    async fn ask(mails: impl Into<Mails>, path: &str) -> (StatusCode, String) {
        ask_as(Some("persona.localhost:8081"), mails, path).await
    }

    async fn ask_as(host: Option<&str>, mails: impl Into<Mails>, path: &str) -> (StatusCode, String) {
        let mut request = Request::get(path);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(axum::body::Body::empty()).expect("a request");
        let response = router(mails).oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn ids(mails: impl Into<Mails>, query: &str) -> Vec<String> {
        let (status, body) = ask(mails, &format!("/lab/inbox.json{query}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let list: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a list");
        let id = |mail: &serde_json::Value| mail["id"].as_str().expect("an id").to_owned();
        list.iter().map(id).collect()
    }

    #[tokio::test]
    async fn programs_ask_for_one_address_and_for_what_is_new() {
        let (ada, eve) = ("ada@example.org", "Eve@xn--bcher-kva.example");
        let inbox = inbox(vec![mail(3, ada, ""), mail(2, eve, ""), mail(1, ada, "")]);
        for (query, expected) in [
            ("", ["3", "2", "1"].as_slice()),
            ("?to=ada@example.org", &["3", "1"]),
            ("?to=ada@EXAMPLE.org&after_ms=2", &["3"]),
            ("?to=Eve@b%C3%BCcher.example", &["2"]),
            ("?after_ms=2", &["3", "2"]),
            ("?after_ms=4", &[]),
        ] {
            assert_eq!(ids(inbox.clone(), query).await, expected, "{query}");
        }
        for wrong in ["?to=ada", "?after_ms=x", "?colour=1"] {
            let (status, _) = ask(inbox.clone(), &format!("/lab/inbox.json{wrong}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        let many = (0..=SHOWN_MAX as u64)
            .map(|number| mail(number, ada, ""))
            .collect();
        assert_eq!(ids(self::inbox(many), "").await.len(), SHOWN_MAX);
    }

    #[tokio::test]
    async fn only_names_of_this_machine_are_answered_to() {
        for (host, expected) in [
            (Some("persona.localhost:8081"), StatusCode::OK),
            (Some("localhost"), StatusCode::OK),
            (Some("127.0.0.1:8081"), StatusCode::OK),
            (Some("[::1]:8081"), StatusCode::OK),
            (Some("evil.example:8081"), StatusCode::MISDIRECTED_REQUEST),
            (
                Some("localhost.evil.example:8081"),
                StatusCode::MISDIRECTED_REQUEST,
            ),
            (Some("127.0.0.1.evil.example"), StatusCode::MISDIRECTED_REQUEST),
            (Some("192.168.1.2:8081"), StatusCode::MISDIRECTED_REQUEST),
            (Some("localhost/@evil.example"), StatusCode::MISDIRECTED_REQUEST),
            (Some(""), StatusCode::MISDIRECTED_REQUEST),
            (None, StatusCode::MISDIRECTED_REQUEST),
        ] {
            for path in ["/lab/inbox", "/lab/inbox.json", "/lab/inbox.js"] {
                let (status, _) = ask_as(host, inbox(Vec::new()), path).await;
                assert_eq!(status, expected, "{host:?} {path}");
            }
        }
    }

    #[tokio::test]
    async fn a_directory_is_an_inbox_too_also_before_the_first_mail() {
        let directory = tempfile::tempdir().expect("a directory");
        let mails = Mails::Directory(directory.path().join("mails"));
        assert!(ids(mails.clone(), "").await.is_empty());
        std::fs::create_dir(directory.path().join("mails")).expect("made");
        let message = "Message-ID: <one@persona.example>\r\nDate: Sat, 1 Aug 2015 10:00:00 +0000\r\nTo: ada@example.org\r\n\
             Subject: Hello\r\nContent-Type: text/plain\r\n\r\nhttp://localhost/confirm?token=TOKEN\r\n    ABCD2345\r\n"
            .replace("TOKEN", &"aZ09".repeat(12));
        std::fs::write(directory.path().join("mails/one.eml"), message).expect("written");
        let (_, body) = ask(mails, "/lab/inbox.json?to=ada@example.org").await;
        let list: Vec<serde_json::Value> = serde_json::from_str(&body).expect("a list");
        assert_eq!(list.len(), 1);
        assert_eq!(list[0]["token"], "aZ09".repeat(12));
        assert_eq!(list[0]["code"], "ABCD2345");
        // When the file came, not when the mail says that it was written.
        assert!(list[0]["at_ms"].as_u64().expect("a time") > 1_700_000_000_000);
    }

    #[tokio::test]
    async fn what_a_mail_says_is_text_on_the_page() {
        let inbox = inbox(vec![mail(1, "ada@example.org", "<script>alert(1)</script>")]);
        let (status, html) = ask(inbox, "/lab/inbox?to=ada@example.org").await;
        assert_eq!(status, StatusCode::OK);
        assert!(!html.contains("<script>"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        assert!(html.contains("Mail &lt;1&gt;"), "{html}");
        assert!(html.contains("ABCD 2345"), "{html}");
        assert!(html.contains("localhost&#x2f;confirm?token=a"), "{html}");
    }
}
