//! A site's signing keys: made where they sign, published to everybody, and gone when they sign no more.
//!
//! No private key leaves its site. A secure webhead has a *session* key, a keysigner a *certificate* key; what is
//! public of them lies in the cluster record, so what is signed at one site is verified at all. The life of a key:
//!
//! | state | signs | verifies | until |
//! | --- | --- | --- | --- |
//! | published | no | yes | every member that was heard in the last 10 s has it on disk |
//! | active | yes | yes | the next key signs, its member is evicted or leaves, or its file is lost |
//! | retired | no | yes | its last signature has expired: then nobody asks for it any more |
//! | revoked | no | no | for good, whatever else was said of it |
//!
//! Two halves, since they may be two processes. [`Keyring`] holds the private halves and says what it has
//! ([`Offer`]); the replica writes that into the cluster record as far as it is time for it, and answers what each
//! key is now ([`Settled`]). Both are said again whenever something changes, and each time anew from what is on the
//! disk and in the record: so whatever was broken off, at either side, goes on.
//!
//! | module | subject |
//! | --- | --- |
//! | `directory` | private keys on disk |
//! | this one | which of them signs |
//! | [`record`] | what is written of keys into the cluster record, and what that means |
//! | [`publisher`] | the replica's half: who has a key on disk, and what an operator asked for |
//! | [`published`] | what verifies, at every process |
//! | [`keeper`] | the tasks that bring the halves together where all tiers are one process |
//!
//! What becomes of a key when something happened to its file:
//!
//! - *Lost* (another disk, or a store restored without it): another key is made. The record knows none of those that
//!   are here, so nobody holds what it lists of this member and use: that retires with the same write. If the file may
//!   be in strange hands, revoking it is for the operator, who alone knows.
//! - *Restored from a copy*: a site signs for nobody before it has caught up, and then its record knows. What has
//!   retired meanwhile is erased here, and another key is made.
//! - *Cloned*: two processes of one member sign with one key until one of them stands aside, and what either signed
//!   verifies. In the hands of another member it is not used: the record says whose it is. An alarm names the file.
//! - *The record does not know it* (a crash between the two writes): it is published.
//! - *Its member was evicted and came back*: as another member, whose keys are new; the old ones have retired, and are
//!   erased here.
//! - *The disk is full*, at the first start or later: no key signs that is not on disk, for what it signed could be
//!   verified nowhere after a crash. The site reads and verifies, and tries again.

mod directory;
pub(crate) mod keeper;
pub mod published;
pub mod publisher;
pub mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;

use self::directory::{Directory, Held};
pub use self::{
    directory::KeyringError,
    published::Keys,
    record::{Custody, Offer, Settled},
};
use crate::browserid::{PublicKey, SigningKey, Usage};

/// What a site's keys are for. A key has one use.
pub const USES: [Usage; 2] = [Usage::Session, Usage::Certificate];
/// Keys of one use that a directory may hold; of more, the newest count. Two are usual while one is replaced.
pub const HELD_MAX: usize = 8;
/// Keys of one use that a process makes in [`MADE_WITHIN`], whoever asks for them: each stays in the cluster record.
pub const MADE_MAX: usize = 8;
/// See [`MADE_MAX`].
pub const MADE_WITHIN: Duration = Duration::from_secs(3600);

/// The private keys of this process.
pub struct Keyring {
    directory: Directory,
    rings: BTreeMap<Usage, Ring>,
}

/// The keys of one use.
#[derive(Default)]
struct Ring {
    held: Mutex<HeldKeys>,
    signer: ArcSwapOption<SigningKey>,
}

#[derive(Default)]
struct HeldKeys {
    /// The oldest first.
    keys: Vec<Held>,
    /// When keys were made, for [`MADE_MAX`].
    made: VecDeque<Instant>,
    /// What people are to be told.
    alarms: Vec<String>,
    /// What they were told already.
    told: BTreeSet<String>,
}

/// What came of an answer of the replica.
#[derive(Debug, Default)]
pub struct Heeded {
    /// There is something new to offer.
    pub changed: bool,
    /// What people should look into; each is said once.
    pub alarms: Vec<String>,
}

impl Keyring {
    /// Reads the keys of these uses, and has their directory to itself. What cannot be read is left where it is and
    /// told by [`Keyring::heed`]: a damaged key must not keep a site from starting.
    pub fn open(directory: &Path, uses: &[Usage]) -> Result<Keyring, KeyringError> {
        let directory = Directory::open(directory)?;
        let mut rings = BTreeMap::new();
        for usage in uses {
            let found = directory.read(*usage)?;
            let held = HeldKeys {
                keys: found.keys,
                alarms: found.alarms,
                ..HeldKeys::default()
            };
            let ring = Ring {
                held: Mutex::new(held),
                ..Ring::default()
            };
            rings.insert(*usage, ring);
        }
        Ok(Keyring { directory, rings })
    }

