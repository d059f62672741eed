//! A server of one's own on the handler API: namespaces by name and by pattern, a middleware, echoes, rooms, acks both ways.
//!
//! `cargo run -p signalbox-node --example handlers` prints the address it listens at. The test suite drives it with
//! `socket.io-client`; what each event does is listed at the head of `services/gateway/tests/js/fixture.test.mjs`. With the variable
//! `REDIS_URL` it is a node of a cluster.

use std::{io::Write, sync::Arc, time::Duration};

use actix_web::web::{self, ServiceConfig};
use signalbox_node::{
    App, Args, ClusterConfig, Config, ConnectRefused, Cors, Event, Metrics, Namespace, Node, Serve, Socket,
    bind,
    policy::{AccessRequest, Policy, Principal, Verdict},
};

/// The gateway's, so that both can be measured alike.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::io::Result<()> {
    signalbox_node::end_process_on_panic();
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(0);
    let workers = std::env::var("WORKERS").ok().and_then(|workers| workers.parse().ok()).unwrap_or(2);
    actix_rt::System::new().block_on(async move {
        let listener = bind("127.0.0.1", port)?;
        let address = listener.local_addr()?;
        let config = Config { shards: workers, ..Config::default() };
        let node = match std::env::var("REDIS_URL") {
            Ok(redis_url) => {
                let cluster = ClusterConfig {
                    redis_url,
                    redis_authorities: None,
                    redis_prefix: "handlers".to_owned(),
                    name: None,
                    listen: None,
                    secret: None,
                    tls: None,
                };
                Node::join(config, &cluster, app(), Metrics::new(), Arc::new(Panics))
                    .map_err(std::io::Error::other)?
            }
            Err(_) => Node::with_policy(config, app(), Metrics::new(), Arc::new(Panics)),
        };
        let counted = node.clone();
        let metrics = move |routes: &mut ServiceConfig| {
            let node = counted.clone();
            routes.route("/metrics", web::get().to(move || std::future::ready(node.metrics_now().encode())));
        };
        let server = node.serve(Serve { listener, cors: Cors::Any, tls: None }, metrics)?;
        writeln!(std::io::stdout(), "handlers listening public=http://{address}")?;
        server.await
    })
}

