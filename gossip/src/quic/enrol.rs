//! How somebody who is no member asks to become one: a question and an answer, on the same port.
//!
//! Any key will do to ask, so whoever asks is a stranger until the answer says otherwise: one stream, little time, few at
//! once, and few from one address. What is said is the application's, and so is its proof, which [`binding`](super::tls::binding)
//! ties to this very connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, Endpoint};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection::Environment;
use super::streams::code;
use super::tls::{self, Identity, SERVER_NAME};

/// What a newcomer may say.
pub const ENROL_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// What it may be told: a list of members with their addresses and keys.
pub const ENROL_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// From the handshake's end to the answer's. A write that is to be in two sites takes a part of a second.
const LASTS_MAX: Duration = Duration::from_secs(5);
/// Newcomers that are answered at once.
const AT_ONCE_MAX: usize = 4;
/// From one address (IPv6: one /64) within [`BUDGET_INTERVAL`].
const BUDGET: u32 = 10;
const BUDGET_INTERVAL: Duration = Duration::from_secs(60);
/// Addresses that are remembered; with more of them nobody new is answered until some are forgotten.
const ADDRESSES_MAX: usize = 1024;

/// Why nobody could be asked. Nothing was changed here; there, a member may have been written that never came.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Name and port are to be reachable by UDP from here.
    #[error("{address} is no address: {source}")]
    Address {
        /// As given.
        address: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The identity cannot be used for TLS, or the system gave no socket.
    #[error("cannot open a socket to ask with: {0}")]
    Socket(String),
    /// Nothing there, or nothing that lets anybody in.
    #[error("{address} does not answer: {reason}")]
    Unreached {
        /// As given.
        address: String,
        /// What happened instead.
        reason: String,
    },
    /// It took the request and said nothing: it answers too many just now, or this is too long.
    #[error("{address} took the request and gave no answer: {reason}")]
    Unanswered {
        /// As given.
        address: String,
        /// What happened instead.
        reason: String,
    },
}

/// Asks the member at `address` (`host:port`) to be let in, under the key of `identity`. `request` is made from the
/// connection's binding and the member's proven key (SPKI DER), which come back beside the answer: (answer, key).
///
/// # Errors
/// When nobody was asked, or did not answer within some seconds.
pub async fn enrol(
    address: &str,
    identity: &Identity,
    request: impl FnOnce([u8; 32], &[u8]) -> Vec<u8>,
) -> Result<(Vec<u8>, Vec<u8>), EnrolError> {
    let unresolved = |source| EnrolError::Address {
        address: address.to_owned(),
        source,
    };
    let socket = |error: &dyn std::fmt::Display| EnrolError::Socket(error.to_string());
    let unreached = |reason: String| EnrolError::Unreached {
        address: address.to_owned(),
        reason,
    };
    let client = tls::newcomer(identity).map_err(|error| socket(&error))?;
    let candidates: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .map_err(unresolved)?
        .collect();
    let mut failure = unreached("the name has no address".to_owned());
    for candidate in candidates {
        let any: SocketAddr = match candidate {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(any).map_err(|error| socket(&error))?;
        let mut config = quinn::ClientConfig::new(Arc::clone(&client) as Arc<_>);
        config.transport_config(Arc::new(super::transport()));
        let connecting = match endpoint.connect_with(config, candidate, SERVER_NAME) {
            Ok(connecting) => connecting,
            Err(error) => {
                failure = unreached(error.to_string());
                continue;
            }
        };
        let connection = match tokio::time::timeout(LASTS_MAX, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                failure = unreached(error.to_string());
                continue;
            }
            Err(_) => {
                failure = unreached(format!("nothing was heard for {LASTS_MAX:?}"));
                continue;
            }
        };
        // Asked but once: the next address may be the same member's, which would write twice.
        let asked = tokio::time::timeout(LASTS_MAX, ask(&connection, request)).await;
        connection.close(code::DONE, b"enrolled");
        endpoint.wait_idle().await;
        let answered = asked.unwrap_or_else(|_| Err(format!("nothing was heard for {LASTS_MAX:?}")));
        return answered.map_err(|reason| EnrolError::Unanswered {
            address: address.to_owned(),
            reason,
        });
    }
    Err(failure)
}

