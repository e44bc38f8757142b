//! How much each payer has left.
//!
//! A bucket is one number: the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371 in its
//! form with a virtual clock). It holds `burst` less what flows in from now till then. So a bucket that is full is as good as none,
//! and forgetting one is the only error that is ever made: in the payer's favour.
//!
//! Memory: 16 shards, each with two generations of at most a 32nd of the payers. When the young one is full it becomes
//! the old one, and the old one goes. Whoever pays moves to the young one, so only who has not paid for a whole
//! generation is forgotten.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::RetryAfter;

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Tokens in a full one.
    pub burst: u32,
    /// Tokens that flow in.
    pub per_second: u32,
}

/// Buckets of one kind of payer, by a hash of its name.
pub(super) struct Buckets {
    rate: Rate,
    shards: Vec<Mutex<Shard>>,
    generation_max: usize,
}

/// When each is full again, in nanoseconds of the clock.
type Generation = HashMap<u64, u64, BuildHasherDefault<AsItIs>>;

#[derive(Default)]
struct Shard {
    young: Generation,
    old: Generation,
}

const SHARDS: usize = 16;

impl Buckets {
    pub(super) fn new(rate: Rate, payers_max: usize) -> Buckets {
        Buckets {
            rate,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            generation_max: (payers_max / SHARDS / 2).max(1),
        }
    }

    /// Takes so many tokens out, or says when there will be so many. What costs more than a full bucket holds takes all of it.
    pub(super) fn pay(&self, key: u64, tokens: u32, now: Duration) -> Result<(), RetryAfter> {
        let now = nanos(now);
        let burst = self.time_for(self.rate.burst);
        let price = self.time_for(tokens.min(self.rate.burst));
        self.with(key, |full_at| {
            let full_at_then = full_at.max(now).saturating_add(price);
            let missing = full_at_then.saturating_sub(now.saturating_add(burst));
            if missing > 0 {
                let seconds = missing.div_ceil(NANOS_PER_SECOND);
                return (full_at, Err(RetryAfter(Duration::from_secs(seconds))));
            }
            (full_at_then, Ok(()))
        })
    }

    /// Puts so many tokens back, up to a full bucket.
    pub(super) fn give_back(&self, key: u64, tokens: u32, now: Duration) {
        let (now, price) = (nanos(now), self.time_for(tokens.min(self.rate.burst)));
        self.with(key, |full_at| (full_at.saturating_sub(price).max(now), ()));
    }

    /// How long so many tokens take to flow in.
    fn time_for(&self, tokens: u32) -> u64 {
        u64::from(tokens) * NANOS_PER_SECOND / u64::from(self.rate.per_second.max(1))
    }

    fn with<T>(&self, key: u64, change: impl FnOnce(u64) -> (u64, T)) -> T {
        let shard = (key as usize) % SHARDS;
        // There are as many as that.
        let Some(shard) = self.shards.get(shard) else {
            return change(0).1;
        };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shard.young.get(&key).or_else(|| shard.old.get(&key));
        let (full_at, answer) = change(known.copied().unwrap_or(0));
        if shard.young.len() >= self.generation_max && !shard.young.contains_key(&key) {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, full_at);
        answer
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let lengths = self.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.len()
        });
        lengths.sum()
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

fn nanos(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

/// Keys are keyed hashes already. Their lowest bits chose the shard.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.rotate_right(4);
    }
}
