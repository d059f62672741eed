//! The admin API, on the management listener: `/admin/v1`. Any node answers for the whole cluster.
//!
//! - `state`: what the routes share.
//! - `access`: who may use it; `caller`: who asks.
//! - `look`: what there is; `explain`: what a token allows.
//! - `speak`, `act`: what is said to clients, and done with them; `operations`: what takes a while; `order`: what they have in common.
//! - `events`: what happens.
//! - `rules`: the rules that are in force.
//! - `request`: queries and bodies, read strictly; `patience`: how long nodes are waited for that are asked more than once.
//! - `openapi`: its description, from the code; `reference`: the same as Markdown, and as a page.
//! - `problem`: refusals.
//! - `status`: the page for people.

mod access;
mod act;
mod caller;
mod events;
mod explain;
mod look;
mod openapi;
mod operations;
mod order;
mod patience;
mod problem;
mod reference;
mod request;
mod rules;
mod speak;
mod state;
mod status;

use actix_web::{
    HttpRequest, Resource, Route,
    middleware::from_fn,
    web::{self, ServiceConfig},
};

use self::problem::Refused;
use crate::config::admin::Scope;

pub use self::openapi::document;
pub use self::state::AdminState;

/// Keeps what a listener's connection can be ended by: to be called when the listener has a new connection.
pub fn on_connect(connection: &dyn std::any::Any, data: &mut actix_web::dev::Extensions) {
    events::remember(connection, data);
}

/// Largest body of a request in bytes.
const MAX_BODY: usize = 1 << 20;

/// Adds the routes. They find an [`AdminState`] among the app's data.
pub fn routes(routes: &mut ServiceConfig) {
    // Who reads how the API is used learns nothing of what it is used for, and needs no token.
    routes
        .service(only_get("/admin/v1/openapi.json", web::get().to(openapi::json)))
        .service(only_get("/admin/v1/openapi.md", web::get().to(openapi::markdown)))
        .service(only_get("/admin/reference", web::get().to(openapi::page)));
    status::routes(routes);
    let read = |path: &str, route: Route| resource(path).route(scoped(Scope::Read, route));
    let emit = |path: &str, route: Route| resource(path).route(scoped(Scope::Emit, route));
    let control = |path: &str, route: Route| resource(path).route(scoped(Scope::Control, route));
    let scope = web::scope("/admin/v1")
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(read("/caller", web::get().to(caller::caller)))
        .service(read("/cluster", web::get().to(look::cluster)))
        .service(read("/nodes", web::get().to(look::nodes)))
        .service(read("/nodes/{node}", web::get().to(look::node)))
        .service(read("/namespaces", web::get().to(look::namespaces)))
        .service(read("/rooms", web::get().to(look::rooms)))
        .service(read("/rooms/{room}/members", web::get().to(look::members)))
        .service(read("/sockets", web::get().to(look::sockets)))
        .service(read("/sockets/{id}", web::get().to(look::socket)))
        .service(read("/peers", web::get().to(look::peers)))
        .service(read("/peers/{id}", web::get().to(look::peer)))
        .service(read("/rates", web::get().to(look::rates)))
        .service(read("/explain", web::post().to(explain::explain)))
        .service(read("/events", web::get().to(events::events)))
        .service(
            read("/rules", web::get().to(rules::get))
                .route(scoped(Scope::Control, web::put().to(rules::put)))
                .route(scoped(Scope::Control, web::delete().to(rules::delete))),
        )
        .service(emit("/emit", web::post().to(speak::emit)))
        .service(emit("/batch", web::post().to(speak::batch)))
        .service(emit("/peers/{id}/messages", web::post().to(speak::message_peer)))
        .service(control("/join", web::post().to(act::join)))
        .service(control("/leave", web::post().to(act::leave)))
        .service(control("/disconnect", web::post().to(act::disconnect)))
        .service(control("/nodes/{node}/drain", web::post().to(operations::drain)))
        .service(control("/revoke", web::post().to(act::revoke)))
        .service(control("/log", web::put().to(act::log)))
        .service(control("/rebalance", web::post().to(operations::rebalance)))
        .service(read("/operations", web::get().to(operations::operations)))
        .service(
            read("/operations/{id}", web::get().to(operations::operation))
                .route(scoped(Scope::Control, web::delete().to(operations::stop_operation))),
        )
        .default_service(web::to(async || -> Result<&str, Refused> {
            Err(Refused::not_found("there is nothing here (see /admin/v1/openapi.json)"))
        }))
        .wrap(from_fn(access::authenticate))
        .wrap(from_fn(access::measure));
    routes.service(scope);
}

fn resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(async |request: HttpRequest| -> Result<&str, Refused> {
        let allow = openapi::methods(request.match_pattern().as_deref().unwrap_or_default());
        Err(Refused::method_not_allowed(allow))
    }))
}

fn only_get(path: &str, route: Route) -> Resource {
    resource(path).route(route)
}

/// A route for those who have this scope.
fn scoped(scope: Scope, route: Route) -> Route {
    route.wrap(from_fn(move |request, next| access::check_scope(scope, request, next)))
}
