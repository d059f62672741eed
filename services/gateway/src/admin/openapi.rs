//! The description of the API, from the code.

use std::sync::LazyLock;

use actix_web::{HttpResponse, http::header};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{act, caller, events, explain, look, operations, reference, rules, speak};

/// What can go wrong with every request.
const REFUSALS: [(&str, &str); 8] = [
    ("400", "A parameter, or the body, cannot be used"),
    ("401", "No token, or one that is not known"),
    ("403", "The token does not have the scope, or a web page asks"),
    ("404", "There is no such thing"),
    ("405", "The method is not for this path"),
    (
        "409",
        "The request with this Idempotency-Key is being answered, or an operation runs that does the same",
    ),
    ("413", "The body has more than a mebibyte"),
    ("503", "Too much is asked at once, or nodes have not answered that may have it"),
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Signalbox admin API",
        description = "Any node answers for the whole cluster, within two seconds. Nodes that have not answered by then are named in `partial`. \
                       Names are in camel case, times are milliseconds since 1970, sizes are bytes."
    ),
    tags(
        (name = "look", description = "What there is: the cluster, its nodes, and their clients"),
        (name = "speak", description = "What is said to clients"),
        (name = "act", description = "What is done with clients and nodes"),
        (name = "listen", description = "What happens")
    ),
    paths(
        caller::caller,
        look::cluster,
        look::nodes,
        look::node,
        look::namespaces,
        look::rooms,
        look::members,
        look::sockets,
        look::socket,
        look::peers,
        look::peer,
        look::rates,
        explain::explain,
        speak::emit,
        speak::batch,
        speak::message_peer,
        act::join,
        act::leave,
        act::disconnect,
        act::revoke,
        act::log,
        events::events,
        rules::get,
        rules::put,
        rules::delete,
        operations::drain,
        operations::rebalance,
        operations::operations,
        operations::operation,
        operations::stop_operation,
    ),
    components(schemas(signalbox_admin::Problem, signalbox_admin::events::ToldEvent)),
    modifiers(&Token, &Refusals)
)]
struct Api;

/// How a token is shown.
struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let description = "A token whose hash is configured (--admin-token-hash), or a JSON Web Token with the grant `admin`. Its scopes are read, emit and control.";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        if let Some(components) = &mut api.components {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
    }
}

/// The same refusals for every operation.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        for item in api.paths.paths.values_mut() {
            for operation in verbs(item) {
                for (status, description) in REFUSALS {
                    let problem =
                        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
                    let response = ResponseBuilder::new()
                        .description(description)
                        .content("application/problem+json", problem)
                        .build();
                    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| response.into());
                }
            }
        }
    }
}

fn verbs(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten()
}

/// The methods of a path, as the header `Allow` has them. A path that is not described is one that is read.
pub(super) fn methods(pattern: &str) -> String {
    let api = Api::openapi();
    let Some(item) = api.paths.paths.get(pattern) else { return "GET".to_owned() };
    let all = [("GET", &item.get), ("POST", &item.post), ("PUT", &item.put), ("DELETE", &item.delete)];
    let found: Vec<&str> = all.iter().filter(|(_, there)| there.is_some()).map(|(name, _)| *name).collect();
    found.join(", ")
}

/// The description, as JSON.
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| Api::openapi().to_pretty_json().unwrap_or_default());
    &DOCUMENT
}

pub(super) async fn json() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document())
}

pub(super) async fn markdown() -> HttpResponse {
    static PAGE: LazyLock<String> = LazyLock::new(|| reference::markdown(document()));
    HttpResponse::Ok().content_type("text/markdown; charset=utf-8").body(PAGE.as_str())
}

/// The page needs nothing from anywhere, and may load nothing.
pub(super) async fn page() -> HttpResponse {
    static PAGE: LazyLock<String> = LazyLock::new(|| reference::html(document()));
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
        ))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(PAGE.as_str())
}
