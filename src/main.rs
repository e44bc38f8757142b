//! The one binary: a data center, or an operator's or developer's command.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    quiet_while_decoding();
    cli::run(cli::Arguments::parse())
}

/// Decoding a peer's or the disk's bytes may panic inside Automerge; that is caught, counted and told where it
/// happens. The usual report of a panic would only fill the log.
fn quiet_while_decoding() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !crdt::decoding() {
            usual(panic);
        }
    }));
}
