//! The results: a table for people, JSON for programs. Both say the same.

use std::{collections::BTreeMap, fmt::Write as _};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    activity::{Activity, Call},
    options::LoadArgs,
    repeat::Bare,
    tally::{Counts, Row},
};

/// All of a measurement.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) options: LoadArgs,
    pub(crate) seed: u64,
    /// Requests a second that so many users make, when nothing is left out and nothing refused.
    asked_per_s: f64,
    /// Seconds that were measured: fewer than asked for if it was interrupted.
    pub(crate) measured_s: f64,
    pub(crate) interrupted: bool,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) generator: Generator,
    pub(crate) processes: Vec<Process>,
    /// With `--repeat`: what the signatures alone cost.
    bare: Option<Bare>,
    activities: Vec<Line>,
    requests: Vec<Line>,
    /// All requests for which no password is hashed, and all others.
    all: [Line; 2],
    health: Vec<Line>,
    mails: Line,
}

/// What could not be done there.
#[derive(Clone, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) activity: Activity,
    pub(crate) why: String,
}

/// How the generator itself did.
#[derive(Serialize)]
pub(crate) struct Generator {
    /// Processor time while measuring.
    pub(crate) cpu_s: Option<f64>,
    /// From due to begun; part of all latencies.
    late: Option<Latency>,
    /// Arrivals for which nobody was free who could: those were not measured.
    pub(crate) nobody_free: u64,
    /// Arrivals that were not begun, too many being under way.
    pub(crate) not_begun: u64,
    /// Activities that had no end when the run ended.
    pub(crate) unfinished: u64,
}

/// Another process on this machine.
#[derive(Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// `null`: it is not there any more.
    pub(crate) cpu_s: Option<f64>,
}

/// One row.
#[derive(Serialize)]
struct Line {
    name: String,
    done: u64,
    done_per_s: f64,
    /// Of those done.
    latency: Option<Latency>,
    /// 503.
    refused: u64,
    refused_without_retry_after: u64,
    refused_latency: Option<Latency>,
    failed: u64,
    /// Status and code, or what became of the connection.
    failures: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Latency {
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    max_ms: f64,
}

/// What a report is made from, besides the counts.
pub(crate) struct Circumstances {
    pub(crate) options: LoadArgs,
    pub(crate) seed: u64,
    pub(crate) measured_s: f64,
    pub(crate) interrupted: bool,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) cpu_s: Option<f64>,
    pub(crate) unfinished: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) bare: Option<Bare>,
}

impl Report {
    pub(crate) fn new(circumstances: Circumstances, counts: &Counts) -> Report {
        let measured_s = circumstances.measured_s;
        let line = |name: &str, row: &Row| Line::new(name, row, measured_s);
        let of = |hashes: bool| {
            let mut sum = Row::new();
            for (call, row) in &counts.calls {
                if call.hashes_password() == hashes {
                    sum.add(row);
                }
            }
            sum
        };
        let activities = Activity::ALL.iter().filter_map(|activity| {
            let row = counts.activities.get(activity)?;
            Some(line(activity.name(), row))
        });
        let requests = Call::ALL.iter().filter_map(|call| {
            let row = counts.calls.get(call)?;
            Some(line(call.name(), row))
        });
        let users = circumstances.options.users as f64 * circumstances.options.rps_scale;
        Report {
            asked_per_s: Activity::requests(circumstances.options.mix, users),
            options: circumstances.options,
            seed: circumstances.seed,
            measured_s,
            interrupted: circumstances.interrupted,
            left_out: circumstances.left_out,
            generator: Generator {
                cpu_s: circumstances.cpu_s,
                late: Latency::of(&counts.late),
                nobody_free: counts.nobody_free,
                not_begun: counts.not_begun,
                unfinished: circumstances.unfinished,
            },
            processes: circumstances.processes,
            bare: circumstances.bare,
            activities: activities.collect(),
            requests: requests.collect(),
            all: [line("all but hashing", &of(false)), line("hashing", &of(true))],
            health: counts.health.iter().map(|(path, row)| line(path, row)).collect(),
            mails: line("(waiting for mail)", &counts.mails),
        }
    }

