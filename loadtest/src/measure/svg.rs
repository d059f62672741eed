//! Latency over time as a picture.

use std::fmt::Write as _;

use super::Report;
use super::latency::Percentiles;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

/// A line: its name, its colour, and what it shows.
type Line = (&'static str, &'static str, fn(&Percentiles) -> u64);

const LINES: [Line; 3] = [("p50", "#2a7", |p| p.p50), ("p99", "#d80", |p| p.p99), ("max", "#c33", |p| p.max)];

/// All phases one after the other, on a logarithmic scale; `None` if there were no latencies.
pub(crate) fn write(report: &Report) -> Option<String> {
    let mut points: Vec<(f64, Percentiles)> = Vec::new();
    let mut starts = Vec::new();
    let mut elapsed = 0.0;
    for phase in report.phases.iter().filter(|phase| !phase.series.is_empty()) {
        starts.push((elapsed, phase.name.as_str()));
        points.extend(phase.series.iter().map(|(at, point)| (elapsed + at, *point)));
        elapsed += phase.seconds;
    }
    let lowest = points.iter().map(|(_, point)| point.p50).min()?.max(1);
    let highest = points.iter().map(|(_, point)| point.max).max()?.max(lowest + 1);
    let scale = Scale::new(elapsed, lowest, highest);

    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="18" font-size="14">{}: latency over time, from when a message was due</text>
"##,
        report.scenario
    );
    grid(&mut svg, &scale);
    for (start, name) in starts {
        let x = scale.x(start);
        let _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {TOP}V{:.1}" stroke="#888" stroke-dasharray="3"/><text x="{:.1}" y="{:.1}" fill="#666">{name}</text>"##,
            HEIGHT - BOTTOM,
            x + 4.0,
            TOP + 12.0
        );
    }
    for (name, colour, value) in LINES {
        let path: Vec<_> = points
            .iter()
            .map(|(at, point)| format!("{:.1},{:.1}", scale.x(*at), scale.y(value(point))))
            .collect();
        let end = points.last().map_or(0.0, |(_, point)| scale.y(value(point)));
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{}"/><text x="{:.1}" y="{:.1}" fill="{colour}">{name}</text>"#,
            path.join(" "),
            WIDTH - RIGHT + 6.0,
            end + 4.0
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// From seconds and microseconds to the picture.
struct Scale {
    seconds: f64,
    /// Powers of ten.
    bottom: f64,
    top: f64,
}

impl Scale {
    fn new(seconds: f64, lowest: u64, highest: u64) -> Self {
        let bottom = (lowest as f64).log10().floor();
        Self { seconds: seconds.max(0.1), bottom, top: (highest as f64).log10().ceil().max(bottom + 1.0) }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.seconds
    }

    fn y(&self, microseconds: u64) -> f64 {
        let share = ((microseconds.max(1) as f64).log10() - self.bottom) / (self.top - self.bottom);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }
}

fn grid(svg: &mut String, scale: &Scale) {
    for power in scale.bottom as i32..=scale.top as i32 {
        let microseconds = 10_f64.powi(power);
        let y = scale.y(microseconds as u64);
        let label = match power {
            ..3 => format!("{microseconds} µs"),
            3..6 => format!("{} ms", microseconds / 1e3),
            _ => format!("{} s", microseconds / 1e6),
        };
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {y:.1}H{:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"##,
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
    for tenth in 0..=10 {
        let seconds = scale.seconds * f64::from(tenth) / 10.0;
        let _ = writeln!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{seconds:.1} s</text>"#,
            scale.x(seconds),
            HEIGHT - BOTTOM + 18.0
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{PhaseReport, Tally};

    #[test]
    fn each_line_has_a_point_per_slice() {
        let mut tally = Tally::default();
        for n in 0..10 {
            tally.latency.record(Duration::from_millis(200 * n), Duration::from_micros(100 + n));
        }
        let phases = vec![PhaseReport::new("measure".to_owned(), 2.0, &tally, None, None)];
        let report =
            Report { scenario: "fanout".to_owned(), options: Default::default(), rss_before: None, phases };
        let svg = write(&report).unwrap();
        assert_eq!(svg.matches("<polyline").count(), LINES.len());
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(points.split(' ').count(), 10);
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn without_latencies_there_is_no_picture() {
        let report = Report {
            scenario: "idle".to_owned(),
            options: Default::default(),
            rss_before: None,
            phases: vec![],
        };
        assert!(write(&report).is_none());
    }
}
