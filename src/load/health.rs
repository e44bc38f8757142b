//! Asks how a site is while it is under load, as a load balancer does: an answer that waits behind users' requests would take
//! the site out of rotation just when it is needed.

use std::{sync::Arc, time::Duration};

use axum::http::{Request, header::RETRY_AFTER};
use http_body_util::Full;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    connections::Connections,
    errand::Ground,
    tally::{Ending, Row},
};

/// What is asked.
const PATHS: [&str; 2] = ["/__lbheartbeat__", "/__heartbeat__"];
/// Between two questions of one kind to one site.
const PERIOD: Duration = Duration::from_millis(250);

/// Asks a site from the begin of the measurement to its end. Over connections of its own: a check that waits for a place among
/// users would measure the generator.
pub(crate) fn watch(ground: &Arc<Ground>, site: usize, begin: Instant, end: Instant) {
    let Some(target) = ground.sites.get(site).map(|site| site.target().clone()) else {
        return;
    };
    for path in PATHS {
        let (ground, connections) = (ground.clone(), Connections::new(target.clone(), 2));
        tokio::spawn(async move {
            let mut ticks = interval_at(begin, PERIOD);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            loop {
                let due = ticks.tick().await;
                if due >= end {
                    return;
                }
                let ending = ask(&connections, path).await;
                let took = due.elapsed();
                let mut counts = ground.tally.counts();
                counts
                    .health
                    .entry(path)
                    .or_insert_with(Row::new)
                    .note(&ending, took);
            }
        });
    }
}

async fn ask(connections: &Connections, path: &str) -> Ending {
    let Ok(request) = Request::get(path).body(Full::default()) else {
        return Ending::Failed("no request could be made".to_owned());
    };
    match connections.ask(request).await {
        Ok(reply) if reply.status.is_success() => Ending::Done,
        Ok(reply) if reply.status.as_u16() == 503 => Ending::Refused {
            says_when: reply.headers.contains_key(RETRY_AFTER),
        },
        Ok(reply) => Ending::Failed(reply.status.as_u16().to_string()),
        Err(error) => Ending::Failed(error.to_string()),
    }
}
