//! Every activity against a site that is played: it keeps the contract of the calls, and remembers as much as that takes. What
//! real sites do is for the tests of whole sites; here the generator is what is looked at.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{COOKIE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use super::{
    activity::{Activity, Call},
    browser::now_ms,
    connections::{Connections, Target},
    crowd::Crowd,
    errand::{self, Ground},
    mailbox::Mailbox,
    preparation,
    tally::Tally,
};
use crate::{
    browserid::{BackedAssertion, Domain, NewCertificate, PublicKey, SigningKey, json::Object},
    identity::Address,
};

const ORIGIN_OF_PAGES: &str = "http://persona.localhost:8080";

/// What the played site knows. A browser is known by its one cookie, whose value is also its CSRF value.
#[derive(Default)]
struct Played {
    /// Browser → account.
    sessions: HashMap<String, usize>,
    /// Password and addresses.
    accounts: Vec<(String, Vec<String>)>,
    /// Token → browser that began, call, arguments.
    staged: HashMap<String, (String, String, Value)>,
    mails: Vec<Value>,
    visits: usize,
    /// From now on everything is refused.
    is_full: bool,
    key: Option<SigningKey>,
}

type Site = Arc<Mutex<Played>>;

impl Played {
    fn account_of(&self, address: &str) -> Option<usize> {
        let has = |(_, addresses): &(String, Vec<String>)| addresses.iter().any(|own| own == address);
        self.accounts.iter().position(has)
    }

    fn answer(&mut self, name: &str, browser: &str, asked: &Value) -> Value {
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        let account = self.sessions.get(browser).copied();
        let refused = |code: &str| json!({ "success": false, "code": code });
        match name {
            "session_context" => json!({
                "csrf_token": browser,
                "server_time": now_ms(),
                "authenticated": account.is_some(),
                "domain_key_creation_time": 0,
            }),
            "list_emails" => match account {
                Some(account) => json!({ "success": true, "emails": self.accounts[account].1 }),
                None => refused("not-signed-in"),
            },
            "interaction_data" => json!({ "success": asked["data"].is_array() }),
            "authenticate_user" => match self.account_of(&text("email")) {
                Some(account) if self.accounts[account].0 == text("pass") => {
                    self.sessions.insert(browser.to_owned(), account);
                    json!({ "success": true })
                }
                _ => refused("wrong-password"),
            },
            "stage_user" | "stage_email" | "stage_reset" => {
                let token = format!("{:048}", self.mails.len());
                let id = self.mails.len().to_string();
                self.mails
                    .push(json!({ "id": id, "to": asked["email"], "at_ms": now_ms(), "token": token }));
                self.staged
                    .insert(token, (browser.to_owned(), name.to_owned(), asked.clone()));
                json!({ "success": true })
            }
            "complete_user_creation" | "complete_email_confirmation" | "complete_reset" => {
                let Some((began, staged, what)) = self.staged.remove(&text("token")) else {
                    return refused("unknown-token");
                };
                assert_eq!(began, browser, "completed where it was begun");
                let address = what["email"].as_str().expect("an address").to_owned();
                match (staged.as_str(), account) {
                    ("stage_user", _) => {
                        let password = what["pass"].as_str().expect("a password").to_owned();
                        self.accounts.push((password, vec![address]));
                        self.sessions.insert(browser.to_owned(), self.accounts.len() - 1);
                    }
                    ("stage_email", Some(account)) => self.accounts[account].1.push(address),
                    ("stage_reset", _) => {
                        let account = self.account_of(&address).expect("an account");
                        self.accounts[account] = (text("pass"), vec![address]);
                        self.sessions.retain(|_, owner| *owner != account);
                        self.sessions.insert(browser.to_owned(), account);
                    }
                    _ => return refused("not-signed-in"),
                }
                json!({ "success": true })
            }
            "email_addition_status" => json!({ "status": "complete" }),
            "update_password" => match account {
                Some(account) if self.accounts[account].0 == text("oldpass") => {
                    self.accounts[account].0 = text("newpass");
                    self.sessions
                        .retain(|other, owner| *owner != account || other == browser);
                    json!({ "success": true })
                }
                _ => refused("wrong-password"),
            },
            _ => refused("no-such-api"),
        }
    }

