//! The replica as other processes of its site reach it.
//!
//! | route | what | for |
//! | --- | --- | --- |
//! | `/replica/read/NAME` | the domain's operations that read, by name | webhead, secure webhead, keysigner |
//! | `/replica/write/NAME` | those that write, or tell a secret | secure webhead |
//! | `/replica/keys` | the public keys of all sites | webhead, secure webhead, keysigner |
//! | `/replica/keys/ask/KID` | the same, after asking the peers for one of them | webhead, secure webhead, keysigner |
//! | `/replica/keys/settle/session` | a holder of session keys says what it has | secure webhead |
//! | `/replica/keys/settle/certificate` | the same of certificate keys | keysigner |
//! | `/replica/health` | whether people should be sent to this site | webhead, secure webhead, keysigner |
//!
//! Bodies are CBOR. What can be reached by which name is the registries' business
//! ([`operations`](crate::identity::operations)); a webhead's certificate opens no door to a write.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{Tier, internal::only_for, upstream};
use crate::{
    browserid::Usage,
    identity::{
        Here, Replica,
        operations::{self, Access, REQUEST_BYTES_MAX, RemoteError},
        replica,
    },
    keyring::{self, Offer, Settled, Told},
    site::Site,
};

/// Bytes of an answer at most: all that an account has.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// For a body to come: the tiers of a site are near each other.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Those that may read.
const READERS: &[Tier] = &[Tier::Webhead, Tier::SecureWebhead, Tier::Keysigner];

/// How the site is, as its other tiers have to know.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SiteHealth {
    /// Why people should not be sent here.
    pub reasons: Vec<String>,
    /// It has heard no other site for a minute.
    pub isolated: bool,
}

/// What the replica of a site answers to its other tiers.
pub(crate) fn router(site: &Arc<Site>) -> Router {
    let name = site.config.site.as_str();
    let state: Weak<Site> = Arc::downgrade(site);
    let for_readers = Router::new()
        .route("/replica/keys", get(keys))
        .route("/replica/keys/ask/{kid}", post(ask))
        .route("/replica/health", get(health))
        .with_state(state.clone());
    let sessions = Router::new()
        .route("/replica/keys/settle/session", post(settle_sessions))
        .with_state(state.clone());
    let certificates = Router::new()
        .route("/replica/keys/settle/certificate", post(settle_certificates))
        .with_state(state);
    let mut router = only_for(READERS, name, for_readers)
        .merge(only_for(&[Tier::SecureWebhead], name, sessions))
        .merge(only_for(&[Tier::Keysigner], name, certificates));
    // A site's own replica is always here.
    if let Replica::Here(here) = site.identity.replica() {
        let reads = Router::new()
            .route("/replica/read/{name}", post(read))
            .with_state(here.clone());
        let writes = Router::new()
            .route("/replica/write/{name}", post(write))
            .with_state(here.clone());
        router = router.merge(only_for(READERS, name, reads)).merge(only_for(
            &[Tier::SecureWebhead],
            name,
            writes,
        ));
    }
    router.layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
}

async fn read(State(here): State<Here>, Path(name): Path<String>, request: Bytes) -> Response {
    answer(operations::read(&name, &request, &here).await)
}

async fn write(State(here): State<Here>, Path(name): Path<String>, request: Bytes) -> Response {
    answer(operations::write(&name, &request, &here).await)
}

