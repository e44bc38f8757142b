//! The cluster and those of its members that a configuration lists: `[cluster]`, `[[members]]`.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use crdt::MemberId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Hex;

/// What all sites share: secrets of the cluster, the same everywhere.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Names the cluster; peers of another are refused.
    pub id: Hex<16>,
    /// Keys the hash that turns an address into its record's id.
    pub index_key: Hex<32>,
    /// Keys the hash that sums up what a replica holds.
    pub digest_key: Hex<32>,
}

impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ClusterConfig")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// One member of the cluster, as the configuration lists it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MemberConfig {
    /// Its id: 16 hex digits.
    pub id: Member,
    /// Its name, for people.
    pub name: String,
    /// The site that it is in.
    pub site: String,
    /// Where it listens for gossip: `host:port`, the best first.
    pub addresses: Vec<String>,
    /// DER of its public key, in base64: pinned.
    #[serde(with = "base64_bytes")]
    pub public_key: Vec<u8>,
}

/// A member's id in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member(pub MemberId);

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Member)
            .map_err(|_| D::Error::custom(format!("expected 16 hex digits, found \"{text}\"")))
    }
}

mod base64_bytes {
    use super::{BASE64, Deserialize, Deserializer, Engine, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64.decode(text).map_err(|error| {
            serde::de::Error::custom(format!("expected the DER of a public key in base64: {error}"))
        })
    }
}
