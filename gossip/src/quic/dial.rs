//! Finding each other: every member listens, and dials every other for ever.
//!
//! Both ends dial, since either may be the one that can; the core keeps one connection of two. A dialer rests
//! while any connection to its member lives. A member that is down costs a dial every two seconds, no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, Incoming};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::MemberConfig;
use super::connection::{Environment, establish};
use super::tls::SERVER_NAME;

/// Between two attempts: from the first failure, doubling to the last; each drawn within half as much around.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
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
    client: ClientConfig,
    member: MemberConfig,
    mut living: watch::Receiver<usize>,
    environment: Environment,
) {
    let mut last_good = None;
    let mut backoff = BACKOFF_MIN;
    let mut wait = environment.chance.around(FIRST_SPREAD, 0.0..1.0);
    loop {
        tokio::time::sleep(wait).await;
        let begun = Instant::now();
        let alone = *living.borrow_and_update() == 0;
        if alone {
            match dial(&endpoint, &client, &member, last_good).await {
                Some(connection) if establish(&environment, connection.clone(), Some(member.peer.id)) => {
                    last_good = Some(connection.remote_address());
                    connection.closed().await;
                }
                _ => {}
            }
        }
        if living.wait_for(|living| *living == 0).await.is_err() {
            return;
        }
        backoff = if begun.elapsed() >= SETTLED {
            BACKOFF_MIN
        } else {
            (backoff * 2).min(BACKOFF_MAX)
        };
        wait = environment.chance.around(backoff, 0.5..1.5);
    }
}

/// Tries all addresses in turn, the last good one first.
async fn dial(
    endpoint: &Endpoint,
    client: &ClientConfig,
    member: &MemberConfig,
    last_good: Option<SocketAddr>,
) -> Option<Connection> {
    let mut candidates: Vec<SocketAddr> = last_good.into_iter().collect();
    for name in &member.addresses {
        match tokio::net::lookup_host(name.as_str()).await {
            Ok(found) => candidates.extend(found.filter(|address| Some(*address) != last_good)),
            Err(error) => tracing::debug!(member = %member.peer.id, %name, %error, "address not resolved"),
        }
    }
    for address in candidates {
        let connecting = match endpoint.connect_with(client.clone(), address, SERVER_NAME) {
            Ok(connecting) => connecting,
            Err(error) => {
                tracing::debug!(member = %member.peer.id, %address, %error, "cannot dial");
                continue;
            }
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(error)) => tracing::debug!(member = %member.peer.id, %address, %error, "dial failed"),
            Err(_) => tracing::debug!(member = %member.peer.id, %address, "dial timed out"),
        }
    }
    None
}

/// Takes connections until the endpoint closes.
pub(super) async fn listen(endpoint: Endpoint, environment: Environment) {
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
        tokio::spawn(async move {
            let remote = incoming.remote_address();
            let refused = accept(incoming, &environment).await;
            drop(permit);
            let Err(reason) = refused else { return };
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

async fn accept(incoming: Incoming, environment: &Environment) -> Result<(), String> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => {
            establish(environment, connection, None);
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the handshake took too long".to_owned()),
    }
}
