//! A copy of the store for an operator to keep.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;

use super::error::ApiError;
use crate::{
    site::{Site, backup_owner},
    store::Backup,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Make {
    to: PathBuf,
}

/// Answers when the backup is whole, however long that takes.
pub(super) async fn make(
    State(site): State<Arc<Site>>,
    body: Result<Json<Make>, JsonRejection>,
) -> Result<Json<Backup>, ApiError> {
    let Json(Make { to }) = body?;
    if !to.is_absolute() || to.starts_with(&site.config.data) {
        return Err(ApiError::bad_request(
            "bad-directory",
            "A backup goes to an absolute path outside the data directory, best on another disk.",
        ));
    }
    let owner = backup_owner(&site.config);
    let store = site.store.clone();
    let made = tokio::task::spawn_blocking(move || store.backup(&to, owner)).await;
    let backup = made.map_err(|_| ApiError::unavailable("unavailable", "Copying was broken off."))??;
    tracing::info!(
        transactions = backup.transactions,
        bytes = backup.bytes,
        "a backup was made"
    );
    Ok(Json(backup))
}