    /// Whether nothing failed, and the generator did what it was asked for.
    pub(crate) fn is_clean(&self) -> bool {
        let lines = self.requests.iter().chain(&self.activities).chain(&self.health);
        let failed: u64 = lines.map(|line| line.failed).sum();
        let Generator {
            nobody_free,
            not_begun,
            unfinished,
            ..
        } = self.generator;
        failed + self.mails.failed + nobody_free + not_begun + unfinished == 0
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let Generator {
            nobody_free,
            not_begun,
            unfinished,
            ..
        } = self.generator;
        let requests: f64 = self.all.iter().map(|line| line.done_per_s).sum();
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        let (length, seed) = (self.measured_s, self.seed);
        let _ = match self.options.repeat {
            Some(repeated) => writeln!(
                text,
                "{} over and over, by {} people at once, for {length:.1} s{interrupted}: {requests:.1} requests/s answered (seed {seed})",
                repeated.call().name(),
                self.options.at_once,
            ),
            None => writeln!(
                text,
                "{} active users x {} for {length:.1} s{interrupted}: {requests:.1} of {:.1} requests/s answered (seed {seed})",
                self.options.users, self.options.rps_scale, self.asked_per_s,
            ),
        };
        for LeftOut { activity, why } in &self.left_out {
            let _ = writeln!(text, "LEFT OUT {activity}: {why}");
        }
        section(&mut text, "activity", &self.activities);
        section(&mut text, "request", &self.requests);
        section(&mut text, "together", &self.all);
        section(&mut text, "health check", &self.health);
        section(&mut text, "mail", std::slice::from_ref(&self.mails));
        let lines = self.activities.iter().chain(&self.requests).chain(&self.health);
        let mut has_failures = false;
        for line in lines.chain(std::iter::once(&self.mails)) {
            for (reason, count) in &line.failures {
                if !std::mem::replace(&mut has_failures, true) {
                    text.push_str("\nfailures\n");
                }
                let _ = writeln!(text, "{:<28} {count:>8}  {reason}", line.name);
            }
        }
        text.push('\n');
        let late = self.generator.late.as_ref();
        let _ = writeln!(
            text,
            "generator: {} of processor time; began {} ms late at p50, {} at p99 (in all latencies above)",
            processors(self.generator.cpu_s, self.measured_s),
            late.map_or_else(|| "-".to_owned(), |late| format_ms(late.p50_ms)),
            late.map_or_else(|| "-".to_owned(), |late| format_ms(late.p99_ms)),
        );
        for process in &self.processes {
            let used = processors(process.cpu_s, self.measured_s);
            let each = process
                .cpu_s
                .filter(|used_s| *used_s > 0.0)
                .map_or_else(String::new, |used_s| {
                    format!(
                        ": {:.0} requests per second and processor",
                        requests * self.measured_s / used_s
                    )
                });
            let _ = writeln!(text, "process {}: {used} of processor time{each}", process.pid);
        }
        text.push_str(&self.beside_bare());
        for (count, words) in [
            (
                nobody_free,
                "came, and nobody was free to be them: give more --accounts",
            ),
            (not_begun, "were not begun: too many were under way"),
            (unfinished, "had no end when the run ended"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "NOT MEASURED: {count} {words}");
            }
        }
        text
    }
}

impl Report {
    /// What one request cost the first process, beside the signatures in it.
    fn beside_bare(&self) -> String {
        let (Some(bare), Some(repeated)) = (self.bare, self.options.repeat) else {
            return String::new();
        };
        let mut text = format!(
            "bare ES256: {:.1} us a signature, {:.1} us a verification\n",
            bare.sign_us, bare.verify_us
        );
        let name = repeated.call().name();
        let done = self.requests.iter().find(|line| line.name == name);
        let cpu_s = self.processes.first().and_then(|process| process.cpu_s);
        if let (Some(done), Some(cpu_s)) = (done.filter(|line| line.done > 0), cpu_s) {
            let each_us = cpu_s * 1e6 / done.done as f64;
            let _ = write!(text, "{name}: {each_us:.1} us of processor time each");
            let signatures_us = bare.of(repeated);
            if signatures_us > 0.0 {
                let _ = write!(
                    text,
                    ", {:.2} times the {signatures_us:.1} us of its signatures",
                    each_us / signatures_us
                );
            }
            text.push('\n');
        }
        text
    }
}

fn processors(used_s: Option<f64>, measured_s: f64) -> String {
    used_s.map_or_else(
        || "an unknown amount".to_owned(),
        |used_s| {
            format!(
                "{used_s:.2} s ({:.1} % of one)",
                100.0 * used_s / measured_s.max(1e-9)
            )
        },
    )
}

fn section(text: &mut String, title: &str, lines: &[Line]) {
    let _ = writeln!(
        text,
        "\n{title:<28} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8}",
        "done", "/s", "p50 ms", "p90", "p99", "p99.9", "max", "503", "failed"
    );
    for line in lines {
        if line.done + line.refused + line.failed == 0 {
            continue;
        }
        let _ = write!(
            text,
            "{:<28} {:>8} {:>9.2}",
            line.name, line.done, line.done_per_s
        );
        match &line.latency {
            Some(latency) => {
                for ms in [
                    latency.p50_ms,
                    latency.p90_ms,
                    latency.p99_ms,
                    latency.p99_9_ms,
                    latency.max_ms,
                ] {
                    let _ = write!(text, " {:>9}", format_ms(ms));
                }
            }
            None => text.push_str(&format!(" {:>9}", "-").repeat(5)),
        }
        let _ = writeln!(text, " {:>8} {:>8}", line.refused, line.failed);
        if let Some(refused) = &line.refused_latency {
            let without = match line.refused_without_retry_after {
                0 => String::new(),
                without => format!(", {without} without Retry-After"),
            };
            let _ = writeln!(
                text,
                "{:<28} {:>8} refused within {} ms at p50, {} at p99{without}",
                "",
                line.refused,
                format_ms(refused.p50_ms),
                format_ms(refused.p99_ms)
            );
        }
    }
}

