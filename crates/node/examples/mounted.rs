//! A node in an `HttpServer` and an `App` of one's own: `/hello` is the application's, the rest is for `socket.io-client` and `peerjs`.
//!
//! `cargo run -p signalbox-node --example mounted` prints the address it listens at, and ends well on SIGTERM.

use std::{io::Write as _, time::Duration};

use actix_web::{App, HttpServer, web};
use signalbox_node::{Config, Cors, Metrics, Node, app::vocabulary, bind};
use tokio::signal::unix::{SignalKind, signal};

/// The gateway's, so that both can be measured alike.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How long clients have to go elsewhere when the server ends.
const GRACE: Duration = Duration::from_secs(5);

fn main() -> std::io::Result<()> {
    // A shard that panics is no shard any more.
    signalbox_node::end_process_on_panic();
    actix_web::rt::System::new().block_on(async {
        let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
        let workers = number("WORKERS").unwrap_or(2);
        let listener = bind("127.0.0.1", number("PORT").unwrap_or(0) as u16)?;
        let address = listener.local_addr()?;

        // One worker for each shard.
        let config = Config { shards: workers, ..Config::default() };
        let events = signalbox_node::App::new().namespace(vocabulary::namespace());
        let node = Node::new(config, events, Metrics::new());
        let mounted = node.clone();
        let factory = move || {
            App::new()
                .route("/hello", web::get().to(async || "hello from the application\n"))
                .configure(|routes| mounted.mount(routes, Cors::Any))
        };
        let server = HttpServer::new(factory)
            .workers(workers)
            // Requests of clients that poll wait for what there is to say.
            .keep_alive(Duration::from_secs(75))
            // One that is given up is noticed at once.
            .h1_allow_half_closed(false)
            .disable_signals()
            .listen(listener)?
            .run();
        let handle = server.handle();
        writeln!(std::io::stdout(), "mounted listening public=http://{address}")?;

        let running = actix_web::rt::spawn(server);
        signal(SignalKind::terminate())?.recv().await;
        // Clients first: they would keep the server waiting.
        handle.pause().await;
        node.stop(GRACE).await;
        handle.stop(true).await;
        running.await?
    })
}
