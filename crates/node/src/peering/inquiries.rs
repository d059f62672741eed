//! What an operator asks of every node: the question goes to all of them over the link, each asks its shards, and the answers are joined.
//!
//! Nobody is waited for longer than [`ANSWER_BY`]. Nodes that have not answered by then are named in the answer. Every shard answers for
//! what it has, through its mailbox, so a question takes no lock of anybody's.

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use signalbox_admin::{Partial, PartialReason, Profile, orders::NodeOutcome, page::cut};
use signalbox_cluster::{Address, NodeInfo, NodeTag, Record, RoomName};
use signalbox_node_link::{LinkError, RemoteNode, Responder};
use tokio::{
    sync::oneshot,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{Peering, inquiry_state::DescribeNode, name_of};
use crate::{
    events::Progress,
    protocol::inquiry::{Answer, Once, Question},
    routing::Reply,
    shard::mailbox::ShardMessage,
};

/// The kind of a request that is an operator's question. A node that is older than this kind refuses it.
pub(super) const INQUIRY: u8 = 4;

/// How long nodes may take to answer. The operator is answered within two seconds.
pub const ANSWER_BY: Duration = Duration::from_millis(1_700);
/// How long nodes may take to say whether they know a key: less, since what bears it has its questions, too.
const KEY_ANSWER_BY: Duration = Duration::from_millis(800);
/// Largest answer to another node in bytes: less than a frame of the link, which would refuse it without saying why.
const MAX_ANSWER: usize = 12 << 20;

/// Which nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// All of them.
    All,
    /// All but this one.
    Others,
    /// One.
    One(NodeTag),
}

