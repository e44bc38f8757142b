//! What mails say, by language: `words/*.ftl`, in Fluent, where translators find them.
//!
//! Promise: every language has every message, or the program's tests fail; arguments are inserted as they are, and
//! escaping is left to the templates.

use std::borrow::Cow;

use fluent_bundle::{FluentArgs, FluentResource, concurrent::FluentBundle};

use super::message::{Message, Notice, Purpose};

const ENGLISH: &str = include_str!("words/en.ftl");

/// The words of one language.
pub(super) struct Words {
    /// Its tag (BCP 47): what `lang` and `Content-Language` say.
    pub language: &'static str,
    bundle: FluentBundle<FluentResource>,
}

/// A message or attribute is not in the words of a language, or takes an argument that it was not given: a defect of
/// the words, which tests find.
#[derive(Debug, thiserror::Error)]
#[error("the words for mails in `{language}` lack `{name}`, or it is not well-formed")]
pub struct WordsError {
    language: &'static str,
    name: String,
}

impl Words {
    pub(super) fn english() -> Result<Words, WordsError> {
        Words::read("en", ENGLISH)
    }

    fn read(language: &'static str, text: &str) -> Result<Words, WordsError> {
        let wrong = |name: &str| WordsError {
            language,
            name: name.to_owned(),
        };
        let tag = language.parse().map_err(|_| wrong("its own tag"))?;
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        // Arguments are ASCII. Marks around them would come along when one copies an address.
        bundle.set_use_isolating(false);
        let resource = FluentResource::try_new(text.to_owned()).map_err(|_| wrong("a good syntax"))?;
        bundle
            .add_resource(resource)
            .map_err(|_| wrong("one of each message"))?;
        Ok(Words { language, bundle })
    }

    /// What this kind of mail has in that place.
    pub(super) fn of(&self, message: &Message, attribute: &str) -> Result<String, WordsError> {
        self.say(&format!("{}.{attribute}", message.words()), &message.arguments())
    }

    /// The message `id`, or its attribute `id.attribute`.
    pub(super) fn say(&self, name: &str, arguments: &FluentArgs<'_>) -> Result<String, WordsError> {
        let wrong = || WordsError {
            language: self.language,
            name: name.to_owned(),
        };
        let (id, attribute) = match name.split_once('.') {
            Some((id, attribute)) => (id, Some(attribute)),
            None => (name, None),
        };
        let message = self.bundle.get_message(id).ok_or_else(wrong)?;
        let pattern = match attribute {
            Some(attribute) => message
                .get_attribute(attribute)
                .map(|attribute| attribute.value()),
            None => message.value(),
        };
        let mut errors = Vec::new();
        let said = self
            .bundle
            .format_pattern(pattern.ok_or_else(wrong)?, Some(arguments), &mut errors);
        if errors.is_empty() {
            Ok(Cow::into_owned(said))
        } else {
            Err(wrong())
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error_and_not_a_hole_in_a_mail() {
        let words = Words::english().expect("words");
        let none = FluentArgs::new();
        for name in [
            "nothing",
            "new-account.nothing",
            "new-account",
            "address-added.text",
        ] {
            let error = words.say(name, &none).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(Words::read("en", "a = b\n}").is_err());
        assert!(Words::read("en", "a = b\na = c").is_err());
    }
}
