//! The mail server beside us, and a mailer for it.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use persona::{
    identity::Address,
    mail::{
        Challenge, Code, Mail, MailSettings, Mailer, Message, Pace, Purpose, Room, SenderAddresses,
        SmtpSettings, TlsMode, Token, TransportSettings,
    },
};
use serde_json::Value;
use zeroize::Zeroizing;

pub(crate) const PUBLIC_URL: &str = "https://persona.example";
pub(crate) const TOKEN: &str = "t0kent0kent0kent0kent0kent0kent0kent0kent0kent0k";
pub(crate) const CODE: &str = "C0DEc0de";
/// For whatever the server is to say. It says it at once; only a machine that stands still takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Debian's, for which Debian has `python3-aiosmtpd`; see `deploy/test.sh`.
const PYTHON: &str = "/usr/bin/python3";

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) tls: TlsMode,
    events: Receiver<Value>,
    /// How often each thing was seen to happen.
    counts: RefCell<BTreeMap<String, usize>>,
    certificate: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    /// One with TLS of this kind; it wants a password if it has TLS.
    pub(crate) fn start(tls: TlsMode) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = directory.path().join("certificate.pem");
        let key = directory.path().join("key.pem");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let mut command = Command::new(PYTHON);
        command.arg("tests/mail/server.py").stdout(Stdio::piped());
        command.arg("--certificate").arg(&certificate);
        command.arg("--key").arg(&key);
        let mode = match tls {
            TlsMode::None => "none",
            TlsMode::Starttls => "starttls",
            TlsMode::Implicit => "implicit",
        };
        command.args(["--tls", mode]);
        if tls != TlsMode::None {
            command.args(["--user", "persona", "--password", "h3mlig"]);
        }
        let mut child = command.spawn().expect("Python");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (send, events) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("JSON");
                if send.send(event).is_err() {
                    return;
                }
            }
        });
        let first = events
            .recv_timeout(PATIENCE)
            .expect("aiosmtpd starts: `apt-get install python3-aiosmtpd`, or run deploy/test.sh");
        Server {
            child,
            port: u16::try_from(first["port"].as_u64().expect("a port")).expect("a port"),
            tls,
            events,
            counts: RefCell::default(),
            certificate,
            _directory: directory,
        }
    }

    /// The next time that this happens. What happens before it is passed over.
    #[track_caller]
    pub(crate) fn next(&self, event: &str) -> Value {
        loop {
            let next = self
                .events
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("{event}: {error}"));
            self.counted(&next);
            if next["event"] == event {
                return next;
            }
        }
    }

    /// How often this happened, in all that was asked for or passed over.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.counts.borrow().get(event).copied().unwrap_or_default()
    }

    fn counted(&self, event: &Value) {
        let name = event["event"].as_str().expect("a name").to_owned();
        *self.counts.borrow_mut().entry(name).or_default() += 1;
    }

    /// What happened so far, and was not asked for.
    pub(crate) fn rest(&self) -> Vec<Value> {
        self.events
            .try_iter()
            .inspect(|event| self.counted(event))
            .collect()
    }

    /// How to reach it.
    pub(crate) fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "localhost".to_owned(),
            port: self.port,
            tls: self.tls,
            roots: Some(std::fs::read(&self.certificate).expect("read")),
            credentials: (self.tls != TlsMode::None)
                .then(|| ("persona".to_owned(), Zeroizing::new("h3mlig".to_owned()))),
            hello_name: "persona.example".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Quick, for nobody waits for a machine of his own.
pub(crate) fn settings(directory: &Path, smtp: SmtpSettings) -> MailSettings {
    MailSettings {
        directory: directory.to_owned(),
        public_url: PUBLIC_URL.parse().expect("a URL"),
        sender: SenderAddresses {
            from: "Pers\u{f6}na <no-reply@persona.example>"
                .parse()
                .expect("a mailbox"),
            reply_to: Some("help@persona.example".parse().expect("a mailbox")),
            bounces_to: Some("bounces@persona.example".parse().expect("a mailbox")),
        },
        transport: TransportSettings::Smtp(smtp),
        room: Room::default(),
        pace: Pace {
            connections_max: 4,
            retry_first: Duration::from_millis(20),
            retry_max: Duration::from_millis(20),
            pause_first: Duration::from_millis(20),
            pause_max: Duration::from_millis(20),
            age_max: Duration::from_secs(3600),
            undecided_max: Duration::from_millis(200),
        },
    }
}

pub(crate) fn mailer(directory: &Path, smtp: SmtpSettings) -> Mailer {
    Mailer::new(settings(directory, smtp)).expect("a mailer")
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).expect("an address")
}

pub(crate) fn proof(purpose: Purpose) -> Message {
    Message::Proof {
        purpose,
        challenge: Challenge {
            token: Token::parse(TOKEN.to_owned()).expect("a token"),
            code: Code::parse(CODE.to_owned()).expect("a code"),
        },
        relying_party: "https://shop.example".parse().expect("an origin"),
    }
}

pub(crate) fn mail(to: &str) -> Mail {
    Mail {
        to: address(to),
        message: proof(Purpose::NewAccount),
    }
}

/// A header of a mail that the server received.
pub(crate) fn header<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    event["mail"]["headers"].as_array()?.iter().find(|header| {
        header[0]
            .as_str()
            .is_some_and(|found| found.eq_ignore_ascii_case(name))
    })?[1]
        .as_str()
}

/// Until nothing waits any more.
pub(crate) async fn all_gone(mailer: &Mailer) {
    let mut waiting = mailer.waiting();
    tokio::time::timeout(PATIENCE, waiting.wait_for(|mails| *mails == 0))
        .await
        .expect("in time")
        .expect("the mailer lives");
}
