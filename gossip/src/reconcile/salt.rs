//! What one conversation hashes with.
//!
//! Everything short enough to collide is hashed under the conversation's nonce: nobody prepares records that hide
//! each other, and what collides once by accident does not collide in the next conversation.

use blake3::Hash;

use super::iblt::Item;

/// The key of one conversation's hashes.
#[derive(Debug, Clone)]
pub struct Salt([u8; 32]);

impl Salt {
    /// From the nonce that the asker drew.
    #[must_use]
    pub fn new(nonce: &[u8; 16]) -> Salt {
        Salt(blake3::derive_key("persona reconciliation 1", nonce))
    }

    /// Says whether an item stands alone in a symbol, and seeds the choice of its symbols.
    #[must_use]
    pub fn check(&self, item: &Item) -> u64 {
        let hash = self.hash(&item.to_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    pub(super) fn hash(&self, bytes: &[u8]) -> Hash {
        blake3::keyed_hash(&self.0, bytes)
    }
}
