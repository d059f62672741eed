//! A WebSocket by hand, that reads only when it is told to.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::http::{self, Response};

/// The target of a Socket.IO handshake over WebSocket.
pub(crate) const SOCKETIO: &str = "/socket.io/?EIO=4&transport=websocket";

/// An open WebSocket.
pub(crate) struct WebSocket {
    stream: TcpStream,
}

/// What a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Close(Option<u16>),
    Other(u8),
}

impl WebSocket {
    /// Asks for an upgrade; the answer instead, if that is no 101.
    pub(crate) fn connect(base: &str, target: &str, headers: &[(&str, &str)]) -> Result<Self, Response> {
        let mut stream = http::connect(base);
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.extend(headers);
        http::send(&mut stream, base, "GET", target, &all, "");
        let answer = http::answer(&mut stream).expect("an answer");
        if answer.status == 101 { Ok(Self { stream }) } else { Err(answer) }
    }

    /// A Socket.IO client in the namespace `/`.
    pub(crate) fn socketio(base: &str) -> Self {
        let mut socket = Self::connect(base, SOCKETIO, &[]).expect("101");
        assert!(socket.text().starts_with("0{"));
        socket.send("40");
        assert!(socket.text().starts_with("40{"));
        socket
    }

    /// A PeerServer client that holds this id.
    pub(crate) fn peer(base: &str, id: &str) -> Self {
        let target = format!("/peerjs?key=peerjs&id={id}&token=t");
        let mut socket = Self::connect(base, &target, &[]).expect("101");
        assert_eq!(socket.text(), r#"{"type":"OPEN"}"#);
        socket
    }

    /// Sends a text frame; its mask is zero, so the payload stands as it is.
    pub(crate) fn send(&mut self, text: &str) {
        self.begin(text, 0);
    }

    /// The same, to a server that may have closed the connection; whether it could be sent.
    pub(crate) fn try_send(&mut self, text: &str) -> bool {
        self.stream.write_all(&frame(text, 0)).is_ok()
    }

    /// Reads and forgets whatever comes, on a thread of its own: from now on it is only written to.
    pub(crate) fn read_beside(&mut self) {
        let mut stream = self.stream.try_clone().expect("a second handle");
        std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    }

    /// Sends a text frame but for so many bytes at its end.
    pub(crate) fn begin(&mut self, text: &str, missing: usize) {
        self.stream.write_all(&frame(text, missing)).expect("a frame is sent");
    }

    /// The same to a server that may hang up meanwhile.
    pub(crate) fn try_begin(&mut self, text: &str, missing: usize) {
        let _ = self.stream.write_all(&frame(text, missing));
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let [first, second] = self.read()?;
        let length = match second {
            126 => usize::from(u16::from_be_bytes(self.read()?)),
            127 => u64::from_be_bytes(self.read()?) as usize,
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some(match first & 0x0F {
            0x1 => Frame::Text(String::from_utf8(payload).expect("text is UTF-8")),
            0x8 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            opcode => Frame::Other(opcode),
        })
    }

    /// The next frame, which is text.
    pub(crate) fn text(&mut self) -> String {
        match self.next() {
            Some(Frame::Text(text)) => text,
            other => panic!("not text: {other:?}"),
        }
    }

    /// Everything until the end of the connection.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing arrived within {:?}", http::DEADLINE)
            }
            Err(_) => None,
        }
    }
}

/// A text frame but for so many bytes at its end.
fn frame(text: &str, missing: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() + missing {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
