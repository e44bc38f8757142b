//! Limits come first: before any hash, write, mail or request to the outside, a request pays from local buckets.
//!
//! | module | subject |
//! | --- | --- |
//! | this one | who pays what |
//! | `buckets` | how much each payer has left, in bounded memory |
//! | [`client`] | who is asking, also behind proxies |
//!
//! There are three kinds of payers: the client, the address that a request is about, and the relying party that asks. A client that
//! has assertions verified is a server of relying parties, through which go all that people sign in to there: it pays from a
//! bucket of its own kind, and each relying party behind it from one of its own. (Nobody proves to be a relying party, so one's bucket at
//! another client is another: else anybody could empty it.) A bucket fills again with time, up to a burst. Buckets are of this process alone, and gone with it: they keep one process from being
//! worn out by few, and take no word of another site. What must hold in all the world (tries of a password, mails to an address) is
//! counted in cells.
//!
//! Promise: paying costs no more than a hash and a lock that nobody holds for long; memory is bounded whatever comes; nothing
//! here can be read back as an address.

mod buckets;
pub mod client;
#[cfg(test)]
mod tests;

use std::{
    hash::{BuildHasher, Hash, RandomState},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::buckets::Buckets;
pub use self::{
    buckets::Rate,
    client::{Client, ForwardedBy, Network, TrustedProxies},
};

/// What a request costs, by what it makes us do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cost {
    /// Reads what is here.
    Read,
    /// Verifies signatures.
    Verify,
    /// Writes, and has others write.
    Write,
    /// Has a password hashed.
    Password,
    /// Has somebody else's server asked.
    Fetch,
    /// Has a mail sent.
    Mail,
}

impl Cost {
    /// In tokens, about in proportion to what it takes of us or of others: a read takes some 10 µs, a signature 100, a
    /// hash tens of milliseconds; a mail takes somebody's attention.
    pub const fn tokens(self) -> u32 {
        match self {
            Cost::Read => 1,
            Cost::Verify => 2,
            Cost::Write => 5,
            Cost::Password => 20,
            Cost::Fetch => 20,
            Cost::Mail => 40,
        }
    }
}

/// How much each kind of payer has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// A client: an IPv4 address, or an IPv6 network of 64 bits. Behind one may be a whole office.
    pub client: Rate,
    /// An IPv6 network of 48 bits, which one customer may have all of.
    pub network: Rate,
    /// An email address, known here or not.
    pub address: Rate,
    /// A relying party, by its origin, as one client says it.
    pub rp: Rate,
    /// A client that has assertions verified, for whatever relying parties.
    pub verifier: Rate,
    /// Payers of each kind that are remembered; of more, those that paid last.
    pub payers_max: usize,
}

impl Default for LimitSettings {
    fn default() -> LimitSettings {
        LimitSettings {
            client: Rate {
                burst: 2_000,
                per_second: 50,
            },
            network: Rate {
                burst: 32_000,
                per_second: 800,
            },
            address: Rate {
                burst: 400,
                per_second: 2,
            },
            // Two thousand assertions a second, more than the original had in all.
            rp: Rate {
                burst: 20_000,
                per_second: 4_000,
            },
            // About half of a core.
            verifier: Rate {
                burst: 40_000,
                per_second: 8_000,
            },
            payers_max: 262_144,
        }
    }
}

/// A bucket has not enough. Nothing was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; try again in {} s", .0.as_secs())]
pub struct RetryAfter(
    /// When it will have, if nothing else pays from it meanwhile: whole seconds, at least one.
    pub Duration,
);

/// The buckets of a process.
pub struct Limits {
    clients: Buckets,
    networks: Buckets,
    addresses: Buckets,
    rps: Buckets,
    verifiers: Buckets,
    /// Keyed anew in each process: nobody can make two payers of one bucket on purpose.
    hash: RandomState,
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
}

impl Limits {
    /// With all buckets full. The clock is monotonic, from whatever beginning.
    pub fn new(settings: &LimitSettings, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Limits {
        let buckets = |rate| Buckets::new(rate, settings.payers_max);
        Limits {
            clients: buckets(settings.client),
            networks: buckets(settings.network),
            addresses: buckets(settings.address),
            rps: buckets(settings.rp),
            verifiers: buckets(settings.verifier),
            hash: RandomState::new(),
            clock: Box::new(clock),
        }
    }

    /// A client pays for a request. Of a large IPv6 network that network pays, too.
    pub fn pay(&self, client: Client, cost: Cost) -> Result<(), RetryAfter> {
        let now = (self.clock)();
        let key = self.key(&client.narrow());
        self.clients.pay(key, cost.tokens(), now)?;
        let Some(wide) = client.wide() else {
            return Ok(());
        };
        let paid = self.networks.pay(self.key(&wide), cost.tokens(), now);
        if paid.is_err() {
            self.clients.give_back(key, cost.tokens(), now);
        }
        paid
    }

    /// An email address pays, by a hash of its normal form: known and unknown ones alike.
    pub fn pay_for_address(&self, address: &[u8], cost: Cost) -> Result<(), RetryAfter> {
        self.addresses
            .pay(self.key(address), cost.tokens(), (self.clock)())
    }

    /// What an address paid is given back. A client is given nothing back: a hash was made all the same, also of the right
    /// password, and whoever has an account could else have as many made as there are processors for.
    pub fn give_back_to_address(&self, address: &[u8], cost: Cost) {
        self.addresses
            .give_back(self.key(address), cost.tokens(), (self.clock)());
    }

    /// A relying party pays, by its origin and by which client says that it is that one.
    pub fn pay_for_rp(&self, client: Client, origin: &str, cost: Cost) -> Result<(), RetryAfter> {
        let key = self.key(&(client.narrow(), origin));
        self.rps.pay(key, cost.tokens(), (self.clock)())
    }

    /// A client that has assertions verified pays.
    pub fn pay_as_verifier(&self, client: Client, cost: Cost) -> Result<(), RetryAfter> {
        let key = self.key(&client.narrow());
        self.verifiers.pay(key, cost.tokens(), (self.clock)())
    }

    fn key(&self, name: &(impl Hash + ?Sized)) -> u64 {
        self.hash.hash_one(name)
    }
}
