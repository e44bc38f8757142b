//! The token of an invitation: what an operator hands to whoever is to join.
//!
//! It holds a secret, of which the cluster record knows the hash only, and the fingerprint of the key of the member
//! that made it. Whoever holds it may join once, until it expires.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use crdt::TokenHash;
use zeroize::Zeroize;

/// The first byte of a token.
const FORMAT: u8 = 1;
const SECRET: usize = 32;
const FINGERPRINT: usize = 16;

/// An invitation's token.
pub struct Token {
    secret: [u8; SECRET],
    inviter: [u8; FINGERPRINT],
}

/// The text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an invitation: expected TOKEN@HOST:PORT, as `persona cluster invite` printed it")]
pub struct NoInvitation;

impl Token {
    /// A token of the member with this key (SPKI, DER), around random bytes.
    pub fn new(secret: [u8; SECRET], inviter_key: &[u8]) -> Token {
        Token {
            secret,
            inviter: fingerprint(inviter_key),
        }
    }

    /// What the cluster record knows of it.
    pub fn hash(&self) -> TokenHash {
        blake3::derive_key("persona 2026-11-22 invitation", &self.secret)
    }

    /// Whether this is the key of the member that made it.
    pub fn is_by(&self, key: &[u8]) -> bool {
        fingerprint(key) == self.inviter
    }

    /// The form that is handed over.
    pub fn text(&self) -> String {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.inviter);
        let text = BASE64.encode(&bytes);
        bytes.zeroize();
        text
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// The secret stays out of every log.
impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = NoInvitation;

    fn from_str(text: &str) -> Result<Token, NoInvitation> {
        let mut bytes = BASE64.decode(text).map_err(|_| NoInvitation)?;
        let parsed = match bytes.split_first() {
            Some((&FORMAT, rest)) => rest.split_first_chunk().and_then(|(secret, rest)| {
                Some(Token {
                    secret: *secret,
                    inviter: rest.try_into().ok()?,
                })
            }),
            _ => None,
        };
        bytes.zeroize();
        parsed.ok_or(NoInvitation)
    }
}

/// A token, and where a member is that may let its holder in.
#[derive(Debug)]
pub struct Invitation {
    /// What to prove.
    pub token: Token,
    /// Whom to ask: `host:port`.
    pub address: String,
}

impl FromStr for Invitation {
    type Err = NoInvitation;

    fn from_str(text: &str) -> Result<Invitation, NoInvitation> {
        let (token, address) = text.trim().split_once('@').ok_or(NoInvitation)?;
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(NoInvitation);
        }
        Ok(Invitation {
            token: token.parse()?,
            address: address.to_owned(),
        })
    }
}

fn fingerprint(key: &[u8]) -> [u8; FINGERPRINT] {
    let mut fingerprint = [0; FINGERPRINT];
    blake3::Hasher::new()
        .update(key)
        .finalize_xof()
        .fill(&mut fingerprint);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_and_nothing_else_does() {
        let token = Token::new([7; 32], b"a key");
        let text = token.text();
        let again: Invitation = format!("{text}@oslo.example:7101\n")
            .parse()
            .expect("an invitation");
        assert_eq!(again.address, "oslo.example:7101");
        assert_eq!(again.token.hash(), token.hash());
        assert!(again.token.is_by(b"a key") && !again.token.is_by(b"another"));
        assert!(!format!("{again:?}").contains(&text));
        let longer = format!("{text}AAAA@oslo.example:7101");
        for wrong in ["", "@", &text, "AQ@oslo:1", &format!("{text}@oslo"), &longer] {
            assert_eq!(
                wrong.parse::<Invitation>().map(|_| ()),
                Err(NoInvitation),
                "{wrong}"
            );
        }
    }
}