    fn certify(&self, browser: &str, asked: &Value) -> Option<String> {
        let address = asked["email"].as_str()?;
        let owner = self.account_of(address)?;
        if self.sessions.get(browser) != Some(&owner) {
            return None;
        }
        let jwk = Object::parse(asked["pubkey"].as_str()?.as_bytes()).ok()?;
        let new = NewCertificate {
            issuer: &Domain::parse("persona.localhost")?,
            email: &Address::parse(address).ok()?,
            public_key: &PublicKey::from_jwk(&jwk).ok()?,
            now_ms: now_ms(),
            rests_on_ms: 0,
            resets: 0,
            short: false,
            session_ends_ms: u64::MAX,
        };
        new.issue(self.key.as_ref()?).ok()
    }
}

fn browser_of(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    cookies.split_once("visit=").map(|(_, value)| value.to_owned())
}

fn full() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], "").into_response()
}

async fn call(
    State(site): State<Site>,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut site = site.lock().expect("sound");
    if site.is_full {
        return full();
    }
    assert_eq!(headers[HOST], "persona.localhost:8080");
    let from: Ipv4Addr = headers["x-forwarded-for"]
        .to_str()
        .expect("text")
        .parse()
        .expect("an address");
    assert_eq!(from.octets()[0], 198);
    let known = browser_of(&headers);
    let asked = if body.is_empty() {
        json!(query)
    } else {
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(asked["csrf"].as_str(), known.as_deref(), "{name}");
        assert_eq!(headers[ORIGIN], ORIGIN_OF_PAGES);
        assert_eq!(headers["idempotency-key"].len(), 32);
        asked
    };
    let browser = known.clone().unwrap_or_else(|| {
        site.visits += 1;
        format!("browser{}", site.visits)
    });
    if name == "cert_key" {
        return match site.certify(&browser, &asked) {
            Some(certificate) => certificate.into_response(),
            None => (StatusCode::BAD_REQUEST, Json(json!({ "code": "not-yours" }))).into_response(),
        };
    }
    let mut response = Json(site.answer(&name, &browser, &asked)).into_response();
    if known.is_none() {
        let cookie = format!("visit={browser}; Path=/; HttpOnly");
        let headers = response.headers_mut();
        headers.append(SET_COOKIE, HeaderValue::from_str(&cookie).expect("a header"));
    }
    response
}

async fn verify(State(site): State<Site>, body: Bytes) -> Response {
    if site.lock().expect("sound").is_full {
        return full();
    }
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let backed = BackedAssertion::parse(&form["assertion"]).expect("well made");
    let answer = if backed.assertion().audience() == form["audience"] {
        json!({ "status": "okay", "email": backed.certificate().email().typed() })
    } else {
        json!({ "status": "failure", "reason": "audience mismatch" })
    };
    Json(answer).into_response()
}

async fn inbox(State(site): State<Site>, Query(query): Query<BTreeMap<String, u64>>) -> Json<Vec<Value>> {
    let site = site.lock().expect("sound");
    let is_new = |mail: &&Value| mail["at_ms"].as_u64() >= query.get("after_ms").copied();
    Json(site.mails.iter().rev().filter(is_new).cloned().collect())
}

