//! The other side of Persona, small enough to read and good to click through: a web site that people sign in to, and an
//! email domain that certifies its own users.
//!
//! | where | what |
//! | --- | --- |
//! | [`relying_party`] | the web site: its own session, a login that no other site can forge, a check by its own call |
//! | [`identity_provider`] | the email domain: support document, sign-in page, provisioning page, certificates |
//! | `verification` | the call to `/verify` |
//! | `sessions` | who is signed in, in memory |
//! | `page` | templates, scripts and the headers that they go out with |
//! | [`evil`] | laboratory: a web site that tries to get another one's assertions (feature `lab`) |
//!
//! They speak to Persona as strangers do: its scripts, its `/verify`, its rules for email domains. Neither is a laboratory's
//! alone: both work with any Persona, open nothing of it, and listen on this machine unless told otherwise. What is a toy
//! says so: sessions end with the process, and the domain's users have one password, which its page shows.

#[cfg(feature = "lab")]
pub mod evil;
pub mod identity_provider;
mod page;
pub mod relying_party;
mod sessions;
mod verification;

use std::{io, net::SocketAddr};

pub use self::{identity_provider::IdentityProvider, relying_party::RelyingParty};

/// Why one of them cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A page of ours cannot be read: a mistake in this program.
    #[error("a page cannot be made: {0}")]
    Page(#[from] minijinja::Error),
    /// Certificates to trust, for an `https` Persona.
    #[error(transparent)]
    Trust(#[from] crate::outbound::OutboundSetupError),
    /// The domain's own certificate.
    #[error("the domain's certificate could not be made: {0}")]
    Certificate(String),
    /// The key that it certifies with.
    #[error(transparent)]
    Key(#[from] crate::browserid::SigningKeyError),
    /// An address to listen on.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A file to write.
    #[error("could not write {}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
