//! Placeholders in the JSON of a binary packet: `{"_placeholder":true,"num":0}`.
//!
//! Only these are looked at. Whatever else `JSON.parse` takes passes: numbers without bound, lone surrogates, deep nesting.

use crate::packet::ParseError;

/// Deepest nesting that is looked through.
const MAX_DEPTH: usize = 10_000;

/// An object or array that is open.
#[derive(Default)]
struct Open<'a> {
    is_object: bool,
    /// The key whose value comes next.
    key: Option<&'a str>,
    is_placeholder: bool,
    number: Option<&'a str>,
}

/// Checks that each placeholder names one of `attachments`. `json` must be valid JSON, as [`split`](super::split) has checked.
pub fn check_placeholders(json: &str, attachments: usize) -> Result<(), ParseError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.bytes().next() {
        let len = match first {
            b'"' => string_len(rest),
            b'{' | b'[' => {
                if open.len() >= MAX_DEPTH {
                    return Err(ParseError::Payload);
                }
                if let Some(parent) = open.last_mut() {
                    parent.key = None;
                }
                open.push(Open { is_object: first == b'{', ..Open::default() });
                1
            }
            b'}' | b']' => {
                let closed = open.pop().unwrap_or_default();
                if closed.is_placeholder && !names_one(closed.number, attachments) {
                    return Err(ParseError::Attachments);
                }
                1
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => 1,
            _ => rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len()),
        };
        let (token, behind) = rest.split_at(len);
        rest = behind;
        let is_scalar =
            !matches!(first, b'{' | b'[' | b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r');
        if let Some(object) = open.last_mut().filter(|open| open.is_object && is_scalar) {
            match object.key.take() {
                None => object.key = Some(token),
                Some(key) if is_key(key, "_placeholder") => object.is_placeholder = token == "true",
                Some(key) if is_key(key, "num") => object.number = Some(token),
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Whether a JSON string is this key, which has nothing in it that need be escaped but may be.
fn is_key(json: &str, key: &str) -> bool {
    let plain = &json[1..json.len() - 1];
    plain == key
        || (plain.contains('\\') && serde_json::from_str::<String>(json).is_ok_and(|decoded| decoded == key))
}

fn names_one(number: Option<&str>, attachments: usize) -> bool {
    number.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number < attachments)
}

/// Length of the string that `json` begins with, quotes included.
pub fn string_len(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_placeholder_passes() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for json in [
            r#"["\ud800",1E400,{"_placeholder":1,"num":9},{"num":9},"{\"_placeholder\":true}"]"#,
            r#"[{"a":"_placeholder","b":true}]"#,
            r#"["\\",{"x":["\"",{}]}]"#,
            &deep,
        ] {
            assert_eq!(check_placeholders(json, 1), Ok(()), "{json:.60}");
        }
    }

    #[test]
    fn escapes_and_order_do_not_hide_one() {
        for json in [
            r#"[{"num":1,"_placeholder":true}]"#,
            r#"[{"\u005fplaceholder" : true , "num" : 1 }]"#,
            r#"[{"_placeholder":true,"num":{"a":0}}]"#,
        ] {
            assert_eq!(check_placeholders(json, 1), Err(ParseError::Attachments), "{json}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::json!(true)),
            (0..4u64).prop_map(|number| serde_json::json!(number)),
            "[\"\\\\{}:, a]{0,6}".prop_map(|text| serde_json::json!(text)),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                proptest::collection::vec((prop_oneof!["_placeholder", "num", "\\PC{0,3}"], inner), 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn expected(value: &serde_json::Value, attachments: u64) -> bool {
        match value {
            serde_json::Value::Array(elements) => {
                elements.iter().all(|element| expected(element, attachments))
            }
            serde_json::Value::Object(object) => {
                let is_placeholder = object.get("_placeholder") == Some(&serde_json::json!(true));
                let number = object.get("num").and_then(serde_json::Value::as_u64);
                (!is_placeholder || number.is_some_and(|number| number < attachments))
                    && object.values().all(|value| expected(value, attachments))
            }
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(value in json(), attachments in 1..4usize) {
            let text = value.to_string();
            prop_assert_eq!(check_placeholders(&text, attachments).is_ok(), expected(&value, attachments as u64));
        }
    }
}
