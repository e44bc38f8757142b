//! The keysigner: certifies that a browser's key speaks for an address, after checking everything itself.
//!
//! It alone holds its site's certificate key. It believes nobody, the webhead in front of it least: the session's signature,
//! whether it is over, whose the address is, whether it is verified, whether the domain has an IdP of its own: all that is
//! read here, in its own replica, at one moment. *Not here yet* is 503, and never a signature.

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRef, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::post,
};
use serde::Deserialize;
use utoipa::{OpenApi, ToSchema};

use crate::{
    browserid::{Domain, IssueError, NewCertificate, SigningKey},
    identity::Certifiable,
    idp::GracePeriod,
    wsapi::{
        Post, Problem, Reception,
        arguments::{Email, Pubkey},
        signed_in::Level,
    },
};

/// Gives the key that signs now; `None` while there is none yet.
pub type Signer = Arc<dyn Fn() -> Option<Arc<SigningKey>> + Send + Sync>;

/// A keysigner.
#[derive(Clone)]
pub struct Keysigner {
    /// Who asks.
    pub reception: Arc<Reception>,
    /// In whose name certificates are issued.
    pub issuer: Domain,
    /// The key.
    pub signer: Signer,
    /// How long a domain that is gone stays an IdP.
    pub grace: GracePeriod,
    /// Whether this site has heard no other for a minute: what is signed then lasts an hour at most.
    pub is_isolated: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl FromRef<Keysigner> for Arc<Reception> {
    fn from_ref(keysigner: &Keysigner) -> Arc<Reception> {
        keysigner.reception.clone()
    }
}

/// What webheads reach.
pub fn router(keysigner: Keysigner) -> Router {
    Router::new()
        .route("/wsapi/cert_key", post(cert_key))
        .with_state(keysigner)
}

/// Describes its one call.
pub fn description() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(paths(cert_key))]
    struct Calls;
    Calls::openapi()
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CertKey {
    email: Email,
    pubkey: Pubkey,
    ephemeral: bool,
}

/// Certifies a key for an address of the person who is signed in.
#[utoipa::path(
    post,
    path = "/wsapi/cert_key",
    tag = "certificates",
    request_body = CertKey,
    responses(
        (status = 200, description = "a certificate", body = String, content_type = "text/plain"),
        (status = 400, description = "not signed in with a password, or the address is not theirs"),
        (status = 403, description = "the address is not verified, or its own domain speaks for it")
    )
)]
async fn cert_key(
    State(keysigner): State<Keysigner>,
    call: Post<CertKey>,
) -> Result<impl IntoResponse, Problem> {
    let reception = &keysigner.reception;
    let CertKey {
        email: Email(address),
        pubkey: Pubkey(public_key),
        ephemeral,
    } = call.args;
    let person = reception.person(&call.visitor, Level::Password).await?;
    let certifiable = reception
        .directory
        .certifiable(person.account(), &address, keysigner.grace)
        .await?;
    let (rests_on_ms, resets) = match certifiable {
        Certifiable::Yes {
            rests_on_ms, resets, ..
        } => (rests_on_ms, resets),
        Certifiable::NotTheirs => {
            return Err(Problem::bad_request(
                "not-yours",
                "that email does not belong to you",
            ));
        }
        Certifiable::Unverified => {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "unverified",
                "this email has to be verified first",
            ));
        }
        Certifiable::Primary => {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "primary",
                "the domain of this email certifies its own users",
            ));
        }
        Certifiable::NotYet => return Err(crate::wsapi::signed_in::not_yet()),
    };
    let signer = (keysigner.signer)().ok_or_else(no_key)?;
    let new = NewCertificate {
        issuer: &keysigner.issuer,
        email: &address,
        public_key: &public_key,
        now_ms: reception.now_ms(),
        // A session may have seen an epoch that is not here yet; and browsers throw away what is dated before the keys were.
        rests_on_ms: rests_on_ms
            .max(person.epoch.at.ms())
            .max(reception.keys.domain_key_creation_ms()),
        resets: resets.max(person.epoch.resets),
        short: ephemeral || (keysigner.is_isolated)(),
        session_ends_ms: person.session.expires_ms,
    };
    let certificate = new.issue(&signer).map_err(|error| match error {
        IssueError::Key => Problem::bad_request("bad-arguments", error.to_string()),
        IssueError::SessionOver => Problem::requires_authentication(),
        IssueError::Ahead { retry_after_ms } => {
            let after = std::time::Duration::from_millis(retry_after_ms);
            Problem::unavailable("ahead", error.to_string(), after)
        }
        IssueError::Sign(_) => no_key(),
    })?;
    metrics::counter!("persona_certificates_total").increment(1);
    Ok((
        [
            (CONTENT_TYPE, "text/plain"),
            (CACHE_CONTROL, "no-cache, max-age=0"),
        ],
        certificate,
    ))
}

fn no_key() -> Problem {
    Problem::unavailable(
        "no-key",
        "this site cannot certify yet; try again",
        std::time::Duration::from_secs(1),
    )
}
