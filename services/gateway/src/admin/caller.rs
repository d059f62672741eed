//! Who asks: for pages and programs that offer only what they may do.

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use signalbox_admin::Caller as CallerRow;

use super::{
    access::Caller,
    problem::Refused,
    request::{Nothing, Query, json},
};

/// Who sends this request, and what they may.
#[utoipa::path(get, path = "/admin/v1/caller", tag = "look", security(("token" = ["read"])),
    responses((status = 200, description = "The holder of the token that was shown", body = CallerRow)))]
pub(super) async fn caller(request: HttpRequest, _: Query<Nothing>) -> Result<HttpResponse, Refused> {
    let known = request.extensions().get::<Caller>().cloned();
    let caller = known.ok_or_else(|| Refused::unauthorized("token-missing", "a token is required"))?;
    Ok(json(&CallerRow { name: caller.name(), scopes: caller.scopes() }))
}
