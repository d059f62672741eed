//! The guards that charge an account.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use signalbox_socketio::Message;

use super::accounts::{Account, Ledger, OVERHEAD};

/// A guard: what is held for a client. It is released when this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    private: Cell<usize>,
    unread: Cell<usize>,
}

impl Charge {
    /// Nothing yet.
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Self { account, private: Cell::new(0), unread: Cell::new(0) }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What is held for this client alone.
    pub(super) fn private(&self) -> usize {
        self.private.get()
    }

    /// What is held from now on: bytes that are held for this client alone, and bytes that it shares with others.
    pub(crate) fn set(&self, private: usize, unread: usize) {
        let (before, unread_before) = (self.private.get(), self.unread.get());
        if (before, unread_before) != (private, unread) {
            self.change(private, unread);
        }
    }

    /// Raises what is held for this client alone, if the node then holds no more than `ceiling`.
    pub(super) fn try_raise(&self, private: usize, ceiling: usize) -> bool {
        let more = private.saturating_sub(self.private.get());
        let ledger = &self.account.ledger;
        let shared = ledger.shared.load(Relaxed);
        let raised = |held: usize| {
            let held = held.checked_add(more)?;
            (held.checked_add(shared)? <= ceiling).then_some(held)
        };
        if ledger.private.fetch_update(Relaxed, Relaxed, raised).is_err() {
            return false;
        }
        self.account.private.fetch_add(more, Relaxed);
        self.private.set(self.private.get() + more);
        true
    }

    #[cold]
    fn change(&self, private: usize, unread: usize) {
        let Account { ledger, .. } = &*self.account;
        let (before, unread_before) = (self.private.replace(private), self.unread.replace(unread));
        // Sums of differences: what wraps on the way down was added before.
        self.account.private.fetch_add(private.wrapping_sub(before), Relaxed);
        ledger.private.fetch_add(private.wrapping_sub(before), Relaxed);
        if unread != unread_before {
            self.account.unread.fetch_add(unread.wrapping_sub(unread_before), Relaxed);
            ledger.unread.fetch_add(unread.wrapping_sub(unread_before), Relaxed);
        }
        if private + unread < before + unread_before {
            self.account.moved();
        }
        if private < before {
            ledger.waiting.release(before - private);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// A guard: bytes that clients share. The node is charged for them once, and so is whoever sent them, until the last holder lets go
/// of them.
#[derive(Debug)]
struct SharedCharge {
    payer: Payer,
    bytes: usize,
}

/// Who pays for what many share.
#[derive(Debug)]
enum Payer {
    /// Nobody in particular sent it.
    Node(Arc<Ledger>),
    Sender(Arc<Account>),
}

impl Payer {
    fn ledger(&self) -> &Ledger {
        match self {
            Self::Node(ledger) => ledger,
            Self::Sender(account) => &account.ledger,
        }
    }
}

impl Drop for SharedCharge {
    fn drop(&mut self) {
        let ledger = self.payer.ledger();
        ledger.shared.fetch_sub(self.bytes, Relaxed);
        ledger.waiting.release(self.bytes);
        if let Payer::Sender(sender) = &self.payer {
            sender.sent.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// Charges the node, and whoever sends it, for a message that many may receive, wherever its frames are from now on.
pub(crate) fn share(ledger: &Arc<Ledger>, sender: Option<&Arc<Account>>, message: Message) -> Message {
    let bytes = message.frames().map(|frame| frame.len() + OVERHEAD).sum();
    ledger.shared.fetch_add(bytes, Relaxed);
    if let Some(sender) = sender {
        sender.sent.fetch_add(bytes, Relaxed);
    }
    let payer = sender.map_or_else(|| Payer::Node(ledger.clone()), |sender| Payer::Sender(sender.clone()));
    let charge = SharedCharge { payer, bytes };
    if message.frames().nth(1).is_none() {
        let mut charge = Some(charge);
        return message.map_frames(|frame| frame.shared(charge.take()));
    }
    let charge = Arc::new(charge);
    message.map_frames(|frame| frame.shared(charge.clone()))
}

/// Bytes that are charged to a client for as long as anybody has them.
pub(crate) fn charged(bytes: Bytes, charge: Charge) -> Bytes {
    struct Charged(Bytes, #[expect(dead_code, reason = "dropped with the bytes")] Charge);
    impl AsRef<[u8]> for Charged {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Charged(bytes, charge))
}
