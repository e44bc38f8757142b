//! What verifies: everybody's public keys, as the cluster record has them, ready to be used.
//!
//! Promise: reading costs no lock and no disk. What is read is as old as the last [`Keys::renew`], which whoever holds
//! this owes it whenever the record has changed, and now and then for what has expired.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crdt::{ClusterView, KeyState};
use serde_json::Value;

use super::record::{Standing, standing, verifies_until_ms};
use crate::browserid::{KeySet, P256Key, PublicKey, Usage};

/// The keys by which sessions and certificates of ours are verified.
pub struct Keys(ArcSwap<Published>);

/// The same at one moment.
struct Published {
    sessions: Arc<KeySet>,
    certificates: Arc<KeySet>,
    domain_key_creation_ms: u64,
    support_document_keys: Arc<Vec<Value>>,
}

/// A key that was found in the record and is one.
struct Listed<'c> {
    kid: &'c str,
    public: PublicKey,
    standing: Standing,
}

impl Default for Keys {
    fn default() -> Keys {
        Keys::of(&ClusterView::default(), 0)
    }
}

impl Keys {
    /// What the record says at this time, in milliseconds since 1970.
    pub fn of(cluster: &ClusterView, now_ms: u64) -> Keys {
        Keys(ArcSwap::from_pointee(Published::of(cluster, now_ms)))
    }

    /// The record has changed, or time has passed.
    pub fn renew(&self, cluster: &ClusterView, now_ms: u64) {
        self.0.store(Arc::new(Published::of(cluster, now_ms)));
    }

    /// What session and device cookies are verified with.
    pub fn sessions(&self) -> Arc<KeySet> {
        self.0.load().sessions.clone()
    }

    /// What our own certificates are verified with.
    pub fn certificates(&self) -> Arc<KeySet> {
        self.0.load().certificates.clone()
    }

    /// What `session_context` calls `domain_key_creation_time`, in milliseconds since 1970: browsers throw away what
    /// was certified before it. It moves when a certificate key is revoked, and not when one is added or retires.
    pub fn domain_key_creation_ms(&self) -> u64 {
        self.0.load().domain_key_creation_ms
    }

    /// The keys of our support document, each a JWK with its `kid`: all certificate keys that verify.
    pub fn support_document_keys(&self) -> Arc<Vec<Value>> {
        self.0.load().support_document_keys.clone()
    }
}

impl Published {
    fn of(cluster: &ClusterView, now_ms: u64) -> Published {
        let certificates = listed(cluster, Usage::Certificate, now_ms);
        Published {
            sessions: Arc::new(key_set(Usage::Session, &listed(cluster, Usage::Session, now_ms))),
            certificates: Arc::new(key_set(Usage::Certificate, &certificates)),
            domain_key_creation_ms: domain_key_creation_ms(cluster),
            support_document_keys: Arc::new(
                certificates
                    .iter()
                    .filter(|listed| listed.standing.state != KeyState::Revoked)
                    .map(support_document_key)
                    .collect(),
            ),
        }
    }
}

/// The keys of a use that verify, and those that were revoked; those that sign first, so that a bound is felt last
/// where it would hurt. One that has no meaning here is left out: what it signed is then not known, which is no
/// verdict.
fn listed(cluster: &ClusterView, usage: Usage, now_ms: u64) -> Vec<Listed<'_>> {
    let mut listed = Vec::new();
    for (kid, key) in cluster.keys.iter().filter(|(_, key)| key.usage == usage.name()) {
        let standing = standing(key, cluster);
        let until_ms = verifies_until_ms(standing, usage);
        if standing.state == KeyState::Retired && until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            continue;
        }
        match P256Key::from_sec1(&key.public).map(PublicKey::P256) {
            Ok(public) if public.thumbprint() == *kid => listed.push(Listed {
                kid,
                public,
                standing,
            }),
            // Only a member that was trusted can have written it.
            _ => tracing::error!(kid, "the cluster record has a signing key that is none"),
        }
    }
    listed.sort_by_key(|listed| listed.standing.state);
    listed
}

fn key_set(usage: Usage, listed: &[Listed<'_>]) -> KeySet {
    let mut keys = KeySet::ours(usage);
    for key in listed {
        let added = match key.standing.state {
            KeyState::Revoked => keys.revoke(key.kid),
            _ => keys.add(key.public.clone()),
        };
        if let Err(error) = added {
            tracing::error!(%error, usage = usage.name(), keys = listed.len(), "not all signing keys are known here");
            break;
        }
    }
    keys
}

fn support_document_key(listed: &Listed<'_>) -> Value {
    let mut jwk = listed.public.to_jwk();
    jwk["kid"] = listed.kid.into();
    jwk["use"] = "sig".into();
    jwk["alg"] = listed.public.algorithm().name().into();
    jwk
}

/// Since when what is certified counts: the latest revocation, else since there is a key at all.
fn domain_key_creation_ms(cluster: &ClusterView) -> u64 {
    let keys = || {
        let keys = cluster.keys.values();
        keys.filter(|key| key.usage == Usage::Certificate.name())
    };
    let revoked = keys()
        .map(|key| standing(key, cluster))
        .filter(|standing| standing.state == KeyState::Revoked)
        .map(|standing| standing.since.ms())
        .max();
    let first = || keys().map(|key| key.published.ms()).min();
    revoked.or_else(first).unwrap_or(0)
}
