//! What was promised: that a write is on so many sites' disks, and that nothing acknowledged is lost.

use std::collections::{BTreeMap, BTreeSet};

use crdt::{AccountId, EmailId, Epoch, Hlc, MemberId, MemberState};
use gossip::{Dot, PeerState, Vector};

use super::{Checker, Checks, Found, wrong};
use crate::{
    sim::{process::Process, tally::Tally, world::World},
    store::{ReadError, Records, Snapshot},
};

/// How a write was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    /// It is on the disks of this site and another.
    TwoSites,
    /// It is on this disk; nobody else was in reach in time, and that was said.
    Here,
}

/// What an acknowledged write has to have come to in the end, unless something later has overtaken it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Meaning {
    /// The account was made.
    Exists(AccountId),
    /// The account is cancelled.
    Cancelled(AccountId),
    /// Sessions that have not seen this are over.
    Epoch { account: AccountId, epoch: Epoch },
    /// The address was proven then: what the record says now is of that proof or a later one; or an account that had
    /// it by such a proof was reset since, so that it may have lost to one whose earlier proof still counts.
    Proven { email: EmailId, at: Hlc },
    /// The account has no claim of that time any more.
    Released {
        email: EmailId,
        account: AccountId,
        at: Hlc,
    },
    /// The member is so far at least: its state only moves forward.
    Member { id: MemberId, state: MemberState },
    /// The setting has a value.
    Set(String),
}

#[derive(Default)]
pub(crate) struct Promises {
    meant: BTreeMap<Dot, Vec<Meaning>>,
    answered: BTreeMap<Dot, Promise>,
    /// On no disk any more: all that held it were destroyed or set back.
    gone: BTreeSet<Dot>,
}

impl World {
    /// A person is told that the write is done.
    pub(crate) fn answered(&mut self, at: usize, deed: u64, dot: Dot, promise: Promise) {
        self.deed_answered(at, deed);
        self.tally.look(Checker::Acks);
        let mut found = Ok(());
        if !self.checks.tracks[at].covers(&dot) {
            found = wrong(
                Checker::Acks,
                format!("{dot} was answered, and is not on its own disk"),
            );
        }
        match promise {
            Promise::TwoSites => {
                self.tally.count("answers for two sites", 1);
                let sites = self.sites_that_may_have(at, |checks, other| checks.tracks[other].covers(&dot));
                if sites.len() < 2 && found.is_ok() {
                    let name = &self.processes[at].name;
                    found = wrong(
                        Checker::Acks,
                        format!(
                            "{name} answered that {dot} is on two sites' disks, and it is on {}",
                            sites.len()
                        ),
                    );
                }
            }
            Promise::Here => self.tally.count("answers that were degraded", 1),
        }
        self.checks.promises.answered.insert(dot, promise);
        self.fail(found);
    }

    /// Sites on whose disks something is, or was when this process last heard of them: of a member that has begun anew
    /// unheard nothing can be known.
    fn sites_that_may_have(&self, at: usize, has: impl Fn(&Checks, usize) -> bool) -> BTreeSet<usize> {
        let mut sites = BTreeSet::new();
        if has(&self.checks, at) {
            sites.insert(self.processes[at].site);
        }
        for (site, other) in self.counted(at) {
            if other.is_none_or(|other| has(&self.checks, other)) {
                sites.insert(site);
            }
        }
        sites
    }

    /// The members that count for durability and stability as a process sees it: where each is, and the process that
    /// runs in the start that it is known by, if one does.
    fn counted(&self, at: usize) -> Vec<(usize, Option<usize>)> {
        let Some(running) = &self.processes[at].running else {
            return Vec::new();
        };
        let status = running.gossip.status();
        let counts = |state| matches!(state, PeerState::Active | PeerState::Leaving);
        let of = |peer: &gossip::PeerStatus| {
            let place = |process: &Process| process.member == peer.member;
            let other = self.processes.iter().position(|process| {
                place(process) && process.start().is_some() && process.start() == peer.start
            });
            let site = self.processes.iter().find(|process| place(process))?.site;
            Some((site, other))
        };
        status
            .peers
            .iter()
            .filter(|peer| counts(peer.state))
            .filter_map(of)
            .collect()
    }

    /// A process says that every member has all of this on its disk.
    pub(crate) fn stable(&mut self, at: usize, stable: &Vector) {
        self.tally.look(Checker::Acks);
        let mut found = Ok(());
        for (_, other) in self.counted(at) {
            let Some(other) = other else { continue };
            for (writer, tip) in stable.iter() {
                let dot = Dot {
                    writer,
                    number: tip.number,
                };
                if tip.number > 0 && !self.checks.tracks[other].covers(&dot) && found.is_ok() {
                    let [name, lacks] = [at, other].map(|process| &self.processes[process].name);
                    found = wrong(
                        Checker::Acks,
                        format!("{name} calls {dot} stable, and {lacks} lacks it"),
                    );
                }
            }
        }
        self.fail(found);
    }

