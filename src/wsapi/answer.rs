//! What a call is answered, with the cookies that come with it.

use axum::{
    Json,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// As the original said of every answer: it is for this moment.
pub const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-cache, max-age=0");

/// A call's answer.
#[derive(Debug)]
pub struct Answer<T> {
    body: T,
    cookies: Vec<HeaderValue>,
}

impl<T> Answer<T> {
    /// One that sets no cookie.
    pub fn new(body: T) -> Answer<T> {
        Answer {
            body,
            cookies: Vec::new(),
        }
    }

    /// The same, setting these as well.
    #[must_use]
    pub fn with_cookies(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Answer<T> {
        self.cookies.extend(cookies);
        self
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let mut response = ([(CACHE_CONTROL, NOT_KEPT)], Json(self.body)).into_response();
        for cookie in self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}

/// It is done.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Done {
    /// Always `true`.
    pub success: bool,
    /// `false`: it is done at this site, and not yet known to be at another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<bool>,
}

impl Done {
    /// As durable as is configured.
    pub const YES: Done = Done {
        success: true,
        elsewhere: None,
    };
}
