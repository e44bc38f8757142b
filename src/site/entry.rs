//! Which member a site is when it starts, whether it is one, and how it is let in.

use crdt::{ClusterView, MemberState};

use super::SiteError;
use crate::{
    config::{SiteConfig, hex},
    identity::{IndexKey, NORMALISATION},
    members::{
        IdentityError, MembersError,
        enrol::{self, Common},
        identity::Keys,
        own::{MemberFile, Own},
        token::Invitation,
    },
    store::{BackupOwner, Beginning, Store, TransactError},
};

/// Has this site let in, if it holds an invitation and is no member. Gives what its data directory says then.
pub(super) async fn let_in(
    config: &SiteConfig,
    common: &Common,
    keys: &Keys,
    store: &Store,
    cluster: &ClusterView,
    file: Option<MemberFile>,
    invitation: Option<Invitation>,
) -> Result<Option<MemberFile>, SiteError> {
    let Some(invitation) = invitation else {
        return Ok(file);
    };
    let own = Own::find(config, file.as_ref()).ok();
    let known = own.as_ref().and_then(|own| cluster.members.get(&own.id));
    let state = known
        .map(|known| known.state)
        .or(own.as_ref().map(|own| own.begins));
    if let (Some(own), Some(MemberState::Active | MemberState::Leaving)) = (&own, state) {
        tracing::info!(member = %own.id, "this is a member already: the invitation is not used");
        return Ok(file);
    }
    let joined = match enrol::join(config, common, keys.present(), &invitation).await {
        // Who joins asks again, for its entry may be one that counts for nothing: but it has one.
        Err(error) if state == Some(MemberState::Joining) => {
            tracing::info!(%error, "this site is joining already: it goes on without another invitation");
            return Ok(file);
        }
        joined => joined?,
    };
    if own.is_none_or(|own| own.id != joined.member.0) {
        renew_replica(store).await?;
        joined.write(&config.data)?;
        tracing::info!(member = %joined.member.0, "let in");
        return Ok(Some(joined));
    }
    Ok(file)
}

/// Who comes back with data is another replica from now on. What it wrote before, and others lack, is then of a replica that
/// nobody runs: it is handed over. Under its old id it would be a member's, and all who lack it would be behind the cluster, and
/// unready, at once.
async fn renew_replica(store: &Store) -> Result<(), MembersError> {
    if store.state().vector.is_empty() {
        return Ok(());
    }
    store.begin_again(Beginning {
        new_replica: true,
        ..Beginning::default()
    });
    // It begins again before it takes what waits: this, which writes nothing.
    store.transact(|_| Ok::<(), TransactError>(())).await?;
    Ok(())
}

/// The files of two members may have been mixed up. A key that took the place of the listed one is in the record.
pub(super) fn is_own_key(
    config: &SiteConfig,
    own: &Own,
    keys: &Keys,
    cluster: &ClusterView,
) -> Result<(), SiteError> {
    let present = keys.present().public_key();
    let known = cluster.members.get(&own.id);
    let is_known = known.is_some_and(|known| known.keys.iter().any(|key| key == present));
    match config.own().filter(|listed| listed.id.0 == own.id) {
        Some(listed) if listed.public_key != present && !is_known => Err(IdentityError::File {
            path: config.identity.clone(),
            message: format!(
                "its public key is not the one that [[members]] lists for {}",
                listed.name
            ),
        }
        .into()),
        _ => Ok(()),
    }
}

/// What all members must have in common.
pub(super) fn common(config: &SiteConfig, index_key: &IndexKey) -> Common {
    Common {
        cluster: config.cluster.id.0,
        fingerprints: [
            ("index-key".to_owned(), index_key.fingerprint()),
            (
                "digest-key".to_owned(),
                fingerprint("digest key", &config.cluster.digest_key.0),
            ),
            (
                "normalisation".to_owned(),
                fingerprint("normalisation", NORMALISATION.as_bytes()),
            ),
        ]
        .into(),
    }
}

/// Whose a backup is that this member makes.
pub fn backup_owner(config: &SiteConfig) -> BackupOwner {
    BackupOwner {
        cluster: hex(&fingerprint("cluster id", &config.cluster.id.0)),
        site: config.site.clone(),
        member: MemberFile::read(&config.data)
            .and_then(|file| Own::find(config, file.as_ref()))
            .ok()
            .map(|own| gossip::MemberId(*own.id.as_bytes())),
    }
}

fn fingerprint(of: &str, bytes: &[u8]) -> [u8; 8] {
    let mut fingerprint = [0; 8];
    let context = format!("persona 2026-11-22 fingerprint of the {of}");
    blake3::Hasher::new_derive_key(&context)
        .update(bytes)
        .finalize_xof()
        .fill(&mut fingerprint);
    fingerprint
}
