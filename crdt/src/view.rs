//! What a record says, in a small encoded form.
//!
//! Reads on the way of a sign-in never touch Automerge: each commit writes the view of every record that it
//! changed, holding only what that record says. Decoding costs a few loads and the vectors it fills. A view
//! can always be made again from its document, so a format here may simply be replaced: what has another
//! format byte is refused, and rebuilt.

use crate::account::{AccountView, Epoch, Password};
use crate::cluster::{Admission, ClusterView, Eviction, Invite, KeyState, Member, MemberState, SigningKey};
use crate::email::{Claim, EmailView, Released, UsedAs};
use crate::format::{DecodeError, Put, Reader};
use crate::hlc::Hlc;
use crate::id::{MemberId, VaultId};

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum View {
    /// Of an account.
    Account(AccountView),
    /// Of an email address.
    Email(EmailView),
    /// Of the cluster.
    Cluster(ClusterView),
}

impl View {
    /// How many surviving values could not be read and were left out. While there are any, the record is not
    /// to be served, and nothing that it may name is to be erased.
    pub fn unreadable(&self) -> u32 {
        match self {
            View::Account(view) => view.unreadable,
            View::Email(view) => view.unreadable,
            View::Cluster(view) => view.unreadable,
        }
    }

    /// How many changes the record has had.
    pub fn changes(&self) -> u32 {
        match self {
            View::Account(view) => view.changes,
            View::Email(view) => view.changes,
            View::Cluster(view) => view.changes,
        }
    }

    /// The form that is stored.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            View::Account(view) => view.encode(),
            View::Email(view) => view.encode(),
            View::Cluster(view) => view.encode(),
        }
    }
}

const ACCOUNT_FORMAT: u8 = 1;
const CREATED: u8 = 1;
const PASSWORD: u8 = 2;
const CANCELLED: u8 = 4;

impl AccountView {
    /// The form that is stored: a flag for each part that may be absent, then the parts.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80 + VaultId::LEN * self.named.len());
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.created.is_some(), CREATED)
            | flag(self.password.is_some(), PASSWORD)
            | flag(self.cancelled, CANCELLED);
        bytes.extend_from_slice(&[ACCOUNT_FORMAT, flags]);
        bytes.put_u32(self.changes);
        bytes.put_u32(self.unreadable);
        self.epoch.put(&mut bytes);
        if let Some(created) = self.created {
            bytes.put_hlc(created);
        }
        if let Some(password) = self.password {
            password.put(&mut bytes);
        }
        self.named
            .iter()
            .for_each(|id| bytes.extend_from_slice(id.as_bytes()));
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<AccountView, DecodeError> {
        let mut reader = Reader::with_format("account view", ACCOUNT_FORMAT, bytes)?;
        let flags = reader.u8()?;
        if flags & !(CREATED | PASSWORD | CANCELLED) != 0 {
            return Err(DecodeError::malformed("account view", &"an unknown flag is set"));
        }
        let (changes, unreadable, epoch) = (reader.u32()?, reader.u32()?, Epoch::read(&mut reader)?);
        let created = if flags & CREATED == 0 {
            None
        } else {
            Some(reader.hlc()?)
        };
        let password = if flags & PASSWORD == 0 {
            None
        } else {
            Some(Password::read(&mut reader)?)
        };
        let (ids, []) = reader.rest().as_chunks::<{ VaultId::LEN }>() else {
            return Err(DecodeError::Trailing("account view"));
        };
        Ok(AccountView {
            created,
            password,
            named: ids.iter().copied().map(VaultId::from_bytes).collect(),
            epoch,
            cancelled: flags & CANCELLED != 0,
            changes,
            unreadable,
        })
    }
}

const EMAIL_FORMAT: u8 = 1;
/// The least that a claim or a release takes, in bytes: a count cannot make us reserve more than is there.
const ENTRY_BYTES_MIN: usize = 31;

