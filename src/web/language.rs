//! Which language a browser wants (RFC 9110 §12.5.4).

use axum::http::{HeaderMap, header::ACCEPT_LANGUAGE};

/// A language that pages speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
    French,
}

/// Bytes of the header that are read: more than any browser sends.
const HEADER_BYTES_MAX: usize = 512;

impl Language {
    pub(super) const ALL: [Language; 3] = [Language::English, Language::German, Language::French];

    /// Its tag (BCP 47).
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::German => "de",
            Language::French => "fr",
        }
    }

    /// The one that a request prefers; English if it prefers none of ours.
    pub(super) fn wanted(request: &HeaderMap) -> Language {
        request
            .get(ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok())
            .map_or(Language::English, Language::of_header)
    }

    fn of_header(header: &str) -> Language {
        let header = header.get(..HEADER_BYTES_MAX).unwrap_or(header);
        let mut best = (0, Language::English);
        for range in header.split(',') {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let primary = tag.split('-').next().unwrap_or_default();
            let Some(language) = Language::ALL
                .into_iter()
                .find(|language| primary.eq_ignore_ascii_case(language.tag()))
            else {
                continue;
            };
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(Some(1000), thousandths)
                .unwrap_or(0);
            // Of equals the first.
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// RFC 9110 §12.4.2: `0`, `1`, or one of them with up to three digits behind a point.
fn thousandths(quality: &str) -> Option<u32> {
    let (whole, part) = quality.split_once('.').unwrap_or((quality, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Language::{English, French, German};

    #[track_caller]
    fn check(header: &str, expected: Language) {
        assert_eq!(Language::of_header(header), expected, "{header:?}");
    }

    #[test]
    fn the_one_that_is_preferred_counts() {
        check("de", German);
        check("de-AT", German);
        check("DE-at", German);
        check("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", French);
        check("en;q=0.5, de;q=0.6", German);
        check("nl, de;q=0.3", German);
        check("de;q=0, fr;q=0.001", French);
        check("en, de", English);
    }

    #[test]
    fn whoever_speaks_none_of_ours_gets_english() {
        for header in [
            "",
            "nl",
            "*",
            "de;q=0",
            "de;q=2",
            "de;q=x",
            "de;q=0.1234",
            ",,;;",
            "deutsch",
        ] {
            check(header, English);
        }
        check(&"nl,".repeat(10_000), English);
    }
}
