//! Signing in: by a password, or by an assertion of one of the account's addresses.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SecureWebhead, sessions::Grounds};
use crate::{
    browserid::{BackedAssertion, Reason},
    identity::{Address, Outcome, Refusal},
    wsapi::{
        Post, Problem,
        answer::Answer,
        arguments::{AssertionArgument, Email, Password},
        problem,
        signed_in::Level,
    },
};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    email: Email,
    pass: Password,
    #[serde(default)]
    ephemeral: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ByAssertion {
    assertion: AssertionArgument,
    #[serde(default)]
    ephemeral: bool,
}

/// Somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedInAnswer {
    success: bool,
    /// Opaque.
    userid: String,
}

impl SignedInAnswer {
    pub(super) fn of(account: crdt::AccountId) -> SignedInAnswer {
        SignedInAnswer {
            success: true,
            userid: userid(account),
        }
    }
}

/// An account as pages know it: opaque.
pub(super) fn userid(account: crdt::AccountId) -> String {
    crate::browserid::json::encode_base64url(account.as_bytes())
}

/// Signs in with a password of any of the account's addresses.
#[utoipa::path(
    post,
    path = "/wsapi/authenticate_user",
    tag = "session",
    responses((status = 200, body = SignedInAnswer)), request_body = Credentials)]
pub(super) async fn authenticate_user(
    State(tier): State<SecureWebhead>,
    call: Post<Credentials>,
) -> Result<Answer<SignedInAnswer>, Problem> {
    let Credentials {
        email: Email(address),
        pass: Password(password),
        ephemeral,
    } = call.args;
    let device = call.visitor.device.as_ref();
    tier.reception.pay_for_password(&address, device)?;
    let identity = tier.identity_for(call.once);
    match identity
        .sign_in(&address, password, call.visitor.device.clone())
        .await?
    {
        Outcome::Done { value, dot } => {
            tier.reception.give_back_password(&address, device);
            tier.note_password_used(value.account, address);
            tier.durable(dot).await;
            let grounds = Grounds {
                account: value.account,
                epoch: value.epoch,
                dot,
                level: Level::Password,
                ephemeral,
            };
            let cookies = tier
                .begin_session(&call.visitor, &call.user_agent, grounds)
                .await?;
            Ok(Answer::new(SignedInAnswer::of(value.account)).with_cookies(cookies))
        }
        // A wrong password is an answer, and no error of the request; it says the same of who is not known.
        Outcome::Refused(refusal) => Err(match refusal {
            Refusal::Locked => Problem::outcome("locked", "account locked"),
            _ => Problem::outcome("wrong-password", "mismatch"),
        }),
    }
}

/// Signs in with an assertion that a primary's certificate backs. An address that nobody has gets an account.
#[utoipa::path(
    post,
    path = "/wsapi/auth_with_assertion",
    tag = "session",
    responses((status = 200, body = SignedInAnswer)), request_body = ByAssertion)]
pub(super) async fn auth_with_assertion(
    State(tier): State<SecureWebhead>,
    call: Post<ByAssertion>,
) -> Result<Answer<SignedInAnswer>, Problem> {
    let address = tier.proven_by(&call.args.assertion).await?;
    let identity = tier.identity_for(call.once);
    match identity.sign_in_as_primary(address).await? {
        Outcome::Done { value, dot } => {
            tier.durable(dot).await;
            let grounds = Grounds {
                account: value.account,
                epoch: value.epoch,
                dot,
                level: Level::Assertion,
                ephemeral: call.args.ephemeral,
            };
            let cookies = tier
                .begin_session(&call.visitor, &call.user_agent, grounds)
                .await?;
            Ok(Answer::new(SignedInAnswer::of(value.account)).with_cookies(cookies))
        }
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

impl SecureWebhead {
    /// The address that an assertion for Persona itself proves: of a primary, for the fallback's certificates say no more
    /// than what the account's own password said.
    pub(super) async fn proven_by(&self, assertion: &AssertionArgument) -> Result<Address, Problem> {
        let failed = |reason: &Reason| Problem::outcome("bad-assertion", reason.to_string());
        let backed = BackedAssertion::parse(&assertion.0).map_err(|error| failed(&error.into()))?;
        let audience = self.reception.public_url.origin();
        let verified = self
            .verifier
            .verify_primary(&backed, audience, self.reception.now_ms())
            .await?;
        let verified = verified.map_err(|reason| failed(&reason))?;
        Ok(verified.email().clone())
    }
}
