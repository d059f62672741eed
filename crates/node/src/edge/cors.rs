//! CORS for both protocols, as the `cors` package that both references use answers it.
//!
//! Hand-written, because well-kept middlewares answer preflights differently (200 instead of 204, other headers), and clients'
//! test suites compare.

use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
};
use signalbox_auth::Origins;

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// Which pages of other origins may read HTTP replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// All pages, without credentials.
    Any,
    /// Pages of these origins, with credentials; without, if they are any.
    Only(Origins),
}

impl Cors {
    /// The origin to name in the reply.
    fn allowed<'a>(&self, origin: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
        let origin = origin?;
        match self {
            Self::Any => Some(origin),
            Self::Only(origins) => origins.contains(origin.as_bytes()).then_some(origin),
        }
    }

    fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.allowed(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if matches!(self, Self::Only(origins) if !origins.is_any()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }

    /// The reply to a preflight that asks for the headers `requested`.
    fn preflight(&self, origin: Option<&HeaderValue>, requested: Option<&HeaderValue>) -> HttpResponse {
        let mut response = HttpResponse::NoContent().finish();
        let headers = response.headers_mut();
        self.apply(origin, headers);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Headers"));
        if let Some(requested) = requested {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
        }
        response
    }
}

/// The middleware. Replies to requests that fail have the headers too.
///
/// # Errors
/// Those of the service it wraps.
pub async fn middleware<B: MessageBody>(
    cors: Cors,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if request.method() == Method::OPTIONS {
        let requested = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let response = cors.preflight(origin.as_ref(), requested.as_ref());
        return Ok(request.into_response(response).map_into_right_body());
    }
    let mut response = next.call(request).await?.map_into_left_body();
    cors.apply(origin.as_ref(), response.headers_mut());
    Ok(response)
}
