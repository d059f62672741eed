//! Connections whose other end does not read. Their streams are not asked for more, so nothing of their own could end them.

use std::{
    any::Any,
    cell::Cell,
    net::Shutdown,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, dev::Extensions, rt::net::TcpStream};
use signalbox_node::admin::ListenerGauge;
use socket2::{SockRef, Socket};

/// How long a listener may take nothing.
const STUCK: Duration = Duration::from_secs(30);
/// The same for one that has fallen out of the buffer.
const BEHIND: Duration = Duration::from_secs(2);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// A connection, so that it can be ended from outside.
struct Connection(Socket);

/// Remembers a connection among its data, from where handlers find it.
pub(in crate::admin) fn remember(connection: &dyn Any, data: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Ok(socket) = SockRef::from(stream).try_clone()
    {
        data.insert(Connection(socket));
    }
}

/// Ends the connection of a listener that does not read.
pub(super) struct Watch {
    taken: Rc<Cell<Instant>>,
    socket: Option<Socket>,
}

impl Watch {
    /// Looks after the connection of this request, until the watch is dropped.
    pub(super) fn begin(request: &HttpRequest, gauge: ListenerGauge) -> Self {
        let taken = Rc::new(Cell::new(Instant::now()));
        let clone =
            || request.conn_data::<Connection>().and_then(|Connection(socket)| socket.try_clone().ok());
        if let Some(socket) = clone() {
            // One whose machine is gone answers nothing at all.
            #[cfg(target_os = "linux")]
            let _ = socket.set_tcp_user_timeout(Some(STUCK));
            actix_web::rt::spawn(look(Rc::downgrade(&taken), gauge, socket));
        }
        Self { taken, socket: clone() }
    }

    /// The connection has taken what there was.
    pub(super) fn taken(&self) {
        self.taken.set(Instant::now());
    }

    /// Ends the connection, whatever still waits to be written.
    pub(super) fn hang_up(&self) {
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

async fn look(taken: Weak<Cell<Instant>>, gauge: ListenerGauge, socket: Socket) {
    loop {
        actix_web::rt::time::sleep(LOOK).await;
        let Some(taken) = taken.upgrade() else { return };
        let quiet = taken.get().elapsed();
        if quiet > STUCK || quiet > BEHIND && gauge.is_behind() {
            tracing::info!(target: "signalbox_gateway::admin", "a listener does not read, and is cut off");
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
    }
}
