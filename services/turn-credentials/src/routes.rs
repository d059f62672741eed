//! The public routes.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::header,
    web::{self, Bytes, Data, ServiceConfig},
};
use serde::Serialize;
use signalbox_turn::{Answer, BadParameter, IssueRequest, Policy};

use crate::{
    callers::{self, Caller, Shown},
    issue::Issued,
    problem::Problem,
    server::Service,
    subjects,
};

/// Largest body of a request in bytes.
const MAX_BODY: usize = 16 * 1024;
/// Largest query of a request in bytes: a token has 8 KiB at most.
const MAX_QUERY: usize = 16 * 1024;

/// The description of what is served.
const OPENAPI: &str = include_str!("openapi.json");

/// What is served.
pub fn routes(routes: &mut ServiceConfig) {
    let resource = |path: &str| {
        web::resource(path).default_service(web::to(async || -> Result<HttpResponse, Problem> {
            Err(Problem::method_not_allowed())
        }))
    };
    routes
        .app_data(web::PayloadConfig::new(MAX_BODY))
        .service(resource("/").route(web::get().to(rest)).route(web::post().to(rest)))
        .service(
            resource("/v1/ice-servers").route(web::get().to(ice_servers)).route(web::post().to(ice_servers)),
        )
        .service(resource("/v1/openapi.json").route(web::get().to(openapi)))
        .service(
            resource("/v1/subjects/{subject}/revoke")
                .route(web::post().to(subjects::revoke))
                .route(web::delete().to(subjects::restore)),
        )
        .service(resource("/v1/allocations").route(web::get().to(subjects::allocations)))
        .service(resource("/v1/usage").route(web::get().to(subjects::usage)))
        .default_service(web::to(async || -> Result<HttpResponse, Problem> { Err(Problem::not_found()) }));
}

/// `/?service=turn`, as the draft has it.
async fn rest(service: Data<Service>, request: HttpRequest, body: Bytes) -> HttpResponse {
    answer(
        &service,
        &request,
        &body,
        |asked| match asked.service.as_deref() {
            Some("turn") => Ok(()),
            Some(_) => Err(BadParameter::new("service", "is unknown (the only service is turn)").into()),
            None => Err(BadParameter::new("service", "is missing (it must be turn)").into()),
        },
        |answer, _| json(&answer.rest()),
    )
    .await
}

/// As `RTCPeerConnection` takes it.
async fn ice_servers(service: Data<Service>, request: HttpRequest, body: Bytes) -> HttpResponse {
    answer(
        &service,
        &request,
        &body,
        |_| Ok(()),
        |answer, asked| json(&answer.ice_servers(asked.policy == Policy::Relay)),
    )
    .await
}

async fn answer(
    service: &Service,
    request: &HttpRequest,
    body: &[u8],
    check: impl FnOnce(&IssueRequest) -> Result<(), Problem>,
    write: impl FnOnce(&Answer<'_>, &IssueRequest) -> HttpResponse,
) -> HttpResponse {
    let outcome = issue(service, request, body, check).await;
    match outcome {
        Ok((caller, asked, issued)) => {
            service.metrics.issued.with_label_values(&[caller.kind()]).inc();
            tracing::debug!(
                user = issued.user.as_str(),
                caller = caller.kind(),
                ttl = issued.ttl,
                "credential"
            );
            let uris = issued.uris.iter().map(|uri| &**uri).collect();
            let answer = Answer { credential: &issued.credential, ttl: issued.ttl, uris };
            write(&answer, &asked)
        }
        Err(problem) => {
            service.metrics.refused.with_label_values(&[problem.code]).inc();
            tracing::debug!(code = problem.code, "refused");
            problem.error_response()
        }
    }
}

async fn issue<'a>(
    service: &'a Service,
    request: &HttpRequest,
    body: &[u8],
    check: impl FnOnce(&IssueRequest) -> Result<(), Problem>,
) -> Result<(Caller<'a>, IssueRequest, Issued<'a>), Problem> {
    let pairs = parameters(request, body)?;
    let borrowed = pairs.iter().map(|(name, value)| (&**name, &**value));
    let asked = IssueRequest::read(borrowed, service.max_ttl)?;
    check(&asked)?;
    let token = pairs.iter().find(|(name, _)| name == "token").map(|(_, value)| &**value);
    let shown = Shown { key: asked.key.as_deref(), token };
    let caller = callers::identify(request, shown, &service.keys, &service.tokens)?;
    let address = callers::address(request, &service.listener.trusted_proxies);
    let issued = service.issuer.issue(&caller, &asked, address).await?;
    Ok((caller, asked, issued))
}

pub(crate) type Pairs<'a> = Vec<(std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>;

/// What is in the query, and in a form in the body.
pub(crate) fn parameters<'a>(request: &'a HttpRequest, body: &'a [u8]) -> Result<Pairs<'a>, Problem> {
    let query = request.query_string();
    if query.len() > MAX_QUERY {
        return Err(BadParameter::new("query", "is longer than 16384 bytes").into());
    }
    let mut pairs: Pairs<'a> = form_urlencoded::parse(query.as_bytes()).collect();
    if !body.is_empty() {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")) {
            return Err(Problem::unsupported_body());
        }
        pairs.extend(form_urlencoded::parse(body));
    }
    Ok(pairs)
}

/// An answer that must not be kept by a cache.
pub(crate) fn json(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

async fn openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(OPENAPI)
}
