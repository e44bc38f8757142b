//! Finding each other: every member listens, and dials every other for ever.
//!
//! Both ends dial, since either may be the one that can; the core keeps one connection of two. A dialer rests
//! while any connection to its member lives. A member that is down costs a dial every two seconds, no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, Incoming, ServerConfig, TransportConfig};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::MemberConfig;
use super::connection::{Environment, establish};
use super::enrol::Threshold;
use super::streams::code;
use super::tls::{self, ENROL_ALPN, SERVER_NAME, Tls};
use crate::PeerState;

/// Between two attempts: from the first failure, doubling to the last; each drawn within half as much around.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// An evicted member may be gone for good; if not, it also dials.
const BACKOFF_PUT_OUT: Duration = Duration::from_secs(30);
/// That a peer and we do not know each other's keys is said this often.
const KEY_WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// The first attempts of a starting cluster are spread over this.
const FIRST_SPREAD: Duration = Duration::from_millis(20);
/// A connection that lasted this long was a good one: its loss starts the backoff anew.
const SETTLED: Duration = Duration::from_secs(5);
/// An attempt ends after this; the slowest real round trip is a tenth of it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Handshakes of strangers at once; beyond half of it they must prove their address first, beyond all of it
/// they are refused.
const HANDSHAKES_MAX: usize = 64;
/// Refused handshakes are logged as warnings at most this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Dials one member whenever no connection to it lives. `living` counts those.
pub(super) async fn dial_forever(
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    member: MemberConfig,
    mut living: watch::Receiver<usize>,
    environment: Environment,
) {
    let mut dialer = Dialer {
        endpoint,
        transport,
        member,
        last_good: None,
        warned: None,
    };
    let backoff_max = match dialer.member.peer.state {
        PeerState::Evicted => BACKOFF_PUT_OUT,
        _ => BACKOFF_MAX,
    };
    let mut backoff = BACKOFF_MIN;
    let mut wait = environment.chance.around(FIRST_SPREAD, 0.0..1.0);
    loop {
        tokio::time::sleep(wait).await;
        let begun = Instant::now();
        let alone = *living.borrow_and_update() == 0;
        if alone {
            dialer.connect(&environment, begun).await;
        }
        if living.wait_for(|living| *living == 0).await.is_err() {
            return;
        }
        backoff = if begun.elapsed() >= SETTLED {
            BACKOFF_MIN
        } else {
            (backoff * 2).min(backoff_max)
        };
        wait = environment.chance.around(backoff, 0.5..1.5);
    }
}

/// Whoever dials one member.
struct Dialer {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    member: MemberConfig,
    last_good: Option<SocketAddr>,
    /// When it was last said that a key is not known.
    warned: Option<Instant>,
}

impl Dialer {
    /// Dials, and if that succeeds returns when the connection has ended.
    async fn connect(&mut self, environment: &Environment, begun: Instant) {
        let Some(connection) = self.dial(&environment.tls).await else {
            return;
        };
        if !establish(environment, connection.clone(), Some(self.member.peer.id)) {
            return;
        }
        self.last_good = Some(connection.remote_address());
        let ended = connection.closed().await;
        // To TLS 1.3 the dialer is done before the listener has looked at its key.
        if begun.elapsed() < SETTLED && is_refusal(&ended) && self.may_warn() {
            let member = &self.member.peer;
            tracing::warn!(
                member = %member.id, name = member.name,
                "this peer refuses our key: is the one we show listed for us in its cluster record? It learns a new key \
                 from any member that it reaches",
            );
        }
    }

