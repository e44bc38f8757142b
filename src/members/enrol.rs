//! How whoever holds an invitation becomes a member.
//!
//! One request and one answer, over a TLS connection whose ends do not know each other's keys yet. Both prove that
//! they know the hash of the token, by a keyed hash over what that connection alone has (its exported secret, both
//! public keys), which of the two they are, and what they say. So nobody in between learns or changes anything, and
//! neither a recorded request nor another connection's proof is worth anything.
//!
//! Both are CBOR maps of `body` and `proof`. `body` is a CBOR map again (unknown fields are left alone): a request's
//! `cluster`, `fingerprints`, `name`, `site`, `addresses`, `version`, `features`; an answer's `Welcome` {`member`,
//! `members`} or `Refused` {`words`}. `proof` is BLAKE3 keyed with the token's hash over the role's name and then, each
//! behind its length in 8 bytes, little-endian: binding, newcomer's key, member's key, `body`.
//!
//! The member that answers writes the newcomer down, as joining, in the same transaction that uses the invitation
//! up; it answers only then. Asked again by the same newcomer (the answer was lost), it gives the same answer, whatever
//! invitation it is asked by. Asked again of another member, which has not heard of that, the newcomer may become two
//! entries: the first use of the invitation counts, and the newcomer finds out which of the two it is by asking once more.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{ClusterView, MemberField, MemberId, MemberState, TokenHash};
use gossip::{Dot, quic::Identity as GossipIdentity};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};

use super::{
    features,
    own::MemberFile,
    record,
    token::{Invitation, Token},
};
use crate::{
    config::{Member, MemberConfig, SiteConfig},
    store::{ReadError, Records, Store, TransactError, Txn},
};

/// A request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// An answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A member's name or site, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Addresses of a member.
pub const ADDRESSES_MAX: usize = 8;
/// One of them, in bytes: a name of the DNS, and a port.
const ADDRESS_BYTES_MAX: usize = 253 + 6;
/// Features that a newcomer may name.
const FEATURES_MAX: usize = 64;
/// Of what a stranger's refusal is shown, in characters.
const SHOWN_CHARS_MAX: usize = 300;

/// What all members must have in common: a newcomer with other keys would find nobody's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The cluster.
    pub cluster: [u8; 16],
    /// Of its keys and rules, by name.
    pub fingerprints: BTreeMap<String, [u8; 8]>,
}

/// The connection that both ends prove themselves on.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What its two ends alone can derive.
    pub binding: [u8; 32],
    /// The newcomer's public key (SPKI, DER).
    pub newcomer: Vec<u8>,
    /// That of the member it asks.
    pub member: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Role {
    Newcomer,
    Member,
}

impl Channel {
    fn proof(&self, token: &TokenHash, role: Role, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(token);
        hasher.update(match role {
            Role::Newcomer => b"persona enrol 1: newcomer",
            Role::Member => b"persona enrol 1: member..",
        });
        for part in [&self.binding, self.newcomer.as_slice(), &self.member, body] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize()
    }

    /// Compares in constant time, as `blake3::Hash` does.
    fn proves(&self, token: &TokenHash, role: Role, sealed: &Sealed) -> bool {
        self.proof(token, role, &sealed.body) == *sealed.proof
    }

    fn seal(&self, token: Option<&TokenHash>, role: Role, body: Vec<u8>) -> Vec<u8> {
        // Where no token is known there is nothing to prove with.
        let proof = token.map_or([0; 32], |token| *self.proof(token, role, &body).as_bytes());
        to_cbor(&Sealed {
            body: ByteBuf::from(body),
            proof: ByteArray::new(proof),
        })
    }
}

/// What is said, and the proof of who says it.
#[derive(Deserialize, Serialize)]
struct Sealed {
    body: ByteBuf,
    proof: ByteArray<32>,
}

/// What a newcomer says. Unknown fields are left alone.
#[derive(Deserialize, Serialize)]
struct Request {
    cluster: ByteArray<16>,
    fingerprints: BTreeMap<String, ByteArray<8>>,
    name: String,
    site: String,
    addresses: Vec<String>,
    version: String,
    features: Vec<String>,
}

