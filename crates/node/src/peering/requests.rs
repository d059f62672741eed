//! Requests that landed here, for sessions of other nodes: they are handed over the link to the node that has the session, as they
//! are handed to another shard. Every wait is bounded: an owner that does not even accept a request is taken for gone.

use std::{future::Future, pin::pin, sync::Arc};

use signalbox_cluster::{Address, NodeTag};
use signalbox_socketio::Args;
use tokio::time::timeout;

use super::{ACCEPT_WITHIN, ANSWER_WITHIN, Peering};
use crate::{
    policy::Principal,
    protocol::{LinkNotice, LinkRequest, LinkResponse, NodeMessage, RequestRefused},
    routing::{ConnectionRef, Location, Reply, SignalReply, SocketCommand},
    session::PollReply,
    shard::{
        mailbox::{Request, ShardMessage},
        runtime::OtherNodes,
        transfer::message::TransferMessage,
    },
};

impl OtherNodes for Peering {
    fn relay(self: Arc<Self>, node: NodeTag, request: Request) {
        self.relay_request(node, request);
    }

    fn forward(&self, node: NodeTag, command: SocketCommand) {
        self.forward_command(node, command);
    }

    fn signalled(&self, to: SignalReply, found: bool) {
        self.report_signal(to, found);
    }

    fn transfer(self: Arc<Self>, to: Location, message: TransferMessage) {
        self.send_transfer(to, message);
    }

    fn close_probe(&self, connection: ConnectionRef) {
        self.notify(connection.node, &LinkNotice::CloseProbe(connection));
    }

    fn forget(&self, node: NodeTag, address: Address) {
        self.notify(node, &LinkNotice::Forget(address));
    }

    fn acked(&self, to: Location, socket: Address, id: u64, args: &Args) {
        let attachments = args.attachments().to_vec();
        let acked = LinkNotice::Acked { shard: to.shard, socket, id, json: args.json(), attachments };
        if self.notify(to.node, &acked) || !self.can_reach(to.node) {
            // It is on its way, or whoever waits is gone.
            return;
        }
        let acked = NodeMessage::Acked { shard: to.shard, socket, id, args: args.clone() };
        if !self.send_node_message(to.node, &acked) {
            self.ack_losses.note(&self.metrics, to.node);
        }
    }

    fn refreshed(&self, principal: &Principal) {
        self.tell_refreshed(principal);
    }
}

impl Peering {
    /// Hands a request that may not be refused to the session's owner.
    pub(crate) fn dispatch(self: &Arc<Self>, to: Location, request: Request) {
        if to.node == self.node {
            self.mailboxes.push(to.shard, ShardMessage::Request(request));
        } else {
            self.relay_request(to.node, request);
        }
    }

    /// Hands a request to the node that has the session.
    pub(crate) fn relay_request(self: &Arc<Self>, to: NodeTag, request: Request) {
        self.metrics.relayed_requests.inc();
        match request {
            Request::Exists { sid, reply } => self.relay_exists(to, sid, reply),
            Request::Identify { sid, reply } => self.relay_identify(to, sid, reply),
            Request::Poll { sid, number, reply, .. } => self.relay_poll(to, sid, number, reply),
            Request::BeginPost { sid, number, reply, .. } => self.relay_begin_post(to, sid, number, reply),
            Request::Post { sid, number, body, reply, .. } => {
                let accepted = self.acceptances.expect(number);
                let answer = self.ask(to, &LinkRequest::Post { sid, number, body: &body });
                let peering = self.clone();
                tokio::spawn(async move {
                    match first_answer(pin!(answer), pin!(accepted)).await {
                        Some(LinkResponse::Applied) => drop(reply.send(())),
                        Some(_) => {}
                        None => drop(peering.notify(to, &LinkNotice::PostLost { sid, number })),
                    }
                });
            }
            Request::BeginUpgrade { sid, connection, reply } => {
                self.relay_begin_upgrade(to, sid, connection, reply);
            }
            Request::PollLost { sid, number } => drop(self.notify(to, &LinkNotice::PollLost { sid, number })),
            Request::ReleasePoll { sid, number } => {
                self.notify(to, &LinkNotice::ReleasePoll { sid, number });
            }
            Request::PostLost { sid, number } => drop(self.notify(to, &LinkNotice::PostLost { sid, number })),
            Request::Probed { sid, connection } => {
                self.notify(to, &LinkNotice::Probed { sid, connection });
            }
            Request::Upgrade { sid, connection } => {
                if !self.notify(to, &LinkNotice::Upgrade { sid, connection }) {
                    self.close_probe_anywhere(connection);
                }
            }
            Request::AbandonUpgrade { sid, connection } => {
                self.notify(to, &LinkNotice::AbandonUpgrade { sid, connection });
            }
        }
    }

