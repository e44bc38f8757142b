//! The web site that a mail speaks of, as a mail may show it.

use std::{fmt, str::FromStr};

use url::Url;

/// Bytes of an origin at most: a scheme, a host name of 253 (RFC 1035 §2.3.4) and a port.
pub const ORIGIN_BYTES_MAX: usize = 280;

/// A relying party's origin in its ASCII serialization (HTML §7.1.1), in which a look-alike in another script is
/// punycode and whatever could end a line, a tag or a link has no place. It is shown as text and never as a link.
#[derive(Clone, PartialEq, Eq)]
pub struct RelyingParty(String);

/// The text is no origin of a web site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the origin of a web site: `https://` or `http://`, a host and perhaps a port")]
pub struct NoOrigin;

impl RelyingParty {
    /// In ASCII, without a slash at its end.
    pub fn origin(&self) -> &str {
        &self.0
    }
}

impl FromStr for RelyingParty {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<RelyingParty, NoOrigin> {
        if text.len() > ORIGIN_BYTES_MAX {
            return Err(NoOrigin);
        }
        // The parser would drop or mend these.
        if text
            .chars()
            .any(|char| char.is_control() || char.is_whitespace() || char == '\\')
        {
            return Err(NoOrigin);
        }
        let (_, authority) = text.split_once("://").ok_or(NoOrigin)?;
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(NoOrigin);
        }
        let url = Url::parse(text).map_err(|_| NoOrigin)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NoOrigin);
        }
        let origin = url.origin().ascii_serialization();
        // A host may hold signs that mean something in HTML or to who guesses links; a name does not.
        let host_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_[]".contains(&byte);
        if origin.len() > ORIGIN_BYTES_MAX || !origin.bytes().all(host_of_names) {
            return Err(NoOrigin);
        }
        Ok(RelyingParty(origin))
    }
}

/// Logs carry no relying party.
impl fmt::Debug for RelyingParty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RelyingParty(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let parsed = text.parse::<RelyingParty>().ok();
        assert_eq!(parsed.as_ref().map(RelyingParty::origin), expected, "{text:?}");
    }

    #[test]
    fn an_origin_is_shown_in_ascii() {
        check("https://shop.example", Some("https://shop.example"));
        check("https://Shop.Example:443", Some("https://shop.example"));
        check("http://rp.localhost:8080", Some("http://rp.localhost:8080"));
        check("http://[::1]:8080", Some("http://[::1]:8080"));
        check(
            "https://b\u{fc}cher.example",
            Some("https://xn--bcher-kva.example"),
        );
        // A Cyrillic a.
        check(
            "https://p\u{430}ypal.example",
            Some("https://xn--pypal-4ve.example"),
        );
        // Full-width letters are the plain ones to a browser too.
        check("https://\u{ff53}hop.example", Some("https://shop.example"));
    }

    #[test]
    fn whatever_could_leave_its_place_is_no_origin() {
        for text in [
            "",
            "shop.example",
            "https://",
            "https:shop.example",
            "https://shop.example/",
            "https://shop.example/path",
            "https://user@shop.example",
            "https://shop.example?q",
            "https://shop.example#f",
            "https://shop.example\r\nBcc: eve@evil.example",
            "https://shop\n.example",
            "https://shop\t.example",
            "https://shop.example ",
            "https:\\\\shop.example",
            "https://<b>.example",
            "https://\"quote.example",
            "https://a'b.example",
            "https://a&b.example",
            "https://shop.example:99999",
            "javascript://shop.example",
            "app://shop.example",
            "data://x",
            "https://shop\u{202e}.example",
            "https://shop\u{2028}.example",
        ] {
            check(text, None);
        }
        check(&format!("https://{}.example", "a".repeat(300)), None);
        assert!(!format!("{:?}", "https://shop.example".parse::<RelyingParty>()).contains("shop"));
    }
}