impl EmailView {
    /// The form that is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + 56 * self.claims.len() + 32 * self.released.len());
        bytes.push(EMAIL_FORMAT);
        bytes.put_u32(self.changes);
        bytes.put_u32(self.unreadable);
        match self.used_as {
            None => bytes.push(0),
            Some((used_as, at)) => {
                bytes.push(used_as.number());
                bytes.put_hlc(at);
            }
        }
        bytes.put_u32(u32::try_from(self.claims.len()).unwrap_or(u32::MAX));
        self.claims.iter().for_each(|claim| claim.put(&mut bytes));
        bytes.put_u32(u32::try_from(self.released.len()).unwrap_or(u32::MAX));
        self.released.iter().for_each(|released| released.put(&mut bytes));
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<EmailView, DecodeError> {
        let mut reader = Reader::with_format("email view", EMAIL_FORMAT, bytes)?;
        let (changes, unreadable) = (reader.u32()?, reader.u32()?);
        let used_as = match reader.u8()? {
            0 => None,
            number => Some((UsedAs::from_number(number)?, reader.hlc()?)),
        };
        let claims = read_list(&mut reader, ENTRY_BYTES_MIN, Claim::read)?;
        let released = read_list(&mut reader, ENTRY_BYTES_MIN, Released::read)?;
        reader.end()?;
        Ok(EmailView {
            claims,
            released,
            used_as,
            changes,
            unreadable,
        })
    }
}

/// Members that their configurations list, and nothing else of them.
const CLUSTER_FORMAT_1: u8 = 1;
/// Adds invitations, and of each member version, features, how it came and how it was put out.
const CLUSTER_FORMAT_2: u8 = 2;
/// Adds of each signing key when it was published, and since when it is in its state.
const CLUSTER_FORMAT: u8 = 3;
const ADMITTED: u8 = 1;
const EVICTED: u8 = 2;
const COMPROMISED: u8 = 4;

impl ClusterView {
    /// The form that is stored: the first one while it can say all, so that the version before can still read it.
    pub fn encode(&self) -> Vec<u8> {
        let format = if !self.keys.is_empty() {
            CLUSTER_FORMAT
        } else if self.invites.is_empty() && self.members.values().all(Member::fits_format_1) {
            CLUSTER_FORMAT_1
        } else {
            CLUSTER_FORMAT_2
        };
        let mut bytes = vec![format];
        bytes.put_u32(self.changes);
        bytes.put_u32(self.unreadable);
        bytes.put_hlc(self.latest);
        put_list(&mut bytes, self.members.values(), |bytes, member| {
            bytes.extend_from_slice(member.id.as_bytes());
            bytes.push(member.state.rank());
            bytes.put_short(member.name.as_bytes());
            bytes.put_short(member.site.as_bytes());
            put_list(bytes, member.addresses.iter(), |bytes, address| {
                bytes.put_short(address.as_bytes());
            });
            put_list(bytes, member.keys.iter(), |bytes, key| bytes.put_short(key));
            if format >= CLUSTER_FORMAT_2 {
                member.put_rest(bytes);
            }
        });
        put_list(&mut bytes, self.keys.iter(), |bytes, (kid, key)| {
            bytes.put_short(kid.as_bytes());
            bytes.push(key.state.rank());
            bytes.put_short(&key.public);
            bytes.put_short(key.usage.as_bytes());
            bytes.put_short(key.member.as_ref().map_or(&[][..], |id| id.as_bytes()));
            if format >= CLUSTER_FORMAT {
                bytes.put_hlc(key.since);
                bytes.put_hlc(key.published);
            }
        });
        put_list(&mut bytes, self.settings.iter(), |bytes, (name, value)| {
            bytes.put_short(name.as_bytes());
            bytes.put_short(value);
        });
        if format >= CLUSTER_FORMAT_2 {
            put_list(&mut bytes, self.invites.iter(), |bytes, (token, invite)| {
                bytes.extend_from_slice(token);
                bytes.extend_from_slice(invite.by.as_bytes());
                bytes.extend_from_slice(&invite.expires_ms.to_le_bytes());
            });
        }
        bytes
    }

