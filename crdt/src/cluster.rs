//! The cluster's own record: members, signing keys, settings.
//!
//! Each is a scalar of its own at the root: `member/<id>/<field>`, `key/<kid>/<field>`, `setting/<name>`. A
//! value is (HLC, value), and the greatest counts; but states only move forward, whatever the clocks say: a
//! member that left does not come back (a new joining is a new member), a revoked key stays revoked.

use std::collections::BTreeMap;

use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::MemberId;

/// One field of the cluster's record, written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterWrite {
    /// Of a member.
    Member {
        /// Which.
        id: MemberId,
        /// When: greater than what it replaces.
        at: Hlc,
        /// What.
        field: MemberField,
    },
    /// Of a signing key.
    Key {
        /// Which: at most [`NAME_BYTES_MAX`] bytes, no `/`.
        kid: String,
        /// When: greater than what it replaces.
        at: Hlc,
        /// What.
        field: KeyField,
    },
    /// A setting of the whole cluster.
    Setting {
        /// Which: at most [`NAME_BYTES_MAX`] bytes.
        name: String,
        /// When: greater than what it replaces.
        at: Hlc,
        /// What; its meaning is the reader's.
        value: Vec<u8>,
    },
}

/// A field of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberField {
    /// What people call it.
    Name(String),
    /// The site it is in.
    Site(String),
    /// Where it can be dialled, the best first.
    Addresses(Vec<String>),
    /// Its public key (SPKI, DER), pinned.
    Key(Vec<u8>),
    /// The one it will use next; empty for none.
    NextKey(Vec<u8>),
    /// Only moves forward.
    State(MemberState),
}

/// Where a member is in its life. Later ones are greater, and beat earlier ones whatever the clocks say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum MemberState {
    /// Counts for nothing yet.
    #[default]
    Joining,
    /// Has all the data, and a part in stability, acks and trust.
    Active,
    /// Will go once what it holds is elsewhere.
    Leaving,
    /// Gone of its own accord.
    Left,
    /// Put out by an operator.
    Evicted,
}

/// A field of a signing key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyField {
    /// The public half, in the encoding that its use asks for.
    Public(Vec<u8>),
    /// What it signs: sessions, certificates.
    Use(String),
    /// The member whose site holds the private half.
    Member(MemberId),
    /// Only moves forward.
    State(KeyState),
}

/// Where a signing key is in its life. Later ones are greater, and beat earlier ones whatever the clocks say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum KeyState {
    /// Known, so that what it will sign can be verified; does not sign yet.
    #[default]
    Published,
    /// Signs.
    Active,
    /// Signs no more; verifies until its last signature expires.
    Retired,
    /// Verifies nothing.
    Revoked,
}

/// What the record says of a member. A field that nobody wrote is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Which.
    pub id: MemberId,
    /// What people call it.
    pub name: String,
    /// The site it is in.
    pub site: String,
    /// Where it can be dialled, the best first.
    pub addresses: Vec<String>,
    /// Its public key, and its next one if there is one (SPKI, DER).
    pub keys: Vec<Vec<u8>>,
    /// Joining, if nobody wrote it.
    pub state: MemberState,
}

/// What the record says of a signing key. A field that nobody wrote is empty.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SigningKey {
    /// The public half.
    pub public: Vec<u8>,
    /// What it signs.
    pub usage: String,
    /// The member whose site holds the private half.
    pub member: Option<MemberId>,
    /// Published, if nobody wrote it.
    pub state: KeyState,
}

/// What the cluster's record says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClusterView {
    /// All that ever were.
    pub members: BTreeMap<MemberId, Member>,
    /// By `kid`.
    pub keys: BTreeMap<String, SigningKey>,
    /// By name.
    pub settings: BTreeMap<String, Vec<u8>>,
    /// How many changes the record has had.
    pub changes: u32,
    /// The greatest HLC in it: what a value that replaces one here must beat.
    pub latest: Hlc,
    /// Surviving values that could not be read.
    pub unreadable: u32,
}

/// The longest name of a setting or a key, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest value of a field, in bytes.
pub const FIELD_BYTES_MAX: usize = 16 * 1024;

