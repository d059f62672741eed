//! Operations of the codecs, whose instructions are counted: `cargo xtask bench`.
//!
//! Without an argument the program lists its cases, each with the number of operations it counts; with the name of a case it
//! does that one. In the order that a message takes:
//!
//! - [`websocket`], [`engineio`], [`socketio`], [`peerserver`]: the cases of each codec.
//! - [`counted`]: what of a case is counted.

mod counted;
mod engineio;
mod peerserver;
mod socketio;
mod websocket;

use std::io::{self, Write as _};

/// A name, and what is done.
type Case = (&'static str, fn());

fn main() -> io::Result<()> {
    let cases = [websocket::CASES, engineio::CASES, socketio::CASES, peerserver::CASES].concat();
    let Some(wanted) = std::env::args().nth(1) else {
        let mut stdout = io::stdout().lock();
        return cases.iter().try_for_each(|(name, _)| writeln!(stdout, "{}\t{name}", counted::OPERATIONS));
    };
    let case = cases.iter().find(|(name, _)| *name == wanted);
    let (_, run) = case.ok_or_else(|| io::Error::other(format!("there is no case {wanted:?}")))?;
    run();
    Ok(())
}
