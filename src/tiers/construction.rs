//! Tiers put together from their parts, whichever process they are for.

use std::sync::Arc;

use axum::Router;

use super::{Upstream, discovery_api, keys::PublishedKeys};
use crate::{
    config::WebConfig,
    identity::{Identity, IndexKey, PasswordPool, PasswordRules, Replica, staging::StagingId},
    idp::{Discovery, GracePeriod},
    keysigner::{self, Keysigner, Signer},
    limits::LimitSettings,
    mail::{Mailer, Matter},
    public_url::PublicUrl,
    secure_webhead::{self, SecureWebhead},
    verifier::{NoDomain, Verifier},
    web::{PageError, Web},
    webhead::{self, Front, Webhead, health::Health},
    wsapi::Reception,
};

/// What all tiers of a process have in common.
#[derive(Clone)]
pub struct Ground {
    /// What the site is called.
    pub site: Arc<str>,
    /// Under which people reach the service.
    pub public_url: PublicUrl,
    /// The records.
    pub replica: Replica,
    /// What turns an address into its record's id.
    pub index_key: IndexKey,
    /// The public keys of all sites.
    pub keys: PublishedKeys,
    /// Who speaks for a domain.
    pub discovery: Discovery,
    /// How long a domain that is gone stays an IdP.
    pub grace: GracePeriod,
    /// What requests pay.
    pub limits: LimitSettings,
    /// Whether this site has heard no other for a minute.
    pub is_isolated: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Makes tiers.
pub struct Construction {
    ground: Ground,
    reception: Arc<Reception>,
    verifier: Arc<Verifier>,
}

impl Construction {
    /// On this ground.
    pub fn new(ground: Ground) -> Result<Construction, NoDomain> {
        let identity_directory =
            crate::identity::Directory::new(ground.replica.clone(), ground.index_key.clone());
        let reception = Reception::new(
            ground.public_url.clone(),
            ground.keys.clone(),
            identity_directory.clone(),
            &ground.limits,
        );
        let verifier = Verifier::new(
            &ground.public_url,
            ground.keys.clone(),
            identity_directory,
            ground.discovery.clone(),
        )?;
        Ok(Construction {
            ground,
            reception: Arc::new(reception),
            verifier: Arc::new(verifier),
        })
    }

    /// A keysigner with this key.
    pub fn keysigner(&self, signer: Signer) -> Router {
        keysigner::router(Keysigner {
            reception: self.reception.clone(),
            issuer: self.verifier.own().clone(),
            signer,
            grace: self.ground.grace,
            is_isolated: self.ground.is_isolated.clone(),
        })
    }

    /// A secure webhead with this key, and what it finds out for webheads that are processes of their own.
    pub fn secure_webhead(
        &self,
        signer: Signer,
        passwords: PasswordPool,
        rules: PasswordRules,
        mailer: Arc<Mailer>,
    ) -> Router {
        let identity = Identity::over(
            self.ground.replica.clone(),
            self.ground.index_key.clone(),
            passwords,
        )
        .at_site(&self.ground.site);
        let asked = identity.clone();
        mailer.settle_by(Arc::new(move |Matter(id)| {
            let asked = asked.clone();
            Box::pin(async move { asked.wants_mail(StagingId::from_bytes(id)).await.ok() })
        }));
        secure_webhead::router(SecureWebhead {
            reception: self.reception.clone(),
            identity,
            rules,
            verifier: self.verifier.clone(),
            discovery: self.ground.discovery.clone(),
            grace: self.ground.grace,
            mailer,
            signer,
            is_isolated: self.ground.is_isolated.clone(),
            site: self.ground.site.clone(),
        })
        .merge(discovery_api::router(self.ground.discovery.clone()))
    }

    /// A webhead before these.
    pub fn webhead(
        &self,
        secure_webhead: Upstream,
        keysigner: Upstream,
        health: Health,
        config: &WebConfig,
    ) -> Result<Router, PageError> {
        let webhead = Webhead {
            reception: self.reception.clone(),
            verifier: self.verifier.clone(),
            secure_webhead,
            keysigner,
            health,
        };
        let pages = Arc::new(Web::new(&self.ground.public_url)?).router();
        let front = Front::new(config.trusted_proxies.clone(), &self.ground.limits);
        Ok(webhead::router(webhead, front, pages))
    }
}
