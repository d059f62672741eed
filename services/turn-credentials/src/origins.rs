//! Pages of other origins: which may ask, and which may read the answer.

use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web,
};
use signalbox_auth::Origins;

use crate::{problem::Problem, server::Service};

/// How long a browser may remember the answer to a preflight, in seconds: as long as most do at most.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The middleware. Answers to requests that fail have the headers too.
///
/// # Errors
/// Those of the service it wraps.
pub async fn middleware<B: MessageBody + 'static>(
    service: web::Data<Service>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_in = |list: &Option<Origins>| {
        let contains =
            |list: &Origins| origin.as_ref().is_some_and(|origin| list.contains(origin.as_bytes()));
        list.as_ref().is_none_or(contains)
    };
    let readable = is_in(&service.cors);
    let with_credentials = service.cors.as_ref().is_some_and(|cors| !cors.is_any());
    let mut response = if request.method() == Method::OPTIONS {
        let mut response = HttpResponse::NoContent().finish();
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,POST"));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
        if let Some(requested) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        request.into_response(response)
    } else if origin.is_some() && !is_in(&service.origins) {
        let refusal = Problem::forbidden("origin-forbidden", "pages of this origin may not ask");
        service.metrics.refused.with_label_values(&[refusal.code]).inc();
        request.into_response(refusal.error_response())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    allow(response.headers_mut(), origin.as_ref().filter(|_| readable), with_credentials);
    Ok(response)
}

fn allow(headers: &mut HeaderMap, origin: Option<&HeaderValue>, with_credentials: bool) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if with_credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
