//! What somebody signed in does to their account: the password, addresses, signing out everywhere, the end.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::SecureWebhead;
use crate::{
    identity::{Outcome, Refusal},
    mail::Notice,
    wsapi::{
        Post, Problem,
        answer::{Answer, Done},
        arguments::{AssertionArgument, Email, Nothing, Password},
        problem,
        signed_in::Level,
    },
};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    oldpass: Password,
    newpass: Password,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneEmail {
    email: Email,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OneAssertion {
    assertion: AssertionArgument,
}

/// Changes the password of who knows the old one. Every other session ends.
#[utoipa::path(post, path = "/wsapi/update_password", tag = "account", responses((status = 200, body = Done)), request_body = PasswordChange)]
pub(super) async fn update_password(
    State(tier): State<SecureWebhead>,
    call: Post<PasswordChange>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    let (old, new) = (call.args.oldpass.0.clone(), call.args.newpass.0.clone());
    tier.allow(&new)?;
    let identity = tier.identity_for(call.once);
    let device = call.visitor.device.clone();
    let outcome = identity
        .change_password(person.account(), old, new, device)
        .await?;
    match outcome {
        Outcome::Done { value: epoch, dot } => {
            let done = tier.durable(dot).await;
            tier.notify(person.account(), Notice::PasswordChanged).await;
            let mut methods = person.session.methods;
            methods.password_ms = Some(tier.reception.now_ms());
            Ok(Answer::new(done).with_cookies(tier.outlive(&call, &person, epoch, dot, methods).await?))
        }
        Outcome::Refused(Refusal::WrongPassword) => {
            Err(Problem::outcome("wrong-password", "old password does not match"))
        }
        Outcome::Refused(Refusal::Locked) => Err(Problem::outcome("locked", "account locked")),
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

/// Ends every session of the account but this one.
#[utoipa::path(post, path = "/wsapi/sign_out_everywhere", tag = "session", responses((status = 200, body = Done)), request_body = Nothing)]
pub(super) async fn sign_out_everywhere(
    State(tier): State<SecureWebhead>,
    call: Post<Nothing>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    let identity = tier.identity_for(call.once);
    match identity.sign_out_everywhere(person.account()).await? {
        Outcome::Done { value: epoch, dot } => {
            let done = tier.durable(dot).await;
            let cookies = tier
                .outlive(&call, &person, epoch, dot, person.session.methods)
                .await?;
            Ok(Answer::new(done).with_cookies(cookies))
        }
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

/// Lets an address of the account go.
#[utoipa::path(post, path = "/wsapi/remove_email", tag = "addresses", responses((status = 200, body = Done)), request_body = OneEmail)]
pub(super) async fn remove_email(
    State(tier): State<SecureWebhead>,
    call: Post<OneEmail>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    person.with_fresh_password(tier.reception.now_ms())?;
    let address = call.args.email.0;
    // Who owns the address now is told as well: of what is removed by somebody else nobody else would tell them.
    let told = tier.verified_addresses(person.account()).await;
    let identity = tier.identity_for(call.once);
    match identity.remove_email(person.account(), &address).await? {
        Outcome::Done { dot, .. } => {
            let done = tier.durable(dot).await;
            tier.notify_these(told, &Notice::AddressRemoved(address)).await;
            Ok(Answer::new(done).with_cookies(tier.renew_session(&person, dot)?))
        }
        Outcome::Refused(Refusal::NotHeld) => Err(Problem::bad_request(
            "not-yours",
            "that email does not belong to you",
        )),
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

/// Ends the account for good.
#[utoipa::path(post, path = "/wsapi/account_cancel", tag = "account", responses((status = 200, body = Done)), request_body = Nothing)]
pub(super) async fn account_cancel(
    State(tier): State<SecureWebhead>,
    call: Post<Nothing>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    person.with_fresh_password(tier.reception.now_ms())?;
    let told = tier.verified_addresses(person.account()).await;
    let identity = tier.identity_for(call.once);
    match identity.cancel_account(person.account()).await? {
        Outcome::Done { dot, .. } => {
            let done = tier.durable(dot).await;
            tier.notify_these(told, &Notice::AccountCancelled).await;
            Ok(Answer::new(done).with_cookies(tier.end_cookies(&call.visitor)))
        }
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

/// Adds an address that a primary certified.
#[utoipa::path(post, path = "/wsapi/add_email_with_assertion", tag = "addresses",
    responses((status = 200, body = Done)), request_body = OneAssertion)]
pub(super) async fn add_email_with_assertion(
    State(tier): State<SecureWebhead>,
    call: Post<OneAssertion>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    person.with_fresh_password(tier.reception.now_ms())?;
    let address = tier.proven_by(&call.args.assertion).await?;
    let identity = tier.identity_for(call.once);
    match identity.add_primary(person.account(), address.clone()).await? {
        Outcome::Done { dot, .. } => {
            let done = tier.durable(dot).await;
            tier.notify(person.account(), Notice::AddressAdded(address)).await;
            Ok(Answer::new(done).with_cookies(tier.renew_session(&person, dot)?))
        }
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}

/// Notes that an address is certified by its own domain from now on.
#[utoipa::path(post, path = "/wsapi/used_address_as_primary", tag = "addresses",
    responses((status = 200, body = Done)), request_body = OneEmail)]
pub(super) async fn used_address_as_primary(
    State(tier): State<SecureWebhead>,
    call: Post<OneEmail>,
) -> Result<Answer<Done>, Problem> {
    let person = tier.person(&call, Level::Assertion).await?;
    let address = call.args.email.0;
    if !tier.has_primary(&address).await {
        return Err(Problem::bad_request(
            "not-primary",
            "the domain of this email does not certify its users",
        ));
    }
    let identity = tier.identity_for(call.once);
    match identity
        .used_as(person.account(), address, crdt::UsedAs::Primary)
        .await?
    {
        Outcome::Done { dot, .. } => {
            let done = tier.durable(dot).await;
            Ok(Answer::new(done).with_cookies(tier.renew_session(&person, dot)?))
        }
        Outcome::Refused(refusal) => Err(problem::of_refusal(refusal)),
    }
}
