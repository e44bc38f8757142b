//! What this replica asks of a peer beside its log: one thing at a time.
//!
//! A talk is begun by an output and ended by the input that answers it, whatever happens to the connection between: so
//! it is never answered by what another one came to. Behind a catch-up comes the store, which merges what was brought.

use std::time::Duration;

use super::vector::MemberId;
use super::{ConnectionId, Gossip, Output};
use crate::reconcile::{Purpose, Verdict};

/// On a connection on which a talk failed nothing is asked again for so long. A connection that went, perhaps because another
/// one took its place, says nothing of its member.
pub(super) const TALK_REST: Duration = Duration::from_secs(10);
/// A catch-up that the store has not merged after so long is begun again.
const MERGE_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
pub(super) struct Talk {
    member: MemberId,
    connection: ConnectionId,
    subject: Subject,
    /// Do our acks count for nothing while it runs?
    holds: bool,
    /// What a catch-up brought is merged already.
    merged: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    Conversation(Purpose),
    /// A catch-up has come whole, and the store merges it.
    Merge {
        since: Duration,
    },
    Snapshot,
}

impl Gossip {
    /// Are our acks to count for nothing: do we take over what others have beside the log?
    pub(super) fn holding(&self) -> bool {
        self.talk.is_some_and(|talk| talk.holds)
    }

    pub(super) fn takes_snapshot(&self) -> bool {
        self.talk
            .is_some_and(|talk| matches!(talk.subject, Subject::Snapshot))
    }

    pub(super) fn settle_talks(&mut self) {
        let now = self.now.at;
        if let Some(Talk {
            subject: Subject::Merge { since },
            ..
        }) = self.talk
            && since + MERGE_MAX <= now
        {
            self.merge_ended();
        }
        if self.talk.is_some() || self.put_out() {
            return;
        }
        self.rests.retain(|_, until| *until > now);
        self.settle_copy();
        self.settle_looks();
    }

    pub(super) fn begin_talk(&mut self, member: MemberId, id: ConnectionId, subject: Subject, holds: bool) {
        self.talk = Some(Talk {
            member,
            connection: id,
            subject,
            holds,
            merged: false,
        });
        self.stable_dirty = true;
        match subject {
            Subject::Conversation(purpose) => self.outputs.push_back(Output::Reconcile {
                connection: id,
                purpose,
            }),
            Subject::Snapshot => self.outputs.push_back(Output::Snapshot { connection: id }),
            Subject::Merge { .. } => {}
        }
    }

    pub(super) fn reconciled(&mut self, member: MemberId, purpose: Purpose, verdict: Option<&Verdict>) {
        let Some(talk) = &mut self.talk else { return };
        if talk.member != member || !matches!(talk.subject, Subject::Conversation(about) if about == purpose)
        {
            return;
        }
        if purpose != Purpose::CatchUp {
            self.talk = None;
            self.looked(member, verdict);
            return;
        }
        match verdict {
            Some(_) if !talk.merged => talk.subject = Subject::Merge { since: self.now.at },
            Some(_) => self.talk = None,
            None => {
                self.counters.catch_ups_failed += 1;
                self.talk_failed();
            }
        }
    }

    /// The store has merged what a catch-up brought, or began again and has nothing to merge any more.
    pub(super) fn merge_ended(&mut self) {
        match &mut self.talk {
            Some(talk) if matches!(talk.subject, Subject::Merge { .. }) => self.talk = None,
            Some(talk) if matches!(talk.subject, Subject::Conversation(Purpose::CatchUp)) => {
                talk.merged = true;
            }
            _ => {}
        }
    }

    pub(super) fn snapshot_ended(&mut self, member: MemberId, installed: bool) {
        if !self.takes_snapshot() || self.talk.is_none_or(|talk| talk.member != member) {
            return;
        }
        if installed {
            self.talk = None;
        } else {
            self.counters.snapshots_failed += 1;
            self.talk_failed();
        }
    }

    fn talk_failed(&mut self) {
        let connection = self.talk.take().map(|talk| talk.connection);
        if let Some(id) = connection.filter(|id| self.connections.contains_key(id)) {
            self.rests.insert(id, self.now.at + TALK_REST);
        }
    }

    /// Did a talk fail lately on the connection that we have with it?
    pub(super) fn rests(&self, member: &MemberId) -> bool {
        self.chosen
            .get(member)
            .is_some_and(|id| self.rests.contains_key(id))
    }
}
