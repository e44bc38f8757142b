//! A browser, as far as the service sees one: cookies, CSRF value, calls; and the mailbox of whoever sits at it.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use persona::browserid::{NewAssertion, SigningKey};
use rand::{SeedableRng, rngs::StdRng};
use reqwest::{
    Method, StatusCode,
    header::{COOKIE, HeaderMap, RETRY_AFTER, SET_COOKIE},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::process::keep_secret;

/// However slow the machine: what takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// What a call was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// It was answered as asked.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        let json = self.json();
        assert!(
            self.status == StatusCode::OK && json["success"] != false,
            "{self:?}"
        );
        json
    }

    /// It was refused so.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        let json = self.json();
        assert_eq!(
            (self.status.as_u16(), json["code"].as_str()),
            (status, Some(code)),
            "{self:?}"
        );
        assert_eq!(json["success"], false, "{self:?}");
        let reason = json["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "{self:?}");
        if matches!(status, 429 | 503) {
            assert!(self.headers.contains_key(RETRY_AFTER), "{self:?}");
        }
    }
}

/// A browser with its cookies. It may go to another site: they have one public URL.
pub(crate) struct Browser {
    http: reqwest::Client,
    /// The site that it reaches now.
    pub(crate) site: String,
    pub(crate) cookies: BTreeMap<String, String>,
    /// What a proxy in front says of where it is.
    pub(crate) forwarded_for: Option<String>,
    csrf: Option<String>,
}

static KEYS: AtomicU64 = AtomicU64::new(0);

impl Browser {
    pub(crate) fn new(site: &str) -> Browser {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Browser {
            http,
            site: site.to_owned(),
            cookies: BTreeMap::new(),
            forwarded_for: None,
            csrf: None,
        }
    }

    /// What it says in its `Cookie` header.
    pub(crate) fn cookie_header(&self) -> String {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// Another copy of it, cookies and all: a thief's.
    pub(crate) fn copy(&self) -> Browser {
        Browser {
            http: self.http.clone(),
            site: self.site.clone(),
            cookies: self.cookies.clone(),
            forwarded_for: self.forwarded_for.clone(),
            csrf: self.csrf.clone(),
        }
    }

    pub(crate) async fn get(&mut self, call: &str, query: &[(&str, &str)]) -> Reply {
        let mut url = url::Url::parse(&format!("{}/wsapi/{call}", self.site)).expect("a URL");
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, url.as_str(), HeaderMap::new(), None).await
    }

    /// With the CSRF value, as our pages do it.
    pub(crate) async fn post(&mut self, call: &str, args: Value) -> Reply {
        let key = KEYS.fetch_add(1, Ordering::Relaxed);
        self.post_once(call, args, &format!("idempotency-key-{key}"))
            .await
    }

    /// Under a key of one's own: the same may be asked again.
    pub(crate) async fn post_once(&mut self, call: &str, args: Value, key: &str) -> Reply {
        self.try_post_once(call, args, key).await.expect("an answer")
    }

    /// The same; `None` if nobody answers.
    pub(crate) async fn try_post_once(&mut self, call: &str, mut args: Value, key: &str) -> Option<Reply> {
        if self.csrf.is_none() {
            self.context().await;
        }
        args["csrf"] = json!(self.csrf);
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().expect("a header"));
        headers.insert("idempotency-key", key.parse().expect("a header"));
        let url = format!("{}/wsapi/{call}", self.site);
        self.try_send(Method::POST, &url, headers, Some(args.to_string()))
            .await
    }

    /// As it is said, byte for byte.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Reply {
        let sent = self.try_send(method, url, headers, body).await;
        sent.expect("an answer")
    }

    /// The same; `None` if nobody answers.
    pub(crate) async fn try_send(
        &mut self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Option<String>,
    ) -> Option<Reply> {
        keep_what_is_asked(url, &headers, body.as_deref());
        if let Some(client) = &self.forwarded_for {
            headers.insert("x-forwarded-for", client.parse().expect("a header"));
        }
        if !self.cookies.is_empty() {
            headers.insert(COOKIE, self.cookie_header().parse().expect("a header"));
        }
        let mut request = self.http.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (pair, attributes) = cookie.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a pair");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                keep_secret(value);
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = response.text().await.ok()?;
        Some(Reply {
            status,
            headers,
            text,
        })
    }

    /// `session_context`; remembers the CSRF value.
    pub(crate) async fn context(&mut self) -> Value {
        let context = self.get("session_context", &[]).await.good();
        self.csrf = context["csrf_token"].as_str().map(str::to_owned);
        context
    }

    /// Whether it is signed in, and how well.
    pub(crate) async fn level(&mut self) -> Option<String> {
        self.context().await["auth_level"].as_str().map(str::to_owned)
    }

    pub(crate) async fn sign_in(&mut self, email: &str, password: &str) -> Reply {
        let args = json!({ "email": email, "pass": password, "ephemeral": false });
        self.post("authenticate_user", args).await
    }

    /// Has a key of its own certified for an address.
    pub(crate) async fn certify(&mut self, email: &str) -> Result<Certified, Reply> {
        let key = new_key();
        let args = json!({ "email": email, "pubkey": key.public().to_jwk().to_string(), "ephemeral": false });
        let reply = self.post("cert_key", args).await;
        if reply.status != StatusCode::OK {
            return Err(reply);
        }
        Ok(Certified {
            certificate: reply.text,
            key,
        })
    }

    /// Asks the verifier.
    pub(crate) async fn verify(&mut self, assertion: &str, audience: &str) -> Value {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().expect("a header"));
        let body = json!({ "assertion": assertion, "audience": audience }).to_string();
        let url = format!("{}/verify", self.site);
        self.send(Method::POST, &url, headers, Some(body)).await.json()
    }
}

