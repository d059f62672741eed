//! Sessions that come to the node of their WebSocket: what the two nodes say to each other.

use std::{
    sync::Arc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use signalbox_cluster::{Address, RoomName, Status};
use signalbox_node_link::Responder;
use tokio::sync::oneshot;

use crate::{
    mailbox::{ConnectionRef, Location, RequestRefused, ShardMessage, TransferMessage},
    node::NodeShared,
    wire::{self, LinkNotice, LinkResponse, SessionTransfer},
};

/// How long a WebSocket may wait for the cluster to settle after an outage: polling goes on meanwhile.
const SETTLING: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(100);

impl NodeShared {
    /// Whether this node will not have its clients for long.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire) || self.is_draining.load(Ordering::Acquire)
    }

    /// Whether a session of another node can come here, now or as soon as the cluster has settled.
    pub(crate) async fn can_take_session(&self) -> bool {
        let until = Instant::now() + SETTLING;
        while self.cluster.status() == Status::Online && !self.is_leaving() && Instant::now() < until {
            if self.cluster.is_stable() {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// The WebSocket that wanted to take over a session is not wanted any more.
    pub(crate) fn close_probe(&self, at: ConnectionRef) {
        if at.node == self.tag {
            self.close_probe_here(at);
        } else {
            self.link_tell(at.node, &LinkNotice::CloseProbe(at));
        }
    }

    pub(super) fn close_probe_here(&self, at: ConnectionRef) {
        self.inboxes.push(at.shard, ShardMessage::CloseProbe(at));
    }

    /// The session will not go to that WebSocket.
    pub(crate) fn cancel_move(&self, sid: Address, at: ConnectionRef) {
        if at.node == self.tag {
            self.cancel_move_here(sid, at);
        } else {
            self.link_tell(at.node, &LinkNotice::Cancelled { sid, at });
        }
    }

    pub(super) fn cancel_move_here(&self, sid: Address, at: ConnectionRef) {
        self.inboxes.push(at.shard, ShardMessage::Move(TransferMessage::Cancelled { sid, at }));
    }

    /// What was born there and lived here is over.
    pub(crate) fn forget_at(&self, birthplace: Location, address: Address) {
        if birthplace.node == self.tag {
            self.forget_here(address);
        } else {
            self.moved_in.pin().remove(&address);
            self.link_tell(birthplace.node, &LinkNotice::Forget(address));
        }
    }

    pub(super) fn forget_here(&self, address: Address) {
        self.inboxes.push(address.shard(), ShardMessage::Forget(vec![address]));
    }

    /// A session of another node is to come here.
    pub(super) fn expect_session(
        &self,
        (sid, source, at): (Address, Location, ConnectionRef),
        rooms: Vec<(RoomName, u128)>,
        answer: Responder,
    ) {
        let (reply, ready) = oneshot::channel();
        let step = TransferMessage::Expect { sid, source, at, rooms, answer: reply };
        self.inboxes.push(at.shard, ShardMessage::Move(step));
        tokio::spawn(async move {
            let ready = ready.await.map(LinkResponse::Ready);
            answer.send(wire::encode(&ready.unwrap_or(LinkResponse::Refused(RequestRefused::UnknownSid))));
        });
    }

    /// A session of another node is here.
    pub(super) fn take_session(self: Arc<Self>, sent: Box<SessionTransfer>, answer: Responder) {
        let (addresses, shard) = (sent.addresses(), sent.at.shard);
        // What comes behind it over the link finds it.
        for address in &addresses {
            self.moved_in.pin().insert(*address, shard);
        }
        let (reply, taken) = oneshot::channel();
        let step = TransferMessage::Arrived { sent, answer: reply };
        self.inboxes.push(shard, ShardMessage::Move(step));
        tokio::spawn(async move {
            let taken = match taken.await {
                Ok(()) => LinkResponse::Taken,
                Err(_) => {
                    for address in &addresses {
                        self.moved_in.pin().remove(address);
                    }
                    LinkResponse::Refused(RequestRefused::UnknownSid)
                }
            };
            answer.send(wire::encode(&taken));
        });
    }
}