async fn ask(
    connection: &Connection,
    request: impl FnOnce([u8; 32], &[u8]) -> Vec<u8>,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let member = tls::proven_key(connection).ok_or("it showed no key")?;
    let binding = tls::binding(connection).ok_or("the connection has no binding")?;
    let request = request(binding, &member);
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_all(&request)
        .await
        .map_err(|error| error.to_string())?;
    // An error means that the stream is over already, which reading tells.
    let _ = send.finish();
    let answer = receive.read_to_end(ENROL_ANSWER_BYTES_MAX).await;
    match answer {
        Ok(answer) if answer.is_empty() => Err("it closed without a word".to_owned()),
        Ok(answer) => Ok((answer, member)),
        Err(error) => Err(error.to_string()),
    }
}

/// Who asked lately, and who is being answered.
pub(super) struct Threshold {
    slots: Semaphore,
    lately: Mutex<BTreeMap<IpAddr, (Instant, u32)>>,
}

impl Threshold {
    pub(super) fn new() -> Self {
        Self {
            slots: Semaphore::new(AT_ONCE_MAX),
            lately: Mutex::default(),
        }
    }

    /// Whether this address may ask once more.
    fn has_budget(&self, address: IpAddr, now: Instant) -> bool {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= ADDRESSES_MAX {
            lately.retain(|_, (since, _)| *since + BUDGET_INTERVAL > now);
            if lately.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let (since, count) = lately.entry(neighbourhood(address)).or_insert((now, 0));
        if *since + BUDGET_INTERVAL <= now {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= BUDGET
    }

    /// Answers a newcomer, and closes the connection.
    pub(super) async fn receive(&self, environment: &Environment, connection: Connection) {
        let remote = connection.remote_address();
        let closed = match tokio::time::timeout(LASTS_MAX, self.answer(environment, &connection)).await {
            Ok(Ok(())) => {
                environment.counters.enrolments_answered.increase();
                // The newcomer closes when it has read; a silent one is not waited for long.
                let _ = tokio::time::timeout(LASTS_MAX, connection.closed()).await;
                return connection.close(code::DONE, b"answered");
            }
            Ok(Err((code, reason))) => (code, reason),
            Err(_) => (code::SLOW, "it took too long"),
        };
        tracing::warn!(%remote, reason = closed.1, "a newcomer was not answered");
        connection.close(closed.0, closed.1.as_bytes());
    }

    async fn answer(
        &self,
        environment: &Environment,
        connection: &Connection,
    ) -> Result<(), (quinn::VarInt, &'static str)> {
        let busy = (code::BUSY, "too many ask to be let in: try again in a minute");
        if !self.has_budget(connection.remote_address().ip(), Instant::now()) {
            return Err(busy);
        }
        let _slot = self.slots.try_acquire().map_err(|_| busy)?;
        let malformed = |why| move |_| (code::MALFORMED, why);
        let lost = (code::DONE, "the connection is lost");
        let (mut send, mut receive) = connection.accept_bi().await.map_err(|_| lost)?;
        let request = receive
            .read_to_end(ENROL_REQUEST_BYTES_MAX)
            .await
            .map_err(malformed("the request is too long"))?;
        let (binding, peer_key) = tls::binding(connection)
            .zip(tls::proven_key(connection))
            .ok_or(lost)?;
        let (replica, alive) = (Arc::clone(&environment.replica), environment.alive.clone());
        let answer = environment.blocking.run(move || {
            let answer = replica.enrol(request, binding, peer_key);
            drop((replica, alive));
            answer
        });
        let answer = answer.await.unwrap_or_default();
        if answer.is_empty() || answer.len() > ENROL_ANSWER_BYTES_MAX {
            return Err((code::CLOSED, "nobody is let in here"));
        }
        send.write_all(&answer).await.map_err(|_| lost)?;
        send.finish().map_err(|_| lost)
    }
}

/// Whom one budget is for: an IPv6 site has a /64 at least.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}
