//! Identity providers: which email domains certify their own users, and what that means for an address.
//!
//! A domain says so in a *support document* at a well-known place: it names its keys and pages, or another domain that
//! does this for it, or says that it does not. Knows nothing of our own HTTP, nor of the store: when a domain was last
//! seen as an IdP is a cell, and comes in as an argument.
//!
//! | module | subject |
//! | --- | --- |
//! | [`support_document`] | one document, read strictly |
//! | `freshness` | how long an answer may be used |
//! | [`discovery`], `cache` | who speaks for a domain, found out and remembered |
//! | [`address_state`] | what to do with an address, and whether the fallback may certify it |

pub mod address_state;
mod cache;
pub mod discovery;
mod freshness;
pub mod support_document;

pub use self::{
    address_state::{AddressState, EmailState, GracePeriod, Live, Sighting},
    discovery::{Discovery, DiscoverySettings, Elsewhere, Fetch, NoPrimary, Outcome, Primary, Trouble},
    support_document::{SupportDocument, SupportDocumentError},
};
