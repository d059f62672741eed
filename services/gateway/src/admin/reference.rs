//! The description of the API for people: as Markdown, and as a page that stands alone. Both say what the OpenAPI document says.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// An operation, as the document describes it.
struct Operation<'a> {
    method: String,
    path: &'a str,
    summary: &'a str,
    scope: &'a str,
    /// Name, place, whether it must be there, type, meaning.
    parameters: Vec<[String; 5]>,
    body: Option<String>,
    answer: String,
}

/// A type: its name, its meaning, and its fields or values: name, type, meaning.
struct Schema<'a> {
    name: &'a str,
    meaning: &'a str,
    rows: Vec<[String; 3]>,
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

fn object<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(at).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn list<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(at).and_then(Value::as_array).into_iter().flatten()
}

/// A type, in a word or two.
fn type_name(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return name.rsplit('/').next().unwrap_or_default().to_owned();
    }
    for of in ["oneOf", "anyOf", "allOf"] {
        if let Some(kinds) = schema.get(of).and_then(Value::as_array) {
            let names = kinds.iter().map(type_name).filter(|name| name != "null");
            return names.collect::<Vec<_>>().join(if of == "allOf" { " and " } else { " or " });
        }
    }
    match schema.get("type") {
        Some(Value::String(name)) if name == "array" => {
            format!("list of {}", schema.get("items").map(type_name).unwrap_or_default())
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut found = Vec::new();
    for (path, item) in object(document, "/paths") {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let parameters = list(operation, "/parameters").map(|parameter| {
                let is_required = parameter["required"] == true;
                [
                    text(parameter, "/name").to_owned(),
                    text(parameter, "/in").to_owned(),
                    if is_required { "yes" } else { "" }.to_owned(),
                    type_name(&parameter["schema"]),
                    text(parameter, "/description").to_owned(),
                ]
            });
            let content = |at: &str| {
                let (_, content) = object(operation, at).next()?;
                Some(type_name(content.get("schema")?))
            };
            let answers = object(operation, "/responses").filter(|(status, _)| status.starts_with('2'));
            let answer = answers.map(|(status, response)| {
                let kind = object(response, "/content")
                    .next()
                    .map(|(kind, content)| content.get("schema").map_or_else(|| kind.clone(), type_name));
                let kind = kind.map(|kind| format!(": {kind}")).unwrap_or_default();
                format!("{status} {}{kind}", text(response, "/description"))
            });
            found.push(Operation {
                method: method.to_uppercase(),
                path,
                summary: text(operation, "/summary"),
                scope: text(operation, "/security/0/token/0"),
                parameters: parameters.collect(),
                body: content("/requestBody/content"),
                answer: answer.collect::<Vec<_>>().join("; "),
            });
        }
    }
    found
}

fn schemas(document: &Value) -> Vec<Schema<'_>> {
    let mut found = Vec::new();
    for (name, schema) in object(document, "/components/schemas") {
        let mut rows = Vec::new();
        let parts = std::iter::once(schema).chain(list(schema, "/allOf"));
        for part in parts {
            if part.get("$ref").is_some() {
                rows.push(["…".to_owned(), type_name(part), "all of its fields".to_owned()]);
            }
            for (field, kind) in object(part, "/properties") {
                rows.push([field.clone(), type_name(kind), text(kind, "/description").to_owned()]);
            }
        }
        for value in list(schema, "/enum").filter_map(Value::as_str) {
            rows.push([format!("\"{value}\""), String::new(), String::new()]);
        }
        for value in list(schema, "/oneOf") {
            let written =
                list(value, "/enum").filter_map(Value::as_str).map(|value| format!("\"{value}\"")).next();
            rows.push([
                written.unwrap_or_default(),
                type_name(value),
                text(value, "/description").to_owned(),
            ]);
        }
        found.push(Schema { name, meaning: text(schema, "/description"), rows });
    }
    found
}

