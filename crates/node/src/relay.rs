//! Sessions of other nodes, over the node link: requests that landed here are handed to the node that has the session, as they
//! are handed to another shard. What may not wait is bounded: an owner that does not even accept a request is taken for gone.
//!
//! - `relayed_polls`: requests that wait here for sessions of other nodes.
//! - `moves`: sessions that come to the node of their WebSocket.
//! - `serve`: the other end, where the session lives.
//! - `acceptances`: signs of life of owners that make a request wait.
//! - `node_lookup`: nodes that nobody has heard of.

mod acceptances;
mod moves;
mod node_lookup;
mod relayed_polls;
mod serve;

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use signalbox_cluster::NodeTag;
use signalbox_node_link::RemoteNode;
use tokio::{sync::oneshot, time::timeout};

pub(crate) use acceptances::Acceptances;
pub(crate) use node_lookup::NodeLookup;
pub(crate) use relayed_polls::RelayedPolls;

use node_lookup::Lookup;

use crate::{
    mailbox::{Location, OpenPost, PollReply, Request, RequestRefused, ShardMessage},
    node::NodeShared,
    wire::{self, LinkNotice, LinkRequest, LinkResponse},
};

/// How long a live owner may take to answer, or to accept what may take longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How often, and how many times, a node that is looked for is looked up: it may have joined this very moment.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 10;

/// What the node's own code says over the link; other kinds are free.
const SESSIONS: u8 = 1;

impl NodeShared {
    /// Whether a place may have sessions: it is a shard here, or on a node that can be reached.
    fn is_known(&self, place: Location) -> bool {
        match place.node == self.tag {
            true => usize::from(place.shard) < self.inboxes.len(),
            false => self.link.get().is_some() && self.cluster.link_addr(place.node).is_some(),
        }
    }