    fn relay_exists(&self, to: NodeTag, sid: Address, reply: Reply<bool>) {
        let answer = self.ask(to, &LinkRequest::Exists { sid });
        tokio::spawn(async move {
            if let Ok(Some(LinkResponse::Exists(exists))) = timeout(ANSWER_WITHIN, answer).await {
                let _ = reply.send(exists);
            }
        });
    }

    fn relay_poll(self: &Arc<Self>, to: NodeTag, sid: Address, number: u64, reply: PollReply) {
        let accepted = self.acceptances.expect(number);
        let answer = self.ask(to, &LinkRequest::Poll { sid, number });
        let peering = self.clone();
        tokio::spawn(async move {
            let is_done = match first_answer(pin!(answer), pin!(accepted)).await {
                Some(LinkResponse::Body(body)) => reply.send(Ok(body)),
                Some(LinkResponse::Refused(refused)) => {
                    let _ = reply.send(Err(refused));
                    true
                }
                _ => false,
            };
            if !is_done {
                peering.notify(to, &LinkNotice::PollLost { sid, number });
            }
        });
    }

    /// Who asked tells the owner by itself when it is gone.
    fn relay_begin_post(
        self: &Arc<Self>,
        to: NodeTag,
        sid: Address,
        number: u64,
        reply: Reply<Result<(), RequestRefused>>,
    ) {
        let answer = self.ask(to, &LinkRequest::BeginPost { sid, number });
        let peering = self.clone();
        tokio::spawn(async move {
            let answer = match timeout(ACCEPT_WITHIN, answer).await {
                Ok(Some(LinkResponse::Begun)) => Ok(()),
                Ok(Some(LinkResponse::Refused(refused))) => Err(refused),
                _ => {
                    peering.notify(to, &LinkNotice::PostLost { sid, number });
                    Err(RequestRefused::UnknownSid)
                }
            };
            let _ = reply.send(answer);
        });
    }

    fn relay_begin_upgrade(
        self: &Arc<Self>,
        to: NodeTag,
        sid: Address,
        connection: ConnectionRef,
        reply: Reply<Result<bool, RequestRefused>>,
    ) {
        let answer = self.ask(to, &LinkRequest::BeginUpgrade { sid, connection });
        let peering = self.clone();
        tokio::spawn(async move {
            let answer = match timeout(ACCEPT_WITHIN, answer).await {
                Ok(Some(LinkResponse::Upgrade(began))) => Ok(began),
                Ok(Some(LinkResponse::Refused(refused))) => Err(refused),
                _ => {
                    peering.notify(to, &LinkNotice::AbandonUpgrade { sid, connection });
                    Err(RequestRefused::UnknownSid)
                }
            };
            if !reply.send(answer) {
                peering.notify(to, &LinkNotice::AbandonUpgrade { sid, connection });
            }
        });
    }

    /// The WebSocket that wanted to take over a session is not wanted any more.
    pub(super) fn close_probe_anywhere(&self, connection: ConnectionRef) {
        if connection.node == self.node {
            self.close_probe_here(connection);
        } else {
            self.notify(connection.node, &LinkNotice::CloseProbe(connection));
        }
    }
}

/// Waits for the answer to a request that has to be accepted soon; `None` when it was not, or the owner is gone.
async fn first_answer(
    mut answer: impl Future<Output = Option<LinkResponse>> + Unpin,
    accepted: impl Future<Output = ()>,
) -> Option<LinkResponse> {
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        () = accepted => {}
        () = tokio::time::sleep(ACCEPT_WITHIN) => return None,
    }
    answer.await
}
