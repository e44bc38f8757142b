//! Pages, scripts and styles, and the headers that they go out with.

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, REFERRER_POLICY, SET_COOKIE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use minijinja::{AutoEscape, Environment, Value};

use super::DemoError;

/// Templates; what is put into them is text, never markup.
pub(super) struct Templates(Environment<'static>);

impl Templates {
    /// Reads them.
    pub(super) fn new(sources: &[(&'static str, &'static str)]) -> Result<Templates, DemoError> {
        let mut environment = Environment::empty();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        for &(name, source) in sources {
            environment.add_template(name, source)?;
        }
        Ok(Templates(environment))
    }

    /// Fills one.
    pub(super) fn page(&self, name: &str, policy: &str, facts: &[(&str, Value)]) -> Response {
        let facts = Value::from_pairs(facts.iter().map(|(name, value)| (*name, value.clone())));
        let text = self
            .0
            .get_template(name)
            .and_then(|template| template.render(facts));
        match text {
            Ok(text) => asset("text/html; charset=utf-8", policy, text),
            Err(error) => {
                tracing::error!(%error, page = name, "a page could not be made");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Something to show, under a policy.
pub(super) fn asset(kind: &'static str, policy: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin"));
    match HeaderValue::from_str(policy) {
        Ok(policy) => drop(headers.insert(CONTENT_SECURITY_POLICY, policy)),
        // Without its policy it is not shown.
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
    response
}

/// A script of ours.
pub(super) fn script(text: &'static str) -> Response {
    asset("text/javascript; charset=utf-8", "default-src 'none'", text)
}

/// The one style that all of them have.
pub(super) async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        "default-src 'none'",
        include_str!("static/demo.css"),
    )
}

/// The picture that browsers ask for by themselves: there is none, and that is no error.
pub(super) async fn favicon() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Puts a cookie on an answer.
pub(super) fn with_cookie(mut response: Response, cookie: Option<HeaderValue>) -> Response {
    if let Some(cookie) = cookie {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// Puts a header on an answer.
pub(super) fn with(mut response: Response, name: &'static str, value: &'static str) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    response
}

/// Whether a page of ours asks. Browsers say so with every POST, and no page can make them say otherwise; so another site
/// cannot sign somebody in here, or out, with what its visitor's browser has.
pub(super) fn is_from<'o>(headers: &HeaderMap, mut origins: impl Iterator<Item = &'o str>) -> bool {
    let mut said = headers.get_all(ORIGIN).iter();
    match (said.next(), said.next()) {
        (Some(said), None) => origins.any(|origin| origin.as_bytes() == said.as_bytes()),
        _ => false,
    }
}
