//! Licences, bans and sources of everything we depend on, as deny.toml has them. cargo-deny reads the same file, and
//! `cargo xtask check` runs it; but it takes minutes to build, and this must hold in every test run.
//!
//! A key of deny.toml that is not known here is an error: a rule that only cargo-deny knows would go unchecked.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::step::{Outcome, run_quietly};
use crate::workspace::Workspace;

const FILE: &str = "deny.toml";
/// The one registry that is known where the file names none, as cargo writes it.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Policies {
    graph: Scope,
    licenses: Licenses,
    bans: Bans,
    #[serde(rename = "sources")]
    _sources: Sources,
}

/// What is looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Scope {
    targets: Vec<String>,
    all_features: Always,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Licenses {
    allow: Vec<String>,
    #[serde(rename = "include-dev")]
    _include_dev: Always,
    /// How sure cargo-deny is to be of the texts it compares where a package declares no licence. Here, such a package fails.
    #[serde(rename = "confidence-threshold")]
    _confidence_threshold: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: Warn,
    #[serde(rename = "wildcards")]
    _wildcards: Deny,
    #[serde(rename = "allow-wildcard-paths")]
    _allow_wildcard_paths: Always,
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    /// The name alone: every version is banned.
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Deny,
    #[serde(rename = "unknown-git")]
    _unknown_git: Deny,
}

/// The one level that is implemented for a key that may have others.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deny {
    Deny,
}

/// A warning fails nothing; cargo-deny shows it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Warn {
    Warn,
}

/// A key that has to be there, and `true`.
#[derive(Deserialize)]
#[serde(try_from = "bool")]
struct Always;

impl TryFrom<bool> for Always {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("only `true` is implemented in xtask/src/policies.rs")
    }
}

/// What cargo says of the packages.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for what lies in the checkout.
    source: Option<String>,
    /// The registries it may go to; an empty list for what is private.
    publish: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
    kind: Option<String>,
}

