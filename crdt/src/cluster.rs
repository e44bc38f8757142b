//! The cluster's own record: members, signing keys, settings.
//!
//! Each is a scalar of its own at the root: `member/<id>/<field>`, `key/<kid>/<field>`, `invite/<token hash>`,
//! `setting/<name>`. A value is (HLC, value), and the greatest counts; but states only move forward, whatever the
//! clocks say: a member that left does not come back (a new joining is a new member), a revoked key stays revoked.
//! An eviction is a field of its own for each who evicts (`member/<id>/evicted/<by>`), so that nobody's word
//! replaces another's: which of them count is settled over all members at once, in [`membership`].

pub mod membership;

use std::collections::{BTreeMap, BTreeSet};

use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::{MemberId, parse_hex};

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
    /// An invitation, open until it is used or expires.
    Invite {
        /// The hash of its token.
        token: TokenHash,
        /// When.
        at: Hlc,
        /// By whom, and how long it stands.
        invite: Invite,
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
    /// The version of the program that it runs, for people.
    Version(String),
    /// What it can read that not every version can, by name.
    Features(BTreeSet<String>),
    /// The invitation by which it came.
    Invited(TokenHash),
    /// Another member's operator put it out. That one's first word on it counts: a later one keeps its HLC.
    Evicted {
        /// That member.
        by: MemberId,
        /// The key may be in strange hands: nothing more is taken from it.
        compromised: bool,
        /// Why, for people.
        words: String,
    },
}

/// The hash of an invitation's token. The token itself is known to who was invited, and to nobody here.
pub type TokenHash = [u8; 32];

/// An invitation to join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invite {
    /// The member whose operator made it.
    pub by: MemberId,
    /// Until when it may be used, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// How a member came: by which invitation, and when that was used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The hash of the invitation's token.
    pub token: TokenHash,
    /// When.
    pub at: Hlc,
}

/// One member's word that another is out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Eviction {
    /// When that was said first.
    pub at: Hlc,
    /// The member whose operator said so.
    pub by: MemberId,
    /// Its key may be in strange hands: nothing is taken from it, not even what only it has.
    pub compromised: bool,
    /// Why, for people.
    pub words: String,
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
    /// Where it stands, evictions and invitations considered. Joining, if nobody wrote it.
    pub state: MemberState,
    /// The version of the program that it runs.
    pub version: String,
    /// What it can read that not every version can, by name.
    pub features: BTreeSet<String>,
    /// How it came; none for those that their configurations list.
    pub admission: Option<Admission>,
    /// The eviction that counts. None for one that is evicted because another used its invitation.
    pub evicted: Option<Eviction>,
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
    /// When it came to be in that state.
    pub since: Hlc,
    /// When it was published.
    pub published: Hlc,
}

/// What the cluster's record says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClusterView {
    /// All that ever were.
    pub members: BTreeMap<MemberId, Member>,
    /// By `kid`.
    pub keys: BTreeMap<String, SigningKey>,
    /// By the hash of the token, used and expired ones too.
    pub invites: BTreeMap<TokenHash, Invite>,
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
            ClusterWrite::Member { id, field, .. } => match field {
                MemberField::Evicted { by, .. } if by == id => Err(DecodeError::malformed(
                    "eviction",
                    &"a member does not evict itself",
                )),
                MemberField::Evicted { by, .. } => Ok(format!("{MEMBER}{id}/{EVICTED}{by}")),
                field => Ok(format!("{MEMBER}{id}/{}", field.name())),
            },
            ClusterWrite::Key { kid, field, .. } => {
                name(kid, false)?;
                Ok(format!("{KEY}{kid}/{}", field.name()))
            }
            ClusterWrite::Invite { token, .. } => {
                let digits: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(format!("{INVITE}{digits}"))
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
            ClusterWrite::Invite { at, invite, .. } => (at, invite.value()),
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
            MemberField::Version(_) => "version",
            MemberField::Features(_) => "features",
            MemberField::Invited(_) => "invite",
            MemberField::Evicted { .. } => EVICTED,
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            MemberField::Name(text) | MemberField::Site(text) | MemberField::Version(text) => {
                text.clone().into_bytes()
            }
            MemberField::Invited(token) => token.to_vec(),
            MemberField::Evicted {
                compromised, words, ..
            } => {
                let mut bytes = vec![if *compromised { COMPROMISED } else { 0 }];
                bytes.extend_from_slice(words.as_bytes());
                bytes
            }
            MemberField::Key(key) | MemberField::NextKey(key) => key.clone(),
            MemberField::State(state) => vec![state.rank()],
            MemberField::Addresses(texts) => strings(texts),
            MemberField::Features(texts) => strings(texts),
        }
    }
}