impl ClusterWrite {
    /// The field's name at the root, or why there can be none.
    pub(crate) fn field(&self) -> Result<String, DecodeError> {
        let name = |name: &str, slash: bool| {
            DecodeError::limit("name", name.len(), NAME_BYTES_MAX)?;
            if name.is_empty() || (!slash && name.contains('/')) {
                return Err(DecodeError::malformed("name", &"is empty or contains `/`"));
            }
            Ok(())
        };
        match self {
            ClusterWrite::Member { id, field, .. } => Ok(format!("{MEMBER}{id}/{}", field.name())),
            ClusterWrite::Key { kid, field, .. } => {
                name(kid, false)?;
                Ok(format!("{KEY}{kid}/{}", field.name()))
            }
            ClusterWrite::Setting { name: setting, .. } => {
                name(setting, true)?;
                Ok(format!("{SETTING}{setting}"))
            }
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let (at, value) = match self {
            ClusterWrite::Member { at, field, .. } => (at, field.value()),
            ClusterWrite::Key { at, field, .. } => (at, field.value()),
            ClusterWrite::Setting { at, value, .. } => (at, value.clone()),
        };
        DecodeError::limit("value", value.len(), FIELD_BYTES_MAX)?;
        let mut bytes = vec![FORMAT];
        bytes.put_hlc(*at);
        bytes.extend_from_slice(&value);
        Ok(bytes)
    }
}

impl MemberField {
    fn name(&self) -> &'static str {
        match self {
            MemberField::Name(_) => "name",
            MemberField::Site(_) => "site",
            MemberField::Addresses(_) => "addresses",
            MemberField::Key(_) => "key",
            MemberField::NextKey(_) => "next_key",
            MemberField::State(_) => STATE,
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            MemberField::Name(text) | MemberField::Site(text) => text.clone().into_bytes(),
            MemberField::Key(key) | MemberField::NextKey(key) => key.clone(),
            MemberField::State(state) => vec![state.rank()],
            MemberField::Addresses(addresses) => {
                let mut bytes = Vec::new();
                addresses
                    .iter()
                    .for_each(|address| bytes.put_short(address.as_bytes()));
                bytes
            }
        }
    }
}

impl KeyField {
    fn name(&self) -> &'static str {
        match self {
            KeyField::Public(_) => "public",
            KeyField::Use(_) => "use",
            KeyField::Member(_) => "member",
            KeyField::State(_) => STATE,
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            KeyField::Public(key) => key.clone(),
            KeyField::Use(text) => text.clone().into_bytes(),
            KeyField::Member(id) => id.as_bytes().to_vec(),
            KeyField::State(state) => vec![state.rank()],
        }
    }
}

// Ranks are stored, and leave room between them for states yet to be thought of.
impl MemberState {
    pub(crate) fn rank(self) -> u8 {
        match self {
            MemberState::Joining => 10,
            MemberState::Active => 20,
            MemberState::Leaving => 30,
            MemberState::Left => 40,
            MemberState::Evicted => 50,
        }
    }

    pub(crate) fn from_rank(rank: u8) -> Result<MemberState, DecodeError> {
        use MemberState::{Active, Evicted, Joining, Leaving, Left};
        let state = [Joining, Active, Leaving, Left, Evicted]
            .into_iter()
            .find(|state| state.rank() == rank);
        state.ok_or(DecodeError::UnknownFormat {
            what: "member state",
            format: rank,
        })
    }
}

impl KeyState {
    pub(crate) fn rank(self) -> u8 {
        match self {
            KeyState::Published => 10,
            KeyState::Active => 20,
            KeyState::Retired => 30,
            KeyState::Revoked => 40,
        }
    }

    pub(crate) fn from_rank(rank: u8) -> Result<KeyState, DecodeError> {
        use KeyState::{Active, Published, Retired, Revoked};
        let state = [Published, Active, Retired, Revoked]
            .into_iter()
            .find(|state| state.rank() == rank);
        state.ok_or(DecodeError::UnknownFormat {
            what: "key state",
            format: rank,
        })
    }
}

/// Whether the field is one whose values only move forward.
pub(crate) fn only_forward(field: &str) -> bool {
    !field.starts_with(SETTING) && field.rsplit('/').next() == Some(STATE)
}

