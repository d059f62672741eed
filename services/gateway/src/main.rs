//! The `signalbox-gateway` program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use signalbox_gateway::config::{Loaded, Settings};
use signalbox_gateway::server;

/// Chosen by measurement: it gives memory back after a storm of connections (docs/architecture.md, section 4).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration cannot be used.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Settings::load(std::env::args_os(), std::env::vars_os()) {
        Ok(Loaded::Run { settings, warnings }) => match server::run(&settings, &warnings) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(io::stderr(), "signalbox-gateway: {error:#}");
                ExitCode::FAILURE
            }
        },
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
