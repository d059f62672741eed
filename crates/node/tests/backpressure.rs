//! Clients that send as fast as they can are not read on while the shard behind them is: nobody's messages are dropped.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use signalbox_node::{Action, App, Args, Config, Cors, Metrics, Namespace, Node, Serve, bind};

/// So few that a flood fills them within milliseconds.
const MAILBOX_LIMIT: usize = 4_096;
const FLOODERS: usize = 4;
const FLOOD: usize = 20_000;
const NEIGHBOURS: usize = 4;
const MESSAGES: usize = 200;

fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    fn join(address: SocketAddr, room: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut client = Self { stream, read: Vec::new() };
        client.until("0{\"sid\"", 1);
        client.stream.write_all(&frame("40")).unwrap();
        client.until("40{\"sid\"", 1);
        client.stream.write_all(&frame(&format!("420[\"join\",\"{room}\"]"))).unwrap();
        client.until("430[]", 1);
        client
    }

    /// Reads until the text was there so many times.
    fn until(&mut self, wanted: &str, mut times: usize) {
        let mut piece = vec![0; 64 * 1024];
        loop {
            while let Some(at) = self.read.windows(wanted.len()).position(|part| part == wanted.as_bytes()) {
                self.read.drain(..at + wanted.len());
                times -= 1;
                if times == 0 {
                    return;
                }
            }
            let keep = self.read.len().min(wanted.len());
            self.read.drain(..self.read.len() - keep);
            let len = self.stream.read(&mut piece).unwrap();
            assert!(len > 0, "the connection has ended");
            self.read.extend_from_slice(&piece[..len]);
        }
    }
}

fn serve() -> (SocketAddr, Metrics) {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let namespace = Namespace::named("/")
            .on("join", async |socket, event| {
                let room = event.args().get::<String>(0).unwrap_or_default();
                socket.join(&room).await;
                event.ack(Args::default());
            })
            .act("message", Action::Broadcast { event: "message".into(), chat: None });
        actix_rt::System::new().block_on(async {
            let listener = bind("127.0.0.1", 0).unwrap();
            let address = listener.local_addr().unwrap();
            let config = Config { shards: 2, mailbox_limit: MAILBOX_LIMIT, ..Config::default() };
            let node = Node::new(config, App::new().namespace(namespace), Metrics::new());
            let server = node.serve(Serve { listener, cors: Cors::Any, tls: None }, |_| {}).unwrap();
            ready.send((address, node.metrics().clone())).unwrap();
            server.await.unwrap();
        });
    });
    is_ready.recv().unwrap()
}

#[test]
fn neighbours_of_a_flood_lose_nothing() {
    let (address, metrics) = serve();
    // Connections go to the workers in turn, so both have some of each kind.
    let mut neighbours: Vec<Client> = (0..NEIGHBOURS).map(|_| Client::join(address, "quiet")).collect();
    let flooders: Vec<Client> = (0..FLOODERS).map(|_| Client::join(address, "flood")).collect();
    let flood: Vec<_> = flooders
        .into_iter()
        .map(|mut flooder| {
            let mut writer = flooder.stream.try_clone().unwrap();
            thread::spawn(move || {
                let messages = frame("42[\"message\",\"flood\",1]").repeat(FLOOD / 100);
                (0..100).for_each(|_| writer.write_all(&messages).unwrap());
            });
            thread::spawn(move || flooder.until("42[\"message\",1,", (FLOODERS - 1) * FLOOD))
        })
        .collect();

    for number in 0..MESSAGES {
        let speaker = &mut neighbours[number % NEIGHBOURS];
        speaker.stream.write_all(&frame(&format!("42[\"message\",\"quiet\",{number}]"))).unwrap();
        for (other, neighbour) in neighbours.iter_mut().enumerate() {
            if other != number % NEIGHBOURS {
                neighbour.until(&format!("42[\"message\",{number},"), 1);
            }
        }
    }
    flood.into_iter().for_each(|flooder| flooder.join().unwrap());
    assert_eq!(metrics.mailbox_dropped.get(), 0);
    assert!(metrics.reads_paused.get() > 0, "the flood did not fill a mailbox");
}
