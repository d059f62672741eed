//! Medians, ratios, and the table.

use std::fmt::Write as _;

use serde::Serialize;

use super::Run;
use super::measurements::{Measurement, Sizes};
use super::rows::{Definition, ROWS, Target};
use super::servers::Contestant;

/// A row with its figures.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    title: String,
    /// The median of each column that was measured.
    medians: Vec<(Column, f64)>,
    /// The least and the greatest of ours.
    range: Option<(f64, f64)>,
    /// What ours may be at most, if that can be told.
    bound: Option<f64>,
    holds: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Column {
    SocketIo,
    Socketioxide,
    Peer,
    Floor,
    Ours,
}

const COLUMNS: [(Column, &str); 5] = [
    (Column::SocketIo, "socket.io"),
    (Column::Socketioxide, "socketioxide"),
    (Column::Peer, "peer"),
    (Column::Floor, "the floor"),
    (Column::Ours, "**ours**"),
];

impl From<Contestant> for Column {
    fn from(contestant: Contestant) -> Self {
        match contestant {
            Contestant::SocketIo => Self::SocketIo,
            Contestant::Socketioxide => Self::Socketioxide,
            Contestant::Peer => Self::Peer,
            Contestant::Floor => Self::Floor,
            Contestant::Gateway | Contestant::Handlers => Self::Ours,
        }
    }
}

impl Row {
    fn median(&self, column: Column) -> Option<f64> {
        self.medians.iter().find(|(of, _)| *of == column).map(|(_, median)| *median)
    }

    /// The least of the servers that people use; each measures costs.
    fn best_other(&self) -> Option<f64> {
        let others = [Column::SocketIo, Column::Socketioxide, Column::Peer];
        others.into_iter().filter_map(|column| self.median(column)).min_by(f64::total_cmp)
    }
}

/// The rows of everything that was measured.
pub(super) fn rows(runs: &[Run], sizes: &Sizes) -> Vec<Row> {
    let of = |definition: &Definition| row(definition, runs, sizes);
    ROWS.iter().filter_map(of).collect()
}

fn row(definition: &Definition, runs: &[Run], sizes: &Sizes) -> Option<Row> {
    let values = |measurement: Measurement, column: Column| {
        let of_column =
            move |run: &&Run| run.measurement == measurement && Column::from(run.contestant) == column;
        let mut values: Vec<f64> = runs.iter().filter(of_column).filter_map(definition.value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let mut row = Row {
        title: sizes.fill(definition.title),
        medians: Vec::new(),
        range: None,
        bound: None,
        holds: None,
    };
    for (column, _) in COLUMNS {
        let values = values(definition.measurement, column);
        row.medians.extend(median(&values).map(|median| (column, median)));
    }
    let ours = values(definition.measurement, Column::Ours);
    row.range = ours.first().copied().zip(ours.last().copied());
    row.bound = match definition.target {
        Target::AtMost(bound) | Target::Exactly(bound) => Some(bound),
        Target::TimesFloor(factor) => row.median(Column::Floor).map(|floor| factor * floor),
        Target::TimesBest(factor) => row.best_other().map(|best| factor * best),
        Target::Times(factor, contestant) => row.median(contestant.into()).map(|other| factor * other),
        Target::TimesOwn(factor, other) => median(&values(other, Column::Ours)).map(|own| factor * own),
    };
    let is_exact = matches!(definition.target, Target::Exactly(_));
    row.holds = row
        .median(Column::Ours)
        .zip(row.bound)
        .map(|(ours, bound)| if is_exact { ours == bound } else { ours <= bound });
    (!row.medians.is_empty()).then_some(row)
}

/// Of sorted values.
fn median(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        even if even.is_multiple_of(2) => Some(f64::midpoint(values[middle - 1], values[middle])),
        _ => Some(values[middle]),
    }
}

/// The table. A ratio below 1 means that ours is less.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from("| |");
    for (_, name) in COLUMNS {
        let _ = write!(out, " {name} |");
    }
    out.push_str(" least - most | ours / floor | ours / best other | target | holds |\n|---|");
    out.push_str(&"--:|".repeat(COLUMNS.len() + 4));
    out.push_str("---|\n");
    for row in rows {
        let _ = write!(out, "| {} |", row.title);
        for (column, _) in COLUMNS {
            let _ = write!(out, " {} |", row.median(column).map_or_else(String::new, figure));
        }
        let range = row
            .range
            .map_or_else(String::new, |(least, most)| format!("{} - {}", figure(least), figure(most)));
        let ratio = |other: Option<f64>| {
            let ratio = row.median(Column::Ours).zip(other.filter(|other| *other > 0.0));
            ratio.map_or_else(String::new, |(ours, other)| format!("{:.2}", ours / other))
        };
        let bound = row.bound.filter(|bound| bound.is_finite());
        let holds = match row.holds {
            Some(_) if bound.is_none() => "",
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let _ = writeln!(
            out,
            " {range} | {} | {} | {} | {holds} |",
            ratio(row.median(Column::Floor)),
            ratio(row.best_other()),
            bound.map_or_else(String::new, |bound| format!("≤ {}", figure(bound))),
        );
    }
    out
}

/// About three digits.
fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{PhaseReport, Report, Tally, Usage};

    fn run(contestant: Contestant, round: usize, milliseconds: u64) -> Run {
        let tally = Tally { expected: 1_000, delivered: 1_000, ..Tally::default() };
        let usage =
            Usage { user: milliseconds / 10, system: milliseconds - milliseconds / 10, rss: 0, peak: 0 };
        let phases = vec![PhaseReport::new("measure".to_owned(), 1.0, &tally, Some(usage), None)];
        let report =
            Report { scenario: "fanout".to_owned(), options: Default::default(), rss_before: None, phases };
        let measurement = Measurement::Fanout100;
        Run { round, measurement, contestant, arguments: Vec::new(), evictions: None, report }
    }

    #[test]
    fn a_target_is_held_against_the_medians() {
        let mut runs = Vec::new();
        for (round, [floor, socketio, ours]) in [[8, 14, 9], [7, 13, 99], [9, 15, 9]].into_iter().enumerate()
        {
            runs.push(run(Contestant::Floor, round, floor));
            runs.push(run(Contestant::SocketIo, round, socketio));
            runs.push(run(Contestant::Gateway, round, ours));
        }
        let rows = rows(&runs, &Sizes::quick());
        let total =
            rows.iter().find(|row| row.title.starts_with("total CPU per delivery, room of 100")).unwrap();
        assert_eq!(total.median(Column::Ours), Some(9.0));
        assert_eq!(total.range, Some((9.0, 99.0)));
        assert_eq!(total.bound.map(figure).as_deref(), Some("9.60"));
        assert_eq!(total.holds, Some(true));
        let markdown = markdown(&rows);
        assert!(
            markdown.contains("| 14.0 |  |  | 8.00 | 9.00 | 9.00 - 99.0 | 1.12 | 0.64 | ≤ 9.60 | yes |"),
            "{markdown}"
        );
    }

    #[test]
    fn medians_of_an_even_number_lie_between() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, 2.0, 4.0, 8.0]), Some(3.0));
    }
}
