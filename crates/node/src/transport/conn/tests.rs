use std::task::Waker;

use super::*;
use crate::ledger::{EvictAt, Ledger};

/// Takes so many bytes, then no more for now.
struct Slow {
    takes: Rc<Cell<usize>>,
    taken: Rc<RefCell<Vec<u8>>>,
}

impl ByteStream for Slow {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write(&mut self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = bytes.len().min(WRITTEN_AT_ONCE).min(self.takes.get());
        self.takes.set(self.takes.get() - taken);
        self.taken.borrow_mut().extend(&bytes[..taken]);
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Client {
    takes: Rc<Cell<usize>>,
    taken: Rc<RefCell<Vec<u8>>>,
}

impl Client {
    fn connect(&self, conn: &Conn) {
        conn.connect(Box::new(Slow { takes: self.takes.clone(), taken: self.taken.clone() }));
    }

    /// The client takes so many bytes more.
    fn take(&self, conn: &Conn, bytes: usize) {
        self.takes.set(self.takes.get() + bytes);
        let _ = conn.poll_write(&mut Context::from_waker(Waker::noop()));
        conn.update_charge();
    }
}

fn charged() -> (Arc<Ledger>, Rc<Conn>) {
    let ledger = Arc::new(Ledger::new(1_000_000));
    let conn = Conn::new(ledger.account(None, EvictAt::Shard(0)));
    (ledger, conn)
}

#[test]
fn only_the_latest_ping_is_answered() {
    let (ledger, conn) = charged();
    let client = Client::default();
    client.connect(&conn);
    conn.push(&Frame::text("before"));
    for number in 0..10_000_u32 {
        conn.push_pong(&Frame::pong(&number.to_be_bytes()));
        conn.update_charge();
    }
    conn.push(&Frame::text("after"));
    conn.update_charge();
    assert_eq!(ledger.held(), 3 * OVERHEAD + 8 + 6 + 7);

    // One that is being written is not touched; the next one comes behind what waits.
    client.take(&conn, 10);
    conn.push_pong(&Frame::pong(b"late"));
    conn.push_pong(&Frame::pong(b"last"));
    client.take(&conn, 1_000);
    let mut expected = Frame::text("before").bytes().to_vec();
    expected.extend_from_slice(Frame::pong(&9_999_u32.to_be_bytes()).bytes());
    expected.extend_from_slice(Frame::text("after").bytes());
    expected.extend_from_slice(Frame::pong(b"last").bytes());
    assert_eq!(*client.taken.borrow(), expected);
    assert_eq!(ledger.held(), 0);

    conn.push_pong(&Frame::pong(b"again"));
    client.take(&conn, 1_000);
    assert!(client.taken.borrow().ends_with(b"again"));
}

#[test]
fn small_frames_cost_what_they_take_in_memory() {
    let (ledger, conn) = charged();
    (0..100).for_each(|_| assert!(conn.push(&Frame::text("x"))));
    assert!(conn.exceeds(100 * OVERHEAD) && !conn.exceeds(100 * (OVERHEAD + 3)));
    conn.update_charge();
    assert_eq!(ledger.held(), 100 * (OVERHEAD + 3));
    drop(conn);
    assert_eq!(ledger.held(), 0);
}

#[test]
fn what_a_client_shares_with_others_is_not_its_own() {
    let (ledger, conn) = charged();
    let client = Client::default();
    client.connect(&conn);
    conn.push(&Frame::text(&"x".repeat(1_000)).shared(()));
    conn.push(&Frame::text("own"));
    conn.update_charge();
    assert_eq!((ledger.held(), ledger.waiting()), (2 * OVERHEAD + 5, 2 * OVERHEAD + 5 + 1_004));
    client.take(&conn, 504);
    assert_eq!(ledger.waiting(), 2 * OVERHEAD + 5 + 500);
    client.take(&conn, 502);
    assert_eq!(ledger.waiting(), OVERHEAD + 3);
    client.take(&conn, 3);
    assert_eq!(ledger.waiting(), 0);
}

#[test]
fn of_a_long_queue_one_turn_is_written_and_then_the_next() {
    let (_, conn) = charged();
    let client = Client::default();
    client.connect(&conn);
    client.takes.set(usize::MAX);
    *conn.waker.borrow_mut() = Some(Waker::noop().clone());
    let sizes = [10, 3 * WRITTEN_AT_ONCE, 20];
    sizes.iter().for_each(|size| assert!(conn.push(&Frame::text(&"x".repeat(*size)))));
    let waits = conn.outbox.borrow().iter().map(|queued| queued.bytes.len()).sum::<usize>();
    let mut turns = 0;
    while conn.write() == Written::Turn {
        turns += 1;
        let written = client.taken.borrow().len();
        assert!((written + conn.queued()).abs_diff(waits) <= 3 * OVERHEAD, "{written} written");
        assert!(written <= turns * WRITTEN_AT_ONCE, "{written} bytes after {turns} turns");
    }
    assert_eq!(turns, 3);
    assert_eq!((client.taken.borrow().len(), conn.queued()), (waits, 0));
}