/// What it is told.
#[derive(Deserialize, Serialize)]
enum Answer {
    /// It is a member now.
    Welcome {
        member: Member,
        members: Vec<MemberConfig>,
    },
    /// It is not, and why.
    Refused { words: String },
}

fn to_cbor(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Into memory, of types that always serialize.
    let _ = ciborium::into_writer(value, &mut bytes);
    bytes
}

fn from_cbor<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    const DEPTH_MAX: usize = 16;
    ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX).ok()
}

/// Why a newcomer is not let in. If the token was known, the refusal is proven too.
struct Refusal {
    words: String,
    token: Option<TokenHash>,
}

impl From<TransactError> for Refusal {
    fn from(error: TransactError) -> Refusal {
        Refusal {
            words: format!("nothing can be written here now: {error}; ask another member"),
            token: None,
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        TransactError::from(error).into()
    }
}

/// Answers a newcomer's request. The dot, if something was written, is to be durable before the answer leaves.
pub async fn admit(
    own: MemberId,
    common: &Common,
    store: &Store,
    channel: Channel,
    request: &[u8],
) -> (Vec<u8>, Option<Dot>) {
    let refuse = |refusal: Refusal| {
        let answer = Answer::Refused { words: refusal.words };
        channel.seal(refusal.token.as_ref(), Role::Member, to_cbor(&answer))
    };
    let sealed: Option<Sealed> = Some(request)
        .filter(|request| request.len() <= REQUEST_BYTES_MAX)
        .and_then(from_cbor);
    let Some(sealed) = sealed else {
        let words = "the request makes no sense here: is one of the two of another version?".to_owned();
        return (refuse(Refusal { words, token: None }), None);
    };
    let (common, at_channel) = (common.clone(), channel.clone());
    let admitted = store
        .transact(move |txn| enter(txn, own, &common, &at_channel, &sealed))
        .await;
    match admitted {
        Ok(admitted) => {
            let (token, answer) = &admitted.value;
            let answer = channel.seal(Some(token), Role::Member, to_cbor(answer));
            (answer, admitted.dot)
        }
        Err(refusal) => (refuse(refusal), None),
    }
}

/// Writes the newcomer down, or says why not.
fn enter(
    txn: &mut Txn<'_>,
    own: MemberId,
    common: &Common,
    channel: &Channel,
    sealed: &Sealed,
) -> Result<(TokenHash, Answer), Refusal> {
    let cluster = txn.cluster()?;
    let invited = cluster
        .invites
        .iter()
        .find(|(token, _)| channel.proves(token, Role::Newcomer, sealed));
    let Some((&token, invite)) = invited else {
        let words =
            "this invitation is not known here: ask the member that made it, or make another".to_owned();
        return Err(Refusal { words, token: None });
    };
    let refuse = |words: String| Refusal {
        words,
        token: Some(token),
    };
    if cluster.members.get(&own).map(|member| member.state) != Some(MemberState::Active) {
        return Err(refuse("this member is not active itself: ask another".into()));
    }
    let request: Request =
        from_cbor(&sealed.body).ok_or_else(|| refuse("the request makes no sense here".into()))?;
    check_common(&request, common).map_err(refuse)?;
    check_words(&request.name, &request.site, &request.addresses).map_err(refuse)?;
    if request.features.len() > FEATURES_MAX {
        return Err(refuse(format!("it names over {FEATURES_MAX} features")));
    }
    let features: BTreeSet<String> = request.features.into_iter().collect();
    let lacked = features::lacked(&cluster, &features);
    if !lacked.is_empty() {
        return Err(refuse(format!(
            "its version cannot read what was finalised here ({}): update it first",
            lacked.join(", ")
        )));
    }
    // By the same name: two sites that share a key by mistake are not to be one member.
    let is_again = |member: &&crdt::Member| {
        member.state == MemberState::Joining
            && member.keys.contains(&channel.newcomer)
            && (&member.name, &member.site) == (&request.name, &request.site)
    };
    if let Some(member) = cluster.members.values().find(is_again) {
        return Ok((token, welcome(member.id, &cluster)));
    }
    let by_token = |member: &&crdt::Member| member.admission.is_some_and(|by| by.token == token);
    if let Some(member) = cluster.members.values().find(by_token) {
        return Err(refuse(format!("the invitation was used by {}", member.name)));
    }
    if invite.expires_ms <= txn.now_ms() {
        return Err(refuse("the invitation has expired".into()));
    }
    let former = key_is_free(&cluster, &channel.newcomer).map_err(refuse)?;
    let has_name = |member: &&crdt::Member| !member.is_out() && member.name == request.name;
    if cluster.members.values().any(|member| has_name(&member)) {
        return Err(refuse(format!(
            "a member is called {} already: choose another `name`",
            request.name
        )));
    }
    let id = MemberId::from_bytes(txn.random()[..8].try_into().unwrap_or_default());
    let at = txn.stamp_past(cluster.latest);
    let fields = vec![
        MemberField::Name(request.name),
        MemberField::Site(request.site),
        MemberField::Addresses(request.addresses),
        MemberField::Version(request.version),
        MemberField::Features(features),
        MemberField::Key(channel.newcomer.clone()),
        MemberField::Invited(token),
        MemberField::State(MemberState::Joining),
    ];
    record::write_member(txn, id, at, fields);
    // Its life before has ended, whatever becomes of the evictions that ended it.
    for former in former {
        record::write_member(txn, former, at, vec![MemberField::State(MemberState::Left)]);
    }
    Ok((token, welcome(id, &cluster)))
}

/// Nobody who is in may have the key, nor anyone who was put out as compromised. Gives the former lives of who comes
/// back with it.
fn key_is_free(cluster: &ClusterView, key: &Vec<u8>) -> Result<Vec<MemberId>, String> {
    let holders: Vec<&crdt::Member> = cluster
        .members
        .values()
        .filter(|member| member.keys.contains(key))
        .collect();
    if holders.iter().any(|member| member.is_compromised()) {
        return Err("this key was put out as compromised: make a new one with `persona identity`".to_owned());
    }
    if let Some(member) = holders.iter().find(|member| !member.is_out()) {
        return Err(format!(
            "{} has this key, and is {}: start it without an invitation, or make another key",
            member.name,
            super::state_name(member.state)
        ));
    }
    Ok(holders
        .iter()
        .filter(|member| member.evicted.is_some())
        .map(|member| member.id)
        .collect())
}

fn check_common(request: &Request, common: &Common) -> Result<(), String> {
    if *request.cluster != common.cluster {
        return Err("it is of another cluster: `cluster.id` differs".to_owned());
    }
    for (name, ours) in &common.fingerprints {
        if request.fingerprints.get(name).map(|theirs| **theirs) != Some(*ours) {
            return Err(format!(
                "the {name} differs: `[cluster]` must be the same at every site"
            ));
        }
    }
    Ok(())
}

/// Sees that a name, a site and addresses can be shown and dialled.
pub fn check_words(name: &str, site: &str, addresses: &[String]) -> Result<(), String> {
    for (what, text) in [("name", name), ("site", site)] {
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!(
                "its {what} should have 1 to {NAME_BYTES_MAX} bytes, and no spaces"
            ));
        }
    }
    if !(1..=ADDRESSES_MAX).contains(&addresses.len()) {
        return Err(format!("it should have 1 to {ADDRESSES_MAX} addresses"));
    }
    for address in addresses {
        let port = address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u16>().ok());
        let odd = address.chars().any(|c| c.is_control() || c.is_whitespace());
        if address.len() > ADDRESS_BYTES_MAX || odd || port.is_none() {
            return Err("each of its addresses should be `host:port`".to_owned());
        }
    }
    Ok(())
}

