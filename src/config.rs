//! A site's configuration file, parsed once; a mistake names file, field and what it should be.

#[cfg(feature = "lab")]
mod lab;
mod mail;
mod outbound;
mod web;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use crdt::MemberId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

#[cfg(feature = "lab")]
pub use self::lab::{LabConfig, LinkConfig};
pub use self::{
    mail::{Correspondent, MailConfig, MailConfigError, TransportConfig},
    outbound::{IdpConfig, OutboundConfig, OutboundConfigError},
    web::{TierConfig, TiersConfig, WebConfig, WebConfigError},
};
use crate::{
    browserid::Usage,
    identity::{PasswordRules, PasswordSettings},
    limits::LimitSettings,
    public_url::PublicUrl,
    store::{DigestKey, KeepLog, Keeping},
    tiers::Tier,
};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a configuration. The text names line, field and what was expected.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, field, expectation.
        message: String,
    },
    /// Mail cannot be sent so.
    #[error("{}: {source}", path.display())]
    Mail {
        /// The file.
        path: PathBuf,
        /// Which field, and what it should be.
        source: MailConfigError,
    },
    /// Hosts cannot be asked so.
    #[error("{}: {source}", path.display())]
    Outbound {
        /// The file.
        path: PathBuf,
        /// Which field, and what it should be.
        source: OutboundConfigError,
    },
    /// People or tiers cannot reach it so.
    #[error("{}: {source}", path.display())]
    Web {
        /// The file.
        path: PathBuf,
        /// Which field, and what it should be.
        source: WebConfigError,
    },
    /// The fields do not fit together.
    #[error("{}: field `{field}`: {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, dotted.
        field: &'static str,
        /// What it should be.
        expected: String,
    },
}

/// One data center in one process.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// Directory of this replica: its store, `admin.sock`, lock and format file.
    pub data: PathBuf,
    /// Name of the site.
    pub site: String,
    /// Which of `members` this process is; without `members`, the data directory says who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// What people call this member, where it is not one of `members`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where others dial this member, `host:port`, the best first, where it is not one of `members`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// UDP address for gossip.
    pub listen: SocketAddr,
    /// PEM file with this member's self-signed certificate and its private key.
    pub identity: PathBuf,
    /// Under which people reach the service, the same at every site: `https://persona.example`. Mail needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<PublicUrl>,
    /// Where people reach this process; without it, nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<WebConfig>,
    /// Where the tiers that are other processes reach this one's replica, and this one them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiers: Option<TiersConfig>,
    /// Which tiers this process is, its replica among them: what `--tiers` says.
    #[serde(skip, default = "all_tiers")]
    pub run: Vec<Tier>,
    /// TCP address for Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// How long a drain waits for others to have everything.
    #[serde(default = "ten_seconds", with = "millis", rename = "drain_timeout_ms")]
    pub drain_timeout: Duration,
    /// How long a starting site waits for a peer before it serves alone.
    #[serde(default = "ten_seconds", with = "millis", rename = "startup_grace_ms")]
    pub startup_grace: Duration,
    /// What requests of people's pay.
    #[serde(default)]
    pub limits: LimitSettings,
    /// What all sites share.
    pub cluster: ClusterConfig,
    /// When a write is answered.
    #[serde(default)]
    pub durability: DurabilityConfig,
    /// What the log keeps.
    #[serde(default)]
    pub log: LogConfig,
    /// How often every stored byte is read again.
    #[serde(default)]
    pub scrub: ScrubConfig,
    /// How passwords are hashed.
    #[serde(default)]
    pub passwords: PasswordConfig,
    /// Where signing keys lie.
    #[serde(default)]
    pub keys: KeysConfig,
    /// What happens when the disk fills up.
    #[serde(default)]
    pub disk: DiskConfig,
    /// What may be restored.
    #[serde(default)]
    pub backup: BackupConfig,
    /// How what was cancelled is forgotten.
    #[serde(default)]
    pub erasure: ErasureConfig,
    /// How mail is sent; without it, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailConfig>,
    /// How strangers' hosts are asked.
    #[serde(default)]
    pub outbound: OutboundConfig,
    /// Domains that certify their own users.
    #[serde(default)]
    pub idp: IdpConfig,
    /// Every member of the cluster, this one included, where they are not invited but listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberConfig>,
    /// Laboratory only.
    #[cfg(feature = "lab")]
    #[serde(default)]
    pub lab: LabConfig,
}

/// What all sites share: secrets of the cluster, the same everywhere.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Names the cluster; peers of another are refused.
    pub id: Hex<16>,
    /// Keys the hash that turns an address into its record's id.
    pub index_key: Hex<32>,
    /// Keys the hash that sums up what a replica holds.
    pub digest_key: Hex<32>,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClusterConfig")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// When a write is answered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DurabilityConfig {
    /// On how many sites' disks it is then.
    pub answer: Answer,
    /// After this long it is answered all the same, as degraded.
    #[serde(with = "millis", rename = "timeout_ms")]
    pub timeout: Duration,
}

