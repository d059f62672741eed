//! What a client's events are answered with.

use std::time::Duration;

use signalbox_admin::events::{Event, EventKind};
use signalbox_socketio::Message;

use super::{
    json::json_string,
    mailbox::ShardMessage,
    step::Step,
    tables::{Sessions, pending::RuleRun},
};
use crate::{
    events::shown,
    routing::{SocketCommand, SocketOp},
};

/// Why an event is refused: a code, and a hint for people.
pub(super) type Refused = (&'static str, &'static str);

/// The client sends more than it may.
pub(super) const RATE_LIMITED: Refused =
    ("rate-limited", "too much at a time: try again after retryAfter milliseconds");

pub(super) const NOT_FOUND: Refused = ("not-found", "no such socket is connected");

/// The ack of what has nothing else to tell.
pub(super) const OK: &str = "{\"ok\":true}";

/// Answers an event with one argument: the ack that the client wants, by the event's namespace and id.
pub(super) fn answer(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    (namespace, id): (&str, u64),
    json: &str,
) {
    step.send(sessions, key, &Message::ack(namespace, id, &[json], &[]));
}

/// Tells a client that its event was refused, why (a code, and a hint for people), and counts it.
pub(super) fn refuse(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    refusal: &Refusal<'_>,
    (code, hint): (&str, &str),
) {
    note_refused(step, sessions, key, refusal, code);
    step.send(sessions, key, &refusal.message(code, hint, ""));
}

/// Tells a client that it sends too much, and in how many milliseconds the same would be taken.
pub(super) fn refuse_for_now(
    step: &mut Step,
    sessions: &mut Sessions,
    key: u32,
    refusal: &Refusal<'_>,
    wait: Duration,
) {
    let (code, hint) = RATE_LIMITED;
    note_refused(step, sessions, key, refusal, code);
    let wait = wait.as_millis().max(1);
    step.send(sessions, key, &refusal.message(code, hint, &format!(",\"retryAfter\":{wait}")));
}

/// Tells a client that its event was refused. One whose connection was refused is disconnected.
pub(super) fn refuse_rule(step: &mut Step, sessions: &mut Sessions, rule: &RuleRun, refused: (&str, &str)) {
    let RuleRun { key, number, socket, namespace, id, .. } = rule;
    if sessions.checked(*key, *number).is_none() {
        return;
    }
    let refusal = Refusal { namespace, event: rule.run.event_name(), id: *id };
    refuse(step, sessions, *key, &refusal, refused);
    if rule.is_connection {
        let op = SocketOp::Disconnect { close: false };
        let command = SocketCommand { to: *socket, namespace: namespace.clone(), op };
        step.effects.send(step.context.id, ShardMessage::SocketCommand(command));
    }
}

/// Counts a refusal, and reports it.
fn note_refused(step: &mut Step, sessions: &Sessions, key: u32, refusal: &Refusal<'_>, code: &str) {
    step.context.metrics.refusals.with_label_values(&[code]).inc();
    if let Some(session) = sessions.get(key) {
        step.tell(session, "refused", code);
    }
    step.report(EventKind::Refuse, || {
        let session = sessions.get(key);
        let mut joined = session.iter().flat_map(|session| session.connection.sockets());
        let known = joined.find(|joined| *joined.namespace == *refusal.namespace);
        let known = known.map(|joined| joined.socket.event(&joined.namespace)).unwrap_or_default();
        let address = session.and_then(|session| session.address());
        Event { event: Some(shown(refusal.event)), reason: Some(shown(code)), address, ..known }
    });
}

/// Where a refusal goes: by the ack if the client wants one, else by the event `error`.
pub(super) struct Refusal<'a> {
    pub(super) namespace: &'a str,
    pub(super) event: &'a str,
    pub(super) id: Option<u64>,
}

impl Refusal<'_> {
    /// `more`: further fields, each behind a comma.
    fn message(&self, code: &str, hint: &str, more: &str) -> Message {
        match self.id {
            Some(id) => {
                let args = ["{\"ok\":false,\"error\":", &json_string(code), more, "}"];
                Message::ack(self.namespace, id, &args, &[])
            }
            None => {
                let (event, code, hint) = (json_string(self.event), json_string(code), json_string(hint));
                let args = ["{\"event\":", &event, ",\"error\":", &code, ",\"hint\":", &hint, more, "}"];
                Message::event(self.namespace, None, "error", &args, &[])
            }
        }
    }
}