fn app() -> App {
    let refuse = |message: &str, data: Option<&str>| {
        let refused = ConnectRefused { message: message.to_owned(), data: data.map(str::to_owned) };
        move |_: Socket, _: Option<String>| {
            let refused = refused.clone();
            async move { Err(refused) }
        }
    };
    App::new()
        .namespace(events(Namespace::named("/")))
        .namespace(events(Namespace::named("/chat")))
        .namespace(events(Namespace::matching(|name| {
            name.strip_prefix("/room-")
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        })))
        .namespace(
            Namespace::named("/refused")
                .middleware(refuse("not today", Some(r#"{"code":403,"retry":false}"#))),
        )
        .namespace(Namespace::matching(|name| {
            assert!(name != "/panic-matcher", "the matcher panics");
            false
        }))
        .namespace(Namespace::named("/panic-policy"))
        .namespace(
            Namespace::named("/panic-middleware").middleware(async |_, _| panic!("the middleware panics")),
        )
        .namespace(Namespace::named("/panic-middleware-at-once").middleware(
            |_, _| -> std::future::Ready<Result<(), ConnectRefused>> { panic!("the middleware panics") },
        ))
        .namespace(Namespace::named("/panic-connect").on_connect(async |_, _| panic!("the handler panics")))
        .namespace(
            Namespace::named("/panic-disconnect").on_disconnect(async |_, _| panic!("the handler panics")),
        )
        .namespace(Namespace::named("/refused-bare").middleware(refuse("no data", None)))
        .namespace(events(Namespace::named("/secret").middleware(async |_, auth| check_token(auth))))
}

fn check_token(auth: Option<String>) -> Result<(), ConnectRefused> {
    let auth: serde_json::Value = auth.and_then(|auth| serde_json::from_str(&auth).ok()).unwrap_or_default();
    match &auth["token"] {
        serde_json::Value::String(token) if token == "sesame" => Ok(()),
        given => Err(ConnectRefused {
            message: "wrong token".to_owned(),
            data: Some(serde_json::json!({ "given": given }).to_string()),
        }),
    }
}

/// Allows everything, and panics where the tests want it to.
struct Panics;

impl Policy for Panics {
    fn decide(&self, _: Option<&Arc<Principal>>, ask: AccessRequest<'_>) -> Verdict {
        match ask {
            AccessRequest::Emit { event: "panic-policy-later", .. } => {
                Verdict::Later(Box::pin(async { panic!("the policy panics") }))
            }
            AccessRequest::Emit { event: "panic-policy", .. }
            | AccessRequest::Namespace { namespace: "/panic-policy", .. } => panic!("the policy panics"),
            AccessRequest::Handshake(handshake) if handshake.query.contains("panic-policy") => {
                panic!("the policy panics")
            }
            _ => Verdict::Allow,
        }
    }
}

/// What every namespace does.
fn events(namespace: Namespace) -> Namespace {
    namespace
        .on_connect(async |socket, auth| socket.emit("auth", raw(&[auth.as_deref().unwrap_or("{}")])))
        .on_disconnect(async |socket, reason| {
            let gone = args((socket.id(), socket.namespace(), reason));
            socket.of("/").to("watchers").emit("gone", gone);
        })
        .on("message", async |socket, event| socket.emit("message-back", event.args().clone()))
        .on("message-with-ack", async |_, event| {
            let args = event.args().clone();
            event.ack(args);
        })
        .on("where", async |socket, event| event.ack(args((socket.namespace(), socket.id()))))
        .on("join", async |socket, event| {
            socket.join(&text(&event, 0)).await;
            event.ack(Args::default());
        })
        .on("leave", async |socket, event| {
            socket.leave(&text(&event, 0)).await;
            event.ack(Args::default());
        })
        .on("to", async |socket, event| socket.to(&text(&event, 0)).emit("note", event.args().skip(1)))
        .on("in", async |socket, event| {
            socket.everybody().to(&text(&event, 0)).emit("note", event.args().skip(1));
        })
        .on("to-except", async |socket, event| {
            socket.to(&text(&event, 0)).except(&text(&event, 1)).emit("note", event.args().skip(2));
        })
        .on("broadcast", async |socket, event| socket.broadcast().emit("note", event.args().clone()))
        .on("all", async |socket, event| socket.everybody().emit("note", event.args().clone()))
        .on("volatile", async |socket, event| socket.emit_volatile("note", event.args().clone()))
        .on("call-me", async |socket, event| {
            let timeout = Duration::from_millis(event.args().get(0).unwrap_or(1000));
            match socket.emit_with_ack("question", event.args().skip(1), timeout).await {
                Ok(reply) => socket.emit("answered", reply),
                Err(_) => socket.emit("timed-out", Args::default()),
            }
        })
        .on("call-me-whenever", async |socket, event| {
            if let Ok(reply) = socket.emit_with_ack("question", event.args().clone(), Duration::MAX).await {
                socket.emit("answered", reply);
            }
        })
        // Meanwhile the client's session may move to another node: what is done with the socket is done there.
        .on("later", async |socket, event| {
            actix_rt::time::sleep(Duration::from_millis(event.args().get(0).unwrap_or(0))).await;
            let joined = socket.join("later").await;
            let rooms = socket.rooms().await;
            let reply =
                socket.emit_with_ack("question", args(("still there?",)), Duration::from_secs(10)).await;
            let left = socket.leave("later").await;
            let reply = reply.map(|reply| reply.get::<String>(0).unwrap_or_default()).ok();
            socket.emit("later-done", args((joined, rooms, reply, left, socket.rooms().await)));
            socket.disconnect(true);
        })
        .on("disconnect-me", async |socket, _| socket.disconnect(false))
        .on("disconnect-all", async |socket, _| socket.disconnect(true))
        .on("emit-reserved", async |socket, event| {
            let name = text(&event, 0);
            socket.emit(&name, Args::default());
            socket.emit_volatile(&name, Args::default());
            socket.everybody().emit(&name, Args::default());
            let error = socket.emit_with_ack(&name, Args::default(), Duration::MAX).await.err();
            event.ack(args((error.map(|error| error.to_string()),)));
        })
        .on("farewell", async |socket, event| {
            for number in 0..event.args().get(0).unwrap_or(0) {
                socket.emit("note", args((number,)));
            }
            socket.disconnect(event.args().get(1).unwrap_or(false));
        })
        .on("panic", async |_, _| panic!("the handler panics"))
        .on("panic-at-once", |_, _| -> std::future::Ready<()> { panic!("the handler panics") })
        // Without this, an event that nothing is for would be answered with an error.
        .on_any(async |_, _| {})
}

fn args(values: impl serde::Serialize) -> Args {
    Args::new(values).unwrap_or_default()
}

fn raw(elements: &[&str]) -> Args {
    Args::from_raw(&format!("[{}]", elements.join(",")), Vec::new()).unwrap_or_default()
}

fn text(event: &Event, index: usize) -> String {
    event.args().get(index).unwrap_or_default()
}