    /// What this process holds keys for.
    pub fn uses(&self) -> impl Iterator<Item = Usage> {
        self.rings.keys().copied()
    }

    /// What signs sessions now; none before its key is on the disks of the others, or where this process is no secure
    /// webhead.
    pub fn session_signer(&self) -> Option<Arc<SigningKey>> {
        self.signer(Usage::Session)
    }

    /// What signs certificates now; none before its key is on the disks of the others, or where this process is no
    /// keysigner.
    pub fn certificate_signer(&self) -> Option<Arc<SigningKey>> {
        self.signer(Usage::Certificate)
    }

    fn signer(&self, usage: Usage) -> Option<Arc<SigningKey>> {
        self.rings.get(&usage)?.signer.load_full()
    }

    /// What it has of a use, and what it signs with.
    pub fn offer(&self, usage: Usage) -> Offer {
        let held = self.rings.get(&usage).map(|ring| lock(&ring.held));
        let public = |held: &Held| match held.key.public() {
            PublicKey::P256(point) => Some(point.clone()),
            PublicKey::Rsa(_) => None,
        };
        Offer {
            usage,
            held: held
                .iter()
                .flat_map(|held| held.keys.iter().filter_map(public))
                .collect(),
            signs_with: self.signer(usage).map(|signer| signer.kid().to_owned()),
        }
    }

    /// Does what follows from the replica's answer: signs with the newest key that may, erases what signs no more,
    /// and makes a key if there should be one. Writes to the disk.
    pub fn heed(&self, usage: Usage, settled: &Settled) -> Result<Heeded, KeyringError> {
        let Some(ring) = self.rings.get(&usage) else {
            return Ok(Heeded::default());
        };
        let mut held = lock(&ring.held);
        let custody = |held: &Held| settled.custody(held.key.kid());
        let active = held
            .keys
            .iter()
            .rev()
            .find(|held| custody(held) == Some(Custody::Active));
        let signer = active.map(|held| held.key.clone());
        let kid = |signer: Option<&Arc<SigningKey>>| signer.map(|signer| signer.kid().to_owned());
        let mut heeded = Heeded {
            changed: false,
            alarms: std::mem::take(&mut held.alarms),
        };
        let before = ring.signer.swap(signer.clone());
        if kid(before.as_ref()) != kid(signer.as_ref()) {
            // The record is to know: the one before retires only now that it signs no more.
            heeded.changed = true;
            if let Some(signer) = &signer {
                tracing::info!(usage = usage.name(), kid = signer.kid(), "signs from now on");
            }
        }
        let (over, stays): (Vec<Held>, Vec<Held>) = std::mem::take(&mut held.keys)
            .into_iter()
            .partition(|held| matches!(custody(held), Some(Custody::Retired | Custody::Revoked)));
        held.keys = stays;
        for over in over {
            // One that stays on a failing disk is found to be over at the next start as well.
            if let Err(error) = self.directory.erase(&over) {
                heeded.alarms.extend(held.told_once(error.to_string()));
            }
        }
        let foreign: Vec<String> = held
            .keys
            .iter()
            .filter(|held| custody(held) == Some(Custody::Foreign))
            .map(Held::is_foreign)
            .collect();
        for words in foreign {
            heeded.alarms.extend(held.told_once(words));
        }
        let unheard = held.keys.iter().any(|held| custody(held).is_none());
        if settled.wants_key && !unheard {
            held.may_make(usage)?;
            let made = self.directory.make(usage)?;
            tracing::info!(
                usage = usage.name(),
                kid = made.key.kid(),
                "a signing key was made"
            );
            held.made.push_back(Instant::now());
            held.keys.push(made);
            heeded.changed = true;
        }
        Ok(heeded)
    }
}

impl HeldKeys {
    fn may_make(&mut self, usage: Usage) -> Result<(), KeyringError> {
        while self
            .made
            .front()
            .is_some_and(|made| made.elapsed() >= MADE_WITHIN)
        {
            self.made.pop_front();
        }
        if self.made.len() >= MADE_MAX || self.keys.len() >= HELD_MAX {
            return Err(KeyringError::TooMany { usage: usage.name() });
        }
        Ok(())
    }

    fn told_once(&mut self, words: String) -> Option<String> {
        (self.told.len() < HELD_MAX * 4 && self.told.insert(words.clone())).then_some(words)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
