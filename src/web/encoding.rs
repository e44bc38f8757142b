//! A text with its compressed forms, each made once, when it is first asked for, and with a strong entity tag of its own.
//!
//! To make all of them when a process starts took a second, which is long when ten sites start on one machine, and most are
//! never asked for: all browsers of these years take Brotli.

use std::{io::Write, sync::OnceLock};

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE,
            ETAG, IF_NONE_MATCH, VARY,
        },
    },
    response::Response,
};
use brotli::enc::{BrotliCompress, BrotliEncoderParams};
use flate2::{Compression, write::GzEncoder};

use super::headers::Caching;

/// For what is served again and again: some ten milliseconds for the largest of ours, once. The best there is (11) takes ten times
/// as long, and saves a twentieth.
const BROTLI_GOOD: i32 = 9;
/// For what is made for one request: a millisecond for the dialog.
const BROTLI_QUICK: i32 = 4;
/// Bytes of a tag's hash.
const TAG_BYTES: usize = 16;

/// How a text may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Plain,
    Gzip,
    Brotli,
}

/// A text as it is served.
pub(super) struct Encoded {
    content_type: &'static str,
    language: Option<&'static str>,
    plain: Form,
    gzip: Form,
    brotli: Form,
}

/// One form of it.
struct Form {
    bytes: OnceLock<Bytes>,
    tag: HeaderValue,
}

impl Form {
    fn bytes(&self, make: impl FnOnce() -> Vec<u8>) -> &Bytes {
        self.bytes.get_or_init(|| make().into())
    }
}

impl Encoded {
    /// Takes a text. `language`: of a page, if there are others of it.
    pub(super) fn new(content_type: &'static str, language: Option<&'static str>, text: &str) -> Encoded {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let form = |suffix: &str| Form {
            // RFC 9110 §8.8.3.3: forms of one resource in different codings have different strong tags.
            tag: tag(&hash[..2 * TAG_BYTES], suffix),
            bytes: OnceLock::new(),
        };
        let plain = Form {
            bytes: OnceLock::from(Bytes::copy_from_slice(text.as_bytes())),
            ..form("")
        };
        Encoded {
            content_type,
            language,
            gzip: form("-gzip"),
            brotli: form("-br"),
            plain,
        }
    }

    /// The text itself.
    fn plain(&self) -> &Bytes {
        self.plain.bytes(Vec::new)
    }

    /// It, in a form.
    fn bytes(&self, coding: Coding) -> &Bytes {
        match coding {
            Coding::Plain => self.plain(),
            Coding::Gzip => self.gzip.bytes(|| gzip(self.plain())),
            Coding::Brotli => self.brotli.bytes(|| brotli_of(self.plain(), BROTLI_GOOD)),
        }
    }

    /// The answer to a request: the form that it takes, or that it has it already.
    pub(super) fn answer(&self, status: StatusCode, caching: Caching, request: &HeaderMap) -> Response {
        let coding = Coding::wanted(request);
        let form = match coding {
            Coding::Plain => &self.plain,
            Coding::Gzip => &self.gzip,
            Coding::Brotli => &self.brotli,
        };
        let is_known = status == StatusCode::OK && caching.has_tag() && knows(request, &form.tag);
        let (status, body) = if is_known {
            (StatusCode::NOT_MODIFIED, Body::empty())
        } else {
            (status, Body::from(self.bytes(coding).clone()))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, caching.header());
        let vary = match self.language {
            Some(_) => "Accept-Encoding, Accept-Language",
            None => "Accept-Encoding",
        };
        headers.insert(VARY, HeaderValue::from_static(vary));
        if caching.has_tag() {
            headers.insert(ETAG, form.tag.clone());
        }
        if is_known {
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, self.bytes(coding).len().into());
        if let Some(language) = self.language {
            headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language));
        }
        if let Some(name) = coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        response
    }

    /// Bytes in the smallest form.
    #[cfg(test)]
    pub(super) fn smallest(&self) -> usize {
        self.bytes(Coding::Brotli)
            .len()
            .min(self.bytes(Coding::Gzip).len())
    }

    /// The text itself.
    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(self.plain()).expect("a text")
    }
}

/// A page that is made for one request.
pub(super) fn answer_once(text: String, request: &HeaderMap) -> Response {
    let coding = Coding::wanted(request);
    let body = match coding {
        Coding::Brotli => brotli_of(text.as_bytes(), BROTLI_QUICK),
        Coding::Gzip => gzip(text.as_bytes()),
        Coding::Plain => text.into_bytes(),
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, Caching::Never.header());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(HTML));
    if let Some(name) = coding.name() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    response
}

