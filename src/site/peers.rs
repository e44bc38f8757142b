//! What a site does for its replica beyond the replica's own disk.

use std::sync::{Arc, OnceLock, Weak};

use crdt::CellKind;
use futures_util::future::BoxFuture;
use gossip::Dot;

use super::{Answered, Site};
use crate::{
    identity::{
        Durability, Peers,
        staging::{SiteNumber, StagingId},
    },
    members,
};

/// The site, named once it is there: its replica is there before.
#[derive(Default)]
pub(super) struct Around(pub(super) OnceLock<Weak<Site>>);

impl Around {
    fn site(&self) -> Option<Arc<Site>> {
        self.0.get()?.upgrade()
    }
}

impl Peers for Around {
    fn durability_of(&self, dot: Dot) -> BoxFuture<'_, Durability> {
        let site = self.site();
        Box::pin(async move {
            match site {
                Some(site) if site.answer(Some(dot)).await == Answered::Degraded => Durability::Degraded,
                _ => Durability::AsConfigured,
            }
        })
    }

    fn fetch_staging(&self, id: StagingId, number: SiteNumber) -> BoxFuture<'_, bool> {
        let site = self.site();
        Box::pin(async move {
            let Some(site) = site else { return false };
            let members = members::cluster(&site.store).unwrap_or_default().members;
            // The one that made it, or else whoever has it.
            let origin = members
                .values()
                .find(|member| SiteNumber::of(&member.site) == number)
                .map(|member| member.id);
            let cells = site.await_cells(CellKind::STAGING, id.as_bytes(), origin).await;
            cells.is_ok_and(|cells| !cells.is_empty())
        })
    }

    fn follow(&self, dot: Dot) -> BoxFuture<'_, bool> {
        let site = self.site();
        Box::pin(async move {
            let Some(site) = site else { return false };
            site.await_transaction(dot).await
        })
    }
}
