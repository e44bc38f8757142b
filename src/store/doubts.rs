//! Who has said what they have of a record of which something is missing that nobody here can name.
//!
//! What is missing is covered by the vector of the moment in which the doubt began. Whoever covers that too, and lets us
//! have all that it has of the record, either brings what is missing or has not got it. So once every member that counts
//! has done so, the record here holds all that there is, and the doubt ends: where all doubt, as after a catch-up from one that
//! doubts, nobody else could ever end it. In memory only: after a start all are asked once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crdt::{Member, MemberState, RecordKey, View};
use gossip::{MemberId, Vector};

use super::{group::Group, records::ReadError};

/// Doubts that are kept account of. Those of more records end after these.
const DOUBTS_MAX: usize = 1 << 16;

/// The doubts about records, as far as a member has said anything of them.
#[derive(Default)]
pub(super) struct Doubts {
    records: BTreeMap<RecordKey, Doubt>,
}

struct Doubt {
    /// Covers all that may be missing.
    covered: Arc<Vector>,
    said: BTreeSet<MemberId>,
}

impl Doubts {
    /// A member's state of a doubted record was merged, and all that the member has of it was in that. `vector`: what is
    /// covered here. Gives those who have said as much of all that may be missing.
    pub(super) fn hear(
        &mut self,
        key: RecordKey,
        from: MemberId,
        cut: &Vector,
        vector: &Arc<Vector>,
    ) -> Option<&BTreeSet<MemberId>> {
        if self.records.len() == DOUBTS_MAX && !self.records.contains_key(&key) {
            return None;
        }
        let doubt = self.records.entry(key).or_insert_with(|| Doubt {
            covered: Arc::clone(vector),
            said: BTreeSet::new(),
        });
        if cut.covers_vector(&doubt.covered) {
            doubt.said.insert(from);
        }
        Some(&doubt.said)
    }

    /// The doubt is over, or it is another one: what was said is worth nothing any more.
    pub(super) fn forget(&mut self, key: RecordKey) {
        self.records.remove(&key);
    }
}

impl Group<'_> {
    /// Whether these are all the members that count, beside one's own.
    pub(super) fn all_others(&mut self, own: MemberId, said: &BTreeSet<MemberId>) -> Result<bool, ReadError> {
        let Some((_, View::Cluster(cluster))) = &self.load(RecordKey::CLUSTER)?.document else {
            return Ok(false);
        };
        let counts = |member: &&Member| matches!(member.state, MemberState::Active | MemberState::Leaving);
        let mut counted = cluster.members.values().filter(counts).peekable();
        // Of a record that names none nobody can say that they are all.
        Ok(counted.peek().is_some()
            && counted.all(|member| {
                let id = MemberId(*member.id.as_bytes());
                id == own || said.contains(&id)
            }))
    }
}
