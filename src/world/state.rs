//! The world as the page shows it, once a second.

use std::sync::Arc;

use serde::Serialize;

use super::client::DiskSeen;
use super::gauges::Second;
use super::monitor::PairLag;
use super::network::{micros, one_way};
use super::plan::HASHING_NOTE;
use super::timeline::Moment;
use super::web::Places;
use super::{World, locked};

/// Everything on the page.
#[derive(Serialize)]
pub(crate) struct WorldState {
    version: &'static str,
    /// The scenario or measurement that is being run, if any: the buttons rest then.
    running: Option<&'static str>,
    seed: String,
    up_s: f64,
    rate: f64,
    note: &'static str,
    people: usize,
    writes: super::ledger::Counts,
    sites: Vec<SiteState>,
    links: Vec<LinkState>,
    timeline: Vec<Moment>,
    /// What browsers reach.
    web: Option<WebState>,
}

#[derive(Serialize)]
struct WebState {
    places: Places,
    /// The site that people should be sent to, and the one that they are sent to.
    chosen: Option<usize>,
    serving: Option<usize>,
    /// Those that answer their heartbeat.
    well: Vec<usize>,
    /// Whom the last ambush has killed, once it has.
    ambushed: Option<usize>,
}

#[derive(Serialize)]
struct SiteState {
    name: String,
    city: &'static str,
    latitude: f64,
    longitude: f64,
    life: Life,
    /// Parted from all others.
    apart: bool,
    in_rotation: bool,
    pid: Option<u32>,
    starts: u64,
    alone: bool,
    isolated: bool,
    transactions: u64,
    quarantined: u64,
    early: u64,
    alarms: Vec<String>,
    disk: DiskSeen,
    resident_kib: Option<u64>,
    p50_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    failed: u64,
    turned_away: u64,
    failures: Vec<String>,
    seconds: Vec<Second>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Life {
    /// Serves.
    Ready,
    /// Its process runs, but it does not serve (yet, or any more).
    Starting,
    Down,
}

/// A pair of sites, the first before the second.
#[derive(Serialize)]
struct LinkState {
    a: usize,
    b: usize,
    rtt_ms: f64,
    /// As the first one measures it.
    measured_ms: Option<f64>,
    /// What the first sends does not arrive; what the second sends does not.
    cut_ab: bool,
    cut_ba: bool,
    /// As either of them says; unknown when neither does.
    connected: Option<bool>,
    lag_ab: Option<PairLag>,
    lag_ba: Option<PairLag>,
    /// Transactions that the second lacks of the first, and the other way round.
    behind_ab: Option<u64>,
    behind_ba: Option<u64>,
}

impl WorldState {
    /// Looks at everything, asking nobody: the monitor has asked already.
    pub(crate) fn of(world: &World) -> WorldState {
        let count = world.sites.len();
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        WorldState {
            version: env!("CARGO_PKG_VERSION"),
            running: world.running,
            // A number of 64 bits is more than JavaScript counts to.
            seed: world.seed.to_string(),
            up_s: world.timeline.elapsed().as_secs_f64(),
            rate: world.load.rate(),
            note: HASHING_NOTE,
            people: locked(&world.people).len(),
            writes: locked(&world.ledger).counts,
            sites: (0..count).filter_map(|site| site_state(world, site)).collect(),
            links: pairs.map(|(a, b)| link_state(world, a, b)).collect(),
            timeline: world.timeline.latest(TIMELINE_SHOWN),
            web: world.web.as_ref().map(|(places, front, _)| WebState {
                places: places.clone(),
                chosen: front.chosen(),
                serving: front.serving(),
                well: front.well(),
                ambushed: front.ambushed(),
            }),
        }
    }
}

fn site_state(world: &World, index: usize) -> Option<SiteState> {
    let site = world.sites.get(index)?;
    let plan = site.plan();
    let status = world
        .monitor
        .status(index)
        .map(Arc::unwrap_or_clone)
        .unwrap_or_default();
    let in_rotation = world.monitor.in_rotation(index);
    let life = match (site.is_up(), in_rotation) {
        (false, _) => Life::Down,
        (true, true) => Life::Ready,
        (true, false) => Life::Starting,
    };
    let gauges = locked(&world.gauges);
    let window = gauges.window(index)?;
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1_000.0;
    Some(SiteState {
        name: plan.name.clone(),
        city: plan.city,
        latitude: plan.latitude,
        longitude: plan.longitude,
        life,
        apart: locked(&world.network).is_apart(index),
        in_rotation,
        pid: site.pid(),
        starts: site.generation(),
        alone: status.alone,
        isolated: status.isolated,
        transactions: status.vector_total,
        quarantined: status.quarantined,
        early: status.early,
        alarms: status.alarms,
        disk: status.disk,
        resident_kib: site.resident_kib(),
        p50_ms: ms(window.quantile(0.5)),
        p99_ms: ms(window.quantile(0.99)),
        longest_ms: ms(window.longest()),
        failed: window.failed(),
        turned_away: window.turned_away,
        failures: window
            .failures
            .iter()
            .map(|(reason, count)| format!("{count} × {reason}"))
            .collect(),
        seconds: gauges.seconds(index),
    })
}

fn link_state(world: &World, a: usize, b: usize) -> LinkState {
    let peer = |of: usize, to: usize| {
        let member = world.sites.get(to)?.plan().member.clone();
        let status = world.monitor.status(of)?;
        status.peers.iter().find(|peer| peer.member == member).cloned()
    };
    let (ab, ba) = (peer(a, b), peer(b, a));
    let (cut_ab, cut_ba) = {
        let network = locked(&world.network);
        (network.is_cut(a, b), network.is_cut(b, a))
    };
    let connected = match (&ab, &ba) {
        (None, None) => None,
        (ab, ba) => Some([ab, ba].into_iter().flatten().all(|peer| peer.connected)),
    };
    LinkState {
        a,
        b,
        rtt_ms: 2.0 * micros(one_way(a, b)) as f64 / 1_000.0,
        measured_ms: ab.as_ref().and_then(|peer| peer.rtt_ms),
        cut_ab,
        cut_ba,
        connected,
        lag_ab: world.monitor.lag(a, b),
        lag_ba: world.monitor.lag(b, a),
        behind_ab: ab.map(|peer| peer.behind_us),
        behind_ba: ba.map(|peer| peer.behind_us),
    }
}

const TIMELINE_SHOWN: usize = 40;
