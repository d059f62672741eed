//! Starts the client processes, leads them through the phases, and reads `/proc` between them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::wire::{GO, Plan, Report as Said};
use crate::measure::progress::{Progress, ProgressLine};
use crate::measure::{PhaseReport, Report, Tally, Usage};
use crate::scenario::Scenario;

/// By this name it is found even after it was built anew.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Longer than any scenario is silent: workers report several times a second while a phase runs.
const SILENCE: Duration = Duration::from_secs(60);

/// Runs a scenario to its end.
pub(crate) fn run(scenario: &Scenario) -> Result<Report> {
    let load = scenario.load();
    load.validate()?;
    let pids = &scenario.output().pids;
    let before = Usage::read(pids)?;
    let rss_before = before.map(|usage| usage.rss);
    let mut crew = Crew::start(scenario, load.processes)?;
    let line = ProgressLine::new();
    let mut phases = Vec::new();
    while let Some(name) = crew.gather()? {
        let before = Usage::read(pids)?;
        let began = Instant::now();
        crew.go()?;
        let tally = crew.finish_phase(&name, &line)?;
        let seconds = began.elapsed().as_secs_f64();
        let usage = Usage::read(pids)?.zip(before).map(|(after, before)| Usage {
            user: after.user - before.user,
            system: after.system - before.system,
            ..after
        });
        phases.push(PhaseReport::new(name, seconds, &tally, usage, rss_before));
        line.clear();
    }
    Ok(Report {
        scenario: scenario.name().to_owned(),
        options: serde_json::to_value(scenario)?,
        rss_before,
        phases,
    })
}

/// The workers of a run; they end with it.
struct Crew {
    workers: Vec<(Child, ChildStdin)>,
    heard: Receiver<(usize, Option<Said>)>,
    /// Workers that are at their next point, or at the end, while others still finish a phase.
    waiting: Vec<Option<String>>,
}

impl Crew {
    fn start(scenario: &Scenario, processes: usize) -> Result<Self> {
        let (tell, heard) = channel();
        let mut crew = Self { workers: Vec::new(), heard, waiting: Vec::new() };
        for worker in 0..processes {
            let mut child = Command::new(THIS_PROGRAM)
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a client process")?;
            let mut stdin = child.stdin.take().context("stdin is piped")?;
            let stdout = child.stdout.take().context("stdout is piped")?;
            let plan = Plan { scenario: scenario.clone(), worker, workers: processes };
            writeln!(stdin, "{}", serde_json::to_string(&plan)?)?;
            crew.workers.push((child, stdin));
            let tell = tell.clone();
            std::thread::spawn(move || listen(worker, stdout, &tell));
        }
        Ok(crew)
    }

    /// Waits until all workers are at the same point: the name of the next phase, or `None` at the end.
    fn gather(&mut self) -> Result<Option<String>> {
        while self.waiting.len() < self.workers.len() {
            match self.listen()?.1 {
                Said::At(name) => self.waiting.push(Some(name)),
                Said::Finished => self.waiting.push(None),
                other => bail!("a client process said {other:?} out of turn"),
            }
        }
        let mut points = std::mem::take(&mut self.waiting);
        points.dedup();
        ensure!(points.len() == 1, "the client processes are not in step: {points:?}");
        Ok(points.pop().flatten())
    }

    fn go(&mut self) -> Result<()> {
        for (_, stdin) in &mut self.workers {
            writeln!(stdin, "{GO}").context("a client process is gone")?;
        }
        Ok(())
    }

    fn finish_phase(&mut self, name: &str, line: &ProgressLine) -> Result<Tally> {
        let mut progress = vec![Progress::default(); self.workers.len()];
        let mut sum = Tally::default();
        let mut missing = self.workers.len();
        while missing > 0 {
            match self.listen()? {
                (worker, Said::Progress(new)) => {
                    progress[worker] = new;
                    line.show(name, &progress);
                }
                (_, Said::Done(tally)) => {
                    sum.add(&tally);
                    missing -= 1;
                }
                (_, Said::At(name)) => self.waiting.push(Some(name)),
                (_, Said::Finished) => self.waiting.push(None),
                (_, Said::Failed(why)) => bail!("{why}"),
            }
        }
        Ok(sum)
    }

    fn listen(&self) -> Result<(usize, Said)> {
        match self.heard.recv_timeout(SILENCE).context("the client processes have gone silent")? {
            (_, Some(Said::Failed(why))) => bail!("{why}"),
            (worker, Some(said)) => Ok((worker, said)),
            (worker, None) => bail!("client process {worker} ended without a word"),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            // One that has ended cannot be killed, and need not be.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Passes on what a worker says, and when it ends without having said that it would.
fn listen(worker: usize, stdout: impl std::io::Read, tell: &Sender<(usize, Option<Said>)>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(said) = serde_json::from_str(&line) else { break };
        let is_last = matches!(said, Said::Finished | Said::Failed(_));
        if tell.send((worker, Some(said))).is_err() || is_last {
            return;
        }
    }
    // The run may have been given up.
    let _ = tell.send((worker, None));
}
