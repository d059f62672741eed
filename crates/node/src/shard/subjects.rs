//! Connections of one subject, which are counted in the whole cluster where they are limited: what becomes of their places. A session
//! counts from the first namespace that it asks to join with a token of the subject until it ends, whatever it joins and leaves meanwhile.

use signalbox_cluster::{Command, command::Counted};

use super::step::Step;
use crate::{
    limits::{Place, subject_limit},
    session::SessionState,
};

/// The code of a refusal, and its text.
pub(super) const TOO_MANY: &str = "too-many-connections";
pub(super) const TOO_MANY_TEXT: &str = "too many connections of this subject";

/// Whether a connection has a place; what is to be told of it is counted.
pub(super) fn is_counted(step: &Step, counted: Counted) -> bool {
    let metrics = &step.context.metrics;
    match counted {
        Counted::Within => true,
        Counted::WithinHere => {
            metrics.connections_counted_alone.inc();
            true
        }
        Counted::TooMany => {
            metrics.refusals.with_label_values(&[TOO_MANY]).inc();
            false
        }
    }
}

/// A connection has ended, or is another node's by now.
pub(super) fn uncount(step: &mut Step, Place { list, connection }: Place) {
    step.effects.submit(Command::UncountConnection { list, connection });
}

/// The session has ended.
pub(super) fn session_ended(step: &mut Step, session: &mut SessionState) {
    let connection = session.sid;
    for list in std::mem::take(&mut session.counted) {
        uncount(step, Place { list, connection });
    }
}

/// A session has come from another node: it counts for whom its sockets have tokens of, however many there are.
pub(super) fn session_arrived(step: &Step, session: &mut SessionState) {
    let config = &step.context.config.limits;
    for joined in session.connection.sockets() {
        if let Some((list, _)) = subject_limit(config, joined.socket.principal.as_ref())
            && !session.counted.contains(&list)
        {
            session.counted.push(list);
        }
    }
}
