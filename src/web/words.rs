//! What pages say, by language: `words/*.ftl`, in Fluent, where translators find them.
//!
//! Pages are made before it is known whom they speak of. So every argument is a mark, `[[email]]` for `$email`, in whose
//! place the page's script puts the text itself: translations may have it wherever their grammar wants.
//!
//! Promise: every language has every message of English and no other, or the program's tests fail.

use fluent_bundle::{FluentArgs, FluentResource, concurrent::FluentBundle};

use super::language::Language;

/// What messages may speak of.
const ARGUMENTS: [&str; 7] = ["device", "domain", "email", "minutes", "site", "tries", "when"];

/// The words of one language.
pub(super) struct Words {
    language: Language,
    text: &'static str,
    bundle: FluentBundle<FluentResource>,
}

/// A message is not in the words of a language, or takes an argument that there is not: a defect of the words, which tests
/// find.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the words of pages in `{language}` lack `{name}`, or it is not well-formed")]
pub struct WordsError {
    language: &'static str,
    name: String,
}

impl Words {
    pub(super) fn of(language: Language) -> Result<Words, WordsError> {
        let text = match language {
            Language::English => include_str!("words/en.ftl"),
            Language::German => include_str!("words/de.ftl"),
            Language::French => include_str!("words/fr.ftl"),
        };
        Words::read(language, text)
    }

    fn read(language: Language, text: &'static str) -> Result<Words, WordsError> {
        let wrong = |name: &str| WordsError {
            language: language.tag(),
            name: name.to_owned(),
        };
        let tag = language.tag().parse().map_err(|_| wrong("its own tag"))?;
        let mut bundle = FluentBundle::new_concurrent(vec![tag]);
        // Pages set arguments apart by an element.
        bundle.set_use_isolating(false);
        let resource = FluentResource::try_new(text.to_owned()).map_err(|_| wrong("a good syntax"))?;
        bundle
            .add_resource(resource)
            .map_err(|_| wrong("one of each message"))?;
        Ok(Words {
            language,
            text,
            bundle,
        })
    }

    /// A message, with its arguments as marks.
    pub(super) fn say(&self, name: &str) -> Result<String, WordsError> {
        let wrong = || WordsError {
            language: self.language.tag(),
            name: name.to_owned(),
        };
        let mut arguments = FluentArgs::new();
        for argument in ARGUMENTS {
            arguments.set(argument, format!("[[{argument}]]"));
        }
        let message = self.bundle.get_message(name).ok_or_else(wrong)?;
        let pattern = message.value().ok_or_else(wrong)?;
        let mut errors = Vec::new();
        let said = self.bundle.format_pattern(pattern, Some(&arguments), &mut errors);
        if errors.is_empty() {
            Ok(said.into_owned())
        } else {
            Err(wrong())
        }
    }

    /// The names of all messages, in the order of the file. A message begins its line.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(" ="))
            .map(|(name, _)| name)
            .filter(|name| {
                name.starts_with(|first: char| first.is_ascii_lowercase())
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The arguments that a message has in a language.
    fn marks(words: &Words, name: &str) -> BTreeSet<&'static str> {
        let said = words.say(name).expect(name);
        ARGUMENTS
            .into_iter()
            .filter(|argument| said.contains(&format!("[[{argument}]]")))
            .collect()
    }

    #[test]
    fn every_message_is_there_in_every_language_and_speaks_of_the_same() {
        let english = Words::of(Language::English).expect("English");
        let names: BTreeSet<_> = english.names().collect();
        assert!(names.len() > 200, "{} messages", names.len());
        for language in Language::ALL {
            let words = Words::of(language).unwrap_or_else(|_| panic!("{}", language.tag()));
            assert_eq!(names, words.names().collect(), "{language:?}");
            for name in &names {
                assert_eq!(
                    marks(&words, name),
                    marks(&english, name),
                    "{name} in {language:?}"
                );
                assert!(
                    !words.say(name).expect(name).trim().is_empty(),
                    "{name} in {language:?}"
                );
            }
        }
    }

    #[test]
    fn no_message_was_forgotten_by_its_translator() {
        // The same in more than one language, rightly.
        const SAME: [&str; 2] = ["home-title", "developers-api-title"];
        let english = Words::of(Language::English).expect("English");
        for language in [Language::German, Language::French] {
            let words = Words::of(language).unwrap_or_else(|_| panic!("{}", language.tag()));
            for name in english.names().filter(|name| !SAME.contains(name)) {
                assert_ne!(words.say(name), english.say(name), "{name} in {language:?}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_and_not_a_hole_in_a_page() {
        let words = Words::of(Language::English).expect("English");
        let error = words.say("nothing").expect_err("nothing");
        assert!(error.to_string().contains("`nothing`"), "{error}");
        for broken in ["a = b\n}", "a = b\na = c"] {
            assert!(Words::read(Language::English, broken).is_err(), "{broken:?}");
        }
        let strange = Words::read(Language::English, "a = { $nobody }").expect("read");
        assert!(strange.say("a").is_err());
    }
}
