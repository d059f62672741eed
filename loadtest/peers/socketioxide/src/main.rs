//! What the load test compares with: [socketioxide](https://docs.rs/socketioxide) on axum, as its own documentation sets it up,
//! on one thread. It has the events of the built-in vocabulary that the load test sends, without presence.

use std::{convert::Infallible, io::Write as _};

use axum::serve::ListenerExt as _;
use clap::Parser;
use serde_json::{Value, json};
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
    handler::ConnectHandler as _,
};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// The port to listen at on 127.0.0.1; 0 is any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let (layer, io) = SocketIo::new_layer();
    // A middleware runs before CONNECT is answered. The connect handler runs beside that, and an event that a client sends at
    // once would find nothing listening.
    io.ns("/", (async || {}).with(listen));
    let app = axum::Router::new().layer(layer);

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    writeln!(std::io::stdout(), "socketioxide listening public=http://{}", listener.local_addr()?)?;
    // As the others do; without it, a second small frame would wait for the acknowledgement of the first.
    let listener = listener.tap_io(|connection| {
        // A connection that has gone meanwhile is found out by whoever reads it.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn listen(socket: SocketRef) -> Result<(), Infallible> {
    socket.on("join", join);
    socket.on("leave", leave);
    socket.on("message", message);
    socket.on("echo", echo);
    socket.on("signal", signal);
    Ok(())
}

async fn join(socket: SocketRef, Data(room): Data<String>, ack: AckSender) {
    socket.join(room);
    // The client may have gone; so in the handlers below.
    let _ = ack.send(&json!({ "ok": true }));
}

async fn leave(socket: SocketRef, Data(room): Data<String>, ack: AckSender) {
    socket.leave(room);
    let _ = ack.send(&json!({ "ok": true }));
}

async fn message(socket: SocketRef, Data((room, data)): Data<(String, Value)>) {
    let _ = socket.to(room).emit("message", &data).await;
}

async fn echo(socket: SocketRef, Data(data): Data<Value>) {
    let _ = socket.emit("echo", &data);
}

async fn signal(io: SocketIo, Data((to, data)): Data<(String, Value)>, ack: AckSender) {
    let addressee = to.parse().ok().and_then(|sid| io.get_socket(sid));
    let answer = match addressee {
        Some(addressee) if addressee.emit("signal", &data).is_ok() => json!({ "ok": true }),
        _ => json!({ "ok": false, "error": "not-found" }),
    };
    let _ = ack.send(&answer);
}
