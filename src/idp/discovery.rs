//! Who speaks for a domain: found out, and remembered for as long as HTTP and we allow.
//!
//! Promise: however many ask for a domain at once, it is asked once; an answer comes within the time limit for the whole
//! chain of delegation; a failure is not tried again for [`FAILURE_KEPT`]; what is remembered is bounded.
//!
//! Only a secure webhead asks domains. A webhead in a process of its own asks the secure webhead ([`Elsewhere`]), and
//! remembers what it was told as long as that one would.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use metrics::{counter, gauge};
use tokio::time::{Duration, Instant};
use url::Url;

use super::{
    address_state::Live,
    cache::Cache,
    freshness::{LONGEST, freshness},
    support_document::{self, SupportDocument, SupportDocumentError},
};
use crate::{
    browserid::{Domain, KeySet},
    outbound::{Outbound, OutboundAnswer, OutboundError},
};

/// Finds out who speaks for a domain. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Discovery(Arc<Inner>);

/// How domains are asked.
#[derive(Clone, Debug)]
pub struct DiscoverySettings {
    /// Our own domain: a delegation to it ends there, and nobody is asked.
    pub own: Option<Domain>,
    /// For the whole chain of delegation.
    pub time_limit: Duration,
    /// Domains that are remembered.
    pub entries_max: usize,
    /// Laboratory: where browsers reach the pages of a domain, if not at its own host.
    #[cfg(feature = "lab")]
    pub pages: std::collections::BTreeMap<Domain, crate::public_url::PublicUrl>,
}

/// Who speaks for a domain.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An IdP.
    Primary(Arc<Primary>),
    /// We do: the domain delegates to us.
    Ourselves,
    /// The domain says that it does not certify its users.
    Disabled,
    /// Nobody that can be found.
    None(NoPrimary),
}

/// The IdP of a domain.
#[derive(Debug)]
pub struct Primary {
    /// The domain itself, or the end of its delegation.
    pub authority: Domain,
    /// The page where its users sign in.
    pub auth_url: Url,
    /// The page that gets their certificates, in a frame that nobody sees.
    pub prov_url: Url,
    /// What it signs certificates with.
    pub keys: KeySet,
}

/// Why a domain has no IdP that can be used. The text goes to relying parties.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("can't get public key for {domain}: {why}")]
pub struct NoPrimary {
    /// The one in the chain of delegation where it ended.
    pub domain: Domain,
    /// Why.
    pub why: Trouble,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No answer.
    #[error(transparent)]
    NoAnswer(#[from] OutboundError),
    /// An answer that is no support document.
    #[error(transparent)]
    Document(#[from] SupportDocumentError),
    /// It delegates back.
    #[error("its delegation goes in a circle")]
    Cycle,
    /// It delegates too often.
    #[error("its delegation has more than {CHAIN_MAX} names")]
    ChainTooLong,
    /// Too many domains are being asked. Try again later.
    #[error("too busy to ask")]
    Busy,
    /// As another process of the site tells it.
    #[error("{0}")]
    Told(String),
}

/// Who asks hosts: [`Outbound`], but in tests.
pub trait Fetch: fmt::Debug + Send + Sync {
    /// What a host says at a path. It says it, or fails, by the deadline.
    fn fetch<'a>(
        &'a self,
        host: &'a Domain,
        path: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<OutboundAnswer, OutboundError>>;
}

impl Fetch for Outbound {
    fn fetch<'a>(
        &'a self,
        host: &'a Domain,
        path: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<OutboundAnswer, OutboundError>> {
        self.get(host, path, deadline).boxed()
    }
}

/// Another process of the site that finds out in this one's place.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// What that process says of a domain, and how long it will say so; `anew`: it is to ask the domain again, though it may
    /// remember. `None`: it does not answer.
    fn ask<'a>(&'a self, domain: &'a Domain, anew: bool) -> BoxFuture<'a, Option<(Outcome, Duration)>>;
}

/// Who knows what is not remembered.
#[derive(Debug)]
enum Source {
    /// The domains themselves.
    Domains(Arc<dyn Fetch>),
    /// Another process.
    Elsewhere(Arc<dyn Elsewhere>),
    /// Nobody: this process has no use for it.
    Nobody,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    settings: DiscoverySettings,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    cache: Cache,
    flights: HashMap<Domain, Flight>,
}

/// A domain that is being asked, for all who wait. `None` if that broke off.
type Flight = Shared<BoxFuture<'static, Option<Outcome>>>;

impl Discovery {
    /// Knows nothing yet, and asks domains.
    pub fn new(fetch: Arc<dyn Fetch>, settings: DiscoverySettings) -> Discovery {
        Discovery::by(Source::Domains(fetch), settings)
    }

