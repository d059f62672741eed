//! Connections that break, and go on.

use std::sync::atomic::AtomicBool;

use tokio::{net::TcpListener, sync::broadcast};

use super::*;

/// What stands between two nodes: it breaks what goes through it when it is told to, or after so many bytes, and while it is shut, nothing of
/// what is new passes.
struct Between {
    node: RemoteNode,
    breaks: broadcast::Sender<()>,
    /// What goes through it is forgotten, and stays open.
    forgets: broadcast::Sender<()>,
    is_shut: Arc<AtomicBool>,
}

async fn between(node: RemoteNode, bytes: impl Fn(usize) -> u64 + Send + 'static) -> Between {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = RemoteNode { addr: listener.local_addr().unwrap(), ..node };
    let ((breaks, _), (forgets, _)) = (broadcast::channel(1), broadcast::channel(1));
    let is_shut = Arc::new(AtomicBool::new(false));
    let (broken, forgotten, shut) = (breaks.clone(), forgets.clone(), is_shut.clone());
    tokio::spawn(async move {
        let mut held = Vec::new();
        for number in 0.. {
            let (near, _) = listener.accept().await.unwrap();
            if shut.load(Ordering::Relaxed) {
                held.push(near);
                continue;
            }
            let (mut broken, mut forgotten, most) =
                (broken.subscribe(), forgotten.subscribe(), bytes(number));
            tokio::spawn(async move {
                let Ok(far) = TcpStream::connect(node.addr).await else { return };
                let ((near_read, mut near_write), (far_read, mut far_write)) =
                    (near.into_split(), far.into_split());
                let (mut near_read, mut far_read) = (near_read.take(most), far_read.take(most));
                // Both ways end with the first.
                tokio::select! {
                    _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                    _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                    _ = broken.recv() => {}
                    _ = forgotten.recv() => std::future::pending::<()>().await,
                }
            });
        }
    });
    Between { node: here, breaks, forgets, is_shut }
}