    /// The same; for a node that nobody has heard of, the list of nodes is looked at once more.
    pub(crate) async fn find(&self, place: Location) -> bool {
        if self.is_known(place) || place.node == self.tag || !self.cluster.is_shared() {
            return self.is_known(place);
        }
        match self.node_lookup.meet(place.node, LOOK * LOOKS) {
            Lookup::Look => self.cluster.refresh_nodes(Instant::now()),
            Lookup::Wait => {}
            Lookup::Unknown => return false,
        }
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            if self.is_known(place) {
                return true;
            }
        }
        false
    }

    /// Hands over a request that may not be refused.
    pub(crate) fn hand(self: &Arc<Self>, to: Location, request: Request) {
        if to.node == self.tag {
            self.inboxes.push(to.shard, ShardMessage::Request(request));
        } else {
            self.relay(to.node, request);
        }
    }

    /// Tells a node something over the link; `false` if it cannot be reached. A node that cannot be told is gone, and what it should
    /// know with it.
    pub(crate) fn link_tell(&self, to: NodeTag, told: &LinkNotice<'_>) -> bool {
        let link = self.link.get().zip(RemoteNode::find(&self.cluster, to));
        link.is_some_and(|(link, peer)| link.notify(peer, SESSIONS, wire::encode(told)).is_ok())
    }

    /// Asks a node something; the answer is `None` when it does not come.
    pub(crate) fn ask(
        &self,
        to: NodeTag,
        asked: &LinkRequest<'_>,
    ) -> impl Future<Output = Option<LinkResponse>> + Send + 'static {
        let link = self.link.get().zip(RemoteNode::find(&self.cluster, to));
        let answer = link.map(|(link, peer)| link.request(peer, SESSIONS, wire::encode(asked)));
        async move { wire::decode(&answer?.await.ok()?).ok() }
    }

    /// Hands a request to the node that has the session.
    pub(crate) fn relay(self: &Arc<Self>, to: NodeTag, request: Request) {
        self.metrics.relayed_requests.inc();
        let node = self.clone();
        match request {
            Request::Exists { sid, reply } => {
                let answer = self.ask(to, &LinkRequest::Exists { sid });
                tokio::spawn(async move {
                    if let Ok(Some(LinkResponse::Exists(exists))) = timeout(ANSWER_WITHIN, answer).await {
                        let _ = reply.send(exists);
                    }
                });
            }
            Request::Poll { sid, number, reply } => {
                let accepted = self.acceptances.expect(number);
                let answer = self.ask(to, &LinkRequest::Poll { sid, number });
                tokio::spawn(async move {
                    let (answer, accepted) = (pin!(answer), pin!(accepted));
                    if !relay_poll(reply, answer, accepted).await {
                        node.link_tell(to, &LinkNotice::PollLost { sid, number });
                    }
                });
            }
            Request::BeginPost { sid, number, reply } => {
                let answer = self.ask(to, &LinkRequest::BeginPost { sid, number });
                tokio::spawn(async move {
                    let answer = match timeout(ANSWER_WITHIN, answer).await {
                        Ok(Some(LinkResponse::Begun)) => Ok(OpenPost { closed: None }),
                        Ok(Some(LinkResponse::Refused(refused))) => Err(refused),
                        _ => {
                            node.link_tell(to, &LinkNotice::PostLost { sid, number });
                            Err(RequestRefused::UnknownSid)
                        }
                    };
                    // Who asked tells the owner by itself when it is gone.
                    let _ = reply.send(answer);
                });
            }
            Request::Post { sid, number, body, reply } => {
                let accepted = self.acceptances.expect(number);
                let answer = self.ask(to, &LinkRequest::Post { sid, number, body: &body });
                tokio::spawn(async move {
                    let (answer, accepted) = (pin!(answer), pin!(accepted));
                    match relay_post(answer, accepted).await {
                        Some(LinkResponse::Applied) => {
                            let _ = reply.send(());
                        }
                        Some(_) => {}
                        None => {
                            node.link_tell(to, &LinkNotice::PostLost { sid, number });
                        }
                    }
                });
            }
            Request::BeginUpgrade { sid, at, reply } => {
                let answer = self.ask(to, &LinkRequest::BeginUpgrade { sid, at });
                tokio::spawn(async move {
                    let answer = match timeout(ANSWER_WITHIN, answer).await {
                        Ok(Some(LinkResponse::Upgrade(began))) => Ok(began),
                        Ok(Some(LinkResponse::Refused(refused))) => Err(refused),
                        _ => {
                            node.link_tell(to, &LinkNotice::AbandonUpgrade { sid, at });
                            Err(RequestRefused::UnknownSid)
                        }
                    };
                    if reply.send(answer).is_err() {
                        node.link_tell(to, &LinkNotice::AbandonUpgrade { sid, at });
                    }
                });
            }
            Request::PollLost { sid, number } => {
                self.link_tell(to, &LinkNotice::PollLost { sid, number });
            }
            Request::ReleasePoll { sid, number } => {
                self.link_tell(to, &LinkNotice::ReleasePoll { sid, number });
            }
            Request::PostLost { sid, number } => {
                self.link_tell(to, &LinkNotice::PostLost { sid, number });
            }
            Request::Probed { sid, at } => {
                self.link_tell(to, &LinkNotice::Probed { sid, at });
            }
            Request::Upgrade { sid, at } => {
                if !self.link_tell(to, &LinkNotice::Upgrade { sid, at }) {
                    self.close_probe(at);
                }
            }
            Request::AbandonUpgrade { sid, at } => {
                self.link_tell(to, &LinkNotice::AbandonUpgrade { sid, at });
            }
        }
    }
}

/// Waits for the answer to a GET; `false` when the owner is to be told that it is lost.
async fn relay_poll(
    mut reply: oneshot::Sender<PollReply>,
    mut answer: impl Future<Output = Option<LinkResponse>> + Unpin,
    accepted: impl Future<Output = ()>,
) -> bool {
    let first = tokio::select! {
        biased;
        answer = &mut answer => Some(answer),
        () = accepted => None,
        () = tokio::time::sleep(ANSWER_WITHIN) => return false,
        // Who asked has gone, and tells the owner by itself.
        () = reply.closed() => return true,
    };
    match first {
        Some(Some(LinkResponse::Body(body))) => reply.send(PollReply::Body(body)).is_ok(),
        Some(Some(LinkResponse::Refused(refused))) => {
            let _ = reply.send(PollReply::Refused(refused));
            true
        }
        Some(_) => false,
        None => {
            let (mut body, waits) = oneshot::channel();
            if reply.send(PollReply::Waits(waits)).is_err() {
                return false;
            }
            tokio::select! {
                answer = answer => match answer {
                    Some(LinkResponse::Body(answer)) => body.send(answer).is_ok(),
                    Some(_) => true,
                    None => false,
                },
                () = body.closed() => true,
            }
        }
    }
}

/// Waits for the answer to a POST.
async fn relay_post(
    mut answer: impl Future<Output = Option<LinkResponse>> + Unpin,
    accepted: impl Future<Output = ()>,
) -> Option<LinkResponse> {
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        () = accepted => {}
        () = tokio::time::sleep(ANSWER_WITHIN) => return None,
    }
    answer.await
}
