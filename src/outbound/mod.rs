//! Requests that we make to hosts which strangers name: support documents, OpenID providers.
//!
//! Whoever types an address into a form names the host that we ask next, so nothing about it is trusted. A request is
//! HTTPS to port 443 with the certificate checked here, follows no redirect, and takes a small answer that is not
//! compressed, within its deadline. The name is resolved once; *every* answer must be [global
//! unicast](is_global_unicast), and the socket goes to one of those very addresses, so a name server that answers
//! differently the second time gains nothing. There is no pool: a connection serves one request.
//!
//! With a forward proxy requests go through it by CONNECT, and *it* resolves: its rules must say the same
//! (`deploy/squid/squid.conf`).
//!
//! | module | subject |
//! | --- | --- |
//! | `global_unicast` | which addresses are out on the internet |
//! | `resolver` | names to addresses |
//! | `proxy` | a forward proxy, as an operator names it |
//! | `tls` | whose certificates are trusted |
//! | `exchange` | one request on one connection |
//! | `known_hosts` | laboratory: hosts of this machine, in place of the internet's |

mod exchange;
mod global_unicast;
#[cfg(feature = "lab")]
mod known_hosts;
mod proxy;
mod resolver;
pub(crate) mod tls;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use metrics::{counter, gauge};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

pub use self::{global_unicast::is_global_unicast, proxy::Proxy, resolver::Resolve};
use self::{resolver::SystemResolver, tls::Tls};
use crate::browserid::Domain;

/// How requests go out.
#[derive(Clone, Debug, Default)]
pub struct OutboundSettings {
    /// Through which forward proxy, if any.
    pub proxy: Option<Proxy>,
    /// PEM of the certificates to trust in place of the system's.
    pub roots: Option<Vec<u8>>,
}

/// The one client for all requests to strangers' hosts.
#[derive(Debug)]
pub struct Outbound {
    tls: Tls,
    way: Way,
    slots: Semaphore,
    #[cfg(feature = "lab")]
    lab: Lab,
}

/// Laboratory: hosts that are not on the internet. The check of addresses stays: a resolver here answers with
/// addresses that pass it, and only what passed is looked for among `sockets`.
#[cfg(feature = "lab")]
#[derive(Clone, Debug, Default)]
pub struct Lab {
    /// In place of the system's resolver.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// Where the connection to an address goes in truth.
    pub sockets: std::collections::HashMap<IpAddr, SocketAddr>,
    /// In place of 443, also towards a proxy.
    pub port: Option<u16>,
}

/// What a host answered. Nothing in it is checked but its size.
#[derive(Clone, Debug)]
pub struct OutboundAnswer {
    /// Any; a redirect is not followed.
    pub status: StatusCode,
    /// As they came.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer. The words may go to whoever caused the request: none holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// An IP address, or a name that is none of the internet's. Retrying will not help.
    #[error("not the name of a host on the internet")]
    NotAName,
    /// It may have one later.
    #[error("its name has no address")]
    NoAddress,
    /// Some address of the name is not global unicast; no connection was made.
    #[error("its name leads to an address that is not on the internet")]
    NotGlobal,
    /// None of its addresses took a connection, or it ended early.
    #[error("no connection to it")]
    Unreachable,
    /// The forward proxy is away: ours to mend.
    #[error("our way out is closed")]
    NoProxy,
    /// The forward proxy does not let us go there, or finds nothing there.
    #[error("our way out does not lead to it (status {0})")]
    ProxyRefused(u16),
    /// Its certificate is not trusted, not valid now, or of another name.
    #[error("its TLS certificate is not valid for it")]
    Certificate,
    /// It does not speak TLS as we do.
    #[error("it does not speak TLS")]
    Tls,
    /// Not an HTTP/1.1 answer, or its header is too large.
    #[error("it does not speak HTTP")]
    Http,
    /// The body has more bytes than are taken.
    #[error("its answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The body is compressed, though we asked for it as it is.
    #[error("its answer is compressed")]
    Compressed,
    /// Too many others were asked until the deadline: ours to mend. The host was not asked.
    #[error("too busy to ask")]
    Busy,
    /// The deadline passed.
    #[error("it did not answer in time")]
    TooLate,
}

