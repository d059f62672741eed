//! Refusals.

use std::{borrow::Cow, fmt};

use actix_web::{HttpResponse, ResponseError, http::StatusCode, http::header};
use signalbox_admin::{Partial, Problem};

/// A refusal, which shows nothing of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    detail: String,
    parameter: Option<Cow<'static, str>>,
    retry_after: Option<u32>,
    /// The methods of a path, where the one that was used is none of them.
    allow: Option<Box<str>>,
    partial: Vec<Partial>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let (parameter, retry_after, allow) = (None, None, None);
        Self { status, code, detail: detail.into(), parameter, retry_after, allow, partial: Vec::new() }
    }

    /// A parameter, or a field of the body, that cannot be used.
    pub(super) fn bad(parameter: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let bad = Self::new(StatusCode::BAD_REQUEST, "bad-parameter", detail);
        Self { parameter: Some(parameter.into()), ..bad }
    }

    /// A query or a body that cannot be read at all.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// Who asks is not known.
    pub(super) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Who asks is known, and may not.
    pub(super) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// There is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// There is no such thing, as far as is known: these nodes have not answered.
    pub(super) fn incomplete(detail: impl Into<String>, partial: Vec<Partial>) -> Self {
        let incomplete = Self::new(StatusCode::SERVICE_UNAVAILABLE, "incomplete", detail);
        Self { retry_after: Some(1), partial, ..incomplete }
    }

    /// The path is there, but not for this method; it is for these.
    pub(super) fn method_not_allowed(allow: String) -> Self {
        let detail = "the method is not for this path (see /admin/v1/openapi.json)";
        let refused = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        Self { allow: Some(allow.into()), ..refused }
    }

    /// The same is being done already.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::CONFLICT, "under-way", detail) }
    }

    /// Rules cannot be used.
    pub(super) fn wrong_rules(problems: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "wrong-rules", problems)
    }

    /// Others are in force than those that were seen.
    pub(super) fn changed(version: u64) -> Self {
        let detail = format!("version {version} is in force (read it, and change that)");
        Self::new(StatusCode::PRECONDITION_FAILED, "changed", detail)
    }

    /// Something else is in the way that does the same, and goes on for a while.
    pub(super) fn conflict_with(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// The body is too large, or broke off.
    pub(super) fn too_large() -> Self {
        let detail = "the body has more than 1048576 bytes, or cannot be read";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    }

    /// Nothing can be done now.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail) }
    }

    /// For programs.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Refused {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or_default().to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail.clone(),
            parameter: self.parameter.as_deref().map(str::to_owned),
            partial: self.partial.clone(),
        };
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, &**allow));
        }
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, after.to_string()));
        }
        let body = serde_json::to_string(&problem).unwrap_or_default();
        response.insert_header((header::CONTENT_TYPE, "application/problem+json")).body(body)
    }
}
