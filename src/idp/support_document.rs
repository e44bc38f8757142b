//! What a domain says at `https://DOMAIN/.well-known/browserid?domain=PRINCIPAL`.
//!
//! `disabled` counts before `authority`, and that before the rest; of a document that delegates nothing else is read.

use hyper::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use url::Url;

use crate::{
    browserid::{
        Domain, KeyError, KeySet,
        json::{JsonError, Object},
    },
    outbound::OutboundAnswer,
};

/// A domain's own word.
#[derive(Clone, Debug)]
pub enum SupportDocument {
    /// It does not certify its users.
    Disabled,
    /// Another domain speaks for it.
    Delegated(Domain),
    /// It certifies its users.
    Primary(PrimaryDocument),
}

/// How a domain certifies its users.
#[derive(Clone, Debug)]
pub struct PrimaryDocument {
    /// The page where they sign in.
    pub authentication: Url,
    /// The page that gets their certificates, in a frame that nobody sees.
    pub provisioning: Url,
    /// What certificates are signed with.
    pub keys: KeySet,
}

/// Why an answer is no support document. The words may go to a relying party.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SupportDocumentError {
    /// Also a redirect: who wants to be asked elsewhere delegates.
    #[error("its support document has status {0}")]
    Status(u16),
    /// Not `application/json`.
    #[error("its support document is not application/json")]
    ContentType,
    /// Not strict JSON, or a member is not what it should be.
    #[error("its support document is {0}")]
    Json(JsonError),
    /// A member is missing or malformed.
    #[error("its support document is wrong: {0}")]
    Member(JsonError),
    /// `authority` is no domain.
    #[error("its support document is wrong: `authority` is not a domain")]
    Authority,
    /// A page is not a path on the domain itself.
    #[error("its support document is wrong: `{0}` is not a path on its own host")]
    Path(&'static str),
    /// The keys cannot be used.
    #[error("its support document has no key that can be used: {0}")]
    Keys(#[from] KeyError),
}

/// The path to ask for.
pub fn path(principal: &Domain) -> String {
    // A domain is letters, digits, hyphens and dots: nothing to escape.
    format!("/.well-known/browserid?domain={principal}")
}

impl SupportDocument {
    /// Reads what `domain` answered.
    pub fn read(answer: &OutboundAnswer, domain: &Domain) -> Result<SupportDocument, SupportDocumentError> {
        if answer.status != StatusCode::OK {
            return Err(SupportDocumentError::Status(answer.status.as_u16()));
        }
        if !is_json(&answer.headers) {
            return Err(SupportDocumentError::ContentType);
        }
        SupportDocument::parse(&answer.body, domain)
    }

    fn parse(body: &[u8], domain: &Domain) -> Result<SupportDocument, SupportDocumentError> {
        let document = Object::parse(body).map_err(SupportDocumentError::Json)?;
        if document.says_yes("disabled") {
            return Ok(SupportDocument::Disabled);
        }
        let authority = document.optional_text("authority");
        if let Some(authority) = authority.map_err(SupportDocumentError::Member)? {
            let authority = Domain::parse(authority).ok_or(SupportDocumentError::Authority)?;
            return Ok(SupportDocument::Delegated(authority));
        }
        let page = |name| {
            let path = document.text(name).map_err(SupportDocumentError::Member)?;
            join(domain, path).ok_or(SupportDocumentError::Path(name))
        };
        Ok(SupportDocument::Primary(PrimaryDocument {
            authentication: page("authentication")?,
            provisioning: page("provisioning")?,
            keys: KeySet::primary(&document)?,
        }))
    }
}

/// A path on a host. Whatever browsers may take for something else is refused: another scheme or host, `//`, and what
/// they drop (control characters) or turn into a slash (backslashes).
fn join(domain: &Domain, path: &str) -> Option<Url> {
    let odd = |char: char| char.is_control() || char.is_whitespace() || char == '\\';
    if !path.starts_with('/') || path.starts_with("//") || path.len() > PATH_BYTES_MAX || path.contains(odd) {
        return None;
    }
    let host = domain.as_str();
    let url = Url::parse(&format!("https://{host}{path}")).ok()?;
    let is_there = url.scheme() == "https" && url.host_str() == Some(host) && url.port().is_none();
    is_there.then_some(url)
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// What the original took as a path.
const PATH_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const KEY: &str = r#""public-key":{"kty":"EC","crv":"P-256","x":"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY","y":"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"}"#;
    const PAGES: &str = r#""authentication":"/sign_in","provisioning":"/provision""#;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    fn parse(body: &str) -> Result<SupportDocument, SupportDocumentError> {
        SupportDocument::parse(body.as_bytes(), &domain("idp.example"))
    }

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let read = match parse(body) {
            Ok(SupportDocument::Disabled) => "disabled".to_owned(),
            Ok(SupportDocument::Delegated(to)) => format!("delegated to {to}"),
            Ok(SupportDocument::Primary(primary)) => {
                format!("primary {} {}", primary.authentication, primary.provisioning)
            }
            Err(error) => error.to_string(),
        };
        assert!(read.starts_with(expected), "{body}\n is {read}\n not {expected}");
    }

    #[test]
    fn disabled_counts_before_authority_and_that_before_the_rest() {
        let whole = format!("{KEY},{PAGES}");
        check(
            &format!("{{{whole}}}"),
            "primary https://idp.example/sign_in https://idp.example/provision",
        );
        check(
            &format!(r#"{{"disabled":true,"authority":"a.example",{whole}}}"#),
            "disabled",
        );
        check(r#"{"disabled":true}"#, "disabled");
        check(r#"{"disabled":1}"#, "disabled");
        check(r#"{"disabled":"false"}"#, "disabled");
        check(r#"{"disabled":{}}"#, "disabled");
        for no in ["false", "null", "0", "0.0", "\"\""] {
            check(&format!(r#"{{"disabled":{no},{whole}}}"#), "primary");
        }
        check(
            &format!(r#"{{"authority":"A.Example",{whole}}}"#),
            "delegated to a.example",
        );
        check(
            r#"{"authority":"a.example","public-key":7}"#,
            "delegated to a.example",
        );
        check(
            r#"{"authority":"https://a.example"}"#,
            "its support document is wrong: `authority` is not a",
        );
        check(
            r#"{"authority":"a.example:8443"}"#,
            "its support document is wrong: `authority` is not a",
        );
        check(
            r#"{"authority":["a.example"]}"#,
            "its support document is wrong: `authority` is malformed",
        );
    }

    #[test]
    fn what_a_primary_needs_is_missed() {
        check("", "its support document is not strict JSON");
        check("[]", "its support document is not a JSON object");
        check("{}", "its support document is wrong: `authentication` is missing");
        check(
            &format!("{{{PAGES}}}"),
            "its support document has no key that can be used",
        );
        check(
            &format!("{{{KEY},{KEY},{PAGES}}}"),
            "its support document is not strict JSON",
        );
        check(
            &format!(r#"{{{KEY},"authentication":"/a"}}"#),
            "its support document is wrong: `provisioning` is missing",
        );
        check(
            &format!(r#"{{"public-key":{{"algorithm":"DS"}},{PAGES}}}"#),
            "its support document has no key that can be used",
        );
    }

    #[test]
    fn pages_are_paths_on_the_domain_itself() {
        #[track_caller]
        fn page(path: &str, expected: Option<&str>) {
            let url = join(&domain("idp.example"), path);
            assert_eq!(url.as_ref().map(Url::as_str), expected, "{path:?}");
        }
        page("/", Some("https://idp.example/"));
        page("/a/b?c=d#e", Some("https://idp.example/a/b?c=d#e"));
        page("/../x", Some("https://idp.example/x"));
        page("/a//b", Some("https://idp.example/a//b"));
        page("/@evil.example", Some("https://idp.example/@evil.example"));
        page("/:8443/", Some("https://idp.example/:8443/"));
        page("/caf\u{e9}", Some("https://idp.example/caf%C3%A9"));
        for refused in [
            "",
            "sign_in",
            "https://evil.example/",
            "http://idp.example/",
            "javascript:alert(1)",
            "//evil.example/",
            "/\\evil.example/",
            "\\\\evil.example/",
            "/\t/evil.example/",
            "/a\r\nb",
            "/a\u{0}",
            "/a b",
            "/a\u{85}b",
            " /a",
            ".evil.example/",
            "@evil.example/",
            ":8443/",
            "?a",
        ] {
            page(refused, None);
        }
        page(&format!("/{}", "a".repeat(PATH_BYTES_MAX)), None);
    }

    #[test]
    fn only_a_plain_json_answer_is_read() {
        #[track_caller]
        fn content_type(values: &[&'static str], expected: bool) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(is_json(&headers), expected, "{values:?}");
        }
        content_type(&["application/json"], true);
        content_type(&["Application/JSON; charset=utf-8"], true);
        content_type(&["application/json "], true);
        content_type(&[], false);
        content_type(&["text/html"], false);
        content_type(&["application/jsonp"], false);
        content_type(&["text/html, application/json"], false);
        content_type(&["application/json", "text/html"], false);
    }
}
