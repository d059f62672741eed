//! Requests of other nodes for sessions that live here.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use signalbox_cluster::{
    Address, NodeTag, ShardId,
    link::{Answer, Handler},
};
use tokio::sync::oneshot;

use super::SESSIONS;
use crate::{
    inbox::{Busy, Inboxes},
    message::{Place, PollReply, Request, RequestRefused, ToShard},
    node::NodeShared,
    wire::{self, Answered, Asked, Told},
};

impl Handler for Inboxes {
    fn request(&self, from: NodeTag, kind: u8, body: Bytes, answer: Answer) {
        let Some(node) = self.node().filter(|_| kind == SESSIONS) else { return };
        match wire::decode::<Asked<'_>>(&body) {
            Ok(asked) => node.serve(from, &body, asked, answer),
            Err(error) => {
                node.metrics.bus_refused.inc();
                tracing::debug!(node = %from, %error, "unreadable request of another node");
            }
        }
    }

    fn lost(&self, from: NodeTag) {
        for shard in 0..self.len() {
            self.push(shard as ShardId, ToShard::NodeLost(from));
        }
    }

    fn told(&self, _: NodeTag, kind: u8, body: Bytes) {
        let Some(node) = self.node().filter(|_| kind == SESSIONS) else { return };
        match wire::decode::<Told<'_>>(&body) {
            Ok(told) => node.heed(&body, told),
            Err(_) => node.metrics.bus_refused.inc(),
        }
    }
}

impl NodeShared {
    /// Hands a request to the session's shard.
    fn request_here(&self, request: Request) -> Result<(), Busy> {
        match self.shard_of(request.sid()) {
            Some(shard) => self.inboxes.request(shard, ToShard::Request(request)),
            // Dropped: nobody knows such a session.
            None => Ok(()),
        }
    }

    fn serve(self: Arc<Self>, from: NodeTag, whole: &Bytes, asked: Asked<'_>, answer: Answer) {
        match asked {
            Asked::Exists { sid } => {
                let (reply, exists) = oneshot::channel();
                let request = Request::Exists { sid, reply };
                self.answer(request, answer, async { Some(Answered::Exists(exists.await.unwrap_or(false))) });
            }
            Asked::Poll { sid, number } => self.serve_poll(from, (sid, number), answer),
            Asked::BeginPost { sid, number } => {
                let (reply, began) = oneshot::channel();
                let request = Request::BeginPost { sid, number, reply };
                self.answer(request, answer, async {
                    Some(began.await.ok()?.map_or_else(Answered::Refused, |_| Answered::Begun))
                });
            }
            Asked::Post { sid, number, body } => {
                let (reply, applied) = oneshot::channel();
                let body = whole.slice_ref(body);
                let request = Request::Post { sid, number, body, reply };
                self.link_tell(from, &Told::Accepted { number });
                self.answer(request, answer, async { applied.await.ok().map(|()| Answered::Applied) });
            }
            Asked::BeginUpgrade { sid, at } => {
                let (reply, began) = oneshot::channel();
                let request = Request::BeginUpgrade { sid, at, reply };
                self.answer(request, answer, async {
                    Some(began.await.ok()?.map_or_else(Answered::Refused, Answered::Upgrade))
                });
            }
            Asked::Prepare { sid, giver, at, rooms } => {
                self.expect_session((sid, Place { node: from, shard: giver }, at), rooms, answer);
            }
            Asked::Take(sent) => self.take_session(sent, answer),
        }
    }

    /// Hands a request over, and answers it with what comes of it.
    fn answer(
        &self,
        request: Request,
        answer: Answer,
        answered: impl Future<Output = Option<Answered>> + Send + 'static,
    ) {
        if self.request_here(request).is_err() {
            answer.send(wire::encode(&Answered::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let answered = answered.await.unwrap_or(Answered::Refused(RequestRefused::UnknownSid));
            answer.send(wire::encode(&answered));
        });
    }

    fn serve_poll(self: Arc<Self>, from: NodeTag, (sid, number): (Address, u64), mut answer: Answer) {
        let given_up = answer.cancelled();
        let (reply, replied) = oneshot::channel();
        if self.request_here(Request::Poll { sid, number, reply }).is_err() {
            answer.send(wire::encode(&Answered::Refused(RequestRefused::Busy)));
            return;
        }
        tokio::spawn(async move {
            let body = async {
                match replied.await {
                    Ok(PollReply::Body(body)) => Ok(body),
                    Ok(PollReply::Refused(refused)) => Err(refused),
                    Ok(PollReply::Waits(body)) => {
                        self.link_tell(from, &Told::Accepted { number });
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
            answer.send(wire::encode(&body.map_or_else(Answered::Refused, Answered::Body)));
        });
    }

    /// Hands something over that may not be refused.
    fn hand_here(&self, request: Request) {
        if let Some(shard) = self.shard_of(request.sid()) {
            self.inboxes.push(shard, ToShard::Request(request));
        }
    }

    /// Does what another node says.
    fn heed(&self, whole: &Bytes, told: Told<'_>) {
        match told {
            Told::Accepted { number } => self.signs.came(number),
            Told::PollLost { sid, number } => self.hand_here(Request::PollLost { sid, number }),
            Told::ReleasePoll { sid, number } => self.hand_here(Request::ReleasePoll { sid, number }),
            Told::PostLost { sid, number } => self.hand_here(Request::PostLost { sid, number }),
            Told::Probed { sid, at } => self.hand_here(Request::Probed { sid, at }),
            Told::Upgrade { sid, at } => match self.shard_of(sid) {
                Some(shard) => self.inboxes.push(shard, ToShard::Request(Request::Upgrade { sid, at })),
                None => self.close_probe(at),
            },
            Told::AbandonUpgrade { sid, at } => self.hand_here(Request::AbandonUpgrade { sid, at }),
            Told::CloseProbe(at) => self.close_probe_here(at),
            Told::Cancelled { sid, at } => self.cancel_move_here(sid, at),
            Told::Forget(address) => self.forget_here(address),
            Told::Word(word) => self.told(&whole.slice_ref(word)),
        }
    }
}