/// Why requests cannot go out at all.
#[derive(Debug, thiserror::Error)]
pub enum OutboundSetupError {
    /// The certificates that were given are none.
    #[error("the certificates to trust cannot be read: expected PEM")]
    Roots,
    /// Debian: the package `ca-certificates`.
    #[error("this system has no certificates to trust: install its package for them, or name a file")]
    NoRoots,
    /// The TLS library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

#[derive(Debug)]
enum Way {
    Direct(Arc<dyn Resolve>),
    Proxy(Proxy),
}

impl Outbound {
    /// Reads the system's certificates, unless some are given.
    pub fn new(settings: &OutboundSettings) -> Result<Outbound, OutboundSetupError> {
        Ok(Outbound {
            tls: Tls::new(settings.roots.as_deref())?,
            way: match &settings.proxy {
                Some(proxy) => Way::Proxy(proxy.clone()),
                None => Way::Direct(Arc::new(SystemResolver::new())),
            },
            slots: Semaphore::new(REQUESTS_MAX),
            #[cfg(feature = "lab")]
            lab: Lab::default(),
        })
    }

    /// Laboratory: the same, to hosts that are not on the internet.
    #[cfg(feature = "lab")]
    pub fn in_lab(settings: &OutboundSettings, lab: Lab) -> Result<Outbound, OutboundSetupError> {
        let mut outbound = Outbound::new(settings)?;
        if let (Way::Direct(resolver), Some(other)) = (&mut outbound.way, &lab.resolver) {
            *resolver = Arc::clone(other);
        }
        outbound.lab = lab;
        Ok(outbound)
    }

    /// `GET https://HOST/PATH`. `path` begins with `/` and may have a query; it is ours, not a stranger's. The
    /// deadline includes waiting for a slot.
    pub async fn get(
        &self,
        host: &Domain,
        path: &str,
        deadline: Instant,
    ) -> Result<OutboundAnswer, OutboundError> {
        let answer = match timeout_at(deadline, self.slots.acquire()).await {
            Ok(Ok(_slot)) => {
                self.show_under_way();
                let answer = timeout_at(deadline, self.get_at_leisure(host, path)).await;
                answer.unwrap_or(Err(OutboundError::TooLate))
            }
            // Nobody closes it.
            Ok(Err(_)) | Err(_) => Err(OutboundError::Busy),
        };
        self.show_under_way();
        match &answer {
            Ok(_) => counter!("persona_outbound_answered_total").increment(1),
            Err(error) => {
                counter!("persona_outbound_failed_total", "why" => error.label()).increment(1);
            }
        }
        answer
    }

    async fn get_at_leisure(&self, host: &Domain, path: &str) -> Result<OutboundAnswer, OutboundError> {
        let host = host.as_str();
        if !is_public_name(host) {
            return Err(OutboundError::NotAName);
        }
        match &self.way {
            Way::Direct(resolver) => {
                let stream = self.dial(resolver.as_ref(), host).await?;
                self.secure(stream, host, path).await
            }
            Way::Proxy(proxy) => {
                let stream = TcpStream::connect(proxy.socket()).await;
                let stream = stream.map_err(|_| OutboundError::NoProxy)?;
                let tunnel = exchange::connect(stream, host, self.port()).await?;
                self.secure(TokioIo::new(tunnel), host, path).await
            }
        }
    }

    fn show_under_way(&self) {
        let under_way = REQUESTS_MAX.saturating_sub(self.slots.available_permits());
        gauge!("persona_outbound_under_way").set(under_way as f64);
    }

    async fn dial(&self, resolver: &dyn Resolve, host: &str) -> Result<TcpStream, OutboundError> {
        let resolved = resolver.resolve(host).await;
        let addresses = resolved.map_err(|_| OutboundError::NoAddress)?;
        if addresses.is_empty() {
            return Err(OutboundError::NoAddress);
        }
        if !addresses.iter().all(|&address| is_global_unicast(address)) {
            return Err(OutboundError::NotGlobal);
        }
        for &address in addresses.iter().take(ADDRESSES_MAX) {
            let connected = timeout(CONNECT_MAX, TcpStream::connect(self.socket(address)));
            if let Ok(Ok(stream)) = connected.await {
                return Ok(stream);
            }
        }
        Err(OutboundError::Unreachable)
    }

