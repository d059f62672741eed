mod breaks;
mod strangers;
mod tls;

use std::{collections::VecDeque, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use signalbox_cluster::envelope::Metadata;

use super::{
    handshake::{Acceptor, Initiator, Seals},
    stream::Stream,
    *,
};

/// What the handlers of these tests do, by the question's kind.
const ECHO: u8 = 1;
const KEEP: u8 = 2;
const DROP: u8 = 3;
/// Answers with 16 times as much.
const GROW: u8 = 4;

#[derive(Default)]
struct Desk {
    told: Mutex<Vec<Bytes>>,
    kept: Mutex<VecDeque<Responder>>,
    cancelled: Arc<AtomicU64>,
    lost: AtomicU64,
    /// A node that is known to be of the previous version.
    previous: Option<NodeTag>,
}

impl Handler for Desk {
    fn is_previous(&self, node: NodeTag) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(future::ready(self.previous == Some(node)))
    }
    fn request(&self, _: NodeTag, kind: u8, body: Bytes, mut answer: Responder) {
        self.told.lock().push(body.clone());
        match kind {
            ECHO => answer.send(body),
            GROW => answer.send(body.repeat(16).into()),
            KEEP => {
                let (cancelled, count) = (answer.cancelled(), self.cancelled.clone());
                tokio::spawn(async move {
                    cancelled.await;
                    count.fetch_add(1, Ordering::Relaxed);
                });
                self.kept.lock().push_back(answer);
            }
            _ => {}
        }
    }
    fn notice(&self, _: NodeTag, _: u8, body: Bytes) {
        self.told.lock().push(body);
    }
    fn node_lost(&self, _: NodeTag) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}

fn node(tag: u32, secret: &str) -> (Link, Arc<Desk>, RemoteNode) {
    node_with(tag, secret, Desk::default(), None)
}

fn node_with(tag: u32, secret: &str, desk: Desk, tls: Option<Arc<LinkTls>>) -> (Link, Arc<Desk>, RemoteNode) {
    let desk = Arc::new(desk);
    let takes_tls = tls.is_some();
    let limits = Limits {
        silence: Duration::from_millis(600),
        waiting: 32 << 20,
        idle: Duration::from_secs(2),
        connect: Duration::from_millis(250),
        ..Limits::default()
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let link = Link::serve(listener, NodeTag(tag), Secret::new(secret), tls, limits, desk.clone())
        .expect("it listens");
    let peer = RemoteNode { takes_tls, ..RemoteNode::new(NodeTag(tag), link.local_addr()) };
    (link, desk, peer)
}

/// A connection of our own to a node, which knows the secret and says that it is node 5.
async fn connected(to: RemoteNode) -> (TcpStream, Seals) {
    let mut stream = Stream::Plain(TcpStream::connect(to.addr).await.unwrap());
    let none = Metadata::default();
    let initiated = handshake::initiate(&mut stream, &Secret::new("secret"), NodeTag(5), to, &none).await;
    let (seals, _) = initiated.unwrap();
    match stream {
        Stream::Plain(stream) => (stream, seals),
        Stream::Tls { .. } => unreachable!("it was not asked for"),
    }
}

/// Stands in for node 2, which has this secret, and takes node 1's first connection. `None` unless that knows the secret.
async fn taken(listener: &TcpListener, secret: &str) -> (Stream, Option<Initiator>) {
    let mut stream = Stream::Plain(listener.accept().await.unwrap().0);
    let acceptor = Acceptor::new(NodeTag(2));
    let initiator = acceptor.accept(&mut stream, &Secret::new(secret), &Desk::default()).await;
    (stream, initiator)
}

async fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(15), "it did not happen in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn questions_are_answered_and_everything_keeps_its_order() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    let mut responses = Vec::new();
    for number in 0..10_000_u32 {
        let body = Bytes::copy_from_slice(&number.to_be_bytes());
        if number % 100 == 0 {
            responses.push((body.clone(), one.request(peer, ECHO, body)));
        } else {
            one.notify(peer, 0, body).expect("there is room");
        }
    }
    for (body, answer) in responses {
        assert_eq!(answer.await, Ok(body));
    }
    until(|| desk.told.lock().len() == 10_000).await;
    let told = desk.told.lock();
    assert!(told.iter().zip(0_u32..).all(|(body, number)| body[..] == number.to_be_bytes()));
}

