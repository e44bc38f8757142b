//! The byte formats' common ground: bounded reading, and why bytes were refused.
//!
//! Integers are little-endian and of fixed width, so that reading a view costs a few loads. Every format
//! begins with a byte that says which it is; a number once used is retired, never given to another layout.

use crate::hlc::Hlc;

/// Why bytes from a disk or a peer were refused. Nothing was changed. Trying the same bytes again will not
/// help: get the value from another replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("{0}: cut short")]
    Truncated(&'static str),
    /// The value ends before the bytes do.
    #[error("{0}: bytes left over")]
    Trailing(&'static str),
    /// Made by a newer version, or never by this program at all.
    #[error("{what}: format {format} is not known here")]
    UnknownFormat {
        /// What was being read.
        what: &'static str,
        /// Its format byte.
        format: u8,
    },
    /// More than the named limit; it was not looked into.
    #[error("{what}: {size} is over the limit of {max}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How much of it there is, as far as it was counted.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// Well within the limits, and still not the value it should be.
    #[error("{what}: {reason}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Automerge panicked over it. It was caught, and the half-made document thrown away.
    #[error("automerge panicked while it decoded")]
    Panicked,
}

impl DecodeError {
    pub(crate) fn malformed(what: &'static str, reason: &impl ToString) -> DecodeError {
        DecodeError::Malformed {
            what,
            reason: reason.to_string(),
        }
    }

    /// An `Err` if there is more of something than its limit.
    pub(crate) fn limit(what: &'static str, size: usize, max: usize) -> Result<(), DecodeError> {
        if size > max {
            return Err(DecodeError::TooLarge {
                what,
                size: size as u64,
                max: max as u64,
            });
        }
        Ok(())
    }
}

/// Reads a value from the front of a slice; every read is checked.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { what, rest: bytes }
    }

    /// Begins with a format byte, which must be the one known.
    pub(crate) fn with_format(
        what: &'static str,
        known: u8,
        bytes: &'a [u8],
    ) -> Result<Reader<'a>, DecodeError> {
        let mut reader = Reader::new(what, bytes);
        match reader.u8()? {
            format if format == known => Ok(reader),
            format => Err(DecodeError::UnknownFormat { what, format }),
        }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn hlc(&mut self) -> Result<Hlc, DecodeError> {
        self.u64().map(Hlc::from_u64)
    }

    /// Bytes behind a `u16` length.
    pub(crate) fn short_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// UTF-8 behind a `u16` length.
    pub(crate) fn short_string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.short_bytes()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(DecodeError::malformed(self.what, &error)),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    /// The value must end here.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.what))
        }
    }
}

/// The writing half: only what `Vec` lacks.
pub(crate) trait Put {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_hlc(&mut self, value: Hlc);
    /// Behind a `u16` length; what exceeds it is cut, so callers bound their fields first.
    fn put_short(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_hlc(&mut self, value: Hlc) {
        self.extend_from_slice(&value.to_u64().to_le_bytes());
    }

    fn put_short(&mut self, bytes: &[u8]) {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.put_u16(len);
        self.extend(bytes.iter().take(usize::from(len)));
    }
}

/// Reads one CBOR value that must be all there is. What it allocates is bounded by the bytes at hand.
pub(crate) fn from_cbor<T: serde::de::DeserializeOwned>(
    what: &'static str,
    mut bytes: &[u8],
) -> Result<T, DecodeError> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut bytes, CBOR_DEPTH_MAX)
        .map_err(|error| DecodeError::malformed(what, &error))?;
    if bytes.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::Trailing(what))
    }
}

/// How deep a value may nest, unknown fields included.
const CBOR_DEPTH_MAX: usize = 32;
