//! `persona repair`, `persona scrub`.

use std::process::ExitCode;

use persona::{
    admin::{Compared, RepairReport},
    store::ScrubReport,
};
use reqwest::Method;
use serde_json::json;

use super::client::SiteAt;

#[derive(clap::Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    site: SiteAt,
    /// Only with this member (its id or name); else with every active member in reach.
    #[arg(long, value_name = "MEMBER")]
    peer: Option<String>,
    /// Only look: nothing is changed anywhere.
    #[arg(long)]
    dry_run: bool,
    /// Print the site's own JSON instead.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct ScrubArgs {
    #[command(flatten)]
    site: SiteAt,
    /// Print the site's own JSON instead.
    #[arg(long)]
    json: bool,
}

/// Exit status 0: nothing differs that should not, or it was repaired; 2: look again.
pub(super) async fn repair(args: RepairArgs) -> Result<ExitCode, String> {
    let ask = json!({ "peer": args.peer, "dry_run": args.dry_run });
    let answer = args.site.call(Method::POST, "/repair", Some(ask)).await?;
    let report: RepairReport = serde_json::from_value(answer.clone())
        .map_err(|error| format!("the answer makes no sense: {error}"))?;
    if args.json {
        println!("{answer:#}");
    } else {
        print(&report);
    }
    let well = |outcome: Compared| match outcome {
        Compared::Equal | Compared::Lag => true,
        Compared::Divergent => !report.dry_run,
        Compared::Inconclusive | Compared::Failed => false,
    };
    let well = !report.peers.is_empty() && report.peers.iter().all(|peer| well(peer.outcome));
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn print(report: &RepairReport) {
    if report.peers.is_empty() {
        println!("No other active member is in reach.");
    }
    for peer in &report.peers {
        let found = match peer.outcome {
            Compared::Equal => "holds the same".to_owned(),
            Compared::Lag => format!("{} records are on their way, all else is the same", peer.lagging),
            Compared::Divergent if peer.lagging > 0 => {
                let lagging = peer.lagging;
                format!(
                    "DIFFERS in {} records ({lagging} more are on their way)",
                    peer.divergent
                )
            }
            Compared::Divergent => format!("DIFFERS in {} records", peer.divergent),
            Compared::Inconclusive => {
                "cannot be compared now: a log does not reach back; ask again in a minute".to_owned()
            }
            Compared::Failed => "was not reached, or broke off".to_owned(),
        };
        println!(
            "{:<18} {found}  [{} bytes, {} round trips]",
            if peer.name.is_empty() {
                &peer.member
            } else {
                &peer.name
            },
            peer.bytes,
            peer.round_trips
        );
        for record in &peer.records {
            println!("    {record}");
        }
        if peer.records.len() < peer.divergent {
            println!("    and {} more", peer.divergent - peer.records.len());
        }
    }
    for note in &report.repaired {
        let outcome = serde_json::to_value(note.outcome).unwrap_or_default();
        println!("here: record {} {}", note.record, outcome.as_str().unwrap_or("?"));
    }
    let divergent = report
        .peers
        .iter()
        .any(|peer| peer.outcome == Compared::Divergent);
    if divergent && report.dry_run {
        println!("Nothing was changed. Without --dry-run each side takes what it lacks of the other's.");
    } else if divergent {
        println!(
            "Each side has sent the other what it has. Run this again with --dry-run to see that it helped."
        );
    }
}

/// Exit status 0: nothing was wrong, or all of it is mended; 2: some of it can only come from another site, or cannot be
/// read.
pub(super) async fn scrub(args: ScrubArgs) -> Result<ExitCode, String> {
    let answer = args.site.call(Method::POST, "/scrub", None).await?;
    let report: ScrubReport = serde_json::from_value(answer.clone())
        .map_err(|error| format!("the answer makes no sense: {error}"))?;
    if args.json {
        println!("{answer:#}");
    } else {
        println!(
            "Read {} values, {} KiB.",
            report.values,
            report.bytes.div_ceil(1024)
        );
        match (report.mended, report.damaged) {
            (0, 0) if report.unreadable > 0 => println!("All that can be read is as it was written."),
            (0, 0) => println!("Everything is as it was written."),
            (mended, damaged) => println!(
                "{mended} were wrong and have been made again; {damaged} were damaged and can only come from \
                 another site (`persona repair` asks them now)."
            ),
        }
        if report.unreadable > 0 {
            println!(
                "{} blocks of tables cannot be read. What they held comes from other sites, but the blocks stay, and \
                 nothing that was deleted beside them counts as erased. When this site can be spared: stop it, remove `store` in its \
                 data directory (take a new disk, if this one fails), and start it: it takes a copy from another site.",
                report.unreadable
            );
        }
        for finding in &report.findings {
            println!("    {finding}");
        }
    }
    Ok(if report.damaged + report.unreadable == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}