fn answer(answer: Result<Vec<u8>, RemoteError>) -> Response {
    match answer {
        Ok(bytes) => bytes.into_response(),
        Err(error @ RemoteError::UnknownOperation(_)) => {
            (StatusCode::NOT_FOUND, error.to_string()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn keys(State(site): State<Weak<Site>>) -> Response {
    match site.upgrade() {
        Some(site) => encoded(&*site.signing_keys.told()),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn ask(State(site): State<Weak<Site>>, Path(kid): Path<String>) -> Response {
    let Some(site) = site.upgrade() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    site.await_key(&kid).await;
    encoded(&*site.signing_keys.told())
}

async fn health(State(site): State<Weak<Site>>) -> Response {
    let Some(site) = site.upgrade() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    encoded(&SiteHealth {
        reasons: site.unhealthy(),
        isolated: site.is_isolated(),
    })
}

async fn settle_sessions(State(site): State<Weak<Site>>, offer: Bytes) -> Response {
    settle(&site, Usage::Session, &offer).await
}

async fn settle_certificates(State(site): State<Weak<Site>>, offer: Bytes) -> Response {
    settle(&site, Usage::Certificate, &offer).await
}

async fn settle(site: &Weak<Site>, usage: Usage, offer: &[u8]) -> Response {
    let Some(offer) = decoded::<Offer>(offer).filter(|offer| offer.usage == usage) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(site) = site.upgrade().filter(|site| site.node.is_ready()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match keyring::keeper::settle(&site, &offer).await {
        Ok(settled) => encoded(&settled),
        Err(error) => {
            tracing::warn!(%error, usage = usage.name(), "keys of another process could not be published");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn encoded(value: &impl Serialize) -> Response {
    let mut bytes = Vec::new();
    match ciborium::into_writer(value, &mut bytes) {
        Ok(()) => bytes.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}

/// A replica in another process.
#[derive(Clone)]
pub struct RemoteReplica(upstream::Remote);

impl RemoteReplica {
    /// Over this way to it.
    pub fn new(remote: upstream::Remote) -> RemoteReplica {
        RemoteReplica(remote)
    }

    /// The public keys of all sites. `None`: it did not answer.
    pub async fn keys(&self) -> Option<Told> {
        self.ask_for(Method::GET, "/replica/keys", Vec::new()).await
    }

    /// The same, after asking for one that is not known here.
    pub async fn keys_with(&self, kid: &str) -> Option<Told> {
        // What is no name of a key of ours is asked of nobody.
        let is_name = kid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if kid.is_empty() || !is_name {
            return None;
        }
        let path = format!("/replica/keys/ask/{kid}");
        self.ask_for(Method::POST, &path, Vec::new()).await
    }

    /// How the site is. `None`: it did not answer.
    pub async fn health(&self) -> Option<SiteHealth> {
        self.ask_for(Method::GET, "/replica/health", Vec::new()).await
    }

    /// Offers what this process holds of one use, and hears what each key is now. `None`: it did not answer.
    pub async fn settle(&self, offer: &Offer) -> Option<Settled> {
        let mut bytes = Vec::new();
        ciborium::into_writer(offer, &mut bytes).ok()?;
        let path = match offer.usage {
            Usage::Session => "/replica/keys/settle/session",
            Usage::Certificate => "/replica/keys/settle/certificate",
            Usage::Assertion => return None,
        };
        self.ask_for(Method::POST, path, bytes).await
    }

    async fn ask_for<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Option<T> {
        let (status, bytes) = self.exchange(method, path, body).await.ok()?;
        if status != StatusCode::OK {
            tracing::warn!(%status, path, "the replica refused");
            return None;
        }
        decoded(&bytes)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), RemoteError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::from(body))
            .map_err(|_| RemoteError::Malformed(path.to_owned()))?;
        let response = self.0.ask(request).await.map_err(|error| {
            tracing::warn!(%error, path, "the replica did not answer");
            RemoteError::Unreachable
        })?;
        let status = response.status();
        match timeout(BODY_TIMEOUT, to_bytes(response.into_body(), ANSWER_BYTES_MAX)).await {
            Ok(Ok(body)) => Ok((status, body)),
            Ok(Err(_)) | Err(_) => Err(RemoteError::Unreachable),
        }
    }
}

impl replica::Remote for RemoteReplica {
    fn ask(
        &self,
        access: Access,
        name: &'static str,
        request: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, RemoteError>> {
        let way = match access {
            Access::Read => "read",
            Access::Write => "write",
        };
        Box::pin(async move {
            let path = format!("/replica/{way}/{name}");
            let (status, body) = self.exchange(Method::POST, &path, request).await?;
            match status {
                StatusCode::OK => Ok(body.to_vec()),
                StatusCode::NOT_FOUND => Err(RemoteError::UnknownOperation(name.to_owned())),
                StatusCode::BAD_REQUEST => Err(RemoteError::Malformed(name.to_owned())),
                _ => Err(RemoteError::Unreachable),
            }
        })
    }
}
