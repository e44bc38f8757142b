//! What the world asks a site, over the admin API on its Unix socket.
//!
//! The errors keep apart what a load balancer must keep apart: a request that the site certainly did not take
//! (it may go to another site), one whose fate is unknown, and one that was answered with a refusal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::network::Link;

/// A site's admin API.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

/// Why a call did not come back with what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody took the request: it may be sent elsewhere without a second thought.
    #[error("not taken: {0}")]
    NotTaken(String),
    /// The connection broke, or time ran out, after the request was sent: it may have happened or not.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The site said no.
    #[error("{status} {code}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// The sentence.
        message: String,
    },
    /// The answer was not what the API promises.
    #[error("the answer makes no sense: {0}")]
    Nonsense(String),
}

impl CallError {
    /// A short reason, the same for the same cause, for counting.
    pub(crate) fn reason(&self) -> String {
        match self {
            CallError::NotTaken(_) => "not taken".into(),
            CallError::Unknown(_) => "no answer".into(),
            CallError::Refused { status, code, .. } => format!("{status} {code}"),
            CallError::Nonsense(_) => "nonsense".into(),
        }
    }
}

impl Client {
    /// A client of the site whose admin socket is, or will be, at this path.
    pub(crate) fn new(socket: &Path) -> Client {
        let http = reqwest::Client::builder()
            .unix_socket(socket.to_path_buf())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            // Without TLS there is nothing in a client that can fail to be built.
            .unwrap_or_default();
        Client { http }
    }

    async fn call<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, CallError> {
        let mut request = self.http.request(method, format!("http://site{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| {
            let words = words_of(&error);
            if error.is_connect() {
                CallError::NotTaken(words)
            } else {
                CallError::Unknown(words)
            }
        })?;
        let status = answer.status();
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| CallError::Unknown(words_of(&error)))?;
        if status.is_success() {
            let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            return serde_json::from_slice(text)
                .map_err(|error| CallError::Nonsense(format!("{path}: {error}")));
        }
        if status == reqwest::StatusCode::GATEWAY_TIMEOUT {
            return Err(CallError::Unknown("the site gave up on it".into()));
        }
        let refusal: Refusal = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.as_u16() == 503 && NOT_SERVING.contains(&refusal.error.as_str()) {
            return Err(CallError::NotTaken(refusal.error));
        }
        Err(CallError::Refused {
            status: status.as_u16(),
            code: refusal.error,
            message: refusal.message,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call::<(), T>(Method::GET, path, None).await
    }

    async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// How the site is.
    pub(crate) async fn status(&self) -> Result<Status, CallError> {
        self.get("/status").await
    }

    /// Which transactions it has.
    pub(crate) async fn vector(&self) -> Result<VectorSeen, CallError> {
        self.get("/vector").await
    }

    /// What its records hash to.
    pub(crate) async fn digest(&self) -> Result<Digest, CallError> {
        self.get("/digest").await
    }

    /// Transactions that became visible there, in order, after a place in its ring buffer.
    pub(crate) async fn commits(&self, after: u64) -> Result<Commits, CallError> {
        self.get(&format!("/lab/commits?after={after}")).await
    }

    /// Hashes of an account's passwords, as the vault there holds them.
    pub(crate) async fn password_hashes(&self, account: &str) -> Result<Vec<String>, CallError> {
        self.get(&format!("/lab/accounts/{account}/hashes")).await
    }

    /// Replaces the shape of its network.
    pub(crate) async fn set_links(&self, links: &[Link]) -> Result<(), CallError> {
        self.call::<_, serde::de::IgnoredAny>(Method::PUT, "/lab/links", Some(&links))
            .await
            .map(|_| ())
    }

    pub(crate) async fn sign_up(&self, address: &str, password: &str) -> Result<SignedUp, CallError> {
        self.post("/accounts", &Credentials { address, password }).await
    }

    pub(crate) async fn sign_in(&self, address: &str, password: &str) -> Result<SignedIn, CallError> {
        self.post("/sign-in", &Credentials { address, password }).await
    }

    pub(crate) async fn change_password(
        &self,
        account: &str,
        old: &str,
        new: &str,
    ) -> Result<Written, CallError> {
        self.post(&format!("/accounts/{account}/password"), &Change { old, new })
            .await
    }

    pub(crate) async fn reset_password(&self, address: &str, password: &str) -> Result<Written, CallError> {
        self.post("/password-reset", &Credentials { address, password })
            .await
    }

    /// Adds an address, or moves it here from another account.
    pub(crate) async fn add_address(&self, account: &str, address: &str) -> Result<Written, CallError> {
        self.post(&format!("/accounts/{account}/emails"), &Address { address })
            .await
    }

    pub(crate) async fn remove_address(&self, account: &str, address: &str) -> Result<Written, CallError> {
        self.call::<(), _>(
            Method::DELETE,
            &format!("/accounts/{account}/emails/{address}"),
            None,
        )
        .await
    }

    pub(crate) async fn cancel(&self, account: &str) -> Result<Written, CallError> {
        self.post(&format!("/accounts/{account}/cancel"), &Nothing {})
            .await
    }

    pub(crate) async fn sign_out_everywhere(&self, account: &str) -> Result<Written, CallError> {
        self.post(&format!("/accounts/{account}/sign-out-everywhere"), &Nothing {})
            .await
    }

    pub(crate) async fn account(&self, account: &str) -> Result<AccountSeen, CallError> {
        self.get(&format!("/accounts/{account}")).await
    }

    pub(crate) async fn address(&self, address: &str) -> Result<AddressSeen, CallError> {
        self.get(&format!("/emails/{address}")).await
    }
}

/// The causes of an error, outermost first: reqwest itself says only that sending failed.
fn words_of(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

#[derive(Serialize)]
struct Credentials<'a> {
    address: &'a str,
    password: &'a str,
}

#[derive(Serialize)]
struct Change<'a> {
    old: &'a str,
    new: &'a str,
}

