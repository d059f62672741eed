//! Binary in JSON. Clients get and send it beside their JSON, which has placeholders in its place; the admin API has
//! `{"$binary": "base64"}`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

/// Most pieces of binary in an event: clients take one with more for an error, and disconnect.
pub const MAX_BINARY: usize = 10;
/// Most bytes of JSON around binary that a client has sent which are shown: to put the binary into it, it has to be parsed, and parsed it
/// is many times as large.
const MAX_PARSED: usize = 64 << 10;

/// Why arguments cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgsProblem {
    /// They are no list.
    NoList,
    /// What stands in `$binary` is no base64.
    NoBase64,
    /// They have something that clients would take for binary.
    Placeholder,
    /// They have more binary than clients take.
    TooMany,
}

impl ArgsProblem {
    /// For people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::NoList => "args is not a list",
            Self::NoBase64 => "the value of $binary is not base64",
            Self::TooMany => "more than 10 pieces of binary, for which clients disconnect",
            Self::Placeholder => "_placeholder is reserved: binary is written as {\"$binary\": \"base64\"}",
        }
    }
}

/// The arguments as clients get them: JSON with placeholders, and what they stand for. Text without any binary stays as it is.
///
/// # Errors
/// Arguments that cannot be sent.
pub fn sent(args: &str) -> Result<(String, Vec<Vec<u8>>), ArgsProblem> {
    let mut value: Value = serde_json::from_str(args).map_err(|_| ArgsProblem::NoList)?;
    if !value.is_array() {
        return Err(ArgsProblem::NoList);
    }
    let mut attachments = Vec::new();
    take(&mut value, &mut attachments)?;
    match attachments.is_empty() {
        // Numbers keep their digits, and objects their order.
        true => Ok((args.to_owned(), attachments)),
        false => Ok((value.to_string(), attachments)),
    }
}

fn take(value: &mut Value, attachments: &mut Vec<Vec<u8>>) -> Result<(), ArgsProblem> {
    match value {
        Value::Array(list) => list.iter_mut().try_for_each(|value| take(value, attachments)),
        Value::Object(object) if object.contains_key("_placeholder") => Err(ArgsProblem::Placeholder),
        Value::Object(object) => {
            let Some(binary) = binary(object) else {
                return object.values_mut().try_for_each(|value| take(value, attachments));
            };
            if attachments.len() == MAX_BINARY {
                return Err(ArgsProblem::TooMany);
            }
            let bytes = STANDARD.decode(binary).map_err(|_| ArgsProblem::NoBase64)?;
            *value = json!({"_placeholder": true, "num": attachments.len()});
            attachments.push(bytes);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The text of an object that is binary.
fn binary(object: &Map<String, Value>) -> Option<&str> {
    if object.len() == 1 { object.get("$binary")?.as_str() } else { None }
}

/// The arguments that a client has sent, as the admin API shows them: a list. Without binary they stay as they are. `None` if they are not
/// shown, as JSON of more than 64 KiB with binary in it.
pub fn shown(args: &str, attachments: &[impl AsRef<[u8]>]) -> Option<Box<RawValue>> {
    if attachments.is_empty() {
        return RawValue::from_string(args.to_owned()).ok().filter(|args| args.get().starts_with('['));
    }
    if args.len() > MAX_PARSED {
        return None;
    }
    let mut value = serde_json::from_str(args).ok().filter(Value::is_array)?;
    put(&mut value, attachments);
    to_raw_value(&value).ok()
}

fn put(value: &mut Value, attachments: &[impl AsRef<[u8]>]) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| put(value, attachments)),
        Value::Object(object) => {
            let number =
                object.get("num").and_then(Value::as_u64).filter(|_| object.contains_key("_placeholder"));
            match number.and_then(|number| attachments.get(number as usize)) {
                Some(bytes) => *value = json!({"$binary": STANDARD.encode(bytes)}),
                None => object.values_mut().for_each(|value| put(value, attachments)),
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_written_one_way_and_sent_another() {
        let (json, attachments) = sent(r#"[1,{"a":[{"$binary":"AQI="}]},{"$binary":""}]"#).unwrap();
        let placeholder = |number| format!(r#"{{"_placeholder":true,"num":{number}}}"#);
        assert_eq!(json, format!(r#"[1,{{"a":[{}]}},{}]"#, placeholder(0), placeholder(1)));
        assert_eq!(attachments, [vec![1, 2], vec![]]);
        let shown = shown(&json, &attachments).unwrap();
        assert_eq!(shown.get(), r#"[1,{"a":[{"$binary":"AQI="}]},{"$binary":""}]"#);
    }

    #[test]
    fn text_stays_as_it_is_and_what_cannot_be_sent_is_refused() {
        let exact = r#"[12345678901234567890123, {"b":1,"a":2}]"#;
        assert_eq!(sent(exact), Ok((exact.to_owned(), Vec::new())));
        for (args, problem) in [
            ("{}", ArgsProblem::NoList),
            (r#"[{"$binary":"?"}]"#, ArgsProblem::NoBase64),
            (r#"[[{"_placeholder":true,"num":0}]]"#, ArgsProblem::Placeholder),
            (&format!("[{}1]", r#"{"$binary":""},"#.repeat(11)), ArgsProblem::TooMany),
        ] {
            assert_eq!(sent(args), Err(problem), "{args}");
        }
        assert_eq!(
            sent(&format!("[{}1]", r#"{"$binary":""},"#.repeat(10))).map(|(_, binary)| binary.len()),
            Ok(10)
        );
        let text = |args: &str, binary: &[[u8; 1]]| shown(args, binary).map(|shown| shown.get().to_owned());
        assert_eq!(text(exact, &[]).as_deref(), Some(exact));
        assert_eq!(text("{}", &[]), None);
        assert_eq!(text("{}", &[[0]]), None);
        assert_eq!(text(&format!("[{}1]", "0,".repeat(MAX_PARSED / 2)), &[[0]]), None);
    }
}
