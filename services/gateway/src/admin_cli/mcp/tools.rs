//! A tool for each operation of the API: what the operation's description says is what the tool says. Path, query and body become one set of
//! arguments.

use std::{collections::BTreeSet, sync::Arc};

use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::super::client::{Method, segment};
use crate::config::admin::Scope;

/// Where the document has its schemas, and where a tool has those that it needs.
const SCHEMAS: &str = "#/components/schemas/";
const DEFINITIONS: &str = "#/$defs/";

/// An operation, and the tool that it is.
pub(super) struct Operation {
    pub(super) tool: Tool,
    method: Method,
    path: String,
    in_path: Vec<String>,
    in_query: Vec<String>,
    body: Body,
}

/// What a request carries.
enum Body {
    Nothing,
    /// An object, whose members are arguments.
    Members(Vec<String>),
    /// The argument `body`.
    Whole,
}

/// What a call of a tool asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Value>,
}

/// The operations that answer with JSON, and need one of these scopes.
pub(super) fn operations(document: &str, scopes: &[Scope]) -> Vec<Operation> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in Method::ALL {
            let described = &item[method.name()];
            let is_allowed = scope(described).is_some_and(|scope| scopes.contains(&scope));
            let has_answer = described["responses"]["200"]["content"]["application/json"].is_object();
            if is_allowed && has_answer {
                found.extend(operation(&document, path, method, described));
            }
        }
    }
    found
}

/// The scope that an operation needs.
fn scope(described: &Value) -> Option<Scope> {
    let name = described["security"][0]["token"][0].as_str()?;
    Scope::ALL.into_iter().find(|scope| scope.name() == name)
}

fn operation(document: &Value, path: &str, method: Method, described: &Value) -> Option<Operation> {
    let name = described["operationId"].as_str()?.to_owned();
    let mut arguments = Arguments::default();
    let (mut in_path, mut in_query) = (Vec::new(), Vec::new());
    for parameter in described["parameters"].as_array().into_iter().flatten() {
        let (name, place) = (parameter["name"].as_str()?, parameter["in"].as_str()?);
        match place {
            "path" => in_path.push(name.to_owned()),
            "query" => in_query.push(name.to_owned()),
            // Headers are how a request is sent, and not what it asks for.
            _ => continue,
        }
        let mut schema = parameter["schema"].clone();
        if let (Some(schema), Some(description)) = (schema.as_object_mut(), parameter.get("description")) {
            schema.insert("description".to_owned(), description.clone());
        }
        arguments.add(name, schema, parameter["required"] == true);
    }
    let body = body(document, described, &mut arguments);
    let summary = described["summary"].as_str().unwrap_or_default();
    let text = [summary, described["description"].as_str().unwrap_or_default()];
    let text: Vec<&str> = text.into_iter().filter(|part| !part.is_empty()).collect();
    let is_reading = scope(described) == Some(Scope::Read);
    let annotations = ToolAnnotations::new()
        .read_only(is_reading)
        .destructive(scope(described) == Some(Scope::Control))
        .idempotent(is_reading)
        .open_world(false);
    let tool = Tool::new(name, text.join("\n"), Arc::new(arguments.schema(document)))
        .with_title(summary.trim_end_matches('.').to_owned())
        .with_annotations(annotations);
    Some(Operation {
        tool,
        method,
        path: path.trim_start_matches("/admin/v1/").to_owned(),
        in_path,
        in_query,
        body,
    })
}

fn body(document: &Value, described: &Value, arguments: &mut Arguments) -> Body {
    let schema = &described["requestBody"]["content"]["application/json"]["schema"];
    if schema.is_null() {
        return Body::Nothing;
    }
    let is_required = described["requestBody"]["required"] == true;
    let named = schema["$ref"].as_str().and_then(|name| name.strip_prefix(SCHEMAS));
    let meant = named.map_or(schema, |name| &document["components"]["schemas"][name]);
    let members = meant["properties"].as_object();
    match members {
        Some(members) if members.keys().all(|name| !arguments.properties.contains_key(name)) => {
            for (name, schema) in members {
                let is_needed =
                    meant["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
                arguments.add(name, schema.clone(), is_required && is_needed);
            }
            Body::Members(members.keys().cloned().collect())
        }
        _ => {
            arguments.add("body", schema.clone(), is_required);
            Body::Whole
        }
    }
}

/// What a tool takes.
#[derive(Default)]
struct Arguments {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Arguments {
    fn add(&mut self, name: &str, schema: Value, is_required: bool) {
        self.properties.insert(name.to_owned(), schema);
        if is_required {
            self.required.push(name.to_owned());
        }
    }

    /// Their schema, with all that it refers to.
    fn schema(self, document: &Value) -> Map<String, Value> {
        let mut properties = Value::Object(self.properties);
        let mut wanted = BTreeSet::new();
        redirect(&mut properties, &mut wanted);
        let mut definitions = Map::new();
        while let Some(name) = wanted.pop_first() {
            if !definitions.contains_key(&name) {
                let mut schema = document["components"]["schemas"][&name].clone();
                redirect(&mut schema, &mut wanted);
                definitions.insert(name, schema);
            }
        }
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("properties".to_owned(), properties);
        schema.insert("required".to_owned(), json!(self.required));
        schema.insert("additionalProperties".to_owned(), json!(false));
        if !definitions.is_empty() {
            schema.insert("$defs".to_owned(), definitions.into());
        }
        schema
    }
}

/// Has references lead to the tool's own definitions, and collects which those are.
fn redirect(schema: &mut Value, wanted: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix(SCHEMAS) {
                            wanted.insert(name.to_owned());
                            *text = format!("{DEFINITIONS}{name}");
                        }
                    }
                    value => redirect(value, wanted),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, wanted)),
        _ => {}
    }
}