    /// A site goes for good, because another has everything: some other has.
    pub(crate) fn check_drained(&mut self, at: usize) {
        self.tally.look(Checker::Acks);
        let own = self.processes[at].site;
        let numbers = self.checks.tracks[at].numbers.clone();
        let all = |checks: &Checks, other: usize| {
            other != at
                && numbers.iter().all(|(writer, number)| {
                    *number == 0
                        || checks.tracks[other].covers(&Dot {
                            writer: *writer,
                            number: *number,
                        })
                })
        };
        let elsewhere = self
            .sites_that_may_have(at, all)
            .into_iter()
            .any(|site| site != own);
        if !elsewhere {
            let name = &self.processes[at].name;
            let found = wrong(
                Checker::Acks,
                format!("{name} drained, and no other site has all that it has"),
            );
            self.fail(found);
        }
    }
}

impl Checks {
    /// What the transaction means.
    pub(crate) fn meant(&mut self, dot: Dot, meanings: Vec<Meaning>) {
        self.promises.meant.insert(dot, meanings);
    }

    /// A disk was destroyed or set back: what no disk holds now is not to be expected any more.
    pub(super) fn forget_what_is_gone(&mut self) {
        let tracks = &self.tracks;
        let gone = self
            .promises
            .answered
            .keys()
            .filter(|dot| !tracks.iter().any(|track| track.covers(dot)));
        self.promises.gone.extend(gone.copied().collect::<Vec<_>>());
    }

    /// Everything that was acknowledged is here, and means what it meant.
    pub(super) fn kept(&self, tally: &mut Tally, at: usize, name: &str, records: &Snapshot<'_>) -> Found {
        for dot in self.promises.answered.keys() {
            if self.promises.gone.contains(dot) {
                tally.count("writes lost with every disk that had them", 1);
                continue;
            }
            tally.look(Checker::Acknowledged);
            if !self.tracks[at].covers(dot) {
                return wrong(
                    Checker::Acknowledged,
                    format!("{name} lacks {dot}, which was acknowledged"),
                );
            }
            for meaning in self.promises.meant.get(dot).into_iter().flatten() {
                match meaning.holds(records).and_then(|holds| {
                    // Only who is not in force any more is asked for who came after.
                    Ok(holds || self.lost_by_a_reset(dot, meaning, records)?)
                }) {
                    Ok(true) => {}
                    Ok(false) => {
                        return wrong(
                            Checker::Acknowledged,
                            format!("{name} has {dot}, which was acknowledged, and yet not {meaning:?}"),
                        );
                    }
                    Err(error) => {
                        return wrong(
                            Checker::Acknowledged,
                            format!("{name} cannot tell of {meaning:?}: {error}"),
                        );
                    }
                }
            }
        }
        Ok(())
    }
}

impl Checks {
    /// Whether a proof took the place of this one, whose account was reset since: written by who had seen this one, of
    /// the same address and not earlier. A concurrent claim of an earlier proof, still verified, then comes before both.
    fn lost_by_a_reset(
        &self,
        dot: &Dot,
        meaning: &Meaning,
        records: &Snapshot<'_>,
    ) -> Result<bool, ReadError> {
        let Meaning::Proven { email, at } = meaning else {
            return Ok(false);
        };
        // Who made it need not have told anybody: a claim that landed in a crash counts as any other.
        let takes = self
            .claims_after(dot)
            .filter(|made| made.email == *email && made.proof >= *at);
        for made in takes {
            if records.standing(made.account)?.resets > made.resets {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Meaning {
    fn holds(&self, records: &Snapshot<'_>) -> Result<bool, ReadError> {
        let account = |id| records.account(id);
        Ok(match self {
            Meaning::Exists(id) => account(*id)?.is_some_and(|view| view.created.is_some()),
            Meaning::Cancelled(id) => account(*id)?.is_some_and(|view| view.cancelled),
            Meaning::Epoch { account: id, epoch } => account(*id)?.is_some_and(|view| view.epoch >= *epoch),
            Meaning::Proven { email, at } => records.email(*email)?.is_some_and(|view| {
                let claimed = view.claims.iter().any(|claim| claim.proof >= *at);
                let released = view.released.iter();
                claimed
                    || released
                        .map(|released| released.proof.max(released.at))
                        .any(|end| end >= *at)
            }),
            Meaning::Released { email, account, at } => records.email(*email)?.is_some_and(|view| {
                !view
                    .claims
                    .iter()
                    .any(|claim| claim.account == *account && claim.proof <= *at)
            }),
            Meaning::Member { id, state } => {
                let view = records.cluster()?;
                view.members.get(id).is_some_and(|member| member.state >= *state)
            }
            Meaning::Set(name) => records.cluster()?.settings.contains_key(name),
        })
    }
}
