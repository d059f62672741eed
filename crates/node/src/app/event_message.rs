//! Events that handlers send.

use signalbox_socketio::{Args, Message, args::is_reserved};

/// An event for clients; `None`, and an error in the log, if its name is reserved.
pub(super) fn event_message(namespace: &str, event: &str, args: &Args) -> Option<Message> {
    if is_reserved(event) {
        tracing::error!(event, namespace, "the name of the event is reserved; it is not sent");
        return None;
    }
    Some(Message::event(namespace, None, event, &[args.inner()], args.attachments()))
}
