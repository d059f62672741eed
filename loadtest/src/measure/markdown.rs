//! A report as Markdown.

use std::fmt::Write as _;

use super::report::Cost;
use super::{PhaseReport, Report};

/// The tables of a report: what was counted, how long it took, what it cost.
pub(crate) fn write(report: &Report) -> String {
    let mut out = format!("# {}\n\n", report.scenario);
    counts(&mut out, &report.phases);
    latencies(&mut out, &report.phases);
    costs(&mut out, report);
    out
}

fn counts(out: &mut String, phases: &[PhaseReport]) {
    out.push_str(
        "| phase | seconds | connections | messages | expected | delivered | lost | duplicates | misdirected | closed |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for phase in phases {
        let PhaseReport { name, seconds, connections, messages, expected, .. } = phase;
        let PhaseReport { delivered, lost, duplicates, misdirected, closed, .. } = phase;
        let _ = writeln!(
            out,
            "| {name} | {seconds:.1} | {connections} | {messages} | {expected} | {delivered} | {lost} | {duplicates} | {misdirected} | {closed} |"
        );
    }
    for phase in phases.iter().filter(|phase| phase.answers_expected + phase.answers > 0) {
        let PhaseReport { name, answers, answers_expected, .. } = phase;
        let _ =
            writeln!(out, "\n{name}: {answers} of {answers_expected} acknowledgements and announcements.");
    }
}

fn latencies(out: &mut String, phases: &[PhaseReport]) {
    if phases.iter().all(|phase| phase.latency.is_none()) {
        return;
    }
    out.push_str(
        "\nLatency in ms, from when a message was due. `lag` is how late the generator sent at worst.\n\n\
         | phase | mean | p50 | p90 | p99 | p99.9 | max | lag |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let ms = |microseconds: u64| format!("{:.2}", microseconds as f64 / 1_000.0);
    for phase in phases {
        let Some(latency) = &phase.latency else { continue };
        let values =
            [latency.p50, latency.p90, latency.p99, latency.p999, latency.max, phase.lag].map(ms).join(" | ");
        let _ = writeln!(out, "| {} | {:.2} | {values} |", phase.name, latency.mean / 1_000.0);
    }
}

fn costs(out: &mut String, report: &Report) {
    let Some(before) = report.rss_before else { return };
    let _ = write!(
        out,
        "\nThe servers: {before} KiB resident before the first connection. CPU in µs as user + system = total.\n\n\
         | phase | of a core | per delivery | per connect | RSS KiB | KiB per connection |\n|---|--:|--:|--:|--:|--:|\n"
    );
    for phase in &report.phases {
        let cost = |cost: &Option<Cost>| {
            let text = |cost: &Cost| format!("{:.2} + {:.2} = {:.2}", cost.user, cost.system, cost.total);
            cost.as_ref().map_or_else(|| "-".to_owned(), text)
        };
        let memory = phase.memory_per_connection.map_or_else(|| "-".to_owned(), |kib| format!("{kib:.2}"));
        let _ = writeln!(
            out,
            "| {} | {:.1} % | {} | {} | {} | {memory} |",
            phase.name,
            phase.load.unwrap_or_default() * 100.0,
            cost(&phase.cost_per_delivery),
            cost(&phase.cost_per_connect),
            phase.usage.unwrap_or_default().rss,
        );
    }
    let cost = report.phase("measure").and_then(|phase| phase.cost_per_delivery);
    if let Some(cost) = cost.filter(|cost| report.scenario == "turn" && cost.total > 0.0) {
        let _ = writeln!(out, "\nCredentials a second and core: {:.0}.", 1_000_000.0 / cost.total);
    }
}