async fn play() -> (Site, Arc<Ground>) {
    let key = SigningKey::generate(&mut StdRng::seed_from_u64(1)).expect("a key");
    let site = Arc::new(Mutex::new(Played {
        key: Some(key),
        ..Played::default()
    }));
    let router = Router::new()
        .route("/include.js", get(async || "script"))
        .route("/wsapi/{name}", get(call).post(call))
        .route("/verify", post(verify))
        .route("/lab/inbox.json", get(inbox))
        .with_state(site.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let url = url.parse().expect("a URL");
    let target = Target::new(&url, "persona.localhost:8080", None)
        .await
        .expect("a target");
    let mailbox = Mailbox::open(vec![Connections::new(target.clone(), 1)]).await;
    let mailbox = mailbox.map_err(|(_, error)| error).expect("an inbox");
    mailbox.start();
    let ground = Ground {
        sites: vec![Connections::new(target, 4)],
        origin: HeaderValue::from_static(ORIGIN_OF_PAGES),
        mailbox: Some(mailbox),
        crowd: Crowd::new("run".to_owned(), "people.example".to_owned(), 1),
        tally: Tally::new(),
        moving: 0.5,
    };
    (site, Arc::new(ground))
}

/// What was asked and went well since the last look; nothing may have gone wrong.
fn asked(ground: &Ground) -> BTreeMap<Call, u64> {
    let mut counts = ground.tally.counts();
    let mut asked = BTreeMap::new();
    for (call, row) in &mut counts.calls {
        assert_eq!(row.failed, BTreeMap::new(), "{call}");
        assert_eq!(row.refused.len(), 0, "{call}");
        if !row.done.is_empty() {
            asked.insert(*call, row.done.len());
        }
        row.done.clear();
    }
    asked
}

#[tokio::test]
async fn every_activity_asks_what_the_model_says() {
    let (_site, ground) = play().await;
    preparation::prepare(&ground, 4, 1).await.expect("four people");
    assert_eq!(asked(&ground), BTreeMap::new(), "preparing is not measured");
    // What ends sessions comes last, and each once: who is drawn for it is warm or, after one, still is.
    for activity in Activity::ALL {
        let people = ground.crowd.len();
        if activity == Activity::ResetPassword {
            forget_mails(&ground);
        }
        let mut expected = BTreeMap::new();
        for call in activity.calls() {
            *expected.entry(call).or_default() += 1;
        }
        errand::run(&ground, activity, Instant::now(), 7, true).await;
        assert_eq!(asked(&ground), expected, "{activity}");
        assert_eq!(
            ground.tally.counts().activities[&activity].done.len(),
            1,
            "{activity}"
        );
        let grown = usize::from(activity == Activity::SignUp);
        assert_eq!(ground.crowd.len(), people + grown, "{activity}");
        if activity == Activity::SignUp {
            // Their other browser is cold, as it should be; the model's counts are of warm ones.
            keep_warm(&ground);
        }
        if activity == Activity::ResetPassword {
            keep_warm(&ground);
        }
    }
}

/// Takes those out of the crowd of whom a browser is not signed in.
fn keep_warm(ground: &Ground) {
    let mut random = StdRng::seed_from_u64(1);
    let everybody: Vec<_> = std::iter::from_fn(|| ground.crowd.take(Activity::SignIn, &mut random)).collect();
    for person in everybody {
        if person.browsers.iter().all(|browser| browser.is_signed_in) {
            ground.crowd.let_in(person);
        }
    }
}

/// As if a minute had passed since the last mail.
fn forget_mails(ground: &Ground) {
    let mut random = StdRng::seed_from_u64(1);
    let everybody: Vec<_> = std::iter::from_fn(|| ground.crowd.take(Activity::SignIn, &mut random)).collect();
    for mut person in everybody {
        person.mailed_at = None;
        ground.crowd.let_in(person);
    }
}

#[tokio::test]
async fn who_was_signed_out_gives_the_password_again() {
    let (_site, ground) = play().await;
    preparation::prepare(&ground, 1, 1).await.expect("somebody");
    errand::run(&ground, Activity::ChangePassword, Instant::now(), 1, true).await;
    asked(&ground);
    // Ten sign-ins find both browsers: the other one's session was ended, and this one's certificates prove nothing now.
    for seed in 0..10 {
        errand::run(&ground, Activity::SignIn, Instant::now(), seed, true).await;
    }
    let asked = asked(&ground);
    assert_eq!(asked[&Call::AuthenticateUser], 1);
    assert_eq!(asked[&Call::SessionContext], 11);
    assert!(
        (2..=4).contains(&asked[&Call::CertKey]),
        "two browsers, two addresses"
    );
    assert_eq!(asked[&Call::Verify], 10);
}

#[tokio::test]
async fn a_full_site_refuses_and_nobody_is_lost() {
    let (site, ground) = play().await;
    preparation::prepare(&ground, 2, 1).await.expect("two people");
    forget_mails(&ground);
    site.lock().expect("sound").is_full = true;
    for activity in Activity::ALL {
        errand::run(&ground, activity, Instant::now(), 3, true).await;
    }
    assert_eq!(ground.crowd.len(), 2, "only who signs up is forgotten");
    site.lock().expect("sound").is_full = false;
    let counts = ground.tally.counts();
    for (activity, row) in &counts.activities {
        let expected = u64::from(*activity != Activity::IncludeOnly);
        assert_eq!((row.refused.len(), row.failures()), (expected, 0), "{activity}");
        assert_eq!(row.refused_without_when, 0, "{activity}");
    }
}

#[tokio::test]
async fn a_latency_counts_from_when_it_was_due() {
    let (_site, ground) = play().await;
    const LATE: Duration = Duration::from_secs(5);
    let due = Instant::now().checked_sub(LATE).expect("a time");
    errand::run(&ground, Activity::InteractionData, due, 1, true).await;
    let counts = ground.tally.counts();
    let least_us = |row: &super::tally::Row| row.done.min();
    assert!(least_us(&counts.activities[&Activity::InteractionData]) >= 4_990_000);
    assert!(
        least_us(&counts.calls[&Call::SessionContext]) >= 4_990_000,
        "the first request was due then, too"
    );
    assert!(
        least_us(&counts.calls[&Call::InteractionData]) < 4_990_000,
        "the second when the first was answered"
    );
    assert!(counts.late.min() >= 4_990_000);
}
