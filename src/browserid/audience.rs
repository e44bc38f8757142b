//! Whether an assertion was made for the site that asks.
//!
//! The assertion's audience is an origin that our own dialog took from the browser; the other one is what a relying
//! party configured, and may be strangely formed. As in the newer verifier a full origin is wanted: scheme, host and,
//! where it is not the scheme's own, port. A host alone says nothing of the scheme, so anybody on the network who can
//! answer for plain HTTP would be that site: only a laboratory takes one, as plain HTTP.

use std::fmt;

use url::Url;

/// Bytes of an audience at most: a scheme, a host of 253 bytes and a port, with room for a host in Unicode.
pub const AUDIENCE_BYTES_MAX: usize = 1024;

/// Why an audience is not the assertion's. The texts are the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudienceMismatch {
    /// HTTP is not HTTPS.
    #[error("scheme mismatch")]
    Scheme,
    /// The ports differ.
    #[error("port mismatch")]
    Port,
    /// The hosts differ.
    #[error("domain mismatch")]
    Domain,
    /// There is no host.
    #[error("domain missing")]
    DomainMissing,
    /// Not an origin: no scheme, a path, a user, a sign that no host has.
    #[error("malformed domain")]
    MalformedDomain,
}

/// Compares the assertion's audience with the relying party's.
pub fn compare(asserted: &str, expected: &str) -> Result<(), AudienceMismatch> {
    let asserted = Origin::parse(asserted)?;
    let expected = Origin::parse_expected(expected)?;
    if asserted.scheme != expected.scheme {
        return Err(AudienceMismatch::Scheme);
    }
    if asserted.port != expected.port {
        return Err(AudienceMismatch::Port);
    }
    if asserted.host != expected.host {
        return Err(AudienceMismatch::Domain);
    }
    Ok(())
}

/// A web origin (RFC 6454 §4), parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`, and nothing after it.
    pub fn parse(text: &str) -> Result<Origin, AudienceMismatch> {
        if text.len() > AUDIENCE_BYTES_MAX {
            return Err(AudienceMismatch::MalformedDomain);
        }
        let (scheme, authority) = text.split_once("://").ok_or(AudienceMismatch::MalformedDomain)?;
        if authority.is_empty() || authority.starts_with(':') {
            return Err(AudienceMismatch::DomainMissing);
        }
        // The parser of URLs forgives all of these in some way, and this is no place to guess what was meant.
        let forgiven = |sign: char| sign.is_whitespace() || sign.is_control() || "/\\?#@%".contains(sign);
        if authority.contains(forgiven) || authority.ends_with(':') {
            return Err(AudienceMismatch::MalformedDomain);
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "https" => 443,
            // Packaged applications of Firefox OS; the original gave them HTTP's port.
            "http" | "app" => 80,
            _ => return Err(AudienceMismatch::Scheme),
        };
        // The host is read as HTTP's whatever the scheme, so that its case and its Unicode are folded.
        let url =
            Url::parse(&format!("http://{authority}")).map_err(|_| AudienceMismatch::MalformedDomain)?;
        let host = url.host_str().ok_or(AudienceMismatch::DomainMissing)?;
        let named = has_port(authority).then(|| url.port_or_known_default()).flatten();
        Ok(Origin {
            host: host.to_owned(),
            port: named.unwrap_or(port),
            scheme,
        })
    }

    /// Reads what a relying party says of itself.
    fn parse_expected(text: &str) -> Result<Origin, AudienceMismatch> {
        if text.is_empty() {
            return Err(AudienceMismatch::DomainMissing);
        }
        #[cfg(feature = "lab")]
        if !text.contains("://") {
            return Origin::parse(&format!("http://{text}"));
        }
        Origin::parse(text)
    }
}

