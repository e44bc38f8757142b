//! Every kind of mail, as Python's own parser reads it after STARTTLS and a password.

use std::time::SystemTime;

use persona::mail::{Mail, Message, Notice, Purpose, TlsMode};
use serde_json::Value;

use crate::server::{CODE, PUBLIC_URL, Server, TOKEN, address, all_gone, header, mail, mailer, proof};

fn every_kind() -> Vec<(Message, &'static str)> {
    let other = || address("other@b\u{fc}cher.example");
    let mut kinds: Vec<(Message, &'static str)> = Purpose::ALL
        .into_iter()
        .map(|purpose| (proof(purpose), purpose.page()))
        .collect();
    kinds.extend(
        [
            Notice::PasswordChanged,
            Notice::PasswordReset,
            Notice::AddressAdded(other()),
            Notice::AddressMoved(other()),
            Notice::AddressRemoved(other()),
            Notice::AccountCancelled,
        ]
        .map(|notice| (Message::Notice(notice), "")),
    );
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_mail_arrives_with_both_parts_and_only_our_links() {
    let server = Server::start(TlsMode::Starttls);
    let directory = tempfile::tempdir().expect("a directory");
    let mailer = mailer(directory.path(), server.settings());
    let mut subjects = std::collections::BTreeSet::new();
    for (message, page) in every_kind() {
        let posted = mailer
            .post(Mail {
                to: address("Ada@B\u{fc}cher.example"),
                message: message.clone(),
            })
            .await
            .expect("posted");
        let event = server.next("mail");
        let id = format!("<{}@persona.example>", posted.id);
        assert_eq!(header(&event, "Message-ID"), Some(id.as_str()));
        check(&event, &message, page);
        subjects.insert(header(&event, "Subject").expect("a subject").to_owned());
        all_gone(&mailer).await;
    }
    assert_eq!(subjects.len(), every_kind().len());
    // All went over one connection: one password was asked for, before the first.
    server.rest();
    assert_eq!(server.count("auth"), 1);
}

#[track_caller]
fn check(event: &Value, message: &Message, page: &str) {
    assert_eq!(event["tls"], true);
    assert_eq!(event["sender"], "bounces@persona.example");
    assert_eq!(event["to"], "Ada@xn--bcher-kva.example");
    for (name, expected) in [
        ("From", "Pers\u{f6}na <no-reply@persona.example>"),
        ("To", "Ada@xn--bcher-kva.example"),
        ("Reply-To", "help@persona.example"),
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "OOF, AutoReply"),
        ("Content-Language", "en"),
        ("MIME-Version", "1.0"),
    ] {
        assert_eq!(header(event, name), Some(expected), "{name}");
    }
    let mail = &event["mail"];
    let headers = mail["headers"].as_array().expect("headers");
    for absent in ["List-Unsubscribe", "Precedence", "Bcc", "Cc", "Sender"] {
        assert_eq!(header(event, absent), None);
    }
    assert!(headers.iter().all(|header| !header.to_string().contains(TOKEN)));
    assert!(
        headers
            .iter()
            .all(|header| !header.to_string().contains("shop.example"))
    );
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs_f64();
    assert!((mail["date"].as_f64().expect("a date") - now).abs() < 3600.0);

    assert_eq!(mail["type"], "multipart/alternative");
    assert_eq!(mail["order"], serde_json::json!(["text/plain", "text/html"]));
    assert_eq!(mail["defects"], serde_json::json!([]));
    assert_eq!(mail["ascii"], true);
    assert_eq!(mail["bare_line_ends"], 0);
    assert!(mail["longest_line"].as_u64() <= Some(998));
    for part in ["text/plain", "text/html"] {
        assert_eq!(mail["parts"][part]["charset"], "utf-8");
        assert_eq!(mail["parts"][part]["defects"], serde_json::json!([]));
    }

    // The one link, in both parts; nothing is fetched.
    let link = match message {
        Message::Proof { .. } => format!("{PUBLIC_URL}/{page}?token={TOKEN}"),
        Message::Notice(_) => format!("{PUBLIC_URL}/"),
    };
    assert_eq!(mail["hrefs"], serde_json::json!([link, link]));
    assert_eq!(mail["fetched"], serde_json::json!([]));
    for tag in ["img", "script", "link", "iframe", "form", "object"] {
        assert!(!mail["tags"].as_array().expect("tags").contains(&tag.into()));
    }
    let text = mail["parts"]["text/plain"]["content"].as_str().expect("text");
    let shown = mail["shown"].as_str().expect("text");
    assert_eq!(text.lines().filter(|line| *line == link).count(), 1, "{text}");
    let foreign: Vec<&str> = text
        .split_whitespace()
        .filter(|word| word.contains("://") && !word.starts_with(PUBLIC_URL))
        .collect();
    for said in [text, shown] {
        match message {
            Message::Proof { .. } => {
                assert!(said.contains(CODE) && said.contains("https://shop.example"));
                assert!(said.contains("need not do anything"));
                assert_eq!(foreign, ["https://shop.example"]);
            }
            Message::Notice(notice) => {
                assert!(said.contains("If this was not you"));
                assert_eq!(foreign, [""; 0]);
                let names_other = matches!(
                    notice,
                    Notice::AddressAdded(_) | Notice::AddressMoved(_) | Notice::AddressRemoved(_)
                );
                assert_eq!(said.contains("other@xn--bcher-kva.example"), names_other);
            }
        }
        for leftover in ["{", "}", "&lt;", "&amp;", "&#"] {
            assert!(!said.contains(leftover), "{leftover} is in: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_tls_from_the_first_byte_takes_it_too() {
    let server = Server::start(TlsMode::Implicit);
    let directory = tempfile::tempdir().expect("a directory");
    let mailer = mailer(directory.path(), server.settings());
    mailer.post(mail("ada@example.org")).await.expect("posted");
    assert_eq!(server.next("mail")["tls"], true);
    all_gone(&mailer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sign_that_an_address_may_have_gets_through() {
    let server = Server::start(TlsMode::None);
    let directory = tempfile::tempdir().expect("a directory");
    let mailer = mailer(directory.path(), server.settings());
    let strange = "a!#$%&'*+-/=?^_`{|}~.b@example.org";
    mailer.post(mail(strange)).await.expect("posted");
    let event = server.next("mail");
    assert_eq!(event["to"], strange);
    assert_eq!(header(&event, "To"), Some(strange));
}
