//! Strings with placeholders, and the values around them.

use std::sync::Arc;

use toml::de::DeValue;

use super::{
    fields::{Node, entries},
    kind,
};
use crate::{
    action::On,
    problem::{Source, nearest},
    template::{Element, Origin, Piece, Placeholder, Template},
    value::{Key, json_string},
};

/// Deepest nesting of a value.
const MAX_DEPTH: usize = 16;
/// Most steps of a path, and most alternatives of a placeholder.
const MAX_PARTS: usize = 8;

/// What placeholders may name besides arguments.
const NAMES: [&str; 16] = [
    "args",
    "event",
    "socket",
    "namespace",
    "auth",
    "subject",
    "claims",
    "members",
    "others",
    "count",
    "crowd",
    "reason",
    "peer",
    "member",
    "joined",
    "answer",
];
/// Names that arguments cannot have: what placeholders name, and what conditions test.
pub(super) const RESERVED: [&str; 16] = [
    "args",
    "event",
    "socket",
    "namespace",
    "auth",
    "subject",
    "claims",
    "members",
    "others",
    "count",
    "reason",
    "peer",
    "member",
    "joined",
    "announced",
    "grant",
];

/// What may be named where a value stands.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) on: On,
    /// The arguments, and the name of those that follow.
    pub(super) args: Vec<String>,
    pub(super) rest: Option<String>,
    /// A room was named before.
    pub(super) has_room: bool,
    /// A server of the application's own was asked before.
    pub(super) has_called: bool,
    /// The place is an event about the member that joins.
    pub(super) in_join: bool,
    /// The place is an event for all rooms.
    pub(super) in_rooms: bool,
}

/// A value of the file as a template.
pub(super) fn template(source: &Source<'_>, node: &Node<'_>, names: &Names) -> Option<Template> {
    of_value(source, node, names, 0)
}

fn of_value(source: &Source<'_>, node: &Node<'_>, names: &Names, depth: usize) -> Option<Template> {
    let at = node.span().start;
    if depth > MAX_DEPTH {
        return source.problem(at, "the value is nested too deep", "nest it 16 deep at most");
    }
    match node.get_ref() {
        DeValue::String(text) => string(source, at, text, names),
        DeValue::Array(array) => {
            let elements = array.iter().map(|node| element(source, node, names, depth + 1));
            // Every element is looked at, so that all mistakes show at once.
            let elements: Vec<_> = elements.collect();
            simplified(Template::Array(elements.into_iter().collect::<Option<_>>()?))
        }
        DeValue::Table(table) => {
            let entries = entries(table).into_iter().map(|(key, _, node)| {
                Some((Arc::from(json_string(key)), of_value(source, node, names, depth + 1)?))
            });
            let entries: Vec<_> = entries.collect();
            simplified(Template::Object(entries.into_iter().collect::<Option<_>>()?))
        }
        _ => constant(source, node).map(|json| Template::Constant(json.into())),
    }
}

/// Numbers and truth values, as JSON.
pub(super) fn constant(source: &Source<'_>, node: &Node<'_>) -> Option<String> {
    let json = match node.get_ref() {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|value| value.to_string())
        }
        DeValue::Float(float) => {
            let value = float.as_str().parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            value.map(|value| value.to_string())
        }
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    };
    json.or_else(|| {
        let problem = format!("{} has no form in JSON", kind(node.get_ref()));
        source.problem(node.span().start, problem, "write it as a string")
    })
}

/// A value without placeholders is a constant.
fn simplified(template: Template) -> Option<Template> {
    let mut is_constant = true;
    template.each(&mut |_| is_constant = false);
    if let Template::Array(elements) = &template {
        is_constant &= elements.iter().all(|element| matches!(element, Element::Item(_)));
    }
    if !is_constant {
        return Some(template);
    }
    let json = match &template {
        Template::Array(elements) => {
            let parts: Vec<_> = elements
                .iter()
                .map(|element| match element {
                    Element::Item(Template::Constant(json)) => &**json,
                    _ => "null",
                })
                .collect();
            format!("[{}]", parts.join(","))
        }
        Template::Object(entries) => {
            let parts: Vec<_> = entries
                .iter()
                .map(|(key, value)| match value {
                    Template::Constant(json) => format!("{key}:{json}"),
                    _ => format!("{key}:null"),
                })
                .collect();
            format!("{{{}}}", parts.join(","))
        }
        _ => return Some(template),
    };
    Some(Template::Constant(json.into()))
}

