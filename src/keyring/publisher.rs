//! The replica's half of a signing key's life: takes what holders offer, and answers what each key is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crdt::MemberId;
use gossip::Vector;

use super::record::{self, Custody, Offer, Settled};
use crate::{
    browserid::{PublicKey, Usage},
    members::{self, MembersError},
    store::{Store, TransactError},
};

/// A member that was not heard for this long holds no key back.
pub const SILENT_AFTER: Duration = Duration::from_secs(10);

/// Carries out what holders of keys offer.
pub struct Publisher {
    own: MemberId,
    store: Store,
    desk: Mutex<Desk>,
}

/// What is remembered between two offers, for this life of the process: all of it can be found out anew.
#[derive(Default)]
struct Desk {
    /// What was here when a published key was first seen: whoever has that has the key.
    waits: BTreeMap<String, Wait>,
    /// For what an operator wants another key, and those that were held when that was said.
    wishes: BTreeMap<Usage, BTreeSet<String>>,
    /// What was last offered.
    held: BTreeMap<Usage, BTreeSet<String>>,
    /// What keeps a use from going on.
    trouble: BTreeMap<Usage, String>,
}

struct Wait {
    here: Vector,
    lacking: Vec<MemberId>,
}

impl Publisher {
    /// For the keys of this member.
    pub fn new(own: MemberId, store: Store) -> Publisher {
        Publisher {
            own,
            store,
            desk: Mutex::default(),
        }
    }

    /// What others must have on disk before the newest key of an offer may sign; `None` if none waits to.
    pub fn awaited(&self, offer: &Offer) -> Result<Option<Vector>, MembersError> {
        Ok(self.waiting_key(offer)?.map(|kid| self.first_seen(&kid)))
    }

    fn waiting_key(&self, offer: &Offer) -> Result<Option<String>, MembersError> {
        let cluster = members::cluster(&self.store)?;
        let answer = record::answer(self.own, offer, false, &cluster);
        let published = |kid: &String| answer.custody(kid) == Some(Custody::Published);
        Ok(kids(offer).into_iter().rev().find(published))
    }

    /// Takes an offer: publishes what is new, activates what may sign, retires what signs no more; and says what each
    /// key is now. `lacking` are those who count, were heard within [`SILENT_AFTER`], and have not all on disk that
    /// is [awaited](Self::awaited); `None` if nobody asked.
    pub async fn settle(
        &self,
        offer: &Offer,
        lacking: Option<Vec<MemberId>>,
    ) -> Result<Settled, MembersError> {
        let mut everywhere = None;
        if let (Some(kid), Some(lacking)) = (self.waiting_key(offer)?, lacking)
            && let Some(wait) = self.desk().waits.get_mut(&kid)
        {
            everywhere = lacking.is_empty().then_some(kid);
            wait.lacking = lacking;
        }
        let cluster = members::cluster(&self.store)?;
        if !record::is_settled(self.own, offer, everywhere.as_deref(), &cluster) {
            let (own, offer) = (self.own, offer.clone());
            self.store
                .transact(move |txn| -> Result<(), TransactError> {
                    record::settle(own, &offer, everywhere.as_deref(), txn)
                })
                .await?;
        }
        let cluster = members::cluster(&self.store)?;
        let held = kids(offer);
        let rotate = self.note(offer.usage, &held);
        let settled = record::answer(self.own, offer, rotate, &cluster);
        let over = |kid: &String| held.contains(kid) && settled.custody(kid) != Some(Custody::Published);
        self.desk().waits.retain(|kid, _| !over(kid));
        Ok(settled)
    }

    /// What was here when this key was first seen to be published. Taken after the record was read, so it covers the
    /// write that published it.
    fn first_seen(&self, kid: &str) -> Vector {
        let mut desk = self.desk();
        let wait = desk.waits.entry(kid.to_owned()).or_insert_with(|| Wait {
            here: self.store.state().vector.clone(),
            lacking: Vec::new(),
        });
        wait.here.clone()
    }

    /// Notes what is held, and says whether an operator waits for another key of this use.
    fn note(&self, usage: Usage, kids: &[String]) -> bool {
        let mut desk = self.desk();
        let held: BTreeSet<String> = kids.iter().cloned().collect();
        let fulfilled = |before: &BTreeSet<String>| held.iter().any(|kid| !before.contains(kid));
        if desk.wishes.get(&usage).is_some_and(fulfilled) {
            desk.wishes.remove(&usage);
        }
        desk.held.insert(usage, held);
        desk.wishes.contains_key(&usage)
    }

    /// An operator wants the next key of this use. A wish that is under way is not doubled.
    pub fn rotate(&self, usage: Usage) {
        let mut desk = self.desk();
        let held = desk.held.get(&usage).cloned().unwrap_or_default();
        desk.wishes.entry(usage).or_insert(held);
    }

    /// Whether a key of this use was asked for and is not made yet.
    pub fn is_wished(&self, usage: Usage) -> bool {
        self.desk().wishes.contains_key(&usage)
    }

    /// Whether the holder of a use has said that it holds this key.
    pub fn is_held(&self, kid: &str) -> bool {
        self.desk().held.values().any(|held| held.contains(kid))
    }

    /// Who has a published key of this member not on disk yet, as far as was last seen.
    pub fn waits_for(&self, kid: &str) -> Vec<MemberId> {
        let desk = self.desk();
        desk.waits
            .get(kid)
            .map(|wait| wait.lacking.clone())
            .unwrap_or_default()
    }

    /// Notes what keeps the keys of a use from going on, or that nothing does.
    pub(super) fn note_trouble(&self, usage: Usage, trouble: Option<String>) {
        let mut desk = self.desk();
        match trouble {
            Some(words) => drop(desk.trouble.insert(usage, words)),
            None => drop(desk.trouble.remove(&usage)),
        }
    }

    /// What keeps keys from going on, in words.
    pub fn trouble(&self) -> Vec<String> {
        self.desk().trouble.values().cloned().collect()
    }

    /// Whether any key waits to be on the others' disks.
    pub(super) fn is_waiting(&self) -> bool {
        !self.desk().waits.is_empty()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kids(offer: &Offer) -> Vec<String> {
    let held = offer.held.iter();
    held.map(|key| PublicKey::P256(key.clone()).thumbprint())
        .collect()
}
