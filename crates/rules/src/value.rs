//! JSON values as text: looked into, measured and copied without being decoded, so that a client's numbers and keys stay as they were.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use signalbox_socketio::args::string_len;

/// Deepest nesting that is looked through for binary.
const MAX_DEPTH: usize = 10_000;

/// A JSON value, and the attachments that placeholders in it name.
#[derive(Debug, Clone)]
pub(crate) struct Value<'a> {
    pub(crate) json: Cow<'a, str>,
    pub(crate) attachments: &'a [Bytes],
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Number,
    Boolean,
    Object,
    Array,
    Null,
    Binary,
}

impl Type {
    pub(crate) const NAMES: [&'static str; 7] =
        ["string", "number", "boolean", "object", "array", "null", "binary"];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let all =
            [Self::String, Self::Number, Self::Boolean, Self::Object, Self::Array, Self::Null, Self::Binary];
        Self::NAMES.iter().position(|known| *known == name).map(|index| all[index])
    }
}

/// A step into a value: a field's name, or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) index: Option<usize>,
}

impl<'a> Value<'a> {
    /// JSON without attachments.
    pub(crate) fn plain(json: impl Into<Cow<'a, str>>) -> Self {
        Self { json: json.into(), attachments: &[] }
    }

    /// A text.
    pub(crate) fn text(text: &str) -> Self {
        Self::plain(json_string(text))
    }

    pub(crate) fn type_of(&self) -> Type {
        match self.json.trim_start().as_bytes().first() {
            Some(b'"') => Type::String,
            Some(b'{') if self.attachment().is_some() => Type::Binary,
            Some(b'{') => Type::Object,
            Some(b'[') => Type::Array,
            Some(b't' | b'f') => Type::Boolean,
            Some(b'n') | None => Type::Null,
            Some(_) => Type::Number,
        }
    }

    /// The attachment that the value is.
    pub(crate) fn attachment(&self) -> Option<&'a Bytes> {
        if self.attachments.is_empty() || find(&self.json, &Key::field("_placeholder"))? != "true" {
            return None;
        }
        self.attachments.get(find(&self.json, &Key::field("num"))?.parse::<usize>().ok()?)
    }

    /// The value at the end of a path.
    pub(crate) fn at(self, path: &[Key]) -> Option<Self> {
        if path.is_empty() {
            return Some(self);
        }
        if self.attachment().is_some() {
            return None;
        }
        let attachments = self.attachments;
        let json = match self.json {
            Cow::Borrowed(json) => Cow::Borrowed(follow(json, path)?),
            Cow::Owned(json) => Cow::Owned(follow(&json, path)?.to_owned()),
        };
        Some(Self { json, attachments })
    }

    /// As text: a string's content, a number's or truth value's text, nothing for null; of objects and arrays the JSON.
    pub(crate) fn to_text(&self) -> String {
        match self.type_of() {
            Type::String => {
                string(&self.json).map_or_else(|| self.json.clone().into_owned(), Cow::into_owned)
            }
            Type::Null => String::new(),
            _ => self.json.trim().to_owned(),
        }
    }

    /// A number as it is; of a string the characters, of an array the elements, of an object the fields, of binary the bytes.
    pub(crate) fn size(&self) -> Option<f64> {
        Some(match self.type_of() {
            Type::Number => self.json.trim().parse().ok()?,
            // One that is no valid Unicode is measured by its bytes.
            Type::String => string(&self.json).map_or(self.json.len(), |text| text.chars().count()) as f64,
            Type::Array => count(&self.json)? as f64,
            Type::Object => count(&self.json)? as f64,
            Type::Binary => self.attachment()?.len() as f64,
            Type::Boolean | Type::Null => return None,
        })
    }

    /// Bytes of its JSON and of its attachments.
    pub(crate) fn bytes(&self) -> usize {
        let mut writer = Writer::default();
        if self.attachments.is_empty() {
            return self.json.len();
        }
        writer.value(self);
        writer.json.len() + writer.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    pub(crate) fn has_binary(&self) -> bool {
        let mut writer = Writer::default();
        if !self.attachments.is_empty() {
            writer.value(self);
        }
        !writer.attachments.is_empty()
    }

    /// The name of a room: a string, or the text of a number; at most [`MAX_ROOM_NAME`](crate::MAX_ROOM_NAME) bytes.
    pub(crate) fn room_name(&self) -> Option<String> {
        let name = match self.type_of() {
            Type::Number => self.json.trim().to_owned(),
            Type::String => string(&self.json)?.into_owned(),
            _ => return None,
        };
        let is_good =
            !name.is_empty() && name.len() <= crate::MAX_ROOM_NAME && !name.starts_with(crate::HIDDEN);
        is_good.then_some(name)
    }
}

