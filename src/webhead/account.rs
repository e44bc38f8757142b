//! What somebody signed in sees of their account, and what anybody sees of an address.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Webhead;
use crate::{
    browserid::json::encode_base64url,
    identity::{AccountState, SignedInAt},
    wsapi::{
        Get, Problem,
        answer::Answer,
        arguments::{Email, Nothing},
        signed_in::Level,
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneEmail {
    email: Email,
}

/// Whether an address is known: the original told, and the dialog has to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HaveEmail {
    email_known: bool,
}

/// The addresses that certificates can be had for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListEmails {
    success: bool,
    emails: Vec<String>,
}

/// All that an account page shows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountDetails {
    success: bool,
    userid: String,
    has_password: bool,
    created_ms: u64,
    emails: Vec<EmailDetails>,
    /// Addresses that were this account's, until a newer sign-up elsewhere took them.
    lost: Vec<String>,
}

/// One address.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EmailDetails {
    email: String,
    verified: bool,
    /// `primary` or `secondary`: how it was certified last.
    r#type: &'static str,
}

/// Where somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListSessions {
    success: bool,
    sessions: Vec<SessionDetails>,
}

/// One of those places.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionDetails {
    id: String,
    /// The one that asks.
    current: bool,
    started_ms: u64,
    /// To the hour.
    seen_ms: u64,
    /// In a few words.
    device: String,
    /// The data center that it was seen at.
    site: String,
}

/// Whether somebody has an address.
#[utoipa::path(get, path = "/wsapi/have_email", tag = "addresses", params(("email" = Email, Query)),
    responses((status = 200, body = HaveEmail)))]
pub(super) async fn have_email(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<HaveEmail>, Problem> {
    let state = webhead.reception.directory.email(&call.args.email.0).await?;
    Ok(Answer::new(HaveEmail {
        email_known: state.holder.is_some(),
    }))
}

/// The verified addresses of who is signed in.
#[utoipa::path(get, path = "/wsapi/list_emails", tag = "addresses", responses((status = 200, body = ListEmails)))]
pub(super) async fn list_emails(
    State(webhead): State<Webhead>,
    call: Get<Nothing>,
) -> Result<Answer<ListEmails>, Problem> {
    let asked = webhead.reception.person_closely(&call.visitor, Level::Assertion);
    let (_, account) = asked.await?;
    Ok(Answer::new(ListEmails {
        success: true,
        emails: verified_emails(&account),
    }))
}

/// The addresses that somebody can have certificates for.
pub(super) fn verified_emails(account: &AccountState) -> Vec<String> {
    let verified = account.emails.iter().filter(|held| held.verified);
    verified.map(|held| held.address.typed().to_owned()).collect()
}

/// The account of who is signed in.
#[utoipa::path(get, path = "/wsapi/account_details", tag = "account", responses((status = 200, body = AccountDetails)))]
pub(super) async fn account_details(
    State(webhead): State<Webhead>,
    call: Get<Nothing>,
) -> Result<Answer<AccountDetails>, Problem> {
    let asked = webhead.reception.person_closely(&call.visitor, Level::Assertion);
    let (person, state) = asked.await?;
    Ok(Answer::new(AccountDetails {
        success: true,
        userid: encode_base64url(person.account().as_bytes()),
        has_password: state.has_password,
        created_ms: state.created.ms(),
        emails: state
            .emails
            .iter()
            .map(|held| EmailDetails {
                email: held.address.typed().to_owned(),
                verified: held.verified,
                r#type: match held.used_as {
                    Some(crdt::UsedAs::Primary) => "primary",
                    Some(crdt::UsedAs::Secondary) | None => "secondary",
                },
            })
            .collect(),
        lost: state
            .lost
            .iter()
            .map(|address| address.typed().to_owned())
            .collect(),
    }))
}

/// Where who is signed in is signed in.
#[utoipa::path(get, path = "/wsapi/list_sessions", tag = "session", responses((status = 200, body = ListSessions)))]
pub(super) async fn list_sessions(
    State(webhead): State<Webhead>,
    call: Get<Nothing>,
) -> Result<Answer<ListSessions>, Problem> {
    let person = webhead.reception.person(&call.visitor, Level::Assertion).await?;
    let sessions = webhead.reception.directory.sessions(person.account()).await?;
    let details = |at: SignedInAt| SessionDetails {
        id: encode_base64url(at.id),
        current: at.id == person.session.id,
        started_ms: at.started_ms,
        seen_ms: at.seen_ms,
        device: at.device,
        site: at.site,
    };
    Ok(Answer::new(ListSessions {
        success: true,
        sessions: sessions.into_iter().map(details).collect(),
    }))
}
