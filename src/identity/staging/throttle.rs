//! How much mail an address gets, over all purposes and sites: pure.

use std::time::Duration;

/// So many mails in so long at most: DESIGN.md §7.
pub const LIMITS: [(Duration, usize); 3] = [
    (Duration::from_secs(60), 1),
    (Duration::from_secs(3600), 5),
    (Duration::from_secs(24 * 3600), 15),
];

/// How long what was sent counts, in milliseconds.
pub const COUNTS_MS: u64 = 24 * 3600 * 1000;

/// How long the next mail has to wait, if it has to. Times are in milliseconds since 1970; one from the future, by
/// another site's clock, is one of now.
pub fn wait(sent_ms: impl IntoIterator<Item = u64>, now_ms: u64) -> Option<Duration> {
    let mut ages_ms: Vec<u64> = sent_ms
        .into_iter()
        .map(|at_ms| now_ms.saturating_sub(at_ms))
        .collect();
    ages_ms.sort_unstable();
    let waits = LIMITS.iter().filter_map(|(window, most)| {
        let window_ms = window.as_millis() as u64;
        // The youngest that has to be out of the window before there is room again.
        let age_ms = ages_ms.get(most - 1)?;
        window_ms.checked_sub(*age_ms).filter(|left_ms| *left_ms > 0)
    });
    waits.max().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    /// `ages_s`: how many seconds ago each was sent.
    #[track_caller]
    fn check(ages_s: &[u64], expected_s: Option<u64>) {
        let sent = ages_s.iter().map(|age_s| NOW_MS - age_s * 1000);
        assert_eq!(
            wait(sent, NOW_MS).map(|wait| wait.as_secs()),
            expected_s,
            "{ages_s:?}"
        );
    }

    #[test]
    fn one_a_minute_five_an_hour_fifteen_a_day() {
        check(&[], None);
        check(&[0], Some(60));
        check(&[59], Some(1));
        check(&[60], None);
        check(&[60, 120, 180, 240], None);
        check(&[60, 120, 180, 240, 300], Some(3300));
        check(&[300, 240, 180, 120, 60], Some(3300));
        check(&[60, 120, 180, 240, 3600], None);
        // Six, because two sites could not hear each other: the fifth youngest has to go, too.
        check(&[60, 120, 180, 240, 300, 3000], Some(3300));
        let day: Vec<u64> = (1..=15).map(|hour| hour * 1500).collect();
        check(&day, Some(86_400 - 15 * 1500));
        check(&day[..14], None);
        check(&[86_400; 40], None);
    }

    #[test]
    fn another_sites_clock_may_be_ahead() {
        assert_eq!(wait([NOW_MS + 7_000_000], NOW_MS), Some(Duration::from_secs(60)));
    }
}
