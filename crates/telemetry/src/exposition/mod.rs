//! What a scrape gets: the text format, or Prometheus' protobuf format for those that ask for it.
//!
//! - `accept`: which of them the header `Accept` asks for.
//! - `family`: the histograms of one name.
//! - `protobuf`: the messages of that format.
//! - `registry`: all metrics of a process.

mod accept;
mod family;
mod protobuf;
mod registry;

pub(crate) use family::HistogramFamily;
pub(crate) use registry::Registry;

/// An answer to a scrape. It depends on the header `Accept`, which belongs into `Vary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition {
    /// Its header `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: Vec<u8>,
}
