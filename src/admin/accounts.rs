//! What people do, done by an operator on their behalf. The operator's word stands for the proof of an address.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, State},
    http::StatusCode,
};
use crdt::AccountId;
use gossip::Dot;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use crate::{
    identity::{Address, OperationError, Outcome, TypedPassword, Word},
    settlement::receipts::ErasureReport,
    site::{Answered, Site},
};

/// A JSON body; a mistake in it is answered like every other.
#[derive(FromRequest)]
#[from_request(via(Json), rejection(ApiError))]
pub(super) struct Body<T>(pub(super) T);

/// Parameters in the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub(super) struct Path<T>(T);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    address: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    old: String,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneAddress {
    address: String,
}

/// How and where a write stands.
#[derive(Serialize)]
pub(super) struct Written {
    dot: Option<DotReport>,
    answered: String,
}

/// A transaction's name.
#[derive(Serialize)]
pub(super) struct DotReport {
    writer: String,
    number: u64,
}

impl From<Dot> for DotReport {
    fn from(dot: Dot) -> DotReport {
        DotReport {
            writer: dot.writer.to_string(),
            number: dot.number,
        }
    }
}

#[derive(Serialize)]
pub(super) struct WrittenAccount {
    account: String,
    #[serde(flatten)]
    written: Written,
}

#[derive(Serialize)]
pub(super) struct SignedInReport {
    account: String,
    epoch: EpochReport,
}

#[derive(Serialize)]
struct EpochReport {
    resets: u32,
    at: u64,
}

#[derive(Serialize)]
pub(super) struct AccountReport {
    account: String,
    created_ms: u64,
    cancelled: bool,
    has_password: bool,
    epoch: EpochReport,
    emails: Vec<HeldReport>,
}

#[derive(Serialize)]
struct HeldReport {
    address: String,
    verified: bool,
}

#[derive(Serialize)]
pub(super) struct EmailReport {
    address: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_as: Option<&'static str>,
}

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn create(
    State(site): State<Arc<Site>>,
    Body(body): Body<Credentials>,
) -> Result<(StatusCode, Json<WrittenAccount>), ApiError> {
    let address = Address::parse(&body.address)?;
    let password = site.config.passwords.rules().new_password(body.password)?;
    let (account, written) = settle(
        &site,
        site.identity
            .create_account(address, password, Word::Operator)
            .await?,
    )
    .await?;
    Ok((
        StatusCode::CREATED,
        Json(WrittenAccount {
            account: account.to_string(),
            written,
        }),
    ))
}

