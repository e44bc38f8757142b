//! What happened, when: printed as it happens, shown on the page, kept for the report.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::locked;

/// The running account of a world.
pub(crate) struct Timeline {
    began: Instant,
    moments: Mutex<VecDeque<Moment>>,
    /// The last line of a terminal, while something takes long.
    bar: Option<ProgressBar>,
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Moment {
    /// Seconds since the world began.
    pub(crate) at_s: f64,
    pub(crate) words: String,
}

impl Timeline {
    pub(crate) fn new() -> Timeline {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Timeline {
            began: Instant::now(),
            moments: Mutex::new(VecDeque::new()),
            bar,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes and prints something that happened.
    pub(crate) fn say(&self, words: &str) {
        let at_s = self.elapsed().as_secs_f64();
        self.print(&format!("{at_s:>8.2} s  {words}"));
        let mut moments = locked(&self.moments);
        if moments.len() == MOMENTS_MAX {
            moments.pop_front();
        }
        moments.push_back(Moment {
            at_s,
            words: words.to_string(),
        });
    }

    /// Prints a line that is no event, such as a row of the verdict.
    pub(crate) fn print(&self, line: &str) {
        let write = || {
            // A reader that went away (`| head`) is no reason to stop half way through a scenario.
            let _ = writeln!(std::io::stdout(), "{line}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Shows what is going on now in the last line of a terminal; nothing elsewhere.
    pub(crate) fn now(&self, words: &str) {
        if let Some(bar) = &self.bar {
            if bar.is_finished() {
                bar.reset();
            }
            bar.set_message(format!("{:>6.0} s  {words}", self.elapsed().as_secs_f64()));
            bar.tick();
        }
    }

    /// Takes the line of [`Timeline::now`] away.
    pub(crate) fn quiet(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The latest moments, oldest first.
    pub(crate) fn latest(&self, count: usize) -> Vec<Moment> {
        let moments = locked(&self.moments);
        moments
            .iter()
            .skip(moments.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}

/// Scenarios have a few hundred; a world that runs for days forgets its beginning.
pub(crate) const MOMENTS_MAX: usize = 2_000;
