//! The arguments of an event or an ack, as text: a JSON array that is checked and split, but not decoded.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::packet::ParseError;

mod placeholders;
pub use placeholders::{check_placeholders, string_len};

/// Names that nobody may use for events; a client that sends one is closed, and one that receives one closes the connection.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A JSON array, split into its elements.
pub type Split<'a> = SmallVec<[&'a RawValue; 6]>;

/// Checks that `body` is a JSON array and splits it.
pub fn split(body: &str) -> Result<Split<'_>, ParseError> {
    serde_json::from_str::<SplitArray<'_>>(body).map(|array| array.0).map_err(|_| ParseError::Payload)
}

struct SplitArray<'a>(Split<'a>);

impl<'de> serde::Deserialize<'de> for SplitArray<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = SplitArray<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = Split::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(SplitArray(elements))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// Whether a split array may be an event: its first element is a number, or a string that is not reserved.
pub fn is_event(elements: &Split<'_>) -> bool {
    let Some(name) = elements.first().map(|name| name.get()) else { return false };
    match name.as_bytes()[0] {
        b'"' => !RESERVED.contains(&&name[1..name.len() - 1]) && !is_escaped_reserved(name),
        b'-' | b'0'..=b'9' => true,
        _ => false,
    }
}

/// Whether an event may not be named so: a client takes it for one of its own, and closes the connection.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// A reserved name may be spelt with escapes.
fn is_escaped_reserved(name: &str) -> bool {
    name.contains('\\')
        && serde_json::from_str::<String>(name).is_ok_and(|name| RESERVED.contains(&name.as_str()))
}

/// The arguments of an event or an ack, owned: the text of a JSON array, and the attachments its placeholders name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    json: String,
    attachments: Vec<Bytes>,
}

/// Arguments that are not what a handler expected, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// There is no such argument.
    #[error("argument {0} is missing")]
    Missing(usize),
    /// The argument has another shape.
    #[error("argument {0} has another shape: {1}")]
    Shape(usize, serde_json::Error),
    /// The value cannot be written as JSON.
    #[error("arguments cannot be written as json: {0}")]
    Unserializable(#[from] serde_json::Error),
    /// Arguments are written from a tuple, an array or a `Vec`.
    #[error("arguments must be a sequence (a tuple, an array, a Vec)")]
    NotASequence,
}

impl Default for Args {
    fn default() -> Self {
        Self { json: "[]".to_owned(), attachments: Vec::new() }
    }
}

impl Args {
    /// Arguments from a sequence of values: `Args::new(("text", 1, vec![true]))`. A [`Binary`] anywhere inside becomes an
    /// attachment.
    ///
    /// # Errors
    /// [`ArgsError::NotASequence`] for anything but a sequence, [`ArgsError::Unserializable`] for a map whose keys are no strings.
    pub fn new(values: impl Serialize) -> Result<Self, ArgsError> {
        let (json, attachments) = binary::collect(|| serde_json::to_string(&values));
        let json = json?;
        match json.as_bytes()[0] {
            b'[' => Ok(Self { json, attachments }),
            // `()` is no argument at all.
            _ if json == "null" => Ok(Self::default()),
            _ => Err(ArgsError::NotASequence),
        }
    }

    /// Arguments from the text of a JSON array and its attachments, as they were received.
    pub fn from_raw(json: &str, attachments: Vec<Bytes>) -> Result<Self, ParseError> {
        split(json)?;
        Ok(Self { json: json.to_owned(), attachments })
    }

    /// The text of the JSON array.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The binary attachments.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The elements between the brackets, as text.
    pub fn inner(&self) -> &str {
        let json = self.json.trim();
        json[1..json.len() - 1].trim()
    }

    /// The arguments without the first `count`. Attachments stay as they are, since placeholders name them by number.
    #[must_use]
    pub fn skip(&self, count: usize) -> Self {
        let elements = split(&self.json).unwrap_or_default();
        let rest: Vec<&str> = elements.iter().skip(count).map(|element| element.get()).collect();
        Self { json: format!("[{}]", rest.join(",")), attachments: self.attachments.clone() }
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        split(&self.json).map_or(0, |elements| elements.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner().is_empty()
    }

    /// The argument at `index`, decoded.
    pub fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, ArgsError> {
        let elements = split(&self.json).map_err(|_| ArgsError::Missing(index))?;
        let element = elements.get(index).ok_or(ArgsError::Missing(index))?;
        serde_json::from_str(element.get()).map_err(|error| ArgsError::Shape(index, error))
    }

    /// The attachment that the argument at `index` is.
    pub fn binary(&self, index: usize) -> Result<Bytes, ArgsError> {
        #[derive(serde::Deserialize)]
        struct Placeholder {
            num: usize,
        }
        let Placeholder { num } = self.get(index)?;
        self.attachments.get(num).cloned().ok_or(ArgsError::Missing(index))
    }
}

pub use binary::Binary;

mod binary {
    use std::cell::RefCell;

