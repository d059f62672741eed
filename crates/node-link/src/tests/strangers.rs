//! Who does not know the secret, listens, takes part, or changes what others say.

use std::sync::atomic::AtomicUsize;

use super::{super::strangers::MAX_STRANGERS, *};

#[tokio::test]
async fn strangers_and_garbage_harm_nobody() {
    let (one, _, _) = node(1, "secret");
    let (_two, _, peer) = node(2, "secret");
    for round in 0..50_u8 {
        let mut permit = TcpStream::connect(peer.addr).await.unwrap();
        let garbage: Vec<u8> = (0..200).map(|index| if index < 4 { b"SBXL"[index] } else { round }).collect();
        let _ = permit.write_all(&garbage).await;
        let mut answer = Vec::new();
        // Closed, with nothing told.
        let _ = timeout_read(&mut permit, &mut answer).await;
        assert!(answer.is_empty());
    }
    assert_eq!(one.request(peer, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
    // One that knows the secret and then sends nonsense is cut off.
    let (mut broken, _) = connected(peer).await;
    broken.write_all(&[0xFF; 64]).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout_read(&mut broken, &mut rest).await;
    assert!(rest.is_empty());
    assert_eq!(one.request(peer, ECHO, Bytes::from_static(b"y")).await, Ok(Bytes::from_static(b"y")));
}

#[tokio::test]
async fn silent_connections_keep_no_node_out() {
    let (one, _, _) = node(1, "secret");
    let (_two, _, peer) = node(2, "secret");
    let mut silent = Vec::new();
    for _ in 0..2 * MAX_STRANGERS {
        silent.push(TcpStream::connect(peer.addr).await.unwrap());
    }
    assert_eq!(one.request(peer, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
}

/// What passes between two nodes.
type Tap = Arc<dyn Fn(&mut Vec<u8>, Way) + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToResponder,
    ToInitiator,
}

/// Stands between: whoever connects here reaches `to`, and the tap sees and changes everything.
async fn between(to: RemoteNode, tap: Tap) -> RemoteNode {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = RemoteNode { addr: listener.local_addr().unwrap(), ..to };
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(to.addr).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut from, mut into, way) in
                [(near_read, far_write, Way::ToResponder), (far_read, near_write, Way::ToInitiator)]
            {
                let tap = tap.clone();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = from.read(&mut bytes).await {
                        let mut seen = bytes[..count].to_vec();
                        tap(&mut seen, way);
                        if into.write_all(&seen).await.is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    here
}

#[tokio::test]
async fn what_nodes_say_is_not_to_be_read_by_those_between() {
    let (one, _, _) = node(1, "secret");
    let (_two, _, peer) = node(2, "secret");
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = seen.clone();
    let peer = between(peer, Arc::new(move |bytes, _| keep.lock().extend_from_slice(bytes))).await;
    let text = Bytes::from_static(b"what a client has said in confidence");
    assert_eq!(one.request(peer, ECHO, text.clone()).await, Ok(text.clone()));
    let seen = seen.lock();
    assert!(seen.len() > 2 * text.len());
    assert!(!seen.windows(8).any(|window| text.windows(8).any(|part| part == window)));
}

#[tokio::test]
async fn a_bit_that_was_changed_on_the_way_ends_the_connection_and_is_never_delivered() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    // Bytes of the first frame to the responder, counted from behind the handshake.
    for at in [0, 3, 4, 13, 14, 20, 35] {
        let passed = Arc::new(AtomicUsize::new(0));
        let tap = move |bytes: &mut Vec<u8>, way: Way| {
            let extension = 1 + 3 + 16 + 1 + 8;
            let handshake: usize = 14 + 33 + 32 + 2 + extension + 32;
            let before = match way {
                Way::ToResponder => passed.fetch_add(bytes.len(), Ordering::Relaxed),
                Way::ToInitiator => return,
            };
            if let Some(byte) = (handshake + at).checked_sub(before).and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1;
            }
        };
        let changed = between(peer, Arc::new(tap)).await;
        let answer = one.request(changed, ECHO, Bytes::from_static(b"never delivered")).await;
        assert_eq!(answer, Err(LinkError::Broken), "byte {at}");
    }
    assert!(desk.told.lock().is_empty());
}

#[tokio::test]
async fn what_a_node_once_said_does_not_work_again() {
    let (one, _, _) = node(1, "secret");
    let (_two, desk, peer) = node(2, "secret");
    let said: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = said.clone();
    let tap = move |bytes: &mut Vec<u8>, way: Way| {
        if way == Way::ToResponder {
            keep.lock().extend_from_slice(bytes);
        }
    };
    let tapped = between(peer, Arc::new(tap)).await;
    let text = Bytes::from_static(b"once");
    assert_eq!(one.request(tapped, ECHO, text.clone()).await, Ok(text));
    let said = said.lock().clone();
    let mut replay = TcpStream::connect(peer.addr).await.unwrap();
    replay.write_all(&said).await.unwrap();
    let mut answer = Vec::new();
    assert!(timeout_read(&mut replay, &mut answer).await);
    // The responder's half of the key exchange, which is new each time, and nothing more.
    assert_eq!(answer.len(), 1 + 4 + 33);
    assert_eq!(desk.told.lock().len(), 1);
}

/// One who has only what was said cannot tell the right secret from a wrong one: to try a secret, it would have to be in the exchange
/// itself.
#[tokio::test]
async fn a_weak_secret_cannot_be_guessed_from_what_was_said() {
    let (one, _, _) = node(1, "a weak secret");
    let (_two, _, peer) = node(2, "a weak secret");
    let said: Arc<Mutex<[Vec<u8>; 2]>> = Arc::default();
    let keep = said.clone();
    let tap = move |bytes: &mut Vec<u8>, way: Way| {
        keep.lock()[usize::from(way == Way::ToInitiator)].extend_from_slice(bytes);
    };
    let tapped = between(peer, Arc::new(tap)).await;
    assert_eq!(one.request(tapped, ECHO, Bytes::new()).await, Ok(Bytes::new()));
    let said = said.lock().clone();
    for guess in ["a weak secret", "another guess"] {
        let attempt = handshake::attempt(&said[0], &said[1], &Secret::new(guess));
        assert!(!attempt.expect("it is a whole handshake"), "{guess}");
    }
}

/// The same of one who connects: before it has proved that it knows the secret, it gets nothing that depends on it.
#[tokio::test]
async fn who_connects_has_to_prove_itself_first() {
    let (_two, _, peer) = node(2, "secret");
    for guess in ["wrong", "also wrong"] {
        let mut stream = Stream::Plain(TcpStream::connect(peer.addr).await.unwrap());
        let none = Metadata::default();
        let initiated = handshake::initiate(&mut stream, &Secret::new(guess), NodeTag(5), peer, &none).await;
        assert!(matches!(initiated, Err(LinkError::WrongNode)));
    }
    let mut stranger = TcpStream::connect(peer.addr).await.unwrap();
    let head = [&b"SBXL\x02\x02"[..], &5_u32.to_be_bytes(), &2_u32.to_be_bytes()].concat();
    // A point of the curve as the half of the exchange, and then a proof that is none.
    stranger.write_all(&[&head[..], b"A", &[1], &[0; 31], &[7; 128]].concat()).await.unwrap();
    let mut answer = Vec::new();
    assert!(timeout_read(&mut stranger, &mut answer).await);
    assert_eq!(answer.len(), 1 + 4 + 33);
}

/// And of one who listens in the place of a node: the initiator's proof is made for the secret that the listener has put into its own
/// half, and for no other.
#[tokio::test]
async fn who_listens_tries_one_secret_with_each_connection() {
    let (one, _, _) = node(1, "secret");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = RemoteNode::new(NodeTag(2), listener.local_addr().unwrap());
    let asked = tokio::spawn(one.request(peer, ECHO, Bytes::new()));
    let (stream, initiator) = taken(&listener, "a guess").await;
    assert!(initiator.is_none());
    drop(stream);
    assert_eq!(asked.await.unwrap(), Err(LinkError::WrongNode));
}

#[tokio::test]
async fn nodes_of_the_previous_version_are_spoken_to_and_nobody_else_is_in_their_format() {
    // As it is between two versions: the one that asks is said to be of the previous one.
    let desk = Desk { previous: Some(NodeTag(1)), ..Desk::default() };
    let (_two, _, peer) = node_with(2, "secret", desk, None);
    let (one, _, _) = node(1, "secret");
    let previous = RemoteNode { is_previous: true, ..peer };
    assert_eq!(one.request(previous, ECHO, Bytes::from_static(b"x")).await, Ok(Bytes::from_static(b"x")));
    // One that is not known as such gets nothing that it could try secrets on.
    let (three, _, _) = node(3, "secret");
    assert_eq!(three.request(previous, ECHO, Bytes::new()).await, Err(LinkError::WrongNode));
    let mut stranger = TcpStream::connect(peer.addr).await.unwrap();
    let head = [&b"SBXL\x01\x01"[..], &3_u32.to_be_bytes(), &2_u32.to_be_bytes(), &[7; 16]].concat();
    stranger.write_all(&head).await.unwrap();
    let mut answer = Vec::new();
    assert!(timeout_read(&mut stranger, &mut answer).await);
    assert!(answer.is_empty());
}

#[tokio::test]
async fn of_several_formats_the_one_that_both_read_is_spoken() {
    for (lowest, highest, is_answered) in
        [(1, 2, true), (2, 3, true), (2, 2, true), (3, 4, false), (0, 0, false)]
    {
        let (_two, _, peer) = node(2, "secret");
        let mut stream = TcpStream::connect(peer.addr).await.unwrap();
        let tags = [5_u32.to_be_bytes(), 2_u32.to_be_bytes()].concat();
        let half = [&b"A"[..], &[1], &[0; 31]].concat();
        let first = [&b"SBXL"[..], &[lowest, highest], &tags, &half, &[7; 128]].concat();
        stream.write_all(&first).await.unwrap();
        let mut answer = Vec::new();
        assert!(timeout_read(&mut stream, &mut answer).await);
        assert_eq!(answer.first().copied(), is_answered.then_some(2), "{lowest} to {highest}");
    }
}
