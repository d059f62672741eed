//! The `signalbox-turn` program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use signalbox_config::{Loaded, health};
use signalbox_turn_credentials::{api_keys, config, server};

/// The configuration cannot be used.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == "new-key") {
        // A reader that has seen enough (`| head`) is no failure.
        let _ = io::stdout().write_all(api_keys::new_key().as_bytes());
        return ExitCode::SUCCESS;
    }
    // The name of what it does otherwise may be written.
    if arguments.get(1).is_some_and(|argument| argument == "serve") {
        arguments.remove(1);
    }
    let rotates = arguments.get(1).is_some_and(|argument| argument == "rotate");
    if rotates {
        arguments.remove(1);
    }
    let probe = health::take_subcommand(&mut arguments);
    match config::load(arguments, std::env::vars_os()) {
        Ok(Loaded::Run { settings, .. }) if rotates => match server::rotate(&settings) {
            Ok(text) => {
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "signalbox-turn: {error:#}");
                ExitCode::FAILURE
            }
        },
        Ok(Loaded::Run { settings, warnings }) => {
            let management = &settings.management;
            let outcome = match probe {
                Some(probe) => health::check(&management.admin_host, management.admin_port, probe)
                    .map_err(anyhow::Error::from),
                None => server::run(&settings, &warnings),
            };
            match outcome {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let _ = writeln!(io::stderr(), "signalbox-turn: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        Ok(Loaded::Print(text)) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "signalbox-turn: {error}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}
