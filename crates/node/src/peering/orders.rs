//! What an operator has done with sockets and peers: every node does it with its own.
//!
//! A node first asks its shards which sockets are meant, and then sends each of these a command, which follows it where it moves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use signalbox_admin::orders::{Ack, Audience, NodeOutcome};
use signalbox_cluster::{Address, EventArgs, MemberEvent, Record};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;

use super::Peering;
use crate::{
    app::SocketRouter as _,
    protocol::inquiry::{Act, Answer, Emission, PeerOrder, Question},
    routing::{AckError, Reply, SocketCommand, SocketOp},
    shard::{json::spread, mailbox::ShardMessage},
};

/// Most sockets of one node that one request may be for; times the rooms, where there are any.
const MAX_SOCKETS: usize = 10_000;
/// Joins and leaves under way at once.
const AT_ONCE: usize = 64;
/// Most bytes of acknowledgements that a node answers with. Those beyond it are counted, and left out.
const MAX_ACKS: usize = 4 << 20;

impl Peering {
    /// Does something with the sockets of this node that are meant.
    pub(super) async fn act_here(self: &Arc<Self>, audience: &Audience, act: &Act) -> Answer {
        let Some(sockets) = self.select(audience).await else { return Answer::Busy };
        let times = match act {
            Act::Join { rooms, .. } | Act::Leave { rooms } => rooms.len(),
            Act::Emit(_) | Act::Disconnect { .. } => 1,
        };
        if sockets.len() * times > MAX_SOCKETS {
            return Answer::TooMany;
        }
        let namespace: Arc<str> = audience.namespace.as_str().into();
        let matched = sockets.len() as u64;
        let (done, acks) = match act {
            Act::Emit(emission) => match self.emit_here(&namespace, &sockets, emission).await {
                Some(emitted) => emitted,
                None => return Answer::Busy,
            },
            Act::Join { rooms, profile } => {
                let op = |socket: Address, room: &str, reply| {
                    let record = Some(Box::new(member_record(socket, room, profile)));
                    SocketOp::Join { room: room.into(), record, reply }
                };
                (self.ask_sockets(&namespace, &sockets, rooms, &op).await, Vec::new())
            }
            Act::Leave { rooms } => {
                let op = |_: Address, room: &str, reply| SocketOp::Leave { room: room.into(), reply };
                (self.ask_sockets(&namespace, &sockets, rooms, &op).await, Vec::new())
            }
            Act::Disconnect { close } => {
                for to in &sockets {
                    let op = SocketOp::Disconnect { close: *close };
                    self.send(SocketCommand { to: *to, namespace: namespace.clone(), op });
                }
                (matched, Vec::new())
            }
        };
        let outcome = NodeOutcome { node: self.node.to_string(), matched, done };
        Answer::Done(vec![outcome], acks)
    }

    /// The sockets of this node that are meant. The shards are asked twice: a session on its way from one to another when they were asked
    /// first has arrived when they are asked again.
    async fn select(self: &Arc<Self>, audience: &Audience) -> Option<Vec<Address>> {
        let mut found = BTreeSet::new();
        for _ in 0..2 {
            match self.ask_shards(&Question::Select(audience.clone())).await {
                Answer::Selected(sockets) => found.extend(sockets),
                _ => return None,
            }
        }
        Some(found.into_iter().collect())
    }

    /// Sends each socket a command for each room, a few at a time. Returns how many sockets said yes for all rooms.
    async fn ask_sockets(
        &self,
        namespace: &Arc<str>,
        sockets: &[Address],
        rooms: &[String],
        op: &(dyn Fn(Address, &str, Reply<bool>) -> SocketOp + Sync),
    ) -> u64 {
        let each: Vec<(Address, &String)> =
            sockets.iter().flat_map(|socket| rooms.iter().map(|room| (*socket, room))).collect();
        let mut said: Vec<bool> = Vec::with_capacity(each.len());
        for some in each.chunks(AT_ONCE) {
            let mut asked = Vec::with_capacity(some.len());
            for (to, room) in some {
                let (reply, answer) = Reply::channel();
                let op = op(*to, room, reply);
                self.send(SocketCommand { to: *to, namespace: namespace.clone(), op });
                asked.push(answer);
            }
            said.extend(join_all(asked).await.into_iter().map(|answer| answer.unwrap_or(false)));
        }
        said.chunks(rooms.len().max(1)).filter(|of_socket| of_socket.iter().all(|yes| *yes)).count() as u64
    }

