//! Token, code and nonce, and what of them is kept.
//!
//! None shows itself in a log. Kept are only hashes, and the code's under the nonce, so that forty bits cannot be
//! guessed by whoever reads cells.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::browserid::json::{decode_base64url, encode_base64url};

/// Characters of a token.
pub const TOKEN_CHARS: usize = 48;
/// Of them, those that say which site made it.
const SITE_CHARS: usize = 5;
/// Characters of a mailed code.
pub const CODE_CHARS: usize = 8;

/// The name of a staging: SHA-256 of its token. It completes nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StagingId(#[serde(with = "serde_bytes")] [u8; 32]);

impl StagingId {
    /// The id that is these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> StagingId {
        StagingId(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Which site made a token: a number that follows from the site's name, the same everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteNumber(u32);

impl SiteNumber {
    /// The number of a site. There are 916 million, so of any number of sites that somebody may run no two share one.
    pub fn of(site: &str) -> SiteNumber {
        let hash = blake3::derive_key("persona 2026-11-22 number of a site", site.as_bytes());
        let wide = u64::from_le_bytes(std::array::from_fn(|at| hash[at]));
        SiteNumber((wide % SITES) as u32)
    }
}

const SITES: u64 = 62_u64.pow(SITE_CHARS as u32);

/// In the link of a mail: who made it, and 256 random bits, as letters and digits. Wiped from memory when the last copy
/// goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// What may be typed in place of following the link.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

/// What only the browser that began holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Nonce(Zeroizing<[u8; 32]>);

/// A text is not the secret that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// Not a token.
    #[error("a token is {TOKEN_CHARS} letters and digits")]
    Token,
    /// Not a code.
    #[error("a code is {CODE_CHARS} letters and digits")]
    Code,
    /// Not what a browser that began is given.
    #[error("this is not what a browser that began something was given")]
    BegunHere,
}

impl Token {
    /// A new one, of 256 random bits.
    pub fn new(site: SiteNumber, random: [u8; 32]) -> Token {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_CHARS));
        let mut number = site.0;
        for _ in 0..SITE_CHARS {
            text.push(char::from(ALPHABET[(number % 62) as usize]));
            number /= 62;
        }
        // 62^43 is a little more than 2^256, so every number of 256 bits has its own 43 digits.
        let mut rest = Zeroizing::new(random);
        while text.len() < TOKEN_CHARS {
            let mut carry = 0_u32;
            for byte in rest.iter_mut() {
                let number = carry << 8 | u32::from(*byte);
                *byte = (number / 62) as u8;
                carry = number % 62;
            }
            text.push(char::from(ALPHABET[carry as usize]));
        }
        Token(text)
    }

    /// Takes the text of a link.
    pub fn parse(text: &str) -> Result<Token, NotASecret> {
        if text.len() == TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Token(Zeroizing::new(text.to_owned())))
        } else {
            Err(NotASecret::Token)
        }
    }

    /// What goes into the mail.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its staging.
    pub fn id(&self) -> StagingId {
        StagingId(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Who made it.
    pub fn site(&self) -> SiteNumber {
        let digits = self.0.bytes().take(SITE_CHARS).rev();
        let number = digits.fold(0_u64, |number, digit| {
            let place = ALPHABET.iter().position(|letter| *letter == digit);
            number * 62 + place.unwrap_or_default() as u64
        });
        SiteNumber(number as u32)
    }
}

impl Code {
    /// A new one, of 40 random bits.
    pub fn new(random: [u8; CODE_CHARS]) -> Code {
        let letters = random.map(|byte| char::from(CODE_ALPHABET[usize::from(byte & 31)]));
        Code(Zeroizing::new(letters.iter().collect()))
    }

    /// Takes what was typed, whatever its case, with spaces and dashes anywhere, and with what looks alike.
    pub fn parse(typed: &str) -> Result<Code, NotASecret> {
        let mut text = Zeroizing::new(String::with_capacity(CODE_CHARS));
        for letter in typed.chars().filter(|letter| !matches!(letter, ' ' | '-')) {
            let letter = match letter.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                letter => letter,
            };
            if text.len() == CODE_CHARS || !CODE_ALPHABET.iter().any(|known| char::from(*known) == letter) {
                return Err(NotASecret::Code);
            }
            text.push(letter);
        }
        if text.len() == CODE_CHARS {
            Ok(Code(text))
        } else {
            Err(NotASecret::Code)
        }
    }

    /// What goes into the mail.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it: nothing that could be guessed at without the nonce.
    pub fn hash(&self, nonce: &Nonce) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"persona mailed code\0");
        hasher.update(*nonce.0);
        hasher.update(self.0.as_bytes());
        hasher.finalize().into()
    }
}

impl Nonce {
    /// From 256 random bits.
    pub fn new(random: [u8; 32]) -> Nonce {
        Nonce(Zeroizing::new(random))
    }

    /// From the random key that the browser gave its request: so a request that comes twice, perhaps to another site
    /// because the answer was lost, gets the same nonce, though none is kept anywhere.
    pub fn of_request(key: &str) -> Nonce {
        Nonce::new(blake3::derive_key(
            "persona 2026-11-22 nonce of a request",
            key.as_bytes(),
        ))
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(*self.0).into()
    }
}