impl Key {
    pub(crate) fn field(name: &str) -> Self {
        Self { name: name.to_owned(), index: name.parse().ok() }
    }
}

/// A text as JSON.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The content of a JSON string; `None` for anything else, and for what is no valid Unicode.
pub(crate) fn string(json: &str) -> Option<Cow<'_, str>> {
    let json = json.trim();
    match json.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<String>(json).ok().map(Cow::Owned),
    }
}

/// What stands between an object's braces.
pub(crate) fn fields(object: &str) -> &str {
    let inner = object.trim().strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    inner.unwrap_or_default().trim()
}

fn follow<'a>(json: &'a str, path: &[Key]) -> Option<&'a str> {
    path.iter().try_fold(json, |json, key| find(json, key))
}

/// The value of an object's field, the last one where there are several, or an array's element.
fn find<'a>(json: &'a str, key: &Key) -> Option<&'a str> {
    struct Find<'k>(&'k Key);
    impl<'de> Visitor<'de> for Find<'_> {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or an array")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                let value = map.next_value::<&'de RawValue>()?;
                if name == self.0.name {
                    found = Some(value);
                }
            }
            Ok(found)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            let mut index = 0;
            while let Some(value) = seq.next_element::<&'de RawValue>()? {
                if self.0.index == Some(index) {
                    found = Some(value);
                }
                index += 1;
            }
            Ok(found)
        }
    }
    if !json.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(json);
    reader.deserialize_any(Find(key)).ok().flatten().map(RawValue::get)
}

/// How many elements or fields there are.
fn count(json: &str) -> Option<usize> {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = usize;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or an array")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while map.next_entry::<IgnoredAny, &'de RawValue>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
            let mut count = 0;
            while seq.next_element::<&'de RawValue>()?.is_some() {
                count += 1;
            }
            Ok(count)
        }
    }
    serde_json::Deserializer::from_str(json).deserialize_any(Count).ok()
}

/// JSON that is being written, with the attachments that its placeholders name.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) json: String,
    pub(crate) attachments: Vec<Bytes>,
    /// Of each attachment: where it stood before.
    origins: Vec<*const u8>,
}

impl Writer {
    /// One that has room for so many bytes of JSON.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { json: String::with_capacity(bytes), ..Self::default() }
    }

    /// Writes a value. Its attachments get the next numbers here; one that was written before keeps the number it has.
    pub(crate) fn value(&mut self, value: &Value<'_>) {
        if value.attachments.is_empty() {
            self.json.push_str(&value.json);
        } else {
            self.renumber(&value.json, value.attachments);
        }
    }

    fn renumber(&mut self, json: &str, attachments: &[Bytes]) {
        let mut copied = 0;
        for Placed { number: (start, end), .. } in placeholders(json) {
            let number = json[start..end].parse::<usize>().ok();
            let Some(attachment) = number.and_then(|number| attachments.get(number)) else { continue };
            let origin = std::ptr::from_ref(attachment).cast::<u8>();
            let known = self.origins.iter().position(|known| *known == origin);
            let number = known.unwrap_or_else(|| {
                self.origins.push(origin);
                self.attachments.push(attachment.clone());
                self.attachments.len() - 1
            });
            self.json.push_str(&json[copied..start]);
            self.json.push_str(&number.to_string());
            copied = end;
        }
        self.json.push_str(&json[copied..]);
    }
}

/// A placeholder of an attachment: where it stands, and where in it the number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Placed {
    number: (usize, usize),
    object: (usize, usize),
}

/// An object or array that is open.
#[derive(Default)]
struct Open<'a> {
    start: usize,
    is_object: bool,
    /// The key whose value comes next.
    key: Option<&'a str>,
    is_placeholder: bool,
    number: Option<(usize, usize)>,
}

/// Where the placeholders in valid JSON stand. What is nested too deep has none: a packet with such binary is refused before it comes
/// here.
fn placeholders(json: &str) -> Vec<Placed> {
    let (mut open, mut found): (Vec<Open<'_>>, _) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(first) = json.as_bytes().get(at) {
        let rest = &json[at..];
        let len = match first {
            b'"' => string_len(rest),
            b'{' | b'[' => {
                if open.len() >= MAX_DEPTH {
                    break;
                }
                if let Some(parent) = open.last_mut() {
                    parent.key = None;
                }
                open.push(Open { start: at, is_object: *first == b'{', ..Open::default() });
                1
            }
            b'}' | b']' => {
                if let Some(Open { is_placeholder: true, number: Some(number), start, .. }) = open.pop() {
                    found.push(Placed { number, object: (start, at + 1) });
                }
                1
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => 1,
            _ => rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()),
        };
        let is_scalar = !b"{[}],: \t\n\r".contains(first);
        if let Some(object) = open.last_mut().filter(|open| open.is_object && is_scalar) {
            let token = &rest[..len];
            match object.key.take() {
                None => object.key = Some(token),
                Some(key) if is_key(key, "_placeholder") => object.is_placeholder = token == "true",
                Some(key) if is_key(key, "num") => object.number = Some((at, at + len)),
                Some(_) => {}
            }
        }
        at += len.max(1);
    }
    found.sort_unstable();
    found
}

