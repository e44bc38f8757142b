//! What went wrong, as a status, a stable code and a sentence.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    identity::{AddressError, HashError, OperationError, PasswordError, Refusal},
    store::{BackupError, ReadError, TransactError},
};

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    message: &'a str,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            retry_after_s: None,
        }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        error.retry_after_s = Some(1);
        error
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
        let body = Json(Body {
            error: self.code,
            message: &self.message,
        });
        match self.retry_after_s {
            Some(seconds) => (self.status, [(RETRY_AFTER, seconds.to_string())], body).into_response(),
            None => (self.status, body).into_response(),
        }
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
        let status = match refusal {
            Refusal::WrongPassword | Refusal::PasswordNeeded => StatusCode::UNAUTHORIZED,
            Refusal::Locked | Refusal::CodeEnded => StatusCode::TOO_MANY_REQUESTS,
            Refusal::UnknownAccount | Refusal::UnknownStaging => StatusCode::NOT_FOUND,
            Refusal::NotYet => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooManyAddresses | Refusal::OtherRequest => StatusCode::BAD_REQUEST,
            Refusal::AddressTaken
            | Refusal::LaterProof
            | Refusal::Released
            | Refusal::LaterReset
            | Refusal::Cancelled
            | Refusal::NotHeld
            | Refusal::HasPassword
            | Refusal::StagingEnded
            | Refusal::Unverified => StatusCode::CONFLICT,
        };
        ApiError::new(status, refusal.code(), refusal.sentence())
    }
}

impl From<OperationError> for ApiError {
    fn from(error: OperationError) -> ApiError {
        let retry_after_s = error.retry_after().map(|after| after.as_secs().max(1));
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
        ApiError {
            status,
            code,
            message: error.to_string(),
            retry_after_s,
        }
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
