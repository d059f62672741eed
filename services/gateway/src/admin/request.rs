//! Queries and bodies of requests, read strictly: a name that means nothing is a mistyped one.

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header};
use serde::{Serialize, de::DeserializeOwned};
use signalbox_admin::Cursor;
use signalbox_node::admin::Listing;
use std::future::{Ready, ready};

use super::problem::Refused;

/// Entries of a page, unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most entries of a page.
pub(super) const MAX_LIMIT: usize = 1_000;

/// The query of a request.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Refused;
    type Future = Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = actix_web::web::Query::<T>::from_query(request.query_string());
        ready(
            query
                .map(|query| Self(query.into_inner()))
                .map_err(|error| Refused::malformed(error.to_string())),
        )
    }
}

/// The page that a query asks for.
pub(super) fn listing(after: Option<&str>, limit: Option<usize>) -> Result<Listing, Refused> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Refused::bad("limit", format!("limit is not between 1 and {MAX_LIMIT}")));
    }
    let wrong = || Refused::bad("after", "after is not what a list gave as next");
    let after = after.map(|text| Cursor::decode(text).ok_or_else(wrong)).transpose()?;
    Ok(Listing { after, limit })
}

/// An answer that must not be kept by a cache.
pub(super) fn json(body: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}
