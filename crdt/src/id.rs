//! Keys and ids: arrays of bytes that cannot be taken for one another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text is not the lower-case hexadecimal form of an id of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id here is {digits} lower-case hexadecimal digits")]
pub struct ParseIdError {
    /// How many digits the id has.
    pub digits: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(with = "serde_bytes")] [u8; $len]);

        impl $name {
            /// How many bytes it has.
            pub const LEN: usize = $len;

            /// The id that is these bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> $name {
                $name(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                parse_hex(text).map($name)
            }
        }
    };
}

id!(
    /// An account: random, or derived from the staging that made it, so that both halves of a cut make one.
    AccountId, 15
);
id!(
    /// An email address, as a keyed hash; the address itself is only ever in the vault.
    EmailId, 15
);
id!(
    /// A member of the cluster: new at every joining.
    MemberId, 8
);
id!(
    /// A vault value: the first bytes of the hash of what it holds, so any copy proves itself.
    VaultId, 16
);
id!(
    /// The key of a record: a byte for its kind, then fifteen of id.
    RecordKey, 16
);

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordKind {
    /// A person's account.
    Account,
    /// An email address, and who has it.
    Email,
    /// The cluster itself: members, keys, settings. There is one.
    Cluster,
}

impl RecordKind {
    const fn byte(self) -> u8 {
        match self {
            RecordKind::Account => b'a',
            RecordKind::Email => b'e',
            RecordKind::Cluster => b'c',
        }
    }
}

impl RecordKey {
    /// The one cluster record.
    pub const CLUSTER: RecordKey = RecordKey::new(RecordKind::Cluster, [0; 15]);

    const fn new(kind: RecordKind, id: [u8; 15]) -> RecordKey {
        let mut bytes = [0; 16];
        bytes[0] = kind.byte();
        let mut at = 0;
        while at < id.len() {
            bytes[at + 1] = id[at];
            at += 1;
        }
        RecordKey(bytes)
    }

    /// `None` for a kind that a newer version made, and for a cluster record under any key but its own.
    pub fn kind(&self) -> Option<RecordKind> {
        match self.0[0] {
            b'a' => Some(RecordKind::Account),
            b'e' => Some(RecordKind::Email),
            b'c' if *self == RecordKey::CLUSTER => Some(RecordKind::Cluster),
            _ => None,
        }
    }

    /// Whose record this is, if it is an account's.
    pub fn account(&self) -> Option<AccountId> {
        (self.kind() == Some(RecordKind::Account)).then(|| AccountId(self.id()))
    }

    /// Which address's record this is, if it is an email's.
    pub fn email(&self) -> Option<EmailId> {
        (self.kind() == Some(RecordKind::Email)).then(|| EmailId(self.id()))
    }

    fn id(&self) -> [u8; 15] {
        let [_, id @ ..] = self.0;
        id
    }
}

impl From<AccountId> for RecordKey {
    fn from(id: AccountId) -> RecordKey {
        RecordKey::new(RecordKind::Account, id.0)
    }
}

impl From<EmailId> for RecordKey {
    fn from(id: EmailId) -> RecordKey {
        RecordKey::new(RecordKind::Email, id.0)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let refused = ParseIdError { digits: 2 * N };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return Err(refused);
    };
    if pairs.len() != N {
        return Err(refused);
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high).ok_or(refused)? << 4) | digit(*low).ok_or(refused)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_and_only_one_text_is_right() {
        let id = MemberId::from_bytes([0, 1, 0xab, 0xcd, 0xef, 0xff, 7, 8]);
        assert_eq!(id.to_string(), "0001abcdefff0708");
        assert_eq!("0001abcdefff0708".parse(), Ok(id));
        for wrong in [
            "",
            "0",
            "0001ABCDEFFF0708",
            "0001abcdefff07",
            "0001abcdefff070801",
            "0001abcdefff070g",
            "é001abcdefff070",
        ] {
            assert_eq!(
                wrong.parse::<MemberId>(),
                Err(ParseIdError { digits: 16 }),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_key_says_what_it_is_of() {
        let account = AccountId::from_bytes([7; 15]);
        let email = EmailId::from_bytes([7; 15]);
        let key = RecordKey::from(account);
        assert_eq!(
            (key.kind(), key.account(), key.email()),
            (Some(RecordKind::Account), Some(account), None)
        );
        let key = RecordKey::from(email);
        assert_eq!(
            (key.kind(), key.account(), key.email()),
            (Some(RecordKind::Email), None, Some(email))
        );
        assert_eq!(RecordKey::CLUSTER.kind(), Some(RecordKind::Cluster));
        let mut stray = *RecordKey::CLUSTER.as_bytes();
        stray[9] = 1;
        assert_eq!(RecordKey::from_bytes(stray).kind(), None);
        assert_eq!(RecordKey::from_bytes([b'z'; 16]).kind(), None);
    }
}
