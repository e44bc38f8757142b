#![allow(missing_docs, unused_variables, clippy::unused_async)]
use super::*;
use crate::{browserid::Domain, idp::Sighting};
use crdt::{AccountId, UsedAs};
impl Identity {
    pub async fn sign_in_as_primary(&self, address: Address) -> Result<Outcome<SignedIn>, OperationError> {
        Ok(Outcome::Refused(Refusal::NotYet))
    }
    pub async fn add_primary(
        &self,
        account: AccountId,
        address: Address,
    ) -> Result<Outcome<()>, OperationError> {
        Ok(Outcome::Refused(Refusal::NotYet))
    }
    pub async fn used_as(
        &self,
        account: AccountId,
        address: Address,
        used_as: UsedAs,
    ) -> Result<Outcome<()>, OperationError> {
        Ok(Outcome::Refused(Refusal::NotYet))
    }
    pub async fn note_idp(&self, domain: &Domain, sighting: Sighting) -> Result<(), OperationError> {
        Ok(())
    }
}
