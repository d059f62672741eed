//! What stands in `do`.

use std::sync::Arc;

use signalbox_socketio::args::is_reserved;
use toml::de::DeValue;

use super::{
    Found,
    condition::conditions,
    fields::{Fields, Node, entries, string, whole},
    kind,
    template::{Names, element, template},
};
use crate::{
    action::{Action, CallAction, Emit, EventTemplate, Full, Guarded, JoinAction, On, Target},
    call::is_code,
    hook::HookName,
    problem::{Source, did_you_mean},
    template::{Element, Origin, Template, each_of},
};

const ACTIONS: [&str; 12] = [
    "join",
    "leave",
    "leave-all",
    "emit",
    "ack",
    "users",
    "members-after",
    "set",
    "require",
    "disconnect",
    "peer",
    "call",
];
/// Most elements of `do`.
const MAX_LIST: usize = 32;

/// A list of actions. With `is_outer`, a join in it may name other actions for when the room is full.
pub(super) fn actions(
    source: &Source<'_>,
    node: &Node<'_>,
    names: &mut Names,
    found: &mut Found,
    is_outer: bool,
) -> Option<Vec<Guarded>> {
    let at = node.span().start;
    let DeValue::Array(array) = node.get_ref() else {
        let problem = format!("a list of actions is an array, not {}", kind(node.get_ref()));
        return source.problem(at, problem, "write [{ emit = [...], to = \"room\" }]");
    };
    if array.is_empty() || array.len() > MAX_LIST {
        let remedy = "write [{ emit = [...], to = \"room\" }]";
        return source.problem(at, "a list of actions has 1 to 32 of them", remedy);
    }
    let mut parsed = Vec::new();
    let mut is_whole = true;
    for node in array.iter() {
        match guarded(source, node, names, found, is_outer) {
            Some(action) => parsed.push(action),
            None => is_whole = false,
        }
    }
    is_whole.then_some(parsed)
}

fn guarded(
    source: &Source<'_>,
    node: &Node<'_>,
    names: &mut Names,
    found: &mut Found,
    is_outer: bool,
) -> Option<Guarded> {
    let mut fields = Fields::of(source, node, "an action")?;
    let at = node.span().start;
    let given: Vec<&str> = fields.names().filter(|name| ACTIONS.contains(name)).collect();
    let [name] = given[..] else {
        if given.len() > 1 {
            let problem = format!("this is {} actions at once: {}", given.len(), given.join(", "));
            return source.problem(at, problem, "write each in { } of its own");
        }
        let other = fields.names().find(|name| *name != "when").unwrap_or_default();
        return source.problem(at, format!("there is no action {other:?}"), did_you_mean(other, &ACTIONS));
    };
    let when = match fields.take("when") {
        Some(when) => conditions(source, when, names, "when")?,
        None => Vec::new(),
    };
    let (action_at, value) = fields.take_with_place(name)?;
    allowed(source, action_at, name, &names.on)?;
    let action = match name {
        "join" => join(source, value, &mut fields, names, found, is_outer),
        "leave" => {
            let room = template(source, value, names)?;
            names.has_room = true;
            Some(Action::Leave(room))
        }
        "leave-all" => truth(source, value, name).map(|()| Action::LeaveAll),
        "emit" => emit(source, value, &mut fields, names, found),
        "ack" => template(source, value, names).map(Action::Ack),
        "users" => template(source, value, names).map(Action::Users),
        "members-after" if !names.has_room => {
            let remedy = "join a room before, or require its membership";
            source.problem(action_at, "members-after belongs to a room, and none is named before", remedy)
        }
        "members-after" => template(source, value, names).map(Action::MembersAfter),
        "set" => set(source, value, names),
        "require" => require(source, value, &mut fields, names),
        "disconnect" => disconnect(source, value),
        "call" => call(source, value, &mut fields, names, found),
        _ => template(source, value, names).map(Action::Peer),
    };
    let known: &[&str] = match name {
        "join" => &["join", "profile", "joined", "updated", "farewell", "limit", "full", "again", "when"],
        "emit" => &["emit", "to", "announced", "volatile", "when"],
        "require" => &["require", "refusal", "hint", "when"],
        "call" => &["call", "refusal", "when"],
        _ => &["when"],
    };
    fields.finish(known);
    Some(Guarded::new(when, action?))
}

