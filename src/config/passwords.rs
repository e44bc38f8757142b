//! How passwords are hashed, and which are refused: `[passwords]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notation::millis;
use crate::identity::{PasswordRules, PasswordSettings};

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

    /// What it should be, if it is not.
    pub(super) fn check(&self) -> Result<(), String> {
        let default = PasswordConfig::default();
        let weaker = self.memory_kib < default.memory_kib || self.iterations < default.iterations;
        if weaker && cfg!(not(feature = "lab")) {
            return Err(format!(
                "memory_kib should be at least {}, iterations at least {}",
                default.memory_kib, default.iterations
            ));
        }
        if self.parallelism == 0 || self.iterations == 0 || self.memory_kib < 8 * self.parallelism {
            return Err("iterations and parallelism at least 1, memory_kib at least 8 a lane".to_owned());
        }
        Ok(())
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