/// What a page is.
pub(super) const HTML: &str = "text/html; charset=utf-8";

impl Coding {
    /// The best of ours that a request takes (RFC 9110 §12.5.3). What it does not name is not wanted.
    fn wanted(request: &HeaderMap) -> Coding {
        let mut best = Coding::Plain;
        for header in request.get_all(ACCEPT_ENCODING) {
            let Ok(header) = header.to_str() else { continue };
            for range in header.split(',') {
                let mut parts = range.split(';').map(str::trim);
                let coding = match parts.next() {
                    Some("br") => Coding::Brotli,
                    Some("gzip") => Coding::Gzip,
                    _ => continue,
                };
                let is_refused = parts
                    .filter_map(|part| part.strip_prefix("q="))
                    .any(|quality| quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0));
                if !is_refused && (coding == Coding::Brotli || best == Coding::Plain) {
                    best = coding;
                }
            }
        }
        best
    }

    const fn name(self) -> Option<&'static str> {
        match self {
            Coding::Plain => None,
            Coding::Gzip => Some("gzip"),
            Coding::Brotli => Some("br"),
        }
    }
}

/// Whether the request has this form already. For `If-None-Match` a tag that somebody on the way made weak is the same
/// (RFC 9110 §13.1.2).
fn knows(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    request
        .get_all(IF_NONE_MATCH)
        .into_iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn tag(hash: &str, suffix: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{hash}{suffix}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn brotli_of(mut bytes: &[u8], quality: i32) -> Vec<u8> {
    let parameters = BrotliEncoderParams {
        quality,
        size_hint: bytes.len(),
        ..BrotliEncoderParams::default()
    };
    let mut compressed = Vec::new();
    // Into memory: nothing there fails.
    let _ = BrotliCompress(&mut bytes, &mut compressed, &parameters);
    compressed
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Coding) {
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, HeaderValue::from_str(accept).expect("a header"));
        assert_eq!(Coding::wanted(&request), expected, "{accept:?}");
    }

    #[test]
    fn the_best_form_that_is_taken_is_sent() {
        check("gzip, deflate, br, zstd", Coding::Brotli);
        check("br;q=0.1, gzip", Coding::Brotli);
        check("gzip", Coding::Gzip);
        check("gzip, br;q=0", Coding::Gzip);
        check("br;q=0.0, gzip;q=0", Coding::Plain);
        check("identity", Coding::Plain);
        check("*", Coding::Plain);
        check("", Coding::Plain);
        assert_eq!(Coding::wanted(&HeaderMap::new()), Coding::Plain);
    }

    #[test]
    fn forms_are_the_text_and_have_tags_of_their_own() {
        use std::io::Read;

        let text = "What people see. ".repeat(100);
        let encoded = Encoded::new(HTML, None, &text);
        let mut plain = Vec::new();
        brotli::Decompressor::new(&encoded.bytes(Coding::Brotli)[..], 4096)
            .read_to_end(&mut plain)
            .expect("brotli");
        assert_eq!(plain, text.as_bytes());
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&encoded.bytes(Coding::Gzip)[..])
            .read_to_end(&mut plain)
            .expect("gzip");
        assert_eq!(plain, text.as_bytes());
        let tags = [&encoded.plain.tag, &encoded.gzip.tag, &encoded.brotli.tag];
        for (index, tag) in tags.iter().enumerate() {
            let tag = tag.to_str().expect("ASCII");
            assert!(
                tag.starts_with('"') && tag.ends_with('"') && tag.len() > 30,
                "{tag}"
            );
            assert!(!tags[..index].iter().any(|other| *other == tag), "{tag}");
        }
    }

    #[test]
    fn who_has_it_is_told_so() {
        let encoded = Encoded::new(HTML, None, "text");
        let ask = |known: &str| {
            let mut request = HeaderMap::new();
            request.insert(IF_NONE_MATCH, HeaderValue::from_str(known).expect("a header"));
            encoded.answer(StatusCode::OK, Caching::Revalidate, &request)
        };
        let tag = encoded.plain.tag.to_str().expect("ASCII").to_owned();
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".to_owned(),
        ] {
            let response = ask(&known);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.headers()[ETAG], tag);
        }
        // Another form of the same text is not what this request would get.
        let brotli = encoded.brotli.tag.to_str().expect("ASCII").to_owned();
        for known in ["\"x\"".to_owned(), brotli] {
            assert_eq!(ask(&known).status(), StatusCode::OK, "{known}");
        }
    }
}
