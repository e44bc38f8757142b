//! What people see, in a browser that nobody here wrote: a small world with all that browsers reach in it, and the stories
//! beside this file, told by Node and Playwright.
//!
//! `cargo test --test browser` tells them all, `cargo test --test browser -- keyboard` those whose name has that word. It needs
//! Debian's `chromium` and `nodejs`, and what `npm ci` puts beside this file; `deploy/test.sh` sees to it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let wanted = wanted(std::env::args().skip(1));
    if let Some(words) = &wanted
        && !DIRECTORIES
            .iter()
            .flat_map(|(directory, _)| files(&stories.join(directory)))
            .any(|file| {
                std::fs::read_to_string(file)
                    .expect("text")
                    .contains(words.as_str())
            })
    {
        println!("no story has \"{words}\" in its name");
        return ExitCode::SUCCESS;
    }
    if !stories.join("node_modules").exists() {
        eprintln!("playwright-core is missing: `npm ci` in tests/browser, or `sh deploy/test.sh`");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let world = World::start();
    println!("a world is at {}, after {:.0?}", world.page, began.elapsed());
    let told = DIRECTORIES
        .map(|(directory, at_once)| tell(&stories.join(directory), at_once, wanted.as_deref(), &world.page));
    println!("all of it took {:.0?}", began.elapsed());
    match told {
        [true, true] => ExitCode::SUCCESS,
        _ => {
            eprintln!("{}", world.last_words());
            ExitCode::FAILURE
        }
    }
}

/// The words that a story's name is to have. Whatever else other tests are told is not for this one.
fn wanted(mut arguments: impl Iterator<Item = String>) -> Option<String> {
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--test-threads" | "--skip" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => return Some(argument),
        }
    }
    None
}

/// Tells the stories of a directory; whether all ended well.
fn tell(directory: &Path, at_once: usize, wanted: Option<&str>, world: &str) -> bool {
    let mut node = Command::new("node");
    node.env("WORLD_URL", world)
        .args(["--test", "--test-reporter=spec"])
        .arg(format!("--test-concurrency={at_once}"))
        .args(wanted.map(|words| format!("--test-name-pattern={words}")))
        .args(files(directory));
    node.status().expect("node runs").success()
}

/// The stories' files in a directory: Node before 21 matches no patterns.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(".test.mjs")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no stories in {}", directory.display());
    files
}

/// A world, until it is dropped: its sites end with it.
struct World {
    process: Child,
    _directory: tempfile::TempDir,
    page: String,
    says: Receiver<String>,
}

impl World {
    fn start() -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(env!("CARGO_BIN_EXE_persona"))
            .args([
                "world",
                "--sites",
                "4",
                "--rate",
                "0.1",
                "--listen",
                "127.0.0.1:0",
                "--dir",
            ])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let (said, says) = channel();
        // All that it says is read, so that it is never stopped by a full pipe.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut world = World {
            process,
            _directory: directory,
            page: String::new(),
            says,
        };
        let deadline = Instant::now() + START_MAX;
        loop {
            match world
                .says
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    if let Some((_, page)) = line.split_once("page: ") {
                        page.trim().trim_end_matches('/').clone_into(&mut world.page);
                    }
                    if line.contains("all sites are ready") {
                        return world;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("the sites are not ready after {START_MAX:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the world ended as it began"),
            }
        }
    }

    /// What it said since it was ready.
    fn last_words(&self) -> String {
        self.says.try_iter().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Its sites watch for its end, and end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the stories are, and how many of their files are told at once: a browser waits for mails and moments most of the
/// time. Those in which data centers die, or the email domain changes its mind, come last and alone: to the others it would be
/// a surprise.
const DIRECTORIES: [(&str, usize); 2] = [("stories", 3), ("stories/alone", 1)];
/// Four stores are opened on a machine that may have much else to do.
const START_MAX: Duration = Duration::from_secs(180);
