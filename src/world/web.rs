//! What browsers reach in a world: Persona itself behind its [front](super::front), a web site to sign in to, one that is up
//! to no good, and an email domain that certifies its own users.
//!
//! Each is another host below `localhost`, which every browser takes for this machine and for a site of its own, so that the
//! web's rules between sites are the real ones. A scenario has none of this: nobody looks.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use serde::Serialize;
use tokio::task::JoinHandle;

use super::WorldError;
use super::front::{Door, Front, Killer};
use super::plan::at;
use super::process::Site;
use crate::{
    browserid::Domain,
    demo::{DemoError, IdentityProvider, RelyingParty, evil::Evil, identity_provider::Mouth},
    listener::Listener,
    public_url::PublicUrl,
};

/// What the sites' configurations say of it.
#[derive(Clone, Debug)]
pub(crate) struct WebPlan {
    /// Persona.
    pub(crate) public_url: PublicUrl,
    /// Where all mails lie.
    pub(crate) mails: PathBuf,
    /// The email domain: its name, where it answers over TLS, and where its pages are.
    pub(crate) idp: (Domain, SocketAddr, PublicUrl),
    /// Whom that is believed on.
    pub(crate) authority: PathBuf,
}

/// Where it all is, for people.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Places {
    persona: String,
    inbox: String,
    shop: String,
    idp: String,
    evil: String,
}

/// Listening, not serving yet.
pub(crate) struct Web {
    pub(crate) plan: WebPlan,
    pub(crate) places: Places,
    front: Listener,
    authority: String,
    /// The email domain's.
    pub(crate) mouth: Mouth,
    others: Vec<(Listener, axum::Router)>,
}

impl Web {
    /// Listens on ports from this one on, each the first that is free, and writes down whom the sites will have to trust.
    pub(crate) async fn open(dir: &std::path::Path, page: SocketAddr) -> Result<Web, WorldError> {
        // Where the page's port is the system's choice, so are these.
        let mut next = page.port().checked_add(u16::from(page.port() > 0)).unwrap_or(0);
        let (front, persona) = door(&mut next, PERSONA).await?;
        let (shop_door, shop) = door(&mut next, SHOP).await?;
        let (evil_door, evil) = door(&mut next, EVIL).await?;
        let (idp_door, idp) = door(&mut next, IDP).await?;
        let domain = Domain::parse(IDP).ok_or_else(|| WorldError::Argument(format!("{IDP} is no domain")))?;
        let provider = IdentityProvider::new(domain.clone(), persona.clone(), Some(&idp))
            .map_err(|error| in_words(&error))?;
        let authority = dir.join(AUTHORITY);
        fs::write(&authority, provider.authority_pem()).map_err(at("write", &authority))?;
        let secured = bind(&mut next, Some(provider.tls())).await?;
        let secured_at = address(&secured)?;
        let world: Result<PublicUrl, _> = format!("http://{page}").parse();
        let evil_site = Evil {
            persona: persona.clone(),
            victim: shop.clone(),
            world: world.ok(),
        };
        let shop_site = RelyingParty::new(shop.clone(), persona.clone()).map_err(|error| in_words(&error))?;
        Ok(Web {
            places: Places {
                persona: format!("{persona}/"),
                inbox: format!("{persona}/lab/inbox"),
                shop: format!("{shop}/"),
                idp: format!("{idp}/"),
                evil: format!("{evil}/"),
            },
            mouth: provider.mouth(),
            authority: persona.origin().trim_start_matches("http://").to_owned(),
            plan: WebPlan {
                public_url: persona,
                mails: dir.join(MAILS),
                idp: (domain, secured_at, idp),
                authority,
            },
            front,
            others: vec![
                (shop_door, shop_site.router()),
                (evil_door, evil_site.router().map_err(|error| in_words(&error))?),
                (idp_door, provider.router()),
                (secured, provider.router()),
            ],
        })
    }

    /// Serves, until the tasks are aborted.
    pub(crate) fn serve(self, sites: &[Arc<Site>]) -> (Arc<Front>, Vec<JoinHandle<()>>) {
        let door = |site: &Arc<Site>| -> Door {
            let site = Arc::clone(site);
            Arc::new(move || {
                let plan = site.plan();
                (plan.name.clone(), plan.web)
            })
        };
        let victims = sites.to_vec();
        let killer: Killer = Box::new(move |index| {
            let site = victims.get(index).map(Arc::clone);
            Box::pin(async move {
                if let Some(site) = site {
                    site.kill().await;
                }
            })
        });
        let doors = sites.iter().map(door).collect();
        let front = Arc::new(Front::new(&self.authority, doors, killer));
        let mut doors = self.others;
        doors.push((self.front, front.router()));
        let serve = |(listener, router): (Listener, axum::Router)| {
            tokio::spawn(async move { listener.serve(router, std::future::pending()).await })
        };
        let mut tasks: Vec<_> = doors.into_iter().map(serve).collect();
        tasks.push(tokio::spawn(Arc::clone(&front).watch()));
        (front, tasks)
    }
}

impl Places {
    /// What is printed, once everything is there.
    pub(crate) fn lines(&self) -> [String; 4] {
        [
            format!("sign in at a web site:  {}", self.shop),
            format!("read your mail:         {}", self.inbox),
            format!("your account:           {}", self.persona),
            format!(
                "an address without mail: anything@{IDP}, password \"{}\"",
                crate::demo::identity_provider::PASSWORD
            ),
        ]
    }
}

/// A listener of a host below `localhost`, and the origin that browsers see.
async fn door(next: &mut u16, host: &str) -> Result<(Listener, PublicUrl), WorldError> {
    let listener = bind(next, None).await?;
    let port = address(&listener)?.port();
    let origin: Result<PublicUrl, _> = format!("http://{host}:{port}").parse();
    let origin = origin.map_err(|error| WorldError::Argument(format!("{host}:{port}: {error}")))?;
    Ok((listener, origin))
}

async fn bind(next: &mut u16, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Listener, WorldError> {
    let from = *next;
    for _ in 0..PORTS_TRIED {
        let port = *next;
        *next = port.saturating_add(u16::from(port > 0));
        // Of one that is taken, or not for us, the next is tried.
        if let Ok(listener) = Listener::bind((Ipv4Addr::LOCALHOST, port).into(), tls.clone()).await {
            return Ok(listener);
        }
    }
    Err(WorldError::Ports { from })
}

fn address(listener: &Listener) -> Result<SocketAddr, WorldError> {
    let address = listener.address();
    address.map_err(|error| WorldError::Argument(format!("a listener without an address: {error}")))
}

fn in_words(error: &DemoError) -> WorldError {
    WorldError::Argument(error.to_string())
}

const PERSONA: &str = "persona.localhost";
const SHOP: &str = "rp.localhost";
const EVIL: &str = "evil.localhost";
const IDP: &str = "idp.localhost";
/// Where the mails of all sites lie, in the world's directory.
pub(crate) const MAILS: &str = "mails";
/// Whom the sites believe the email domain on.
const AUTHORITY: &str = "idp-authority.pem";
const PORTS_TRIED: u16 = 50;