    /// Sends an event to sockets. `None` if it cannot be read, which whoever asks has checked.
    async fn emit_here(
        &self,
        namespace: &Arc<str>,
        sockets: &[Address],
        emission: &Emission,
    ) -> Option<(u64, Vec<Ack>)> {
        let args = emission.args()?;
        let Some(timeout) = emission.ack_timeout.map(Duration::from_millis) else {
            let message =
                Message::event(namespace, None, &emission.event, &[args.inner()], args.attachments());
            for to in sockets {
                let op = SocketOp::Send { message: message.clone(), volatile: emission.volatile };
                self.send(SocketCommand { to: *to, namespace: namespace.clone(), op });
            }
            return Some((sockets.len() as u64, Vec::new()));
        };
        let asked = sockets.iter().map(|to| {
            let (reply, answer) = Reply::channel();
            let op = SocketOp::Ask { event: emission.event.clone(), args: args.clone(), timeout, reply };
            self.send(SocketCommand { to: *to, namespace: namespace.clone(), op });
            async move { (*to, answer.await.unwrap_or(Err(AckError::Disconnected))) }
        });
        let asked: Vec<_> = asked.collect();
        let (mut count, mut bytes, mut acks) = (0, 0, Vec::new());
        for (socket, answer) in join_all(asked).await {
            let Ok(args) = answer else { continue };
            count += 1;
            bytes += args.json().len() + args.attachments().iter().map(|it| it.len() * 4 / 3).sum::<usize>();
            if bytes <= MAX_ACKS
                && let Some(args) = signalbox_admin::binary::shown(args.json(), args.attachments())
            {
                acks.push(Ack { socket: socket.to_string(), args });
            }
        }
        Some((count, acks))
    }

    /// Does something with a peer of this node, if it is one.
    pub(super) fn order_peer_here(&self, realm: u16, id: &str, order: &PeerOrder) -> Answer {
        let at = self.cluster.local_peer(realm, id);
        let matched = u64::from(at.is_some());
        if let Some(at) = at {
            let message = match order {
                PeerOrder::Close => None,
                PeerOrder::Message(text) => Some(Frame::text(text)),
            };
            self.mailboxes.push(at.shard, ShardMessage::PeerOrder { at, message });
        }
        Answer::Done(vec![NodeOutcome { node: self.node.to_string(), matched, done: matched }], Vec::new())
    }
}

/// A membership like one that a client has asked for itself.
fn member_record(socket: Address, room: &str, profile: &str) -> Record {
    let (comma, fields) = spread(profile);
    let name = serde_json::to_string(room).unwrap_or_default();
    let member = format!("{{\"id\":\"{socket}\",\"room\":{name}{comma}{fields}}}");
    let event = |event: &str| {
        let args = EventArgs::new(&member, profile);
        Some(MemberEvent { event: event.into(), args, attachments: Vec::new() })
    };
    Record {
        socket,
        profile: profile.into(),
        joined: event("joined"),
        updated: event("updated"),
        left: event("left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_told_of_in_json_whatever_its_profile() {
        let socket = Address::from_bytes([7; 15]);
        for (profile, fields) in [
            (r#"{"device":{"kind":"phone"}}"#, r#","device":{"kind":"phone"}"#),
            (r#" { "a" : {} } "#, r#","a" : {}"#),
            ("{}", ""),
        ] {
            let record = member_record(socket, "a \"room\"", profile);
            let joined = record.joined.unwrap();
            let told = joined.args.render(profile);
            let member = format!(r#"{{"id":"{socket}","room":"a \"room\""{fields}}}"#);
            assert!(told.contains(&member), "{told}");
            serde_json::from_str::<serde_json::Value>(&member).unwrap();
        }
    }
}
