//! What a mail is about: the data of every kind, each proven before it gets here.
//!
//! A mail asks somebody to prove an address ([`Message::Proof`]), or tells the owner of an account what was done to it
//! ([`Message::Notice`]). Whoever calls knows the recipient, has asked the throttle, and has the words' arguments as
//! types; so no text of a stranger reaches a header, a link or markup.

use std::fmt;

use zeroize::Zeroizing;

use super::relying_party::RelyingParty;
use crate::{identity::Address, public_url::PublicUrl};

/// Characters of a token.
pub const TOKEN_CHARS: usize = 48;
/// Characters of a mailed code.
pub const CODE_CHARS: usize = 8;

/// One mail to one person.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Whom it is for: the stored form of their address.
    pub to: Address,
    /// What it says.
    pub message: Message,
}

/// What a mail says.
#[derive(Clone, Debug)]
pub enum Message {
    /// Answer this, to prove that the address is yours.
    Proof {
        /// What the proof completes.
        purpose: Purpose,
        /// What proves it.
        challenge: Challenge,
        /// The web site at which it was begun.
        relying_party: RelyingParty,
    },
    /// This was done to your account; here is what to do if it was not you.
    Notice(Notice),
}

/// What answering a mail completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A new account.
    NewAccount,
    /// One more address of an account.
    AddAddress,
    /// An address of an account is proven again, after a reset.
    Reverify,
    /// A new password for who forgot it.
    ResetPassword,
    /// A first password, because the address's own provider no longer vouches for it.
    Transition,
}

impl Purpose {
    /// Every one, for tables.
    pub const ALL: [Purpose; 5] = [
        Purpose::NewAccount,
        Purpose::AddAddress,
        Purpose::Reverify,
        Purpose::ResetPassword,
        Purpose::Transition,
    ];

    /// The landing page of its link: the original service's.
    pub fn page(self) -> &'static str {
        match self {
            Purpose::NewAccount => "verify_email_address",
            Purpose::AddAddress | Purpose::Reverify => "confirm",
            Purpose::ResetPassword => "reset_password",
            Purpose::Transition => "complete_transition",
        }
    }
}

/// What was done to an account. Every verified address of it is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// With the old password.
    PasswordChanged,
    /// By mail.
    PasswordReset,
    /// It has one more address.
    AddressAdded(Address),
    /// An address was proven for another account, and is no longer of this one.
    AddressMoved(Address),
    /// An address was removed.
    AddressRemoved(Address),
    /// The account is no more.
    AccountCancelled,
}

/// The two secrets of one mail, of which either proves that it was read.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// In the link.
    pub token: Token,
    /// To be typed into the browser that began.
    pub code: Code,
}

/// Names a staging to whoever holds it. Wiped from memory when the last copy goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// What may be typed in place of following the link.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<String>);

/// A text is not the secret that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not a token.
    #[error("a token is {TOKEN_CHARS} letters and digits")]
    Token,
    /// Not a code.
    #[error("a code is {CODE_CHARS} letters and digits")]
    Code,
}

impl Token {
    /// Takes the text of a link.
    pub fn parse(text: String) -> Result<Token, SecretError> {
        let text = Zeroizing::new(text);
        if is_alphanumeric(&text, TOKEN_CHARS) {
            Ok(Token(text))
        } else {
            Err(SecretError::Token)
        }
    }
}

impl Code {
    /// Takes what was typed.
    pub fn parse(text: String) -> Result<Code, SecretError> {
        let text = Zeroizing::new(text);
        if is_alphanumeric(&text, CODE_CHARS) {
            Ok(Code(text))
        } else {
            Err(SecretError::Code)
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn is_alphanumeric(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Message {
    /// The one link of the mail. A notice's leads to where one manages one's account, and holds no secret.
    pub(super) fn link(&self, public_url: &PublicUrl) -> Zeroizing<String> {
        let origin = public_url.origin();
        Zeroizing::new(match self {
            Message::Proof {
                purpose, challenge, ..
            } => {
                let token = challenge.token.0.as_str();
                format!("{origin}/{}?token={token}", purpose.page())
            }
            Message::Notice(_) => format!("{origin}/"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_letters_and_digits_and_stay_out_of_debug() {
        let token = "aZ09".repeat(12);
        assert!(!format!("{:?}", Token::parse(token.clone())).contains("aZ09"));
        assert!(!format!("{:?}", Code::parse("aZ09aZ09".to_owned())).contains("aZ09"));
        for wrong in [
            "",
            "short",
            &token[1..],
            &format!("{token}a"),
            &format!("{}\n", &token[1..]),
            &format!("{}&", &token[1..]),
            &format!("{}\u{e4}", &token[2..]),
        ] {
            assert_eq!(
                Token::parse(wrong.to_owned()).map(|_| ()),
                Err(SecretError::Token),
                "{wrong:?}"
            );
        }
        for wrong in [
            "",
            "aZ09aZ0",
            "aZ09aZ09a",
            "aZ09aZ0\r",
            "aZ09aZ0<",
            "aZ09aZ\u{e4}",
        ] {
            assert_eq!(
                Code::parse(wrong.to_owned()).map(|_| ()),
                Err(SecretError::Code),
                "{wrong:?}"
            );
        }
    }
}
