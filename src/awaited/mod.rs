//! What somebody waits for that is not here yet: asked of the others at once, once, and for a moment only.
//!
//! People move between sites faster than what they wrote (DESIGN.md §4.4): a session names a transaction that is not here, a
//! token a key or a staging that nobody here has heard of. Whoever serves them waits at most [`AWAITED_MAX`], while the
//! gossip asks every peer and pulls what anybody has. Then what is here decides.
//!
//! Promise: nobody waits for what cannot come (its origin is out of reach), or has just been waited for in vain; many who
//! wait for one thing ask once; and no more than [`WAITERS_MAX`] wait at all. Who is not let wait hears so at once.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::{CellKind, MemberId};
use gossip::{Dot, PeerState, PeerStatus, quic::NodeStatus};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    keyring, members,
    site::Site,
    store::{ReadError, Records},
};

/// Nobody waits for longer, whatever for.
pub const AWAITED_MAX: Duration = Duration::from_millis(300);
/// Waiting at once, for whatever.
pub const WAITERS_MAX: usize = 1024;
/// What was waited for in vain is not waited for again for so long: a stolen or made-up name costs its bearer one wait.
pub const IN_VAIN_REST: Duration = Duration::from_secs(10);
/// Of so many things that is remembered; of more, of the latest.
pub const IN_VAIN_MAX: usize = 4096;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Thing {
    /// A transaction, and all that it follows.
    Transaction(Dot),
    /// Something with a name of any length: of a key, of a cell.
    Named([u8; 16]),
}

impl Thing {
    /// A signing key.
    pub fn key(kid: &str) -> Thing {
        Thing::named("signing key", kid.as_bytes())
    }

    /// A cell.
    pub fn cell(kind: CellKind, key: &[u8]) -> Thing {
        Thing::named("cell", &[&[kind.0], key].concat())
    }

    fn named(of: &str, name: &[u8]) -> Thing {
        let mut hash = [0; 16];
        let context = format!("persona 2026-11-22 name of an awaited {of}");
        blake3::Hasher::new_derive_key(&context)
            .update(name)
            .finalize_xof()
            .fill(&mut hash);
        Thing::Named(hash)
    }
}

/// Those who wait in this process.
#[derive(Default)]
pub struct Waiters {
    /// Rung after each commit.
    commits: watch::Sender<()>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    /// How many wait for each thing.
    waiting: HashMap<Thing, usize>,
    count: usize,
    /// What was waited for in vain, and when that ended; the oldest first.
    in_vain: VecDeque<(Thing, Instant)>,
}

/// A place at the desk, given back however the waiting ends.
struct Place<'w> {
    waiters: &'w Waiters,
    thing: Thing,
    is_first: bool,
}

impl Waiters {
    /// A commit is visible: everybody looks.
    pub(crate) fn committed(&self) {
        self.commits.send_replace(());
    }

    /// Looks for a thing, and if it is not here and `may_come`, asks for it and looks again after each commit, until
    /// it is here or [`AWAITED_MAX`] has passed. `ask` is called once for all who wait for one thing.
    pub async fn wait<T>(
        &self,
        thing: Thing,
        may_come: impl FnOnce() -> bool,
        ask: impl FnOnce(),
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if !may_come() {
            count("unreachable");
            return None;
        }
        let place = self.take_place(thing)?;
        let mut commits = self.commits.subscribe();
        // Again, for what came before the bell was listened to.
        if let Some(seen) = look() {
            return Some(seen);
        }
        if place.is_first {
            ask();
        }
        let deadline = Instant::now() + AWAITED_MAX;
        while let Ok(Ok(())) = timeout_at(deadline, commits.changed()).await {
            if let Some(seen) = look() {
                count("came");
                return Some(seen);
            }
        }
        count("in_vain");
        self.desk().note_in_vain(thing);
        None
    }

    fn take_place(&self, thing: Thing) -> Option<Place<'_>> {
        let mut desk = self.desk();
        if desk.was_in_vain(&thing) {
            count("in_vain_before");
            return None;
        }
        if desk.count >= WAITERS_MAX {
            count("crowded");
            return None;
        }
        desk.count += 1;
        let waiting = desk.waiting.entry(thing).or_default();
        *waiting += 1;
        let is_first = *waiting == 1;
        drop(desk);
        Some(Place {
            waiters: self,
            thing,
            is_first,
        })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    fn was_in_vain(&mut self, thing: &Thing) -> bool {
        while self
            .in_vain
            .front()
            .is_some_and(|(_, ended)| ended.elapsed() >= IN_VAIN_REST)
        {
            self.in_vain.pop_front();
        }
        self.in_vain.iter().any(|(other, _)| other == thing)
    }

