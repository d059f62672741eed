//! Grants as they are written: the claim of a token, or a setting.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Limit, Limits,
    pattern::{Names, Pattern, PatternError},
};

/// Grants as they are written, in their JSON shape. What is absent is not granted, except that namespaces which are absent are
/// `["/"]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantsSpec {
    /// The namespaces that may be joined: patterns.
    pub namespaces: Vec<String>,
    /// Rooms.
    pub rooms: RoomGrants,
    /// The PeerServer protocol.
    pub peer: PeerGrants,
    /// May list users.
    pub users: bool,
    /// May have TURN credentials.
    pub turn: bool,
    /// Scopes of the admin API.
    pub admin: Vec<String>,
    /// Limits in place of the node's own.
    pub limits: Limits,
}

/// What may be done with rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoomGrants {
    /// The rooms that may be joined: patterns.
    pub join: Vec<String>,
    /// The rooms that may be sent to: patterns.
    pub send: Vec<String>,
}

/// What may be done in the PeerServer protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PeerGrants {
    /// The ids that may be claimed: patterns.
    pub ids: Vec<String>,
    /// Any id may be claimed that the server itself issued.
    pub generated: bool,
    /// May list the peers of a realm.
    pub discover: bool,
}

impl Default for GrantsSpec {
    /// The main namespace, and nothing there.
    fn default() -> Self {
        Self {
            namespaces: vec!["/".to_owned()],
            rooms: RoomGrants::default(),
            peer: PeerGrants::default(),
            users: false,
            turn: false,
            admin: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What is wrong with grants, and where. It shows names of the format only, never a text from a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct GrantsError {
    /// Where, e.g. `rooms.join[2]`.
    pub at: String,
    /// What.
    pub problem: GrantsProblem,
}

/// What is wrong with grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantsProblem {
    /// Not JSON.
    #[error("this is not JSON")]
    NotJson,
    /// Another type is meant.
    #[error("this is not {0}")]
    WrongType(&'static str),
    /// A pattern that is no good.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// A name that means nothing, in a setting.
    #[error("there is no such grant")]
    Unknown,
    /// A scope with other characters.
    #[error("a scope is made of small letters, digits, - and :")]
    Scope,
}

/// Who reads: it says what is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A setting is read: what has no meaning is a mistake.
    Setting {
        /// Whether there is a subject for `{sub}`.
        has_subject: bool,
    },
    /// A token is read: it may be made for a newer version, and what has no meaning grants nothing.
    Token,
}

impl GrantsSpec {
    /// Everything, the admin API aside: what clients have where nothing is configured.
    pub fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self {
            namespaces: all(),
            rooms: RoomGrants { join: all(), send: all() },
            peer: PeerGrants { ids: all(), generated: true, discover: true },
            users: true,
            turn: true,
            admin: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Reads the setting for clients with a token that has no grants of its own. Unknown names are errors.
    pub fn from_setting(json: &str) -> Result<Self, GrantsError> {
        Self::from_json(json, Reader::Setting { has_subject: true })
    }

    /// Reads the setting for clients without a token: there is no `{sub}` in it.
    pub fn from_anonymous_setting(json: &str) -> Result<Self, GrantsError> {
        Self::from_json(json, Reader::Setting { has_subject: false })
    }

    /// Reads the claim of a token: an object, or a string that contains one, since some identity providers have claims of text
    /// only. Unknown names are ignored.
    pub fn from_claim(claim: &Value) -> Result<Self, GrantsError> {
        match claim {
            Value::String(json) => Self::from_json(json, Reader::Token),
            claim => Self::from_value(claim, Reader::Token),
        }
    }

    /// Its JSON.
    pub fn to_json(&self) -> String {
        // Names and numbers always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it depends on the subject.
    pub(crate) fn names_subject(&self) -> bool {
        let mut patterns =
            [&self.namespaces, &self.rooms.join, &self.rooms.send, &self.peer.ids].into_iter().flatten();
        patterns.any(|pattern| pattern.contains("{sub}"))
    }

    fn from_json(json: &str, reader: Reader) -> Result<Self, GrantsError> {
        match serde_json::from_str(json) {
            Ok(value) => Self::from_value(&value, reader),
            Err(_) => Err(error("grants", GrantsProblem::NotJson)),
        }
    }

    fn from_value(value: &Value, reader: Reader) -> Result<Self, GrantsError> {
        let fields = Fields::new(value, "", reader)?;
        fields.know(&["namespaces", "rooms", "peer", "users", "turn", "admin", "limits"])?;
        let mut spec = Self {
            users: fields.flag("users")?,
            turn: fields.flag("turn")?,
            admin: fields.scopes("admin")?,
            ..Self::default()
        };
        if let Some(namespaces) = fields.patterns("namespaces", Names::Namespaces)? {
            spec.namespaces = namespaces;
        }
        if let Some(rooms) = fields.object("rooms")? {
            rooms.know(&["join", "send"])?;
            spec.rooms.join = rooms.patterns("join", Names::Rooms)?.unwrap_or_default();
            spec.rooms.send = rooms.patterns("send", Names::Rooms)?.unwrap_or_default();
        }
        if let Some(peer) = fields.object("peer")? {
            peer.know(&["ids", "generated", "discover"])?;
            spec.peer.ids = peer.patterns("ids", Names::PeerIds)?.unwrap_or_default();
            spec.peer.generated = peer.flag("generated")?;
            spec.peer.discover = peer.flag("discover")?;
        }
        if let Some(limits) = fields.object("limits")? {
            limits.know(&Limit::ALL.map(Limit::name))?;
            for limit in Limit::ALL {
                if let Some(most) = limits.number(limit.name())? {
                    spec.limits.set(limit, most);
                }
            }
        }
        Ok(spec)
    }
}

fn error(at: impl Into<String>, problem: GrantsProblem) -> GrantsError {
    GrantsError { at: at.into(), problem }
}

/// The fields of one object, which know where they are.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Where the object is, with a dot behind it; empty at the top.
    at: &'static str,
    reader: Reader,
}

impl<'a> Fields<'a> {
    fn new(value: &'a Value, at: &'static str, reader: Reader) -> Result<Self, GrantsError> {
        let place = if at.is_empty() { "grants" } else { at.trim_end_matches('.') };
        let object = value.as_object().ok_or_else(|| error(place, GrantsProblem::WrongType("an object")))?;
        Ok(Self { object, at, reader })
    }

    fn wrong(&self, name: &str, what: &'static str) -> GrantsError {
        error(format!("{}{name}", self.at), GrantsProblem::WrongType(what))
    }

    /// In a setting, a name that means nothing is a mistyped one.
    fn know(&self, names: &[&str]) -> Result<(), GrantsError> {
        let unknown = self.object.keys().find(|key| !names.contains(&key.as_str()));
        match unknown {
            Some(key) if self.reader != Reader::Token => {
                Err(error(format!("{}{key}", self.at), GrantsProblem::Unknown))
            }
            _ => Ok(()),
        }
    }

    fn object(&self, name: &'static str) -> Result<Option<Self>, GrantsError> {
        let at = match name {
            "rooms" => "rooms.",
            "peer" => "peer.",
            _ => "limits.",
        };
        self.object.get(name).map(|value| Self::new(value, at, self.reader)).transpose()
    }

    fn flag(&self, name: &str) -> Result<bool, GrantsError> {
        match self.object.get(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, GrantsError> {
        let Some(value) = self.object.get(name) else { return Ok(None) };
        // Zero might mean nothing at all or no limit at all: it is neither.
        let number = value.as_u64().filter(|number| *number > 0);
        number.map(Some).ok_or_else(|| self.wrong(name, "a whole number above 0"))
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<&'a str>>, GrantsError> {
        let Some(value) = self.object.get(name) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.wrong(name, "a list of texts"))
    }

    fn patterns(&self, name: &str, names: Names) -> Result<Option<Vec<String>>, GrantsError> {
        let Some(texts) = self.texts(name)? else { return Ok(None) };
        let has_subject = self.reader != Reader::Setting { has_subject: false };
        for (at, text) in texts.iter().enumerate() {
            Pattern::check(text, names, has_subject)
                .map_err(|problem| error(format!("{}{name}[{at}]", self.at), problem.into()))?;
        }
        Ok(Some(texts.into_iter().map(str::to_owned).collect()))
    }

    fn scopes(&self, name: &str) -> Result<Vec<String>, GrantsError> {
        let texts = self.texts(name)?.unwrap_or_default();
        let is_scope = |text: &str| {
            let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | ':');
            !text.is_empty() && text.chars().all(is_fine)
        };
        match texts.iter().position(|text| !is_scope(text)) {
            Some(at) => Err(error(format!("{name}[{at}]"), GrantsProblem::Scope)),
            None => Ok(texts.into_iter().map(str::to_owned).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(json: &str) -> Result<GrantsSpec, String> {
        GrantsSpec::from_setting(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_whole_shape_is_read_and_written() {
        let json = r#"{"namespaces":["/chat"],"rooms":{"join":["team-*"],"send":["team-1"]},"peer":{"ids":["{sub}-*"],"generated":true,"discover":true},"users":true,"turn":true,"admin":["read"],"limits":{"rooms":5}}"#;
        let spec = setting(json).unwrap();
        assert_eq!(spec.to_json(), json);
        assert_eq!(spec.limits.get(Limit::Rooms), Some(5));
        assert!(spec.names_subject() && !GrantsSpec::everything().names_subject());
        assert_eq!(setting(&GrantsSpec::everything().to_json()).unwrap(), GrantsSpec::everything());
    }

    #[test]
    fn what_is_absent_is_not_granted() {
        let spec = setting("{}").unwrap();
        assert_eq!(spec, GrantsSpec::default());
        assert_eq!(spec.namespaces, ["/"]);
        assert!(setting(r#"{"namespaces":[]}"#).unwrap().namespaces.is_empty());
    }

    #[test]
    fn an_error_says_where_and_what() {
        for (json, expected) in [
            ("{", "grants: this is not JSON"),
            ("[]", "grants: this is not an object"),
            (r#"{"rooms":[]}"#, "rooms: this is not an object"),
            (r#"{"rooms":{"join":"a"}}"#, "rooms.join: this is not a list of texts"),
            (r#"{"rooms":{"joins":[]}}"#, "rooms.joins: there is no such grant"),
            (r#"{"user":true}"#, "user: there is no such grant"),
            (r#"{"users":1}"#, "users: this is not true or false"),
            (r#"{"rooms":{"join":["a",""]}}"#, "rooms.join[1]: the pattern is empty, so it can never match"),
            (
                r#"{"namespaces":["chat"]}"#,
                "namespaces[0]: the pattern does not begin with / or *, as namespaces do, so it can never match",
            ),
            (
                r#"{"peer":{"ids":["{id}"]}}"#,
                "peer.ids[0]: the pattern has a brace that is not that of {sub}, the only placeholder",
            ),
            (r#"{"limits":{"rooms":0}}"#, "limits.rooms: this is not a whole number above 0"),
            (r#"{"limits":{"rooms":1.5}}"#, "limits.rooms: this is not a whole number above 0"),
            (r#"{"limits":{"room":1}}"#, "limits.room: there is no such grant"),
            (r#"{"admin":["Read"]}"#, "admin[0]: a scope is made of small letters, digits, - and :"),
        ] {
            assert_eq!(setting(json), Err(expected.to_owned()), "{json}");
        }
        let error = GrantsSpec::from_anonymous_setting(r#"{"rooms":{"join":["of-{sub}"]}}"#).unwrap_err();
        assert_eq!(error.problem, GrantsProblem::Pattern(PatternError::NoSubject));
    }

    #[test]
    fn a_token_may_be_for_a_newer_version_and_may_hold_its_grants_as_text() {
        let claim: Value = serde_json::from_str(r#"{"users":true,"new":{},"rooms":{"new":1}}"#).unwrap();
        let spec = GrantsSpec::from_claim(&claim).unwrap();
        assert!(spec.users);
        let text = Value::String(claim.to_string());
        assert_eq!(GrantsSpec::from_claim(&text).unwrap(), spec);
        let error = GrantsSpec::from_claim(&serde_json::json!({"users": "secret"})).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
