//! The words of one language, in Fluent: what mails and pages say lies beside them, in `words/*.ftl`, where translators find it.
//!
//! Promise: what is not there is an error, and never a hole in a text.

use fluent_bundle::{FluentArgs, FluentResource, concurrent::FluentBundle};

/// What is said in one language of one subject.
pub(crate) struct Words {
    /// Its tag (BCP 47): what `lang` and `Content-Language` say.
    pub(crate) language: &'static str,
    bundle: FluentBundle<FluentResource>,
}

/// A message or attribute is not in the words of a language, or takes an argument that it was not given: a defect of
/// the words, which tests find.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the words in `{language}` lack `{name}`, or it is not well-formed")]
pub struct WordsError {
    language: &'static str,
    name: String,
}

impl Words {
    /// Reads the text of a language. Arguments will stand in it as they are given: marks around them would come along when
    /// one copies an address, and escaping is the templates' business.
    pub(crate) fn read(language: &'static str, text: &str) -> Result<Words, WordsError> {
        let wrong = |name: &str| WordsError {
            language,
            name: name.to_owned(),
        };
        let tag = language.parse().map_err(|_| wrong("its own tag"))?;
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        bundle.set_use_isolating(false);
        let resource = FluentResource::try_new(text.to_owned()).map_err(|_| wrong("a good syntax"))?;
        bundle
            .add_resource(resource)
            .map_err(|_| wrong("one of each message"))?;
        Ok(Words { language, bundle })
    }

    /// The message `id`, or its attribute `id.attribute`.
    pub(crate) fn say(&self, name: &str, arguments: &FluentArgs<'_>) -> Result<String, WordsError> {
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
        let pattern = pattern.ok_or_else(wrong)?;
        let mut errors = Vec::new();
        let said = self.bundle.format_pattern(pattern, Some(arguments), &mut errors);
        if errors.is_empty() {
            Ok(said.into_owned())
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error_and_not_a_hole_in_a_text() {
        let words = Words::read("en", "plain = Words\n    .title = Title\nabout = { $whom }").expect("read");
        let none = FluentArgs::new();
        assert_eq!(words.say("plain", &none).as_deref(), Ok("Words"));
        assert_eq!(words.say("plain.title", &none).as_deref(), Ok("Title"));
        for name in ["nothing", "plain.nothing", "about.title", "about"] {
            let error = words.say(name, &none).expect_err(name);
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
        for broken in ["a = b\n}", "a = b\na = c"] {
            assert!(Words::read("en", broken).is_err(), "{broken:?}");
        }
    }
}
