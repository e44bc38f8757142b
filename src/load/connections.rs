//! Connections to one site, kept open between requests, and no more of them than were allowed.
//!
//! Plain HTTP/1.1, as load balancers speak it to servers. Of `reqwest` or a pooling client nothing would be gained here: whom
//! to connect to is known, nothing is redirected, and the generator should cost little of the machine that it shares with
//! what it measures.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::HOST};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    time::timeout,
};
use url::{Host, Url};

use crate::outbound::tls::Tls;

/// From the request to the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Connections that may wait to be thrown away because the site closed them, before a request gets a new one.
const STALE_MAX: usize = 4;

/// Where a site is.
#[derive(Clone)]
pub(crate) struct Target {
    /// As the command line had it.
    pub(crate) name: String,
    addresses: Arc<[SocketAddr]>,
    host: String,
    tls: Option<Arc<Tls>>,
    /// What requests name: the host of the public URL, wherever the site is.
    authority: HeaderValue,
}

/// Why there is no site to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{0}: expected a URL like http://persona.localhost:8080 or https://persona.example")]
    Url(Url),
    #[error("{name}: there is no such host ({source})")]
    Unknown { name: String, source: std::io::Error },
}

impl Target {
    /// Looks the host of a URL up, once.
    pub(crate) async fn new(
        url: &Url,
        authority: &str,
        tls: Option<Arc<Tls>>,
    ) -> Result<Target, TargetError> {
        let is_origin = url.path() == "/" && url.query().is_none() && url.username().is_empty();
        let (Some(host), Some(port), true) = (url.host(), url.port_or_known_default(), is_origin) else {
            return Err(TargetError::Url(url.clone()));
        };
        let addresses = match &host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
            // RFC 6761 §6.3: never asked of a name server, which may not know it.
            Host::Domain(name) if *name == "localhost" || name.ends_with(".localhost") => {
                [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
                    .map(|address| SocketAddr::from((address, port)))
                    .to_vec()
            }
            Host::Domain(name) => {
                let found = lookup_host((*name, port)).await;
                let found = found.map_err(|source| TargetError::Unknown {
                    name: (*name).to_owned(),
                    source,
                })?;
                found.collect()
            }
        };
        Ok(Target {
            name: url.as_str().trim_end_matches('/').to_owned(),
            addresses: addresses.into(),
            host: host.to_string(),
            tls: tls.filter(|_| url.scheme() == "https"),
            authority: HeaderValue::from_str(authority).map_err(|_| TargetError::Url(url.clone()))?,
        })
    }
}

/// Connections to one site.
pub(crate) struct Connections {
    target: Target,
    idle: Mutex<Vec<Sender>>,
    places: Semaphore,
}

type Sender = SendRequest<Full<Bytes>>;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// There is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("no connection")]
    Connection,
    #[error("no TLS")]
    Tls,
    #[error("connection broken")]
    Broken,
    #[error("no answer in time")]
    Timeout,
    #[error("answer too large")]
    TooLarge,
}

impl Connections {
    pub(crate) fn new(target: Target, connections_max: usize) -> Connections {
        Connections {
            target,
            idle: Mutex::new(Vec::new()),
            places: Semaphore::new(connections_max),
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request as soon as there is a connection for it. Waiting for one is part of the time that it takes.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoAnswer> {
        match timeout(ANSWER_TIMEOUT, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer::Timeout),
        }
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Result<Reply, NoAnswer> {
        let _place = self.places.acquire().await.map_err(|_| NoAnswer::Broken)?;
        request.headers_mut().insert(HOST, self.target.authority.clone());
        for stale in 0.. {
            let idle = if stale < STALE_MAX { self.take_idle() } else { None };
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let reply = read(response).await?;
                    self.keep(sender);
                    return Ok(reply);
                }
                // The site had closed it meanwhile, and nothing was sent.
                Err(mut unsent) => match unsent.take_message() {
                    Some(message) if stale <= STALE_MAX => request = message,
                    _ => return Err(NoAnswer::Broken),
                },
            }
        }
        Err(NoAnswer::Broken)
    }

    fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // The latest first: the others grow old, and the site closes what is not needed.
            let sender = idle.pop()?;
            if sender.is_ready() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: Sender) {
        if !sender.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sender);
        }
    }

    async fn connect(&self) -> Result<Sender, NoAnswer> {
        let connecting = async {
            for address in self.target.addresses.iter() {
                if let Ok(stream) = TcpStream::connect(address).await {
                    return Ok(stream);
                }
            }
            Err(NoAnswer::Connection)
        };
        let stream = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| NoAnswer::Connection)??;
        let _ = stream.set_nodelay(true);
        match &self.target.tls {
            None => drive(stream).await,
            Some(tls) => {
                let secured = timeout(CONNECT_TIMEOUT, tls.connect(&self.target.host, stream)).await;
                drive(secured.map_err(|_| NoAnswer::Tls)?.map_err(|_| NoAnswer::Tls)?).await
            }
        }
    }
}

/// Begins to speak HTTP; a task moves the bytes until the connection ends, or its sender is dropped.
async fn drive<S>(stream: S) -> Result<Sender, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| NoAnswer::Connection)?;
    // Its error is also the sender's.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

async fn read(response: Response<Incoming>) -> Result<Reply, NoAnswer> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
        true => NoAnswer::TooLarge,
        false => NoAnswer::Broken,
    })?;
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A site that answers every request, and closes a connection after so many. Gives its URL and how many came.
    async fn site(requests_max: usize) -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let connected = Arc::new(AtomicUsize::new(0));
        let counted = connected.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    for _ in 0..requests_max {
                        if stream.read(&mut bytes).await.unwrap_or(0) == 0 {
                            return;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        stream.write_all(answer).await.expect("written");
                    }
                });
            }
        });
        (url.parse().expect("a URL"), connected)
    }

    async fn connections(url: &Url, connections_max: usize) -> Connections {
        let target = Target::new(url, "persona.example", None).await.expect("a target");
        Connections::new(target, connections_max)
    }

    fn request() -> Request<Full<Bytes>> {
        Request::get("/").body(Full::default()).expect("a request")
    }

    #[tokio::test]
    async fn connections_are_kept_and_no_more_are_made_than_allowed() {
        let (url, connected) = site(usize::MAX).await;
        let connections = connections(&url, 2).await;
        for _ in 0..5 {
            assert_eq!(connections.ask(request()).await.expect("an answer").body, "ok");
        }
        assert_eq!(connected.load(Ordering::SeqCst), 1);
        let many = (0..20).map(|_| connections.ask(request()));
        for reply in futures_util::future::join_all(many).await {
            assert_eq!(reply.expect("an answer").status, StatusCode::OK);
        }
        assert_eq!(connected.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_connection_that_the_site_closed_costs_no_request() {
        let (url, connected) = site(1).await;
        let connections = connections(&url, 1).await;
        for _ in 0..10 {
            assert_eq!(connections.ask(request()).await.expect("an answer").body, "ok");
            let is_open = || {
                connections
                    .idle
                    .lock()
                    .expect("sound")
                    .iter()
                    .any(|idle| !idle.is_closed())
            };
            while is_open() {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(connected.load(Ordering::SeqCst), 10);
    }

    #[tokio::test]
    async fn whoever_is_not_there_is_told_apart() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let connections = connections(&url.parse().expect("a URL"), 1).await;
        assert_eq!(
            connections.ask(request()).await.expect_err("nobody"),
            NoAnswer::Connection
        );
    }

    #[tokio::test]
    async fn names_below_localhost_are_this_machine() {
        for (url, is_good) in [
            ("http://persona.localhost:8080", true),
            ("https://localhost", true),
            ("http://[::1]:8080/", true),
            ("http://localhost/path", false),
            ("http://localhost/?query", false),
            ("http://user@localhost/", false),
            ("data:text", false),
        ] {
            let target = Target::new(&url.parse().expect("a URL"), "localhost", None).await;
            assert_eq!(target.is_ok(), is_good, "{url}");
            if let Ok(target) = target {
                assert!(
                    target.addresses.iter().all(|address| address.ip().is_loopback()),
                    "{url}"
                );
            }
        }
    }
}
