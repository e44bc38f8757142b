//! What a request is answered that is not answered as asked: a status, a stable code and a sentence.
//!
//! The original's clients know `{success: false, reason}`; `code` is new, so that nobody has to compare sentences.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    identity::{HashError, OperationError, Refusal},
    store::{ReadError, TransactError},
};

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    reason: String,
    retry_after: Option<Duration>,
    tries_left: Option<u32>,
}

/// The body of such an answer.
#[derive(Serialize, ToSchema)]
pub struct ProblemBody {
    /// Always `false`.
    success: bool,
    /// For programs; never changes its meaning.
    #[schema(value_type = String)]
    code: &'static str,
    /// For people, in English.
    reason: String,
    /// How many more codes may be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    tries_left: Option<u32>,
}

impl Problem {
    /// One with this status, code and sentence.
    pub fn new(status: StatusCode, code: &'static str, reason: impl Into<String>) -> Problem {
        Problem {
            status,
            code,
            reason: reason.into(),
            retry_after: None,
            tries_left: None,
        }
    }

    /// The request itself is wrong: 400.
    pub fn bad_request(code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, reason)
    }

    /// An outcome that the original answers with 200, and this does too: a wrong password is no error of the request.
    pub fn outcome(code: &'static str, reason: impl Into<String>) -> Problem {
        Problem::new(StatusCode::OK, code, reason)
    }

    /// Not now, or not here: 503. The same request may be sent again.
    pub fn unavailable(code: &'static str, reason: impl Into<String>, retry_after: Duration) -> Problem {
        Problem {
            retry_after: Some(retry_after),
            ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, reason)
        }
    }

    /// Too often: 429.
    pub fn too_many(code: &'static str, reason: impl Into<String>, retry_after: Duration) -> Problem {
        Problem {
            retry_after: Some(retry_after),
            ..Problem::new(StatusCode::TOO_MANY_REQUESTS, code, reason)
        }
    }

    /// As the original answered every name that it did not know.
    pub fn no_such_api() -> Problem {
        Problem::bad_request("no-such-api", "no such api")
    }

    /// Nobody is signed in, or not well enough. 400 and not 401, as in the original.
    pub fn requires_authentication() -> Problem {
        Problem::bad_request("not-signed-in", "requires authentication")
    }

    /// The same, saying how many more may be tried.
    #[must_use]
    pub fn with_tries_left(self, tries_left: u32) -> Problem {
        Problem {
            tries_left: Some(tries_left),
            ..self
        }
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Answered with another body: what asks is not one of our pages.
    pub fn with_body(&self, body: impl IntoResponse) -> Response {
        let mut response = (self.status, body).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds(after));
        }
        response
    }

    /// The code, for counting.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.with_body(Json(ProblemBody {
            success: false,
            code: self.code,
            reason: self.reason.clone(),
            tries_left: self.tries_left,
        }))
    }
}

/// A refusal of the domain, where a call has no words of its own for it.
pub fn of_refusal(refusal: Refusal) -> Problem {
    let status = match refusal {
        Refusal::WrongPassword | Refusal::PasswordNeeded => StatusCode::UNAUTHORIZED,
        Refusal::Locked => StatusCode::TOO_MANY_REQUESTS,
        Refusal::UnknownAccount => StatusCode::NOT_FOUND,
        Refusal::NotYet => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::TooManyAddresses => StatusCode::BAD_REQUEST,
        Refusal::AddressTaken
        | Refusal::LaterProof
        | Refusal::Released
        | Refusal::LaterReset
        | Refusal::Cancelled
        | Refusal::NotHeld
        | Refusal::OtherRequest
        | Refusal::HasPassword
        | Refusal::UnknownStaging
        | Refusal::StagingEnded
        | Refusal::CodeEnded
        | Refusal::Unverified => StatusCode::CONFLICT,
    };
    Problem::new(status, refusal.code(), refusal.sentence())
}

/// "Give the password for this token": what the original answers with 401, and only that.
pub fn password_needed() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "password-needed",
        "give the password that was chosen, or the account's",
    )
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Problem {
        let code = match &error {
            OperationError::Store(TransactError::NearlyFull) => "disk-nearly-full",
            OperationError::Store(TransactError::Full) => "disk-full",
            OperationError::Store(TransactError::Read(ReadError::Quarantined { .. })) => "in-quarantine",
            OperationError::Store(TransactError::TooManyChanges { .. }) => "too-many-changes",
            OperationError::Store(TransactError::TooLarge { .. }) => "too-large",
            OperationError::Store(TransactError::Invalid { .. }) => "invalid-write",
            OperationError::Store(TransactError::Busy)
            | OperationError::Crowded { .. }
            | OperationError::Password(HashError::Busy { .. }) => "busy",
            OperationError::Missing { .. } => "not-here-yet",
            OperationError::Store(_) | OperationError::Password(_) | OperationError::Remote(_) => {
                "unavailable"
            }
        };
        let status = match &error {
            OperationError::Store(TransactError::TooManyChanges { .. }) => StatusCode::TOO_MANY_REQUESTS,
            OperationError::Store(TransactError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            OperationError::Store(TransactError::Invalid { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let retry_after = error.retry_after();
        Problem {
            retry_after: retry_after.or_else(|| (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY)),
            ..Problem::new(status, code, error.to_string())
        }
    }
}

/// When something is away, and nothing says for how long.
const RETRY: Duration = Duration::from_secs(1);

/// RFC 9110 §10.2.3 has whole seconds; a part of one is one.
fn seconds(after: Duration) -> HeaderValue {
    let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    HeaderValue::from(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_is_a_second() {
        for (after_ms, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            assert_eq!(seconds(Duration::from_millis(after_ms)), expected, "{after_ms}");
        }
    }

    #[test]
    fn it_is_answered_with_its_status_and_when_to_come_back() {
        let response =
            Problem::unavailable("busy", "server is too busy", Duration::from_secs(2)).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert!(
            !Problem::no_such_api()
                .into_response()
                .headers()
                .contains_key(RETRY_AFTER)
        );
    }
}
