//! Who belongs to the cluster, and the key by which each member is known.
//!
//! Trust is a pinned public key. A certificate is only the form in which TLS carries it: self-signed, its name and
//! dates meaning nothing.

use crdt::{ClusterView, ClusterWrite, MemberField, MemberState};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};

use crate::{
    config::SiteConfig,
    store::{ReadError, Records, Store, TransactError},
};

/// A member's identity, newly made.
pub struct MadeIdentity {
    /// Certificate and private key, to be kept by the member alone.
    pub pem: String,
    /// DER of the public key, for the others to pin.
    pub public_key: Vec<u8>,
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make a key and certificate: {0}")]
pub struct IdentityError(#[from] rcgen::Error);

/// Makes a P-256 key and a certificate around it.
pub fn make_identity(name: &str) -> Result<MadeIdentity, IdentityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.self_signed(&key)?;
    let pem = format!("{}{}", certificate.pem(), key.serialize_pem());
    Ok(MadeIdentity {
        pem,
        public_key: key.subject_public_key_info(),
    })
}

/// Why the cluster record could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// The store could not read.
    #[error("the cluster record cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The store could not write.
    #[error("the cluster record cannot be written: {0}")]
    Write(#[from] TransactError),
}

/// The members as this site sees them: those of the cluster record, and those that only its configuration lists,
/// so that the first start of a world, with an empty record, can begin.
pub fn effective(
    config: &SiteConfig,
    store: &Store,
) -> Result<Vec<gossip::quic::MemberConfig>, MembersError> {
    Ok(listed(config, store.read(|records| records.cluster())??))
}

/// The same, to start with. One shared cause must not keep every site from starting: while the cluster record cannot
/// be read, the configured members stand in for it.
pub fn effective_at_start(
    config: &SiteConfig,
    store: &Store,
) -> Result<Vec<gossip::quic::MemberConfig>, MembersError> {
    match effective(config, store) {
        Err(MembersError::Read(error @ (ReadError::Quarantined { .. } | ReadError::Corrupt(_)))) => {
            tracing::error!(%error, "the cluster record cannot be read here; the configured members stand in for it");
            Ok(listed(config, ClusterView::default()))
        }
        other => other,
    }
}

fn listed(config: &SiteConfig, cluster: ClusterView) -> Vec<gossip::quic::MemberConfig> {
    let mut members = cluster.members;
    for listed in &config.members {
        let entry = members.entry(listed.id.0).or_insert_with(|| crdt::Member {
            id: listed.id.0,
            name: listed.name.clone(),
            site: listed.site.clone(),
            addresses: Vec::new(),
            keys: vec![listed.public_key.clone()],
            state: MemberState::Active,
        });
        // An address may have moved since the record was written here; both are tried.
        for address in &listed.addresses {
            if !entry.addresses.contains(address) {
                entry.addresses.push(address.clone());
            }
        }
    }
    let member = |member: crdt::Member| gossip::quic::MemberConfig {
        peer: gossip::Peer {
            id: gossip::MemberId(*member.id.as_bytes()),
            name: member.name,
            site: member.site,
            state: match member.state {
                MemberState::Joining => gossip::PeerState::Joining,
                MemberState::Active => gossip::PeerState::Active,
                MemberState::Leaving => gossip::PeerState::Leaving,
                MemberState::Left => gossip::PeerState::Left,
                MemberState::Evicted => gossip::PeerState::Evicted,
            },
        },
        addresses: member.addresses,
        keys: member.keys,
    };
    members.into_values().map(member).collect()
}

/// Writes this member's own entry as its configuration has it, if the record says otherwise. True if it wrote.
pub async fn register(config: &SiteConfig, store: &Store) -> Result<bool, MembersError> {
    let Some(own) = config.own().cloned() else {
        return Ok(false);
    };
    let up_to_date = |cluster: &ClusterView| {
        cluster.members.get(&own.id.0).is_some_and(|member| {
            member.name == own.name
                && member.site == own.site
                && member.addresses == own.addresses
                && member.keys.contains(&own.public_key)
        })
    };
    if up_to_date(&store.read(|records| records.cluster())??) {
        return Ok(false);
    }
    let written = store
        .transact(move |txn| -> Result<(), TransactError> {
            let cluster = txn.cluster()?;
            let known = cluster.members.get(&own.id.0);
            let at = txn.stamp_past(cluster.latest);
            let mut fields = vec![
                MemberField::Name(own.name),
                MemberField::Site(own.site),
                MemberField::Addresses(own.addresses),
            ];
            if !known.is_some_and(|member| member.keys.contains(&own.public_key)) {
                fields.push(MemberField::Key(own.public_key));
            }
            if known.is_none() {
                fields.push(MemberField::State(MemberState::Active));
            }
            for field in fields {
                txn.write_cluster(ClusterWrite::Member {
                    id: own.id.0,
                    at,
                    field,
                });
            }
            Ok(())
        })
        .await?;
    Ok(written.dot.is_some())
}
