//! What a server of the application's own is asked, and what it may answer.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{
    action::{Action, EventTemplate, Full, Guarded, JoinAction, Target},
    output::Refusal,
    template::{Element, Known, Template},
    value::{binary_as_text, json_string},
};

/// Largest question in bytes.
pub(crate) const MAX_BODY: usize = 256 * 1024;
/// Largest answer in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// Most actions of an answer, its ack included.
pub(crate) const MAX_ANSWER_ACTIONS: usize = 16;
/// Most questions to the cluster that its actions may have.
pub(crate) const MAX_ANSWER_QUESTIONS: usize = 4;

/// The claims that are kept of a token.
const CLAIMS: [&str; 6] = ["iss", "sub", "session", "jti", "iat", "exp"];

/// An answer cannot be used. It says where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadAnswer(String);

impl std::fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadAnswer {}

impl BadAnswer {
    fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// What is posted: the event, and whose it is. `None` where there is no socket.
pub(crate) fn request_body(known: Known<'_>) -> Option<String> {
    let Known { facts, state, .. } = known;
    let event = &state.event;
    let mut body = format!("{{\"type\":\"event\",\"event\":{}", json_string(&event.name));
    let mut field = |name: &str, json: &str| body.extend([",\"", name, "\":", json]);
    let args: Vec<_> = event.args().iter().map(|arg| binary_as_text(arg, &event.attachments)).collect();
    field("args", &format!("[{}]", args.join(",")));
    field("namespace", &json_string(&facts.namespace()));
    let data = facts.all_data();
    let data: Vec<_> = data.iter().map(|(name, value)| format!("{}:{value}", json_string(name))).collect();
    let address = facts.address().map_or("null".to_owned(), |address| json_string(&address));
    let socket = format!(
        "{{\"id\":{},\"address\":{address},\"data\":{{{}}}}}",
        json_string(&facts.id()?),
        data.join(",")
    );
    field("socket", &socket);
    let claims = CLAIMS.iter().filter_map(|name| Some((*name, facts.claim(name)?)));
    let claims: Vec<_> = claims.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    field("subject", &facts.claim("sub").unwrap_or_else(|| "null".to_owned()));
    field("claims", &format!("{{{}}}", claims.join(",")));
    if let Some(auth) = &event.auth {
        field("auth", auth);
    }
    if let Some(room) = &state.room {
        field("room", &json_string(room));
    }
    field("ack", if event.wants_ack { "true" } else { "false" });
    body.push('}');
    Some(body)
}

/// What the application's own server wants done.
#[derive(Debug, Clone)]
pub struct CallAnswer {
    pub(crate) refusal: Option<Refusal>,
    /// For later values of the rule: JSON.
    pub(crate) data: Option<Box<str>>,
    pub(crate) actions: Arc<[Guarded]>,
}

impl PartialEq for CallAnswer {
    fn eq(&self, other: &Self) -> bool {
        self.refusal == other.refusal && self.data == other.data && Arc::ptr_eq(&self.actions, &other.actions)
    }
}

impl Eq for CallAnswer {}

/// Also of null.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerJson<'a> {
    #[serde(default, borrow, deserialize_with = "raw")]
    ack: Option<&'a RawValue>,
    #[serde(default)]
    refuse: Option<RefuseJson>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "do")]
    actions: Vec<ActionJson<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RefuseJson {
    Code(String),
    Whole { code: String, hint: Option<String> },
}

