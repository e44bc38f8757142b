//! Conversations and snapshots between disks that hold no records, and what is promised of settled transactions.

use std::time::Duration;

use gossip::reconcile::{Purpose, Verdict};
use gossip::{ConnectionId, Dot, Input, MemberId, Output, Vector};

use super::{Disk, Happening, World, counts};

/// What a talk will have brought, if its connection lives so long.
pub(super) struct TalkEnd {
    site: usize,
    life: u64,
    connection: ConnectionId,
    with: MemberId,
    /// None: a snapshot.
    purpose: Option<Purpose>,
    /// The far end, as it was pinned.
    pinned: Disk,
}

/// So long a talk takes beside two round trips.
const TALK: Duration = Duration::from_millis(300);

impl World {
    pub(super) fn begin_talk(&mut self, index: usize, output: Output) {
        let (connection, purpose) = match output {
            Output::Reconcile { connection, purpose } => (connection, Some(purpose)),
            Output::Snapshot { connection } => (connection, None),
            _ => return,
        };
        self.sites[index].talks.push(output);
        let far = self.sites[index].connected[&connection];
        let (member, with) = (self.sites[index].member, self.sites[far].member);
        let pinned = self.sites[far].disk.clone();
        if matches!(purpose, None | Some(Purpose::CatchUp)) {
            let cut = pinned.vector.clone();
            self.input(far, Input::Serving { member, cut });
        }
        let after = (self.delay)(index % 10, far % 10) * 4 + TALK;
        let end = TalkEnd {
            site: index,
            life: self.sites[index].life,
            connection,
            with,
            purpose,
            pinned,
        };
        self.at(after, Happening::TalkEnd(Box::new(end)));
    }

    pub(super) fn end_talk(&mut self, end: TalkEnd) {
        let TalkEnd {
            site,
            life,
            connection,
            with: member,
            purpose,
            pinned,
        } = end;
        if self.sites[site].life != life {
            return;
        }
        let lives = self
            .links
            .values()
            .any(|link| link.ends.contains(&(site, connection)));
        let Some(purpose) = purpose else {
            let installed = lives && self.install(site, pinned);
            self.input(site, Input::SnapshotEnded { member, installed });
            return;
        };
        let verdict = lives.then(|| Verdict {
            divergent: [].into(),
            lagging: u64::from(self.sites[site].disk.vector != pinned.vector),
            conclusive: true,
            bytes: 200,
            round_trips: 1,
        });
        self.input(
            site,
            Input::Reconciled {
                member,
                purpose,
                verdict,
            },
        );
        if lives && purpose == Purpose::CatchUp {
            let before = self.sites[site].disk.vector.clone();
            self.sites[site].disk.jump(&pinned.vector);
            let disk = &self.sites[site].disk;
            let news: Vec<Dot> = self
                .pasts
                .keys()
                .filter(|dot| !before.covers(dot) && disk.vector.covers(dot))
                .copied()
                .collect();
            let (vector, trimmed) = (disk.vector.clone(), disk.trimmed.clone());
            self.check_settled(site, &news);
            self.input(site, Input::CaughtUp { vector, trimmed });
        }
    }

    /// Runs on a copy of another disk, under a replica id of its own.
    fn install(&mut self, index: usize, copy: Disk) -> bool {
        let site = &mut self.sites[index];
        if !site.disk.vector.is_empty() {
            return false;
        }
        let starts = std::mem::take(&mut site.disk.starts);
        site.disk = Disk {
            starts,
            replica: None,
            ..copy
        };
        site.settled = Vector::new();
        self.restart_writer(index, 0);
        let site = &mut self.sites[index];
        site.queue.clear();
        let restarted = Input::Restarted {
            start: site.start.unwrap(),
            own_starts: site.disk.starts.clone(),
            vector: site.disk.vector.clone(),
        };
        let trimmed = site.disk.trimmed.clone();
        self.input(index, restarted);
        self.input(index, Input::Trimmed(trimmed));
        true
    }

    pub(super) fn settled(&mut self, index: usize, settled: &Vector) {
        let view = self.view(index);
        let without = view.iter().filter(|peer| !counts(peer)).map(|peer| peer.id);
        let site = &mut self.sites[index];
        site.settled_without.extend(without);
        let stable = site.gossip.as_ref().unwrap().stable();
        assert!(
            stable.covers_vector(settled),
            "{index} calls settled what is not stable"
        );
        site.settled.merge_max(settled);
    }

    /// Nothing that came now may be concurrent with what was called settled before.
    pub(super) fn check_settled(&self, index: usize, news: &[Dot]) {
        let site = &self.sites[index];
        for dot in news {
            if let Some((past, Some(author))) = self.pasts.get(dot)
                && !site.settled_without.contains(author)
            {
                assert!(
                    past.covers_vector(&site.settled),
                    "{dot} came to {index}, and is concurrent with what was settled there"
                );
            }
        }
    }
}
