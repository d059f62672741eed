//! The file with the counts, and what has changed since they were recorded.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::callgrind::Counts;

/// A change up to this is not reported.
const TOLERANCE_PERCENT: f64 = 2.0;

/// A case that may cost so many percent more than another one.
const BOUNDS: [(&str, &str, f64); 1] =
    [("fanout: deliver to 1 other member, with tokens", "fanout: deliver to 1 other member", 3.0)];

/// A part of a case that may be so many percent of it.
const SHARES: [(&str, &str, f64); 2] = [
    ("fanout: deliver to 1 other member: of it metrics", "fanout: deliver to 1 other member", 2.0),
    (
        "fanout: deliver to 1 other member: of it traces, which are off",
        "fanout: deliver to 1 other member",
        0.2,
    ),
];

const HEAD: &str = "# Instructions for 1,000 operations, as callgrind counts them: written by `cargo xtask bench --accept`.\n\n";

/// The counts on record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The versions of compiler, libc and valgrind, and the machine, at the time of counting.
    tools: BTreeMap<String, String>,
    /// By suite and case.
    counts: BTreeMap<String, Counts>,
}

/// How a case compares with the record.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It costs what is on record, within the tolerance.
    Same(String),
    /// It costs more or less, is not on record, or is only on record.
    Changed(String),
}

impl Record {
    pub(super) fn new(tools: BTreeMap<String, String>) -> Self {
        Self { tools, counts: BTreeMap::new() }
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("not a record of counts")
    }

    pub(super) fn add(&mut self, suite: &str, counts: Counts) {
        self.counts.insert(suite.to_owned(), counts);
    }

    /// The text of the file.
    pub(super) fn render(&self) -> Result<String> {
        Ok(format!("{HEAD}{}", toml::to_string(self)?))
    }

    /// Compares a suite's counts with those on record.
    pub(super) fn judge(&self, suite: &str, counted: &Counts) -> Vec<Verdict> {
        let nothing = Counts::new();
        let recorded = self.counts.get(suite).unwrap_or(&nothing);
        let cases: BTreeSet<&String> = recorded.keys().chain(counted.keys()).collect();
        let judge = |case: &String| match (recorded.get(case), counted.get(case)) {
            (Some(before), Some(now)) => judge_case(case, *before, *now),
            (None, now) => Verdict::Changed(format!("{case}: {}, not on record", now.copied().unwrap_or(0))),
            (Some(_), None) => Verdict::Changed(format!("{case}: on record, but no longer counted")),
        };
        cases.into_iter().map(judge).collect()
    }

    /// A sentence about versions that differ from those on record, if any do: they may be the whole reason for a change.
    pub(super) fn other_tools(&self, here: &BTreeMap<String, String>) -> Option<String> {
        let names: BTreeSet<&String> = self.tools.keys().chain(here.keys()).collect();
        let shown = |tools: &BTreeMap<String, String>, name| tools.get(name).cloned().unwrap_or_default();
        let different: Vec<String> = names
            .into_iter()
            .map(|name| (name, shown(&self.tools, name), shown(here, name)))
            .filter(|(_, recorded, here)| recorded != here)
            .map(|(name, recorded, here)| format!("{name} was {recorded:?} and is {here:?}"))
            .collect();
        let list = different.join(", ");
        (!list.is_empty()).then(|| format!("recorded elsewhere ({list}), which may be the only reason"))
    }
}

/// The cases that cost too much beside another one, or as a part of it.
pub(super) fn beyond_bounds(counted: &Counts) -> Vec<String> {
    let judge = |(case, other, most): &(&str, &str, f64)| {
        let (count, other_count) = (*counted.get(*case)?, *counted.get(*other)?);
        let more = count as f64 - other_count as f64;
        let percent = more * 100.0 / other_count.max(1) as f64;
        (percent > *most)
            .then(|| format!("{case}: {count}, which is {percent:+.1} % beside {other} and may be {most} %"))
    };
    let judge_share = |(part, whole, most): &(&str, &str, f64)| {
        let (count, whole_count) = (*counted.get(*part)?, *counted.get(*whole)?);
        let percent = count as f64 * 100.0 / whole_count.max(1) as f64;
        (percent > *most)
            .then(|| format!("{part}: {count}, which is {percent:.2} % of {whole_count} and may be {most} %"))
    };
    BOUNDS.iter().filter_map(judge).chain(SHARES.iter().filter_map(judge_share)).collect()
}

fn judge_case(case: &str, before: u64, now: u64) -> Verdict {
    let percent = (now as f64 - before as f64) / before.max(1) as f64 * 100.0;
    if percent.abs() > TOLERANCE_PERCENT {
        Verdict::Changed(format!("{case}: {before} -> {now} ({percent:+.1} %)"))
    } else {
        Verdict::Same(format!("{case}: {now} ({percent:+.4} %)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    fn tools(compiler: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("compiler".to_owned(), compiler.to_owned())])
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = Record::new(tools("rustc 1"));
        record.add("codecs", counts(&[("websocket: read", 600_018)]));
        let text = record.render().unwrap();
        let read = Record::parse(&text).unwrap();
        assert_eq!(read.tools, record.tools);
        assert_eq!(read.counts, record.counts);
    }

    #[test]
    fn a_change_in_either_direction_is_found_and_a_small_one_is_not() {
        let mut record = Record::new(tools("rustc 1"));
        record.add("codecs", counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000), ("gone", 1)]));
        let now = counts(&[("a", 1020), ("b", 1021), ("c", 980), ("d", 979), ("new", 7)]);
        let expected = [
            Verdict::Same("a: 1020 (+2.0000 %)".to_owned()),
            Verdict::Changed("b: 1000 -> 1021 (+2.1 %)".to_owned()),
            Verdict::Same("c: 980 (-2.0000 %)".to_owned()),
            Verdict::Changed("d: 1000 -> 979 (-2.1 %)".to_owned()),
            Verdict::Changed("gone: on record, but no longer counted".to_owned()),
            Verdict::Changed("new: 7, not on record".to_owned()),
        ];
        assert_eq!(record.judge("codecs", &now), expected);
        assert_eq!(record.judge("fanout", &Counts::new()), []);
    }

    #[test]
    fn another_compiler_is_named() {
        let record = Record::new(tools("rustc 1"));
        assert_eq!(record.other_tools(&tools("rustc 1")), None);
        let sentence = record.other_tools(&tools("rustc 2")).unwrap();
        assert!(sentence.contains(r#"compiler was "rustc 1" and is "rustc 2""#), "{sentence}");
    }

    #[test]
    fn a_case_beyond_its_bound_is_found_whatever_is_on_record() {
        let [(case, other, _)] = BOUNDS;
        assert!(beyond_bounds(&counts(&[(case, 1030), (other, 1000)])).is_empty());
        assert_eq!(beyond_bounds(&counts(&[(case, 1031), (other, 1000)])).len(), 1);
        assert!(beyond_bounds(&counts(&[(other, 1000)])).is_empty());
        let [(part, whole, _), ..] = SHARES;
        assert!(beyond_bounds(&counts(&[(part, 20), (whole, 1000)])).is_empty());
        assert_eq!(beyond_bounds(&counts(&[(part, 21), (whole, 1000)])).len(), 1);
    }
}
