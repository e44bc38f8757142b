//! Signatures of our own tokens known to be good.
//!
//! A browser sends the same cookie with each request, and the same certificate to each relying party for a day; verifying it is
//! most of what a cheap answer costs. What is remembered is only that the signature of these very bytes is right, under the
//! hash of the whole token. Whether the key is still known and not revoked, and what the records say, is asked each time.

use std::{
    collections::HashSet,
    fmt, mem,
    sync::{Mutex, PoisonError},
};

use super::{JwsError, KeySet, Unverified};

/// A bounded memory of good signatures. Two generations: when the young one is full it becomes the old one, and what
/// was in that is forgotten unless it was asked for since.
pub struct SignatureCache {
    generation_max: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl SignatureCache {
    /// One that remembers at least `signatures_max / 2` and at most `signatures_max` signatures, of about 40 bytes
    /// each. None at all if that is below two.
    pub fn new(signatures_max: usize) -> SignatureCache {
        SignatureCache {
            generation_max: signatures_max / 2,
            generations: Mutex::default(),
        }
    }

    /// Verifies a token by keys of ours; its signature only if it is not known to be good.
    pub fn verify(&self, jws: &Unverified<'_>, keys: &KeySet) -> Result<(), JwsError> {
        if self.generation_max == 0 || jws.kid().is_none() {
            return jws.verify(keys);
        }
        // The header names the key by its thumbprint, so equal bytes were signed by the same key.
        let hash = jws.hash();
        if self.has(&hash) {
            return jws.verify_known_signature(keys);
        }
        jws.verify(keys)?;
        self.remember(hash);
        Ok(())
    }

    /// How many signatures are remembered.
    pub fn len(&self) -> usize {
        self.with(|generations| generations.young.len() + generations.old.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has(&self, hash: &[u8; 32]) -> bool {
        self.with(|generations| {
            if generations.young.contains(hash) {
                return true;
            }
            let was_old = generations.old.remove(hash);
            if was_old {
                self.insert(generations, *hash);
            }
            was_old
        })
    }

    fn remember(&self, hash: [u8; 32]) {
        self.with(|generations| self.insert(generations, hash));
    }

    fn insert(&self, generations: &mut Generations, hash: [u8; 32]) {
        if generations.young.len() >= self.generation_max {
            generations.old = mem::take(&mut generations.young);
        }
        generations.young.insert(hash);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Generations) -> T) -> T {
        // Nothing in here panics half-way, so what a panicking thread left is whole.
        act(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for SignatureCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureCache")
            .field("generation_max", &self.generation_max)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
