//! A client process, as a scenario sees it.

use std::io::{BufRead as _, Write as _};
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::wire::{GO, Plan, Report};
use crate::measure::Tally;
use crate::measure::progress::Progress;
use crate::net::{Handler, Net};

/// Which part of the clients is this process'.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    worker: usize,
    workers: usize,
}

impl Share {
    /// Our part of `total` things.
    pub(crate) fn of(self, total: usize) -> Range<usize> {
        let at = |worker: usize| total * worker / self.workers;
        at(self.worker)..at(self.worker + 1)
    }

    /// Our part of a rate, where we have this part of `total` things.
    pub(crate) fn rate(self, rate: f64, total: usize) -> f64 {
        rate * self.of(total).len() as f64 / total as f64
    }
}

/// A part of a scenario that is measured as one.
pub(crate) trait Phase: Handler {
    /// The phase begins now.
    fn begin(&mut self, net: &mut Net, now: Instant) -> Result<()>;

    /// What was counted in it.
    fn tally(&self) -> &Tally;
}

/// The connection to the coordinator.
#[derive(Debug)]
pub(crate) struct Worker {
    share: Share,
    phases: u32,
}

impl Worker {
    /// Takes part in the run that the coordinator describes on stdin.
    pub(crate) fn serve() -> Result<()> {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        let plan: Plan = serde_json::from_str(&line)
            .context("this command is for loadtest itself; start a scenario instead (loadtest --help)")?;
        let mut worker = Self { share: Share { worker: plan.worker, workers: plan.workers }, phases: 0 };
        match plan.scenario.run(&mut worker) {
            Ok(()) => say(&Report::Finished),
            Err(error) => say(&Report::Failed(format!("{error:#}"))),
        }
    }

    pub(crate) fn share(&self) -> Share {
        self.share
    }

    /// A number that no other phase of any worker of this run has.
    pub(crate) fn run_number(&self) -> u32 {
        self.phases << 8 | self.share.worker as u32
    }

    /// Waits until all workers are here, then lets the phase run.
    pub(crate) fn phase(&mut self, name: &str, net: &mut Net, phase: &mut impl Phase) -> Result<()> {
        self.phases += 1;
        say(&Report::At(name.to_owned()))?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        if line.trim_end() != GO {
            bail!("the run was given up");
        }
        phase.begin(net, Instant::now())?;
        net.run(phase, |phase, net| {
            // Whether the coordinator still listens is found out at the end of the phase.
            let _ = say(&Report::Progress(Progress::new(phase.tally(), net.open())));
        })?;
        let mut tally = phase.tally().clone();
        // Where sessions are more than connections, the phase has counted them itself.
        tally.connections = tally.connections.max(net.open());
        say(&Report::Done(Box::new(tally)))
    }
}

fn say(report: &Report) -> Result<()> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    std::io::stdout().lock().write_all(line.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_workers_are_the_whole() {
        for (total, workers) in [(10, 3), (1, 2), (19_500, 2)] {
            let shares: Vec<_> = (0..workers).map(|worker| Share { worker, workers }.of(total)).collect();
            assert_eq!(shares.iter().cloned().flatten().collect::<Vec<_>>(), (0..total).collect::<Vec<_>>());
        }
    }
}
