//! Sites as processes: planned in a temporary directory, started, asked through the admin socket, ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gossip::{Dot, Writer};
use persona::{
    config::{
        Answer, BackupConfig, ClusterConfig, DiskConfig, DurabilityConfig, ErasureConfig, Hex, LabConfig,
        LogConfig, Member, MemberConfig, PasswordConfig, ScrubConfig, SiteConfig,
    },
    members::make_identity,
    store::{KeepLog, Store, StoreConfig},
};
use reqwest::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

/// However slow the machine: what takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that only asking tells.
const LOOK: Duration = Duration::from_millis(20);
/// More than in earnest: what is not even said there is not said where somebody looks into trouble.
const LOGGED: &str = "warn,persona=debug,gossip=info";
/// Everyone's password here, unless a test says otherwise.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A cluster to be: its configurations, in a directory that goes with it.
pub(crate) struct Plan {
    pub(crate) directory: TempDir,
    pub(crate) configs: Vec<SiteConfig>,
}

impl Plan {
    /// So many sites of one member each, who list each other.
    pub(crate) fn new(sites: usize) -> Plan {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Held until all are drawn, so that no two are the same.
        let sockets: Vec<UdpSocket> = (0..sites)
            .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"))
            .collect();
        let mut members = Vec::new();
        for (number, socket) in sockets.iter().enumerate() {
            let made = make_identity(&name(number)).expect("an identity");
            fs::write(directory.path().join(format!("{}.pem", name(number))), made.pem).expect("written");
            members.push(MemberConfig {
                id: Member(crdt::MemberId::from_bytes((number as u64 + 1).to_be_bytes())),
                name: name(number),
                site: format!("site-{number}"),
                addresses: vec![socket.local_addr().expect("an address").to_string()],
                public_key: made.public_key,
            });
        }
        let config = |(number, member): (usize, &MemberConfig)| SiteConfig {
            data: directory.path().join(format!("data-{number}")),
            site: member.site.clone(),
            member: Some(member.id),
            name: String::new(),
            addresses: Vec::new(),
            listen: member.addresses[0].parse().expect("an address"),
            identity: directory.path().join(format!("{}.pem", member.name)),
            metrics: None,
            drain_timeout: Duration::from_secs(2),
            startup_grace: Duration::from_millis(200),
            cluster: ClusterConfig {
                id: Hex([1; 16]),
                index_key: Hex([2; 32]),
                digest_key: Hex([3; 32]),
            },
            durability: DurabilityConfig {
                answer: Answer::Local,
                timeout: Duration::from_millis(500),
            },
            log: LogConfig {
                keep: KeepLog::Everything,
                ..LogConfig::default()
            },
            scrub: ScrubConfig::default(),
            // As cheap as argon2 allows: hashing is not what is tested.
            passwords: PasswordConfig {
                memory_kib: 8,
                iterations: 1,
                parallelism: 1,
                threads: 1,
                queue: Duration::from_secs(10),
                refuse_common: true,
            },
            keys: Default::default(),
            disk: DiskConfig {
                reserve_mib: 0,
                free_min_mib: 0,
            },
            backup: BackupConfig::default(),
            erasure: ErasureConfig::default(),
            limits: persona::limits::LimitSettings::default(),
            run: persona::tiers::Tier::ALL.to_vec(),
            web: None,
            tiers: None,
            public_url: None,
            mail: None,
            outbound: Default::default(),
            idp: Default::default(),
            members: members.clone(),
            lab: LabConfig::default(),
        };
        let configs = members.iter().enumerate().map(config).collect();
        Plan { directory, configs }
    }

    /// The file with a site's configuration, written as it stands now.
    pub(crate) fn write(&self, number: usize) -> PathBuf {
        self.write_text(
            number,
            &toml::to_string(&self.configs[number]).expect("a configuration"),
        )
    }

    /// The same with any text in it.
    pub(crate) fn write_text(&self, number: usize, text: &str) -> PathBuf {
        let path = self.directory.path().join(format!("site-{number}.toml"));
        fs::write(&path, text).expect("written");
        path
    }

    /// Starts a site and waits until it serves.
    pub(crate) async fn start(&self, number: usize) -> Site {
        let site = Site::spawn(&self.write(number), &self.configs[number].data);
        site.serves().await;
        site
    }

    /// What a site that will not run says, on standard error.
    pub(crate) async fn refusal(&self, number: usize) -> String {
        refusal(&self.write(number)).await
    }

    /// Opens the store of a site that does not run.
    pub(crate) fn open(&self, number: usize) -> Store {
        let config = &self.configs[number];
        Store::open(&StoreConfig {
            directory: config.data.clone(),
            keeping: config.keeping(),
            reserve_bytes: 0,
            free_bytes_min: 0,
        })
        .expect("the store opens")
    }
}

fn name(number: usize) -> String {
    format!("member-{number}")
}

