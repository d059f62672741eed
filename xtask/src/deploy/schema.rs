//! The chart's `values.schema.json`: Helm refuses values that do not fit, before it renders anything.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};

use super::values::{Content, Value};

/// The file's text.
pub(super) fn render(values: &[Value]) -> Result<String> {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("Values of the Signalbox chart"));
    schema.extend(keys(values)?);
    let mut text = serde_json::to_string_pretty(&schema).context("cannot write the schema")?;
    text.push('\n');
    Ok(text)
}

/// A map with these keys and no others.
fn keys(values: &[Value]) -> Result<Map<String, Json>> {
    let mut properties = Map::new();
    for value in values {
        let schema = of(value).with_context(|| value.key.clone())?;
        properties.insert(value.key.clone(), schema.into());
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("properties".to_owned(), properties.into());
    Ok(schema)
}

fn of(value: &Value) -> Result<Map<String, Json>> {
    let mut schema = match &value.content {
        Content::Keys(inner) => keys(inner)?,
        Content::Default(default) => {
            let mut schema =
                of_default(default, value.hints.contains_key("type") || value.hints.contains_key("enum"))?;
            schema.insert("default".to_owned(), default.clone());
            schema
        }
    };
    if !value.description.is_empty() {
        schema.insert("description".to_owned(), value.description.clone().into());
    }
    schema.extend(value.hints.clone());
    Ok(schema)
}

/// What follows from the default alone.
fn of_default(default: &Json, has_type: bool) -> Result<Map<String, Json>> {
    let schema = match default {
        Json::Null if has_type => json!({}),
        Json::Null => bail!("a default of null needs a type in @schema"),
        Json::Bool(_) => json!({ "type": "boolean" }),
        Json::Number(number) if number.is_u64() || number.is_i64() => json!({ "type": "integer" }),
        Json::Number(_) => json!({ "type": "number" }),
        Json::String(_) => json!({ "type": "string" }),
        Json::Array(_) => json!({ "type": "array", "items": { "type": "object" } }),
        Json::Object(_) => json!({ "type": "object" }),
    };
    match schema {
        Json::Object(schema) => Ok(schema),
        _ => bail!("not a schema"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::parse;
    use super::*;

    #[test]
    fn types_follow_from_defaults_and_hints_win() {
        let text = "a: 5\nb:\n  # @schema {\"type\": [\"string\", \"null\"]}\n  c: null\nd: {}\n# @schema {\"items\": {\"type\": \"string\"}}\ne: []\n";
        let schema = keys(&parse(text).unwrap()).unwrap();
        let properties = &schema["properties"];
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(properties["a"], json!({ "type": "integer", "default": 5 }));
        assert_eq!(properties["b"]["additionalProperties"], false);
        assert_eq!(properties["b"]["properties"]["c"]["type"], json!(["string", "null"]));
        assert_eq!(properties["d"], json!({ "type": "object", "default": {} }));
        assert_eq!(properties["e"]["items"], json!({ "type": "string" }));
        assert!(keys(&parse("a: null").unwrap()).is_err());
    }
}
