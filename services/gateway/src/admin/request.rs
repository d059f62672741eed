//! Queries of requests, read strictly: a name that means nothing is a mistyped one.

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use signalbox_admin::Cursor;
use signalbox_node::admin::Listing;
use std::future::{Ready, ready};
use utoipa::IntoParams;

use super::problem::Refused;

/// Entries of a page, unless the request says otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most entries of a page.
pub(super) const MAX_LIMIT: usize = 1_000;

/// The query of a request: it has no other parameters than those of the type, and each once.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

/// No parameters.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Nothing {}

impl<T: DeserializeOwned + IntoParams> FromRequest for Query<T> {
    type Error = Refused;
    type Future = Ready<Result<Self, Refused>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Self))
    }
}

fn read<T: DeserializeOwned + IntoParams>(query: &str) -> Result<T, Refused> {
    let known: Vec<String> =
        T::into_params(|| None).into_iter().map(|parameter| parameter.name.to_string()).collect();
    let pairs = actix_web::web::Query::<Vec<(String, String)>>::from_query(query);
    let pairs = pairs.map_err(|error| Refused::malformed(error.to_string()))?.into_inner();
    for (at, (name, _)) in pairs.iter().enumerate() {
        if !known.contains(name) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let detail = format!("there is no parameter {name:?}: those of this route are: {known}");
            return Err(Refused::bad(name.clone(), detail));
        }
        if pairs[..at].iter().any(|(other, _)| other == name) {
            return Err(Refused::bad(name.clone(), format!("{name} is given twice")));
        }
    }
    let read = |query: &str| actix_web::web::Query::<T>::from_query(query);
    match read(query) {
        Ok(query) => Ok(query.into_inner()),
        // Whichever cannot be read by itself. All are optional.
        Err(error) => {
            let is_wrong = |part: &&str| read(part).is_err();
            let name = query.split('&').find(is_wrong).and_then(|part| part.split('=').next());
            match name {
                Some(name) => Err(Refused::bad(name.to_owned(), format!("{name}: {error}"))),
                None => Err(Refused::malformed(error.to_string())),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, IntoParams)]
    struct Paged {
        after: Option<String>,
        limit: Option<usize>,
    }

    fn refused<T: DeserializeOwned + IntoParams + std::fmt::Debug>(query: &str) -> Refused {
        read::<T>(query).expect_err(query)
    }

    #[test]
    fn parameters_are_those_of_the_route_each_once_and_of_their_types() {
        assert_eq!(read("limit=3").ok(), Some(Paged { after: None, limit: Some(3) }));
        assert_eq!(read("after=a%20b").ok(), Some(Paged { after: Some("a b".to_owned()), limit: None }));
        let named = |name: &str, detail: &str| Refused::bad(name.to_owned(), detail);
        assert_eq!(
            refused::<Paged>("limt=3"),
            named("limt", "there is no parameter \"limt\": those of this route are: after, limit")
        );
        assert_eq!(
            refused::<Nothing>("limit=3"),
            named("limit", "there is no parameter \"limit\": those of this route are: none")
        );
        assert_eq!(refused::<Paged>("limit=3&limit=4"), named("limit", "limit is given twice"));
        let wrong = refused::<Paged>("after=x&limit=x");
        assert!(wrong.to_string().starts_with("limit: "), "{wrong}");
        for nonsense in ["&", "=", "%", "limit", "limit=-1", "a=%ff", "=&=", "limit=3&"] {
            let _ = read::<Paged>(nonsense);
        }
    }
}
