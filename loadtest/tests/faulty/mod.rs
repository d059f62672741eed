//! A server with mistakes that are known: of the events of a client it swallows every tenth, and says every fourth twice.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use signalbox_websocket::{Frame, Message, Parser};

/// It serves one client after the other, for as long as the test runs.
pub(crate) struct Server {
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap());
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Until the client goes.
fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    // The client does not ask for proof that this is a WebSocket.
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
    let mut say = stream.try_clone().unwrap();
    let mut say = |text: &str| {
        // The client may have heard enough.
        let _ = say.write_all(Frame::text(text).bytes());
    };
    say("0{}");
    let mut parser = Parser::new(100_000);
    let mut buffer = [0; 4096];
    let mut events = 0;
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let mut input = &mut buffer[..read];
        while let Some(Message::Text(packet)) = parser.next(&mut input).unwrap() {
            if packet == "40" {
                say(r#"40{"sid":"x"}"#);
                continue;
            }
            let copies = match events % 20 {
                0 | 10 => 0,
                number if number % 4 == 0 => 2,
                _ => 1,
            };
            events += 1;
            for _ in 0..copies {
                say(packet);
            }
        }
    }
}
