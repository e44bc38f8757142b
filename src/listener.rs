//! A TCP listener that serves a router: people's requests, other tiers' requests.
//!
//! Promise: however slowly a client sends, however many come, and whatever they send, what it costs is bounded: connections,
//! the time for a request's head, the time that a drain waits for them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// Connections at once. One that waits for this waits in the system's queue.
const CONNECTIONS_MAX: usize = 8192;
/// For a request's head, counted also while a connection that is kept alive is idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// For a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a draining process still answers: whoever balances load sees its heartbeat fail before the socket is gone.
const DRAIN_ANNOUNCED: Duration = Duration::from_millis(500);
/// How long requests under way may still take after that, where nothing else is configured.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection: an extension of each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where from. Behind a proxy, the proxy's.
    pub address: SocketAddr,
    /// The certificate that it proved to hold the key of, where one is asked for.
    pub certificate: Option<CertificateDer<'static>>,
}

/// A socket that listens, before it serves.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    drain_timeout: Duration,
}

impl Listener {
    /// Listens, with TLS or in the clear.
    pub async fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Listener> {
        Ok(Listener {
            tcp: TcpListener::bind(address).await?,
            tls: tls.map(TlsAcceptor::from),
            drain_timeout: DRAIN_TIMEOUT,
        })
    }

    /// Where it listens; of interest where the port was left to the system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// How long requests under way may still take when it drains.
    #[must_use]
    pub fn draining_for(self, drain_timeout: Duration) -> Listener {
        Listener {
            drain_timeout,
            ..self
        }
    }

    /// Serves until `drain` ends, and then what is under way.
    pub async fn serve(self, router: Router, drain: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let accepting = async {
            loop {
                let Ok(place) = places.clone().acquire_owned().await else {
                    return;
                };
                let (stream, address) = match self.tcp.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let (router, tls, watcher) = (router.clone(), self.tls.clone(), graceful.watcher());
                tokio::spawn(async move {
                    connection(stream, address, tls, router, watcher).await;
                    drop(place);
                });
            }
        };
        let drained = async {
            drain.await;
            sleep(DRAIN_ANNOUNCED).await;
        };
        tokio::select! {
            () = accepting => {}
            () = drained => {}
        }
        drop(self.tcp);
        if timeout(self.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were cut off by the end of the drain");
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            certificate: None,
        };
        return exchange(stream, peer, router, watcher).await;
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let peer = Peer {
                address,
                certificate: certificates
                    .and_then(|chain| chain.first())
                    .map(|certificate| certificate.clone().into_owned()),
            };
            exchange(stream, peer, router, watcher).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn exchange<S>(stream: S, peer: Peer, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
