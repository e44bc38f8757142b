//! The public keys of all sites, as a tier has them at hand.
//!
//! They follow the cluster record. A token may name a key of which this site has not heard: then the record is asked for,
//! once for all who wait, before anything is said of the token.

use std::{ops::Deref, sync::Arc};

use futures_util::future::BoxFuture;

use crate::keyring::Keys;

/// Asks for a key by its `kid`, and returns when it has come or that takes too long.
pub type Asking = Arc<dyn Fn(String) -> BoxFuture<'static, ()> + Send + Sync>;

/// Public keys, and how to hear of new ones.
#[derive(Clone)]
pub struct PublishedKeys {
    keys: Arc<Keys>,
    asking: Asking,
}

impl PublishedKeys {
    /// These, asked for so.
    pub fn new(keys: Arc<Keys>, asking: Asking) -> PublishedKeys {
        PublishedKeys { keys, asking }
    }

    /// Asks for a key that is not known here.
    pub async fn ask_for(&self, kid: &str) {
        metrics::counter!("persona_keys_asked_for_total").increment(1);
        (self.asking)(kid.to_owned()).await;
    }
}

impl Deref for PublishedKeys {
    type Target = Keys;

    fn deref(&self) -> &Keys {
        &self.keys
    }
}