impl Default for DurabilityConfig {
    fn default() -> Self {
        DurabilityConfig {
            answer: Answer::Sites(2),
            timeout: Duration::from_millis(500),
        }
    }
}

/// `local`, or `sites:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// On this site's disk.
    Local,
    /// On this many sites' disks, this one included.
    Sites(usize),
}

impl Answer {
    /// On how many sites' disks a write is when it is answered.
    pub fn sites(self) -> usize {
        match self {
            Answer::Local => 1,
            Answer::Sites(sites) => sites,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Local => formatter.write_str("local"),
            Answer::Sites(sites) => write!(formatter, "sites:{sites}"),
        }
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sites = text.strip_prefix("sites:").and_then(|count| count.parse().ok());
        match (text.as_str(), sites) {
            ("local", _) => Ok(Answer::Local),
            (_, Some(sites)) if sites >= 1 => Ok(Answer::Sites(sites)),
            _ => Err(D::Error::custom(format!(
                "expected \"local\" or \"sites:N\" with N at least 1, found \"{text}\""
            ))),
        }
    }
}

/// What the log keeps.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `unstable`: only what some member lacks; or `everything`.
    pub keep: KeepLog,
    /// With more in it than this, a log that is not to keep everything lets the oldest go, also what some member
    /// lacks.
    pub max_mib: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            keep: KeepLog::default(),
            max_mib: 1024,
        }
    }
}

/// How often every stored byte is read again.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubConfig {
    /// Within so many hours; 0: only when an operator asks for it.
    pub period_hours: u64,
}

impl ScrubConfig {
    /// `None`: only when an operator asks for it.
    pub fn period(&self) -> Option<Duration> {
        (self.period_hours > 0).then(|| Duration::from_secs(self.period_hours.saturating_mul(3600)))
    }
}

impl Default for ScrubConfig {
    fn default() -> Self {
        ScrubConfig { period_hours: 168 }
    }
}

/// How passwords are hashed: argon2id. The defaults are OWASP's minimum (Password Storage Cheat Sheet: 19 MiB, two
/// iterations, one lane); less is for laboratories.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordConfig {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Threads that hash; 0: as many as there are cores.
    pub threads: usize,
    /// A hash that would have to wait longer than this is refused at once.
    #[serde(with = "millis", rename = "queue_ms")]
    pub queue: Duration,
    /// A new password that is on the list of common ones is refused.
    pub refuse_common: bool,
}

impl PasswordConfig {
    /// What a new password must be.
    pub fn rules(&self) -> PasswordRules {
        PasswordRules {
            refuse_common: self.refuse_common,
        }
    }

    /// What the pool needs.
    pub fn settings(&self) -> PasswordSettings {
        PasswordSettings {
            memory_kib: self.memory_kib,
            iterations: self.iterations,
            parallelism: self.parallelism,
            threads: match self.threads {
                0 => PasswordSettings::default().threads,
                threads => threads,
            },
            queue: self.queue,
        }
    }
}

impl Default for PasswordConfig {
    fn default() -> Self {
        PasswordConfig {
            memory_kib: 19_456,
            iterations: 2,
            parallelism: 1,
            threads: 0,
            queue: Duration::from_millis(500),
            refuse_common: true,
        }
    }
}

/// Where signing keys lie.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// A directory for one process; absent: `keys` in the data directory. No backup has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

/// What happens when the disk fills up.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Set aside, to be given up when the disk is full.
    pub reserve_mib: u64,
    /// With less free than this no new people are taken.
    pub free_min_mib: u64,
}

impl Default for DiskConfig {
    fn default() -> Self {
        DiskConfig {
            reserve_mib: 16,
            free_min_mib: 64,
        }
    }
}

/// What may be restored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// No backup older than this is restored: what people deleted is still in it. The same at every site, because
    /// erasure promises it.
    pub age_max_days: u64,
}

impl Default for BackupConfig {
    fn default() -> Self {
        BackupConfig { age_max_days: 30 }
    }
}

/// How what was cancelled is forgotten.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErasureConfig {
    /// Between two rewritings of the disk, which happen only if cancelled accounts wait for one: it reads and writes
    /// everything. 0: as soon as any waits.
    pub interval_minutes: u32,
}

impl Default for ErasureConfig {
    fn default() -> Self {
        ErasureConfig { interval_minutes: 60 }
    }
}

impl ErasureConfig {
    /// Between two rewritings of the disk.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(u64::from(self.interval_minutes) * 60)
    }
}

