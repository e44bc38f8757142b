//! `persona site`, `persona identity`.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::ExitCode,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use metrics_exporter_prometheus::PrometheusBuilder;
use persona::{config::SiteConfig, members, site::Site};
use tokio::signal::unix::{SignalKind, signal};

#[derive(clap::Args)]
pub(super) struct SiteArgs {
    /// The site's configuration (TOML); see deploy/README.md for every field.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
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
    let site = Site::start(config).await.map_err(|error| error.to_string())?;
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
    let at = |error: std::io::Error| format!("{}: {error}", args.out.display());
    let mut file: File = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.out)
        .map_err(at)?;
    file.write_all(made.pem.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(at)?;
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