fn format_ms(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2}"),
        10.0..1000.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

impl Line {
    fn new(name: &str, row: &Row, measured_s: f64) -> Line {
        Line {
            name: name.to_owned(),
            done: row.done.len(),
            done_per_s: row.done.len() as f64 / measured_s.max(1e-9),
            latency: Latency::of(&row.done),
            refused: row.refused.len(),
            refused_without_retry_after: row.refused_without_when,
            refused_latency: Latency::of(&row.refused),
            failed: row.failures(),
            failures: row.failed.clone(),
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Latency> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!histogram.is_empty()).then(|| Latency {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        })
    }
}

impl Row {
    fn add(&mut self, other: &Row) {
        // Of one make, so they add up.
        let _ = self.done.add(&other.done);
        let _ = self.refused.add(&other.refused);
        self.refused_without_when += other.refused_without_when;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason.clone()).or_default() += count;
        }
    }
}

/// The line that is shown while it runs, of the last second's requests.
pub(crate) fn live(recent: &super::tally::Recent, seconds: f64, in_flight: usize) -> String {
    let at = |quantile| format_ms(recent.done.value_at_quantile(quantile) as f64 / 1000.0);
    format!(
        "{:>7.1} requests/s  {in_flight} people under way  p50 {} ms  p99 {} ms  503: {}  failed: {}",
        recent.done.len() as f64 / seconds.max(1e-9),
        at(0.5),
        at(0.99),
        recent.refused,
        recent.failed,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::load::tally::{Ending, Tally, histogram};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn report(tally: &Tally) -> Report {
        let circumstances = Circumstances {
            options: Command::parse_from(["load"]).load,
            seed: 7,
            measured_s: 2.0,
            interrupted: false,
            left_out: Vec::new(),
            cpu_s: Some(0.5),
            unfinished: 0,
            bare: None,
            processes: vec![Process {
                pid: 1,
                cpu_s: Some(1.0),
            }],
        };
        Report::new(circumstances, &tally.counts())
    }

    #[test]
    fn table_and_json_say_the_same() {
        let tally = Tally::new();
        for ms in 1..=100 {
            tally.call(Call::Verify, &Ending::Done, Duration::from_millis(ms), true);
        }
        tally.call(
            Call::AuthenticateUser,
            &Ending::Done,
            Duration::from_secs(1),
            true,
        );
        let clean = report(&tally);
        assert!(clean.is_clean());
        assert_eq!(clean.all[0].done, 100, "hashing is apart");
        let json = serde_json::to_value(&clean).expect("JSON");
        let verify = &json["requests"].as_array().expect("rows")[3];
        assert_eq!(
            (verify["name"].as_str(), verify["done"].as_u64()),
            (Some("verify"), Some(100))
        );
        let p50 = verify["latency"]["p50_ms"].as_f64().expect("a number");
        assert!((50.0..50.1).contains(&p50), "{p50}");
        let table = clean.table();
        let row = table
            .lines()
            .find(|line| line.starts_with("verify "))
            .expect("a row");
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(&cells[..4], ["verify", "100", "50.00", "50.0"], "{table}");
        assert!(
            !table.contains("cert_key"),
            "nothing is said of what was not asked"
        );
        assert!(table.contains("0.50 s (25.0 % of one)"), "{table}");
    }

    #[test]
    fn a_refusal_is_shown_and_a_failure_is_no_clean_run() {
        let tally = Tally::new();
        let refused = Ending::Refused { says_when: false };
        tally.call(Call::Verify, &refused, Duration::from_millis(1), true);
        let table = report(&tally).table();
        assert!(report(&tally).is_clean());
        assert!(table.contains("1 without Retry-After"), "{table}");
        tally.call(
            Call::Verify,
            &Ending::Failed("500 oops".to_owned()),
            Duration::ZERO,
            true,
        );
        assert!(!report(&tally).is_clean());
        let table = report(&tally).table();
        assert!(table.contains("500 oops"), "{table}");
    }

    #[test]
    fn what_was_not_measured_is_no_clean_run() {
        let tally = Tally::new();
        tally.counts().nobody_free = 3;
        assert!(!report(&tally).is_clean());
        assert!(report(&tally).table().contains("NOT MEASURED: 3 "));
        assert!(Latency::of(&histogram()).is_none());
    }
}