    async fn secure<S>(&self, stream: S, host: &str, path: &str) -> Result<OutboundAnswer, OutboundError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let stream = self.tls.connect(host, stream).await?;
        exchange::get(stream, host, path).await
    }

    #[cfg(not(feature = "lab"))]
    fn socket(&self, address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, self.port())
    }

    #[cfg(feature = "lab")]
    fn socket(&self, address: IpAddr) -> SocketAddr {
        let other = self.lab.sockets.get(&address).copied();
        other.unwrap_or(SocketAddr::new(address, self.port()))
    }

    #[cfg(not(feature = "lab"))]
    #[expect(clippy::unused_self, reason = "in a laboratory it is a setting")]
    fn port(&self) -> u16 {
        HTTPS_PORT
    }

    #[cfg(feature = "lab")]
    fn port(&self) -> u16 {
        self.lab.port.unwrap_or(HTTPS_PORT)
    }
}

impl OutboundError {
    /// Whether it says nothing about the host: the request did not get out of our house.
    pub fn is_our_trouble(self) -> bool {
        matches!(self, OutboundError::Busy | OutboundError::NoProxy)
    }

    /// For metrics: few values, and none holds a name.
    fn label(self) -> &'static str {
        match self {
            OutboundError::NotAName => "not_a_name",
            OutboundError::NoAddress => "no_address",
            OutboundError::NotGlobal => "not_global",
            OutboundError::Unreachable => "unreachable",
            OutboundError::NoProxy => "no_proxy",
            OutboundError::ProxyRefused(_) => "proxy_refused",
            OutboundError::Certificate => "certificate",
            OutboundError::Tls => "tls",
            OutboundError::Http => "http",
            OutboundError::TooLarge => "too_large",
            OutboundError::Compressed => "compressed",
            OutboundError::Busy => "busy",
            OutboundError::TooLate => "too_late",
        }
    }
}

/// Whether a domain may be a host on the internet: it has two labels at least, and is no IP address in any form that
/// resolvers know (`127.0.0.1`, `127.1`, `0x7f.0.0.1`). A name whose last label begins with a digit is none of the
/// internet's (RFC 3696 §2), and is an address to whoever follows the URL standard.
fn is_public_name(host: &str) -> bool {
    let is_address = host.parse::<Ipv4Addr>().is_ok();
    let last = host.rsplit_once('.').map(|(_, last)| last);
    !is_address && last.is_some_and(|last| last.starts_with(|first: char| first.is_ascii_alphabetic()))
}

const HTTPS_PORT: u16 = 443;
/// Requests under way at once. Others wait, until their deadlines.
const REQUESTS_MAX: usize = 64;
/// Addresses of a name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;
/// For one of them, so that one that says nothing leaves time for the next.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Bytes of a body: what the original took.
pub const BODY_BYTES_MAX: usize = 10 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, expected: bool) {
        assert_eq!(is_public_name(host), expected, "{host}");
    }

    #[test]
    fn a_host_has_a_name_of_the_internet() {
        check("example.org", true);
        check("127.0.0.1.example.org", true);
        check("xn--bcher-kva.example", true);
        check("a.xn--p1ai", true);
        check("localhost", false);
        check("intranet", false);
        check("127.0.0.1", false);
        check("127.1", false);
        check("2130706433", false);
        check("0x7f.0.0.1", false);
        check("0x7f.1", false);
        check("127.0.0.0x1", false);
        check("8.8.8.8", false);
    }

    #[test]
    fn the_certificates_to_trust_are_pem_and_at_least_one() {
        for refused in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nx\n"] {
            let settings = OutboundSettings {
                proxy: None,
                roots: Some(refused.into()),
            };
            assert!(matches!(Outbound::new(&settings), Err(OutboundSetupError::Roots)));
        }
    }
}
