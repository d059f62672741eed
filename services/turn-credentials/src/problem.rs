//! Refusals, as `application/problem+json` (RFC 9457).

use std::{fmt, time::Duration};

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use serde_json::json;
use signalbox_turn::BadParameter;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// For programs; it never changes.
    pub code: &'static str,
    /// For people; it shows nothing of a token, a key or a subject.
    pub detail: String,
    /// The parameter that is wrong.
    pub parameter: Option<&'static str>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), parameter: None, retry_after: None }
    }

    /// Who asks is not known.
    pub fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Who asks is known, and may not.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// There is nothing here.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here (see /v1/openapi.json)")
    }

    /// The path is there, but not for this method.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the method is not for this path")
    }

    /// The body is none that is read.
    pub fn unsupported_body() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-body",
            "parameters are given in the query or as application/x-www-form-urlencoded",
        )
    }

    /// Too much was asked for.
    pub fn too_many(code: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
    }

    /// This service is not set up for it.
    pub fn not_implemented(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not-configured", detail)
    }

    /// It cannot be done now.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }
}

impl From<BadParameter> for Problem {
    fn from(bad: BadParameter) -> Self {
        Self {
            parameter: Some(bad.name),
            ..Self::new(StatusCode::BAD_REQUEST, "bad-parameter", bad.to_string())
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(parameter) = self.parameter {
            body["parameter"] = parameter.into();
        }
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.insert_header((header::RETRY_AFTER, seconds.max(1).to_string()));
        }
        response.body(body.to_string())
    }
}
