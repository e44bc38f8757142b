//! Where an account is signed in, as one replica saw it: what a cell under the account's id holds.
//!
//! It is for the account's owner to look at, and decides nothing. It has no address, mail or network, and of the
//! device only a few coarse words.

use crate::account::Epoch;
use crate::format::{DecodeError, Put, Reader};

/// Where an account is signed in, as one replica saw it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Places {
    /// At most [`PLACES_MAX`].
    pub places: Vec<Place>,
}

/// A session, and where it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The session's.
    pub id: [u8; 16],
    /// What it has seen of the account: it is over when the account is past that.
    pub epoch: Epoch,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it was seen last, in milliseconds since the Unix epoch.
    pub seen_ms: u64,
    /// When it ends, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// What the browser is, in a few coarse words: at most [`WORDS_BYTES_MAX`] bytes.
    pub device: String,
    /// The site that saw it: at most [`WORDS_BYTES_MAX`] bytes.
    pub site: String,
}

/// Places that one replica keeps of an account at most: what fits into a cell.
pub const PLACES_MAX: usize = 20;
/// Bytes of a place's words at most, each.
pub const WORDS_BYTES_MAX: usize = 64;

const WHAT: &str = "places";
/// The first byte.
const FORMAT: u8 = 1;

impl Places {
    /// A cell's value. It must keep to the limits; places beyond them are left out.
    pub fn encode(&self) -> Vec<u8> {
        let places = self.places.iter().take(PLACES_MAX);
        let mut bytes = vec![FORMAT, u8::try_from(places.len()).unwrap_or(u8::MAX)];
        for place in places {
            bytes.extend_from_slice(&place.id);
            bytes.put_u32(place.epoch.resets);
            bytes.put_hlc(place.epoch.at);
            for ms in [place.started_ms, place.seen_ms, place.expires_ms] {
                bytes.extend_from_slice(&ms.to_le_bytes());
            }
            bytes.put_short(place.device.as_bytes());
            bytes.put_short(place.site.as_bytes());
        }
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<Places, DecodeError> {
        let mut reader = Reader::with_format(WHAT, FORMAT, bytes)?;
        let count = usize::from(reader.u8()?);
        DecodeError::limit(WHAT, count, PLACES_MAX)?;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let place = Place {
                id: reader.array()?,
                epoch: Epoch {
                    resets: reader.u32()?,
                    at: reader.hlc()?,
                },
                started_ms: reader.u64()?,
                seen_ms: reader.u64()?,
                expires_ms: reader.u64()?,
                device: reader.short_string()?,
                site: reader.short_string()?,
            };
            for words in [&place.device, &place.site] {
                DecodeError::limit("words of a place", words.len(), WORDS_BYTES_MAX)?;
            }
            places.push(place);
        }
        reader.end().map(|()| Places { places })
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a failure fails the test")]
mod tests {
    use super::*;
    use crate::cell::CELL_VALUE_BYTES_MAX;

    fn longest() -> Places {
        let place = Place {
            id: [7; 16],
            epoch: Epoch::default(),
            started_ms: u64::MAX,
            seen_ms: u64::MAX,
            expires_ms: u64::MAX,
            device: "d".repeat(WORDS_BYTES_MAX),
            site: "s".repeat(WORDS_BYTES_MAX),
        };
        Places {
            places: vec![place; PLACES_MAX],
        }
    }

    #[test]
    fn as_many_as_may_be_fit_into_a_cell() {
        let encoded = longest().encode();
        assert!(encoded.len() <= CELL_VALUE_BYTES_MAX, "{}", encoded.len());
        assert_eq!(Places::decode(&encoded), Ok(longest()));
    }

    #[test]
    fn what_is_over_the_limits_or_cut_short_is_refused() {
        let mut wordy = longest();
        wordy.places.truncate(1);
        wordy.places[0].device.push('d');
        assert!(matches!(
            Places::decode(&wordy.encode()),
            Err(DecodeError::TooLarge { .. })
        ));
        assert!(matches!(
            Places::decode(&[FORMAT, 21]),
            Err(DecodeError::TooLarge { .. })
        ));
        let encoded = longest().encode();
        for cut in [0, 1, 2, 30, encoded.len() - 1] {
            assert!(matches!(
                Places::decode(&encoded[..cut]),
                Err(DecodeError::Truncated(_))
            ));
        }
        assert!(matches!(
            Places::decode(&[2, 0]),
            Err(DecodeError::UnknownFormat { .. })
        ));
    }
}
