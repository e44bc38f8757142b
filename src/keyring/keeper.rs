//! Brings both halves together where all tiers are one process: the keys that are held here, and the record.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crdt::MemberId;
use tokio::task::spawn_blocking;

use super::{Offer, Settled, publisher::SILENT_AFTER};
use crate::{
    browserid::Usage,
    members::{self, MembersError},
    site::Site,
};

/// How often everything is looked at, beside when something changes.
const LOOK: Duration = Duration::from_secs(10);
/// Rounds between the halves without a wait: published, allowed, signed with, the one before retired; and some more.
const ROUNDS_MAX: usize = 8;

/// Keeps what is verified with as the record has it, until the site is gone. Apart from [`keep`], which waits for disks:
/// that a key was revoked must be known at once.
pub(crate) async fn follow(site: Weak<Site>) {
    loop {
        let mut changed = {
            let Some(site) = site.upgrade() else { return };
            // Before it is read, so that no change is slept through.
            let changed = site.replication.watch_record();
            match members::cluster(&site.store) {
                Ok(cluster) => site.signing_keys.renew(&cluster, site.store.now_ms()),
                Err(error) => {
                    tracing::warn!(%error, "could not read the signing keys; those from before stand");
                }
            }
            changed
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // Without the replication there is no site.
            _ = changed.changed() => {}
        }
    }
}

/// Keeps this site's own keys, until it drains or is gone.
pub(crate) async fn keep(site: Weak<Site>) {
    loop {
        let (replication, mut changed, mut status, waiting) = {
            let Some(site) = site.upgrade() else { return };
            if site.is_draining() {
                return;
            }
            let (changed, status) = (site.replication.watch_record(), site.node.watch_status());
            if site.node.is_ready() {
                for usage in site.keyring.uses() {
                    step(&site, usage).await;
                }
            }
            let waiting = site.publisher.is_waiting() || !site.node.is_ready();
            (site.replication.clone(), changed, status, waiting)
        };
        status.mark_unchanged();
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = replication.keys_wished.notified() => {}
            _ = changed.changed() => {}
            // What the others have on disk, at most ten times a second.
            _ = status.changed(), if waiting => {}
        }
    }
}

async fn step(site: &Arc<Site>, usage: Usage) {
    for _ in 0..ROUNDS_MAX {
        let offer = site.keyring.offer(usage);
        let settled = match settle(site, &offer).await {
            Ok(settled) => settled,
            Err(error) => {
                tracing::warn!(%error, usage = usage.name(), "signing keys could not be published");
                site.publisher.note_trouble(usage, Some(error.to_string()));
                return;
            }
        };
        let keyring = site.keyring.clone();
        let heeded = spawn_blocking(move || keyring.heed(usage, &settled)).await;
        let Ok(heeded) = heeded else { return };
        let trouble = heeded.as_ref().err().map(ToString::to_string);
        site.publisher.note_trouble(usage, trouble.clone());
        if let Some(words) = trouble {
            site.replication.alarm(format_args!(
                "{words}; until then this site signs with the key from before, if there is one"
            ));
        }
        let Ok(heeded) = heeded else { return };
        for words in heeded.alarms {
            site.replication.alarm(words);
        }
        if !heeded.changed {
            return;
        }
    }
}

async fn settle(site: &Site, offer: &Offer) -> Result<Settled, MembersError> {
    let lacking = match site.publisher.awaited(offer)? {
        Some(here) => {
            let lacking = site.node.lacking(here, SILENT_AFTER).await;
            Some(lacking.into_iter().map(|id| MemberId::from_bytes(id.0)).collect())
        }
        None => None,
    };
    site.publisher.settle(offer, lacking).await
}