pub(super) async fn sign_in(
    State(site): State<Arc<Site>>,
    Body(body): Body<Credentials>,
) -> Answer<SignedInReport> {
    let address = Address::parse(&body.address)?;
    let password = TypedPassword::parse(body.password)?;
    match site.identity.sign_in(&address, password, None).await? {
        // What a sign-in writes (a rehash, a cleared count) waits for nobody.
        Outcome::Done { value, .. } => Ok(Json(SignedInReport {
            account: value.account.to_string(),
            epoch: EpochReport {
                resets: value.epoch.resets,
                at: value.epoch.at.to_u64(),
            },
        })),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

pub(super) async fn change_password(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
    Body(body): Body<PasswordChange>,
) -> Answer<Written> {
    let account = parse_account(&account)?;
    let old = TypedPassword::parse(body.old)?;
    let new = site.config.passwords.rules().new_password(body.new)?;
    let outcome = site.identity.change_password(account, old, new, None).await?;
    Ok(Json(settle(&site, outcome).await?.1))
}

pub(super) async fn reset_password(
    State(site): State<Arc<Site>>,
    Body(body): Body<Credentials>,
) -> Answer<WrittenAccount> {
    let address = Address::parse(&body.address)?;
    let password = site.config.passwords.rules().new_password(body.password)?;
    let outcome = site
        .identity
        .reset_password(address, password, Word::Operator)
        .await?;
    let (signed_in, written) = settle(&site, outcome).await?;
    Ok(Json(WrittenAccount {
        account: signed_in.account.to_string(),
        written,
    }))
}

pub(super) async fn add_email(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
    Body(body): Body<OneAddress>,
) -> Answer<Written> {
    let address = Address::parse(&body.address)?;
    let outcome = site
        .identity
        .add_email(parse_account(&account)?, address, Word::Operator)
        .await?;
    Ok(Json(settle(&site, outcome).await?.1))
}

pub(super) async fn remove_email(
    State(site): State<Arc<Site>>,
    Path((account, address)): Path<(String, String)>,
) -> Answer<Written> {
    let address = Address::parse(&address)?;
    let outcome = site
        .identity
        .remove_email(parse_account(&account)?, &address)
        .await?;
    Ok(Json(settle(&site, outcome).await?.1))
}

pub(super) async fn cancel(State(site): State<Arc<Site>>, Path(account): Path<String>) -> Answer<Written> {
    let outcome = site.identity.cancel_account(parse_account(&account)?).await?;
    Ok(Json(settle(&site, outcome).await?.1))
}

pub(super) async fn sign_out_everywhere(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
) -> Answer<Written> {
    let outcome = site
        .identity
        .sign_out_everywhere(parse_account(&account)?)
        .await?;
    Ok(Json(settle(&site, outcome).await?.1))
}

pub(super) async fn show(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
) -> Answer<AccountReport> {
    let id = parse_account(&account)?;
    let unknown = || ApiError::not_found("There is no such account here.");
    let state = site.identity.account(id).await?.ok_or_else(unknown)?;
    Ok(Json(AccountReport {
        account: id.to_string(),
        created_ms: state.created.ms(),
        cancelled: state.cancelled,
        has_password: state.has_password,
        epoch: EpochReport {
            resets: state.epoch.resets,
            at: state.epoch.at.to_u64(),
        },
        emails: state
            .emails
            .into_iter()
            .map(|email| HeldReport {
                address: email.address.typed().to_owned(),
                verified: email.verified,
            })
            .collect(),
    }))
}

/// Also while the site catches up: an operator who waits for it may ask at any time.
pub(super) async fn erased(
    State(site): State<Arc<Site>>,
    Path(account): Path<String>,
) -> Answer<ErasureReport> {
    let unknown = || ApiError::not_found("There is no such account here.");
    let report = site.settler.report(parse_account(&account)?);
    Ok(Json(report.map_err(OperationError::from)?.ok_or_else(unknown)?))
}

pub(super) async fn show_email(
    State(site): State<Arc<Site>>,
    Path(address): Path<String>,
) -> Answer<EmailReport> {
    let address = Address::parse(&address)?;
    let state = site.identity.email(&address).await?;
    Ok(Json(EmailReport {
        address: address.typed().to_owned(),
        state: if state.holder.is_some() { "held" } else { "free" },
        account: state.holder.map(|holder| holder.account.to_string()),
        verified: state.holder.map(|holder| holder.verified),
        used_as: state.used_as.map(|used_as| match used_as {
            crdt::UsedAs::Primary => "primary",
            crdt::UsedAs::Secondary => "secondary",
        }),
    }))
}

/// Turns an outcome into its value and the durability of what it wrote, or into a refusal.
async fn settle<T>(site: &Site, outcome: Outcome<T>) -> Result<(T, Written), ApiError> {
    match outcome {
        Outcome::Done { value, dot } => {
            let answered = match site.answer(dot).await {
                Answered::As(answer) => answer.to_string(),
                Answered::Degraded => "degraded".to_owned(),
            };
            Ok((
                value,
                Written {
                    dot: dot.map(DotReport::from),
                    answered,
                },
            ))
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

fn parse_account(text: &str) -> Result<AccountId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::bad_request("bad-account", "An account's id has 30 hex digits."))
}
