//! How much processor time a process has used: this one's beside the results says how much of the machine was the
//! generator's, and of a site on the same machine, how many requests one processor answers.

use std::{fs, time::Duration};

/// The kernel counts in hundredths of a second for programs, whatever its own clock (`man 5 proc`: USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// The time that all threads of a process have used, in user and system mode; of this process without a number. `None` where
/// there is no `/proc`, or no such process.
pub(crate) fn used(process: Option<u32>) -> Option<Duration> {
    let stat = match process {
        Some(process) => fs::read_to_string(format!("/proc/{process}/stat")),
        None => fs::read_to_string("/proc/self/stat"),
    };
    parse(&stat.ok()?)
}

fn parse(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, in which anything may stand.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields
        .split_ascii_whitespace()
        .skip(11)
        .map(|field| field.parse::<u32>().ok());
    let (user, system) = (ticks.next()??, ticks.next()??);
    Some(TICK * user.checked_add(system)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 6 7 20 0 1 0 9 10 11";
        assert_eq!(parse(stat), Some(Duration::from_secs(3)));
        assert_eq!(parse("7 (a) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_used_some() {
        let before = used(None).expect("a time");
        assert_eq!(
            used(Some(std::process::id())).map(|used| used >= before),
            Some(true)
        );
        assert_eq!(used(Some(u32::MAX)), None);
    }
}
