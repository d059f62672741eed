//! The sources together, as the program meets them. `sources`: which wins, and what arrives; `mistakes`: the one line
//! for each.

mod mistakes;
mod peerjs;
mod sources;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{ConfigError, Loaded, Settings};

/// A directory of this test alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("signalbox-config-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let arguments = std::iter::once("signalbox-gateway").chain(arguments.iter().copied()).map(OsString::from);
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Settings::load(arguments, environment)
}

fn settings_of(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
    match load(arguments, environment) {
        Ok(Loaded::Run { settings, .. }) => *settings,
        other => panic!("{arguments:?} {environment:?}: {other:?}"),
    }
}

fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    match load(arguments, environment) {
        Ok(Loaded::Print(text)) => text,
        other => panic!("{arguments:?} {environment:?}: {other:?}"),
    }
}

fn error_of(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    match load(arguments, environment) {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "more than one line: {line:?}");
            line
        }
        other => panic!("{arguments:?} {environment:?}: {other:?}"),
    }
}
