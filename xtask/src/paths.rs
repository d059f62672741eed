//! No file of the project contains a path of the machine it was written on, or the address a package was downloaded from.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::step::{Outcome, run_quietly};
use crate::workspace::Workspace;

/// Top directories under which people and build machines keep their checkouts and scratch files.
const MACHINE_DIRECTORIES: [&str; 7] = ["home", "Users", "root", "tmp", "work", "workspace", "builds"];

/// Checks every file that is, or would be, under version control.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    if !workspace.path(".git").exists() {
        return Ok(Outcome::Skipped("this is no git checkout".to_owned()));
    }
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let files = run_quietly(workspace.program("git").args(listing))?;
    let mut needles: Vec<String> = MACHINE_DIRECTORIES.iter().map(|name| format!("/{name}")).collect();
    needles.push(workspace.root().to_string_lossy().into_owned());
    if let Some(home) = std::env::home_dir().filter(|home| home.components().count() > 1) {
        needles.push(home.to_string_lossy().into_owned());
    }

    let mut found = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let path = workspace.path(file);
        // Skip links, and files whose deletion is not committed yet.
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let content = std::fs::read(&path).with_context(|| format!("cannot read {file}"))?;
        // A file that is not text, such as a picture, contains no paths.
        let Ok(text) = String::from_utf8(content) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(problem) = problem(file, line, &needles) {
                found.push(format!("{file}:{}: {problem}", number + 1));
            }
        }
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(Outcome::Done)
}

fn problem(file: &str, line: &str, needles: &[String]) -> Option<String> {
    if Path::new(file).file_name().is_some_and(|name| name == "package-lock.json")
        && line.contains("\"resolved\"")
    {
        return Some("a download address".to_owned());
    }
    let needle = needles.iter().find(|needle| names_directory(line, needle))?;
    Some(format!("a path under {needle}"))
}

/// Whether the line contains this absolute directory itself, and not a longer path, name or address that contains it.
fn names_directory(line: &str, directory: &str) -> bool {
    line.match_indices(directory).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + directory.len()..].chars().next();
        let continues_a_path = before.is_some_and(|c| c.is_alphanumeric() || "./-_~}])*$>".contains(c));
        // Only a path below it counts: the bare name may be a route of the server or a word.
        after == Some('/') && !continues_a_path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_machine_is_found_and_a_route_is_not() {
        let needles: Vec<String> = MACHINE_DIRECTORIES.iter().map(|name| format!("/{name}")).collect();
        // Put together here, since this file is checked as well.
        let home = format!("/{}/me", "home");
        let found = |file: &str, line: &str| problem(file, line, &needles).is_some();
        assert!(found("a.rs", &format!("open(\"{home}/x\")")));
        assert!(found("a.md", &format!("see {home}")));
        assert!(found("a.sh", &format!("DIR={home}")));
        for line in ["GET /home", "target/tmp/x", "../work/x", "https://a.example/tmp/x", "${HOME}/tmp/x"] {
            assert!(!found("a.rs", line), "{line}");
        }
    }

    #[test]
    fn a_lock_file_with_download_addresses_is_found() {
        let line = "      \"resolved\": \"https://a.example/x.tgz\",";
        assert!(problem("tests/js/package-lock.json", line, &[]).is_some());
        assert!(problem("tests/js/other.json", line, &[]).is_none());
    }
}