    /// The other way.
    pub fn decode(bytes: &[u8]) -> Result<ClusterView, DecodeError> {
        let mut reader = Reader::new("cluster view", bytes);
        let format = reader.u8()?;
        if ![CLUSTER_FORMAT_1, CLUSTER_FORMAT_2, CLUSTER_FORMAT].contains(&format) {
            return Err(DecodeError::UnknownFormat {
                what: "cluster view",
                format,
            });
        }
        let (changes, unreadable, latest) = (reader.u32()?, reader.u32()?, reader.hlc()?);
        let members = read_list(&mut reader, 8, |reader| {
            let mut member = Member::new(MemberId::from_bytes(reader.array()?));
            member.state = MemberState::from_rank(reader.u8()?)?;
            member.name = reader.short_string()?;
            member.site = reader.short_string()?;
            member.addresses = read_list(reader, 2, read_text)?;
            member.keys = read_list(reader, 2, |reader| reader.short_bytes().map(<[u8]>::to_vec))?;
            if format >= CLUSTER_FORMAT_2 {
                member.read_rest(reader)?;
            }
            Ok((member.id, member))
        })?;
        let keys = read_list(&mut reader, 8, |reader| {
            let kid = reader.short_string()?;
            let state = KeyState::from_rank(reader.u8()?)?;
            let public = reader.short_bytes()?.to_vec();
            let usage = reader.short_string()?;
            let member = reader.short_bytes()?.try_into().ok().map(MemberId::from_bytes);
            // No earlier version published a key: what would be without times is nobody's.
            let (since, published) = if format >= CLUSTER_FORMAT {
                (reader.hlc()?, reader.hlc()?)
            } else {
                (Hlc::ZERO, Hlc::ZERO)
            };
            Ok((
                kid,
                SigningKey {
                    public,
                    usage,
                    member,
                    state,
                    since,
                    published,
                },
            ))
        })?;
        let settings = read_list(&mut reader, 4, |reader| {
            Ok((reader.short_string()?, reader.short_bytes()?.to_vec()))
        })?;
        let invites = if format >= CLUSTER_FORMAT_2 {
            read_list(&mut reader, 48, |reader| {
                let token = reader.array()?;
                let by = MemberId::from_bytes(reader.array()?);
                let expires_ms = reader.u64()?;
                Ok((token, Invite { by, expires_ms }))
            })?
        } else {
            Vec::new()
        };
        reader.end()?;
        Ok(ClusterView {
            members: members.into_iter().collect(),
            keys: keys.into_iter().collect(),
            invites: invites.into_iter().collect(),
            settings: settings.into_iter().collect(),
            changes,
            latest,
            unreadable,
        })
    }
}

impl Member {
    fn fits_format_1(&self) -> bool {
        self.version.is_empty()
            && self.features.is_empty()
            && self.admission.is_none()
            && self.evicted.is_none()
    }

    /// What format 2 adds.
    fn put_rest(&self, bytes: &mut Vec<u8>) {
        bytes.put_short(self.version.as_bytes());
        put_list(bytes, self.features.iter(), |bytes, feature| {
            bytes.put_short(feature.as_bytes());
        });
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        bytes.push(
            flag(self.admission.is_some(), ADMITTED)
                | flag(self.evicted.is_some(), EVICTED)
                | flag(self.is_compromised(), COMPROMISED),
        );
        if let Some(admission) = &self.admission {
            bytes.extend_from_slice(&admission.token);
            bytes.put_hlc(admission.at);
        }
        if let Some(eviction) = &self.evicted {
            bytes.put_hlc(eviction.at);
            bytes.extend_from_slice(eviction.by.as_bytes());
            bytes.put_short(eviction.words.as_bytes());
        }
    }

    fn read_rest(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.version = reader.short_string()?;
        self.features = read_list(reader, 2, read_text)?.into_iter().collect();
        let flags = reader.u8()?;
        if flags & !(ADMITTED | EVICTED | COMPROMISED) != 0 {
            return Err(DecodeError::malformed("cluster view", &"an unknown flag is set"));
        }
        if flags & ADMITTED != 0 {
            let (token, at) = (reader.array()?, reader.hlc()?);
            self.admission = Some(Admission { token, at });
        }
        if flags & EVICTED != 0 {
            self.evicted = Some(Eviction {
                at: reader.hlc()?,
                by: MemberId::from_bytes(reader.array()?),
                compromised: flags & COMPROMISED != 0,
                words: reader.short_string()?,
            });
        }
        Ok(())
    }
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    reader.short_string()
}

fn put_list<T>(
    bytes: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) {
    bytes.put_u32(u32::try_from(items.len()).unwrap_or(u32::MAX));
    items.for_each(|item| put(bytes, item));
}

/// A list behind its count. Reserves no more than the bytes at hand could hold.
fn read_list<T>(
    reader: &mut Reader<'_>,
    item_bytes_min: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.u32()? as usize;
    let mut list = Vec::with_capacity(count.min(reader.len() / item_bytes_min));
    for _ in 0..count {
        list.push(read(reader)?);
    }
    Ok(list)
}