/// JSON with its binary as `{"$binary": base64}`, for those who read JSON only.
pub(crate) fn binary_as_text(json: &str, attachments: &[Bytes]) -> String {
    let mut text = String::with_capacity(json.len());
    let mut copied = 0;
    for Placed { number: (start, end), object } in placeholders(json) {
        let number = json[start..end].parse::<usize>().ok();
        let Some(attachment) = number.and_then(|number| attachments.get(number)) else { continue };
        text.push_str(&json[copied..object.0]);
        text.extend(["{\"$binary\":\"", &STANDARD.encode(attachment), "\"}"]);
        copied = object.1;
    }
    text.push_str(&json[copied..]);
    text
}

fn is_key(json: &str, key: &str) -> bool {
    string(json).is_some_and(|name| name == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<Key> {
        text.split('.').map(Key::field).collect()
    }

    #[test]
    fn values_are_found_and_keep_their_text() {
        let json = r#" {"a":1, "b": [ {"c": 1.0e+2}, "x"], "a": "last", "\u0064": null} "#;
        let at = |text: &str| Value::plain(json).at(&path(text)).map(|value| value.json.into_owned());
        assert_eq!(at("b.0.c").as_deref(), Some("1.0e+2"));
        assert_eq!(at("b.1").as_deref(), Some("\"x\""));
        assert_eq!(at("a").as_deref(), Some("\"last\""));
        assert_eq!(at("d").as_deref(), Some("null"));
        for missing in ["e", "b.2", "b.x", "a.0", "b.0.c.d"] {
            assert_eq!(at(missing), None, "{missing}");
        }
    }

    #[test]
    fn sizes_are_those_of_the_type() {
        for (json, size) in [
            ("2.5", Some(2.5)),
            ("\"h\\u00e9\"", Some(2.0)),
            ("[1,[2,3]]", Some(2.0)),
            ("{\"a\":1}", Some(1.0)),
            ("true", None),
            ("null", None),
        ] {
            assert_eq!(Value::plain(json).size(), size, "{json}");
        }
    }

    #[test]
    fn binary_is_taken_along_and_numbered_anew() {
        let attachments = [Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
        let value = |json| Value { json: Cow::Borrowed(json), attachments: &attachments };
        let one = value(r#"{"_placeholder":true,"num":1}"#);
        assert_eq!((one.type_of(), one.size(), one.has_binary()), (Type::Binary, Some(3.0), true));
        let mut writer = Writer::default();
        writer.value(&one);
        writer
            .value(&value(r#"[{"num":0,"\u005fplaceholder":true},{"_placeholder":true,"num":1},{"num":7}]"#));
        assert_eq!(
            writer.json,
            r#"{"_placeholder":true,"num":0}[{"num":1,"\u005fplaceholder":true},{"_placeholder":true,"num":0},{"num":7}]"#
        );
        assert_eq!(writer.attachments, [&b"one"[..], &b"zero"[..]]);
        assert_eq!(value("{\"num\":1}").type_of(), Type::Object);
    }

    #[test]
    fn binary_is_shown_as_text() {
        let attachments = [Bytes::from_static(b"zero"), Bytes::from_static(b"one")];
        let json = r#"[{"_placeholder":true,"num":1},{"a":{"num":0,"_placeholder":true}},{"num":7}]"#;
        assert_eq!(
            binary_as_text(json, &attachments),
            r#"[{"$binary":"b25l"},{"a":{"$binary":"emVybw=="}},{"num":7}]"#
        );
    }

    #[test]
    fn rooms_are_named_by_texts_and_numbers() {
        let name = |json: &str| Value::plain(json.to_owned()).room_name();
        assert_eq!(name("7").as_deref(), Some("7"));
        assert_eq!(name("\"a\\u0062\"").as_deref(), Some("ab"));
        for json in
            ["\"\"", "null", "true", "{}", "[]", "\"\\u0001subject:x\"", &format!("\"{}\"", "x".repeat(256))]
        {
            assert_eq!(name(json), None, "{json}");
        }
    }
}
