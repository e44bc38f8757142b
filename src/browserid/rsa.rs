//! RSA public keys of primaries.
//!
//! The original's support documents give both numbers in decimal; a JWK gives them in base64url. We never sign with
//! RSA, and browsers have no RSA keys any more.

use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

use super::jwk::KeyError;

/// Bits of a modulus: RFC 7518 §3.3 asks for 2048; beyond 8192 a verification costs more than it is worth.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The least exponent of FIPS 186-5 §A.1.1.
const EXPONENT_MIN: u64 = 65_537;
/// Bytes of an exponent at most. Greater ones only cost time.
const EXPONENT_BYTES_MAX: usize = 4;

/// A modulus and an exponent that verify RS256.
#[derive(Clone)]
pub struct RsaKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    verifier: ParsedPublicKey,
}

impl RsaKey {
    /// The key with these numbers, big-endian and without leading zeros (RFC 7518 §6.3.1).
    pub fn new(modulus: Vec<u8>, exponent: &[u8]) -> Result<RsaKey, KeyError> {
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
        let leading = modulus.first().copied().unwrap_or_default();
        let bits = (modulus.len() * 8).saturating_sub(leading.leading_zeros() as usize);
        if leading == 0 || !is_odd(&modulus) || !MODULUS_BITS.contains(&bits) {
            return Err(KeyError::Modulus);
        }
        let value = exponent
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        if exponent.len() > EXPONENT_BYTES_MAX
            || exponent.first().is_none_or(|byte| *byte == 0)
            || !is_odd(exponent)
            || value < EXPONENT_MIN
        {
            return Err(KeyError::Exponent);
        }
        let components = RsaPublicKeyComponents {
            n: modulus.as_slice(),
            e: exponent,
        };
        let verifier = components
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| KeyError::Modulus)?;
        Ok(RsaKey {
            exponent: exponent.to_vec(),
            modulus,
            verifier,
        })
    }

    /// The key whose numbers are these decimal texts, as the original's support documents have them.
    pub fn from_decimal(modulus: &str, exponent: &str) -> Result<RsaKey, KeyError> {
        let modulus = from_decimal(modulus).ok_or(KeyError::Modulus)?;
        let exponent = from_decimal(exponent).ok_or(KeyError::Exponent)?;
        RsaKey::new(modulus, &exponent)
    }

    /// Big-endian, without leading zeros.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Big-endian, without leading zeros.
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for RsaKey {
    fn eq(&self, other: &RsaKey) -> bool {
        (&self.modulus, &self.exponent) == (&other.modulus, &other.exponent)
    }
}

impl Eq for RsaKey {}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({} bytes)", self.modulus.len())
    }
}

/// Digits of the greatest modulus: 8192 bits.
const DECIMAL_DIGITS_MAX: usize = 2467;

/// A decimal number as big-endian bytes without leading zeros; `None` if it is none, is zero, begins with a zero, or
/// is longer than any key.
fn from_decimal(text: &str) -> Option<Vec<u8>> {
    if text.len() > DECIMAL_DIGITS_MAX
        || text.starts_with('0')
        || !text.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    // Little-endian limbs of 32 bits; every nine digits they are multiplied by a thousand million.
    let mut limbs: Vec<u32> = Vec::new();
    for digits in text.as_bytes().chunks(9) {
        let chunk: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let mut carry = chunk;
        for limb in &mut limbs {
            let sum = u64::from(*limb) * 10_u64.pow(digits.len() as u32) + carry;
            *limb = sum as u32;
            carry = sum >> 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    let bytes = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes());
    let bytes: Vec<u8> = bytes.skip_while(|byte| *byte == 0).collect();
    (!bytes.is_empty()).then_some(bytes)
}