    use bytes::Bytes;
    use serde::{Serialize, Serializer, ser::SerializeStruct};

    thread_local! {
        static COLLECTED: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
    }

    /// Runs `write` and returns the attachments of every [`Binary`] it came across.
    pub(super) fn collect<T>(write: impl FnOnce() -> T) -> (T, Vec<Bytes>) {
        COLLECTED.set(Some(Vec::new()));
        let result = write();
        (result, COLLECTED.take().unwrap_or_default())
    }

    /// Bytes inside the arguments of an event; they travel as an attachment, with a placeholder in their place.
    #[derive(Debug, Clone)]
    pub struct Binary(pub Bytes);

    impl Serialize for Binary {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let number = COLLECTED.with_borrow_mut(|collected| {
                collected.as_mut().map(|collected| {
                    collected.push(self.0.clone());
                    collected.len() - 1
                })
            });
            let number = number
                .ok_or_else(|| serde::ser::Error::custom("Binary can only be written as part of Args"))?;
            let mut placeholder = serializer.serialize_struct("Binary", 2)?;
            placeholder.serialize_field("_placeholder", &true)?;
            placeholder.serialize_field("num", &number)?;
            placeholder.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_and_read() {
        let args = Args::new(("a", 1, serde_json::json!({"b": [true]}))).unwrap();
        assert_eq!(args.json(), r#"["a",1,{"b":[true]}]"#);
        assert_eq!(args.inner(), r#""a",1,{"b":[true]}"#);
        assert_eq!(args.get::<String>(0).unwrap(), "a");
        assert_eq!(args.len(), 3);
        assert!(matches!(args.get::<String>(3), Err(ArgsError::Missing(3))));
        assert!(matches!(args.get::<String>(1), Err(ArgsError::Shape(1, _))));
        assert!(Args::new(()).unwrap().is_empty());
        assert!(matches!(Args::new("no sequence"), Err(ArgsError::NotASequence)));
    }

    #[test]
    fn binary_becomes_attachments() {
        let args = Args::new((Binary(Bytes::from_static(b"x")), [Binary(Bytes::from_static(b"y"))])).unwrap();
        assert_eq!(args.json(), r#"[{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]"#);
        assert_eq!(args.attachments(), [&b"x"[..], &b"y"[..]]);
        assert_eq!(args.binary(0).unwrap(), &b"x"[..]);
        assert!(serde_json::to_string(&Binary(Bytes::new())).is_err());
    }

    #[test]
    fn text_passes_through_untouched() {
        let json = r#"["ev", {"z":1.0e+2,"a":0,"z":1E400}, "\ud800" , -0.00]"#;
        let elements = split(json).unwrap();
        assert_eq!(elements[1].get(), r#"{"z":1.0e+2,"a":0,"z":1E400}"#);
        assert_eq!(elements[2].get(), r#""\ud800""#);
    }

    #[test]
    fn event_names_are_checked() {
        for (json, expected) in [
            (r#"["a"]"#, true),
            (r#"[1]"#, true),
            (r#"["error"]"#, true),
            (r#"["connection"]"#, true),
            (r#"[]"#, false),
            (r#"[null]"#, false),
            (r#"[{}]"#, false),
            (r#"["connect"]"#, false),
            (r#"["disconnecting"]"#, false),
            (r#"["disc\u006fnnect"]"#, false),
        ] {
            assert_eq!(is_event(&split(json).unwrap()), expected, "{json}");
        }
    }

    #[test]
    fn placeholders_must_name_an_attachment() {
        assert!(check_placeholders(r#"["a",{"_placeholder":true,"num":0}]"#, 1).is_ok());
        assert!(check_placeholders(r#"["a",[{"x":{"_placeholder":true,"num":1}}]]"#, 2).is_ok());
        assert!(check_placeholders(r#"["a"]"#, 1).is_ok(), "an attachment nobody names is tolerated");
        for body in [
            r#"["a",{"_placeholder":true,"num":1}]"#,
            r#"["a",{"_placeholder":true,"num":-1}]"#,
            r#"["a",{"_placeholder":true,"num":"0"}]"#,
            r#"["a",{"_placeholder":true}]"#,
        ] {
            assert_eq!(check_placeholders(body, 1), Err(ParseError::Attachments), "{body}");
        }
    }
}
