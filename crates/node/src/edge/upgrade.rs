//! WebSocket upgrades on the node's own listener. The request leaves the HTTP dispatcher here, with its buffers;
//! [`upgrade_request`](super::upgrade_request) says what it leads to.

use std::{sync::Arc, time::Duration};

use actix_codec::Framed;
use actix_http::{Request as HttpRequest, h1, header, ws};
use signalbox_telemetry::CLIENT_EVENTS;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{
    http_stream::HttpStream,
    http1::RequestStream,
    upgrade_request::{Refused, UpgradeRequest, begin},
};
use crate::{
    shared::NodeShared,
    transport::{ByteStream, ConnectionEvents},
};

/// How long a client may take to read the answer to its handshake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves one upgrade request.
pub(crate) async fn serve<T>(
    node: Arc<NodeShared>,
    request: HttpRequest,
    framed: Framed<RequestStream<HttpStream<T>>, h1::Codec>,
) where
    T: AsyncRead + AsyncWrite + Unpin + ByteStream + 'static,
{
    let parts = framed.into_parts();
    let (io, unread) = parts.io.into_parts();
    let rest = [&*parts.read_buf, &*unread].concat();
    let (mut io, mut slot) = io.into_inner();
    let mut asked = UpgradeRequest { node: &node, head: request.head(), of_address: None };
    let accepted = match asked.judge().await {
        Ok(accepted) => accepted.unless_stopping(&node),
        Err(refused) => return refuse(&asked, io, &refused).await,
    };
    if let Some(of_address) = asked.of_address.take() {
        slot.of_address = Some(of_address);
    }
    let Some(shard) = node.shard() else { return };
    let is_written = matches!(
        tokio::time::timeout(ANSWER_TIMEOUT, io.write_all(answer(&asked).as_bytes())).await,
        Ok(Ok(()))
    );
    let limits = asked.limits(&accepted);
    let conn = accepted.conn(&asked, &shard);
    conn.connect(Box::new(io));
    begin(&node, &shard, &conn, accepted, asked.address());
    if !is_written {
        shard.lost(&conn, signalbox_engineio::CloseReason::TransportError);
        conn.abort();
    }
    shard.serve(conn, limits, rest, Box::new(slot));
}

/// The answer that switches protocols.
fn answer(asked: &UpgradeRequest<'_>) -> String {
    let key = asked.head.headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], |key| key.as_bytes());
    let accept = ws::hash_key(key);
    let subprotocol = asked.subprotocol().map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{}\r\n",
        String::from_utf8_lossy(&accept),
        subprotocol.unwrap_or_default()
    )
}

async fn refuse(
    asked: &UpgradeRequest<'_>,
    mut io: impl AsyncWrite + Unpin,
    Refused { status, message, header }: &Refused,
) {
    let address = asked.address();
    asked.node.tell_story(address, "upgrade refused", status);
    let address = address.map(tracing::field::display);
    tracing::debug!(target: CLIENT_EVENTS, address, status, message, "upgrade refused");
    let answer = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-type: text/html\r\n{header}Content-Length: {}\r\n\r\n{message}",
        message.len()
    );
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await
    })
    .await;
}
