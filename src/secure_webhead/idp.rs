//! Which domains certify their own users: `address_info`, `discovery`.
//!
//! Looking a domain up is also when it is noted that it was seen as an IdP, so this is the tier that writes. The note is a cell
//! for which nobody waits.

use axum::extract::State;
use crdt::{AccountId, UsedAs};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::SecureWebhead;
use crate::{
    browserid::Domain,
    identity::{self, Address, OperationError},
    idp::{AddressState, EmailState, Live, Sighting, discovery::Outcome},
    wsapi::{Get, Problem, answer::Answer, arguments::Email},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddressQuery {
    email: Email,
    /// Nothing is forced here; the argument is the original's.
    #[serde(default)]
    issuer: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainQuery {
    domain: String,
}

/// What the dialog has to do with an address.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddressInfo {
    /// `primary` or `secondary`: who certifies it now.
    r#type: &'static str,
    /// What to do.
    state: &'static str,
    /// Who certifies it: a domain.
    issuer: String,
    /// The address as its owner typed it first.
    #[serde(rename = "normalizedEmail", skip_serializing_if = "Option::is_none")]
    normalized_email: Option<String>,
    /// The domain says itself that it certifies nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled: Option<bool>,
    /// Where its users sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<String>,
    /// Where a key of theirs is certified.
    #[serde(skip_serializing_if = "Option::is_none")]
    prov: Option<String>,
}

/// What to do with an address, and who certifies it.
#[utoipa::path(get, path = "/wsapi/address_info", tag = "addresses",
    params(("email" = Email, Query), ("issuer" = Option<String>, Query)), responses((status = 200, body = AddressInfo)))]
pub(super) async fn address_info(
    State(tier): State<SecureWebhead>,
    call: Get<AddressQuery>,
) -> Result<Answer<AddressInfo>, Problem> {
    let own = tier.verifier.own().as_str();
    if call
        .args
        .issuer
        .as_deref()
        .is_some_and(|issuer| issuer != "default" && issuer != own)
    {
        return Err(Problem::bad_request(
            "bad-arguments",
            "this service forces no issuer",
        ));
    }
    let address = call.args.email.0;
    let domain = Domain::parse(address.domain())
        .ok_or_else(|| Problem::bad_request("bad-arguments", "malformed email address"))?;
    let outcome = tier.discovery.look_up(&domain).await;
    let live = live(&outcome);
    let directory = &tier.reception.directory;
    let facts = directory.address_facts(&address).await?;
    let now_ms = tier.reception.now_ms();
    tier.note_sighting(&domain, live, facts.idp_seen_ms, now_ms);
    let email = facts.email.as_ref().map(|email| EmailState {
        // Who proved it by mail and nothing since has it certified by us: in the records no value says so, and this knows "never".
        used_as: Some(email.used_as.unwrap_or(UsedAs::Secondary)),
        verified: email.verified,
        has_password: email.has_password,
    });
    let state = AddressState::of(email, live, facts.idp_seen_ms, tier.grace, now_ms);
    let primary = match &outcome {
        Outcome::Primary(primary) => Some(primary),
        _ => None,
    };
    Ok(Answer::new(AddressInfo {
        r#type: if primary.is_some() { "primary" } else { "secondary" },
        state: state.name(),
        issuer: primary
            .map_or(own, |primary| primary.authority.as_str())
            .to_owned(),
        normalized_email: facts
            .email
            .map(|email| email.address.typed().to_owned())
            .filter(|normalized| normalized != address.typed()),
        disabled: matches!(outcome, Outcome::Disabled).then_some(true),
        auth: primary.map(|primary| primary.auth_url.to_string()),
        prov: primary.map(|primary| primary.prov_url.to_string()),
    }))
}

/// Who speaks for a domain, as a support document.
#[utoipa::path(get, path = "/wsapi/discovery", tag = "addresses", params(("domain" = String, Query)),
    responses((status = 200, description = "a support document")))]
pub(super) async fn discovery(
    State(tier): State<SecureWebhead>,
    call: Get<DomainQuery>,
) -> Result<Answer<Value>, Problem> {
    let domain = Domain::parse(&call.args.domain)
        .ok_or_else(|| Problem::bad_request("bad-arguments", "malformed domain name"))?;
    let document = match tier.discovery.look_up(&domain).await {
        Outcome::Primary(primary) => json!({
            "authority": primary.authority.as_str(),
            "authentication": primary.auth_url.as_str(),
            "provisioning": primary.prov_url.as_str(),
        }),
        Outcome::Ourselves | Outcome::Disabled | Outcome::None(_) => json!({
            "authority": tier.verifier.own().as_str(),
            "keys": *tier.reception.keys.support_document_keys(),
        }),
    };
    Ok(Answer::new(document))
}

fn live(outcome: &Outcome) -> Live {
    match outcome {
        Outcome::Primary(_) => Live::Primary,
        Outcome::Ourselves | Outcome::Disabled => Live::Declined,
        Outcome::None(_) => Live::Absent,
    }
}

impl SecureWebhead {
    /// Whether an address's domain certifies it now.
    pub(super) async fn has_primary(&self, address: &Address) -> bool {
        match Domain::parse(address.domain()) {
            Some(domain) => matches!(self.discovery.look_up(&domain).await, Outcome::Primary(_)),
            None => false,
        }
    }

    /// Somebody signed in with a password: if their domain certified them before and the fallback may now, it does from here
    /// on, and they are not told again that it was different.
    pub(super) fn note_password_used(&self, account: AccountId, address: Address) {
        let tier = self.clone();
        tokio::spawn(async move {
            if let Err(error) = tier.use_as_secondary(account, address).await {
                tracing::debug!(%error, "that the fallback certifies an address now could not be noted");
            }
        });
    }

    async fn use_as_secondary(&self, account: AccountId, address: Address) -> Result<(), OperationError> {
        let facts = self.reception.directory.address_facts(&address).await?;
        let used_as = facts.email.and_then(|email| email.used_as);
        let (Some(UsedAs::Primary), Some(domain)) = (used_as, Domain::parse(address.domain())) else {
            return Ok(());
        };
        let live = live(&self.discovery.look_up(&domain).await);
        let now_ms = self.reception.now_ms();
        if self.grace.lets_fallback_certify(live, facts.idp_seen_ms, now_ms) {
            let noted = self.identity.used_as(account, address, UsedAs::Secondary).await?;
            // Refused where it has another owner by now: then there is nothing to note.
            let (identity::Outcome::Done { .. } | identity::Outcome::Refused(_)) = noted;
        }
        Ok(())
    }

    /// Notes that a domain was seen as an IdP, or that it says itself that it is none.
    fn note_sighting(&self, domain: &Domain, live: Live, seen_ms: Option<u64>, now_ms: u64) {
        let sighting = Sighting::of(live, seen_ms, now_ms);
        if sighting == Sighting::Unchanged {
            return;
        }
        let (identity, domain) = (self.identity.clone(), domain.clone());
        tokio::spawn(async move {
            if let Err(error) = identity.note_idp(&domain, sighting).await {
                tracing::debug!(%error, "that a domain was seen as an IdP could not be noted");
            }
        });
    }
}
