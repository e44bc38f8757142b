//! An email address, parsed once at the border.
//!
//! The local part is ASCII and compared with its letters folded; the domain is compared as UTS-46 makes it. What
//! is kept is what its owner typed. Deliberately absent: quoted local parts, comments, address literals, domains
//! of a single label, and any provider's own rules (dots, `+tags`): whether those make two mailboxes or one only
//! the provider knows.
//!
//! Promise: two addresses are the same person's mailbox here if and only if their [`EmailId`]s are equal, at every
//! site and in every running version ([`NORMALISATION`] travels in the hello).

use std::{borrow::Cow, fmt};

use crdt::EmailId;
use hmac::{Hmac, KeyInit, Mac};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroize;

/// The rule by which addresses are compared. It is part of the format: sites that differ in it refuse each other.
pub const NORMALISATION: &str = "1: local part ASCII, A-Z folded; domain UTS-46 of idna 1.1, STD3";

/// Bytes of an address at most: RFC 5321 §4.5.3.1.3 gives a path 256, with its two brackets.
pub const ADDRESS_BYTES_MAX: usize = 254;
/// Bytes of a local part at most (RFC 5321 §4.5.3.1.1).
pub const LOCAL_BYTES_MAX: usize = 64;

/// An address as its owner typed it, and the form that lookups use.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    typed: String,
    local_bytes: usize,
    domain: String,
}

/// Why a text is no address that mail could be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`, or nothing on one side of it.
    #[error("an address is a name, an @ and a domain")]
    NoParts,
    /// Longer than mail allows.
    #[error("an address has at most {ADDRESS_BYTES_MAX} characters, {LOCAL_BYTES_MAX} before the @")]
    TooLong,
    /// The part before the `@` has something else than letters, digits and the signs of RFC 5321, or a dot out
    /// of its place.
    #[error("the part before the @ has a character, or a dot, that mail does not allow there")]
    Local,
    /// The part after the `@` is not the name of a domain on the public internet.
    #[error("the part after the @ is not a domain name")]
    Domain,
}

impl Address {
    /// Takes the text of a form, a token or a command line.
    pub fn parse(typed: &str) -> Result<Address, AddressError> {
        // An address as typed may be a little longer in its ASCII form and still be good; beyond this it is not.
        if typed.len() > 2 * ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let (local, domain) = typed.rsplit_once('@').ok_or(AddressError::NoParts)?;
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::NoParts);
        }
        if local.len() > LOCAL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if !is_dot_atom(local) {
            return Err(AddressError::Local);
        }
        let domain = ascii_domain(domain)?.into_owned();
        if local.len() + 1 + domain.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(Address {
            typed: typed.to_owned(),
            local_bytes: local.len(),
            domain,
        })
    }

    /// As its owner typed it: what the vault keeps and what they are shown.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// The domain, in ASCII and folded.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The form that mail is sent to: the local part as typed, because some server may tell its case apart, and
    /// the domain in ASCII.
    pub fn mailbox(&self) -> String {
        format!("{}@{}", self.local(), self.domain)
    }

    /// The form that is compared.
    pub fn normalised(&self) -> String {
        format!("{}@{}", self.local().to_ascii_lowercase(), self.domain)
    }

    /// The key of its record: the same at every site, and telling nothing to whoever lacks the index key.
    pub fn id(&self, key: &IndexKey) -> EmailId {
        let mut normalised = self.normalised();
        let tag = key.tag(normalised.as_bytes());
        normalised.zeroize();
        EmailId::from_bytes(cut(&tag))
    }

    fn local(&self) -> &str {
        self.typed.get(..self.local_bytes).unwrap_or_default()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(typed: String) -> Result<Address, AddressError> {
        Address::parse(&typed)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.typed
    }
}

/// Logs carry no address.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} bytes)", self.typed.len())
    }
}

/// The cluster's key under which addresses become ids: configuration, the same at every site.
#[derive(Clone)]
pub struct IndexKey(Hmac<Sha256>);

/// The key of what is known of a domain: it tells nothing to whoever lacks the index key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DomainKey(#[serde(with = "serde_bytes")] [u8; 32]);

impl DomainKey {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl IndexKey {
    /// The key that is these bytes.
    pub fn new(mut key: [u8; 32]) -> IndexKey {
        // HMAC fills a short key up with zeros to its block (RFC 2104 §2); done here, no length can be wrong.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&key);
        let mac = Hmac::new(&block.into());
        block.zeroize();
        key.zeroize();
        IndexKey(mac)
    }

    /// The key of what is known of a domain, which is given as an [`Address`] has it.
    pub(super) fn domain(&self, domain: &str) -> DomainKey {
        // No address begins with a NUL.
        DomainKey(self.tag(&[b"\0persona domain ", domain.as_bytes()].concat()))
    }

    /// Tells two keys apart in a hello without telling either.
    pub fn fingerprint(&self) -> [u8; 8] {
        // No address begins with a NUL, so this is no address's tag.
        cut(&self.tag(b"\0persona index key"))
    }

    fn tag(&self, data: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(..)")
    }
}

fn cut<const N: usize>(tag: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|at| tag.get(at).copied().unwrap_or_default())
}

/// RFC 5321's Dot-string: atoms of the signs in RFC 5322 §3.2.3, with single dots between them.
fn is_dot_atom(local: &str) -> bool {
    local.split('.').all(|atom| {
        !atom.is_empty()
            && atom
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    })
}

