//! Links with delays: streams that keep their order, and cuts in either direction.

use std::sync::Arc;
use std::time::Duration;

use gossip::{ConnectionId, Input, Message, PullEnd, Vector};

use super::{Happening, IDLE_TIMEOUT, PULL_CHUNK, World};

pub(super) struct Link {
    pub(super) ends: [(usize, ConnectionId); 2],
    /// When the last thing in each direction and class arrives: streams keep their order.
    pub(super) arrives: [[Duration; 2]; 2],
    pub(super) cut_since: Option<Duration>,
}

pub(super) enum Carried {
    Message(Message),
    Push(Arc<[u8]>),
    PullRequest {
        pull: u64,
        vector: Vector,
    },
    PullAnswer {
        pull: u64,
        transactions: Vec<Arc<[u8]>>,
        end: Option<PullEnd>,
    },
}

impl World {
    pub(super) fn establish(&mut self, from: usize, to: usize) {
        let id = self.next;
        self.next += 2;
        let ends = [(from, ConnectionId(id)), (to, ConnectionId(id + 1))];
        self.links.insert(
            id,
            Link {
                ends,
                arrives: [[self.now; 2]; 2],
                cut_since: None,
            },
        );
        let rtt = (self.delay)(from % 10, to % 10) * 2;
        for (site, other, connection, dialed) in [(from, to, ends[0].1, true), (to, from, ends[1].1, false)] {
            let member = self.sites[other].member;
            self.sites[site].connected.insert(connection, other);
            self.input(
                site,
                Input::Connected {
                    connection,
                    member,
                    dialed,
                },
            );
            self.input(site, Input::Rtt { connection, rtt });
        }
    }

    /// A link that is cut in either direction dies of silence at both ends.
    pub(super) fn check_links(&mut self) {
        let mut dead = Vec::new();
        for (id, link) in &mut self.links {
            let [a, b] = [link.ends[0].0, link.ends[1].0];
            if self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a)) {
                let since = *link.cut_since.get_or_insert(self.now);
                if self.now - since >= IDLE_TIMEOUT {
                    dead.push(*id);
                }
            } else {
                link.cut_since = None;
            }
        }
        for id in dead {
            let link = self.links.remove(&id).unwrap();
            for (site, connection) in link.ends {
                self.input(site, Input::Disconnected { connection });
            }
        }
    }

    pub(super) fn carry(&mut self, from: usize, connection: ConnectionId, class: usize, input: Carried) {
        let jitter = Duration::from_micros(self.rng.below(8000));
        let Some(link) = self
            .links
            .values_mut()
            .find(|link| link.ends.contains(&(from, connection)))
        else {
            return;
        };
        let direction = usize::from(link.ends[1].0 == from && link.ends[1].1 == connection);
        let (to, there) = link.ends[1 - direction];
        let arrives =
            (self.now + (self.delay)(from % 10, to % 10) + jitter).max(link.arrives[direction][class]);
        link.arrives[direction][class] = arrives;
        let after = arrives - self.now;
        self.at(
            after,
            Happening::Over {
                site: to,
                connection: there,
                class,
                input,
            },
        );
    }

    pub(super) fn arrive(&mut self, site: usize, connection: ConnectionId, class: usize, input: Carried) {
        let Some(link) = self
            .links
            .values_mut()
            .find(|link| link.ends.contains(&(site, connection)))
        else {
            return;
        };
        let here = usize::from(link.ends[1] == (site, connection));
        let from = link.ends[1 - here].0;
        let stuck = self.cuts.contains(&(from, site));
        if stuck {
            // Sent again until the connection dies.
            let again = Duration::from_millis(200);
            link.arrives[1 - here][class] = link.arrives[1 - here][class].max(self.now + again);
            self.at(
                again,
                Happening::Over {
                    site,
                    connection,
                    class,
                    input,
                },
            );
            return;
        }
        match input {
            Carried::Message(message) => self.input(site, Input::Message { connection, message }),
            Carried::Push(bytes) => self.input(site, Input::Pushed { connection, bytes }),
            Carried::PullRequest { pull, vector } => self.serve(site, connection, pull, &vector),
            Carried::PullAnswer {
                pull,
                transactions,
                end,
            } => {
                self.input(
                    site,
                    Input::Pulled {
                        connection,
                        pull,
                        transactions,
                        end,
                    },
                );
            }
        }
    }

    fn serve(&mut self, site: usize, connection: ConnectionId, pull: u64, vector: &Vector) {
        let disk = &self.sites[site].disk;
        if !vector.covers_vector(&disk.trimmed) {
            let answer = Carried::PullAnswer {
                pull,
                transactions: Vec::new(),
                end: Some(PullEnd::Trimmed),
            };
            self.carry(site, connection, 1, answer);
            return;
        }
        let beyond: Vec<Arc<[u8]>> = disk
            .log
            .iter()
            .filter(|(dot, _)| !vector.covers(dot))
            .map(|(_, bytes)| Arc::clone(bytes))
            .collect();
        for chunk in beyond.chunks(PULL_CHUNK) {
            let answer = Carried::PullAnswer {
                pull,
                transactions: chunk.to_vec(),
                end: None,
            };
            self.carry(site, connection, 1, answer);
        }
        let answer = Carried::PullAnswer {
            pull,
            transactions: Vec::new(),
            end: Some(PullEnd::Done),
        };
        self.carry(site, connection, 1, answer);
    }
}
