//! `session_context`: what a page must know before it can ask for anything.

use axum::extract::State;
use rand::RngExt;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Webhead, account::verified_emails};
use crate::{
    browserid::json::encode_base64url,
    wsapi::{
        Get, Problem,
        answer::{Answer, Done},
        arguments::Nothing,
        cookies::CookieName,
        reception::random,
        signed_in::{Known, Level},
    },
};

/// Who asks, and what its next calls must say.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionContext {
    /// What every POST repeats as `csrf`.
    csrf_token: String,
    /// This site's clock, in milliseconds since 1970: assertions are stamped by it.
    server_time: u64,
    /// Whether somebody is signed in.
    authenticated: bool,
    /// `false`, or how well they have shown who they are.
    auth_level: AuthLevel,
    /// Whether their account has a password.
    has_password: bool,
    /// Opaque.
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<String>,
    /// The verified addresses of who is signed in, so that the dialog need not ask for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    emails: Option<Vec<String>>,
    /// When the keys of this service last changed, in milliseconds since 1970: older certificates are worth nothing.
    domain_key_creation_time: u64,
    /// 32 bytes in base64url.
    random_seed: String,
    /// Nothing is sampled.
    data_sample_rate: f64,
    /// Whether this browser has sent a cookie.
    cookies: bool,
    /// The version that runs.
    code_version: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum AuthLevel {
    /// `false`.
    No(bool),
    /// `assertion` or `password`.
    By(&'static str),
}

/// Who is signed in, and what the next calls must say.
#[utoipa::path(
    get,
    path = "/wsapi/session_context",
    tag = "session",
    responses((status = 200, body = SessionContext))
)]
pub(super) async fn session_context(
    State(webhead): State<Webhead>,
    call: Get<Nothing>,
) -> Result<Answer<SessionContext>, Problem> {
    let reception = &webhead.reception;
    let (known, account) = reception.known_closely(&call.visitor).await?;
    let (session, has_password) = match &known {
        Known::Nobody => (None, false),
        Known::Somebody(person) => (Some(&person.session), person.has_password),
        // What it proves by itself; whether the account has a password is not known here yet.
        Known::NotYet(session) => (Some(session), session.methods.password_ms.is_some()),
    };
    // Also of a session that the records have ended: it is what a POST of this browser is compared with.
    let csrf = call.visitor.csrf();
    let is_new = csrf.is_none();
    let csrf = csrf.unwrap_or_else(random);
    let context = SessionContext {
        csrf_token: encode_base64url(csrf),
        server_time: reception.now_ms(),
        authenticated: session.is_some(),
        auth_level: match session {
            Some(session) => AuthLevel::By(Level::of(session).name()),
            None => AuthLevel::No(false),
        },
        has_password,
        userid: session.map(|session| encode_base64url(session.account.as_bytes())),
        emails: account.as_ref().map(verified_emails),
        domain_key_creation_time: reception.keys.domain_key_creation_ms(),
        random_seed: encode_base64url(rand::rng().random::<[u8; 32]>()),
        data_sample_rate: 0.0,
        cookies: call.visitor.visit.is_some() || call.visitor.session.is_some(),
        code_version: env!("CARGO_PKG_VERSION"),
    };
    let visit = is_new.then(|| {
        reception
            .cookies
            .set(CookieName::Visit, &context.csrf_token, None)
    });
    Ok(Answer::new(context).with_cookies(visit.flatten()))
}

/// Taken, and thrown away: this service measures nobody.
#[utoipa::path(post, path = "/wsapi/interaction_data", tag = "health", responses((status = 200, body = Done)))]
pub(super) async fn interaction_data() -> Answer<Done> {
    Answer::new(Done::YES)
}

/// Whether this site's replica answers.
#[utoipa::path(get, path = "/wsapi/ping", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn ping(State(webhead): State<Webhead>) -> Result<&'static str, Problem> {
    webhead.reception.directory.ping().await?;
    Ok("ok")
}