/// One member of the cluster, as the configuration lists it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// Its id: 16 hex digits.
    pub id: Member,
    /// Its name, for people.
    pub name: String,
    /// The site that it is in.
    pub site: String,
    /// Where it listens for gossip: `host:port`, the best first.
    pub addresses: Vec<String>,
    /// DER of its public key, in base64: pinned.
    #[serde(with = "base64_bytes")]
    pub public_key: Vec<u8>,
}

impl SiteConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<SiteConfig, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        let config: SiteConfig = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_path_buf(),
            message: error.to_string(),
        })?;
        config.check(path)?;
        Ok(config)
    }

    /// This member's own entry among those listed.
    pub fn own(&self) -> Option<&MemberConfig> {
        self.members.iter().find(|member| Some(member.id) == self.member)
    }

    /// What people call this member.
    pub fn own_name(&self) -> &str {
        self.own().map_or(&self.name, |own| &own.name)
    }

    /// Where others dial this member.
    pub fn own_addresses(&self) -> &[String] {
        self.own().map_or(&self.addresses, |own| &own.addresses)
    }

    /// Where this process keeps its signing keys.
    pub fn keys_directory(&self) -> PathBuf {
        let configured = self.keys.directory.clone();
        configured.unwrap_or_else(|| self.data.join("keys"))
    }

    /// What this process signs: nothing, where those tiers are other processes.
    pub fn signs(&self) -> Vec<Usage> {
        let of = [
            (Tier::SecureWebhead, Usage::Session),
            (Tier::Keysigner, Usage::Certificate),
        ];
        let runs = |(tier, usage)| self.run.contains(&tier).then_some(usage);
        of.into_iter().filter_map(runs).collect()
    }

    /// How the store keeps what it holds.
    pub fn keeping(&self) -> Keeping {
        Keeping {
            log: self.log.keep,
            log_bytes_max: self.log.max_mib.saturating_mul(1 << 20),
            digest_key: DigestKey(self.cluster.digest_key.0),
            scrub_period: self.scrub.period(),
            ..Keeping::default()
        }
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let wrong = |field, expected: String| {
            Err(ConfigError::Field {
                path: path.to_path_buf(),
                field,
                expected,
            })
        };
        match (self.member, self.own()) {
            (Some(member), None) => {
                return wrong(
                    "member",
                    format!("`{}` is not the `id` of any of the [[members]]", member.0),
                );
            }
            (None, _) if !self.members.is_empty() => {
                return wrong("member", "should be the `id` of one of the [[members]]".into());
            }
            (_, Some(own)) if own.site != self.site => {
                return wrong(
                    "site",
                    format!(
                        "is `{}`, but [[members]] puts {} in `{}`",
                        self.site, own.name, own.site
                    ),
                );
            }
            (None, None) if self.name.is_empty() => {
                return wrong("name", "a member that no [[members]] list needs one".into());
            }
            (None, None) if self.addresses.is_empty() => {
                return wrong(
                    "addresses",
                    "a member that no [[members]] list needs one: `host:port`".into(),
                );
            }
            _ => {}
        }
        for (place, member) in self.members.iter().enumerate() {
            if self.members[..place].iter().any(|other| other.id == member.id) {
                return wrong("members.id", format!("`{}` stands twice", member.id.0));
            }
            if self.members[..place]
                .iter()
                .any(|other| other.public_key == member.public_key)
            {
                return wrong(
                    "members.public_key",
                    format!("{} has the same key as another member", member.name),
                );
            }
            if member.addresses.is_empty() {
                return wrong(
                    "members.addresses",
                    format!("{} has none; it should list `host:port`", member.name),
                );
            }
        }
        if let Some(mail) = &self.mail {
            mail.check().map_err(|source| ConfigError::Mail {
                path: path.to_path_buf(),
                source,
            })?;
            if self.public_url.is_none() {
                return wrong("public_url", "mail needs it for its links: `https://HOST`".into());
            }
        }
        if let Some(web) = &self.web {
            web.check().map_err(|source| ConfigError::Web {
                path: path.to_path_buf(),
                source,
            })?;
            if self.public_url.is_none() || self.mail.is_none() {
                return wrong(
                    "web",
                    "needs `public_url`, and `[mail]` to prove addresses with".into(),
                );
            }
        }
        self.idp.check().map_err(|source| ConfigError::Outbound {
            path: path.to_path_buf(),
            source,
        })?;
        #[cfg(feature = "lab")]
        self.lab.check().map_err(|source| ConfigError::Outbound {
            path: path.to_path_buf(),
            source,
        })?;
        let passwords = &self.passwords;
        let default = PasswordConfig::default();
        let weaker = passwords.memory_kib < default.memory_kib || passwords.iterations < default.iterations;
        if weaker && cfg!(not(feature = "lab")) {
            return wrong(
                "passwords",
                format!(
                    "memory_kib should be at least {}, iterations at least {}",
                    default.memory_kib, default.iterations
                ),
            );
        }
        if passwords.parallelism == 0
            || passwords.iterations == 0
            || passwords.memory_kib < 8 * passwords.parallelism
        {
            return wrong(
                "passwords",
                "iterations and parallelism at least 1, memory_kib at least 8 a lane".into(),
            );
        }
        Ok(())
    }
}

