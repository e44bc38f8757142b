//! What happened, a line each: kept only when somebody wants to read it.

use std::time::Duration;

/// The lines told so far.
#[derive(Default)]
pub(crate) struct Story {
    lines: Option<Vec<String>>,
    hash: Option<blake3::Hasher>,
}

impl Story {
    /// Begins to write down.
    pub(crate) fn record(&mut self) {
        self.lines = Some(Vec::new());
        self.hash = Some(blake3::Hasher::new());
    }

    pub(crate) fn is_told(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn tell(&mut self, now: Duration, line: impl FnOnce() -> String) {
        if let (Some(lines), Some(hash)) = (&mut self.lines, &mut self.hash) {
            let line = format!("{:>9.3} {}", now.as_secs_f64(), line());
            hash.update(line.as_bytes());
            lines.push(line);
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// Equal if two runs told the same.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.hash
            .as_ref()
            .map_or([0; 32], |hash| *hash.finalize().as_bytes())
    }
}
