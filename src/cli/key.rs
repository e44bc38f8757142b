//! `persona key`: what sites sign with.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use persona::admin::{KeyReport, KeysReport, RevocationReport};
use reqwest::Method;
use serde_json::json;

use super::{
    client::SiteAt,
    cluster::{Told, ask, span},
};

#[derive(clap::Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the signing keys of all sites, as this one knows them.
    List {
        #[command(flatten)]
        site: SiteAt,
        /// Also those that verify nothing any more.
        #[arg(long)]
        all: bool,
        /// Print the site's own JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Replace this site's signing keys, without a restart: publish the next one, wait until the others have it, sign
    /// with it. What the old one signed stays good.
    Rotate {
        #[command(flatten)]
        site: SiteAt,
        /// Only this one.
        #[arg(long = "use", value_name = "USE", value_parser = ["session", "certificate"])]
        usage: Option<String>,
    },
    /// End a key, of whatever site, for good: nothing that it signed counts any more, anywhere. Without --yes, only show
    /// what that would end.
    Revoke {
        /// Its name as `list` shows it, or the beginning of that.
        #[arg(value_name = "KID", allow_hyphen_values = true)]
        key: String,
        #[command(flatten)]
        site: SiteAt,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(args: KeyArgs) -> Result<ExitCode, String> {
    match args.command {
        Command::List { site, all, json } => list(&site, all, json).await,
        Command::Rotate { site, usage } => rotate(&site, usage).await,
        Command::Revoke { key, site, yes } => revoke(&site, &key, yes).await,
    }
}

async fn list(site: &SiteAt, all: bool, json: bool) -> Result<ExitCode, String> {
    let answer = site.call(Method::GET, "/keys", None).await?;
    if json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let report: KeysReport =
        serde_json::from_value(answer).map_err(|error| format!("the answer makes no sense: {error}"))?;
    let now_ms = now_ms();
    println!(
        "{:<43}  {:<11} {:<18} {:<10} {:>9}",
        "key", "use", "member", "state", "since"
    );
    let verifies = |key: &KeyReport| key.verifies_until_ms.is_none_or(|until_ms| until_ms > now_ms);
    for key in report.keys.iter().filter(|key| all || verifies(key)) {
        println!(
            "{:<43}  {:<11} {:<18} {:<10} {:>9}{}",
            key.kid,
            key.usage,
            key.member,
            key.state,
            span(now_ms.saturating_sub(key.since_ms)),
            remark(key, now_ms)
        );
    }
    let over = report.keys.iter().filter(|key| !verifies(key)).count();
    if over > 0 && !all {
        println!("{over} more verify nothing any more: --all shows them.");
    }
    for trouble in &report.trouble {
        println!("This site's keys cannot go on: {trouble}");
    }
    Ok(ExitCode::SUCCESS)
}

fn remark(key: &KeyReport, now_ms: u64) -> String {
    let words = match key.state.as_str() {
        _ if key.signs => "signs here".to_owned(),
        "published" if !key.waits_for.is_empty() => format!("waits for {}", key.waits_for.join(", ")),
        "active" if key.own && !key.held => {
            "its private half is not here: revoke it, if it may be in strange hands".to_owned()
        }
        "retired" => match key
            .verifies_until_ms
            .map(|until_ms| until_ms.saturating_sub(now_ms))
        {
            Some(left) if left > 0 => format!("verifies for {} more", span(left)),
            _ => return String::new(),
        },
        _ => return String::new(),
    };
    format!("  {words}")
}

async fn rotate(site: &SiteAt, usage: Option<String>) -> Result<ExitCode, String> {
    let signing = |report: &KeysReport| -> Vec<KeyReport> {
        let keys = report.keys.iter();
        keys.filter(|key| key.signs && usage.as_ref().is_none_or(|usage| *usage == key.usage))
            .cloned()
            .collect()
    };
    let before: KeysReport = ask(site, Method::GET, "/keys", None).await?;
    let body = json!({ "use": usage });
    let mut report: KeysReport = ask(site, Method::POST, "/keys/rotate", Some(body)).await?;
    let mut told = Told::default();
    let concerns = |other: &String| usage.as_ref().is_none_or(|usage| usage == other);
    while report.rotating.iter().any(concerns) {
        if let Some(trouble) = report.trouble.first() {
            return Err(format!("the keys cannot be replaced now: {trouble}"));
        }
        let waits_for: Vec<String> = report
            .keys
            .iter()
            .flat_map(|key| key.waits_for.iter().cloned())
            .collect();
        told.waits_for(&waits_for);
        tokio::time::sleep(POLL).await;
        report = ask(site, Method::GET, "/keys", None).await?;
    }
    for key in signing(&report) {
        println!("Signs from now on, for {} use: {}", key.usage, key.kid);
    }
    for key in signing(&before) {
        let now = report.keys.iter().find(|now| now.kid == key.kid);
        if now.is_some_and(|now| now.state == "retired") {
            println!(
                "Retired: {}. What it signed stays good until it expires.",
                key.kid
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(site: &SiteAt, key: &str, yes: bool) -> Result<ExitCode, String> {
    let body = json!({ "key": key, "confirmed": yes });
    let report: RevocationReport = ask(site, Method::POST, "/keys/revoke", Some(body)).await?;
    let key = &report.key;
    println!(
        "{}, for {} use, of {}: {}",
        key.kid, key.usage, key.member, key.state
    );
    let ends: &[&str] = match key.usage.as_str() {
        "session" => &[
            "Every session that was signed with it ends, wherever that person is: who signed in at this site, or was",
            "last served a write there, signs in again. Browsers that were known to accounts there are known no more.",
        ],
        _ => &[
            "Every certificate that was made with it counts for nothing at verifiers that ask us, and browsers throw",
            "away what was certified before now, at whichever site: they get new certificates at the next sign-in.",
            "Who verifies by themselves sees it when they read our keys again.",
        ],
    };
    for line in ends {
        println!("{line}");
    }
    if !report.revoked {
        println!("Nothing was done. A revoked key never comes back; its site makes another one by itself.");
        println!("To revoke it, say so again with --yes.");
        return Ok(ExitCode::from(2));
    }
    if report.newly {
        println!("It is revoked: here now, at each other site as soon as it hears of it.");
    } else {
        println!("It is revoked.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Between two looks at what takes long.
const POLL: Duration = Duration::from_millis(200);

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
