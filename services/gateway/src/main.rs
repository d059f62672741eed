//! The `signalbox-gateway` program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use signalbox_config::health;
use signalbox_gateway::config::{Loaded, Settings};
use signalbox_gateway::{admin_cli, admin_token, completions, rules, server, token};

/// Chosen by measurement: it gives memory back after a storm of connections (docs/architecture.md, section 4).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration cannot be used.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "token") {
        return token(&arguments);
    }
    if arguments.first().is_some_and(|word| word == "admin") {
        return admin_cli::run(&arguments);
    }
    if arguments.first().is_some_and(|word| word == "admin-token") {
        return print(admin_token::run(&arguments));
    }
    if arguments.first().is_some_and(|word| word == "completions") {
        return print(completions::run(&arguments));
    }
    if let Some(outcome) = rules::run(&arguments) {
        return rules(outcome);
    }
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let probe = health::take_subcommand(&mut arguments);
    match Settings::load(arguments, std::env::vars_os()) {
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
                    let _ = writeln!(io::stderr(), "signalbox-gateway: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        Ok(Loaded::Print(text)) => {
            // A reader that has seen enough (`| head`) is no failure.
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "signalbox-gateway: {error}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

/// `rules ...` and `--print-rules`, which print and end.
fn rules(outcome: anyhow::Result<rules::Printed>) -> ExitCode {
    match outcome {
        Ok(printed) => {
            let _ = io::stdout().write_all(printed.text.as_bytes());
            if printed.is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problems) => {
            let _ = writeln!(io::stderr(), "{problems:#}");
            ExitCode::FAILURE
        }
    }
}

/// `token ...`, which prints and ends.
fn token(arguments: &[std::ffi::OsString]) -> ExitCode {
    match token::run(arguments, std::env::vars_os()) {
        Ok(printed) => {
            let _ = io::stdout().write_all(printed.text.as_bytes());
            if printed.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "signalbox-gateway: {error:#}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}

/// A subcommand that prints and ends.
fn print(outcome: anyhow::Result<String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "signalbox-gateway: {error:#}");
            ExitCode::from(EXIT_CONFIGURATION)
        }
    }
}