fn welcome(id: MemberId, cluster: &ClusterView) -> Answer {
    let listed = |member: &crdt::Member| {
        Some(MemberConfig {
            id: Member(member.id),
            name: member.name.clone(),
            site: member.site.clone(),
            addresses: member.addresses.clone(),
            public_key: member.keys.first()?.clone(),
        })
    };
    let counts = |member: &&crdt::Member| matches!(member.state, MemberState::Active | MemberState::Leaving);
    Answer::Welcome {
        member: Member(id),
        members: cluster
            .members
            .values()
            .filter(counts)
            .filter_map(listed)
            .collect(),
    }
}

/// Why this is no member now.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody was reached, or nobody answered.
    #[error("could not ask to be let in: {0}")]
    Unreached(#[from] gossip::quic::EnrolError),
    /// A member said no.
    #[error("{address} does not let this site in: {words}")]
    Refused {
        /// Where.
        address: String,
        /// As it says.
        words: String,
    },
    /// Whoever answered did not prove to know the invitation.
    #[error(
        "whoever answers at {address} did not prove to be of the cluster{}",
        if .words.is_empty() { String::new() } else { format!(" (and says: {})", .words) }
    )]
    Stranger {
        /// Where.
        address: String,
        /// What it says, whatever that is worth.
        words: String,
    },
    /// What this site would say of itself.
    #[error("this site's configuration: {0}")]
    Words(String),
}