/// Whether an action can be done on this trigger.
fn allowed(source: &Source<'_>, at: usize, name: &str, on: &On) -> Option<()> {
    let (is_allowed, when) = match on {
        On::Event(_) => (true, ""),
        On::Connection => (!matches!(name, "ack" | "users"), "on a connection"),
        On::Disconnecting => (matches!(name, "emit" | "require"), "when a socket is going"),
        On::Claim => (matches!(name, "emit" | "require"), "on a claim"),
        On::Release => (matches!(name, "emit" | "require"), "on a release"),
    };
    if is_allowed {
        return Some(());
    }
    let remedy = match on {
        On::Connection => "leave it out: there is no event to answer",
        _ => "use emit and require only",
    };
    source.problem(at, format!("{name} cannot be done {when}"), remedy)
}

fn truth(source: &Source<'_>, node: &Node<'_>, name: &str) -> Option<()> {
    match node.get_ref() {
        DeValue::Boolean(true) => Some(()),
        _ => source.problem(node.span().start, format!("{name} is true"), format!("write {name} = true")),
    }
}

fn join(
    source: &Source<'_>,
    room: &Node<'_>,
    fields: &mut Fields<'_, '_>,
    names: &mut Names,
    found: &mut Found,
    is_outer: bool,
) -> Option<Action> {
    let room = template(source, room, names);
    let profile = match fields.take("profile") {
        Some(node) => Some(profile(source, node, names)?),
        None => None,
    };
    let in_join = Names { in_join: true, ..names.clone() };
    let mut event = |name: &str| match fields.take(name) {
        Some(node) => event_template(source, node, &in_join, name).map(Some),
        None => Some(None),
    };
    let (joined, updated, farewell) = (event("joined")?, event("updated")?, event("farewell")?);
    let limit_node = fields.take("limit");
    let limit = match limit_node {
        Some(node) => whole(source, node, "limit", 1..=1_000_000)?,
        None => 0,
    };
    let rejoins = match fields.string("again") {
        None => false,
        Some((_, "update")) => false,
        Some((_, "rejoin")) => true,
        Some((at, other)) => {
            let problem = format!("again = {other:?} means nothing");
            return source.problem(at, problem, "\"update\" replaces the profile, \"rejoin\" leaves first");
        }
    };
    let full = match fields.take("full") {
        None => Full::Refuse("room-full".into()),
        Some(node) if limit_node.is_none() => {
            return source.problem(node.span().start, "full means nothing without limit", "add limit = 4");
        }
        Some(node) => match node.get_ref() {
            DeValue::String(text) => Full::Refuse(code(source, node.span().start, text)?),
            DeValue::Array(_) if is_outer => {
                Full::Instead(actions(source, node, &mut names.clone(), found, false)?)
            }
            DeValue::Array(_) => {
                let remedy = "let it be a code, as in full = \"room-full\"";
                return source.problem(node.span().start, "a list in a list is too deep", remedy);
            }
            other => {
                let problem = format!("full is a code or a list of actions, not {}", kind(other));
                return source.problem(node.span().start, problem, "write full = \"room-full\"");
            }
        },
    };
    names.has_room = true;
    let wants_members = false;
    let join =
        JoinAction { room: room?, profile, joined, updated, farewell, limit, full, rejoins, wants_members };
    Some(Action::Join(Box::new(join)))
}

/// Notes which joins are to list the members: what follows them, before another room or page is named, needs these.
pub(super) fn note_members(actions: &mut [Guarded]) {
    for index in 0..actions.len() {
        let (before, behind) = actions.split_at_mut(index + 1);
        let Some(Guarded { action: Action::Join(join), .. }) = before.last_mut() else { continue };
        let asks_anew = |action: &Action| match action {
            Action::Join(_) | Action::Leave(_) | Action::MembersAfter(_) => true,
            Action::Require { conditions, .. } => conditions.iter().any(|one| one.room().is_some()),
            _ => false,
        };
        let until = behind.iter().position(|guarded| asks_anew(&guarded.action)).unwrap_or(behind.len());
        join.wants_members = behind[..until].iter().any(|guarded| guarded.needs.members);
    }
}

