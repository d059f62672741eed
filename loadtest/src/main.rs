//! Load tests for servers that speak Socket.IO or PeerServer, and a comparison of them.
//!
//! In the order that a run goes through them:
//!
//! - [`cli`]: the command line.
//! - [`scenario`]: what clients do.
//! - [`run`]: this process, which measures, and its client processes.
//! - [`net`]: many clients on one thread.
//! - [`protocol`]: what they say.
//! - [`measure`]: what is counted, and how it is told.
//! - [`compare`]: several servers, the same scenarios in turns, one table.

mod cli;
mod compare;
mod measure;
mod net;
mod protocol;
mod run;
mod scenario;

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}
