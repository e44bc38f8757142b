//! A process that is killed with mails in its outbox, and one that ends in good order.
//!
//! The process to be killed is this test's own binary, told by its environment to run [`a_process_that_is_killed`]
//! in earnest.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use persona::mail::{Mailer, SmtpSettings, TlsMode};

use crate::server::{Server, all_gone, header, mail, mailer, settings};

const DIRECTORY: &str = "PERSONA_TEST_MAIL_DIRECTORY";
const PORT: &str = "PERSONA_TEST_MAIL_PORT";
const RECIPIENTS: &str = "PERSONA_TEST_MAIL_RECIPIENTS";

/// Posts, tells the ids, and waits for its end. Without its environment it has nothing to do.
#[tokio::test]
async fn a_process_that_is_killed() {
    let (Ok(directory), Ok(port), Ok(recipients)) =
        (env::var(DIRECTORY), env::var(PORT), env::var(RECIPIENTS))
    else {
        return;
    };
    let smtp = SmtpSettings {
        host: "localhost".to_owned(),
        port: port.parse().expect("a port"),
        tls: TlsMode::None,
        roots: None,
        credentials: None,
        hello_name: "persona.example".to_owned(),
        timeout: Duration::from_secs(600),
    };
    let mailer = mailer(Path::new(&directory), smtp);
    for to in recipients.split(',') {
        let posted = mailer.post(mail(to)).await.expect("posted");
        println!("posted {}", posted.id);
    }
    println!("posted all");
    std::future::pending::<()>().await;
}

struct Victim {
    child: Child,
    ids: Vec<String>,
}

impl Victim {
    /// Starts a process and waits until it was told that all its mails are durable.
    fn start(directory: &Path, port: u16, recipients: &str) -> Victim {
        let mut child = Command::new(env::current_exe().expect("a binary"))
            .args(["--exact", "crashes::a_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(PORT, port.to_string())
            .env(RECIPIENTS, recipients)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let ids = output
            .lines()
            .map(|line| line.expect("a line"))
            .filter_map(|line| line.split_once("posted ").map(|(_, id)| id.to_owned()))
            .take_while(|id| id != "all")
            .collect();
        Victim { child, ids }
    }

    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("killed with -9");
        self.child.wait().expect("ended");
        self.ids
    }
}

/// How often each mail arrived, by its id.
fn arrivals(server: &Server, events: usize) -> BTreeMap<String, usize> {
    let mut arrived = BTreeMap::new();
    for _ in 0..events {
        let event = server.next("mail");
        let id = header(&event, "Message-ID").expect("an id");
        let id = id.trim_start_matches('<').split('@').next().expect("a left side");
        *arrived.entry(id.to_owned()).or_default() += 1;
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_posted_before_a_kill_arrives_once_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    // It never says a word to whoever connects.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = nobody.local_addr().expect("an address").port();
    let recipients: Vec<String> = (0..20).map(|number| format!("ada{number}@example.org")).collect();
    let mut ids = Victim::start(directory.path(), port, &recipients.join(",")).kill();
    assert_eq!(ids.len(), 20);

    let server = Server::start(TlsMode::Starttls);
    let mailer = mailer(directory.path(), server.settings());
    let arrived = arrivals(&server, 20);
    all_gone(&mailer).await;
    ids.sort();
    assert_eq!(arrived.keys().cloned().collect::<Vec<_>>(), ids);
    assert!(arrived.values().all(|times| *times == 1));
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
    mailer.drain(Duration::from_secs(30)).await;
    drop(mailer);

    // And not once more after the next start.
    let again = Mailer::new(settings(directory.path(), server.settings())).expect("a mailer");
    assert_eq!(*again.waiting().borrow(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_acceptance_a_kill_made_unknown_comes_again_under_the_same_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(TlsMode::None);
    let victim = Victim::start(directory.path(), server.port, "held@example.org");
    let first = server.next("held");
    let ids = victim.kill();

    let mailer = mailer(directory.path(), server.settings());
    let second = server.next("mail");
    all_gone(&mailer).await;
    let expected = format!("<{}@persona.example>", ids[0]);
    assert_eq!(header(&first, "Message-ID"), Some(expected.as_str()));
    assert_eq!(first["mail"], second["mail"], "the very same mail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_and_leaves_the_rest_on_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(TlsMode::None);
    let draining = mailer(directory.path(), server.settings());
    draining.post(mail("held@example.org")).await.expect("posted");
    server.next("held");
    let begun = Instant::now();
    draining.drain(Duration::from_millis(300)).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Requests that are finishing still get theirs taken.
    draining.post(mail("ada@example.org")).await.expect("posted");
    assert_eq!(*draining.waiting().borrow(), 2);
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
    drop(draining);

    let mailer = mailer(directory.path(), server.settings());
    let arrived = arrivals(&server, 2);
    assert_eq!(arrived.len(), 2);
    all_gone(&mailer).await;
}
