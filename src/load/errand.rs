//! One activity, from beginning to end: the requests of the dialog and of the web site's server, in the order in which they
//! are made, each after the answer to the one before.
//!
//! A request is due when the one before was answered, the first when the activity was. From then its latency counts; an
//! activity's is the time until its last answer, without what was spent waiting for mail.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_TYPE, ORIGIN, RETRY_AFTER, USER_AGENT},
};
use bytes::Bytes;
use http_body_util::Full;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;

use super::{
    activity::{Activity, Call},
    browser::{Browser, Context},
    connections::{Connections, Reply},
    crowd::{Crowd, Person, client, password},
    mailbox::Mailbox,
    tally::{Ending, Tally},
};

/// The dialog asks for the password again when it was given longer ago, for what the service asks that of (ten minutes).
const PASSWORD_FRESH: Duration = Duration::from_secs(9 * 60);
/// Web sites that people sign in to.
const RELYING_PARTIES: u32 = 1000;
/// Characters of a reason for a failure.
const REASON_CHARS_MAX: usize = 80;

/// What all errands share.
pub(crate) struct Ground {
    pub(crate) sites: Vec<Connections>,
    /// As browsers have it: the origin of the service's pages.
    pub(crate) origin: HeaderValue,
    /// `None`: nobody can prove an address.
    pub(crate) mailbox: Option<Arc<Mailbox>>,
    pub(crate) crowd: Crowd,
    pub(crate) tally: Tally,
    /// The share of activities that somebody does near another site than their own.
    pub(crate) moving: f64,
}

/// An errand ends early. What it was is counted where it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Setback(pub(crate) Ending);

/// Somebody on their way.
pub(crate) struct Errand<'g> {
    ground: &'g Ground,
    site: usize,
    client: Ipv4Addr,
    random: StdRng,
    /// When the next request is due.
    due: Instant,
    /// Spent waiting for mail.
    waited: Duration,
    is_measured: bool,
    /// What was asked last: where a setback happened.
    asked: Option<Call>,
}

enum Body {
    None,
    /// Of the dialog's script: with the CSRF value, and once however often it arrives.
    Json(Value),
    /// Of anybody else.
    Form(String),
}

/// Does one activity that was due at this time, and counts it.
pub(crate) async fn run(ground: &Ground, activity: Activity, due: Instant, seed: u64, is_measured: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let person = match activity.takes_account() {
        true => ground.crowd.take(activity, &mut random),
        false => Some(ground.crowd.stranger(&mut random)),
    };
    let Some(mut person) = person else {
        if is_measured {
            ground.tally.counts().nobody_free += 1;
        }
        return;
    };
    let site = if random.random_bool(ground.moving) {
        random.random_range(0..ground.sites.len().max(1))
    } else {
        person.home
    };
    if is_measured {
        super::tally::record(&mut ground.tally.counts().late, due.elapsed());
    }
    let password = person.password.clone();
    let mut errand = Errand::new(ground, site, person.client, random, due, is_measured);
    let outcome = errand.act(activity, &mut person).await;
    if is_measured {
        let ending = match &outcome {
            Ok(()) => Ending::Done,
            Err(Setback(ending)) => ending.clone(),
        };
        let took = due.elapsed().saturating_sub(errand.waited);
        ground.tally.activity(activity, &ending, took);
    }
    // Whoever has just signed up stays; whoever only came by goes; whoever may have a new password is not to be trusted.
    let stays = match activity {
        Activity::SignUp => outcome.is_ok(),
        Activity::ResetPassword => outcome.is_ok() || person.password == password,
        _ => activity.takes_account(),
    };
    if stays {
        ground.crowd.let_in(person);
    }
}

