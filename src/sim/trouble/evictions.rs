//! Members that are put out: by one who is in the right, or by each other, where two halves of the world do not hear
//! each other; and a word that comes late and was said first. They come back as somebody else, some of them before they
//! have handed over what only they have.

use std::time::Duration;

use gossip::{MemberId, Peer, PeerState};

use super::{Kind, Remedy};
use crate::sim::{
    deeds::Deed,
    network::Network,
    process::{Process, site_name},
    world::{Happening, World, read_records},
};
use crate::store::Records;

/// A newcomer that nobody has let in asks again after this.
const ENROL_AGAIN: Duration = Duration::from_secs(1);
/// So many are active after any one's words.
const ACTIVE_MIN: usize = 2;

impl World {
    /// An operator puts a member out.
    pub(super) fn evict_one(&mut self) {
        let Some((by, at)) = self.two_members() else {
            return;
        };
        if self.is_damaged() || std::mem::replace(&mut self.troubles.put_out, true) {
            return;
        }
        self.tally.fault(Kind::Evict);
        self.tell(|| format!("process {by} puts process {at} out"));
        let id = self.processes[at].member;
        self.say_out(by, &[id]);
    }

    /// The world is cut in two, and each half puts members of the other out. Sometimes a third, whom nobody hears by
    /// then, has put out one of those who did so, before they did; that becomes known last.
    pub(super) fn evict_each_other(&mut self) {
        let able: Vec<usize> = (0..self.processes.len())
            .filter(|at| {
                let process = &self.processes[*at];
                let copied = self.processes.iter().any(|other| other.copy_of == Some(*at));
                process.serves() && process.copy_of.is_none() && !copied
            })
            .collect();
        if able.len() < ACTIVE_MIN + 1 || self.is_damaged() || self.troubles.put_out {
            return;
        }
        self.troubles.put_out = true;
        self.tally.fault(Kind::MutualEvictions);
        let mut shuffled = able.clone();
        let rng = &mut self.troubles.rng;
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, rng.below(place + 1));
        }
        let third = (shuffled.len() > ACTIVE_MIN + 1 && rng.chance(60))
            .then(|| shuffled.pop())
            .flatten();
        let half = rng.between(1, shuffled.len() - 1);
        let (one, other) = shuffled.split_at(half);
        let (one, other) = (one.to_vec(), other.to_vec());
        let all = self.processes.len();
        let apart = |group: &[usize]| -> Vec<(usize, usize)> {
            let within = |at: usize| group.contains(&at);
            let pairs = (0..all).flat_map(|a| (0..all).map(move |b| (a, b)));
            pairs.filter(|(a, b)| within(*a) != within(*b)).collect()
        };
        if let Some(third) = third {
            let victim = if self.troubles.rng.chance(50) {
                one[0]
            } else {
                other[0]
            };
            let cut = apart(&[third]);
            self.tell(|| format!("process {third} is alone, and puts process {victim} out"));
            self.network.cuts.extend(cut.iter().copied());
            let ids = vec![self.processes[victim].member];
            self.remedy_later(10, 100, Remedy::Evict { by: third, ids });
            self.remedy_later(8000, 14_000, Remedy::Join(cut));
        }
        let cut = apart(&one);
        self.tell(|| format!("{one:?} and {other:?} put each other out"));
        self.network.cuts.extend(cut.iter().copied());
        for (by, others) in [(one[0], &other), (other[0], &one)] {
            let most = (able.len() - ACTIVE_MIN).min(others.len());
            let count = self.troubles.rng.between(1, most.max(1));
            let ids = others[..count]
                .iter()
                .map(|at| self.processes[*at].member)
                .collect();
            self.remedy_later(200, 2500, Remedy::Evict { by, ids });
        }
        self.remedy_later(3000, 7000, Remedy::Join(cut));
    }

    /// A member says that others are out.
    pub(super) fn say_out(&mut self, by: usize, ids: &[MemberId]) {
        if !self.processes[by].serves() {
            return;
        }
        let own = crdt::MemberId::from_bytes(self.processes[by].member.0);
        for id in ids {
            let id = crdt::MemberId::from_bytes(id.0);
            self.do_now(by, Deed::Evict { id, by: own });
        }
    }

    /// A process has learnt that it was put out. Its operator may not wait for the handover.
    pub(crate) fn put_out(&mut self, at: usize) {
        self.tally.count("members that learnt that they were put out", 1);
        if self.troubles.rng.chance(35) {
            let life = self.processes[at].life;
            let early = self.troubles.rng.ms(20, 2000);
            self.tally.count("members that join anew early", 1);
            self.after(early, Happening::JoinAnew { at, life });
        }
    }

    /// One that was put out asks to join anew, with its data, as somebody else: an active member in reach, until one has
    /// written it down and told it so. Whoever is asked once more, because nobody was told, gives the same answer.
    pub(crate) fn join_anew(&mut self, at: usize, life: u64) {
        let process = &self.processes[at];
        if process.life != life || process.retired || process.copy_of.is_some() {
            return;
        }
        let former = process.member;
        let has_asked = process.asks_as.is_some();
        let is_out = |world: &World, by: usize| {
            let peers = world.peers_seen_by(by);
            match peers.iter().find(|peer| peer.id == former).map(|peer| peer.state) {
                Some(PeerState::Evicted | PeerState::Banned) => true,
                // It was written down, and its eviction is void: nothing else is left of its life before.
                Some(PeerState::Left) => has_asked,
                _ => false,
            }
        };
        // While its cluster record cannot be read, its own disk does not tell: then those who might enrol it do.
        let tells = read_records(&process.disk, |records| records.cluster()).is_ok();
        if tells && !is_out(self, at) {
            // It is in again: somebody's word has become void.
            self.tally.count("members that were in again", 1);
            return;
        }
        self.after(ENROL_AGAIN, Happening::JoinAnew { at, life });
        let enrols = |by: &usize| {
            *by != at
                && self.processes[*by].serves()
                && self.network.linked(at, *by)
                && self.network.open(at, *by)
                && is_out(self, *by)
        };
        let Some(by) = (0..self.processes.len()).find(enrols) else {
            return;
        };
        let member = self.processes[at].asks_as.unwrap_or_else(|| {
            self.troubles.newcomers += 1;
            MemberId((self.troubles.newcomers | 1 << 32).to_be_bytes())
        });
        self.processes[at].asks_as = Some(member);
        self.tell(|| format!("process {by} is to enrol process {at} anew, as {member}"));
        let [id, former] = [member, former].map(|id| crdt::MemberId::from_bytes(id.0));
        self.do_now(by, Deed::Enrol { id, former });
    }

    /// A newcomer is written down, durably: the answer is on its way.
    pub(crate) fn enrolled(&mut self, by: usize, id: crdt::MemberId, former: crdt::MemberId) {
        let [member, former] = [id, former].map(|id| MemberId(*id.as_bytes()));
        let asked = self
            .processes
            .iter()
            .find(|process| process.asks_as == Some(member));
        if let Some(asked) = asked {
            let way = Network::delay(self.processes[by].site, asked.site);
            self.after(way, Happening::LetIn { member, former });
        }
    }

    /// Who hears that it was let in is somebody else from now on. One that is down hears nothing, and asks again.
    pub(crate) fn let_in(&mut self, member: MemberId, former: MemberId) {
        let asked = |process: &Process| process.asks_as == Some(member) && process.member == former;
        let Some(at) = self.processes.iter().position(asked) else {
            return;
        };
        if self.processes[at].running.is_none() {
            return;
        }
        self.kill(at);
        let process = &mut self.processes[at];
        process.member = member;
        process.asks_as = None;
        self.peers.push(Peer {
            id: member,
            name: process.name.clone(),
            site: site_name(process.site),
            state: PeerState::Joining,
        });
        self.tally.count("members that joined anew", 1);
        self.tell(|| format!("process {at} joins anew, as {member}"));
        for other in 0..self.processes.len() {
            self.members_may_have_changed(other);
        }
        self.start(at);
    }
}
