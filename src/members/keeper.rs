//! Keeps this member's part of the cluster record right, and the gossip's list of members as the record has it.
//!
//! What takes long is carried out here, a step each time something has changed: becoming active once caught up, leaving
//! once every other member has what is here, taking the next key once every member lists it. Each step follows from
//! what is on the disk and in the record, so a restarted process goes on where it was.

use std::{sync::Weak, time::Duration};

use crdt::{ClusterView, Member, MemberState};
use gossip::Vector;

use super::{effective, for_gossip, record, state_name, why_out};
use crate::site::Site;

/// How often everything is looked at, beside when something changes.
const LOOK: Duration = Duration::from_secs(10);
/// The same, while this site is not ready.
const LOOK_STARTING: Duration = Duration::from_millis(250);

/// Whether this member has a part in the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Not yet: it catches up.
    Joining,
    /// Yes, but not everybody knows: it joined, or its eviction turned out to be void. Until that is settled here, others may
    /// call settled what it has not seen, and collapse by that; what people would write here could be concurrent with it, and be
    /// undone after it was answered.
    Arriving,
    /// Yes.
    Active,
    /// Not for people any more: it hands over what it has.
    Leaving,
    /// No more.
    Out {
        /// How it came to that.
        words: String,
    },
}

impl Standing {
    /// What the record says of a member; one that is not in it is what it began as.
    /// `arriving`: that it is in is not settled yet.
    pub(crate) fn of(
        known: Option<&Member>,
        begins: MemberState,
        arriving: bool,
        cluster: &ClusterView,
    ) -> Standing {
        match known.map_or(begins, |known| known.state) {
            MemberState::Joining => Standing::Joining,
            MemberState::Active if arriving => Standing::Arriving,
            MemberState::Active => Standing::Active,
            MemberState::Leaving => Standing::Leaving,
            state @ (MemberState::Left | MemberState::Evicted) => Standing::Out {
                words: known
                    .and_then(|known| why_out(known, cluster))
                    .unwrap_or_else(|| format!("it is {}", state_name(state))),
            },
        }
    }

    /// Why people are not to be served; `None` if they are.
    pub fn why_not_serving(&self) -> Option<String> {
        match self {
            Standing::Active => None,
            Standing::Joining => Some("this site is joining the cluster, and still catching up".to_owned()),
            Standing::Arriving => Some(
                "this site is in the cluster, and waits until every member has heard so and has sent what it wrote before"
                    .to_owned(),
            ),
            Standing::Leaving => Some("this site is leaving the cluster".to_owned()),
            Standing::Out { .. } => self.why_not_writing(),
        }
    }

    /// Why nothing may be written; `None` if it may.
    pub fn why_not_writing(&self) -> Option<String> {
        match self {
            Standing::Out { words } => Some(format!("this site is not in the cluster any more: {words}")),
            _ => None,
        }
    }
}

/// Goes on until the site drains or is gone.
pub(crate) async fn keep(site: Weak<Site>) {
    let mut keeper = Keeper::default();
    loop {
        let (replication, mut stable, mut settled, wait) = {
            let Some(site) = site.upgrade() else { return };
            if site.is_draining() {
                return;
            }
            // Before the step, so that nothing that comes meanwhile is slept through.
            let (stable, settled) = (site.replication.watch_stable(), site.replication.watch_settled());
            keeper.step(&site).await;
            let wait = if site.node.is_ready() { LOOK } else { LOOK_STARTING };
            (site.replication.clone(), stable, settled, wait)
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = replication.members_changed.notified() => {}
            // Without the replication there is no site.
            _ = stable.changed(), if keeper.waits_for_stable() => {}
            _ = settled.changed(), if keeper.before_serving.is_some() => {}
        }
    }
}

/// What waits until every member has what was here when the waiting began; the first, until that is settled too.
#[derive(Default)]
struct Keeper {
    before_serving: Option<Vector>,
    before_leaving: Option<Vector>,
    before_next_key: Option<Vector>,
}

impl Keeper {
    fn waits_for_stable(&self) -> bool {
        self.before_leaving.is_some() || self.before_next_key.is_some()
    }

