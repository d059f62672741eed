//! Sessions that move between nodes: the steps of their transfers, over the node link.

use std::sync::Arc;

use signalbox_cluster::{Address, NodeTag};
use signalbox_node_link::{LinkError, Responder};
use tokio::time::{Instant, sleep_until, timeout};

use super::{ANSWER_WITHIN, GONE_WITHIN, NoAnswer, Peering, UNKNOWN_AFTER, transfer_answers::PendingAnswer};
use crate::{
    protocol::{LinkNotice, LinkRequest, LinkResponse, RequestRefused},
    routing::{ConnectionRef, Location},
    shard::{
        mailbox::ShardMessage,
        transfer::message::{Confirmation, SessionInTransfer, TransferMessage},
    },
};

impl Peering {
    /// Sends a step to the other end: what the source asks for as a request, what the destination says as its answer.
    pub(super) fn send_transfer(self: Arc<Self>, to: Location, message: TransferMessage) {
        match message {
            TransferMessage::Prepare { sid, source, connection, rooms } => {
                let request = LinkRequest::Prepare { sid, source: source.shard, connection, rooms };
                let answer = self.ask(to.node, &request);
                tokio::spawn(async move {
                    let message = match answer.await {
                        Some(LinkResponse::Ready(received_on_all)) => {
                            TransferMessage::Ready { sid, connection, received_on_all }
                        }
                        _ => TransferMessage::Refused { sid, connection },
                    };
                    self.mailboxes.push(source.shard, ShardMessage::Transfer(message));
                });
            }
            TransferMessage::Session { source, connection, session } => {
                let SessionInTransfer::Saved(saved) = *session else { return };
                let sid = saved.session.sid;
                let answer = self.ask(to.node, &LinkRequest::Take(Box::new(saved)));
                tokio::spawn(async move {
                    let confirmation = match answer.await {
                        Some(LinkResponse::Taken) => Confirmation::Taken,
                        Some(_) => Confirmation::Refused,
                        None => self.ask_again(to.node, sid, connection).await,
                    };
                    let message = TransferMessage::Confirmed { sid, connection, confirmation };
                    self.mailboxes.push(source.shard, ShardMessage::Transfer(message));
                });
            }
            TransferMessage::Ready { sid, connection, received_on_all } => {
                self.answer_transfer(sid, connection, LinkResponse::Ready(received_on_all));
            }
            TransferMessage::Refused { sid, connection } => {
                self.answer_transfer(sid, connection, LinkResponse::Refused(RequestRefused::UnknownSid));
            }
            TransferMessage::Confirmed { sid, connection, confirmation: Confirmation::Taken } => {
                self.answer_transfer(sid, connection, LinkResponse::Taken);
            }
            TransferMessage::Confirmed { sid, connection, .. } => {
                self.answer_transfer(sid, connection, LinkResponse::Refused(RequestRefused::UnknownSid));
            }
            TransferMessage::Cancelled { sid, connection } => {
                self.notify(to.node, &LinkNotice::Cancelled { sid, connection });
            }
            // These stay within a node, or come through the bus.
            TransferMessage::RequestMarker { .. }
            | TransferMessage::ShardMarker { .. }
            | TransferMessage::RoomMarker { .. } => {}
        }
    }

    /// The answer to a session was lost. Behind the word that the session is not to be taken any more, the other node has it or never
    /// will. One that does not answer may only not be reached, and take it all the same: it is asked until it has long given up to expect
    /// it. Where nobody listens any more, there is nobody to ask.
    async fn ask_again(&self, to: NodeTag, sid: Address, connection: ConnectionRef) -> Confirmation {
        let until = Instant::now() + UNKNOWN_AFTER;
        loop {
            self.notify(to, &LinkNotice::Cancelled { sid, connection });
            let asked = Instant::now();
            match timeout(ANSWER_WITHIN, self.request(to, &LinkRequest::Exists { sid })).await {
                Ok(Ok(LinkResponse::Exists(true))) => return Confirmation::Taken,
                Ok(Ok(LinkResponse::Exists(false))) => return Confirmation::Refused,
                Ok(Err(NoAnswer::UnknownNode)) => return Confirmation::Unknown,
                Ok(Err(NoAnswer::Link(LinkError::Unreachable | LinkError::Broken)))
                    if asked.elapsed() < GONE_WITHIN =>
                {
                    return Confirmation::Unknown;
                }
                _ if asked >= until => return Confirmation::Unknown,
                // What is refused at once may not be refused a moment later.
                _ => sleep_until(asked + GONE_WITHIN).await,
            }
        }
    }

    fn answer_transfer(&self, sid: Address, connection: ConnectionRef, response: LinkResponse) {
        let Some(PendingAnswer { from, answer, addresses, .. }) =
            self.transfer_answers.remove(sid, connection)
        else {
            return;
        };
        if matches!(response, LinkResponse::Refused(_)) {
            for address in addresses {
                self.addresses.remove(address);
            }
        }
        answer.send(self.encode_for(from, &response));
    }

    /// A source on another node sends a step that it wants answered.
    pub(super) fn take_transfer(&self, from: NodeTag, request: LinkRequest<'_>, answer: Responder) {
        let (sid, connection, addresses, message) = match request {
            LinkRequest::Prepare { sid, source, connection, rooms } => {
                let source = Location { node: from, shard: source };
                (sid, connection, Vec::new(), TransferMessage::Prepare { sid, source, connection, rooms })
            }
            LinkRequest::Take(saved) => {
                let (sid, connection, addresses) = (saved.session.sid, saved.connection, saved.addresses());
                // What comes behind it over the link finds it.
                for address in &addresses {
                    self.addresses.move_in(*address, connection.shard);
                }
                // The answer goes to the node; which shard waits for it, the node knows.
                let source = Location { node: from, shard: sid.shard() };
                let session = Box::new(SessionInTransfer::Saved(*saved));
                (sid, connection, addresses, TransferMessage::Session { source, connection, session })
            }
            _ => return,
        };
        let pending = PendingAnswer { from, shard: connection.shard, answer, addresses };
        self.transfer_answers.insert(sid, connection, pending);
        self.mailboxes.push(connection.shard, ShardMessage::Transfer(message));
    }

    pub(super) fn cancel_transfer_here(&self, sid: Address, connection: ConnectionRef) {
        let message = TransferMessage::Cancelled { sid, connection };
        self.mailboxes.push(connection.shard, ShardMessage::Transfer(message));
    }

    pub(super) fn close_probe_here(&self, connection: ConnectionRef) {
        self.mailboxes.push(connection.shard, ShardMessage::CloseProbe(connection));
    }
}
