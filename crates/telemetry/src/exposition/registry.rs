//! All metrics of a process: histograms, which are ours, and everything else, which is `prometheus`'.

use prometheus::{
    TextEncoder,
    core::Collector,
    proto::{Bucket, Histogram as ClassicHistogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{Exposition, accept, family::HistogramFamily, protobuf};
use crate::histogram::Snapshot;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    others: prometheus::Registry,
    histograms: Vec<HistogramFamily>,
}

impl Registry {
    /// One with the metrics of the process: CPU, memory, open files.
    pub(crate) fn of_process() -> Self {
        let registry = Self::default();
        #[cfg(target_os = "linux")]
        let _ =
            registry.others.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        registry
    }

    /// Adds anything but a histogram.
    ///
    /// # Errors
    /// There is one of that name.
    pub(crate) fn add(&self, metric: impl Collector + 'static) -> prometheus::Result<()> {
        self.others.register(Box::new(metric))
    }

    /// Adds histograms.
    pub(crate) fn add_histograms(&mut self, family: HistogramFamily) {
        self.histograms.push(family);
    }

    /// All metrics as they are now, histograms with their classic buckets.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.others.gather();
        families.extend(self.histograms.iter().map(classic));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }

    /// The same in the text format.
    pub(crate) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.gather()).unwrap_or_default()
    }

    /// The same in the format that these values of the header `Accept` ask for: in the protobuf format histograms have both kinds of buckets.
    pub(crate) fn expose<'a>(&self, accept: impl IntoIterator<Item = &'a str>) -> Exposition {
        if accept::prefers_protobuf(accept) {
            let body = protobuf::encode(&self.others.gather(), &self.histograms);
            return Exposition { content_type: protobuf::CONTENT_TYPE, body };
        }
        Exposition { content_type: TEXT, body: self.text().into_bytes() }
    }
}

fn classic(family: &HistogramFamily) -> MetricFamily {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    let metric = |(labels, snapshot): (Vec<(&str, &str)>, Snapshot)| {
        let mut histogram = ClassicHistogram::default();
        histogram.set_sample_count(snapshot.count);
        histogram.set_sample_sum(snapshot.sum);
        histogram.set_bucket(snapshot.cumulative.into_iter().map(bucket).collect());
        let mut metric = Metric::from_label(labels.into_iter().map(pair).collect());
        metric.set_histogram(histogram);
        metric
    };
    let mut written = MetricFamily::default();
    written.set_name(family.name.to_owned());
    written.set_help(family.help.to_owned());
    written.set_field_type(MetricType::HISTOGRAM);
    written.set_metric(family.snapshots().map(metric).collect());
    written
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounter, IntGaugeVec, Opts};
    use prost::Message as _;

    use super::{super::protobuf::MetricFamily as Written, *};
    use crate::histogram::Histogram;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn both_formats_say_the_same() {
        let mut registry = Registry::default();
        let counter = IntCounter::new("a_total", "A.").unwrap();
        let gauge = IntGaugeVec::new(Opts::new("z", "Z."), &["label"]).unwrap();
        registry.add(counter.clone()).unwrap();
        registry.add(gauge.clone()).unwrap();
        let (one, other) = (Histogram::new(&[0.1, 1.0]), Histogram::new(&[0.1, 1.0]));
        registry.add_histograms(HistogramFamily {
            name: "h_seconds",
            help: "H.",
            labels: &["of"],
            rows: vec![(&["one"], one.clone()), (&["other"], other)],
        });
        counter.inc_by(7);
        gauge.with_label_values(&["x"]).set(-3);
        [0.05, 0.5, 0.5, 5.0].iter().for_each(|value| one.observe(*value));

        let text = registry.expose([]);
        assert_eq!(text.content_type, TEXT);
        let expected = "# HELP a_total A.\n# TYPE a_total counter\na_total 7\n# HELP h_seconds H.\n# TYPE h_seconds histogram\n\
            h_seconds_bucket{of=\"one\",le=\"0.1\"} 1\nh_seconds_bucket{of=\"one\",le=\"1\"} 3\nh_seconds_bucket{of=\"one\",le=\"+Inf\"} 4\n\
            h_seconds_sum{of=\"one\"} 6.05\nh_seconds_count{of=\"one\"} 4\n\
            h_seconds_bucket{of=\"other\",le=\"0.1\"} 0\nh_seconds_bucket{of=\"other\",le=\"1\"} 0\nh_seconds_bucket{of=\"other\",le=\"+Inf\"} 0\n\
            h_seconds_sum{of=\"other\"} 0\nh_seconds_count{of=\"other\"} 0\n\
            # HELP z Z.\n# TYPE z gauge\nz{label=\"x\"} -3\n";
        assert_eq!(String::from_utf8(text.body).unwrap(), expected);

        let exposition = registry.expose([PROTOBUF]);
        assert_eq!(exposition.content_type, protobuf::CONTENT_TYPE);
        let (mut rest, mut families) = (&exposition.body[..], Vec::new());
        while !rest.is_empty() {
            families.push(Written::decode_length_delimited(&mut rest).unwrap());
        }
        let names: Vec<&str> = families.iter().filter_map(|family| family.name.as_deref()).collect();
        assert_eq!(names, ["a_total", "h_seconds", "z"]);
        let [one, other] = &families[1].metric[..] else { panic!("two rows") };
        assert_eq!(one.label[0].value.as_deref(), Some("one"));
        let histogram = one.histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count, histogram.bucket.len(), histogram.schema), (Some(4), 2, Some(3)));
        assert_eq!(histogram.positive_delta, [1, 1, -1]);
        assert_eq!(other.histogram.as_ref().unwrap().sample_count, Some(0));
    }
}
