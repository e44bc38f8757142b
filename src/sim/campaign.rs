//! `persona sim`: many seeds on every processor, what they exercised, and for a failure the least that shows it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    check::{Checker, Violation},
    options::Options,
    plant::Plant,
    seed::{Verdict, run},
    shrink::shrink,
    tally::Tally,
    trouble::Kind,
};

/// Lives through worlds of replicas in virtual time, makes trouble in them, and checks the promises of the design.
#[derive(clap::Args, Clone, Debug)]
pub struct SimArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    pub seeds: u64,
    /// The first of them [default: fresh ones each time].
    #[arg(long)]
    pub from: Option<u64>,
    /// One seed only, with all that happened.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    pub seed: Option<u64>,
    /// One world only, as a failure printed it.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["seeds", "from", "seed"])]
    pub world: Option<String>,
    /// Plants this bug, and succeeds if a checker finds it (`list` names them).
    #[arg(long, value_name = "BUG")]
    pub plant: Option<String>,
    /// Processors to use.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// Goes on after a failure, and counts them.
    #[arg(long)]
    pub keep_going: bool,
    /// Seconds to spend on making a failure smaller.
    #[arg(long, default_value_t = 30)]
    pub shrink: u64,
    /// Lines of a failure's story to print: the last ones.
    #[arg(long, value_name = "LINES", default_value_t = 400)]
    pub story: usize,
    /// Prints one JSON object at the end, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Between two lines that tell how far it is, where there is no terminal for a bar.
const TOLD_EVERY: u64 = 500;
/// Seeds that exercise every kind of fault and every checker for certain.
const SEEDS_FOR_ALL: u64 = 200;

