//! Where spans go: an OTLP receiver, by gRPC or HTTP. A thread of its own sends them in batches; what waits for it is bounded, and what is
//! beyond that is dropped.

use std::{borrow::Cow, fmt, sync::OnceLock, time::Duration};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind as ExportedKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _};
use signalbox_tls::client::{self, ClientSettings};
use ureq::Agent;

use super::{
    TraceContext,
    record::{Outcome, SpanKind, SpanRecord},
    sampling::Sampler,
};
use crate::otlp::{Signal, is_disabled, resource, variable};

const SIGNAL: Signal = Signal::Traces;
/// How long the last spans may take when the program ends.
const LAST: Duration = Duration::from_secs(2);
/// Most bytes of the receiver's answer that are read.
const MAX_ANSWER: u64 = 64 * 1024;

static TRACES: OnceLock<Traces> = OnceLock::new();

/// The one exporter of the process, once it is there.
pub(super) fn traces() -> Option<&'static Traces> {
    TRACES.get()
}

/// What of the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A variable.
    #[error("{0}")]
    Variable(String),
    /// The exporter.
    #[error("traces cannot be exported: {0} (see the OTEL_EXPORTER_OTLP_ variables)")]
    Exporter(String),
}

/// Sends spans.
pub(super) struct Traces {
    pub(super) sampler: Sampler,
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

/// Whether the environment asks for traces: an endpoint is set, and nothing turns them off.
fn are_wanted() -> bool {
    let is_otlp = SIGNAL.exporters().is_none_or(|value| value == "otlp");
    !is_disabled() && is_otlp && SIGNAL.either("ENDPOINT").is_some()
}

/// Begins to export traces, where the `OTEL_*` variables ask for it. `service`: the program's name, unless a variable says another.
/// Call it once, before any thread begins a span.
///
/// # Errors
/// A variable that cannot be used.
pub fn init_traces(service: &'static str, version: &'static str) -> Result<bool, TraceError> {
    if !are_wanted() {
        return Ok(false);
    }
    let sampler = Sampler::new(
        variable("OTEL_TRACES_SAMPLER").as_deref(),
        variable("OTEL_TRACES_SAMPLER_ARG").as_deref(),
    )
    .map_err(TraceError::Variable)?;
    let exporter = exporter()?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    processor.set_resource(&resource(service, version));
    let scope = InstrumentationScope::builder("signalbox").with_version(version).build();
    Ok(TRACES.set(Traces { sampler, processor, scope }).is_ok())
}

/// Sends what waits, for two seconds at most.
pub fn flush_traces() {
    if let Some(traces) = traces() {
        let _ = traces.processor.shutdown_with_timeout(LAST);
    }
}

fn exporter() -> Result<SpanExporter, TraceError> {
    let failed = |error: &dyn fmt::Display| TraceError::Exporter(error.to_string());
    match SIGNAL.either("PROTOCOL").as_deref() {
        None | Some("http/protobuf") => {
            let timeout = SIGNAL.timeout();
            let agent = client::agent(&ClientSettings { timeout, authority: None, uses_proxy: true })
                .map_err(|error| failed(&error))?;
            SpanExporter::builder()
                .with_http()
                .with_protocol(Protocol::HttpBinary)
                .with_http_client(Client(agent))
                .build()
                .map_err(|error| failed(&error))
        }
        Some("grpc") => {
            // Its connection lives on a runtime, which has a thread of its own here: those of the program have other things to do.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| failed(&error))?;
            let exporter = {
                let _entered = runtime.enter();
                SpanExporter::builder().with_tonic().build().map_err(|error| failed(&error))?
            };
            std::thread::Builder::new()
                .name("otlp".to_owned())
                .spawn(move || runtime.block_on(std::future::pending::<()>()))
                .map_err(|error| failed(&error))?;
            Ok(exporter)
        }
        Some(_) => Err(TraceError::Variable(
            "OTEL_EXPORTER_OTLP_PROTOCOL is neither grpc nor http/protobuf".to_owned(),
        )),
    }
}

impl Traces {
    /// Hands a span over. Never waits: if too many wait already, it is dropped.
    pub(super) fn export(&self, span: &SpanRecord) {
        // What comes here is kept, also where the sampler would not have.
        let flags = TraceFlags::SAMPLED;
        let id = |number: u64| SpanId::from_bytes(number.to_be_bytes());
        let trace_id = TraceId::from_bytes(span.context.trace_id.to_be_bytes());
        let mut attributes = vec![
            KeyValue::new("messaging.system", "signalbox"),
            KeyValue::new("signalbox.protocol", span.protocol),
        ];
        let status = match span.outcome {
            Outcome::Ok => Status::Unset,
            Outcome::Failed(reason) => {
                attributes.push(KeyValue::new("error.type", reason));
                Status::Error { description: Cow::Borrowed(reason) }
            }
        };
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                trace_id,
                id(span.context.span_id),
                flags,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| id(parent.span_id)),
            parent_span_is_remote: span.parent.is_some(),
            span_kind: match span.kind {
                SpanKind::Producer => ExportedKind::Producer,
                SpanKind::Consumer => ExportedKind::Consumer,
            },
            name: Cow::Borrowed(span.name),
            start_time: span.began_at,
            end_time: span.began_at + span.took,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// The client for OTLP over HTTP. It blocks the thread of the batches, which has nothing else to do.
#[derive(Debug)]
struct Client(Agent);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, body.to_vec());
        let response = self.0.run(request)?;
        let (head, mut body) = response.into_parts();
        let bytes = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, bytes.into()))
    }
}

/// The `traceparent` that a client has shown, checked; `None` where no traces are kept.
pub fn of_client(text: Option<&str>) -> Option<std::sync::Arc<str>> {
    traces()?;
    TraceContext::parse(text?).map(|context| context.to_string().into())
}

/// The same in the payload of a CONNECT, as its member `traceparent`.
pub fn of_auth(auth: Option<&str>) -> Option<std::sync::Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Auth {
        traceparent: Option<String>,
    }
    traces()?;
    let auth: Auth = serde_json::from_str(auth?).ok()?;
    of_client(auth.traceparent.as_deref())
}