/// A profile is an object.
fn profile(source: &Source<'_>, node: &Node<'_>, names: &Names) -> Option<Template> {
    let template = template(source, node, names)?;
    let is_object = match &template {
        Template::Value(_) | Template::Object(_) => true,
        Template::Constant(json) => json.starts_with('{'),
        Template::Text(_) | Template::Array(_) => false,
    };
    if is_object {
        return Some(template);
    }
    let remedy = "write profile = { name = \"{name}\" }, or name an argument that is one";
    source.problem(node.span().start, "a profile is an object", remedy)
}

/// `["event", argument, ...]`
fn event_template(source: &Source<'_>, node: &Node<'_>, names: &Names, what: &str) -> Option<EventTemplate> {
    let at = node.span().start;
    let remedy = || format!("write {what} = [\"name\", \"{{argument}}\"]");
    let DeValue::Array(array) = node.get_ref() else {
        let problem = format!("{what} is an array, the event's name first, not {}", kind(node.get_ref()));
        return source.problem(at, problem, remedy());
    };
    let Some(first) = array.iter().next() else {
        return source.problem(at, format!("{what} has no event"), remedy());
    };
    let DeValue::String(_) = first.get_ref() else {
        let problem = format!("an event's name is a string, not {}", kind(first.get_ref()));
        return source.problem(first.span().start, problem, remedy());
    };
    let name = template(source, first, names)?;
    if let Template::Constant(json) = &name {
        let text = serde_json::from_str::<String>(json).unwrap_or_default();
        if text.is_empty() || is_reserved(&text) {
            let problem = format!("no event can be called {text:?}: clients would close the connection");
            return source.problem(first.span().start, problem, "choose another name");
        }
    }
    let args: Vec<_> = array.iter().skip(1).map(|node| element(source, node, names, 0)).collect();
    let args: Vec<Element> = args.into_iter().collect::<Option<_>>()?;
    let mut members = 0;
    each_of(&args, &mut |placeholder| {
        let is_member = |origin: &Origin| matches!(origin, Origin::Member);
        members += usize::from(placeholder.alternatives.iter().any(is_member));
    });
    Some(EventTemplate { name, args, members })
}

fn emit(
    source: &Source<'_>,
    value: &Node<'_>,
    fields: &mut Fields<'_, '_>,
    names: &Names,
    found: &mut Found,
) -> Option<Action> {
    let volatile = fields.boolean("volatile").unwrap_or(false);
    let announced = fields.take("announced");
    let Some(node) = fields.take("to") else {
        let remedy = "add to = \"room-but-me\", \"room\", \"me\", \"everyone\" ...";
        return source.problem(fields.at, "emit does not say to whom", remedy);
    };
    let mut to = target(source, node, names)?;
    found.names_subjects |= matches!(to, Target::Subject(_));
    if let Some(node) = announced {
        let (at, event) = string(source, node, "announced")?;
        match &mut to {
            Target::Rooms { announced, .. } => *announced = Some(event.into()),
            _ => {
                let remedy = "add to = \"rooms\", or leave announced out";
                return source.problem(at, "announced picks among the rooms of to = \"rooms\"", remedy);
            }
        }
    }
    let in_rooms = matches!(&to, Target::Rooms { announced: Some(_), .. });
    let names = Names { in_rooms, ..names.clone() };
    let event = event_template(source, value, &names, "emit")?;
    Some(Action::Emit(Box::new(Emit { event, to, volatile })))
}

const TARGETS: [&str; 7] =
    ["room-but-me", "room", "me", "rooms", "rooms-but-me", "everyone", "everyone-but-me"];

