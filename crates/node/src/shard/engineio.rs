//! Engine.IO sessions: opening, and their timers.

use std::{rc::Rc, sync::Arc, time::Instant};

use signalbox_cluster::Address;
use signalbox_engineio::{
    Packet, Transport,
    handshake::{Query, open_packet},
};
use signalbox_socketio::Connection;
use signalbox_telemetry::traces;
use signalbox_websocket::Frame;

use super::{
    closing,
    effects::Effect,
    requests,
    step::Step,
    story::{self, Direction},
    tables::{Rooms, Sessions},
    transfer::table::Transfers,
};
use crate::{
    ledger::{Account, Charge, EvictAt},
    limits::AddressSlot,
    policy::{Handshake, Principal},
    session::{HalfEvent, Session, SessionState, ShardLocal},
    transport::{Conn, Pace, Progress, Role},
};

/// Whose handshake it was, and what it said.
pub(super) struct Opening {
    pub(super) principal: Option<Arc<Principal>>,
    pub(super) handshake: Handshake,
    /// The client's place among the connections of its address, if the session has to keep it.
    pub(super) slot: Option<AddressSlot>,
}

/// Opens a session by a polling handshake; the body is its answer.
pub(super) fn open_polling(step: &mut Step, sessions: &mut Sessions, opening: Opening) -> (Address, String) {
    let evict_at = EvictAt::Shard(step.context.id);
    let account = step.context.ledger.account(opening.handshake.address, evict_at);
    let (key, open) = open(step, sessions, Transport::Polling, opening, account);
    let session = &mut sessions[key];
    session.engine.send(open);
    (session.sid, session.engine.reply().unwrap_or_default())
}

/// Opens a session on a WebSocket.
pub(super) fn open_websocket(step: &mut Step, sessions: &mut Sessions, conn: &Rc<Conn>, opening: Opening) {
    conn.is_text_only.set(Query::parse(&opening.handshake.query).b64);
    let evict_at = EvictAt::Shard(step.context.id);
    let account = conn.account().cloned();
    let account = account.unwrap_or_else(|| step.context.ledger.account(opening.handshake.address, evict_at));
    let (key, open) = open(step, sessions, Transport::WebSocket, opening, account);
    conn.role.set(Role::Session(key));
    sessions[key].local.conn = Some(conn.clone());
    step.outboxes.push(conn, &open);
}

/// Makes a session; gives back its key, and the open packet.
fn open(
    step: &mut Step,
    sessions: &mut Sessions,
    transport: Transport,
    Opening { principal, mut handshake, slot }: Opening,
    account: Arc<Account>,
) -> (u32, Frame) {
    let context = step.context.clone();
    let config = &context.config;
    let sid = step.new_address();
    let engine = signalbox_engineio::Session::open(step.now, transport, &config.engine);
    let open = open_packet(
        &sid.written(),
        config.engine.can_upgrade(transport),
        config.engine.ping_interval,
        config.engine.ping_timeout,
        config.engine.max_payload,
    );
    let connection = Connection::new(step.now, config.connect_timeout);
    let policy = &context.policy;
    let trace = traces::of_client(handshake.header("traceparent"));
    handshake.headers.retain(|(name, _)| policy.keeps_header(name));
    handshake.headers.shrink_to_fit();
    if !policy.keeps_query() {
        handshake.query = String::new();
    }
    let number = step.next_number();
    let address = handshake.address;
    let state = SessionState {
        sid,
        opened: step.now,
        engine,
        connection,
        principal,
        handshake: Some(Box::new(handshake)),
        trace,
        blocking: 0,
        in_flight: 0,
        counted: Vec::new(),
        held_post: None,
        dedup: None,
    };
    let charge = Some(Charge::new(account));
    let local = ShardLocal { number, address, charge, slot, ..ShardLocal::default() };
    let mut session = Session { state, local };
    session.update_charge();
    session.update_rates(&config.limits);
    step.tell(&session, "session opened", transport.name());
    let key = sessions.insert(session);
    context.metrics.handshakes.with_label_values(&["socketio", "accepted"]).inc();
    closing::count_session(&context, transport, 1);
    closing::arm(step, key, &mut sessions[key]);
    (key, Frame::text(&open))
}

/// An event whose attachments have not all arrived has a deadline, which moves as they arrive.
pub(super) fn watch_half_event(step: &mut Step, key: u32, session: &mut Session) {
    let bytes = session.connection.buffered();
    if bytes == 0 {
        session.local.half_event = None;
        return;
    }
    let (now, pace) = (step.now, Pace::of(&step.context.config));
    let begin = || Box::new(HalfEvent { progress: Progress::begin(now, &pace), bytes });
    let half = session.local.half_event.get_or_insert_with(begin);
    half.progress.advance(now, bytes.saturating_sub(half.bytes), &pace);
    half.bytes = bytes;
    closing::arm(step, key, session);
}

/// The timer of the session with this key and number, which was due `at`.
pub(super) fn session_timer(
    step: &mut Step,
    sessions: &mut Sessions,
    rooms: &mut Rooms,
    transfers: &mut Transfers,
    (key, number): (u32, u64),
    at: Instant,
) {
    let Some(session) = sessions.checked(key, number) else { return };
    if session.local.timer_at != Some(at) {
        return;
    }
    session.local.timer_at = None;
    if session.dedup.as_ref().is_some_and(|known| known.until <= step.now) {
        session.dedup = None;
    }
    if closing::expire(step, sessions, rooms, transfers, key) {
        return;
    }
    let session = &mut sessions[key];
    let due = session.engine.tick(step.now, &step.context.config.engine);
    let abandoned = session.local.probe.filter(|_| due.abandon_upgrade);
    if let (Some(frame), Some(conn)) = (due.write, &session.local.conn) {
        if step.context.client_log.is_on() {
            story::session_packet(&step.context.client_log, session, Direction::Out, &Packet::Ping(""));
        }
        step.outboxes.push(conn, &frame);
    }
    if let Some(at) = abandoned {
        requests::abandon_upgrade(step, sessions, rooms, transfers, key, at);
        step.effects.push(Effect::CloseProbe(at));
    }
    closing::after_engine(step, sessions, rooms, transfers, key);
    if let Some(session) = sessions.get_mut(key) {
        closing::arm(step, key, session);
    }
}