fn parsed(document: &str) -> Value {
    serde_json::from_str(document).unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// As Markdown.
pub(super) fn markdown(document: &str) -> String {
    let document = parsed(document);
    let mut page =
        format!("# {}\n\n{}\n", text(&document, "/info/title"), text(&document, "/info/description"));
    for operation in operations(&document) {
        let Operation { method, path, summary, scope, parameters, body, answer } = operation;
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{method} {path}`\n\n{summary}\n\nScope: `{scope}`\n");
        if !parameters.is_empty() {
            page.push_str("\n| parameter | in | needed | type | meaning |\n|---|---|---|---|---|\n");
            for row in &parameters {
                let _ = writeln!(page, "| {} |", row.each_ref().map(|text| cell(text)).join(" | "));
            }
        }
        if let Some(body) = body {
            let _ = write!(page, "\nBody: {body}\n");
        }
        let _ = write!(page, "\nAnswer: {answer}\n");
    }
    page.push_str("\n# Types\n");
    for Schema { name, meaning, rows } in schemas(&document) {
        let _ = write!(page, "\n## {name}\n\n{meaning}\n\n");
        if !rows.is_empty() {
            page.push_str("| name | type | meaning |\n|---|---|---|\n");
            for row in &rows {
                let _ = writeln!(page, "| {} |", row.each_ref().map(|text| cell(text)).join(" | "));
            }
        }
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let heads = heads.map(|head| format!("<th>{head}</th>")).concat();
    let rows = rows.iter().map(|row| {
        let cells = row.each_ref().map(|text| format!("<td>{}</td>", escaped(text)));
        format!("<tr>{}</tr>", cells.concat())
    });
    format!("<table><tr>{heads}</tr>{}</table>", rows.collect::<String>())
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1f2b;background:#fff}\
h2{margin-top:2.5rem;font-size:1.1rem}code,h2{font-family:ui-monospace,monospace}table{border-collapse:collapse;width:100%;font-size:.9rem}\
th,td{border-bottom:1px solid #d5dae3;text-align:left;padding:.3rem .6rem .3rem 0;vertical-align:top}b{color:#0b6b4f}\
@media(prefers-color-scheme:dark){body{color:#e3e7ef;background:#12151c}th,td{border-color:#333a48}b{color:#5ad1ab}a{color:#8ab4f8}}";

/// As a page.
pub(super) fn html(document: &str) -> String {
    let document = parsed(document);
    let title = escaped(text(&document, "/info/title"));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{}</p><p><a href=\"/admin/v1/openapi.json\">OpenAPI</a> <a href=\"/admin/v1/openapi.md\">Markdown</a></p>",
        escaped(text(&document, "/info/description"))
    );
    for operation in operations(&document) {
        let Operation { method, path, summary, scope, parameters, body, answer } = operation;
        let _ = write!(
            page,
            "<h2><b>{method}</b> {}</h2><p>{}</p><p>Scope: <code>{scope}</code></p>",
            escaped(path),
            escaped(summary)
        );
        if !parameters.is_empty() {
            page.push_str(&table(["parameter", "in", "needed", "type", "meaning"], &parameters));
        }
        if let Some(body) = body {
            let _ = write!(page, "<p>Body: {}</p>", escaped(&body));
        }
        let _ = write!(page, "<p>Answer: {}</p>", escaped(&answer));
    }
    page.push_str("<h1>Types</h1>");
    for Schema { name, meaning, rows } in schemas(&document) {
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", escaped(name), escaped(meaning));
        if !rows.is_empty() {
            page.push_str(&table(["name", "type", "meaning"], &rows));
        }
    }
    page.push_str("</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_pages_have_every_operation_and_its_scope() {
        let document = super::super::document();
        let (markdown, html) = (markdown(document), html(document));
        let parsed = parsed(document);
        assert_eq!(parsed["openapi"], "3.1.0");
        let operations = operations(&parsed);
        assert!(operations.len() > 10);
        for Operation { method, path, summary, scope, answer, .. } in operations {
            assert!(markdown.contains(&format!("## `{method} {path}`")), "{path}");
            assert!(html.contains(&format!("<b>{method}</b> {path}</h2>")), "{path}");
            assert!(["read", "emit", "control"].contains(&scope), "{method} {path}: {scope}");
            assert!(summary.ends_with('.') && answer.starts_with('2'), "{method} {path}: {summary} {answer}");
        }
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("<script"));
    }
}
