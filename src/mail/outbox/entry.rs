//! A mail on disk: one file, that proves itself.
//!
//! `MARKER`, the length of the body (u32, little endian), the body in CBOR, and the first 16 bytes of BLAKE3 over all
//! that. Cut short, made longer, or changed in one bit, it is damaged, and nothing of it is believed.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// First bytes of a mail on disk, format 1.
const MARKER: [u8; 8] = *b"mail   1";
/// What the markers of all formats begin with.
const MARKER_STEM: &[u8] = b"mail   ";
const LENGTH_BYTES: usize = 4;
const SUM_BYTES: usize = 16;
const HEAD_BYTES: usize = MARKER.len() + LENGTH_BYTES;

/// Bytes of a mail's file at most. Ours have about eight thousand.
pub(crate) const FILE_BYTES_MAX: usize = 64 * 1024;

/// A mail that waits for a server to accept it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When whoever asked for it was answered.
    pub posted: SystemTime,
    /// Envelope sender (RFC 5321 §3.3).
    pub from: String,
    /// Envelope recipient, its domain in ASCII.
    pub to: String,
    /// Headers and body (RFC 5322).
    pub message: Zeroizing<Vec<u8>>,
}

/// Why a file is not taken for a mail. It is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// Not something that this program wrote.
    #[error("it is no mail of this outbox")]
    Foreign,
    /// It ends before it should: written by a crash, or by a disk that was full.
    #[error("it is cut short")]
    Short,
    /// It goes on where it should end.
    #[error("it goes on behind its end")]
    Long,
    /// Some bit is not as it was written.
    #[error("its checksum is wrong")]
    Sum,
    /// It is as it was written, and yet no mail: a defect of what wrote it.
    #[error("its body is no mail")]
    Body,
    /// A later version's. It stays where it is, for that version.
    #[error("a later version of Persona wrote it")]
    Newer,
    /// The disk does not give it.
    #[error("it cannot be read from disk ({0})")]
    Unreadable(std::io::ErrorKind),
}

#[derive(Serialize, Deserialize)]
struct Body {
    posted_ms: u64,
    from: String,
    to: String,
    #[serde(with = "serde_bytes")]
    message: Vec<u8>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.message.zeroize();
    }
}

impl Entry {
    /// The bytes of its file; none if they are too many.
    pub(crate) fn encode(&self) -> Option<Zeroizing<Vec<u8>>> {
        let body = Body {
            posted_ms: millis(self.posted),
            from: self.from.clone(),
            to: self.to.clone(),
            message: self.message.to_vec(),
        };
        // Of full size at once: growing would leave copies of the token behind in memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX));
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&[0; LENGTH_BYTES]);
        ciborium::into_writer(&body, &mut *bytes).ok()?;
        let length = u32::try_from(bytes.len() - HEAD_BYTES).ok()?;
        bytes
            .get_mut(MARKER.len()..HEAD_BYTES)?
            .copy_from_slice(&length.to_le_bytes());
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum);
        (bytes.len() <= FILE_BYTES_MAX).then_some(bytes)
    }

    /// The mail in these bytes of a file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, Damage> {
        let (marker, rest) = bytes.split_first_chunk().ok_or_else(|| {
            if MARKER.starts_with(bytes) {
                Damage::Short
            } else {
                Damage::Foreign
            }
        })?;
        if *marker != MARKER {
            return Err(match marker.strip_prefix(MARKER_STEM) {
                Some(&[version]) if version.is_ascii_alphanumeric() => Damage::Newer,
                _ => Damage::Foreign,
            });
        }
        let (length, rest) = rest.split_first_chunk().ok_or(Damage::Short)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > FILE_BYTES_MAX {
            return Err(Damage::Sum);
        }
        match rest.len() {
            found if found < length + SUM_BYTES => return Err(Damage::Short),
            found if found > length + SUM_BYTES => return Err(Damage::Long),
            _ => {}
        }
        let (summed, written) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(Damage::Short)?;
        if *written != sum(summed) {
            return Err(Damage::Sum);
        }
        let body = summed.get(HEAD_BYTES..).ok_or(Damage::Short)?;
        let mut body: Body = ciborium::from_reader(body).map_err(|_| Damage::Body)?;
        Ok(Entry {
            posted: UNIX_EPOCH
                .checked_add(Duration::from_millis(body.posted_ms))
                .ok_or(Damage::Body)?,
            from: std::mem::take(&mut body.from),
            to: std::mem::take(&mut body.to),
            message: Zeroizing::new(std::mem::take(&mut body.message)),
        })
    }
}

/// Addresses and tokens stay out of every log.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.message.len())
    }
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut sum = [0; SUM_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes).finalize_xof().fill(&mut sum);
    sum
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            posted: UNIX_EPOCH + Duration::from_millis(1_795_000_000_123),
            from: "no-reply@persona.example".to_owned(),
            to: "ada@example.org".to_owned(),
            message: Zeroizing::new(b"Subject: hello\r\n\r\nworld\r\n".to_vec()),
        }
    }

    /// As the first release wrote it.
    #[test]
    fn format_1_is_read_for_ever() {
        let bytes = entry().encode().expect("short enough");
        assert_eq!(
            crate::config::hex(&bytes),
            include_str!("../../../tests/fixtures/outbox-1.txt").trim()
        );
        assert_eq!(Entry::decode(&bytes), Ok(entry()));
    }

    #[test]
    fn every_cut_and_every_bit_is_noticed() {
        let bytes = entry().encode().expect("short enough");
        for end in 0..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..end]), Err(Damage::Short), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                assert!(Entry::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(Entry::decode(&longer), Err(Damage::Long));
        assert_eq!(
            Entry::decode(b"-----BEGIN PGP MESSAGE-----"),
            Err(Damage::Foreign)
        );
        assert_eq!(Entry::decode(&[0; 200]), Err(Damage::Foreign));
        let mut newer = bytes.to_vec();
        newer[MARKER.len() - 1] = b'2';
        assert_eq!(Entry::decode(&newer), Err(Damage::Newer));
    }

    #[test]
    fn what_is_too_long_is_not_written_and_nothing_shows_an_address() {
        let mut long = entry();
        long.message = Zeroizing::new(vec![b'a'; FILE_BYTES_MAX]);
        assert!(long.encode().is_none());
        assert!(!format!("{long:?}").contains("ada"));
    }
}
