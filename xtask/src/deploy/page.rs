//! The chart's README: the head, and a table of all values for each section.

use std::fmt::Write as _;

use super::values::{Content, Value};

const HEAD: &str = include_str!("readme-head.md");

/// The file's text.
pub(super) fn render(values: &[Value]) -> String {
    let mut rows = Vec::new();
    collect(values, "", &mut rows);
    let mut page = HEAD.to_owned();
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = row.section;
            let _ = write!(page, "\n### {section}\n\n| value | default | meaning |\n|---|---|---|\n");
        }
        let _ = writeln!(page, "| `{}` | {} | {} |", row.path, row.default, escaped(row.meaning));
    }
    page
}

struct Row<'a> {
    section: &'a str,
    path: String,
    default: String,
    meaning: &'a str,
}

fn collect<'a>(values: &'a [Value], prefix: &str, rows: &mut Vec<Row<'a>>) {
    for value in values {
        let path = if prefix.is_empty() { value.key.clone() } else { format!("{prefix}.{}", value.key) };
        let (section, meaning) = (value.section.as_str(), value.description.as_str());
        match &value.content {
            Content::Default(default) => {
                let default = format!("`{}`", escaped(&default.to_string()));
                rows.push(Row { section, path, default, meaning });
            }
            Content::Keys(inner) => {
                // What a group is for stands above its keys; most groups say nothing, since their name does.
                if !meaning.is_empty() {
                    rows.push(Row { section, path: path.clone(), default: String::new(), meaning });
                }
                collect(inner, &path, rows);
            }
        }
    }
}

/// A bar would end the cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::super::values::parse;
    use super::*;

    #[test]
    fn every_default_has_a_row_under_its_section() {
        let page = render(&parse("# @section One\n# The a|b.\na: x\n# @section Two\nb:\n  c: []\n").unwrap());
        assert!(
            page.contains(
                "### One\n\n| value | default | meaning |\n|---|---|---|\n| `a` | `\"x\"` | The a\\|b. |\n"
            ),
            "{page}"
        );
        assert!(
            page.ends_with("### Two\n\n| value | default | meaning |\n|---|---|---|\n| `b.c` | `[]` |  |\n"),
            "{page}"
        );
    }
}
