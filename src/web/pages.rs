//! Pages: templates filled with the words of each language, once.

use std::sync::Arc;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::{
    assets::Assets,
    encoding::{Encoded, HTML},
    flow::Flow,
    headers::PageKind,
    language::Language,
    words::PageWords,
};
use crate::{public_url::PublicUrl, words::WordsError};

/// Every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    SignIn,
    Home,
    VerifyEmailAddress,
    Confirm,
    ResetPassword,
    CompleteTransition,
    About,
    Terms,
    Privacy,
    Developers,
    NotFound,
    Unavailable,
    /// A flow was refused: the browser did not say who asks.
    NoOrigin,
    /// It was refused: plain HTTP from another machine.
    PlainHttp,
    /// It was refused: the form.
    BadForm,
}

/// Why pages could not be made: a defect of the templates or the words, which tests find.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A message is missing.
    #[error("pages: {0}")]
    Words(#[from] WordsError),
    /// A template failed.
    #[error("a template for pages failed")]
    Template(#[from] Error),
}

/// All pages in all languages.
pub(super) struct Pages {
    made: Vec<(Page, Language, Encoded)>,
    writers: Vec<Writer>,
    not_found: Encoded,
}

const LAYOUT: &str = "layout.html";
/// The dialog's modules: asked for at once, and not one after the other as each names the next.
const DIALOG_MODULES: &[&str] = &[
    "certificates.js",
    "flow.js",
    "jose.js",
    "mailed.js",
    "net.js",
    "primary.js",
    "store.js",
    "view.js",
];

impl Page {
    const ALL: [Page; 15] = [
        Page::SignIn,
        Page::Home,
        Page::VerifyEmailAddress,
        Page::Confirm,
        Page::ResetPassword,
        Page::CompleteTransition,
        Page::About,
        Page::Terms,
        Page::Privacy,
        Page::Developers,
        Page::NotFound,
        Page::Unavailable,
        Page::NoOrigin,
        Page::PlainHttp,
        Page::BadForm,
    ];

    /// Those that have an address of their own, beside the dialog.
    pub(super) const SERVED: [(&str, Page); 10] = [
        ("/", Page::Home),
        ("/verify_email_address", Page::VerifyEmailAddress),
        ("/confirm", Page::Confirm),
        ("/reset_password", Page::ResetPassword),
        ("/complete_transition", Page::CompleteTransition),
        ("/about", Page::About),
        ("/terms", Page::Terms),
        // As the original had it.
        ("/tos", Page::Terms),
        ("/privacy", Page::Privacy),
        ("/developers", Page::Developers),
    ];

    pub(super) const fn kind(self) -> PageKind {
        match self {
            Page::SignIn => PageKind::Dialog,
            _ => PageKind::Plain,
        }
    }

    /// What its markup and its words call it.
    const fn name(self) -> &'static str {
        match self {
            Page::SignIn => "sign_in",
            Page::Home => "home",
            Page::VerifyEmailAddress | Page::Confirm | Page::ResetPassword | Page::CompleteTransition => {
                "landing"
            }
            Page::About => "about",
            Page::Terms => "terms",
            Page::Privacy => "privacy",
            Page::Developers => "developers",
            Page::NotFound => "not-found",
            Page::Unavailable => "unavailable",
            Page::NoOrigin | Page::PlainHttp | Page::BadForm => "refused-flow",
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Page::SignIn => "sign_in.html",
            Page::Home => "home.html",
            Page::VerifyEmailAddress | Page::Confirm | Page::ResetPassword | Page::CompleteTransition => {
                "landing.html"
            }
            Page::About | Page::Terms | Page::Privacy => "prose.html",
            Page::Developers => "developers.html",
            Page::NotFound | Page::Unavailable | Page::NoOrigin | Page::PlainHttp | Page::BadForm => {
                "error.html"
            }
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Page::SignIn => "dialog-title",
            Page::Home => "home-title",
            Page::VerifyEmailAddress | Page::Confirm | Page::ResetPassword | Page::CompleteTransition => {
                "landing-title"
            }
            Page::About => "about-title",
            Page::Terms => "terms-title",
            Page::Privacy => "privacy-title",
            Page::Developers => "developers-title",
            Page::NotFound => "not-found-title",
            Page::Unavailable => "unavailable-title",
            Page::NoOrigin | Page::PlainHttp | Page::BadForm => "refused-flow-title",
        }
    }

    /// Its script, and what that imports.
    const fn scripts(self) -> (Option<&'static str>, &'static [&'static str]) {
        match self {
            Page::SignIn => (Some("dialog.js"), DIALOG_MODULES),
            Page::Home => (
                Some("account.js"),
                &["mailed.js", "net.js", "store.js", "view.js"],
            ),
            Page::VerifyEmailAddress | Page::Confirm | Page::ResetPassword | Page::CompleteTransition => {
                (Some("landing.js"), &["net.js", "store.js", "view.js"])
            }
            Page::Developers => (Some("developers.js"), &["include.js"]),
            _ => (None, &[]),
        }
    }

    /// What a page of prose speaks of, in order.
    const fn parts(self) -> &'static [&'static str] {
        match self {
            Page::About => &["about-how", "about-privacy", "about-always", "about-free"],
            Page::Terms => &["terms-service", "terms-you", "terms-sites", "terms-end"],
            Page::Privacy => &["privacy-kept", "privacy-not", "privacy-seen", "privacy-browser"],
            _ => &[],
        }
    }

    /// The call that completes what a mail's link is about.
    const fn completes(self) -> &'static str {
        match self {
            Page::VerifyEmailAddress => "complete_user_creation",
            Page::Confirm => "complete_email_confirmation",
            Page::ResetPassword => "complete_reset",
            Page::CompleteTransition => "complete_transition",
            _ => "",
        }
    }

    const fn status(self) -> &'static str {
        match self {
            Page::NotFound => "404",
            Page::Unavailable => "503",
            _ => "400",
        }
    }

    const fn cure(self) -> Option<&'static str> {
        match self {
            Page::NoOrigin => Some("cure-origin"),
            Page::PlainHttp => Some("cure-http"),
            Page::BadForm => Some("cure-form"),
            _ => None,
        }
    }
}