/// An action: one of the first eight fields, and those that belong to it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ActionJson<'a> {
    join: Option<String>,
    leave: Option<String>,
    leave_all: Option<bool>,
    #[serde(borrow)]
    emit: Option<Vec<&'a RawValue>>,
    #[serde(borrow, deserialize_with = "raw")]
    ack: Option<&'a RawValue>,
    #[serde(borrow)]
    set: Option<IndexMap<String, &'a RawValue>>,
    disconnect: Option<DisconnectJson>,
    peer: Option<String>,
    #[serde(borrow)]
    profile: Option<&'a RawValue>,
    #[serde(borrow)]
    joined: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    updated: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    farewell: Option<Vec<&'a RawValue>>,
    limit: Option<u32>,
    to: Option<ToJson>,
    volatile: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DisconnectJson {
    Namespace(bool),
    Connection(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToJson {
    Name(String),
    One(OneJson),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OneJson {
    Room(String),
    RoomButMe(String),
    Socket(String),
    Subject(String),
    Peer(String),
}

impl CallAnswer {
    /// Reads an answer; an empty one is one that wants nothing.
    ///
    /// # Errors
    /// It is no answer.
    pub fn parse(text: &str) -> Result<Self, BadAnswer> {
        if text.len() > MAX_ANSWER {
            return Err(BadAnswer::new(format!("it has more than {MAX_ANSWER} bytes")));
        }
        let text = if text.trim().is_empty() { "{}" } else { text };
        if !text.trim_start().starts_with('{') {
            return Err(BadAnswer::new("it is no object"));
        }
        let json: AnswerJson<'_> =
            serde_json::from_str(text).map_err(|error| BadAnswer::new(error.to_string()))?;
        let mut actions: Vec<Action> = Vec::new();
        actions.extend(json.ack.map(|value| Action::Ack(constant(value))));
        for action in json.actions {
            actions.push(action.compile()?);
        }
        let asks = |action: &&Action| match action {
            Action::Join(_) => true,
            Action::Emit(emit) => matches!(emit.to, Target::Socket(_)),
            _ => false,
        };
        if actions.len() > MAX_ANSWER_ACTIONS || actions.iter().filter(asks).count() > MAX_ANSWER_QUESTIONS {
            return Err(BadAnswer::new(format!(
                "it has more than {MAX_ANSWER_ACTIONS} actions, or {MAX_ANSWER_QUESTIONS} joins and emits to single sockets"
            )));
        }
        let refusal = json.refuse.map(|refuse| match refuse {
            RefuseJson::Code(code) => (code, None),
            RefuseJson::Whole { code, hint } => (code, hint),
        });
        let refusal = refusal.map(|(code, hint)| match is_code(&code) {
            true => {
                Ok(Refusal::new(&code, hint.as_deref().unwrap_or("the application has refused this event")))
            }
            false => Err(BadAnswer::new("refuse is a code of lower-case letters, digits and -")),
        });
        let actions = actions.into_iter().map(|action| Guarded::new(Vec::new(), action));
        Ok(Self {
            refusal: refusal.transpose()?,
            data: json.data.map(|data| data.get().into()),
            actions: actions.collect(),
        })
    }
}

/// Whether a text is a code of a refusal.
pub(crate) fn is_code(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn constant(value: &RawValue) -> Template {
    Template::Constant(value.get().into())
}

fn text(text: &str) -> Template {
    Template::Constant(json_string(text).into())
}

fn event(parts: &[&RawValue]) -> Result<EventTemplate, BadAnswer> {
    let Some((name, args)) = parts.split_first().filter(|(name, _)| name.get().starts_with('"')) else {
        return Err(BadAnswer::new("an event is an array, its name first"));
    };
    let args = args.iter().map(|value| Element::Item(constant(value))).collect();
    Ok(EventTemplate { name: constant(name), args, members: 0 })
}

impl ActionJson<'_> {
    fn compile(self) -> Result<Action, BadAnswer> {
        let Self { join, leave, leave_all, emit, ack, set, disconnect, peer, to, volatile, .. } = &self;
        let given = [
            join.is_some(),
            leave.is_some(),
            leave_all.is_some(),
            emit.is_some(),
            ack.is_some(),
            set.is_some(),
            disconnect.is_some(),
            peer.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(BadAnswer::new(
                "an action is one of join, leave, leave-all, emit, ack, set, disconnect, peer",
            ));
        }
        let of_join = self.profile.is_some()
            || self.joined.is_some()
            || self.updated.is_some()
            || self.farewell.is_some()
            || self.limit.is_some();
        if (of_join && join.is_none()) || ((to.is_some() || *volatile) && emit.is_none()) {
            return Err(BadAnswer::new("an action has what belongs to another one"));
        }
        if let Some(room) = join {
            let told = |parts: &Option<Vec<&RawValue>>| parts.as_deref().map(event).transpose();
            return Ok(Action::Join(Box::new(JoinAction {
                room: text(room),
                profile: self.profile.map(constant),
                joined: told(&self.joined)?,
                updated: told(&self.updated)?,
                farewell: told(&self.farewell)?,
                limit: self.limit.unwrap_or(0),
                full: Full::Refuse("room-full".into()),
                rejoins: false,
                wants_members: false,
            })));
        }
        if let Some(parts) = emit {
            let to = to.as_ref().ok_or_else(|| BadAnswer::new("emit does not say to whom"))?;
            let emit = crate::action::Emit { event: event(parts)?, to: target(to)?, volatile: *volatile };
            return Ok(Action::Emit(Box::new(emit)));
        }
        if let Some(fields) = set {
            let is_plain =
                |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if fields.is_empty() || !fields.keys().all(|name| !name.is_empty() && is_plain(name)) {
                return Err(BadAnswer::new("set has fields, named with letters, digits, _ and -"));
            }
            let fields = fields.iter().map(|(name, value)| (name.clone(), constant(value)));
            return Ok(Action::Set(fields.collect()));
        }
        match (leave, leave_all, ack, disconnect, peer) {
            (Some(room), ..) => Ok(Action::Leave(text(room))),
            (_, Some(true), ..) => Ok(Action::LeaveAll),
            (_, _, Some(value), ..) => Ok(Action::Ack(constant(value))),
            (_, _, _, Some(DisconnectJson::Namespace(true)), _) => Ok(Action::Disconnect { close: false }),
            (_, _, _, Some(DisconnectJson::Connection(what)), _) if what == "connection" => {
                Ok(Action::Disconnect { close: true })
            }
            (_, _, _, _, Some(id)) => Ok(Action::Peer(text(id))),
            _ => Err(BadAnswer::new("leave-all is true, and disconnect true or \"connection\"")),
        }
    }
}

fn target(to: &ToJson) -> Result<Target, BadAnswer> {
    Ok(match to {
        ToJson::Name(name) => {
            let but_me = name.ends_with("-but-me");
            match name.as_str() {
                "me" => Target::Me,
                "room" | "room-but-me" => Target::Room { room: None, but_me },
                "everyone" | "everyone-but-me" => Target::Everyone { but_me },
                _ => return Err(BadAnswer::new("nobody is meant by what stands in to")),
            }
        }
        ToJson::One(OneJson::Room(room)) => Target::Room { room: Some(text(room)), but_me: false },
        ToJson::One(OneJson::RoomButMe(room)) => Target::Room { room: Some(text(room)), but_me: true },
        ToJson::One(OneJson::Socket(id)) => Target::Socket(text(id)),
        ToJson::One(OneJson::Subject(subject)) => Target::Subject(text(subject)),
        ToJson::One(OneJson::Peer(id)) => Target::Peer(text(id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_strictly() {
        for (text, actions) in [
            ("", 0),
            ("{}", 0),
            (r#"{"ack":null}"#, 1),
            (
                r#"{"ack":{"ok":true},"data":{"a":1},"do":[{"join":"r","profile":{},"limit":2},{"leave-all":true}]}"#,
                3,
            ),
            (
                r#"{"do":[{"emit":["e",1.50,null],"to":{"room-but-me":"r"},"volatile":true},{"disconnect":"connection"}]}"#,
                2,
            ),
            (r#"{"do":[{"set":{"a":null}},{"peer":"p"},{"ack":null},{"leave":"r"},{"disconnect":true}]}"#, 5),
            (r#"{"refuse":"no-money"}"#, 0),
            (r#"{"refuse":{"code":"no-money","hint":"pay"}}"#, 0),
        ] {
            let answer = CallAnswer::parse(text).expect(text);
            assert_eq!(answer.actions.len(), actions, "{text}");
        }
        let many = format!("{{\"do\":[{}]}}", ["{\"leave\":\"r\"}"; 17].join(","));
        let joins = format!("{{\"do\":[{}]}}", ["{\"join\":\"r\"}"; 5].join(","));
        for text in [
            "no",
            "[]",
            "{\"acc\":1}",
            r#"{"do":[{}]}"#,
            r#"{"do":[{"emit":["e"]}]}"#,
            r#"{"do":[{"emit":[],"to":"me"}]}"#,
            r#"{"do":[{"emit":[1],"to":"me"}]}"#,
            r#"{"do":[{"emit":["e"],"to":"the wall"}]}"#,
            r#"{"do":[{"emit":["e"],"to":{"url":"x"}}]}"#,
            r#"{"do":[{"join":"r","leave":"r"}]}"#,
            r#"{"do":[{"leave":"r","limit":1}]}"#,
            r#"{"do":[{"join":"r","volatile":true}]}"#,
            r#"{"do":[{"leave-all":false}]}"#,
            r#"{"do":[{"disconnect":"all"}]}"#,
            r#"{"do":[{"set":{"a b":1}}]}"#,
            r#"{"do":[{"call":"other"}]}"#,
            r#"{"refuse":"Too Long"}"#,
            &many,
            &joins,
            &format!("{{\"ack\":\"{}\"}}", "x".repeat(MAX_ANSWER)),
        ] {
            assert!(CallAnswer::parse(text).is_err(), "{text}");
        }
    }
}
