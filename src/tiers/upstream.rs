//! A tier as another one asks it: HTTP requests, whether it is in this process or in another.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Uri, uri::PathAndQuery},
    response::Response,
};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Service, ServiceExt};

use super::{
    Tier,
    certificates::{TierIdentity, name_of},
};

/// To connect and shake hands: tiers of one site are near each other.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For an answer: longer than the longest that a request may take there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections that wait for the next request.
const IDLE_MAX: usize = 64;
/// How long they do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A tier to be asked.
#[derive(Clone)]
pub enum Upstream {
    /// In this process.
    Here(Router),
    /// In another.
    There(Box<Remote>),
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
#[error("the {tier} did not answer: {why}")]
pub struct NoAnswer {
    /// Who was asked.
    pub tier: Tier,
    /// Why, for logs.
    pub why: String,
}

impl Upstream {
    /// A tier in another process, `host:port`.
    pub fn there(tier: Tier, address: HostPort, identity: &TierIdentity) -> io::Result<Upstream> {
        Ok(Upstream::There(Box::new(Remote::new(tier, address, identity)?)))
    }

    /// Passes a request on, whole.
    pub async fn ask(&self, request: Request) -> Result<Response, NoAnswer> {
        match self {
            Upstream::Here(router) => match router.clone().oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            Upstream::There(remote) => remote.ask(request).await,
        }
    }
}

/// A tier in another process.
#[derive(Clone)]
pub struct Remote {
    tier: Tier,
    client: Client<Connector, Body>,
}

impl Remote {
    /// Makes no connection yet.
    pub fn new(tier: Tier, address: HostPort, identity: &TierIdentity) -> io::Result<Remote> {
        let name = ServerName::try_from(name_of(identity.site(), tier)).map_err(io::Error::other)?;
        let connector = Connector {
            address: Arc::new(address),
            name,
            tls: TlsConnector::from(identity.client()?),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            // Nothing is sent twice but by who knows that it may be.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Remote { tier, client })
    }

    /// Sends a request, whatever host it names.
    pub async fn ask(&self, mut request: Request) -> Result<Response, NoAnswer> {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or(PathAndQuery::from_static("/"));
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.tier.name())
            .path_and_query(path)
            .build();
        *request.uri_mut() = uri.map_err(|error| self.no_answer(&error))?;
        match timeout(ANSWER_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response.map(Body::new)),
            Ok(Err(error)) => Err(self.no_answer(&causes(&error))),
            Err(_) => Err(self.no_answer(&"it took too long")),
        }
    }

    fn no_answer(&self, why: &impl ToString) -> NoAnswer {
        metrics::counter!("persona_tier_no_answer_total", "tier" => self.tier.name()).increment(1);
        NoAnswer {
            tier: self.tier,
            why: why.to_string(),
        }
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// `host:port`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

impl TryFrom<String> for HostPort {
    type Error = &'static str;

    fn try_from(text: String) -> Result<HostPort, &'static str> {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(HostPort(text)),
            _ => Err("expected `host:port`"),
        }
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> String {
        address.0
    }
}

impl From<SocketAddr> for HostPort {
    fn from(address: SocketAddr) -> HostPort {
        HostPort(address.to_string())
    }
}

/// Connects to one address, and makes sure that it is the tier of this site.
#[derive(Clone)]
struct Connector {
    address: Arc<HostPort>,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Secured>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Secured>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Connector { address, name, tls } = self.clone();
        Box::pin(async move {
            let connecting = async {
                let stream = TcpStream::connect(address.0.as_str()).await?;
                stream.set_nodelay(true)?;
                tls.connect(name, stream).await
            };
            let stream = timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"))??;
            Ok(TokioIo::new(Secured(stream)))
        })
    }
}

/// A connection with both sides known.
struct Secured(TlsStream<TcpStream>);

impl Connection for Secured {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}
