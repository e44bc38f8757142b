//! `persona cluster`: who belongs to it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use persona::{
    admin::{
        ClusterReport, EvictionReport, FeatureReport, InviteReport, LeaveReport, MemberReport, RotationReport,
    },
    members::found::{self, Description},
};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::SiteAt;

#[derive(clap::Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Begin a new cluster: write the first member's configuration and key.
    Init(NewMember),
    /// Write another member's configuration and key, with the secrets that all members share.
    Prepare {
        /// The configuration of a member of the cluster.
        #[arg(long, value_name = "FILE")]
        like: PathBuf,
        #[command(flatten)]
        member: NewMember,
    },
    /// Print a token with which one new member may join.
    Invite {
        #[command(flatten)]
        site: SiteAt,
        /// How long it may be used: `30m`, `24h`, `7d`.
        #[arg(long, default_value = "24h", value_parser = parse_duration)]
        valid: Duration,
    },
    /// List the members, as this site sees them.
    Members {
        #[command(flatten)]
        site: SiteAt,
        /// Also those that left or were evicted.
        #[arg(long)]
        all: bool,
        /// Print the site's own JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Leave the cluster for good: this site stops serving, waits until every other one has what is here, and ends.
    Leave {
        #[command(flatten)]
        site: SiteAt,
    },
    /// Put another member out. Without --yes, only show what that would cut off.
    Evict {
        /// Its name, or its id.
        member: String,
        #[command(flatten)]
        site: SiteAt,
        /// Its key may be in strange hands: take nothing more from it, not even what only it has.
        #[arg(long)]
        compromised: bool,
        /// Why, for people.
        #[arg(long, default_value = "", value_name = "WORDS")]
        reason: String,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
    /// Replace this member's key, without a restart: list the next one, wait until every member has that, use it.
    RotateKey {
        #[command(flatten)]
        site: SiteAt,
    },
    /// List what members can read that not every version can.
    Features {
        #[command(flatten)]
        site: SiteAt,
    },
    /// Allow a feature to be written. From then on no member can go back to a version that lacks it.
    Finalise {
        /// Its name, as `features` lists it.
        feature: String,
        #[command(flatten)]
        site: SiteAt,
    },
}

#[derive(clap::Args)]
struct NewMember {
    /// Directory for the files; they must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the member, for people: one in the whole cluster.
    #[arg(long)]
    name: String,
    /// Name of its site.
    #[arg(long)]
    site: String,
    /// UDP address on which it listens for the other members.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where the others reach it, if that is not where it listens; may be given several times, the best first.
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,
}

impl From<NewMember> for (PathBuf, Description) {
    fn from(member: NewMember) -> (PathBuf, Description) {
        let description = Description {
            name: member.name,
            site: member.site,
            listen: member.listen,
            addresses: member.addresses,
        };
        (member.out, description)
    }
}

pub(super) async fn run(args: ClusterArgs) -> Result<ExitCode, String> {
    match args.command {
        Command::Init(member) => init(member),
        Command::Prepare { like, member } => prepare(&like, member),
        Command::Invite { site, valid } => invite(&site, valid).await,
        Command::Members { site, all, json } => members(&site, all, json).await,
        Command::Leave { site } => leave(&site).await,
        Command::Evict {
            member,
            site,
            compromised,
            reason,
            yes,
        } => evict(&site, &member, compromised, &reason, yes).await,
        Command::RotateKey { site } => rotate_key(&site).await,
        Command::Features { site } => features(&site).await,
        Command::Finalise { feature, site } => finalise(&site, &feature).await,
    }
}

pub(super) async fn ask<T: DeserializeOwned>(
    site: &SiteAt,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<T, String> {
    serde_json::from_value(site.call(method, path, body).await?)
        .map_err(|error| format!("the answer makes no sense: {error}"))
}

fn init(member: NewMember) -> Result<ExitCode, String> {
    let (directory, description) = member.into();
    let config = found::first_member(&directory, &description).map_err(|error| error.to_string())?;
    println!("Wrote {} and the member's key beside it.", config.display());
    println!("They hold secrets: the key stays on this machine, `[cluster]` is for other members only.");
    println!("Start the cluster's first member with");
    println!("  persona site --config {}", config.display());
    println!("and let others in with `persona cluster invite`.");
    Ok(ExitCode::SUCCESS)
}

fn prepare(like: &Path, member: NewMember) -> Result<ExitCode, String> {
    let (directory, description) = member.into();
    let config = found::further_member(&directory, &description, like).map_err(|error| error.to_string())?;
    println!("Wrote {} and the member's key beside it.", config.display());
    println!("Ask a running member for `persona cluster invite`, and start this one with");
    println!(
        "  persona site --config {} --join TOKEN@HOST:PORT",
        config.display()
    );
    Ok(ExitCode::SUCCESS)
}

async fn invite(site: &SiteAt, valid: Duration) -> Result<ExitCode, String> {
    let body = json!({ "valid_ms": u64::try_from(valid.as_millis()).unwrap_or(u64::MAX) });
    let report: InviteReport = ask(site, Method::POST, "/cluster/invite", Some(body)).await?;
    println!("{}", report.invitation);
    let left = report.expires_ms.saturating_sub(now_ms());
    eprintln!("One new member may join with this within {}:", span(left));
    eprintln!("  persona site --config FILE --join {}", report.invitation);
    eprintln!("Any active member lets it in: another one's HOST:PORT after the @ does as well.");
    Ok(ExitCode::SUCCESS)
}

async fn members(site: &SiteAt, all: bool, json: bool) -> Result<ExitCode, String> {
    let answer = site.call(Method::GET, "/cluster", None).await?;
    if json {
        println!("{answer:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let report: ClusterReport =
        serde_json::from_value(answer).map_err(|error| format!("the answer makes no sense: {error}"))?;
    println!("Cluster {}", report.cluster);
    println!(
        "{:<18} {:<14} {:<9} {:<10} {:>8} {:>8} {:>11}  addresses",
        "member", "site", "state", "version", "lacks", "we lack", "heard"
    );
    let is_out = |member: &MemberReport| matches!(member.state.as_str(), "left" | "evicted");
    for member in report.members.iter().filter(|member| all || !is_out(member)) {
        let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        println!(
            "{:<18} {:<14} {:<9} {:<10} {:>8} {:>8} {:>11}  {}",
            member.name,
            member.site,
            member.state,
            if member.version.is_empty() {
                "-"
            } else {
                &member.version
            },
            count(member.lacks),
            count(member.has_beyond),
            heard(member, &report.own),
            member.addresses.join(" ")
        );
        if let Some(why) = &member.why {
            println!("{:<18} {}; id {}", "", why, member.id);
        }
    }
    let out = report.members.iter().filter(|member| is_out(member)).count();
    if out > 0 && !all {
        println!("{out} more left or were evicted: --all shows them.");
    }
    for invitation in &report.invitations {
        let left = invitation.expires_ms.saturating_sub(now_ms());
        println!(
            "Open invitation {}… by {}, for {}",
            invitation.token,
            invitation.by,
            span(left)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn heard(member: &MemberReport, own: &str) -> String {
    match (member.connected, member.heard_ms_ago) {
        _ if member.id == own => "this site".to_owned(),
        (Some(true), _) => "connected".to_owned(),
        (_, Some(ms)) => format!("{} ago", span(ms)),
        _ => "never".to_owned(),
    }
}

async fn leave(site: &SiteAt) -> Result<ExitCode, String> {
    let mut report: LeaveReport = ask(site, Method::POST, "/cluster/leave", None).await?;
    println!("This site is leaving: it serves nobody any more, and hands over what it has.");
    let mut told = Told::default();
    while report.state == "leaving" {
        told.waits_for(&report.waits_for);
        tokio::time::sleep(POLL).await;
        match ask(site, Method::GET, "/cluster/leave", None).await {
            Ok(now) => report = now,
            // It has gone, as it should.
            Err(_) => break,
        }
    }
    println!("It has left the cluster, and its process ends. Its data directory can be removed;");
    println!("to come back: `persona site --config FILE --join TOKEN@HOST:PORT`.");
    Ok(ExitCode::SUCCESS)
}

async fn evict(
    site: &SiteAt,
    member: &str,
    compromised: bool,
    reason: &str,
    yes: bool,
) -> Result<ExitCode, String> {
    let body = json!({
        "member": member,
        "compromised": compromised,
        "words": reason,
        "confirmed": yes,
    });
    let report: EvictionReport = ask(site, Method::POST, "/cluster/evict", Some(body)).await?;
    let member = &report.member;
    println!(
        "{} ({}), id {}, {}",
        member.name, member.site, member.id, member.state
    );
    match (member.connected, member.heard_ms_ago) {
        (Some(true), _) => println!("It is connected to this site right now."),
        (_, Some(ms)) => println!("It was last heard {} ago.", span(ms)),
        _ => println!("This site has not heard it since it was started."),
    }
    match member.has_beyond {
        Some(0) | None => println!("It is not known to have anything that this site lacks;"),
        Some(count) => println!("It is known to have {count} transactions that this site lacks;"),
    }
    println!("what it wrote since it was last heard, and nobody else has heard, only it has.");
    println!(
        "{} of {} transactions here are at every member{}.",
        report.stable,
        report.transactions,
        if report.also_behind.is_empty() {
            "; for the rest only this one is waited for".to_owned()
        } else {
            format!("; {} are waited for too", report.also_behind.join(", "))
        }
    );
    if !report.evicted {
        println!("Nothing was done. An evicted member cannot come back as what it was, only join anew.");
        println!("To evict it, say so again with --yes.");
        return Ok(ExitCode::from(2));
    }
    println!("It is evicted. Nobody waits for it any more.");
    if compromised {
        println!("Nothing is taken from it, and its keys are revoked.");
    } else {
        println!("If it comes back, it hands over what only it has, and may join anew by invitation.");
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate_key(site: &SiteAt) -> Result<ExitCode, String> {
    let mut report: RotationReport = ask(site, Method::POST, "/cluster/key", None).await?;
    println!(
        "The next key is listed beside the present one: {}",
        report.keys.join(", ")
    );
    let mut told = Told::default();
    while report.rotating {
        told.waits_for(&report.waits_for);
        tokio::time::sleep(POLL).await;
        report = ask(site, Method::GET, "/cluster/key", None).await?;
    }
    println!(
        "It is in use, and the old one is listed no more: {}",
        report.keys.join(", ")
    );
    println!(
        "Where configurations list this member's `public_key`, `persona cluster members --json` has the new one's"
    );
    println!("fingerprint; the cluster record goes before them.");
    Ok(ExitCode::SUCCESS)
}

async fn features(site: &SiteAt) -> Result<ExitCode, String> {
    let features: Vec<FeatureReport> = ask(site, Method::GET, "/cluster/features", None).await?;
    for feature in features {
        let state = match (feature.finalised, feature.lacked_by.as_slice()) {
            (true, _) => "finalised".to_owned(),
            (false, []) => "every member can read it: it can be finalised".to_owned(),
            (false, lacking) => format!("not yet readable at {}", lacking.join(", ")),
        };
        let known = if feature.known {
            ""
        } else {
            " (unknown to this build)"
        };
        println!("{:<24} {state}{known}", feature.name);
    }
    Ok(ExitCode::SUCCESS)
}

async fn finalise(site: &SiteAt, feature: &str) -> Result<ExitCode, String> {
    let body = json!({ "feature": feature });
    let answer = site.call(Method::POST, "/cluster/features", Some(body)).await?;
    if answer["newly"] == true {
        println!("{feature} is finalised: it is written from now on, at every site that has heard so.");
        println!("Members cannot go back to a version that does not know it.");
    } else {
        println!("{feature} was finalised before.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Between two looks at what takes long.
const POLL: Duration = Duration::from_millis(500);

/// Who is waited for, said when it changes.
#[derive(Default)]
pub(super) struct Told(Vec<String>);

impl Told {
    pub(super) fn waits_for(&mut self, members: &[String]) {
        if self.0 != members {
            self.0 = members.to_vec();
            if !members.is_empty() {
                println!(
                    "Waits for {}; one that is gone for good is to be evicted.",
                    members.join(", ")
                );
            }
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a number and s, m, h or d, like 24h; found `{text}`");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()]
        .parse()
        .map_err(|_| wrong())?;
    count
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(wrong)
}

/// A duration for people.
pub(super) fn span(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "h", "24", "-1h", "1.5h", "24hh", "24ü", "99999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!((span(1_500).as_str(), span(86_400_000).as_str()), ("1 s", "24 h"));
    }
}
