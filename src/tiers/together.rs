//! Tiers in the process that has the site's replica: usually all of them.
//!
//! A site without `[web]` serves nobody: a replica and no more. With `[tiers]` it also lets the tiers that are processes of
//! their own reach its replica.

use std::{io, sync::Arc, time::Duration};

use axum::Router;

use super::{
    Tier, Upstream,
    certificates::TierIdentity,
    construction::{Construction, Ground},
    discovery_api::RemoteDiscovery,
    internal::only_for,
    keys::PublishedKeys,
    replica_api,
    upstream::{HostPort, Remote},
    wellbeing,
};
use crate::{
    config::{MailConfigError, OutboundConfigError, SiteConfig, WebConfigError},
    identity::PoolError,
    idp::Discovery,
    keyring::KeyringError,
    listener::Listener,
    mail::{Mailer, StartError},
    outbound::OutboundSetupError,
    site::Site,
    verifier::NoDomain,
    web::PageError,
    webhead::health::{Check, Health},
};

/// Why people cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A field of the configuration.
    #[error(transparent)]
    Web(#[from] WebConfigError),
    /// The same, of mail.
    #[error(transparent)]
    MailConfig(#[from] MailConfigError),
    /// The same, of requests to the outside.
    #[error(transparent)]
    OutboundConfig(#[from] OutboundConfigError),
    /// The public URL.
    #[error(transparent)]
    Domain(#[from] NoDomain),
    /// Mail.
    #[error(transparent)]
    Mail(#[from] StartError),
    /// Requests to the outside.
    #[error(transparent)]
    Outbound(#[from] OutboundSetupError),
    /// Pages: this build's templates or words are broken.
    #[error(transparent)]
    Pages(#[from] PageError),
    /// The signing keys' directory.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The pool that hashes passwords.
    #[error(transparent)]
    Passwords(#[from] PoolError),
    /// A tier's certificate.
    #[error("section `[tiers]`: {0}")]
    Tls(#[source] io::Error),
    /// No address is given for it.
    #[error("section `[tiers]`: the address of the {0} is missing")]
    Unreachable(Tier),
    /// A listener.
    #[error("{what} {address}: {source}")]
    Listen {
        /// Which.
        what: &'static str,
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What listens for people and tiers, before it serves.
#[derive(Default)]
pub(crate) struct Doors {
    serving: Vec<(Listener, Router)>,
    mailer: Option<Arc<Mailer>>,
    #[cfg(feature = "lab")]
    inbox: Option<crate::mail::inbox::Mails>,
}

impl Doors {
    /// Opens what the configuration of a site names.
    pub(crate) async fn open(site: &Arc<Site>) -> Result<Doors, ServeError> {
        let mut doors = Doors::default();
        let config = &site.config;
        let runs = |tier| config.run.contains(&tier);
        let identity = match &config.tiers {
            Some(tiers) => Some(tiers.identity(&config.site)?),
            None => None,
        };
        let mut inside = wellbeing::router(check(site));
        if let (Some(mail), Some(public_url)) = (&config.mail, &config.public_url) {
            let isolation = Arc::downgrade(site);
            let construction = Construction::new(Ground {
                site: config.site.as_str().into(),
                public_url: public_url.clone(),
                replica: site.identity.replica().clone(),
                index_key: site.identity.index_key().clone(),
                keys: published_keys(site),
                discovery: discovery(config, identity.as_ref())?,
                grace: config.idp.grace(),
                limits: config.limits.clone(),
                is_isolated: Arc::new(move || isolation.upgrade().is_some_and(|site| site.is_isolated())),
            })?;
            let mut secure_webhead = None;
            if runs(Tier::SecureWebhead) {
                let settings = mail.settings(&config.data, public_url)?;
                #[cfg(feature = "lab")]
                {
                    doors.inbox = settings.transport.mails();
                }
                let mailer = Arc::new(Mailer::new(settings)?);
                let keyring = site.keyring.clone();
                let signer = Arc::new(move || keyring.session_signer());
                let passwords = site.identity.passwords().clone();
                let router =
                    construction.secure_webhead(signer, passwords, config.passwords.rules(), mailer.clone());
                inside = inside.merge(router.clone());
                secure_webhead = Some(router);
                doors.mailer = Some(mailer);
            }
            let mut keysigner = None;
            if runs(Tier::Keysigner) {
                let keyring = site.keyring.clone();
                let router = construction.keysigner(Arc::new(move || keyring.certificate_signer()));
                inside = inside.merge(router.clone());
                keysigner = Some(router);
            }
            if let Some(web) = config.web.as_ref().filter(|_| runs(Tier::Webhead)) {
                let reach =
                    |tier, here: Option<Router>, there: Option<&HostPort>| match (here, there, &identity) {
                        (Some(router), _, _) => Ok(Upstream::Here(router)),
                        (None, Some(address), Some(identity)) => {
                            Upstream::there(tier, address.clone(), identity).map_err(ServeError::Tls)
                        }
                        (None, _, _) => Err(ServeError::Unreachable(tier)),
                    };
                let tiers = config.tiers.as_ref();
                let secure_webhead = reach(
                    Tier::SecureWebhead,
                    secure_webhead,
                    tiers.and_then(|tiers| tiers.secure_webhead.as_ref()),
                )?;
                let keysigner = reach(
                    Tier::Keysigner,
                    keysigner,
                    tiers.and_then(|tiers| tiers.keysigner.as_ref()),
                )?;
                let health = health(site, doors.mailer.as_deref())
                    .before("secure-webhead", &secure_webhead)
                    .before("keysigner", &keysigner);
                let people = construction.webhead(secure_webhead, keysigner, health, web)?;
                #[cfg(feature = "lab")]
                let people = match &doors.inbox {
                    Some(mails) => crate::mail::inbox::router(mails.clone()).fallback_service(people),
                    None => people,
                };
                let listener = Listener::bind(web.listen, web.server()?).await;
                let listener = listener.map_err(|source| ServeError::Listen {
                    what: "web listener",
                    address: web.listen,
                    source,
                })?;
                doors.serving.push((listener, people));
            }
        }
        if let (Some(identity), Some(address)) =
            (&identity, config.tiers.as_ref().and_then(|tiers| tiers.listen))
        {
            let server = identity.server().map_err(ServeError::Tls)?;
            let listener = Listener::bind(address, Some(server)).await;
            let listener = listener.map_err(|source| ServeError::Listen {
                what: "tiers' listener",
                address,
                source,
            })?;
            let inside = only_for(&[Tier::Webhead], &config.site, inside);
            let router = replica_api::router(site).merge(inside);
            doors.serving.push((listener, router));
        }
        Ok(doors)
    }

    /// Serves until the site drains, and then what is under way.
    pub(crate) async fn serve(self, site: Arc<Site>) {
        let serving = self.serving.into_iter().map(|(listener, router)| {
            let site = site.clone();
            let listener = listener.draining_for(site.config.drain_timeout);
            listener.serve(router, async move { site.drain_begun().await })
        });
        futures_util::future::join_all(serving).await;
        if let Some(mailer) = self.mailer {
            mailer.drain(MAIL_DRAIN).await;
        }
    }
}

/// For mails under way when a site drains; what waits goes out after the next start.
const MAIL_DRAIN: Duration = Duration::from_secs(5);

fn published_keys(site: &Arc<Site>) -> PublishedKeys {
    let asked = Arc::downgrade(site);
    let asking = move |kid: String| -> futures_util::future::BoxFuture<'static, ()> {
        let asked = asked.clone();
        Box::pin(async move {
            if let Some(site) = asked.upgrade() {
                site.await_key(&kid).await;
            }
        })
    };
    PublishedKeys::new(site.signing_keys.clone(), Arc::new(asking))
}

/// Who asks domains: a secure webhead, here or in another process.
fn discovery(config: &SiteConfig, identity: Option<&TierIdentity>) -> Result<Discovery, ServeError> {
    let there = config
        .tiers
        .as_ref()
        .and_then(|tiers| tiers.secure_webhead.clone());
    let settings = config.idp.settings(config.public_url.as_ref());
    match (there, identity) {
        _ if config.run.contains(&Tier::SecureWebhead) => Ok(config.discovery()?),
        (Some(address), Some(identity)) if config.run.contains(&Tier::Webhead) => {
            let remote = Remote::new(Tier::SecureWebhead, address, identity).map_err(ServeError::Tls)?;
            Ok(Discovery::elsewhere(
                Arc::new(RemoteDiscovery::new(remote)),
                settings,
            ))
        }
        _ => Ok(Discovery::closed(settings)),
    }
}

/// Why webheads of other processes should not send people to this one's tiers.
fn check(site: &Arc<Site>) -> Check {
    let site = Arc::downgrade(site);
    Arc::new(move || {
        let reasons = match site.upgrade() {
            Some(site) => lacked_keys(&site),
            None => vec!["stopping".to_owned()],
        };
        Box::pin(async move { reasons })
    })
}

fn lacked_keys(site: &Site) -> Vec<String> {
    let lacked = site.keyring.uses().filter(|usage| !site.keyring.signs(*usage));
    lacked
        .map(|usage| format!("no {} key may sign yet", usage.name()))
        .collect()
}

fn health(site: &Arc<Site>, mailer: Option<&Mailer>) -> Health {
    let (replica, keys) = (Arc::downgrade(site), Arc::downgrade(site));
    let mut health = Health::default()
        .and(
            "replica",
            Arc::new(move || {
                let reasons = match replica.upgrade() {
                    Some(site) => site.unhealthy(),
                    None => vec!["stopping".to_owned()],
                };
                Box::pin(async move { reasons })
            }),
        )
        .and(
            "keys",
            Arc::new(move || {
                let lacked = keys.upgrade().map(|site| lacked_keys(&site)).unwrap_or_default();
                Box::pin(async move { lacked })
            }),
        );
    if let Some(mailer) = mailer {
        let waiting = mailer.waiting();
        let mails_max = site
            .config
            .mail
            .as_ref()
            .map_or(usize::MAX, |mail| mail.waiting_max);
        health = health.noting(
            "mail",
            Arc::new(move || {
                let is_full = *waiting.borrow() >= mails_max;
                let reasons = is_full.then(|| "the outbox is full: its mail server takes none".to_owned());
                Box::pin(async move { reasons.into_iter().collect() })
            }),
        );
    }
    health
}
