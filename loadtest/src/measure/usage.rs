//! Processor time and memory of the servers, from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What `/proc/PID/stat` counts in; Linux shows user programs 100 a second on every machine that Rust runs on.
const MILLISECONDS_PER_TICK: u64 = 10;

/// Of several processes together, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Milliseconds.
    pub(crate) user: u64,
    /// Milliseconds.
    pub(crate) system: u64,
    /// KiB of memory that is resident.
    pub(crate) rss: u64,
    /// KiB that were resident at most.
    pub(crate) peak: u64,
}

impl Usage {
    /// Reads the present values; `None` without processes.
    pub(crate) fn read(pids: &[u32]) -> Result<Option<Self>> {
        let mut sum = Self::default();
        for pid in pids {
            let read = |file: &str| {
                let path = format!("/proc/{pid}/{file}");
                fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {path} (does it run, and as the same user?)"))
            };
            let (user, system) =
                ticks(&read("stat")?).with_context(|| format!("/proc/{pid}/stat is strange"))?;
            sum.user += user * MILLISECONDS_PER_TICK;
            sum.system += system * MILLISECONDS_PER_TICK;
            let rss = kib(&read("smaps_rollup")?, "Rss:");
            sum.rss += rss.with_context(|| format!("/proc/{pid}/smaps_rollup is strange"))?;
            sum.peak += kib(&read("status")?, "VmHWM:").unwrap_or_default();
        }
        Ok((!pids.is_empty()).then_some(sum))
    }
}

/// Fields 14 and 15. The second one is the program's name, which may have anything in it but a later parenthesis.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The value of a line `name:   value kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 12 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some((12, 34)));
    }

    #[test]
    fn this_process_can_be_read() {
        let usage = Usage::read(&[std::process::id()]).unwrap().unwrap();
        assert!(usage.rss > 100 && usage.peak > 100, "{usage:?}");
        assert_eq!(Usage::read(&[]).unwrap(), None);
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        let error = Usage::read(&[u32::MAX]).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/stat"), "{error}");
    }
}
