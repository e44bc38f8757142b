//! A server that puts off, refuses, hangs, breaks off, or is not ours to trust.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use persona::mail::{Mailer, Pace, TlsMode};
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

use crate::server::{CODE, Server, TOKEN, all_gone, header, mail, mailer, settings};

fn mails_in(directory: &Path) -> usize {
    let is_mail = |file: &fs::DirEntry| {
        file.path()
            .extension()
            .is_some_and(|extension| extension == "mail")
    };
    fs::read_dir(directory)
        .expect("a directory")
        .filter(|file| file.as_ref().is_ok_and(is_mail))
        .count()
}

/// Whatever is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Log;

    fn make_writer(&self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn what_is_put_off_or_broken_off_arrives_later_and_what_is_refused_is_dropped() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let server = Server::start(TlsMode::Starttls);
    let directory = tempfile::tempdir().expect("a directory");
    let mailer = mailer(directory.path(), server.settings());
    let mut posted = Vec::new();
    for to in ["later-2", "cut", "never", "good"] {
        let address = format!("{to}@secret.example");
        posted.push(mailer.post(mail(&address)).await.expect("posted").id);
    }
    all_gone(&mailer).await;
    assert_eq!(mails_in(directory.path()), 0);

    let events = server.rest();
    let count = |event: &str, to: &str| {
        let to = format!("{to}@secret.example");
        events
            .iter()
            .filter(|found| found["event"] == event && found["to"] == to.as_str())
            .count()
    };
    assert_eq!((count("later", "later-2"), count("mail", "later-2")), (2, 1));
    assert_eq!((count("cut", "cut"), count("mail", "cut")), (1, 1));
    assert_eq!((count("refused", "never"), count("mail", "never")), (1, 0));
    assert_eq!(count("mail", "good"), 1);

    drop(guard);
    let log = log.0.lock().expect("not poisoned").clone();
    let log = String::from_utf8(log).expect("text");
    assert!(
        log.contains(&posted[2].to_string()),
        "it tells of the refused mail: {log}"
    );
    assert!(log.contains("550 5.1.1") && log.contains("451 4.7.1"), "{log}");
    for secret in ["secret.example", TOKEN, CODE, "shop.example", "h3mlig"] {
        assert!(!log.contains(secret), "`{secret}` is in the log: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_answered_comes_again_under_the_same_name() {
    let server = Server::start(TlsMode::None);
    let directory = tempfile::tempdir().expect("a directory");
    let mut smtp = server.settings();
    smtp.timeout = Duration::from_secs(3);
    let mailer = mailer(directory.path(), smtp);
    let posted = mailer.post(mail("hang@example.org")).await.expect("posted");
    let expected = format!("<{}@persona.example>", posted.id);
    for _ in 0..2 {
        let event = server.next("mail");
        assert_eq!(header(&event, "Message-ID"), Some(expected.as_str()));
    }
    all_gone(&mailer).await;
}

/// The server does not do what it must; nothing is lost, and with the mistake mended the mail arrives.
async fn waits_until_mended(
    server: &Server,
    wrong: impl FnOnce(&mut persona::mail::MailSettings),
    seen: &str,
) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut mistaken = settings(directory.path(), server.settings());
    wrong(&mut mistaken);
    let mailer = Mailer::new(mistaken).expect("a mailer");
    mailer.post(mail("ada@example.org")).await.expect("posted");
    server.next(seen);
    server.next(seen);
    mailer.drain(Duration::from_secs(30)).await;
    assert_eq!(*mailer.waiting().borrow(), 1);
    assert_eq!(mails_in(directory.path()), 1);
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
    drop(mailer);

    let mailer = Mailer::new(settings(directory.path(), server.settings())).expect("a mailer");
    server.next("mail");
    all_gone(&mailer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_loses_no_mail() {
    let server = Server::start(TlsMode::Starttls);
    let wrong = |settings: &mut persona::mail::MailSettings| {
        let mut smtp = server.settings();
        smtp.credentials = Some(("persona".to_owned(), Zeroizing::new("wrong".to_owned())));
        settings.transport = persona::mail::TransportSettings::Smtp(smtp);
    };
    waits_until_mended(&server, wrong, "auth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_sender_loses_no_mail() {
    let server = Server::start(TlsMode::None);
    let wrong = |settings: &mut persona::mail::MailSettings| {
        settings.sender.bounces_to = Some("unwelcome@persona.example".parse().expect("a mailbox"));
    };
    // The envelope is written when the mail is posted, so mending helps later mails only: this one is given up in time.
    let directory = tempfile::tempdir().expect("a directory");
    let mut mistaken = settings(directory.path(), server.settings());
    wrong(&mut mistaken);
    let mailer = Mailer::new(mistaken).expect("a mailer");
    mailer.post(mail("ada@example.org")).await.expect("posted");
    server.next("unwelcome");
    server.next("unwelcome");
    assert_eq!(*mailer.waiting().borrow(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_in_the_clear_where_tls_is_demanded() {
    let server = Server::start(TlsMode::None);
    let demand = |settings: &mut persona::mail::MailSettings| {
        let mut smtp = server.settings();
        smtp.tls = TlsMode::Starttls;
        settings.transport = persona::mail::TransportSettings::Smtp(smtp);
    };
    waits_until_mended(&server, demand, "left").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let server = Server::start(TlsMode::Starttls);
    let elsewhere = |settings: &mut persona::mail::MailSettings| {
        let mut smtp = server.settings();
        // The certificate is for `localhost`.
        smtp.host = "127.0.0.1".to_owned();
        settings.transport = persona::mail::TransportSettings::Smtp(smtp);
    };
    waits_until_mended(&server, elsewhere, "left").await;
}

#[tokio::test]
async fn a_mail_that_gets_too_old_is_given_up_and_gone_from_disk() {
    let server = Server::start(TlsMode::None);
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = settings(directory.path(), server.settings());
    settings.pace = Pace {
        age_max: Duration::from_millis(500),
        ..settings.pace
    };
    let mailer = Mailer::new(settings).expect("a mailer");
    mailer
        .post(mail("later-1000000@example.org"))
        .await
        .expect("posted");
    all_gone(&mailer).await;
    assert_eq!(mails_in(directory.path()), 0);
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
}
