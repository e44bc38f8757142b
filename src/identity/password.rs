//! Passwords: what one may be, how it is kept, and the pool that hashes it.
//!
//! A password is kept as a PHC string of argon2id, in the vault. Hashing is the one thing here that costs tens of
//! milliseconds and megabytes, so it has a pool of its own with an admission rule (`pool.rs`).
//!
//! Promise: checking a password against an address that nobody has costs what a wrong password costs: a decoy made
//! with the same parameters is hashed in its place. (Not where a hash of the original service is still kept: `old_hash.rs`.)
//!
//! *Unicode.* Of the profile OpaqueString (RFC 8265 §4.2) two rules are applied: spaces of every kind become the ASCII space, and
//! then NFC, so that one password is the same from every keyboard; case and width stay as they are. Its refusals are not applied (control
//! characters, unassigned ones, empty): a password that was once taken must not become impossible to type because tables changed, and
//! nothing here shows one. What NFC makes of a character that was not assigned when a password was made may change with
//! Unicode's version: that password is then reset.

use std::{fmt, io, sync::Arc, time::Duration, time::Instant};

use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version,
    password_hash::Error as PhcError,
};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::{
    common_passwords, old_hash,
    pool::{Pool, Undone},
};

/// Characters (Unicode scalar values) of a password at least, as in the original service.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Characters of a password at most.
pub const PASSWORD_CHARS_MAX: usize = 80;

/// Memory that a *stored* hash may ask for, in KiB: it may come from a peer, and must not take all there is.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes that a stored hash may ask for.
const ITERATIONS_MAX: u32 = 16;
/// Lanes that a stored hash may ask for.
const PARALLELISM_MAX: u32 = 16;
/// Bytes of a stored hash's PHC string at most.
const PHC_BYTES_MAX: usize = 512;

/// A password that was typed, of a length that is allowed. Wiped from memory when the last copy goes.
#[derive(Clone)]
pub struct TypedPassword {
    normalised: Arc<Zeroizing<String>>,
    /// As it was typed, where that is something else: the original service hashed that.
    typed: Option<Arc<Zeroizing<String>>>,
}

/// Why a text can be no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too easily guessed.
    #[error("a password has at least {PASSWORD_CHARS_MIN} characters")]
    TooShort,
    /// Longer than a form has any use for.
    #[error("a password has at most {PASSWORD_CHARS_MAX} characters")]
    TooLong,
    /// Whoever guesses tries it first. Only for a new password: who has it already may sign in, and change it.
    #[error("this password is one of the most common ones, which are guessed first; choose another")]
    Common,
}

/// What a new password must be, beside its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordRules {
    /// It is not on the list of common ones.
    pub refuse_common: bool,
}

impl PasswordRules {
    /// Takes the text of a form as a new password.
    pub fn new_password(self, typed: String) -> Result<TypedPassword, PasswordError> {
        let password = TypedPassword::parse(typed)?;
        self.allow(&password)?;
        Ok(password)
    }

    /// Whether a password that was typed may become somebody's.
    pub fn allow(self, password: &TypedPassword) -> Result<(), PasswordError> {
        if self.refuse_common && common_passwords::is_common(&password.normalised) {
            return Err(PasswordError::Common);
        }
        Ok(())
    }
}

