//! The program itself, with raw clients: what it is told reaches whom it should, and nobody else.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A floor on a port of its own, killed in the end.
struct Floor {
    process: Child,
    address: String,
}

impl Floor {
    fn start() -> Self {
        let program = env!("CARGO_BIN_EXE_loadtest-peer-floor");
        let mut process = Command::new(program).arg("--port=0").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("floor listening public=http://").unwrap().to_owned();
        Self { process, address }
    }

    /// A client in the namespace `/`.
    fn connect(&self) -> Client {
        let mut client = Client { stream: TcpStream::connect(&self.address).unwrap() };
        client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        client.stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.byte().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        assert!(client.receive().starts_with("0{\"sid\":\""));
        client.send("40");
        assert!(client.receive().starts_with("40{\"sid\":\""));
        client
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself, which is what the test then fails for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A text frame with the mask 0.
    fn send(&mut self, text: &str) {
        self.stream.write_all(&frame(text)).unwrap();
    }

    /// The text of the next frame.
    fn receive(&mut self) -> String {
        assert_eq!(self.byte().unwrap(), 0x81);
        let len = match self.byte().unwrap() {
            126 => u16::from_be_bytes([self.byte().unwrap(), self.byte().unwrap()]),
            short => u16::from(short),
        };
        let mut text = vec![0; usize::from(len)];
        self.stream.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn join(&mut self, room: &str) {
        self.send(&format!("427[\"join\",\"{room}\"]"));
        assert_eq!(self.receive(), "437[{\"ok\":true}]");
    }
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        0..=125 => frame.push(0x80 | text.len() as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

#[test]
fn a_message_reaches_the_other_members_once_and_nobody_else() {
    let floor = Floor::start();
    let [mut sender, mut member, mut outsider] = [floor.connect(), floor.connect(), floor.connect()];
    sender.join("a");
    sender.join("a");
    member.join("a");
    outsider.join("b");
    sender.send("42[\"message\",\"a\",{\"n\":1}]");
    sender.send("42[\"message\",\"b\",2]");
    sender.send("42[\"echo\",3]");
    assert_eq!(member.receive(), "42[\"message\",{\"n\":1}]");
    assert_eq!(outsider.receive(), "42[\"message\",2]");
    assert_eq!(sender.receive(), "42[\"echo\",3]");
}

#[test]
fn a_frame_may_come_in_pieces_and_several_at_once() {
    let floor = Floor::start();
    let mut client = floor.connect();
    let long = format!("42[\"echo\",\"{}\"]", "x".repeat(4000));
    let wire = [frame(&long), frame("42[\"echo\",1]"), frame("42[\"echo\",2]")].concat();
    for piece in wire.chunks(1500) {
        client.stream.write_all(piece).unwrap();
    }
    for expected in [long.as_str(), "42[\"echo\",1]", "42[\"echo\",2]"] {
        assert_eq!(client.receive(), expected);
    }
}

#[test]
fn who_has_left_is_sent_nothing_and_the_others_hear_on() {
    let floor = Floor::start();
    let [mut sender, mut member] = [floor.connect(), floor.connect()];
    sender.join("a");
    let mut leaver = floor.connect();
    leaver.join("a");
    member.join("a");
    leaver.stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    assert_eq!((leaver.byte().unwrap(), leaver.byte().unwrap()), (0x88, 0), "the close is answered");
    assert_eq!(leaver.byte().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    sender.send("42[\"message\",\"a\",1]");
    assert_eq!(member.receive(), "42[\"message\",1]");
}

#[test]
fn what_is_no_handshake_is_refused() {
    let floor = Floor::start();
    let mut stream = TcpStream::connect(&floor.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
