//! One panel: a time series or a single value.

use serde_json::Value;

use super::scale::{colour, named, shown, ticks};
use super::svg::{Area, BRIGHT, DIM, Svg};
use super::{Recording, Series, text};

/// Series that a panel shows; more would be a tangle.
const MAX_SERIES: usize = 12;
/// How wide a character of a legend is, in pixels.
const CHARACTER: f64 = 6.1;

/// A panel with its card and its title.
pub(super) fn draw(svg: &mut Svg, area: Area, panel: &Value, series: &[Series], recording: &Recording) {
    svg.card(area);
    svg.label(area.x + 10.0, area.y + 19.0, 12.5, BRIGHT, text(panel, "title"));
    let inside =
        Area { x: area.x + 10.0, y: area.y + 28.0, width: area.width - 20.0, height: area.height - 36.0 };
    let unit = text(&panel["fieldConfig"]["defaults"], "unit");
    let series = &series[..series.len().min(MAX_SERIES)];
    match (series.iter().any(|one| one.values.iter().any(Option::is_some)), text(panel, "type")) {
        (false, _) => {
            let middle = (area.x + area.width / 2.0, area.y + area.height / 2.0 + 6.0);
            svg.label_around(middle.0, middle.1, 13.0, DIM, "No data");
        }
        (true, "stat") => stat(svg, inside, panel, series, unit, recording),
        (true, _) => lines(svg, inside, panel, series, unit, recording),
    }
}

/// The steps of a panel's thresholds above the first: from where on, and which colour.
fn thresholds(panel: &Value) -> Vec<(f64, &'static str)> {
    let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
    let steps = steps.into_iter().flatten();
    steps.filter_map(|step| Some((step["value"].as_f64()?, named(text(step, "color"))))).collect()
}

/// One large number, and how it went.
fn stat(svg: &mut Svg, area: Area, panel: &Value, series: &[Series], unit: &str, recording: &Recording) {
    let Some(one) = series.first() else { return };
    let Some(last) = one.values.iter().rev().find_map(|value| *value) else { return };
    let reached = thresholds(panel).into_iter().rev().find(|(from, _)| last >= *from);
    let mapped = mapped(panel, last);
    let colour = match mapped {
        Some(result) if result["color"].is_string() => named(text(result, "color")),
        _ => reached.map_or(named("green"), |(_, colour)| colour),
    };
    let known: Vec<f64> = one.values.iter().filter_map(|value| *value).collect();
    let most = known.iter().copied().fold(f64::MIN, f64::max);
    let least = known.iter().copied().fold(f64::MAX, f64::min).min(most * 0.6);
    let spread = if most > least { most - least } else { 1.0 };
    let graph = Area { y: area.y + area.height * 0.62, height: area.height * 0.38, ..area };
    let points = points(one, graph, recording, |value| 1.0 - 0.9 * (value - least) / spread);
    for part in &points {
        let base: Vec<(f64, f64)> = part.iter().map(|(x, _)| (*x, graph.y + graph.height)).collect();
        svg.fill(part, &base, colour, 0.18);
        svg.curve(part, colour);
    }
    let shown = match (mapped, unit) {
        (Some(result), _) => text(result, "text").to_owned(),
        (None, "dateTimeFromNow") => ago(last, recording),
        (None, _) => shown(last, unit),
    };
    let size = (area.width / (0.62 * shown.chars().count() as f64)).min(28.0);
    svg.number(area.x + area.width / 2.0, area.y + area.height * 0.28 + size / 3.0, size, colour, &shown);
}

/// What is shown in place of a value, where a range of values has a text, and perhaps a colour.
fn mapped(panel: &Value, value: f64) -> Option<&Value> {
    let mappings = panel["fieldConfig"]["defaults"]["mappings"].as_array()?;
    let holds = |options: &&Value| {
        value >= options["from"].as_f64().unwrap_or(f64::MIN)
            && value <= options["to"].as_f64().unwrap_or(f64::MAX)
    };
    mappings.iter().map(|mapping| &mapping["options"]).find(holds).map(|options| &options["result"])
}

