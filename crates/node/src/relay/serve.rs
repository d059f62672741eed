//! Requests of other nodes for sessions that live here.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use signalbox_cluster::{Address, NodeTag, ShardId};
use signalbox_node_link::{Handler, Responder};
use tokio::sync::oneshot;

use super::SESSIONS;
use crate::{
    inbox::{Busy, Inboxes},
    mailbox::{Location, PollReply, Request, RequestRefused, ShardMessage},
    node::NodeShared,
    wire::{self, LinkNotice, LinkRequest, LinkResponse},
};

impl Handler for Inboxes {
    fn request(&self, from: NodeTag, kind: u8, body: Bytes, answer: Responder) {
        let Some(node) = self.node().filter(|_| kind == SESSIONS) else { return };
        match wire::decode::<LinkRequest<'_>>(&body) {
            Ok(asked) => node.serve(from, &body, asked, answer),
            Err(error) => {
                node.metrics.bus_refused.inc();
                tracing::debug!(node = %from, %error, "unreadable request of another node");
            }
        }
    }

    fn node_lost(&self, from: NodeTag) {
        for shard in 0..self.len() {
            self.push(shard as ShardId, ShardMessage::NodeLost(from));
        }
    }

    fn notice(&self, _: NodeTag, kind: u8, body: Bytes) {
        let Some(node) = self.node().filter(|_| kind == SESSIONS) else { return };
        match wire::decode::<LinkNotice<'_>>(&body) {
            Ok(told) => node.heed(&body, told),
            Err(_) => node.metrics.bus_refused.inc(),
        }
    }
}

impl NodeShared {
    /// Hands a request to the session's shard.
    fn request_here(&self, request: Request) -> Result<(), Busy> {
        match self.shard_of(request.sid()) {
            Some(shard) => self.inboxes.request(shard, ShardMessage::Request(request)),
            // Dropped: nobody knows such a session.
            None => Ok(()),
        }
    }

    fn serve(self: Arc<Self>, from: NodeTag, whole: &Bytes, asked: LinkRequest<'_>, answer: Responder) {
        match asked {
            LinkRequest::Exists { sid } => {
                let (reply, exists) = oneshot::channel();
                let request = Request::Exists { sid, reply };
                self.answer(request, answer, async {
                    Some(LinkResponse::Exists(exists.await.unwrap_or(false)))
                });
            }
            LinkRequest::Poll { sid, number } => self.serve_poll(from, (sid, number), answer),
            LinkRequest::BeginPost { sid, number } => {
                let (reply, began) = oneshot::channel();
                let request = Request::BeginPost { sid, number, reply };
                self.answer(request, answer, async {
                    Some(began.await.ok()?.map_or_else(LinkResponse::Refused, |_| LinkResponse::Begun))
                });
            }
            LinkRequest::Post { sid, number, body } => {
                let (reply, applied) = oneshot::channel();
                let body = whole.slice_ref(body);
                let request = Request::Post { sid, number, body, reply };
                self.link_tell(from, &LinkNotice::Accepted { number });
                self.answer(request, answer, async { applied.await.ok().map(|()| LinkResponse::Applied) });
            }
            LinkRequest::BeginUpgrade { sid, at } => {
                let (reply, began) = oneshot::channel();
                let request = Request::BeginUpgrade { sid, at, reply };
                self.answer(request, answer, async {
                    Some(began.await.ok()?.map_or_else(LinkResponse::Refused, LinkResponse::Upgrade))
                });
            }
            LinkRequest::Prepare { sid, source, at, rooms } => {
                self.expect_session((sid, Location { node: from, shard: source }, at), rooms, answer);
            }
            LinkRequest::Take(sent) => self.take_session(sent, answer),
        }
    }

    /// Hands a request over, and answers it with what comes of it.
    fn answer(
        &self,
        request: Request,
        answer: Responder,
        answered: impl Future<Output = Option<LinkResponse>> + Send + 'static,
    ) {
        if self.request_here(request).is_err() {
            answer.send(wire::encode(&LinkResponse::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let answered = answered.await.unwrap_or(LinkResponse::Refused(RequestRefused::UnknownSid));
            answer.send(wire::encode(&answered));
        });
    }

    fn serve_poll(self: Arc<Self>, from: NodeTag, (sid, number): (Address, u64), mut answer: Responder) {
        let given_up = answer.cancelled();
        let (reply, replied) = oneshot::channel();
        if self.request_here(Request::Poll { sid, number, reply }).is_err() {
            answer.send(wire::encode(&LinkResponse::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let body = async {
                match replied.await {
                    Ok(PollReply::Body(body)) => Ok(body),
                    Ok(PollReply::Refused(refused)) => Err(refused),
                    Ok(PollReply::Waits(body)) => {
                        self.link_tell(from, &LinkNotice::Accepted { number });
                        body.await.map_err(|_| RequestRefused::UnknownSid)
                    }
                    Err(_) => Err(RequestRefused::UnknownSid),
                }
            };
            let body = tokio::select! {
                body = body => body,
                () = given_up => {
                    self.hand_here(Request::PollLost { sid, number });
                    return;
                }
            };
            answer.send(wire::encode(&body.map_or_else(LinkResponse::Refused, LinkResponse::Body)));
        });
    }

    /// Hands something over that may not be refused.
    fn hand_here(&self, request: Request) {
        if let Some(shard) = self.shard_of(request.sid()) {
            self.inboxes.push(shard, ShardMessage::Request(request));
        }
    }

    /// Does what another node says.
    fn heed(&self, whole: &Bytes, told: LinkNotice<'_>) {
        match told {
            LinkNotice::Accepted { number } => self.acceptances.came(number),
            LinkNotice::PollLost { sid, number } => self.hand_here(Request::PollLost { sid, number }),
            LinkNotice::ReleasePoll { sid, number } => self.hand_here(Request::ReleasePoll { sid, number }),
            LinkNotice::PostLost { sid, number } => self.hand_here(Request::PostLost { sid, number }),
            LinkNotice::Probed { sid, at } => self.hand_here(Request::Probed { sid, at }),
            LinkNotice::Upgrade { sid, at } => match self.shard_of(sid) {
                Some(shard) => self.inboxes.push(shard, ShardMessage::Request(Request::Upgrade { sid, at })),
                None => self.close_probe(at),
            },
            LinkNotice::AbandonUpgrade { sid, at } => self.hand_here(Request::AbandonUpgrade { sid, at }),
            LinkNotice::CloseProbe(at) => self.close_probe_here(at),
            LinkNotice::Cancelled { sid, at } => self.cancel_move_here(sid, at),
            LinkNotice::Forget(address) => self.forget_here(address),
            LinkNotice::NodeMessage(word) => self.told(&whole.slice_ref(word)),
        }
    }
}
