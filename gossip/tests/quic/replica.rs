//! A world of nodes over loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use gossip::quic::{Ground, Identity, Link, MemberConfig, Node, NodeConfig, Replica, Shape};
use gossip::{MemberId, Peer, PeerState, Received, Vector, Writer};
use tokio::sync::mpsc;

use crate::memory::{Memory, PATIENCE, config, member_id, writer};

/// One site: what outlives its node, and its node.
pub(crate) struct Site {
    pub(crate) identity: Identity,
    pub(crate) member: MemberId,
    pub(crate) shape: Arc<Shape>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) node: Node,
    pub(crate) address: SocketAddr,
    starts: Vec<Writer>,
}

pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    /// Members without a node: their addresses are dead, their keys listed.
    pub(crate) ghosts: Vec<Identity>,
}

pub(crate) fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["anything".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap()
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl World {
    /// So many sites that know each other, and members that are only listed.
    pub(crate) async fn new(sites: usize, ghosts: usize) -> World {
        let world = World::unmet(sites, ghosts, |_| {}).await;
        world.meet();
        world
    }

    /// Makes all sites known to each other.
    pub(crate) fn meet(&self) {
        let members = self.members();
        for site in &self.sites {
            site.node.set_members(members.clone());
        }
    }

    /// Sites that do not know each other yet.
    pub(crate) async fn unmet(sites: usize, ghosts: usize, adjust: impl Fn(&mut NodeConfig)) -> World {
        let mut world = World {
            sites: Vec::new(),
            ghosts: (0..ghosts).map(|_| identity()).collect(),
        };
        for number in 0..sites {
            let starts = vec![writer(number, 1)];
            let (identity, shape) = (identity(), Shape::new(number as u64));
            let (memory, queue) = Memory::new(&starts, None, |_| {});
            // The others are not known yet: their ports are drawn as they start.
            let mut node_config = NodeConfig {
                listen: loopback(),
                identity: identity.clone(),
                core: config(number, &starts),
                members: Vec::new(),
                ground: Ground::default(),
                snapshot_bytes_per_second: gossip::quic::SNAPSHOT_BYTES_PER_SECOND,
                shape: Some(Arc::clone(&shape)),
            };
            adjust(&mut node_config);
            let node = start(node_config, &memory, queue).await;
            let (member, address) = (member_id(number), node.local_addr());
            world.sites.push(Site {
                identity,
                member,
                shape,
                memory,
                node,
                address,
                starts,
            });
        }
        world
    }

    pub(crate) fn members(&self) -> Vec<MemberConfig> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let living = self.sites.iter().map(|site| (&site.identity, site.address));
        let listed = living.chain(self.ghosts.iter().map(|ghost| (ghost, nowhere)));
        listed
            .enumerate()
            .map(|(number, (identity, address))| MemberConfig {
                peer: Peer {
                    id: member_id(number),
                    name: format!("member-{number}"),
                    site: format!("site-{number}"),
                    state: PeerState::Active,
                },
                addresses: vec![address.to_string()],
                keys: vec![identity.public_key().to_vec()],
            })
            .collect()
    }

    pub(crate) fn memory(&self, number: usize) -> &Memory {
        &self.sites[number].memory
    }

    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.sites[number].node
    }

    /// Sets how `from` sends to `to`.
    pub(crate) fn link(&self, from: usize, to: usize, link: Link) {
        self.sites[from].shape.set(self.sites[to].address, link);
    }

    pub(crate) fn cut(&self, a: usize, b: usize) {
        self.link(
            a,
            b,
            Link {
                cut_out: true,
                cut_in: true,
                ..Link::default()
            },
        );
    }

    pub(crate) fn heal(&self) {
        for site in &self.sites {
            site.shape.clear();
        }
    }

    /// Waits until a node's picture is so.
    pub(crate) async fn picture(
        &self,
        number: usize,
        what: &str,
        so: impl Fn(&gossip::quic::NodeStatus) -> bool,
    ) {
        let mut status = self.node(number).watch_status();
        let waiting = status.wait_for(|status| so(status));
        if let Ok(found) = tokio::time::timeout(PATIENCE, waiting).await {
            found.unwrap();
            return;
        }
        panic!("site {number} never: {what}; {:#?}", self.node(number).status());
    }

    /// Waits until every site is connected to so many others.
    pub(crate) async fn connected(&self, others: usize) {
        for number in 0..self.sites.len() {
            self.picture(number, &format!("connected to {others}"), |status| {
                connected(status) == others
            })
            .await;
        }
    }

    /// Waits until every site has what any of them has.
    pub(crate) async fn level(&self) {
        let mut all = Vector::new();
        for site in &self.sites {
            all.merge_max(&site.memory.vector());
        }
        for site in &self.sites {
            site.memory
                .until("level with all", |memory| memory.vector().covers_vector(&all))
                .await;
        }
        let bodies = self.memory(0).bodies();
        assert!(
            self.sites.iter().all(|site| site.memory.bodies() == bodies),
            "vectors agree, contents do not"
        );
    }

    /// Stops a node and starts it again on what its memory kept, as a new start.
    pub(crate) async fn restart(&mut self, number: usize) {
        self.stop(number).await;
        self.start_again(number).await;
    }

    pub(crate) async fn stop(&self, number: usize) {
        self.node(number).clone().shutdown().await;
    }

    pub(crate) async fn start_again(&mut self, number: usize) {
        let members = self.members();
        let site = &mut self.sites[number];
        let epoch = u32::try_from(site.starts.len()).unwrap() + 1;
        site.starts.push(writer(number, epoch));
        let (memory, queue) = Memory::new(&site.starts, Some(&site.memory), |_| {});
        let node_config = NodeConfig {
            listen: site.address,
            identity: site.identity.clone(),
            core: config(number, &site.starts),
            members,
            ground: Ground::default(),
            snapshot_bytes_per_second: gossip::quic::SNAPSHOT_BYTES_PER_SECOND,
            shape: Some(Arc::clone(&site.shape)),
        };
        site.node = start(node_config, &memory, queue).await;
        site.memory = memory;
    }
}

pub(crate) fn connected(status: &gossip::quic::NodeStatus) -> usize {
    status.gossip.peers.iter().filter(|peer| peer.connected).count()
}

async fn start(
    config: NodeConfig,
    memory: &Arc<Memory>,
    queue: mpsc::UnboundedReceiver<Vec<Received>>,
) -> Node {
    let replica: Arc<dyn Replica> = memory.clone();
    let node = Node::start(config, memory.vector(), Vector::new(), replica)
        .await
        .unwrap();
    memory.attach(node.clone(), queue);
    node
}