/// How long before the end of the recording a time was, in milliseconds since 1970.
fn ago(time: f64, recording: &Recording) -> String {
    let end = recording.from + recording.step * recording.count as f64;
    let seconds = (end - time / 1e3).max(0.0);
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s ago"),
        _ => format!("{:.0} min ago", seconds / 60.0),
    }
}

/// The points of a series, in the parts that are not interrupted. `height` is from 0, at the top, to 1.
fn points(
    series: &Series,
    area: Area,
    recording: &Recording,
    height: impl Fn(f64) -> f64,
) -> Vec<Vec<(f64, f64)>> {
    let across = area.width / (recording.count.max(2) - 1) as f64;
    let mut parts = vec![Vec::new()];
    for (index, value) in series.values.iter().enumerate() {
        match (value, parts.last_mut()) {
            (Some(value), Some(part)) => {
                part.push((area.x + across * index as f64, area.y + area.height * height(*value)));
            }
            (None, Some(part)) if !part.is_empty() => parts.push(Vec::new()),
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A graph with axes and a legend.
fn lines(svg: &mut Svg, area: Area, panel: &Value, series: &[Series], unit: &str, recording: &Recording) {
    let is_stacked = text(&panel["fieldConfig"]["defaults"]["custom"]["stacking"], "mode") == "normal";
    let stacked = if is_stacked { stack(series) } else { series.to_vec() };
    let most = stacked.iter().flat_map(|one| &one.values).filter_map(|value| *value).fold(0.0, f64::max);
    let thresholds = thresholds(panel);
    // A threshold that is near enough belongs into the picture.
    let near =
        thresholds.iter().map(|(from, _)| *from).filter(|from| *from <= most * 2.5).fold(most, f64::max);
    let ticks = ticks(near, unit);
    let top = ticks.last().copied().unwrap_or(1.0);
    let legend = legend_rows(series, area.width);
    let labels = ticks.iter().map(|tick| shown(*tick, unit).chars().count()).max().unwrap_or(1) as f64;
    let left = labels * 6.0 + 8.0;
    let graph = Area {
        x: area.x + left,
        y: area.y + 6.0,
        width: area.width - left - 4.0,
        height: area.height - 24.0 - 15.0 * legend.len() as f64,
    };
    let y = |value: f64| graph.y + graph.height * (1.0 - value / top);
    for tick in &ticks {
        svg.grid((graph.x, y(*tick)), (graph.x + graph.width, y(*tick)));
        svg.label_to(graph.x - 6.0, y(*tick) + 3.5, 10.5, DIM, &shown(*tick, unit));
    }
    times(svg, graph, recording);
    let is_flat = |one: &Series| one.values.iter().all(|value| value.unwrap_or(0.0) == 0.0);
    let first_flat = series.iter().position(is_flat);
    for (number, one) in stacked.iter().enumerate().rev() {
        // Lines at zero cover each other.
        if is_flat(&series[number]) && first_flat != Some(number) {
            continue;
        }
        let parts = points(one, graph, recording, |value| 1.0 - value / top);
        let below = number.checked_sub(1).map(|number| &stacked[number]).filter(|_| is_stacked);
        for part in &parts {
            let base: Vec<(f64, f64)> = match below {
                Some(below) => {
                    let all: Vec<(f64, f64)> = points(below, graph, recording, |value| 1.0 - value / top)
                        .into_iter()
                        .flatten()
                        .collect();
                    all.into_iter()
                        .filter(|(x, _)| part.iter().any(|(other, _)| (other - x).abs() < 0.01))
                        .collect()
                }
                None => part.iter().map(|(x, _)| (*x, graph.y + graph.height)).collect(),
            };
            svg.fill(part, &base, colour(number), if is_stacked { 0.3 } else { 0.06 });
            svg.curve(part, colour(number));
        }
    }
    for (from, colour) in thresholds.iter().filter(|(from, _)| *from <= top) {
        svg.threshold((graph.x, y(*from)), (graph.x + graph.width, y(*from)), colour);
    }
    for (row, entries) in legend.iter().enumerate() {
        let y = area.y + area.height - 15.0 * (legend.len() - 1 - row) as f64 + 2.0;
        for (x, number, name) in entries {
            svg.mark(area.x + x, y - 5.0, colour(*number));
            svg.label(area.x + x + 17.0, y, 10.5, DIM, name);
        }
    }
}

/// Each series on top of those before it.
fn stack(series: &[Series]) -> Vec<Series> {
    let mut below: Vec<f64> = Vec::new();
    series
        .iter()
        .map(|one| {
            below.resize(below.len().max(one.values.len()), 0.0);
            let values = one.values.iter().zip(&mut below).map(|(value, below)| {
                *below += value.unwrap_or(0.0);
                Some(*below)
            });
            Series { legend: one.legend.clone(), values: values.collect() }
        })
        .collect()
}

/// The entries of a legend in two rows at most: where each begins, its number and its name. Those of lines that can be seen come first.
fn legend_rows(series: &[Series], width: f64) -> Vec<Vec<(f64, usize, String)>> {
    let mut rows = vec![Vec::new()];
    let mut x = 0.0;
    let is_seen = |one: &Series| one.values.iter().any(|value| value.unwrap_or(0.0) != 0.0);
    let mut in_order: Vec<(usize, &Series)> = series.iter().enumerate().collect();
    in_order.sort_by_key(|(_, one)| !is_seen(one));
    for (number, one) in in_order {
        let name: String = one.legend.chars().take(34).collect();
        let wide = 17.0 + CHARACTER * name.chars().count() as f64 + 12.0;
        if x > 0.0 && x + wide > width {
            if rows.len() == 2 {
                break;
            }
            rows.push(Vec::new());
            x = 0.0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, number, name));
        }
        x += wide;
    }
    rows
}

/// The axis of time: minutes and seconds since the recording began.
fn times(svg: &mut Svg, graph: Area, recording: &Recording) {
    let whole = recording.step * (recording.count.max(2) - 1) as f64;
    let every =
        [15.0, 30.0, 60.0, 120.0, 300.0].into_iter().find(|every| whole / every <= 5.0).unwrap_or(600.0);
    let mut at = 0.0;
    while at <= whole {
        let x = graph.x + graph.width * at / whole;
        svg.grid((x, graph.y), (x, graph.y + graph.height));
        let label = format!("{}:{:02}", (at / 60.0) as u64, (at % 60.0) as u64);
        svg.label_around(
            x.min(graph.x + graph.width - 10.0),
            graph.y + graph.height + 14.0,
            10.5,
            DIM,
            &label,
        );
        at += every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(legend: &str, values: &[Option<f64>]) -> Series {
        Series { legend: legend.to_owned(), values: values.to_vec() }
    }

    #[test]
    fn a_line_is_interrupted_where_there_is_no_value() {
        let area = Area { x: 0.0, y: 0.0, width: 30.0, height: 10.0 };
        let recording = Recording { from: 0.0, step: 1.0, count: 4, panels: Default::default() };
        let parts =
            points(&series("a", &[Some(1.0), None, None, Some(0.0)]), area, &recording, |value| value);
        assert_eq!(parts, [vec![(0.0, 10.0)], vec![(30.0, 0.0)]]);
    }

    #[test]
    fn a_range_of_values_may_have_a_text() {
        let mappings = serde_json::json!([{"type": "range", "options": {"from": null, "to": -10000, "result": {"text": "no TLS"}}}]);
        let panel = serde_json::json!({"fieldConfig": {"defaults": {"mappings": mappings}}});
        assert_eq!(mapped(&panel, -20_000.0).map(|result| text(result, "text")), Some("no TLS"));
        assert_eq!(mapped(&panel, -3.0), None);
    }

    #[test]
    fn series_are_stacked_in_their_order_and_the_legend_has_two_rows() {
        let stacked = stack(&[series("a", &[Some(1.0), None]), series("b", &[Some(2.0), Some(3.0)])]);
        assert_eq!(stacked[1].values, [Some(3.0), Some(3.0)]);
        let many: Vec<Series> = (0..40).map(|number| series(&format!("series {number}"), &[])).collect();
        assert_eq!(legend_rows(&many, 300.0).len(), 2);
    }
}