/// What a newcomer asks.
pub fn request(config: &SiteConfig, common: &Common, token: &Token, channel: &Channel) -> Vec<u8> {
    request_with(config, common, token, channel, features::known())
}

/// The same of a build that can this.
fn request_with(
    config: &SiteConfig,
    common: &Common,
    token: &Token,
    channel: &Channel,
    features: BTreeSet<String>,
) -> Vec<u8> {
    let fingerprints = common.fingerprints.iter();
    let request = Request {
        cluster: ByteArray::new(common.cluster),
        fingerprints: fingerprints
            .map(|(name, bytes)| (name.clone(), ByteArray::new(*bytes)))
            .collect(),
        name: config.own_name().to_owned(),
        site: config.site.clone(),
        addresses: config.own_addresses().to_vec(),
        version: record::VERSION.to_owned(),
        features: features.into_iter().collect(),
    };
    channel.seal(Some(&token.hash()), Role::Newcomer, to_cbor(&request))
}

/// What a newcomer takes an answer for.
pub fn read_answer(
    invitation: &Invitation,
    channel: &Channel,
    answer: &[u8],
) -> Result<MemberFile, JoinError> {
    let address = invitation.address.clone();
    let stranger = |words| JoinError::Stranger {
        address: address.clone(),
        words,
    };
    let sealed: Option<Sealed> = Some(answer)
        .filter(|answer| answer.len() <= ANSWER_BYTES_MAX)
        .and_then(from_cbor);
    let sealed = sealed.ok_or_else(|| stranger(String::new()))?;
    let token = &invitation.token;
    let is_proven = channel.proves(&token.hash(), Role::Member, &sealed);
    match from_cbor(&sealed.body) {
        Some(Answer::Welcome { member, members }) if is_proven => Ok(MemberFile {
            member,
            founder: false,
            arriving: true,
            members,
        }),
        Some(Answer::Refused { words }) => {
            let words = shown(&words);
            // The inviter's own key speaks for itself: one that knows the token no more can prove nothing else.
            if is_proven || token.is_by(&channel.member) {
                Err(JoinError::Refused { address, words })
            } else {
                Err(stranger(words))
            }
        }
        _ => Err(stranger(String::new())),
    }
}

/// What somebody else's words may look like in a terminal.
fn shown(words: &str) -> String {
    let tame = words.chars().filter(|c| !c.is_control());
    tame.take(SHOWN_CHARS_MAX).collect()
}

/// Asks to be let in. What comes back is to be kept in the data directory.
pub async fn join(
    config: &SiteConfig,
    common: &Common,
    identity: &GossipIdentity,
    invitation: &Invitation,
) -> Result<MemberFile, JoinError> {
    check_words(config.own_name(), &config.site, config.own_addresses()).map_err(JoinError::Words)?;
    let mut channel = None;
    let ask = |binding: [u8; 32], member: &[u8]| {
        let channel = channel.insert(Channel {
            binding,
            newcomer: identity.public_key().to_vec(),
            member: member.to_vec(),
        });
        request(config, common, &invitation.token, channel)
    };
    let (answer, _) = gossip::quic::enrol(&invitation.address, identity, ask).await?;
    match channel {
        Some(channel) => read_answer(invitation, &channel, &answer),
        // An answer to nothing.
        None => Err(JoinError::Stranger {
            address: invitation.address.clone(),
            words: String::new(),
        }),
    }
}

/// A new token of the member with this key.
pub fn new_token(own_key: &[u8]) -> Token {
    Token::new(rand::rng().random(), own_key)
}

#[cfg(test)]
mod tests;
