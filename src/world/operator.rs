//! What an operator types: the program's own commands, run as an operator runs them, and what they print.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::plan::at;
use super::{World, WorldError};
use crate::members::features::ERASURE_RECEIPTS;

/// How a command ended.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    /// Its exit status; none when a signal ended it.
    pub(crate) status: Option<i32>,
    /// Standard output.
    pub(crate) said: String,
    /// Standard error.
    pub(crate) complained: String,
}

impl Typed {
    /// What it printed, if it succeeded; else an error that tells all.
    pub(crate) fn done(self, what: &str) -> Result<String, WorldError> {
        if self.status == Some(0) {
            return Ok(self.said);
        }
        Err(WorldError::Site {
            site: format!("persona {what}"),
            words: format!(
                "exit status {:?}: {} {}",
                self.status,
                self.said.trim(),
                self.complained.trim()
            ),
        })
    }
}

/// Runs `persona` with these arguments, beside the site with this data directory.
pub(crate) async fn persona(data: &Path, arguments: &[&str]) -> Result<Typed, WorldError> {
    let program = std::env::current_exe().map_err(at("find", Path::new("this program")))?;
    let command = Command::new(&program)
        .args(arguments)
        .env("PERSONA_DATA", data)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(COMMAND_TIMEOUT, command).await {
        Ok(output) => output.map_err(at("run", &program))?,
        Err(_) => {
            return Err(WorldError::Site {
                site: format!("persona {}", arguments.join(" ")),
                words: format!("did not end within {} s", COMMAND_TIMEOUT.as_secs()),
            });
        }
    };
    Ok(Typed {
        status: output.status.code(),
        said: String::from_utf8_lossy(&output.stdout).into_owned(),
        complained: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that asks this site.
pub(crate) async fn at_site(world: &World, site: usize, arguments: &[&str]) -> Result<Typed, WorldError> {
    let Some(at) = world.sites.get(site) else {
        return Err(WorldError::Unsettled("no such site".into()));
    };
    persona(&at.plan().data(), arguments).await
}

/// Asks a site for an invitation.
pub(crate) async fn invite(world: &World, site: usize) -> Result<String, WorldError> {
    let invited = at_site(world, site, &["cluster", "invite", "--valid", "10m"]).await?;
    Ok(invited.done("cluster invite")?.trim().to_string())
}

/// All sites are of one version here: each may say when it has forgotten somebody.
pub(crate) async fn finalise_receipts(world: &World) -> Result<(), WorldError> {
    let finalise = ["cluster", "finalise", ERASURE_RECEIPTS];
    at_site(world, 0, &finalise).await?.done("cluster finalise")?;
    Ok(())
}

/// The lines of what a command said, into the report.
pub(crate) fn tell(world: &World, typed: &Typed) {
    for line in typed.said.lines().filter(|line| !line.trim().is_empty()) {
        world.timeline.say(&format!("    | {line}"));
    }
}

/// The longest waits for ten erasures.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(200);