/// An element of an array, which may be spread or left out.
pub(super) fn element(source: &Source<'_>, node: &Node<'_>, names: &Names, depth: usize) -> Option<Element> {
    if let DeValue::String(text) = node.get_ref()
        && let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'))
        && !inner.contains(['{', '}'])
    {
        let at = source.within(node.span().start, text, 1);
        if let Some(spread) = inner.strip_prefix("...") {
            return placeholder(source, at + 3, spread, names).map(Element::Spread);
        }
        if let Some(optional) = inner.strip_suffix('?') {
            return placeholder(source, at, optional, names).map(Element::Optional);
        }
    }
    of_value(source, node, names, depth).map(Element::Item)
}

/// A string: a text, a placeholder, or a text with placeholders.
pub(super) fn string(source: &Source<'_>, at: usize, text: &str, names: &Names) -> Option<Template> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut constant = String::new();
    let mut offset = 0;
    while let Some(rest) = text.get(offset..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("{{") || rest.starts_with("}}") {
            constant.push_str(&rest[..1]);
            offset += 2;
        } else if rest.starts_with('}') {
            let at = source.within(at, text, offset);
            return source.problem(at, "a } closes nothing", "write }} for a brace in a text");
        } else if let Some(inner) = rest.strip_prefix('{') {
            let place = source.within(at, text, offset);
            let Some(end) = inner.find('}') else {
                return source.problem(
                    place,
                    "a { is not closed",
                    "close it, or write {{ for a brace in a text",
                );
            };
            let inner = &inner[..end];
            if inner.starts_with("...") {
                let remedy = "spread it as an element of its own, as in [\"event\", \"{...rest}\"]";
                return source.problem(place, "only an element of an array can be spread", remedy);
            }
            if inner.ends_with('?') {
                let remedy = "give an alternative, as in {name|'nobody'}";
                return source.problem(place, "only an element of an array can be left out", remedy);
            }
            if !constant.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut constant).into()));
            }
            pieces.push(Piece::Value(placeholder(source, place + 1, inner, names)?));
            offset += inner.len() + 2;
        } else {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            constant.push_str(&rest[..end]);
            offset += end;
        }
    }
    if pieces.is_empty() {
        return Some(Template::Constant(json_string(&constant).into()));
    }
    if !constant.is_empty() {
        pieces.push(Piece::Text(constant.into()));
    }
    match <[Piece; 1]>::try_from(pieces) {
        Ok([Piece::Value(placeholder)]) => Some(Template::Value(placeholder)),
        Ok([piece]) => Some(Template::Text(vec![piece])),
        Err(pieces) => Some(Template::Text(pieces)),
    }
}

/// What stands between the braces.
pub(super) fn placeholder(source: &Source<'_>, at: usize, text: &str, names: &Names) -> Option<Placeholder> {
    let (text, as_text) = match text.strip_suffix(":text") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let alternatives: Vec<&str> = text.split('|').collect();
    if alternatives.len() > MAX_PARTS {
        return source.problem(at, "the placeholder has more than 8 alternatives", "give fewer");
    }
    let mut offset = 0;
    let mut origins = Vec::new();
    for alternative in alternatives {
        origins.push(origin(source, at + offset, alternative.trim(), names)?);
        offset += alternative.len() + 1;
    }
    Some(Placeholder { alternatives: origins, as_text })
}

