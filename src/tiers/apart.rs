//! Tiers in a process of their own, whose replica is another process of the site.
//!
//! Such a process keeps what is its own: a secure webhead its session key and its outbox, a keysigner its certificate key, a
//! webhead nothing. What it has to know of the cluster it hears from the replica: the public keys of all sites, whether
//! people should be sent here.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::Router;
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    Tier, Upstream,
    construction::{Construction, Ground},
    discovery_api::RemoteDiscovery,
    internal::only_for,
    keys::PublishedKeys,
    replica_api::{RemoteReplica, SiteHealth},
    together::ServeError,
    upstream::{HostPort, Remote},
    wellbeing,
};
use crate::{
    browserid::Usage,
    config::TierConfig,
    identity::{IndexKey, PasswordPool, Replica},
    idp::Discovery,
    keyring::{Keyring, Keys},
    listener::Listener,
    mail::Mailer,
    webhead::health::{Check, Health},
};

/// How often what the replica says is asked for.
const LOOK: Duration = Duration::from_secs(1);
/// Rounds of offers and answers without a wait.
const ROUNDS_MAX: usize = 8;
/// For mails under way when the process stops.
const MAIL_DRAIN: Duration = Duration::from_secs(5);

/// Tiers without a replica, running.
pub struct Apart {
    hearing: Arc<Hearing>,
    doors: Vec<(Listener, Router)>,
    mailer: Option<Arc<Mailer>>,
    drain_timeout: Duration,
}

/// What is heard of the replica.
struct Hearing {
    replica: RemoteReplica,
    keys: Arc<Keys>,
    health: ArcSwap<SiteHealth>,
    is_heard: AtomicBool,
    /// This process is on its way out.
    is_draining: AtomicBool,
}

impl Apart {
    /// Makes these tiers as the configuration says. They serve once the replica is heard.
    pub async fn start(config: &TierConfig, tiers: &[Tier]) -> Result<Apart, ServeError> {
        config.check(tiers)?;
        let runs = |tier| tiers.contains(&tier);
        let identity = config.tiers.identity(&config.site)?;
        let reach = |tier: Tier, address: &Option<HostPort>| match address {
            Some(address) => Remote::new(tier, address.clone(), &identity).map(Some),
            None => Ok(None),
        };
        let remote = reach(Tier::Replica, &config.tiers.replica).map_err(ServeError::Tls)?;
        let Some(remote) = remote else {
            return Err(ServeError::Unreachable(Tier::Replica));
        };
        let replica = RemoteReplica::new(remote);
        let hearing = Arc::new(Hearing {
            replica: replica.clone(),
            keys: Arc::default(),
            health: ArcSwap::default(),
            is_heard: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
        });
        tokio::spawn(listen(Arc::downgrade(&hearing)));
        let mut uses = Vec::new();
        if runs(Tier::SecureWebhead) {
            uses.push(Usage::Session);
        }
        if runs(Tier::Keysigner) {
            uses.push(Usage::Certificate);
        }
        let keyring = match &config.data {
            Some(data) if !uses.is_empty() => Some(Arc::new(Keyring::open(&data.join("keys"), &uses)?)),
            _ => None,
        };
        if let Some(keyring) = &keyring {
            tokio::spawn(keep(Arc::downgrade(keyring), replica.clone()));
        }
        let public_url = &config.public_url;
        let discovery = match &config.tiers.secure_webhead {
            _ if runs(Tier::SecureWebhead) => config.discovery()?,
            Some(address) if runs(Tier::Webhead) => {
                let remote = Remote::new(Tier::SecureWebhead, address.clone(), &identity);
                let elsewhere = RemoteDiscovery::new(remote.map_err(ServeError::Tls)?);
                Discovery::elsewhere(Arc::new(elsewhere), config.idp.settings(Some(public_url)))
            }
            _ => Discovery::closed(config.idp.settings(Some(public_url))),
        };
        let asked = hearing.clone();
        let heard = hearing.clone();
        let construction = Construction::new(Ground {
            site: config.site.as_str().into(),
            public_url: public_url.clone(),
            replica: Replica::There(Arc::new(replica)),
            index_key: IndexKey::new(config.index_key.0),
            keys: PublishedKeys::new(
                hearing.keys.clone(),
                Arc::new(move |kid| {
                    let asked = asked.clone();
                    Box::pin(async move {
                        if let Some(told) = asked.replica.keys_with(&kid).await {
                            asked.keys.heed(told);
                        }
                    })
                }),
            ),
            discovery,
            grace: config.idp.grace(),
            limits: config.limits.clone(),
            is_isolated: Arc::new(move || heard.health.load().isolated),
        })?;
        let mut apart = Apart {
            hearing: hearing.clone(),
            doors: Vec::new(),
            mailer: None,
            drain_timeout: config.drain_timeout,
        };
        let mut inside = wellbeing::router(check(&hearing, keyring.as_ref()));
        let mut secure_webhead = None;
        if runs(Tier::SecureWebhead)
            && let (Some(mail), Some(data), Some(keyring)) = (&config.mail, &config.data, keyring.clone())
        {
            let mailer = Arc::new(Mailer::new(mail.settings(data, public_url)?)?);
            let passwords = PasswordPool::new(&config.passwords.settings())?;
            let signer = Arc::new(move || keyring.session_signer());
            let router =
                construction.secure_webhead(signer, passwords, config.passwords.rules(), mailer.clone());
            inside = inside.merge(router.clone());
            secure_webhead = Some(router);
            apart.mailer = Some(mailer);
        }
        let mut keysigner = None;
        if runs(Tier::Keysigner)
            && let Some(keyring) = keyring.clone()
        {
            let router = construction.keysigner(Arc::new(move || keyring.certificate_signer()));
            inside = inside.merge(router.clone());
            keysigner = Some(router);
        }
        if runs(Tier::Webhead)
            && let Some(web) = &config.web
        {
            let upstream = |tier, here: Option<Router>, there: &Option<HostPort>| match here {
                Some(router) => Ok(Upstream::Here(router)),
                None => match reach(tier, there).map_err(ServeError::Tls)? {
                    Some(remote) => Ok(Upstream::There(Box::new(remote))),
                    None => Err(ServeError::Unreachable(tier)),
                },
            };
            let secure_webhead = upstream(Tier::SecureWebhead, secure_webhead, &config.tiers.secure_webhead)?;
            let keysigner = upstream(Tier::Keysigner, keysigner, &config.tiers.keysigner)?;
            let health = Health::default()
                .and("replica", check(&hearing, keyring.as_ref()))
                .before("secure-webhead", &secure_webhead)
                .before("keysigner", &keysigner);
            let people = construction.webhead(secure_webhead, keysigner, health, web)?;
            let listener = Listener::bind(web.listen, web.server()?).await;
            let listener = listener.map_err(|source| ServeError::Listen {
                what: "web listener",
                address: web.listen,
                source,
            })?;
            apart.doors.push((listener, people));
        }
        if let Some(address) = config.tiers.listen {
            let server = identity.server().map_err(ServeError::Tls)?;
            let listener = Listener::bind(address, Some(server)).await;
            let listener = listener.map_err(|source| ServeError::Listen {
                what: "tiers' listener",
                address,
                source,
            })?;
            apart
                .doors
                .push((listener, only_for(&[Tier::Webhead], &config.site, inside)));
        }
        Ok(apart)
    }

