//! The reference page `docs/metrics.md`, made from the declarations. `cargo xtask docs` writes it.

use std::fmt::Write as _;

use super::families::SECTIONS;
use crate::{
    declaration::{Declaration, Kind, Series},
    turn_metrics,
};

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `cargo xtask docs` from crates/telemetry/src/metrics/families.rs and turn_metrics.rs. Change them there. -->

For operators. `/metrics` on the management listener and on the metrics listener has them in the text format of Prometheus, or in its
protobuf format for a scrape that asks for that, with those of the process (`process_cpu_seconds_total`, `process_resident_memory_bytes`,
`process_open_fds`, ...) beside them. Which to watch first: [operations.md](operations.md#metrics).

- Those of the TURN credentials service, on the management listener of `signalbox-turn`, begin with `signalbox_turn_`.
- Counters end in `_total`, and begin at 0 with the process. Series whose labels are known are there from the start.
- No label has a value that a client chooses, so that the number of series is bounded.
- Histograms have classic buckets, with the bounds below, and [native ones](#native-histograms).
";

const NATIVE: &str = "
## Native histograms

Every histogram above has native buckets as well: schema 3, eight from a power of two to the next, so that a quantile is within 9 % of
the truth wherever it lies. They reach from a 64th of the lowest bound of its classic buckets to 64 times the highest; below that a value
counts as zero, above it in the last bucket. Buckets without a value cost nothing to scrape. The protobuf format alone has them.

Prometheus takes them when it is told to. Dashboards, alerts and recording rules use the classic buckets, so let it keep both:

| Prometheus | |
|---|---|
| 3.9 and later | `scrape_native_histograms: true` and `always_scrape_classic_histograms: true` in the scrape configuration |
| 3.0 to 3.8 | the flag `--enable-feature=native-histograms`, and `always_scrape_classic_histograms: true` |
| 2.45 to 2.55 | the same flag, and `scrape_classic_histograms: true` |
| 2.40 to 2.44 | the same flag; it then drops the classic buckets, and dashboards and alerts have nothing to show |
| with the operator | `serviceMonitor.nativeHistograms: true` (or `podMonitor`) of the chart, which sets `scrapeNativeHistograms` and `scrapeClassicHistograms`; before 3.9 the flag as well, by `enableFeatures` of the `Prometheus` object |

A native histogram is asked without `_bucket` and without `le`:
`histogram_quantile(0.99, sum(rate(signalbox_delivery_lag_seconds[5m])))`.
";

/// The whole page.
pub fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in SECTIONS.iter().chain(turn_metrics::SECTIONS) {
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
    page.push_str(NATIVE);
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
    format!("{help} Classic buckets: {}.", bounds.join(", "))
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
