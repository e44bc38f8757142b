//! When two copies of a record count as equal.
//!
//! Replicas with equal heads save different bytes, so a digest is over the sorted heads, and over the vault
//! values that are named *and* present: a copy that lost one differs, and is found.

use crate::id::VaultId;

/// A record's state in 16 bytes. The order of the arguments, and what is in them twice, does not matter.
pub fn state_digest(heads: &[[u8; 32]], vault: &[VaultId]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let mut absorb = |mut items: Vec<&[u8]>| {
        items.sort_unstable();
        items.dedup();
        hasher.update(&(items.len() as u64).to_le_bytes());
        for item in items {
            hasher.update(item);
        }
    };
    absorb(heads.iter().map(<[u8; 32]>::as_slice).collect());
    absorb(vault.iter().map(|id| id.as_bytes().as_slice()).collect());
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

/// Separates this hash from every other use of BLAKE3; the year and number change with what is hashed.
const CONTEXT: &str = "persona 2026 record state digest 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_do_not_matter_but_everything_else_does() {
        let id = |byte| VaultId::from_bytes([byte; 16]);
        let digest = state_digest(&[[1; 32], [2; 32]], &[id(3), id(4)]);
        assert_eq!(
            digest,
            state_digest(&[[2; 32], [1; 32], [1; 32]], &[id(4), id(3)])
        );
        assert_ne!(digest, state_digest(&[[1; 32]], &[id(3), id(4)]));
        assert_ne!(digest, state_digest(&[[1; 32], [2; 32]], &[id(3)]));
        // One head of 32 bytes is not two vault ids of 16.
        assert_ne!(state_digest(&[[5; 32]], &[]), state_digest(&[], &[id(5)]));
        assert_ne!(state_digest(&[[5; 32]], &[]), state_digest(&[], &[]));
    }
}
