//! What the figures were measured on.

use std::fmt;
use std::fs::read_to_string;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// A machine, and the day.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    date: String,
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    pub(super) fn read() -> Self {
        let processors = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
        let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            date: date(now.as_secs() / 86_400),
            processor: model.map_or("unknown processor", |(_, model)| model).to_owned(),
            cores,
            kernel: kernel.trim().split('-').next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { date, processor, cores, kernel } = self;
        write!(f, "{date}, {cores} cores of {processor}, Linux {kernel}")
    }
}

/// The date of a day since 1970-01-01.
fn date(mut day: u64) -> String {
    let mut year = 1970;
    let length = |year: u64| {
        let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        (if is_leap { 366 } else { 365 }, is_leap)
    };
    while day >= length(year).0 {
        day -= length(year).0;
        year += 1;
    }
    let february = if length(year).1 { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_dates() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_454, "2026-01-01"),
            (20_818, "2026-12-31"),
        ] {
            assert_eq!(date(day), expected);
        }
    }
}
