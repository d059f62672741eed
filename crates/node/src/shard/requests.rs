//! Requests for sessions, wherever they landed: polls, POSTs and upgrades.

use std::time::Duration;

use signalbox_cluster::Status;
use signalbox_engineio::{CloseReason, Transport, session::Refused};

use super::{
    closing,
    context::ShardContext,
    effects::Effect,
    mailbox::{CloseCommand, Request, ShardMessage},
    step::Step,
    tables::{PendingRequest, PendingRequests, Rooms, Sessions, Timer},
    tasks::TaskResult,
    transfer::table::Transfers,
};
use crate::{
    ledger::OVERHEAD,
    protocol::RequestRefused,
    routing::{ConnectionRef, Reply},
    session::{HeldPost, PollReply, Session},
};

/// How long a POST waits for a GET that was sent before it, or with it. Clients always have a GET on its way, on a connection of its own:
/// two workers may read the two the other way round. A POST that closes the session would have the GET refused as unknown then, where its
/// client expects the answer that ends it.
const POST_GRACE: Duration = Duration::from_millis(5);

impl From<Refused> for RequestRefused {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overlap => Self::Overlap,
            Refused::NotPolling => Self::NotPolling,
        }
    }
}

/// A GET of a session. `accepted` is told when it has to wait.
pub(super) struct Poll {
    pub(super) number: u64,
    pub(super) accepted: Option<Reply<()>>,
    pub(super) reply: PollReply,
}

/// Answers a GET, or has it wait.
pub(super) fn poll(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    Poll { number, accepted, reply }: Poll,
) {
    let session = &mut sessions[key];
    if let Err(refused) = session.engine.poll() {
        step.effects.answer(reply, Err(refused.into()));
        closing::after_engine(step, sessions, rooms, transfers, key);
        return;
    }
    session.local.polls = number;
    session.moves(step.now);
    if let Some(ticket) = session.local.awaits_poll.take() {
        step.effects.send(step.context.id, ShardMessage::TaskDone(ticket, TaskResult::Yield));
    }
    let lost = Request::PollLost { sid: session.sid, number };
    if let Some(answer) = poll_answer(&step.context, session) {
        // If whoever asked is gone, the packets are lost that the answer carries.
        step.effects.answer_or(reply, answer, lost);
        session.update_charge();
        if let Some(reason) = session.engine.closed() {
            closing::end(step, sessions, rooms, transfers, key, CloseCommand::Lost(reason));
        }
        return;
    }
    session.local.poll = Some(reply);
    if let Some(accepted) = accepted {
        step.effects.answer_or(accepted, (), lost);
    }
    step.outboxes.mark_poll_dirty(key, session);
}

/// Answers the GETs that have something to be answered with. One that was given up this very moment takes the packets with it, and the
/// session.
pub(super) fn answer_polls(step: &mut Step, sessions: &mut Sessions) {
    for (key, number) in step.outboxes.take_dirty_polls() {
        let Some(session) = sessions.checked(key, number) else { continue };
        session.local.is_dirty = false;
        if session.local.poll.is_none() {
            continue;
        }
        let lost = Request::PollLost { sid: session.sid, number: session.local.polls };
        let Some(body) = poll_answer(&step.context, session) else { continue };
        if let Some(poll) = session.local.poll.take() {
            step.effects.answer_or(poll, body, lost);
        }
        session.update_charge();
    }
}

/// What the session's pending GET is to be answered with, if anything. While the node holds more than its budget and the reserve beside it, it
/// is refused: what there is to say waits for the next one.
fn poll_answer(context: &ShardContext, session: &mut Session) -> Option<Result<String, RequestRefused>> {
    let is_refused = session.engine.buffered() > 0 && context.ledger.is_beyond_reserve();
    if is_refused && session.engine.refuse_poll() {
        context.metrics.polls_refused.inc();
        return Some(Err(RequestRefused::Busy));
    }
    session.engine.reply().map(Ok)
}

/// A GET was given up. What it was answered with, if it was, never arrived. It may itself have been lost on its way here; whoever had
/// sent another one since would have one that waits.
pub(super) fn poll_lost(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    number: u64,
) {
    let session = &mut sessions[key];
    let is_silent = session.engine.transport() == Transport::Polling && session.local.poll.is_none();
    if session.local.polls == number || is_silent {
        session.local.poll = None;
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        closing::end(step, sessions, rooms, transfers, key, lost);
    }
}

/// Answers a GET that waits with a noop. What there is to say meanwhile waits for the next one, so that nothing can be lost.
pub(super) fn release_poll(step: &mut Step, session: &mut Session, number: u64) {
    if session.local.polls == number
        && let (Some(poll), Some(body)) = (session.local.poll.take(), session.engine.release_poll())
    {
        step.effects.answer(poll, Ok(body));
    }
}

/// The beginning of a POST. `on_close` is dropped when the session is closed meanwhile.
pub(super) struct BeginPost {
    pub(super) number: u64,
    pub(super) on_close: Reply<()>,
    pub(super) reply: Reply<Result<(), RequestRefused>>,
}

