//! The vault's values: personal data that can be erased for good.
//!
//! Automerge keeps its whole history, so a record holds no personal data: it names values of the vault. A
//! value's id is a hash of it, so any copy proves itself; the random salt keeps the id, which history keeps,
//! from telling anything about data that is gone.

use crate::format::{DecodeError, Reader};
use crate::id::VaultId;

/// The most data one value may hold.
pub const VAULT_BYTES_MAX: usize = 4096;

/// An immutable value. It lives exactly as long as a record names it.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultValue {
    /// Random, new for each value; erased with it.
    pub salt: [u8; 16],
    /// At most [`VAULT_BYTES_MAX`] bytes.
    pub data: Vec<u8>,
}

impl VaultValue {
    /// A value under `salt`, which must be random and not used before.
    pub fn new(salt: [u8; 16], data: Vec<u8>) -> Self {
        VaultValue { salt, data }
    }

    /// The first 16 bytes of BLAKE3(salt, data). The salt's length is fixed, so no two pairs run together.
    pub fn id(&self) -> VaultId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(&self.data);
        let mut id = [0; VaultId::LEN];
        hasher.finalize_xof().fill(&mut id);
        VaultId::from_bytes(id)
    }

    /// The form that is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.salt.len() + self.data.len());
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.data);
        bytes
    }

    /// The other way. Whether it is the value that was asked for, its [`id`](Self::id) tells.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::with_format(WHAT, FORMAT, bytes)?;
        let salt = reader.array()?;
        let data = reader.rest();
        DecodeError::limit(WHAT, data.len(), VAULT_BYTES_MAX)?;
        Ok(VaultValue {
            salt,
            data: data.to_vec(),
        })
    }
}

/// Shows how much there is, never what.
impl std::fmt::Debug for VaultValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultValue({}, {} bytes)", self.id(), self.data.len())
    }
}

const WHAT: &str = "vault value";
const FORMAT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_proves_itself() {
        let value = VaultValue::new([3; 16], b"ada@example.org".to_vec());
        let copy = VaultValue::decode(&value.encode()).unwrap();
        assert_eq!(copy, value);
        assert_eq!(copy.id(), value.id());
        assert_ne!(VaultValue::new([4; 16], value.data.clone()).id(), value.id());
        assert!(!format!("{value:?}").contains("ada"));
        assert_eq!(value.id().to_string(), "8b82c8bc7b4fb8610a224d1b48a5a6a8");
    }

    #[test]
    fn what_is_too_short_too_long_or_unknown_is_refused() {
        let value = VaultValue::new([3; 16], vec![9; VAULT_BYTES_MAX + 1]);
        assert!(matches!(
            VaultValue::decode(&value.encode()),
            Err(DecodeError::TooLarge { .. })
        ));
        assert!(matches!(
            VaultValue::decode(&[1, 2, 3]),
            Err(DecodeError::Truncated(_))
        ));
        assert!(matches!(
            VaultValue::decode(&[9; 40]),
            Err(DecodeError::UnknownFormat { format: 9, .. })
        ));
    }
}
