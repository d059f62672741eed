//! HTTP/1.1 responses, as far as a WebSocket handshake and long-polling need them.

use anyhow::{Context as _, Result, bail};

/// A complete response at the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    /// Its length on the wire.
    pub(super) length: usize,
}

/// The response at the front of `bytes`; `None` while it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Response<'_>>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).context("the server's response head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status: u16 = status.context("the server does not answer in HTTP/1.1")?;
    let mut body_length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body_length = value.trim().parse().context("content-length is no number")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("the server answers in chunks, which this client does not understand");
        }
    }
    let start = end + 4;
    // 101 and 204 have no body whatever they declare.
    let length = if matches!(status, 101 | 204) { start } else { start + body_length };
    Ok(bytes.get(start..length).map(|body| Response { status, body, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_where_it_says() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nokHTTP";
        let expected = Response { status: 200, body: b"ok", length: wire.len() - 4 };
        assert_eq!(parse(wire).unwrap(), Some(expected));
        assert_eq!(parse(&wire[..wire.len() - 5]).unwrap(), None);
        assert_eq!(parse(b"HTTP/1.1 200").unwrap(), None);
    }

    #[test]
    fn what_follows_a_101_belongs_to_the_websocket() {
        let wire = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00";
        assert_eq!(parse(wire).unwrap().unwrap().length, wire.len() - 2);
    }
}
