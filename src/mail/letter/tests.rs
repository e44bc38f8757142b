use std::time::UNIX_EPOCH;

use super::*;
use crate::{
    identity::Address,
    mail::{
        inbox::Received,
        message::{Challenge, Code, Notice, Purpose, Token},
    },
};

const TOKEN: &str = "aaaaBBBBccccDDDDeeeeFFFF000011112222333344445555";

fn writer() -> LetterWriter {
    let sender = SenderAddresses {
        from: "Persona <no-reply@persona.example>".parse().expect("a mailbox"),
        reply_to: None,
        bounces_to: None,
    };
    LetterWriter::new(sender, "https://persona.example:8443".parse().expect("a URL")).expect("a writer")
}

fn write(message: Message) -> Entry {
    let mail = Mail {
        to: Address::parse("ada@example.org").expect("an address"),
        message,
    };
    writer().write(MailId::of(7), &mail, UNIX_EPOCH).expect("written")
}

fn proof(purpose: Purpose, origin: &str) -> Message {
    Message::Proof {
        purpose,
        challenge: Challenge {
            token: Token::parse(TOKEN.to_owned()).expect("a token"),
            code: Code::parse("C0DEc0de".to_owned()).expect("a code"),
        },
        relying_party: origin.parse().expect("an origin"),
    }
}

#[track_caller]
fn check(message: Message, link: &str, code: Option<&str>) {
    let entry = write(message);
    assert_eq!(
        (entry.from.as_str(), entry.to.as_str()),
        ("no-reply@persona.example", "ada@example.org")
    );
    let received = Received::parse(&entry.message).expect("a mail");
    assert_eq!(received.link.as_deref(), Some(link));
    assert_eq!(received.code.as_deref(), code);
    assert_eq!(received.html.matches(&format!("href=\"{link}\"")).count(), 2);
    assert_eq!(received.html.matches("href").count(), 2);
    assert!(!received.text.contains("\n\n\n"), "{}", received.text);
}

#[test]
fn every_kind_has_its_landing_page() {
    for (purpose, page) in [
        (Purpose::NewAccount, "verify_email_address"),
        (Purpose::AddAddress, "confirm"),
        (Purpose::Reverify, "confirm"),
        (Purpose::ResetPassword, "reset_password"),
        (Purpose::Transition, "complete_transition"),
    ] {
        let link = format!("https://persona.example:8443/{page}?token={TOKEN}");
        check(proof(purpose, "https://shop.example"), &link, Some("C0DEc0de"));
    }
    let other = || Address::parse("other@example.org").expect("an address");
    for notice in [
        Notice::PasswordChanged,
        Notice::PasswordReset,
        Notice::AddressAdded(other()),
        Notice::AddressMoved(other()),
        Notice::AddressRemoved(other()),
        Notice::AccountCancelled,
    ] {
        check(Message::Notice(notice), "https://persona.example:8443/", None);
    }
}

#[test]
fn a_look_alike_is_shown_as_what_it_is_and_links_nowhere() {
    let entry = write(proof(Purpose::NewAccount, "https://p\u{430}ypal.example"));
    let received = Received::parse(&entry.message).expect("a mail");
    for part in [&received.text, &received.html] {
        assert!(part.contains("xn--pypal-4ve.example"), "{part}");
        assert!(!part.contains('\u{430}'));
    }
    assert!(!received.html.contains("href=\"https://xn--"));
}

#[test]
fn what_markup_an_address_may_hold_is_text() {
    let address = Address::parse("a&b'{{subject}}{%if%}@example.org").expect("an address");
    let entry = write(Message::Notice(Notice::AddressAdded(address)));
    let received = Received::parse(&entry.message).expect("a mail");
    assert!(received.text.contains("a&b'{{subject}}{%if%}@example.org"));
    assert!(
        received
            .html
            .contains("a&amp;b&#x27;{{subject}}{%if%}@example.org"),
        "{}",
        received.html
    );
}

#[test]
fn headers_are_what_providers_expect_and_hold_no_argument() {
    let entry = write(proof(Purpose::ResetPassword, "https://shop.example"));
    let message = String::from_utf8(entry.message.to_vec()).expect("ASCII");
    let (headers, _) = message.split_once("\r\n\r\n").expect("headers and body");
    for line in [
        "From: Persona <no-reply@persona.example>",
        "To: ada@example.org",
        "Date: Thu, 01 Jan 1970 00:00:00 +0000",
        "Message-ID: <07070707070707070707070707070707@persona.example>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    ] {
        assert!(
            headers.split("\r\n").any(|header| header == line),
            "{line} is not in:\n{headers}"
        );
    }
    for absent in [TOKEN, "C0DEc0de", "shop.example", "List-"] {
        assert!(!headers.contains(absent), "{absent} is in:\n{headers}");
    }
}
