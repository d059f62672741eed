//! The rules that are in force.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, http::header, web::Data};
use serde::Serialize;
use signalbox_node::{CannotPutRules, Node, PutRulesError, RulesSource};
use tokio::time::timeout_at;
use utoipa::ToSchema;

use super::{
    order::Order,
    problem::Refused,
    request::{Nothing, Query, json},
    state::AdminState,
};

/// The rules that are in force on the node that is asked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rules {
    /// Where they come from: `cluster` (put by this API, on all nodes), `file` (`--rules` of this node), or `built-in` (the vocabulary, which
    /// is in force where nothing else is).
    source: &'static str,
    /// The version of the last that were put, for `If-Match`; 0: there were none.
    version: u64,
    /// How many rules there are.
    count: usize,
    /// Their text; TOML.
    text: String,
}

/// Rules that were put.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RulesPut {
    /// Their version.
    version: u64,
}

/// The rules that are in force on this node, and where they come from.
#[utoipa::path(get, path = "/admin/v1/rules", tag = "look", security(("token" = ["read"])),
    responses((status = 200, description = "The rules", body = Rules)))]
pub(super) async fn get(state: Data<AdminState>, _: Query<Nothing>) -> HttpResponse {
    let rules = state.node.rules();
    let source = match rules.source {
        RulesSource::Cluster => "cluster",
        RulesSource::Own => "file",
        RulesSource::Builtin => "built-in",
        RulesSource::Application => "none",
    };
    let answer = Rules { source, version: rules.version, count: rules.count, text: rules.text.to_string() };
    json(&answer)
}

/// Puts rules in force on all nodes, in place of their files, within a second; nodes that start later take them. If they are wrong,
/// those in force stay, and `detail` has a line for each problem: line, column, what is wrong, and the remedy.
#[utoipa::path(put, path = "/admin/v1/rules", tag = "act", security(("token" = ["control"])),
    request_body(content = String, content_type = "application/toml", description = "A rules file (docs/rules.md)",
        example = "[[on]]\nevent = \"ping\"\ndo = [{ ack = [\"pong\"] }]\n"),
    params(("If-Match" = Option<String>, Header, description = "The version that has to be in force, in quotes"),
        ("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "They are in force here, and within a second everywhere", body = RulesPut),
        (status = 412, description = "Another version is in force", body = signalbox_admin::Problem, content_type = "application/problem+json")))]
pub(super) async fn put(order: Order, request: HttpRequest) -> Result<HttpResponse, Refused> {
    let text = order.text()?.to_owned();
    if text.trim().is_empty() {
        return Err(Refused::malformed(
            "the body has no rules (DELETE has each node go by its own file again)",
        ));
    }
    let (expected, node, until) = (expected(&request)?, order.state.node.clone(), order.until());
    let about = format!("{} bytes of rules", text.len());
    order.run(about, async move { done(&node, until, &text, expected).await }).await
}

/// Has each node go by its own file again, or by the built-in vocabulary.
#[utoipa::path(delete, path = "/admin/v1/rules", tag = "act", security(("token" = ["control"])),
    params(("If-Match" = Option<String>, Header, description = "The version that has to be in force, in quotes"),
        ("Idempotency-Key" = Option<String>, Header, description = "A request that is sent again with the same key is not done again")),
    responses((status = 200, description = "They are out of force here, and within a second everywhere", body = RulesPut),
        (status = 412, description = "Another version is in force", body = signalbox_admin::Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(order: Order, request: HttpRequest) -> Result<HttpResponse, Refused> {
    let (expected, node, until) = (expected(&request)?, order.state.node.clone(), order.until());
    order.run("rules of its own".to_owned(), async move { done(&node, until, "", expected).await }).await
}

async fn done(node: &Node, until: Instant, text: &str, expected: Option<u64>) -> Result<RulesPut, Refused> {
    let put = timeout_at(until.into(), node.put_rules(text, expected)).await;
    let late =
        "Redis has not answered in time: they may have been put (look at the rules, which say their version)";
    match put.map_err(|_| Refused::busy(late))? {
        Ok(version) => Ok(RulesPut { version }),
        Err(PutRulesError::Wrong(problems)) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Err(Refused::wrong_rules(lines.join("\n")))
        }
        Err(PutRulesError::NotTaken(CannotPutRules::Changed(version))) => Err(Refused::changed(version)),
        Err(PutRulesError::NotTaken(problem)) => Err(Refused::busy(problem.to_string())),
    }
}

/// The version that has to be in force.
fn expected(request: &HttpRequest) -> Result<Option<u64>, Refused> {
    let Some(value) = request.headers().get(header::IF_MATCH) else { return Ok(None) };
    let version =
        value.to_str().ok().map(|value| value.trim_matches('"')).and_then(|value| value.parse().ok());
    let wrong = || Refused::bad("If-Match", "it is not a version of rules in quotes, as in \"3\"");
    version.map(Some).ok_or_else(wrong)
}
