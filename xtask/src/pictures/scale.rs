//! Axes, units and colours, as Grafana has them.

/// Colours of series, in their order.
const PALETTE: [&str; 12] = [
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#c8a2eb", "#37872d",
    "#fade2a", "#e0b400", "#56a64b",
];

/// The colour of the series with this number.
pub(super) fn colour(number: usize) -> &'static str {
    PALETTE[number % PALETTE.len()]
}

/// What Grafana's names of colours look like.
pub(super) fn named(colour: &str) -> &'static str {
    match colour {
        "red" => "#f2495c",
        "yellow" => "#fade2a",
        "blue" => "#5794f2",
        _ => "#73bf69",
    }
}

/// Values at which an axis has its lines, from 0 to at least `most`: round ones in its unit.
pub(super) fn ticks(most: f64, unit: &str) -> Vec<f64> {
    let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
    if unit == "bytes" && most >= 1024.0 {
        let by = 1024_f64.powf(most.log(1024.0).floor());
        return ticks(most / by, "").into_iter().map(|tick| tick * by).collect();
    }
    let rough = most / 4.0;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * magnitude);
    let count = (most / step - 1e-9).ceil().max(1.0) as usize;
    (0..=count).map(|number| number as f64 * step).collect()
}

/// A value in its unit.
pub(super) fn shown(value: f64, unit: &str) -> String {
    match unit {
        "percentunit" => format!("{} %", short(value * 100.0)),
        "s" if value == 0.0 => "0 s".to_owned(),
        "s" if value.abs() < 0.001 => format!("{} µs", short(value * 1e6)),
        "s" if value.abs() < 1.0 => format!("{} ms", short(value * 1e3)),
        "s" if value.abs() < 60.0 => format!("{} s", short(value)),
        "s" => format!("{} min", short(value / 60.0)),
        "bytes" => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        "Bps" => scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
        "reqps" => format!("{} req/s", thousands(value)),
        "ops" => format!("{} ops/s", thousands(value)),
        "msg/s" => format!("{} msg/s", thousands(value)),
        "d" if value.abs() >= 365.0 => format!("{} years", short(value / 365.25)),
        "d" => format!("{} days", short(value)),
        _ => thousands(value),
    }
}

fn scaled(value: f64, by: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    while value.abs() >= by && unit + 1 < units.len() {
        value /= by;
        unit += 1;
    }
    format!("{} {}", short(value), units[unit])
}

fn thousands(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{} G", short(value / 1e9)),
        size if size >= 1e6 => format!("{} M", short(value / 1e6)),
        size if size >= 1e4 => format!("{} K", short(value / 1e3)),
        _ => short(value),
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.095 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_begin_at_zero_and_have_round_steps() {
        assert_eq!(ticks(0.0, ""), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(97.0, ""), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(ticks(3.0, ""), [0.0, 1.0, 2.0, 3.0]);
        let mib = 1024.0 * 1024.0;
        assert_eq!(ticks(250.0 * mib, "bytes"), [0.0, 100.0, 200.0, 300.0].map(|tick| tick * mib));
        assert!(ticks(f64::NAN, "").len() > 1);
    }

    #[test]
    fn values_are_in_their_units() {
        for (value, unit, text) in [
            (0.0123, "s", "12.3 ms"),
            (0.00042, "s", "420 µs"),
            (0.5, "percentunit", "50 %"),
            (268_435_456.0, "bytes", "256 MiB"),
            (12_345.0, "short", "12.3 K"),
            (1_234.0, "msg/s", "1234 msg/s"),
            (-20_000.0, "d", "-54.8 years"),
            (0.0, "Bps", "0 B/s"),
        ] {
            assert_eq!(shown(value, unit), text);
        }
    }
}
