//! Who is asking: an IPv4 address, or the 64 bits of an IPv6 network in which one customer's machines choose their own.
//!
//! Behind a proxy the socket's address is the proxy's, and the header that it adds says whose request it is. Anybody may send such
//! a header; what a proxy that the operator named has added is at its right end. So it is read from right to left, and the first address
//! that is no named proxy's is the client. Which of the two headers is read is configured: a proxy that writes one lets the other pass as
//! it came.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Proxies of ours between a client and us at most; what is further left is not looked at.
pub const HOPS_MAX: usize = 16;

/// Who is asking.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(IpAddr);

/// Which proxies are believed, and where they say whose request it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustedProxies {
    /// `10.0.0.0/8`, `2001:db8::7`. Empty: whoever is connected is the client.
    pub networks: Vec<Network>,
    /// The header that they add to.
    pub header: ForwardedBy,
}

/// The header by which a proxy says whose request it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedBy {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Client {
    /// Finds out who is asking, given who is connected.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Client {
        let mut client = peer.to_canonical();
        if !trusted.include(client) {
            return Client(client);
        }
        let name = trusted.header.name();
        // Several lines of one header are one list (RFC 9110 §5.3). What is no text is nobody we know.
        let lines: Vec<Option<&str>> = headers
            .get_all(&name)
            .iter()
            .map(|line| line.to_str().ok())
            .collect();
        let hops = lines.iter().rev().flat_map(|line| match line {
            Some(line) => trusted.header.hops(line),
            None => vec![None],
        });
        for hop in hops.take(HOPS_MAX) {
            // One that cannot be read was let in by the proxy right of it: that one pays.
            let Some(hop) = hop else { break };
            client = hop;
            if !trusted.include(client) {
                break;
            }
        }
        Client(client)
    }

    /// The address, to tell another tier of the site.
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// What pays: an IPv4 address, or 64 bits of an IPv6 one.
    pub(super) fn narrow(self) -> [u8; 9] {
        let mut name = [0; 9];
        match self.0 {
            IpAddr::V4(address) => {
                let [head, rest @ ..] = &mut name;
                *head = 4;
                for (to, from) in rest.iter_mut().zip(address.octets()) {
                    *to = from;
                }
            }
            IpAddr::V6(address) => {
                let [head, rest @ ..] = &mut name;
                *head = 6;
                for (to, from) in rest.iter_mut().zip(address.octets()) {
                    *to = from;
                }
            }
        }
        name
    }

    /// What pays beside it: 48 bits of an IPv6 address. `None` for IPv4, where nobody gets thousands for nothing.
    pub(super) fn wide(self) -> Option<[u8; 6]> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Some([a, b, c, d, e, f])
            }
        }
    }
}

/// As a tier in front has found out.
impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Client {
        Client(address.to_canonical())
    }
}

/// Who asks is nobody's business.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            IpAddr::V4(_) => "Client(IPv4)",
            IpAddr::V6(_) => "Client(IPv6)",
        })
    }
}

impl TrustedProxies {
    fn include(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }
}

impl ForwardedBy {
    fn name(self) -> HeaderName {
        match self {
            ForwardedBy::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedBy::Forwarded => header::FORWARDED,
        }
    }

    /// The addresses of one line, the last first; `None` for one that cannot be read.
    fn hops(self, line: &str) -> Vec<Option<IpAddr>> {
        let mut elements = split_outside_quotes(line, ',');
        elements.reverse();
        elements.truncate(HOPS_MAX);
        let hop = |element: &str| match self {
            ForwardedBy::XForwardedFor => read_node(element),
            ForwardedBy::Forwarded => {
                let pairs = split_outside_quotes(element, ';');
                let mut nodes = pairs.iter().filter_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("for").then_some(value)
                });
                match (nodes.next(), nodes.next()) {
                    (Some(node), None) => read_node(node.trim().trim_matches('"')),
                    _ => None,
                }
            }
        };
        elements.into_iter().map(hop).collect()
    }
}

/// An address, with or without port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn read_node(node: &str) -> Option<IpAddr> {
    let node = node.trim();
    let bare = node.strip_prefix('[').and_then(|node| node.strip_suffix(']'));
    let address = node
        .parse::<IpAddr>()
        .ok()
        .or_else(|| bare?.parse::<Ipv6Addr>().ok().map(IpAddr::V6))
        .or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

/// What lies between separators that are not within a quoted string (RFC 9110 §5.6.4).
fn split_outside_quotes(line: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(|sign| {
        let is_escaped = std::mem::take(&mut escaped);
        match sign {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !is_escaped => quoted = !quoted,
            _ => {}
        }
        sign == separator && !quoted
    })
    .collect()
}

impl Network {
    /// Whether an address is one of them. An IPv4 address in IPv6's clothes is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let alike = |ours: u128, theirs: u128, width: u32| {
            let shift = width - u32::from(self.bits);
            // All bits are shifted out of a network of 0 bits: everything is alike.
            ours.checked_shr(shift).unwrap_or(0) == theirs.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                alike(ours.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => alike(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// The text is no network. It says what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address, or a network like 10.0.0.0/8 or 2001:db8::/32 with nothing behind its bits")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => (address, Some(bits)),
            Some(_) => return Err(NotANetwork),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse::<u8>().map_err(|_| NotANetwork)?,
            None => width,
        };
        let value = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let rest = value.checked_shl(bits.into()).unwrap_or(0);
        if bits > width || rest != 0 {
            return Err(NotANetwork);
        }
        Ok(Network { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Network, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|error| D::Error::custom(format!("{error}; found `{text}`")))
    }
}
