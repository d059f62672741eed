//! New connections: how many there may be, whose they are, and how long a TLS handshake may take.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use actix_rt::net::TcpStream;
use ahash::AHashMap;
use indexmap::IndexMap;
use tokio::{io::AsyncReadExt as _, sync::oneshot, time::timeout};

use super::proxy_protocol::{self, Malformed, Step};
use crate::{ledger::network, limits::AddressSlot, shared::NodeShared};

/// TLS handshakes that one worker has under way at a time. One costs some 20 KiB.
const MAX_HANDSHAKES: usize = 1024;

/// A connection's place among those that there may be.
#[derive(Debug)]
pub(crate) struct Slot {
    open: Arc<AtomicUsize>,
    /// And among those of its address.
    pub(crate) of_address: Option<AddressSlot>,
}

impl Slot {
    /// `None` when there are as many as there may be.
    pub(super) fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let slot = Self { open: open.clone(), of_address: None };
        (open.fetch_add(1, Relaxed) < limit).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Relaxed);
    }
}

/// The answer to a connection beyond those that its address may have.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

/// The answer to a connection beyond those that there may be.
const CROWDED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";

/// A connection that there may be.
pub(super) struct Admitted {
    pub(super) stream: TcpStream,
    pub(super) slot: Slot,
    /// Whose it is: the other end's, or that for whom a proxy there speaks.
    pub(super) peer: Option<SocketAddr>,
}

/// A connection was accepted. An error closes it, and says so where that costs nothing: not in TLS.
pub(super) async fn admit(node: &NodeShared, mut stream: TcpStream, is_tls: bool) -> io::Result<Admitted> {
    let refuse = |stream: &TcpStream, answer: &[u8]| {
        if !is_tls {
            // One that does not take even this has gone.
            let _ = socket2::SockRef::from(stream).send(answer);
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    };
    let Some(mut slot) = Slot::take(&node.connection_slots, node.config.max_connections) else {
        node.count_dropped("max_connections");
        return refuse(&stream, CROWDED);
    };
    let mut peer = stream.peer_addr().ok();
    // A proxy has as many as it likes: each counts for its client, once that is known.
    let mut counts = peer.is_some_and(|peer| !node.config.trusts(peer.ip()));
    if peer.is_some_and(|peer| node.config.announces_clients(peer.ip())) {
        let announced = timeout(node.config.header_timeout, announced_client(&mut stream)).await;
        let Ok(Ok(client)) = announced else {
            node.count_dropped("proxy_header");
            return Err(io::ErrorKind::InvalidData.into());
        };
        counts = client.is_some_and(|client| !node.config.trusts(client.ip()));
        peer = client.or(peer);
    }
    let client = peer.map(|peer| peer.ip()).filter(|_| counts);
    match node.gate.connection(Instant::now(), client, node.open_connections()) {
        Ok(of_address) => slot.of_address = of_address,
        Err(away) => {
            node.count_dropped(away.reason);
            let answer = if away.reason == "max_connections" { CROWDED } else { TOO_MANY };
            return refuse(&stream, answer);
        }
    }
    // What is written is to leave at once. One that cannot be set is closed already.
    let _ = stream.set_nodelay(true);
    Ok(Admitted { stream, slot, peer })
}

/// For whom the proxy at the other end speaks, as the header says that it begins with. Nothing behind that is read.
async fn announced_client(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        match proxy_protocol::parse(&header).map_err(|Malformed| io::ErrorKind::InvalidData)? {
            Step::Done(client) => return Ok(client),
            Step::Read(more) => {
                let known = header.len();
                header.resize(known + more, 0);
                let (_, missing) = header.split_at_mut(known);
                stream.read_exact(missing).await?;
            }
        }
    }
}

/// The TLS handshakes of a worker. When there are too many, the oldest gives way of the address that has most.
#[derive(Debug, Default, Clone)]
pub(super) struct Handshakes(Rc<RefCell<List>>);

#[derive(Debug, Default)]
struct List {
    last: u64,
    /// Oldest first.
    handshakes: IndexMap<u64, (Option<IpAddr>, oneshot::Sender<()>)>,
}

/// A handshake that is under way.
pub(super) struct Handshake {
    list: Handshakes,
    number: u64,
    /// Resolves when it has to give way.
    pub(super) gives_way: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(super) fn begin(&self, address: Option<IpAddr>) -> Handshake {
        let (sender, gives_way) = oneshot::channel();
        let address = address.map(network);
        let mut list = self.0.borrow_mut();
        if list.handshakes.len() >= MAX_HANDSHAKES
            && let Some(oldest) = list.oldest_of_most()
            && let Some((_, sender)) = list.handshakes.shift_remove(&oldest)
        {
            let _ = sender.send(());
        }
        list.last += 1;
        let number = list.last;
        list.handshakes.insert(number, (address, sender));
        Handshake { list: self.clone(), number, gives_way }
    }
}

impl List {
    fn oldest_of_most(&self) -> Option<u64> {
        let mut counts = AHashMap::<Option<IpAddr>, usize>::new();
        for (address, _) in self.handshakes.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let most = counts.values().max()?;
        let of_most = |address| counts.get(address) == Some(most);
        self.handshakes.iter().find(|(_, (address, _))| of_most(address)).map(|(number, _)| *number)
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.list.0.borrow_mut().handshakes.shift_remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_of_the_address_that_has_most_gives_way() {
        let list = Handshakes::default();
        let begin = |last: u8| list.begin(Some(IpAddr::from([10, 0, 0, last])));
        let mut honest = begin(1);
        let mut greedy: Vec<_> = (1..MAX_HANDSHAKES).map(|_| begin(2)).collect();
        let mut late = begin(3);
        assert_eq!(greedy[0].gives_way.try_recv(), Ok(()));
        for handshake in [&mut honest, &mut greedy[1], &mut late] {
            assert_eq!(handshake.gives_way.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        }
        drop((honest, greedy, late));
        assert!(list.0.borrow().handshakes.is_empty());
    }

    #[test]
    fn slots_are_given_back() {
        let open = Arc::default();
        let slots: Vec<_> = (0..3).filter_map(|_| Slot::take(&open, 2)).collect();
        assert_eq!((slots.len(), open.load(Relaxed)), (2, 2));
        drop(slots);
        assert_eq!(open.load(Relaxed), 0);
    }
}
