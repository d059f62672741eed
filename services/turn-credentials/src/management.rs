//! Health and metrics, on a listener of their own.

use actix_web::{
    HttpResponse, Route, guard,
    http::header,
    web::{self, Data, ServiceConfig},
};
use serde_json::json;

use crate::server::Service;

/// The routes of the management listener.
pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/livez", get_or_head().to(livez))
        .route("/readyz", get_or_head().to(readyz))
        .route("/metrics", get_or_head().to(metrics))
        .default_service(web::to(async || {
            HttpResponse::NotFound().body("this listener serves /livez, /readyz and /metrics\n")
        }));
}

/// Some health checks ask with HEAD.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The process runs.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "alive"}))
}

/// Whether load balancers should send clients here.
async fn readyz(service: Data<Service>) -> HttpResponse {
    match service.is_stopping() {
        true => HttpResponse::ServiceUnavailable().json(json!({"status": "stopping"})),
        false => HttpResponse::Ok().json(json!({"status": "ready"})),
    }
}

async fn metrics(service: Data<Service>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(service.metrics.encode())
}