    /// Knows nothing yet, and asks another process.
    pub fn elsewhere(elsewhere: Arc<dyn Elsewhere>, settings: DiscoverySettings) -> Discovery {
        Discovery::by(Source::Elsewhere(elsewhere), settings)
    }

    /// For a process that looks up no domain but our own: it asks nobody, ever.
    pub fn closed(settings: DiscoverySettings) -> Discovery {
        Discovery::by(Source::Nobody, settings)
    }

    fn by(source: Source, settings: DiscoverySettings) -> Discovery {
        let known = Known {
            cache: Cache::new(settings.entries_max),
            flights: HashMap::new(),
        };
        Discovery(Arc::new(Inner {
            source,
            settings,
            known: Mutex::new(known),
        }))
    }

    /// Who speaks for a domain, from memory if it may still be used.
    pub async fn look_up(&self, domain: &Domain) -> Outcome {
        if self.0.is_own(domain) {
            return Outcome::Ourselves;
        }
        let flight = {
            let mut known = self.0.known();
            if let Some(outcome) = known.cache.fresh(domain, Instant::now()) {
                counter!("persona_idp_remembered_total").increment(1);
                return outcome.clone();
            }
            self.join(&mut known, domain, false)
        };
        wait(flight, domain).await
    }

    /// Whether [`look_up`](Discovery::look_up) would answer from memory.
    pub fn remembers(&self, domain: &Domain) -> bool {
        self.0.is_own(domain) || self.0.known().cache.fresh(domain, Instant::now()).is_some()
    }

    /// How much longer what was looked up will be said without asking; zero if it will not.
    pub fn fresh_for(&self, domain: &Domain) -> Duration {
        if self.0.is_own(domain) {
            return LONGEST;
        }
        self.0.known().cache.fresh_for(domain, Instant::now())
    }

    /// Asks a domain anew though what is known of it may still be used: its certificate has a signature that no known
    /// key made, so it may have changed its key. `None`: it was asked so less than [`REFRESH_INTERVAL`] ago, and what
    /// [`Discovery::look_up`] says is all there is.
    pub async fn refresh(&self, domain: &Domain) -> Option<Outcome> {
        if self.0.is_own(domain) {
            return None;
        }
        let flight = {
            let mut known = self.0.known();
            if !known.cache.take_refresh(domain, REFRESH_INTERVAL, Instant::now()) {
                return None;
            }
            counter!("persona_idp_refreshes_total").increment(1);
            self.join(&mut known, domain, true)
        };
        Some(wait(flight, domain).await)
    }

    /// The flight under way, or a new one. `None`: there are too many.
    fn join(&self, known: &mut Known, domain: &Domain, anew: bool) -> Option<Flight> {
        if let Some(flight) = known.flights.get(domain) {
            return Some(flight.clone());
        }
        if known.flights.len() >= FLIGHTS_MAX {
            counter!("persona_idp_too_busy_total").increment(1);
            return None;
        }
        let inner = Arc::clone(&self.0);
        let asked = domain.clone();
        // A task of its own: it goes on for the others if the first who asked gives up.
        let task = tokio::spawn(async move {
            // Made in here: a runtime that is ending drops a new task at once, while we hold the lock.
            let landing = Landing { inner, domain: asked };
            let (outcome, fresh_for) = landing.inner.find(&landing.domain, anew).await;
            landing.inner.remember(&landing.domain, &outcome, fresh_for);
            outcome
        });
        let flight = task.map(Result::ok).boxed().shared();
        known.flights.insert(domain.clone(), flight.clone());
        gauge!("persona_idp_asking").set(known.flights.len() as f64);
        Some(flight)
    }
}

async fn wait(flight: Option<Flight>, domain: &Domain) -> Outcome {
    let outcome = match flight {
        Some(flight) => flight.await,
        None => None,
    };
    outcome.unwrap_or_else(|| Outcome::unasked(domain))
}

/// Ends a flight, however its task ends.
struct Landing {
    inner: Arc<Inner>,
    domain: Domain,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut known = self.inner.known();
        known.flights.remove(&self.domain);
        gauge!("persona_idp_asking").set(known.flights.len() as f64);
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_own(&self, domain: &Domain) -> bool {
        self.settings.own.as_ref() == Some(domain)
    }

    /// Finds out, and says how long that may be used.
    async fn find(&self, domain: &Domain, anew: bool) -> (Outcome, Duration) {
        let told = match &self.source {
            Source::Domains(fetch) => return self.walk(&**fetch, domain).await,
            Source::Elsewhere(elsewhere) => elsewhere.ask(domain, anew).await,
            Source::Nobody => None,
        };
        told.unwrap_or_else(|| (Outcome::unasked(domain), Duration::ZERO))
    }

