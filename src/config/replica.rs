//! When a replica answers, what it keeps, and for how long: `[durability]`, `[log]`, `[scrub]`, `[disk]`, `[backup]`, `[erasure]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::notation::millis;
use crate::store::KeepLog;

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
