//! The built-in vocabulary: the events that the gateway serves without a line of server code. As rules it stands in
//! [`signalbox_rules::BUILTIN`], which is the default rules file; this is the same as actions.

use std::sync::LazyLock;

use ahash::AHashMap;

use super::{
    action::{Action, Chat, EventTemplate, Join, Profile, TemplateArgs},
    namespace::Namespace,
};

/// The namespace `/` with the built-in vocabulary.
pub fn namespace() -> Namespace {
    actions()
        .into_iter()
        .fold(Namespace::named("/"), |namespace, (event, action)| namespace.act(event, action))
}

static ACTIONS: LazyLock<AHashMap<&str, Action>> = LazyLock::new(|| actions().into_iter().collect());

/// What is done on an event of the vocabulary: the same as its rules say ([`signalbox_rules::BUILTIN`]), in less time.
pub(crate) fn action(event: &str) -> Option<&'static Action> {
    ACTIONS.get(event)
}

/// The vocabulary: events and what they do.
pub fn actions() -> Vec<(&'static str, Action)> {
    let member = |event: &str| EventTemplate { event: event.into(), args: TemplateArgs::Member };
    let rest = |event: &str| EventTemplate { event: event.into(), args: TemplateArgs::Rest };
    vec![
        (
            "join",
            Action::Join(Join {
                profile: Profile::Object,
                joined: member("joined"),
                updated: member("updated"),
                left: member("left"),
            }),
        ),
        ("leave", Action::Leave),
        ("members", Action::Members),
        ("users", Action::Users),
        (
            "message",
            Action::Broadcast {
                event: "message".into(),
                chat: Some(Chat { event: "createMessage".into(), joined: "user-connected".into() }),
            },
        ),
        ("signal", Action::SendTo { event: "signal".into() }),
        (
            // The pattern of the PeerJS and Socket.IO tutorials.
            "join-room",
            Action::Join(Join {
                profile: Profile::Field("peerId".into()),
                joined: rest("user-connected"),
                updated: rest("user-connected"),
                left: rest("user-disconnected"),
            }),
        ),
    ]
}