fn origin(source: &Source<'_>, at: usize, text: &str, names: &Names) -> Option<Origin> {
    let literal = |json: String| Some(Origin::Constant(json.into()));
    if matches!(text, "null" | "true" | "false") {
        return literal(text.to_owned());
    }
    if let Some(content) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return literal(json_string(content));
    }
    if text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && let Ok(number) = serde_json::from_str::<serde_json::Number>(text)
    {
        return literal(number.to_string());
    }
    let is_plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let parts: Vec<&str> = text.split('.').collect();
    if text.is_empty() || !parts.iter().all(|part| is_plain(part)) {
        let problem = format!("{{{text}}} is no placeholder");
        return source.problem(at, problem, "name a value as in {room} or {user.name}; write {{ for a brace");
    }
    if parts.len() > MAX_PARTS {
        return source.problem(
            at,
            format!("{{{text}}} has more than 8 parts"),
            "name a value that is less deep",
        );
    }
    let path = |from: usize| parts.iter().skip(from).map(|part| Key::field(part)).collect::<Vec<_>>();
    let [root, rest @ ..] = &parts[..] else { return None };
    if let Some(index) = names.args.iter().position(|arg| arg == root) {
        return Some(Origin::Arg(index, path(1)));
    }
    if names.rest.as_deref() == Some(root) {
        return Some(Origin::Args(names.args.len(), path(1)));
    }
    let only = |allowed: bool, origin: Origin, when: &str| {
        if allowed {
            return Some(origin);
        }
        source.problem(at, format!("{{{text}}} is known {when}"), "leave it out here")
    };
    let is_alone = rest.is_empty();
    let has_socket = !matches!(names.on, On::Claim | On::Release);
    let is_event = matches!(names.on, On::Event(_));
    match *root {
        "args" if is_event => Some(Origin::Args(0, path(1))),
        "event" if is_alone => only(is_event, Origin::Event, "on an event only"),
        "namespace" if is_alone => Some(Origin::Namespace),
        "auth" => {
            let when = "on a connection only: keep what you need with set";
            only(names.on == On::Connection, Origin::Auth(path(1)), when)
        }
        "subject" if is_alone => only(has_socket, Origin::Subject, "where there is a socket"),
        "claims" => match rest {
            ["iss" | "sub" | "jti" | "iat" | "exp" | "session"] => {
                only(has_socket, Origin::Claim(rest[0].to_owned()), "where there is a socket")
            }
            _ => {
                let remedy = "claims.iss, claims.sub, claims.session, claims.jti, claims.iat or claims.exp";
                source.problem(at, format!("{{{text}}} is no claim that is kept"), remedy)
            }
        },
        "socket" => match rest {
            ["id"] => only(has_socket, Origin::SocketId, "where there is a socket"),
            ["address"] => only(has_socket, Origin::Address, "where there is a socket"),
            ["data", name, ..] => {
                only(has_socket, Origin::Data((*name).to_owned(), path(3)), "where there is a socket")
            }
            _ => {
                let remedy = "socket.id, socket.address, or socket.data.NAME for what set keeps";
                source.problem(at, format!("{{{text}}} is nothing that a socket has"), remedy)
            }
        },
        "members" if is_alone => room_value(source, at, text, names, Origin::Members),
        "others" if is_alone => room_value(source, at, text, names, Origin::Others),
        "count" if is_alone => room_value(source, at, text, names, Origin::Count),
        "crowd" => match rest {
            ["count"] => room_value(source, at, text, names, Origin::CrowdCount),
            ["next"] => room_value(source, at, text, names, Origin::CrowdNext),
            _ => source.problem(
                at,
                format!("{{{text}}} is nothing that is said of a crowd"),
                "crowd.count or crowd.next",
            ),
        },
        "reason" if is_alone => {
            only(names.on == On::Disconnecting, Origin::Reason, "when a socket is going only")
        }
        "peer" => match rest {
            ["id"] => only(!has_socket, Origin::PeerId, "on a claim or release only"),
            ["key"] => only(!has_socket, Origin::PeerKey, "on a claim or release only"),
            _ => source.problem(at, format!("{{{text}}} is nothing that a peer has"), "peer.id or peer.key"),
        },
        "member" if is_alone => only(names.in_join, Origin::Member, "in joined, updated and farewell only"),
        "answer" => only(names.has_called, Origin::Answer(path(1)), "behind a call only"),
        "joined" => only(
            names.in_rooms,
            Origin::Joined(path(1)),
            "in an emit to rooms that names what was announced only",
        ),
        _ => unknown(source, at, text, root, names),
    }
}

fn unknown(source: &Source<'_>, at: usize, text: &str, root: &str, names: &Names) -> Option<Origin> {
    let own = names.args.iter().map(String::as_str).chain(names.rest.as_deref());
    let known = own.clone().chain(NAMES);
    let remedy = match nearest(root, known) {
        Some(name) => format!("did you mean {{{name}}}?"),
        None if own.clone().next().is_none() => "name it in args = [...] if it is an argument".to_owned(),
        None => format!("the arguments are {}", own.collect::<Vec<_>>().join(", ")),
    };
    source.problem(at, format!("{{{text}}} is not known"), remedy)
}

fn room_value(source: &Source<'_>, at: usize, text: &str, names: &Names, origin: Origin) -> Option<Origin> {
    if matches!(names.on, On::Disconnecting | On::Claim | On::Release) {
        let problem = format!("{{{text}}} must be asked for, and nobody is there to wait for it");
        return source.problem(at, problem, "leave it out here");
    }
    if names.has_room {
        return Some(origin);
    }
    let remedy = "join a room before, or require its membership";
    source.problem(at, format!("{{{text}}} belongs to a room, and none is named before"), remedy)
}