/// Runs the command.
pub fn command(args: &SimArgs) -> Result<ExitCode, String> {
    let plant = match args.plant.as_deref() {
        None => None,
        Some("list") => {
            for (name, what, _) in Plant::ALL {
                println!("{name:24} {what}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        Some(name) => Some(
            Plant::named(name)
                .ok_or_else(|| format!("no planted bug is called {name}; `--plant list` names them"))?,
        ),
    };
    let one = match (&args.world, args.seed) {
        (Some(json), _) => Some(serde_json::from_str(json).map_err(|error| format!("--world: {error}"))?),
        (None, Some(seed)) => Some(world_of(seed, plant)),
        (None, None) => None,
    };
    if let Some(options) = one {
        return Ok(show(&lives(&options, plant, true), plant, args));
    }
    let campaign = Campaign::run(args, plant);
    Ok(campaign.report(args, plant))
}

/// What many seeds came to.
struct Campaign {
    from: u64,
    ran: u64,
    tally: Tally,
    simulated: Duration,
    took: Duration,
    /// The failures, the smallest seed first.
    failures: Vec<Verdict>,
    slowest: Option<(u64, Duration)>,
}

impl Campaign {
    fn run(args: &SimArgs, plant: Option<Plant>) -> Campaign {
        let from = args.from.unwrap_or_else(fresh);
        let begun = Instant::now();
        let bar = if args.json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(args.seeds)
        };
        if let Ok(style) =
            ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}")
        {
            bar.set_style(style);
        }
        let mut campaign = Campaign {
            from,
            ran: 0,
            tally: Tally::default(),
            simulated: Duration::ZERO,
            took: Duration::ZERO,
            failures: Vec::new(),
            slowest: None,
        };
        let next = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let (send, verdicts) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..args.threads {
                let (send, next, enough) = (send.clone(), &next, &enough);
                scope.spawn(move || {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= args.seeds || enough.load(Ordering::Relaxed) {
                            return;
                        }
                        let options = world_of(from.wrapping_add(index), plant);
                        if send.send(caught(&options, plant)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            for verdict in verdicts {
                if let Some(violation) = &verdict.violation
                    && args.keep_going
                    && !args.json
                {
                    let first = violation
                        .to_string()
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    bar.suspend(|| eprintln!("seed {}: {first}", verdict.options.seed));
                }
                campaign.add(verdict);
                bar.inc(1);
                // Where nobody sees the bar.
                if bar.is_hidden() && !args.json && campaign.ran.is_multiple_of(TOLD_EVERY) {
                    let failed = campaign.failures.len();
                    eprintln!("{} of {} seeds, {failed} failed", campaign.ran, args.seeds);
                }
                if !campaign.failures.is_empty() {
                    bar.set_message(format!("{} failed", campaign.failures.len()));
                    enough.store(!args.keep_going, Ordering::Relaxed);
                }
            }
        });
        bar.finish_and_clear();
        campaign.failures.sort_by_key(|verdict| verdict.options.seed);
        campaign.took = begun.elapsed();
        campaign
    }

    fn add(&mut self, verdict: Verdict) {
        self.ran += 1;
        self.tally.add(&verdict.tally);
        self.simulated += verdict.simulated;
        if self.slowest.is_none_or(|(_, took)| took < verdict.took) {
            self.slowest = Some((verdict.options.seed, verdict.took));
        }
        if verdict.violation.is_some() {
            self.failures.push(verdict);
        }
    }

    fn report(&self, args: &SimArgs, plant: Option<Plant>) -> ExitCode {
        let per_second = self.simulated.as_secs_f64() / self.took.as_secs_f64().max(0.001);
        // A few seeds need not meet everything.
        let missing = if self.ran >= SEEDS_FOR_ALL && plant.is_none() && self.failures.is_empty() {
            self.tally.missing()
        } else {
            Vec::new()
        };
        let passed = match plant {
            None => self.failures.is_empty() && missing.is_empty(),
            Some(_) => !self.failures.is_empty(),
        };
        if args.json {
            let report = serde_json::json!({
                "from": self.from, "seeds": self.ran, "passed": passed,
                "took_seconds": self.took.as_secs_f64(),
                "simulated_seconds": self.simulated.as_secs_f64(),
                "simulated_seconds_per_second": per_second,
                "faults": self.tally.faults, "checks": self.tally.looks, "other": self.tally.other,
                "missing": missing,
                "failures": self.failures.iter().map(|verdict| serde_json::json!({
                    "options": verdict.options, "violation": verdict.violation,
                })).collect::<Vec<_>>(),
            });
            println!("{report}");
        } else {
            self.print(per_second, &missing, plant, args);
        }
        if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn print(&self, per_second: f64, missing: &[String], plant: Option<Plant>, args: &SimArgs) {
        if let (Some(_), Some(name)) = (plant, &args.plant) {
            match self.failures.first() {
                Some(Verdict {
                    options,
                    violation: Some(violation),
                    ..
                }) => println!("{name}: caught by seed {}: {violation}", options.seed),
                _ => println!("{name}: NOT caught in {} seeds from {}", self.ran, self.from),
            }
            return;
        }
        println!("{}", table(&self.tally));
        println!(
            "{} seeds from {}: {} failed. {:.0} simulated seconds in {:.1} s: {per_second:.0} a second.",
            self.ran,
            self.from,
            self.failures.len(),
            self.simulated.as_secs_f64(),
            self.took.as_secs_f64(),
        );
        if let Some((seed, took)) = self.slowest {
            println!("The slowest was seed {seed}: {:.1} s.", took.as_secs_f64());
        }
        for verdict in self.failures.iter().skip(1).take(20) {
            if let Some(violation) = &verdict.violation {
                println!("also seed {}: {violation}", verdict.options.seed);
            }
        }
        if let Some(first) = self.failures.first() {
            show(first, plant, args);
        }
        for what in missing {
            println!("not exercised: {what}");
        }
    }
}

fn world_of(seed: u64, plant: Option<Plant>) -> Options {
    let options = Options::of(seed);
    plant.map_or_else(|| options.clone(), |plant| plant.provoked(options.clone()))
}

/// One world. With a planted bug, a violation counts only where there is none without it.
fn caught(options: &Options, plant: Option<Plant>) -> Verdict {
    let mut verdict = lives(options, plant, false);
    if plant.is_some() && verdict.violation.is_some() && lives(options, None, false).violation.is_some() {
        verdict.violation = None;
    }
    verdict
}

/// One world. A panic is a violation like any other.
fn lives(options: &Options, plant: Option<Plant>, record: bool) -> Verdict {
    catch_unwind(AssertUnwindSafe(|| run(options, plant, record))).unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Verdict {
            options: options.clone(),
            violation: Some(Violation {
                checker: Checker::Bounds,
                words: format!("a panic: {}", words.unwrap_or_default()),
            }),
            tally: Tally::default(),
            simulated: Duration::ZERO,
            took: Duration::ZERO,
            story: Vec::new(),
            digest: [0; 32],
        }
    })
}

/// Prints one world, made smaller if it failed.
fn show(verdict: &Verdict, plant: Option<Plant>, args: &SimArgs) -> ExitCode {
    println!("{}", verdict.options);
    let Some(violation) = &verdict.violation else {
        print_story(verdict, args);
        println!("{}", table(&verdict.tally));
        println!(
            "No violation. {:.0} simulated seconds in {:.2} s.",
            verdict.simulated.as_secs_f64(),
            verdict.took.as_secs_f64()
        );
        return ExitCode::SUCCESS;
    };
    println!("FAILED: {violation}");
    let smallest = shrink(verdict, plant, Duration::from_secs(args.shrink));
    println!("The smallest world found that fails so: {}", smallest.options);
    print_story(&smallest, args);
    if let Some(violation) = &smallest.violation {
        println!("{violation}");
    }
    let planted = args
        .plant
        .as_ref()
        .map(|name| format!(" --plant {name}"))
        .unwrap_or_default();
    println!(
        "Repeat with: persona sim --seed {}{planted}",
        verdict.options.seed
    );
    if let Ok(json) = serde_json::to_string(&smallest.options) {
        println!("The smallest: persona sim --shrink 0{planted} --world '{json}'");
    }
    ExitCode::FAILURE
}

fn print_story(verdict: &Verdict, args: &SimArgs) {
    let skipped = verdict.story.len().saturating_sub(args.story);
    if skipped > 0 {
        println!("({skipped} lines before)");
    }
    for line in &verdict.story[skipped..] {
        println!("{line}");
    }
}

/// What happened, how often.
fn table(tally: &Tally) -> String {
    let mut lines = vec![format!("{:34} {:>12}", "fault", "times")];
    for kind in Kind::ALL {
        let count = tally.faults.get(&kind).copied().unwrap_or_default();
        lines.push(format!("  {:32} {count:>12}", kind.name()));
    }
    lines.push(format!("{:34} {:>12}", "checker", "looks"));
    for checker in Checker::ALL {
        let count = tally.looks.get(&checker).copied().unwrap_or_default();
        lines.push(format!("  {:32} {count:>12}", checker.name()));
    }
    lines.push(format!("{:34} {:>12}", "beside", "times"));
    for (what, count) in &tally.other {
        lines.push(format!("  {what:32} {count:>12}"));
    }
    lines.join("\n")
}

/// Seeds that nobody has run yet, most likely; small enough to type.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_micros() as u64 / 10_000) % 10_000_000_000
}
