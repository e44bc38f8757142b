//! The public keys of all sites, as a tier has them at hand.
//!
//! They follow the cluster record. A token may name a key of which this site has not heard: then the record is asked for,
//! once for all who wait, before anything is said of the token.

use std::{ops::Deref, sync::Arc};

use futures_util::future::BoxFuture;

use crate::keyring::Keys;

/// Asks for the cluster record anew, and returns when it has come or that takes too long.
pub type Renewal = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Public keys, and how to hear of new ones.
#[derive(Clone)]
pub struct PublishedKeys {
    keys: Arc<Keys>,
    renewal: Renewal,
}

impl PublishedKeys {
    /// These, renewed so.
    pub fn new(keys: Arc<Keys>, renewal: Renewal) -> PublishedKeys {
        PublishedKeys { keys, renewal }
    }

    /// Asks for what is new.
    pub async fn renew(&self) {
        metrics::counter!("persona_keys_asked_for_total").increment(1);
        (self.renewal)().await;
    }
}

impl Deref for PublishedKeys {
    type Target = Keys;

    fn deref(&self) -> &Keys {
        &self.keys
    }
}
