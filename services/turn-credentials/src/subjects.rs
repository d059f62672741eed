//! What servers and administrators ask of subjects: ending their credentials, and what they use.

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data, Path},
};
use serde_json::json;
use signalbox_turn::{BadParameter, UserPart, request};

use crate::{
    api_keys::Scope,
    callers::{self, Shown},
    issue::now,
    problem::Problem,
    routes::{json, parameters},
    server::Service,
};

/// The parameters that are read here.
struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Parameters<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, BadParameter> {
        self.get(name).map(|value| request::subject(name, value)).transpose()
    }
}

/// Checks that the sender may, and gives back its parameters.
fn admitted<'a>(
    service: &Service,
    request: &'a HttpRequest,
    body: &'a [u8],
    scope: Scope,
) -> Result<Parameters<'a>, Problem> {
    let parameters = Parameters(parameters(request, body)?);
    let shown = Shown { key: parameters.get("key"), token: parameters.get("token") };
    let caller = callers::identify(request, shown, &service.keys, &service.tokens)?;
    caller.check_admin(scope)?;
    Ok(parameters)
}

/// The user part of the subject in the path. Whether it has ever been seen makes no difference to any answer.
fn user(service: &Service, subject: &str, parameters: &Parameters<'_>) -> Result<UserPart, Problem> {
    let subject = request::subject("subject", subject)?;
    let issuer = parameters.text("issuer")?;
    Ok(service.issuer.subjects().user_part(issuer.as_deref(), &subject))
}

/// `POST /v1/subjects/{subject}/revoke`
pub(crate) async fn revoke(
    service: Data<Service>,
    request: HttpRequest,
    subject: Path<String>,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let parameters = admitted(&service, &request, &body, Scope::Revoke)?;
    let user = user(&service, &subject, &parameters)?;
    service.shared.revoke(&user).await?;
    tracing::info!(user = user.as_str(), "no more credentials");
    Ok(json(&json!({
        "user": user.as_str(),
        "revoked": true,
        "credentialsEndBy": now() + service.max_ttl.as_secs(),
        "note": "No new credentials are issued. TURN servers cannot take back one that was: it is good until its own end, at the latest \
                 at credentialsEndBy, and an allocation that was made with it for as long as it is refreshed.",
    })))
}

/// `DELETE /v1/subjects/{subject}/revoke`
pub(crate) async fn restore(
    service: Data<Service>,
    request: HttpRequest,
    subject: Path<String>,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
    let parameters = admitted(&service, &request, &body, Scope::Revoke)?;
    let user = user(&service, &subject, &parameters)?;
    service.shared.restore(&user).await?;
    tracing::info!(user = user.as_str(), "credentials again");
    Ok(json(&json!({"user": user.as_str(), "revoked": false})))
}

/// `GET /v1/allocations`
pub(crate) async fn allocations(
    service: Data<Service>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    admitted(&service, &request, &[], Scope::Read)?;
    let (allocations, count) = service.usage.open().await?;
    Ok(json(&json!({"count": count, "allocations": allocations})))
}

/// `GET /v1/usage`
pub(crate) async fn usage(service: Data<Service>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let parameters = admitted(&service, &request, &[], Scope::Read)?;
    let subject = parameters.get("subject").ok_or_else(|| BadParameter::new("subject", "is missing"))?;
    let user = user(&service, subject, &parameters)?;
    let since = match parameters.get("since") {
        None => None,
        Some(text) => match text.parse() {
            Ok(since) => Some(since),
            Err(_) => return Err(BadParameter::new("since", "is not a number of seconds since 1970").into()),
        },
    };
    let usage = service.usage.of(&user, since).await?;
    Ok(json(&json!({
        "user": user.as_str(),
        "since": usage.since,
        "bytes": usage.bytes,
        "allocations": usage.allocations,
    })))
}