/// The rank of a state as it is stored; `None` if it cannot be read.
pub(crate) fn stored_rank(bytes: &[u8]) -> Option<u8> {
    match decode(bytes) {
        Ok((_, [rank])) => Some(*rank),
        _ => None,
    }
}

fn decode(bytes: &[u8]) -> Result<(Hlc, &[u8]), DecodeError> {
    let mut reader = Reader::with_format(WHAT, FORMAT, bytes)?;
    let at = reader.hlc()?;
    Ok((at, reader.rest()))
}

/// Settles every field. What cannot be read is left out and counted.
pub(crate) fn resolve(fields: &[(String, Vec<Vec<u8>>)], changes: u32) -> ClusterView {
    let mut view = ClusterView {
        changes,
        ..ClusterView::default()
    };
    let mut next_keys: BTreeMap<MemberId, Vec<u8>> = BTreeMap::new();
    for (field, values) in fields {
        let mut known: Vec<(Hlc, &[u8])> = Vec::new();
        for bytes in values {
            match decode(bytes) {
                Ok(value) => known.push(value),
                Err(_) => view.unreadable += 1,
            }
        }
        view.latest = known.iter().map(|(at, _)| *at).fold(view.latest, Hlc::max);
        let winner = if only_forward(field) {
            known.into_iter().max_by_key(|(at, value)| (*value, *at))
        } else {
            known.into_iter().max()
        };
        let Some((_, value)) = winner else { continue };
        if view.set(field, value, &mut next_keys).is_err() {
            view.unreadable += 1;
        }
    }
    for (id, key) in next_keys {
        if let Some(member) = view.members.get_mut(&id) {
            member.keys.push(key);
        }
    }
    view
}

impl ClusterView {
    /// Takes in the winner of a field. A field that is not known here is left alone.
    fn set(
        &mut self,
        field: &str,
        value: &[u8],
        next_keys: &mut BTreeMap<MemberId, Vec<u8>>,
    ) -> Result<(), DecodeError> {
        if let Some(name) = field.strip_prefix(SETTING) {
            self.settings.insert(name.to_owned(), value.to_vec());
        } else if let Some((id, field)) = field.strip_prefix(MEMBER).and_then(|rest| rest.split_once('/')) {
            let id: MemberId = id.parse().map_err(|error| DecodeError::malformed(WHAT, &error))?;
            let member = self.members.entry(id).or_insert_with(|| Member::new(id));
            match field {
                "name" => member.name = text(value)?,
                "site" => member.site = text(value)?,
                "addresses" => member.addresses = addresses(value)?,
                "key" => member.keys.insert(0, value.to_vec()),
                "next_key" if !value.is_empty() => drop(next_keys.insert(id, value.to_vec())),
                STATE => member.state = MemberState::from_rank(single(value)?)?,
                _ => {}
            }
        } else if let Some((kid, field)) = field.strip_prefix(KEY).and_then(|rest| rest.split_once('/')) {
            let key = self.keys.entry(kid.to_owned()).or_default();
            match field {
                "public" => key.public = value.to_vec(),
                "use" => key.usage = text(value)?,
                "member" => {
                    let id = value
                        .try_into()
                        .map_err(|error| DecodeError::malformed(WHAT, &error))?;
                    key.member = Some(MemberId::from_bytes(id));
                }
                STATE => key.state = KeyState::from_rank(single(value)?)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Member {
    pub(crate) fn new(id: MemberId) -> Member {
        Member {
            id,
            name: String::new(),
            site: String::new(),
            addresses: Vec::new(),
            keys: Vec::new(),
            state: MemberState::default(),
        }
    }
}

fn text(value: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(value.to_vec()).map_err(|error| DecodeError::malformed(WHAT, &error))
}

fn addresses(value: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut reader = Reader::new(WHAT, value);
    let mut list = Vec::new();
    while !reader.is_empty() {
        list.push(reader.short_string()?);
    }
    Ok(list)
}

fn single(value: &[u8]) -> Result<u8, DecodeError> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(DecodeError::malformed(WHAT, &"a state is one byte")),
    }
}

const WHAT: &str = "cluster field";
const MEMBER: &str = "member/";
const KEY: &str = "key/";
const SETTING: &str = "setting/";
const STATE: &str = "state";
/// The first byte of every value of a field.
const FORMAT: u8 = 1;
