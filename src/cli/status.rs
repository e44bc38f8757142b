//! `persona status`: how a running site is.

use std::process::ExitCode;

use persona::admin::StatusReport;
use reqwest::Method;

use super::client::SiteAt;

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    site: SiteAt,
    /// Print the site's own JSON instead.
    #[arg(long)]
    json: bool,
}

/// Exit status 0: fit to serve; 2: not.
pub(super) async fn run(args: StatusArgs) -> Result<ExitCode, String> {
    let answer = args.site.call(Method::GET, "/status", None).await?;
    let status: StatusReport = serde_json::from_value(answer.clone())
        .map_err(|error| format!("the answer makes no sense: {error}"))?;
    if args.json {
        println!("{answer:#}");
    } else {
        print(&status);
    }
    Ok(if status.healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

fn print(status: &StatusReport) {
    let lab = if status.lab { ", laboratory build" } else { "" };
    println!(
        "{} ({}), version {}{lab}, process {}",
        status.name, status.site, status.version, status.pid
    );
    let state = match (status.healthy, status.alone, status.isolated) {
        (false, _, _) => format!("NOT FIT TO SERVE: {}", status.unhealthy.join("; ")),
        (true, _, true) => "serving, isolated: no other site was heard for a minute".to_owned(),
        (true, true, _) => "serving, alone: no other site was in reach when it started".to_owned(),
        (true, false, false) => "serving".to_owned(),
    };
    println!("{state}");
    println!(
        "Transactions {}, of which {} are at every member",
        status.vector_total, status.stable
    );
    println!(
        "Disk {} ({} MiB free, store {} KiB); quarantined {}",
        status.disk.state,
        status.disk.free_mib,
        status.disk.store_bytes >> 10,
        status.quarantined
    );
    println!(
        "{:<18} {:<12} {:>9} {:>12} {:>12}",
        "peer", "connection", "rtt", "lacks ours", "we lack"
    );
    for peer in &status.peers {
        println!(
            "{:<18} {:<12} {:>9} {:>12} {:>12}",
            peer.name,
            if peer.connected { "up" } else { "down" },
            peer.rtt_ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms")),
            peer.behind_us,
            peer.ahead_of_us
        );
    }
    for alarm in &status.alarms {
        println!("ALARM {alarm}");
    }
}
