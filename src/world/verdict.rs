//! What is said at the end of a scenario: each promise, what was wanted, what was found.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::{CallError, Status};
use super::plan::at;
use super::timeline::MOMENTS_MAX;
use super::{World, WorldArgs, WorldError, locked};

/// The outcome of a scenario or measurement. Without a single check it has not passed.
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    checks: Vec<Check>,
    details: Map<String, Value>,
}

/// One promise, held against what happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) passed: bool,
}

impl Verdict {
    pub(crate) fn new(name: &'static str) -> Verdict {
        Verdict {
            name,
            checks: Vec::new(),
            details: Map::new(),
        }
    }

    /// The verdict on a scenario that did not get to its end.
    pub(crate) fn broken_off(name: &'static str, error: &WorldError) -> Verdict {
        let mut verdict = Verdict::new(name);
        verdict.check("the scenario got to its end", "yes", error.to_string(), false);
        verdict
    }

    /// Adds a check.
    pub(crate) fn check(
        &mut self,
        what: impl Into<String>,
        wanted: impl Into<String>,
        found: impl Into<String>,
        passed: bool,
    ) {
        self.checks.push(Check {
            what: what.into(),
            wanted: wanted.into(),
            found: found.into(),
            passed,
        });
    }

    /// Adds a check that nothing of a kind was found. `of` is how many were looked at: none fails too.
    pub(crate) fn none(&mut self, what: impl Into<String>, found: usize, of: usize) {
        let words = format!("{found} of {of}");
        self.check(what, "0, of at least 1", words, found == 0 && of > 0);
    }

    /// Adds a check that enough happened for the others to mean something.
    pub(crate) fn enough(&mut self, what: impl Into<String>, found: u64, least: u64) {
        self.check(
            what,
            format!("at least {least}"),
            found.to_string(),
            found >= least,
        );
    }

    /// Adds something to the report that is no check.
    pub(crate) fn detail(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or_else(|error| Value::String(error.to_string()));
        self.details.insert(name.to_string(), value);
    }

    pub(crate) fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// What must hold after any scenario whatever.
    pub(crate) async fn common(&mut self, world: &World) {
        let ends: u64 = world.sites.iter().map(|site| site.ends_by_itself()).sum();
        self.check(
            "sites that ended without being told to",
            "0",
            ends.to_string(),
            ends == 0,
        );
        self.common_but_ends(world).await;
    }

    /// [`Verdict::common`], where a site may have ended by itself.
    pub(crate) async fn common_but_ends(&mut self, world: &World) {
        {
            let ledger = locked(&world.ledger);
            let counts = ledger.counts;
            self.enough("writes acknowledged", counts.acknowledged, 20);
            let nameless = usize::try_from(counts.nameless).unwrap_or(usize::MAX);
            self.none(
                "acknowledged writes without a dot to hold the site to",
                nameless,
                ledger.entries().len(),
            );
            self.none(
                "dots that two writes were answered with",
                ledger.answered_twice().len(),
                ledger.entries().len(),
            );
            self.detail("writes", counts);
        }
        let mut statuses = Vec::new();
        for site in &world.sites {
            statuses.push(site.client.status().await);
        }
        let quarantined = |status: &Status| Some(status.quarantined);
        self.all_zero("records in quarantine", world, &statuses, quarantined);
        self.all_zero("forks seen", world, &statuses, |status| status.counter("forks"));
    }

    /// Adds a check that a number is known, and zero, at every site.
    fn all_zero(
        &mut self,
        what: &str,
        world: &World,
        statuses: &[Result<Status, CallError>],
        number: impl Fn(&Status) -> Option<u64>,
    ) {
        let found = statuses.iter().enumerate().map(|(index, status)| {
            let number = status.as_ref().ok().and_then(&number);
            (world.name(index), number)
        });
        let bad: Vec<String> = found
            .filter(|(_, number)| *number != Some(0))
            .map(|(name, number)| format!("{name}: {}", number.map_or("unknown".into(), |n| n.to_string())))
            .collect();
        let words = if bad.is_empty() {
            "0".to_string()
        } else {
            bad.join(", ")
        };
        self.check(
            what,
            "0 at every site",
            words,
            bad.is_empty() && !statuses.is_empty(),
        );
    }

    /// Prints the table.
    pub(crate) fn print(&self, world: &World) {
        world.timeline.quiet();
        world.timeline.print("");
        for check in &self.checks {
            let mark = if check.passed { "ok  " } else { "FAIL" };
            world.timeline.print(&format!(
                "  {mark}  {}: {}   (wanted: {})",
                check.what, check.found, check.wanted
            ));
        }
        let failed = self.checks.iter().filter(|check| !check.passed).count();
        let end = if self.passed() {
            format!("PASSED {}: {} checks", self.name, self.checks.len())
        } else {
            format!("FAILED {}: {failed} of {} checks", self.name, self.checks.len())
        };
        world.timeline.print(&format!("\n  {end}\n"));
    }

    /// Writes the report.
    pub(crate) fn write(&self, world: &World, path: &std::path::Path) -> Result<(), WorldError> {
        let report = json!({
            "scenario": self.name,
            "passed": self.passed(),
            "version": env!("CARGO_PKG_VERSION"),
            "seed": world.seed,
            "sites": world.plan.sites.iter().map(|site| &site.name).collect::<Vec<_>>(),
            "rate": world.load.rate(),
            "checks": self.checks,
            "details": self.details,
            "timeline": world.timeline.latest(MOMENTS_MAX),
        });
        let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
        std::fs::write(path, text).map_err(at("write", path))
    }

    /// The command that makes the same choices again.
    pub(crate) fn again(&self, world: &World, args: &WorldArgs) -> String {
        let what = if args.measure.is_some() {
            "--measure lag".into()
        } else {
            format!("--scenario {}", self.name)
        };
        let duration = args
            .duration
            .map_or(String::new(), |seconds| format!(" --duration {seconds}"));
        let (sites, rate, loss) = (world.sites.len(), world.load.rate(), args.loss);
        format!(
            "persona world {what} --seed {} --sites {sites} --rate {rate} --loss {loss}{duration}",
            world.seed
        )
    }

    /// The checks, for tests.
    #[cfg(test)]
    fn checks(&self) -> &[Check] {
        &self.checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_without_checks_has_not_passed() {
        assert!(!Verdict::new("nothing").passed());
    }

    #[test]
    fn finding_nothing_among_nothing_fails() {
        let mut verdict = Verdict::new("empty");
        verdict.none("lost", 0, 0);
        assert!(!verdict.passed());
        let mut verdict = Verdict::new("looked");
        verdict.none("lost", 0, 3);
        verdict.enough("asked", 3, 3);
        assert!(verdict.passed());
        verdict.none("lost", 1, 3);
        assert!(!verdict.passed());
        assert_eq!(verdict.checks().len(), 3);
    }
}
