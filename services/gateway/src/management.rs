//! Health and metrics, on listeners apart from the clients'.

use actix_web::{
    Error, HttpRequest, HttpResponse, Route,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    guard,
    http::{ConnectionType, StatusCode, header},
    middleware::Next,
    web::{self, ServiceConfig},
};
use signalbox_node::{Node, Status};

/// The routes of every such listener. `elsewhere` is the answer to requests for anything else.
pub fn routes(routes: &mut ServiceConfig, elsewhere: &'static str) {
    routes
        .route("/livez", get_or_head().to(livez))
        .route("/readyz", get_or_head().to(readyz))
        .route("/metrics", get_or_head().to(metrics))
        .default_service(web::to(move || async move { HttpResponse::NotFound().body(elsewhere) }));
}

/// Middleware. What follows a request with `Connection: upgrade`, as proxies send it with everything, counts as another protocol's: the
/// connection ends with the answer, which has to say so.
pub async fn announce_close<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let ends = request.head().upgrade();
    let mut response = next.call(request).await?;
    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Some health checks ask with HEAD.
fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The process runs. Dependencies do not matter here: a restart would not repair them.
async fn livez(node: web::Data<Node>) -> HttpResponse {
    HttpResponse::Ok().json(health("alive", &node))
}

/// Whether load balancers should send new clients here; not where there is no room for them. A node that has lost its connection to Redis is ready, since it can serve clients;
/// one that has never reached Redis is not.
async fn readyz(node: web::Data<Node>) -> HttpResponse {
    let status = match node.status() {
        _ if node.is_draining() => "draining",
        _ if node.is_stopping() => "stopping",
        Status::Joining => "joining",
        _ if !node.is_introduced() => "joining",
        _ if node.is_full() => "full",
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

async fn metrics(request: HttpRequest, node: web::Data<Node>) -> HttpResponse {
    let accept = request.headers().get_all(header::ACCEPT).filter_map(|value| value.to_str().ok());
    let exposition = node.metrics_now().expose(accept);
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, exposition.content_type))
        .insert_header((header::VARY, "Accept"))
        .body(exposition.body)
}
