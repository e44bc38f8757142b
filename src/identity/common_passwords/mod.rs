//! Passwords that whoever guesses tries first: a list of some 8,000 (`SOURCE.md` says whose), compared folded.
//!
//! Folded is NFKC and lower case: `ＰＡＳＳＷＯＲＤ1` is `password1`. Nothing else is taken off or turned back (digits at the
//! end, `0` for `o`): what is refused must be easy to explain, and the list has the usual ones.
//!
//! Costs: 80 KB in the binary; unpacked when first asked, in a few milliseconds, to about 110 KB, since what is too short to be a
//! password is left out; then a look-up is 13 comparisons, beside a hash of tens of milliseconds.

use std::{io::Read, sync::LazyLock};

use flate2::read::GzDecoder;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::password::PASSWORD_CHARS_MIN;

/// Whether it is on the list.
pub(super) fn is_common(password: &str) -> bool {
    LIST.has(&fold(password))
}

fn fold(password: &str) -> Zeroizing<String> {
    // NFKC may make 18 characters of one; lower case makes two of it at most. Reserved, so that growing leaves no copy.
    let mut folded = Zeroizing::new(String::with_capacity(password.len().saturating_mul(8)));
    folded.extend(password.nfkc().flat_map(char::to_lowercase));
    folded
}

static LIST: LazyLock<List> = LazyLock::new(|| {
    let mut text = String::new();
    // Part of the binary; the test below reads it whole.
    let read = GzDecoder::new(PACKED).read_to_string(&mut text);
    if let Err(error) = read {
        tracing::error!(%error, "the list of common passwords is damaged: some are not refused");
    }
    List::of(&text)
});

const PACKED: &[u8] = include_bytes!("list.txt.gz");

/// Sorted lines in one text.
struct List {
    text: String,
    /// Where each line begins, and at last the end.
    starts: Vec<u32>,
}

impl List {
    fn of(lines: &str) -> List {
        let mut lines: Vec<&str> = lines
            .lines()
            .map(str::trim)
            .filter(|line| line.chars().count() >= PASSWORD_CHARS_MIN)
            .collect();
        lines.sort_unstable();
        lines.dedup();
        let mut list = List {
            text: String::with_capacity(lines.iter().map(|line| line.len()).sum()),
            starts: Vec::with_capacity(lines.len() + 1),
        };
        for line in lines {
            list.starts
                .push(u32::try_from(list.text.len()).unwrap_or(u32::MAX));
            list.text.push_str(line);
        }
        list.starts
            .push(u32::try_from(list.text.len()).unwrap_or(u32::MAX));
        list
    }

    fn has(&self, folded: &str) -> bool {
        let line = |at: usize| {
            let bounds = self.starts.get(at).zip(self.starts.get(at + 1));
            bounds.and_then(|(from, to)| self.text.get(*from as usize..*to as usize))
        };
        let (mut from, mut to) = (0, self.starts.len().saturating_sub(1));
        while from < to {
            let middle = from.midpoint(to);
            match line(middle).map(|line| line.cmp(folded)) {
                Some(std::cmp::Ordering::Less) => from = middle + 1,
                Some(std::cmp::Ordering::Greater) => to = middle,
                Some(std::cmp::Ordering::Equal) => return true,
                None => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_list_is_there_and_sorted() {
        let mut text = String::new();
        GzDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("a whole list");
        let long = || {
            text.lines()
                .filter(|line| line.chars().count() >= PASSWORD_CHARS_MIN)
        };
        assert_eq!((text.lines().count(), long().count() > 8_000), (19_640, true));
        for line in long() {
            assert!(is_common(line), "{line}");
        }
        assert!(LIST.text.len() + 4 * LIST.starts.len() < 128 * 1024);
    }

    #[track_caller]
    fn check(password: &str, expected: bool) {
        assert_eq!(is_common(password), expected, "{password}");
    }

    #[test]
    fn what_is_common_is_common_in_whatever_letters() {
        check("password", true);
        check("PassWord1", true);
        check(
            "\u{ff50}\u{ff41}\u{ff53}\u{ff53}\u{ff57}\u{ff4f}\u{ff52}\u{ff44}",
            true,
        );
        check("12345678", true);
        check(
            "\u{ff11}\u{ff12}\u{ff13}\u{ff14}\u{ff15}\u{ff16}\u{ff17}\u{ff18}",
            true,
        );
        check("1234567", false); // too short to be a password at all
        check("correct horse battery", false);
        check("passwor", false);
        check("zzzzzzzzzzzzzzzzzzzzzzzzz", false);
        check("", false);
        check("\u{10ffff}", false);
    }
}
