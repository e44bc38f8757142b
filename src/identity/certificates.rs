//! What certificates rest on: what the keysigner asks before it signs, and the verifier before it believes.
//!
//! Both ask their own replica, at one moment, and believe nobody else.

use std::time::Duration;

use crdt::{AccountId, EmailId, Ownership, UsedAs};
use serde::{Deserialize, Serialize};

use super::{
    Address, Directory, HeldEmail, OperationError,
    address::DomainKey,
    claims,
    operations::{Ping, ReadAddressFacts, ReadCertifiable, ReadStanding},
    primaries,
};
use crate::{browserid, idp::GracePeriod, store::Records};

/// Whether a key may be certified for an address of somebody signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Certifiable {
    /// It may.
    Yes {
        /// The least time that the certificate may bear, in milliseconds since 1970:
        /// [`browserid::Standing::rests_on_ms`].
        rests_on_ms: u64,
        /// How often the account's password was reset.
        resets: u32,
        /// The address as its owner typed it first.
        address: Address,
    },
    /// The account does not have the address, or is cancelled.
    NotTheirs,
    /// It has to be proven again first: a reset left it unverified.
    Unverified,
    /// The address's domain certified its own users not long ago.
    Primary,
    /// The account is not known here yet.
    NotYet,
}

/// What the dialog's answer about an address rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFacts {
    /// When its domain was last seen certifying its own users, in milliseconds since 1970, if that was in the last thirty
    /// days.
    pub idp_seen_ms: Option<u64>,
    /// The address, if somebody has it.
    pub email: Option<KnownEmail>,
}

/// An address that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEmail {
    /// As its owner typed it first.
    pub address: Address,
    /// What its owner used it as last.
    pub used_as: Option<UsedAs>,
    /// It was proven since its account's last reset.
    pub verified: bool,
    /// Its account has a password that may be used.
    pub has_password: bool,
}

impl Directory {
    /// Whether a key may be certified for an address of this account. Whether the session is good is for
    /// [`Directory::session`] to say.
    pub async fn certifiable(
        &self,
        account: AccountId,
        address: &Address,
        grace: GracePeriod,
    ) -> Result<Certifiable, OperationError> {
        let GracePeriod(grace) = grace;
        self.replica
            .read(&ReadCertifiable {
                account,
                email: self.email_id(address),
                domain: self.index_key.domain(address.domain()),
                grace,
            })
            .await
    }

    /// What a certificate of ours for the address rests on.
    pub async fn standing(&self, address: &Address) -> Result<browserid::Standing, OperationError> {
        let email = self.email_id(address);
        self.replica.read(&ReadStanding { email }).await
    }

    /// What is known of an address and its domain.
    pub async fn address_facts(&self, address: &Address) -> Result<AddressFacts, OperationError> {
        self.replica
            .read(&ReadAddressFacts {
                email: self.email_id(address),
                domain: self.index_key.domain(address.domain()),
            })
            .await
    }

    /// Reads something, which proves that the store answers.
    pub async fn ping(&self) -> Result<(), OperationError> {
        self.replica.read(&Ping {}).await
    }
}

/// What one moment of the records says to the keysigner.
pub(super) fn certifiable(
    records: &impl Records,
    now_ms: u64,
    account: AccountId,
    id: EmailId,
    domain: DomainKey,
    grace: Duration,
) -> Result<Certifiable, OperationError> {
    let Some(view) = records.account(account)?.filter(claims::exists) else {
        return Ok(Certifiable::NotYet);
    };
    if view.cancelled {
        return Ok(Certifiable::NotTheirs);
    }
    let email = records.email(id)?.unwrap_or_default();
    let (claim, verified) = match records.owner_of(&email)? {
        Ownership::Held { claim, verified } if claim.account == account => (claim, verified),
        Ownership::Held { .. } | Ownership::Free => return Ok(Certifiable::NotTheirs),
    };
    if !verified {
        return Ok(Certifiable::Unverified);
    }
    let seen_ms = primaries::seen_ms(records, now_ms, domain)?;
    if GracePeriod(grace).is_running(seen_ms, now_ms) {
        return Ok(Certifiable::Primary);
    }
    Ok(Certifiable::Yes {
        rests_on_ms: browserid::Standing::rests_on_ms(claim.done, view.epoch),
        resets: view.epoch.resets,
        address: HeldEmail::read(records, id, claim, None, verified)?.address,
    })
}

/// What one moment of the records says to the verifier.
pub(super) fn standing(records: &impl Records, id: EmailId) -> Result<browserid::Standing, OperationError> {
    let email = records.email(id)?.unwrap_or_default();
    let Ownership::Held { claim, verified } = records.owner_of(&email)? else {
        return Ok(browserid::Standing::Free);
    };
    let owner = records.account(claim.account)?.unwrap_or_default();
    Ok(browserid::Standing::Held {
        verified,
        done: claim.done,
        session_epoch: owner.epoch,
    })
}

/// What one moment of the records says to the dialog.
pub(super) fn facts(
    records: &impl Records,
    now_ms: u64,
    id: EmailId,
    domain: DomainKey,
) -> Result<AddressFacts, OperationError> {
    let idp_seen_ms = primaries::seen_ms(records, now_ms, domain)?;
    let view = records.email(id)?.unwrap_or_default();
    let email = match records.owner_of(&view)? {
        Ownership::Free => None,
        Ownership::Held { claim, verified } => {
            let owner = records.account(claim.account)?.unwrap_or_default();
            let held = HeldEmail::read(records, id, claim, view.used_as, verified)?;
            Some(KnownEmail {
                address: held.address,
                used_as: held.used_as,
                verified,
                has_password: owner.usable_password().is_some(),
            })
        }
    };
    Ok(AddressFacts { idp_seen_ms, email })
}
