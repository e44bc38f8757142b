//! `persona site`, `persona identity`.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use metrics_exporter_prometheus::PrometheusBuilder;
use persona::{
    config::{SiteConfig, TierConfig},
    members::{self, identity::write_private, token::Invitation},
    site::Site,
    tiers::{Tier, apart::Apart},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

#[derive(clap::Args)]
pub(super) struct SiteArgs {
    /// The site's configuration (TOML); see deploy/README.md for every field.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Become a member by this invitation, as `persona cluster invite` printed it. Not used where the data directory
    /// is a member's already, unless that one was evicted or has left.
    #[arg(
        long,
        value_name = "TOKEN@HOST:PORT",
        env = "PERSONA_JOIN",
        hide_env_values = true
    )]
    join: Option<String>,
    /// Which parts of the site this process is: webhead, secure-webhead, keysigner, replica. All of them, unless it is
    /// said otherwise; without the replica, the configuration is that of a tier (see deploy/README.md).
    #[arg(
        long,
        value_name = "TIER,…",
        value_delimiter = ',',
        default_value = "webhead,secure-webhead,keysigner,replica"
    )]
    tiers: Vec<Tier>,
}

#[derive(clap::Args)]
pub(super) struct IdentityArgs {
    /// Name of the member, for people.
    #[arg(long)]
    name: String,
    /// File for the certificate and private key; must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Set by a laboratory: the site ends when its standard input does, so that no site outlives its world.
#[cfg(feature = "lab")]
const LAB_STDIN: &str = "PERSONA_LAB_STDIN";

pub(super) async fn run(args: SiteArgs) -> Result<ExitCode, String> {
    if !args.tiers.contains(&Tier::Replica) {
        return run_apart(&args).await;
    }
    let mut config = SiteConfig::load(&args.config).map_err(|error| error.to_string())?;
    config.run.clone_from(&args.tiers);
    export_metrics(config.metrics)?;
    let name = config.site.clone();
    let invitation = args
        .join
        .map(|text| {
            text.parse::<Invitation>()
                .map_err(|error| format!("--join: {error}"))
        })
        .transpose()?;
    let site = Site::start(config, invitation)
        .await
        .map_err(|error| error.to_string())?;
    tracing::info!(
        site = name,
        version = env!("CARGO_PKG_VERSION"),
        lab = cfg!(feature = "lab"),
        "started"
    );
    let draining = site.clone();
    on_signal(move || draining.drain())?;
    end_with_stdin();
    site.run().await.map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The parts of a site that are not its replica.
async fn run_apart(args: &SiteArgs) -> Result<ExitCode, String> {
    if args.join.is_some() {
        return Err("--join: only the replica of a site joins the cluster".to_owned());
    }
    let config = TierConfig::load(&args.config, &args.tiers).map_err(|error| error.to_string())?;
    export_metrics(config.metrics)?;
    let apart = Apart::start(&config, &args.tiers)
        .await
        .map_err(|error| error.to_string())?;
    let tiers: Vec<_> = args.tiers.iter().map(|tier| tier.name()).collect();
    tracing::info!(
        site = config.site,
        tiers = tiers.join(","),
        version = env!("CARGO_PKG_VERSION"),
        lab = cfg!(feature = "lab"),
        "started"
    );
    let (drain, draining) = watch::channel(false);
    on_signal(move || {
        drain.send_replace(true);
    })?;
    end_with_stdin();
    apart.run(draining).await;
    Ok(ExitCode::SUCCESS)
}

fn export_metrics(listen: Option<SocketAddr>) -> Result<(), String> {
    let Some(listen) = listen else { return Ok(()) };
    PrometheusBuilder::new()
        .with_http_listener(listen)
        .install()
        .map_err(|error| format!("metrics listener {listen}: {error}"))
}

/// Does it once, when the process is asked to end.
fn on_signal(drain: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        drain();
    });
    Ok(())
}

fn end_with_stdin() {
    #[cfg(feature = "lab")]
    if std::env::var_os(LAB_STDIN).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
    }
}

pub(super) fn make_identity(args: &IdentityArgs) -> Result<ExitCode, String> {
    let made = members::make_identity(&args.name).map_err(|error| error.to_string())?;
    write_private(&args.out, &made.pem).map_err(|error| format!("{}: {error}", args.out.display()))?;
    println!(
        "Wrote {} (certificate and private key; keep it on this machine).",
        args.out.display()
    );
    println!(
        "Put this into the [[members]] entry of {} in every site's configuration:",
        args.name
    );
    println!("public_key = \"{}\"", BASE64.encode(&made.public_key));
    Ok(ExitCode::SUCCESS)
}
