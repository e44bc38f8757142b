//! A forward proxy, as an operator names it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::{Host, Url};

/// A forward proxy: `http://squid.example:3128`. It is spoken to in clear, of nothing but the host that is wanted:
/// what goes through it is TLS to that host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
}

impl Proxy {
    /// Its name or address, and its port.
    pub(super) fn socket(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Proxy { host, port } = self;
        match host.contains(':') {
            true => write!(f, "http://[{host}]:{port}"),
            false => write!(f, "http://{host}:{port}"),
        }
    }
}

impl FromStr for Proxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Proxy, &'static str> {
        const EXPECTED: &str = "expected a forward proxy like \"http://squid.example:3128\"";
        let url = Url::parse(text).map_err(|_| EXPECTED)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if url.scheme() != "http" || !bare || !anonymous {
            return Err(EXPECTED);
        }
        let host = match url.host().ok_or(EXPECTED)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port().unwrap_or(SQUID_PORT);
        Ok(Proxy { host, port })
    }
}

impl Serialize for Proxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Where Squid listens unless it is told otherwise.
const SQUID_PORT: u16 = 3128;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let proxy = text.parse::<Proxy>().ok().map(|proxy| proxy.to_string());
        assert_eq!(proxy.as_deref(), expected, "{text}");
    }

    #[test]
    fn a_proxy_is_a_host_and_a_port() {
        check("http://squid:3128", Some("http://squid:3128"));
        check("http://squid", Some("http://squid:3128"));
        check("http://10.0.0.3:8080/", Some("http://10.0.0.3:8080"));
        check("http://[fd00::3]:8080", Some("http://[fd00::3]:8080"));
        check("https://squid:3128", None);
        check("socks5://squid:3128", None);
        check("http://user:h3mlig@squid:3128", None);
        check("http://squid:3128/path", None);
        check("squid:3128", None);
        check("", None);
    }
}
