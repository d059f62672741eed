//! What an operator has done with sockets and peers: every node does it with its own.
//!
//! A node first asks its shards which sockets are meant, and then sends each of these a command, which follows it where it moves. Of a
//! session that moves from node to node, both may select the sockets, its old node for a while after it has gone: so none is missed in
//! whatever order the nodes are asked. Such a socket does an order once, and who was second does not count it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use signalbox_admin::orders::{Ack, Audience, NodeOutcome};
use signalbox_cluster::{Address, EventArgs, MemberEvent, Record};
use signalbox_socketio::Message;
use signalbox_websocket::Frame;
use tokio::time::Instant;

use super::{
    Peering,
    order_run::{AtSocket, OrderRun},
};
use crate::{
    protocol::inquiry::{Act, Answer, Emission, PeerOrder, Question, Selected},
    routing::SocketOp,
    shard::{json::spread, mailbox::ShardMessage},
};

/// Most sockets of one node that one request may be for; times the rooms, where there are any.
const MAX_SOCKETS: usize = 10_000;
/// Most bytes of acknowledgements that a node answers with. Those beyond it are counted, and left out.
const MAX_ACKS: usize = 4 << 20;

impl Peering {
    /// Does something with the sockets of this node that are meant; the answer is waited for until then.
    pub(super) async fn act_here(
        self: &Arc<Self>,
        audience: &Audience,
        act: &Act,
        order: Option<u64>,
        until: Instant,
    ) -> Answer {
        let Some(sockets) = self.select(audience).await else { return Answer::Busy };
        let run = OrderRun::new(self, &audience.namespace, order, sockets, until);
        let times = match act {
            Act::Join { rooms, .. } | Act::Leave { rooms } => rooms.len(),
            Act::Emit(_) | Act::Disconnect { .. } => 1,
        };
        if run.most() * times > MAX_SOCKETS {
            return Answer::TooMany;
        }
        let mut acks = Vec::new();
        let at_sockets = match act {
            Act::Emit(emission) => match emit(&run, &audience.namespace, emission, &mut acks).await {
                Some(emitted) => emitted,
                None => return Answer::Busy,
            },
            Act::Join { rooms, profile } => {
                let join = |socket: Address, room: &str, reply| {
                    let record = Some(Box::new(member_record(socket, room, profile)));
                    SocketOp::Join { room: room.into(), record, reply }
                };
                run.ask_for_rooms(rooms, &join).await
            }
            Act::Leave { rooms } => {
                let leave = |_: Address, room: &str, reply| SocketOp::Leave { room: room.into(), reply };
                run.ask_for_rooms(rooms, &leave).await
            }
            Act::Disconnect { close } => run.tell(|| SocketOp::Disconnect { close: *close }).await,
        };
        let count = |is_counted: fn(&AtSocket) -> bool| {
            at_sockets.iter().filter(|at_socket| is_counted(at_socket)).count() as u64
        };
        let outcome = NodeOutcome {
            node: self.node.to_string(),
            matched: count(|at_socket| *at_socket != AtSocket::NotMeant),
            done: count(|at_socket| *at_socket == AtSocket::Done),
        };
        Answer::Done(vec![outcome], acks)
    }

    /// The sockets of this node that are meant. The shards are asked twice: a session on its way from one to another when they were asked
    /// first has arrived when they are asked again.
    async fn select(self: &Arc<Self>, audience: &Audience) -> Option<Vec<Selected>> {
        let mut found = BTreeMap::new();
        for _ in 0..2 {
            let Answer::Selected(sockets) = self.ask_shards(&Question::Select(audience.clone())).await else {
                return None;
            };
            for selected in sockets {
                // One that has gone meanwhile was meant when it was there.
                found.entry(selected.socket).or_insert(selected);
            }
        }
        Some(found.into_values().collect())
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

/// Sends an event to sockets. `None` if it cannot be read, which whoever asks has checked.
async fn emit(
    run: &OrderRun<'_>,
    namespace: &str,
    emission: &Emission,
    acks: &mut Vec<Ack>,
) -> Option<Vec<AtSocket>> {
    let args = emission.args()?;
    let Some(timeout) = emission.ack_timeout.map(Duration::from_millis) else {
        let message = Message::event(namespace, None, &emission.event, &[args.inner()], args.attachments());
        let send = || SocketOp::Send { message: message.clone(), volatile: emission.volatile };
        return Some(run.tell(send).await);
    };
    let (mut bytes, mut at_sockets) = (0, Vec::new());
    for (socket, at_socket, args) in run.ask(&emission.event, &args, timeout).await {
        at_sockets.push(at_socket);
        let Some(args) = args else { continue };
        bytes += args.json().len() + args.attachments().iter().map(|it| it.len() * 4 / 3).sum::<usize>();
        if bytes <= MAX_ACKS
            && let Some(args) = signalbox_admin::binary::shown(args.json(), args.attachments())
        {
            acks.push(Ack { socket: socket.to_string(), args });
        }
    }
    Some(at_sockets)
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
