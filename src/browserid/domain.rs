//! A domain that issues certificates, or that an address is in.

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::identity::Address;

/// A domain name in ASCII and lower case, by the same rule as an [`Address`]'s domain, so that two are one if and
/// only if their texts are equal. One label is enough here: a laboratory's host may be `localhost`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// Reads the text of a token, a support document or a configuration.
    pub fn parse(text: &str) -> Option<Domain> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let ascii = Uts46::new().to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        );
        ascii.ok().map(|ascii| Domain(ascii.into_owned()))
    }

    /// The domain of an address.
    pub fn of(address: &Address) -> Domain {
        Domain(address.domain().to_owned())
    }

    /// In ASCII and lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Domain({})", self.0)
    }
}

/// A name has at most 253 bytes in ASCII; in Unicode it may be a little longer, and beyond this it is not.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(
            Domain::parse(text).as_ref().map(Domain::as_str),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn a_domain_is_compared_in_ascii_and_lower_case() {
        check("example.org", Some("example.org"));
        check("Example.ORG", Some("example.org"));
        check("b\u{fc}cher.example", Some("xn--bcher-kva.example"));
        check("XN--BCHER-KVA.example", Some("xn--bcher-kva.example"));
        check("localhost", Some("localhost"));
        for refused in [
            "",
            ".",
            "a..b",
            "example.org.",
            "a b",
            "a:80",
            "a/b",
            "a@b",
            "[::1]",
            "a_b.c",
            "-a.b",
            "xn--a",
        ] {
            check(refused, None);
        }
        check(&"a".repeat(64), None);
        check(&"a.".repeat(2000), None);
    }

    #[test]
    fn it_is_the_domain_of_an_address() {
        let address = Address::parse("ada@B\u{dc}cher.example").expect("an address");
        assert_eq!(
            Domain::of(&address),
            Domain::parse("b\u{fc}cher.example").expect("a domain")
        );
    }
}
