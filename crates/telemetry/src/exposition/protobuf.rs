//! Prometheus' protobuf format: [`io.prometheus.client.MetricFamily`](https://github.com/prometheus/client_model), one after the other, each
//! behind its length. Of its messages there is what our metrics have.

use prometheus::proto::{self, MetricType};
use prost::Message;

use super::family::HistogramFamily;
use crate::histogram::Snapshot;

/// What says that a body has this format.
pub(super) const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

const COUNTER: i32 = 0;
const GAUGE: i32 = 1;
const HISTOGRAM: i32 = 4;

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub(super) label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// A Gauge, or a Counter.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub(super) schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub(super) positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

/// Everything that was gathered, and the histograms.
pub(super) fn encode(families: &[proto::MetricFamily], histograms: &[HistogramFamily]) -> Vec<u8> {
    let mut all: Vec<MetricFamily> = families.iter().filter_map(family).collect();
    all.extend(histograms.iter().map(histogram_family));
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all.iter().flat_map(Message::encode_length_delimited_to_vec).collect()
}

/// `None` for a kind that there is none of here.
fn family(family: &proto::MetricFamily) -> Option<MetricFamily> {
    let kind = match family.get_field_type() {
        MetricType::COUNTER => COUNTER,
        MetricType::GAUGE => GAUGE,
        _ => return None,
    };
    let metric = |metric: &proto::Metric| {
        let labels = metric.get_label().iter();
        let number = |value| Some(Number { value: Some(value) });
        Metric {
            label: labels.map(|label| pair(label.name(), label.value())).collect(),
            gauge: (kind == GAUGE).then(|| number(metric.get_gauge().get_value())).flatten(),
            counter: (kind == COUNTER).then(|| number(metric.get_counter().get_value())).flatten(),
            histogram: None,
        }
    };
    Some(MetricFamily {
        name: Some(family.name().to_owned()),
        help: Some(family.help().to_owned()),
        kind: Some(kind),
        metric: family.get_metric().iter().map(metric).collect(),
    })
}

fn pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn histogram_family(family: &HistogramFamily) -> MetricFamily {
    let metric = |(labels, snapshot): (Vec<(&str, &str)>, Snapshot)| Metric {
        label: labels.into_iter().map(|(name, value)| pair(name, value)).collect(),
        gauge: None,
        counter: None,
        histogram: Some(histogram(snapshot)),
    };
    MetricFamily {
        name: Some(family.name.to_owned()),
        help: Some(family.help.to_owned()),
        kind: Some(HISTOGRAM),
        metric: family.snapshots().map(metric).collect(),
    }
}

fn histogram(snapshot: Snapshot) -> Histogram {
    let Snapshot { cumulative, count, sum, native } = snapshot;
    let bucket = |(bound, count)| Bucket { cumulative_count: Some(count), upper_bound: Some(bound) };
    let span = |(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
    Histogram {
        sample_count: Some(count),
        sample_sum: Some(sum),
        bucket: cumulative.into_iter().map(bucket).collect(),
        schema: Some(native.schema),
        zero_threshold: Some(native.zero_threshold),
        zero_count: Some(native.zero_count),
        positive_span: native.spans.into_iter().map(span).collect(),
        positive_delta: native.deltas,
    }
}