/// What the browser that began holds: which staging, and its nonce. It says only "this browser began".
#[derive(Clone, PartialEq, Eq)]
pub struct BegunHere {
    /// Which staging.
    pub id: StagingId,
    /// The browser's own.
    pub nonce: Nonce,
}

impl BegunHere {
    /// A cookie's value.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(&self.id.0);
        bytes[32..].copy_from_slice(&*self.nonce.0);
        Zeroizing::new(encode_base64url(*bytes))
    }

    /// The other way.
    pub fn parse(text: &str) -> Result<BegunHere, NotASecret> {
        let bytes = decode_base64url(text).ok_or(NotASecret::BegunHere)?;
        let bytes = Zeroizing::new(bytes);
        let (id, nonce) = bytes.split_first_chunk::<32>().ok_or(NotASecret::BegunHere)?;
        let nonce: [u8; 32] = nonce.try_into().map_err(|_| NotASecret::BegunHere)?;
        Ok(BegunHere {
            id: StagingId(*id),
            nonce: Nonce::new(nonce),
        })
    }
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Crockford's base 32: no letter that looks like a digit.
const CODE_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

macro_rules! secret {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })*
    };
}

secret!(Token, Code, Nonce, BegunHere, StagingId);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_token_says_who_made_it_and_no_two_are_the_same() {
        let oslo = SiteNumber::of("oslo");
        let mut seen = BTreeSet::new();
        for number in 0..=255_u8 {
            let mut random = [0; 32];
            random[usize::from(number) % 32] = number;
            random[31 - usize::from(number) % 32] ^= 1;
            let token = Token::new(oslo, random);
            assert_eq!(Token::parse(token.as_str()).as_ref(), Ok(&token));
            assert_eq!(token.site(), oslo);
            assert!(seen.insert(token.as_str().to_owned()), "{number}");
            assert_eq!(
                *token.id().as_bytes(),
                <[u8; 32]>::from(Sha256::digest(token.as_str()))
            );
        }
        assert_ne!(oslo, SiteNumber::of("lima"));
        let last = Token::new(SiteNumber(SITES as u32 - 1), [0xff; 32]);
        assert_eq!(last.site(), SiteNumber(SITES as u32 - 1));
        assert_eq!(last.as_str().len(), TOKEN_CHARS);
        assert_ne!(
            last.as_str().as_bytes()[TOKEN_CHARS - 1],
            ALPHABET[0],
            "the last digit is of use"
        );
    }

    #[test]
    fn what_is_no_token_is_none() {
        let token = "aZ09".repeat(12);
        for wrong in [
            "",
            &token[1..],
            &format!("{token}a"),
            &format!("{}\n", &token[1..]),
            &format!("{}-", &token[1..]),
            &format!("{}\u{e4}", &token[2..]),
        ] {
            assert_eq!(Token::parse(wrong), Err(NotASecret::Token), "{wrong:?}");
        }
    }

    #[track_caller]
    fn check_code(typed: &str, expected: Option<&str>) {
        let code = Code::parse(typed);
        assert_eq!(code.as_ref().ok().map(Code::as_str), expected, "{typed:?}");
    }

    #[test]
    fn a_code_is_typed_as_people_type() {
        check_code("K7M2Q9XZ", Some("K7M2Q9XZ"));
        check_code("k7m2-q9xz", Some("K7M2Q9XZ"));
        check_code(" k7 m2 q9 xz ", Some("K7M2Q9XZ"));
        check_code("oOiIlL00", Some("00111100"));
        check_code("k7m2q9x", None);
        check_code("k7m2q9xz1", None);
        check_code("k7m2q9xu", None);
        check_code("k7m2q9x\u{ff3a}", None);
        check_code("", None);
        let code = Code::new([0, 1, 10, 31, 32, 255, 128, 77]);
        assert_eq!(Code::parse(code.as_str()).as_ref(), Ok(&code));
        let nonces = [Nonce::new([1; 32]), Nonce::new([2; 32])];
        assert_ne!(code.hash(&nonces[0]), code.hash(&nonces[1]));
    }

    #[test]
    fn what_a_browser_holds_comes_back_and_shows_nothing() {
        let here = BegunHere {
            id: StagingId([7; 32]),
            nonce: Nonce::of_request("a key"),
        };
        let text = here.to_text();
        assert_eq!(BegunHere::parse(&text).as_ref(), Ok(&here));
        for wrong in [
            "",
            "AAAA",
            &text[1..],
            &format!("{}A", *text),
            &format!("{}=", *text),
        ] {
            assert_eq!(BegunHere::parse(wrong), Err(NotASecret::BegunHere), "{wrong:?}");
        }
        assert_ne!(here.nonce, Nonce::of_request("b key"));
        assert_ne!(here.nonce.hash(), *here.nonce.0);
        let shown = format!("{here:?} {:?} {:?} {:?}", here.nonce, here.id, Code::new([1; 8]));
        assert_eq!(shown, "BegunHere(..) Nonce(..) StagingId(..) Code(..)");
    }
}
