//! What went wrong, as a status, a stable code and a sentence: what people's pages are told, in the body of this API.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    identity::{AddressError, OperationError, PasswordError, Refusal},
    store::{BackupError, ReadError},
    wsapi::problem::{self, Problem},
};

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub struct ApiError(Problem);

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
}

/// For what may be otherwise in a moment.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError(Problem::new(status, code, message))
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError(Problem::unavailable(code, message, RETRY_AFTER))
    }

    /// The rules of membership say no.
    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, message)
    }

    pub(super) fn no_such_route() -> ApiError {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "no-such-route",
            "There is no such route; see src/admin/API.md.",
        )
    }

    pub(super) fn not_found(message: &'static str) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "unknown-account", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let ApiError(problem) = self;
        problem.with_body(Json(Body {
            error: problem.code(),
            message: problem.reason(),
        }))
    }
}

impl From<BackupError> for ApiError {
    fn from(error: BackupError) -> ApiError {
        let message = error.to_string();
        match error {
            BackupError::Exists { .. } => ApiError::new(StatusCode::CONFLICT, "backup-exists", message),
            BackupError::Busy => ApiError::unavailable("busy", message),
            BackupError::Disk(_) | BackupError::Write { .. } => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "backup-failed", message)
            }
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        ApiError(problem::of_refusal(refusal))
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> ApiError {
        ApiError(error.into())
    }
}

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> ApiError {
        ApiError::bad_request("bad-address", error.to_string())
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> ApiError {
        ApiError::bad_request("bad-password", error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> ApiError {
        OperationError::from(error).into()
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> ApiError {
        ApiError::new(rejection.status(), "bad-body", rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> ApiError {
        ApiError::new(rejection.status(), "bad-path", rejection.body_text())
    }
}
