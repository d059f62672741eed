//! Health and metrics, on a listener of their own.

use actix_web::{
    HttpResponse,
    http::header,
    web::{self, ServiceConfig},
};
use signalbox_node::Node;

/// The routes of the management listener.
pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/livez", web::get().to(livez))
        .route("/readyz", web::get().to(readyz))
        .route("/metrics", web::get().to(metrics))
        .default_service(web::to(async || {
            HttpResponse::NotFound().body("here are /livez, /readyz and /metrics\n")
        }));
}

/// The process runs. It says nothing about what it depends on: restarting it would not help that.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "alive"}))
}

/// New clients are welcome.
async fn readyz(node: web::Data<Node>) -> HttpResponse {
    if node.is_stopping() {
        return HttpResponse::ServiceUnavailable().json(serde_json::json!({"status": "stopping"}));
    }
    HttpResponse::Ok().json(serde_json::json!({"status": "ready"}))
}

async fn metrics(node: web::Data<Node>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(node.metrics().encode())
}
