//! `persona site`, `persona identity`.

use std::{path::PathBuf, process::ExitCode};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use metrics_exporter_prometheus::PrometheusBuilder;
use persona::{
    config::SiteConfig,
    members::{self, identity::write_private, token::Invitation},
    site::Site,
};
use tokio::signal::unix::{SignalKind, signal};

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
    let config = SiteConfig::load(&args.config).map_err(|error| error.to_string())?;
    if let Some(listen) = config.metrics {
        PrometheusBuilder::new()
            .with_http_listener(listen)
            .install()
            .map_err(|error| format!("metrics listener {listen}: {error}"))?;
    }
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
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let draining = site.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        draining.drain();
    });
    #[cfg(feature = "lab")]
    if std::env::var_os(LAB_STDIN).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
    }
    site.run().await.map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
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
