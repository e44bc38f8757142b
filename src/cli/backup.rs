//! `persona backup`, `persona restore`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use persona::{
    config::SiteConfig,
    site::backup_owner,
    store::{Backup, Restore, prune_backups},
};
use reqwest::Method;
use serde_json::json;

use super::client::SiteAt;

/// At least one of `--to` and `--prune`.
#[derive(clap::Args)]
pub(super) struct BackupArgs {
    /// The site's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Make a backup of the running site in this directory, which must not exist yet; best on another disk.
    #[arg(long, value_name = "DIR", required_unless_present = "prune")]
    to: Option<PathBuf>,
    /// Then remove the backups right below this directory that are too old to be restored.
    #[arg(long, value_name = "DIR")]
    prune: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct RestoreArgs {
    /// The site's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A directory that `persona backup --to` made.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Move the store that is there aside.
    #[arg(long)]
    replace: bool,
}

pub(super) async fn backup(args: BackupArgs) -> Result<ExitCode, String> {
    let config = SiteConfig::load(&args.config).map_err(|error| error.to_string())?;
    if let Some(to) = args.to {
        let to = absolute(&to)?;
        let answer = SiteAt::of(config.data.clone())
            .call(Method::POST, "/backup", Some(json!({ "to": to })))
            .await?;
        let made: Backup =
            serde_json::from_value(answer).map_err(|error| format!("the answer makes no sense: {error}"))?;
        println!(
            "Wrote {}: {} transactions, {} MB. It may be restored for {} days; keep it as safe as the site itself.",
            to.display(),
            made.transactions,
            made.bytes.div_ceil(1_000_000),
            config.backup.age_max_days
        );
    }
    if let Some(directory) = args.prune {
        let owner = backup_owner(&config);
        let removed = prune_backups(&directory, &owner, config.backup.age_max_days, now_ms())
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        for path in &removed {
            println!("Removed {}.", path.display());
        }
        println!(
            "{} backups were older than {} days.",
            removed.len(),
            config.backup.age_max_days
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn restore(args: RestoreArgs) -> Result<ExitCode, String> {
    let config = SiteConfig::load(&args.config).map_err(|error| error.to_string())?;
    let restored = tokio::task::spawn_blocking(move || {
        let restore = Restore {
            directory: &config.data,
            from: &args.from,
            owner: &backup_owner(&config),
            age_max_days: config.backup.age_max_days,
            replace: args.replace,
            now_ms: now_ms(),
        };
        restore.run().map_err(|error| error.to_string())
    });
    let restored = restored.await.map_err(|_| "restoring panicked".to_owned())??;
    let age = restored.backup.age(now_ms());
    println!(
        "Restored {} transactions from {} hours ago, made in {}.",
        restored.backup.transactions,
        age.as_secs() / 3600,
        restored.backup.owner.site
    );
    if let Some(aside) = &restored.aside {
        println!(
            "What was there is in {}: it holds personal data, so remove it once the site is well.",
            aside.display()
        );
    }
    println!(
        "Start the site now: it takes from the others what has happened since, and serves when it is level."
    );
    Ok(ExitCode::SUCCESS)
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