impl TypedPassword {
    /// Takes the text of a form. Characters are counted as they are kept.
    pub fn parse(typed: String) -> Result<TypedPassword, PasswordError> {
        let typed = Zeroizing::new(typed);
        if typed.chars().nth(TYPED_CHARS_MAX).is_some() {
            return Err(PasswordError::TooLong);
        }
        // NFC makes at most three times the bytes (UAX #15, "Stability"); reserved, so that growing leaves no copy.
        let mut normalised = Zeroizing::new(String::with_capacity(typed.len() * 3));
        normalised.extend(typed.chars().map(plain_space).nfc());
        match normalised.chars().take(PASSWORD_CHARS_MAX + 1).count() {
            ..PASSWORD_CHARS_MIN => Err(PasswordError::TooShort),
            PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(TypedPassword {
                typed: (*typed != *normalised).then(|| Arc::new(typed)),
                normalised: Arc::new(normalised),
            }),
            _ => Err(PasswordError::TooLong),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.normalised.as_bytes()
    }

    /// Whether an old hash is of this password: as it was typed, or as another keyboard may have typed it then.
    fn matches_old(&self, stored: &str) -> Result<bool, HashError> {
        let typed = self.typed.as_ref();
        let as_typed = typed.map_or(Ok(false), |typed| old_hash::matches(typed, stored))?;
        Ok(as_typed || old_hash::matches(&self.normalised, stored)?)
    }
}

/// The additional mapping of OpaqueString: what Unicode calls a space separator (Zs) is the ASCII space.
fn plain_space(typed: char) -> char {
    match typed {
        '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

/// What is longer is not looked at: no character is composed of more than four.
const TYPED_CHARS_MAX: usize = PASSWORD_CHARS_MAX * 4;

impl fmt::Debug for TypedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedPassword(..)")
    }
}

/// A password as it is kept: a PHC string of argon2id, or a bcrypt hash of the original service.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashedPassword(String);

impl HashedPassword {
    /// Takes what a staging or the vault holds.
    pub fn from_phc(phc: String) -> Result<HashedPassword, HashError> {
        Stored::read(&phc)?;
        Ok(HashedPassword(phc))
    }

    /// What the vault keeps.
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HashedPassword {
    type Error = HashError;

    fn try_from(phc: String) -> Result<HashedPassword, HashError> {
        HashedPassword::from_phc(phc)
    }
}

impl From<HashedPassword> for String {
    fn from(password: HashedPassword) -> String {
        password.0
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword(..)")
    }
}

/// What hashing costs here, and how much of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordSettings {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Threads that hash; each takes one processor, and the memory of one hash while it works.
    pub threads: usize,
    /// How long a password may be expected to wait for its thread; one that would wait longer is refused at once.
    pub queue: Duration,
}

impl Default for PasswordSettings {
    /// OWASP's Password Storage Cheat Sheet, second choice for argon2id: 19 MiB, 2 passes, 1 lane.
    fn default() -> PasswordSettings {
        PasswordSettings {
            memory_kib: 19_456,
            iterations: 2,
            parallelism: 1,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            queue: Duration::from_millis(500),
        }
    }
}

/// Why the pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The parameters are none that argon2id, or this program, takes.
    #[error("the password settings are not usable: {0}")]
    Settings(String),
    /// The system gave no thread.
    #[error("could not start a thread for passwords")]
    Thread(#[from] io::Error),
}

/// Why a password could not be hashed or checked. None of these says anything about the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HashError {
    /// More passwords wait than can be hashed in time. Try again, here or at another site.
    #[error("too many passwords are being checked; try again in {} ms", .retry_after.as_millis())]
    Busy {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// The pool is ending, or a hash failed for want of memory. Try another site.
    #[error("the password could not be hashed here")]
    Failed,
    /// What is stored is no hash that this version can check. Trying again will not help; a reset will.
    #[error("the stored password is in a form that this version cannot check")]
    Unreadable,
}

impl From<Undone> for HashError {
    fn from(undone: Undone) -> HashError {
        match undone {
            Undone::Busy { retry_after } => HashError::Busy { retry_after },
            Undone::Lost => HashError::Failed,
        }
    }
}

/// What checking a password came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// It is the password.
    pub right: bool,
    /// What is stored was made with other parameters than today's, and should be made anew.
    pub stale: bool,
}

/// Hashes and checks passwords, on threads of its own.
#[derive(Clone)]
pub struct PasswordPool {
    pool: Pool,
    argon2: Argon2<'static>,
    decoy: Arc<str>,
}

