//! Sends metrics to an OTLP receiver, over gRPC or HTTP.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use signalbox_tls::client::{self, ClientSettings};
use tokio::runtime::Runtime;
use tonic::{
    Request,
    metadata::{Ascii, MetadataKey, MetadataValue},
    transport::{Channel, Endpoint},
};
use ureq::Agent;

use super::MetricExportError;
use crate::otlp::Signal;

const SIGNAL: Signal = Signal::Metrics;
/// Where the receiver is, unless a variable says so.
const GRPC_ENDPOINT: &str = "http://localhost:4317";
const HTTP_ENDPOINT: &str = "http://localhost:4318";
/// Where HTTP receivers take metrics, behind the endpoint for all signals.
const HTTP_PATH: &str = "v1/metrics";

/// The way to the receiver.
pub(super) struct Sender {
    way: Way,
    has_failed: AtomicBool,
}

enum Way {
    Http { agent: Agent, url: String, headers: Vec<(String, String)> },
    Grpc { runtime: Runtime, client: MetricsServiceClient<Channel>, headers: Vec<Header> },
}

type Header = (MetadataKey<Ascii>, MetadataValue<Ascii>);

impl Sender {
    /// As the variables say.
    ///
    /// # Errors
    /// One that cannot be used.
    pub(super) fn new() -> Result<Self, MetricExportError> {
        let way = match SIGNAL.either("PROTOCOL").as_deref() {
            None | Some("http/protobuf") => http()?,
            Some("grpc") => grpc()?,
            Some(_) => {
                let problem = "OTEL_EXPORTER_OTLP_PROTOCOL is neither grpc nor http/protobuf";
                return Err(MetricExportError::Variable(problem.to_owned()));
            }
        };
        Ok(Self { way, has_failed: AtomicBool::new(false) })
    }

    /// Sends them, and waits until the receiver has them, or the time is over.
    ///
    /// # Errors
    /// Of what kind the failure is.
    pub(super) fn send(&self, request: ExportMetricsServiceRequest) -> Result<(), &'static str> {
        let outcome = match &self.way {
            Way::Http { agent, url, headers } => {
                let mut post = agent.post(url).header("Content-Type", "application/x-protobuf");
                for (name, value) in headers {
                    post = post.header(name, value);
                }
                match post.send(&request.encode_to_vec()[..]) {
                    Ok(answer) if answer.status().is_success() => Ok(()),
                    Ok(_) => Err("the receiver refuses them"),
                    Err(_) => Err("the receiver does not answer"),
                }
            }
            Way::Grpc { runtime, client, headers } => {
                let mut request = Request::new(request);
                request.set_timeout(SIGNAL.timeout());
                for (name, value) in headers {
                    request.metadata_mut().insert(name.clone(), value.clone());
                }
                let mut client = client.clone();
                let sent = async { tokio::time::timeout(SIGNAL.timeout(), client.export(request)).await };
                match runtime.block_on(sent) {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(status)) if status.code() != tonic::Code::Unavailable => {
                        Err("the receiver refuses them")
                    }
                    Ok(Err(_)) | Err(_) => Err("the receiver does not answer"),
                }
            }
        };
        self.has_failed.store(outcome.is_err(), Ordering::Relaxed);
        outcome
    }

    /// Whether the last attempt has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }
}

fn http() -> Result<Way, MetricExportError> {
    let settings = ClientSettings { timeout: SIGNAL.timeout(), authority: None, uses_proxy: true };
    let agent = client::agent(&settings).map_err(|error| MetricExportError::Exporter(error.to_string()))?;
    let url = SIGNAL.own("ENDPOINT").unwrap_or_else(|| {
        let all = SIGNAL.either("ENDPOINT").unwrap_or_else(|| HTTP_ENDPOINT.to_owned());
        format!("{}/{HTTP_PATH}", all.trim_end_matches('/'))
    });
    let is_usable = url.parse::<ureq::http::Uri>().is_ok_and(|url| url.host().is_some());
    if !is_usable {
        return Err(MetricExportError::Variable(
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is not a URL".to_owned(),
        ));
    }
    Ok(Way::Http { agent, url, headers: headers() })
}

fn grpc() -> Result<Way, MetricExportError> {
    let failed = |error: &dyn std::fmt::Display| MetricExportError::Exporter(error.to_string());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    let url = SIGNAL.either("ENDPOINT").unwrap_or_else(|| GRPC_ENDPOINT.to_owned());
    // A scheme `https` has it use TLS, with the authorities that the machine trusts.
    let endpoint = Endpoint::new(url).map_err(|error| failed(&error))?.connect_timeout(SIGNAL.timeout());
    let client = {
        let _entered = runtime.enter();
        MetricsServiceClient::new(endpoint.connect_lazy())
    };
    let headers = headers()
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.parse().ok()?)));
    Ok(Way::Grpc { runtime, client, headers: headers.collect() })
}

/// What goes with each request, such as a key: `name=value`, separated by commas, percent-encoded.
fn headers() -> Vec<(String, String)> {
    parse_headers(&SIGNAL.either("HEADERS").unwrap_or_default())
}

fn parse_headers(list: &str) -> Vec<(String, String)> {
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim().to_owned(), decoded(value.trim())));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

/// Text with its percent-encoded bytes decoded; what is no such byte stays.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_that_may_be_encoded() {
        let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse_headers(""), []);
        assert_eq!(parse_headers("api-key=a%20b , x=1=2,=y,z"), [of("api-key", "a b"), of("x", "1=2")]);
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%41"), "%zzA");
    }
}
