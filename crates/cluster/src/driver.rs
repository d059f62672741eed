//! The seam between a node's part of the cluster and a store that other nodes share.
//!
//! A driver takes what the [`Cluster`](crate::Cluster) asks for, does it in its own time, and gives back what comes of it:
//!
//! | asked for | given back |
//! |---|---|
//! | [`Driver::call`] | [`Cluster::replied`](crate::Cluster::replied) with the call's token |
//! | [`Driver::subscribe`] | [`Cluster::subscribed`](crate::Cluster::subscribed) once the room's messages arrive; then [`Cluster::room_changed`](crate::Cluster::room_changed) and [`Cluster::received_broadcast`](crate::Cluster::received_broadcast) for each of them |
//! | [`Driver::publish`] | nothing; [`Cluster::received_broadcast`](crate::Cluster::received_broadcast) on the other nodes |
//! | a [`Call::SendDirect`] | its reply; [`Cluster::received_direct`](crate::Cluster::received_direct) on the other node |
//!
//! It also calls [`Cluster::tick`](crate::Cluster::tick) every 100 ms or so, and reports what breaks:
//! [`Cluster::broadcast_failed`](crate::Cluster::broadcast_failed), [`Cluster::subscription_lost`](crate::Cluster::subscription_lost),
//! [`Cluster::received_unreadable`](crate::Cluster::received_unreadable), [`Cluster::bus_lost`](crate::Cluster::bus_lost) and [`Cluster::bus_restored`](crate::Cluster::bus_restored). All of these take
//! the time, so that a simulation can drive any number of nodes on one clock, with a [`Model`](crate::model::Model) as the store.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{address::Owner, machine::Pending, record::RoomName, store::Call};

/// Names a call. The driver gives it back with the call's reply, exactly once.
#[derive(Debug)]
pub struct CallToken(pub(crate) Pending);

/// A store that other nodes share.
///
/// The cluster calls it with its lock held: it must return at once, and must not call the cluster back from inside. Calls are
/// made, and messages are published, in the order in which they were asked for. But heartbeats may overtake other calls, and a broadcast
/// to a room may overtake calls that concern other rooms, or none, and broadcasts to others.
pub trait Driver: Send + Sync {
    /// Makes a call.
    ///
    /// # Errors
    /// The driver has ended; the token is given back, and the call was not made.
    fn call(&self, call: Call, token: CallToken) -> Result<(), Box<CallToken>>;
    /// Subscribes a room's channel.
    fn subscribe(&self, room: RoomName);
    /// Unsubscribes it.
    fn unsubscribe(&self, room: RoomName);
    /// Publishes a broadcast to the nodes that have subscribed a room, or to all nodes.
    fn publish(&self, from: Owner, room: Option<RoomName>, payload: Bytes);
    /// Ends the driver: it does everything that was asked for before, drops `ended`, and calls the cluster no more.
    fn end(&self, ended: DriverEnded);
}

/// Held by a driver that is to end; dropping it says that it has.
#[derive(Debug)]
pub struct DriverEnded(Arc<Mutex<Ending>>);

#[derive(Debug, Default)]
struct Ending {
    has_ended: bool,
    waker: Option<Waker>,
}

impl Drop for DriverEnded {
    fn drop(&mut self) {
        let waker = {
            let mut ending = self.0.lock();
            ending.has_ended = true;
            ending.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Resolves when the driver has ended.
#[derive(Debug)]
pub struct UntilEnded(Arc<Mutex<Ending>>);

impl Future for UntilEnded {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut ending = self.0.lock();
        if ending.has_ended {
            return Poll::Ready(());
        }
        ending.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Both ends of it.
pub(crate) fn ending() -> (DriverEnded, UntilEnded) {
    let ending = Arc::<Mutex<Ending>>::default();
    (DriverEnded(ending.clone()), UntilEnded(ending))
}
