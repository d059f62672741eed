//! What the `OTEL_*` variables say of an OTLP receiver, for traces and for metrics.

use std::{env, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

/// How long a request to the receiver may take, where no variable says so.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent, as the variables call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    /// The variable for this signal alone.
    pub(crate) fn own(self, name: &str) -> Option<String> {
        variable(&format!("OTEL_EXPORTER_OTLP_{}_{name}", self.name()))
    }

    /// Of two variables the first that is set: that of this signal alone, or that of all signals.
    pub(crate) fn either(self, name: &str) -> Option<String> {
        self.own(name).or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    /// How long a request may take.
    pub(crate) fn timeout(self) -> Duration {
        let millis = self.either("TIMEOUT").and_then(|text| text.parse().ok());
        millis.map_or(TIMEOUT, Duration::from_millis)
    }

    /// The exporters that are asked for, if any are named.
    pub(crate) fn exporters(self) -> Option<String> {
        variable(&format!("OTEL_{}_EXPORTER", self.name()))
    }
}

/// A variable that is set, and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Whether everything of OpenTelemetry is switched off.
pub(crate) fn is_disabled() -> bool {
    variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// What exports: the program, unless a variable gives it another name.
pub(crate) fn resource(service: &'static str, version: &'static str) -> Resource {
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    let has_name = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
    if !has_name {
        resource = resource.with_service_name(service);
    }
    resource.build()
}