impl Peering {
    /// Who describes this node; set once.
    pub(crate) fn describe<T: DescribeNode + 'static>(&self, node: &Arc<T>) {
        self.inquiries.describe(node);
    }

    /// Puts a question to nodes.
    pub(crate) async fn inquire(self: &Arc<Self>, question: Question, of: Nodes) -> (Answer, Vec<Partial>) {
        self.inquire_until(Instant::now() + ANSWER_BY, question, of).await
    }

    /// Puts a question to nodes, which have until then, or longer where the question says so.
    pub(crate) async fn inquire_until(
        self: &Arc<Self>,
        until: Instant,
        question: Question,
        of: Nodes,
    ) -> (Answer, Vec<Partial>) {
        self.inquire_without(until, question, of, &BTreeSet::new()).await
    }

    /// The same, without waiting for the answers of those other nodes: they are asked, and named as not having answered in time.
    pub(crate) async fn inquire_without(
        self: &Arc<Self>,
        until: Instant,
        question: Question,
        of: Nodes,
        unheard: &BTreeSet<String>,
    ) -> (Answer, Vec<Partial>) {
        let until = until + question.extra_time();
        let is_meant = |node: &NodeTag| match of {
            Nodes::All => true,
            Nodes::Others => *node != self.node,
            Nodes::One(tag) => *node == tag,
        };
        let nodes = self.cluster.nodes();
        let others = nodes.iter().filter(|(tag, _)| **tag != self.node && is_meant(tag));
        let asked: Vec<_> = others.map(|(tag, node)| self.ask_node(*tag, node, &question)).collect();
        let here = async {
            match is_meant(&self.node) {
                true => Some(timeout_at(until, self.clone().answer_here(question.clone(), until)).await),
                false => None,
            }
        };
        let asked = asked.into_iter().map(|(partial, answer)| async move {
            let is_awaited = !unheard.contains(&partial.node);
            let answer = async { if is_awaited { timeout_at(until, answer).await.ok() } else { None } };
            let answer = answer.await.unwrap_or(Err(PartialReason::Timeout));
            answer.map_err(|reason| Partial { reason, ..partial })
        });
        let (here, others) = tokio::join!(here, join_all(asked));
        let here = here.map(|answer| match answer {
            Ok(Answer::Busy) => Err(self.missing_here(PartialReason::Busy)),
            Ok(Answer::TooMany) => Err(self.missing_here(PartialReason::TooMany)),
            Ok(Answer::TooLarge) => Err(self.missing_here(PartialReason::TooLarge)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.missing_here(PartialReason::Timeout)),
        });
        let (mut answers, mut partial) = (Vec::new(), Vec::new());
        for answer in here.into_iter().chain(others) {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(missing) => partial.push(missing),
            }
        }
        partial.sort_unstable();
        (question.join(answers), partial)
    }

    /// That this node itself has not answered.
    fn missing_here(&self, reason: PartialReason) -> Partial {
        let node = self.node.to_string();
        let name = self.inquiries.node().map_or_else(|| node.clone(), |known| known.node().name);
        Partial { node, name, reason }
    }

    /// Asks another node. The first that comes back is what is said of it if it does not answer.
    fn ask_node(
        &self,
        tag: NodeTag,
        node: &NodeInfo,
        question: &Question,
    ) -> (Partial, impl Future<Output = Result<Answer, PartialReason>> + Send + 'static) {
        let partial =
            Partial { node: tag.to_string(), name: node.name.clone(), reason: PartialReason::Timeout };
        let link = self.link.get().zip(RemoteNode::find(&self.cluster, tag));
        let answer =
            link.map(|(link, peer)| link.request(peer, INQUIRY, question.encode(self.format_for(tag))));
        let metrics = self.metrics.clone();
        let asked = async move {
            let Some(answer) = answer else { return Err(PartialReason::Unreachable) };
            let answer = answer.await;
            // A node of a version that does not know the question has a link that works.
            let is_refused = matches!(answer, Err(LinkError::Refused));
            let outcome = match &answer {
                Err(error) if !is_refused => name_of(*error),
                _ => "answered",
            };
            metrics.link_requests.with_label_values(&[outcome]).inc();
            let bytes = answer.map_err(|error| match error {
                LinkError::Refused => PartialReason::Format,
                LinkError::Full => PartialReason::Busy,
                LinkError::Unreachable | LinkError::WrongNode | LinkError::Broken => {
                    PartialReason::Unreachable
                }
            })?;
            match Answer::decode(&bytes) {
                Ok(Answer::Busy) => Err(PartialReason::Busy),
                Ok(Answer::TooMany) => Err(PartialReason::TooMany),
                Ok(Answer::TooLarge) => Err(PartialReason::TooLarge),
                Ok(answer) => Ok(answer),
                Err(_) => Err(PartialReason::Format),
            }
        };
        (partial, asked)
    }

    /// Another node asks.
    pub(super) fn serve_inquiry(self: Arc<Self>, from: NodeTag, body: &Bytes, mut answer: Responder) {
        let Ok(question) = Question::decode(body) else {
            return;
        };
        tokio::spawn(async move {
            let until = Instant::now() + ANSWER_BY + question.extra_time();
            // What changes something is done whole, whoever waits for it.
            let is_given_up = answer.cancelled();
            let given_up = async { if question.only_looks() { is_given_up.await } else { pending().await } };
            let answered = tokio::select! {
                answered = timeout_at(until, self.clone().answer_here(question.clone(), until)) => answered,
                () = given_up => return,
            };
            // Who asked does not wait any longer.
            let Ok(answered) = answered else { return };
            let format = self.format_for(from);
            // The thread of the link does nothing that takes long.
            let encode = move || match answered.encode(format) {
                encoded if encoded.len() > MAX_ANSWER => Answer::TooLarge.encode(format),
                encoded => encoded,
            };
            if let Ok(encoded) = spawn_blocking(encode).await {
                answer.send(encoded);
            }
        });
    }

    /// This node's part of the answer, which is waited for until then.
    async fn answer_here(self: Arc<Self>, question: Question, until: Instant) -> Answer {
        let Some(node) = self.inquiries.node() else { return Answer::Busy };
        match &question {
            Question::Node => Answer::Nodes(vec![node.node()]),
            Question::Rates => Answer::Rates(vec![node.rates()]),
            Question::Act { audience, act, order } => self.act_here(audience, act, *order, until).await,
            Question::Peer { key, id, order } => match node.realm(key.as_deref()) {
                Some(realm) => self.order_peer_here(realm, id, order),
                None => Answer::Done(Vec::new(), Vec::new()),
            },
            Question::Drain => {
                node.request_drain();
                let node = self.node.to_string();
                Answer::Done(vec![NodeOutcome { node, matched: 1, done: 1 }], Vec::new())
            }
            Question::Log(order) => {
                let done = u64::from(node.set_log(order));
                let node = self.node.to_string();
                Answer::Done(vec![NodeOutcome { node, matched: 1, done }], Vec::new())
            }
            Question::Events { after, .. } => {
                let after = after.map(|(run, next)| Progress { run, next });
                self.events_here(after, question.extra_time()).await
            }
            Question::Shed { clients } => self.shed_here(*clients).await,
            Question::Outcome { key } => Answer::Outcomes(vec![self.inquiries.outcomes.look(key)]),
            _ => self.ask_shards(&question).await,
        }
    }

    /// Begins a request with a key, unless this node or another knows it. `None` if there is no room to remember it.
    pub(crate) async fn begin_once(self: &Arc<Self>, key: &str) -> Option<Once> {
        let outcomes = &self.inquiries.outcomes;
        let once = outcomes.begin(std::time::Instant::now(), key)?;
        if once != Once::New {
            return Some(once);
        }
        let question = Question::Outcome { key: key.to_owned() };
        let until = Instant::now() + KEY_ANSWER_BY;
        let (Answer::Outcomes(known), _) = self.inquire_until(until, question, Nodes::Others).await else {
            return Some(Once::New);
        };
        let done = known.iter().find(|once| matches!(once, Once::Done(_)));
        let Some(elsewhere) = done.or_else(|| known.iter().find(|once| **once == Once::UnderWay)) else {
            return Some(Once::New);
        };
        outcomes.finish(key, None);
        Some(elsewhere.clone())
    }

    /// A request with a key has an outcome; without one it may be sent again.
    pub(crate) fn finish_once(&self, key: &str, outcome: Option<String>) {
        self.inquiries.outcomes.finish(key, outcome);
    }

    /// Joins what this node's shards answer.
    pub(super) async fn ask_shards(self: &Arc<Self>, question: &Question) -> Answer {
        let Some(turn) = self.inquiries.begin() else { return Answer::Busy };
        let shared = Arc::new(question.clone());
        let departures = self.addresses.departures();
        let Some(asked) = self.put_to_shards(&shared) else { return Answer::Busy };
        let mut parts: Option<Vec<Answer>> = join_all(asked).await.into_iter().map(Result::ok).collect();
        // A session that was on its way from one shard to another has arrived by now.
        if question.names_sockets() && self.addresses.departures() != departures {
            let Some(again) = self.put_to_shards(&shared) else { return Answer::Busy };
            let more: Option<Vec<Answer>> = join_all(again).await.into_iter().map(Result::ok).collect();
            parts = parts.zip(more).map(|(parts, more)| [parts, more].concat());
        }
        match parts {
            Some(parts) => {
                let _turn = turn;
                let peering = self.clone();
                let joined = spawn_blocking(move || peering.with_profiles(&shared, shared.join(parts)));
                joined.await.unwrap_or(Answer::Busy)
            }
            // A worker is gone: the node stops.
            None => Answer::Busy,
        }
    }

    /// Puts a question into each shard's mailbox; `None` if one is too far behind.
    fn put_to_shards(&self, question: &Arc<Question>) -> Option<Vec<oneshot::Receiver<Answer>>> {
        let ask = |shard| {
            let (reply, part) = Reply::channel();
            let asked = ShardMessage::Inspect { question: question.clone(), reply };
            self.mailboxes.request(shard, asked).ok().map(|()| part)
        };
        self.mailboxes.shards().map(ask).collect()
    }

    /// Adds what members of rooms have joined with, which the cluster's part of the node keeps.
    fn with_profiles(&self, question: &Question, mut answer: Answer) -> Answer {
        match (question, &mut answer) {
            (Question::Members { namespace, room, .. }, Answer::Members(members, has_more)) => {
                let room = RoomName { namespace: (&**namespace).into(), name: (&**room).into() };
                let ids: Vec<_> = members.iter().filter_map(|member| Address::parse(&member.id)).collect();
                let asked: Vec<_> = ids.iter().map(|id| (room.clone(), *id)).collect();
                let profiles = self.profiles(&asked);
                let mut profiles: HashMap<Address, Profile> =
                    profiles.into_iter().map(|(_, id, profile)| (id, profile)).collect();
                for member in &mut *members {
                    let id = Address::parse(&member.id);
                    // Of one that is just moving to another node, its shard knows it.
                    if let Some(profile) = id.and_then(|id| profiles.remove(&id)) {
                        member.profile = profile;
                    }
                }
                *has_more |= cut(members);
            }
            (Question::Socket { id }, Answer::Socket(found)) => {
                let Some(id) = Address::parse(id) else { return answer };
                for details in found {
                    let namespace: Arc<str> = details.socket.namespace.as_str().into();
                    let room = |name: &str| RoomName { namespace: namespace.clone(), name: name.into() };
                    let asked: Vec<_> =
                        details.memberships.iter().map(|membership| (room(&membership.room), id)).collect();
                    let profiles = self.profiles(&asked).into_iter();
                    let mut profiles: HashMap<Arc<str>, Profile> =
                        profiles.map(|(room, _, profile)| (room.name, profile)).collect();
                    for membership in &mut details.memberships {
                        if let Some(profile) = profiles.remove(&*membership.room) {
                            membership.profile = profile;
                        }
                    }
                }
            }
            _ => {}
        }
        answer
    }

    fn profiles(&self, memberships: &[(RoomName, Address)]) -> Vec<(RoomName, Address, Profile)> {
        let records = self.cluster.session_records(memberships, &[]).memberships;
        let of = |(room, record): (RoomName, Record)| (room, record.socket, Profile::of(&record.profile));
        records.into_iter().map(of).collect()
    }
}
