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
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use persona::mail::{Mailer, Matter, SmtpSettings, TlsMode};

use crate::server::{Server, all_gone, header, mail, mailer, settings};

const DIRECTORY: &str = "PERSONA_TEST_MAIL_DIRECTORY";
const PORT: &str = "PERSONA_TEST_MAIL_PORT";
const RECIPIENTS: &str = "PERSONA_TEST_MAIL_RECIPIENTS";
const KEPT_BACK: &str = "PERSONA_TEST_MAIL_KEPT_BACK";

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
    for (number, to) in recipients.split(',').enumerate() {
        let id = if env::var(KEPT_BACK).is_ok() {
            let kept = mailer.keep_back(mail(to), matter(number)).await;
            kept.expect("kept").id
        } else {
            mailer.post(mail(to)).await.expect("posted").id
        };
        println!("posted {id}");
    }
    println!("posted all");
    std::future::pending::<()>().await;
}

fn matter(number: usize) -> Matter {
    Matter([u8::try_from(number).expect("few"); 32])
}

struct Victim {
    child: Child,
    ids: Vec<String>,
}

impl Victim {
    /// Starts a process and waits until it was told that all its mails are durable.
    fn start(directory: &Path, port: u16, recipients: &str) -> Victim {
        Victim::start_with(directory, port, recipients, &[])
    }

    /// The same, and it keeps the mails back.
    fn keeping_back(directory: &Path, port: u16, recipients: &str) -> Victim {
        Victim::start_with(directory, port, recipients, &[(KEPT_BACK, "1")])
    }

    fn start_with(directory: &Path, port: u16, recipients: &str, more: &[(&str, &str)]) -> Victim {
        let mut child = Command::new(env::current_exe().expect("a binary"))
            .args(["--exact", "crashes::a_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(PORT, port.to_string())
            .env(RECIPIENTS, recipients)
            .envs(more.iter().copied())
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
async fn who_dies_between_staging_and_mail_sends_it_after_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(TlsMode::None);
    let recipients = "staged@example.org,never@example.org,late@example.org";
    let ids = Victim::keeping_back(directory.path(), server.port, recipients).kill();
    assert_eq!(ids.len(), 3);

    // One staging was written before the kill, the second never was, and of the third the replica says nothing at first.
    let mailer = mailer(directory.path(), server.settings());
    assert_eq!(*mailer.waiting().borrow(), 3);
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let silences = asked.clone();
    mailer.settle_by(std::sync::Arc::new(move |asked_about| {
        let told = match asked_about {
            about if about == matter(0) => Some(true),
            about if about == matter(1) => Some(false),
            _ => (silences.fetch_add(1, Ordering::SeqCst) >= 2).then_some(true),
        };
        Box::pin(async move { told })
    }));
    let arrived = arrivals(&server, 2);
    all_gone(&mailer).await;
    let mut expected = vec![ids[0].clone(), ids[2].clone()];
    expected.sort();
    assert_eq!(arrived.keys().cloned().collect::<Vec<_>>(), expected);
    assert!(asked.load(Ordering::SeqCst) > 2);
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_back_goes_on_a_word_and_only_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start(TlsMode::None);
    let mailer = mailer(directory.path(), server.settings());
    let keep = async |to, number| mailer.keep_back(mail(to), matter(number)).await.expect("kept");
    let (released, withdrawn) = (keep("ada@example.org", 0).await, keep("bob@example.org", 1).await);
    let _nobody_says = keep("eve@example.org", 2).await;
    mailer.release(released);
    mailer.withdraw(withdrawn);
    // Whoever asked for the third went away: the records know.
    mailer.settle_by(std::sync::Arc::new(|_| Box::pin(async { Some(true) })));
    let arrived = arrivals(&server, 2);
    all_gone(&mailer).await;
    assert!(arrived.contains_key(&released.id.to_string()));
    assert!(!arrived.contains_key(&withdrawn.id.to_string()));
    mailer.release(released);
    mailer.drain(Duration::from_secs(30)).await;
    assert!(server.rest().iter().all(|event| event["event"] != "mail"));
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
