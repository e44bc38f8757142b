//! What a site's disk takes in, and what its log lets go.

use std::collections::BTreeMap;
use std::time::Duration;

use gossip::{Dot, Envelope, Gossip, Input, MemberId, Received, Tip, Vector};

use super::{Happening, World, counts};

impl World {
    pub(super) fn commit(&mut self, index: usize) {
        self.sites[index].commit_due = false;
        if self.rng.below(1000) < self.failing_commits {
            self.restarted(index, 0);
            return;
        }
        let mut remote = Vec::new();
        let site = &mut self.sites[index];
        let mut moved = BTreeMap::new();
        let ready = site.gossip.as_ref().is_some_and(Gossip::is_ready);
        while let Some(received) = site.queue.pop_front() {
            if site.disk.apply(&received) {
                remote.push(received.envelope.dot);
                moved.insert(
                    received.envelope.dot.writer,
                    Tip {
                        number: received.envelope.dot.number,
                        hash: received.hash,
                    },
                );
            }
        }
        let mut local = Vec::new();
        let start = site.start.unwrap();
        while ready && site.writes > 0 {
            site.writes -= 1;
            let tip = site.disk.vector.get(&start).unwrap_or(Tip {
                number: 0,
                hash: [0; 8],
            });
            let mut follows = site.disk.vector.moved_since(&site.followed);
            follows.retain(|(writer, _)| *writer != start);
            site.followed = site.disk.vector.clone();
            let dot = Dot {
                writer: start,
                number: tip.number + 1,
            };
            let envelope = Envelope {
                dot,
                predecessor: tip.hash,
                follows,
                body: vec![site.member.0[7]; 100],
            };
            let received = Received::decode(envelope.encode().into()).expect("our own transaction");
            assert_eq!(received.envelope, envelope);
            let author = (!site.went_back).then_some(site.member);
            self.pasts.insert(dot, (site.disk.vector.clone(), author));
            assert!(site.disk.apply(&received), "a dot was given out twice");
            moved.insert(
                start,
                Tip {
                    number: dot.number,
                    hash: received.hash,
                },
            );
            site.waiting.push_back(dot);
            local.push((dot, received.bytes));
        }
        if site.writes > 0 {
            self.commit_soon(index);
        }
        self.check_settled(index, &remote);
        if !moved.is_empty() {
            let moved = moved.into_iter().collect();
            self.input(index, Input::Committed { moved, local });
        }
    }

    /// The log of a site is over its limit: it goes, stable or not.
    pub(crate) fn outgrow(&mut self, index: usize) {
        let disk = &mut self.sites[index].disk;
        disk.log.clear();
        disk.trimmed.merge_max(&disk.vector);
        let trimmed = disk.trimmed.clone();
        self.input(index, Input::Trimmed(trimmed));
    }

    pub(super) fn check_stable(&self, index: usize, stable: &Vector) {
        let seats = |seat: MemberId| self.sites.iter().filter(|site| site.member == seat).count();
        let view = self.view(index);
        let counts = |seat| view.iter().any(|peer| peer.id == seat && counts(peer));
        let running = self
            .sites
            .iter()
            .enumerate()
            .filter(|(_, site)| site.gossip.is_some() && counts(site.member));
        for (other, site) in running.filter(|(_, site)| !site.wiped && seats(site.member) == 1) {
            assert!(
                site.disk.vector.covers_vector(stable),
                "{index} calls stable what {other} lacks: {stable:?}, which has {:?}",
                site.disk.vector
            );
        }
    }

    pub(super) fn trim(&mut self, index: usize, free: &Vector) {
        self.check_stable(index, free);
        if !self.trims {
            return;
        }
        let disk = &mut self.sites[index].disk;
        disk.log.retain(|(dot, _)| !free.covers(dot));
        disk.trimmed.merge_max(free);
        for (replica, floor) in free.floors() {
            disk.vector.fold(replica, floor.epoch);
            assert_eq!(disk.vector.floor(&replica), Some(floor), "two ways to fold");
        }
        let trimmed = disk.trimmed.clone();
        let life = self.sites[index].life;
        self.at(
            Duration::ZERO,
            Happening::Input {
                site: index,
                life,
                input: Input::Trimmed(trimmed),
            },
        );
    }
}
