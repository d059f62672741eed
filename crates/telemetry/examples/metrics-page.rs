//! Prints docs/metrics.md.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(signalbox_telemetry::metrics::page::page().as_bytes())
}
