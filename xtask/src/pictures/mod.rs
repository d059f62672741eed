//! `cargo xtask pictures`: what the dashboards look like, for readers of the documentation. Each dashboard is drawn from its JSON and from
//! what its expressions returned in a recorded run (`deploy/grafana/record.py`), as an SVG that follows Grafana's layout. Nobody needs
//! Grafana for it.
//!
//! - `panel`: one panel.
//! - `scale`: axes, units, colours.
//! - `svg`: text and shapes.

mod panel;
mod scale;
mod svg;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::deploy;
use crate::step::{Outcome, command_step, step};
use crate::workspace::Workspace;
use svg::Svg;

const DASHBOARDS: &str = "deploy/grafana/dashboards";
const RECORDED: &str = "deploy/grafana/recorded";
const IMAGES: &str = "docs/images";
/// The dashboard that answers whether all is well.
const OVERVIEW: &str = "cluster";

/// Pixels of a picture's width, which has 24 columns, and of a row of Grafana's grid.
const WIDTH: f64 = 1320.0;
const COLUMN: f64 = WIDTH / 24.0;
const ROW: f64 = 27.0;
const HEAD: f64 = 54.0;

/// What the expressions of a dashboard returned.
#[derive(Debug, Deserialize)]
struct Recording {
    /// When the recording began, in seconds since 1970.
    from: f64,
    /// Seconds from one value to the next.
    step: f64,
    /// How many values a series has.
    count: usize,
    /// The series of each panel, by the panel's number.
    panels: std::collections::BTreeMap<String, Vec<Series>>,
}

/// One line of a panel.
#[derive(Debug, Clone, Deserialize)]
struct Series {
    legend: String,
    /// `None` where there was no value.
    values: Vec<Option<f64>>,
}

/// Draws all dashboards of which there is a recording; with `records`, after another one.
pub(crate) fn run(workspace: &Workspace, records: bool) -> Result<()> {
    if records {
        let packages = ["signalbox-gateway", "signalbox-turn-credentials", "signalbox-loadtest"];
        let packages = packages.iter().flat_map(|package| ["--package", package]);
        let mut build = workspace.cargo(&["build", "--bins"]);
        command_step("programs", "correct what does not compile", build.args(packages))?;
        deploy::install_checkers(workspace)?;
        let mut python = deploy::python(workspace);
        command_step(RECORDED, "see target/up/*.log", python.arg("deploy/grafana/record.py"))?;
    }
    step("docs/images/grafana-*.svg", "record a run: cargo xtask pictures --record", || {
        for (path, picture) in pictures(workspace)? {
            fs::write(&path, picture).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(Outcome::Done)
    })
}

/// Each picture, and where it belongs. Of the first dashboard the beginning has a picture of its own, for those who want to see one.
fn pictures(workspace: &Workspace) -> Result<Vec<(PathBuf, String)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(workspace.path(RECORDED))
        .context("there is no recording")?
        .map_while(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let mut pictures = Vec::new();
    for file in files {
        let stem = file.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
        let read = |path: PathBuf| {
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let dashboard = serde_json::from_str(&read(workspace.path(&format!("{DASHBOARDS}/{stem}.json")))?)?;
        let recording = serde_json::from_str(&read(file)?)?;
        let image = |name: &str| workspace.path(&format!("{IMAGES}/grafana-{name}.svg"));
        pictures.push((image(&stem), draw(&dashboard, &recording)));
        if stem == OVERVIEW {
            pictures.push((image("overview"), draw(&beginning(&dashboard), &recording)));
        }
    }
    Ok(pictures)
}

/// A dashboard's first two rows of panels.
fn beginning(dashboard: &Value) -> Value {
    let mut dashboard = dashboard.clone();
    let is_heading = |panel: &Value| text(panel, "type") == "row";
    if let Some(panels) = dashboard["panels"].as_array_mut() {
        let third = panels.iter().enumerate().filter(|(_, panel)| is_heading(panel)).nth(2).map(|(at, _)| at);
        panels.truncate(third.unwrap_or(panels.len()));
    }
    dashboard
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A whole dashboard.
fn draw(dashboard: &Value, recording: &Recording) -> String {
    let panels = dashboard["panels"].as_array().map(Vec::as_slice).unwrap_or_default();
    let number = |panel: &Value, name: &str| panel["gridPos"][name].as_f64().unwrap_or_default();
    let bottom = panels.iter().map(|panel| number(panel, "y") + number(panel, "h")).fold(0.0, f64::max);
    let mut svg = Svg::new(WIDTH, HEAD + bottom * ROW + 12.0);
    let title = text(dashboard, "title");
    svg.label(16.0, 34.0, 19.0, svg::BRIGHT, title);
    svg.label(
        16.0 + 11.0 * title.chars().count() as f64 + 18.0,
        34.0,
        13.0,
        svg::DIM,
        text(dashboard, "description"),
    );
    for panel in panels {
        let (x, y) = (number(panel, "x") * COLUMN, HEAD + number(panel, "y") * ROW);
        let (width, height) = (number(panel, "w") * COLUMN, number(panel, "h") * ROW);
        if text(panel, "type") == "row" {
            svg.label(x + 12.0, y + 19.0, 14.0, svg::BRIGHT, &format!("⌄ {}", text(panel, "title")));
            continue;
        }
        let area = svg::Area { x: x + 4.0, y: y + 4.0, width: width - 8.0, height: height - 8.0 };
        let series = recording.panels.get(&panel["id"].to_string()).map(Vec::as_slice).unwrap_or_default();
        panel::draw(&mut svg, area, panel, series, recording);
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_follow_from_the_dashboards_and_the_recording() {
        let workspace = Workspace::locate().unwrap();
        let pictures = pictures(&workspace).unwrap();
        assert!(pictures.len() >= 5, "{}", pictures.len());
        for (path, picture) in pictures {
            let is_same = fs::read_to_string(&path).is_ok_and(|text| text == picture);
            assert!(is_same, "{} is not up to date: run cargo xtask pictures", path.display());
        }
    }
}
