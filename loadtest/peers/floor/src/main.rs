//! The floor: a single-threaded server that does nothing but read a message and `send()` it to each member. What it costs is
//! what the kernel costs, and no server that sends each recipient its own copy can cost less.
//!
//! It speaks as much of Socket.IO over WebSocket as the load test's clients need: the handshake, CONNECT, and the events
//! `join(room)` with an ack, `message(room, data)` and `echo(data)`. It looks at a message only to find the event's name and
//! the room's; it checks neither UTF-8 nor JSON, knows no timers, sends no pings, and cuts off whoever does not take a frame
//! whole. So it is a yardstick, and nothing to serve anybody with.
//!
//! In the order that data flows:
//!
//! - [`server`]: readiness, reads, and one `send()` for each recipient.
//! - [`handshake`]: the HTTP request that opens a WebSocket.
//! - [`frame`]: WebSocket frames.
//! - [`packet`]: what a Socket.IO packet asks for.
//! - [`rooms`]: who is in which room.

mod frame;
mod handshake;
mod packet;
mod rooms;
mod server;

use std::io::{self, Write as _};

use clap::Parser;

use crate::server::Server;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// The port to listen at on 127.0.0.1; 0 is any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let mut server = Server::bind(arguments.port)?;
    writeln!(io::stdout(), "floor listening public=http://{}", server.address()?)?;
    server.run()
}
