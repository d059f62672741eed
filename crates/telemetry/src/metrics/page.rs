//! The reference page `docs/metrics.md`, made from the declarations. `cargo xtask docs` writes it.

use std::fmt::Write as _;

use super::{
    declaration::{Declaration, Kind, Series},
    families::SECTIONS,
};

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `cargo xtask docs` from crates/telemetry/src/metrics/families.rs. Change them there. -->

For operators. `/metrics` on the management listener and on the metrics listener has them in the text format of Prometheus, with those of
the process (`process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds`, ...) beside them. Which to watch first:
[operations.md](operations.md#metrics).

- Counters end in `_total`, and begin at 0 with the process. Series whose labels are known are there from the start.
- No label has a value that a client chooses, so that the number of series is bounded.
- Histograms are classic ones, with fixed buckets. Native ones can only be scraped in Prometheus' protobuf format, which the library
  used here (`prometheus` 0.14) cannot write with them. Prometheus can make native ones with custom buckets of these
  (`convert_classic_histograms_to_nhcb: true` in a scrape configuration).
";

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in SECTIONS {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "\n## {}\n\n| metric | kind | unit | labels | shows |\n|---|---|---|---|---|\n",
            section.title
        );
        for metric in section.metrics {
            let Declaration { name, kind, unit, .. } = metric;
            let (labels, shows) = (labels(metric), shows(metric));
            let _ = writeln!(page, "| `{name}` | {} | {unit} | {labels} | {shows} |", kind.name());
        }
    }
    page
}

fn labels(metric: &Declaration) -> String {
    let described = metric.labels.iter().enumerate().map(|(at, label)| match metric.series {
        Series::Known(rows) => {
            let mut values: Vec<&str> = Vec::new();
            for row in rows {
                let value = row.get(at).copied().unwrap_or_default();
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{label}`: {}", values.join(", "))
        }
        Series::Bounded(bound) => format!("`{label}`: {bound}"),
    });
    described.collect::<Vec<_>>().join("; ")
}

fn shows(metric: &Declaration) -> String {
    let help = metric.help.replace('|', "\\|");
    if metric.kind != Kind::Histogram {
        return help;
    }
    let bounds: Vec<String> = metric.buckets.iter().map(ToString::to_string).collect();
    format!("{help} Buckets: {}.", bounds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "docs/metrics.md differs from the declarations; run cargo xtask docs");
    }
}
