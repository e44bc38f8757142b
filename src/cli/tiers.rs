//! `persona tiers certify`.

use std::{path::PathBuf, process::ExitCode};

use persona::tiers::certificates;

#[derive(clap::Subcommand)]
pub(super) enum TiersCommand {
    /// Make certificates by which the processes of one site know each other.
    ///
    /// Writes webhead.pem, secure-webhead.pem, keysigner.pem and replica.pem, each a certificate with its key, and
    /// authority.pem, which all of them need. The authority's own key is not kept: to replace one, make all of them anew.
    Certify {
        /// Name of the site, as in its configuration.
        #[arg(long)]
        site: String,
        /// Directory to write to. Files that exist are not replaced.
        #[arg(long, value_name = "DIRECTORY")]
        out: PathBuf,
    },
}

pub(super) fn run(command: &TiersCommand) -> Result<ExitCode, String> {
    let TiersCommand::Certify { site, out } = command;
    let is_name = !site.is_empty()
        && site.len() <= 63
        && site
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name {
        return Err("--site: letters, digits and hyphens, at most 63 of them".to_owned());
    }
    let written = certificates::certify(site, out).map_err(|error| error.to_string())?;
    for path in written {
        println!("Wrote {}.", path.display());
    }
    println!("Give each process its own file and authority.pem, and name both in its [tiers] section.");
    println!("Nobody keeps the authority's key: who has none of these files cannot become a tier of {site}.");
    Ok(ExitCode::SUCCESS)
}