    /// Follows the delegation to its end.
    async fn walk(&self, fetch: &dyn Fetch, principal: &Domain) -> (Outcome, Duration) {
        let deadline = Instant::now() + self.settings.time_limit;
        let path = support_document::path(principal);
        let mut fresh_for = LONGEST;
        let mut chain = vec![principal.clone()];
        let mut domain = principal.clone();
        loop {
            let fail = |why| {
                let domain = domain.clone();
                (Outcome::None(NoPrimary { domain, why }), FAILURE_KEPT)
            };
            let answer = match fetch.fetch(&domain, &path, deadline).await {
                Ok(answer) => answer,
                Err(error) => return fail(error.into()),
            };
            let document = match SupportDocument::read(&answer, &domain) {
                Ok(document) => document,
                Err(error) => return fail(error.into()),
            };
            fresh_for = fresh_for.min(freshness(&answer.headers));
            match document {
                SupportDocument::Disabled => return (Outcome::Disabled, fresh_for),
                SupportDocument::Delegated(to) if self.is_own(&to) => return (Outcome::Ourselves, fresh_for),
                SupportDocument::Delegated(to) if chain.contains(&to) => return fail(Trouble::Cycle),
                SupportDocument::Delegated(_) if chain.len() >= CHAIN_MAX => {
                    return fail(Trouble::ChainTooLong);
                }
                SupportDocument::Delegated(to) => {
                    chain.push(to.clone());
                    domain = to;
                }
                SupportDocument::Primary(document) => {
                    let primary = Primary {
                        authority: domain,
                        auth_url: document.authentication,
                        prov_url: document.provisioning,
                        keys: document.keys,
                    };
                    #[cfg(feature = "lab")]
                    let primary = self.settings.in_place(primary);
                    return (Outcome::Primary(Arc::new(primary)), fresh_for);
                }
            }
        }
    }

    fn remember(&self, domain: &Domain, outcome: &Outcome, fresh_for: Duration) {
        counter!("persona_idp_asked_total", "outcome" => outcome.label()).increment(1);
        if outcome.live().is_none() {
            return;
        }
        let now = Instant::now();
        let mut known = self.known();
        known.cache.put(domain, outcome, now + fresh_for, now);
        gauge!("persona_idp_known").set(known.cache.len() as f64);
    }
}

#[cfg(feature = "lab")]
impl DiscoverySettings {
    /// Puts the pages of an IdP where browsers reach them here.
    fn in_place(&self, primary: Primary) -> Primary {
        let Some(origin) = self.pages.get(&primary.authority) else {
            return primary;
        };
        let moved = |url: &Url| {
            let page =
                url.path().to_owned() + &url.query().map(|query| format!("?{query}")).unwrap_or_default();
            Url::parse(&format!("{origin}{page}")).unwrap_or_else(|_| url.clone())
        };
        Primary {
            auth_url: moved(&primary.auth_url),
            prov_url: moved(&primary.prov_url),
            ..primary
        }
    }
}

impl Outcome {
    /// The domain was not asked, for reasons that are ours.
    pub(crate) fn unasked(domain: &Domain) -> Outcome {
        Outcome::None(NoPrimary {
            domain: domain.clone(),
            why: Trouble::Busy,
        })
    }

    /// What it means for addresses of the domain. `None`: nothing, because the domain was not asked. Nothing may rest on
    /// that: whoever waits is told to come back later (503).
    pub fn live(&self) -> Option<Live> {
        match self {
            Outcome::Primary(_) => Some(Live::Primary),
            Outcome::Ourselves | Outcome::Disabled => Some(Live::Declined),
            Outcome::None(NoPrimary { why, .. }) => match why {
                Trouble::Busy => None,
                Trouble::NoAnswer(error) if error.is_our_trouble() => None,
                _ => Some(Live::Absent),
            },
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Outcome::Primary(_) => "primary",
            Outcome::Ourselves => "ourselves",
            Outcome::Disabled => "disabled",
            Outcome::None(_) => "none",
        }
    }
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        DiscoverySettings {
            own: None,
            time_limit: Duration::from_secs(8),
            entries_max: 4096,
            #[cfg(feature = "lab")]
            pages: std::collections::BTreeMap::new(),
        }
    }
}

/// A domain that could not be asked is left alone for so long.
pub const FAILURE_KEPT: Duration = Duration::from_secs(60);
/// Between two refreshes of a domain.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// Names in a chain of delegation, both ends included.
pub const CHAIN_MAX: usize = 6;
/// Domains that are asked at once, or wait for a slot to be. With more, who asks is told so.
const FLIGHTS_MAX: usize = 512;
