//! Health and metrics, on a listener of their own.

use actix_web::{
    HttpRequest, HttpResponse, Route, guard,
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

async fn metrics(request: HttpRequest, service: Data<Service>) -> HttpResponse {
    let accept = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let exposition = service.metrics.expose(accept);
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, exposition.content_type))
        .insert_header((header::VARY, "Accept"))
        .body(exposition.body)
}
