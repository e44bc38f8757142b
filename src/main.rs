//! The one binary: a data center, or an operator's or developer's command.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    keep_expected_panics_quiet();
    cli::run(cli::Arguments::parse())
}

/// What a shell reports for a process that a closed pipe ended.
const ENDED_BY_PIPE: i32 = 128 + 13;

/// Decoding a peer's or the disk's bytes may panic inside Automerge; that is caught, counted and told where it
/// happens. The usual report of a panic would only fill the log. And whoever reads our output may stop (`persona status |
/// head`): that ends us without a word.
fn keep_expected_panics_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic
            .payload_as_str()
            .is_some_and(|text| text.starts_with("failed printing to stdout"))
        {
            std::process::exit(ENDED_BY_PIPE);
        }
        if !crdt::decoding() {
            usual(panic);
        }
    }));
}
