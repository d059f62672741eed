//! Requests of other nodes, for sessions that live here.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use signalbox_cluster::{Address, NodeTag};
use signalbox_node_link::Responder;
use signalbox_socketio::Args;

use super::Peering;
use crate::{
    protocol::{LinkNotice, LinkRequest, LinkResponse, RequestRefused},
    routing::Reply,
    shard::{
        mailbox::{Request, ShardMessage},
        runtime::Busy,
    },
};

impl Peering {
    /// Hands a request to the session's shard.
    pub(super) fn request_here(&self, request: Request) -> Result<(), Busy> {
        let sid = request.sid();
        // A session that moved here and has ended has no address any more; whether its source may end it too, the shard knows.
        match self.addresses.shard_of(sid).or_else(|| self.transfer_answers.shard_of(sid)) {
            Some(shard) => self.mailboxes.request(shard, ShardMessage::Request(request)),
            // Dropped: nobody knows such a session.
            None => Ok(()),
        }
    }

    pub(super) fn serve(
        self: Arc<Self>,
        from: NodeTag,
        whole: &Bytes,
        request: LinkRequest<'_>,
        answer: Responder,
    ) {
        match request {
            LinkRequest::Exists { sid } => {
                let (reply, exists) = Reply::channel();
                let request = Request::Exists { sid, reply };
                self.answer(from, request, answer, async {
                    Some(LinkResponse::Exists(exists.await.unwrap_or(false)))
                });
            }
            LinkRequest::Poll { sid, number } => self.serve_poll(from, (sid, number), answer),
            LinkRequest::BeginPost { sid, number } => {
                let (reply, began) = Reply::channel();
                // The POST itself is refused when the session is closed meanwhile.
                let on_close = Reply::new(|()| true);
                let request = Request::BeginPost { sid, number, on_close, reply };
                self.answer(from, request, answer, async {
                    Some(began.await.ok()?.map_or_else(LinkResponse::Refused, |()| LinkResponse::Begun))
                });
            }
            LinkRequest::Post { sid, number, body } => {
                let (reply, applied) = Reply::channel();
                let body = whole.slice_ref(body);
                let request = Request::Post { sid, number, body, is_relayed: true, reply };
                self.clone().accept(from, number);
                self.answer(from, request, answer, async {
                    applied.await.ok().map(|()| LinkResponse::Applied)
                });
            }
            LinkRequest::BeginUpgrade { sid, connection } => {
                let (reply, began) = Reply::channel();
                let request = Request::BeginUpgrade { sid, connection, reply };
                self.answer(from, request, answer, async {
                    Some(began.await.ok()?.map_or_else(LinkResponse::Refused, LinkResponse::Upgrade))
                });
            }
            request @ (LinkRequest::Prepare { .. } | LinkRequest::Take(_)) => {
                self.take_transfer(from, request, answer);
            }
        }
    }

    /// Hands a request over, and answers it with what comes of it.
    fn answer(
        self: Arc<Self>,
        from: NodeTag,
        request: Request,
        answer: Responder,
        answered: impl Future<Output = Option<LinkResponse>> + Send + 'static,
    ) {
        if self.request_here(request).is_err() {
            answer.send(self.encode_for(from, &LinkResponse::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let answered = answered.await.unwrap_or(LinkResponse::Refused(RequestRefused::UnknownSid));
            answer.send(self.encode_for(from, &answered));
        });
    }

    fn serve_poll(self: Arc<Self>, from: NodeTag, (sid, number): (Address, u64), mut answer: Responder) {
        let given_up = answer.cancelled();
        let (reply, replied) = Reply::channel();
        let peering = self.clone();
        let accepted = Reply::new(move |()| {
            peering.accept(from, number);
            true
        });
        let request = Request::Poll { sid, number, accepted: Some(accepted), reply };
        if self.request_here(request).is_err() {
            answer.send(self.encode_for(from, &LinkResponse::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let body = async { replied.await.unwrap_or(Err(RequestRefused::UnknownSid)) };
            let body = tokio::select! {
                body = body => body,
                () = given_up => {
                    self.dispatch_here(Request::PollLost { sid, number });
                    return;
                }
            };
            answer.send(self.encode_for(from, &body.map_or_else(LinkResponse::Refused, LinkResponse::Body)));
        });
    }

    /// Tells a node that its request was taken.
    fn accept(self: Arc<Self>, node: NodeTag, number: u64) {
        if self.notify(node, &LinkNotice::Accepted { number }) {
            return;
        }
        // A node of an earlier version does not introduce itself, and may have joined this very moment. One that is gone for this node
        // only is not told, and gives its request up.
        tokio::spawn(async move {
            if self.look_up(node).await {
                self.notify(node, &LinkNotice::Accepted { number });
            }
        });
    }

    /// Hands something over that may not be refused.
    fn dispatch_here(&self, request: Request) {
        if let Some(shard) = self.addresses.shard_of(request.sid()) {
            self.mailboxes.push(shard, ShardMessage::Request(request));
        }
    }

    /// Handles a notice of another node.
    pub(super) fn handle_notice(&self, whole: &Bytes, notice: LinkNotice<'_>) {
        match notice {
            LinkNotice::Accepted { number } => self.acceptances.accepted(number),
            LinkNotice::PollLost { sid, number } => self.dispatch_here(Request::PollLost { sid, number }),
            LinkNotice::ReleasePoll { sid, number } => {
                self.dispatch_here(Request::ReleasePoll { sid, number })
            }
            LinkNotice::PostLost { sid, number } => self.dispatch_here(Request::PostLost { sid, number }),
            LinkNotice::Probed { sid, connection } => self.dispatch_here(Request::Probed { sid, connection }),
            LinkNotice::Upgrade { sid, connection } => match self.addresses.shard_of(sid) {
                Some(shard) => {
                    self.mailboxes.push(shard, ShardMessage::Request(Request::Upgrade { sid, connection }))
                }
                None => self.close_probe_anywhere(connection),
            },
            LinkNotice::AbandonUpgrade { sid, connection } => {
                self.dispatch_here(Request::AbandonUpgrade { sid, connection })
            }
            LinkNotice::CloseProbe(connection) => self.close_probe_here(connection),
            LinkNotice::Cancelled { sid, connection } => self.cancel_transfer_here(sid, connection),
            LinkNotice::Forget(address) => {
                self.mailboxes.push(address.shard(), ShardMessage::Forget(address));
            }
            LinkNotice::Acked { shard, socket, id, json, attachments } => {
                match Args::from_raw(json, attachments) {
                    Ok(args) => self.mailboxes.push(shard, ShardMessage::Acked { socket, id, args }),
                    Err(_) => self.metrics.bus_refused.inc(),
                }
            }
            LinkNotice::NodeMessage(message) => self.handle_node_message(&whole.slice_ref(message)),
        }
    }
}
