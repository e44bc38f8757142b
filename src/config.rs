//! A site's configuration file, parsed once; a mistake names file, field and what it should be.

mod cluster;
#[cfg(feature = "lab")]
mod lab;
mod mail;
mod notation;
mod outbound;
mod passwords;
mod replica;
mod web;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[cfg(feature = "lab")]
pub use self::lab::{LabConfig, LinkConfig};
pub use self::{
    cluster::{ClusterConfig, Member, MemberConfig},
    mail::{Correspondent, MailConfig, MailConfigError, TransportConfig},
    notation::{Hex, hex},
    outbound::{IdpConfig, OutboundConfig, OutboundConfigError},
    passwords::PasswordConfig,
    replica::{Answer, BackupConfig, DiskConfig, DurabilityConfig, ErasureConfig, LogConfig, ScrubConfig},
    web::{TierConfig, TiersConfig, WebConfig, WebConfigError},
};
use crate::{
    browserid::Usage,
    limits::LimitSettings,
    public_url::PublicUrl,
    store::{DigestKey, Keeping},
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
    /// How long requests under way may still take when it drains, and how long it then waits for others to have everything.
    #[serde(
        default = "ten_seconds",
        with = "notation::millis",
        rename = "drain_timeout_ms"
    )]
    pub drain_timeout: Duration,
    /// How long a starting site waits for a peer before it serves alone.
    #[serde(
        default = "ten_seconds",
        with = "notation::millis",
        rename = "startup_grace_ms"
    )]
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

/// Where signing keys lie.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// A directory for one process; absent: `keys` in the data directory. No backup has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
}

impl SiteConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<SiteConfig, ConfigError> {
        let config: SiteConfig = read(path)?;
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
        self.passwords
            .check()
            .or_else(|expected| wrong("passwords", expected))
    }
}

/// Reads a file, whatever it is of.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_path_buf(),
        message: error.to_string(),
    })
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
