//! `persona load`.

use std::process::ExitCode;

use persona::load::{self, LoadArgs};

pub(super) async fn run(args: LoadArgs) -> Result<ExitCode, String> {
    load::run(args).await.map_err(|error| error.to_string())
}