/// Only the form in brackets has colons of its own.
fn has_port(authority: &str) -> bool {
    authority
        .rsplit_once(']')
        .map_or(authority, |(_, after)| after)
        .contains(':')
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// Logs carry no relying party.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AudienceMismatch::{Domain, DomainMissing, MalformedDomain, Port, Scheme};

    #[track_caller]
    fn check(asserted: &str, expected: &str, outcome: Result<(), AudienceMismatch>) {
        assert_eq!(
            compare(asserted, expected),
            outcome,
            "{asserted:?} for {expected:?}"
        );
    }

    #[test]
    fn origins_are_equal_by_scheme_host_and_port() {
        check("https://rp.example", "https://rp.example", Ok(()));
        check("http://rp.example", "http://rp.example:80", Ok(()));
        check("http://rp.example:80", "http://rp.example", Ok(()));
        check("https://rp.example", "https://rp.example:443", Ok(()));
        check("https://rp.example:9000", "https://rp.example:9000", Ok(()));
        check("app://browser.example", "app://browser.example:80", Ok(()));
        check("https://rp.example", "HTTPS://RP.Example", Ok(()));
        check(
            "https://xn--bcher-kva.example",
            "https://B\u{dc}cher.example",
            Ok(()),
        );
        check("http://127.0.0.1:10001", "http://127.0.0.1:10001", Ok(()));
        check("http://[::1]:8080", "http://[0:0::1]:8080", Ok(()));
        check("http://[::1]", "http://[::1]:80", Ok(()));

        check("http://rp.example", "https://rp.example", Err(Scheme));
        check("https://rp.example", "http://rp.example", Err(Scheme));
        check("https://rp.example", "app://rp.example", Err(Scheme));
        check("https://rp.example", "ftp://rp.example", Err(Scheme));
        check("https://rp.example", "javascript://rp.example", Err(Scheme));
        check("http://rp.example:8100", "http://rp.example", Err(Port));
        check("https://rp.example", "https://rp.example:80", Err(Port));
        check("http://rp.example", "http://rp.example:443", Err(Port));
        check("https://rp.example:443", "https://rp.example:9000", Err(Port));
        check("https://rp.example", "https://www.rp.example", Err(Domain));
        check(
            "https://rp.example",
            "https://rp.example.evil.example",
            Err(Domain),
        );
        check("https://rp.example", "https://rp.example.", Err(Domain));
        // A Cyrillic letter that looks like the first one is another letter.
        check("https://rp.example", "https://\u{433}p.example", Err(Domain));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        check("https://rp.example", "", Err(DomainMissing));
        check("https://rp.example", "https://", Err(DomainMissing));
        check("https://rp.example", "https://:443", Err(DomainMissing));
        for malformed in [
            "https://rp.example/",
            "https://rp.example/path",
            "https://rp.example?query",
            "https://rp.example#part",
            "https://user@rp.example",
            "https://user:word@rp.example",
            "https://rp.example@evil.example",
            "https://evil.example\\@rp.example",
            "https://rp.example:",
            "https://rp.example::443",
            "https://rp.example:port",
            "https://rp.example:65536",
            "https://rp.example:-1",
            "https://rp.example:443:443",
            "https://rp example",
            "https://rp.example\n",
            " https://rp.example:44\t3",
            "https://rp.ex\tample",
            "https://rp.ex\r\nample",
            "https://r%70.example",
            "https://[::1",
            "https://rp.example<script>",
        ] {
            let outcome = compare("https://rp.example", malformed);
            assert!(
                matches!(outcome, Err(MalformedDomain | Scheme)),
                "{malformed:?}: {outcome:?}"
            );
            let outcome = compare(malformed, "https://rp.example");
            assert!(
                matches!(outcome, Err(MalformedDomain | Scheme)),
                "{malformed:?}: {outcome:?}"
            );
        }
        let long = format!("https://{}", "a".repeat(AUDIENCE_BYTES_MAX));
        check("https://rp.example", &long, Err(MalformedDomain));
    }

    #[test]
    fn a_host_alone_is_for_the_laboratory() {
        let host_alone = if cfg!(feature = "lab") {
            Ok(())
        } else {
            Err(MalformedDomain)
        };
        check("http://rp.example", "rp.example", host_alone);
        check("http://rp.example:8080", "rp.example:8080", host_alone);
        assert!(
            compare("https://rp.example", "rp.example").is_err(),
            "a host alone means plain HTTP"
        );
        assert!(compare("http://rp.example:8080", "rp.example").is_err());
        assert!(compare("http://rp.example", "rp.example/path").is_err());
        // The assertion's own audience is always an origin.
        check("rp.example", "http://rp.example", Err(MalformedDomain));
    }
}