/// A POST begins: its body may be read, or not.
pub(super) fn begin_post(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    BeginPost { number, on_close, reply }: BeginPost,
) {
    let session = &mut sessions[key];
    if session.local.upgrade_to.is_some() {
        // The client has said that it has left polling.
        step.effects.answer(reply, Err(RequestRefused::NotPolling));
        return;
    }
    if let Err(refused) = session.engine.begin_post() {
        step.effects.answer(reply, Err(refused.into()));
        closing::after_engine(step, sessions, rooms, transfers, key);
        return;
    }
    session.local.posts = number;
    session.moves(step.now);
    session.local.post = Some(on_close);
    let lost = Request::PostLost { sid: session.sid, number };
    step.effects.answer_or(reply, Ok(()), lost);
}

/// Has a POST wait for its client's GET for a moment where none is here; gives it back where it need not wait.
pub(super) fn wait_for_poll(
    step: &mut Step,
    session: &mut Session,
    pending: &mut PendingRequests,
    key: u32,
    post: HeldPost,
) -> Option<HeldPost> {
    if session.local.poll.is_some() || session.engine.transport() != Transport::Polling {
        return Some(post);
    }
    let number = session.local.number;
    let ticket = hold(step, session, pending, PendingRequest::Yield { key, number });
    step.timers.add(step.now + POST_GRACE, Timer::PostGrace { ticket });
    session.local.awaits_poll = Some(ticket);
    session.held_post = Some(Box::new(post));
    session.update_charge();
    None
}

/// A POST was applied.
pub(super) fn end_post(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    post: HeldPost,
) {
    if let Some(session) = sessions.get_mut(key) {
        session.moves(step.now);
        session.engine.end_post();
        session.local.post = None;
    }
    step.effects.answer(post.reply, ());
    closing::after_engine(step, sessions, rooms, transfers, key);
}

/// A POST broke off, or was refused. One that was applied, or was lost on its way here, has failed for its client all the same, which
/// is gone then.
pub(super) fn post_lost(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    number: u64,
) {
    let session = &sessions[key];
    let is_polling = session.engine.transport() == Transport::Polling;
    let is_known = session.local.posts == number;
    let is_over = if session.local.post.is_some() { is_known } else { is_polling };
    if is_over {
        let lost = CloseCommand::Lost(CloseReason::TransportError);
        closing::end(step, sessions, rooms, transfers, key, lost);
    }
}

/// A WebSocket wants to take the session over: whether it may.
pub(super) fn begin_upgrade(
    step: &mut Step,
    key: u32,
    session: &mut Session,
    connection: ConnectionRef,
) -> bool {
    let context = &step.context;
    let is_possible = connection.node == context.node || context.cluster.status() == Status::Online;
    let began = is_possible && session.engine.begin_upgrade(step.now, &context.config.engine);
    if began {
        session.local.probe = Some(connection);
        closing::arm(step, key, session);
    }
    began
}

/// The WebSocket was probed.
pub(super) fn probed(step: &mut Step, key: u32, session: &mut Session, connection: ConnectionRef) {
    if session.local.probe == Some(connection) {
        session.engine.probe_received(step.now);
        closing::arm(step, key, session);
    }
}

/// The WebSocket will not take the session over: polling goes on, unless the client has left it already.
pub(super) fn abandon_upgrade(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    key: u32,
    connection: ConnectionRef,
) {
    let Some(session) = sessions.get_mut(key) else { return };
    if session.local.probe != Some(connection) {
        return;
    }
    step.context.metrics.upgrades.with_label_values(&["failed"]).inc();
    if session.local.upgrade_to.is_some() {
        let lost = CloseCommand::Lost(CloseReason::TransportClose);
        closing::end(step, sessions, rooms, transfers, key, lost);
        return;
    }
    session.local.probe = None;
    session.engine.abandon_upgrade();
}

/// Nobody knows such a session. What has no answer has no consequence; a request that is dropped tells whoever waits.
pub(super) fn refuse_unknown(step: &mut Step, request: Request) {
    let effects = &mut step.effects;
    match request {
        Request::Exists { reply, .. } => effects.answer(reply, false),
        Request::Identify { reply, .. } => effects.answer(reply, None),
        Request::Poll { reply, .. } => effects.answer(reply, Err(RequestRefused::UnknownSid)),
        Request::BeginPost { reply, .. } => effects.answer(reply, Err(RequestRefused::UnknownSid)),
        Request::BeginUpgrade { reply, .. } => effects.answer(reply, Err(RequestRefused::UnknownSid)),
        Request::Upgrade { connection, .. } => effects.push(Effect::CloseProbe(connection)),
        _ => {}
    }
}

/// Remembers what waits for a slow answer while the client's frames wait too; gives back the ticket that the answer comes with.
pub(super) fn hold(
    step: &mut Step,
    session: &mut Session,
    pending: &mut PendingRequests,
    request: PendingRequest,
) -> u64 {
    session.begin_request(true);
    if let bytes @ 1.. = request.bytes() {
        session.local.held += bytes + OVERHEAD;
        session.update_charge();
    }
    let ticket = step.next_number();
    pending.insert(ticket, request);
    ticket
}