#[derive(Serialize)]
struct Address<'a> {
    address: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
    message: String,
}

/// The name of a transaction: its writer and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Dot {
    pub(crate) writer: String,
    pub(crate) number: u64,
}

/// The answer to a write.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Written {
    pub(crate) dot: Option<Dot>,
    #[serde(default)]
    pub(crate) answered: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SignedUp {
    pub(crate) account: String,
    #[serde(flatten)]
    pub(crate) written: Written,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SignedIn {
    pub(crate) account: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// Caught up since its start.
    pub(crate) ready: bool,
    /// Fit to serve: what a load balancer goes by.
    pub(crate) healthy: bool,
    pub(crate) draining: bool,
    pub(crate) alone: bool,
    pub(crate) isolated: bool,
    /// Which member it is, and its state as that: `joining`, `active`, `leaving` or `out`.
    pub(crate) member: String,
    pub(crate) standing: String,
    /// One that is out has handed over all that only it had to whom it reaches.
    pub(crate) handed_over: bool,
    pub(crate) writer: String,
    pub(crate) vector_total: u64,
    /// Of those, how many every member that counts has, and how many the log holds no more.
    pub(crate) stable: u64,
    pub(crate) trimmed: u64,
    pub(crate) quarantined: u64,
    pub(crate) early: u64,
    pub(crate) alarms: Vec<String>,
    pub(crate) disk: DiskSeen,
    /// Whatever the site counts; checks that need one fail when it is not there.
    pub(crate) counters: BTreeMap<String, serde_json::Value>,
    pub(crate) peers: Vec<PeerSeen>,
}

impl Status {
    /// Whether people should be sent there.
    pub(crate) fn serves(&self) -> bool {
        self.ready && self.healthy && !self.draining
    }

    /// Bytes of all its frames to peers, if it tells; without what QUIC and UDP add.
    pub(crate) fn bytes_sent(&self) -> Option<u64> {
        ["control_bytes_sent", "push_bytes_sent", "pull_bytes_sent"]
            .iter()
            .map(|name| self.counter(name))
            .sum()
    }

    /// A counter by name.
    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        self.counters.get(name).and_then(serde_json::Value::as_u64)
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct DiskSeen {
    pub(crate) free_mib: u64,
    pub(crate) state: String,
    pub(crate) store_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PeerSeen {
    pub(crate) member: String,
    pub(crate) connected: bool,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) behind_us: u64,
    pub(crate) looks: LooksSeen,
}

/// What the comparisons came to that a site asked a peer for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LooksSeen {
    pub(crate) equal: u64,
    pub(crate) lag_only: u64,
    pub(crate) divergent: u64,
    pub(crate) inconclusive: u64,
    pub(crate) failed: u64,
}

/// A version vector, as a site shows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct VectorSeen {
    pub(crate) writers: BTreeMap<String, u64>,
    /// Replica id in hex → epoch: writers of that replica up to it are known whole to everyone.
    pub(crate) floors: BTreeMap<String, u64>,
}