    /// Serves until `drain` says so, then finishes what is under way.
    pub async fn run(self, drain: watch::Receiver<bool>) {
        let (hearing, drain_timeout) = (self.hearing, self.drain_timeout);
        let serving = self.doors.into_iter().map(|(listener, router)| {
            let (mut drain, hearing) = (drain.clone(), hearing.clone());
            listener.draining_for(drain_timeout).serve(router, async move {
                // Who could say so is gone: that is a drain as well.
                let _ = drain.wait_for(|drain| *drain).await;
                // The listener answers for a little longer: whoever balances load hears of it in time.
                hearing.is_draining.store(true, Ordering::Release);
            })
        });
        futures_util::future::join_all(serving).await;
        if let Some(mailer) = self.mailer {
            mailer.drain(MAIL_DRAIN).await;
        }
    }
}

/// Hears what the replica says of keys and of the site, until nobody needs it any more.
async fn listen(hearing: Weak<Hearing>) {
    loop {
        {
            let Some(hearing) = hearing.upgrade() else { return };
            let (keys, health) = tokio::join!(hearing.replica.keys(), hearing.replica.health());
            hearing
                .is_heard
                .store(keys.is_some() && health.is_some(), Ordering::Release);
            if let Some(told) = keys.filter(|told| *told != *hearing.keys.told()) {
                hearing.keys.heed(told);
            }
            if let Some(health) = health {
                hearing.health.store(Arc::new(health));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Keeps this process's own keys published, as long as they are held.
async fn keep(keyring: Weak<Keyring>, replica: RemoteReplica) {
    loop {
        {
            let Some(keyring) = keyring.upgrade() else { return };
            for usage in keyring.uses().collect::<Vec<_>>() {
                for _ in 0..ROUNDS_MAX {
                    if !round(&keyring, usage, &replica).await {
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Offers once, and heeds the answer. Whether there is something new to offer.
async fn round(keyring: &Arc<Keyring>, usage: Usage, replica: &RemoteReplica) -> bool {
    let Some(settled) = replica.settle(&keyring.offer(usage)).await else {
        return false;
    };
    let keyring = keyring.clone();
    match spawn_blocking(move || keyring.heed(usage, &settled)).await {
        Ok(Ok(heeded)) => {
            for words in heeded.alarms {
                tracing::error!(alarm = %words);
            }
            heeded.changed
        }
        Ok(Err(error)) => {
            tracing::error!(%error, usage = usage.name(), "signing keys could not be kept");
            false
        }
        Err(_) => false,
    }
}

/// Why people should not be sent to this process, as far as it depends on the replica.
fn check(hearing: &Arc<Hearing>, keyring: Option<&Arc<Keyring>>) -> Check {
    let (hearing, keyring) = (hearing.clone(), keyring.cloned());
    Arc::new(move || {
        let mut reasons = hearing.health.load().reasons.clone();
        if !hearing.is_heard.load(Ordering::Acquire) {
            reasons.push("the replica does not answer".to_owned());
        }
        if hearing.is_draining.load(Ordering::Acquire) {
            reasons.push("draining".to_owned());
        }
        let lacked = keyring
            .iter()
            .flat_map(|keyring| keyring.uses().filter(|usage| !keyring.signs(*usage)));
        reasons.extend(lacked.map(|usage| format!("no {} key may sign yet", usage.name())));
        Box::pin(async move { reasons })
    })
}
