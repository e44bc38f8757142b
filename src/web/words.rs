//! What pages say, by language: `words/*.ftl`, in Fluent, where translators find them.
//!
//! Pages are made before it is known whom they speak of. So every argument is a mark, `[[email]]` for `$email`, in whose
//! place the page's script puts the text itself: translations may have it wherever their grammar wants.
//!
//! Promise: every language has every message of English and no other, or the program's tests fail.

use super::language::Language;
use crate::words::{Words, WordsError};

/// What messages may speak of.
const ARGUMENTS: [&str; 7] = ["device", "domain", "email", "minutes", "site", "tries", "when"];

/// What pages say in one language.
pub(super) struct PageWords {
    text: &'static str,
    words: Words,
}

impl PageWords {
    pub(super) fn of(language: Language) -> Result<PageWords, WordsError> {
        let text = match language {
            Language::English => include_str!("words/en.ftl"),
            Language::German => include_str!("words/de.ftl"),
            Language::French => include_str!("words/fr.ftl"),
        };
        Ok(PageWords {
            text,
            words: Words::read(language.tag(), text)?,
        })
    }

    /// A message, with its arguments as marks.
    pub(super) fn say(&self, name: &str) -> Result<String, WordsError> {
        let marks = ARGUMENTS.map(|argument| (argument, format!("[[{argument}]]")));
        self.words.say(name, &marks.into_iter().collect())
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
    fn marks(words: &PageWords, name: &str) -> BTreeSet<&'static str> {
        let said = words.say(name).expect(name);
        ARGUMENTS
            .into_iter()
            .filter(|argument| said.contains(&format!("[[{argument}]]")))
            .collect()
    }

    #[test]
    fn every_message_is_there_in_every_language_and_speaks_of_the_same() {
        let english = PageWords::of(Language::English).expect("English");
        let names: BTreeSet<_> = english.names().collect();
        assert!(names.len() > 200, "{} messages", names.len());
        for language in Language::ALL {
            let words = PageWords::of(language).unwrap_or_else(|_| panic!("{}", language.tag()));
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
        let english = PageWords::of(Language::English).expect("English");
        for language in [Language::German, Language::French] {
            let words = PageWords::of(language).unwrap_or_else(|_| panic!("{}", language.tag()));
            for name in english.names().filter(|name| !SAME.contains(name)) {
                assert_ne!(words.say(name), english.say(name), "{name} in {language:?}");
            }
        }
    }
}