impl VectorSeen {
    /// Whether the transaction is known there.
    #[cfg(test)]
    fn covers(&self, dot: &Dot) -> bool {
        self.lists(dot) || self.folds(&dot.writer)
    }

    /// Whether the transaction is known there by its writer's own entry.
    pub(crate) fn lists(&self, dot: &Dot) -> bool {
        let known = self.writers.get(&dot.writer);
        known.is_some_and(|number| *number >= dot.number)
    }

    /// Whether the writer is known whole, and no longer listed. A writer is replica id (16 digits), epoch (8)
    /// and nonce (16).
    pub(crate) fn folds(&self, writer: &str) -> bool {
        let epoch = writer
            .get(16..24)
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let floor = writer.get(..16).and_then(|replica| self.floors.get(replica));
        matches!((epoch, floor), (Some(epoch), Some(floor)) if epoch <= *floor)
    }

    /// Whether both know the same, be it listed or folded.
    pub(crate) fn agrees_with(&self, other: &VectorSeen) -> bool {
        let within = |a: &VectorSeen, b: &VectorSeen| {
            a.writers.iter().all(|(writer, number)| {
                b.writers.get(writer) == Some(number) || b.folds(writer) || *number == 0
            })
        };
        within(self, other) && within(other, self)
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) records: u64,
    pub(crate) digest: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Commits {
    pub(crate) next: u64,
    pub(crate) commits: Vec<Commit>,
}

/// One transaction that became visible at a site.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Commit {
    pub(crate) writer: String,
    pub(crate) number: u64,
    pub(crate) at_us: u64,
    pub(crate) local: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct AccountSeen {
    pub(crate) cancelled: bool,
    #[serde(default)]
    pub(crate) emails: Vec<EmailSeen>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EmailSeen {
    pub(crate) address: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct AddressSeen {
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) account: Option<String>,
}

/// 503 with one of these means: not this site, not now; nothing was done.
const NOT_SERVING: [&str; 3] = ["draining", "starting", "not-active"];

/// Longer than any answer should take: a write waits for durability for 500 ms at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const IDLE_CONNECTIONS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const WRITER: &str = "00112233445566770000000501020304050607ff";

    fn vector(writers: &[(&str, u64)], floors: &[(&str, u64)]) -> VectorSeen {
        VectorSeen {
            writers: writers.iter().map(|(w, n)| ((*w).into(), *n)).collect(),
            floors: floors.iter().map(|(r, e)| ((*r).into(), *e)).collect(),
        }
    }

    fn dot(number: u64) -> Dot {
        Dot {
            writer: WRITER.into(),
            number,
        }
    }

    #[test]
    fn a_dot_is_covered_when_listed_or_folded() {
        assert!(vector(&[(WRITER, 7)], &[]).covers(&dot(7)));
        assert!(!vector(&[(WRITER, 7)], &[]).covers(&dot(8)));
        assert!(!vector(&[], &[]).covers(&dot(1)));
        assert!(vector(&[], &[("0011223344556677", 5)]).covers(&dot(8)));
        assert!(!vector(&[], &[("0011223344556677", 4)]).covers(&dot(1)));
        assert!(!vector(&[], &[("ff11223344556677", 9)]).covers(&dot(1)));
    }

    #[test]
    fn vectors_agree_whether_listed_or_folded_but_never_when_one_lacks_something() {
        let listed = vector(&[(WRITER, 7)], &[]);
        assert!(listed.agrees_with(&listed));
        assert!(listed.agrees_with(&vector(&[], &[("0011223344556677", 5)])));
        assert!(!listed.agrees_with(&vector(&[(WRITER, 6)], &[])));
        assert!(!vector(&[(WRITER, 6)], &[]).agrees_with(&listed));
        assert!(!listed.agrees_with(&vector(&[], &[])));
        assert!(!vector(&[], &[]).agrees_with(&listed));
    }
}
