//! An operator's order under way on this node: what is sent to the sockets that are meant, and what becomes of it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use signalbox_cluster::Address;
use signalbox_socketio::Args;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::Peering;
use crate::{
    app::SocketRouter as _,
    protocol::inquiry::{Selected, Standing},
    routing::{AckError, OrderPart, OrderedOp, Reply, SocketCommand, SocketOp},
};

/// How long before the answer is due sockets whose sessions move have to have said what they do: the node that they have moved to may not
/// answer, and this one has to.
const MARGIN: Duration = Duration::from_millis(300);
/// Joins and leaves under way at once.
const AT_ONCE: usize = 64;

/// What became of an order at a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtSocket {
    /// It is done.
    Done,
    /// It is not, or nobody knows.
    NotDone,
    /// It was done for another node, which counts the socket, or the socket is not meant any more.
    NotMeant,
}

/// An order under way.
pub(super) struct OrderRun<'a> {
    peering: &'a Peering,
    namespace: Arc<str>,
    /// Its number, if whoever asks knows of numbers.
    order: Option<u64>,
    sockets: Vec<Selected>,
    /// How long sockets whose sessions move are waited for.
    until: Instant,
}

/// Whether a socket does what it was sent; `None` for one that does not say, since nobody else can have sent it the same.
type IsFirst = Option<oneshot::Receiver<bool>>;

impl<'a> OrderRun<'a> {
    pub(super) fn new(
        peering: &'a Peering,
        namespace: &str,
        order: Option<u64>,
        mut sockets: Vec<Selected>,
        until: Instant,
    ) -> Self {
        // Without a number, whoever has one of these now would give it the order a second time.
        sockets.retain(|selected| order.is_some() || !matches!(selected.standing, Standing::Departed(_)));
        let until = until.checked_sub(MARGIN).unwrap_or(until);
        Self { peering, namespace: namespace.into(), order, sockets, until }
    }

    /// How many sockets are here, or how many have just gone: whichever is more. Those are counted where they are now.
    pub(super) fn most(&self) -> usize {
        let is_here = |selected: &&Selected| !matches!(selected.standing, Standing::Departed(_));
        let here = self.sockets.iter().filter(is_here).count();
        here.max(self.sockets.len() - here)
    }

    /// Sends something to a socket.
    fn send(&self, selected: &Selected, part: usize, op: SocketOp) -> IsFirst {
        let (op, is_first) = match self.order.zip(selected.standing.condition()) {
            Some((order, condition)) => {
                let part = OrderPart { order, part: u8::try_from(part).unwrap_or(u8::MAX) };
                let (reply, is_first) = Reply::channel();
                let ordered = OrderedOp { part, condition, op, is_first: reply };
                (SocketOp::Ordered(Box::new(ordered)), Some(is_first))
            }
            None => (op, None),
        };
        self.peering.send(SocketCommand { to: selected.socket, namespace: self.namespace.clone(), op });
        is_first
    }

    /// Waits for what a socket says: whether it does what it was sent.
    async fn at_socket(&self, is_first: IsFirst) -> AtSocket {
        let Some(is_first) = is_first else { return AtSocket::Done };
        match timeout_at(self.until, is_first).await {
            Ok(Ok(true)) => AtSocket::Done,
            Ok(Ok(false)) => AtSocket::NotMeant,
            _ => AtSocket::NotDone,
        }
    }

    /// Sends each socket something that has no answer.
    pub(super) async fn tell(&self, op: impl Fn() -> SocketOp) -> Vec<AtSocket> {
        let sent: Vec<IsFirst> = self.sockets.iter().map(|selected| self.send(selected, 0, op())).collect();
        join_all(sent.into_iter().map(|is_first| self.at_socket(is_first))).await
    }

    /// Sends each socket an event, and waits for the acknowledgements.
    pub(super) async fn ask(
        &self,
        event: &str,
        args: &Args,
        timeout: Duration,
    ) -> Vec<(Address, AtSocket, Option<Args>)> {
        let asked = self.sockets.iter().map(|selected| {
            let (reply, answer) = Reply::channel();
            let op = SocketOp::Ask { event: event.to_owned(), args: args.clone(), timeout, reply };
            let is_first = self.send(selected, 0, op);
            let is_sure = is_first.is_none();
            async move {
                let at_socket = self.at_socket(is_first).await;
                if at_socket == AtSocket::NotMeant {
                    return (selected.socket, at_socket, None);
                }
                let answer = async { answer.await.unwrap_or(Err(AckError::Disconnected)).ok() };
                let args = match is_sure {
                    true => answer.await,
                    false => timeout_at(self.until, answer).await.ok().flatten(),
                };
                let at_socket = if args.is_some() { AtSocket::Done } else { AtSocket::NotDone };
                (selected.socket, at_socket, args)
            }
        });
        let asked: Vec<_> = asked.collect();
        join_all(asked).await
    }

    /// Sends each socket something for each room, a few at a time. It is done if all rooms' answers are yes.
    pub(super) async fn ask_for_rooms(
        &self,
        rooms: &[String],
        op: &(dyn Fn(Address, &str, Reply<bool>) -> SocketOp + Sync),
    ) -> Vec<AtSocket> {
        let of_socket = |selected| rooms.iter().enumerate().map(move |(part, room)| (selected, part, room));
        let each: Vec<_> = self.sockets.iter().flat_map(of_socket).collect();
        let mut at_parts: Vec<AtSocket> = Vec::with_capacity(each.len());
        for some in each.chunks(AT_ONCE) {
            let asked = some.iter().map(|(selected, part, room)| {
                let (reply, answer) = Reply::channel();
                let is_first = self.send(selected, *part, op(selected.socket, room, reply));
                let is_sure = is_first.is_none();
                async move {
                    let at_socket = self.at_socket(is_first).await;
                    let is_yes = match (at_socket, is_sure) {
                        (AtSocket::Done, true) => answer.await.unwrap_or(false),
                        (AtSocket::Done, false) => {
                            matches!(timeout_at(self.until, answer).await, Ok(Ok(true)))
                        }
                        _ => return at_socket,
                    };
                    if is_yes { AtSocket::Done } else { AtSocket::NotDone }
                }
            });
            let asked: Vec<_> = asked.collect();
            at_parts.extend(join_all(asked).await);
        }
        at_parts.chunks(rooms.len().max(1)).map(of_parts).collect()
    }
}

/// What became of an order at a socket, from its parts: whoever was first with the first one counts the socket. Parts that were done for
/// another node are done.
fn of_parts(parts: &[AtSocket]) -> AtSocket {
    match parts {
        [AtSocket::NotMeant, ..] => AtSocket::NotMeant,
        parts if parts.contains(&AtSocket::NotDone) => AtSocket::NotDone,
        _ => AtSocket::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::{AtSocket::*, of_parts};

    #[test]
    fn who_was_first_counts_a_socket_and_what_another_node_did_is_done() {
        assert_eq!(of_parts(&[Done, Done]), Done);
        assert_eq!(of_parts(&[Done, NotMeant]), Done);
        assert_eq!(of_parts(&[NotMeant, Done]), NotMeant);
        assert_eq!(of_parts(&[Done, NotMeant, NotDone]), NotDone);
        assert_eq!(of_parts(&[NotDone, NotMeant]), NotDone);
    }
}
