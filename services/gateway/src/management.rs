//! Health and metrics, on a listener of their own.

use actix_web::{
    HttpResponse, Route, guard,
    http::header,
    web::{self, ServiceConfig},
};
use signalbox_node::{Node, Status};

/// The routes of the management listener.
pub fn routes(routes: &mut ServiceConfig) {
    routes
        .route("/livez", get_or_head().to(livez))
        .route("/readyz", get_or_head().to(readyz))
        .route("/metrics", get_or_head().to(metrics))
        .default_service(web::to(async || {
            HttpResponse::NotFound().body("here are /livez, /readyz and /metrics\n")
        }));
}

/// Some health checks ask with HEAD.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The process runs. It says nothing about what it depends on: restarting it would not help that.
async fn livez(node: web::Data<Node>) -> HttpResponse {
    HttpResponse::Ok().json(health("alive", &node))
}

/// New clients are welcome. A node that has lost Redis is ready: its clients would be no better off without it. One that has never
/// reached it is not.
async fn readyz(node: web::Data<Node>) -> HttpResponse {
    let status = match node.status() {
        _ if node.is_draining() => "draining",
        _ if node.is_stopping() => "stopping",
        Status::Joining => "joining",
        Status::Online | Status::Degraded => return HttpResponse::Ok().json(health("ready", &node)),
    };
    HttpResponse::ServiceUnavailable().json(health(status, &node))
}

fn health(status: &str, node: &Node) -> serde_json::Value {
    match node.status() {
        Status::Degraded => serde_json::json!({"status": status, "degraded": true}),
        _ => serde_json::json!({"status": status}),
    }
}

async fn metrics(node: web::Data<Node>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(node.metrics_now().encode())
}