/// A key that no other browser here has.
pub(crate) fn new_key() -> SigningKey {
    let seed = KEYS.fetch_add(1, Ordering::Relaxed);
    SigningKey::generate(&mut StdRng::seed_from_u64(seed)).expect("a key")
}

/// What a request says that no log may.
fn keep_what_is_asked(url: &str, headers: &HeaderMap, body: Option<&str>) {
    if let Ok(url) = url::Url::parse(url) {
        url.query_pairs().for_each(|(_, value)| keep_secret(&value));
    }
    if let Some(key) = headers.get("idempotency-key") {
        keep_secret(key.to_str().unwrap_or_default());
    }
    if let Some(Ok(Value::Object(args))) = body.map(serde_json::from_str) {
        let texts = args.values().filter_map(Value::as_str);
        texts.for_each(keep_secret);
    }
}

/// A browser's key with its certificate.
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: SigningKey,
}

impl Certified {
    /// An assertion for a relying party.
    pub(crate) fn assert_for(&self, audience: &str, now_ms: u64) -> String {
        let assertion = NewAssertion {
            audience,
            expires_ms: now_ms + 120_000,
            nonce: None,
        };
        assertion
            .back(&self.certificate, &self.key)
            .expect("an assertion")
    }
}

/// The mails of a site, which its laboratory puts into a directory.
pub(crate) struct Mailbox(pub(crate) PathBuf);

/// One mail, read.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) text: String,
}

impl Letter {
    pub(crate) fn token(&self) -> String {
        let at = self.text.find("?token=").expect("a link with a token") + "?token=".len();
        let token = &self.text[at..at + 48];
        keep_secret(token);
        token.to_owned()
    }

    pub(crate) fn code(&self) -> String {
        let is_code = |word: &str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let code = self
            .text
            .lines()
            .filter(|line| line.starts_with("    "))
            .map(str::trim)
            .find(|line| is_code(line))
            .unwrap_or_else(|| panic!("no code: {}", self.text));
        keep_secret(code);
        code.to_owned()
    }
}

impl Mailbox {
    /// All that came to an address, the oldest first.
    pub(crate) fn of(&self, address: &str) -> Vec<Letter> {
        let Ok(entries) = fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| {
                (
                    entry.metadata().and_then(|data| data.modified()).ok(),
                    entry.path(),
                )
            })
            .collect();
        files.sort();
        files
            .into_iter()
            .filter_map(|(_, path)| fs::read(path).ok())
            .filter_map(|bytes| {
                let mail = mail_parser::MessageParser::default().parse(&bytes)?;
                Some(Letter {
                    to: mail.to()?.first()?.address()?.to_owned(),
                    subject: mail.subject()?.to_owned(),
                    text: mail.body_text(0)?.into_owned(),
                })
            })
            .filter(|letter| letter.to == address)
            .collect()
    }

    /// The next one to an address, after so many.
    pub(crate) async fn next(&self, address: &str, before: usize) -> Letter {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(letter) = self.of(address).get(before) {
                return letter.clone();
            }
            assert!(Instant::now() < deadline, "no mail to {address} after {before}");
            tokio::time::sleep(LOOK).await;
        }
    }
}