impl Operation {
    /// The request that a call with these arguments asks for.
    ///
    /// # Errors
    /// One that is missing, does not exist, or cannot be part of a path.
    pub(super) fn request(&self, mut arguments: Map<String, Value>) -> Result<Request, String> {
        // Before anything is found missing: what is unknown is a mistyped one.
        let properties = &self.tool.input_schema["properties"];
        if let Some(unknown) = arguments.keys().find(|name| properties.get(name.as_str()).is_none()) {
            return Err(format!("there is no argument {unknown}"));
        }
        let mut path = self.path.clone();
        for name in &self.in_path {
            let value = arguments.remove(name).ok_or_else(|| format!("the argument {name} is missing"))?;
            path = path.replace(&format!("{{{name}}}"), &segment(&text(name, &value)?));
        }
        let mut query = Vec::new();
        for name in &self.in_query {
            match arguments.remove(name) {
                None | Some(Value::Null) => {}
                Some(value) => query.push((name.clone(), text(name, &value)?)),
            }
        }
        let body = match &self.body {
            Body::Nothing => None,
            Body::Whole => arguments.remove("body"),
            Body::Members(names) => {
                let members = names.iter().filter_map(|name| arguments.remove_entry(name));
                Some(Value::Object(members.collect()))
            }
        };
        Ok(Request { method: self.method, path, query, body })
    }
}

/// An argument as part of an address.
fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(format!("the argument {name} is neither text, a number, true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::document;

    fn named<'a>(operations: &'a [Operation], name: &str) -> &'a Operation {
        operations.iter().find(|each| each.tool.name == name).unwrap_or_else(|| panic!("no tool {name}"))
    }

    fn arguments(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn whoever_may_only_look_has_nothing_else() {
        let looking = operations(document(), &[Scope::Read]);
        assert!(looking.len() > 8);
        for each in &looking {
            let hints = each.tool.annotations.as_ref().unwrap();
            assert_eq!(hints.destructive_hint, Some(false), "{}", each.tool.name);
        }
        let all = operations(document(), &Scope::ALL);
        for name in ["emit", "disconnect", "drain", "rebalance", "stop_operation", "revoke"] {
            assert!(looking.iter().all(|each| each.tool.name != name), "{name}");
            assert_eq!(named(&all, name).tool.annotations.as_ref().unwrap().read_only_hint, Some(false));
        }
    }

    #[test]
    fn every_tool_has_a_name_of_its_own_says_what_it_is_for_and_refers_to_nothing_outside() {
        let all = operations(document(), &Scope::ALL);
        let names: BTreeSet<&str> = all.iter().map(|each| &*each.tool.name).collect();
        assert_eq!(names.len(), all.len());
        for Operation { tool, .. } in &all {
            assert!(tool.description.as_ref().is_some_and(|text| text.len() > 5), "{}", tool.name);
            let schema = serde_json::to_string(&tool.input_schema).unwrap();
            assert!(!schema.contains(SCHEMAS), "{}: {schema}", tool.name);
            for name in schema.split(DEFINITIONS).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(tool.input_schema["$defs"][name].is_object(), "{}: {name}", tool.name);
            }
            for (name, argument) in tool.input_schema["properties"].as_object().unwrap() {
                let is_described = argument.to_string().contains(r#""description":"#);
                assert!(is_described || argument.get("$ref").is_some(), "{}: {name}", tool.name);
            }
        }
    }

    #[test]
    fn arguments_become_path_query_and_body() {
        let all = operations(document(), &Scope::ALL);
        let request = named(&all, "members").request(arguments(json!({"room": "a/b?", "limit": 5})));
        let query = vec![("limit".to_owned(), "5".to_owned())];
        let wanted =
            Request { method: Method::Get, path: "rooms/a%2Fb%3F/members".to_owned(), query, body: None };
        assert_eq!(request, Ok(wanted));
        let given = json!({"to": {"everyone": true}, "event": "x", "args": [1]});
        let request = named(&all, "emit").request(arguments(given.clone())).unwrap();
        assert_eq!((request.method, &*request.path, request.body), (Method::Post, "emit", Some(given)));
        let problem = |name: &str, value: Value| named(&all, name).request(arguments(value)).unwrap_err();
        assert_eq!(problem("members", json!({})), "the argument room is missing");
        assert_eq!(problem("cluster", json!({"x": 1})), "there is no argument x");
        assert_eq!(
            problem("members", json!({"room": []})),
            "the argument room is neither text, a number, true nor false"
        );
    }
}
