//! What Prometheus sees of a site beside what the domain counts itself: the status, once a second.

use std::{sync::Weak, time::Duration};

use metrics::gauge;

use crate::{admin, site::Site};

const EVERY: Duration = Duration::from_secs(1);

/// Sets the gauges until the site is gone. Without a recorder (no `metrics` in the configuration) nothing happens.
pub(crate) async fn export(site: Weak<Site>) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let Some(site) = site.upgrade() else { return };
        let status = admin::report(&site);
        for (name, value) in status.counters {
            gauge!(format!("persona_{name}")).set(value as f64);
        }
        gauge!("persona_healthy").set(f64::from(u8::from(status.healthy)));
        gauge!("persona_ready").set(f64::from(u8::from(status.ready)));
        gauge!("persona_isolated").set(f64::from(u8::from(status.isolated)));
        gauge!("persona_alarms").set(status.alarms.len() as f64);
        gauge!("persona_transactions").set(status.vector_total as f64);
        gauge!("persona_transactions_stable").set(status.stable as f64);
        gauge!("persona_early").set(status.early as f64);
        gauge!("persona_disk_free_mib").set(status.disk.free_mib as f64);
        for peer in status.peers {
            gauge!("persona_peer_connected", "peer" => peer.name.clone())
                .set(f64::from(u8::from(peer.connected)));
            gauge!("persona_peer_behind_us", "peer" => peer.name.clone()).set(peer.behind_us as f64);
            gauge!("persona_peer_ahead_of_us", "peer" => peer.name.clone()).set(peer.ahead_of_us as f64);
            gauge!("persona_peer_divergent_records", "peer" => peer.name.clone())
                .set(peer.looks.divergent_records as f64);
            // The age of what is known: a peer that is never compared must not look well.
            gauge!("persona_peer_compared_seconds_ago", "peer" => peer.name)
                .set(peer.verdict_ms_ago.map_or(f64::INFINITY, |ms| ms as f64 / 1000.0));
        }
    }
}
