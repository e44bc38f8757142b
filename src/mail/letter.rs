//! A message as mail: the words, in text and HTML, and the headers that providers expect of mail that is sent on
//! demand.
//!
//! Promise: the only link is ours, nothing is fetched when the mail is read, nothing tells us that it was, and no
//! argument can leave the place that the templates give it.
//!
//! Deliberately absent: `List-Unsubscribe` (RFC 8058 is for lists; whoever could unsubscribe from "your password was
//! changed" would be an attacker's first click), `Feedback-ID` and `Precedence` (they mark bulk), and the original's
//! `X-BrowserID-VerificationURL` and `X-BrowserID-RelyingParty`: servers on the way log headers and not bodies, and a
//! log should hold neither a secret nor where somebody signs in. What read them in tests reads the laboratory's inbox.

use std::time::SystemTime;

use fluent_bundle::FluentArgs;
use lettre::message::{
    Mailbox, MultiPart, SinglePart,
    header::{ContentType, HeaderName, HeaderValue},
};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use zeroize::Zeroizing;

use super::{
    message::{Mail, Message},
    outbox::{Entry, MailId},
    words,
};
use crate::{
    public_url::PublicUrl,
    words::{Words, WordsError},
};

/// From whom mails are.
#[derive(Clone, Debug)]
pub struct SenderAddresses {
    /// What `From` says.
    pub from: Mailbox,
    /// Where answers go, if anywhere else.
    pub reply_to: Option<Mailbox>,
    /// Where reports of failed delivery go; else to `from`.
    pub bounces_to: Option<Mailbox>,
}

/// A mail could not be written: a defect of the words, the templates or the settings, which trying again does not mend.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// A message is missing.
    #[error("mails: {0}")]
    Words(#[from] WordsError),
    /// A template failed.
    #[error("a template for mails failed")]
    Template(#[from] minijinja::Error),
    /// An address of ours is none that a mail can go to.
    #[error("the address is none that mail can go to")]
    Address(#[from] lettre::address::AddressError),
    /// What came out is no mail.
    #[error("the parts do not make a mail")]
    Parts(#[from] lettre::error::Error),
    /// It is longer than any mail of ours should be.
    #[error("the mail is too large for the outbox")]
    TooLarge,
}

/// Turns messages into mail.
pub(super) struct LetterWriter {
    sender: SenderAddresses,
    public_url: PublicUrl,
    words: Words,
    templates: Environment<'static>,
}

const TEXT: &str = "letter.txt";
const HTML: &str = "letter.html";

impl LetterWriter {
    pub(super) fn new(sender: SenderAddresses, public_url: PublicUrl) -> Result<LetterWriter, LetterError> {
        let mut templates = Environment::empty();
        // A name that is not there is a mistake, not a hole in a mail.
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|name| match name {
            TEXT => AutoEscape::None,
            _ => AutoEscape::Html,
        });
        templates.add_template(TEXT, include_str!("templates/letter.txt"))?;
        templates.add_template(HTML, include_str!("templates/letter.html"))?;
        Ok(LetterWriter {
            sender,
            public_url,
            words: words::english()?,
            templates,
        })
    }

    /// The mail as it goes over the wire, again and again until it is accepted: always the same `Message-ID`.
    pub(super) fn write(&self, id: MailId, mail: &Mail, now: SystemTime) -> Result<Entry, LetterError> {
        let link = mail.message.link(&self.public_url);
        let subject = words::of(&self.words, &mail.message, "subject")?;
        let shown = self.shown(&mail.message, &subject, &link)?;
        let text = self.templates.get_template(TEXT)?.render(shown.clone())?;
        let html = self.templates.get_template(HTML)?.render(shown)?;
        let mailbox = mail.to.mailbox();
        let from = &self.sender.from;
        let mut message = lettre::Message::builder()
            .from(from.clone())
            .to(Mailbox::new(None, mailbox.parse()?))
            .subject(subject)
            .date(now)
            .message_id(Some(format!("<{id}@{}>", from.email.domain())));
        if let Some(reply_to) = &self.sender.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        for (name, value) in [
            (CONTENT_LANGUAGE, self.words.language),
            (AUTO_SUBMITTED, "auto-generated"),
            // Exchange heeds this one. Reports of failed delivery are wanted.
            (X_AUTO_RESPONSE_SUPPRESS, "OOF, AutoReply"),
        ] {
            message = message.raw_header(HeaderValue::new(name, value.to_owned()));
        }
        let message = message.multipart(
            MultiPart::alternative()
                .singlepart(part(ContentType::TEXT_PLAIN, text))
                .singlepart(part(ContentType::TEXT_HTML, html)),
        )?;
        let bounces_to = self.sender.bounces_to.as_ref().unwrap_or(from);
        Ok(Entry {
            posted: now,
            from: bounces_to.email.to_string(),
            to: mailbox,
            message: Zeroizing::new(message.formatted()),
        })
    }

    /// All that a template may show.
    fn shown(&self, message: &Message, subject: &str, link: &str) -> Result<Value, WordsError> {
        let none = FluentArgs::new();
        let say = |name| self.words.say(name, &none).map(Value::from);
        let of_this = |attribute| words::of(&self.words, message, attribute).map(Value::from);
        let (proof, guidance) = match message {
            Message::Proof {
                challenge,
                relying_party,
                ..
            } => {
                let proof = Value::from_pairs([
                    ("began_at", say("began-at")?),
                    ("origin", Value::from(relying_party.origin())),
                    ("code_intro", say("code")?),
                    ("code", Value::from(challenge.code.as_str())),
                    ("code_warning", say("code-warning")?),
                    ("expires", say("expires")?),
                ]);
                (proof, say("not-asked")?)
            }
            Message::Notice(_) => (Value::from(()), of_this("not-you")?),
        };
        Ok(Value::from_pairs([
            ("language", Value::from(self.words.language)),
            ("subject", Value::from(subject)),
            ("heading", of_this("heading")?),
            ("text", of_this("text")?),
            ("action", of_this("action")?),
            // By the types of its parts it has no sign that means anything in HTML; escaped, its slashes would be
            // entities, which not everything that looks for links knows.
            ("link", Value::from_safe_string(link.to_owned())),
            ("proof", proof),
            ("guidance", guidance),
            ("automatic", say("automatic")?),
        ]))
    }
}

fn part(content_type: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(content_type).body(body)
}

const CONTENT_LANGUAGE: HeaderName = HeaderName::new_from_ascii_str("Content-Language");
/// RFC 3834 §5: nobody's vacation answers this.
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const X_AUTO_RESPONSE_SUPPRESS: HeaderName = HeaderName::new_from_ascii_str("X-Auto-Response-Suppress");

#[cfg(test)]
#[cfg(feature = "lab")]
mod tests;