impl Pages {
    pub(super) fn new(public_url: &PublicUrl, assets: &Assets) -> Result<Pages, PageError> {
        let mut made = Vec::new();
        let mut writers = Vec::new();
        for language in Language::ALL {
            let writer = Writer::new(language, public_url, assets)?;
            for page in Page::ALL {
                let text = writer.write(page, None)?;
                made.push((page, language, Encoded::new(HTML, Some(language.tag()), &text)));
            }
            writers.push(writer);
        }
        let not_found = Encoded::new(HTML, None, "");
        Ok(Pages {
            made,
            writers,
            not_found,
        })
    }

    /// A page in a language.
    pub(super) fn of(&self, page: Page, language: Language) -> &Encoded {
        self.made
            .iter()
            .find(|(made, of, _)| *made == page && *of == language)
            .map_or(&self.not_found, |(_, _, text)| text)
    }

    /// The dialog for a flow that came by redirection; without one, for one that has ended.
    pub(super) fn sign_in(&self, flow: Option<&Flow>, language: Language) -> Result<String, PageError> {
        let writer = self.writers.iter().find(|writer| writer.language == language);
        writer.map_or(Ok(String::new()), |writer| writer.write(Page::SignIn, flow))
    }
}

/// Writes pages in one language.
struct Writer {
    language: Language,
    words: Arc<PageWords>,
    templates: Environment<'static>,
    assets: String,
    origin: String,
    host: String,
    include_hash: String,
    include_integrity: String,
}

impl Writer {
    fn new(language: Language, public_url: &PublicUrl, assets: &Assets) -> Result<Writer, PageError> {
        let words = Arc::new(PageWords::of(language)?);
        let mut templates = Environment::empty();
        // A name that is not there is a mistake, not a hole in a page.
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        let spoken = Arc::clone(&words);
        templates.add_function("say", move |name: String| {
            spoken.say(&name).map_err(|error| {
                Error::new(ErrorKind::InvalidOperation, "words are missing").with_source(error)
            })
        });
        for (name, text) in [
            (LAYOUT, include_str!("templates/layout.html")),
            ("sign_in.html", include_str!("templates/sign_in.html")),
            ("home.html", include_str!("templates/home.html")),
            ("landing.html", include_str!("templates/landing.html")),
            ("prose.html", include_str!("templates/prose.html")),
            ("developers.html", include_str!("templates/developers.html")),
            ("error.html", include_str!("templates/error.html")),
        ] {
            templates.add_template(name, text)?;
        }
        Ok(Writer {
            language,
            words,
            templates,
            assets: assets.path(),
            origin: public_url.origin().to_owned(),
            host: public_url.host().to_owned(),
            include_hash: assets.include().hash.clone(),
            include_integrity: assets.include().integrity.clone(),
        })
    }

    fn write(&self, page: Page, flow: Option<&Flow>) -> Result<String, PageError> {
        // By their types these have no sign that means anything in HTML; escaped, their slashes would be entities.
        let safe = |text: &str| Value::from_safe_string(text.to_owned());
        let paragraphs = page.parts().iter().map(|part| (*part, self.names(&[part])));
        let inner = Value::from_pairs([
            ("page", Value::from(page.name())),
            ("words", Value::from(page.name())),
            ("assets", safe(&self.assets)),
            ("origin", safe(&self.origin)),
            ("host", safe(&self.host)),
            ("include_hash", safe(&self.include_hash)),
            ("include_integrity", safe(&self.include_integrity)),
            ("complete", Value::from(page.completes())),
            ("status", Value::from(page.status())),
            ("cure", Value::from(page.cure())),
            ("parts", Value::from_iter(page.parts().iter().copied())),
            ("paragraphs", Value::from_pairs(paragraphs)),
            ("dialog_words", self.names(&["error", "note", "flow"])),
            ("account_words", self.names(&["error", "said", "elsewhere"])),
            ("landing_words", self.names(&["error", "useless"])),
        ]);
        let body = self.templates.get_template(page.template())?.render(inner)?;
        let (script, modules) = page.scripts();
        let outer = Value::from_pairs([
            ("language", Value::from(self.language.tag())),
            ("page", Value::from(page.name())),
            ("title", Value::from(self.words.say(page.title())?)),
            ("assets", safe(&self.assets)),
            ("script", Value::from(script)),
            ("modules", Value::from_iter(modules.iter().copied())),
            ("dialog", Value::from(page == Page::SignIn)),
            ("flow", Value::from(flow.map(Flow::to_json))),
            ("body", Value::from_safe_string(body)),
        ]);
        Ok(self.templates.get_template(LAYOUT)?.render(outer)?)
    }

    /// The names of messages that begin so: a word, and a dash or nothing behind it. Of a part's, its paragraphs.
    fn names(&self, beginnings: &[&str]) -> Value {
        let is_one = |name: &str, beginning: &str| match name.strip_prefix(beginning) {
            Some("") => true,
            Some(rest) => rest.strip_prefix('-').is_some_and(|rest| {
                !beginning.contains('-') || rest.bytes().all(|byte| byte.is_ascii_digit())
            }),
            None => false,
        };
        Value::from_iter(
            self.words
                .names()
                .filter(|name| beginnings.iter().any(|beginning| is_one(name, beginning))),
        )
    }
}
