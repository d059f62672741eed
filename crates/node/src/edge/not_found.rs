//! The answer to what nobody serves.

use actix_web::{HttpRequest, HttpResponse, http::header};

/// 404, with a word on what was asked for.
pub fn not_found(request: &HttpRequest) -> HttpResponse {
    let path: String = request.path().chars().flat_map(|c| c.escape_default()).collect();
    let path = path.replace('&', "&amp;").replace('<', "&lt;");
    HttpResponse::NotFound()
        .insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::CONTENT_SECURITY_POLICY, "default-src 'none'"))
        .body(format!(
            "<!DOCTYPE html>\n<title>Error</title>\n<pre>Cannot {} {path}</pre>\n",
            request.method()
        ))
}
