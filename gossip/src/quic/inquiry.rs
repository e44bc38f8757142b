//! Operators who asked for conversations, and wait for what they come to.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use crate::MemberId;
use crate::reconcile::{Purpose, Verdict};

/// Operators who may wait at once; more are told of no outcome.
const INQUIRERS_MAX: usize = 16;

/// With whom, and what it came to.
pub(super) type Outcome = (MemberId, Option<Verdict>);

/// All who wait.
#[derive(Default)]
pub(super) struct Inquiries(Vec<Inquirer>);

struct Inquirer {
    purpose: Purpose,
    /// With whom; and whether that has begun, for one that ran before does not count.
    open: BTreeMap<MemberId, bool>,
    /// Dropped after the last outcome.
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Inquiries {
    /// Somebody wants to know. False: there are too many of them, or nobody is in reach.
    pub(super) fn add(
        &mut self,
        purpose: Purpose,
        whom: &BTreeSet<MemberId>,
        outcomes: mpsc::UnboundedSender<Outcome>,
    ) -> bool {
        self.0.retain(|inquirer| !inquirer.outcomes.is_closed());
        let takes = !whom.is_empty() && self.0.len() < INQUIRERS_MAX;
        if takes {
            self.0.push(Inquirer {
                purpose,
                open: whom.iter().map(|member| (*member, false)).collect(),
                outcomes,
            });
        }
        takes
    }

    /// A conversation begins.
    pub(super) fn begun(&mut self, member: MemberId, purpose: Purpose) {
        for inquirer in self.0.iter_mut().filter(|inquirer| inquirer.purpose == purpose) {
            inquirer.open.entry(member).and_modify(|begun| *begun = true);
        }
    }

    /// A conversation has ended.
    pub(super) fn ended(&mut self, member: MemberId, purpose: Purpose, verdict: Option<&Verdict>) {
        self.answer(member, verdict, |inquirer, begun| {
            inquirer.purpose == purpose && (begun || verdict.is_none())
        });
    }

    /// The member is not in reach any more: what has not begun will not.
    pub(super) fn lost(&mut self, member: MemberId) {
        self.answer(member, None, |_, begun| !begun);
    }

    fn answer(
        &mut self,
        member: MemberId,
        verdict: Option<&Verdict>,
        concerns: impl Fn(&Inquirer, bool) -> bool,
    ) {
        self.0.retain_mut(|inquirer| {
            let begun = inquirer.open.get(&member).copied();
            if begun.is_some_and(|begun| concerns(inquirer, begun)) {
                inquirer.open.remove(&member);
                // Whoever does not wait any more needs no answer.
                let _ = inquirer.outcomes.send((member, verdict.cloned()));
            }
            !inquirer.open.is_empty()
        });
    }
}
