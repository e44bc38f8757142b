//! The command line: parses, calls the library, prints what was done and what to do next.

mod account;
mod backup;
mod client;
mod cluster;
mod demo;
mod key;
mod load;
mod repair;
mod site;
mod status;
mod tiers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Persona: a person proves to a web site that they own an email address.
#[derive(Parser)]
#[command(name = "persona", version, about, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one data center in this process.
    Site(site::SiteArgs),
    /// Make a member's key and certificate, and print the public key for the others' configurations.
    Identity(site::IdentityArgs),
    /// What people do, done by an operator: create, sign in, change, reset, add, remove, cancel, show.
    Account(account::AccountArgs),
    /// Copy a running site's store to a directory, and remove copies that are too old.
    Backup(backup::BackupArgs),
    /// Make the store of a site that does not run from a backup.
    Restore(backup::RestoreArgs),
    /// Who belongs to the cluster: begin one, invite, list, leave, evict; replace a key; finalise features.
    Cluster(cluster::ClusterArgs),
    /// What sites sign with: list keys, replace this site's, revoke one.
    Key(key::KeyArgs),
    /// Compare a running site with the others, and repair what differs and should not.
    Repair(repair::RepairArgs),
    /// Have a running site read everything on its disk again, and mend what can be.
    Scrub(repair::ScrubArgs),
    /// How a running site is.
    Status(status::StatusArgs),
    /// Play the browsers of so many active users against sites, and measure what they wait for.
    Load(persona::load::LoadArgs),
    /// The parts of a site as processes of their own: make their certificates.
    #[command(subcommand)]
    Tiers(tiers::TiersCommand),
    /// Run a small web site that people sign in to with Persona: to look at, and to copy from.
    DemoRp(demo::DemoRpArgs),
    /// Run an email domain that certifies its own users: to look at, and to copy from.
    DemoIdp(demo::DemoIdpArgs),
    /// Run ten sites on this machine, to break and to watch (laboratory).
    #[cfg(feature = "lab")]
    World(persona::world::WorldArgs),
    /// Live through worlds of replicas in virtual time, and check that promises hold (laboratory).
    #[cfg(feature = "lab")]
    Sim(persona::sim::SimArgs),
}

/// Runs a command. Errors go to standard error as one sentence; the exit status is 1.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("persona")
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("could not start: {error}")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Site(args) => site::run(args).await,
            Command::Identity(args) => site::make_identity(&args),
            Command::Account(args) => account::run(args).await,
            Command::Backup(args) => backup::backup(args).await,
            Command::Restore(args) => backup::restore(args).await,
            Command::Cluster(args) => cluster::run(args).await,
            Command::Key(args) => key::run(args).await,
            Command::Repair(args) => repair::repair(args).await,
            Command::Scrub(args) => repair::scrub(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Tiers(command) => tiers::run(&command),
            Command::DemoRp(args) => demo::relying_party(args).await,
            Command::DemoIdp(args) => demo::identity_provider(args).await,
            #[cfg(feature = "lab")]
            Command::World(args) => persona::world::run(args).await.map_err(|error| error.to_string()),
            #[cfg(feature = "lab")]
            Command::Sim(args) => tokio::task::block_in_place(|| persona::sim::command(&args)),
        }
    });
    // Nothing that is still running may hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("persona: {message}");
    ExitCode::FAILURE
}

/// What is logged unless `PERSONA_LOG` says otherwise. Of others warnings only: Automerge opens a span of level info for
/// every change, and formatting those took a third of a commit's time.
const LOGGED: &str = "warn,persona=info,gossip=info";

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("PERSONA_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
