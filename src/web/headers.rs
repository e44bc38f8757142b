//! What browsers are told to refuse, page by page.

use axum::{
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{
            ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::Response,
};

use crate::public_url::PublicUrl;

/// What a page may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    /// It keeps the window that opened it, and frames email domains that certify their own users.
    Dialog,
    /// Every other page.
    Plain,
}

/// Whose pages may load a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Ourselves,
    Everybody,
}

/// How long browsers may keep what they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// Its name says its content.
    Forever,
    /// A version of sites' script may be five minutes old; where we do not answer, a day.
    Minutes,
    /// Asked for each time; an answer without content says that it is the same.
    Revalidate,
    /// It is about this moment, or about somebody.
    Never,
}

/// Headers of all answers under one public address.
pub(super) struct Headers {
    is_https: bool,
    dialog_policy: HeaderValue,
}

/// No inline code, nothing from anybody else, no frame around it; scripts may make no markup from text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
/// The dialog frames the provisioning page of an email domain, whichever it is.
const DIALOG_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                             connect-src 'self'; frame-src https:; form-action 'self'; base-uri 'none'; frame-ancestors \
                             'none'; require-trusted-types-for 'script'; trusted-types 'none'";
/// The same where the service itself is on this machine, by plain HTTP, with the domains that it knows.
const LOOPBACK_DIALOG_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                      connect-src 'self'; frame-src https: http://localhost:* http://*.localhost:* \
                                      http://127.0.0.1:*; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                                      require-trusted-types-for 'script'; trusted-types 'none'";
/// A year. Not for hosts below: they are somebody else's to decide.
const TRANSPORT_SECURITY: &str = "max-age=31536000";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl Headers {
    pub(super) fn new(public_url: &PublicUrl) -> Headers {
        let is_https = public_url.origin().starts_with("https://");
        Headers {
            is_https,
            dialog_policy: HeaderValue::from_static(if is_https {
                DIALOG_POLICY
            } else {
                LOOPBACK_DIALOG_POLICY
            }),
        }
    }

    /// Completes the answer with a page.
    pub(super) fn of_page(&self, kind: PageKind, mut response: Response) -> Response {
        let headers = response.headers_mut();
        let (policy, opener) = match kind {
            // Any other value would cut it from the window that opened it, and from its answer.
            PageKind::Dialog => (self.dialog_policy.clone(), "unsafe-none"),
            PageKind::Plain => (HeaderValue::from_static(POLICY), "same-origin"),
        };
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        headers.insert(OPENER_POLICY, HeaderValue::from_static(opener));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        self.of_all(headers);
        response
    }

    /// Completes the answer with a script, a style or a picture.
    pub(super) fn of_asset(&self, share: Share, mut response: Response) -> Response {
        let headers = response.headers_mut();
        match share {
            Share::Ourselves => {
                headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
            }
            Share::Everybody => {
                headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
                // With `crossorigin="anonymous"`, as `integrity` wants it.
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
        }
        self.of_all(headers);
        response
    }

    fn of_all(&self, headers: &mut HeaderMap) {
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if self.is_https {
            headers.insert(
                STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static(TRANSPORT_SECURITY),
            );
        }
    }
}

impl Caching {
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Caching::Forever => "public, max-age=31536000, immutable",
            Caching::Minutes => "public, max-age=300, stale-while-revalidate=300, stale-if-error=86400",
            Caching::Revalidate => "no-cache",
            Caching::Never => "no-store",
        })
    }

    pub(super) fn has_tag(self) -> bool {
        self != Caching::Never
    }
}
