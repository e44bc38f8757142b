//! The secure webhead: the only tier that writes, hashes passwords, signs sessions and sends mail.
//!
//! | module | subject |
//! | --- | --- |
//! | `sign_in` | a password, an assertion |
//! | `sessions` | cookies begun, renewed and ended |
//! | `staging` | proofs by mail: begun and completed |
//! | `account` | password, addresses, the end |
//! | `idp` | domains that certify their own users |
//! | `device` | a browser, in a few words |
//! | `notices` | telling people what was done to their account |
//!
//! Strangers never reach it: a webhead passes on what the table of [`ENDPOINTS`](crate::wsapi::ENDPOINTS) says is for it.

mod account;
mod device;
mod idp;
mod notices;
mod sessions;
mod sign_in;
mod staging;

use std::sync::Arc;

use axum::{
    Router,
    extract::FromRef,
    routing::{get, post},
};
use crdt::Epoch;
use gossip::Dot;
use utoipa::OpenApi;

use crate::{
    browserid::SigningKey,
    identity::{Durability, Identity, Once, PasswordRules, TypedPassword},
    idp::{Discovery, GracePeriod},
    keysigner::Signer,
    mail::Mailer,
    verifier::Verifier,
    wsapi::{
        Post, Problem, Reception,
        answer::Done,
        signed_in::{Level, Person},
    },
};

/// A secure webhead. Clones are handles.
#[derive(Clone)]
pub struct SecureWebhead {
    /// Who asks.
    pub reception: Arc<Reception>,
    /// What people do.
    pub identity: Identity,
    /// What a new password must be.
    pub rules: PasswordRules,
    /// What assertions prove.
    pub verifier: Arc<Verifier>,
    /// Who speaks for a domain.
    pub discovery: Discovery,
    /// How long a domain that is gone stays an IdP.
    pub grace: GracePeriod,
    /// What sends mail.
    pub mailer: Arc<Mailer>,
    /// What signs sessions.
    pub signer: Signer,
    /// Whether this site has heard no other for a minute: what is signed then lasts an hour at most.
    pub is_isolated: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What this site is called, for who looks where they are signed in.
    pub site: Arc<str>,
}

impl FromRef<SecureWebhead> for Arc<Reception> {
    fn from_ref(tier: &SecureWebhead) -> Arc<Reception> {
        tier.reception.clone()
    }
}

/// What webheads reach.
pub fn router(tier: SecureWebhead) -> Router {
    Router::new()
        .route("/wsapi/address_info", get(idp::address_info))
        .route("/wsapi/discovery", get(idp::discovery))
        .route("/wsapi/authenticate_user", post(sign_in::authenticate_user))
        .route("/wsapi/auth_with_assertion", post(sign_in::auth_with_assertion))
        .route("/wsapi/logout", post(sessions::logout))
        .route("/wsapi/prolong_session", post(sessions::prolong_session))
        .route("/wsapi/end_session", post(sessions::end_session))
        .route("/wsapi/sign_out_everywhere", post(account::sign_out_everywhere))
        .route("/wsapi/update_password", post(account::update_password))
        .route(
            "/wsapi/add_email_with_assertion",
            post(account::add_email_with_assertion),
        )
        .route("/wsapi/remove_email", post(account::remove_email))
        .route("/wsapi/account_cancel", post(account::account_cancel))
        .route(
            "/wsapi/used_address_as_primary",
            post(account::used_address_as_primary),
        )
        .merge(staging::routes())
        .with_state(tier)
}

/// Describes the calls that this tier answers.
pub fn description() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(
        idp::address_info,
        idp::discovery,
        sign_in::authenticate_user,
        sign_in::auth_with_assertion,
        sessions::logout,
        sessions::prolong_session,
        sessions::end_session,
        account::sign_out_everywhere,
        account::update_password,
        account::add_email_with_assertion,
        account::remove_email,
        account::account_cancel,
        account::used_address_as_primary,
        staging::stage_user,
        staging::stage_email,
        staging::stage_reset,
        staging::stage_reverify,
        staging::stage_transition,
        staging::complete_user_creation,
        staging::complete_email_confirmation,
        staging::complete_reset,
        staging::complete_transition,
        staging::complete_by_code
    ))]
    struct Calls;
    Calls::openapi()
}

impl SecureWebhead {
    /// The domain, for one request that may come twice.
    fn identity_for(&self, once: Option<Once>) -> Identity {
        match once {
            Some(once) => self.identity.once(once),
            None => self.identity.clone(),
        }
    }

    /// Refuses a new password that is too common.
    fn allow(&self, password: &TypedPassword) -> Result<(), Problem> {
        let allowed = self.rules.allow(password);
        allowed.map_err(|error| Problem::bad_request("bad-password", error.to_string()))
    }

    /// Who asks for a write of their own. A repeat of what has ended their session goes through: it gets the answer that got
    /// lost.
    async fn person<A>(&self, call: &Post<A>, at_least: Level) -> Result<Person, Problem> {
        match self.reception.person(&call.visitor, at_least).await {
            Ok(person) => {
                // What the session has seen and this site had not, it knows from now on.
                if person.session.epoch > Epoch::default() {
                    let raised = self
                        .identity
                        .raise_epoch(person.account(), person.session.epoch)
                        .await;
                    if let Err(error) = raised {
                        tracing::debug!(%error, "a session's epoch could not be noted");
                    }
                }
                Ok(person)
            }
            Err(problem) => {
                let (Some(once), Some(session)) = (&call.once, &call.visitor.session) else {
                    return Err(problem);
                };
                if !self.identity.is_recorded(once).await? {
                    return Err(problem);
                }
                Ok(Person {
                    level: Level::of(session),
                    epoch: session.epoch,
                    has_password: session.methods.password_ms.is_some(),
                    session: session.clone(),
                })
            }
        }
    }

    /// Waits until a write is as durable as is configured, and says how it stands.
    async fn durable(&self, dot: Option<Dot>) -> Done {
        let Some(dot) = dot else { return Done::YES };
        match self.identity.replica().durability_of(dot).await {
            Ok(Durability::AsConfigured) => Done::YES,
            // It is written; how far it got is not known.
            Ok(Durability::Degraded) | Err(_) => Done {
                elsewhere: Some(false),
                ..Done::YES
            },
        }
    }

    fn signer(&self) -> Option<Arc<SigningKey>> {
        (self.signer)()
    }

    fn is_isolated(&self) -> bool {
        (self.is_isolated)()
    }
}
