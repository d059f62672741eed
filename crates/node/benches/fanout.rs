//! The fan-out, whose instructions are counted by `cargo xtask bench`: one member of a room sends a message, and each other member
//! gets it, from the read of the message to the write of its last copy.
//!
//! Without an argument the program lists its cases, each with the number of deliveries it counts; with the name of a case it
//! does that one. The node has one shard, and its clients are driven on that shard's thread, by a handler. So the server and
//! its clients take turns, always in the same order, and the count is nearly the same every time; the clients' part of it is a
//! `recv()` for each delivery.

use std::{
    hint::black_box,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use signalbox_node::{Action, App, Args, Config, Cors, Metrics, Namespace, Node, Serve, bind};
use tokio::{io::AsyncReadExt as _, sync::Notify};

/// A name, the members that hear each message, and the messages that are counted.
const CASES: [(&str, usize, usize); 2] =
    [("fanout: deliver to 1 other member", 1, 2000), ("fanout: deliver to 100 other members", 100, 50)];
/// Messages before them.
const WARM_UP: usize = 5;

fn main() -> io::Result<()> {
    // Whoever measures time has come to the wrong place: cargo bench passes this.
    let wanted = std::env::args().nth(1).filter(|argument| argument != "--bench");
    let Some(wanted) = wanted else {
        let mut stdout = io::stdout().lock();
        return CASES
            .iter()
            .try_for_each(|(name, others, messages)| writeln!(stdout, "{}\t{name}", others * messages));
    };
    let case = CASES.iter().find(|(name, ..)| *name == wanted);
    let (_, others, messages) = case.ok_or_else(|| io::Error::other(format!("there is no case {wanted:?}")))?;
    run(*others, *messages)
}

/// What the handler that drives the clients is given.
type Clients = Arc<Mutex<Option<Vec<TcpStream>>>>;

fn run(others: usize, messages: usize) -> io::Result<()> {
    let clients = Clients::default();
    let done = Arc::new(Notify::new());
    let namespace = Namespace::named("/")
        .on("join", async |socket, event| {
            socket.join("room").await;
            event.ack(Args::default());
        })
        .act("message", Action::Tell { event: "message".into() })
        .on("drive", {
            let (clients, done) = (clients.clone(), done.clone());
            move |_, _| drive(clients.clone(), messages, done.clone())
        });
    actix_rt::System::new().block_on(async {
        let listener = bind("127.0.0.1", 0)?;
        let address = listener.local_addr()?;
        let node = Node::new(Config::default(), App::new().namespace(namespace), Metrics::new());
        let server = node.serve(Serve { listener, cors: Cors::Any, tls: None }, |_| {})?;
        let handle = server.handle();
        actix_rt::spawn(server);

        let connected = actix_rt::task::spawn_blocking(move || {
            // In the order in which they will be written to: the sender first, then the others.
            (0..=others).map(|_| connect(address)).collect::<io::Result<Vec<_>>>()
        });
        let connected = connected.await.map_err(io::Error::other)??;
        let mut first = connected[0].try_clone()?;
        *clients.lock().unwrap_or_else(PoisonError::into_inner) = Some(connected);
        first.write_all(&frame("42[\"drive\"]"))?;
        done.notified().await;
        handle.stop(false).await;
        Ok(())
    })
}

/// Lets the clients send and receive, on the shard's own thread.
async fn drive(clients: Clients, messages: usize, done: Arc<Notify>) {
    let clients = clients.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    if let Err(error) = send_and_receive(clients, messages).await {
        // Without the second call of the boundary there is no count, and that is noticed.
        let _ = writeln!(io::stderr(), "the clients failed: {error}");
    }
    done.notify_one();
}

async fn send_and_receive(mut clients: Vec<TcpStream>, messages: usize) -> io::Result<()> {
    let last = clients.pop().ok_or(io::ErrorKind::NotFound)?;
    last.set_nonblocking(true)?;
    let mut last = tokio::net::TcpStream::from_std(last)?;
    let message = frame(&format!("42[\"message\",\"room\",\"{}\"]", "x".repeat(62)));

    // The first delivery tells how long they all are: the sender's id has always the same length.
    clients[0].write_all(&message)?;
    let mut delivery = vec![0; 1024];
    let len = last.read(&mut delivery).await?;
    delivery.truncate(len);
    for client in &mut clients[1..] {
        client.read_exact(&mut delivery)?;
    }

    for number in 0..WARM_UP + messages {
        if number == WARM_UP {
            boundary();
        }
        clients[0].write_all(&message)?;
        // Whoever is last in the room is written last, so that the others' copies have arrived when this one has.
        last.read_exact(&mut delivery).await?;
        for client in &mut clients[1..] {
            client.read_exact(&mut delivery)?;
        }
    }
    boundary();
    Ok(())
}

/// `cargo xtask bench` finds this by its name: what is counted lies between its first call and its second.
#[inline(never)]
fn boundary() {
    black_box(());
}

/// A client in the namespace `/` and in the room.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    read_until(&mut stream, "0{\"sid\"")?;
    stream.write_all(&frame("40"))?;
    read_until(&mut stream, "40{\"sid\"")?;
    stream.write_all(&frame("420[\"join\"]"))?;
    read_until(&mut stream, "430[]")?;
    Ok(stream)
}

/// Reads until what was read has the text in it. Nothing follows it, since the server answers one thing at a time.
fn read_until(stream: &mut TcpStream, wanted: &str) -> io::Result<()> {
    let mut read = Vec::new();
    let mut piece = [0; 1024];
    while !read.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => read.extend_from_slice(&piece[..len]),
        }
    }
    Ok(())
}

/// A client's text frame of at most 125 bytes, with the mask 0.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}