/// Runs `persona site`, which must end with exit status 1, and gives its standard error.
pub(crate) async fn refusal(config: &Path) -> String {
    let output: Output = tokio::time::timeout(PATIENCE, command(config).kill_on_drop(true).output())
        .await
        .unwrap_or_else(|_| panic!("it runs with {}", config.display()))
        .expect("it is started");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    words
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_persona"));
    command
        .arg("site")
        .arg("--config")
        .arg(config)
        .env("PERSONA_LOG", LOGGED)
        .stdin(Stdio::null());
    command
}

/// A running site. Dropped, it is killed.
pub(crate) struct Site {
    child: Child,
    pub(crate) pid: u32,
    /// The site ends when this closes, so that none outlives a test that was killed.
    _stdin: Option<ChildStdin>,
    pub(crate) client: Client,
    pub(crate) log: Log,
    reading: JoinHandle<()>,
}

impl Site {
    pub(crate) fn spawn(config: &Path, data: &Path) -> Site {
        Site::spawn_with(config, data, &[])
    }

    /// The same, with an invitation in its hand.
    pub(crate) fn spawn_joining(config: &Path, data: &Path, invitation: &str) -> Site {
        Site::spawn_with(config, data, &["--join", invitation])
    }

    /// The same, with these arguments.
    pub(crate) fn spawn_with(config: &Path, data: &Path, arguments: &[&str]) -> Site {
        let mut command = command(config);
        command.args(arguments);
        Site::spawn_command(command, data)
    }

    fn spawn_command(mut command: Command, data: &Path) -> Site {
        let mut child = command
            .env("PERSONA_LAB_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it is started");
        let log = Log::default();
        let mut lines = BufReader::new(child.stderr.take().expect("standard error")).lines();
        let written = log.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                written.add(&line);
            }
        });
        Site {
            pid: child.id().expect("it runs"),
            _stdin: child.stdin.take(),
            client: Client::new(data),
            child,
            log,
            reading,
        }
    }

    /// Waits until it serves people.
    pub(crate) async fn serves(&self) {
        let serving = async || {
            assert!(self.is_alive(), "it ended:\n{}", self.log.text());
            let status = self.client.get("/status").await.ok()?;
            (status["ready"] == true).then_some(())
        };
        self.eventually("it serves", serving).await;
    }

    pub(crate) fn is_alive(&self) -> bool {
        // A process that ended and was not waited for is a zombie: it has no memory.
        self.resident_kib().is_some()
    }

    /// Resident memory, as the kernel counts it.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        // Not waited for before `ended`, so the number is still its own.
        kill_process(pid, signal).expect("a signal is sent");
    }

    /// `kill -9`: returns when it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
        let _ = (&mut self.reading).await;
    }

    /// SIGTERM: returns when it has ended, with how, how long that took, and its log.
    pub(crate) async fn terminate(self) -> (ExitStatus, Duration, String) {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until it has ended, with how, how long that took, and its log.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Duration, String) {
        let begun = Instant::now();
        let status = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("it does not end:\n{}", self.log.text()))
            .expect("it is waited for");
        let took = begun.elapsed();
        let _ = (&mut self.reading).await;
        (status, took, self.log.text())
    }

    /// Stops it in good order.
    pub(crate) async fn stop(self) {
        let (status, _, log) = self.terminate().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }

    /// Looks until there is something; fails with the site's log if that never comes.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log.text());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The number of one of its counters.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let status = self.client.get("/status").await.expect("its status");
        status["counters"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("no counter {name}: {status}"))
    }

    /// Waits until a counter is at least this.
    pub(crate) async fn counted(&self, name: &str, least: u64) {
        let counted = async || (self.counter(name).await >= least).then_some(());
        self.eventually(&format!("{name} at least {least}"), counted)
            .await;
    }

    /// What it has of each writer.
    pub(crate) async fn vector(&self) -> BTreeMap<Writer, u64> {
        let vector = self.client.get("/vector").await.expect("its vector");
        let writers = vector["writers"].as_object().expect("writers");
        writers
            .iter()
            .map(|(writer, number)| {
                (
                    writer.parse().expect("a writer"),
                    number.as_u64().expect("a number"),
                )
            })
            .collect()
    }

    /// Waits until it has a transaction.
    pub(crate) async fn has(&self, dot: Dot) {
        let has = async || {
            let number = self.vector().await.get(&dot.writer).copied();
            number.is_some_and(|number| number >= dot.number).then_some(())
        };
        self.eventually(&format!("{dot:?} is here"), has).await;
    }
}

/// Whatever a site was told of people, its log has none of it.
impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_tells_nothing(&self.log.text());
        }
    }
}

/// What no log may have: addresses, passwords, tokens, cookies. Those of all tests of this process, for no site may say
/// those of another either.
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// Bytes of what is looked for at least: less may be there by chance.
const SECRET_BYTES_MIN: usize = 8;

/// No site's log may have this.
pub(crate) fn keep_secret(text: &str) {
    if text.len() >= SECRET_BYTES_MIN {
        let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
        if !secrets.contains(text) {
            secrets.insert(text.to_owned());
        }
    }
}

