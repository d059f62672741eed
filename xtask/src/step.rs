//! A step of a task. It prints when it starts and how long it took, and when it fails, what to do.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

/// How a step that did not fail ended.
pub(crate) enum Outcome {
    /// It did its work.
    Done,
    /// It had nothing to do, or cannot run on this machine; the text is the reason.
    Skipped(String),
}

/// One line of progress. It goes to stderr, since stdout belongs to the programs that are run.
#[expect(clippy::print_stderr, reason = "the one place where progress is reported")]
pub(crate) fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// Runs one step; `remedy` is what to do when it fails.
pub(crate) fn step(name: &str, remedy: &str, work: impl FnOnce() -> Result<Outcome>) -> Result<()> {
    say(&format!("{name} ..."));
    let started = Instant::now();
    let outcome = work();
    let seconds = started.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Done) => say(&format!("{name}: ok ({seconds:.1} s)")),
        Ok(Outcome::Skipped(reason)) => say(&format!("{name}: skipped, {reason} ({seconds:.1} s)")),
        Err(error) => {
            return Err(anyhow!("{name}: FAILED ({seconds:.1} s)\n{error:#}\nremedy: {remedy}"));
        }
    }
    Ok(())
}

/// A step that is one command.
pub(crate) fn command_step(name: &str, remedy: &str, command: &mut Command) -> Result<()> {
    step(name, remedy, || run(command).map(|()| Outcome::Done))
}

/// Runs the command with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs the command and captures its output, which is returned, or becomes part of the error when the command fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}\n{}\n{}", shown(command), output.status, stdout.trim(), stderr.trim());
    }
    Ok(stdout)
}

/// Whether the command can be run and succeeds; its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