    async fn step(&mut self, site: &Site) {
        let cluster = match super::cluster(&site.store) {
            Ok(cluster) => cluster,
            Err(error) => {
                tracing::warn!(%error, "could not read the members");
                site.node.members_unknown();
                site.heed();
                return;
            }
        };
        let known = cluster.members.get(&site.own.id);
        if known.is_some_and(|known| known.state == MemberState::Active) {
            if matches!(site.standing(), Standing::Out { .. }) {
                self.before_serving = None;
                site.set_arriving(true);
            }
            if site.is_arriving() {
                self.arriving(site);
            }
        }
        let standing = Standing::of(known, site.own.begins, site.is_arriving(), &cluster);
        // Before anything that waits for the disk: who has the record on it counts its members.
        site.node.set_members(for_gossip(effective(
            &site.config,
            &site.own,
            &site.public_keys(),
            cluster.clone(),
        )));
        site.set_standing(standing.clone());
        site.heed();
        if site.node.is_ready() {
            match standing {
                Standing::Active => self.active(site, known, &cluster).await,
                Standing::Leaving => self.leaving(site, &cluster).await,
                Standing::Joining => joining(site, known).await,
                Standing::Arriving | Standing::Out { .. } => {}
            }
        }
        if site.is_draining() {
            // As one that has left it would be told nothing more, not even that the others know.
            return;
        }
        match super::cluster(&site.store) {
            Ok(cluster) => {
                let listed = effective(&site.config, &site.own, &site.public_keys(), cluster);
                site.node.set_members(for_gossip(listed));
            }
            Err(error) => {
                tracing::warn!(%error, "could not read the members");
                site.node.members_unknown();
            }
        }
    }

    /// What was settled elsewhere without this member is within what those had when they heard that it is in: and that is here
    /// once what was written of it is settled here.
    fn arriving(&mut self, site: &Site) {
        let here = self
            .before_serving
            .get_or_insert_with(|| site.store.state().vector.clone());
        if !site.replication.watch_settled().borrow().covers_vector(here) {
            return;
        }
        self.before_serving = None;
        site.set_arriving(false);
        tracing::info!("every member counts with this one: it serves people now");
    }

    async fn active(&mut self, site: &Site, known: Option<&Member>, cluster: &ClusterView) {
        register(site).await;
        if !site.is_rotating() {
            self.before_next_key = None;
            return;
        }
        let is_listed = known.is_some_and(|known| known.keys == site.public_keys());
        if !is_listed || !is_everywhere(&mut self.before_next_key, site, cluster) {
            return;
        }
        self.before_next_key = None;
        match site.take_next_key() {
            Ok(()) => {
                tracing::info!("every member lists the next key: it is used from now on");
                register(site).await;
            }
            Err(error) => tracing::error!(%error, "the next key could not take the present one's place"),
        }
    }

    async fn leaving(&mut self, site: &Site, cluster: &ClusterView) {
        let written = |vector: &Vector| vector.get(&site.store.state().start).map(|tip| tip.number);
        if !is_everywhere(&mut self.before_leaving, site, cluster) {
            return;
        }
        // Requests that were under way may have written since.
        let waited_for = self.before_leaving.take();
        if waited_for.as_ref().and_then(written) != written(&site.store.state().vector) {
            self.before_leaving = Some(site.store.state().vector.clone());
            return;
        }
        match record::advance(site.own.id, MemberState::Left, &site.store).await {
            Ok(()) => {
                tracing::info!("every other member has what is here: this site has left the cluster");
                site.drain();
            }
            Err(error) => tracing::warn!(%error, "could not write that this member has left"),
        }
    }
}

async fn register(site: &Site) {
    match record::register(&site.own, &site.public_keys(), &site.store).await {
        Ok(true) => tracing::info!("this member's entry in the cluster record was written"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "could not write this member's entry in the cluster record"),
    }
}

/// Who has caught up with others is active by its own word. Alone nobody has caught up with anything.
async fn joining(site: &Site, known: Option<&Member>) {
    let status = site.node.status();
    if known.is_none() || !status.gossip.ready || status.gossip.alone {
        return;
    }
    register(site).await;
    match record::advance(site.own.id, MemberState::Active, &site.store).await {
        Ok(()) => tracing::info!("caught up: this member is active now"),
        Err(error) => tracing::warn!(%error, "could not write that this member is active"),
    }
}

/// Whether every member that counts has what was here when this was first asked.
fn is_everywhere(since: &mut Option<Vector>, site: &Site, cluster: &ClusterView) -> bool {
    let counts = |member: &&Member| {
        member.id != site.own.id && matches!(member.state, MemberState::Active | MemberState::Leaving)
    };
    if !cluster.members.values().any(|member| counts(&member)) {
        return true;
    }
    let here = since.get_or_insert_with(|| site.store.state().vector.clone());
    site.replication.watch_stable().borrow().covers_vector(here)
}
