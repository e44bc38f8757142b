//! The proof that somebody controls an address, and all that follows from it.
//!
//! Promise: what completing a proof writes is a function of the proof and of when it was done. So a second
//! completion, at another site or later, makes no second account and names no second value.

use crdt::{AccountId, ClaimedBy, Hlc};
use serde::{Deserialize, Serialize};

use crate::{
    planted::{self, Bug},
    store::Txn,
};

/// Somebody controls the address: a mail was answered, an assertion verified, or an operator vouches for it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// A secret of this proof's own that ends with it, like the hash of a staging's token.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 32],
    /// When it was begun: the staging's HLC.
    pub at: Hlc,
    /// Who says so.
    pub by: ClaimedBy,
}

impl Proof {
    /// The account that a sign-up with this proof makes.
    pub fn account(&self) -> AccountId {
        AccountId::from_bytes(self.derive("persona 2026-11-22 account of a proof"))
    }

    /// The salt of the vault value that holds the address. Out of the account's id nobody can compute it.
    pub(super) fn address_salt(&self) -> [u8; 16] {
        self.derive("persona 2026-11-22 vault salt of an address")
    }

    /// The salt of the vault value that holds the password.
    pub(super) fn password_salt(&self) -> [u8; 16] {
        self.derive("persona 2026-11-22 vault salt of a password")
    }

    /// A proof that is later than all that is seen.
    fn now(txn: &mut Txn<'_>, latest: Hlc, by: ClaimedBy) -> Proof {
        Proof {
            id: txn.random(),
            at: txn.stamp_past(latest),
            by,
        }
    }

    fn derive<const N: usize>(&self, context: &str) -> [u8; N] {
        let mut bytes = [0; N];
        blake3::Hasher::new_derive_key(context)
            .update(&self.id)
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }
}

/// The id would give away the salts of what the vault holds.
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof")
            .field("at", &self.at)
            .field("by", &self.by)
            .finish_non_exhaustive()
    }
}

/// On whose word something is done that takes the control of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// A staging was completed.
    Staged {
        /// What it proves.
        proof: Proof,
        /// The account that it is for, with its resets when it was begun; none for a sign-up.
        account: Option<(AccountId, u32)>,
    },
    /// An operator vouches, now. The proof is made in the transaction itself, later than all that it sees.
    Operator,
    /// The address's own domain vouches, now, by an assertion that was verified. The proof is made likewise.
    Asserted,
}

impl Word {
    /// The proof, which a word of now only becomes here. `latest` is what it must beat.
    pub(super) fn proof(&self, txn: &mut Txn<'_>, latest: Hlc) -> Proof {
        match self {
            Word::Staged { proof, .. } if planted::is(Bug::OwnTimeOfCompletion) => Proof {
                at: txn.stamp_past(latest),
                ..*proof
            },
            Word::Staged { proof, .. } => *proof,
            Word::Operator => Proof::now(txn, latest, ClaimedBy::Operator),
            Word::Asserted => Proof::now(txn, latest, ClaimedBy::Idp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_proof_is_the_same_each_time_and_apart_from_all_else() {
        let proof = |id: u8| Proof {
            id: [id; 32],
            at: Hlc::new(5, 0),
            by: ClaimedBy::Mail,
        };
        let later = Proof {
            at: Hlc::new(9, 9),
            ..proof(1)
        };
        assert_eq!(proof(1).account(), later.account());
        assert_eq!(proof(1).address_salt(), later.address_salt());
        assert_ne!(proof(1).account(), proof(2).account());
        assert_ne!(proof(1).address_salt(), proof(2).address_salt());
        assert_ne!(proof(1).address_salt(), proof(1).password_salt());
        assert_ne!(proof(1).address_salt()[..15], proof(1).account().as_bytes()[..]);
        assert!(!format!("{:?}", proof(0xab)).contains("ab, ab"));
    }
}