#[tokio::test]
async fn both_ask_each_other_and_large_bodies_pass() {
    let (one, _, first) = node(1, "secret");
    let (two, _, second) = node(2, "secret");
    let body = Bytes::from(vec![7; 4 << 20]);
    let (a, b) =
        tokio::join!(one.request(second, ECHO, body.clone()), two.request(first, ECHO, body.clone()));
    assert_eq!((a, b), (Ok(body.clone()), Ok(body)));
    // Far more than sockets hold, both ways at once: neither end waits for the other to read first.
    let responses: Vec<_> =
        (0..40).map(|_| one.request(second, GROW, Bytes::from(vec![7; 1 << 19]))).collect();
    for answer in responses {
        assert_eq!(answer.await.map(|body| body.len()), Ok(8 << 20));
    }
    let too_large = Bytes::from(vec![0; 17 << 20]);
    assert_eq!(one.request(second, ECHO, too_large).await, Err(LinkError::Full));
    // An answer that is too large harms no other.
    let (large, other) = tokio::join!(
        one.request(second, GROW, Bytes::from(vec![7; 2 << 20])),
        one.request(second, ECHO, Bytes::from_static(b"x"))
    );
    assert_eq!((large, other), (Err(LinkError::Refused), Ok(Bytes::from_static(b"x"))));
}

#[tokio::test]
async fn who_gives_up_is_heard_of_and_who_will_not_answer_refuses() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    assert_eq!(one.request(peer, DROP, Bytes::new()).await, Err(LinkError::Refused));
    let asked = tokio::spawn(one.request(peer, KEEP, Bytes::new()));
    until(|| desk.kept.lock().len() == 1).await;
    asked.abort();
    until(|| desk.cancelled.load(Ordering::Relaxed) == 1).await;
    // A late answer finds nobody.
    if let Some(answer) = desk.kept.lock().pop_front() {
        answer.send(Bytes::from_static(b"late"));
    }
    assert_eq!(one.request(peer, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn only_nodes_of_the_cluster_that_are_meant_are_spoken_to() {
    let (one, _, _) = node(1, "secret");
    let (_two, _, peer) = node(2, "another");
    assert_eq!(one.request(peer, ECHO, Bytes::new()).await, Err(LinkError::WrongNode));
    let (_three, _, peer) = node(3, "secret");
    let replaced = RemoteNode { tag: NodeTag(9), ..peer };
    assert_eq!(one.request(replaced, ECHO, Bytes::new()).await, Err(LinkError::WrongNode));
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    let nobody = RemoteNode::new(NodeTag(4), nobody);
    assert_eq!(one.request(nobody, ECHO, Bytes::new()).await, Err(LinkError::Unreachable));
}

#[tokio::test]
async fn a_node_that_falls_silent_is_taken_for_gone() {
    let (one, _, _) = node(1, "secret");
    // It knows the secret, completes the handshake, and sends nothing more.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = RemoteNode::new(NodeTag(2), listener.local_addr().unwrap());
    let asked = one.request(peer, ECHO, Bytes::new());
    let (mut stream, initiator) = taken(&listener, "secret").await;
    let initiator = initiator.expect("it knows the secret");
    assert_eq!(initiator.tag, NodeTag(1));
    initiator.answer(&mut stream, &Metadata::default()).await.unwrap();
    assert_eq!(asked.await, Err(LinkError::Broken));
}

#[tokio::test]
async fn a_connection_that_nobody_needs_says_nothing_about_its_node() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    assert_eq!(one.request(peer, ECHO, Bytes::new()).await, Ok(Bytes::new()));
    let connection = |link: &Link| link.shared.outgoing.lock().len();
    assert_eq!(connection(&one), 1);
    until(|| connection(&one) == 0).await;
    drop(connected(peer).await);
    until(|| desk.lost.load(Ordering::Relaxed) > 0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(desk.lost.load(Ordering::Relaxed), 1);
}

async fn timeout_read(stream: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(into)).await.is_ok()
}
