//! Rules files: read at the start, read again while the program runs, checked and played by the subcommand `rules`.

use std::{
    ffi::OsString,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use signalbox_node::{
    Node,
    rules::{BUILTIN, Problem, RuleSet},
};

const USAGE: &str = "\
Usage: signalbox-gateway rules check FILE   says what is wrong with a rules file, and what its rules cost at most
       signalbox-gateway rules test FILE    plays the examples in it, without a server
       signalbox-gateway --print-rules      prints the built-in vocabulary as a rules file

Each ends with 0 if all is well, else with 1. How rules are written: docs/rules.md
";

/// Reads a rules file. `hooks`: those that there are.
///
/// # Errors
/// Why it cannot be used: a line for each problem, with its place and remedy.
pub fn read(path: &Path, hooks: &[&str]) -> Result<RuleSet> {
    parse(&content(path)?, hooks).map_err(|problems| wrong(path, &problems))
}

fn content(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) => bail!("{}: cannot be read: {error} (name a readable file)", path.display()),
    }
}

fn wrong(path: &Path, problems: &[Problem]) -> anyhow::Error {
    anyhow::anyhow!(lines(path, problems).join("\n"))
}

/// Rules that call no other hooks than these.
fn parse(text: &str, hooks: &[&str]) -> Result<RuleSet, Vec<Problem>> {
    let rules = RuleSet::parse(text)?;
    let unknown = rules.unknown_hooks(hooks);
    if unknown.is_empty() { Ok(rules) } else { Err(unknown) }
}

/// Problems as editors and terminals take them: `FILE:LINE:COLUMN: what (remedy)`.
fn lines(path: &Path, problems: &[Problem]) -> Vec<String> {
    let line = |it: &Problem| {
        format!("{}:{}:{}: {} ({})", path.display(), it.line, it.column, it.problem, it.remedy)
    };
    problems.iter().map(line).collect()
}

/// The rules file of a running node.
#[derive(Debug)]
pub struct LiveRules {
    path: PathBuf,
    hooks: Vec<String>,
    node: Node,
}

impl LiveRules {
    /// Rules that were read from this file at the start. `hooks`: those that there are.
    pub fn new(path: PathBuf, hooks: Vec<String>, node: Node) -> Self {
        Self { path, hooks, node }
    }

    /// Reads the file again. If it cannot be used, the rules stay as they are.
    pub fn reload(&self) {
        let file = self.path.display();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%file, %error, "the rules cannot be read again; those in force stay");
                return;
            }
        };
        let hooks: Vec<&str> = self.hooks.iter().map(String::as_str).collect();
        match parse(&text, &hooks) {
            Ok(rules) => {
                let count = rules.len();
                match self.node.set_rules(Arc::new(rules)) {
                    true => tracing::info!(%file, rules = count, "the rules were read again"),
                    false => tracing::warn!(
                        %file,
                        rules = count,
                        "the rules were read again; those that were put by the admin API stay in force until they are deleted"
                    ),
                }
            }
            Err(problems) => {
                let first = lines(&self.path, &problems).swap_remove(0);
                let more = problems.len() - 1;
                tracing::error!(more, "the rules are wrong; those in force stay: {first}");
            }
        }
    }
}

/// What came of a subcommand.
#[derive(Debug)]
pub struct Printed {
    /// For stdout.
    pub text: String,
    /// Whether all is well.
    pub is_good: bool,
}

/// The subcommand, as completions know it.
pub fn command() -> clap::Command {
    let file = clap::Arg::new("file").value_name("FILE").value_hint(clap::ValueHint::FilePath).required(true);
    let check =
        clap::Command::new("check").about("Says what is wrong with a rules file, or what its rules cost");
    let test = clap::Command::new("test").about("Plays the examples of a rules file");
    let rules = clap::Command::new("rules").about("Checks rules files");
    rules.subcommand(check.arg(file.clone())).subcommand(test.arg(file))
}

/// Runs `rules ...` or `--print-rules`, if that is what the arguments behind the program's name ask for.
///
/// # Errors
/// The file cannot be used.
pub fn run(arguments: &[OsString]) -> Option<Result<Printed>> {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(|word| &**word).collect();
    match words[..] {
        ["--print-rules"] => Some(Ok(Printed { text: BUILTIN.to_owned(), is_good: true })),
        ["rules", "check", file] => Some(check(Path::new(file))),
        ["rules", "test", file] => Some(test(Path::new(file))),
        ["rules", "--help" | "-h" | "help"] => Some(Ok(Printed { text: USAGE.to_owned(), is_good: true })),
        ["rules", ..] => Some(Ok(Printed { text: USAGE.to_owned(), is_good: false })),
        _ => None,
    }
}

/// The rules of a file, whatever hooks there are.
fn of_file(path: &Path) -> Result<RuleSet> {
    RuleSet::parse(&content(path)?).map_err(|problems| wrong(path, &problems))
}

fn check(path: &Path) -> Result<Printed> {
    let rules = of_file(path)?;
    let mut text = String::new();
    for (line, cost) in rules.costs() {
        let place = format!("{}:{line}", path.display());
        let _ = writeln!(
            text,
            "{place}: at most {} actions, {} questions to the cluster, {} values",
            cost.actions, cost.questions, cost.values
        );
    }
    let _ = writeln!(text, "{} rules, {} examples: good", rules.len(), rules.examples().len());
    Ok(Printed { text, is_good: true })
}

fn test(path: &Path) -> Result<Printed> {
    let rules = of_file(path)?;
    let failures = rules.play_examples();
    let mut text = String::new();
    for failure in &failures {
        let place = format!("{}:{}", path.display(), failure.line);
        let _ = writeln!(text, "{place}: {}: {}", failure.example, failure.what);
    }
    let count = rules.examples().len();
    let _ = match failures.len() {
        0 => writeln!(text, "{count} examples hold"),
        failed => writeln!(text, "{failed} of {count} examples went another way"),
    };
    Ok(Printed { text, is_good: failures.is_empty() })
}