fn strings<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    texts
        .into_iter()
        .for_each(|text| bytes.put_short(text.as_bytes()));
    bytes
}

/// A flag of an eviction's value. Others are for versions to come.
const COMPROMISED: u8 = 1;

impl Eviction {
    fn read(by: MemberId, at: Hlc, value: &[u8]) -> Result<Eviction, DecodeError> {
        let mut reader = Reader::new(WHAT, value);
        let flags = reader.u8()?;
        Ok(Eviction {
            at,
            by,
            compromised: flags & COMPROMISED != 0,
            words: text(reader.rest())?,
        })
    }
}

impl Invite {
    fn value(&self) -> Vec<u8> {
        let mut bytes = self.by.as_bytes().to_vec();
        bytes.extend_from_slice(&self.expires_ms.to_le_bytes());
        bytes
    }

    fn read(value: &[u8]) -> Result<Invite, DecodeError> {
        let mut reader = Reader::new(WHAT, value);
        let invite = Invite {
            by: MemberId::from_bytes(reader.array()?),
            expires_ms: reader.u64()?,
        };
        reader.end()?;
        Ok(invite)
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

/// Settles every field, and then where each member stands. What cannot be read is left out and counted.
pub(crate) fn resolve(fields: &[(String, Vec<Vec<u8>>)], changes: u32) -> ClusterView {
    let mut settling = Settling::default();
    settling.view.changes = changes;
    for (field, values) in fields {
        let mut known: Vec<(Hlc, &[u8])> = Vec::new();
        for bytes in values {
            match decode(bytes) {
                Ok(value) => known.push(value),
                Err(_) => settling.view.unreadable += 1,
            }
        }
        settling.view.latest = known
            .iter()
            .map(|(at, _)| *at)
            .fold(settling.view.latest, Hlc::max);
        if settling.field(field, known).is_err() {
            settling.view.unreadable += 1;
        }
    }
    settling.finish()
}

/// A record on its way to being a view.
#[derive(Default)]
struct Settling {
    view: ClusterView,
    next_keys: BTreeMap<MemberId, Vec<u8>>,
    evictions: Vec<(MemberId, Eviction)>,
}

impl Settling {
    /// Takes in a field's surviving values. A field that is not known here is left alone.
    fn field(&mut self, field: &str, mut known: Vec<(Hlc, &[u8])>) -> Result<(), DecodeError> {
        if let Some((id, field)) = field.strip_prefix(MEMBER).and_then(|rest| rest.split_once('/'))
            && let Some(by) = field.strip_prefix(EVICTED)
        {
            known.sort_unstable();
            return self.eviction(member_id(id)?, member_id(by)?, &known);
        }
        let winner = if only_forward(field) {
            known.into_iter().max_by_key(|(at, value)| (*value, *at))
        } else {
            known.into_iter().max()
        };
        match winner {
            Some((at, value)) => self.set(field, at, value),
            None => Ok(()),
        }
    }

    /// One member's word on another: said when it was first said, and compromised if it ever was.
    fn eviction(&mut self, id: MemberId, by: MemberId, known: &[(Hlc, &[u8])]) -> Result<(), DecodeError> {
        let said = known
            .iter()
            .map(|(at, value)| Eviction::read(by, *at, value))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        let compromised = said.iter().any(|eviction| eviction.compromised);
        if let Some(first) = said.into_iter().next() {
            let eviction = Eviction { compromised, ..first };
            self.evictions.push((id, eviction));
        }
        Ok(())
    }

    fn set(&mut self, field: &str, at: Hlc, value: &[u8]) -> Result<(), DecodeError> {
        if let Some(name) = field.strip_prefix(SETTING) {
            self.view.settings.insert(name.to_owned(), value.to_vec());
        } else if let Some(digits) = field.strip_prefix(INVITE) {
            let token = parse_hex(digits).map_err(|error| DecodeError::malformed(WHAT, &error))?;
            self.view.invites.insert(token, Invite::read(value)?);
        } else if let Some((id, field)) = field.strip_prefix(MEMBER).and_then(|rest| rest.split_once('/')) {
            let id = member_id(id)?;
            let member = self.view.members.entry(id).or_insert_with(|| Member::new(id));
            match field {
                "name" => member.name = text(value)?,
                "site" => member.site = text(value)?,
                "addresses" => member.addresses = read_strings(value)?,
                "key" => member.keys.insert(0, value.to_vec()),
                "next_key" if !value.is_empty() => drop(self.next_keys.insert(id, value.to_vec())),
                "version" => member.version = text(value)?,
                "features" => member.features = read_strings(value)?.into_iter().collect(),
                "invite" => {
                    let token = value
                        .try_into()
                        .map_err(|error| DecodeError::malformed(WHAT, &error))?;
                    member.admission = Some(Admission { token, at });
                }
                STATE => member.state = MemberState::from_rank(single(value)?)?,
                _ => {}
            }
        } else if let Some((kid, field)) = field.strip_prefix(KEY).and_then(|rest| rest.split_once('/')) {
            let key = self.view.keys.entry(kid.to_owned()).or_default();
            match field {
                "public" => (key.public, key.published) = (value.to_vec(), at),
                "use" => key.usage = text(value)?,
                "member" => {
                    let id = value
                        .try_into()
                        .map_err(|error| DecodeError::malformed(WHAT, &error))?;
                    key.member = Some(MemberId::from_bytes(id));
                }
                STATE => (key.state, key.since) = (KeyState::from_rank(single(value)?)?, at),
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(mut self) -> ClusterView {
        for (id, key) in self.next_keys {
            if let Some(member) = self.view.members.get_mut(&id) {
                member.keys.push(key);
            }
        }
        membership::settle(&mut self.view.members, self.evictions);
        self.view
    }
}

impl ClusterView {
    /// Whether a feature was finalised: every member could read what it writes, and an operator said that there is
    /// no going back behind it. Until then nothing of it may be written.
    pub fn finalised(&self, feature: &str) -> bool {
        self.settings.contains_key(&feature_setting(feature))
    }

    /// All that were.
    pub fn all_finalised(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().filter_map(|name| name.strip_prefix(FEATURE))
    }
}

/// The setting that says that a feature is finalised.
pub fn feature_setting(feature: &str) -> String {
    format!("{FEATURE}{feature}")
}

const FEATURE: &str = "feature/";

impl Member {
    pub(crate) fn new(id: MemberId) -> Member {
        Member {
            id,
            name: String::new(),
            site: String::new(),
            addresses: Vec::new(),
            keys: Vec::new(),
            state: MemberState::default(),
            version: String::new(),
            features: BTreeSet::new(),
            admission: None,
            evicted: None,
        }
    }

    /// Whether it is out, of its own accord or not.
    pub fn is_out(&self) -> bool {
        matches!(self.state, MemberState::Left | MemberState::Evicted)
    }

    /// Whether its key may be in strange hands: nothing is taken from it.
    pub fn is_compromised(&self) -> bool {
        self.evicted.as_ref().is_some_and(|eviction| eviction.compromised)
    }
}

fn member_id(digits: &str) -> Result<MemberId, DecodeError> {
    digits
        .parse()
        .map_err(|error| DecodeError::malformed(WHAT, &error))
}

fn text(value: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(value.to_vec()).map_err(|error| DecodeError::malformed(WHAT, &error))
}

fn read_strings(value: &[u8]) -> Result<Vec<String>, DecodeError> {
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
const INVITE: &str = "invite/";
const SETTING: &str = "setting/";
const STATE: &str = "state";
/// Of a member, followed by who says so.
const EVICTED: &str = "evicted/";
/// The first byte of every value of a field.
const FORMAT: u8 = 1;