impl<'g> Errand<'g> {
    pub(crate) fn new(
        ground: &'g Ground,
        site: usize,
        client: Ipv4Addr,
        random: StdRng,
        due: Instant,
        is_measured: bool,
    ) -> Errand<'g> {
        Errand {
            ground,
            site,
            client,
            random,
            due,
            waited: Duration::ZERO,
            is_measured,
            asked: None,
        }
    }

    /// What was asked last.
    pub(crate) fn asked(&self) -> Option<Call> {
        self.asked
    }

    async fn act(&mut self, activity: Activity, person: &mut Person) -> Result<(), Setback> {
        let device = self.random.random_range(0..person.browsers.len());
        match activity {
            Activity::IncludeOnly => self.include_script().await,
            Activity::InteractionData => self.tell_how_it_went().await,
            Activity::SignIn => self.sign_in(person, device).await,
            Activity::Reauth => {
                self.context(&mut person.browsers[device]).await?;
                self.authenticate(person, device).await?;
                self.sign_in(person, device).await
            }
            Activity::SignUp => {
                self.sign_up(person, device).await?;
                self.authenticate(person, device).await?;
                self.sign_in(person, device).await
            }
            Activity::AddEmail => {
                let added = self.add_email(person, device).await?;
                self.sign_in_with(person, device, added).await
            }
            Activity::ResetPassword => {
                self.reset_password(person, device).await?;
                self.authenticate(person, device).await?;
                self.sign_in(person, device).await
            }
            Activity::ChangePassword => self.change_password(person, device).await,
        }
    }

    async fn include_script(&mut self) -> Result<(), Setback> {
        self.ask(Call::IncludeJs, None, Body::None, |_| Ok(())).await
    }

    /// About as much as the original's dialog told.
    async fn tell_how_it_went(&mut self) -> Result<(), Setback> {
        let mut browser = Browser::default();
        self.context(&mut browser).await?;
        let events: Vec<_> = (0..20)
            .map(|event| json!(["screen.shown", event * 250]))
            .collect();
        let data = json!({ "data": [{ "event_stream": events, "sample_rate": 0.1, "number_emails": 2 }] });
        self.ask(Call::InteractionData, Some(&mut browser), Body::Json(data), done)
            .await
    }

    async fn sign_in(&mut self, person: &mut Person, device: usize) -> Result<(), Setback> {
        let address = self.random.random_range(0..person.addresses.len());
        self.sign_in_with(person, device, address).await
    }

    /// Signs in to a web site with one of the person's addresses.
    async fn sign_in_with(
        &mut self,
        person: &mut Person,
        device: usize,
        which: usize,
    ) -> Result<(), Setback> {
        if !person.browsers[device].is_signed_in {
            self.context(&mut person.browsers[device]).await?;
            self.authenticate(person, device).await?;
        }
        self.certify(person, device, which).await?;
        let browser = &mut person.browsers[device];
        let address = person.addresses[which].as_str();
        let listed = self
            .ask(Call::ListEmails, Some(browser), Body::None, |reply| {
                let list: Emails = read(&reply)?;
                if list.emails.iter().any(|email| email == address) {
                    Ok(())
                } else {
                    Err("200 an address is missing".to_owned())
                }
            })
            .await;
        let signed_in = match listed {
            Ok(()) => match self.context(browser).await {
                Ok(context) if context.authenticated => Ok(()),
                // A request that was answered well, and with what cannot be.
                Ok(_) => Err(self.fail(Call::SessionContext, "200 signed out")),
                Err(setback) => Err(setback),
            },
            Err(setback) => Err(setback),
        };
        if let Err(Setback(Ending::Failed(_))) = &signed_in {
            // The next visit begins with the password, as a person would.
            browser.sign_out();
        }
        signed_in?;
        // The context may have said that the key of the certificate is no more.
        self.certify(person, device, which).await?;
        self.verify(person, device, which).await
    }

    /// A web site asks whose browser this is.
    pub(crate) async fn verify(
        &mut self,
        person: &mut Person,
        device: usize,
        which: usize,
    ) -> Result<(), Setback> {
        let browser = &mut person.browsers[device];
        let address = person.addresses[which].as_str();
        let audience = format!(
            "https://shop{}.example",
            self.random.random_range(0..RELYING_PARTIES)
        );
        let Some(assertion) = browser.assert(address, &audience) else {
            return Err(self.fail(Call::Verify, "no assertion could be signed"));
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("assertion", &assertion)
            .append_pair("audience", &audience)
            .finish();
        let verdict = self
            .ask(Call::Verify, None, Body::Form(form), |reply| {
                let verdict: Verdict = read(&reply)?;
                match verdict.status.as_str() {
                    "okay" if verdict.email.as_deref() == Some(address) => Ok(()),
                    "okay" => Err("200 another address".to_owned()),
                    _ => Err(format!("200 {}", verdict.reason.unwrap_or_default())),
                }
            })
            .await;
        if let Err(Setback(Ending::Failed(_))) = &verdict {
            browser.drop_certificates();
        }
        verdict
    }

    /// Makes an account, of which this browser is signed in then.
    pub(crate) async fn sign_up(&mut self, person: &mut Person, device: usize) -> Result<(), Setback> {
        self.context(&mut person.browsers[device]).await?;
        let staging = json!({
            "email": person.addresses[0],
            "pass": person.password,
            "site": "https://shop.example",
        });
        let address = person.addresses[0].clone();
        person.is_mailed();
        let browser = &mut person.browsers[device];
        let token = self.stage(Call::StageUser, browser, &address, staging).await?;
        // The minute until the next one counts from when it was sent, which may be long after it was asked for.
        person.mailed_at = Some(Instant::now());
        self.ask(
            Call::CompleteUserCreation,
            Some(browser),
            Body::Json(json!({ "token": token })),
            done,
        )
        .await?;
        self.signed_in(browser);
        Ok(())
    }

    /// Adds an address, and says which.
    pub(crate) async fn add_email(&mut self, person: &mut Person, device: usize) -> Result<usize, Setback> {
        let at = person.browsers[device].password_at;
        if at.is_none_or(|at| at.elapsed() >= PASSWORD_FRESH) {
            self.context(&mut person.browsers[device]).await?;
            self.authenticate(person, device).await?;
        }
        let address = self.ground.crowd.fresh_address();
        let browser = &mut person.browsers[device];
        let staging = json!({ "email": address, "site": "https://shop.example" });
        let token = self.stage(Call::StageEmail, browser, &address, staging).await?;
        self.ask(
            Call::CompleteEmailConfirmation,
            Some(browser),
            Body::Json(json!({ "token": token })),
            done,
        )
        .await?;
        let about = form_urlencoded::Serializer::new(String::new())
            .append_pair("email", &address)
            .finish();
        self.ask(
            Call::EmailAdditionStatus,
            Some(browser),
            Body::Form(about),
            |reply| {
                let status: Status = read(&reply)?;
                match status.status.as_str() {
                    "complete" => Ok(()),
                    other => Err(format!("200 {other}")),
                }
            },
        )
        .await?;
        person.addresses.push(address);
        Ok(person.addresses.len() - 1)
    }

    /// The first address is proven again, and takes the account: the others are nobody's until they are proven, too.
    async fn reset_password(&mut self, person: &mut Person, device: usize) -> Result<(), Setback> {
        self.context(&mut person.browsers[device]).await?;
        let address = person.addresses[0].clone();
        person.is_mailed();
        let browser = &mut person.browsers[device];
        let staging = json!({ "email": address, "site": "https://shop.example" });
        let token = self.stage(Call::StageReset, browser, &address, staging).await?;
        // The minute until the next one counts from when it was sent, which may be long after it was asked for.
        person.mailed_at = Some(Instant::now());
        person.password = password(&mut self.random);
        let body = json!({ "token": token, "pass": person.password });
        self.ask(Call::CompleteReset, Some(browser), Body::Json(body), done)
            .await?;
        for browser in &mut person.browsers {
            browser.sign_out();
        }
        person.addresses.truncate(1);
        self.signed_in(&mut person.browsers[device]);
        Ok(())
    }

    /// To the same one, as in the original: so nobody's is lost. It ends the other browsers' sessions all the same.
    async fn change_password(&mut self, person: &mut Person, device: usize) -> Result<(), Setback> {
        if !person.browsers[device].is_signed_in {
            self.context(&mut person.browsers[device]).await?;
            self.authenticate(person, device).await?;
        }
        let body = json!({ "oldpass": person.password, "newpass": person.password });
        let browser = Some(&mut person.browsers[device]);
        let changed = self
            .ask(Call::UpdatePassword, browser, Body::Json(body), done)
            .await;
        // If it is not known whether it was done, it may have been.
        if !matches!(changed, Err(Setback(Ending::Refused { .. }))) {
            for (number, browser) in person.browsers.iter_mut().enumerate() {
                match number == device {
                    true => browser.drop_certificates(),
                    false => browser.sign_out(),
                }
            }
        }
        changed
    }

    /// Asks for the context, as every page of the service does first.
    pub(crate) async fn context(&mut self, browser: &mut Browser) -> Result<Context, Setback> {
        let context: Context = self
            .ask(Call::SessionContext, Some(browser), Body::None, |reply| {
                read(&reply)
            })
            .await?;
        browser.learn(&context);
        Ok(context)
    }

    /// Gives the password.
    pub(crate) async fn authenticate(&mut self, person: &mut Person, device: usize) -> Result<(), Setback> {
        let address = self.random.random_range(0..person.addresses.len());
        let body = json!({
            "email": person.addresses[address],
            "pass": person.password,
            "ephemeral": false,
        });
        let browser = &mut person.browsers[device];
        self.ask(Call::AuthenticateUser, Some(browser), Body::Json(body), done)
            .await?;
        self.signed_in(browser);
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "it is this errand's doing")]
    fn signed_in(&self, browser: &mut Browser) {
        browser.is_signed_in = true;
        browser.password_at = Some(Instant::now());
    }

    /// Has a key certified for an address, unless one is.
    pub(crate) async fn certify(
        &mut self,
        person: &mut Person,
        device: usize,
        address: usize,
    ) -> Result<(), Setback> {
        let address = person.addresses[address].clone();
        let browser = &mut person.browsers[device];
        if browser.is_certified(&address) {
            return Ok(());
        }
        let Ok((key, pubkey)) = Browser::new_key(&mut self.random) else {
            return Err(self.fail(Call::CertKey, "no key could be made"));
        };
        let body = json!({ "email": address, "pubkey": pubkey, "ephemeral": false });
        let text = |reply: Reply| String::from_utf8(reply.body.into()).map_err(|_| NONSENSE.to_owned());
        let certificate = self
            .ask(Call::CertKey, Some(browser), Body::Json(body), text)
            .await?;
        if browser.keep(&address, key, certificate) {
            Ok(())
        } else {
            Err(self.fail(Call::CertKey, NONSENSE))
        }
    }

    /// Begins a proof by mail, and gives the mail's token.
    async fn stage(
        &mut self,
        call: Call,
        browser: &mut Browser,
        address: &str,
        staging: Value,
    ) -> Result<String, Setback> {
        let Some(mailbox) = &self.ground.mailbox else {
            return Err(self.fail(call, "no mail can be read"));
        };
        let awaited = mailbox.expect(address);
        self.ask(call, Some(browser), Body::Json(staging), done).await?;
        let sent = Instant::now();
        let token = awaited.token().await;
        let took = sent.elapsed();
        self.waited += took;
        self.due = Instant::now();
        let ending = match &token {
            Some(_) => Ending::Done,
            None => Ending::Failed("no mail in time".to_owned()),
        };
        if self.is_measured {
            self.ground.tally.counts().mails.note(&ending, took);
        }
        token.ok_or(Setback(ending))
    }

    /// Asks, waits, reads and counts.
    async fn ask<T>(
        &mut self,
        call: Call,
        mut browser: Option<&mut Browser>,
        body: Body,
        read: impl FnOnce(Reply) -> Result<T, String>,
    ) -> Result<T, Setback> {
        self.asked = Some(call);
        let request = self.request(call, browser.as_deref(), body);
        let answer = match (request, self.ground.sites.get(self.site)) {
            (Some(request), Some(site)) => site.ask(request).await.map_err(|error| error.to_string()),
            _ => Err("no request could be made".to_owned()),
        };
        let answered = Instant::now();
        let outcome = match answer {
            Ok(reply) => {
                if let Some(browser) = &mut browser {
                    browser.jar.take(&reply.headers);
                }
                if reply.status == StatusCode::SERVICE_UNAVAILABLE {
                    let says_when = reply.headers.contains_key(RETRY_AFTER);
                    Err(Ending::Refused { says_when })
                } else if reply.status.is_success() {
                    read(reply).map_err(|reason| Ending::Failed(shorten(&reason)))
                } else {
                    let code = serde_json::from_slice::<Refusal>(&reply.body)
                        .unwrap_or_default()
                        .code;
                    let reason = format!("{} {code}", reply.status.as_u16());
                    Err(Ending::Failed(shorten(reason.trim_end())))
                }
            }
            Err(reason) => Err(Ending::Failed(reason)),
        };
        let took = answered.saturating_duration_since(self.due);
        self.due = answered;
        let ending = outcome.as_ref().err().unwrap_or(&Ending::Done);
        self.ground.tally.call(call, ending, took, self.is_measured);
        outcome.map_err(Setback)
    }

    /// Counts a failure that is no answer's.
    fn fail(&mut self, call: Call, reason: &str) -> Setback {
        self.asked = Some(call);
        let ending = Ending::Failed(reason.to_owned());
        self.ground
            .tally
            .call(call, &ending, Duration::ZERO, self.is_measured);
        Setback(ending)
    }

    fn request(&mut self, call: Call, browser: Option<&Browser>, body: Body) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::default());
        let mut path = match call {
            Call::IncludeJs => "/include.js".to_owned(),
            Call::Verify => "/verify".to_owned(),
            _ => format!("/wsapi/{call}"),
        };
        // A web site's server is somewhere else than the person who signs in to it.
        let client = match call {
            Call::Verify => client(&mut self.random),
            _ => self.client,
        };
        let headers = request.headers_mut();
        headers.insert(FORWARDED_FOR, HeaderValue::from_str(&client.to_string()).ok()?);
        headers.insert(USER_AGENT, HeaderValue::from_static(BROWSER_NAME));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
        if call != Call::IncludeJs && call != Call::Verify {
            headers.insert(SEC_FETCH_SITE, HeaderValue::from_static("same-origin"));
        }
        if let Some(browser) = browser {
            browser.jar.put(headers);
        }
        let (method, bytes) = match body {
            Body::None => (Method::GET, Bytes::new()),
            Body::Form(query) if call != Call::Verify => {
                path = format!("{path}?{query}");
                (Method::GET, Bytes::new())
            }
            Body::Form(form) => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                );
                (Method::POST, form.into())
            }
            Body::Json(mut arguments) => {
                arguments["csrf"] = browser?.csrf.as_str().into();
                let once = format!("{:032x}", self.random.random::<u128>());
                headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&once).ok()?);
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(ORIGIN, self.ground.origin.clone());
                (Method::POST, arguments.to_string().into())
            }
        };
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().ok()?;
        *request.body_mut() = Full::new(bytes);
        Some(request)
    }
}

#[derive(Deserialize)]
struct Done {
    success: bool,
    #[serde(default)]
    code: String,
}

#[derive(Deserialize)]
struct Emails {
    emails: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

#[derive(Deserialize)]
struct Verdict {
    status: String,
    email: Option<String>,
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
}

const NONSENSE: &str = "200 nonsense";

fn read<T: DeserializeOwned>(reply: &Reply) -> Result<T, String> {
    serde_json::from_slice(&reply.body).map_err(|_| NONSENSE.to_owned())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is given to what takes every reply"
)]
fn done(reply: Reply) -> Result<(), String> {
    let Done { success, code } = read(&reply)?;
    if success {
        Ok(())
    } else {
        Err(format!("200 {code}"))
    }
}

fn shorten(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

/// What sites hear from whoever stands in front of them; for a site that trusts this machine as a proxy, every person comes
/// from an address of their own.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const BROWSER_NAME: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
