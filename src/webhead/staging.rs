//! How far a proof by mail has come. Polled every few seconds by the page that began, and told to whoever has the link.

use axum::extract::State;
use crdt::Purpose;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Webhead;
use crate::{
    browserid::json::encode_base64url,
    identity::{
        Refusal,
        staging::{StagingStatus, TokenFacts},
    },
    wsapi::{
        Get, Problem,
        answer::Answer,
        arguments::{Email, TokenArgument},
        signed_in::{Known, Level, Person},
    },
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneEmail {
    email: Email,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneToken {
    token: TokenArgument,
}

/// How far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    success: bool,
    /// `pending`, `complete`, `mustAuth` (done, perhaps elsewhere; this browser has yet to prove itself) or `failed`.
    status: &'static str,
    /// Of who is signed in here.
    #[serde(skip_serializing_if = "Option::is_none")]
    userid: Option<String>,
}

/// What a token is for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenAnswer {
    success: bool,
    email: String,
    /// `new-account`, `add-email`, `reset`, `reverify` or `transition`.
    purpose: &'static str,
    /// A password has to be given: the one that was chosen at the beginning, or the account's.
    must_auth: bool,
    /// A new password is to be chosen.
    needs_password: bool,
}

/// How far a sign-up is.
#[utoipa::path(get, path = "/wsapi/user_creation_status", tag = "proofs", params(("email" = Email, Query)),
    responses((status = 200, body = Status)))]
pub(super) async fn user_creation_status(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<Status>, Problem> {
    webhead.status(&call).await
}

/// How far a reset is.
#[utoipa::path(get, path = "/wsapi/password_reset_status", tag = "proofs", params(("email" = Email, Query)),
    responses((status = 200, body = Status)))]
pub(super) async fn password_reset_status(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<Status>, Problem> {
    webhead.status(&call).await
}

/// How far a transition is.
#[utoipa::path(get, path = "/wsapi/transition_status", tag = "proofs", params(("email" = Email, Query)),
    responses((status = 200, body = Status)))]
pub(super) async fn transition_status(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<Status>, Problem> {
    webhead.status(&call).await
}

/// How far an addition is.
#[utoipa::path(get, path = "/wsapi/email_addition_status", tag = "proofs", params(("email" = Email, Query)),
    responses((status = 200, body = Status)))]
pub(super) async fn email_addition_status(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<Status>, Problem> {
    let person = webhead.reception.person(&call.visitor, Level::Assertion).await?;
    webhead.status_of(&person, &call).await
}

/// How far it is to prove an address again.
#[utoipa::path(get, path = "/wsapi/email_reverify_status", tag = "proofs", params(("email" = Email, Query)),
    responses((status = 200, body = Status)))]
pub(super) async fn email_reverify_status(
    State(webhead): State<Webhead>,
    call: Get<OneEmail>,
) -> Result<Answer<Status>, Problem> {
    let person = webhead.reception.person(&call.visitor, Level::Assertion).await?;
    webhead.status_of(&person, &call).await
}

/// What a token is for, before it is used.
#[utoipa::path(get, path = "/wsapi/email_for_token", tag = "proofs", params(("token" = TokenArgument, Query)),
    responses((status = 200, body = TokenAnswer)))]
pub(super) async fn email_for_token(
    State(webhead): State<Webhead>,
    call: Get<OneToken>,
) -> Result<Answer<TokenAnswer>, Problem> {
    let directory = &webhead.reception.directory;
    let facts: Option<TokenFacts> = directory
        .token(&call.args.token.0, call.visitor.began.as_ref())
        .await?;
    let Some(facts) = facts else {
        let refusal = Refusal::UnknownStaging;
        return Err(Problem::outcome(refusal.code(), refusal.sentence()));
    };
    let session = match webhead.reception.known(&call.visitor).await? {
        Known::Somebody(person) if person.level == Level::Password => Some(person.account()),
        Known::Somebody(_) | Known::Nobody | Known::NotYet(_) => None,
    };
    Ok(Answer::new(TokenAnswer {
        success: true,
        must_auth: facts.must_auth(session),
        needs_password: facts.needs_password(),
        purpose: match facts.purpose {
            Purpose::NewAccount => "new-account",
            Purpose::AddEmail => "add-email",
            Purpose::Reset => "reset",
            Purpose::Reverify => "reverify",
            Purpose::Transition => "transition",
        },
        email: facts.address.typed().to_owned(),
    }))
}

impl Webhead {
    /// For who may not be signed in yet: by what this browser began.
    async fn status(&self, call: &Get<OneEmail>) -> Result<Answer<Status>, Problem> {
        let person = match self.reception.known(&call.visitor).await? {
            Known::Somebody(person) => Some(person),
            Known::Nobody | Known::NotYet(_) => None,
        };
        Ok(match (self.began(call).await?, person) {
            (Some(StagingStatus::Pending), _) => answer("pending", None),
            (Some(StagingStatus::Ended), _) => answer("failed", None),
            (Some(StagingStatus::Completed { account }), Some(person)) if person.account() == account => {
                answer("complete", Some(&person))
            }
            (None, Some(person)) if self.holds(&person, call).await? == Some(true) => {
                answer("complete", Some(&person))
            }
            (Some(StagingStatus::Completed { .. }) | None, _) => answer("mustAuth", None),
        })
    }

    /// For who is signed in: by what they have.
    async fn status_of(&self, person: &Person, call: &Get<OneEmail>) -> Result<Answer<Status>, Problem> {
        if self.holds(person, call).await? == Some(true) {
            return Ok(answer("complete", Some(person)));
        }
        Ok(match self.began(call).await? {
            Some(StagingStatus::Pending) => answer("pending", Some(person)),
            // Done, and not for this account; or over.
            Some(StagingStatus::Completed { .. } | StagingStatus::Ended) | None => {
                answer("failed", Some(person))
            }
        })
    }

    /// How what this browser began stands; `None` if it began nothing. What is not known here waits: it may be on its way.
    async fn began(&self, call: &Get<OneEmail>) -> Result<Option<StagingStatus>, Problem> {
        let Some(here) = &call.visitor.began else {
            return Ok(None);
        };
        let status = self.reception.directory.staging_status(here).await?;
        Ok(Some(status.unwrap_or(StagingStatus::Pending)))
    }

    /// Whether somebody has the address: verified, or not, or not at all.
    async fn holds(&self, person: &Person, call: &Get<OneEmail>) -> Result<Option<bool>, Problem> {
        let state = self.reception.directory.email(&call.args.email.0).await?;
        let held = state.holder.filter(|holder| holder.account == person.account());
        Ok(held.map(|holder| holder.verified))
    }
}

fn answer(status: &'static str, person: Option<&Person>) -> Answer<Status> {
    Answer::new(Status {
        success: true,
        status,
        userid: person.map(|person| encode_base64url(person.account().as_bytes())),
    })
}