#[track_caller]
fn assert_tells_nothing(log: &str) {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let told = secrets.iter().find(|secret| log.contains(secret.as_str()));
    let line = told.and_then(|secret| log.lines().find(|line| line.contains(secret.as_str())));
    assert_eq!(line, None, "the log has what no log may have: {told:?}");
}

/// What a site prints.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Lines>);

#[derive(Default)]
struct Lines {
    text: Mutex<String>,
    /// Rung for every line.
    bell: watch::Sender<()>,
}

impl Log {
    fn add(&self, line: &str) {
        let mut text = self.0.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
        drop(text);
        self.0.bell.send_replace(());
    }

    pub(crate) fn text(&self) -> String {
        self.0.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that has all these parts, and gives it.
    pub(crate) async fn says(&self, parts: &[&str]) -> String {
        let mut bell = self.0.bell.subscribe();
        let said = async {
            loop {
                let text = self.text();
                let line = text
                    .lines()
                    .find(|line| parts.iter().all(|part| line.contains(part)));
                if let Some(line) = line {
                    return line.to_owned();
                }
                if bell.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("no line with {parts:?} in:\n{}", self.text()))
    }
}

/// A site's admin API.
#[derive(Clone)]
pub(crate) struct Client(reqwest::Client);

/// Why there is no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The site said no.
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    /// Nobody answered: whether it happened is unknown.
    Unanswered(String),
}

impl Failure {
    /// The stable code of a refusal.
    pub(crate) fn code(&self) -> &str {
        match self {
            Failure::Refused { code, .. } => code,
            Failure::Unanswered(_) => "",
        }
    }
}

impl Client {
    pub(crate) fn new(data: &Path) -> Client {
        let client = reqwest::Client::builder()
            .unix_socket(data.join("admin.sock"))
            .timeout(PATIENCE)
            .build();
        Client(client.expect("a client"))
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let unanswered = |error: reqwest::Error| Failure::Unanswered(format!("{error:?}"));
        let mut request = self.0.request(method, format!("http://site{path}"));
        if let Some(body) = body {
            for field in ["address", "password", "old", "new"] {
                keep_secret(body[field].as_str().unwrap_or_default());
            }
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let value: Value = answer.json().await.map_err(unanswered)?;
        if status.is_success() {
            return Ok(value);
        }
        let text = |field: &str| {
            value[field]
                .as_str()
                .unwrap_or_else(|| panic!("{field}: {value}"))
                .to_owned()
        };
        Err(Failure::Refused {
            status: status.as_u16(),
            code: text("error"),
            message: text("message"),
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Makes an account; gives it and the dot.
    pub(crate) async fn sign_up(&self, address: &str) -> Result<(String, Dot), Failure> {
        let made = self
            .post("/accounts", json!({ "address": address, "password": PASSWORD }))
            .await?;
        Ok((
            made["account"].as_str().expect("an account").to_owned(),
            written(&made).expect("a dot"),
        ))
    }

    pub(crate) async fn sign_in(&self, address: &str) -> Result<Value, Failure> {
        self.post("/sign-in", json!({ "address": address, "password": PASSWORD }))
            .await
    }

    pub(crate) async fn add_email(&self, account: &str, address: &str) -> Result<Option<Dot>, Failure> {
        let path = format!("/accounts/{account}/emails");
        Ok(written(&self.post(&path, json!({ "address": address })).await?))
    }

    pub(crate) async fn sign_out_everywhere(&self, account: &str) -> Result<Option<Dot>, Failure> {
        let path = format!("/accounts/{account}/sign-out-everywhere");
        Ok(written(&self.post(&path, json!({})).await?))
    }

    pub(crate) async fn cancel(&self, account: &str) -> Result<Option<Dot>, Failure> {
        Ok(written(
            &self
                .post(&format!("/accounts/{account}/cancel"), json!({}))
                .await?,
        ))
    }

    /// Whether a password is said to be wrong, which is also what a cancelled account is told.
    pub(crate) async fn is_not_let_in(&self, address: &str) -> bool {
        let refused = self.sign_in(address).await;
        matches!(refused, Err(Failure::Refused { status, .. }) if status == StatusCode::UNAUTHORIZED.as_u16())
    }
}

/// The dot in an answer; none if nothing had to be written.
pub(crate) fn written(answer: &Value) -> Option<Dot> {
    let dot = answer.get("dot").filter(|dot| !dot.is_null())?;
    Some(Dot {
        writer: dot["writer"]
            .as_str()
            .expect("a writer")
            .parse()
            .expect("a writer"),
        number: dot["number"].as_u64().expect("a number"),
    })
}

/// Loopback, any port.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// What is derived follows from the documents, and every answered write is there.
#[track_caller]
pub(crate) fn assert_sound(store: &Store, answered: &[Dot]) -> persona::store::Audit {
    let audit = store.audit().expect("a readable store");
    assert_eq!(audit.findings, Vec::<String>::new());
    let state = store.state();
    for dot in answered {
        assert!(state.vector.covers(dot), "{dot:?} was answered and is lost");
    }
    audit
}