fn ascii_domain(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    // Hyphens in third and fourth place are in real names, so only the ends are checked.
    let ascii = Uts46::new()
        .to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_| AddressError::Domain)?;
    match ascii.rsplit_once('.') {
        // A last label of digits is an IPv4 address, which is no name.
        Some((_, top)) if !top.bytes().all(|byte| byte.is_ascii_digit()) => Ok(ascii),
        _ => Err(AddressError::Domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> IndexKey {
        IndexKey::new([7; 32])
    }

    #[track_caller]
    fn check(typed: &str, normalised: &str, mailbox: &str) {
        let address = Address::parse(typed).unwrap_or_else(|error| panic!("{typed:?}: {error}"));
        assert_eq!(address.normalised(), normalised);
        assert_eq!(address.mailbox(), mailbox);
        assert_eq!(address.typed(), typed);
        assert!(!format!("{address:?}").contains(address.domain()));
    }

    #[track_caller]
    fn refuse(typed: &str, expected: AddressError) {
        assert_eq!(Address::parse(typed), Err(expected), "{typed:?}");
    }

    #[test]
    fn an_address_is_compared_folded_and_kept_as_typed() {
        check("ada@example.org", "ada@example.org", "ada@example.org");
        check(
            "Ada.Lovelace@Example.ORG",
            "ada.lovelace@example.org",
            "Ada.Lovelace@example.org",
        );
        check(
            "a+tag=x/y!#$%&'*-?^_`{|}~@a.b",
            "a+tag=x/y!#$%&'*-?^_`{|}~@a.b",
            "a+tag=x/y!#$%&'*-?^_`{|}~@a.b",
        );
        check(
            "ada@b\u{fc}cher.example",
            "ada@xn--bcher-kva.example",
            "ada@xn--bcher-kva.example",
        );
        check(
            "ada@XN--BCHER-KVA.example",
            "ada@xn--bcher-kva.example",
            "ada@xn--bcher-kva.example",
        );
        // Not transitional: the sharp s is a letter of its own (UTS-46 since 2023).
        check(
            "ada@fa\u{df}.example",
            "ada@xn--fa-hia.example",
            "ada@xn--fa-hia.example",
        );
        check(
            "ada@\u{ff25}xample\u{3002}org",
            "ada@example.org",
            "ada@example.org",
        );
        check(
            "ada@r3---sn-x.example",
            "ada@r3---sn-x.example",
            "ada@r3---sn-x.example",
        );
        check(
            "ada@1.2.3.4.example",
            "ada@1.2.3.4.example",
            "ada@1.2.3.4.example",
        );
    }

    #[test]
    fn what_mail_cannot_reach_is_refused() {
        for typed in ["", "@", "ada", "ada@", "@example.org"] {
            refuse(typed, AddressError::NoParts);
        }
        for typed in [
            ".ada",
            "ada.",
            "a..b",
            "a b",
            "\"ada\"",
            "a,b",
            "a@b",
            "a<b",
            "ad\u{e4}",
            "ada\r\nbcc:x",
            "a\0",
        ] {
            refuse(&format!("{typed}@example.org"), AddressError::Local);
        }
        for domain in [
            "localhost",
            "127.0.0.1",
            "[127.0.0.1]",
            "example.org.",
            ".example.org",
            "a..b",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b.example",
            "exa\u{202e}mple.org",
            "xn--a.example",
            "example.org\n",
            "a.1",
        ] {
            refuse(&format!("ada@{domain}"), AddressError::Domain);
        }
    }

    #[test]
    fn lengths_end_where_mail_ends_them() {
        let local = "l".repeat(LOCAL_BYTES_MAX);
        let domain = format!("{0}.{0}.{1}.de", "d".repeat(63), "e".repeat(58));
        assert_eq!(local.len() + 1 + domain.len(), ADDRESS_BYTES_MAX);
        assert!(Address::parse(&format!("{local}@{domain}")).is_ok());
        refuse(&format!("{local}@e{domain}"), AddressError::Domain); // a label of 64
        refuse(
            &format!("{local}@{}", domain.replace(".de", ".dev")),
            AddressError::TooLong,
        );
        refuse(&format!("{local}l@example.org"), AddressError::TooLong);
        refuse(&format!("ada@{}", "d".repeat(600)), AddressError::TooLong);
    }

    #[test]
    fn ids_are_the_same_for_one_mailbox_and_the_tag_of_hmac() {
        let id = |typed: &str| Address::parse(typed).expect(typed).id(&key());
        assert_eq!(id("Ada@Example.org"), id("ada@example.ORG"));
        assert_eq!(id("ada@b\u{fc}cher.example"), id("ada@xn--bcher-kva.example"));
        assert_ne!(id("ada@example.org"), id("a.da@example.org"));
        let other = IndexKey::new([8; 32]);
        assert_ne!(
            id("ada@example.org"),
            Address::parse("ada@example.org").expect("good").id(&other)
        );
        assert_ne!(key().fingerprint(), other.fingerprint());

        // RFC 4231 has no case of a 32-byte key; the crate's own way of taking a key of any length must agree.
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).expect("HMAC takes any length");
        mac.update(b"ada@example.org");
        let tag: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(id("ada@example.org").as_bytes()[..], tag[..15]);
    }
}