/// Checks everything that the targets of deny.toml need.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let text =
        std::fs::read_to_string(workspace.path(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    let policies = Policies::parse(&text)?;
    let Always = policies.graph.all_features;
    let targets = |flag: &'static str| policies.graph.targets.iter().flat_map(move |target| [flag, target]);

    let mut cargo = workspace.cargo(&["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let json = run_quietly(cargo.args(targets("--filter-platform")))?;
    let metadata: Metadata = serde_json::from_str(&json).context("cannot read cargo's metadata")?;
    // The metadata has packages, too, that no feature asks for: a weak feature such as `ring?/alloc` is enough.
    let mut cargo = workspace.cargo(&["tree", "--workspace", "--locked", "--all-features", "--prefix=none"]);
    cargo.args(["--edges=normal,build,dev", "--format={p}"]).args(targets("--target"));
    let packages = used(metadata.packages, &run_quietly(&mut cargo)?)?;

    let violations = policies.violations(&packages)?;
    if !violations.is_empty() {
        bail!("{}", violations.join("\n"));
    }
    Ok(Outcome::Done)
}

/// The packages that are in cargo's tree, whose lines begin with a name and a version.
fn used(packages: Vec<Package>, tree: &str) -> Result<Vec<Package>> {
    let mut names = BTreeSet::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split(' ');
        let version = words.next().zip(words.next().and_then(|version| version.strip_prefix('v')));
        names.insert(version.with_context(|| format!("cargo's tree has the line {line:?}"))?);
    }
    let used: Vec<Package> = packages
        .into_iter()
        .filter(|package| names.contains(&(package.name.as_str(), package.version.as_str())))
        .collect();
    if used.len() < names.len() {
        bail!("cargo's tree has {} packages, of which its metadata has {}", names.len(), used.len());
    }
    Ok(used)
}

impl Policies {
    fn parse(text: &str) -> Result<Self> {
        let policies: Self = toml::from_str(text).with_context(|| format!("cannot read {FILE}"))?;
        if let Some(ban) = policies.bans.deny.iter().find(|ban| ban.name.contains([':', '@', '*'])) {
            bail!("{FILE}: the ban of {} must name a crate and no version", ban.name);
        }
        Ok(policies)
    }

    /// One sentence for each package that breaks a rule.
    fn violations(&self, packages: &[Package]) -> Result<Vec<String>> {
        let parse = |text: &String| {
            Licensee::parse_mode(text, ParseMode::STRICT)
                .with_context(|| format!("{FILE}: {text} is no licence"))
        };
        let allowed: Vec<Licensee> = self.licenses.allow.iter().map(parse).collect::<Result<_>>()?;
        let mut found = Vec::new();
        for package in packages {
            let name = format!("{} {}", package.name, package.version);
            found.extend(
                license_problem(package.license.as_deref(), &allowed).map(|it| format!("{name} {it}")),
            );
            if let Some(ban) = self.bans.deny.iter().find(|ban| ban.name == package.name) {
                found.push(format!("{name} is banned: {}", ban.reason));
            }
            for dependency in package.dependencies.iter().filter(|dependency| dependency.req == "*") {
                let is_private = package.publish.as_ref().is_some_and(Vec::is_empty);
                let may_be_by_path = is_private || dependency.kind.as_deref() == Some("dev");
                if dependency.path.is_none() || !may_be_by_path {
                    found.push(format!("{name} takes any version of {}", dependency.name));
                }
            }
            if let Some(source) = package.source.as_ref().filter(|source| *source != CRATES_IO) {
                found.push(format!("{name} comes from {source}"));
            }
        }
        Ok(found)
    }
}

/// What is wrong with a package's licence.
fn license_problem(license: Option<&str>, allowed: &[Licensee]) -> Option<String> {
    let Some(license) = license else { return Some("declares no licence".to_owned()) };
    // The older form with `/` for `OR` is still around.
    let Ok(expression) = Expression::parse_mode(license, ParseMode::LAX) else {
        return Some(format!("has a licence that cannot be read: {license}"));
    };
    let is_allowed =
        expression.evaluate(|required| allowed.iter().any(|licensee| licensee.satisfies(required)));
    (!is_allowed).then(|| format!("has a licence that is not allowed: {license}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = include_str!("../../deny.toml");

    /// A package from the registry.
    fn package(name: &str, license: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            license: Some(license.to_owned()),
            source: Some(CRATES_IO.to_owned()),
            publish: None,
            dependencies: Vec::new(),
        }
    }

    fn violations(package: Package) -> Vec<String> {
        Policies::parse(DENY).unwrap().violations(&[package]).unwrap()
    }

    #[test]
    fn a_licence_has_to_be_allowed_in_all_its_parts() {
        let of = |license| violations(package("x", license));
        for fine in
            ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "Apache-2.0 WITH LLVM-exception", "MIT AND ISC"]
        {
            assert!(of(fine).is_empty(), "{fine}");
        }
        assert_eq!(of("GPL-3.0-only"), ["x 1.2.3 has a licence that is not allowed: GPL-3.0-only"]);
        assert_eq!(of("MIT AND MPL-2.0"), ["x 1.2.3 has a licence that is not allowed: MIT AND MPL-2.0"]);
        assert_eq!(of("ours"), ["x 1.2.3 has a licence that cannot be read: ours"]);
        let without = Package { license: None, ..package("x", "") };
        assert_eq!(violations(without), ["x 1.2.3 declares no licence"]);
    }

    #[test]
    fn a_banned_crate_is_found_with_the_reason() {
        assert_eq!(violations(package("openssl", "MIT")), ["openssl 1.2.3 is banned: TLS is rustls"]);
        assert!(violations(package("openssl-probe", "MIT")).is_empty());
    }

    #[test]
    fn a_dependency_on_any_version_is_for_private_crates_and_paths_only() {
        let with = |path: Option<&str>, kind: Option<&str>, publish: Option<Vec<String>>| {
            let (path, kind) = (path.map(str::to_owned), kind.map(str::to_owned));
            let dependency = Dependency { name: "y".to_owned(), req: "*".to_owned(), path, kind };
            violations(Package { publish, dependencies: vec![dependency], ..package("x", "MIT") })
        };
        let found = ["x 1.2.3 takes any version of y"];
        assert_eq!(with(None, None, Some(Vec::new())), found);
        assert_eq!(with(Some("y"), None, None), found);
        assert!(with(Some("y"), None, Some(Vec::new())).is_empty());
        assert!(with(Some("y"), Some("dev"), None).is_empty());
    }

    #[test]
    fn a_source_other_than_the_registry_is_found() {
        let from = |source: Option<&str>| {
            violations(Package { source: source.map(str::to_owned), ..package("x", "MIT") })
        };
        assert!(from(None).is_empty());
        assert_eq!(from(Some("git+https://a.example/x")), ["x 1.2.3 comes from git+https://a.example/x"]);
        assert_eq!(
            from(Some("registry+https://a.example")),
            ["x 1.2.3 comes from registry+https://a.example"]
        );
    }

    #[test]
    fn packages_that_no_feature_asks_for_are_left_out_and_none_gets_lost() {
        let packages = || vec![package("x", "MIT"), package("ring", "MIT")];
        let names =
            |tree| used(packages(), tree).map(|used| used.into_iter().map(|package| package.name).collect());
        let found: Vec<String> = names("x v1.2.3 (crates/x)\n\nx v1.2.3 (crates/x) (*)\n").unwrap();
        assert_eq!(found, ["x"]);
        assert!(names("x v1.2.3\ny v1.0.0").is_err());
        assert!(names("something else").is_err());
    }

    #[test]
    fn a_rule_that_is_not_implemented_here_is_an_error_and_not_skipped() {
        let with = |from: &str, to: &str| {
            assert!(DENY.contains(from), "{from}");
            Policies::parse(&DENY.replacen(from, to, 1)).is_ok()
        };
        assert!(with("[sources]", "[sources]"));
        assert!(!with("[sources]", "[sources]\nallow-git = [\"https://a.example\"]"));
        assert!(!with("wildcards = \"deny\"", "wildcards = \"warn\""));
        assert!(!with("multiple-versions = \"warn\"", "multiple-versions = \"deny\""));
        assert!(!with("all-features = true", "all-features = false"));
        assert!(!with("include-dev = true", ""));
        assert!(!with("crate = \"openssl\"", "crate = \"openssl@1\""));
        assert!(!with("crate = \"openssl\"", "crate = \"openssl\", wrappers = [\"x\"]"));
    }
}
