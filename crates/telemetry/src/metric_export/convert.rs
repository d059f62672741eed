//! From what is scraped to OTLP: counters are cumulative sums, histograms keep their bounds.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prometheus::proto::{self, MetricFamily, MetricType};

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// What exports, with what tells it from others.
pub(super) fn resource(resource: &opentelemetry_sdk::Resource, instance: &str) -> Resource {
    let mut attributes: Vec<KeyValue> =
        resource.iter().map(|(key, value)| attribute(key.as_str(), &value.as_str())).collect();
    if !attributes.iter().any(|known| known.key == "service.instance.id") {
        attributes.push(attribute("service.instance.id", instance));
    }
    Resource { attributes, ..Resource::default() }
}

/// Everything that was gathered.
pub(super) fn request(
    families: &[MetricFamily],
    resource: &Resource,
    version: &str,
    began: SystemTime,
) -> ExportMetricsServiceRequest {
    let times = Times { began: nanos(began), now: nanos(SystemTime::now()) };
    let scope = InstrumentationScope {
        name: "signalbox".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let metrics = families.iter().filter_map(|family| metric(family, times)).collect();
    let of_scope = ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() };
    let of_resource = ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics: vec![of_scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

#[derive(Debug, Clone, Copy)]
struct Times {
    began: u64,
    now: u64,
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

/// `None` for a kind that there is none of here.
fn metric(family: &MetricFamily, times: Times) -> Option<Metric> {
    let of_all = family.get_metric();
    let temporality = AggregationTemporality::Cumulative as i32;
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: of_all.iter().map(|one| number(one, one.get_counter().get_value(), times)).collect(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        MetricType::GAUGE => Data::Gauge(Gauge {
            data_points: of_all.iter().map(|one| number(one, one.get_gauge().get_value(), times)).collect(),
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: of_all.iter().map(|one| histogram(one, times)).collect(),
            aggregation_temporality: temporality,
        }),
        _ => return None,
    };
    let name = family.name();
    let base = name.trim_end_matches("_total");
    let unit = match () {
        () if base.ends_with("_seconds") => "s",
        () if base.ends_with("_bytes") => "By",
        () => "",
    };
    Some(Metric {
        name: name.to_owned(),
        description: family.help().to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    })
}

fn attributes(metric: &proto::Metric) -> Vec<KeyValue> {
    metric.get_label().iter().map(|label| attribute(label.name(), label.value())).collect()
}

fn number(metric: &proto::Metric, value: f64, times: Times) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn histogram(metric: &proto::Metric, times: Times) -> HistogramDataPoint {
    let histogram = metric.get_histogram();
    let buckets = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let (mut explicit_bounds, mut bucket_counts, mut below) = (Vec::new(), Vec::new(), 0);
    for bucket in buckets {
        explicit_bounds.push(bucket.upper_bound());
        bucket_counts.push(bucket.cumulative_count().saturating_sub(below));
        below = bucket.cumulative_count();
    }
    // What is above the last bound. While it was gathered, some may have been counted in a bucket and not in all yet.
    let count = histogram.get_sample_count().max(below);
    bucket_counts.push(count - below);
    HistogramDataPoint {
        attributes: attributes(metric),
        start_time_unix_nano: times.began,
        time_unix_nano: times.now,
        count,
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds,
        ..HistogramDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    fn converted(families: &[MetricFamily]) -> Vec<Metric> {
        let request = request(families, &Resource::default(), "1", SystemTime::now());
        request
            .resource_metrics
            .into_iter()
            .flat_map(|of| of.scope_metrics)
            .flat_map(|of| of.metrics)
            .collect()
    }

    fn find<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
        metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    #[test]
    fn every_metric_that_is_scraped_is_exported_with_its_values() {
        let metrics = Metrics::new();
        metrics.received_messages.inc_by(7);
        metrics.connections.with_label_values(&["socketio", "websocket"]).set(3);
        for seconds in [0.0001, 0.003, 0.003, 99.0] {
            metrics.bus_lag_seconds.observe(seconds);
        }
        let families = metrics.gather();
        let exported = converted(&families);
        assert_eq!(exported.len(), families.len());

        let Some(Data::Sum(sum)) = &find(&exported, "signalbox_received_messages_total").data else {
            panic!("no sum")
        };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsDouble(7.0)));
        let lag = find(&exported, "signalbox_bus_lag_seconds");
        assert_eq!(lag.unit, "s");
        let Some(Data::Histogram(histogram)) = &lag.data else { panic!("no histogram") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.explicit_bounds.len() + 1), (4, point.bucket_counts.len()));
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), 4);
        assert_eq!(
            (point.bucket_counts[0], point.bucket_counts[3], *point.bucket_counts.last().unwrap()),
            (1, 2, 1)
        );
        let Some(Data::Gauge(gauge)) = &find(&exported, "signalbox_connections").data else {
            panic!("no gauge")
        };
        let websocket = gauge.data_points.iter().find(|point| {
            point.attributes.iter().any(|label| *label == attribute("transport", "websocket"))
                && point.attributes.iter().any(|label| *label == attribute("protocol", "socketio"))
        });
        assert_eq!(websocket.unwrap().value, Some(number_data_point::Value::AsDouble(3.0)));
    }

    #[test]
    fn an_instance_is_named_once() {
        let own = opentelemetry_sdk::Resource::builder_empty()
            .with_attribute(opentelemetry::KeyValue::new("service.instance.id", "mine"))
            .build();
        let named = |resource: Resource| {
            let of_instance =
                resource.attributes.into_iter().filter(|known| known.key == "service.instance.id");
            of_instance.collect::<Vec<_>>()
        };
        assert_eq!(named(resource(&own, "other")), [attribute("service.instance.id", "mine")]);
        let none = opentelemetry_sdk::Resource::builder_empty().build();
        assert_eq!(named(resource(&none, "other")), [attribute("service.instance.id", "other")]);
    }
}
