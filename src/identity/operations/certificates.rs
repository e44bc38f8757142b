//! What can be asked about what certificates rest on.

use std::time::Duration;

use crdt::{AccountId, EmailId};
use serde::{Deserialize, Serialize};

use super::{Operation, Reading};
use crate::{
    browserid,
    identity::{
        AddressFacts, Certifiable, OperationError,
        address::DomainKey,
        certificates::{certifiable, facts, standing},
    },
    store::Records,
};

/// Whether a key may be certified for an address of an account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadCertifiable {
    /// Which account.
    pub account: AccountId,
    /// The address's record.
    pub email: EmailId,
    /// The address's domain.
    pub domain: DomainKey,
    /// How long a domain that is gone stays an IdP.
    pub grace: Duration,
}

impl Operation for ReadCertifiable {
    const NAME: &'static str = "certifiable";
    type Answer = Certifiable;
}

impl Reading for ReadCertifiable {
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<Certifiable, OperationError> {
        certifiable(records, now_ms, self.account, self.email, self.domain, self.grace)
    }
}

/// What a certificate for an address rests on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadStanding {
    /// The address's record.
    pub email: EmailId,
}

impl Operation for ReadStanding {
    const NAME: &'static str = "standing";
    type Answer = browserid::Standing;
}

impl Reading for ReadStanding {
    fn read(&self, records: &impl Records, _: u64) -> Result<browserid::Standing, OperationError> {
        standing(records, self.email)
    }
}

/// What is known of an address and its domain.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ReadAddressFacts {
    /// The address's record.
    pub email: EmailId,
    /// The address's domain.
    pub domain: DomainKey,
}

impl Operation for ReadAddressFacts {
    const NAME: &'static str = "address-facts";
    type Answer = AddressFacts;
}

impl Reading for ReadAddressFacts {
    fn read(&self, records: &impl Records, now_ms: u64) -> Result<AddressFacts, OperationError> {
        facts(records, now_ms, self.email, self.domain)
    }
}

/// Reads something.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ping {}

impl Operation for Ping {
    const NAME: &'static str = "ping";
    type Answer = ();
}

impl Reading for Ping {
    fn read(&self, records: &impl Records, _: u64) -> Result<(), OperationError> {
        records.cluster()?;
        Ok(())
    }
}
