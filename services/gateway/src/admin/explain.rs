//! What a token allows, and why: the verdict of the code that judges clients.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    web::{Bytes, Data},
};
use signalbox_admin::{
    Principal,
    explain::{ActionDecision, AskedAction, ExplainRequest, Explained},
};
use signalbox_auth::{Action, Explanation, Identity, grants::Limit};
use signalbox_node::Config;

use crate::token;

use super::{
    problem::Refused,
    request::{Nothing, Query, json},
    state::AdminState,
};

/// Most actions of one question.
const MAX_ACTIONS: usize = 100;
/// How long keys are waited for that are being fetched: an answer takes two seconds at most.
const KEYS_WAIT: Duration = Duration::from_millis(1_500);

/// Says whether a token is good, what its holder may do, and which grant, pattern or limit decides.
///
/// The node judges it as it judges its clients, with what it knows of revocations. It keeps nothing of the token, and no log has it.
#[utoipa::path(post, path = "/admin/v1/explain", tag = "look", security(("token" = ["read"])), request_body = ExplainRequest,
    responses((status = 200, description = "What the node says of it", body = Explained)))]
pub(super) async fn explain(
    state: Data<AdminState>,
    _: Query<Nothing>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Refused> {
    let body = body.map_err(|_| Refused::too_large())?;
    let ExplainRequest { token, actions } = read(&body)?;
    if actions.len() > MAX_ACTIONS {
        return Err(Refused::bad("actions", format!("actions has more than {MAX_ACTIONS} entries")));
    }
    let config = state.node.config();
    let asked: Vec<Asked<'_>> =
        actions.iter().map(|action| Asked::of(&state, config, action)).collect::<Result<_, _>>()?;
    let Some(policy) = state.access.tokens_of_clients() else {
        return Ok(json(&everything(actions)));
    };
    let token = token.as_ref().map(|token| token.0.trim());
    let judged = policy.judge(token, KEYS_WAIT).await;
    let decisions = actions.iter().zip(&asked).map(|(action, asked)| {
        let explanation = match &judged {
            Ok(identity) => Explanation::of(identity, &asked.action()),
            Err(refusal) => Explanation::of_refusal(refusal),
        };
        decision(action.clone(), explanation)
    });
    let decisions = decisions.collect();
    Ok(json(&match &judged {
        Ok(identity) => Explained {
            accepted: true,
            code: None,
            reason: match identity {
                Identity::Known(_) => "the token is good".to_owned(),
                Identity::Anonymous(_) => {
                    "there is no token, and none is required (--auth optional)".to_owned()
                }
            },
            principal: identity.principal().map(|principal| row(principal)),
            decisions,
        },
        Err(refusal) => Explained {
            accepted: false,
            code: Some(refusal.code().to_owned()),
            reason: refusal.to_string(),
            principal: None,
            decisions,
        },
    }))
}

/// Reads the question. What is wrong with it is said without repeating anything of it: it may be the token.
fn read(body: &[u8]) -> Result<ExplainRequest, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Refused::malformed(format!(
            "the body is not {{\"token\": ..., \"actions\": [{{\"type\": \"join\", \"room\": ...}}, ...]}} (line {line}, column {column}; see /admin/reference)"
        ))
    })
}

/// An action as grants are asked, with what the node adds to it.
enum Asked<'a> {
    Plain(Action<'a>),
    Claim { id: &'a str, is_generated: bool },
    Amount { limit: Limit, amount: u64, default: Option<u64> },
}

impl<'a> Asked<'a> {
    fn of(state: &AdminState, config: &Config, action: &'a AskedAction) -> Result<Self, Refused> {
        Ok(match action {
            AskedAction::Claim { id, key } => {
                let key = key.as_ref().or(config.peer.keys.first()).map(String::as_str).unwrap_or_default();
                let policy = state.access.tokens_of_clients();
                Self::Claim { id, is_generated: policy.is_some_and(|policy| policy.is_generated_id(key, id)) }
            }
            AskedAction::Limit { limit, amount } => {
                let known = Limit::ALL.into_iter().find(|known| known.name() == limit);
                let limit = known.ok_or_else(|| {
                    let names: Vec<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
                    Refused::bad("actions", format!("a limit is one of {}", names.join(", ")))
                })?;
                // As its description has it.
                if i64::try_from(*amount).is_err() {
                    return Err(Refused::bad("actions", "an amount is less than 9223372036854775808"));
                }
                Self::Amount { limit, amount: *amount, default: config.default_of(limit) }
            }
            // The others are asked as they are.
            plain => Self::Plain(token::action(plain).unwrap_or(Action::Discover)),
        })
    }

    fn action(&self) -> Action<'a> {
        match *self {
            Self::Plain(action) => action,
            Self::Claim { id, is_generated } => Action::Claim { id, is_generated },
            Self::Amount { limit, amount, default } => Action::Amount { limit, amount, default },
        }
    }
}

fn decision(action: AskedAction, explanation: Explanation) -> ActionDecision {
    ActionDecision {
        action,
        allowed: explanation.allowed,
        code: explanation.code.map(str::to_owned),
        reason: explanation.reason,
        grant: explanation.grant.map(str::to_owned),
        pattern: explanation.pattern,
        most: explanation.most,
    }
}

/// Where nobody is asked for a token.
fn everything(actions: Vec<AskedAction>) -> Explained {
    let reason = "nobody is asked for a token, and everything is allowed (--auth off)";
    let decide = |action| ActionDecision {
        action,
        allowed: true,
        code: None,
        reason: reason.to_owned(),
        grant: None,
        pattern: None,
        most: None,
    };
    Explained {
        accepted: true,
        code: None,
        reason: reason.to_owned(),
        principal: None,
        decisions: actions.into_iter().map(decide).collect(),
    }
}

fn row(principal: &signalbox_auth::Principal) -> Principal {
    signalbox_node::admin::principal_row(principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_question_repeats_nothing_of_it() {
        for body in [
            r#""eyJsecret""#,
            r#"{"eyJsecret":1}"#,
            r#"{"token":"eyJsecret""#,
            r#"{"actions":["eyJsecret"]}"#,
        ] {
            let refused = read(body.as_bytes()).expect_err(body).to_string();
            assert!(!refused.contains("eyJ") && refused.contains("line 1, column"), "{refused}");
        }
    }
}