impl PasswordPool {
    /// Starts the threads. Hashes once on the calling thread, to learn what it costs on this machine.
    pub fn new(settings: &PasswordSettings) -> Result<PasswordPool, PoolError> {
        if settings.threads == 0 {
            return Err(PoolError::Settings("threads must be at least 1".to_owned()));
        }
        let (memory, iterations, lanes) = (settings.memory_kib, settings.iterations, settings.parallelism);
        if memory > MEMORY_KIB_MAX || iterations > ITERATIONS_MAX || lanes > PARALLELISM_MAX {
            return Err(PoolError::Settings(format!(
                "at most {MEMORY_KIB_MAX} KiB, {ITERATIONS_MAX} iterations and a parallelism of {PARALLELISM_MAX}"
            )));
        }
        let refused = |error: &dyn fmt::Display| PoolError::Settings(error.to_string());
        let params = Params::new(memory, iterations, lanes, Some(Params::DEFAULT_OUTPUT_LEN))
            .map_err(|error| refused(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let begun = Instant::now();
        let nobody: [u8; 32] = rand::random();
        let decoy = argon2
            .hash_password(&nobody)
            .map_err(|error| refused(&error))?
            .to_string();
        let typical = begun.elapsed();
        let pool = Pool::start("password", settings.threads, settings.queue, typical)?;
        Ok(PasswordPool {
            pool,
            argon2,
            decoy: decoy.into(),
        })
    }

    /// Hashes a new password under a fresh random salt.
    pub async fn hash(&self, password: TypedPassword) -> Result<HashedPassword, HashError> {
        let argon2 = self.argon2.clone();
        self.run(move || match argon2.hash_password(password.as_bytes()) {
            Ok(hash) => Ok(HashedPassword(hash.to_string())),
            Err(_) => Err(HashError::Failed),
        })
        .await
    }

    /// Checks a password against what is stored, or against the decoy if nothing is: then it is never right.
    pub async fn check(
        &self,
        password: TypedPassword,
        stored: Option<HashedPassword>,
    ) -> Result<Checked, HashError> {
        let argon2 = self.argon2.clone();
        let known = stored.is_some();
        let phc = stored.map_or_else(|| Arc::clone(&self.decoy), |stored| stored.0.into());
        self.run(move || {
            let stored = match Stored::read(&phc)? {
                Stored::Argon2(stored) => stored,
                Stored::Old => {
                    return Ok(Checked {
                        right: known && password.matches_old(&phc)?,
                        stale: true,
                    });
                }
            };
            let matches = match argon2.verify_password(password.as_bytes(), &stored.hash) {
                Ok(()) => true,
                Err(PhcError::PasswordInvalid) => false,
                Err(_) => return Err(HashError::Failed),
            };
            Ok(Checked {
                right: known && matches,
                stale: stored.is_stale(argon2.params()),
            })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (waiting, running) = self.pool.load();
        metrics::gauge!("persona_passwords_waiting").set(waiting as f64);
        metrics::gauge!("persona_passwords_running").set(running as f64);
        let outcome = self.pool.run(work).await;
        if matches!(outcome, Err(Undone::Busy { .. })) {
            metrics::counter!("persona_passwords_refused_total").increment(1);
        }
        outcome?
    }
}

/// A stored hash that is safe to compute: its parameters are within this program's bounds.
enum Stored {
    Argon2(Box<StoredArgon2>),
    /// Of the original service.
    Old,
}

struct StoredArgon2 {
    hash: PasswordHash,
    params: Params,
}

impl Stored {
    fn read(phc: &str) -> Result<Stored, HashError> {
        if phc.len() > PHC_BYTES_MAX {
            return Err(HashError::Unreadable);
        }
        if old_hash::is_bcrypt(phc) {
            old_hash::check_form(phc)?;
            return Ok(Stored::Old);
        }
        let hash = PasswordHash::new(phc).map_err(|_| HashError::Unreadable)?;
        let params = Params::try_from(&hash).map_err(|_| HashError::Unreadable)?;
        let known = Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            && hash.salt.is_some()
            && hash.hash.is_some();
        let bounded = params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= ITERATIONS_MAX
            && params.p_cost() <= PARALLELISM_MAX;
        if known && bounded {
            Ok(Stored::Argon2(Box::new(StoredArgon2 { hash, params })))
        } else {
            Err(HashError::Unreadable)
        }
    }
}

impl StoredArgon2 {
    fn is_stale(&self, today: &Params) -> bool {
        self.hash.algorithm.as_str() != Algorithm::Argon2id.as_str()
            || self.hash.version != Some(Version::V0x13.into())
            || (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
                != (today.m_cost(), today.t_cost(), today.p_cost())
            || self.params.output_len() != today.output_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> PasswordSettings {
        PasswordSettings {
            memory_kib: 64,
            iterations: 1,
            threads: 1,
            ..PasswordSettings::default()
        }
    }

    fn typed(text: &str) -> TypedPassword {
        TypedPassword::parse(text.to_owned()).expect(text)
    }

    #[track_caller]
    fn check_length(text: &str, expected: Option<PasswordError>) {
        assert_eq!(TypedPassword::parse(text.to_owned()).err(), expected, "{text:?}");
    }

    #[test]
    fn a_password_has_8_to_80_characters_whatever_their_bytes() {
        check_length("", Some(PasswordError::TooShort));
        check_length("1234567", Some(PasswordError::TooShort));
        check_length("12345678", None);
        check_length(
            "\u{e4}\u{f6}\u{fc}\u{df}\u{e9}\u{e8}\u{ea}",
            Some(PasswordError::TooShort),
        );
        check_length(&"\u{1f511}".repeat(8), None);
        check_length(&"\u{1f511}".repeat(80), None);
        check_length(&"x".repeat(81), Some(PasswordError::TooLong));
        check_length(&"x".repeat(1 << 20), Some(PasswordError::TooLong));
    }

    #[tokio::test]
    async fn a_password_is_the_same_from_every_keyboard() {
        let pool = PasswordPool::new(&settings()).expect("settings");
        let hash = pool
            .hash(typed("caf\u{e9} \u{e0} la cr\u{e8}me"))
            .await
            .expect("hash");
        let decomposed = "cafe\u{301}\u{a0}a\u{300}\u{3000}la\u{2003}cre\u{300}me";
        let checked = pool.check(typed(decomposed), Some(hash.clone())).await;
        assert_eq!(checked.map(|checked| checked.right), Ok(true));
        let checked = pool.check(typed("cafe a la creme"), Some(hash.clone())).await;
        assert_eq!(checked.map(|checked| checked.right), Ok(false));
        let checked = pool
            .check(typed("CAF\u{c9} \u{c0} LA CR\u{c8}ME"), Some(hash))
            .await;
        assert_eq!(checked.map(|checked| checked.right), Ok(false), "case counts");
        // Eight characters typed as sixteen are eight, and seven are seven.
        check_length(&"e\u{301}".repeat(8), None);
        check_length(&"e\u{301}".repeat(7), Some(PasswordError::TooShort));
        check_length(&"e\u{301}".repeat(80), None);
        check_length(&"e\u{301}".repeat(81), Some(PasswordError::TooLong));
        check_length(&"\u{301}".repeat(1 << 16), Some(PasswordError::TooLong));
    }

    #[tokio::test]
    async fn an_old_hash_is_checked_as_the_original_did_and_is_to_be_made_anew() {
        let pool = PasswordPool::new(&settings()).expect("settings");
        let old = |password: &str| {
            let hash = bcrypt::hash(password, 4).expect("hashed");
            HashedPassword::from_phc(hash).expect("a form that is known")
        };
        let check = async |password: &str, stored: HashedPassword| {
            let checked = pool.check(typed(password), Some(stored)).await.expect("checked");
            assert!(checked.stale, "{password}");
            checked.right
        };
        assert!(check("correct horse", old("correct horse")).await);
        assert!(!check("correct horsf", old("correct horse")).await);
        let (composed, decomposed) = ("caf\u{e9} au lait", "cafe\u{301} au lait");
        assert!(check(decomposed, old(decomposed)).await, "as it was typed");
        assert!(check(decomposed, old(composed)).await, "and as others type it");
        assert!(
            !check(composed, old(decomposed)).await,
            "what was never said cannot be guessed"
        );
    }

    #[test]
    fn a_new_password_is_no_common_one_unless_settings_allow_it() {
        let new = |text: &str, refuse_common| {
            let rules = PasswordRules { refuse_common };
            rules.new_password(text.to_owned()).map(drop)
        };
        assert_eq!(new("Password1", true), Err(PasswordError::Common));
        assert_eq!(new("Password1", false), Ok(()));
        assert_eq!(new("correct horse", true), Ok(()));
        assert_eq!(new("qwerty", true), Err(PasswordError::TooShort));
        assert!(
            TypedPassword::parse("Password1".to_owned()).is_ok(),
            "who has it may sign in"
        );
    }

    #[tokio::test]
    async fn the_right_password_is_right_and_no_other() {
        let pool = PasswordPool::new(&settings()).expect("settings");
        let hash = pool.hash(typed("correct horse")).await.expect("hash");
        assert!(
            hash.as_phc().starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
            "{}",
            hash.as_phc()
        );
        assert_ne!(
            pool.hash(typed("correct horse")).await.expect("hash"),
            hash,
            "every hash has a salt of its own"
        );
        let checked = |text: &str, stored: Option<&HashedPassword>| pool.check(typed(text), stored.cloned());
        let right = Checked {
            right: true,
            stale: false,
        };
        let wrong = Checked {
            right: false,
            stale: false,
        };
        assert_eq!(checked("correct horse", Some(&hash)).await, Ok(right));
        assert_eq!(checked("correct horsf", Some(&hash)).await, Ok(wrong));
        assert_eq!(checked("Correct horse", Some(&hash)).await, Ok(wrong));
        assert_eq!(
            checked("correct horse", None).await,
            Ok(wrong),
            "nobody's password is never right"
        );
        assert!(!format!("{hash:?} {:?}", typed("correct horse")).contains("horse"));
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_checked_and_called_stale() {
        let old = PasswordPool::new(&settings()).expect("settings");
        let hash = old.hash(typed("correct horse")).await.expect("hash");
        for newer in [
            PasswordSettings {
                memory_kib: 128,
                ..settings()
            },
            PasswordSettings {
                iterations: 2,
                ..settings()
            },
            PasswordSettings {
                parallelism: 2,
                ..settings()
            },
        ] {
            let pool = PasswordPool::new(&newer).expect("settings");
            let checked = pool.check(typed("correct horse"), Some(hash.clone())).await;
            assert_eq!(
                checked,
                Ok(Checked {
                    right: true,
                    stale: true
                }),
                "{newer:?}"
            );
        }
    }

    #[test]
    fn a_stored_hash_cannot_ask_for_the_moon() {
        let tail = "c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
        let read = |head: &str| HashedPassword::from_phc(format!("{head}{tail}")).err();
        assert_eq!(read("$argon2id$v=19$m=19456,t=2,p=1$"), None);
        for head in [
            "",
            "$",
            "$2b$12$",
            "$scrypt$ln=17,r=8,p=1$",
            "$argon2id$v=19$m=4294967295,t=1,p=1$",
            "$argon2id$v=19$m=64,t=4294967295,p=1$",
            "$argon2id$v=19$m=4096,t=1,p=17$",
            "$argon2id$v=19$m=1,t=1,p=1$",
        ] {
            assert_eq!(read(head), Some(HashError::Unreadable), "{head}");
        }
        assert!(HashedPassword::from_phc("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ".to_owned()).is_err());
        assert!(HashedPassword::from_phc("x".repeat(1 << 20)).is_err());
    }

    #[test]
    fn settings_that_cannot_work_are_refused_in_words() {
        for wrong in [
            PasswordSettings {
                threads: 0,
                ..settings()
            },
            PasswordSettings {
                memory_kib: 1,
                ..settings()
            },
            PasswordSettings {
                memory_kib: MEMORY_KIB_MAX + 1,
                ..settings()
            },
            PasswordSettings {
                iterations: 0,
                ..settings()
            },
            PasswordSettings {
                parallelism: 0,
                ..settings()
            },
        ] {
            assert!(
                matches!(PasswordPool::new(&wrong), Err(PoolError::Settings(_))),
                "{wrong:?}"
            );
        }
    }
}