    /// Tries all addresses in turn, the last good one first.
    async fn dial(&mut self, tls: &Tls) -> Option<Connection> {
        let mut candidates: Vec<SocketAddr> = self.last_good.into_iter().collect();
        let member = self.member.peer.id;
        for name in &self.member.addresses {
            match tokio::net::lookup_host(name.as_str()).await {
                Ok(found) => candidates.extend(found.filter(|address| Some(*address) != self.last_good)),
                Err(error) => tracing::debug!(%member, %name, %error, "address not resolved"),
            }
        }
        for address in candidates {
            let (crypto, refusal) = match tls.dialing() {
                Ok(dialing) => dialing,
                Err(error) => {
                    tracing::warn!(%error, "no TLS to dial with");
                    return None;
                }
            };
            let mut client = ClientConfig::new(crypto);
            client.transport_config(Arc::clone(&self.transport));
            let connecting = match self.endpoint.connect_with(client, address, SERVER_NAME) {
                Ok(connecting) => connecting,
                Err(error) => {
                    tracing::debug!(%member, %address, %error, "cannot dial");
                    continue;
                }
            };
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => return Some(connection),
                Ok(Err(error)) => {
                    tracing::debug!(%member, %address, %error, "dial failed");
                    if let Some(fingerprint) = refusal.fingerprint()
                        && self.may_warn()
                    {
                        tracing::warn!(
                            %member, name = self.member.peer.name, %address, %fingerprint,
                            "who answers there shows a key that is listed for no member: is the address this member's, \
                             and is this the fingerprint of its key? A new key must be listed here before it is shown",
                        );
                    }
                }
                Err(_) => tracing::debug!(%member, %address, "dial timed out"),
            }
        }
        None
    }

    fn may_warn(&mut self) -> bool {
        let due = self.warned.is_none_or(|at| at.elapsed() >= KEY_WARNING_INTERVAL);
        if due {
            self.warned = Some(Instant::now());
        }
        due
    }
}

/// Whether the far end did not take our key, by TLS or by its list.
fn is_refusal(ended: &ConnectionError) -> bool {
    match ended {
        // A TLS alert: 0x100 and its number (RFC 9001, section 4.8).
        ConnectionError::ConnectionClosed(closed) => u64::from(closed.error_code) & !0xff == 0x100,
        ConnectionError::ApplicationClosed(closed) => closed.error_code == code::UNLISTED,
        _ => false,
    }
}

/// Takes connections until the endpoint closes.
pub(super) async fn listen(endpoint: Endpoint, server: ServerConfig, environment: Environment) {
    let threshold = Arc::new(Threshold::new());
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let warned = Arc::new(std::sync::Mutex::new(None));
    while let Some(incoming) = endpoint.accept().await {
        let crowded = handshakes.available_permits() < HANDSHAKES_MAX / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            // An error means that a retry makes no sense, which was asked just before.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (environment, warned) = (environment.clone(), Arc::clone(&warned));
        let (mut server, threshold) = (server.clone(), Arc::clone(&threshold));
        tokio::spawn(async move {
            let remote = incoming.remote_address();
            let accepted = match environment.tls.admitting() {
                Ok(crypto) => {
                    server.crypto = crypto;
                    accept(incoming, Arc::new(server)).await
                }
                Err(error) => Err(error.to_string()),
            };
            drop(permit);
            let reason = match accepted {
                Ok(connection) if tls::protocol(&connection).as_deref() == Some(ENROL_ALPN) => {
                    return threshold.receive(&environment, connection).await;
                }
                Ok(connection) => {
                    establish(&environment, connection, None);
                    return;
                }
                Err(reason) => reason,
            };
            environment.counters.handshakes_refused.increase();
            let mut last = warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.is_none_or(|at: Instant| at.elapsed() >= WARNING_INTERVAL) {
                *last = Some(Instant::now());
                tracing::warn!(%remote, %reason, "connection refused");
            } else {
                tracing::debug!(%remote, %reason, "connection refused");
            }
        });
    }
}

async fn accept(incoming: Incoming, server: Arc<ServerConfig>) -> Result<Connection, String> {
    let connecting = incoming.accept_with(server).map_err(|error| error.to_string())?;
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the handshake took too long".to_owned()),
    }
}
