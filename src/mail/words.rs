//! What mails say, by language: `words/*.ftl`.
//!
//! Promise: every language has every message, or the program's tests fail.

use fluent_bundle::FluentArgs;

use super::message::{Message, Notice, Purpose};
use crate::words::{Words, WordsError};

/// What mails say in English.
pub(super) fn english() -> Result<Words, WordsError> {
    Words::read("en", include_str!("words/en.ftl"))
}

/// What this kind of mail has in that place.
pub(super) fn of(words: &Words, message: &Message, attribute: &str) -> Result<String, WordsError> {
    words.say(&format!("{}.{attribute}", message.words()), &message.arguments())
}

impl Message {
    /// Its message in `words/*.ftl`.
    fn words(&self) -> &'static str {
        match self {
            Message::Proof { purpose, .. } => match purpose {
                Purpose::NewAccount => "new-account",
                Purpose::AddAddress => "add-address",
                Purpose::Reverify => "reverify",
                Purpose::ResetPassword => "reset-password",
                Purpose::Transition => "transition",
            },
            Message::Notice(notice) => match notice {
                Notice::PasswordChanged => "password-changed",
                Notice::PasswordReset => "password-reset",
                Notice::AddressAdded(_) => "address-added",
                Notice::AddressMoved(_) => "address-moved",
                Notice::AddressRemoved(_) => "address-removed",
                Notice::AccountCancelled => "account-cancelled",
            },
        }
    }

    /// What its words may speak of.
    fn arguments(&self) -> FluentArgs<'static> {
        let mut arguments = FluentArgs::new();
        if let Message::Notice(
            Notice::AddressAdded(address) | Notice::AddressMoved(address) | Notice::AddressRemoved(address),
        ) = self
        {
            // In ASCII: a domain that only looks like another one is seen to.
            arguments.set("address", address.mailbox());
        }
        arguments
    }
}
