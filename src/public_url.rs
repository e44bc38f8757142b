//! The address under which people reach the service, the same at every site: `https://persona.example`.
//!
//! It is configuration. Whatever a request says of its host, links and origins come from here alone.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::{Host, Url};

/// An `https` URL of a host, perhaps with a port, and nothing else; `http` only on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicUrl {
    /// In ASCII, without a slash at its end.
    origin: String,
    host: String,
}

/// Why a text is no public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// Not a URL at all.
    #[error("expected a URL like `https://persona.example`")]
    NotUrl,
    /// Another scheme, or `http` to somewhere else than this machine.
    #[error("expected `https://`, or `http://` with a name or address of this machine")]
    Scheme,
    /// There is more than an origin.
    #[error("expected no user, path, query or fragment after the host")]
    NotOrigin,
}

impl PublicUrl {
    /// Scheme, host and, where it is not the scheme's own, port, as a browser writes an origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<PublicUrl, PublicUrlError> {
        let url = Url::parse(text).map_err(|_| PublicUrlError::NotUrl)?;
        let host = url.host().ok_or(PublicUrlError::NotUrl)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&host) => {}
            _ => return Err(PublicUrlError::Scheme),
        }
        let origin = url.origin().ascii_serialization();
        // The parser mends much (tabs, backslashes, `https:host`): only what needs no mending is taken.
        let plain = text.strip_suffix('/').unwrap_or(text);
        if !plain.eq_ignore_ascii_case(&origin) {
            return Err(PublicUrlError::NotOrigin);
        }
        // It stands in links, headers and pages, where signs like `'` may mean something.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte);
        if !origin.bytes().all(is_plain) {
            return Err(PublicUrlError::NotUrl);
        }
        Ok(PublicUrl {
            host: host.to_string(),
            origin,
        })
    }
}

/// `localhost` and all below it never leave the machine (RFC 6761 §6.3).
pub(crate) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

impl Serialize for PublicUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.origin)
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, PublicUrlError>) {
        let parsed = text.parse::<PublicUrl>();
        assert_eq!(
            parsed.as_ref().map(PublicUrl::origin),
            expected.as_ref().map(|origin| *origin),
            "{text:?}"
        );
    }

    #[test]
    fn it_is_an_origin_and_nothing_else() {
        check("https://persona.example", Ok("https://persona.example"));
        check("https://Persona.Example/", Ok("https://persona.example"));
        check("https://persona.example:8443", Ok("https://persona.example:8443"));
        check(
            "http://persona.localhost:8080/",
            Ok("http://persona.localhost:8080"),
        );
        check("http://127.0.0.1:80", Err(PublicUrlError::NotOrigin));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
        for text in [
            "",
            "persona.example",
            "https://",
            "https:// a",
            "https://a'b.example",
            "https://a&b.example",
        ] {
            check(text, Err(PublicUrlError::NotUrl));
        }
        for text in [
            "http://persona.example",
            "ftp://persona.example",
            "http://localhost.example",
        ] {
            check(text, Err(PublicUrlError::Scheme));
        }
        for text in [
            "https://a@persona.example",
            "https://persona.example/id",
            "https://persona.example/?a",
            "https://persona.example#a",
            "https://persona.example//",
            "https:persona.example",
            "https:\\\\persona.example",
            "https://per\tsona.example",
            " https://persona.example",
            "https://persona.example\r\n",
        ] {
            check(text, Err(PublicUrlError::NotOrigin));
        }
    }
}
