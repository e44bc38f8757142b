//! Some nodes on simulated hosts, and what befalls them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gossip::quic::{Blocking, Ground, MemberConfig, Node, NodeConfig, Replica};
use gossip::{Config, Limits, Peer, PeerState, Vector, Writer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turmoil::Sim;

use crate::memory::{Memory, config, member_id, writer};
use crate::network::{Socket, identity};

const PORT: u16 = 7000;
/// 2026-01-01, for the wall clocks.
const WALL_BEGIN_MS: u64 = 1_767_225_600_000;
/// Faults and writes end after this.
const TROUBLE: Duration = Duration::from_secs(40);
/// After the last fault all must have the same within this. With one datagram in a hundred lost, a pull over the
/// longest link still has its 100 KB/s.
const HEALING: Duration = Duration::from_secs(60);
/// How often each compares what it holds with each other.
const LOOK_INTERVAL: Duration = Duration::from_secs(6);
/// The last node joins at most so late, with nothing.
const LATE_MS_MAX: u64 = 25_000;
/// A replica with nothing copies a log that is longer, in place of pulling it.
const LOG_CATCH_UP_MAX: u64 = 50;
/// Idle before the end, so that what is late still shows in the log.
const QUIET: Duration = Duration::from_secs(3);

/// What a run came to.
pub(crate) struct Run {
    pub(crate) log: Vec<String>,
    pub(crate) summary: String,
    pub(crate) lasted: Duration,
}

/// What the hosts and the one who troubles them share.
pub(crate) struct World {
    seed: u64,
    loss: f64,
    addresses: Mutex<Vec<IpAddr>>,
    sites: Vec<Mutex<Site>>,
    log: Mutex<Vec<String>>,
    datagrams: Mutex<Datagrams>,
}

/// What outlives a crash.
#[derive(Default)]
struct Site {
    starts: Vec<Writer>,
    memory: Option<Arc<Memory>>,
    node: Option<Node>,
}

#[derive(Default)]
struct Datagrams {
    sent: u64,
    lost: u64,
    /// Over when and whither each went.
    ways: blake3::Hasher,
}

/// What happened to the world, and how often.
#[derive(Default, Debug)]
struct Troubles {
    cuts: u32,
    one_way_cuts: u32,
    crashes: u32,
}

impl World {
    pub(crate) fn run(seed: u64) -> Run {
        let mut chance = StdRng::seed_from_u64(seed);
        let hosts = chance.random_range(3..=5);
        let world = Arc::new(World {
            seed,
            loss: [0.0, 0.002, 0.01][chance.random_range(0..3)],
            addresses: Mutex::new(Vec::new()),
            sites: (0..hosts).map(|_| Mutex::default()).collect(),
            log: Mutex::new(Vec::new()),
            datagrams: Mutex::default(),
        });
        let mut sim = turmoil::Builder::new()
            .rng_seed(chance.random())
            .simulation_duration(TROUBLE + HEALING + QUIET + Duration::from_secs(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(chance.random_range(1..8)))
            .udp_capacity(100_000)
            .build();
        for number in 0..hosts {
            let address = sim.lookup(name(number));
            world.addresses.lock().unwrap().push(address);
        }
        for number in 0..hosts {
            let world = Arc::clone(&world);
            sim.host(name(number), move || Arc::clone(&world).live(number));
        }
        // As between real places: some far apart, in order; some near, where the order varies.
        for one in 0..hosts {
            for other in 0..one {
                if chance.random() {
                    let delay = Duration::from_millis(chance.random_range(1..160));
                    sim.set_link_latency(name(one), name(other), delay);
                }
            }
        }
        let troubles = world.trouble(&mut sim, &mut chance);
        let healed = world.converge(&mut sim);
        world.end(&mut sim);
        let (datagrams, log) = (world.datagrams.lock().unwrap(), world.log.lock().unwrap());
        let totals = world.totals();
        let summary = format!(
            "{hosts} nodes, {} transactions, {troubles:?}, {totals}, {} datagrams of which {} lost; all agree {:.1} s after",
            world.bodies().len(),
            datagrams.sent,
            datagrams.lost,
            healed.as_secs_f64(),
        );
        Run {
            log: log.clone(),
            summary,
            lasted: sim.elapsed(),
        }
    }

    /// One life of one host.
    async fn live(self: Arc<World>, number: usize) -> turmoil::Result {
        let latecomer = number + 1 == self.sites.len();
        if latecomer && self.sites[number].lock().unwrap().starts.is_empty() {
            let late = Duration::from_millis(StdRng::seed_from_u64(self.seed).random_range(0..LATE_MS_MAX));
            tokio::time::sleep(late.saturating_sub(elapsed())).await;
        }
        let (memory, queue, starts) = {
            let mut site = self.sites[number].lock().unwrap();
            let start = writer(number, u32::try_from(site.starts.len()).unwrap() + 1);
            site.starts.push(start);
            let world = Arc::clone(&self);
            let told = move |what: String| world.tell(number, &what);
            let (memory, queue) = Memory::new(&site.starts, site.memory.as_deref(), told);
            if site.memory.is_none() {
                // What each holds and no transaction explains is to be found and repaired.
                for record in 0..100 {
                    memory
                        .records
                        .put(record, &[(record as usize % (number + 2)) as u8]);
                }
            }
            site.memory = Some(Arc::clone(&memory));
            (memory, queue, site.starts.clone())
        };
        let life = self.seed ^ ((number as u64) << 32) ^ ((starts.len() as u64) << 40);
        let mut chance = StdRng::seed_from_u64(life);
        let world = Arc::clone(&self);
        let told = move |to, lost| world.sent(number, to, lost);
        let socket = Socket::bind(PORT, chance.random(), self.loss, told).await;
        let replica: Arc<dyn Replica> = memory.clone();
        let node_config = NodeConfig {
            listen: ([0, 0, 0, 0], PORT).into(),
            identity: identity(number),
            core: Config {
                look_interval: Some(LOOK_INTERVAL),
                limits: Limits {
                    log_catch_up_max: LOG_CATCH_UP_MAX,
                    ..Limits::default()
                },
                ..config(number, &starts)
            },
            members: self.members(),
            ground: Ground {
                socket: Some(socket),
                wall_ms: Arc::new(|| WALL_BEGIN_MS + u64::try_from(elapsed().as_millis()).unwrap()),
                seed: chance.random(),
                blocking: Blocking::InPlace,
                ..Ground::default()
            },
            snapshot_bytes_per_second: gossip::quic::SNAPSHOT_BYTES_PER_SECOND,
            #[cfg(feature = "shaped")]
            shape: None,
        };
        let node = Node::start(node_config, memory.vector(), Vector::new(), replica).await?;
        memory.attach(node.clone(), queue);
        self.sites[number].lock().unwrap().node = Some(node.clone());
        while elapsed() < TROUBLE {
            tokio::time::sleep(Duration::from_millis(chance.random_range(1..500))).await;
            // A site writes once it has caught up.
            if !node.is_ready() {
                continue;
            }
            // Now and then more than one push queue or pull chunk holds.
            for _ in 0..if chance.random_bool(0.01) { 200 } else { 1 } {
                memory.write(&vec![number as u8; chance.random_range(0..3000)]);
            }
        }
        std::future::pending().await
    }

    fn members(&self) -> Vec<MemberConfig> {
        let addresses = self.addresses.lock().unwrap();
        let member = |(number, address): (usize, &IpAddr)| MemberConfig {
            peer: Peer {
                id: member_id(number),
                name: name(number),
                site: format!("site-{number}"),
                state: PeerState::Active,
            },
            addresses: vec![format!("{address}:{PORT}")],
            keys: vec![identity(number).public_key().to_vec()],
        };
        addresses.iter().enumerate().map(member).collect()
    }

    /// Cuts, one-way cuts and crashes, some of them at once; and their ends.
    fn trouble(&self, sim: &mut Sim<'_>, chance: &mut StdRng) -> Troubles {
        let mut troubles = Troubles::default();
        let mut down = BTreeSet::new();
        while sim.elapsed() < TROUBLE {
            let until = sim.elapsed() + Duration::from_millis(chance.random_range(200..4000));
            while sim.elapsed() < until.min(TROUBLE) {
                sim.step().unwrap();
            }
            let (one, other) = (
                chance.random_range(0..self.sites.len()),
                chance.random_range(0..self.sites.len()),
            );
            match chance.random_range(0..7) {
                0 if one != other => {
                    self.note(sim, &format!("cut between {one} and {other}"));
                    sim.partition(name(one), name(other));
                    troubles.cuts += 1;
                }
                1 if one != other => {
                    self.note(sim, &format!("cut from {one} to {other}"));
                    sim.partition_oneway(name(one), name(other));
                    troubles.one_way_cuts += 1;
                }
                2 | 3 if one != other => sim.repair(name(one), name(other)),
                4 if down.insert(one) => {
                    self.note(sim, &format!("{one} crashes"));
                    sim.crash(name(one));
                    troubles.crashes += 1;
                }
                _ => {
                    if let Some(number) = down.pop_first() {
                        self.note(sim, &format!("{number} starts again"));
                        sim.bounce(name(number));
                    }
                }
            }
        }
        for one in 0..self.sites.len() {
            for other in 0..one {
                sim.repair(name(one), name(other));
            }
        }
        for number in down {
            sim.bounce(name(number));
        }
        troubles
    }

    /// Runs on until all have the same, and says how long that took.
    fn converge(&self, sim: &mut Sim<'_>) -> Duration {
        let healed = sim.elapsed();
        while !self.is_level() {
            sim.step().unwrap();
            let waited = sim.elapsed() - healed;
            assert!(
                waited < HEALING,
                "seed {}: not level {waited:?} after the last fault",
                self.seed
            );
        }
        let bodies = self.bodies();
        for number in 0..self.sites.len() {
            assert_eq!(
                self.memory(number).bodies(),
                bodies,
                "vectors agree, contents do not"
            );
        }
        sim.elapsed() - healed
    }

    fn end(&self, sim: &mut Sim<'_>) {
        let until = sim.elapsed() + QUIET;
        while sim.elapsed() < until {
            sim.step().unwrap();
        }
        for number in 0..self.sites.len() {
            let node = self.sites[number].lock().unwrap().node.clone().unwrap();
            let status = node.status();
            assert!(status.gossip.ready, "seed {}: {number} is not ready", self.seed);
            assert_eq!(
                status.traffic.frames_refused, 0,
                "a correct peer's frame was refused"
            );
            self.note(sim, &format!("{number}: {:?}", status.gossip));
        }
        let ways = self.datagrams.lock().unwrap().ways.finalize();
        self.note(sim, &format!("all datagrams: {ways}"));
    }

    fn is_level(&self) -> bool {
        let lives = |site: &Mutex<Site>| site.lock().unwrap().memory.is_some();
        if !self.sites.iter().all(lives) {
            return false;
        }
        let first = self.memory(0);
        (1..self.sites.len()).all(|number| {
            let other = self.memory(number);
            other.vector() == first.vector() && other.records.all() == first.records.all()
        })
    }

    /// What all nodes did, since their last starts.
    fn totals(&self) -> String {
        let mut totals = [0; 4];
        for site in &self.sites {
            let status = site.lock().unwrap().node.as_ref().unwrap().status();
            let counts = [
                status.traffic.pulls_served,
                status.traffic.repairs_answered,
                status.traffic.snapshots_given,
                status.traffic.talks_failed,
            ];
            totals
                .iter_mut()
                .zip(counts)
                .for_each(|(total, count)| *total += count);
        }
        let [pulls, repairs, snapshots, failed] = totals;
        format!("{pulls} pulls, {repairs} comparisons, {snapshots} copies, {failed} broke off")
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.memory(0).bodies()
    }

    fn memory(&self, number: usize) -> Arc<Memory> {
        Arc::clone(self.sites[number].lock().unwrap().memory.as_ref().unwrap())
    }

    /// Said by a host.
    fn tell(&self, number: usize, what: &str) {
        let line = format!("{:?} {} {what}", elapsed(), name(number));
        self.log.lock().unwrap().push(line);
    }

    /// Said by the one outside.
    fn note(&self, sim: &Sim<'_>, what: &str) {
        self.log
            .lock()
            .unwrap()
            .push(format!("{:?} {what}", sim.elapsed()));
    }

    fn sent(&self, number: usize, to: std::net::SocketAddr, lost: bool) {
        let mut datagrams = self.datagrams.lock().unwrap();
        datagrams.sent += 1;
        datagrams.lost += u64::from(lost);
        let way = format!("{:?} {number} {to} {lost}", elapsed());
        datagrams.ways.update(way.as_bytes());
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

/// Virtual time since the world began.
fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap()
}