#[tokio::test]
async fn nothing_is_lost_doubled_or_moved_however_often_the_connection_breaks() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    // Behind the handshake, and within small and large frames.
    let connections = Arc::new(AtomicU64::new(0));
    let count = connections.clone();
    let between = between(peer, move |number| {
        count.fetch_add(1, Ordering::Relaxed);
        [1_000, 300_000, 5_000, 250_000, 700, 220_000, 410_000][number % 7]
    })
    .await;
    let mut responses = Vec::new();
    for number in 0..4_000_u32 {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(if number % 50 == 0 { 200_000 } else { 4 }, 7);
        match number % 10 {
            0 => responses.push((body.clone(), one.request(between.node, ECHO, body.into()))),
            _ => one.notify(between.node, 0, body.into()).expect("there is room"),
        }
        if number % 40 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for (body, answer) in responses {
        assert_eq!(answer.await.as_deref(), Ok(&body[..]));
    }
    until(|| desk.told.lock().len() >= 4_000).await;
    let told = std::mem::take(&mut *desk.told.lock());
    let numbers = told.iter().filter_map(|body| body.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
    assert!(numbers.eq(0..4_000));
    assert_eq!(desk.lost.load(Ordering::Relaxed), 0);
    assert!(connections.load(Ordering::Relaxed) > 50, "{connections:?}");
    let waiting = || one.shared.outgoing.lock().values().map(|outgoing| outgoing.waiting()).sum::<usize>();
    until(|| waiting() == 0).await;
}

#[tokio::test]
async fn what_a_firewall_has_forgotten_goes_on_though_nobody_waits_for_an_answer() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    let between = between(peer, |_| u64::MAX).await;
    one.notify(between.node, 0, Bytes::from_static(b"first")).expect("there is room");
    until(|| desk.told.lock().len() == 1).await;
    let _ = between.forgets.send(());
    one.notify(between.node, 0, Bytes::from_static(b"second")).expect("there is room");
    until(|| desk.told.lock().len() == 2).await;
    let asked = one.request(between.node, ECHO, Bytes::from_static(b"third"));
    assert_eq!(asked.await, Ok(Bytes::from_static(b"third")));
    assert_eq!(*desk.told.lock(), ["first", "second", "third"]);
    assert_eq!(desk.lost.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_frame_that_the_other_node_does_not_read_is_not_sent_for_ever() {
    let (one, _, _) = node(1, "secret");
    let desk = Arc::new(Desk::default());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = Limits { frame: 1_000, ..Limits::default() };
    let two = Link::serve(listener, NodeTag(2), Secret::new("secret"), None, limits, desk.clone()).unwrap();
    let peer = RemoteNode::new(NodeTag(2), two.local_addr());
    assert_eq!(one.request(peer, ECHO, vec![0; 5_000].into()).await, Err(LinkError::Broken));
    assert_eq!(one.request(peer, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
    assert_eq!(*desk.told.lock(), ["x"]);
}

#[tokio::test]
async fn a_node_that_begins_anew_is_lost_first() {
    let (_two, desk, peer) = node(2, "secret");
    let begin = async |id: u8| {
        let mut stream = Stream::Plain(TcpStream::connect(peer.addr).await.unwrap());
        let resume = crate::resume::Resume { id: [id; 16], received: None }.metadata();
        let secret = Secret::new("secret");
        let initiated = handshake::initiate(&mut stream, &secret, NodeTag(5), peer, &resume).await;
        (stream, initiated.map(|(seals, said)| (seals, crate::resume::Resumed::of(&said))))
    };
    let (mut first, initiated) = begin(1).await;
    let (mut to_wire, mut write) =
        (crate::frame::FrameWriter::new(initiated.unwrap().0.unzip().0), Default::default());
    let request =
        crate::frame::Frame { kind: KEEP, ..crate::frame::Frame::empty(crate::frame::FrameType::Request, 1) };
    to_wire.write(&request, &mut write);
    first.write_all(&write).await.unwrap();
    until(|| desk.kept.lock().len() == 1).await;
    // One that was never used is not missed, and an id is a stream's for ever.
    let (_second, initiated) = begin(2).await;
    assert!(matches!(initiated, Ok((_, crate::resume::Resumed::Has(0)))));
    assert_eq!(desk.lost.load(Ordering::Relaxed), 1);
    until(|| desk.cancelled.load(Ordering::Relaxed) == 1).await;
    assert!(matches!(begin(2).await.1, Ok((_, crate::resume::Resumed::Gone))));
    let (_third, initiated) = begin(3).await;
    assert!(initiated.is_ok());
    assert_eq!(desk.lost.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_request_is_answered_over_another_connection_and_made_once() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    let between = between(peer, |_| u64::MAX).await;
    let asked = tokio::spawn(one.request(between.node, KEEP, Bytes::from_static(b"x")));
    until(|| desk.kept.lock().len() == 1).await;
    between.is_shut.store(true, Ordering::Relaxed);
    let _ = between.breaks.send(());
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Answered while there is no connection.
    desk.kept.lock().pop_front().unwrap().send(Bytes::from_static(b"late"));
    between.is_shut.store(false, Ordering::Relaxed);
    assert_eq!(asked.await.unwrap(), Ok(Bytes::from_static(b"late")));
    assert_eq!(desk.told.lock().len(), 1);
    assert_eq!((desk.cancelled.load(Ordering::Relaxed), desk.lost.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test]
async fn a_connection_that_does_not_come_back_ends_at_both_ends() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    let between = between(peer, |_| u64::MAX).await;
    let asked = tokio::spawn(one.request(between.node, KEEP, Bytes::new()));
    until(|| desk.kept.lock().len() == 1).await;
    between.is_shut.store(true, Ordering::Relaxed);
    let _ = between.breaks.send(());
    let began = Instant::now();
    assert_eq!(asked.await.unwrap(), Err(LinkError::Broken));
    assert!(began.elapsed() >= Duration::from_millis(300), "it was tried for a while");
    until(|| desk.lost.load(Ordering::Relaxed) == 1 && desk.cancelled.load(Ordering::Relaxed) == 1).await;
    // What comes later begins anew.
    between.is_shut.store(false, Ordering::Relaxed);
    assert_eq!(one.request(between.node, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
}

#[tokio::test]
async fn a_process_that_is_gone_is_known_to_be_at_once() {
    // One that waits for long for those that may come back.
    let limits = Limits { silence: Duration::from_secs(60), ..Limits::default() };
    let here = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let one = Link::serve(here, NodeTag(1), Secret::new("secret"), None, limits, Arc::new(Desk::default()))
        .unwrap();
    // It knows the secret, says that its stream may go on, and is gone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = RemoteNode::new(NodeTag(2), listener.local_addr().unwrap());
    let asked = tokio::spawn(one.request(peer, ECHO, Bytes::new()));
    let (mut stream, initiator) = taken(&listener, "secret").await;
    let initiator = initiator.expect("it knows the secret");
    initiator.answer(&mut stream, &crate::resume::Resumed::Has(0).metadata()).await.unwrap();
    assert!(stream.read_u8().await.is_ok(), "the request");
    drop(listener);
    let began = Instant::now();
    drop(stream);
    assert_eq!(asked.await.unwrap(), Err(LinkError::Broken));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