    fn note_in_vain(&mut self, thing: Thing) {
        if self.in_vain.iter().any(|(other, _)| *other == thing) {
            return;
        }
        if self.in_vain.len() >= IN_VAIN_MAX {
            self.in_vain.pop_front();
        }
        self.in_vain.push_back((thing, Instant::now()));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut desk = self.waiters.desk();
        desk.count -= 1;
        if let Some(waiting) = desk.waiting.get_mut(&self.thing) {
            *waiting -= 1;
            if *waiting == 0 {
                desk.waiting.remove(&self.thing);
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("persona_awaited_total", "outcome" => outcome).increment(1);
}

/// Whether any of those who take part is connected and fits.
fn reaches(status: &NodeStatus, fits: impl Fn(&PeerStatus) -> bool) -> bool {
    let takes_part = |peer: &&PeerStatus| matches!(peer.state, PeerState::Active | PeerState::Leaving);
    let mut peers = status.gossip.peers.iter();
    peers.any(|peer| takes_part(&peer) && peer.connected && fits(peer))
}

impl Site {
    /// Whether a transaction is here, waited for if its origin can be reached. A session's, whose signature was
    /// verified: others are not worth it.
    pub async fn await_transaction(&self, dot: Dot) -> bool {
        let here = || self.store.state().vector.covers(&dot).then_some(());
        let origin = |peer: &PeerStatus| {
            let start = peer.start;
            start.is_some_and(|start| start.replica == dot.writer.replica)
        };
        self.replication
            .waiters
            .wait(
                Thing::Transaction(dot),
                || reaches(&self.node.status(), origin),
                || self.node.ask_now(Some(dot.writer)),
                here,
            )
            .await
            .is_some()
    }

    /// Whether a signing key is known, waited for if anybody can be reached. [`Site::signing_keys`] has it then.
    pub async fn await_key(&self, kid: &str) -> bool {
        let known = || {
            let cluster = members::cluster(&self.store).ok()?;
            cluster.keys.contains_key(kid).then_some(cluster)
        };
        let found = self
            .replication
            .waiters
            .wait(
                Thing::key(kid),
                || kid.len() <= keyring::record::KID_BYTES_MAX && reaches(&self.node.status(), |_| true),
                || self.node.ask_now(None),
                known,
            )
            .await;
        let Some(cluster) = found else { return false };
        self.signing_keys.renew(&cluster, self.store.now_ms());
        true
    }

    /// The cells under a key, waited for if there are none here and `origin`, the member that made them, can be reached;
    /// without one, if anybody can.
    pub async fn await_cells(
        &self,
        kind: CellKind,
        key: &[u8],
        origin: Option<MemberId>,
    ) -> Result<Vec<crdt::Cell>, ReadError> {
        let mut failed = None;
        let look = || match self.store.read(|records| records.cells(kind, key)) {
            Ok(Ok(cells)) => (!cells.is_empty()).then_some(cells),
            Ok(Err(error)) | Err(error) => {
                failed = Some(error);
                Some(Vec::new())
            }
        };
        let is_origin = |peer: &PeerStatus| origin.is_none_or(|origin| peer.member.0 == *origin.as_bytes());
        let writer = self.origin_writer(origin);
        let cells = self
            .replication
            .waiters
            .wait(
                Thing::cell(kind, key),
                || reaches(&self.node.status(), is_origin),
                || self.node.ask_now(writer),
                look,
            )
            .await;
        match failed {
            Some(error) => Err(error),
            None => Ok(cells.unwrap_or_default()),
        }
    }

    /// The writer of a member's present start, if it is connected.
    fn origin_writer(&self, origin: Option<MemberId>) -> Option<gossip::Writer> {
        let origin = origin?;
        let status = self.node.status();
        let mut peers = status.gossip.peers.iter();
        peers
            .find(|peer| peer.member.0 == *origin.as_bytes())
            .and_then(|peer| peer.start)
    }
}