/// A member's id in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member(pub MemberId);

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Member)
            .map_err(|_| D::Error::custom(format!("expected 16 hex digits, found \"{text}\"")))
    }
}

/// Bytes in a file, as hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom(format!("expected {} hex digits", 2 * N));
        if text.len() != 2 * N || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; N];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Hex(bytes))
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(deserializer)?))
    }
}

mod base64_bytes {
    use super::{BASE64, Deserialize, Deserializer, Engine, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(|error| {
            serde::de::Error::custom(format!("expected the DER of a public key in base64: {error}"))
        })
    }
}

fn all_tiers() -> Vec<Tier> {
    Tier::ALL.to_vec()
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
data = "data"
site = "oslo"
member = "0000000000000001"
listen = "127.0.0.1:7101"
identity = "oslo.pem"
[cluster]
id = "000102030405060708090a0b0c0d0e0f"
index_key = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"
digest_key = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"
[[members]]
id = "0000000000000001"
name = "oslo-1"
site = "oslo"
addresses = ["127.0.0.1:7101"]
public_key = "AAEC"
"#;

    #[track_caller]
    fn check(replace: &str, with: &str, expected: &[&str]) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("site.toml");
        fs::write(&path, GOOD.replace(replace, with)).expect("written");
        let message = SiteConfig::load(&path)
            .err()
            .map_or("no error".to_owned(), |error| error.to_string());
        for part in expected.iter().chain(&["site.toml"]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn mistakes_name_file_field_and_expectation() {
        check("site = \"oslo\"\nmember", "member", &["missing field `site`"]);
        check(
            "listen = \"127.0.0.1:7101\"",
            "listen = \"oslo\"",
            &["listen", "invalid socket address"],
        );
        check(
            "id = \"000102",
            "id = \"zz0102",
            &["id", "expected 32 hex digits"],
        );
        check(
            "member = \"0000000000000001\"",
            "member = \"0000000000000002\"",
            &["`member`", "not the `id`"],
        );
        check(
            "member = \"0000000000000001\"",
            "member = \"1\"",
            &["member", "expected 16 hex digits"],
        );
        check(
            "data = \"data\"",
            "data = \"data\"\ncolour = 1",
            &["unknown field `colour`"],
        );
        check(
            "public_key = \"AAEC\"",
            "public_key = \"?\"",
            &["public_key", "base64"],
        );
        check(
            "addresses = [\"127.0.0.1:7101\"]",
            "addresses = []",
            &["`members.addresses`", "host:port"],
        );
        check(
            "[[members]]",
            "[durability]\nanswer = \"sites:0\"\n[[members]]",
            &["answer", "\"sites:N\""],
        );
        check(
            "[[members]]",
            "[mail]\nfrom = \"a@b.example\"\nhost = \"smtp.example\"\n[[members]]",
            &["`public_url`"],
        );
        check(
            "[[members]]",
            "[mail]\nfrom = \"a@b.example\"\n[[members]]",
            &["`mail.host`"],
        );
        check(
            "[[members]]",
            "[passwords]\niterations = 0\n[[members]]",
            &["`passwords`", "at least 1"],
        );
    }

    #[test]
    fn a_member_that_is_not_listed_says_itself_who_it_is() {
        let listed = GOOD.find("[[members]]").expect("members");
        let alone = GOOD[..listed].replace("member = \"0000000000000001\"\n", "");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("site.toml");
        let load = |text: &str| {
            fs::write(&path, text).expect("written");
            SiteConfig::load(&path).map_err(|error| error.to_string())
        };
        let words = load(&alone).expect_err("no name");
        assert!(words.contains("`name`"), "{words}");
        let named = format!("name = \"oslo-2\"\n{alone}");
        let words = load(&named).expect_err("no addresses");
        assert!(words.contains("`addresses`"), "{words}");
        let good = load(&format!("addresses = [\"oslo.example:7101\"]\n{named}")).expect("a configuration");
        assert!(good.own().is_none() && good.member.is_none());
        let words = load(&GOOD.replace("member = \"0000000000000001\"\n", "")).expect_err("no member");
        assert!(words.contains("`member`"), "{words}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config: SiteConfig = toml::from_str(GOOD).expect("a good configuration");
        let again: SiteConfig =
            toml::from_str(&toml::to_string(&config).expect("written")).expect("read back");
        assert_eq!(format!("{config:?}"), format!("{again:?}"));
        assert_eq!(again.durability.answer, Answer::Sites(2));
    }
}