fn target(source: &Source<'_>, node: &Node<'_>, names: &Names) -> Option<Target> {
    let at = node.span().start;
    let has_socket = !matches!(names.on, On::Claim | On::Release);
    let is_here = has_socket && names.on != On::Disconnecting;
    if let DeValue::Table(table) = node.get_ref() {
        let all = entries(table);
        let [(name, _, value)] = all[..] else {
            let remedy = "write to = { socket = \"{to}\" }";
            return source.problem(at, "to names one target", remedy);
        };
        let value = template(source, value, names)?;
        return match name {
            "room" => Some(Target::Room { room: Some(value), but_me: false }),
            "room-but-me" => Some(Target::Room { room: Some(value), but_me: has_socket }),
            "socket" if is_here => Some(Target::Socket(value)),
            "socket" => source.problem(
                at,
                "nobody is there to be told whether that socket was found",
                "emit to a room",
            ),
            "subject" => Some(Target::Subject(value)),
            "peer" => Some(Target::Peer(value)),
            _ => {
                let known = ["room", "room-but-me", "socket", "subject", "peer"];
                source.problem(at, format!("nobody is meant by {name:?}"), did_you_mean(name, &known))
            }
        };
    }
    let (at, text) = string(source, node, "to")?;
    let but_me = text.ends_with("-but-me");
    match text {
        "me" if !is_here => source.problem(at, "there is no socket to emit to", "emit to a room or everyone"),
        "rooms" | "rooms-but-me" if !has_socket => {
            source.problem(at, "there is no socket that is in rooms", "name a room: to = { room = \"...\" }")
        }
        "me" => Some(Target::Me),
        "everyone" | "everyone-but-me" => Some(Target::Everyone { but_me }),
        "rooms" | "rooms-but-me" => Some(Target::Rooms { announced: None, but_me }),
        "room" | "room-but-me" if names.has_room => Some(Target::Room { room: None, but_me }),
        "room" | "room-but-me" => {
            let remedy =
                format!("join one before, require its membership, or write to = {{ {text} = \"{{room}}\" }}");
            source.problem(at, "no room is named before", remedy)
        }
        _ => source.problem(at, format!("nobody is meant by {text:?}"), did_you_mean(text, &TARGETS)),
    }
}

fn set(source: &Source<'_>, node: &Node<'_>, names: &Names) -> Option<Action> {
    let mut fields = Fields::of(source, node, "set")?;
    let all = fields.take_all();
    if all.is_empty() || all.len() > crate::MAX_FIELDS {
        return source.problem(
            node.span().start,
            "set has 1 to 32 fields",
            "write set = { name = \"{name}\" }",
        );
    }
    let mut set = Vec::new();
    for (name, at, node) in all {
        let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_plain || name.is_empty() {
            let problem = format!("{name:?} is no name for a field");
            return source.problem(at, problem, "use letters, digits, _ and -");
        }
        set.push((name.to_owned(), template(source, node, names)?));
    }
    Some(Action::Set(set))
}

fn require(
    source: &Source<'_>,
    value: &Node<'_>,
    fields: &mut Fields<'_, '_>,
    names: &mut Names,
) -> Option<Action> {
    let conditions = conditions(source, value, names, "require")?;
    let code = match fields.string("refusal") {
        Some((at, text)) => Some(code(source, at, text)?),
        None => None,
    };
    let hint = fields.string("hint").map(|(_, text)| Arc::from(text));
    names.has_room |= conditions.iter().any(|condition| condition.room().is_some());
    Some(Action::Require { conditions, code, hint })
}

/// A code of a refusal.
fn code(source: &Source<'_>, at: usize, text: &str) -> Option<Arc<str>> {
    if is_code(text) {
        return Some(text.into());
    }
    let problem = format!("{text:?} is no code of a refusal");
    source.problem(at, problem, "use lower-case letters, digits and -, as in \"room-full\"")
}

/// A server of the application's own, by its name in the configuration.
fn call(
    source: &Source<'_>,
    node: &Node<'_>,
    fields: &mut Fields<'_, '_>,
    names: &mut Names,
    found: &mut Found,
) -> Option<Action> {
    let (at, name) = string(source, node, "call")?;
    if !is_code(name) {
        let remedy =
            "use lower-case letters, digits and -, as in call = \"orders\" with --hook orders=https://...";
        return source.problem(at, format!("{name:?} is no name of a hook"), remedy);
    }
    let refusal = match fields.string("refusal") {
        Some((at, text)) => Some(code(source, at, text)?),
        None => None,
    };
    names.has_called = true;
    let (line, column) = source.place(at);
    found.hooks.push(HookName { name: name.into(), line, column });
    Some(Action::Call(CallAction { hook: name.into(), refusal }))
}

fn disconnect(source: &Source<'_>, node: &Node<'_>) -> Option<Action> {
    match node.get_ref() {
        DeValue::Boolean(true) => Some(Action::Disconnect { close: false }),
        DeValue::String(text) if text == "connection" => Some(Action::Disconnect { close: true }),
        _ => {
            let remedy = "true ends the namespace, \"connection\" the whole connection";
            source.problem(node.span().start, "disconnect is true or \"connection\"", remedy)
        }
    }
}
